import io
import os

import pytest

from emotion.training.fitting import progress
from emotion.training.fitting.progress import Progress, live_lines, summary_lines

STATE = {
    "epoch": 3,
    "epochs": 40,
    "step": 120,
    "steps": 225,
    "images_per_s": 274.4,
    "epoch_left_s": 42.9,
    "run_left_s": 1830,
}
LOGS = {"loss": 1.2345, "accuracy": 0.5412}
HISTORY = [
    {"epoch": 1, "loss": 1.9, "accuracy": 0.2, "val_loss": 1.8, "val_accuracy": 0.51},
    {"epoch": 2, "loss": 1.2, "accuracy": 0.541, "val_loss": 1.3, "val_accuracy": 0.5},
]


class Terminal(io.StringIO):
    """Collects what is written as a terminal of some width would show it."""

    def isatty(self) -> bool:
        return True

    def shown(self) -> list[str]:
        return [line.split("\r")[-1].rstrip() for line in self.getvalue().split("\n")]


@pytest.fixture
def columns(monkeypatch):
    def set_columns(count: int) -> None:
        monkeypatch.setattr(
            progress.shutil, "get_terminal_size", lambda: os.terminal_size((count, 24))
        )

    set_columns(120)
    return set_columns


def train(stream: io.StringIO, is_live: bool, logs=LOGS, steps: int = 4) -> None:
    """Tell of two epochs."""
    shown = Progress(stream, 40, steps, 128, is_live)
    for epoch in range(2):
        shown.start_epoch(epoch)
        for batch in range(steps):
            shown.on_train_batch_end(batch, logs)
        shown.finish_epoch(HISTORY[: epoch + 1])


def test_live_line_tells_where_it_is_and_how_long_it_takes():
    line = live_lines(STATE, LOGS)[0]
    assert line == (
        "Epoch 3/40  [############............] 120/225  loss 1.234  accuracy 54.1%  "
        "274 images/s  epoch 0:42 left, run 31 min left"
    )


def test_lines_grow_shorter():
    for lines in (live_lines(STATE, LOGS), summary_lines(HISTORY, 40, 132)):
        lengths = [len(line) for line in lines]
        assert lengths == sorted(set(lengths), reverse=True)
        assert min(lengths) < 40
        assert any(50 < length < 80 for length in lengths), "80 columns are put to use"


def test_summary_tells_of_the_best_epoch():
    assert summary_lines(HISTORY, 40, 132)[0] == (
        "Epoch  2/40  loss 1.200  accuracy 54.1%  validation loss 1.300  accuracy 50.0%  "
        "best 51.0% (epoch 1)  2:12"
    )


def test_pipe_gets_a_line_an_epoch():
    stream = io.StringIO()
    train(stream, is_live=False)
    assert [line[:11] for line in stream.getvalue().splitlines()] == ["Epoch  1/40", "Epoch  2/40"]
    assert "\r" not in stream.getvalue()


@pytest.mark.parametrize("count", [120, 80, 40, 12])
def test_terminal_keeps_a_line_an_epoch_that_fits(columns, count):
    columns(count)
    stream = Terminal()
    train(stream, is_live=True)
    lines = stream.shown()
    assert [line[:8] for line in lines] == ["Epoch  1", "Epoch  2", ""]
    drawn = stream.getvalue().replace("\n", "\r").split("\r")
    assert "4/4" in stream.getvalue() or count == 12
    assert max(len(line) for line in drawn) < count


def test_line_is_redrawn_now_and_then_only(columns):
    stream = Terminal()
    train(stream, is_live=True, steps=1000)
    assert stream.getvalue().count("\r") < 50


def test_two_heads_show_the_emotion(columns):
    stream = Terminal()
    logs = {"loss": 2.0, "emotion_accuracy": 0.25, "votes_accuracy": 0.75}
    train(stream, is_live=True, logs=logs)
    assert "accuracy 25.0%" in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (42.9, "0:42"), (599, "9:59"), (601, "11 min"), (7500, "2 h 05 min")],
)
def test_times(seconds, text):
    assert progress._clock(seconds) == text
