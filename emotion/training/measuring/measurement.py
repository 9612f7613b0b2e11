"""Everything that a report tells about a model on one split; no Keras, no files.

Corruptions as in Hendrycks & Dietterich 2019, "Benchmarking neural network robustness to common
corruptions and perturbations"; strengths made for faces of 48x48 pixels.
"""

from dataclasses import dataclass, replace
from itertools import cycle, zip_longest

import cv2
import numpy as np

from emotion.model.card import Card
from emotion.model.runtime import EmotionModel
from emotion.text import counted
from emotion.training.data.datasets import Dataset
from emotion.training.measuring.evaluation import Evaluation, evaluate_model
from emotion.training.measuring.selective import measure_agreement

SAMPLE_COUNT = 24
LEVELS = ("mild", "medium", "strong")
CORRUPTED_IMAGES = 500
SEED = 7
UNCHANGED = "none"  # the corruption of the row about the images as they are


def blur(images: np.ndarray, sigma_px: float) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(image, (0, 0), sigma_px) for image in images])


def noise(images: np.ndarray, deviation: int) -> np.ndarray:
    """Return images with the grain of a bad sensor, the same at every call."""
    grain = np.random.default_rng(SEED).standard_normal(images.shape, dtype=np.float32)
    return (images + deviation * grain).round().clip(0, 255).astype(np.uint8)


def darkness(images: np.ndarray, factor: float) -> np.ndarray:
    return (images * factor).round().astype(np.uint8)


def low_resolution(images: np.ndarray, side_px: int) -> np.ndarray:
    side, full = (side_px, side_px), images.shape[2:0:-1]
    small = [cv2.resize(image, side, interpolation=cv2.INTER_AREA) for image in images]
    return np.stack([cv2.resize(image, full, interpolation=cv2.INTER_LINEAR) for image in small])


def jpeg(images: np.ndarray, quality: int) -> np.ndarray:
    setting = (cv2.IMWRITE_JPEG_QUALITY, quality)
    files = [cv2.imencode(".jpg", image, setting)[1] for image in images]
    return np.stack([cv2.imdecode(file, cv2.IMREAD_GRAYSCALE) for file in files])


def rotation(images: np.ndarray, degrees: float) -> np.ndarray:
    """Return images turned left and right in turn; the edge goes on where nothing was."""
    height, width = images.shape[1:]
    centre, edge = ((width - 1) / 2, (height - 1) / 2), cv2.BORDER_REPLICATE
    ways = [cv2.getRotationMatrix2D(centre, angle, 1) for angle in (degrees, -degrees)]
    pairs, size_wh = zip(images, cycle(ways)), (width, height)
    return np.stack([cv2.warpAffine(image, way, size_wh, borderMode=edge) for image, way in pairs])


# name -> ((N, 48, 48) uint8 images, strength) -> changed images; a strength a level; words for it
CORRUPTIONS = {
    "blur": (blur, (0.7, 1.2, 2.0), "Gaussian blur, sigma {} px"),
    "noise": (noise, (4, 8, 16), "Gaussian noise, deviation {} of 255 greys"),
    "darkness": (darkness, (0.5, 0.25, 0.1), "brightness times {}"),
    "low resolution": (low_resolution, (32, 24, 16), "shrunk to {} px a side and enlarged"),
    "JPEG": (jpeg, (30, 15, 5), "JPEG of quality {}"),
    "rotation": (rotation, (10, 20, 30), "turned by {} degrees"),
}


@dataclass(frozen=True)
class SplitResult:  # what was measured on one split of N images
    evaluation: Evaluation  # as photos are answered
    one_crop: Evaluation | None  # without the mirror image; None if photos are answered so
    robustness: tuple[dict, ...]  # a row a corruption and level; empty if it was not measured
    images: np.ndarray  # (N, 48, 48) uint8, in the order of the evaluation
    names: np.ndarray | None  # (N,) str, where each image comes from; None if not known
    agreement: dict | None = None  # as `measure_agreement` gives it
    copies_removed: bool = False  # from what the model learned, as its card says

    def summary(self) -> dict:
        """Return every figure of the evaluation, and those of one crop, as plain types for JSON."""
        one_crop = self.one_crop.figures() if self.one_crop else None
        return self.evaluation.summary() | {"one_crop": one_crop, "agreement": self.agreement}


def measure_split(
    model: EmotionModel, split: Dataset, robustness=True, voted=None, tell=lambda line: None
) -> SplitResult:
    """Measure a model on a split; `voted`, a Dataset, are its images with all votes."""
    images, is_mirrored = counted(len(split), "image"), model.serving.mirrored
    tell(f"{images}, as photos are answered" + " and with one crop" * is_mirrored)
    served = evaluate_model(model, split)
    one_crop = evaluate_model(model, split, one_crop=True) if is_mirrored else None
    worsened = measure_robustness(model, split, tell) if robustness else ()
    agreement = None if voted is None else measure_agreement(model, voted)
    removed = bool(Card(model.card).removed)
    return SplitResult(served, one_crop, worsened, split.images, split.names, agreement, removed)


def surest_samples(result: SplitResult, right: bool) -> list[dict]:
    """Return rows about the surest right or wrong answers; classes take turns in the right ones."""
    evaluation, samples = result.evaluation, []
    classes, answers = evaluation.class_names, evaluation.predictions
    order = np.argsort(-evaluation.confidence, kind="stable")
    order = order[evaluation.right[order] == right].tolist()
    if right:
        by_class = [[at for at in order if answers[at] == k] for k in range(len(classes))]
        order = [at for turn in zip_longest(*by_class) for at in turn if at is not None]
    for position in order[:SAMPLE_COUNT]:
        votes = () if evaluation.votes is None else evaluation.votes[position].tolist()
        ranked = sorted(zip(classes, votes, strict=False), key=lambda vote: -vote[1])
        samples.append(
            {
                "row": position,
                "true_class": classes[evaluation.labels[position]],
                "answer": classes[answers[position]],
                "probability": float(evaluation.probabilities[position].max()),
                "name": "" if result.names is None else str(result.names[position]),
                "votes": {name: part for name, part in ranked if part},
                "image": result.images[position],
            }
        )
    return samples


def measure_robustness(
    model: EmotionModel, dataset: Dataset, tell=lambda line: None
) -> tuple[dict, ...]:
    """Measure the accuracy under every corruption at every level, and first without any."""
    chosen = np.random.default_rng(SEED).permutation(len(dataset))[:CORRUPTED_IMAGES]  # always same
    sample, rows = dataset.where(np.isin(np.arange(len(dataset)), chosen)), []

    def measure(corruption: str, level: str, description: str, images: np.ndarray) -> None:
        changed, one_crop = replace(sample, images=images), None
        if model.serving.mirrored:
            one_crop = evaluate_model(model, changed, one_crop=True).accuracy
        row = {"corruption": corruption, "level": level, "description": description}
        row |= {"accuracy": evaluate_model(model, changed).accuracy}
        rows.append(row | {"accuracy_one_crop": one_crop, "images": len(sample)})

    measure(UNCHANGED, "", "as in the dataset", sample.images)
    for name, (change, strengths, description) in CORRUPTIONS.items():
        tell(f"{counted(len(sample), 'image')} made worse by {name}")
        for level, strength in zip(LEVELS, strengths, strict=True):
            measure(name, level, description.format(strength), change(sample.images, strength))
    return tuple(rows)
