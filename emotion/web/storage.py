"""What is kept of an analysis, where and for how long: one folder each, of an unguessable name.

A folder holds `result.json` and pictures that were drawn anew from pixels, so neither the bytes,
the metadata nor the name of the visitor's file is ever written. It is filled under a hidden name
and renamed when whole; it is renamed to a hidden name before it is removed.
"""

import json
import re
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from emotion.errors import GoneError, StorageError
from emotion.faces import Face
from emotion.rows import face_from_dict

RESULT_FILE = "result.json"
ID_BYTES = 16
ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{22}")
"""What `secrets.token_urlsafe(ID_BYTES)` makes."""

PICTURE_PATTERN = re.compile(
    r"(annotated|view|thumb|face-[1-9][0-9]{0,4})\.jpg|input-[1-9][0-9]{0,4}\.png"
)
"""The photo with boxes, copies of it for pages, each face, and what the model saw of each."""

PART_PREFIX = ".part-"
PART_AGE_S = 3600
"""A hidden folder older than this was left behind by a process that ended early."""


@dataclass(frozen=True)
class Analysis:
    """One stored analysis.

    Attributes:
        id: its unguessable name.
        created_s: when it was made, in seconds since 1970.
        expires_s: when it is removed, in seconds since 1970.
        results: what `results_to_dict` gave.
        model: what the page says about the model: name, runtime and notes.
        set_id: the photos that were sent with it have the same.
    """

    id: str
    created_s: float
    expires_s: float
    results: Mapping
    model: Mapping
    set_id: str

    @property
    def faces(self) -> tuple[Face, ...]:
        return tuple(face_from_dict(content) for content in self.results["faces"])

    @property
    def expires(self) -> datetime:
        return datetime.fromtimestamp(self.expires_s, UTC)


class Storage:
    """The folder of all analyses; safe to share between threads and between processes."""

    def __init__(self, folder: Path, keep_s: float, clock: Callable[[], float] = time.time):
        """Keep analyses in `folder` for `keep_s` seconds of `clock`; nothing is touched yet."""
        self.folder = folder
        self.keep_s = keep_s
        self.clock = clock
        self._next_sweep_s = 0.0
        self._sweeping = threading.Lock()

    @property
    def sweep_interval_s(self) -> float:
        """Return how often to look for expired analyses: every few minutes, or what is shorter."""
        return min(300.0, max(1.0, self.keep_s / 10))

    def save(
        self, results: Mapping, model: Mapping, pictures: Mapping[str, bytes], set_id: str = ""
    ) -> str:
        """Store an analysis and return its id.

        Args:
            results: what `results_to_dict` gave.
            model: what the page says about the model: name, runtime and notes.
            pictures: file name -> JPEG or PNG without metadata.
            set_id: the set it belongs to; a photo without one is a set of its own.

        Raises:
            StorageError: the disk is full, read-only or not there.
        """
        analysis_id = new_id()
        part = self.folder / f"{PART_PREFIX}{analysis_id}"
        content = {
            "created_s": self.clock(),
            "set": set_id or analysis_id,
            "model": dict(model),
            "results": dict(results),
        }
        files = {**pictures, RESULT_FILE: json.dumps(content, indent=1).encode()}
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.mkdir(mode=0o700)
            for name, data in files.items():
                _write(part / name, data)
            part.rename(self.folder / analysis_id)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise StorageError(error) from error
        return analysis_id

    def load(self, analysis_id: str) -> Analysis:
        """Return an analysis whose time is not up.

        Raises:
            GoneError: there is none.
        """
        created_s, content = self._read_result(self._folder_of(analysis_id))
        if self._is_expired(created_s):
            raise _gone()
        try:
            return Analysis(
                id=analysis_id,
                created_s=created_s,
                expires_s=created_s + self.keep_s,
                results=content["results"],
                model=content["model"],
                set_id=content.get("set", analysis_id),
            )
        except KeyError as error:
            raise _gone() from error

    def read_picture(self, analysis_id: str, name: str) -> bytes:
        """Return a picture of an analysis whose time is not up.

        Raises:
            GoneError: there is none.
        """
        if not PICTURE_PATTERN.fullmatch(name):
            raise _gone()
        self.load(analysis_id)
        return _read(self._folder_of(analysis_id) / name)

    def delete(self, analysis_id: str) -> None:
        """Remove an analysis at once.

        Raises:
            GoneError: there is none.
            StorageError: it cannot be removed.
        """
        folder = self._folder_of(analysis_id)
        _read(folder / RESULT_FILE)
        self._remove(folder)

    def sweep_if_due(self) -> int:
        """Sweep if the last time was a while ago; return how many folders were removed."""
        if self.clock() < self._next_sweep_s or not self._sweeping.acquire(blocking=False):
            return 0
        try:
            self._next_sweep_s = self.clock() + self.sweep_interval_s
            return self.sweep()
        finally:
            self._sweeping.release()

    def sweep(self) -> int:
        """Remove every analysis whose time is up and what a crash left; return how many.

        Raises:
            StorageError: one cannot be removed; the others were.
        """
        failure, removed = None, 0
        for folder in self._own_folders():
            try:
                self._remove(folder)
                removed += 1
            except StorageError as error:
                failure = error
            except GoneError:
                continue  # another process was quicker
        if failure:
            raise failure
        return removed

    def _own_folders(self) -> list[Path]:
        """Return the folders that are ours for sure and whose time is up."""
        try:
            entries = list(self.folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageError(error) from error
        return [entry for entry in entries if self._is_due(entry)]

    def _is_due(self, entry: Path) -> bool:
        """Tell whether an entry of the folder is ours and to be removed."""
        name = entry.name
        try:
            if ID_PATTERN.fullmatch(name):
                return self._is_expired(self._read_result(entry)[0])
            is_part = ID_PATTERN.fullmatch(name.removeprefix(PART_PREFIX))
            if name.startswith(PART_PREFIX) and is_part and _is_real_folder(entry):
                return abs(self.clock() - entry.lstat().st_mtime) > PART_AGE_S
        except (GoneError, OSError):
            return False
        return False

    def _is_expired(self, created_s: float) -> bool:
        """Tell whether time is up; a clock that was set back must not keep a photo for ever."""
        return abs(self.clock() - created_s) >= self.keep_s

    def _folder_of(self, analysis_id: str) -> Path:
        """Return the folder of an id that has the right form; no other id reaches the disk."""
        if not ID_PATTERN.fullmatch(analysis_id):
            raise _gone()
        return self.folder / analysis_id

    def _read_result(self, folder: Path) -> tuple[float, dict]:
        """Return when an analysis was made and what its file says; {} where that is damaged.

        Raises:
            GoneError: the folder is not one of ours.
        """
        path = folder / RESULT_FILE
        data = _read(path)
        try:
            content = json.loads(data)
            return float(content["created_s"]), content
        except (ValueError, KeyError, TypeError):
            return _modified_s(path), {}

    def _remove(self, folder: Path) -> None:
        """Hide a folder, so that no page shows half of it, then remove it."""
        hidden = self.folder / f"{PART_PREFIX}{folder.name.removeprefix(PART_PREFIX)}"
        try:
            folder.rename(hidden)
            shutil.rmtree(hidden)
        except FileNotFoundError as error:
            raise _gone() from error
        except OSError as error:
            raise StorageError(error) from error


def new_id() -> str:
    """Return a name that cannot be guessed, of an analysis or of a set."""
    return secrets.token_urlsafe(ID_BYTES)


def is_id(text: str) -> bool:
    """Tell whether a text has the form of such a name."""
    return ID_PATTERN.fullmatch(text) is not None


def _gone() -> GoneError:
    return GoneError("expected a result that is still kept; this one is gone or never was")


def _is_real_folder(path: Path) -> bool:
    """Tell whether a path is a folder itself, not a link to one."""
    return stat.S_ISDIR(path.lstat().st_mode)


def _read(path: Path) -> bytes:
    """Return the content of a plain file in a plain folder; links are not followed."""
    try:
        if not _is_real_folder(path.parent) or not stat.S_ISREG(path.lstat().st_mode):
            raise _gone()
        return path.read_bytes()
    except OSError as error:
        raise _gone() from error


def _modified_s(path: Path) -> float:
    """Return when a file was last written, in seconds since 1970."""
    try:
        return path.lstat().st_mtime
    except OSError as error:
        raise _gone() from error


def _write(path: Path, data: bytes) -> None:
    """Write a file that is not there yet, for its owner alone."""
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(data)
