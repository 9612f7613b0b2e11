"""Faces through the frames of a video: detect and read in some frames, track in all, smooth.

Where the detector looks at a frame, the classifier reads every visible face of it, in one batch.
Between these frames the flow of points moves the boxes.
"""

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from emotion.detection.boxes import clip_boxes
from emotion.detection.settings import DetectorSettings
from emotion.detection.yunet import YunetSettings
from emotion.faces import Face
from emotion.recognizer import Recognizer
from emotion.video.reading import Frame
from emotion.video.tracking import FrameFaces, Track, TrackedFace, Tracker

# Moving pictures are searched in less depth than photos: a face missed in one frame comes again in
# the next.
VIDEO_SEARCH = DetectorSettings(smallest_face_share=0.05)
CAMERA_SEARCH = DetectorSettings(smallest_face_share=0.1)
YUNET_VIDEO_SEARCH = YunetSettings(detail_pixels=640 * 480)

# In a file the detector looks this often: at every third frame of 30 a second. Only the times of
# the frames count, so that the result is the same on every machine.
FILE_LOOK_S = 0.1
LIVE_FRAME_S = 1 / 30  # time for a frame of a live picture, unless the camera itself is slower
LONGEST_BLIND_S = 0.35  # however slow the machine, a live picture is looked at about this often
LIVE_RESERVE = 0.9  # share of a frame's time that is planned for
PACE_MEMORY = 0.8  # weight of earlier measurements of the machine's speed against the newest


def follow(
    recognizer: Recognizer, frames: Iterable[Frame], detect_every: int | None = None, is_live=False
) -> Iterator[FrameFaces]:
    """Yield every frame with its faces, each with its track and smoothed probabilities.

    The detector looks at every N-th frame if `detect_every` is N, else ten times a second in a
    file, and in a live picture as often as the machine allows. It takes a second look at the very
    next frame to confirm a new face: most false boxes appear once. Frames of a file wait for that;
    live, the faces of the first frame are believed at once, and later ones shown one frame late.
    """
    tracker, is_first = Tracker(), True
    pace, since_look, looked_s = LivePace(), 0, -math.inf
    answers: dict[Track, Answer] = {}
    waiting: deque[tuple[Frame, list[tuple[Track, TrackedFace]]]] = deque()
    for frame in frames:
        start_s, image = time.perf_counter(), frame.image
        since_look += 1
        if is_live or detect_every:
            is_due = since_look >= (detect_every or pace.interval)
        else:  # times are rounded, to a millisecond in some files
            is_due = frame.timestamp_s - looked_s >= FILE_LOOK_S - 2e-3
        is_cut = tracker.advance(image, frame.timestamp_s)
        # a second look at once, where a track awaits its number
        is_look = is_due or is_cut or is_first or not all(t.number for t in tracker.tracks)
        if is_look:
            tracker.update(image, recognizer.detector.detect(image))
            since_look, looked_s = 0, frame.timestamp_s
        if is_first and is_live:
            tracker.confirm()
        is_first = False
        places = {}
        for track in tracker.in_sight():
            moved = replace(track.detection, box_xywh=tuple(track.box.box_xywh.tolist()))
            for place in clip_boxes([moved], image.shape[:2]):
                places[track] = place
        if is_look:
            answers = {track: answers.get(track, Answer()) for track in tracker.tracks}
            sights = recognizer.look(image, list(places.values()))
            for track, sight in zip(places, sights, strict=True):
                answers[track].add(sight.face, frame.timestamp_s)
        faces = []
        for track, place in places.items():
            last, probabilities = answers[track].last, answers[track].probabilities
            thresholds, values = recognizer.thresholds, tuple(probabilities.values())
            said = thresholds.met_by(values), thresholds.agreement(values)
            face = Face(place.box_xywh, place.score, probabilities, last.notes, *said)
            is_detected = track.detected_s == tracker.now_s
            faces.append((track, TrackedFace(0, face, last.probabilities, is_detected)))
        waiting.append((frame, faces))
        # until it is known of every face whether it counts
        while waiting and (is_live or all(t.number or t.is_gone for t, _ in waiting[0][1])):
            yield _numbered(*waiting.popleft())
        pace.worked(frame.timestamp_s, time.perf_counter() - start_s, is_look)
    tracker.confirm()
    while waiting:
        yield _numbered(*waiting.popleft())


def _numbered(frame: Frame, faces: list[tuple[Track, TrackedFace]]) -> FrameFaces:
    """Return a frame with the faces whose tracks have a number by now."""
    numbered = [replace(face, track=track.number) for track, face in faces if track.number]
    return FrameFaces(**vars(frame), faces=tuple(sorted(numbered, key=lambda face: face.track)))


@dataclass
class Answer:
    """The readings of a track, averaged by age, as one answer that does not flicker."""

    half_life_s: float = 0.35  # age at which a reading counts half
    slack: float = 0.05  # smaller changes are ignored: two classes do not take turns
    last: Face | None = None
    _last_s: float = 0.0
    _weight: float = 0.0
    _sum: np.ndarray | float = 0.0
    _values: np.ndarray | None = None

    def add(self, face: Face, timestamp_s: float) -> None:
        age_s = max(0.0, timestamp_s - self._last_s)
        share = 0.5 ** (age_s / self.half_life_s)
        self._sum = share * self._sum + np.array(list(face.probabilities.values()))
        self._weight = share * self._weight + 1
        mean = self._sum / self._weight
        lag = 0.0 if self._values is None else self._values - mean
        self._values = mean + lag * min(1.0, self.slack / max(1e-9, np.abs(lag).max()))
        self.last, self._last_s = face, timestamp_s

    @property
    def probabilities(self) -> Mapping[str, float]:
        values = self._values / self._values.sum()
        return dict(zip(self.last.probabilities, values.tolist(), strict=True))


class LivePace:
    """How often to look: spare times between two looks make up for what a look takes longer."""

    def __init__(self):
        self.interval = 1  # frames from one look to the next
        self._last_s, self._gap_s = -math.inf, 0.0
        self._spent_s = {True: 0.0, False: 0.0}  # on a frame with a look, and without

    def worked(self, timestamp_s: float, spent_s: float, is_look: bool) -> None:
        gap_s, self._last_s = timestamp_s - self._last_s, timestamp_s
        # frames are passed over while work goes on: the shortest gap is the camera's own
        self._gap_s = min(gap_s, self._gap_s * 1.02) if self._gap_s else min(gap_s, LIVE_FRAME_S)
        known_s = self._spent_s[is_look] or spent_s
        self._spent_s[is_look] = PACE_MEMORY * known_s + (1 - PACE_MEMORY) * spent_s
        look_s, plain_s = self._spent_s[True], self._spent_s[False]
        frame_s = max(LIVE_FRAME_S, self._gap_s)
        spare_s = LIVE_RESERVE * frame_s - plain_s
        self.interval = max(1, int(LONGEST_BLIND_S / max(frame_s, plain_s)))
        if spare_s > 0:
            self.interval = max(1, min(self.interval, math.ceil((look_s - plain_s) / spare_s)))
