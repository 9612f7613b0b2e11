"""What is kept of photos: one, those of a set, what all their faces show; and its removal."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask import url_for

from emotion.errors import GoneError
from emotion.faces import Face
from emotion.web.api import moment
from emotion.web.database import PhotoRow
from emotion.web.photos.feedback import remove as remove_face
from emotion.web.services import current_services
from emotion.web.storage import Analysis, is_id
from emotion.web.visitors import require_sender


@dataclass(frozen=True)
class Shown:
    """One photo of a set, as its page shows it.

    Attributes:
        position: its number in the set, from 1.
        analysis: what is kept of it; None if it could not be read or nothing is kept.
        problem: why it could not be read, "" if it could.
        pictures: name -> data URI, if nothing is kept.
    """

    position: int
    analysis: Analysis | None = None
    problem: str = ""
    pictures: Mapping[str, str] | None = None


@dataclass(frozen=True)
class EmotionShare:
    """One emotion over many faces.

    Attributes:
        emotion: its name.
        sure: faces whose answer it is.
        unsure: faces for which it is the most probable of several.
        share: sure and unsure together, of all faces, 0 to 1.
        mean_probability: over all faces, 0 to 1.
    """

    emotion: str
    sure: int
    unsure: int
    share: float
    mean_probability: float

    @property
    def faces(self) -> int:
        return self.sure + self.unsure


def summarize(faces: Sequence[Face]) -> tuple[EmotionShare, ...]:
    """Return the share of each emotion, in the order of the classes; () without a face.

    Args:
        faces: of one model or of several; a class that some lack counts 0 for those.
    """
    shares = []
    for name in dict.fromkeys(name for face in faces for name in face.probabilities):
        sure = sum(face.sure and face.emotion == name for face in faces)
        unsure = sum(not face.sure and face.emotion == name for face in faces)
        mean = sum(face.probabilities.get(name, 0) for face in faces) / len(faces)
        shares.append(EmotionShare(name, sure, unsure, (sure + unsure) / len(faces), mean))
    return tuple(shares)


def rows_of(set_id: str) -> tuple[PhotoRow, ...]:
    """Return the photos of a set of this visitor, by position.

    Raises:
        GoneError: there is no such set, or it has expired.
        NotSenderError: somebody else sent it.
    """
    services = current_services()
    now_s = services.storage.clock()
    rows = services.database.photos_of_set(set_id, now_s) if is_id(set_id) else ()
    if not rows:
        raise GoneError("expected photos that are still kept; these are gone or never were")
    for row in rows:
        require_sender(row.visitor)
    return rows


def shown_of(set_id: str) -> list[Shown]:
    """Return the photos of a set as its page shows them.

    They are numbered without gaps, even if one was removed or two were sent with the same number.
    """
    shown = []
    for position, row in enumerate(rows_of(set_id), start=1):
        if row.problem:
            shown.append(Shown(position, problem=row.problem))
            continue
        # one that was deleted in this moment is left out
        with contextlib.suppress(GoneError):
            shown.append(Shown(position, current_services().storage.load(row.id)))
    return shown


def named_analyses(set_id: str) -> list[tuple[str, Analysis]]:
    """Return the photos of a set that could be read, with names for files and tables."""
    return [(f"photo-{one.position}", one.analysis) for one in shown_of(set_id) if one.analysis]


def remove_rows(rows: Sequence[PhotoRow]) -> None:
    """Remove photos and what was kept of them for training, even if they are half gone."""
    services = current_services()
    for row in rows:
        with contextlib.suppress(GoneError):
            services.storage.delete(row.id)
        # the row last: while it is there, deleting can be tried again
        for kept in services.database.kept_faces(row.id):
            remove_face(services.settings.feedback, kept)
        services.database.forget(row.id)


def photo_document(analysis: Analysis, is_own: bool) -> dict:
    """Return a photo as JSON; only its sender is told its set."""
    photo_id, set_id = analysis.id, analysis.set_id if is_own else None
    links: Mapping[str, object] = {
        "self": url_for("api.photo", photo_id=photo_id),
        "page": url_for("pages.result", analysis_id=photo_id),
        "set": url_for("pages.photo_set", set_id=set_id) if set_id else None,
        "annotated": url_for("api.picture", photo_id=photo_id, kind="annotated"),
        "blurred": url_for("api.picture", photo_id=photo_id, kind="blurred"),
        "thumbnail": url_for("pages.picture", analysis_id=photo_id, name="thumb"),
        "faces": [
            {
                "page": url_for("pages.face", analysis_id=photo_id, number=number),
                "picture": url_for("pages.picture", analysis_id=photo_id, name=f"face-{number}"),
                "explanation": url_for("api.explanation", photo_id=photo_id, number=number),
                "feedback": url_for("api.opinion", photo_id=photo_id, number=number),
            }
            for number in range(1, len(analysis.faces) + 1)
        ],
    }
    return {
        "id": photo_id,
        "set": set_id,
        "created": moment(analysis.created_s),
        "expires": moment(analysis.expires_s),
        "links": links,
        "results": analysis.results,
    }
