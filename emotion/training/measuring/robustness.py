"""How accuracy falls when images are worse than those of the dataset; no Keras, no files.

The idea of naming corruptions and raising each in steps is that of Hendrycks & Dietterich 2019,
"Benchmarking neural network robustness to common corruptions and perturbations"; the strengths are
made for faces of 48x48 pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from emotion.model.runtime import EmotionModel
from emotion.training.data.datasets import Dataset
from emotion.training.measuring.evaluation import evaluate_model

LEVELS = ("mild", "medium", "strong")
SAMPLE_IMAGES = 500
SEED = 7
UNCHANGED = "none"
"""The corruption of the row that says how accurate the model is on the images as they are."""

BLUR_SIGMA_PX = {"mild": 0.7, "medium": 1.2, "strong": 2.0}
NOISE_DEVIATION = {"mild": 4, "medium": 8, "strong": 16}
BRIGHTNESS = {"mild": 0.5, "medium": 0.25, "strong": 0.1}
SIDE_PX = {"mild": 32, "medium": 24, "strong": 16}
JPEG_QUALITY = {"mild": 30, "medium": 15, "strong": 5}
ROTATION_DEGREES = {"mild": 10, "medium": 20, "strong": 30}


@dataclass(frozen=True)
class RobustnessRow:
    """The accuracy on images changed in one way.

    Attributes:
        corruption: a name in `CORRUPTIONS`, or "none" for the images as they are.
        level: one of `LEVELS`; "" where nothing is changed.
        description: what was done, with its strength.
        accuracy: share of right answers, answered as photos are.
        accuracy_one_crop: the same without the mirror image; None where photos are answered so.
        images: how many images it was measured on.
    """

    corruption: str
    level: str
    description: str
    accuracy: float
    accuracy_one_crop: float | None
    images: int


def blur(images: np.ndarray, level: str) -> np.ndarray:
    """Return images out of focus."""
    sigma = BLUR_SIGMA_PX[level]
    return np.stack([cv2.GaussianBlur(image, (0, 0), sigma) for image in images])


def noise(images: np.ndarray, level: str) -> np.ndarray:
    """Return images with the grain of a bad sensor, the same at every call."""
    grain = np.random.default_rng(SEED).standard_normal(images.shape, dtype=np.float32)
    return (images + NOISE_DEVIATION[level] * grain).round().clip(0, 255).astype(np.uint8)


def darkness(images: np.ndarray, level: str) -> np.ndarray:
    """Return images with less light; the grey values that are lost stay lost."""
    return (images * BRIGHTNESS[level]).round().astype(np.uint8)


def low_resolution(images: np.ndarray, level: str) -> np.ndarray:
    """Return images as of small faces that were enlarged."""
    side, full = (SIDE_PX[level],) * 2, images.shape[2:0:-1]
    small = [cv2.resize(image, side, interpolation=cv2.INTER_AREA) for image in images]
    return np.stack([cv2.resize(image, full, interpolation=cv2.INTER_LINEAR) for image in small])


def jpeg(images: np.ndarray, level: str) -> np.ndarray:
    """Return images that were saved as JPEG."""
    setting = (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY[level])
    files = [cv2.imencode(".jpg", image, setting)[1] for image in images]
    return np.stack([cv2.imdecode(file, cv2.IMREAD_GRAYSCALE) for file in files])


def rotation(images: np.ndarray, level: str) -> np.ndarray:
    """Return images turned about their centre, to the left and to the right in turn."""
    degrees = ROTATION_DEGREES[level]
    return np.stack([_turned(image, degrees * (-1) ** i) for i, image in enumerate(images)])


CORRUPTIONS = {
    "blur": blur,
    "noise": noise,
    "darkness": darkness,
    "low resolution": low_resolution,
    "JPEG": jpeg,
    "rotation": rotation,
}
"""Name -> function of ((N, 48, 48) uint8 images, level) that returns changed images."""

DESCRIPTIONS = {
    "blur": ("Gaussian blur, sigma {} px", BLUR_SIGMA_PX),
    "noise": ("Gaussian noise, deviation {} of 255 greys", NOISE_DEVIATION),
    "darkness": ("brightness times {}", BRIGHTNESS),
    "low resolution": ("shrunk to {} px a side and enlarged", SIDE_PX),
    "JPEG": ("JPEG of quality {}", JPEG_QUALITY),
    "rotation": ("turned by {} degrees", ROTATION_DEGREES),
}


def measure_robustness(model: EmotionModel, dataset: Dataset) -> tuple[RobustnessRow, ...]:
    """Measure the accuracy under every corruption at every level.

    Args:
        model: the model, as it is served.
        dataset: the images; of more than `SAMPLE_IMAGES`, so many chosen by a fixed seed.

    Returns:
        The images as they are, then a row a corruption and level, in the order of `CORRUPTIONS`.
    """
    sample = sample_of(dataset)
    return tuple(
        _measured(model, replace(sample, images=images), *names)
        for images, *names in _conditions(sample.images)
    )


def sample_of(dataset: Dataset) -> Dataset:
    """Return at most `SAMPLE_IMAGES` images of a dataset, always the same ones."""
    if len(dataset) <= SAMPLE_IMAGES:
        return dataset
    chosen = np.random.default_rng(SEED).permutation(len(dataset))[:SAMPLE_IMAGES]
    return dataset.where(np.isin(np.arange(len(dataset)), chosen))


def describe(corruption: str, level: str) -> str:
    """Return what a corruption does at a level, in words."""
    text, strengths = DESCRIPTIONS[corruption]
    return text.format(strengths[level])


def describe_levels(corruption: str) -> str:
    """Return what a corruption does at all levels, in words."""
    text, strengths = DESCRIPTIONS[corruption]
    return text.format(" / ".join(str(strengths[level]) for level in LEVELS))


def _conditions(images: np.ndarray) -> Iterator[tuple[np.ndarray, str, str, str]]:
    """Yield (images, corruption, level, description) of every condition."""
    yield images, UNCHANGED, "", "as in the dataset"
    for corruption, change in CORRUPTIONS.items():
        for level in LEVELS:
            yield change(images, level), corruption, level, describe(corruption, level)


def _measured(
    model: EmotionModel, sample: Dataset, corruption: str, level: str, description: str
) -> RobustnessRow:
    """Return the row of one condition."""
    is_mirrored = model.serving.mirrored
    one_crop = evaluate_model(model, sample, one_crop=True).accuracy if is_mirrored else None
    return RobustnessRow(
        corruption=corruption,
        level=level,
        description=description,
        accuracy=evaluate_model(model, sample).accuracy,
        accuracy_one_crop=one_crop,
        images=len(sample),
    )


def _turned(image: np.ndarray, degrees: float) -> np.ndarray:
    """Return an image turned about its centre; its edge goes on where nothing was."""
    height, width = image.shape
    centre = ((width - 1) / 2, (height - 1) / 2)
    matrix = cv2.getRotationMatrix2D(centre, degrees, 1)
    return cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
