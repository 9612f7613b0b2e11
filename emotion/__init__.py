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

_HOMES = {
    "detection.boxes": ("Detection",),
    "detection.yunet": ("YunetDetector",),
    "errors": ("EmotionError", "ImageError", "ModelError"),
    "explain": ("Explanation",),
    "faces": ("Face",),
    "labels": ("EMOTIONS",),
    "notebook": ("Recognition", "Recognitions"),
    "recognizer": ("Detector", "Recognizer"),
}


def __getattr__(name: str) -> object:  # PEP 562
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
