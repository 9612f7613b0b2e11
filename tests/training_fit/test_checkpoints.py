import errno
import io
import sys
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from training_data import make_dataset

from emotion import progress
from emotion.errors import TrainingError
from emotion.progress import progress_bar
from emotion.training.fitting import checkpoints
from emotion.training.fitting.checkpoints import STATE_FILE, Checkpoint, take_over_finished_run
from emotion.training.fitting.progress import TAGS, epoch_bar, epoch_line, event_writer
from emotion.training.settings import LOGGERS, SETTINGS_FILE, TrainingSettings, read_settings

DATA = make_dataset()


@pytest.fixture
def settings(tmp_path) -> TrainingSettings:
    return TrainingSettings(epochs=5, patience=2, runs=str(tmp_path), name="test")


def keep(checkpoint: Checkpoint, accuracy: float, loss: float = 1.0) -> None:
    epoch = len(checkpoint.history) + 1
    row = {"epoch": epoch, "loss": loss, "val_accuracy": accuracy}
    checkpoint.keep(row, [np.full((3, 2), epoch, np.float32)], [np.float32([10 * epoch] * 4)])


def opened(settings: TrainingSettings, *accuracies: float) -> Checkpoint:
    """Return the checkpoint of a run after epochs with such validation accuracies."""
    checkpoint = Checkpoint(DATA, settings)
    checkpoint.read(may_extend=True)
    checkpoint.open()
    for accuracy in accuracies:
        keep(checkpoint, accuracy)
    return checkpoint


def loaded(checkpoint: Checkpoint, key: str) -> set[float]:
    variable = keras.Variable(np.zeros((3, 2) if key == "state" else 4, np.float32))
    checkpoint.load(key, [variable])
    return set(variable.numpy().ravel())


def names(checkpoint: Checkpoint) -> list[str]:
    return sorted(path.name for path in checkpoint.folder.iterdir() if path.name != SETTINGS_FILE)


def test_keeps_the_last_state_and_the_best_weights_until_it_has_waited_enough(settings):
    checkpoint = opened(settings)
    assert not checkpoint.finished()
    for accuracy, finished in ((0.3, False), (0.5, False), (0.4, False), (0.4, True)):
        keep(checkpoint, accuracy)
        assert checkpoint.finished() is finished
    again = opened(replace(settings, patience=9))
    assert again.history == checkpoint.history
    assert (loaded(again, "state"), loaded(again, "selected")) == ({4}, {20})
    assert names(again) == ["epoch-004.npz", "selected-002.npz", STATE_FILE]
    assert not again.finished()
    keep(again, 0.1)
    assert again.finished(), "all epochs are done"


@pytest.mark.parametrize("file", ["selected-002.npz", "epoch-002.npz", STATE_FILE])
def test_full_disk_keeps_the_checkpoint_before(settings, monkeypatch, file):
    checkpoint = opened(settings, 0.3)
    kept, write = names(checkpoint), checkpoints.whole_file

    def fill_disk(path):
        if path.name == file:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path)

    with monkeypatch.context() as patch:
        for module in ("emotion.training.fitting.checkpoints", "emotion.files"):
            patch.setattr(f"{module}.whole_file", fill_disk)
        with pytest.raises(TrainingError, match=r"epoch 2; .*No space left"):
            keep(checkpoint, 0.5)
    assert names(checkpoint) == kept
    again = opened(settings)
    assert [row["epoch"] for row in again.history] == [1]
    keep(again, 0.5)
    assert loaded(again, "selected") == {20}


def test_infinite_loss_keeps_the_checkpoint_before(settings):
    checkpoint = opened(settings, 0.3)
    with pytest.raises(TrainingError, match="epoch 2; received nan"):
        keep(checkpoint, 0.3, loss=float("nan"))
    (checkpoint.folder / ".part-abc").mkdir()  # as a killed run leaves it
    again = opened(settings)
    assert len(again.history) == 1
    assert not list(again.folder.glob(".part-*"))


def test_another_run_is_refused(settings):
    opened(settings, 0.3)
    for change, message in (
        ({"mixup": 0.2}, r"mixup 0.0; received 0.2.* --name"),
        ({"teachers": ("models/one",)}, r"teachers \[\]; received \['models/one'\]"),
    ):
        with pytest.raises(TrainingError, match=message):
            opened(replace(settings, **change))
    with pytest.raises(TrainingError, match="other data"):
        Checkpoint(make_dataset(train=70), settings).read()
    # these shape nothing
    moved = replace(settings, patience=9, tensorboard="logs", models="m", overwrite=True)
    assert len(opened(moved).history) == 1
    longer = opened(replace(settings, epochs=9), 0.2)
    assert len(longer.history) == 2
    assert "--epochs=9" in read_settings(longer.folder / SETTINGS_FILE)
    with pytest.raises(TrainingError, match="epochs 9; received 5"):
        opened(settings)
    plateau = replace(settings, schedule="plateau", name="plateau")
    opened(plateau, 0.3)
    with pytest.raises(TrainingError, match="patience 2; received 9"):
        opened(replace(plateau, patience=9))


def test_damaged_files_are_a_sentence(settings, tmp_path):
    checkpoint = opened(settings, 0.3)
    path = checkpoint.folder / "epoch-001.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TrainingError, match="cannot be used"):
        loaded(checkpoint, "state")
    for text in ("", "[]", '{"file": ""}', '{"files": {}, "history": [], "identity": "x"}'):
        (checkpoint.folder / STATE_FILE).write_text(text)
        with pytest.raises(TrainingError, match="damaged"):
            opened(settings)
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="folder for checkpoints"):
        opened(replace(settings, runs=str(tmp_path / "file")))


@pytest.mark.parametrize("change", [{}, {"mixup": 0.2}, {"name": "begun"}, {"epochs": 6}])
def test_a_finished_run_of_other_name_is_taken_over(settings, change):
    first = opened(settings, *(epoch / 10 for epoch in range(5)))
    opened(replace(settings, name="begun"), 0.5)
    settings = replace(settings, **{"name": "other", **change})
    folder = take_over_finished_run(DATA, settings)
    assert folder == (None if change else first.folder)
    assert first.folder.exists() == bool(change)
    assert len(opened(settings).history) == (1 if "name" in change else 0 if change else 5)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_that_goes_away_or_lines(monkeypatch):
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0)
    monkeypatch.setattr("tqdm.std.time", iter(range(0, 1000, 10)).__next__)
    for kind in (io.StringIO, Terminal):
        for total, words in ((100, ("50%", "50/100", "2 problems")), (None, ("50 photos",))):
            stream = kind()
            with progress_bar("photos", total, stream) as show:
                show(40)
                show(50, "2 problems")
            text = stream.getvalue()
            assert all(word in text for word in words)
            assert ("\r" in text) == stream.isatty()
            assert not stream.isatty() or text.split("\r")[-1].strip() == ""


def test_a_bar_on_a_terminal_and_a_line_an_epoch(monkeypatch):
    cases = (Terminal(), True, "0/500"), (Terminal(), False, ""), (io.StringIO(), True, "")
    for stream, verbose, words in cases:
        monkeypatch.setattr("sys.stdout", stream)
        with epoch_bar("Epoch 1/40", 500, verbose) as show:
            for _ in range(4):  # the last batch was filled up
                show(128, {"loss": 1.2345, "accuracy": 0.5412})
        assert words in stream.getvalue()
        assert bool(words) == bool(stream.getvalue())
    history = [
        {"epoch": 1, "loss": 1.9, "accuracy": 0.2, "val_loss": 1.8, "val_accuracy": 0.51},
        {"epoch": 2, "loss": 1.2, "accuracy": 0.541, "val_loss": 1.3, "val_accuracy": 0.5},
    ]
    line = epoch_line(history, 40, 61)
    shown = ("Epoch  2/40", "1.200", "54.1%", "1.300", "50.0%", "51.0% (epoch 1)", "1:01, 38:38")
    assert all(words in line for words in shown)
    assert "left" not in epoch_line(history, 2, 61)


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_tensorboard_reads_every_figure_once_also_after_a_kill(tmp_path, kept):
    """Two epochs were written when the run was killed; the checkpoint has so many of them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = TrainingSettings(tensorboard=str(tmp_path), name="run")
    rows = [dict.fromkeys(TAGS, epoch / 10) | {"epoch": epoch} for epoch in (1, 2, 3)]
    for before, after in (([], rows[:2]), (rows[:kept], rows[kept:])):
        write = event_writer(settings, before)
        for row in after:
            write(row)
    read = EventAccumulator(str(tmp_path / "run"))
    read.Reload()
    assert set(read.Tags()["tensors"]) == set(TAGS.values())
    for tag in TAGS.values():
        found = [(event.step, event.tensor_proto.float_val[0]) for event in read.Tensors(tag)]
        assert found == [(epoch, pytest.approx(epoch / 10)) for epoch in (1, 2, 3)]


def test_services_get_settings_and_every_epoch(monkeypatch):
    told = []
    stand_in = SimpleNamespace(
        end_run=lambda: None,
        start_run=lambda run_name: told.append(run_name),
        log_params=lambda values: told.append(values["mixup"]),
        log_metrics=lambda figures, step: told.append((step, *figures)),
    )
    stand_in.init = lambda name, config, reinit: (
        told.extend([name, config["mixup"]]) or SimpleNamespace(log=stand_in.log_metrics)
    )
    row = dict.fromkeys(TAGS, 0.1) | {"epoch": 4}
    for service in LOGGERS:
        monkeypatch.setitem(sys.modules, service, stand_in)
        settings = TrainingSettings(log_to=service, name="run", mixup=0.3)
        event_writer(settings, [row])(row | {"epoch": 5})
        assert told == ["run", 0.3, (4, *TAGS.values()), (5, *TAGS.values())]
        told.clear()
        monkeypatch.setitem(sys.modules, service, SimpleNamespace())
        with pytest.raises(TrainingError, match=f"--log-to {service}"):
            event_writer(settings, [])


def test_a_file_is_no_folder_for_tensorboard(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="--tensorboard"):
        event_writer(TrainingSettings(tensorboard=str(tmp_path / "file")), [])
