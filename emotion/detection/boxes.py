"""Boxes of faces in pixels: what a detector returns, and which boxes are the same face."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from emotion.detection.settings import DetectorSettings
from emotion.errors import ImageError

Box = tuple[float, float, float, float]  # left, top, width, height in pixels


@dataclass(frozen=True)
class Detection:
    """One face that was found."""

    box_xywh: tuple[int, int, int, int]  # left, top, width, height; wholly inside the photo
    # higher is surer; compares among frontal boxes (rotated ones too), among profiles and among
    # portraits: the profile cascade adds its own weight, a portrait has the template's score
    score: float
    roll_degrees: float = 0.0  # tilt of the head, counter-clockwise as seen; `crop_face` takes it


def check_image(image: np.ndarray) -> None:
    """Raise an ImageError unless `image` is a photo as `emotion.images.decoding` hands it out."""
    if not isinstance(image, np.ndarray):
        raise ImageError(f"expected an image as a numpy array; received {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ImageError(
            "expected an image of shape (height, width, 3) and type uint8; "
            f"received {image.shape} and {image.dtype}"
        )


def merge_boxes(found: Iterable[Detection], settings: DetectorSettings) -> list[Detection]:
    """Return one box a face: of boxes that overlap or hold each other, the strongest."""
    kept: list[Detection] = []
    for face in sorted(found, key=lambda face: (-face.score, face.box_xywh)):
        overlaps = (overlap_of(face.box_xywh, other.box_xywh) for other in kept)
        limits = settings.merge_overlap, settings.merge_containment
        if all(union <= limits[0] and inside <= limits[1] for union, inside in overlaps):
            kept.append(face)
    return kept


def overlap_of(one: Box, other: Box) -> tuple[float, float]:
    """Return the intersection of two boxes over their union, and over the smaller of them."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = one[2] * one[3], other[2] * other[3]
    return shared / (sum(areas) - shared), shared / min(areas)


def clip_boxes(found: Iterable[Detection], shape: tuple[int, int]) -> list[Detection]:
    """Return the boxes cut to whole pixels inside the photo; those centred outside are no faces."""
    height, width = shape
    inside = []
    for face in found:
        x, y, wide, high = face.box_xywh
        if 0 <= x + wide / 2 < width and 0 <= y + high / 2 < height:
            left, top = max(0, round(x)), max(0, round(y))
            right, bottom = min(width, round(x + wide)), min(height, round(y + high))
            box = (left, top, max(1, right - left), max(1, bottom - top))
            inside.append(replace(face, box_xywh=box))
    return inside
