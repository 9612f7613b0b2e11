"""The files of videos: one folder each, of an unguessable name, with a folder for each attempt.

`UPLOADS/videos/<id>/your video` is what was sent; it goes as soon as the work on it has ended.
`UPLOADS/videos/<id>/<attempt>/` is what one attempt made of it. A folder is renamed to a hidden
name before it is removed, so that nobody sees half of it and work that still goes on fails.
"""

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

from emotion.web.storage import PART_AGE_S, PART_PREFIX, GoneError, StorageError, is_id

SOURCE = "your video"
"""What is said about the file names it so: its own name is never known here."""

CHUNK_BYTES = 2**20

VIDEO, POSTER, TIMELINE = "annotated.mp4", "poster.jpg", "timeline.png"
SUMMARY, FACTS = "summary.json", "facts.json"
TABLES = ("emotions.csv", "emotions.jsonl", "emotions.parquet")
FILE_TYPES = {
    VIDEO: "video/mp4",
    POSTER: "image/jpeg",
    TIMELINE: "image/png",
    "emotions.csv": "text/csv",
    "emotions.jsonl": "application/jsonl",
    "emotions.parquet": "application/vnd.apache.parquet",
    SUMMARY: "application/json",
}
"""What anyone who knows the address may have -> its media type."""

LINKS = {
    "video": "annotated.mp4",
    "poster": "poster.jpg",
    "timeline": "timeline.png",
    "csv": "emotions.csv",
    "jsonl": "emotions.jsonl",
    "parquet": "emotions.parquet",
    "summary": "summary.json",
}
"""What the API calls a file of a video that is done -> its name."""


class VideoFiles:
    """The folder of all videos; safe to share between threads and between processes."""

    def __init__(self, folder: Path):
        """Keep videos in `folder`; nothing is touched yet."""
        self.folder = folder

    def receive(self, video_id: str, file: BinaryIO) -> None:
        """Write what was sent, which is read in pieces.

        Raises:
            StorageError: the disk is full, read-only or not there.
        """
        part = self.folder / f"{PART_PREFIX}{video_id}"
        try:
            self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            part.mkdir(mode=0o700)
            (part / SOURCE).touch(mode=0o600)
            with (part / SOURCE).open("wb") as source:
                shutil.copyfileobj(file, source, CHUNK_BYTES)
            part.rename(self.folder / video_id)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise StorageError(error) from error

    def source(self, video_id: str) -> Path:
        """Return where the file that was sent lies."""
        return self._folder_of(video_id) / SOURCE

    def make_room(self, video_id: str, attempt: str) -> Path:
        """Make and return the folder of an attempt.

        Raises:
            StorageError: it cannot be made.
        """
        room = self._folder_of(video_id) / attempt
        try:
            room.mkdir(mode=0o700)
        except OSError as error:
            raise StorageError(error) from error
        return room

    def file(self, video_id: str, attempt: str, name: str) -> Path:
        """Return a file that an attempt made; links are not followed.

        Raises:
            GoneError: there is none.
        """
        path = self._folder_of(video_id) / attempt / name
        known = (*FILE_TYPES, FACTS)
        if not is_id(attempt) or name not in known or not _is_plain(path):
            raise GoneError("expected a file that is still kept; this one is gone or never was")
        return path

    def keep_only(self, video_id: str, attempt: str = "") -> None:
        """Remove what was sent, and what other attempts than this one left."""
        with contextlib.suppress(FileNotFoundError):
            for entry in self._folder_of(video_id).iterdir():
                if entry.name != attempt:
                    _remove(entry)

    def drop_room(self, video_id: str, attempt: str) -> None:
        """Remove what an attempt left."""
        _remove(self._folder_of(video_id) / attempt)

    def remove(self, video_id: str) -> None:
        """Remove all of a video; none of it may be there any more.

        Raises:
            StorageError: it cannot be removed.
        """
        hidden = self.folder / f"{PART_PREFIX}{video_id}"
        try:
            self._folder_of(video_id).rename(hidden)
            shutil.rmtree(hidden)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(error) from error

    def sweep(self, known: Callable[[Iterable[str]], set[str]], now_s: float) -> None:
        """Remove what no row of the database speaks of and what a crash left, once an hour old.

        Args:
            known: returns those of some ids that the database has.
            now_s: the time, in seconds since 1970.

        Raises:
            StorageError: something cannot be removed.
        """
        old = [path for path in self._entries() if _is_old(path, now_s)]
        ids = {path.name for path in old if is_id(path.name)}
        for video_id in ids - known(ids):
            self.remove(video_id)
        for path in old:
            if path.name.startswith(PART_PREFIX) and is_id(path.name.removeprefix(PART_PREFIX)):
                shutil.rmtree(path, ignore_errors=True)

    def _entries(self) -> list[Path]:
        try:
            return list(self.folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageError(error) from error

    def _folder_of(self, video_id: str) -> Path:
        """Return the folder of an id that has the right form; no other id reaches the disk."""
        if not is_id(video_id):
            raise GoneError("expected a video that is still kept; this one is gone or never was")
        return self.folder / video_id


def _remove(path: Path) -> None:
    """Remove a file or a folder, as far as it can be; the sweeper comes again."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(OSError):
        path.unlink()


def _is_plain(path: Path) -> bool:
    """Tell whether a path is a plain file in a plain folder, neither of them a link."""
    try:
        modes = [os.lstat(each).st_mode for each in (path.parent, path)]
    except OSError:
        return False
    return stat.S_ISDIR(modes[0]) and stat.S_ISREG(modes[1])


def _is_old(path: Path, now_s: float) -> bool:
    try:
        return abs(now_s - path.lstat().st_mtime) > PART_AGE_S
    except OSError:
        return False
