"""Find faces in photos and read their emotions: `Recognizer.load().recognize("photo.jpg")`.

What is named here is the public API (docs/python.md). Each name is imported when it is first used,
so that importing this package loads no OpenCV, ONNX Runtime or TensorFlow.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emotion.detection.boxes import Detection
    from emotion.detection.yunet import YunetDetector
    from emotion.errors import EmotionError, ImageError, ModelError
    from emotion.explain import Explanation
    from emotion.faces import Face
    from emotion.labels import EMOTIONS
    from emotion.notebook import Recognition, Recognitions
    from emotion.recognizer import Detector, Recognizer

__version__ = "1.0.0"

__all__ = [
    "EMOTIONS",
    "Detection",
    "Detector",
    "EmotionError",
    "Explanation",
    "Face",
    "ImageError",
    "ModelError",
    "Recognition",
    "Recognitions",
    "Recognizer",
    "YunetDetector",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    homes = {
        "EMOTIONS": "labels",
        "Detection": "detection.boxes",
        "Detector": "recognizer",
        "EmotionError": "errors",
        "Explanation": "explain",
        "Face": "faces",
        "ImageError": "errors",
        "ModelError": "errors",
        "Recognition": "notebook",
        "Recognitions": "notebook",
        "Recognizer": "recognizer",
        "YunetDetector": "detection.yunet",
    }
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{homes[name]}"), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
