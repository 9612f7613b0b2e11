"""Where faces go, where cuts are, and which face is which, on pictures of noise and blobs."""

import cv2
import numpy as np
import pytest

from emotion.detection.boxes import Detection
from emotion.video.motion import CutFinder, GreyFrame, follow_boxes, patch_of
from emotion.video.tracking import Tracker

BOX = (60.0, 50.0, 60.0, 60.0)


def textured(seed: int, size_wh: tuple[int, int] = (200, 160), color=(255, 255, 255)):
    """Return a picture with blobs of a few pixels, (H, W, 3) uint8, in shades of a colour."""
    noise = np.random.default_rng(seed).normal(size=size_wh[::-1]).astype(np.float32)
    grey = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 1, cv2.NORM_MINMAX)
    return (grey[..., None] * color).astype(np.uint8)


def moved(image: np.ndarray, shift_xy=(0.0, 0.0), growth: float = 1.0) -> np.ndarray:
    """Return a picture whose content moved, and grew around the middle of BOX."""
    middle = np.array([90.0, 80.0])
    offset = middle + shift_xy - growth * middle
    to_moved = np.array([[growth, 0, offset[0]], [0, growth, offset[1]]])
    return cv2.warpAffine(image, to_moved, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT)


def follow_one(before: np.ndarray, now: np.ndarray, box=BOX):
    first, second = GreyFrame.of(before), GreyFrame.of(now)
    (motion,) = follow_boxes(first, second, np.array([box]), [0], [patch_of(first, box)])
    return motion


@pytest.mark.parametrize(
    ("shift_xy", "growth"), [((0, 0), 1.0), ((5, -3), 1.0), ((0, 0), 0.95), ((-9, 6), 1.04)]
)
def test_shift_and_growth_are_found(shift_xy, growth):
    image = textured(1)
    motion = follow_one(image, moved(image, shift_xy, growth))
    assert motion[:2] == pytest.approx(shift_xy, abs=0.3)
    assert motion[2:] == pytest.approx(60 * growth - 60, abs=0.6)


def test_a_large_frame_is_followed_on_a_reduced_copy_in_its_own_pixels():
    # blobs of 3 pixels would be gone on the reduced copy
    image = cv2.GaussianBlur(textured(1, (1200, 900)), (0, 0), 8)
    assert max(GreyFrame.of(image).grey.shape) <= 500
    motion = follow_one(image, moved(image, (24, -12)), (300.0, 300.0, 300.0, 300.0))
    assert motion[:2] == pytest.approx((24, -12), abs=1.5)


def test_what_covers_a_face_little_by_little_is_not_taken_for_it():
    image, motions = textured(1), []
    before = GreyFrame.of(image)
    patch = patch_of(before, BOX)
    for edge in range(60, 116, 4):
        covered = image.copy()
        covered[:, 50:edge] = textured(7)[:, 50:edge]
        now = GreyFrame.of(covered)
        motions += follow_boxes(before, now, np.array([BOX]), [0], [patch])
        before = now
    assert motions[0] is not None
    assert motions[-1] is None
    assert follow_one(image, textured(2)) is None
    assert follow_one(image, np.full_like(image, 128)) is None


FIRST, SECOND = textured(1), textured(3)
BLACK = np.zeros_like(FIRST)
DARK = np.random.default_rng(1).integers(0, 9, (4, 90, 120, 3)).astype(np.uint8)
SLOPE = np.linspace(0.3, 1.4, FIRST.shape[1])[None, :, None]
LARGE = cv2.resize(textured(1, (500, 40)), (2000, 160))
TWO_PANS = *range(0, 180, 20), 1800, 1780


def cuts(*images: np.ndarray) -> list[int]:  # numbers of the pictures that begin a scene
    finder = CutFinder()
    return [index for index, image in enumerate(images) if finder.is_cut(GreyFrame.of(image))]


def lit(image: np.ndarray, share, more: float = 0.0) -> np.ndarray:
    """Return a picture in another light, clipped as a camera does."""
    return np.clip(image * share + more, 0, 255).astype(np.uint8)


def window(image: np.ndarray, left: int) -> np.ndarray:
    return image[:, left : left + 200]


@pytest.mark.parametrize(
    ("images", "found"),
    [
        pytest.param([FIRST, moved(FIRST, growth=1.06)], [], id="zoomed"),
        pytest.param([window(LARGE, 36 * k) for k in range(30)], [], id="fast pan"),
        pytest.param([moved(FIRST, (-6, 4)), moved(FIRST, (6, -4))] * 3, [], id="shaken"),
        pytest.param([FIRST, lit(FIRST, 2.2, 60), FIRST], [], id="flash that clips"),
        pytest.param([FIRST, lit(FIRST, 0, 255), FIRST], [], id="white flash"),
        pytest.param([lit(FIRST, 0.12), FIRST, lit(FIRST, 0.12)], [], id="lamp on and off"),
        pytest.param([lit(FIRST, 0.3), lit(FIRST, SLOPE)], [], id="lamp at one side"),
        pytest.param([lit(FIRST, k / 9) for k in (9, 6, 3, 0, 3, 6, 9)], [], id="fade and back"),
        pytest.param([FIRST, lit(SECOND, 0.5)], [1], id="a darker scene"),
        pytest.param([FIRST, SECOND, textured(4), textured(5)], [1, 2, 3], id="one after another"),
        pytest.param([FIRST, BLACK, BLACK, FIRST], [], id="black between"),
        pytest.param([FIRST, BLACK, BLACK, SECOND], [3], id="black, then another scene"),
        pytest.param([window(LARGE, x) for x in TWO_PANS], [9], id="cut from pan to pan"),
        pytest.param(DARK, [], id="noise in the dark"),
    ],
)
def test_cuts(images, found):
    assert cuts(*images) == found


def test_heads_in_one_place_make_a_cut_and_a_fast_one_makes_none(astronaut, hopper):
    def room(head, left=100):
        image = textured(9, (400, 240))
        grey = cv2.cvtColor(np.ascontiguousarray(head), cv2.COLOR_RGB2GRAY)
        small = cv2.resize(grey, (200, 150), interpolation=cv2.INTER_AREA)
        image[90:, left : left + 200] = small[..., None]
        return image

    first, second = astronaut[38:193, 121:327][:, ::-1], hopper[44:395, 29:497]
    assert cuts(*([room(first)] * 3 + [room(second)] * 3) * 2) == [3, 6, 9]
    moving = (room(first, round(100 + 80 * np.sin(step / 3))) for step in range(20))
    assert cuts(*moving) == []


@pytest.mark.parametrize("size_wh", [(1, 1), (3, 200), (31, 17)])
def test_tiny_frames(size_wh):
    image = textured(1, size_wh)
    grey = GreyFrame.of(image)
    box = np.array([[0.0, 0.0, *size_wh]])
    assert cuts(image, image) == []
    assert follow_boxes(grey, grey, np.zeros((0, 4)), [], []) == []
    assert len(follow_boxes(grey, grey, box, [0], [patch_of(grey, box[0])])) == 1


SIDE = 60
RED = textured(1, (SIDE, 2 * SIDE), (250, 60, 40))
BLUE = textured(2, (SIDE, 2 * SIDE), (40, 80, 250))


def picture(*people: tuple[np.ndarray, float, float], background: int = 90) -> np.ndarray:
    """Return a picture of people, each with the left and top of the face; the last in front."""
    image = np.full((240, 400, 3), background, np.uint8)
    for tile, x, y in people:
        left, top = round(x), round(y) - SIDE // 3
        part = image[max(0, top) : top + 2 * SIDE, max(0, left) : left + SIDE]
        part[:] = tile[max(0, -top) : max(0, -top) + part.shape[0], : part.shape[1]]
    return image


def seen(x: float, y: float) -> Detection:
    return Detection((round(x), round(y), SIDE, SIDE), 9.0)


def feed(tracker: Tracker, steps, start: int = 0) -> list[dict[int, tuple[float, ...]]]:
    """Show pictures and their detections to a tracker; return boxes in sight by track number."""
    shown = []
    for number, (image, detections) in enumerate(steps, start):
        tracker.advance(image, number / 30)
        tracker.update(image, detections)
        shown.append({track.number: tuple(track.box.box_xywh) for track in tracker.in_sight()})
    return shown


def standing(count: int, x: float = 100, y: float = 60):
    return [(picture((RED, x, y)), [seen(x, y)])] * count


@pytest.fixture
def tracker() -> Tracker:
    return Tracker()


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
    assert [set(frame) for frame in shown[-2:]] == [{1, 2}, {2}]


def test_a_missed_face_is_carried_on_by_its_points_for_a_while(tracker):
    steps = [*standing(3), *((picture((RED, 100 + 4 * k, 60 + k)), []) for k in range(1, 11))]
    shown = feed(tracker, steps)
    assert shown[-1][1] == pytest.approx((140, 70, SIDE, SIDE), abs=3)
    shown = feed(tracker, [(picture((RED, 140, 70)), [])] * 20, start=13)
    assert shown[-1] == {}


@pytest.mark.parametrize(("gone_frames", "number"), [(70, 1), (100, 2)])
def test_a_face_that_comes_back_has_its_old_number(tracker, gone_frames, number):
    steps = [*standing(5), *[(picture(), [])] * gone_frames, *standing(2, x=130, y=70)]
    shown = feed(tracker, steps)
    assert shown[-3] == {}
    assert set(shown[-1]) == {number}
    assert len(tracker.tracks) == 1  # what is over does not pile up


def test_another_face_in_the_same_place_has_another_number(tracker):
    other = [(picture((BLUE, 100, 60)), [seen(100, 60)])] * 2
    shown = feed(tracker, [*standing(5), *[(picture(), [])] * 5, *other])
    assert set(shown[-1]) == {2}


def test_a_face_that_leaves_the_picture_is_not_shown(tracker):
    steps = [(picture((RED, 340 + 4 * k, 60)), [seen(340 + 4 * k, 60)]) for k in range(5)]
    steps += [(picture((RED, 360 + 6 * k, 60)), []) for k in range(1, 12)]
    assert feed(tracker, steps)[-1] == {}
