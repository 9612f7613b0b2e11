import errno
import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from training_data import make_dataset

from emotion.errors import TrainingError
from emotion.training.fitting import checkpoints
from emotion.training.fitting.checkpoints import STATE_FILE, Checkpoint, take_over_finished_run
from emotion.training.settings import TrainingSettings


@pytest.fixture
def settings(tmp_path) -> TrainingSettings:
    return TrainingSettings(epochs=5, patience=2, runs=str(tmp_path), name="test")


def variables(value: float) -> list:
    return [keras.Variable(array) for array in arrays(value)]


def arrays(value: float) -> list[np.ndarray]:
    return [np.full((3, 2), value, np.float32), np.full(4, value, np.float32)]


def keep(checkpoint: Checkpoint, accuracy: float, loss: float = 1.0) -> None:
    epoch = len(checkpoint.history) + 1
    row = {"epoch": epoch, "loss": loss, "val_accuracy": accuracy}
    checkpoint.keep(row, arrays(epoch), arrays(10 * epoch))


def opened(settings: TrainingSettings) -> Checkpoint:
    checkpoint = Checkpoint(make_dataset(), settings)
    checkpoint.open()
    return checkpoint


class Network:
    def __init__(self):
        self.weights = variables(0)


def names(checkpoint: Checkpoint) -> list[str]:
    return sorted(path.name for path in checkpoint.folder.iterdir())


def test_keeps_the_last_state_and_the_best_weights(settings):
    checkpoint = opened(settings)
    for accuracy in (0.3, 0.5, 0.4):
        keep(checkpoint, accuracy)
    again = opened(settings)
    state, network = variables(0), Network()
    again.load_state(state)
    again.load_selected(network)
    assert again.history == checkpoint.history
    assert [float(variable.numpy().max()) for variable in state] == [3, 3]
    assert [float(variable.numpy().max()) for variable in network.weights] == [20, 20]
    assert names(again) == ["epoch-003.npz", "selected-002.npz", STATE_FILE]


def test_ends_after_all_epochs_or_out_of_patience(settings):
    checkpoint = opened(settings)
    assert not checkpoint.finished()
    for accuracy, finished in ((0.5, False), (0.4, False), (0.4, True)):
        keep(checkpoint, accuracy)
        assert checkpoint.finished() is finished
    assert Checkpoint(make_dataset(), replace(settings, patience=9)).finished() is False


@pytest.mark.parametrize("file", ["selected-002.npz", "epoch-002.npz", STATE_FILE])
def test_full_disk_keeps_the_checkpoint_before(settings, monkeypatch, file):
    checkpoint = opened(settings)
    keep(checkpoint, 0.3)
    kept = names(checkpoint)
    write = checkpoints.whole_file

    def fill_disk(path):
        if path.name == file:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "whole_file", fill_disk)
        patch.setattr("emotion.files.whole_file", fill_disk)
        with pytest.raises(TrainingError, match=r"epoch 2; .*No space left"):
            keep(checkpoint, 0.5)
    assert names(checkpoint) == kept
    again = opened(settings)
    assert [row["epoch"] for row in again.history] == [1]
    keep(again, 0.5)
    assert again.selected_epoch() == 2


def test_infinite_loss_keeps_the_checkpoint_before(settings):
    checkpoint = opened(settings)
    keep(checkpoint, 0.3)
    with pytest.raises(TrainingError, match="epoch 2; received nan"):
        keep(checkpoint, 0.3, loss=float("nan"))
    (checkpoint.folder / ".part-abc").mkdir()  # as a killed run leaves it
    (checkpoint.folder / ".part-abc" / "epoch-002.npz").write_bytes(b"half")
    again = opened(settings)
    assert len(again.history) == 1
    assert not list(again.folder.glob(".part-*"))


def test_another_run_is_refused(settings):
    checkpoint = opened(settings)
    keep(checkpoint, 0.3)
    for change, message in (
        ({"mixup": 0.2}, r"mixup 0.0; received 0.2.* --name"),
        ({"teachers": ("models/one",)}, r"teachers \[\]; received \['models/one'\]"),
        ({"optimizer": "adam"}, "optimizer 'sgd'; received 'adam'"),
    ):
        with pytest.raises(TrainingError, match=message):
            opened(replace(settings, **change))
    with pytest.raises(TrainingError, match="other data"):
        Checkpoint(make_dataset(train=70), settings).open()
    for change in ({"patience": 9}, {"tensorboard": "logs"}):  # these shape nothing
        assert len(opened(replace(settings, **change)).history) == 1
    path = checkpoint.folder / STATE_FILE
    state = json.loads(path.read_text())
    del state["identity"]["settings"]["mixup"]
    path.write_text(json.dumps(state))
    with pytest.raises(TrainingError, match=r"older version.* mixup"):
        opened(settings)


def test_damaged_files_are_a_sentence(settings, tmp_path):
    checkpoint = opened(settings)
    keep(checkpoint, 0.3)
    path = checkpoint.folder / "epoch-001.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(TrainingError, match="cannot be used"):
        opened(settings).load_state(variables(0))
    for text in ("", "{", "[]", '{"file": "epoch-001.npz"}'):
        (checkpoint.folder / STATE_FILE).write_text(text)
        with pytest.raises(TrainingError, match="damaged"):
            opened(settings)
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="folder for checkpoints"):
        opened(replace(settings, runs=str(tmp_path / "file")))


@pytest.mark.parametrize(
    ("epochs", "change", "taken"),
    [
        (5, {}, True),
        (4, {}, False),
        (5, {"mixup": 0.2}, False),
        (5, {"name": "begun"}, False),
    ],
)
def test_a_finished_run_of_other_name_is_taken_over(settings, tmp_path, epochs, change, taken):
    first, begun = opened(settings), opened(replace(settings, name="begun"))
    for epoch in range(epochs):
        keep(first, epoch / 10)
    keep(begun, 0.5)
    settings = replace(settings, **{"name": "other", **change})
    folder = take_over_finished_run(make_dataset(), settings)
    assert folder == (first.folder if taken else None)
    assert first.folder.exists() != taken
    assert len(opened(settings).history) == (5 if taken else 1 if "name" in change else 0)
