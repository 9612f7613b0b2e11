"""Which face of a frame is which of the frames before: tracks, and the faces they carry.

Tracking by detection: a Kalman filter predicts each box (SORT: Bewley et al. 2016, "Simple online
and realtime tracking"), which the flow of points corrects between detections, and the Hungarian
method gives each detection to the track that it fits best by place, size and looks (Wojke, Bewley
and Paulus 2017, "Simple online and realtime tracking with a deep association metric"; here the
looks are cheap: colours of hair, face and shoulders). `benchmarks/video.md` has the measurements
behind the numbers.
"""

import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import cv2
import numpy as np

from emotion.detection.boxes import Detection
from emotion.faces import Face
from emotion.video.flow import CutFinder, Glance, Motion, correlation, follow_boxes, patch_of

VELOCITY_WANDER = (2.0, 2.0, 0.7, 0.7)
"""How much the velocity of (middle x, middle y, width, height) wanders within a second, in sides of
the box a second."""

BOX_NOISE = (0.05, 0.05, 0.07, 0.07)
"""Standard deviation of a detected box's middle and size, in sides."""

FLOW_NOISE = (0.3, 0.3, 0.3, 0.3)
"""Standard deviation of a velocity that the flow measured, in sides a second."""

DRIFT = 0.1
"""How far a box that the flow carries drifts within a second, in sides."""

ZONES = ((-0.4, 0.1, 0.1), (0.15, 0.85, 0.0), (1.2, 1.9, 0.0))
"""Hair, face and shoulders: from and to, down from the top of the box, in its heights, and what is
left out at either side, in its widths."""

ZONE_SIDE_PX = 24
COLOR_BINS = (8, 3, 3)
"""Pixels across a zone, and bins of hue, saturation and brightness of its histogram."""

LOOKS_MEMORY = 0.8
"""Weight of what is known of a track's looks against what is seen now."""

ALIKE = 0.45
"""Distance of looks (see `looks_apart`) up to which a face that comes may be one that was lost."""

UNLIKE = 0.75
"""Distance of looks from which even a face in the right place is another..."""

RELIT_LIKENESS = 0.8
"""...unless the grey content of its box correlates by so much with that at the last detection: a
lamp changes the colours alone."""

SAME_PLACE = 0.3
"""Intersection over union from which a face is where it was expected."""

REACH = 0.6
REACH_PER_S = 2.0
"""How far from its place a face may be found, in sides, and how much farther with each second."""

LARGEST_RESIZE = 1.8
"""A face is found again at no more than so many times its size, or less than one so manieth."""

LOOKS_WEIGHT = 1.5
SIZE_WEIGHT = 0.5
"""Weights of the distance of looks and of the logarithm of sizes, against 1 minus the overlap."""

UNMATCHED_COST = 3.0
"""Cost of leaving a track and a detection alone; dearer than any pair that can be."""

HIDDEN_OVERLAP = 0.4
"""A box that is not detected and overlaps a detected one by so much is behind that face."""

BRIDGED_S = 0.12
"""A box is shown for so long after the flow lost it, until the detector has looked again."""

LONGEST_STEP_S = 0.5
"""Longer gaps between frames than this are predicted no further."""

LOST_HALF_LIFE_S = 1.0
"""After so long without sight the velocity of a track counts half as much."""


@dataclass(frozen=True)
class TrackedFace:
    """One face of a frame of a video.

    Attributes:
        track: number of the person's track, from 1; never used again.
        face: its box in this frame; its probabilities are smoothed over the track.
        raw: the probabilities of this frame alone; the last read ones where it was not read.
        is_detected: whether the detector saw it in this frame; else tracking carried it on.
    """

    track: int
    face: Face
    raw: Mapping[str, float]
    is_detected: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "raw", MappingProxyType(dict(self.raw)))

    def __reduce__(self):
        # a mappingproxy cannot be pickled, and faces travel between processes
        return TrackedFace, (self.track, self.face, dict(self.raw), self.is_detected)


@dataclass(frozen=True)
class FrameFaces:
    """A frame of a video and its faces, in the order of their tracks.

    Attributes:
        index: number of the frame, from 0.
        timestamp_s: its time in seconds.
        image: (H, W, 3) uint8 RGB, upright.
        faces: the faces.
    """

    index: int
    timestamp_s: float
    image: np.ndarray
    faces: tuple[TrackedFace, ...]


class BoxFilter:
    """Where a box is and how fast it moves, by a Kalman filter of constant velocity.

    The state is (middle x, middle y, width, height) and their velocities a second. Detections
    measure the first half, the flow of points measures the second.
    """

    def __init__(self, box_xywh: Sequence[float]):
        """Start at rest, with a box in pixels."""
        self.mean = np.concatenate([_middle_and_size(box_xywh), np.zeros(4)])
        spread = np.concatenate([BOX_NOISE, VELOCITY_WANDER])
        self.covariance = np.diag((spread * self._side) ** 2)

    @property
    def box_xywh(self) -> np.ndarray:
        """Left, top, width and height, (4,) float64."""
        x, y, width, height = self.mean[:4]
        return np.array([x - width / 2, y - height / 2, width, height])

    @property
    def _side(self) -> float:
        return _side(self.box_xywh)

    def predict(self, step_s: float) -> None:
        """Move on by a time in seconds."""
        move = np.eye(8)
        move[:4, 4:] = step_s * np.eye(4)
        wander = np.square(np.array(VELOCITY_WANDER) * self._side) * step_s
        # the new velocity holds for the whole step, so that measuring it also corrects the place
        gain = np.concatenate([step_s * np.eye(4), np.eye(4)])
        noise = gain @ np.diag(wander) @ gain.T
        noise[:4, :4] += np.eye(4) * (DRIFT * self._side) ** 2 * step_s
        self.mean = move @ self.mean
        self.covariance = move @ self.covariance @ move.T + noise
        self._keep_size()

    def slow_down(self, share: float) -> None:
        """Keep a share of the velocity."""
        self.mean[4:] *= share

    def measure_box(self, box_xywh: Sequence[float]) -> None:
        """Take in a box that the detector saw."""
        self._measure(slice(0, 4), _middle_and_size(box_xywh), np.array(BOX_NOISE))

    def measure_motion(self, motion: Motion, size_wh: np.ndarray, step_s: float) -> None:
        """Take in how the content of the box moved during the last step.

        Args:
            motion: shift in pixels and growth.
            size_wh: width and height of the box before the step.
            step_s: length of the step in seconds.
        """
        moved = np.concatenate([motion.shift_xy, size_wh * (motion.growth - 1)])
        self._measure(slice(4, 8), moved / step_s, np.array(FLOW_NOISE))

    def _measure(self, part: slice, seen: np.ndarray, noise_sides: np.ndarray) -> None:
        """Correct the state by a measurement of four of its numbers."""
        noise = np.diag((noise_sides * self._side) ** 2)
        gain = np.linalg.solve(self.covariance[part, part] + noise, self.covariance[part]).T
        self.mean = self.mean + gain @ (seen - self.mean[part])
        self.covariance = self.covariance - gain @ self.covariance[part]
        self._keep_size()

    def _keep_size(self) -> None:
        """Keep a box from shrinking to nothing."""
        self.mean[2:4] = np.maximum(self.mean[2:4], 1.0)


@dataclass(eq=False)
class Track:
    """A face over time.

    Attributes:
        box: where it is.
        detection: the last one.
        looks: its colours (see `looks_of`).
        patch: what its box held at the last detection (see `patch_of`).
        detected_s: time of the last detection.
        held_s: the last time that the detector or the flow knew where it is.
        number: from 1, or None until it is confirmed by a second detection.
        is_gone: whether it is given up.
        anchor: the box at the last detection, predicted without what the flow said since: before a
            face is lost behind another, its points often stick to that.
    """

    box: BoxFilter
    detection: Detection
    looks: np.ndarray
    patch: np.ndarray
    detected_s: float
    held_s: float
    number: int | None = None
    is_gone: bool = False
    anchor: BoxFilter = field(init=False)

    def __post_init__(self) -> None:
        self.anchor = copy.deepcopy(self.box)


@dataclass
class Tracker:
    """The tracks of a video.

    Attributes:
        carry_s: for so long a face is shown that the flow carries and the detector does not see.
        keep_lost_s: for so long a track that is out of sight waits for its face.
        tracks: those that are alive, oldest first.
        now_s: time of the frame.
    """

    carry_s: float
    keep_lost_s: float
    tracks: list[Track] = field(default_factory=list)
    now_s: float = 0.0
    _glance: Glance | None = None
    _cuts: CutFinder = field(default_factory=CutFinder)
    _size_wh: tuple[int, int] = (0, 0)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def advance(self, image: np.ndarray, timestamp_s: float) -> bool:
        """Carry every track on to the next frame; return whether the scene was cut before it.

        No track outlives a cut: nobody can tell who of the new scene was in the one before.
        """
        before, now = self._glance, Glance.of(image)
        step_s = min(LONGEST_STEP_S, max(1e-3, timestamp_s - self.now_s))
        in_sight = self.in_sight()
        self._glance, self.now_s, self._size_wh = now, timestamp_s, image.shape[1::-1]
        self._give_up(lambda track: timestamp_s - track.held_s > self.keep_lost_s)
        if self._cuts.is_cut(now):
            # what was seen once is believed: nobody can look again
            self.confirm()
            self._give_up(lambda track: True)
            return True
        self._carry(in_sight, before, now, step_s)
        return False

    def update(self, image: np.ndarray, detections: Sequence[Detection]) -> None:
        """Give the detections of the present frame to the tracks, and begin new ones."""
        looks = [looks_of(image, detection.box_xywh) for detection in detections]
        seen = list(zip(detections, looks, strict=True))
        costs = [[self._cost(track, *one) for one in seen] for track in self.tracks]
        pairs = assign(np.reshape(costs, (len(self.tracks), len(seen))))
        for row, column in pairs:
            self._found(self.tracks[row], *seen[column])
        self._check_unseen(image, {row for row, _ in pairs})
        known = {column for _, column in pairs}
        for column, one in enumerate(seen):
            if column not in known:
                self._begin(*one)

    def in_sight(self) -> list[Track]:
        """Return the tracks whose face is to be seen in the present frame, oldest first."""
        known = [track for track in self.tracks if self._is_known(track)]
        return [track for track in known if not self._is_hidden(track, known)]

    def is_detected(self, track: Track) -> bool:
        """Tell whether the detector saw a face in the present frame."""
        return track.detected_s == self.now_s

    @property
    def has_doubts(self) -> bool:
        """Whether there is a track that awaits its second detection."""
        return any(track.number is None for track in self.tracks)

    def confirm(self) -> None:
        """Number the tracks that await a second detection without waiting for it."""
        for track in self.tracks:
            if track.number is None:
                track.number = next(self._numbers)

    def _give_up(self, is_hopeless: Callable[[Track], bool]) -> None:
        """Forget the tracks of which that is true."""
        for track in self.tracks:
            track.is_gone = is_hopeless(track)
        self.tracks = [track for track in self.tracks if not track.is_gone]

    def _carry(self, in_sight: list[Track], before: Glance, now: Glance, step_s: float) -> None:
        """Predict every track, and correct those that the flow can follow."""
        boxes = np.array([track.box.box_xywh for track in in_sight]).reshape(-1, 4)
        # of two faces that overlap, the one that was detected last is in front
        ranks = [-track.detected_s for track in in_sight]
        patches = [track.patch for track in in_sight]
        motions = follow_boxes(before, now, boxes, ranks, patches)
        for track in self.tracks:
            track.box.predict(step_s)
            track.anchor.predict(step_s)
        for track, box, motion in zip(in_sight, boxes, motions, strict=True):
            if motion is not None:
                track.box.measure_motion(motion, box[2:], step_s)
                track.held_s = self.now_s
        for track in self.tracks:
            track.anchor.slow_down(0.5 ** (step_s / LOST_HALF_LIFE_S))

    def _cost(self, track: Track, detection: Detection, looks: np.ndarray) -> float:
        """Return how badly a detection fits a track, infinite where it cannot be the same face."""
        is_held = self.now_s - track.held_s <= BRIDGED_S
        box = (track.box if is_held else track.anchor).box_xywh.tolist()
        resize = abs(math.log(_side(detection.box_xywh) / _side(box)))
        if resize > math.log(LARGEST_RESIZE) or not self._is_in_reach(track, detection, box):
            return math.inf
        overlap = overlap_of(box, detection.box_xywh)
        apart = looks_apart(track.looks, looks)
        is_in_place = is_held and overlap > SAME_PLACE
        if apart > (UNLIKE if is_in_place else ALIKE):
            patch = patch_of(self._glance, detection.box_xywh)
            if not is_in_place or correlation(track.patch, patch) < RELIT_LIKENESS:
                return math.inf
        return 1 - overlap + LOOKS_WEIGHT * apart + SIZE_WEIGHT * resize

    def _is_in_reach(self, track: Track, detection: Detection, box: Sequence[float]) -> bool:
        """Tell whether a face can have come so far: from where it should be, or where it was."""
        middle = _middle(detection.box_xywh)
        places = _middle(box), _middle(track.detection.box_xywh)
        reach = REACH + REACH_PER_S * (self.now_s - track.detected_s)
        return min(math.dist(middle, one) for one in places) <= reach * _side(detection.box_xywh)

    def _found(self, track: Track, detection: Detection, looks: np.ndarray) -> None:
        """Take in that the face of a track was detected."""
        out_of_sight_s = self.now_s - track.held_s
        if out_of_sight_s > BRIDGED_S:
            track.box = BoxFilter(detection.box_xywh)
        else:
            track.box.measure_box(detection.box_xywh)
        track.anchor = copy.deepcopy(track.box)
        track.looks = _mixed(track.looks, looks)
        track.patch = patch_of(self._glance, track.box.box_xywh)
        track.detection, track.detected_s, track.held_s = detection, self.now_s, self.now_s
        if track.number is None:
            track.number = next(self._numbers)

    def _check_unseen(self, image: np.ndarray, seen: set[int]) -> None:
        """Give up what was a false box, and let go of boxes that no longer hold their face."""
        unseen = [track for row, track in enumerate(self.tracks) if row not in seen]
        for track in unseen:
            if self._is_known(track):
                looks = looks_of(image, track.box.box_xywh)
                if looks_apart(track.looks, looks) > ALIKE:
                    track.held_s = min(track.held_s, self.now_s - BRIDGED_S - 1e-6)
        self._give_up(lambda track: track.number is None and track in unseen)

    def _begin(self, detection: Detection, looks: np.ndarray) -> None:
        """Begin a track, as yet without a number."""
        box = BoxFilter(detection.box_xywh)
        patch = patch_of(self._glance, detection.box_xywh)
        self.tracks.append(Track(box, detection, looks, patch, self.now_s, self.now_s))

    def _is_known(self, track: Track) -> bool:
        """Tell whether it is known where the face of a track is, and that is in the frame."""
        x, y = track.box.mean[:2]
        return (
            self.now_s - track.held_s <= BRIDGED_S
            and self.now_s - track.detected_s <= self.carry_s
            and 0 <= x < self._size_wh[0]
            and 0 <= y < self._size_wh[1]
        )

    def _is_hidden(self, track: Track, others: Iterable[Track]) -> bool:
        """Tell whether another face, detected later, is where this one should be."""
        box = track.box.box_xywh
        return any(
            other.detected_s > track.detected_s
            and overlap_of(box, other.box.box_xywh) > HIDDEN_OVERLAP
            for other in others
        )


def assign(costs: np.ndarray) -> list[tuple[int, int]]:
    """Return the pairs (row, column) of least cost in all; none that would cost infinitely much.

    Args:
        costs: (rows, columns); infinite where a pair cannot be.
    """
    from scipy.optimize import linear_sum_assignment

    possible = np.isfinite(costs)
    if not possible.any():
        return []
    rows, columns = linear_sum_assignment(np.where(possible, costs, UNMATCHED_COST))
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if possible[r, c]]


def overlap_of(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection of two boxes (left, top, width, height) over their union."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    return float(shared / (one[2] * one[3] + other[2] * other[3] - shared))


def looks_of(image: np.ndarray, box_xywh: Sequence[float]) -> np.ndarray:
    """Return the colours of a person's hair, face and shoulders.

    Args:
        image: (H, W, 3) uint8 RGB.
        box_xywh: the face, in pixels.

    Returns:
        (zones, bins) float32; each row a histogram that sums to 1, or zeros where the zone is out
        of the picture.
    """
    x, y, width, height = box_xywh
    zones = [
        (x + aside * width, y + top * height, x + (1 - aside) * width, y + bottom * height)
        for top, bottom, aside in ZONES
    ]
    return np.stack([_colors(image, zone, width) for zone in zones])


def _colors(image: np.ndarray, corners: Sequence[float], face_px: float) -> np.ndarray:
    """Return the histogram of the colours between two corners; zeros where most is out of view."""
    left, top, right, bottom = (round(value) for value in corners)
    step = max(1, round(face_px / ZONE_SIDE_PX))
    part = image[max(0, top) : max(0, bottom) : step, max(0, left) : max(0, right) : step]
    if part.size / 3 * step**2 < 0.5 * (right - left) * (bottom - top):
        return np.zeros(math.prod(COLOR_BINS), np.float32)
    colors = cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_RGB2HSV_FULL)
    counts = cv2.calcHist([colors], [0, 1, 2], None, COLOR_BINS, [0, 256] * 3)
    return counts.ravel() / counts.sum()


def looks_apart(one: np.ndarray, other: np.ndarray) -> float:
    """Return the distance of two looks, 0 to 1: the mean Hellinger distance of their zones."""
    common = (one.sum(axis=1) > 0) & (other.sum(axis=1) > 0)
    if not common.any():
        return 0.5
    likeness = np.sqrt(one[common] * other[common]).sum(axis=1)
    return float(np.sqrt(np.maximum(0, 1 - likeness)).mean())


def _mixed(known: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return looks that change slowly; a zone that comes into view counts at once."""
    mixed = LOOKS_MEMORY * known + (1 - LOOKS_MEMORY) * seen
    mixed = np.where(known.sum(axis=1, keepdims=True) > 0, mixed, seen)
    return np.where(seen.sum(axis=1, keepdims=True) > 0, mixed, known)


def _middle_and_size(box_xywh: Sequence[float]) -> np.ndarray:
    """Return a box as middle x, middle y, width and height."""
    return np.array([*_middle(box_xywh), *box_xywh[2:]], float)


def _middle(box_xywh: Sequence[float]) -> tuple[float, float]:
    x, y, width, height = box_xywh
    return x + width / 2, y + height / 2


def _side(box_xywh: Sequence[float]) -> float:
    """Return the side of the square with the area of a box."""
    return math.sqrt(box_xywh[2] * box_xywh[3])
