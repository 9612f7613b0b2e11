"""How far long work is: a bar on a terminal, lines elsewhere."""

import io

import pytest

from emotion import progress
from emotion.progress import progress_bar
from emotion.training.fitting.progress import Progress

ROWS = [
    {"epoch": 1, "loss": 1.9, "accuracy": 0.2, "val_loss": 1.8, "val_accuracy": 0.51},
    {"epoch": 2, "loss": 1.2, "accuracy": 0.541, "val_loss": 1.3, "val_accuracy": 0.5},
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(monkeypatch, stream, total) -> str:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0)
    monkeypatch.setattr("tqdm.std.time", iter(range(0, 1000, 10)).__next__)
    with progress_bar("photos", total, stream) as show:
        show(40)
        show(41)
        show(50, "2 problems")
    return stream.getvalue()


def test_a_bar_that_goes_away_or_lines(monkeypatch):
    text = work(monkeypatch, io.StringIO(), 100)
    assert "\r" not in text
    for words in ("50/100", "photos", "2 problems"):
        assert words in text.splitlines()[-1]
    text = work(monkeypatch, Terminal(), 100)
    for words in ("50%|", "2 problems"):
        assert words in text
    assert text.split("\r")[-1].strip() == ""
    for stream in (io.StringIO(), Terminal()):
        text = work(monkeypatch, stream, None)
        assert "50 photos" in text
        assert "%" not in text


def train(stream: io.StringIO, verbose="auto") -> str:
    """Show two epochs of 500 images in batches of 128; return what was written."""
    shown = Progress(stream, 40, 500, verbose)
    for epoch in range(2):
        shown.start_epoch(epoch)
        for images in (128, 128, 128, 128):  # the last one was filled up
            shown.show(images, {"loss": 1.2345, "accuracy": 0.5412})
        shown.finish_epoch(ROWS[: epoch + 1])
    return stream.getvalue()


@pytest.mark.parametrize(
    ("stream", "verbose"), [(io.StringIO, "auto"), (io.StringIO, 1), (Terminal, 2)]
)
def test_a_line_an_epoch(stream, verbose):
    written = train(stream(), verbose)
    assert "\r" not in written
    first, second = written.splitlines()
    assert first.startswith("Epoch  1/40  loss 1.900  accuracy 20.0%")
    for figure in (" 2/40", "1.200", "54.1%", "1.300", "50.0%", "51.0% (epoch 1)", "left"):
        assert figure in second


def test_terminal_also_gets_a_bar_unless_nothing_is_wanted():
    written = train(Terminal())
    assert "0/500" in written
    kept = [line.split("\r")[-1] for line in written.split("\n")]
    assert [line[:8] for line in kept] == ["Epoch  1", "Epoch  2", ""]
    assert train(Terminal(), 0) == ""
