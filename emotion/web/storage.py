"""What is kept of photos and videos: one folder each, of an unguessable name.

A folder is filled under a hidden name and renamed when it is whole; it gets a hidden name again
before it is removed. So nobody sees half of it. Of a photo only pictures drawn anew from pixels are
kept, and the file's name if the visitor wants that: never the bytes or the metadata.
"""

import contextlib
import errno
import io
import json
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from emotion.errors import GoneError, StorageError
from emotion.faces import Face
from emotion.files import whole_file
from emotion.rows import face_from_dict, face_to_dict

RESULT_FILE = "result.json"
ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{22}")  # what `new_id` makes
# the photo, copies of it, each face, what the model saw of each; if asked for, boxed or blurred
PICTURE_PATTERN = re.compile(
    r"(photo|view|thumb|face-[1-9][0-9]{0,4}|annotated|blurred)\.jpg|input-[1-9][0-9]{0,4}\.png"
)
# what reading a damaged file may raise
DAMAGES = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
PART_PREFIX = ".part-"
PART_AGE_S = 3600  # a hidden folder older than this was left behind by a process that crashed


class Folders:
    """Folders of unguessable names; safe to share between threads and between processes."""

    def __init__(self, folder: Path, min_free_mb: float = 0):
        self.folder, self.min_free_mb = folder, min_free_mb

    def require_room(self) -> None:
        """Raise a `StorageError` where nothing can be written, or the disk is nearly full."""
        # the folder may still have to be made
        found = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        if not (found.is_dir() and os.access(found, os.W_OK | os.X_OK)):
            raise StorageError(OSError(errno.EACCES, "it cannot be written to"))
        if shutil.disk_usage(found).free < self.min_free_mb * 2**20:
            raise StorageError(OSError(errno.ENOSPC, f"less than {self.min_free_mb:g} MB free"))

    def size_of(self, name: str) -> int:
        with contextlib.suppress(OSError):
            return sum(path.stat().st_size for path in self.path(name).rglob("*") if path.is_file())
        return 0

    def create(self, name: str, files: Mapping[str, bytes | BinaryIO]) -> None:
        """Make a folder with these files, for their owner alone; raises StorageError."""
        part = self.folder / f"{PART_PREFIX}{name}"
        self.require_room()
        try:
            for folder in (self.folder.parent, self.folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.mkdir(mode=0o700)
            for file, data in files.items():
                _write(part / file, data)
            part.rename(self.folder / name)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise StorageError(error) from error

    def path(self, name: str, *parts: str) -> Path:
        """Return a path in a folder; raises GoneError for a name that is no id."""
        if not is_id(name):
            raise gone()
        return self.folder.joinpath(name, *parts)

    def remove(self, name: str) -> None:
        """Remove a folder at once; raises GoneError if there is none, or StorageError."""
        path = self.path(name.removeprefix(PART_PREFIX))
        hidden = path.with_name(f"{PART_PREFIX}{path.name}")
        try:
            path.with_name(name).rename(hidden)
            shutil.rmtree(hidden)
        except FileNotFoundError as error:
            raise gone() from error
        except OSError as error:
            raise StorageError(error) from error

    def _remove_due(self, is_due: Callable[[Path], bool], now_s: float) -> int:
        """Remove what is due and what a crash left; return how many, or raise StorageError last."""
        failure, removed = None, 0
        try:
            paths = list(self.folder.iterdir()) if self.folder.exists() else []
        except OSError as error:
            raise StorageError(error) from error
        for path in paths:
            before, _, name = path.name.partition(PART_PREFIX)
            try:
                is_left = not before and is_id(name) and stat.S_ISDIR(path.lstat().st_mode)
                if is_due(path) if is_id(path.name) else is_left and is_old(path, now_s):
                    self.remove(path.name)
                    removed += 1
            except StorageError as error:
                failure = error
            except (GoneError, OSError):
                continue  # another process was quicker, or it is not ours
        if failure:
            raise failure
        return removed


@dataclass(frozen=True)
class Analysis:
    """One stored photo. Times are seconds since 1970."""

    id: str
    created_s: float
    expires_s: float
    results: Mapping  # what `results_to_dict` gave
    model: Mapping  # what the page says about the model: name, runtime and notes
    set_id: str  # the photos that were sent with it have the same
    labels: Mapping | None = None  # what `labels_of` gave; None: kept since before there was one
    name: str = ""  # of the sender's file, for the sender only; "" where it is not kept

    @property
    def faces(self) -> tuple[Face, ...]:
        return tuple(face_from_dict(content) for content in self.results["faces"])


class Storage(Folders):
    """The folders of photos: `result.json` and pictures in each, until they expire."""

    def __init__(self, folder: Path, keep_s: float, clock=time.time, min_free_mb: float = 0):
        super().__init__(folder, min_free_mb)
        self.keep_s, self.clock = keep_s, clock

    def save(
        self, results: Mapping, model: Mapping, pictures: Mapping, set_id="", labels=None, name=""
    ) -> str:
        """Store a photo with its pictures, as a set of its own without `set_id`; return its id."""
        photo_id = new_id()
        about = {"created_s": self.clock(), "set": set_id or photo_id, "model": dict(model)}
        about |= {"name": name, "labels": labels, "results": dict(results)}
        self.create(photo_id, {**pictures, RESULT_FILE: json.dumps(about, indent=1).encode()})
        return photo_id

    def add_picture(self, analysis_id: str, name: str, data: bytes) -> None:
        """Keep one more picture of a photo, to go with it; not kept where there is no room."""
        require_plain(self.path(analysis_id, RESULT_FILE))
        # a photo that is deleted in this moment takes with it what is half written
        with contextlib.suppress(OSError, StorageError):
            self.require_room()
            with whole_file(self.path(analysis_id, name)) as part:
                _write(part, data)

    def load(self, analysis_id: str) -> Analysis:
        """Return a photo that has not expired; raises GoneError."""
        try:
            created_s, content = _read_result(self.path(analysis_id, RESULT_FILE))
            results, model = content["results"], content["model"]
            set_id = content.get("set", analysis_id)
            is_whole = is_id(set_id) and _is_whole(results, model, content.get("labels"))
            if self._is_expired(created_s) or not is_whole:
                raise gone()
        except (OSError, *DAMAGES) as error:
            raise gone() from error
        times = created_s, created_s + self.keep_s
        more = content.get("labels"), content.get("name", "")
        return Analysis(analysis_id, *times, results, model, set_id, *more)

    def read_picture(self, analysis_id: str, name: str) -> bytes:
        """Return a picture of a photo that has not expired; raises GoneError."""
        if not PICTURE_PATTERN.fullmatch(name):
            raise gone()
        self.load(analysis_id)
        try:
            return require_plain(self.path(analysis_id, name)).read_bytes()
        except OSError as error:
            raise gone() from error

    def delete(self, analysis_id: str) -> None:
        """Remove a photo at once; raises GoneError if there is none, or StorageError."""
        require_plain(self.path(analysis_id, RESULT_FILE))
        self.remove(analysis_id)

    def sweep(self) -> int:
        """Remove what has expired and what a crash left; return how many, or raise StorageError."""
        return self._remove_due(
            lambda path: self._is_expired(_read_result(path / RESULT_FILE)[0]), self.clock()
        )

    def _is_expired(self, created_s: float) -> bool:
        # a clock that was set back must not keep a photo for ever
        return abs(self.clock() - created_s) >= self.keep_s


def new_id() -> str:
    """Return a name that cannot be guessed, of a photo, a set or a video."""
    return secrets.token_urlsafe(16)


def is_id(text: str) -> bool:
    return ID_PATTERN.fullmatch(text) is not None


def gone() -> GoneError:
    return GoneError("expected a result that is still kept; this one is gone or never was")


def require_plain(path: Path) -> Path:
    """Return the path of a plain file in a plain folder, no links; raises GoneError."""
    with contextlib.suppress(OSError, ValueError):
        if stat.S_ISDIR(path.parent.lstat().st_mode) and stat.S_ISREG(path.lstat().st_mode):
            return path
    raise gone()


def is_old(path: Path, now_s: float) -> bool:
    """True if a path was last changed more than an hour ago."""
    return abs(now_s - path.lstat().st_mtime) > PART_AGE_S


def _kinds(value: object) -> object:
    if isinstance(value, dict):
        return {name: _kinds(each) for name, each in value.items()}
    if isinstance(value, list) and not all(isinstance(each, str) for each in value):
        raise ValueError("expected a list of texts; received others")
    return type(value)


def _is_whole(results: dict, model: dict, labels: dict | None) -> bool:
    """True if a photo's results can be shown; else False, or one of `DAMAGES` is raised."""
    for face in results["faces"]:
        face |= face_to_dict(face_from_dict(face)) | face  # older ones lack some of it
        is_known = _kinds(face_to_dict(face_from_dict(face))) == _kinds(face)
        if not is_known or max(map(abs, face["box"].values())) > 10**6:
            return False
    sized = [results["image"], labels or results["image"]]
    has_sides = min(each[name] for each in sized for name in ("width", "height")) > 0
    places = labels["places"] if labels is not None else []
    for text, *numbers in places:
        if not isinstance(text, str) or len(numbers) != 5 or sum(numbers) > 10**6:
            return False
    has_places = not places or len(places) >= len(results["faces"])
    has_places &= isinstance(results.get("faces_left_out", 0), int)
    told = {"notes": [], "of": results["model"]["sha256"]} | model
    share = told.pop("accuracy_when_unsure", None)
    is_told = _kinds(told) == {name: list if name == "notes" else str for name in told}
    return has_sides and has_places and is_told and isinstance(share, float | None)


def _read_result(path: Path) -> tuple[float, dict]:
    """Return when a photo was stored and what its file says; {} if that is damaged."""
    try:
        # NaN and the like, which are no whole numbers, are refused
        content = json.loads(require_plain(path).read_bytes(), parse_constant=int)
        return float(content["created_s"] + 0), content
    except DAMAGES:
        return path.lstat().st_mtime, {}


def _write(path: Path, data: bytes | BinaryIO) -> None:
    path.touch(mode=0o600, exist_ok=False)
    with path.open("wb") as file:
        shutil.copyfileobj(io.BytesIO(data) if isinstance(data, bytes) else data, file, 2**20)
