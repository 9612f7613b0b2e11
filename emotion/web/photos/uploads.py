"""From a request to faces: its files, the model it chooses, and what is kept of a photo."""

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from flask import abort, g, request
from werkzeug.datastructures import FileStorage

from emotion import errors
from emotion.faces import read_thresholds
from emotion.model.runtime import StoredModel
from emotion.text import printable
from emotion.web.database import Answers, PhotoRow
from emotion.web.errors import problem_of
from emotion.web.limits import quota
from emotion.web.logs import LOGGER
from emotion.web.models.offered import model_facts
from emotion.web.services import current_services
from emotion.web.settings import PROJECT_FOLDER
from emotion.web.storage import new_id
from emotion.web.visitors import new_visitor

MODEL_FIELD, NAMES_FIELD = "model", "keep_names"
PHOTO_FIELDS = ("photo", "image", "file")  # other services use the last two names
SAMPLES = {  # files in static/samples that are read at one click -> what a button says
    "astronaut.jpg": "Astronaut",
    "officer.jpg": "Officer",
    "group.jpg": "Four faces",
    "blurred.jpg": "Out of focus",
    "cat.jpg": "Cat",
    "pan.mp4": "Video, 5 s",
}


@dataclass(frozen=True)
class Reading:
    results: Mapping  # from `results_to_dict`
    model: Mapping  # what the page says about the model
    answers: Answers  # what lists tell of the faces
    labels: Mapping | None  # where the page writes beside the faces
    pictures: Mapping[str, bytes]


def uploaded_files(most: int, field: str = "photo") -> list[FileStorage]:
    """Return the files of the current request, 1 to `most`, of photos or of a `video`.

    A request may also be one photo and nothing else, of type image/jpeg and so on; and an address
    that names a sample stands for that file.
    """
    if sample := (request.view_args or {}).get("sample"):
        name = f"{sample}.{'jpg' if field == 'photo' else 'mp4'}"
        if name not in SAMPLES:
            abort(404)
        content = (PROJECT_FOLDER / "static/samples" / name).read_bytes()
        return [FileStorage(io.BytesIO(content), name)]
    kind = errors.UploadError if field == "photo" else errors.VideoUploadError
    fields = PHOTO_FIELDS if field == "photo" else (field,)
    files = [file for name in fields for file in request.files.getlist(name)]
    if request.mimetype.startswith("image/") and request.blueprint != "pages":
        files = [FileStorage(io.BytesIO(request.get_data(cache=False)), "the body")]
    if len(files) > most:
        at_a_time = f"one {field}" if most == 1 else f"up to {most} {field}s"
        raise kind(f"expected {at_a_time} at a time; received {len(files)} files")
    if not files:
        others = ", ".join(printable(name or "no name")[:40] for name in request.files)
        received = f"one in {others[:200]}" if others else "none"
        if field in request.form:
            received = "text"
        expected = f"a file in the field {field!r} of multipart/form-data"
        raise kind(f"expected {expected}; received {received}")
    if not files[0].filename and not files[0].read(1):
        raise kind(f"expected a {field}; none was chosen")
    files[0].seek(0)
    return files


def chosen_model(key: str = "") -> StoredModel:
    """Return the model of a key, or that the request chooses; not at the gate: it may load here."""
    services, key = current_services(), key or request.form.get(MODEL_FIELD, "")
    services.require_model()
    try:
        return services.models.get(key)
    except errors.ModelError as error:
        words = f"expected the files of the model {key} to be whole; they are damaged or incomplete"
        raise errors.ChosenModelError(words) from error


def read_photo(client: str, model: StoredModel, content: bytes, pictures: bool) -> Reading:
    """Return the faces of a photo, or raise an `ImageError`; the client has a place at the gate."""
    services, limits = current_services(), current_services().settings.image_limits
    about = {"max_bytes": limits.max_bytes, "max_pixels": limits.max_pixels, "pictures": pictures}
    answer, made = services.workers.call(client, model, "read", content, **about)
    results = answer["results"]
    # for the request's line of the log, and for the metrics
    g.photos, g.faces = g.get("photos", 0) + 1, g.get("faces", 0) + len(results["faces"])
    offered = services.models.find(request.form.get(MODEL_FIELD, ""))
    facts = model_facts(model, offered.stem.parent, offered.names)
    facts["accuracy_when_unsure"] = read_thresholds(model.card).accuracy_when_unsure
    results["model"] |= offered.names
    answers = Answers(answer["candidates"], answer["verdicts"], offered.names)
    return Reading(results, facts, answers, answer["labels"], made)


def kept_name(file: FileStorage) -> str:
    """Return the name of a photo's file if its sender wants it kept, else ""."""
    name = (file.filename or "").rpartition("/")[2]
    return printable(name, " ").strip()[:100] if request.form.get(NAMES_FIELD) == "on" else ""


def keep(reading: Reading, set_id: str, position: int, name: str) -> PhotoRow:
    """Write the pictures of a photo; return its row for the database."""
    about = (reading.results, reading.model, reading.pictures, set_id, reading.labels, name)
    photo_id, faces = current_services().storage.save(*about), len(reading.results["faces"])
    return row_of(set_id, position, photo_id, faces, emotions=reading.answers.to_text())


def why_unread(error: errors.ImageError, name: str) -> str:
    """Return why a photo of a set could not be read; nothing else holds its name."""
    detail = problem_of(error)["detail"]
    return f"{name}: {detail}" if name else detail


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
