"""What senders say an expression really is, and the faces they give for training."""

import secrets
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from flask import current_app
from PIL import Image

from emotion.errors import ChoiceError, DatabaseError, GoneError, ModelError, StorageError
from emotion.faces import Face
from emotion.files import whole_file
from emotion.web.database import Opinion
from emotion.web.limits import KEPT_FACES
from emotion.web.services import current_services
from emotion.web.storage import Analysis
from emotion.web.visitors import own_photo


def give(photo_id: str, number: int, chosen: str, keeps_face: bool) -> Opinion:
    """Note which emotion the sender sees in a face; it replaces an earlier opinion and its file.

    If anything fails, nothing is noted and no face is kept.
    """
    own_photo(photo_id)
    services = current_services()
    folder, database = services.settings.feedback, services.database
    analysis = services.storage.load(photo_id)
    face = find_face(analysis, number)
    if chosen not in face.probabilities:
        raise ChoiceError(f"expected one of {', '.join(face.probabilities)}; received another word")
    sha256, now_s = analysis.results["model"]["sha256"], services.storage.clock()
    opinion = Opinion(photo_id, number, face.emotion, chosen, sha256, said_s=now_s)
    if keeps_face:
        with current_app.extensions[KEPT_FACES]:  # so many a day from one address
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


def take_back(photo_id: str, number: int) -> None:
    """Remove what was said about a face, and the face if it was kept; nothing said is no error."""
    own_photo(photo_id)
    services = current_services()
    folder, database = services.settings.feedback, services.database
    find_face(services.storage.load(photo_id), number)
    opinion = database.opinion_on(photo_id, number)
    if opinion is not None:
        # the file first: if that fails, the opinion still knows of it
        remove(folder, opinion.kept)
        withdrawn = database.withdraw(photo_id, number)
        # somebody with the same cookie may have said something else in the meantime
        remove(folder, withdrawn.kept if withdrawn else "")


def find_face(analysis: Analysis, number: int) -> Face:
    """Return a face of an analysis by its number, from 1, or raise a `GoneError`."""
    faces = analysis.faces
    if not 1 <= number <= len(faces):
        raise GoneError("expected the number of a face in the photo; received another")
    return faces[number - 1]


def keep(folder: Path, class_name: str, crop: bytes) -> str:
    """Write a face to the folder of its class as a grey PNG; return its name below `folder`.

    Of the PNG `crop`, nothing but the pixels is kept. On a `StorageError` nothing is left of it.
    """
    # a model's card comes from outside
    if class_name.startswith(".") or Path(class_name).name != class_name or "\\" in class_name:
        raise ModelError(
            f"expected class names that can be names of folders; received {class_name!r}"
        )
    name = f"{class_name}/{secrets.token_hex(16)}.png"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / class_name).mkdir(mode=0o700, exist_ok=True)
        grey = Image.open(BytesIO(crop), formats=["PNG"]).convert("L")
        with whole_file(folder / name) as part:
            part.touch(mode=0o600)
            Image.frombytes("L", grey.size, grey.tobytes()).save(part, optimize=True)
    except OSError as error:
        raise StorageError(error) from error
    return name


def remove(folder: Path, kept: str) -> None:
    """Remove a kept face; "" and one that is gone already are fine."""
    try:
        if kept:
            (folder / kept).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(error) from error
