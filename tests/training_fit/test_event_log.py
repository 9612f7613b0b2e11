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


def test_tensorboard_reads_every_figure(settings):
    events = EventLog(settings)
    for row in ROWS:
        events.write(row)
    events.close()
    scalars = read(settings)
    assert set(scalars) == set(TAGS.values())
    assert scalars["loss/training"] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    assert scalars["learning_rate"] == [(1, 0.1), (2, 0.05), (3, 0.03333)]


@pytest.mark.parametrize("kept", [1, 2])
def test_goes_on_after_a_kill_without_a_gap_or_a_double(settings, kept):
    """Two epochs were written when the run was killed; the checkpoint has one or both."""
    killed = EventLog(settings)
    for row in ROWS[:2]:
        killed.write(row)
    killed.close()
    events = EventLog(settings, ROWS[:kept])
    for row in ROWS[kept:]:
        events.write(row)
    events.close()
    assert read(settings)["accuracy/validation"] == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_other_files_in_the_folder_stay(settings, tmp_path):
    folder = tmp_path / "logs" / "run"
    folder.mkdir(parents=True)
    (folder / "notes.txt").touch()
    EventLog(settings).close()
    assert (folder / "notes.txt").exists()


def test_without_a_folder_nothing_is_written(settings, tmp_path):
    events = EventLog(replace(settings, tensorboard=""))
    events.write(ROWS[0])
    events.close()
    assert not list(tmp_path.iterdir())


def test_without_tensorboard_it_says_so(settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary", None)
    with pytest.raises(TrainingError, match="package tensorboard for --tensorboard"):
        EventLog(settings)


def test_folder_that_cannot_be_made_is_a_sentence(settings, tmp_path):
    (tmp_path / "logs").touch()
    with pytest.raises(TrainingError, match="expected a folder that can be written to"):
        EventLog(settings)
