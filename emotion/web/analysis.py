"""From a request to faces and pictures: what the pages and the API share."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flask import current_app, request
from PIL import Image

from emotion.drawing import annotate
from emotion.errors import EmptyImageError, ModelError
from emotion.images import ENOUGH_PIXELS, Photo, decode_photo, encode_jpeg
from emotion.model import EmotionModel
from emotion.recognizer import Recognizer
from emotion.results import Face, results_to_dict
from emotion.web.problems import UploadError
from emotion.web.settings import Settings
from emotion.web.storage import Storage

PHOTO_FIELD = "photo"
VIEW_SIDE = 1600
"""Longer side in pixels of the picture on the page; the download has the photo's full size."""

CROP_SIDE = 320
CROP_MARGIN = 0.25
"""How much of the surroundings a face's picture shows on each side, in widths of its box."""


@dataclass(frozen=True)
class Services:
    """What an app is made of; made once, shared by all threads.

    Attributes:
        settings: how the app runs.
        storage: where results are kept.
        recognizer: reads photos; None where no model could be loaded.
        model_problem: why there is no recognizer.
    """

    settings: Settings
    storage: Storage
    recognizer: Recognizer | None
    model_problem: str | None = None

    def require_recognizer(self) -> Recognizer:
        """Return the recognizer or raise a `ModelError` that says why there is none."""
        if self.recognizer is None:
            raise ModelError(self.model_problem or "expected a model; received none")
        return self.recognizer


@dataclass(frozen=True)
class Reading:
    """A photo that was read.

    Attributes:
        photo: the photo; its full size is decoded only where pictures of it are made.
        faces: the faces, left to right.
        results: the same as plain types for JSON.
    """

    photo: Photo
    faces: tuple[Face, ...]
    results: Mapping


def current_services() -> Services:
    """Return the services of the app that answers this request."""
    return current_app.extensions["emotion"]


def read_request(services: Services) -> Reading:
    """Return the faces of the photo that the current request brings.

    Raises:
        EmotionError: there is no model, not one photo, or it cannot be used.
    """
    recognizer = services.require_recognizer()
    photo = decode_photo(uploaded_photo(), services.settings.image_limits, ENOUGH_PIXELS)
    faces = recognizer.recognize(photo)
    model = recognizer.model
    return Reading(photo, faces, results_to_dict(faces, photo.size_wh, model.name, model.sha256))


def uploaded_photo() -> bytes:
    """Return the bytes of the one file in the field `photo` of the current request."""
    files = request.files.getlist(PHOTO_FIELD)
    if len(files) > 1:
        raise UploadError(f"expected one photo at a time; received {len(files)} files")
    if not files:
        raise UploadError(f"expected a file in the field {PHOTO_FIELD!r}; received {_received()}")
    content = files[0].read()
    if not content and not files[0].filename:
        raise UploadError("expected a photo; none was chosen")
    if not content:
        raise EmptyImageError("expected a photo; received an empty file")
    return content


def _received() -> str:
    """Return what a request without a photo brought, without repeating its words."""
    if PHOTO_FIELD in request.form:
        return "text"
    if request.mimetype != "multipart/form-data":
        return "a request that is not multipart/form-data"
    others = len(request.files) + len(request.form)
    return f"{others} other field{'s' if others > 1 else ''}" if others else "no field"


def pictures_of(reading: Reading) -> dict[str, bytes]:
    """Return file name -> JPEG: the annotated photo, a copy for the page, and every face."""
    image = reading.photo.full
    annotated = annotate(image, reading.faces)
    pictures = {
        "annotated.jpg": encode_jpeg(annotated),
        "view.jpg": encode_jpeg(reduced(annotated, VIEW_SIDE)),
    }
    for number, face in enumerate(reading.faces, start=1):
        pictures[f"face-{number}.jpg"] = encode_jpeg(face_picture(image, face))
    return pictures


def face_picture(image: np.ndarray, face: Face) -> np.ndarray:
    """Return a face with some of its surroundings: square where the photo is large enough."""
    height, width = image.shape[:2]
    x, y, face_width, face_height = face.box_xywh
    side = round(max(face_width, face_height) * (1 + 2 * CROP_MARGIN))
    left = _inside(x + face_width // 2 - side // 2, side, width)
    top = _inside(y + face_height // 2 - side // 2, side, height)
    return reduced(image[top : top + side, left : left + side], CROP_SIDE)


def _inside(start: int, length: int, limit: int) -> int:
    """Return the start of a stretch, moved so that as much of it as can be lies in [0, limit)."""
    return max(0, min(start, limit - length))


def reduced(image: np.ndarray, side: int) -> np.ndarray:
    """Return a copy whose longer side has at most `side` pixels; (H, W, 3) uint8 RGB."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2)
    return np.asarray(picture)


def model_facts(model: EmotionModel, folder: Path) -> dict:
    """Return what may be told about a model: name, SHA-256, runtime and notes without paths."""
    return {
        "name": model.name,
        "sha256": model.sha256,
        "runtime": model.runtime,
        "notes": [without_folders(note, folder) for note in model.notes],
    }


def without_folders(text: str, folder: Path) -> str:
    """Return a message in which files have names but no folders: visitors need not know those."""
    for known in (folder, folder.resolve()):
        text = text.replace(str(known), folder.name)
    return re.sub(r"(?<![\w./])/(?:[^\s/'\",;:()]+/)+", "", text)
