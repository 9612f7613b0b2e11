"""How good a model is on one split: the only place that reads measured figures.

They stand on its card without the long tables, and whole in `evaluation.json` of its report. Both
may come from anywhere, so every number is checked.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from emotion.model.card import Card, is_count

FEW_IMAGES = 100  # with fewer, figures are marked as rough
MOST_CONFUSIONS = 3
UNUSABLE = (AttributeError, KeyError, TypeError, ValueError)  # raised by figures of another form

# what card and report of one training agree in to the last digit
SAME_IN_BOTH = ("images", "accuracy", "log_loss", "expected_calibration_error")

VOTES = (
    "mean_share label_mean_share best_mean_share majority_accuracy label_majority_accuracy "
    "cross_entropy vote_entropy jensen_shannon_divergence"
).split()

Interval = tuple[float, float]  # of 95%


def wilson_interval(right: int, count: int) -> Interval:
    """Return the 95% interval of the share `right / count` (Wilson 1927); count is above 0.

    By hand, since loading scipy.stats for it takes half a second.
    """
    z = 1.959964
    centre = (right + z**2 / 2) / (count + z**2)
    half = z * (right * (count - right) / count + z**2 / 4) ** 0.5 / (count + z**2)
    return max(0.0, centre - half), min(1.0, centre + half)


@dataclass(frozen=True)
class Numbers:
    """The figures that are one number each, of all images or of a part; None: not known."""

    images: int
    accuracy: float
    interval: Interval | None
    macro_f1: float | None
    top_2_accuracy: float | None  # how often the label is among the two best answers
    log_loss: float | None
    calibration_error: float | None  # expected calibration error (Guo et al. 2017), 0 to 1
    risk_area: float | None  # under the risk-coverage curve, 0 to 1

    @classmethod
    def of(cls, content: Mapping) -> "Numbers":
        interval = content.get("accuracy_interval_95")
        low, high = interval or (None, None)
        return cls(
            images=_count(content["images"]),
            accuracy=_share(content["accuracy"]),
            interval=(_share(low), _share(high)) if interval else None,
            macro_f1=_share_or_none(content.get("macro_f1")),
            top_2_accuracy=_share_or_none(content.get("top_2_accuracy")),
            log_loss=_number_or_none(content.get("log_loss")),
            calibration_error=_share_or_none(content.get("expected_calibration_error")),
            risk_area=_share_or_none(content.get("area_under_risk_coverage")),
        )


@dataclass(frozen=True)
class ClassFigures:
    """How one class was answered; None: not defined."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    images: int

    @property
    def is_few(self) -> bool:
        return self.images < FEW_IMAGES

    @property
    def recall_interval(self) -> Interval | None:
        if self.recall is None or not self.images:
            return None
        return wilson_interval(round(self.recall * self.images), self.images)


@dataclass(frozen=True)
class Cell:
    """How often one class was answered where another, or the same, was right."""

    true_class: str
    answer: str
    images: int
    share: float | None  # of the images of the true class; None: there are none

    @property
    def is_right(self) -> bool:
        return self.true_class == self.answer

    @property
    def shade(self) -> int:
        """Return how dark the cell is drawn, from 0 (none) to 10 (all)."""
        return math.ceil((self.share or 0) * 10)


@dataclass(frozen=True)
class Bin:
    """Answers that are about equally sure; confidence and accuracy are None if there are none."""

    lower: float
    upper: float
    confidence: float | None
    accuracy: float | None
    images: int

    @property
    def is_few(self) -> bool:
        return self.images < FEW_IMAGES


@dataclass(frozen=True)
class Covered:
    """The accuracy if only the answers from a threshold on are given."""

    coverage: float
    threshold: float
    images: int
    accuracy: float


@dataclass(frozen=True)
class Worsened:
    """The accuracy on images made worse in one way, by level: (as served, with one crop)."""

    name: str
    description: str
    levels: Mapping[str, tuple[float, float | None]]


@dataclass(frozen=True)
class Figures:
    """What was measured on one split. Everything but the first three may be empty or None."""

    split: str
    all: Numbers  # of all images, answered as photos are
    classes: tuple[ClassFigures, ...]  # in output order
    coverage: tuple[Covered, ...]  # if unsure answers are left out
    also_in_training: int | None  # images that also stand there; None: not looked for
    leak_free: Numbers | None  # of the others
    one_crop: Numbers | None  # without the mirror image, where photos are answered with it
    votes: Mapping[str, float | None] | None  # how the answers stand to several people's
    # only in a report:
    matrix: tuple[tuple[Cell, ...], ...]  # a row a true class, a column an answer
    bins: tuple[Bin, ...]  # of the reliability diagram, the least sure first
    unchanged: tuple[int, float, float | None] | None  # images, accuracy, one crop; to compare with
    worsened: tuple[Worsened, ...]  # the same images made worse

    @classmethod
    def of(cls, split: str, content: Mapping) -> "Figures":
        """Return the figures in what a card or a report says about a split.

        Raises one of `UNUSABLE` where a number is missing, or is none.
        """
        leak_free, one_crop = content.get("leak_free"), content.get("one_crop")
        votes, twins = content.get("vote_agreement"), content.get("images_also_in_training")
        classes = tuple(
            ClassFigures(
                str(row["class"]),
                *(_share_or_none(row[key]) for key in ("precision", "recall", "f1")),
                _count(row["support"]),
            )
            for row in content["per_class"]
        )
        coverage = tuple(
            Covered(
                _share(row["coverage"]),
                _share(row["threshold"]),
                _count(row["images"]),
                _share(row["accuracy"]),
            )
            for row in content.get("accuracy_by_coverage") or ()
        )
        rows = content.get("robustness") or ()
        unchanged = next((row for row in rows if not row["level"]), None)
        return cls(
            split=split,
            all=Numbers.of(content),
            classes=classes,
            coverage=coverage,
            also_in_training=None if twins is None else _count(twins),
            leak_free=Numbers.of(leak_free) if leak_free else None,
            one_crop=Numbers.of(one_crop) if one_crop else None,
            votes={key: _number_or_none(votes[key]) for key in VOTES}
            | {key: _count(votes[key]) for key in ("images", "majority_images")}
            if votes
            else None,
            matrix=_matrix(content.get("confusion_matrix") or (), classes),
            bins=_bins(content.get("reliability") or ()),
            unchanged=(_count(unchanged["images"]), *_accuracies(unchanged)) if unchanged else None,
            worsened=_worsened([row for row in rows if row["level"]]),
        )

    @property
    def hardest(self) -> tuple[ClassFigures, ...]:
        """Return the two classes that are found least often, the hardest first."""
        known = [row for row in self.classes if row.recall is not None]
        return tuple(sorted(known, key=lambda row: row.recall or 0)[:2])

    @property
    def answers(self) -> dict[str, float]:
        """Return how often each class was the answer: right answers by precision."""
        known = {
            row.name: row.recall * row.images / row.precision
            for row in self.classes
            if row.recall is not None and row.precision
        }
        # of a class without a right answer that is unknown: such classes share what is left
        left = max(0.0, sum(row.images for row in self.classes) - sum(known.values()))
        unknown = max(1, len(self.classes) - len(known))
        return {row.name: known.get(row.name, left / unknown) for row in self.classes}

    @property
    def variants(self) -> tuple[tuple[str, Numbers], ...]:
        """Return (heading, figures) of all images as served and of what stands beside them."""
        leak_free = self.leak_free if self.also_in_training else None
        variants = {"as served": self.all, "without leaks": leak_free, "one crop": self.one_crop}
        return tuple((name, numbers) for name, numbers in variants.items() if numbers)

    @property
    def least_honest(self) -> Bin:
        """Return the bin where confidence and accuracy lie furthest apart, counted in images."""
        used = (row for row in self.bins if row.images)
        return max(used, key=lambda row: abs(row.confidence - row.accuracy) * row.images)

    @property
    def most_frequent_share(self) -> float:
        """Return the accuracy of always answering the most frequent class."""
        return max(row.images for row in self.classes) / max(1, self.all.images)

    @property
    def excess_confidence(self) -> float:
        """Return how much surer the answers are, on average, than they are right."""
        sure = sum(row.confidence * row.images for row in self.bins if row.confidence)
        return sure / max(1, self.all.images) - self.all.accuracy

    @property
    def confusions(self) -> tuple[Cell, ...]:
        """Return the mistakes that happened most often."""
        wrong = [cell for row in self.matrix for cell in row if not cell.is_right and cell.images]
        return tuple(sorted(wrong, key=lambda cell: -cell.images)[:MOST_CONFUSIONS])


def read_figures(stem: Path, card: Card) -> Figures | None:
    """Return what is known of a model on the split that says most about it, None if nothing.

    Its report, beside the files named by `stem`, is read if it is of the same training; else, as
    while a model is being replaced, what its card says stands alone.
    """
    split, figures = card.main_split, card_figures(card)
    if figures is None:
        return None
    path = stem.with_name(f"{stem.name}_report") / split / "evaluation.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        same = all(content[key] == card.metrics[split][key] for key in SAME_IN_BOTH)
        report = Figures.of(split, content)
    except (OSError, RecursionError, *UNUSABLE):
        return figures
    classes = [[(row.name, row.images) for row in each.classes] for each in (report, figures)]
    return report if same and classes[0] == classes[1] else figures


def card_figures(card: Card, split: str = "") -> Figures | None:
    """Return the figures on a card, of its main split unless told; None: none can be used."""
    split = split or card.main_split
    try:
        return Figures.of(split, card.metrics[split])
    except UNUSABLE:
        return None


def _matrix(counts: list, classes: tuple[ClassFigures, ...]) -> tuple[tuple[Cell, ...], ...]:
    """Return the confusion matrix, whose rows must have as many images as the classes."""
    matrix = []
    for row, numbers in zip(classes, counts, strict=True) if counts else ():
        if sum(map(_count, numbers)) != row.images:
            raise ValueError(f"expected {row.images} images of {row.name}; received {numbers}")
        cells = [
            Cell(row.name, other.name, number, number / row.images if row.images else None)
            for other, number in zip(classes, numbers, strict=True)
        ]
        matrix.append(tuple(cells))
    return tuple(matrix)


def _bins(rows: list) -> tuple[Bin, ...]:
    """Return the bins of a reliability diagram, which must stand side by side."""
    bins = tuple(
        Bin(
            _share(row["lower"]),
            _share(row["upper"]),
            _share_or_none(row["confidence"]),
            _share_or_none(row["accuracy"]),
            _count(row["images"]),
        )
        for row in rows
    )
    if any(one.upper > next_one.lower + 1e-9 for one, next_one in pairwise(bins)):
        raise ValueError("expected bins side by side")
    if any(row.images and None in (row.confidence, row.accuracy) for row in bins):
        raise ValueError("expected confidence and accuracy of each bin with images")
    return bins


def _worsened(rows: list) -> tuple[Worsened, ...]:
    """Return the accuracies by kind of change; kinds without all levels are left out."""
    kinds: dict[str, dict] = {}
    for row in rows:
        kinds.setdefault(str(row["corruption"]), {})[str(row["level"])] = row
    levels, worsened = list(next(iter(kinds.values()), {})), []
    for name, found in kinds.items():
        if list(found) == levels:
            # "sigma 0.7 px", "sigma 1.2 px" -> "sigma 0.7 / 1.2 px"
            texts = (str(row.get("description") or "").split() for row in found.values())
            columns = zip(*texts, strict=False)
            description = " ".join(" / ".join(dict.fromkeys(words)) for words in columns)
            accuracies = {level: _accuracies(row) for level, row in found.items()}
            worsened.append(Worsened(name, description, accuracies))
    return tuple(worsened)


def _accuracies(row: Mapping) -> tuple[float, float | None]:
    return _share(row["accuracy"]), _share_or_none(row.get("accuracy_one_crop"))


def _share(value: object) -> float:
    """Return a number from 0 to 1; float32 rounds a sum of probabilities to a little above."""
    number = _number_or_none(value)
    if number is None or number > 1 + 1e-6:
        raise ValueError(f"expected a number from 0 to 1; received {value!r}")
    return min(number, 1.0)


def _share_or_none(value: object) -> float | None:
    return None if value is None else _share(value)


def _number_or_none(value: object) -> float | None:
    """Return a number from 0 on; None stays None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"expected a number from 0 on; received {value!r}")
    return float(value)


def _count(value: object) -> int:
    if not is_count(value):
        raise ValueError(f"expected a whole number from 0 on; received {value!r}")
    return value  # type: ignore[return-value]
