"""Copies of a photo on which faces have a size that a detector knows, and cuts from them."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from emotion.detection.boxes import Box


class View(NamedTuple):
    """A smaller copy of a photo."""

    grey: np.ndarray  # (H, W) uint8
    step: float  # pixels of the photo that one of its pixels spans


def scaled(image: np.ndarray, scale: float) -> np.ndarray:
    """Return an image made larger or smaller; by halves, which OpenCV does much faster."""
    size_wh = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    while min(image.shape[:2]) > 1 and 2 * size_wh[0] <= image.shape[1]:
        half_wh = [side // 2 for side in image.shape[1::-1]]
        image = cv2.resize(image, half_wh, interpolation=cv2.INTER_AREA)
    method = cv2.INTER_LINEAR if size_wh[0] < image.shape[1] else cv2.INTER_CUBIC
    return cv2.resize(image, size_wh, interpolation=method)


def fitting(image: np.ndarray, pixels: int) -> float:
    """Return the factor that gives an image an area of `pixels`."""
    return math.sqrt(pixels / (image.shape[0] * image.shape[1]))


def halved_views(grey: np.ndarray, scale: float, smallest_side_px: int) -> list[View]:
    """Return a photo at a scale, and each time at half of that, until its short side is small."""
    copies = [scaled(grey, scale)]
    while min(copies[-1].shape) > smallest_side_px:
        copies.append(scaled(copies[-1], 0.5))
    return [View(copy, grey.shape[1] / copy.shape[1]) for copy in copies]


def upright_cut(
    views: Sequence[View], box_xywh: Box, spread: float, roll_degrees: float, size_px: int
) -> np.ndarray:
    """Return what is around a square of the photo, turned upright, (size, size) uint8.

    Its side is `spread` sides of the square. It comes from the smallest view with nearly enough
    pixels (the largest is the first); beyond the edge the last ones repeat.
    """
    left, top, side, _ = box_xywh
    enough, middle = 1.15 * spread * side / size_px, size_px / 2 - 0.5
    view = next((view for view in reversed(views) if view.step <= enough), views[0])
    x, y = (left + side / 2) / view.step - 0.5, (top + side / 2) / view.step - 0.5
    zoom, turn = size_px * view.step / (spread * side), math.radians(-roll_degrees)
    cosine, sine = zoom * math.cos(turn), zoom * math.sin(turn)
    across = cosine, sine, middle - cosine * x - sine * y
    down = -sine, cosine, middle + sine * x - cosine * y
    matrix, border = np.array((across, down)), cv2.BORDER_REPLICATE
    return cv2.warpAffine(view.grey, matrix, (size_px, size_px), borderMode=border)
