"""From a request to faces: its files, the model it chooses, and what is kept of a photo."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask import request
from werkzeug.datastructures import FileStorage

from emotion.errors import (
    ChosenModelError,
    DatabaseError,
    EmptyImageError,
    GoneError,
    ModelError,
    StorageError,
    UploadError,
    VideoUploadError,
)
from emotion.faces import verdict
from emotion.images.decoding import ENOUGH_PIXELS, Photo, decode_photo
from emotion.recognizer import Recognizer, Sight
from emotion.rows import results_to_dict
from emotion.text import counted
from emotion.web.database import Answers, PhotoRow
from emotion.web.logs import LOGGER, note_photo
from emotion.web.models.facts import model_facts
from emotion.web.photos.pictures import pictures_of
from emotion.web.services import Services
from emotion.web.storage import new_id

PHOTO_FIELD = "photo"
MODEL_FIELD = "model"


@dataclass(frozen=True)
class Reading:
    """A photo that was read.

    Attributes:
        photo: the photo; its full size is decoded only when pictures of it are made.
        sights: the faces, left to right, each with what the model saw.
        results: the same as plain types for JSON.
        model: what the page says about the model.
    """

    photo: Photo
    sights: Sequence[Sight]
    results: Mapping
    model: Mapping

    def pictures(self) -> dict[str, bytes]:
        """Return file name -> picture."""
        return pictures_of(self.photo.full, self.sights)


def uploaded_files(most: int, field: str = PHOTO_FIELD) -> list[FileStorage]:
    """Return the files, at least one, in a field of the current request.

    Args:
        most: how many there may be.
        field: `photo`, or `video`.

    Raises:
        UploadError: there are none or too many.
    """
    kind = UploadError if field == PHOTO_FIELD else VideoUploadError
    files = request.files.getlist(field)
    if len(files) > most:
        at_a_time = f"one {field}" if most == 1 else f"up to {most} {field}s"
        raise kind(f"expected {at_a_time} at a time; received {len(files)} files")
    if not files:
        # what came instead, without repeating its words
        others = len(request.files) + len(request.form)
        received = counted(others, "other field") if others else "no field"
        if field in request.form:
            received = "text"
        elif request.mimetype != "multipart/form-data":
            received = "a request that is not multipart/form-data"
        raise kind(f"expected a file in the field {field!r}; received {received}")
    if not files[0].filename and not files[0].read(1):
        raise kind(f"expected a {field}; none was chosen")
    files[0].seek(0)
    return files


def chosen_recognizer(services: Services) -> Recognizer:
    """Return the recognizer with the model that the current request chooses, or the default.

    Call it outside the gate: a model that is chosen for the first time is loaded here.

    Raises:
        EmotionError: there is no model, or not this one.
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
    photo_id = storage.save(reading.results, reading.model, reading.pictures(), set_id)
    now_s = storage.clock()
    faces = [sight.face for sight in reading.sights]
    answers = Answers(
        candidates=tuple(face.candidates for face in faces),
        verdicts=tuple(map(verdict, faces)),
        model={name: reading.model[name] for name in ("key", "title")},
    )
    return PhotoRow(
        id=photo_id,
        set_id=set_id,
        position=position,
        visitor=visitor,
        created_s=now_s,
        expires_s=now_s + storage.keep_s,
        faces=len(faces),
        emotions=answers.to_text(),
    )


def unread_row(
    services: Services, problem: str, visitor: str, set_id: str, position: int
) -> PhotoRow:
    """Return the row that says why a photo of a set could not be read."""
    now_s = services.storage.clock()
    expires_s = now_s + services.storage.keep_s
    return PhotoRow(new_id(), set_id, position, visitor, now_s, expires_s, 0, problem=problem)


def note(services: Services, rows: Sequence[PhotoRow], results: Sequence[Mapping]) -> None:
    """Write photos to the database and count them; if that fails, nothing of them stays.

    Call it outside the gate: other photos must not wait for the database.

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
    """Remove the pictures of photos that could not be noted, as far as possible."""
    for row in rows:
        with contextlib.suppress(GoneError, StorageError):
            services.storage.delete(row.id)


def count(services: Services, results: Sequence[Mapping]) -> None:
    """Count photos, outside the gate; the answer is worth giving even if that fails."""
    try:
        for each in results:
            services.database.count(each, services.storage.clock())
    except DatabaseError as error:
        logging.getLogger(LOGGER).warning("a photo is missing in the statistics: %s", error)
