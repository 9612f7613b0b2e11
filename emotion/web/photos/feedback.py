"""What senders say an expression really is, and the faces they give for training."""

import secrets
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from flask import current_app
from PIL import Image

from emotion.errors import (
    ChoiceError,
    DatabaseError,
    GoneError,
    ModelError,
    NotSenderError,
    StorageError,
)
from emotion.faces import Face
from emotion.files import whole_file
from emotion.web.database import Opinion
from emotion.web.limits import KEPT_FACES
from emotion.web.services import Services, current_services
from emotion.web.storage import Analysis
from emotion.web.visitors import own_photo


def give(services: Services, photo_id: str, number: int, chosen: str, keeps_face: bool) -> Opinion:
    """Note which emotion the sender sees in a face; it replaces an earlier opinion and its file.

    Args:
        services: what the app is made of.
        photo_id: key of the photo.
        number: of the face in it, from 1.
        chosen: one of the model's emotions; its own answer is agreement.
        keeps_face: whether to keep the face for training.

    Raises:
        GoneError: there is no such face.
        NotSenderError: somebody else sent the photo.
        ChoiceError: `chosen` is none of the model's emotions.
        RateLimitExceeded: one client gave too many faces; nothing is noted.
        StorageError: the face cannot be kept, or the earlier one not removed; nothing is noted.
        DatabaseError: the opinion cannot be noted; then the face is not kept either.
    """
    own_photo(photo_id)
    folder, database = services.settings.feedback, services.database
    analysis = services.storage.load(photo_id)
    face = find_face(analysis, number)
    if chosen not in face.probabilities:
        raise ChoiceError(f"expected one of {', '.join(face.probabilities)}; received another word")
    sha256 = analysis.results["model"]["sha256"]
    now_s = services.storage.clock()
    opinion = Opinion(photo_id, number, face.emotion, chosen, sha256, said_s=now_s)
    if keeps_face:
        with current_app.extensions[KEPT_FACES]:
            crop = services.storage.read_picture(photo_id, f"input-{number}.png")
            opinion = replace(opinion, kept=keep(folder, chosen, crop))
    try:
        earlier = database.opinion_on(photo_id, number)
        if earlier is not None:
            remove(folder, earlier.kept)
        replaced = database.say(opinion)
    except (StorageError, DatabaseError):
        remove(folder, opinion.kept)
        raise
    if replaced is not None and replaced != earlier:
        # somebody with the same cookie said something else in the meantime
        remove(folder, replaced.kept)
    try:
        services.storage.load(photo_id)
    except GoneError:
        # deleted in the meantime, perhaps before there was an opinion to delete with it
        remove(folder, opinion.kept)
        database.withdraw(photo_id, number)
        raise
    return opinion


def take_back(services: Services, photo_id: str, number: int) -> None:
    """Remove what was said about a face, and the face if it was kept; nothing said is no error.

    Raises:
        GoneError: there is no such face.
        NotSenderError: somebody else sent the photo.
        StorageError: the kept face cannot be removed; then what was said stays too.
        DatabaseError: the database cannot be reached.
    """
    own_photo(photo_id)
    find_face(services.storage.load(photo_id), number)
    opinion = services.database.opinion_on(photo_id, number)
    if opinion is not None:
        # the file first: if that fails, the opinion still knows of it
        remove(services.settings.feedback, opinion.kept)
        withdrawn = services.database.withdraw(photo_id, number)
        # somebody with the same cookie may have said something else in the meantime
        remove(services.settings.feedback, withdrawn.kept if withdrawn else "")


def feedback_context(photo_id: str, number: int) -> dict:
    """Return what the page of a face shows of feedback.

    Returns:
        is_own: whether this visitor sent the photo and so may say something; opinion: what was
        said about the face, or None; class_names: what can be said; and can_say: whether the
        database can take it.
    """
    services = current_services()
    names = tuple(find_face(services.storage.load(photo_id), number).probabilities)
    content = {"is_own": True, "opinion": None, "class_names": names, "can_say": True}
    try:
        own_photo(photo_id)
        return content | {"opinion": services.database.opinion_on(photo_id, number)}
    except (GoneError, NotSenderError):
        return content | {"is_own": False}
    except DatabaseError:
        # the page is about the face; it is worth showing without this part
        return content | {"can_say": False}


def find_face(analysis: Analysis, number: int) -> Face:
    """Return a face of an analysis by its number, from 1.

    Raises:
        GoneError: there is none of that number.
    """
    faces = analysis.faces
    if not 1 <= number <= len(faces):
        raise GoneError("expected the number of a face in the photo; received another")
    return faces[number - 1]


def keep(folder: Path, class_name: str, crop: bytes) -> str:
    """Write a face to the folder of its class; return the file's name below `folder`.

    Args:
        folder: of the faces that visitors give.
        class_name: what the visitor sees in it.
        crop: the picture that the model saw, as PNG.

    Raises:
        StorageError: the disk is full, read-only or not there; then nothing is left of it.
    """
    # a model's card comes from outside
    if class_name.startswith(".") or Path(class_name).name != class_name or "\\" in class_name:
        raise ModelError(
            f"expected class names that can be names of folders; received {class_name!r}"
        )
    name = f"{class_name}/{secrets.token_hex(16)}.png"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / name).parent.mkdir(mode=0o700, exist_ok=True)
        with whole_file(folder / name) as part:
            part.touch(mode=0o600)
            part.write_bytes(without_metadata(crop))
    except OSError as error:
        raise StorageError(error) from error
    return name


def remove(folder: Path, kept: str) -> None:
    """Remove a kept face; "" and one that is gone already are fine.

    Raises:
        StorageError: it cannot be removed.
    """
    if not kept:
        return
    try:
        (folder / kept).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(error) from error


def without_metadata(crop: bytes) -> bytes:
    """Return a picture as a grey PNG with nothing but its pixels."""
    grey = Image.open(BytesIO(crop), formats=["PNG"]).convert("L")
    buffer = BytesIO()
    Image.frombytes("L", grey.size, grey.tobytes()).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
