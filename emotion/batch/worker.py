"""What a worker does: a photo in, its faces or the reason why there are none out.

A worker is any process that can import this package, in a pool here or in a cluster. It loads the
model when its first photo comes, and keeps it.
"""

import contextlib
import faulthandler
import functools
import os
import pickle
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from emotion.drawing import annotate
from emotion.errors import EmotionError, ImageError, ModelError
from emotion.files import whole_file
from emotion.images.decoding import ENOUGH_PIXELS, Photo, decode_photo, read_photo
from emotion.images.encoding import write_image
from emotion.images.guards import DEFAULT_LIMITS, ImageLimits
from emotion.model.runtime import load_model
from emotion.recognizer import Detector, Recognizer
from emotion.rows import results_to_dict

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker needs before it takes photos.

    Attributes:
        model: stem of the model's files; relative to the checkout where they are in it.
        model_sha256: SHA-256 of the weights, which the worker's own must have.
        make_detector: makes what finds the faces.
        threads: processors for each photo; None: as many as there are.
        photo_timeout_s: the worker ends itself when a photo takes longer; None: never.
        limits: photos beyond them are refused.
        is_remote: the worker may run on another machine.
    """

    model: str
    model_sha256: str
    make_detector: Callable[[], Detector]
    threads: int | None = None
    photo_timeout_s: float | None = None
    limits: ImageLimits = DEFAULT_LIMITS
    is_remote: bool = False


@dataclass(frozen=True)
class PhotoTask:
    """One photo for a worker.

    Attributes:
        settings: pickled `WorkerSettings`, by which a worker knows whether it is ready.
        path: the photo.
        content: its bytes, where they travel with the task.
        copy: where the annotated copy goes; None: none is made.
    """

    settings: bytes
    path: Path
    content: bytes | None = None
    copy: Path | None = None


@dataclass(frozen=True)
class PhotoAnswer:
    """What came of a photo.

    Attributes:
        results: from `results_to_dict`; None where there is a problem.
        problem: why there are none, one sentence.
        is_final: the same file would get the same answer again.
        copy: the annotated copy as bytes of a file, where the worker did not write it itself.
    """

    results: dict | None = None
    problem: str | None = None
    is_final: bool = True
    copy: bytes | None = None


def recognize_photo(task: PhotoTask) -> PhotoAnswer:
    """Return the faces of a photo, and make its annotated copy if asked.

    Raises:
        ModelError: this worker cannot load the model, or has another one.
    """
    settings, recognizer, watch = load_worker(task.settings)
    with watch.limited(settings.photo_timeout_s):
        try:
            photo = _read(task, settings)
            faces = recognizer.recognize(photo)
            copy = task.copy and _make_copy(task.copy, annotate(photo.full, faces), settings)
        except ImageError as error:
            return PhotoAnswer(problem=f"{error}", is_final=not may_change(error))
        except (cv2.error, MemoryError) as error:
            reason = f"expected a photo that can be searched; received {type(error).__name__}"
            return PhotoAnswer(problem=reason, is_final=False)
    model = recognizer.model
    return PhotoAnswer(results_to_dict(faces, photo.size_wh, model.name, model.sha256), copy=copy)


def check_worker(settings: bytes) -> str:
    """Make a worker ready and return the name of its machine; raises as `recognize_photo`."""
    load_worker(settings)
    return socket.gethostname()


def may_change(error: ImageError) -> bool:
    """True if the photo could not be reached: unchanged, it may be read another time."""
    return type(error) is ImageError and isinstance(error.__cause__, OSError)


@functools.lru_cache(maxsize=1)
def load_worker(pickled: bytes) -> "tuple[WorkerSettings, Recognizer, Watch]":
    """Return this process's settings, model and watch, made when they are first asked for.

    Raises:
        ModelError: the model cannot be loaded, or is not the one of the settings.
    """
    settings: WorkerSettings = pickle.loads(pickled)
    where = f"the worker on {socket.gethostname()}" if settings.is_remote else "the worker"
    if settings.threads is not None:
        cv2.setNumThreads(settings.threads)
    try:
        model = load_model(ROOT / settings.model, threads=settings.threads)
        recognizer = Recognizer(model, settings.make_detector())
    except EmotionError as error:
        raise ModelError(f"{where} cannot start: {error}") from error
    if model.sha256 != settings.model_sha256:
        raise ModelError(
            f"expected a model with SHA-256 {settings.model_sha256}; {where} has {model.sha256} at "
            f"{ROOT / settings.model}: copy the model's files there and start it again"
        )
    return settings, recognizer, Watch()


def _read(task: PhotoTask, settings: WorkerSettings) -> Photo:
    if task.content is not None:
        return decode_photo(task.content, settings.limits, ENOUGH_PIXELS)
    try:
        return read_photo(task.path, settings.limits, ENOUGH_PIXELS)
    except ImageError as error:
        if not settings.is_remote or not isinstance(error.__cause__, FileNotFoundError):
            raise
        raise ImageError(
            f"expected {task.path} in a folder that all machines share; the worker on "
            f"{socket.gethostname()} has no such file: share the folder under the same path, "
            "or use --send-files"
        ) from error.__cause__


def _make_copy(path: Path, image: np.ndarray, settings: WorkerSettings) -> bytes | None:
    """Write an annotated copy; return it instead where it must travel."""
    if not settings.is_remote:
        write_copy(path, image)
        return None
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder, f"copy{path.suffix}")
        write_image(part, image)
        return part.read_bytes()


def write_copy(path: Path, copy: np.ndarray | bytes) -> None:
    """Write an annotated copy, or the bytes of its file, and make the folders above it.

    Raises:
        ImageError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(copy, np.ndarray):
            write_image(path, copy)
            return
        with whole_file(path) as part:
            part.write_bytes(copy)
    except OSError as error:
        raise ImageError(
            f"expected a place for the annotated copy; received {path}: {error.strerror}"
        ) from error


class Watch:
    """Ends the process when a photo takes too long: nothing else stops a decoder that hangs.

    A worker of a cluster may read several photos at a time, so the earliest deadline counts.
    """

    def __init__(self):
        self._lock, self._deadlines_s = threading.Lock(), {}
        # where faulthandler writes to when the time comes; open as long as the process lives
        self._nowhere = os.open(os.devnull, os.O_WRONLY)

    @contextlib.contextmanager
    def limited(self, timeout_s: float | None) -> Iterator[None]:
        """End the process unless the block ends in time."""
        if timeout_s is None:
            yield
            return
        key = object()
        self._set(key, time.monotonic() + timeout_s)
        try:
            yield
        finally:
            self._set(key, None)

    def _set(self, key: object, deadline_s: float | None) -> None:
        with self._lock:
            self._deadlines_s[key] = deadline_s
            if deadline_s is None:
                del self._deadlines_s[key]
            faulthandler.cancel_dump_traceback_later()
            if self._deadlines_s:
                left_s = max(0.001, min(self._deadlines_s.values()) - time.monotonic())
                # its thread needs no interpreter lock, which native code may hold
                faulthandler.dump_traceback_later(left_s, exit=True, file=self._nowhere)


def portable_stem(stem: Path) -> str:
    """Return the stem of a model as another machine with its own checkout finds it."""
    path = stem.resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
