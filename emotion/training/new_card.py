"""What the card of a new model says; `emotion.model.card` reads it."""

import contextlib
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import keras

from emotion.model.keras import ModelFiles
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
    return settings.shaping() | {
        "weights": Path(settings.starting_weights()).name,
        "teachers": [Path(stem).name for stem in settings.teachers],
        "votes_teachers": [Path(stem).name for stem in settings.votes_teachers],
    }


def named_with_hash(stem: str | Path) -> dict:
    """Return the name of a saved model and the hash of its weights."""
    files = ModelFiles(Path(stem))
    return {"name": files.name, "weights_sha256": files.hashes()["weights_sha256"]}
