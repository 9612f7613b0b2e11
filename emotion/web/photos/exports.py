"""Files to download, made from what is kept: tables, zips, photos with faces hidden."""

import contextlib
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from typing import BinaryIO

from flask import json

from emotion.drawing import annotate, blur_faces
from emotion.images.decoding import decode_photo
from emotion.images.encoding import encode_jpeg
from emotion.images.guards import ImageLimits
from emotion.rows import results_to_csv
from emotion.web.storage import Analysis, Storage

IN_MEMORY_BYTES = 16 * 2**20
"""A zip that grows beyond this is written to the disk while it is made."""


def one_as_json(analysis: Analysis) -> bytes:
    """Return the results of one photo as a JSON document."""
    return (json.dumps(analysis.results, indent=1) + "\n").encode()


def as_json(analyses: Sequence[tuple[str, Analysis]]) -> bytes:
    """Return the results of photos, (name, analysis) each, as one JSON document."""
    photos = [{"photo": name, **analysis.results} for name, analysis in analyses]
    return (json.dumps({"photos": photos}, indent=1) + "\n").encode()


def as_csv(photos: Sequence[tuple[str, Analysis | str]]) -> bytes:
    """Return the results of photos as one table, one row per face.

    Args:
        photos: (name, analysis) of each, or (name, why it could not be read).
    """
    rows = [(name, found if isinstance(found, str) else found.results) for name, found in photos]
    # spreadsheets recognize UTF-8 by the byte order mark
    return results_to_csv(rows).encode("utf-8-sig")


def annotated_picture(storage: Storage, analysis: Analysis) -> bytes:
    """Return the photo with its boxes and labels, as JPEG."""
    return storage.read_picture(analysis.id, "annotated.jpg")


def blurred_picture(storage: Storage, analysis: Analysis) -> bytes:
    """Return the annotated photo with faces that nobody can recognize, as JPEG."""
    # our own file, whose pixels were counted when it came
    limits = ImageLimits(max_bytes=2**31, max_pixels=2**31)
    photo = decode_photo(annotated_picture(storage, analysis), limits).full
    return encode_jpeg(annotate(blur_faces(photo, analysis.faces), analysis.faces))


PICTURES = {"annotated": annotated_picture, "blurred": blurred_picture}


def as_zip(
    storage: Storage,
    analyses: Sequence[tuple[str, Analysis]],
    picture: Callable[[Storage, Analysis], bytes],
) -> BinaryIO:
    """Return a zip of a picture of each photo and of the table, read from its start."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES))
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, analysis in analyses:
                archive.writestr(f"{name}.jpg", picture(storage, analysis))
            archive.writestr("emotions.csv", as_csv(analyses))
        file.seek(0)
        stack.pop_all()  # whoever gets the file closes it; an error on the way has closed it
    return file
