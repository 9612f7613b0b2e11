"""Videos of visitors: taken in, found, told about and removed; what the pages and the API share."""

import contextlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from emotion.errors import EmotionError
from emotion.web.database import Database
from emotion.web.errors import EmptyVideoError, NoVideosError, VideoTypeError
from emotion.web.models.offered import Models
from emotion.web.settings import Settings
from emotion.web.storage import GoneError, StorageError, new_id
from emotion.web.videos.files import FACTS, FILE_TYPES, SUMMARY, VideoFiles
from emotion.web.videos.queue import DONE, RUNNING, WAITING, VideoRow, VideoRows
from emotion.web.videos.workers import VideoWorkers

VIDEO_FIELD = "video"
UNFINISHED_S = 24 * 3600.0
"""Time is counted from the end of the work; what has not ended after a day is removed as well."""

PACKAGES = ("av", "pyarrow", "matplotlib", "scipy")
"""What the work on videos needs and photos do not."""

HEAD_BYTES = 512
STARTS = (
    (4, b"ftyp"),  # MP4, MOV, 3GP
    (4, b"moov"),
    (4, b"mdat"),
    (4, b"wide"),
    (4, b"free"),
    (0, b"\x1aE\xdf\xa3"),  # Matroska, WebM
    (8, b"AVI "),
    (0, b"OggS"),
    (0, b"\x00\x00\x01\xba"),  # MPEG program stream
)
"""What files of the kinds that are read have at which place."""

TRANSPORT_STREAM = (0, 188, 376)
"""Where packets of an MPEG transport stream begin, each with G."""

PICTURE_BRANDS = (b"heic", b"heix", b"mif1", b"msf1", b"avif", b"avis")
"""Kinds of ftyp that are photos."""


@dataclass(frozen=True)
class VideoView:
    """A video as its page and the API tell about it.

    Attributes:
        row: what the database knows.
        before: how many wait before it; 0 where it does not wait.
        progress: how far the work is; empty before it tells.
        facts: size, rate and length of the video and the model, once it is done.
        summary: how long each face showed each emotion, once it is done.
    """

    row: VideoRow
    before: int = 0
    progress: Mapping | None = None
    facts: Mapping | None = None
    summary: Mapping | None = None


class Videos:
    """All videos of an app; safe to share between threads and between processes."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        models: Models,
        clock: Callable[[], float],
    ):
        """Put the parts together; nothing is opened or started yet."""
        self.settings = settings
        self.clock = clock
        self.rows = VideoRows(database)
        self.files = VideoFiles(settings.uploads / "videos")
        self.workers = VideoWorkers(settings, database, self.rows, self.files, models, clock)

    def refusal(self) -> str:
        """Return why this server takes no videos, "" where it does."""
        if self.settings.keeps_nothing:
            return (
                "Videos are not taken here: the work on one takes minutes, so its result would "
                "have to be kept, and this server keeps nothing."
            )
        if self.settings.video_workers == 0:
            return "Videos are not taken here."
        missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
        if not missing:
            return ""
        return f"Videos cannot be read here: this server lacks {' and '.join(missing)}."

    def require(self) -> None:
        """Raise a `NoVideosError` where this server takes no videos."""
        if refusal := self.refusal():
            raise NoVideosError(refusal)

    def take(self, file: BinaryIO, visitor: str, model_key: str) -> VideoRow:
        """Put a video that was sent at the end of the queue.

        Raises:
            EmotionError: videos are not taken, this is none, or too many wait.
        """
        self.require()
        check_head(file)
        now_s = self.clock()
        row = VideoRow(new_id(), visitor, now_s, now_s + UNFINISHED_S, model_key=model_key)
        self.files.receive(row.id, file)
        try:
            self.rows.add(row, self.settings.max_videos_waiting)
        except EmotionError:
            with contextlib.suppress(StorageError):
                self.files.remove(row.id)
            raise
        self.workers.start()
        self.workers.wake()
        return row

    def find(self, video_id: str) -> VideoRow:
        """Return a video that is kept.

        Raises:
            GoneError: there is none.
        """
        row = self.rows.find(video_id, self.clock())
        if row is None:
            raise GoneError("expected a video that is still kept; this one is gone or never was")
        return row

    def view(self, video_id: str) -> VideoView:
        """Return all that is to be told about a video.

        Raises:
            GoneError: there is none.
        """
        row = self.find(video_id)
        if row.state == WAITING:
            # after a restart nobody may have looked at the queue yet
            self.workers.start()
            return VideoView(row, before=self.rows.before(row))
        if row.state == RUNNING:
            return VideoView(row, progress=json.loads(row.progress or "{}"))
        if row.state == DONE:
            return VideoView(row, facts=self._read(row, FACTS), summary=self._read(row, SUMMARY))
        return VideoView(row)

    def file(self, video_id: str, name: str) -> Path:
        """Return a file that a finished video became.

        Raises:
            GoneError: there is none.
        """
        row = self.find(video_id)
        if row.state != DONE or name not in FILE_TYPES:
            raise GoneError("expected a file of a video that is done; there is no such file")
        return self.files.file(row.id, row.attempt, name)

    def remove_known(self, video_id: str) -> None:
        """Remove a video at once, also one that is half gone; work on it stops."""
        self.rows.remove(video_id)
        self.workers.wake()
        self.files.remove(video_id)

    def sweep(self) -> None:
        """Remove what is due and what a crash left."""
        for video_id in self.rows.expired(self.clock()):
            self.remove_known(video_id)
        self.files.sweep(self.rows.known, self.clock())

    def _read(self, row: VideoRow, name: str) -> Mapping:
        """Return a JSON file that the work on a video wrote."""
        try:
            return json.loads(self.files.file(row.id, row.attempt, name).read_bytes())
        except (OSError, ValueError) as error:
            raise GoneError("expected a video that is still kept; its files are gone") from error


def check_head(file: BinaryIO) -> None:
    """Look at the beginning of a file, and go back to it; the work itself looks further.

    Raises:
        EmptyVideoError: it is empty.
        VideoTypeError: it is no video of a kind that is read.
    """
    head = file.read(HEAD_BYTES)
    file.seek(0)
    if not head:
        raise EmptyVideoError("expected a video; received an empty file")
    if not looks_like_video(head):
        raise VideoTypeError(
            "expected a video as MP4, MOV, WebM, MKV, AVI, MPEG or Ogg; received another file"
        )


def looks_like_video(head: bytes) -> bool:
    """Tell whether a file begins as those videos do that are read."""
    if head[4:8] == b"ftyp" and head[8:12] in PICTURE_BRANDS:
        return False
    is_stream = all(head[place : place + 1] == b"G" for place in TRANSPORT_STREAM)
    return is_stream or any(head[at : at + len(mark)] == mark for at, mark in STARTS)
