"""How far long work is: a bar on a terminal, a line now and then elsewhere."""

import io
import sys

import pytest

from emotion.progress import ProgressBar, duration


class Stream(io.StringIO):
    """A stream that may be a terminal."""

    def __init__(self, is_terminal):
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self):
        return self.is_terminal


def told(is_terminal, steps, total=100):
    """Return what a bar writes; `steps` are (time in seconds, arguments of `show`)."""
    stream = Stream(is_terminal)
    times_s = iter([0.0, *(time_s for time_s, _ in steps)])
    with ProgressBar("photos", total, stream, clock=lambda: next(times_s)) as bar:
        for _, arguments in steps:
            bar.show(*arguments)
    return stream.getvalue()


def test_elsewhere_a_line_comes_now_and_then():
    steps = [(1, (1, 0.5)), (29, (5, 0.5)), (31, (10, 0.5)), (40, (12, 0.5)), (62, (20, 0.5))]
    assert told(False, steps) == (
        "10 of 100 photos, 0.5 a second, 3:00 left\n20 of 100 photos, 0.5 a second, 2:40 left\n"
    )


def test_a_terminal_has_a_bar_that_goes_away():
    text = told(True, [(1, (25, 5.0, 15.0, "2 problems")), (1.01, (26, 5.0)), (2, (50, 5.0))])
    last = [part for part in text.split("\r") if part.strip()]
    assert " 25%|" in last[-2]
    assert "25 of 100 photos, 5.0 a second, 0:15 left, 2 problems" in last[-2]
    assert "50 of 100 photos, 5.0 a second, 0:10 left" in last[-1]
    assert "26 of" not in text
    assert text.split("\r")[-1].strip() == ""


def test_without_tqdm_a_terminal_has_lines(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert told(True, [(31, (10, 0.5))]) == "10 of 100 photos, 0.5 a second, 3:00 left\n"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_without_an_end_there_is_no_time_left(is_terminal):
    text = told(is_terminal, [(40, (1234, 29.97))], total=None)
    assert "photos, 30.0 a second" in text
    assert "left" not in text
    assert "%" not in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03")]
)
def test_durations_are_read_at_a_glance(seconds, text):
    assert duration(seconds) == text
