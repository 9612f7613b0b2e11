"""What the script uses of the machine, and the recognizer that suits a source."""

import argparse
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2

from emotion.cli.output import tell
from emotion.cli.sources import Source, VideoSource
from emotion.detection.haar import FaceDetector
from emotion.detection.yunet import YunetDetector, YunetSettings
from emotion.recognizer import Detector, Recognizer
from emotion.video.window import Window, window_problem

TITLE = "Emotions: h shows all keys, q or Esc quits"


@dataclass(frozen=True)
class Tools:
    """What the script uses of the machine; a test puts others in their place."""

    load_recognizer: Callable[[Path, Detector], Recognizer] = Recognizer.load
    open_capture: Callable = cv2.VideoCapture
    open_window: Callable[[str], Window] = Window
    window_problem: Callable[[], str | None] = window_problem


def load(options: argparse.Namespace, source: Source, tools: Tools) -> Recognizer:
    """Return a recognizer with a search that suits the source, and tell the notes of its model."""
    recognizer = tools.load_recognizer(options.model, detector_for(options, source)())
    for note in recognizer.model.notes:
        tell(f"note: {recognizer.model.name}: {note}")
    return recognizer


def detector_for(options: argparse.Namespace, source: Source) -> Callable[[], Detector]:
    """Return what makes the detector; it can be sent to another process."""
    if isinstance(source, VideoSource):
        from emotion.video.following import CAMERA_SEARCH, VIDEO_SEARCH, YUNET_VIDEO_SEARCH

        if options.detector == "yunet":
            return functools.partial(YunetDetector, options.detector_model, YUNET_VIDEO_SEARCH)
        search = CAMERA_SEARCH if source.is_camera else VIDEO_SEARCH
        return functools.partial(FaceDetector, search)
    if options.detector == "yunet":
        path = options.detector_model
        # a network that is missing is known here, not in each worker
        YunetDetector(path, YunetSettings())
        return functools.partial(YunetDetector, path.resolve(), YunetSettings())
    return FaceDetector
