"""What was found: the `Face`, and its forms as JSON, CSV and as a line of text."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from emotion.errors import ModelError
from emotion.text import listed, percent

SCHEMA = 1
"""Version of the JSON form; it grows when a field changes its meaning or goes away."""

CANDIDATE_SHARE = 0.5
"""An unsure answer names the classes with at least this share of the first one's probability."""

MOST_CANDIDATES = 3
"""More classes than this are no answer any more."""

CSV_COLUMNS = (
    "photo face x y width height score emotion confidence sure candidates notes problem verdict"
).split()
"""The columns of the CSV form beside the probabilities, which stand before the notes."""

FORMULA_STARTS = tuple("=+-@＝＋－＠")
"""A spreadsheet may run a cell of text that begins so as a formula, in Asia the wide forms too."""


@dataclass(frozen=True)
class Thresholds:
    """When a model's answer is sure; the defaults serve models whose card says nothing.

    Attributes:
        sure_from: least probability of the first class.
        clear_margin: least lead of the first class over the second.
        accuracy_when_unsure: how often the first class was right all the same where an answer was
            unsure, 0 to 1; None where not known.
    """

    sure_from: float = 0.5
    clear_margin: float = 0.1
    accuracy_when_unsure: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is None and name == "accuracy_when_unsure":
                continue
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not 0 <= value <= 1:
                raise ValueError(f"expected {name} from 0 to 1; received {value!r}")

    def met_by(self, probabilities: Iterable[float]) -> bool:
        """Return whether an answer with these probabilities of the classes is sure."""
        first, second = map(float, sorted((0.0, *probabilities), reverse=True)[:2])
        return first >= self.sure_from and first - second >= self.clear_margin


@dataclass(frozen=True)
class Face:
    """One face of a photo and its emotion.

    Attributes:
        box_xywh: left, top, width and height in pixels of the upright photo.
        score: how sure the detector is that this is a face; higher is surer.
        probabilities: class name -> probability, in the order of the model's classes; sums to 1.
        notes: what may make the answer unreliable and what to do, in words for the person.
        sure: whether the answer meets the model's `Thresholds`.
    """

    box_xywh: tuple[int, int, int, int]
    score: float
    probabilities: Mapping[str, float]
    notes: tuple[str, ...] = ()
    sure: bool = True

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


def face_to_dict(face: Face) -> dict[str, Any]:
    """Return a face as plain types for JSON."""
    return {
        "box": dict(zip(("x", "y", "width", "height"), map(int, face.box_xywh), strict=True)),
        "score": round(float(face.score), 4),
        "emotion": face.emotion,
        "confidence": round(face.confidence, 6),
        "probabilities": {name: round(value, 6) for name, value in face.probabilities.items()},
        "sure": face.sure,
        "verdict": verdict(face),
        "candidates": list(face.candidates),
        "runner_up": face.runner_up,
        "notes": list(face.notes),
    }


def face_from_dict(content: Mapping[str, Any]) -> Face:
    """Return the face that `face_to_dict` made `content` from, up to rounding.

    Before there was `sure`, an answer was unsure when it had a `runner_up`.
    """
    box = content["box"]
    return Face(
        box_xywh=(box["x"], box["y"], box["width"], box["height"]),
        score=content["score"],
        probabilities=content["probabilities"],
        notes=tuple(content["notes"]),
        sure=content.get("sure", content["runner_up"] is None),
    )


def results_to_dict(
    faces: Sequence[Face], size_wh: tuple[int, int], model_name: str, model_sha256: str
) -> dict[str, Any]:
    """Return the results of one photo as plain types: the JSON schema of API, files and shell.

    Args:
        faces: the faces, in order.
        size_wh: width and height of the upright photo in pixels.
        model_name: name of the model that read the emotions.
        model_sha256: SHA-256 of its weights file, in hexadecimal.
    """
    return {
        "schema": SCHEMA,
        "model": {"name": model_name, "sha256": model_sha256},
        "image": {"width": int(size_wh[0]), "height": int(size_wh[1])},
        "faces": [face_to_dict(face) for face in faces],
    }


def results_to_csv(photos: Iterable[tuple[str, Mapping[str, Any] | str]]) -> str:
    """Return the results of photos as CSV (RFC 4180), one row a face.

    A photo without a face or with a problem has one row without a face. For spreadsheets that
    expect a byte order mark, encode it as `utf-8-sig`, which pandas reads as well.

    Args:
        photos: name of each photo, and its results from `results_to_dict` or, where it could not be
            read, a sentence that says why.
    """
    rows = [row for name, results in photos for row in csv_rows(results, name)]
    known = dict.fromkeys(column for row in rows for column in row)
    probabilities = [column for column in known if column not in CSV_COLUMNS]
    place = CSV_COLUMNS.index("notes")
    columns = [*CSV_COLUMNS[:place], *probabilities, *CSV_COLUMNS[place:]]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def csv_rows(results: Mapping[str, Any] | str, photo_name: str) -> list[dict[str, Any]]:
    """Return the rows of one photo, column -> value; columns that do not apply are not there.

    Args:
        results: from `results_to_dict`, or a sentence that says why there are none.
        photo_name: name of the photo.
    """
    photo = {"photo": safe_cell(photo_name)}
    if isinstance(results, str):
        return [photo | {"problem": safe_cell(results)}]
    faces = [face_from_dict(content) for content in results["faces"]]
    rows = [photo | {"face": number} | _csv_face(face) for number, face in enumerate(faces, 1)]
    return rows or [photo]


def _csv_face(face: Face) -> dict[str, Any]:
    """Return the columns of one face, column -> value."""
    chances = {f"probability_{name}": round(p, 6) for name, p in face.probabilities.items()}
    return {
        **dict(zip(("x", "y", "width", "height"), face.box_xywh, strict=True)),
        "score": face.score,
        "emotion": safe_cell(face.emotion),
        "confidence": round(face.confidence, 6),
        "sure": face.sure,
        "candidates": safe_cell(", ".join(face.candidates)),
        **chances,
        "notes": safe_cell("; ".join(face.notes)),
        "verdict": safe_cell(verdict(face)),
    }


def safe_cell(text: str) -> str:
    """Return text that a spreadsheet shows as it is and never runs (OWASP, "CSV Injection").

    Control characters become spaces, and an apostrophe stands before what would be a formula.
    """
    visible = "".join(letter if letter.isprintable() else " " for letter in text)
    return f"'{visible}" if visible.lstrip().startswith(FORMULA_STARTS) else visible


def read_thresholds(card: Mapping[str, Any] | None) -> Thresholds:
    """Return when answers are sure, from the `verdict` of a model's card or else by default.

    Raises:
        ModelError: the card has a `verdict` that cannot be used.
    """
    content = None if card is None else card.get("verdict")
    if content is None:
        return Thresholds()
    try:
        known = {field.name: content.get(field.name) for field in fields(Thresholds)}
        return Thresholds(**known)
    except (AttributeError, ValueError) as error:
        raise ModelError(
            "expected a verdict with sure_from and clear_margin from 0 to 1 on the model's card; "
            f"received {content!r}: train the model again or remove the verdict from the card"
        ) from error


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
