"""From a request to faces: its files, the model it chooses, and what is kept of a photo."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from flask import g, request
from werkzeug.datastructures import FileStorage

from emotion import errors
from emotion.faces import verdict
from emotion.images.decoding import ENOUGH_PIXELS, Photo, decode_photo
from emotion.recognizer import Recognizer, Sight
from emotion.rows import results_to_dict
from emotion.web.database import Answers, PhotoRow
from emotion.web.logs import LOGGER
from emotion.web.models.offered import model_facts
from emotion.web.photos.pictures import pictures_of
from emotion.web.quota import quota
from emotion.web.services import current_services
from emotion.web.storage import new_id
from emotion.web.visitors import new_visitor

MODEL_FIELD = "model"


@dataclass(frozen=True)
class Reading:
    photo: Photo  # its full size is decoded only when pictures of it are made
    sights: Sequence[Sight]  # left to right
    results: Mapping  # from `results_to_dict`
    model: Mapping  # what the page says about the model

    def pictures(self) -> dict[str, bytes]:
        return pictures_of(self.photo.full, self.sights)


def uploaded_files(most: int, field: str = "photo") -> list[FileStorage]:
    """Return the files of the current request, 1 to `most`, in the field `photo` or `video`."""
    kind = errors.UploadError if field == "photo" else errors.VideoUploadError
    files = request.files.getlist(field)
    if len(files) > most:
        at_a_time = f"one {field}" if most == 1 else f"up to {most} {field}s"
        raise kind(f"expected {at_a_time} at a time; received {len(files)} files")
    if not files:
        received = "text" if field in request.form else "none"
        expected = f"a file in the field {field!r} of multipart/form-data"
        raise kind(f"expected {expected}; received {received}")
    if not files[0].filename and not files[0].read(1):
        raise kind(f"expected a {field}; none was chosen")
    files[0].seek(0)
    return files


def chosen_recognizer() -> Recognizer:
    """Return the recognizer that the request chooses; not at the gate, as it may load here."""
    services, key = current_services(), request.form.get(MODEL_FIELD, "")
    services.require_recognizer()
    try:
        return services.models.get(key)
    except errors.ModelError as error:
        words = f"expected the files of the model {key} to be whole; they are damaged or incomplete"
        raise errors.ChosenModelError(words) from error


def read_photo(recognizer: Recognizer, content: bytes) -> Reading:
    """Return the faces of a photo, or raise an `ImageError`; the caller has a place at the gate."""
    services, model = current_services(), recognizer.model
    photo = decode_photo(content, services.settings.image_limits, ENOUGH_PIXELS)
    sights = recognizer.look(photo)
    # for the request's line of the log, and for the metrics
    g.photos, g.faces = g.get("photos", 0) + 1, g.get("faces", 0) + len(sights)
    offered = services.models.find(request.form.get(MODEL_FIELD, ""))
    facts = model_facts(model, offered.stem.parent, offered.names)
    facts["accuracy_when_unsure"] = recognizer.thresholds.accuracy_when_unsure
    faces = [sight.face for sight in sights]
    results = results_to_dict(faces, photo.size_wh, model.name, model.sha256)
    results["model"] |= offered.names
    return Reading(photo, sights, results, facts)


def keep(reading: Reading, set_id: str, position: int) -> PhotoRow:
    """Write the pictures of a photo; return its row for the database."""
    faces, storage = [sight.face for sight in reading.sights], current_services().storage
    photo_id = storage.save(reading.results, reading.model, reading.pictures(), set_id)
    model = {name: reading.model[name] for name in ("key", "title")}
    answers = Answers(tuple(face.candidates for face in faces), tuple(map(verdict, faces)), model)
    return row_of(set_id, position, photo_id, len(faces), emotions=answers.to_text())


def row_of(set_id: str, position: int, photo_id: str = "", faces: int = 0, **said: str) -> PhotoRow:
    """Return the row of a photo; one that could not be read has no id yet, but a problem."""
    storage = current_services().storage
    now_s = storage.clock()
    key = (photo_id or new_id(), set_id, position, new_visitor())
    return PhotoRow(*key, now_s, now_s + storage.keep_s, faces, **said)


@contextlib.contextmanager
def all_or_nothing() -> Iterator[list[PhotoRow]]:
    """Give a list for rows of photos and write them to the database; or else no picture stays.

    The block takes its place at the gate inside, so that nobody there waits for the database.
    """
    rows: list[PhotoRow] = []
    try:
        yield rows
        if rows:
            services = current_services()
            sizes = {row.id: services.storage.size_of(row.id) for row in rows if not row.problem}
            check = quota(sizes, rows[0].visitor, rows[0].created_s)
            services.database.remember(*rows, check=check, most=services.settings.max_photos)
    except Exception:
        for row in rows:
            with contextlib.suppress(errors.GoneError, errors.StorageError):
                current_services().storage.delete(row.id)
        raise


def count(results: Sequence[Mapping]) -> None:
    """Count photos, outside the gate; the answer is worth giving even if that fails."""
    services = current_services()
    try:
        for each in results:
            services.database.count(each, services.storage.clock())
    except errors.DatabaseError as error:
        logging.getLogger(LOGGER).warning("a photo is missing in the statistics: %s", error)
