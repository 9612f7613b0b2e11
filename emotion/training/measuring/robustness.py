"""How accuracy falls when images are worse than those of the dataset; no Keras, no files.

Named corruptions in rising steps: Hendrycks & Dietterich 2019, "Benchmarking neural network
robustness to common corruptions and perturbations"; strengths made for faces of 48x48 pixels.
"""

from collections.abc import Callable
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


@dataclass(frozen=True)
class Corruption:
    """One way in which images get worse.

    Attributes:
        change: ((N, 48, 48) uint8 images, strength) -> changed images.
        strengths: one for each of `LEVELS`.
        description: what is done, with {} for the strength.
    """

    change: Callable[[np.ndarray, float], np.ndarray]
    strengths: tuple[float, ...]
    description: str

    def __call__(self, images: np.ndarray, level: str) -> np.ndarray:
        return self.change(images, self.strengths[LEVELS.index(level)])


@dataclass(frozen=True)
class RobustnessRow:
    """The accuracy on images changed in one way.

    Attributes:
        corruption: a name in `CORRUPTIONS`, or "none" for the images as they are.
        level: one of `LEVELS`; "" if nothing is changed.
        description: what was done, with its strength.
        accuracy: share of right answers, answered as photos are.
        accuracy_one_crop: the same without the mirror image; None if photos are answered so.
        images: how many images it was measured on.
    """

    corruption: str
    level: str
    description: str
    accuracy: float
    accuracy_one_crop: float | None
    images: int


def blur(images: np.ndarray, sigma_px: float) -> np.ndarray:
    """Return images out of focus."""
    return np.stack([cv2.GaussianBlur(image, (0, 0), sigma_px) for image in images])


def noise(images: np.ndarray, deviation: float) -> np.ndarray:
    """Return images with the grain of a bad sensor, the same at every call."""
    grain = np.random.default_rng(SEED).standard_normal(images.shape, dtype=np.float32)
    return (images + int(deviation) * grain).round().clip(0, 255).astype(np.uint8)


def darkness(images: np.ndarray, factor: float) -> np.ndarray:
    """Return images with less light; the grey values that are lost stay lost."""
    return (images * factor).round().astype(np.uint8)


def low_resolution(images: np.ndarray, side_px: float) -> np.ndarray:
    """Return images as of small faces that were enlarged."""
    side, full = (int(side_px),) * 2, images.shape[2:0:-1]
    small = [cv2.resize(image, side, interpolation=cv2.INTER_AREA) for image in images]
    return np.stack([cv2.resize(image, full, interpolation=cv2.INTER_LINEAR) for image in small])


def jpeg(images: np.ndarray, quality: float) -> np.ndarray:
    """Return images that were saved as JPEG."""
    setting = (cv2.IMWRITE_JPEG_QUALITY, int(quality))
    files = [cv2.imencode(".jpg", image, setting)[1] for image in images]
    return np.stack([cv2.imdecode(file, cv2.IMREAD_GRAYSCALE) for file in files])


def rotation(images: np.ndarray, degrees: float) -> np.ndarray:
    """Return images turned left and right in turn; the edge goes on where nothing was."""
    height, width = images.shape[1:]
    centre = ((width - 1) / 2, (height - 1) / 2)
    turned = []
    for position, image in enumerate(images):
        matrix = cv2.getRotationMatrix2D(centre, degrees * (-1) ** position, 1)
        edge = cv2.BORDER_REPLICATE
        turned.append(cv2.warpAffine(image, matrix, (width, height), borderMode=edge))
    return np.stack(turned)


CORRUPTIONS = {
    "blur": Corruption(blur, (0.7, 1.2, 2.0), "Gaussian blur, sigma {} px"),
    "noise": Corruption(noise, (4, 8, 16), "Gaussian noise, deviation {} of 255 greys"),
    "darkness": Corruption(darkness, (0.5, 0.25, 0.1), "brightness times {}"),
    "low resolution": Corruption(
        low_resolution, (32, 24, 16), "shrunk to {} px a side and enlarged"
    ),
    "JPEG": Corruption(jpeg, (30, 15, 5), "JPEG of quality {}"),
    "rotation": Corruption(rotation, (10, 20, 30), "turned by {} degrees"),
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

    def measured(images: np.ndarray, corruption: str, level: str, description: str):
        changed = replace(sample, images=images)
        one_crop = None
        if model.serving.mirrored:
            one_crop = evaluate_model(model, changed, one_crop=True).accuracy
        accuracy = evaluate_model(model, changed).accuracy
        return RobustnessRow(corruption, level, description, accuracy, one_crop, len(sample))

    rows = [measured(sample.images, UNCHANGED, "", "as in the dataset")]
    for name, corruption in CORRUPTIONS.items():
        for level, strength in zip(LEVELS, corruption.strengths, strict=True):
            text = corruption.description.format(strength)
            rows.append(measured(corruption(sample.images, level), name, level, text))
    return tuple(rows)


def sample_of(dataset: Dataset) -> Dataset:
    """Return at most `SAMPLE_IMAGES` images of a dataset, always the same ones."""
    if len(dataset) <= SAMPLE_IMAGES:
        return dataset
    chosen = np.random.default_rng(SEED).permutation(len(dataset))[:SAMPLE_IMAGES]
    return dataset.where(np.isin(np.arange(len(dataset)), chosen))
