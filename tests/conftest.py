"""Fixtures that several test files use: a stand-in model, a tiny real one, photographs."""

from pathlib import Path

import numpy as np
import pytest

from emotion.labels import EMOTIONS
from emotion.model.keras import ModelFiles, import_keras, save_keras_model, write_fast_form
from emotion.model.runtime import EmotionModel


def build_tiny_network(class_count: int = 7, activation: str = "softmax", shape=(48, 48, 1)):
    """Return a small Keras network of the kind tutorials make, with random weights."""
    keras = import_keras()
    keras.utils.set_random_seed(1)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(4),
            layers.Dropout(0.25),
            layers.Flatten(),
            layers.Dense(class_count, activation=activation),
        ]
    )


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """Return the stem of a plain pair with a fast form and without a card; do not change it."""
    files = ModelFiles(tmp_path_factory.mktemp("models") / "tiny")
    save_keras_model(build_tiny_network(), files)
    write_fast_form(files)
    return files.stem


@pytest.fixture
def stand_in_model() -> EmotionModel:
    """Return a model that answers from the mean of each face: no files, no TensorFlow."""

    def run(faces: np.ndarray) -> np.ndarray:
        means = faces.mean(axis=(1, 2, 3))
        powers = np.exp(np.outer(means, np.arange(len(EMOTIONS))))
        return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)

    return EmotionModel(
        name="stand_in",
        sha256="0" * 64,
        class_names=EMOTIONS,
        runtime="NumPy",
        card=None,
        notes=(),
        run=run,
    )


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """Return a photograph with one face, (512, 512, 3) uint8."""
    from skimage import data

    return data.astronaut()
