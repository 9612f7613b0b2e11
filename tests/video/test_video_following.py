import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from emotion.detection.boxes import Detection
from emotion.faces import Face
from emotion.labels import EMOTIONS
from emotion.recognizer import Recognizer
from emotion.video import following
from emotion.video.following import Answer, follow
from emotion.video.reading import Frame

SIDE = 48
NOISE = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
TILE = cv2.normalize(cv2.GaussianBlur(NOISE, (0, 0), 3), None, 60, 230, cv2.NORM_MINMAX)


def picture(x: int = 60, y: int = 40, light: float = 1.0) -> np.ndarray:
    """Return a picture of one textured square that stands for a face."""
    image = np.full((120, 160, 3), 90, np.uint8)
    image[y : y + SIDE, x : x + SIDE] = np.clip(light * TILE, 0, 255).astype(np.uint8)[..., None]
    return image


def seen(x: int = 60, y: int = 40) -> Detection:
    return Detection((x, y, SIDE, SIDE), 9.0)


class Script:
    """A detector that finds what a script says for the number in the frame's first two pixels."""

    def __init__(self, script=lambda number: (seen(),)):
        self._script = script
        self.looked: list[int] = []

    def detect(self, image: np.ndarray) -> Sequence[Detection]:
        number = int(image[0, 0, 0]) + 256 * int(image[0, 1, 0])
        self.looked.append(number)
        return self._script(number)


def film(images: Iterable[np.ndarray], fps: float = 30.0) -> Iterable[Frame]:
    for number, image in enumerate(images):
        numbered = image.copy()
        numbered[0, 0], numbered[0, 1] = number % 256, number // 256
        yield Frame(number, number / fps, numbered)


def tracks(results) -> list[list[int]]:
    return [[face.track for face in frame.faces] for frame in results]


@pytest.fixture
def recognizer(stand_in_model) -> Recognizer:
    """Return a recognizer that answers the first class for bright faces, else the second."""

    def run(faces: np.ndarray) -> np.ndarray:
        rows = np.full((len(faces), len(EMOTIONS)), 0.1 / (len(EMOTIONS) - 2), np.float32)
        is_bright = faces.mean(axis=(1, 2, 3)) > 0.5
        rows[:, 0], rows[:, 1] = np.where(is_bright, 0.8, 0.1), np.where(is_bright, 0.1, 0.8)
        return rows

    return Recognizer(replace(stand_in_model, run=run), Script())


@pytest.mark.parametrize(
    ("detect_every", "fps", "looked"),
    [
        # the second look confirms what the first one found
        (None, 30, [0, 1, 4, 7, 10, 13]),
        # some files round their times to milliseconds
        (None, 30.0003, [0, 1, 4, 7, 10, 13]),
        (None, 60, [0, 1, 7, 13]),
        (None, 10, list(range(15))),
        (5, 30, [0, 1, 6, 11]),
        (100, 30, [0, 1]),
    ],
)
def test_looks(recognizer, detect_every, fps, looked):
    results = list(follow(recognizer, film([picture()] * 15, fps), detect_every))
    assert recognizer.detector.looked == looked
    assert tracks(results) == [[1]] * 15
    assert [f.faces[0].is_detected for f in results] == [n in looked for n in range(15)]


def test_a_cut_starts_numbers_and_smoothing_anew(recognizer):
    other = np.random.default_rng(5).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    other = cv2.resize(other, (160, 120), interpolation=cv2.INTER_NEAREST)
    other[40 : 40 + SIDE, 60 : 60 + SIDE] = 0.75 * TILE[..., None]
    results = list(follow(recognizer, film([picture()] * 9 + [other] * 9 + [picture()] * 9)))
    assert tracks(results) == [[1]] * 9 + [[2]] * 9 + [[3]] * 9
    assert {9, 18} <= set(recognizer.detector.looked)  # at once
    for frame in results[0], results[9], results[18]:
        (face,) = frame.faces
        assert dict(face.face.probabilities) == pytest.approx(dict(face.raw))
    assert results[9].faces[0].raw != results[18].faces[0].raw


def test_a_lamp_switched_on_and_off_is_no_cut(recognizer, astronaut):
    room = astronaut[0:240, 100:420]
    lit = np.clip(room * np.linspace(0.6, 1.4, 320)[None, :, None], 0, 255).astype(np.uint8)
    dark = np.random.default_rng(0).normal(0.4 * room, 4).clip(0, 255).astype(np.uint8)
    recognizer.detector = Script(lambda number: (Detection((73, 64, 103, 103), 9.0),))
    images = film([dark] * 4 + [lit] * 4 + [dark] * 4)
    assert tracks(follow(recognizer, images, 1)) == [[1]] * 12


@pytest.mark.parametrize(
    ("found_in", "is_live", "shown"),
    [
        pytest.param({3, 4, 5}, False, [[]] * 3 + [[1]] * 3, id="file: from its first frame"),
        pytest.param({3, 4, 5}, True, [[]] * 4 + [[1]] * 2, id="live: one frame late"),
        pytest.param({3}, False, [[]] * 6, id="flickers up once"),
    ],
)
def test_a_face_is_shown_once_it_is_confirmed(recognizer, found_in, is_live, shown):
    recognizer.detector = Script(lambda number: (seen(),) if number in found_in else ())
    images = [np.full((120, 160, 3), 90, np.uint8)] * 3 + [picture()] * 3
    assert tracks(follow(recognizer, film(images), 1, is_live=is_live)) == shown
    # films of no and of one frame
    assert list(follow(recognizer, [], is_live=is_live)) == []
    recognizer.detector = Script()
    assert tracks(follow(recognizer, film([picture()]), is_live=is_live)) == [[1]]


def test_live_frames_do_not_wait(recognizer):
    recognizer.detector = Script(lambda number: (seen(),) if number != 1 else ())
    given = []
    camera = (given.append(frame.index) or frame for frame in film([picture()] * 4))
    results = follow(recognizer, camera, 1, is_live=True)
    assert [face.track for face in next(results).faces] == [1]
    assert given == [0]
    assert tracks(results) == [[1]] * 3


def test_boxes_are_whole_and_inside_the_frame(recognizer):
    recognizer.detector = Script(lambda number: (seen(0, 0),))
    images = [picture(max(0, 8 - 2 * number), 0) for number in range(12)]
    for frame in follow(recognizer, film(images)):
        x, y, width, height = box = frame.faces[0].face.box_xywh
        assert all(isinstance(value, int) and value >= 0 for value in box)
        assert x + width <= 160
        assert y + height <= 120


def answers(answer: Answer, happy: Sequence[float], fps: float) -> list[str]:
    found = []
    for number, value in enumerate(happy):
        answer.add(Face((0, 0, 9, 9), 1.0, {"happy": value, "sad": 1 - value}), number / fps)
        found.append(max(answer.probabilities, key=answer.probabilities.get))
    return found


def test_classes_that_are_level_do_not_take_turns():
    happy = np.random.default_rng(0).normal(0.5, 0.1, 300).clip(0, 1).tolist()
    changes = []
    for slack in (0.0, 0.05):
        labels = answers(Answer(slack=slack), happy, fps=10)
        changes.append(sum(one != other for one, other in itertools.pairwise(labels)))
    assert changes[0] > 20
    assert changes[1] < changes[0] / 3


def test_labels_are_steadier_than_what_they_are_made_of(recognizer):
    images = [picture(light=0.75 if number % 3 == 2 else 1.0) for number in range(20)]
    faces = [frame.faces[0] for frame in follow(recognizer, film(images), 1)]
    assert {max(face.raw, key=face.raw.get) for face in faces} == {*EMOTIONS[:2]}
    assert {face.face.emotion for face in faces} == {EMOTIONS[0]}
    images = [picture(light=0.75 if number % 2 else 1.0) for number in range(20)]
    *_, last = follow(recognizer, film(images), 1)
    # each reading is sure of itself; together they are not
    assert recognizer.thresholds.met_by(last.faces[0].raw.values())
    assert not last.faces[0].face.sure
    # between the looks, at 0, 1, 6 and 11, the last reading is kept
    results = follow(recognizer, film([picture()] * 6 + [picture(light=0.75)] * 6), 5)
    bright = [frame.faces[0].raw[EMOTIONS[0]] > 0.5 for frame in results]
    assert bright == [True] * 6 + [False] * 6


def test_the_time_of_what_is_done_with_a_frame_counts(recognizer, monkeypatch):
    now_s = 0.0
    monkeypatch.setattr(following, "time", SimpleNamespace(perf_counter=lambda: now_s))
    looked = recognizer.detector.looked
    for frame in follow(recognizer, film([picture()] * 60), is_live=True):
        # drawing and showing a frame, and what a look takes
        now_s += 0.02 + (0.03 if looked and looked[-1] == frame.index else 0)
    assert len([number for number in looked if number >= 30]) <= 12
