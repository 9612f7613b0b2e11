"""Where the content of a box went from one frame to the next, and whether the scene was cut.

Median Flow (Kalal, Mikolajczyk and Matas 2010, "Forward-backward error: automatic detection of
tracking failures"): points in a box are followed by pyramidal Lucas-Kanade, forth and back; the
points that come back to where they started say how the box moved and grew.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

WORKING_PIXELS = 480 * 270
"""Area in square pixels of the grey copy in which points are followed."""

WINDOW_PX = 11
LEVELS = 3
"""Window and levels above the first of the pyramids of Lucas-Kanade."""

GRID = 5
"""Points a side in a box."""

GRID_SHARE = 0.7
"""Share of the box's sides that the points span; its corners show background."""

LEAST_POINTS = 8
"""Fewer points that came back say nothing."""

LARGEST_ERROR_PX = 1.0
"""A point that comes back farther from its start was lost; in pixels of the copy."""

LEAST_LIKENESS = 0.5
"""Correlation of the box's content with that at the last detection below which something else is in
the box, or before it."""

OWN_MARGIN = 0.2
"""What a face in front covers around its box, as a share of its sides."""

LARGEST_GROWTH = 1.25
"""No face grows or shrinks by more from one frame to the next."""

PATCH_SIDE_PX = 24
"""Side of the contents that are compared."""

THUMBNAIL_WH = (32, 18)
CUT_LIKENESS = 0.45
"""Correlation of the thumbnails of two frames below which they may be of different scenes."""

PAN_BORDER_WH = (6, 4)
PAN_LIKENESS = 0.65
"""How far a thumbnail may have moved, and the correlation from which it has only moved."""

CUT_DIFFERENCE = 12.0
"""Mean difference in grey levels that a cut makes at least: dark noise correlates with nothing."""


@dataclass(frozen=True)
class Glance:
    """A reduced grey copy of a frame.

    Attributes:
        grey: (h, w) uint8.
        scale: pixels of the copy for one of the frame.
    """

    grey: np.ndarray
    scale: float

    @classmethod
    def of(cls, image: np.ndarray) -> "Glance":
        """Return the glance at a frame, (H, W, 3) uint8 RGB."""
        height, width = image.shape[:2]
        # means of whole blocks of pixels take a third of the time of other scales
        step = min(height, width, math.ceil(math.sqrt(height * width / WORKING_PIXELS)))
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[
            : height // step * step, : width // step * step
        ]
        size_wh = grey.shape[1] // step, grey.shape[0] // step
        return cls(cv2.resize(grey, size_wh, interpolation=cv2.INTER_AREA), 1 / step)

    @functools.cached_property
    def thumbnail(self) -> np.ndarray:
        """The frame as a few pixels, float32."""
        small = cv2.resize(self.grey, THUMBNAIL_WH, interpolation=cv2.INTER_AREA)
        return small.astype(np.float32)


@dataclass(frozen=True)
class Motion:
    """How a box moved: its shift in pixels of the frame, and its size as a factor."""

    shift_xy: tuple[float, float]
    growth: float


def is_cut(before: Glance, now: Glance) -> bool:
    """Tell whether two frames show different scenes: they do not look alike, and not moved either.

    A flash or a fade changes the brightness and leaves the correlation; a fast pan moves it.
    """
    if before.grey.shape != now.grey.shape:
        return True
    one, other = before.thumbnail, now.thumbnail
    if float(np.abs(one - other).mean()) < CUT_DIFFERENCE or correlation(one, other) > CUT_LIKENESS:
        return False
    across, down = PAN_BORDER_WH
    middle = one[down:-down, across:-across]
    return float(cv2.matchTemplate(other, middle, cv2.TM_CCOEFF_NORMED).max()) < PAN_LIKENESS


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of two pictures of one size, -1 to 1; 0 where one of them is flat."""
    one, other = one - one.mean(), other - other.mean()
    energy = math.sqrt(float((one * one).sum()) * float((other * other).sum()))
    return float((one * other).sum()) / energy if energy > 1e-6 else 0.0


def follow_boxes(
    before: Glance,
    now: Glance,
    boxes: np.ndarray,
    ranks: Sequence[float],
    patches: Sequence[np.ndarray],
) -> list[Motion | None]:
    """Return how each box moved, None where its content was lost.

    Args:
        before: the frame that the boxes are of.
        now: the next frame.
        boxes: (N, 4) left, top, width, height in pixels of the frame.
        ranks: where boxes overlap, the points are of the lowest rank, and of nobody where ranks are
            equal: two faces that cross must not swap their points.
        patches: what each box should hold (see `patch_of`).
    """
    if not len(boxes):
        return []
    scaled = np.asarray(boxes, np.float64) * before.scale
    starts = [_own_points(scaled, index, ranks, now.grey.shape) for index in range(len(boxes))]
    ends, errors = _there_and_back(before, now, np.concatenate(starts))
    parts = np.cumsum([len(points) for points in starts])[:-1]
    moved = zip(starts, np.split(ends, parts), np.split(errors, parts), strict=True)
    motions = [_motion(box, *points) for box, points in zip(scaled, moved, strict=True)]
    return [
        _in_frame(motion, before.scale) if _still_holds(now, box, motion, patch) else None
        for box, motion, patch in zip(scaled, motions, patches, strict=True)
    ]


def patch_of(glance: Glance, box_xywh: Sequence[float]) -> np.ndarray:
    """Return the content of a box, in pixels of the frame, at a standard size."""
    return _patch(glance.grey, np.asarray(box_xywh, np.float64) * glance.scale)


def _own_points(
    boxes: np.ndarray, index: int, ranks: Sequence[int], shape: tuple[int, int]
) -> np.ndarray:
    """Return the grid of points of a box, without those that other boxes own or out of view."""
    x, y, width, height = boxes[index]
    steps = (np.arange(GRID) + 0.5) / GRID * GRID_SHARE + (1 - GRID_SHARE) / 2
    across, down = np.meshgrid(x + steps * width, y + steps * height)
    points = np.stack([across.ravel(), down.ravel()], axis=1)
    inside = (points >= 0).all(axis=1) & (points < (shape[1], shape[0])).all(axis=1)
    for other, (left, top, wide, high) in enumerate(boxes):
        if other != index and ranks[other] <= ranks[index]:
            margin = np.array([wide, high]) * OWN_MARGIN
            past_start = points >= np.array([left, top]) - margin
            before_end = points < np.array([left + wide, top + high]) + margin
            inside &= ~(past_start & before_end).all(axis=1)
    return points[inside].astype(np.float32)


def _there_and_back(
    before: Glance, now: Glance, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return where points went, (N, 2), and how far from their start they come back, (N,)."""
    if not len(starts):
        return starts, np.zeros(0, np.float32)
    options = {
        "winSize": (WINDOW_PX, WINDOW_PX),
        "maxLevel": LEVELS,
        "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.03),
    }
    starts = starts.reshape(-1, 1, 2)
    ends, seen, _ = cv2.calcOpticalFlowPyrLK(before.grey, now.grey, starts, None, **options)
    back, seen_back, _ = cv2.calcOpticalFlowPyrLK(now.grey, before.grey, ends, None, **options)
    errors = np.linalg.norm((back - starts)[:, 0], axis=1)
    errors[(seen[:, 0] == 0) | (seen_back[:, 0] == 0)] = np.inf
    return ends[:, 0], errors


def _motion(
    box: np.ndarray, starts: np.ndarray, ends: np.ndarray, errors: np.ndarray
) -> Motion | None:
    """Return what the better half of the points says, by medians: shift and growth."""
    if len(starts) < LEAST_POINTS:
        return None
    good = errors <= min(float(np.median(errors)), LARGEST_ERROR_PX)
    if good.sum() < LEAST_POINTS:
        return None
    starts, ends = starts[good], ends[good]
    first, second = np.triu_indices(len(starts), 1)
    apart = np.linalg.norm(starts[first] - starts[second], axis=1)
    growth = float(np.median(np.linalg.norm(ends[first] - ends[second], axis=1) / apart))
    if not 1 / LARGEST_GROWTH <= growth <= LARGEST_GROWTH:
        return None
    # what growth alone does to points that lie to one side of the middle is no shift
    from_middle = starts - (box[:2] + box[2:] / 2)
    shift_x, shift_y = np.median(ends - starts - (growth - 1) * from_middle, axis=0)
    return Motion((float(shift_x), float(shift_y)), growth)


def _still_holds(now: Glance, box: np.ndarray, motion: Motion | None, patch: np.ndarray) -> bool:
    """Tell whether the box holds, where it went, what it should."""
    if motion is None:
        return False
    wide, high = box[2:] * motion.growth
    left, top = box[:2] + box[2:] / 2 + motion.shift_xy - (wide / 2, high / 2)
    return correlation(patch, _patch(now.grey, (left, top, wide, high))) >= LEAST_LIKENESS


def _patch(grey: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """Return the content of a box at a standard size, float32; beyond an edge its pixels repeat."""
    x, y, width, height = box
    across, down = width / PATCH_SIDE_PX, height / PATCH_SIDE_PX
    to_grey = np.array([[across, 0, x], [0, down, y]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    side = (PATCH_SIDE_PX, PATCH_SIDE_PX)
    patch = cv2.warpAffine(grey, to_grey, side, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return patch.astype(np.float32)


def _in_frame(motion: Motion, scale: float) -> Motion:
    """Return a motion in pixels of the frame."""
    shift_x, shift_y = motion.shift_xy
    return Motion((shift_x / scale, shift_y / scale), motion.growth)
