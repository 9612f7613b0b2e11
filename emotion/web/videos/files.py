"""The files of videos; no Flask, no database.

`UPLOADS/videos/<id>/your video` is the uploaded file; it goes as soon as the analysis has ended.
`UPLOADS/videos/<id>/<attempt>/` holds what one attempt made of it.
"""

import contextlib
import re
import shutil
from collections.abc import Container
from pathlib import Path

from emotion.web.storage import Folders, StorageError, is_old

SOURCE = "your video"  # messages name the file so: its own name is never known here
FILE_TYPES = {  # what anyone who knows the address may have -> its media type
    "annotated.mp4": "video/mp4",
    "poster.jpg": "image/jpeg",
    "timeline.png": "image/png",
    "emotions.csv": "text/csv",
    "emotions.jsonl": "application/jsonl",
    "emotions.parquet": "application/vnd.apache.parquet",
    "summary.json": "application/json",
}
VIDEO, POSTER, TIMELINE, *TABLES, SUMMARY = FILE_TYPES
FACTS = "facts.json"
CROP = re.compile(r"face-[1-9][0-9]{0,8}\.jpg")  # of a face on the timeline, by its number
LINK_NAMES = "video poster timeline csv jsonl parquet summary".split()  # in the API
LINKS = dict(zip(LINK_NAMES, FILE_TYPES, strict=True))


class VideoFiles(Folders):
    """The folders of videos; safe to share between threads and between processes."""

    def make_room(self, video_id: str, attempt: str) -> Path:
        """Make and return the folder of an attempt; raises StorageError."""
        room = self.path(video_id, attempt)
        self.require_room()
        try:
            room.mkdir(mode=0o700)
        except OSError as error:
            raise StorageError(error) from error
        return room

    def drop_room(self, video_id: str, attempt: str) -> None:
        """Remove what an attempt left, as far as possible; the sweep tries again."""
        path = self.path(video_id, attempt)
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):  # the uploaded file or a link
            path.unlink()

    def sweep(self, known: Container[str], now_s: float) -> None:
        """Remove what a crash left, and videos that are not known, once an hour old."""
        self._remove_due(lambda path: path.name not in known and is_old(path, now_s), now_s)
