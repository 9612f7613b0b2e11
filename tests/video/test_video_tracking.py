"""Which face is which: tracks on pictures of two textured squares that stand for faces."""

import cv2
import numpy as np
import pytest

from emotion.detection.boxes import Detection
from emotion.video.motion import BoxFilter
from emotion.video.tracking import Tracker

SIDE = 60
STEP_S = 1 / 30


def person(seed: int, color: tuple[int, int, int]) -> np.ndarray:
    """Return a textured tile in one colour, twice as high as the face in its middle is wide."""
    noise = np.random.default_rng(seed).normal(size=(2 * SIDE, SIDE)).astype(np.float32)
    grey = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0.3, 1, cv2.NORM_MINMAX)
    return (grey[..., None] * color).astype(np.uint8)


RED, BLUE = person(1, (250, 60, 40)), person(2, (40, 80, 250))


def picture(*people: tuple[np.ndarray, float, float], background: int = 90) -> np.ndarray:
    """Return a picture of people, each with the left and top of the face; the last in front."""
    image = np.full((240, 400, 3), background, np.uint8)
    for tile, x, y in people:
        left, top = round(x), round(y) - SIDE // 3
        part = image[max(0, top) : top + 2 * SIDE, max(0, left) : left + SIDE]
        part[:] = tile[max(0, -top) : max(0, -top) + part.shape[0], : part.shape[1]]
    return image


def seen(x: float, y: float, score: float = 9.0) -> Detection:
    return Detection((round(x), round(y), SIDE, SIDE), score)


def feed(tracker: Tracker, steps, start: int = 0) -> list[dict[int, tuple[float, ...]]]:
    """Show frames to a tracker, each a picture and its detections (None: no look); return the
    boxes in sight by track number.
    """
    shown = []
    for number, (image, detections) in enumerate(steps, start):
        tracker.advance(image, number * STEP_S)
        if detections is not None:
            tracker.update(image, detections)
        shown.append({track.number: tuple(track.box.box_xywh) for track in tracker.in_sight()})
    return shown


def standing(count: int, x: float = 100, y: float = 60):
    """Yield frames of one person who stands still and is detected."""
    for _ in range(count):
        yield picture((RED, x, y)), [seen(x, y)]


@pytest.fixture
def tracker() -> Tracker:
    return Tracker(carry_s=0.7, keep_lost_s=2.0)


# boxes


def test_no_box_shrinks_to_nothing():
    box = BoxFilter((100, 50, 2, 2))
    for _ in range(30):
        box.predict(0.5)
        box.measure_velocity(np.array([0.0, 0.0, -0.4, -0.4]) / STEP_S)
    assert box.box_xywh[2:].min() >= 1
    assert np.isfinite(box.mean).all()


# tracks


def test_a_face_has_a_number_from_its_second_detection_on(tracker):
    empty = picture()
    shown = feed(tracker, [(empty, [seen(50, 80)]), (empty, []), *standing(3)])
    assert [set(frame) for frame in shown[1:]] == [set(), {None}, {1}, {1}]


def test_faces_that_cross_keep_their_numbers(tracker):
    steps = []
    for number in range(60):
        left, right = 20 + 5 * number, 320 - 5 * number
        is_hidden = abs(left - right) < 0.7 * SIDE
        detections = [seen(right, 70)] if is_hidden else [seen(left, 60), seen(right, 70)]
        steps.append((picture((RED, left, 60), (BLUE, right, 70)), detections))
    shown = feed(tracker, steps)
    assert shown[1][1][0] < shown[1][2][0]
    assert set(shown[-1]) == {1, 2}
    assert shown[-1][1] == pytest.approx((315, 60, SIDE, SIDE), abs=8)
    assert {number for frame in shown[1:] for number in frame} == {1, 2}


def test_a_face_hidden_behind_another_is_not_shown(tracker):
    image = picture((RED, 100, 60), (BLUE, 115, 60))
    both = [(image, [seen(100, 60), seen(115, 60)])] * 3
    shown = feed(tracker, [*both, (image, [seen(115, 60)])])
    assert set(shown[-2]) == {1, 2}
    assert set(shown[-1]) == {2}


def test_a_missed_face_is_carried_on_by_its_points_for_a_while(tracker):
    steps = [*standing(3), *((picture((RED, 100 + 4 * k, 60 + k)), []) for k in range(1, 11))]
    shown = feed(tracker, steps)
    assert shown[-1][1] == pytest.approx((140, 70, SIDE, SIDE), abs=3)
    assert tracker.tracks[0].detected_s != tracker.now_s
    shown = feed(tracker, [(picture((RED, 140, 70)), [])] * 20, start=13)
    assert shown[-1] == {}


@pytest.mark.parametrize(("gone_frames", "number"), [(50, 1), (70, 2)], ids=["1.7 s", "too long"])
def test_a_face_that_comes_back_has_its_old_number(tracker, gone_frames, number):
    steps = [*standing(5), *[(picture(), [])] * gone_frames, *standing(2, x=130, y=70)]
    shown = feed(tracker, steps)
    assert shown[-3] == {}
    assert set(shown[-1]) == {number}


def test_another_face_in_the_same_place_has_another_number(tracker):
    other = [(picture((BLUE, 100, 60)), [seen(100, 60)])] * 2
    shown = feed(tracker, [*standing(5), *[(picture(), [])] * 5, *other])
    assert set(shown[-1]) == {2}


@pytest.mark.parametrize("gone_frames", [0, 30], ids=["in sight", "lost before the cut"])
def test_after_a_cut_numbers_are_new_even_for_who_looks_the_same(tracker, gone_frames):
    background = cv2.resize(person(7, (90, 200, 90)), (400, 240))

    def scene(x):
        image = background.copy()
        image[40:160, x : x + SIDE] = RED
        return image, [seen(x, 60)]

    steps = [*standing(5), *[(picture(), [])] * gone_frames, scene(100), scene(101)]
    shown = feed(tracker, steps)
    assert set(shown[4]) == {1}
    assert [set(frame) for frame in shown[-2:]] == [{None}, {2}]


def test_numbers_are_never_used_again_and_nothing_piles_up():
    tracker = Tracker(carry_s=0.1, keep_lost_s=0.2)
    numbers = []
    for visit in range(12):
        shown = feed(tracker, [*standing(2), *[(picture(), [])] * 9], start=11 * visit)
        numbers += [number for frame in shown for number in frame if number]
        assert len(tracker.tracks) <= 1
    assert sorted(set(numbers)) == list(range(1, 13))


def test_a_face_that_leaves_the_picture_is_not_shown(tracker):
    steps = [(picture((RED, 340 + 4 * k, 60)), [seen(340 + 4 * k, 60)]) for k in range(5)]
    steps += [(picture((RED, 360 + 6 * k, 60)), []) for k in range(1, 12)]
    assert feed(tracker, steps)[-1] == {}
