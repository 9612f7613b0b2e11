import sys
from dataclasses import replace

import pytest

from emotion.errors import TrainingError
from emotion.training.fitting.event_log import TAGS, EventLog
from emotion.training.settings import TrainingSettings

ROWS = [
    {"epoch": epoch, "learning_rate": 0.1 / epoch}
    | dict.fromkeys(("loss", "accuracy", "val_loss", "val_accuracy"), epoch / 10)
    for epoch in (1, 2, 3)
]


@pytest.fixture
def settings(tmp_path) -> TrainingSettings:
    return TrainingSettings(tensorboard=str(tmp_path / "logs"), name="run")


def read(settings: TrainingSettings) -> dict[str, list[tuple[int, float]]]:
    """Return (epoch, value) of every scalar as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(f"{settings.tensorboard}/{settings.name}")
    events.Reload()
    return {
        tag: [(event.step, round(float(event.tensor_proto.float_val[0]), 5)) for event in found]
        for tag in events.Tags()["tensors"]
        for found in [events.Tensors(tag)]
    }


def write(settings, kept, rows) -> None:
    events = EventLog(settings, kept)
    for row in rows:
        events.write(row)
    events.close()


def test_tensorboard_reads_every_figure(settings):
    write(settings, (), ROWS)
    scalars = read(settings)
    assert set(scalars) == set(TAGS.values())
    assert scalars["loss/training"] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert scalars["learning_rate"] == [(1, 0.1), (2, 0.05), (3, 0.03333)]


@pytest.mark.parametrize("kept", [1, 2])
def test_goes_on_after_a_kill_without_a_gap_or_a_double(settings, tmp_path, kept):
    """Two epochs were written when the run was killed; the checkpoint has one or both."""
    notes = tmp_path / "logs" / "run" / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.touch()
    write(settings, (), ROWS[:2])
    write(settings, ROWS[:kept], ROWS[kept:])
    assert read(settings)["accuracy/validation"] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert notes.exists()


def test_without_a_folder_or_tensorboard(settings, tmp_path, monkeypatch):
    write(replace(settings, tensorboard=""), (), ROWS[:1])
    assert not list(tmp_path.iterdir())
    (tmp_path / "logs").touch()
    with pytest.raises(TrainingError, match="folder"):
        EventLog(settings)
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    with pytest.raises(TrainingError, match="package tensorboard for --tensorboard"):
        EventLog(settings)
