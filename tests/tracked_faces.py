"""Frames with faces that were never filmed, for tests of what is made of them."""

from collections.abc import Mapping, Sequence

import numpy as np

from emotion.faces import Face
from emotion.video.tracking import FrameFaces, TrackedFace

IMAGE = np.zeros((2, 2, 3), np.uint8)
NAMES = ("angry", "happy", "neutral")


def tracked(
    track: int,
    emotion: str = "happy",
    probability: float = 0.8,
    sure: bool = True,
    names: Sequence[str] = NAMES,
    **more,
) -> TrackedFace:
    """Return a face whose answer is `emotion`; the other classes share what is left."""
    rest = (1 - probability) / (len(names) - 1)
    chances = {name: probability if name == emotion else rest for name in names}
    raw = dict.fromkeys(names, 1 / len(names))
    return TrackedFace(track, Face((1, 2, 30, 40), 4.5, chances, sure=sure, **more), raw, True)


def frame(index: int, timestamp_s: float, *faces: TrackedFace) -> FrameFaces:
    return FrameFaces(index, timestamp_s, IMAGE, faces)


def frames_at(times_s: Sequence[float], faces: Mapping[float, Sequence] = {}) -> list[FrameFaces]:
    """Return a frame for each time; `faces` has the faces of some of the times."""
    return [frame(index, time_s, *faces.get(time_s, ())) for index, time_s in enumerate(times_s)]
