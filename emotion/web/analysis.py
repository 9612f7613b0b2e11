"""From a request to faces and pictures: what the pages and the API share."""

import contextlib
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flask import current_app, request
from PIL import Image
from werkzeug.datastructures import FileStorage

from emotion.drawing import annotate
from emotion.errors import EmptyImageError, ModelError
from emotion.faces import Face, verdict
from emotion.files import available_cpus
from emotion.images.decoding import ENOUGH_PIXELS, Photo, decode_photo
from emotion.images.encoding import encode_jpeg, encode_png
from emotion.model.runtime import EmotionModel
from emotion.recognizer import Recognizer, Sight
from emotion.rows import results_to_dict
from emotion.web.database import Answers, Database, DatabaseError, PhotoRow
from emotion.web.errors import ChosenModelError, UploadError
from emotion.web.limits import Gate, client_key
from emotion.web.logs import LOGGER, note_photo
from emotion.web.models.offered import Models
from emotion.web.settings import Settings
from emotion.web.storage import GoneError, Storage, StorageError, new_id
from emotion.web.videos.service import Videos

PHOTO_FIELD = "photo"
MODEL_FIELD = "model"
VIEW_SIDE = 1600
"""Longer side in pixels of the picture on the page; the download has the photo's full size."""

THUMB_SIDE = 480
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
        database: whose photos are whose, and statistics.
        gate: how many photos may be in hand.
        models: what a visitor may choose among.
        videos: the videos that wait, are worked on, or are kept.
    """

    settings: Settings
    storage: Storage
    recognizer: Recognizer | None
    model_problem: str | None
    database: Database
    gate: Gate
    models: Models
    videos: Videos

    @classmethod
    def make(
        cls,
        settings: Settings,
        recognizer: Recognizer | None,
        model_problem: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> "Services":
        """Return the services around a recognizer; nothing is opened or written yet."""
        database = Database(settings.database)
        detector = recognizer.detector if recognizer else None
        models = Models(recognizer, settings.model, detector)
        return cls(
            settings,
            Storage(settings.uploads, settings.keep_s, clock),
            recognizer,
            model_problem,
            database,
            Gate(settings.max_in_hand, available_cpus()),
            models,
            Videos(settings, database, models, clock),
        )

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
        sights: the faces, left to right, each with what the model saw.
        results: the same as plain types for JSON.
        model: what the page says about the model.
    """

    photo: Photo
    sights: tuple[Sight, ...]
    results: Mapping
    model: Mapping

    @property
    def faces(self) -> tuple[Face, ...]:
        return tuple(sight.face for sight in self.sights)


def current_services() -> Services:
    """Return the services of the app that answers this request."""
    return current_app.extensions["emotion"]


def read_request(services: Services) -> Mapping:
    """Return the results of the one photo that the current request brings, not its pixels.

    Raises:
        EmotionError: there is no model, not one photo, or it cannot be used.
    """
    recognizer = chosen_recognizer(services)
    (file,) = uploaded_files(most=1)
    with services.gate.place(client_key()):
        return read_photo(services, recognizer, file.read()).results


def chosen_recognizer(services: Services) -> Recognizer:
    """Return the recognizer with the model that the current request chooses, or the default.

    To be called outside the gate: a model that is chosen for the first time is loaded.

    Raises:
        EmotionError: there is no model, or no such one.
    """
    services.require_recognizer()
    key = request.form.get(MODEL_FIELD, "")
    try:
        return services.models.get(key)
    except ModelError as error:
        raise ChosenModelError(
            f"expected the files of the model {key} to be whole; they are damaged, incomplete or "
            "being replaced"
        ) from error


def read_photo(services: Services, recognizer: Recognizer, content: bytes) -> Reading:
    """Return the faces of a photo; the caller holds a place at the gate.

    Args:
        services: what the app is made of.
        recognizer: what reads it.
        content: the photo's file.

    Raises:
        ImageError: the photo cannot be used.
    """
    if not content:
        raise EmptyImageError("expected a photo; received an empty file")
    photo = decode_photo(content, services.settings.image_limits, ENOUGH_PIXELS)
    sights = recognizer.look_many([photo])[0]
    note_photo(len(sights))
    faces, model = [sight.face for sight in sights], recognizer.model
    offered = services.models.find(request.form.get(MODEL_FIELD, ""))
    facts = model_facts(model, offered.stem.parent, offered.names) | {
        "accuracy_when_unsure": recognizer.thresholds.accuracy_when_unsure,
    }
    results = results_to_dict(faces, photo.size_wh, model.name, model.sha256)
    results["model"] |= offered.names
    return Reading(photo, sights, results, facts)


def keep(
    services: Services, reading: Reading, visitor: str, set_id: str, position: int
) -> PhotoRow:
    """Write the pictures of a photo that was read; return the row to `note`.

    Raises:
        StorageError: they cannot be written.
    """
    storage = services.storage
    photo_id = storage.save(reading.results, reading.model, pictures_of(reading), set_id)
    created_s = storage.clock()
    answers = Answers(
        candidates=tuple(face.candidates for face in reading.faces),
        verdicts=tuple(map(verdict, reading.faces)),
        model={name: reading.model[name] for name in ("key", "title")},
    )
    return PhotoRow(
        id=photo_id,
        set_id=set_id,
        position=position,
        visitor=visitor,
        created_s=created_s,
        expires_s=created_s + storage.keep_s,
        faces=len(reading.sights),
        emotions=answers.to_text(),
    )


def note(services: Services, rows: Sequence[PhotoRow], results: Sequence[Mapping]) -> None:
    """Note photos in the database and count them; nothing of them stays where that fails.

    To be called outside the gate: other photos must not wait for the database.

    Args:
        services: what the app is made of.
        rows: of all photos of a set.
        results: what `results_to_dict` gave for those that could be read.

    Raises:
        DatabaseError: the database cannot be written.
    """
    try:
        services.database.remember(*rows)
    except DatabaseError:
        drop(services, rows)
        raise
    count(services, results)


def drop(services: Services, rows: Sequence[PhotoRow]) -> None:
    """Remove the pictures of photos that could not be noted, as far as they can be removed."""
    for row in rows:
        with contextlib.suppress(GoneError, StorageError):
            services.storage.delete(row.id)


def unread_row(
    services: Services, problem: str, visitor: str, set_id: str, position: int
) -> PhotoRow:
    """Return the row that notes of a photo in a set why it could not be read."""
    now_s = services.storage.clock()
    expires_s = now_s + services.storage.keep_s
    return PhotoRow(new_id(), set_id, position, visitor, now_s, expires_s, 0, problem=problem)


def count(services: Services, results: Sequence[Mapping]) -> None:
    """Count photos, outside the gate; where that fails, the answer is worth giving all the same."""
    try:
        for each in results:
            services.database.count(each, services.storage.clock())
    except DatabaseError as error:
        logging.getLogger(LOGGER).warning("a photo is missing in the statistics: %s", error)


def uploaded_files(most: int, field: str = PHOTO_FIELD) -> list[FileStorage]:
    """Return the files, one at least, in a field of the current request.

    Args:
        most: how many there may be.
        field: `photo`, or `video`.

    Raises:
        UploadError: there are none or too many.
        EmptyImageError: the only one is empty.
    """
    files = request.files.getlist(field)
    if len(files) > most:
        at_a_time = f"one {field}" if most == 1 else f"up to {most} {field}s"
        raise UploadError(f"expected {at_a_time} at a time; received {len(files)} files")
    if not files:
        raise UploadError(f"expected a file in the field {field!r}; received {_received(field)}")
    if not files[0].filename and not files[0].read(1):
        raise UploadError(f"expected a {field}; none was chosen")
    files[0].seek(0)
    return files


def _received(field: str) -> str:
    """Return what a request without its file brought, without repeating its words."""
    if field in request.form:
        return "text"
    if request.mimetype != "multipart/form-data":
        return "a request that is not multipart/form-data"
    others = len(request.files) + len(request.form)
    return f"{others} other field{'s' if others > 1 else ''}" if others else "no field"


def pictures_of(reading: Reading) -> dict[str, bytes]:
    """Return file name -> the annotated photo, copies of it for pages, and pictures of each face.

    What the model saw of a face is kept as PNG, so that it can be explained later on.
    """
    image = reading.photo.full
    annotated = annotate(image, reading.faces)
    view = reduced(annotated, VIEW_SIDE)
    pictures = {
        "annotated.jpg": encode_jpeg(annotated),
        "view.jpg": encode_jpeg(view),
        "thumb.jpg": encode_jpeg(reduced(view, THUMB_SIDE)),
    }
    for number, sight in enumerate(reading.sights, start=1):
        pictures[f"face-{number}.jpg"] = encode_jpeg(face_picture(image, sight.face))
        pictures[f"input-{number}.png"] = encode_png(_as_rgb(sight.crop))
    return pictures


def crop_from_picture(content: bytes) -> np.ndarray:
    """Return what the model saw of a face, (48, 48, 1) float32 in [0, 1], from its `input` file."""
    grey = decode_photo(content).full[..., :1]
    return grey.astype(np.float32) / 255


def _as_rgb(crop: np.ndarray) -> np.ndarray:
    """Return a crop as a picture, (48, 48, 3) uint8."""
    return np.repeat(np.round(crop * 255).astype(np.uint8), 3, axis=2)


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


def model_facts(model: EmotionModel, folder: Path, names: Mapping[str, str]) -> dict:
    """Return what may be told about a model: its names, SHA-256, runtime, notes without paths."""
    return {
        **names,
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
