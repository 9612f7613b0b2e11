"""What a worker of a pool or cluster does: a photo in, its faces or why there are none out."""

import contextlib
import faulthandler
import functools
import os
import pickle
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2

from emotion.detection.haar import FaceDetector
from emotion.drawing import annotate
from emotion.errors import EmotionError, ImageError, ModelError
from emotion.images.decoding import ENOUGH_PIXELS, decode_photo, read_content
from emotion.images.encoding import write_image
from emotion.model.runtime import load_model
from emotion.recognizer import DEFAULT_MODEL, Detector, Recognizer
from emotion.rows import results_to_dict

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class BatchSettings:  # how photos are recognized
    model: Path = DEFAULT_MODEL  # stem of the model's files
    make_detector: Callable[[], Detector] = FaceDetector  # pickled: a class or a partial of one
    again: bool = False  # photos that are done and unchanged are done again
    photo_timeout_s: float | None = 300.0  # a worker ends itself after that; None: never


@dataclass(frozen=True)
class WorkerSettings(BatchSettings):
    """What a worker needs before it takes photos; a model in the checkout is relative to that."""

    model_sha256: str = ""  # of the weights, which the worker's own must have
    threads: int | None = None  # processors for each photo; None: as many as there are
    is_remote: bool = False  # the worker may run on another machine


@dataclass(frozen=True)
class PhotoAnswer:  # what came of a photo
    results: dict | None = None  # from `results_to_dict`; None where there is a problem
    problem: str | None = None  # why there are no results, one sentence
    is_final: bool = True  # the same file would get the same answer again
    copy: bytes | None = None  # the annotated copy, if one was asked for


def recognize_photo(
    pickled: bytes, path: Path, content: bytes | None, suffix: str | None
) -> PhotoAnswer:
    """Return the faces of a photo, whose bytes may be given, and its copy where it has a suffix."""
    settings, recognizer, watch = load_worker(pickled)
    copy = None
    with watch.limited(settings.photo_timeout_s):
        try:
            content = read_content(path) if content is None else content
            photo = decode_photo(content, enough_pixels=ENOUGH_PIXELS)
            faces = recognizer.recognize(photo)
            if suffix:
                with tempfile.TemporaryDirectory() as folder:
                    part = Path(folder, f"copy{suffix}")
                    write_image(part, annotate(photo.full, faces))
                    copy = part.read_bytes()
        except ImageError as error:
            words = str(error)
            if settings.is_remote and isinstance(error.__cause__, FileNotFoundError):
                expected = f"expected {path} on {socket.gethostname()}; there is no such file"
                words = f"{expected}: share its folder under the same path, or use --send-files"
            return PhotoAnswer(problem=words, is_final=is_final(error))
    model = recognizer.model
    return PhotoAnswer(results_to_dict(faces, photo.size_wh, model.name, model.sha256), copy=copy)


def check_worker(settings: bytes) -> bool:
    """Make a worker ready."""
    return bool(load_worker(settings))


def is_final(error: ImageError) -> bool:
    """False if the photo could not be reached: unchanged, it may be read another time."""
    return type(error) is not ImageError or not isinstance(error.__cause__, OSError)


@functools.lru_cache(maxsize=1)
def load_worker(pickled: bytes) -> "tuple[WorkerSettings, Recognizer, Watch]":
    """Return the settings, model and watch of this process, made once; raises ModelError."""
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


class Watch:
    """Ends the process when a photo takes too long: nothing else stops a decoder that hangs."""

    def __init__(self):
        # how many photos are in hand: a worker of a cluster may have several
        self._lock, self._photos = threading.Lock(), 0
        # where faulthandler writes to when the time comes; open as long as the process lives
        self._nowhere = os.open(os.devnull, os.O_WRONLY)

    @contextlib.contextmanager
    def limited(self, timeout_s: float | None) -> Iterator[None]:
        """End the process unless the block ends in time; one that begins meanwhile gives more."""
        with self._lock:
            self._photos += 1
            if timeout_s is not None:
                # its thread needs no interpreter lock, which native code may hold
                faulthandler.dump_traceback_later(timeout_s, exit=True, file=self._nowhere)
        try:
            yield
        finally:
            with self._lock:
                self._photos -= 1
                if not self._photos:
                    faulthandler.cancel_dump_traceback_later()


def portable_stem(stem: Path) -> Path:
    """Return the stem of a model as another machine with its own checkout finds it."""
    path = stem.resolve()
    return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
