"""What kept work must share with what is asked for: the same data, the same settings."""

import json
from pathlib import Path

from emotion.errors import TrainingError
from emotion.training.data.datasets import Dataset
from emotion.training.settings import TrainingSettings


def identity_of(dataset: Dataset, settings: TrainingSettings) -> dict:
    """Return the data's fingerprint and the settings that shape a training, as JSON gives it."""
    return json.loads(json.dumps({"data": dataset.fingerprint(), **settings.shaping()}))


def require_same(before: dict, identity: dict, path: Path, kept: str, way_out: str) -> None:
    """Check that a file holds work on the same data and settings.

    Args:
        before: identity of the work in the file.
        identity: of what is asked for.
        path: the file.
        kept: what it holds: "a fold".
        way_out: what to do otherwise.

    Raises:
        TrainingError: data or settings differ.
    """
    for key, value in identity.items():
        if before.get(key) != value:
            held = "other data" if key == "data" else f"{key} {before.get(key)!r}"
            received = "" if key == "data" else f"; received {value!r}"
            raise TrainingError(f"{path} holds {kept} with {held}{received}; {way_out}")
