"""How far long work is: a bar on a terminal, lines elsewhere, figures for TensorBoard."""

import io
from dataclasses import replace

import pytest

from emotion import progress
from emotion.errors import TrainingError
from emotion.progress import progress_bar
from emotion.training.fitting.progress import TAGS, EventLog, Progress
from emotion.training.settings import TrainingSettings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_that_goes_away_or_lines(monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0)
    monkeypatch.setattr("tqdm.std.time", iter(range(0, 1000, 10)).__next__)
    for kind, total, words in (
        (io.StringIO, 100, ("photos", "50/100", "2 problems")),
        (Terminal, 100, ("50%|", "2 problems")),
        (io.StringIO, None, ("50 photos",)),
        (Terminal, None, ("50 photos",)),
    ):
        stream = kind()
        with progress_bar("photos", total, stream) as show:
            show(40)
            show(50, "2 problems")
        text = stream.getvalue() if stream.isatty() else stream.getvalue().splitlines()[-1]
        for word in words:
            assert word in text
        assert ("\r" in text) == stream.isatty()
        assert total or "%" not in text
        assert not stream.isatty() or text.split("\r")[-1].strip() == ""


def test_a_line_an_epoch_and_on_a_terminal_a_bar_too():
    rows = [
        {"epoch": 1, "loss": 1.9, "accuracy": 0.2, "val_loss": 1.8, "val_accuracy": 0.51},
        {"epoch": 2, "loss": 1.2, "accuracy": 0.541, "val_loss": 1.3, "val_accuracy": 0.5},
    ]

    def train(stream: io.StringIO, verbose: bool = True) -> str:
        shown = Progress(stream, 40, 500, verbose)
        for epoch in range(2):
            shown.start_epoch(epoch)
            for images in (128, 128, 128, 128):  # the last one was filled up
                shown.show(images, {"loss": 1.2345, "accuracy": 0.5412})
            shown.finish_epoch(rows[: epoch + 1])
        return stream.getvalue()

    written = train(io.StringIO())
    assert "\r" not in written
    first, second = written.splitlines()
    assert first.startswith("Epoch  1/40  loss 1.900  accuracy 20.0%")
    for figure in (" 2/40", "1.200", "54.1%", "1.300", "50.0%", "51.0% (epoch 1)", "left"):
        assert figure in second
    written = train(Terminal())
    assert "0/500" in written
    kept = [line.split("\r")[-1] for line in written.split("\n")]
    assert [line[:8] for line in kept] == ["Epoch  1", "Epoch  2", ""]
    assert train(Terminal(), verbose=False) == ""


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_tensorboard_reads_every_figure_once_also_after_a_kill(tmp_path, kept):
    """Two epochs were written when the run was killed; the checkpoint has so many of them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = TrainingSettings(tensorboard=str(tmp_path), name="run")
    rows = [dict.fromkeys(TAGS, epoch / 10) | {"epoch": epoch} for epoch in (1, 2, 3)]
    for before, after in (([], rows[:2]), (rows[:kept], rows[kept:])):
        events = EventLog(settings, before)
        for row in after:
            events.write(row)
        events.close()
    read = EventAccumulator(str(tmp_path / "run"))
    read.Reload()
    assert set(read.Tags()["tensors"]) == set(TAGS.values())
    for tag in TAGS.values():
        found = [(event.step, event.tensor_proto.float_val[0]) for event in read.Tensors(tag)]
        assert found == [(epoch, pytest.approx(epoch / 10)) for epoch in (1, 2, 3)]


def test_without_a_folder_nothing_is_written_and_a_wrong_one_is_a_sentence(tmp_path):
    settings = TrainingSettings(tensorboard=str(tmp_path / "file"))
    EventLog(replace(settings, tensorboard=""), []).write({})
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="--tensorboard"):
        EventLog(settings, [])
