"""A face that was found and read, and what is said of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from emotion.errors import ModelError
from emotion.text import listed, percent

CANDIDATE_SHARE = 0.5  # an unsure answer names classes with this share of the first's probability
MOST_CANDIDATES = 3  # more classes are no answer any more
PEOPLE = 10  # who named an expression for each face of FER+


@dataclass(frozen=True)
class Thresholds:
    """What is said of a model's answers; the defaults serve models whose card says nothing."""

    sure_from: float = 0.5  # least probability of the first class
    clear_margin: float = 0.1  # its least lead over the second
    accuracy_when_unsure: float | None = None  # how often it is right all the same; None: not known
    # softens probabilities into shares of people (fitted on FER+'s votes); None: it cannot be said
    agreement_temperature: float | None = None

    def met_by(self, probabilities: Iterable[float]) -> bool:
        """Return whether an answer with these probabilities of the classes is sure."""
        first, second = map(float, sorted((0.0, *probabilities), reverse=True)[:2])
        return first >= self.sure_from and first - second >= self.clear_margin

    def agreement(self, probabilities: Iterable[float]) -> int | None:
        """Return how many of 10 people would name the first class; None if that is not known."""
        if self.agreement_temperature is None:
            return None
        values = tuple(probabilities)
        shares = [(value / max(values)) ** (1 / self.agreement_temperature) for value in values]
        return int(PEOPLE / sum(shares) + 0.5)  # a half counts as one, as in JavaScript


@dataclass(frozen=True)
class Face:
    """One face of a photo and its emotion."""

    box_xywh: tuple[int, int, int, int]  # in pixels of the upright photo
    score: float  # how sure the detector is that this is a face, 0 to 1
    probabilities: Mapping[str, float]  # of the model's classes, in their order; they sum to 1
    notes: tuple[str, ...] = ()  # what may make the answer unreliable and what to do
    sure: bool = True  # whether the answer meets the model's `Thresholds`
    agreement: int | None = None  # how many of 10 people would say so; None: not known

    def __post_init__(self) -> None:
        if len(self.box_xywh) != 4 or min(self.box_xywh[2:]) < 1:
            raise ValueError(f"expected a box (x, y, width, height); received {self.box_xywh}")
        total = sum(self.probabilities.values())
        if abs(total - 1) > 1e-3:
            raise ValueError(f"expected probabilities that sum to 1; received a sum of {total}")
        object.__setattr__(self, "probabilities", MappingProxyType(dict(self.probabilities)))

    def __reduce__(self) -> tuple[Any, ...]:
        # a mappingproxy cannot be pickled, and faces travel between processes
        values = self.box_xywh, self.score, dict(self.probabilities), self.notes
        return Face, (*values, self.sure, self.agreement)

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
    """Return what to say of answers, by the `verdict` on a model's card; raises ModelError."""
    content = (card or {}).get("verdict")
    if content is None:
        return Thresholds()
    known = content if isinstance(content, Mapping) else {}
    values: dict[str, Any] = {field.name: known.get(field.name) for field in fields(Thresholds)}
    for name, value in values.items():
        least, most = (0.01, 100) if name == "agreement_temperature" else (0, 1)
        is_usable = type(value) in (int, float) and least <= value <= most
        if not is_usable and (value is not None or name in ("sure_from", "clear_margin")):
            raise ModelError(
                "expected a verdict with sure_from and clear_margin from 0 to 1, and perhaps an "
                "agreement_temperature from 0.01 to 100, on the model's card; received "
                f"{content!r}: train the model again or remove it from the card"
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
    return in_words(names, face.sure, face.agreement is not None)


def short_verdict(face: Face) -> str:
    """Return the answer without percentages: "happy", or "unsure: angry or fear"."""
    return in_words(face.candidates, face.sure, face.agreement is not None)


def in_words(names: Sequence[str], sure: bool, of_people: bool = False) -> str:
    """Return the names of an answer as one phrase; `of_people` where it is known what they say."""
    if sure:
        return names[0]
    words = listed(names, "or") if len(names) > 1 else f"perhaps {names[0]}"
    return f"{unsure_word(of_people)}: {words}"


def unsure_word(of_people: bool) -> str:
    """Return what an unsure answer begins with."""
    return "people would be split" if of_people else "unsure"


def people_say(face: Face) -> str:
    """Return "8 of 10 people would say happy", "" where people are split or it is not known."""
    if face.agreement is None or not face.sure:
        return ""
    return f"{face.agreement} of {PEOPLE} people would say {face.emotion}"
