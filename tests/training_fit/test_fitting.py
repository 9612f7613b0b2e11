import errno
import io
from dataclasses import replace

import keras
import numpy as np
import pytest
from training_data import make_dataset

from emotion.errors import TrainingError
from emotion.model.keras import ModelFiles, save_keras_model
from emotion.training.fitting import checkpoints, fitting
from emotion.training.fitting.batches import FaceBatches
from emotion.training.fitting.fitting import fit
from emotion.training.networks.architectures import (
    ARCHITECTURES,
    BACKBONE,
    build_network,
    single_head,
)
from emotion.training.settings import TrainingSettings


@pytest.fixture
def settings(tmp_path) -> TrainingSettings:
    return TrainingSettings(
        epochs=2, batch_size=20, warmup_epochs=0.5, runs=str(tmp_path / "runs"), name="test"
    )


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    """Train a small network in place of the real one: the same parts, fewer of them."""
    import keras

    def build(faces):
        features = keras.layers.Conv2D(8, 5, strides=4)(faces)
        features = keras.layers.BatchNormalization(momentum=0.5)(features)
        features = keras.layers.Activation("relu")(features)
        return keras.layers.Dropout(0.1)(keras.layers.Flatten()(features))

    monkeypatch.setitem(ARCHITECTURES, "cnn", build)


@pytest.fixture
def small_backbone(monkeypatch):
    """Train a small network with a nested backbone, as if its weights came from ImageNet."""
    import keras

    def build(faces):
        inside = keras.Input(faces.shape[1:])
        features = keras.layers.Conv2D(8, 5, strides=4, name="inner")(inside)
        features = keras.layers.BatchNormalization()(features)
        backbone = keras.Model(inside, features, name=BACKBONE)
        return keras.layers.GlobalAveragePooling2D()(backbone(faces, training=False))

    monkeypatch.setitem(ARCHITECTURES, "mobilenetv2", build)
    monkeypatch.setattr(fitting, "start_from", lambda network, settings: None)


@pytest.fixture
def uncompiled(monkeypatch):
    """Train step by step: for a few steps that is quicker than to compile them."""
    import keras

    compile_model = keras.Model.compile

    def compile_nothing(self, **options):
        compile_model(self, run_eagerly=True, **options)

    monkeypatch.setattr(keras.Model, "compile", compile_nothing)


class Killed(BaseException):
    """Stands for `kill -9`: nothing may catch it."""


def kill_after(monkeypatch, epochs: int) -> None:
    """Make the run die right after a number of epochs were kept."""
    keep = checkpoints.Checkpoint.keep

    def keep_then_die(self, *arguments):
        keep(self, *arguments)
        if len(self.history) == epochs:
            raise Killed

    monkeypatch.setattr(checkpoints.Checkpoint, "keep", keep_then_die)


def require_equal_weights(one, other) -> None:
    for ours, theirs in zip(one.network.get_weights(), other.network.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_learns_and_selects_on_validation(settings):
    result = fit(make_dataset(), replace(settings, epochs=8, augmentation="none"), verbose=0)
    scores = [row["val_accuracy"] for row in result.history]
    assert max(scores) > 0.5, "the classes are plain to see"
    assert result.selected_epoch == 1 + int(np.argmax(scores))
    assert [row["epoch"] for row in result.history] == list(range(1, 9))


def small_dataset_with_votes():
    votes = np.eye(7, dtype=np.float32)[np.arange(63) % 7]
    votes[5] = 0
    return make_dataset(train=42, validation=21, test=0, votes=votes)


BACKBONE_RUN = {"architecture": "mobilenetv2", "epochs": 3, "frozen_epochs": 1}


@pytest.mark.parametrize(
    ("change", "killed_after"),
    [
        ({"votes_as": "second-head", "mixup": 0.2}, 1),
        ({"averaging": 0.9, "optimizer": "adam", "epochs": 3}, 2),
        ({"schedule": "plateau", "patience": 3, "epochs": 4, "votes_as": "blend"}, 2),
        ({"precision": "mixed_float16", "schedule": "constant"}, 1),
        (BACKBONE_RUN, 1),
        (BACKBONE_RUN | {"averaging": 0.9}, 2),
    ],
    ids=str,
)
@pytest.mark.usefixtures("small_backbone", "uncompiled")
def test_resumed_run_equals_an_unbroken_one(settings, monkeypatch, change, killed_after):
    data = small_dataset_with_votes()
    settings = replace(settings, **change)
    unbroken = fit(data, replace(settings, name="unbroken"), verbose=0)
    with monkeypatch.context() as patch:
        kill_after(patch, killed_after)
        with pytest.raises(Killed):
            fit(data, settings, verbose=0)
    resumed = fit(data, settings, verbose=0)
    assert resumed.history == unbroken.history
    require_equal_weights(resumed, unbroken)


def test_resumed_run_equals_an_unbroken_one_as_compiled(settings, monkeypatch):
    data, settings = make_dataset(), replace(settings, epochs=3)
    unbroken = fit(data, replace(settings, name="unbroken"), verbose=0)
    with monkeypatch.context() as patch:
        kill_after(patch, 1)
        with pytest.raises(Killed):
            fit(data, settings, verbose=0)
    resumed = fit(data, settings, verbose=0)
    assert resumed.history == unbroken.history
    require_equal_weights(resumed, unbroken)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"batch_size": 10}, "batch_size 20"), ({"seed": 8}, "seed 7")],
)
@pytest.mark.usefixtures("uncompiled")
def test_resume_with_other_settings_is_refused(settings, change, message):
    data = make_dataset()
    fit(data, replace(settings, epochs=1), verbose=0)
    with pytest.raises(TrainingError, match=message):
        fit(data, replace(settings, epochs=1, **change), verbose=0)


@pytest.mark.usefixtures("uncompiled")
def test_resume_with_other_data_is_refused(settings):
    fit(make_dataset(), replace(settings, epochs=1), verbose=0)
    with pytest.raises(TrainingError, match="other data"):
        fit(make_dataset(train=70), replace(settings, epochs=1), verbose=0)


@pytest.mark.usefixtures("uncompiled")
def test_full_disk_while_saving_loses_nothing(settings, monkeypatch):
    data = small_dataset_with_votes()
    unbroken = fit(data, replace(settings, name="unbroken"), verbose=0)
    save = checkpoints._save_arrays

    def fill_disk(path, arrays):
        if path.name == "epoch-002.npz":
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path, arrays)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_save_arrays", fill_disk)
        with pytest.raises(TrainingError, match=r"No space left.* up to 1"):
            fit(data, settings, verbose=0)
    resumed = fit(data, settings, verbose=0)
    assert resumed.history == unbroken.history
    require_equal_weights(resumed, unbroken)


@pytest.mark.usefixtures("uncompiled")
def test_stops_early(settings):
    settings = replace(settings, epochs=50, patience=2, learning_rate=1e-9, warmup_epochs=0)
    result = fit(make_dataset(), settings, verbose=0)
    assert len(result.history) == result.selected_epoch + 2 < 50


@pytest.mark.usefixtures("uncompiled")
def test_progress_counts_to_all_epochs(settings, capsys):
    stream = io.StringIO()
    data = make_dataset(train=42, validation=21, test=0)
    fit(data, replace(settings, epochs=3), stream=stream)
    lines = stream.getvalue().splitlines()
    assert [line[:9] for line in lines] == ["Epoch 1/3", "Epoch 2/3", "Epoch 3/3"]
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("uncompiled")
def test_tells_of_each_epoch_and_may_be_ended_by_it(settings):
    rows = []

    def end_after_two(row):
        rows.append(row)
        if len(rows) == 2:
            raise Killed

    data, settings = make_dataset(train=42, validation=21, test=0), replace(settings, epochs=3)
    with pytest.raises(Killed):
        fit(data, settings, verbose=0, on_epoch=end_after_two)
    result = fit(data, settings, verbose=0, on_epoch=rows.append)
    assert tuple(rows) == result.history


@pytest.mark.usefixtures("uncompiled")
def test_divergence_is_a_sentence(settings):
    with pytest.raises(TrainingError, match="lower --learning-rate"):
        fit(make_dataset(), replace(settings, learning_rate=1e30, warmup_epochs=0), verbose=0)


@pytest.mark.usefixtures("small_backbone", "uncompiled")
def test_backbone_learns_after_the_frozen_epochs(settings, monkeypatch):
    kernels, rates = [], []
    keep = checkpoints.Checkpoint.keep

    def watch(self, row, variables, weights):
        kernels.append(weights[0].copy())
        rates.append(row["learning_rate"])
        keep(self, row, variables, weights)

    monkeypatch.setattr(checkpoints.Checkpoint, "keep", watch)
    settings = replace(settings, **BACKBONE_RUN, schedule="constant", warmup_epochs=0)
    settings = replace(settings, epochs=4, frozen_epochs=2)
    fit(make_dataset(train=42, validation=21, test=0), settings, verbose=0)
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.abs(kernels[2] - kernels[1]).max() > 0
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.01], rtol=1e-6)


@pytest.mark.usefixtures("uncompiled")
def test_averaged_weights_are_measured_and_raw_ones_trained(settings):
    """An average that hardly moves stays where the first step led, however far training goes."""
    data = make_dataset(train=42, validation=21, test=0)
    settings = replace(settings, epochs=4, augmentation="none", batch_size=42, warmup_epochs=0)
    raw = fit(data, replace(settings, name="raw"), verbose=0)
    averaged = fit(data, replace(settings, averaging=0.999999), verbose=0)
    assert [row["loss"] for row in averaged.history] == [row["loss"] for row in raw.history]
    assert averaged.history[0]["val_loss"] == raw.history[0]["val_loss"]
    first = fit(data, replace(settings, name="first", epochs=1, schedule="constant"), verbose=0)
    kernel = averaged.network.get_weights()[0]
    np.testing.assert_allclose(kernel, first.network.get_weights()[0], atol=1e-4)
    assert np.abs(kernel - raw.network.get_weights()[0]).max() > 1e-3 or raw.selected_epoch == 1


@pytest.mark.usefixtures("uncompiled")
def test_starts_from_a_saved_model(settings, tmp_path):
    first = fit(make_dataset(), replace(settings, epochs=1, augmentation="none"), verbose=0)
    files = ModelFiles(tmp_path / "first")
    save_keras_model(first.network, files)
    votes = np.eye(7, dtype=np.float32)[np.arange(210) % 7]
    still = replace(
        settings,
        name="second",
        epochs=1,
        weights=str(files.stem),
        learning_rate=1e-9,
        warmup_epochs=0,
        augmentation="none",
    )
    second = fit(make_dataset(votes=votes), still, verbose=0)
    for ours, theirs in zip(
        second.network.trainable_weights, first.network.trainable_weights, strict=True
    ):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5)


def test_weights_of_another_architecture(settings, tiny_model):
    with pytest.raises(TrainingError, match="same architecture"):
        fit(make_dataset(), replace(settings, weights=str(tiny_model)), verbose=0)


def test_second_head_is_dropped():
    network = build_network("cnn", 7, second_head=True)
    faces = np.zeros((2, 48, 48, 1), np.float32)
    assert single_head(network).predict_on_batch(faces).shape == (2, 7)


def test_own_loop_counts_an_epoch_as_keras_does(settings, monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "cnn", keras.layers.Flatten())  # nothing is dropped out
    votes = np.eye(7, dtype=np.float32)[np.arange(210) % 7]
    votes[::3] = 0
    own_settings = replace(settings, class_weights="balanced", mixup=0.2, precision="float32")
    own_settings = replace(own_settings, learning_rate=0.01)
    figures = []
    for way in ("own", "keras"):
        keras.utils.set_random_seed(7)
        run = fitting.Run(make_dataset(votes=votes), own_settings)
        run.enter(run.stages[0])
        if way == "own":
            figures.append(run.train_epoch(0, []))
            continue
        batches = run._batches(0)
        given = (batches[index] for index in range(len(batches)))
        logs = run.trainer.fit(
            given, steps_per_epoch=len(batches), shuffle=False, verbose=0
        ).history
        figures.append({key: values[0] for key, values in logs.items()})
    own, theirs = figures
    theirs["accuracy"] = theirs.pop("emotion_accuracy")
    assert own == pytest.approx(theirs, rel=1e-4)


@pytest.mark.usefixtures("uncompiled")
def test_faces_that_grow(settings, monkeypatch):
    def averaging(faces):
        return keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 5, strides=4)(faces))

    monkeypatch.setitem(ARCHITECTURES, "cnn", averaging)
    sides = []
    make = FaceBatches.__getitem__

    def remember(batches, index):
        batch = make(batches, index)
        sides.append(batch[0].shape[1])
        return batch

    monkeypatch.setattr(FaceBatches, "__getitem__", remember)
    growing = replace(settings, smallest_side=32, epochs=3)
    result = fit(make_dataset(train=14, validation=7, test=0), growing, verbose=0)
    assert sides == [32, 48, 40, 48, 48, 48], "validation sees the side that is served"
    assert result.network.input_shape == (None, 48, 48, 1)


def test_a_network_of_one_side_says_so(settings, monkeypatch):
    def flat(faces):
        return keras.layers.Flatten()(faces)

    monkeypatch.setitem(ARCHITECTURES, "cnn", flat)
    with pytest.raises(TrainingError, match="leave --smallest-side at 48"):
        fit(make_dataset(), replace(settings, smallest_side=32), verbose=0)


@pytest.mark.usefixtures("uncompiled")
def test_each_head_is_a_network(settings):
    result = fit(small_dataset_with_votes(), settings, verbose=0)
    faces = np.random.default_rng(1).random((2, 48, 48, 1), dtype=np.float32)
    answers = [net.predict_on_batch(faces) for net in (result.network, result.votes_network)]
    assert [answer.shape for answer in answers] == [(2, 7), (2, 7)]
    assert np.abs(answers[0] - answers[1]).max() > 1e-3
    one = fit(make_dataset(42, 21, 0), replace(settings, name="one", epochs=1), verbose=0)
    assert one.votes_network is None
