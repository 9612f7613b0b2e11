"""A face that was found and read, and what is said of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from emotion.errors import ModelError
from emotion.text import listed, percent

CANDIDATE_SHARE = 0.5  # an unsure answer names classes with this share of the first's probability
MOST_CANDIDATES = 3  # more classes are no answer any more


@dataclass(frozen=True)
class Thresholds:
    """When a model's answer is sure; the defaults serve models whose card says nothing."""

    sure_from: float = 0.5  # least probability of the first class
    clear_margin: float = 0.1  # its least lead over the second
    accuracy_when_unsure: float | None = None  # how often it is right all the same; None: not known

    def met_by(self, probabilities: Iterable[float]) -> bool:
        """Return whether an answer with these probabilities of the classes is sure."""
        first, second = map(float, sorted((0.0, *probabilities), reverse=True)[:2])
        return first >= self.sure_from and first - second >= self.clear_margin


@dataclass(frozen=True)
class Face:
    """One face of a photo and its emotion."""

    box_xywh: tuple[int, int, int, int]  # in pixels of the upright photo
    score: float  # how sure the detector is that this is a face, 0 to 1
    probabilities: Mapping[str, float]  # of the model's classes, in their order; they sum to 1
    notes: tuple[str, ...] = ()  # what may make the answer unreliable and what to do
    sure: bool = True  # whether the answer meets the model's `Thresholds`

    def __post_init__(self) -> None:
        if len(self.box_xywh) != 4 or min(self.box_xywh[2:]) < 1:
            raise ValueError(f"expected a box (x, y, width, height); received {self.box_xywh}")
        total = sum(self.probabilities.values())
        if abs(total - 1) > 1e-3:
            raise ValueError(f"expected probabilities that sum to 1; received a sum of {total}")
        object.__setattr__(self, "probabilities", MappingProxyType(dict(self.probabilities)))

    def __reduce__(self) -> tuple[Any, ...]:
        # a mappingproxy cannot be pickled, and faces travel between processes
        return Face, (self.box_xywh, self.score, dict(self.probabilities), self.notes, self.sure)

    @property
    def ranking(self) -> tuple[tuple[str, float], ...]:
        """Return (class name, probability), most probable first; ties in class order."""
        return _ranked(self.probabilities)

    @property
    def emotion(self) -> str:
        """Return the most probable class."""
        return self.ranking[0][0]

    @property
    def confidence(self) -> float:
        """Return the probability of the most probable class, 0 to 1."""
        return self.ranking[0][1]

    @property
    def candidates(self) -> tuple[str, ...]:
        """Return the classes that the answer names: one when sure, one to three when unsure."""
        return (self.emotion,) if self.sure else likely_classes(self.probabilities)

    @property
    def runner_up(self) -> str | None:
        """Return the second class that an unsure answer names, None where it names one."""
        return self.candidates[1] if len(self.candidates) > 1 else None


def read_thresholds(card: Mapping[str, Any] | None) -> Thresholds:
    """Return when answers are sure, by the `verdict` on a model's card; raises ModelError."""
    content = (card or {}).get("verdict")
    if content is None:
        return Thresholds()
    known = content if isinstance(content, Mapping) else {}
    values: dict[str, Any] = {field.name: known.get(field.name) for field in fields(Thresholds)}
    for name, value in values.items():
        is_share = type(value) in (int, float) and 0 <= value <= 1
        if not is_share and (value is not None or name != "accuracy_when_unsure"):
            raise ModelError(
                "expected a verdict with sure_from and clear_margin from 0 to 1 on the model's "
                f"card; received {content!r}: train the model again or remove it from the card"
            )
    return Thresholds(**values)


def likely_classes(probabilities: Mapping[str, float]) -> tuple[str, ...]:
    """Return the classes that an unsure answer names, one to three, most probable first."""
    ranking = _ranked(probabilities)[:MOST_CANDIDATES]
    least = CANDIDATE_SHARE * ranking[0][1]
    return tuple(name for name, value in ranking if value >= least)


def _ranked(probabilities: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    return tuple(sorted(probabilities.items(), key=lambda item: -item[1]))


def verdict(face: Face) -> str:
    """Return the answer in a few words: "happy 93%", or "unsure: angry 41% or fear 38%"."""
    names = [f"{name} {percent(face.probabilities[name])}" for name in face.candidates]
    return in_words(names, face.sure)


def short_verdict(face: Face) -> str:
    """Return the answer without percentages: "happy", or "unsure: angry or fear"."""
    return in_words(face.candidates, face.sure)


def in_words(names: Sequence[str], sure: bool) -> str:
    """Return the names of an answer as one phrase."""
    if sure:
        return names[0]
    return "unsure: " + (listed(names, "or") if len(names) > 1 else f"perhaps {names[0]}")
