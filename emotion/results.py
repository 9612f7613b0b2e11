"""What was found: the `Face`, and its forms as JSON and as a line of text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

SCHEMA = 1
"""Version of the JSON form; it grows when a field changes its meaning or goes away."""

CLOSE_CALL_MARGIN = 0.1
"""The answer is a close call when the second class is less than this far behind the first."""


@dataclass(frozen=True)
class Face:
    """One face of a photo and its emotion.

    Attributes:
        box_xywh: left, top, width and height in pixels of the upright photo.
        score: how sure the detector is that this is a face; higher is surer.
        probabilities: class name -> probability, in the order of the model's classes; sums to 1.
        notes: what may make the answer unreliable, in words for the person.
    """

    box_xywh: tuple[int, int, int, int]
    score: float
    probabilities: Mapping[str, float]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.box_xywh) != 4 or min(self.box_xywh[2:]) < 1:
            raise ValueError(f"expected a box (x, y, width, height); received {self.box_xywh}")
        total = sum(self.probabilities.values())
        if abs(total - 1) > 1e-3:
            raise ValueError(f"expected probabilities that sum to 1; received a sum of {total}")
        object.__setattr__(self, "probabilities", MappingProxyType(dict(self.probabilities)))

    def __reduce__(self):
        # a mappingproxy cannot be pickled, and faces travel between processes
        return Face, (self.box_xywh, self.score, dict(self.probabilities), self.notes)

    @property
    def ranking(self) -> tuple[tuple[str, float], ...]:
        """Return (class name, probability), most probable first; ties in class order."""
        return tuple(sorted(self.probabilities.items(), key=lambda item: -item[1]))

    @property
    def emotion(self) -> str:
        """Return the most probable class."""
        return self.ranking[0][0]

    @property
    def confidence(self) -> float:
        """Return the probability of the most probable class, 0 to 1."""
        return self.ranking[0][1]

    @property
    def runner_up(self) -> str | None:
        """Return the second class when it is close behind the first, else None."""
        (_, first), (name, second), *_ = self.ranking
        return name if first - second < CLOSE_CALL_MARGIN else None


def face_to_dict(face: Face) -> dict:
    """Return a face as plain types for JSON."""
    return {
        "box": dict(zip(("x", "y", "width", "height"), map(int, face.box_xywh), strict=True)),
        "score": round(float(face.score), 4),
        "emotion": face.emotion,
        "confidence": round(face.confidence, 6),
        "probabilities": {name: round(value, 6) for name, value in face.probabilities.items()},
        "runner_up": face.runner_up,
        "notes": list(face.notes),
    }


def face_from_dict(content: Mapping) -> Face:
    """Return the face that `face_to_dict` made `content` from, up to rounding."""
    box = content["box"]
    return Face(
        box_xywh=(box["x"], box["y"], box["width"], box["height"]),
        score=content["score"],
        probabilities=content["probabilities"],
        notes=tuple(content["notes"]),
    )


def results_to_dict(
    faces: Sequence[Face], size_wh: tuple[int, int], model_name: str, model_sha256: str
) -> dict:
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


def verdict(face: Face) -> str:
    """Return the answer in a few words: "happy 93 %", or "angry 41 % or fear 38 %"."""
    text = f"{face.emotion} {percent(face.confidence)}"
    if face.runner_up is None:
        return text
    return f"{text} or {face.runner_up} {percent(face.probabilities[face.runner_up])}"


def percent(probability: float) -> str:
    """Return a probability as a whole percentage that never claims certainty: 1 % to 99 %."""
    if probability > 0.99:
        return ">99 %"
    if probability < 0.01:
        return "<1 %"
    return f"{probability * 100:.0f} %"
