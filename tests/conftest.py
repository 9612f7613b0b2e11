"""Fixtures that several test files use: a stand-in model, a tiny real one, photographs."""

import gc
import warnings
from pathlib import Path

import numpy as np
import pytest
from narrow_networks import build_tiny_network
from PIL import Image

from emotion.labels import EMOTIONS
from emotion.model.keras import ModelFiles, save_keras_model, write_fast_form
from emotion.model.runtime import EmotionModel


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

    return EmotionModel("stand_in", "0" * 64, EMOTIONS, "NumPy", None, (), run)


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    """Return a photograph with one face, (512, 512, 3) uint8."""
    from skimage import data

    return data.astronaut()


@pytest.fixture(scope="session")
def hopper() -> np.ndarray:
    """Return a photograph with one face of Grace Hopper's, (600, 512, 3) uint8."""
    from matplotlib.cbook import get_sample_data

    with get_sample_data("grace_hopper.jpg") as file:
        return np.asarray(Image.open(file).convert("RGB"))


@pytest.fixture
def cut_forms():
    """Let Werkzeug and waitress leave files of what they give up to the garbage collector."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Unclosed file", ResourceWarning)
        yield
        gc.collect()
