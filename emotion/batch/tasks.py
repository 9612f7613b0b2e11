"""What a worker does: one photo in, its faces or the reason why there are none out.

A worker is any process that can import this package: one of a pool here, or one of a cluster. It
loads the model when its first photo comes, and keeps it.
"""

import contextlib
import faulthandler
import functools
import hashlib
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

CODE = ("emotion/*.py", "emotion/batch/*.py", "models/face_places.onnx", "models/face_template.yml")
"""What decides on an answer beside the model."""


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker must have before it takes photos.

    Attributes:
        model: stem of the model's files, from the checkout's folder where they are in it.
        model_sha256: SHA-256 of the weights.
        code_sha256: see `code_sha256`.
        make_detector: gives what finds the faces.
        threads: how many processors each photo may use; None: as many as there are.
        photo_timeout_s: how long a photo may take before its worker ends itself.
        limits: what is refused.
        is_remote: whether the worker may run on another machine.
    """

    model: str
    model_sha256: str
    code_sha256: str
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
        is_final: whether the same file would get the same answer again.
        copy: the annotated copy as bytes of a file, where the worker did not write it itself.
    """

    results: dict | None = None
    problem: str | None = None
    is_final: bool = True
    copy: bytes | None = None


def recognize_photo(task: PhotoTask) -> PhotoAnswer:
    """Return what is on a photo, and make its annotated copy if asked.

    Raises:
        ModelError: this worker has another model or other code than the settings say.
    """
    worker = ready_worker(task.settings)
    with worker.watch.limited(worker.settings.photo_timeout_s):
        try:
            photo = worker.read(task)
            faces = worker.recognizer.recognize(photo)
            copy = worker.make_copy(task, photo, faces)
        except ImageError as error:
            return PhotoAnswer(problem=f"{error}", is_final=not may_change(error))
        except (cv2.error, MemoryError) as error:
            reason = f"expected a photo that can be searched; received {type(error).__name__}"
            return PhotoAnswer(problem=reason, is_final=False)
    model = worker.recognizer.model
    return PhotoAnswer(results_to_dict(faces, photo.size_wh, model.name, model.sha256), copy=copy)


def check_worker(settings: bytes) -> str:
    """Make a worker ready and return the name of its machine; raise as `recognize_photo`."""
    ready_worker(settings)
    return socket.gethostname()


def may_change(error: ImageError) -> bool:
    """Return whether an unchanged photo may be read another time: it could not be reached."""
    return type(error) is ImageError and isinstance(error.__cause__, OSError)


@functools.lru_cache(maxsize=1)
def ready_worker(settings: bytes) -> "Worker":
    """Return this process's worker, made when it is first asked for."""
    return Worker(pickle.loads(settings))


class Worker:
    """A model that is loaded and a detector, which fit the settings."""

    def __init__(self, settings: WorkerSettings):
        """Load the model.

        Raises:
            ModelError: model or code differ from the settings.
        """
        self.settings, self.watch = settings, Watch()
        where = f"the worker on {socket.gethostname()}" if settings.is_remote else "the worker"
        if settings.is_remote and code_sha256() != settings.code_sha256:
            raise ModelError(
                f"expected the same program everywhere; {where} runs another version from {ROOT}: "
                "update both to one commit and start it again"
            )
        try:
            self.recognizer = self._load()
        except EmotionError as error:
            raise ModelError(f"{where} cannot start: {error}") from error
        received = self.recognizer.model.sha256
        if received != settings.model_sha256:
            raise ModelError(
                f"expected a model with SHA-256 {settings.model_sha256}; {where} has {received} at "
                f"{ROOT / settings.model}: copy the model's files there and start it again"
            )

    def _load(self) -> Recognizer:
        settings = self.settings
        if settings.threads is not None:
            cv2.setNumThreads(settings.threads)
        model = load_model(ROOT / settings.model, threads=settings.threads)
        return Recognizer(model, settings.make_detector())

    def read(self, task: PhotoTask) -> Photo:
        """Return the photo of a task.

        Raises:
            ImageError: it cannot be read.
        """
        limits = self.settings.limits
        if task.content is not None:
            return decode_photo(task.content, limits, ENOUGH_PIXELS)
        try:
            return read_photo(task.path, limits, ENOUGH_PIXELS)
        except ImageError as error:
            if not self.settings.is_remote or not isinstance(error.__cause__, FileNotFoundError):
                raise
            raise ImageError(
                f"expected {task.path} in a folder that all machines share; the worker on "
                f"{socket.gethostname()} has no such file: share the folder under the same path, "
                "or use --send-files"
            ) from error.__cause__

    def make_copy(self, task: PhotoTask, photo: Photo, faces) -> bytes | None:
        """Write the annotated copy of a task; return it where it must travel."""
        if task.copy is None:
            return None
        image = annotate(photo.full, faces)
        if not self.settings.is_remote:
            write_copy(task.copy, image)
            return None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"copy{task.copy.suffix}")
            write_image(path, image)
            return path.read_bytes()


def write_copy(path: Path, copy: np.ndarray | bytes) -> None:
    """Write an annotated copy, or the bytes of its file, with the folders that it needs.

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

    @functools.cached_property
    def _nowhere(self) -> int:
        """Where faulthandler writes to when the time comes; open as long as the process lives."""
        return os.open(os.devnull, os.O_WRONLY)

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


@functools.lru_cache(maxsize=1)
def code_sha256() -> str:
    """Return the SHA-256 of all that decides on an answer beside the model, line ends apart."""
    total = hashlib.sha256()
    for pattern in CODE:
        for path in sorted(ROOT.glob(pattern)):
            total.update(path.relative_to(ROOT).as_posix().encode())
            total.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return total.hexdigest()


def portable_stem(stem: Path) -> str:
    """Return the stem of a model as another machine with its own checkout finds it."""
    path = stem.resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
