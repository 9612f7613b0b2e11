"""Frames with faces that were never filmed, for tests of what is made of them."""

import numpy as np

from emotion.faces import Face
from emotion.video.summary import SummaryBuilder
from emotion.video.tracking import FrameFaces, TrackedFace

IMAGE = np.zeros((2, 2, 3), np.uint8)
NAMES = ("angry", "happy", "neutral")


def tracked(track, emotion="happy", probability=0.8, sure=True, names=NAMES) -> TrackedFace:
    """Return a face whose answer is `emotion`; the other classes share what is left."""
    rest = (1 - probability) / (len(names) - 1)
    chances = {name: probability if name == emotion else rest for name in names}
    raw = dict.fromkeys(names, 1 / len(names))
    return TrackedFace(track, Face((1, 2, 30, 40), 4.5, chances, sure=sure), raw, True)


def frame(index: int, timestamp_s: float, *faces: TrackedFace) -> FrameFaces:
    return FrameFaces(index, timestamp_s, IMAGE, faces)


def summary_of(times_s, faces=lambda time_s: ()):
    """Return the summary of a frame for each time; `faces` gives the faces of a time."""
    builder = SummaryBuilder()
    for index, time_s in enumerate(times_s):
        builder.add(frame(index, time_s, *faces(time_s)))
    return builder.result()
