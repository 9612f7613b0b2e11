"""What the card of a new model says; `emotion.model.card` reads it."""

import contextlib
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import keras

from emotion.model.keras import ModelFiles
from emotion.training.data.datasets import Dataset
from emotion.training.data.splits import Leaks
from emotion.training.settings import TrainingSettings

CARD_VERSION = 1
LIBRARIES = ("keras", "tensorflow", "numpy", "onnxruntime", "scikit-learn")


def new_card(
    staged: ModelFiles, class_names: Sequence[str], settings: TrainingSettings, facts: dict
) -> dict:
    """Return what a reader and the app need to know about a saved model; facts are put over it."""
    versions = {"python": platform.python_version(), "backend": keras.backend.backend()}
    for library in LIBRARIES:
        with contextlib.suppress(ModuleNotFoundError):
            versions[library] = version(library)
    return {
        "card": CARD_VERSION,
        "name": settings.name,
        "created": datetime.now(UTC).date().isoformat(),
        "class_names": list(class_names),
        "input_shape": [48, 48, 1],
        **staged.hashes(),
        **facts,
        "settings": without_folders(settings),
        "versions": versions,
    }


def without_folders(settings: TrainingSettings) -> dict:
    """Return the settings with the names of models, without their folders."""
    teachers, votes_teachers = (
        [Path(stem).name for stem in stems]
        for stems in (settings.teachers, settings.votes_teachers)
    )
    weights = Path(settings.starting_weights()).name
    names = {"weights": weights, "teachers": teachers, "votes_teachers": votes_teachers}
    return settings.shaping() | names


def data_facts(dataset: Dataset, leaks: Leaks, settings: TrainingSettings) -> dict:
    """Return what a card says of the data."""
    return {
        "name": " + ".join(Path(path).name for path in settings.dataset),
        "votes": Path(settings.votes).name if settings.votes else None,
        "fingerprint": dataset.fingerprint(),
        "images": {name: len(dataset.split(name)) for name in dataset.split_names()},
        "removed_because_also_in_test": leaks.identical + leaks.similar,
        "unreadable": len(dataset.unreadable),
        "notes": list(dataset.notes),
    }


def started_from(settings: TrainingSettings) -> dict | None:
    """Return what the training started from, None if from random weights."""
    weights = settings.starting_weights()
    if weights == "none":
        return None
    if weights == "imagenet" or weights.endswith(".h5"):
        return {"name": Path(weights).name}
    return named_with_hash(Path(weights))


def named_with_hash(stem: Path) -> dict:
    """Return the name of a saved model and the hash of its weights."""
    files = ModelFiles(stem)
    return {"name": files.name, "weights_sha256": files.hashes()["weights_sha256"]}
