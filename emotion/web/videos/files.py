"""The files of videos, and what the process that analyses one is told; no Flask, no database.

`UPLOADS/videos/<id>/your video` is the uploaded file; it goes as soon as the analysis has ended.
`UPLOADS/videos/<id>/<attempt>/` holds what one attempt made of it.
"""

import contextlib
import re
import shutil
from collections.abc import Container, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Job:
    """One video to analyse, and the limits of the process that does it."""

    source: str  # the uploaded file
    room: str  # the folder for the results
    model: str  # folder and name of the model's files
    model_names: Mapping[str, str]  # its key and its title
    yunet: str | None  # the file of this detector, None for the cascades
    longest_s: float
    memory_bytes: int
    cpu_s: int
    file_bytes: int  # the largest file it may write


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

    def keep_only(self, video_id: str, attempt: str = "") -> None:
        """Remove the uploaded file, and what other attempts than this one left."""
        with contextlib.suppress(FileNotFoundError):
            for name in {path.name for path in self.path(video_id).iterdir()} - {attempt}:
                self.drop_room(video_id, name)

    def drop_room(self, video_id: str, attempt: str) -> None:
        """Remove what an attempt left, as far as possible; the sweep tries again."""
        path = self.path(video_id, attempt)
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):  # the uploaded file or a link
            path.unlink()

    def sweep(self, known: Container[str], now_s: float) -> None:
        """Remove what a crash left, and videos that are not known, once an hour old."""
        self._remove_due(lambda path: path.name not in known and is_old(path, now_s), now_s)
