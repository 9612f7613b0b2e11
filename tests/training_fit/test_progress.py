import io

import pytest

from emotion.training.fitting.progress import Progress

ROWS = [
    {"epoch": 1, "loss": 1.9, "accuracy": 0.2, "val_loss": 1.8, "val_accuracy": 0.51},
    {"epoch": 2, "loss": 1.2, "accuracy": 0.541, "val_loss": 1.3, "val_accuracy": 0.5},
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


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
    for figure in (" 2/40", "1.200", "54.1%", "1.300", "50.0%", "best 51.0% (epoch 1)", "left"):
        assert figure in second


def test_terminal_also_gets_a_bar():
    written = train(Terminal())
    assert "0/500" in written
    kept = [line.split("\r")[-1] for line in written.split("\n")]
    assert [line[:8] for line in kept] == ["Epoch  1", "Epoch  2", ""]


def test_nothing_is_shown_where_that_is_wanted():
    assert train(Terminal(), 0) == ""
