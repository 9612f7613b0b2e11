"""A model's card, which may come from anywhere: the only place that reads one.

`load_card` refuses one that does not fit its model; `Card` leaves out what cannot be shown.
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
SPLITS = ("test", "private_test", "validation", "train")  # those that say most come first
PURPOSES = {
    "train": "to learn from",
    "validation": "to make choices on",
    "test": "to measure on",
    "private_test": "to measure on at the very end",
}

# how the names of well-known files begin, and what people call the data in them
KNOWN_DATA = (("fer2013new", "FER+"), ("fer2013", "FER2013"), ("icml_face_data", "FER2013"))


def read_card(path: Path) -> dict[str, Any] | None:
    """Return the content of a card, None if there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def load_card(path: Path, weights_sha256: str, input_shape: tuple[int, ...]) -> dict | None:
    """Return the card that a model is served with, None if it has none; raises ModelError."""
    if not path.exists():
        return None
    sha256 = f"SHA-256 {weights_sha256}"
    card = read_card(path) or {}
    names = card.get("class_names")
    are_names = isinstance(names, list) and all(isinstance(name, str) for name in names)
    checks = (
        ("class_names", are_names and len(set(names)) == len(names) > 1, "different names"),
        ("input_shape", card.get("input_shape") == list(input_shape), list(input_shape)),
        ("weights_sha256", card.get("weights_sha256") == weights_sha256, sha256),
    )
    for key, is_right, expected in checks:
        if not is_right:
            raise ModelError(
                f"expected {expected} as {key} in {path.name}, the card of the weights beside it; "
                f"received {card.get(key)}"
            )
    Serving.of(card)  # so that a damaged card is known before the first photo
    return card


@dataclass(frozen=True)
class Serving:  # how photos are answered
    mirrored: bool = False  # with the mean of the answers to a face and to its mirror image
    temperature: float = 1.0  # of that mean, fitted on validation data (Guo et al. 2017)

    @classmethod
    def of(cls, content: Mapping | None) -> "Serving":
        """Return what a card says under `serving`, else plain answers; raises ModelError."""
        if (said := (content or {}).get("serving")) is None:
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


class Card:
    """What a card says; what it does not say, or in no usable way, is empty or None."""

    def __init__(self, content: Mapping | None):
        content = self.content = content or {}
        dataset, names = part(content, "dataset"), content.get("class_names")
        self.class_names = tuple(map(str, names)) if isinstance(names, list | tuple) else ()
        self.weights_sha256 = _text(content.get("weights_sha256"))
        # "votes" (as most people see a face) or "labels" (as the dataset's labels)
        self.answers = _text(content.get("answers"))
        # what people call the data that the model learned from, and the votes on it
        self.data = _data_names(dataset.get("name"))
        self.votes = _data_names(dataset.get("votes"))
        self.learned_from = _count(part(dataset, "images"), "train")  # so many images
        # images not learned from because they also stand in a test split
        self.removed = _count(dataset, "removed_because_also_in_test")
        # figures by split, for `emotion.model.figures`
        self.metrics = {k: v for k, v in part(content, "metrics").items() if isinstance(v, Mapping)}
        # the measured split that says most about the model, "" if there is none
        self.main_split = next((name for name in SPLITS if name in self.metrics), "")
        self.mirrored = part(content, "serving").get("mirrored") is True
        self.verdict = _verdict(part(content, "verdict"))

    @property
    def title(self) -> str:
        """Return what the model answers as, in words; "" if that is not known."""
        if self.answers == "votes":
            return "everyday photos" + (f" ({listed(self.votes)})" if self.votes else "")
        if self.answers == "labels" and self.data:
            one, *more = self.data
            return f"the labels of {listed(self.data)}" if more else f"{one}'s labels"
        return ""

    def origin(self) -> list[tuple[str, str]]:
        """Return (term, text) of where the model comes from."""
        content = self.content
        dataset, versions = part(content, "dataset"), part(content, "versions")
        images, notes = part(dataset, "images"), dataset.get("notes")
        counts = [(_count(images, name), purpose) for name, purpose in PURPOSES.items()]
        removed, unreadable = self.removed, _count(dataset, "unreadable")
        chosen = [part(content, "selection").get(key) for key in ("epoch", "epochs", "by")]
        calibration = part(content, "calibration")
        split, temperature = calibration.get("split", "labelled"), calibration.get("temperature")
        calibrated = ""
        if _is_number(temperature):
            calibrated = f"on {split} images with temperature {temperature:.2f} (Guo et al. 2017)"
        facts = {
            "Data": " and ".join(str(dataset[k]) for k in ("name", "votes") if dataset.get(k)),
            "Images": ", ".join(f"{count:,} {purpose}" for count, purpose in counts if count),
            "Taken out": removed and f"{removed:,} images that also stand in a test split",
            "Skipped": unreadable and f"{unreadable:,} images that cannot be read",
            "Remarks": "; ".join(map(str, notes)) if isinstance(notes, list) else "",
            "Network": _text(part(content, "settings").get("architecture")),
            "Started from": _model_names([content.get("started_from")]),
            "Learned from": _model_names(content.get("learned_from")),
            "Average of": _model_names(content.get("average_of")),
            "Converted from": _model_names([content.get("converted_from")]),
            "Chosen": "epoch {} of {}, by {}".format(*chosen) if all(chosen) else "",
            "Calibrated": calibrated,
            "Made": str(content.get("created") or ""),
            "Made with": ", ".join(f"{name} {number}" for name, number in versions.items()),
            "Fingerprint of the data": str(dataset.get("fingerprint") or "")[:16],
        }
        return [(term, text) for term, text in facts.items() if text]

    def settings(self) -> list[tuple[str, str]]:
        """Return (name, value) of each setting that had a part in the training."""
        values = part(self.content, "settings")
        votes_as = values.get("votes_as") if self.votes else ""
        is_imagenet = str(values.get("weights")).endswith(("imagenet", ".h5"))
        used = {"seed": True, "folds": values.get("fold"), "votes_as": votes_as}
        used |= {"blend": votes_as == "blend", "labels_share": votes_as == "second-head"}
        used |= {"smallest_side": values.get("smallest_side") != 48}
        used |= dict.fromkeys(("teacher_share", "teacher_temperature"), values.get("teachers"))
        used |= dict.fromkeys(("frozen_epochs", "fine_tuning_rate"), is_imagenet)
        shown = {  # what is off or empty had no part, nor what matters with that alone
            str(name).replace("_", " "): value
            for name, value in values.items()
            if used.get(name, value not in ("", "none") and value)
        }
        return [
            (k, " ".join(map(str, v)) if isinstance(v, list) else str(v)) for k, v in shown.items()
        ]


def part(content: Mapping, key: str) -> Mapping:
    """Return a part of a card, empty if it is missing or of another kind."""
    found = content.get(key)
    return found if isinstance(found, Mapping) else {}


def _count(content: Mapping, key: str) -> int | None:
    value = content.get(key)
    return value if isinstance(value, int) and _is_number(value) and value >= 0 else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _data_names(files: object) -> tuple[str, ...]:
    """Return what people call the data in some files: "a/fer2013.csv" -> ("FER2013",)."""
    names = []
    for file in _text(files).split(" + "):
        name = re.split(r"[/\\]", file.strip().rstrip("/\\"))[-1]
        known = (title for start, title in KNOWN_DATA if name.lower().startswith(start))
        names.append(next(known, re.sub(r"\.(csv|zip|tar|gz|tgz|npz)\b", "", name)[:60]))
    return tuple(dict.fromkeys(filter(None, names)))


def _verdict(content: Mapping) -> dict[str, Any] | None:
    """Return shares (0 to 1) of sure and of right answers on `images` of a `split`, if known."""
    names = ("coverage", "accuracy_when_sure", "accuracy_when_unsure", "named_when_unsure")
    shares, images = {name: content.get(name) for name in names}, _count(content, "images")
    if not images or not all(_is_number(share) and 0 <= share <= 1 for share in shares.values()):
        return None
    return {**shares, "images": images, "split": str(content.get("split") or "labelled")}


def _model_names(models: object) -> str:
    texts = []
    for model in models if isinstance(models, list) else ():
        if isinstance(model, Mapping) and model.get("name"):
            sha256 = _text(model.get("weights_sha256"))[:SHORT_SHA]
            texts.append(f"{model['name']} ({sha256})" if sha256 else str(model["name"]))
    return ", ".join(texts)
