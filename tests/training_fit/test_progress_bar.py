"""How far long work is: a bar on a terminal, a line now and then elsewhere."""

import io

import pytest

from emotion import progress
from emotion.progress import progress_bar


def told(monkeypatch, is_terminal, total):
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0)
    monkeypatch.setattr("tqdm.std.time", iter(range(0, 1000, 10)).__next__)
    with progress_bar("photos", total, stream) as show:
        show(40)
        show(41)
        show(50, "2 problems")
    return stream.getvalue()


def test_elsewhere_there_are_lines(monkeypatch):
    text = told(monkeypatch, False, 100)
    assert "\r" not in text
    last = text.splitlines()[-1]
    for words in ("50/100", "photos", "2 problems"):
        assert words in last


def test_a_terminal_has_a_bar_that_goes_away(monkeypatch):
    text = told(monkeypatch, True, 100)
    assert "50%|" in text
    assert "2 problems" in text
    assert text.split("\r")[-1].strip() == ""


@pytest.mark.parametrize("is_terminal", [True, False])
def test_without_an_end_there_is_no_share(monkeypatch, is_terminal):
    text = told(monkeypatch, is_terminal, None)
    assert "50 photos" in text
    assert "%" not in text
