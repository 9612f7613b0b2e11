"""How good a model is on one split: the only place that reads measured figures.

Card and report may come from anywhere, so every number is checked. None: not known or not defined.
"""

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from emotion.model.card import Card

FEW_IMAGES = 100  # with fewer, figures are marked as rough
MOST_CONFUSIONS = MOST_MISSED = 3
OFTEN = 0.8  # an expression that is found less often than this is often missed
UNUSABLE = (KeyError, TypeError, ValueError)  # raised by figures of another form

# what card and report of one training agree in to the last digit
SAME_IN_BOTH = ("images", "accuracy", "log_loss", "expected_calibration_error")

Count = Annotated[int, Field(strict=True, ge=0)]
Number = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
# float32 rounds a sum of probabilities to a little above 1
Share = Annotated[Number, Field(le=1 + 1e-6), AfterValidator(lambda share: min(share, 1.0))]


def wilson_interval(right: int, count: int) -> tuple[float, float]:
    """Return the 95% interval of the share `right / count` (Wilson 1927); count is above 0."""
    z = 1.959964  # by hand, since loading scipy.stats takes half a second
    centre = (right + z**2 / 2) / (count + z**2)
    half = z * (right * (count - right) / count + z**2 / 4) ** 0.5 / (count + z**2)
    return max(0.0, centre - half), min(1.0, centre + half)


class Part(BaseModel):
    """A part of the figures; `alias` is what the files call a number."""

    model_config = ConfigDict(frozen=True)

    images: Count

    @property
    def is_few(self) -> bool:
        return self.images < FEW_IMAGES


class Numbers(Part):  # the figures that are one number each, of all images or of some
    accuracy: Share
    interval: tuple[Share, Share] | None = Field(None, alias="accuracy_interval_95")
    macro_f1: Share | None = None
    top_2_accuracy: Share | None = None  # how often the label is among the two best answers
    log_loss: Number | None = None
    # expected calibration error (Guo et al. 2017)
    calibration_error: Share | None = Field(None, alias="expected_calibration_error")
    risk_area: Share | None = Field(None, alias="area_under_risk_coverage")


class ClassFigures(Part):  # how one class was answered
    name: str = Field(alias="class")
    precision: Share | None
    recall: Share | None
    f1: Share | None
    images: Count = Field(alias="support")

    @property
    def recall_interval(self) -> tuple[float, float] | None:
        if self.recall is None or not self.images:
            return None
        return wilson_interval(round(self.recall * self.images), self.images)


class Bin(Part):  # answers that are about equally sure
    lower: Share
    upper: Share
    confidence: Share | None
    accuracy: Share | None

    @model_validator(mode="after")
    def _is_known(self) -> "Bin":
        if self.images and None in (self.confidence, self.accuracy):
            raise ValueError("expected confidence and accuracy of a bin with images")
        return self


class Covered(Part):  # if only the answers from a threshold on are given
    coverage: Share
    threshold: Share
    accuracy: Share


class Votes(Part):  # how the answers, and the labels, stand to the votes of several people
    majority_images: Count
    mean_share: Share | None
    label_mean_share: Share | None
    best_mean_share: Share | None
    majority_accuracy: Share | None
    label_majority_accuracy: Share | None
    cross_entropy: Number | None
    vote_entropy: Number | None
    jensen_shannon_divergence: Number | None


class Said(Part):  # where so many of 10 people were said to agree
    said: Annotated[Count, Field(le=10)]
    named: Annotated[Number, Field(le=10)]  # how many did, on average


class Agreement(Part):  # what is said of 10 people beside what 10 people said
    mean_absolute_error: Number
    mean_error: Annotated[float, Field(allow_inf_nan=False)]  # above 0: too many are said to agree
    said: tuple[Said, ...]
    split_images: Count  # where people were said to be split; how many then named...
    split_first: Number | None  # ...the first class
    split_named: Number | None  # ...any class that the answer names


class Changed(Part):  # images that were made worse, or left as they are: level ""
    corruption: str
    level: str
    description: str = ""
    accuracy: Share
    accuracy_one_crop: Share | None = None


class Cell(NamedTuple):  # how often one class was answered where another, or the same, was right
    true_class: str
    answer: str
    images: int
    share: float | None  # of the images of the true class

    @property
    def is_right(self) -> bool:
        return self.true_class == self.answer

    @property
    def shade(self) -> int:  # how dark it is drawn, from 0 (none) to 10 (all)
        return math.ceil((self.share or 0) * 10)


class Figures(Numbers):
    """What was measured on one split, answered as photos are."""

    split: str
    classes: tuple[ClassFigures, ...] = Field(alias="per_class", min_length=1)  # in output order
    coverage: tuple[Covered, ...] = Field((), alias="accuracy_by_coverage")
    also_in_training: Count | None = Field(None, alias="images_also_in_training")
    leak_free: Numbers | None = None  # of the others
    one_crop: Numbers | None = None  # without the mirror image, where photos are answered with it
    votes: Votes | None = Field(None, alias="vote_agreement")
    agreement: Agreement | None = None
    # only in a report: counts of a row a true class, bins of the reliability diagram, changes
    confusion_matrix: tuple[tuple[Count, ...], ...] = ()
    bins: tuple[Bin, ...] = Field((), alias="reliability")
    robustness: tuple[Changed, ...] = ()

    @classmethod
    def of(cls, split: str, content: Mapping) -> "Figures":
        """Return the figures in what a card or a report says about a split; raises `UNUSABLE`."""
        return cls.model_validate({**content, "split": split})

    @model_validator(mode="after")
    def _fits_together(self) -> "Figures":
        if any(one.upper > other.lower + 1e-9 for one, other in pairwise(self.bins)):
            raise ValueError("expected bins side by side")
        rows = [(row.images, len(self.classes)) for row in self.classes]
        if [(sum(row), len(row)) for row in self.confusion_matrix] not in ([], rows):
            raise ValueError("expected the images of each class in its row of the confusion matrix")
        return self

    @property
    def matrix(self) -> tuple[tuple[Cell, ...], ...]:  # a row a true class, a column an answer
        return tuple(
            tuple(
                Cell(row.name, other.name, count, count / row.images if row.images else None)
                for other, count in zip(self.classes, counts, strict=True)
            )
            for row, counts in zip(self.classes, self.confusion_matrix, strict=False)
        )

    @property
    def unchanged(self) -> Changed | None:
        return next((row for row in self.robustness if not row.level), None)

    @property
    def worsened(self) -> tuple[tuple[str, str, tuple[Changed, ...]], ...]:
        """Return (name, description, a row a level) of each change; those that lack one are out."""
        levels = list(dict.fromkeys(row.level for row in self.robustness if row.level))
        worsened = []
        for name in dict.fromkeys(row.corruption for row in self.robustness if row.level):
            rows = tuple(row for row in self.robustness if row.corruption == name)
            if [row.level for row in rows] == levels:
                # "sigma 0.7 px", "sigma 1.2 px" -> "sigma 0.7 / 1.2 px"
                columns = zip(*(row.description.split() for row in rows), strict=False)
                words = " ".join(" / ".join(dict.fromkeys(column)) for column in columns)
                worsened.append((name, words, rows))
        return tuple(worsened)

    @property
    def often_missed(self) -> tuple[ClassFigures, ...]:  # the least often found first
        missed = [row for row in self.classes if row.recall is not None and row.recall < OFTEN]
        return tuple(sorted(missed, key=lambda row: row.recall)[:MOST_MISSED])

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
        variants = {"as served": self, "without leaks": leak_free, "one crop": self.one_crop}
        return tuple((name, numbers) for name, numbers in variants.items() if numbers)

    @property
    def least_honest(self) -> Bin:
        used = (row for row in self.bins if row.images)
        return max(used, key=lambda row: abs(row.confidence - row.accuracy) * row.images)

    @property
    def most_frequent_share(self) -> float:
        return max(row.images for row in self.classes) / max(1, self.images)

    @property
    def excess_confidence(self) -> float:  # how much surer the answers are than they are right
        sure = sum(row.confidence * row.images for row in self.bins if row.confidence)
        return sure / max(1, self.images) - self.accuracy

    @property
    def confusions(self) -> tuple[Cell, ...]:  # the largest shares of what is shown
        wrong = [cell for row in self.matrix for cell in row if not cell.is_right and cell.images]
        return tuple(sorted(wrong, key=lambda cell: -(cell.share or 0))[:MOST_CONFUSIONS])


def read_figures(stem: Path, card: Card) -> Figures | None:
    """Return the figures of a model's main split, from its report where that fits its card."""
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
