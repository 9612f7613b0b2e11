"""What is drawn on frames: their faces, and in a window caption, message, help and red dot."""

import functools
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from emotion.drawing import annotate
from emotion.faces import Face
from emotion.video.summary import clock_time
from emotion.video.tracking import FrameFaces

PLATE_RGB, INK_RGB, KEY_RGB = (20, 20, 20), (255, 255, 255), (240, 228, 66)
RECORDING_RGB = (230, 30, 30)
PLATE_OPACITY = 0.88
SMALLEST_TEXT_PX = 12


def annotated(
    seen: FrameFaces, bars: bool = True, sides: dict[int, int] | None = None
) -> np.ndarray:
    """Return a copy of a frame with its faces boxed and labelled by the numbers of their tracks.

    Args:
        seen: the frame.
        bars: whether to draw the probabilities of all classes.
        sides: remembers where the bars of each track stood, so that they stay there.
    """
    faces = [tracked.face for tracked in seen.faces]
    return annotate(seen.image, faces, [tracked.track for tracked in seen.faces], bars, sides)


def mirrored(seen: FrameFaces) -> FrameFaces:
    """Return a frame with its boxes as in a mirror."""
    width = seen.image.shape[1]
    faces = tuple(replace(tracked, face=_turned(tracked.face, width)) for tracked in seen.faces)
    return replace(seen, image=cv2.flip(seen.image, 1), faces=faces)


def _turned(face: Face, width: int) -> Face:
    """Return a face at its place in a mirrored picture."""
    x, y, box_width, box_height = face.box_xywh
    return replace(face, box_xywh=(width - x - box_width, y, box_width, box_height))


def with_caption(view: np.ndarray, text: str) -> np.ndarray:
    """Return a copy of an RGB picture with a few words in its lower left corner."""
    plate = _plate((("", text),), _text_size(view))
    return _with_plate(view, plate, (0, view.shape[0] - plate.shape[0]))


def with_message(view: np.ndarray, text: str) -> np.ndarray:
    """Return a copy of an RGB picture with a sentence in its lower right corner."""
    plate = _plate((("", text),), _text_size(view))
    height, width = view.shape[:2]
    return _with_plate(view, plate, (width - plate.shape[1], height - plate.shape[0]))


def with_help(view: np.ndarray, lines: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return a copy of an RGB picture with (keys, what they do) in its middle."""
    plate = _plate(tuple(lines), round(1.3 * _text_size(view)))
    left, top = (view.shape[1] - plate.shape[1]) // 2, (view.shape[0] - plate.shape[0]) // 2
    return _with_plate(view, plate, (left, top))


def with_recording(view: np.ndarray, seconds: float) -> np.ndarray:
    """Return a copy of an RGB picture with a red dot and the time in its upper right corner."""
    size = round(1.3 * _text_size(view))
    plate = _plate((("   ", clock_time(seconds)),), size).copy()
    radius = size // 3
    cv2.circle(plate, (size, plate.shape[0] // 2), radius, RECORDING_RGB, -1, cv2.LINE_AA)
    return _with_plate(view, plate, (view.shape[1] - plate.shape[1], 0))


def _text_size(view: np.ndarray) -> int:
    return max(SMALLEST_TEXT_PX, max(view.shape[:2]) // 55)


@functools.lru_cache(maxsize=64)
def _plate(lines: tuple[tuple[str, str], ...], size: int) -> np.ndarray:
    """Return a dark plate with two columns of words; not to be changed."""
    font = ImageFont.load_default(size)
    row, pad = round(size * 1.5), round(size * 0.6)
    left = round(max(font.getlength(key) for key, _ in lines))
    left += 2 * pad if left else pad
    width = left + round(max(font.getlength(text) for _, text in lines)) + pad
    plate = Image.new("RGB", (width, row * len(lines) + pad), PLATE_RGB)
    pen = ImageDraw.Draw(plate)
    for number, (key, text) in enumerate(lines):
        middle = pad / 2 + (number + 0.5) * row
        pen.text((pad, middle), key, font=font, fill=KEY_RGB, anchor="lm")
        pen.text((left, middle), text, font=font, fill=INK_RGB, anchor="lm")
    return np.asarray(plate)


def _with_plate(view: np.ndarray, plate: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """Return a copy of a picture with a plate on it, cut off where the picture ends."""
    copy = view.copy()
    left, top = (max(0, side) for side in place)
    part = copy[top : top + plate.shape[0], left : left + plate.shape[1]]
    cut = plate[: part.shape[0], : part.shape[1]]
    part[:] = cv2.addWeighted(part, 1 - PLATE_OPACITY, cut, PLATE_OPACITY, 0)
    return copy
