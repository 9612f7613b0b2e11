"""What is kept: photos, sets of them, this visitor's own, and why a face got its answer."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from flask import request

from emotion.explain import Explanation, explain
from emotion.faces import Face
from emotion.recognizer import Recognizer
from emotion.web.analysis import Services, crop_from_picture, current_services
from emotion.web.database import PhotoRow
from emotion.web.errors import UploadError
from emotion.web.feedback import remove as remove_face
from emotion.web.limits import client_key
from emotion.web.storage import Analysis, GoneError, is_id
from emotion.web.videos.queue import VideoRow
from emotion.web.visitors import require_sender, visitor_key


@dataclass(frozen=True)
class Shown:
    """One photo of a set, as its page shows it.

    Attributes:
        position: its number in the set, from 1.
        analysis: what is kept of it; None where it could not be read or nothing is kept.
        problem: why it could not be read, "" where it could.
        pictures: name -> data URI, where nothing is kept.
    """

    position: int
    analysis: Analysis | None = None
    problem: str = ""
    pictures: Mapping[str, str] | None = None


def rows_of(set_id: str) -> tuple[PhotoRow, ...]:
    """Return the photos of a set of this visitor, by position.

    Raises:
        GoneError: there is no such set, or its time is up.
        NotSenderError: somebody else sent it.
    """
    services = current_services()
    rows = (
        services.database.photos_of_set(set_id, services.storage.clock()) if is_id(set_id) else ()
    )
    if not rows:
        raise GoneError("expected photos that are still kept; these are gone or never were")
    for row in rows:
        require_sender(row.visitor)
    return rows


def rows_of_visitor() -> tuple[PhotoRow, ...]:
    """Return what this visitor has sent and is still kept, newest first; () without a cookie."""
    services, visitor = current_services(), visitor_key()
    if not visitor:
        return ()
    return services.database.photos_of_visitor(visitor, services.storage.clock())


def shown_of(set_id: str) -> list[Shown]:
    """Return the photos of a set as its page shows them; those gone meanwhile are left out.

    They are numbered without gaps, also where one was removed or two were sent as the same number.
    """
    shown = []
    for position, row in enumerate(rows_of(set_id), start=1):
        if row.problem:
            shown.append(Shown(position, problem=row.problem))
            continue
        with contextlib.suppress(GoneError):
            analysis = current_services().storage.load(row.id)
            shown.append(Shown(position, analysis))
    return shown


def named_analyses(set_id: str) -> list[tuple[str, Analysis]]:
    """Return the photos of a set that could be read, with names for files and tables."""
    return [
        (f"photo-{one.position}", one.analysis)
        for one in shown_of(set_id)
        if one.analysis is not None
    ]


def videos_of_visitor() -> tuple[VideoRow, ...]:
    """Return the videos of this visitor that are still kept, newest first."""
    services, visitor = current_services(), visitor_key()
    return services.videos.rows.of_visitor(visitor, services.videos.clock())


def remove_all_of_visitor() -> None:
    """Remove everything that this visitor has sent; work that goes on stops."""
    remove_rows(rows_of_visitor())
    for row in videos_of_visitor():
        current_services().videos.remove_known(row.id)


def remove_own_video(video_id: str) -> None:
    """Remove a video of this visitor at once; work on it stops.

    Raises:
        GoneError: there is none.
        NotSenderError: somebody else sent it.
    """
    videos = current_services().videos
    require_sender(videos.find(video_id).visitor)
    videos.remove_known(video_id)


def remove_rows(rows: Sequence[PhotoRow]) -> None:
    """Remove photos with what was kept of them for training, also such as are half gone."""
    services = current_services()
    for row in rows:
        with contextlib.suppress(GoneError):
            services.storage.delete(row.id)
        # the row last: while it is there, deleting can be tried again
        for kept in services.database.kept_faces(row.id):
            remove_face(services.settings.feedback, kept)
        services.database.forget(row.id)


def chosen_emotion(face: Face) -> str | None:
    """Return the emotion whose reasons the current request asks for; None where there is none such.

    Without a word about it, that is the model's answer.
    """
    emotion = request.args.get("emotion", face.emotion)
    return emotion if emotion in face.probabilities else None


def reasons_of(
    services: Services, analysis: Analysis, number: int, emotion: str
) -> tuple[np.ndarray, Explanation] | None:
    """Return a face as the model saw it, and which parts of it spoke for an emotion.

    Returns:
        The crop, (48, 48, 1) float32, and the reasons; None where the model that gave the answer
        is not served any more.

    Raises:
        GoneError: what the model saw is not kept.
        BusyError: too many photos are in hand, or too many of this client.
    """
    recognizer = recognizer_of(services, analysis)
    if recognizer is None:
        return None
    content = services.storage.read_picture(analysis.id, f"input-{number}.png")
    with services.gate.place(client_key()):
        crop = crop_from_picture(content)
        return crop, explain(recognizer.model, crop, emotion)


def recognizer_of(services: Services, analysis: Analysis) -> Recognizer | None:
    """Return what read a photo, None where it is not served any more.

    Raises:
        ModelError: no model at all is served.
    """
    try:
        recognizer = services.models.get(analysis.model.get("key", ""))
    except UploadError:
        return None  # its files are gone
    is_same = recognizer.model.sha256 == analysis.results["model"]["sha256"]
    return recognizer if is_same else None


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
    names = list(dict.fromkeys(name for face in faces for name in face.probabilities))
    return tuple(_share_of(name, faces) for name in names)


def _share_of(name: str, faces: Sequence[Face]) -> EmotionShare:
    """Return the share of one emotion."""
    sure = sum(face.sure and face.emotion == name for face in faces)
    unsure = sum(not face.sure and face.emotion == name for face in faces)
    mean = sum(face.probabilities.get(name, 0) for face in faces) / len(faces)
    return EmotionShare(name, sure, unsure, (sure + unsure) / len(faces), mean)
