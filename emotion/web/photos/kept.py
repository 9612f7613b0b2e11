"""What is kept of photos: as JSON, as a table, as a picture; and its removal."""

import contextlib
from collections.abc import Sequence

from flask import url_for

from emotion.drawing import annotate, blur_faces
from emotion.errors import GoneError
from emotion.images.decoding import decode_photo
from emotion.images.encoding import encode_jpeg
from emotion.images.guards import ImageLimits
from emotion.rows import results_to_csv
from emotion.web.api import moment
from emotion.web.database import PhotoRow
from emotion.web.photos.feedback import remove as remove_face
from emotion.web.services import current_services
from emotion.web.storage import Analysis


def photo_document(analysis: Analysis, is_own: bool) -> dict:
    """Return a photo as JSON; only its sender is told its set."""
    photo_id, set_id = analysis.id, analysis.set_id if is_own else None
    return {
        "id": photo_id,
        "set": set_id,
        "created": moment(analysis.created_s),
        "expires": moment(analysis.expires_s),
        "links": {
            "self": url_for("api.photo", photo_id=photo_id),
            "page": url_for("pages.result", analysis_id=photo_id),
            "set": url_for("pages.photo_set", set_id=set_id) if set_id else None,
            "annotated": url_for("api.picture", photo_id=photo_id, kind="annotated"),
            "blurred": url_for("api.picture", photo_id=photo_id, kind="blurred"),
            "thumbnail": url_for("pages.picture", analysis_id=photo_id, name="thumb"),
            "faces": [
                {
                    "page": url_for("pages.face", analysis_id=photo_id, number=number),
                    "picture": url_for(
                        "pages.picture", analysis_id=photo_id, name=f"face-{number}"
                    ),
                    "explanation": url_for("api.explanation", photo_id=photo_id, number=number),
                    "feedback": url_for("api.opinion", photo_id=photo_id, number=number),
                }
                for number in range(1, len(analysis.faces) + 1)
            ],
        },
        "results": analysis.results,
    }


def table_of(photos: Sequence[tuple[str, Analysis | str]]) -> bytes:
    """Return photos as CSV, one row a face: the name of each, and what was found or its problem."""
    rows = [(name, found if isinstance(found, str) else found.results) for name, found in photos]
    # spreadsheets recognize UTF-8 by the byte order mark
    return results_to_csv(rows).encode("utf-8-sig")


def full_picture(analysis: Analysis, kind: str) -> bytes:
    """Return the photo with its boxes as JPEG; of kind "blurred", nobody can be recognized."""
    annotated = current_services().storage.read_picture(analysis.id, "annotated.jpg")
    if kind == "annotated":
        return annotated
    # our own file, whose pixels were counted when it came
    photo = decode_photo(annotated, ImageLimits(max_bytes=2**31, max_pixels=2**31)).full
    return encode_jpeg(annotate(blur_faces(photo, analysis.faces), analysis.faces))


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
