"""How boxes move: a filter, the flow of points from one frame to the next, and cuts of the scene.

BoxFilter is the Kalman filter of SORT (Bewley et al. 2016).

Median Flow (Kalal, Mikolajczyk and Matas 2010, "Forward-backward error: automatic detection of
tracking failures"): points in a box are followed by pyramidal Lucas-Kanade, forth and back; the
points that come back to where they started say how the box moved and grew.

Cuts are found by block matching (Shahraray 1995, "Scene change detection and content-based sampling
of video sequences"): after a cut the blocks of a frame are found nowhere near in the next one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

WORKING_PIXELS = 480 * 270  # area of the grey copy in which points are followed
FLOW = {  # of the pyramids of Lucas-Kanade
    "winSize": (11, 11),
    "maxLevel": 3,
    "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.03),
}
GRID, GRID_SHARE = 5, 0.7  # points a side in a box; they span less: its corners show background
LEAST_POINTS = 8  # with fewer points that came back, a box is lost
LARGEST_ERROR_PX = 1.0  # a point that comes back farther from its start was lost; in the copy
LEAST_LIKENESS = 0.5  # below this correlation with its last detection, a box holds something else
OWN_MARGIN = 0.2  # what a face in front covers around its box, as a share of its sides
LARGEST_GROWTH = 1.25  # a face grows or shrinks by at most this factor from frame to frame
PATCH_WH = (24, 24)  # of the contents that are compared

# cuts are looked for in a small copy: its size, the side of its blocks, and how far a block may
# have moved from one frame to the next
THUMBNAIL_WH, BLOCK_PX, BLOCK_REACH_PX = (64, 48), 16, 12
FLAT_LEVELS = 4.0  # a copy whose grey levels vary by less, such as a black frame, shows nothing
FLAT_BLOCK_LEVELS = 3.0  # the same for a block
SAME_VIEW = 0.98  # correlation of two copies from which their blocks need not be compared
# at a cut a frame changes (see `_change_between`) by this much more than the frame before did; fast
# pans and shaking change every frame, but by less than twice this: no more than this is subtracted
CUT_CHANGE = 0.12

# standard deviations, in sides of the box, for (middle x, middle y, width, height)
VELOCITY_WANDER = np.array((2.0, 2.0, 0.7, 0.7))  # of the velocity a second, within a second
BOX_NOISE = np.array((0.05, 0.05, 0.07, 0.07))  # of a detected box
FLOW_NOISE = np.array((0.3, 0.3, 0.3, 0.3))  # of a velocity a second that the flow measured
DRIFT = 0.1  # of a box that the flow carries, within a second


@dataclass(frozen=True)
class GreyFrame:
    """A reduced grey copy of a frame, (h, w) uint8; `scale` pixels of it are one of the frame."""

    grey: np.ndarray
    scale: float

    @classmethod
    def of(cls, image: np.ndarray) -> "GreyFrame":  # (H, W, 3) uint8 RGB
        height, width = image.shape[:2]
        # means of whole blocks of pixels take a third of the time of other scales
        step = min(height, width, math.ceil(math.sqrt(height * width / WORKING_PIXELS)))
        size_wh = width // step, height // step
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[: size_wh[1] * step, : size_wh[0] * step]
        return cls(cv2.resize(grey, size_wh, interpolation=cv2.INTER_AREA), 1 / step)


@dataclass
class CutFinder:
    """Finds cuts: much of the picture is new, all at once.

    A frame that shows nothing is skipped, and the next is compared with the last that showed
    something: after a flash the scene goes on, after a fade through black it may be another.
    """

    _last: np.ndarray | None = None  # a small copy of the last frame that showed something
    _change: float = 0.0

    def is_cut(self, now: GreyFrame) -> bool:
        """Return whether the scene was cut between the frame of the last call and this one."""
        small = cv2.resize(now.grey, THUMBNAIL_WH, interpolation=cv2.INTER_AREA).astype(np.float32)
        before, steady = self._last, min(self._change, CUT_CHANGE)
        if before is None or float(small.std()) < FLAT_LEVELS:
            self._last = small if before is None else before
            return False
        self._last, self._change = small, _change_between(before, small)
        return self._change - steady > CUT_CHANGE


def _change_between(one: np.ndarray, other: np.ndarray) -> float:
    """Return the share of a frame, 0 to 1, that is not in the other, moved or in another light."""
    if correlation(one, other) > SAME_VIEW:
        return 0.0

    def clipped_like(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        # without what a flash or the dark took from the other one
        black, white = float((other < 6).mean()), float((other > 249).mean())
        return np.clip(one, *np.quantile(one, (black, 1 - white)).astype(np.float32))

    one, other = clipped_like(one, other), clipped_like(other, one)
    return min(_share_missing(one, other), _share_missing(other, one))


def _share_missing(one: np.ndarray, other: np.ndarray) -> float:
    """Return how little the blocks of a copy are like any place nearby in another, by contrast."""
    padded = cv2.copyMakeBorder(other, *[BLOCK_REACH_PX] * 4, cv2.BORDER_REFLECT)
    missing = total = 0.0
    for top in range(0, one.shape[0], BLOCK_PX):
        for left in range(0, one.shape[1], BLOCK_PX):
            block = one[top : top + BLOCK_PX, left : left + BLOCK_PX]
            contrast = float(block.std())
            if contrast < FLAT_BLOCK_LEVELS:
                continue
            reach = BLOCK_PX + 2 * BLOCK_REACH_PX
            near = padded[top : top + reach, left : left + reach]
            likeness = float(cv2.matchTemplate(near, block, cv2.TM_CCOEFF_NORMED).max())
            missing += contrast * (1 - max(0.0, likeness))
            total += contrast
    return missing / total if total else 0.0


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Return the correlation of two pictures of one size, -1 to 1; 0 where one of them is flat."""
    one, other = one - one.mean(), other - other.mean()
    energy = math.sqrt(float((one * one).sum()) * float((other * other).sum()))
    return float((one * other).sum()) / energy if energy > 1e-6 else 0.0


def follow_boxes(
    before: GreyFrame,
    now: GreyFrame,
    boxes: np.ndarray,
    ranks: Sequence[float],
    patches: Sequence[np.ndarray],
) -> list[np.ndarray | None]:
    """Return how the middle and the size of each box of `before`, (N, 4) in pixels, changed; None
    where its content was lost.

    Where boxes overlap, the points belong to the lowest rank, and to no box where ranks are equal:
    two faces that cross must not swap their points. `patches` are what each box should hold.
    """
    if not len(boxes):
        return []
    scaled = np.asarray(boxes, np.float64) * before.scale
    starts = [_own_points(scaled, index, ranks, now.grey.shape) for index in range(len(boxes))]
    if not sum(map(len, starts)):
        return [None] * len(boxes)
    points = np.concatenate(starts).reshape(-1, 1, 2)
    ends, seen, _ = cv2.calcOpticalFlowPyrLK(before.grey, now.grey, points, None, **FLOW)
    back, seen_back, _ = cv2.calcOpticalFlowPyrLK(now.grey, before.grey, ends, None, **FLOW)
    errors = np.linalg.norm((back - points)[:, 0], axis=1)
    errors[(seen[:, 0] == 0) | (seen_back[:, 0] == 0)] = np.inf
    parts = np.cumsum([len(own) for own in starts])[:-1]
    moved = zip(starts, np.split(ends[:, 0], parts), np.split(errors, parts), strict=True)
    motions = []
    for box, points, patch in zip(scaled, moved, patches, strict=True):
        motion = _motion(box, *points)
        if motion is not None:
            size = box[2:] + motion[2:]
            corner = box[:2] + box[2:] / 2 + motion[:2] - size / 2
            held = patch_of(now, np.concatenate([corner, size]) / now.scale)
            motion = motion / before.scale if correlation(patch, held) >= LEAST_LIKENESS else None
        motions.append(motion)
    return motions


def patch_of(frame: GreyFrame, box_xywh: Sequence[float]) -> np.ndarray:
    """Return the content of a box, in pixels of the frame, at a standard size."""
    x, y, width, height = np.asarray(box_xywh, np.float64) * frame.scale
    to_grey = np.array([[width / PATCH_WH[0], 0, x], [0, height / PATCH_WH[1], y]])
    # beyond an edge its pixels repeat
    look = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_REPLICATE}
    return cv2.warpAffine(frame.grey, to_grey, PATCH_WH, **look).astype(np.float32)


def _own_points(boxes: np.ndarray, index: int, ranks: Sequence[int], shape: tuple) -> np.ndarray:
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


def _motion(box: np.ndarray, starts, ends, errors) -> np.ndarray | None:
    """Return what the better half of the points says, by medians, of middle and size, (4,)."""
    good = errors <= min(float(np.median(errors)), LARGEST_ERROR_PX) if len(errors) else errors
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
    shift = np.median(ends - starts - (growth - 1) * from_middle, axis=0)
    return np.concatenate([shift, box[2:] * (growth - 1)])


class BoxFilter:
    """Where a box is and how fast it moves, by a Kalman filter of constant velocity.

    `mean`, (2, 4), is (middle x, middle y, width, height), which detections measure, and their
    velocities a second, which the flow of points measures; `covariance`, (2, 2, 4), is of each.
    """

    def __init__(self, box_xywh: Sequence[float]):
        self.mean = np.array([[*middle_of(box_xywh), *box_xywh[2:]], [0.0] * 4])
        spread = np.array([BOX_NOISE, VELOCITY_WANDER]) * side_of(box_xywh)
        self.covariance = np.eye(2)[..., None] * spread**2

    @property
    def box_xywh(self) -> np.ndarray:  # (4,) float64
        x, y, width, height = self.mean[0]
        return np.array([x - width / 2, y - height / 2, width, height])

    def predict(self, step_s: float) -> None:
        side = side_of(self.box_xywh)
        # the new velocity holds for the whole step, so that measuring it also corrects the place
        move, gain = np.array([[1, step_s], [0, 1]]), np.array([step_s, 1])
        noise = np.outer(gain, gain)[..., None] * np.square(VELOCITY_WANDER * side) * step_s
        noise[0, 0] += (DRIFT * side) ** 2 * step_s
        self.covariance = np.einsum("ij,jkn,lk->iln", move, self.covariance, move) + noise
        self.mean = move @ self.mean
        self.mean[0, 2:] = np.maximum(self.mean[0, 2:], 1.0)

    def measure_box(self, box_xywh: Sequence[float]) -> None:
        self._measure(0, np.array([*middle_of(box_xywh), *box_xywh[2:]]), BOX_NOISE)

    def measure_velocity(self, velocity: np.ndarray) -> None:
        self._measure(1, velocity, FLOW_NOISE)

    def _measure(self, half: int, seen: np.ndarray, noise_sides: np.ndarray) -> None:
        noise = (noise_sides * side_of(self.box_xywh)) ** 2
        gain = self.covariance[:, half] / (self.covariance[half, half] + noise)
        self.mean = self.mean + gain * (seen - self.mean[half])
        self.mean[0, 2:] = np.maximum(self.mean[0, 2:], 1.0)
        self.covariance = self.covariance - gain[:, None] * self.covariance[half]


def middle_of(box_xywh: Sequence[float]) -> tuple[float, float]:
    x, y, width, height = box_xywh
    return x + width / 2, y + height / 2


def side_of(box_xywh: Sequence[float]) -> float:
    """Return the side of the square with the area of a box."""
    return math.sqrt(box_xywh[2] * box_xywh[3])
