"""What a model's card and report say about how good it is, checked: both may come from elsewhere.

The report is read from its `evaluation.json`; one of another training, as lies there while a model
is being replaced, is told by its figures, which the card repeats.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

SPLITS = ("test", "private_test", "validation")
"""Which images to tell about; the first of these that was measured."""

FEW_IMAGES = 100
"""The figures of a class with fewer images than this are named as unsure."""

MOST_CONFUSIONS = 3
UNUSABLE = (AttributeError, KeyError, TypeError, ValueError)
"""What reading a card or a report of another form raises."""

SAME_IN_BOTH = ("images", "accuracy", "log_loss", "expected_calibration_error")
"""What card and report of one training agree in to the last digit."""


@dataclass(frozen=True)
class ClassFigures:
    """How one class was answered; a figure that is not defined is None."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    images: int

    @property
    def is_few(self) -> bool:
        """Return whether there were too few images for firm figures."""
        return self.images < FEW_IMAGES


@dataclass(frozen=True)
class Part:
    """The accuracy on a part of the images, or as measured in another way."""

    images: int
    accuracy: float


@dataclass(frozen=True)
class Measurement:
    """What the card says was measured on one split.

    Attributes:
        split: "test", "private_test" or "validation".
        images: how many.
        accuracy: share of right answers, 0 to 1.
        interval: its 95% interval.
        top_2_accuracy: how often the label is among the two best answers, None where not told.
        macro_f1: mean F1 of the classes.
        calibration_error: expected calibration error (Guo et al. 2017), 0 to 1.
        classes: figures of each class, in output order.
        also_in_training: how many of the images also stand in the training data.
        leak_free: the others, where there are such.
        one_crop: without the mirror image, where photos are answered with it.
    """

    split: str
    images: int
    accuracy: float
    interval: tuple[float, float]
    top_2_accuracy: float | None
    macro_f1: float
    calibration_error: float
    classes: tuple[ClassFigures, ...]
    also_in_training: int
    leak_free: Part | None
    one_crop: Part | None

    @property
    def hardest(self) -> tuple[ClassFigures, ...]:
        """Return the two classes that are found least often, the hardest first."""
        known = [row for row in self.classes if row.recall is not None]
        return tuple(sorted(known, key=lambda row: row.recall)[:2])


@dataclass(frozen=True)
class Bin:
    """Answers that are about equally sure; confidence and accuracy are None where none is."""

    lower: float
    upper: float
    confidence: float | None
    accuracy: float | None
    images: int

    @property
    def is_few(self) -> bool:
        """Return whether there were too few images for a firm accuracy."""
        return self.images < FEW_IMAGES


@dataclass(frozen=True)
class Cell:
    """How often one class was answered where another, or the same, was right.

    Attributes:
        true_class: the class of the images.
        answer: the class that was answered.
        images: how many.
        share: of the images of the true class, None where there are none.
    """

    true_class: str
    answer: str
    images: int
    share: float | None

    @property
    def is_right(self) -> bool:
        return self.true_class == self.answer

    @property
    def shade(self) -> int:
        """Return how dark the cell is, in steps from 0 (none) to 10 (all)."""
        return math.ceil((self.share or 0) * 10)


@dataclass(frozen=True)
class Worsened:
    """The accuracy on pictures that were made worse in one way."""

    name: str
    levels: Mapping[str, float]


@dataclass(frozen=True)
class Report:
    """What the report of the same training adds to the card.

    Attributes:
        matrix: a row a true class, a column an answer, both in output order.
        bins: of the reliability diagram, the least sure first.
        unchanged: the images on which worsened pictures were tried, as they are; None where not.
        worsened: the same images made worse.
    """

    matrix: tuple[tuple[Cell, ...], ...]
    bins: tuple[Bin, ...]
    unchanged: Part | None
    worsened: tuple[Worsened, ...]

    @property
    def confusions(self) -> tuple[Cell, ...]:
        """Return the mistakes that happened most often."""
        wrong = [cell for row in self.matrix for cell in row if not cell.is_right and cell.images]
        return tuple(sorted(wrong, key=lambda cell: -cell.images)[:MOST_CONFUSIONS])


def read_measurement(card: Mapping | None) -> Measurement | None:
    """Return what a card says was measured, None where it says nothing that can be used."""
    metrics = (card or {}).get("metrics")
    if not isinstance(metrics, Mapping):
        return None
    split = next((name for name in SPLITS if name in metrics), "")
    try:
        return _measurement(split, metrics[split])
    except UNUSABLE:
        return None


def read_report(stem: Path, card: Mapping | None, measurement: Measurement | None) -> Report | None:
    """Return the report beside a model, None where there is none of the same training.

    Args:
        stem: folder and name of the model's files.
        card: the card that the model is served with.
        measurement: what `read_measurement` made of it.
    """
    if measurement is None:
        return None
    path = stem.with_name(f"{stem.name}_report") / measurement.split / "evaluation.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        figures = card["metrics"][measurement.split]
        if any(content[key] != figures[key] for key in SAME_IN_BOTH):
            return None
        return _report(content, measurement)
    except (OSError, RecursionError, *UNUSABLE):
        return None


def _measurement(split: str, content: Mapping) -> Measurement:
    """Return the figures of a split; what is missing or no number raises one of `UNUSABLE`."""
    low, high = map(_share, content["accuracy_interval_95"])
    leak_free, one_crop = content.get("leak_free"), content.get("one_crop")
    return Measurement(
        split=split,
        images=_count(content["images"]),
        accuracy=_share(content["accuracy"]),
        interval=(low, high),
        top_2_accuracy=_share_or_none(content.get("top_2_accuracy")),
        macro_f1=_share(content["macro_f1"]),
        calibration_error=_share(content["expected_calibration_error"]),
        classes=tuple(_class_figures(row) for row in content["per_class"]),
        also_in_training=_count(content.get("images_also_in_training") or 0),
        leak_free=_part(leak_free) if leak_free else None,
        one_crop=_part(one_crop) if one_crop else None,
    )


def _class_figures(content: Mapping) -> ClassFigures:
    """Return the figures of a class."""
    precision, recall, f1 = (_share_or_none(content[key]) for key in ("precision", "recall", "f1"))
    return ClassFigures(str(content["class"]), precision, recall, f1, _count(content["support"]))


def _report(content: Mapping, measurement: Measurement) -> Report:
    """Return what a report adds; what is missing or does not fit raises one of `UNUSABLE`."""
    rows = content.get("robustness") or ()
    unchanged = [row for row in rows if not row["level"]]
    return Report(
        matrix=_matrix(content["confusion_matrix"], measurement),
        bins=_bins(content["reliability"]),
        unchanged=_part(unchanged[0]) if unchanged else None,
        worsened=_worsened([row for row in rows if row["level"]]),
    )


def _matrix(counts: list, measurement: Measurement) -> tuple[tuple[Cell, ...], ...]:
    """Return the confusion matrix, whose rows must have as many images as the card says."""
    names = [row.name for row in measurement.classes]
    matrix = []
    for row, numbers in zip(measurement.classes, counts, strict=True):
        if sum(map(_count, numbers)) != row.images:
            raise ValueError(f"expected {row.images} images of {row.name}; received {numbers}")
        shares = [number / row.images if row.images else None for number in numbers]
        cells = zip(names, numbers, shares, strict=True)
        matrix.append(tuple(Cell(row.name, *cell) for cell in cells))
    return tuple(matrix)


def _bins(rows: list) -> tuple[Bin, ...]:
    """Return the bins of a reliability diagram, which must stand side by side."""
    bins = tuple(
        Bin(
            lower=_share(row["lower"]),
            upper=_share(row["upper"]),
            confidence=_share_or_none(row["confidence"]),
            accuracy=_share_or_none(row["accuracy"]),
            images=_count(row["images"]),
        )
        for row in rows
    )
    if any(one.upper > next_one.lower + 1e-9 for one, next_one in pairwise(bins)):
        raise ValueError("expected bins side by side")
    return bins


def _worsened(rows: list) -> tuple[Worsened, ...]:
    """Return the accuracy by kind of change, each from mild to strong."""
    kinds = {}
    for row in rows:
        kinds.setdefault(str(row["corruption"]), {})[str(row["level"])] = _share(row["accuracy"])
    levels = next(iter(kinds.values()), {})
    return tuple(Worsened(name, found) for name, found in kinds.items() if [*found] == [*levels])


def _part(content: Mapping) -> Part:
    """Return the accuracy on a part of the images."""
    return Part(_count(content["images"]), _share(content["accuracy"]))


def _share(value: object) -> float:
    """Return a number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"expected a number from 0 to 1; received {value!r}")
    return float(value)


def _share_or_none(value: object) -> float | None:
    """Return a number from 0 to 1, None where it is not defined."""
    return None if value is None else _share(value)


def _count(value: object) -> int:
    """Return a whole number from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"expected a whole number from 0 on; received {value!r}")
    return value
