from dataclasses import replace

import numpy as np
import pytest
from training_data import make_dataset

from emotion.errors import TrainingError
from emotion.keras_pair import ModelFiles, save_keras_model
from emotion.training import fitting
from emotion.training.architectures import ARCHITECTURES, build_network, single_head
from emotion.training.augmentation import STRENGTHS, build_augmentation
from emotion.training.fitting import FaceBatches, fit
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


class Killed(BaseException):
    """Stands for `kill -9`: nothing may catch it."""


def kill_after(monkeypatch, epochs: int) -> None:
    """Make the run die right after a number of epochs were kept."""
    keep = fitting.Checkpoint.keep

    def keep_then_die(self, *arguments):
        keep(self, *arguments)
        if len(self.history) == epochs:
            raise Killed

    monkeypatch.setattr(fitting.Checkpoint, "keep", keep_then_die)


def test_learns_and_selects_on_validation(settings):
    result = fit(make_dataset(), replace(settings, epochs=8, augmentation="none"), verbose=0)
    scores = [row["val_accuracy"] for row in result.history]
    assert max(scores) > 0.5, "the classes are plain to see"
    assert result.selected_epoch == 1 + int(np.argmax(scores))
    assert [row["epoch"] for row in result.history] == list(range(1, 9))


def test_resumed_run_equals_an_unbroken_one(settings, monkeypatch):
    votes = np.eye(7, dtype=np.float32)[np.arange(210) % 7]
    votes[5] = 0
    data = make_dataset(votes=votes)
    unbroken = fit(data, replace(settings, epochs=3, name="unbroken"), verbose=0)
    with monkeypatch.context() as patch:
        kill_after(patch, 1)
        with pytest.raises(Killed):
            fit(data, replace(settings, epochs=3), verbose=0)
    resumed = fit(data, replace(settings, epochs=3), verbose=0)
    assert resumed.history == unbroken.history
    for ours, theirs in zip(
        resumed.network.get_weights(), unbroken.network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"batch_size": 10}, "batch_size 20; received 10"), ({"seed": 8}, "seed 7; received 8")],
)
def test_resume_with_other_settings_is_refused(settings, change, message):
    data = make_dataset()
    fit(data, replace(settings, epochs=1), verbose=0)
    with pytest.raises(TrainingError, match=message):
        fit(data, replace(settings, epochs=1, **change), verbose=0)


def test_resume_with_other_data_is_refused(settings):
    fit(make_dataset(), replace(settings, epochs=1), verbose=0)
    with pytest.raises(TrainingError, match="other data"):
        fit(make_dataset(train=70), replace(settings, epochs=1), verbose=0)


def test_stops_early(settings):
    settings = replace(settings, epochs=50, patience=2, learning_rate=1e-9, warmup_epochs=0)
    result = fit(make_dataset(), settings, verbose=0)
    assert len(result.history) == result.selected_epoch + 2 < 50


def test_progress_counts_to_all_epochs(settings, capfd):
    fit(make_dataset(), replace(settings, epochs=3), verbose=2)
    shown = [line for line in capfd.readouterr().out.splitlines() if line.startswith("Epoch")]
    assert shown == ["Epoch 1/3", "Epoch 2/3", "Epoch 3/3"]


def test_divergence_is_a_sentence(settings):
    with pytest.raises(TrainingError, match="lower --learning-rate"):
        fit(make_dataset(), replace(settings, learning_rate=1e30, warmup_epochs=0), verbose=0)


def test_batches_hold_every_image_once_in_the_order_of_the_seed():
    data = make_dataset(train=50)
    orders = [FaceBatches(data, 16, seed).order.tolist() for seed in ((7, 0), (7, 0), (7, 1))]
    assert orders[0] == orders[1] != orders[2]
    batches = FaceBatches(data, 16)
    faces = np.concatenate([batches[index][0] for index in range(len(batches))])
    labels = np.concatenate([batches[index][1] for index in range(len(batches))])
    assert faces.dtype == np.float32
    np.testing.assert_allclose(faces[..., 0] * 255, data.images, atol=1e-4)
    np.testing.assert_array_equal(labels.argmax(axis=1), data.labels)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_augmentation_changes_faces_in_training_only(strength):
    faces = np.random.default_rng(0).random((8, 48, 48, 1), dtype=np.float32)
    augmentation = build_augmentation(strength, 1)
    changed = np.asarray(augmentation(faces, training=True))
    assert changed.shape == faces.shape
    assert 0 <= changed.min() <= changed.max() <= 1
    assert np.abs(changed - faces).mean() > 0.02
    np.testing.assert_allclose(np.asarray(augmentation(faces, training=False)), faces, atol=1e-6)


def test_starts_from_a_saved_model(settings, tmp_path):
    first = fit(make_dataset(), replace(settings, epochs=6, augmentation="none"), verbose=0)
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
