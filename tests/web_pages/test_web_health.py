"""Health in words without paths; and the C library, which is told to give memory back."""

import ctypes
from types import SimpleNamespace

import pytest
from web_support import make_app

from emotion.errors import DatabaseError
from emotion.web.api import trouble
from emotion.web.database import Database
from emotion.web.memory import OPTIONS, return_memory_early


def test_all_is_well_even_before_the_first_photo(tmp_path):
    app = make_app(tmp_path)
    assert trouble(app.extensions["emotion"]) == ""
    assert not (tmp_path / "uploads").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "uploads").write_text("no folder")
    services = make_app(tmp_path).extensions["emotion"]
    assert trouble(services)
    services = make_app(tmp_path, KEEP_HOURS=0).extensions["emotion"]
    assert trouble(services) == ""


def test_a_database_that_is_away(tmp_path, monkeypatch):
    def fail(*arguments):
        raise DatabaseError("expected a database; received nothing")

    services = make_app(tmp_path).extensions["emotion"]
    monkeypatch.setattr(Database, "photos_of_visitor", fail)
    with pytest.raises(DatabaseError):
        trouble(services)


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
