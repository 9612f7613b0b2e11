"""Videos of visitors: received, found and removed."""

import contextlib
import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from emotion import errors
from emotion.web.database import Database
from emotion.web.limits import client_digest, quota
from emotion.web.models.offered import Models
from emotion.web.settings import Settings
from emotion.web.storage import gone, new_id, require_plain
from emotion.web.videos.files import CROP, FACTS, FILE_TYPES, SOURCE, SUMMARY, VideoFiles
from emotion.web.videos.queue import DONE, RUNNING, WAITING, VideoRow
from emotion.web.videos.workers import VideoWorkers

UNFINISHED_S = 24 * 3600.0  # a video whose analysis has not ended expires after so long
PACKAGES = ("av", "pyarrow", "matplotlib", "scipy")  # what videos need and photos do not
# how the kinds of files begin that are read
VIDEO_HEAD = re.compile(
    # MP4, MOV and 3GP, but no HEIC or AVIF
    rb".{4}(?!ftyp(heic|heix|mif1|msf1|avif|avis))(ftyp|moov|mdat|wide|free)"
    # Matroska and WebM; AVI; Ogg; MPEG program and transport streams
    rb"|\x1aE\xdf\xa3|.{8}AVI |OggS|\x00\x00\x01\xba|G.{187}G.{187}G",
    re.DOTALL,
)


class Videos:
    """All videos of an app; safe to share between threads and between processes."""

    full_now = False  # whether the queue was full lately; the server asks before it takes a video

    def __init__(self, settings: Settings, database: Database, models: Models, clock: Callable):
        self.settings, self.database, self.clock = settings, database, clock
        self.files = VideoFiles(settings.uploads / "videos", settings.min_free_mb)
        self.most_waiting = (settings.max_videos_waiting, settings.max_videos_waiting_each)
        self.workers = VideoWorkers(settings, database, self.files, models, clock, self.look)

    def refusal(self) -> str:
        """Return why this server takes no videos, "" if it does."""
        if self.settings.keeps_nothing:
            return "Results of videos must be kept, and this server keeps nothing."
        if self.settings.video_workers == 0:
            return "Videos are not taken here."
        missing = " and ".join(name for name in PACKAGES if importlib.util.find_spec(name) is None)
        return missing and f"Videos cannot be read here: this server lacks {missing}."

    def look(self) -> None:
        with contextlib.suppress(errors.DatabaseError):  # then what was known counts
            self.full_now = self.database.videos_waiting() >= self.settings.max_videos_waiting

    def require_room(self, visitor: str) -> None:
        """Raise a `NoVideosError` or a `QueueFullError` if no video of this sender can be taken."""
        if refusal := self.refusal():
            raise errors.NoVideosError(refusal)
        self.database.require_room(visitor, client_digest(), *self.most_waiting)

    def take(self, file: BinaryIO, visitor: str, model_key: str) -> VideoRow:
        head = file.read(512)  # its analysis looks further
        file.seek(0)
        if not head:
            raise errors.EmptyVideoError("expected a video; received an empty file")
        if not VIDEO_HEAD.match(head):
            known = "MP4, MOV, WebM, MKV, AVI, MPEG or Ogg"
            raise errors.VideoTypeError(f"expected a video as {known}; received another file")
        now_s = self.clock()
        row = VideoRow(new_id(), visitor, now_s, now_s + UNFINISHED_S, model_key=model_key)
        self.files.create(row.id, {SOURCE: file})
        try:
            check = quota({row.id: self.files.size_of(row.id)}, visitor, now_s)
            self.database.add_video(row, client_digest(), *self.most_waiting, check)
        except errors.EmotionError:
            with contextlib.suppress(errors.StorageError):
                self.files.remove(row.id)
            raise
        finally:
            self.look()
        self.workers.start()
        self.workers.wake()
        return row

    def find(self, video_id: str) -> VideoRow:
        if row := self.database.video(video_id, self.clock()):
            return row
        raise gone()

    def about(self, row: VideoRow) -> dict:
        """Return what its row does not say: `before`, `progress`, or `facts` and `summary`."""
        if row.state == WAITING:
            self.workers.start()  # after a restart nobody may have looked at the queue yet
            return {"before": self.database.videos_before(row, self.clock())}
        if row.state == RUNNING:
            return {"progress": json.loads(row.progress or "{}")}
        names = (FACTS, SUMMARY) if row.state == DONE else ()
        try:
            paths = [self._path(row, name) for name in names]
            return {path.stem: json.loads(path.read_bytes()) for path in paths}
        except (OSError, ValueError) as error:
            raise gone() from error

    def file(self, video_id: str, name: str) -> Path:
        """Return a file of a video that is done, or raise a `GoneError`."""
        row = self.find(video_id)
        if row.state == DONE and (name in FILE_TYPES or CROP.fullmatch(name)):
            return self._path(row, name)
        raise gone()

    def _path(self, row: VideoRow, name: str) -> Path:
        return require_plain(self.files.path(row.id, row.attempt, name))  # no links are followed

    def remove_known(self, video_id: str) -> None:
        self.database.forget_video(video_id)
        self.look()
        self.workers.wake()
        with contextlib.suppress(errors.GoneError):
            self.files.remove(video_id)

    def sweep(self) -> None:
        known = self.database.known_videos()
        for video_id, expires_s in known.items():
            if expires_s <= self.clock():
                self.remove_known(video_id)
        self.files.sweep(known, self.clock())
