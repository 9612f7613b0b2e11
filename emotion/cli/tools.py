"""What the script uses of the machine: its streams, its windows, a recognizer for a source."""

import argparse
import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import cv2

from emotion.cli.sources import Source, VideoSource
from emotion.detection.haar import FaceDetector
from emotion.detection.settings import DetectorSettings, yunet_file
from emotion.detection.yunet import YunetDetector, YunetSettings
from emotion.recognizer import Detector, Recognizer
from emotion.text import printable
from emotion.video.window import Window, window_problem
from emotion.video.writing import kept_file

STDOUT = Path("-")
TITLE = "Emotions: h shows all keys, q or Esc quits"


@dataclass(frozen=True)
class Tools:
    """What the script uses of the machine; a test puts others in their place."""

    load_recognizer: Callable[[Path, Detector], Recognizer] = Recognizer.load
    open_capture: Callable = cv2.VideoCapture
    open_window: Callable[[str], Window] = Window
    window_problem: Callable[[], str | None] = window_problem


def tell(sentence: str) -> None:
    """Write one line on stderr, where progress, warnings and errors go."""
    sys.stderr.write(f"emotion_detector: {printable(sentence)}\n")


def write_lines(lines: Sequence[str]) -> None:
    """Write lines on stdout, where results go, at once."""
    sys.stdout.write("".join(f"{printable(line)}\n" for line in lines))
    sys.stdout.flush()


@contextlib.contextmanager
def json_out(path: Path) -> Iterator[TextIO]:
    """Give stdout for "-", else a file that appears at the end and is kept when interrupted."""
    if path == STDOUT:
        yield sys.stdout
        sys.stdout.flush()
    else:
        with kept_file(path) as part, part.open("w", encoding="utf-8") as stream:
            yield stream


def load(options: argparse.Namespace, source: Source, tools: Tools) -> Recognizer:
    """Return a recognizer with a search that suits the source, and tell the notes of its model."""
    recognizer = tools.load_recognizer(options.model, detector_for(options, source)())
    for note in recognizer.model.notes:
        tell(f"note: {recognizer.model.name}: {note}")
    return recognizer


def detector_for(options: argparse.Namespace, source: Source) -> Callable[[], Detector]:
    """Return what makes the detector; it can be sent to another process."""
    face_search, yunet_search = DetectorSettings(), YunetSettings()
    if isinstance(source, VideoSource):
        from emotion.video.following import CAMERA_SEARCH, VIDEO_SEARCH, YUNET_VIDEO_SEARCH

        face_search = CAMERA_SEARCH if source.is_camera else VIDEO_SEARCH
        yunet_search = YUNET_VIDEO_SEARCH
    if options.detector == "yunet":
        path = yunet_file(options.detector_model)
        if not isinstance(source, VideoSource):
            # a network that is missing is known here, not in each worker
            YunetDetector(path, yunet_search)
        return functools.partial(YunetDetector, path.resolve(), yunet_search)
    return functools.partial(FaceDetector, face_search)
