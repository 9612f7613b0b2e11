"""Boxes of faces in pixels: what a detector returns, and which boxes are the same face."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from emotion.errors import ImageError

SMALLEST_PHOTO_SIDE_PX = 20  # a photo with a shorter side holds no face worth reading
MERGE_OVERLAP = 0.3  # boxes that overlap more (intersection over union) are one face
MERGE_CONTAINMENT = 0.6  # a box with more of it inside a surer one is dropped

Box = tuple[float, float, float, float]  # left, top, width, height in pixels


@dataclass(frozen=True)
class Detection:
    """One face that was found."""

    box_xywh: tuple[int, int, int, int]  # left, top, width, height; wholly inside the photo
    score: float  # how sure the detector is, 0 to 1
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


def merge_boxes(
    found: Iterable[Detection],
    settle: Callable[[Detection], Detection | None] = lambda face: face,
) -> list[Detection]:
    """Return one box a face: of boxes that overlap or hold each other, the surest.

    Each box that is apart from those kept so far goes through `settle`; None drops it.
    """
    kept: list[Detection] = []
    for face in sorted(found, key=lambda face: (-face.score, face.box_xywh)):
        overlaps = (overlap_of(face.box_xywh, other.box_xywh) for other in kept)
        if all(
            union <= MERGE_OVERLAP and inside <= MERGE_CONTAINMENT for union, inside in overlaps
        ):
            kept += filter(None, [settle(face)])
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
