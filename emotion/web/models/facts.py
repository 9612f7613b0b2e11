"""What visitors may be told about a model; used by the video process too, so without Flask."""

import re
from pathlib import Path

from emotion.model.runtime import EmotionModel


def model_facts(model: EmotionModel, folder: Path) -> dict:
    """Return name, SHA-256, runtime and notes of a model, without paths."""
    return {
        "name": model.name,
        "sha256": model.sha256,
        "runtime": model.runtime,
        "notes": [without_folders(note, folder) for note in model.notes],
    }


def without_folders(text: str, folder: Path) -> str:
    """Return a message that names files but not their folders, which are not for visitors."""
    for known in (folder, folder.resolve()):
        text = text.replace(str(known), folder.name)
    return re.sub(r"(?<![\w./])/(?:[^\s/'\",;:()]+/)+", "", text)
