"""Memory: the C library is told what to keep, where it can be told."""

import ctypes
from types import SimpleNamespace

import pytest

from emotion.web.memory import OPTIONS, return_memory_early


@pytest.mark.parametrize(("answer", "is_done"), [(1, True), (0, False)])
def test_tells_the_library_all_options(monkeypatch, answer, is_done):
    told = []

    def mallopt(option, value):
        told.append((option, value))
        return answer

    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    assert return_memory_early() == is_done
    assert told == list(OPTIONS)


@pytest.mark.parametrize("error", [OSError, TypeError])
def test_other_libraries_are_left_alone(monkeypatch, error):
    def fail(name):
        raise error("no such library")

    monkeypatch.setattr(ctypes, "CDLL", fail)
    assert not return_memory_early()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    assert not return_memory_early()
