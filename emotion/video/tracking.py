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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from emotion.detection.boxes import Detection, overlap_of
from emotion.faces import Face
from emotion.video import motion
from emotion.video.motion import BoxFilter, middle_of, patch_of, side_of
from emotion.video.reading import Frame

# hair, face and shoulders: from and to, down from the top of the box, in its heights, and what is
# left out at either side, in its widths
ZONES = ((-0.4, 0.1, 0.1), (0.15, 0.85, 0.0), (1.2, 1.9, 0.0))
ZONE_SIDE_PX = 24
COLOR_BINS = (8, 3, 3)  # hue, saturation, brightness
LOOKS_MEMORY = 0.8  # weight of the earlier looks of a track against the present ones

ALIKE = 0.45  # distance of looks up to which a face that comes may be one that was lost
UNLIKE = 0.75  # distance of looks from which even a face in the right place is another...
RELIT_LIKENESS = 0.8  # ...unless its grey content still correlates: a lamp changes only colours
SAME_PLACE = 0.3  # intersection over union from which a face is where it was expected
REACH, REACH_PER_S = 0.6, 2.0  # sides that a face may be off its place, and more each second
LARGEST_RESIZE = 1.8  # a face that is found again is at most this many times as large or small

# weights of the distance of looks and of the logarithm of sizes, against 1 minus the overlap
LOOKS_WEIGHT, SIZE_WEIGHT = 1.5, 0.5
UNMATCHED_COST = 3.0  # of leaving track and detection unpaired: more than any possible pair's

HIDDEN_OVERLAP = 0.4  # a box without detection over a detected one is behind that face
BRIDGED_S = 0.12  # a box is shown so long after the flow lost it: the detector looks again soon
LONGEST_STEP_S = 0.5  # boxes are not predicted further than this
LOST_HALF_LIFE_S = 1.0  # out of sight, the velocity of a track halves in this time
CARRIED_S = 0.7  # how long a face is shown that the flow follows and no look finds
KEPT_S = 3.0  # how long a track waits for a face that is out of sight


@dataclass(frozen=True)
class TrackedFace:
    track: int  # number of the person's track, from 1; never used again
    face: Face  # its box in this frame; its probabilities are smoothed over the track
    raw: Mapping[str, float]  # probabilities of this frame alone, else the last read ones
    is_detected: bool  # by the detector in this frame; else it was tracked here


@dataclass(frozen=True)
class FrameFaces(Frame):  # a frame of a video and its faces by track
    faces: tuple[TrackedFace, ...]


@dataclass(eq=False)
class Track:  # a face over time
    box: BoxFilter
    # the box at the last detection, predicted without what the flow said since: before a face is
    # lost behind another, its points often stick to that
    anchor: BoxFilter
    detection: Detection  # the last one
    looks: np.ndarray  # see `looks_of`
    patch: np.ndarray  # what its box held at the last detection
    detected_s: float
    held_s: float  # the last time that the detector or the flow knew where it is
    number: int | None = None  # None until it is confirmed by a second detection
    is_gone: bool = False


class Tracker:
    """The tracks of a video."""

    def __init__(self):
        self.tracks: list[Track] = []  # those that are alive, oldest first
        self.now_s = 0.0
        self._grey, self._size_wh = None, (0, 0)
        self._cuts, self._numbers = motion.CutFinder(), itertools.count(1)

    def advance(self, image: np.ndarray, timestamp_s: float) -> bool:
        """Carry all tracks on to the next frame; return whether a cut has ended them."""
        before, in_sight = self._grey, self.in_sight()
        step_s = min(LONGEST_STEP_S, max(1e-3, timestamp_s - self.now_s))
        self._grey, self._size_wh = motion.GreyFrame.of(image), image.shape[1::-1]
        self.now_s = timestamp_s
        self._forget([t for t in self.tracks if timestamp_s - t.held_s > KEPT_S])
        if self._cuts.is_cut(self._grey):
            # a face that was detected once is believed: there is no second look
            self.confirm()
            self._forget(self.tracks)
            return True
        boxes = np.array([track.box.box_xywh for track in in_sight]).reshape(-1, 4)
        # of two faces that overlap, the one that was detected last is in front
        ranks, patches = [-t.detected_s for t in in_sight], [t.patch for t in in_sight]
        motions = motion.follow_boxes(before, self._grey, boxes, ranks, patches)
        for track in self.tracks:
            track.box.predict(step_s)
            track.anchor.predict(step_s)
            track.anchor.mean[1] *= 0.5 ** (step_s / LOST_HALF_LIFE_S)
        for track, moved in zip(in_sight, motions, strict=True):
            if moved is not None:
                track.box.measure_velocity(moved / step_s)
                track.held_s = self.now_s
        return False

    def update(self, image: np.ndarray, detections: Sequence[Detection]) -> None:
        """Give the detections of the present frame to the tracks, and begin new ones."""
        from scipy.optimize import linear_sum_assignment

        seen = [(detection, looks_of(image, detection.box_xywh)) for detection in detections]
        costs = np.array([[self._cost(track, *one) for one in seen] for track in self.tracks])
        possible, pairs = np.isfinite(costs), {}
        if possible.any():
            assigned = linear_sum_assignment(np.where(possible, costs, UNMATCHED_COST))
            pairs = {r: c for r, c in np.transpose(assigned).tolist() if possible[r, c]}
        for row, column in pairs.items():
            self._correct(self.tracks[row], *seen[column])
        unseen = [track for row, track in enumerate(self.tracks) if row not in pairs]
        for track in unseen:
            # a box that no longer holds its face is let go
            is_known = self._is_known(track)
            if is_known and looks_apart(track.looks, looks_of(image, track.box.box_xywh)) > ALIKE:
                track.held_s = min(track.held_s, self.now_s - BRIDGED_S - 1e-6)
        # what the detector does not see again was no face
        self._forget([track for track in unseen if track.number is None])
        for column, (detection, looks) in enumerate(seen):
            if column not in pairs.values():
                boxes = BoxFilter(detection.box_xywh), BoxFilter(detection.box_xywh)
                patch, now_s = patch_of(self._grey, detection.box_xywh), self.now_s
                self.tracks.append(Track(*boxes, detection, looks, patch, now_s, now_s))

    def in_sight(self) -> list[Track]:
        """Return the tracks whose face is to be seen in the present frame, oldest first."""
        known = [track for track in self.tracks if self._is_known(track)]
        # hidden is where another face, detected later, is where this one should be
        hidden = {
            track
            for track, other in itertools.permutations(known, 2)
            if other.detected_s > track.detected_s
            and overlap_of(track.box.box_xywh, other.box.box_xywh)[0] > HIDDEN_OVERLAP
        }
        return [track for track in known if track not in hidden]

    def confirm(self) -> None:
        """Number the tracks that await a second detection without waiting for it."""
        for track in self.tracks:
            track.number = track.number or next(self._numbers)

    def _forget(self, gone: list[Track]) -> None:
        for track in gone:
            track.is_gone = True
        self.tracks = [track for track in self.tracks if not track.is_gone]

    def _cost(self, track: Track, detection: Detection, looks: np.ndarray) -> float:
        """Return how badly a detection fits a track, infinite where it cannot be the same face."""
        is_held = self.now_s - track.held_s <= BRIDGED_S
        box = (track.box if is_held else track.anchor).box_xywh.tolist()
        side, middle = side_of(detection.box_xywh), middle_of(detection.box_xywh)
        resize = abs(math.log(side / side_of(box)))
        # it may have come from where it should be, or from where it was
        places = middle_of(box), middle_of(track.detection.box_xywh)
        reach = (REACH + REACH_PER_S * (self.now_s - track.detected_s)) * side
        is_in_reach = min(math.dist(middle, place) for place in places) <= reach
        if resize > math.log(LARGEST_RESIZE) or not is_in_reach:
            return math.inf
        overlap = overlap_of(box, detection.box_xywh)[0]
        apart = looks_apart(track.looks, looks)
        is_in_place = is_held and overlap > SAME_PLACE
        if apart > (UNLIKE if is_in_place else ALIKE):
            patch = patch_of(self._grey, detection.box_xywh)
            if not is_in_place or motion.correlation(track.patch, patch) < RELIT_LIKENESS:
                return math.inf
        return 1 - overlap + LOOKS_WEIGHT * apart + SIZE_WEIGHT * resize

    def _correct(self, track: Track, detection: Detection, looks: np.ndarray) -> None:
        if self.now_s - track.held_s > BRIDGED_S:
            track.box = BoxFilter(detection.box_xywh)
        else:
            track.box.measure_box(detection.box_xywh)
        track.anchor = copy.deepcopy(track.box)
        # looks change slowly; a zone that comes into view counts at once
        known = track.looks
        mixed = LOOKS_MEMORY * known + (1 - LOOKS_MEMORY) * looks
        mixed = np.where(known.sum(axis=1, keepdims=True) > 0, mixed, looks)
        track.looks = np.where(looks.sum(axis=1, keepdims=True) > 0, mixed, known)
        track.patch = patch_of(self._grey, track.box.box_xywh)
        track.detection, track.detected_s, track.held_s = detection, self.now_s, self.now_s
        track.number = track.number or next(self._numbers)

    def _is_known(self, track: Track) -> bool:
        """Return whether it is known where the face of a track is, and that is in the frame."""
        x, y = track.box.mean[0, :2]
        return (
            self.now_s - track.held_s <= BRIDGED_S
            and self.now_s - track.detected_s <= CARRIED_S
            and 0 <= x < self._size_wh[0]
            and 0 <= y < self._size_wh[1]
        )


def looks_of(image: np.ndarray, box_xywh: Sequence[float]) -> np.ndarray:
    """Return the colours of a person's hair, face and shoulders, (zones, bins) float32: histograms
    that sum to 1, or zeros where most of the zone is out of the picture.
    """
    x, y, width, height = box_xywh
    step = max(1, round(width / ZONE_SIDE_PX))
    zones = np.zeros((len(ZONES), math.prod(COLOR_BINS)), np.float32)
    for zone, (from_share, to_share, aside) in zip(zones, ZONES, strict=True):
        left, right = round(x + aside * width), round(x + (1 - aside) * width)
        top, bottom = round(y + from_share * height), round(y + to_share * height)
        part = image[max(0, top) : max(0, bottom) : step, max(0, left) : max(0, right) : step]
        if part.size / 3 * step**2 >= 0.5 * (right - left) * (bottom - top):
            colors = cv2.cvtColor(np.ascontiguousarray(part), cv2.COLOR_RGB2HSV_FULL)
            counts = cv2.calcHist([colors], [0, 1, 2], None, COLOR_BINS, [0, 256] * 3)
            zone[:] = counts.ravel() / counts.sum()
    return zones


def looks_apart(one: np.ndarray, other: np.ndarray) -> float:
    """Return the distance of two looks, 0 to 1: the mean Hellinger distance of their zones."""
    common = (one.sum(axis=1) > 0) & (other.sum(axis=1) > 0)
    if not common.any():
        return 0.5
    likeness = np.sqrt(one[common] * other[common]).sum(axis=1)
    return float(np.sqrt(np.maximum(0, 1 - likeness)).mean())
