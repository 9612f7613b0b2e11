"""The files of the search: Haar cascades from OpenCV's wheel, and the template of a face."""

from pathlib import Path

import cv2

from emotion.errors import ModelError
from emotion.files import models_folder

TEMPLATE_SIDE_PX = 48  # side in pixels of the window of the face template

CASCADE_FILES = {  # in OpenCV's wheel
    "default": "haarcascade_frontalface_default.xml",
    "alt": "haarcascade_frontalface_alt.xml",
    "alt2": "haarcascade_frontalface_alt2.xml",
    "profile": "haarcascade_profileface.xml",
    "eye": "haarcascade_eye.xml",
    "eye_glasses": "haarcascade_eye_tree_eyeglasses.xml",
}

# histogram of oriented gradients and its linear classifier (Dalal and Triggs, 2005), as OpenCV
# saves them; `benchmarks/face_template.py` fits it
FACE_TEMPLATE = models_folder() / "face_template.yml"


def load_cascades() -> dict[str, "cv2.CascadeClassifier"]:
    """Return a fresh classifier for each of `CASCADE_FILES`. Raises ModelError."""
    if not hasattr(cv2, "CascadeClassifier") or not hasattr(cv2, "data"):
        raise ModelError(
            "expected OpenCV 4, whose wheel brings Haar cascades; "
            f"received OpenCV {cv2.__version__} without them"
        )
    cascades = {}
    for name, file in CASCADE_FILES.items():
        path = Path(cv2.data.haarcascades) / file
        try:
            cascades[name] = cv2.CascadeClassifier(str(path)) if path.is_file() else None
        except (cv2.error, SystemError) as error:
            message = f"expected a Haar cascade in {path}; it is damaged: {error}"
            raise ModelError(message) from error
        if cascades[name] is None or cascades[name].empty():
            raise ModelError(f"expected a Haar cascade of OpenCV's wheel at {path}; found none")
    return cascades


def load_template(path: Path = FACE_TEMPLATE) -> "cv2.HOGDescriptor":
    """Return the face template of a file. Raises ModelError."""
    template = cv2.HOGDescriptor()
    try:
        loaded = path.is_file() and template.load(str(path))
    except (cv2.error, SystemError) as error:
        raise ModelError(f"expected a face template in {path}; it is damaged: {error}") from error
    size_wh = TEMPLATE_SIDE_PX, TEMPLATE_SIDE_PX
    if not loaded or template.winSize != size_wh or not template.checkDetectorSize():
        expected = f"expected a face template of {TEMPLATE_SIDE_PX} pixels"
        raise ModelError(f"{expected} in {path}; found none")
    return template
