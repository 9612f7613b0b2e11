"""The shipped model through the path that serves it and through Keras: the same numbers."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from emotion.labels import EMOTIONS
from emotion.model.runtime import load_model
from emotion.training.data.datasets import Dataset
from emotion.training.measuring.evaluation import evaluate_model

STEM = Path(__file__).resolve().parent.parent / "models" / "detection_model"


@pytest.fixture(scope="module")
def sample(astronaut) -> Dataset:
    """Return a real face in many variants and generated ones, labelled in turn."""
    grey = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
    crops = [
        grey[top : top + side, left : left + side]
        for top in (40, 60, 80)
        for left in (140, 160, 180)
        for side in (120, 150, 180)
    ]
    real = [cv2.resize(crop, (48, 48), interpolation=cv2.INTER_AREA) for crop in crops]
    darkened = [(image * 0.4).astype(np.uint8) for image in real]
    images = np.stack([*real, *darkened, *map(drawn_face, range(20)), np.zeros_like(real[0])])
    labels = np.arange(len(images)) % len(EMOTIONS)
    return Dataset(images, labels, np.array(["test"] * len(images)), EMOTIONS)


def drawn_face(number: int) -> np.ndarray:
    """Return an oval with eyes and a mouth that turns up or down, (48, 48) uint8."""
    random = np.random.default_rng(number)
    image = random.integers(20, 90, (48, 48), dtype=np.uint8)
    cv2.ellipse(image, (24, 24), (16, 20), 0, 0, 360, int(random.integers(140, 220)), -1)
    for column in (18, 30):
        cv2.circle(image, (column, int(random.integers(17, 21))), 2, 30, -1)
    start = 0 if number % 2 else 180
    cv2.ellipse(image, (24, 32), (7, int(random.integers(2, 6))), 0, start, start + 180, 40, 2)
    return image


@pytest.fixture(scope="module")
def evaluations(sample):
    """Return the evaluation of the fast form and that of the pair in Keras."""
    served, pair = load_model(STEM), load_model(STEM, keras_alone=True)
    assert (served.runtime, served.notes, pair.runtime) == ("ONNX Runtime", (), "Keras")
    return evaluate_model(served, sample), evaluate_model(pair, sample)


def test_fast_form_gives_the_same_probabilities_as_keras(evaluations):
    served, keras = evaluations
    np.testing.assert_allclose(served.probabilities, keras.probabilities, atol=1e-3)
    assert np.ptp(served.probabilities, axis=0).max() > 0.2, "the sample must tell models apart"


def test_fast_form_gives_the_same_figures_as_keras(evaluations):
    served, keras = evaluations
    assert served.accuracy == keras.accuracy
    np.testing.assert_array_equal(served.confusion, keras.confusion)
    assert served.log_loss == pytest.approx(keras.log_loss, abs=1e-3)


def test_card_names_the_figures_of_the_artefact():
    model = load_model(STEM)
    assert model.card["weights_sha256"] == model.sha256
    assert model.class_names == EMOTIONS
