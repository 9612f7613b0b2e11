"""Grey copies of a photo that are searched, and the way from their pixels back to the photo."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from emotion.detection.boxes import Box
from emotion.detection.settings import DetectorSettings


@dataclass(frozen=True)
class View:
    """A grey copy of the photo, bordered and perhaps turned, and the way back from it."""

    grey: np.ndarray  # (H, W) uint8, border included
    to_photo: np.ndarray  # (2, 3) affine from pixels of `grey` to pixels of the photo
    smallest_face_px: int  # smallest box to look for, in pixels of `grey`
    largest_face_px: int = 0  # largest box to look for, 0 for any


def resized(grey: np.ndarray, side: int) -> np.ndarray:
    """Return a square grey picture with another side."""
    method = cv2.INTER_AREA if side < grey.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(grey, (side, side), interpolation=method)


def fitting(image: np.ndarray, pixels: int) -> float:
    """Return the factor that gives an image an area of `pixels`."""
    return math.sqrt(pixels / (image.shape[0] * image.shape[1]))


def scaled(image: np.ndarray, scale: float) -> np.ndarray:
    """Return an image made larger or smaller."""
    size_wh = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, size_wh, interpolation=method)


def replicated_cut(image: np.ndarray, left: int, top: int, cut: int) -> np.ndarray:
    """Return the square of `cut` pixels at (left, top); outside, the nearest edge repeats."""
    height, width = image.shape[:2]
    x0, x1 = (min(max(x, 0), width) for x in (left, left + cut))
    y0, y1 = (min(max(y, 0), height) for y in (top, top + cut))
    # a square wholly outside still needs one row or column to repeat
    x0, y0 = min(x0, width - 1), min(y0, height - 1)
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    inside = image[y0:y1, x0:x1]
    before = max(0, min(-top, cut - (y1 - y0))), max(0, min(-left, cut - (x1 - x0)))
    after = cut - (y1 - y0) - before[0], cut - (x1 - x0) - before[1]
    edges = before[0], after[0], before[1], after[1]
    return cv2.copyMakeBorder(inside, *edges, cv2.BORDER_REPLICATE)


def view_of(grey: np.ndarray, settings: DetectorSettings, pixels: int) -> View:
    """Return the copy of a photo that is searched: neither too large nor too small, bordered."""
    height, width = grey.shape
    short = min(height, width)
    enlarge = max(1.0, settings.working_short_side_px / short)
    scale = min(enlarge, fitting(grey, pixels))
    copy = scaled(grey, scale)
    border = round(settings.border_share * min(copy.shape))
    bordered = cv2.copyMakeBorder(copy, *[border] * 4, cv2.BORDER_REPLICATE)
    across, down = width / copy.shape[1], height / copy.shape[0]
    to_photo = np.array([[across, 0, -border * across], [0, down, -border * down]])
    smallest = max(settings.smallest_face_px, round(settings.smallest_face_share * short * scale))
    return View(bordered, to_photo, smallest)


def octave_views(view: View, settings: DetectorSettings) -> Iterable[View]:
    """Yield copies of a view, each twice as large as the one before, for an octave of faces each.

    The first has a wide border, without which faces that fill the photo are missed.
    """
    across, down = view.to_photo[0, 0], view.to_photo[1, 1]
    left, top = round(-view.to_photo[0, 2] / across), round(-view.to_photo[1, 2] / down)
    inner = view.grey[top : view.grey.shape[0] - top, left : view.grey.shape[1] - left]
    copies = [scaled(inner, settings.smallest_face_px / view.smallest_face_px)]
    while min(copies[-1].shape) > settings.coarsest_side_px:
        copies.append(scaled(copies[-1], 0.5))
    for copy in reversed(copies):
        is_first = copy is copies[-1]
        wide = round(settings.border_share * min(copy.shape))
        border = wide if is_first else settings.octave_border_px
        grey = cv2.copyMakeBorder(copy, *[border] * 4, cv2.BORDER_REPLICATE)
        x, y = across * inner.shape[1] / copy.shape[1], down * inner.shape[0] / copy.shape[0]
        to_photo = np.array([[x, 0, -border * x], [0, y, -border * y]])
        smallest_px = settings.smallest_face_px
        yield View(grey, to_photo, smallest_px, 0 if is_first else 2 * smallest_px)


def close_up(grey: np.ndarray, place: Box, settings: DetectorSettings) -> View:
    """Return a place and what is around it as a view, scaled so that faces have a standard size."""
    x, y, side, _ = place
    spread = 1 + 2 * settings.place_margin_share
    size_px, cut = round(settings.place_face_px * spread), max(1, round(side * spread))
    left, top = round(x + side / 2 - cut / 2), round(y + side / 2 - cut / 2)
    close = resized(replicated_cut(grey, left, top, cut), size_px)
    step = cut / size_px
    to_photo = np.array([[step, 0, left], [0, step, top]])
    return View(close, to_photo, settings.smallest_face_px, size_px)


def mirrored(view: View) -> View:
    """Return a view with left and right exchanged."""
    flip = np.array([[-1.0, 0, view.grey.shape[1]], [0, 1, 0]])
    return View(cv2.flip(view.grey, 1), _chain(view.to_photo, flip), view.smallest_face_px)


def turned(view: View, degrees: float) -> View:
    """Return a view turned counter-clockwise, on a canvas that holds all of it."""
    height, width = view.grey.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    cosine, sine = abs(turn[0, 0]), abs(turn[0, 1])
    canvas_wh = round(width * cosine + height * sine), round(height * cosine + width * sine)
    turn[:, 2] += (canvas_wh[0] - width) / 2, (canvas_wh[1] - height) / 2
    grey = cv2.warpAffine(view.grey, turn, canvas_wh, borderMode=cv2.BORDER_REPLICATE)
    back = cv2.invertAffineTransform(turn)
    return View(grey, _chain(view.to_photo, back), view.smallest_face_px)


def _chain(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the (2, 3) affine that does `first`, then `second`."""
    return second @ np.vstack([first, [0, 0, 1]])


def back(box: Box, to_photo: np.ndarray) -> Box:
    """Return the upright box in the photo with the middle and the size of a box in a view."""
    x, y, width, height = box
    middle_x, middle_y = to_photo @ (x + width / 2, y + height / 2, 1)
    scale = math.sqrt(abs(np.linalg.det(to_photo[:, :2])))
    wide, high = width * scale, height * scale
    return float(middle_x - wide / 2), float(middle_y - high / 2), wide, high


def forth(box: Box, to_photo: np.ndarray) -> Box:
    """Return a box of the photo in pixels of an upright view."""
    x, y, width, height = box
    across, down = to_photo[0, 0], to_photo[1, 1]
    left, top = (x - to_photo[0, 2]) / across, (y - to_photo[1, 2]) / down
    return left, top, width / across, height / down
