"""A model's card: the only place that reads one.

A card may come from anywhere. `load_card` refuses one that does not fit its model; `Card.of` takes
any content and leaves out what cannot be used, for those who only show it.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emotion.errors import ModelError
from emotion.text import listed

SHORT_SHA = 12
SPLITS = ("test", "private_test", "validation", "train")
"""Those that say most about a model come first."""

KNOWN_DATA = (("fer2013new", "FER+"), ("fer2013", "FER2013"), ("icml_face_data", "FER2013"))
"""How the names of well-known files begin, and what people call the data in them."""

PURPOSES = {
    "train": "to learn from",
    "validation": "to make choices on",
    "test": "to measure on",
    "private_test": "to measure on at the very end",
}


def read_card(path: Path) -> dict[str, Any] | None:
    """Return the content of a card, None if there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def load_card(path: Path, weights_sha256: str, input_shape: tuple[int, ...]) -> dict | None:
    """Return the card that a model is served with, None if it has none.

    Args:
        path: the card.
        weights_sha256: of the weights beside it.
        input_shape: that a model must have.

    Raises:
        ModelError: it cannot be read or used, or belongs to another model.
    """
    if not path.exists():
        return None
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        names, shape, sha256 = card["class_names"], card["input_shape"], card["weights_sha256"]
        well_formed = all(isinstance(name, str) for name in names) and len(set(names)) == len(names)
    except (OSError, RecursionError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"expected class_names, input_shape and weights_sha256 as JSON in {path.name}; "
            f"it cannot be used ({type(error).__name__}: {error})"
        ) from error
    if not well_formed or len(names) < 2:
        raise ModelError(f"expected different class names in {path.name}; received {names}")
    if tuple(shape) != input_shape:
        raise ModelError(f"expected input_shape {list(input_shape)}; {path.name} has {shape}")
    if sha256 != weights_sha256:
        raise ModelError(
            f"{path.name} belongs to weights with SHA-256 {sha256}; those beside it have "
            f"{weights_sha256}"
        )
    Serving.of(card)  # so that a damaged card is known before the first photo
    return card


@dataclass(frozen=True)
class Serving:
    """How photos are answered.

    Attributes:
        mirrored: average the answers to each face and to its mirror image.
        temperature: of that mean, fitted on validation data (Guo et al. 2017); 1 changes nothing.
    """

    mirrored: bool = False
    temperature: float = 1.0

    @classmethod
    def of(cls, content: Mapping | None) -> "Serving":
        """Return what a card says under `serving`; plain answers where it says nothing.

        Raises:
            ModelError: it cannot be used.
        """
        said = (content or {}).get("serving")
        if said is None:
            return cls()
        try:
            serving = cls(said["mirrored"] is True, float(said["temperature"]))
        except (KeyError, TypeError, ValueError):
            serving = cls(temperature=math.nan)
        if not 0 < serving.temperature < math.inf:
            raise ModelError(
                "expected mirrored (true or false) and a temperature above 0 as serving on the "
                f"model's card; received {said}"
            )
        return serving


@dataclass(frozen=True)
class Verdict:
    """How often sure and unsure answers were right, each share 0 to 1, on images of a split."""

    coverage: float
    accuracy_when_sure: float
    accuracy_when_unsure: float
    named_when_unsure: float
    images: int
    split: str


@dataclass(frozen=True)
class Card:
    """What a card says; what it does not say, or in no usable way, is empty or None.

    Attributes:
        content: the card itself; empty without one.
        class_names: in output order.
        weights_sha256: of the weights it belongs to.
        answers: "votes" (as most people see a face) or "labels" (as the dataset's labels).
        data: what people call the data that the model learned from.
        votes: what people call the votes on it.
        removed: images not learned from because they also stand in a test split.
        metrics: the figures of each split by name; `emotion.model.figures` reads them.
        mirrored: whether photos get the mean of the answers to a face and to its mirror image.
        verdict: None unless all of it is known.
    """

    content: Mapping[str, Any]
    class_names: tuple[str, ...]
    weights_sha256: str
    answers: str
    data: tuple[str, ...]
    votes: tuple[str, ...]
    removed: int | None
    metrics: Mapping[str, Mapping]
    mirrored: bool
    verdict: Verdict | None

    @classmethod
    def of(cls, content: Mapping | None) -> "Card":
        """Return the card with this content; None is no card."""
        content = content or {}
        dataset, names = part(content, "dataset"), content.get("class_names")
        removed = dataset.get("removed_because_also_in_test")
        metrics = part(content, "metrics")
        return cls(
            content=content,
            class_names=tuple(map(str, names)) if isinstance(names, list | tuple) else (),
            weights_sha256=_text(content.get("weights_sha256")),
            answers=_text(content.get("answers")),
            data=data_names(dataset.get("name")),
            votes=data_names(dataset.get("votes")),
            removed=removed if is_count(removed) else None,
            metrics={name: value for name, value in metrics.items() if isinstance(value, Mapping)},
            mirrored=part(content, "serving").get("mirrored") is True,
            verdict=_verdict(part(content, "verdict")),
        )

    @property
    def learned_from(self) -> int | None:
        """Return how many images the model learned from, None if that is not known."""
        images = part(part(self.content, "dataset"), "images").get("train")
        return images if is_count(images) else None

    @property
    def main_split(self) -> str:
        """Return the measured split that says most about the model, "" if there is none."""
        return next((name for name in SPLITS if name in self.metrics), "")

    @property
    def title(self) -> str:
        """Return what the model answers as, in words; "" if that is not known."""
        if self.answers == "votes":
            return "as most people see a face" + (f" ({listed(self.votes)})" if self.votes else "")
        if self.answers == "labels" and self.data:
            one, *more = self.data
            return f"as the labels of {listed(self.data)}" if more else f"as {one}'s labels"
        return ""

    def origin(self) -> list[tuple[str, str]]:
        """Return (term, text) of where the model comes from."""
        content = self.content
        dataset, versions = part(content, "dataset"), part(content, "versions")
        data = [str(dataset[key]) for key in ("name", "votes") if dataset.get(key)]
        images, notes = part(dataset, "images"), dataset.get("notes")
        counts = [
            f"{images[name]:,} {purpose}"
            for name, purpose in PURPOSES.items()
            if is_count(images.get(name)) and images[name]
        ]
        chosen = [part(content, "selection").get(key) for key in ("epoch", "epochs", "by")]
        calibration = part(content, "calibration")
        temperature = calibration.get("temperature")
        facts = {
            "Data": " and ".join(data),
            "Images": ", ".join(counts),
            "Taken out": f"{self.removed:,} images that also stand in a test split"
            if self.removed
            else "",
            "Skipped": f"{dataset['unreadable']:,} images that cannot be read"
            if is_count(dataset.get("unreadable")) and dataset["unreadable"]
            else "",
            "Remarks": "; ".join(map(str, notes)) if isinstance(notes, list) else "",
            "Network": _text(part(content, "settings").get("architecture")),
            "Started from": _model_names([content.get("started_from")]),
            "Learned from": _model_names(content.get("learned_from")),
            "Average of": _model_names(content.get("average_of")),
            "Chosen": "epoch {} of {}, by {}".format(*chosen) if all(chosen) else "",
            "Calibrated": f"on {calibration.get('split', 'labelled')} images with temperature "
            f"{temperature:.2f} (Guo et al. 2017)"
            if _is_number(temperature)
            else "",
            "Made": str(content.get("created") or ""),
            "Made with": ", ".join(f"{name} {number}" for name, number in versions.items()),
            "Fingerprint of the data": str(dataset.get("fingerprint") or "")[:16],
        }
        return [(term, text) for term, text in facts.items() if text]

    def settings(self) -> list[tuple[str, str]]:
        """Return (name, value) of each setting of the training."""
        settings = part(self.content, "settings")
        return [(str(name).replace("_", " "), str(value)) for name, value in settings.items()]


def data_names(files: object) -> tuple[str, ...]:
    """Return what people call the data in some files: "a/fer2013.csv" -> ("FER2013",)."""
    names = []
    for file in files.split(" + ") if isinstance(files, str) else ():
        name = re.split(r"[/\\]", file.strip().rstrip("/\\"))[-1]
        known = (title for start, title in KNOWN_DATA if name.lower().startswith(start))
        names.append(next(known, re.sub(r"\.(csv|zip|tar|gz|tgz|npz)\b", "", name)[:60]))
    return tuple(dict.fromkeys(filter(None, names)))


def part(content: Mapping, key: str) -> Mapping:
    """Return a part of a card, empty if it is missing or of another kind."""
    found = content.get(key)
    return found if isinstance(found, Mapping) else {}


def is_share(value: object) -> bool:
    """Return whether a value is a number from 0 to 1."""
    return _is_number(value) and 0 <= value <= 1  # type: ignore[operator]


def is_count(value: object) -> bool:
    """Return whether a value is a whole number from 0 on."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _verdict(content: Mapping) -> Verdict | None:
    names = ("coverage", "accuracy_when_sure", "accuracy_when_unsure", "named_when_unsure")
    shares, images = [content.get(name) for name in names], content.get("images")
    if not all(map(is_share, shares)) or not is_count(images) or not images:
        return None
    return Verdict(*shares, images, str(content.get("split") or "labelled"))


def _model_names(models: object) -> str:
    """Return the names of models, each with the start of its hash."""
    texts = []
    for model in models if isinstance(models, list) else ():
        if isinstance(model, Mapping) and model.get("name"):
            sha256 = _text(model.get("weights_sha256"))[:SHORT_SHA]
            texts.append(f"{model['name']} ({sha256})" if sha256 else str(model["name"]))
    return ", ".join(texts)
