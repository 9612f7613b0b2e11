from dataclasses import replace
from functools import partialmethod

import keras
import numpy as np
import pytest
from training_data import Killed, make_dataset

from emotion.errors import TrainingError
from emotion.training.fitting import checkpoints, fitting
from emotion.training.fitting.batches import FaceBatches
from emotion.training.fitting.fitting import fit
from emotion.training.networks.architectures import ARCHITECTURES, BACKBONE
from emotion.training.settings import TrainingSettings


@pytest.fixture
def settings(tmp_path) -> TrainingSettings:
    return TrainingSettings(epochs=2, batch_size=20, warmup_epochs=0.5, runs=str(tmp_path / "runs"))


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    """Train a small network in place of the real one: the same parts, fewer of them."""

    def build(faces):
        features = keras.layers.Conv2D(8, 5, strides=4)(faces)
        features = keras.layers.BatchNormalization(momentum=0.5)(features)
        features = keras.layers.Activation("relu")(features)
        return keras.layers.Dropout(0.1)(keras.layers.Flatten()(features))

    monkeypatch.setitem(ARCHITECTURES, "cnn", build)


@pytest.fixture
def small_backbone(monkeypatch):
    """Train a small network with a nested backbone; return the runs that asked for its weights."""

    def build(faces):
        inside = keras.Input(faces.shape[1:])
        features = keras.layers.Conv2D(8, 5, strides=4, name="inner")(inside)
        features = keras.layers.BatchNormalization()(features)
        backbone = keras.Model(inside, features, name=BACKBONE)
        return keras.layers.GlobalAveragePooling2D()(backbone(faces, training=False))

    monkeypatch.setitem(ARCHITECTURES, "mobilenetv2", build)
    asked = []
    monkeypatch.setattr(fitting, "start_from", lambda network, settings: asked.append(settings))
    return asked


@pytest.fixture
def uncompiled(monkeypatch):
    """Train step by step: for a few steps that is quicker than to compile them."""
    eager = partialmethod(keras.Model.compile, run_eagerly=True)
    monkeypatch.setattr(keras.Model, "compile", eager)


def require_as_unbroken(data, settings, kill_after: int):
    """Fit at once, and in two goes, the first killed after some epochs; return what is equal."""

    def die(row):
        if row["epoch"] == kill_after:
            raise Killed

    unbroken = fit(data, replace(settings, name="unbroken"), verbose=False)
    with pytest.raises(Killed):
        fit(data, settings, verbose=False, on_epoch=die)
    rows = []
    resumed = fit(data, settings, verbose=False, on_epoch=rows.append)
    assert tuple(rows) == unbroken.history[kill_after:]
    assert resumed.history == unbroken.history
    weights = (one.network.get_weights() for one in (resumed, unbroken))
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    return unbroken


def test_learns_selects_on_validation_and_goes_on_after_a_kill(settings):
    """As compiled; the other resumed runs are not, to be quicker."""
    result = require_as_unbroken(
        make_dataset(), replace(settings, epochs=6, augmentation="none"), kill_after=4
    )
    scores = [row["val_accuracy"] for row in result.history]
    assert max(scores) > 0.5, "the classes are plain to see"
    assert result.selected_epoch == 1 + int(np.argmax(scores))
    assert [row["epoch"] for row in result.history] == list(range(1, 7))


SMALL = make_dataset(train=42, validation=21, test=0)
BACKBONE_RUN = {"architecture": "mobilenetv2", "epochs": 3, "frozen_epochs": 1}
RUNS = {  # what they change, and after how many epochs they are killed
    "votes": ({"votes_as": "second-head", "mixup": 0.2}, 1),
    "plateau": ({"schedule": "plateau", "patience": 3, "epochs": 4, "votes_as": "blend"}, 2),
    "half precision": ({"precision": "mixed_float16", "schedule": "constant"}, 1),
    "frozen backbone": (BACKBONE_RUN, 1),
    "backbone": (BACKBONE_RUN | {"averaging": 0.9, "optimizer": "adam"}, 2),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.usefixtures("uncompiled")
def test_resumed_run_equals_an_unbroken_one(settings, small_backbone, run):
    change, kill_after = RUNS[run]
    votes = np.eye(7, dtype=np.float32)[np.arange(63) % 7]
    votes[5] = 0
    require_as_unbroken(replace(SMALL, votes=votes), replace(settings, **change), kill_after)
    assert len(small_backbone) == 2, "weights to start from are for new runs"


@pytest.mark.usefixtures("small_backbone", "uncompiled")
def test_backbone_learns_after_the_frozen_epochs(settings, monkeypatch):
    kernels, keep = [], checkpoints.Checkpoint.keep

    def watch(self, row, variables, weights):
        kernels.append(weights[0].copy())
        keep(self, row, variables, weights)

    monkeypatch.setattr(checkpoints.Checkpoint, "keep", watch)
    change = BACKBONE_RUN | {"schedule": "constant", "frozen_epochs": 2, "warmup_epochs": 0}
    change["learning_rate"] = 0.1
    result = fit(SMALL, replace(settings, **change), verbose=False)
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.abs(kernels[2] - kernels[1]).max() > 0
    rates = [row["learning_rate"] for row in result.history]
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01], rtol=1e-6)


@pytest.mark.usefixtures("uncompiled")
def test_averaged_weights_are_measured_and_raw_ones_trained(settings):
    """An average that hardly moves stays where the first step led, however far training goes."""

    def run(name: str, **change):
        plain = {"epochs": 3, "augmentation": "none", "batch_size": 42, "warmup_epochs": 0}
        return fit(SMALL, replace(settings, name=name, **(plain | change)), verbose=False)

    raw, averaged = run("raw"), run("averaged", averaging=0.999999)
    assert [row["loss"] for row in averaged.history] == [row["loss"] for row in raw.history]
    assert averaged.history[0]["val_loss"] == raw.history[0]["val_loss"]
    first = run("first", epochs=1, schedule="constant")
    kernel, *others = (one.network.get_weights()[0] for one in (averaged, first, raw))
    np.testing.assert_allclose(kernel, others[0], atol=1e-4)
    assert np.abs(kernel - others[1]).max() > 1e-3 or raw.selected_epoch == 1


def test_own_loop_counts_an_epoch_as_keras_does(settings, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "cnn", keras.layers.Flatten())  # nothing is dropped out
    votes = np.eye(7, dtype=np.float32)[np.arange(210) % 7]
    votes[::3] = 0
    changes = {"class_weights": "balanced", "mixup": 0.2, "learning_rate": 0.01}
    settings = replace(settings, precision="float32", **changes)

    def entered():
        keras.utils.set_random_seed(7)
        run = fitting.Run(make_dataset(votes=votes), settings)
        run.enter(run.stages[0])
        return run

    own, run = entered().train_epoch(0, []), entered()
    batches = run.batches(0)
    given = (batches[index] for index in range(len(batches)))
    kept = run.trainer.fit(given, steps_per_epoch=len(batches), shuffle=False, verbose=0)
    theirs = {key: values[0] for key, values in kept.history.items()}
    theirs["accuracy"] = theirs.pop("emotion_accuracy")
    assert own == pytest.approx(theirs, rel=1e-4)


@pytest.mark.usefixtures("uncompiled")
def test_faces_that_grow(settings, monkeypatch):
    settings = replace(settings, smallest_side=32, epochs=3)
    data = make_dataset(train=14, validation=7, test=0)
    with pytest.raises(TrainingError, match="--smallest-side at 48"):  # a network of one side
        fit(data, settings, verbose=False)

    def averaging(faces):
        return keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 5, strides=4)(faces))

    monkeypatch.setitem(ARCHITECTURES, "cnn", averaging)
    sides, make = [], FaceBatches.__getitem__

    def remember(batches, index):
        batch = make(batches, index)
        sides.append(batch[0].shape[1])
        return batch

    monkeypatch.setattr(FaceBatches, "__getitem__", remember)
    result = fit(data, settings, verbose=False)
    assert sides == [32, 48, 40, 48, 48, 48], "validation sees the side that is served"
    assert result.network.input_shape == (None, 48, 48, 1)
