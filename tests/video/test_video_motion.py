"""Where the content of a box goes, and cuts, on pictures of noise and blobs."""

import cv2
import numpy as np
import pytest

from emotion.video.motion import CutFinder, GreyFrame, follow_boxes, patch_of

BOX = (60.0, 50.0, 60.0, 60.0)


def textured(seed: int, size_wh: tuple[int, int] = (200, 160)) -> np.ndarray:
    """Return a picture with blobs of a few pixels, (H, W, 3) uint8."""
    noise = np.random.default_rng(seed).normal(size=size_wh[::-1]).astype(np.float32)
    blobs = cv2.GaussianBlur(noise, (0, 0), 3)
    grey = cv2.normalize(blobs, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)


def moved(image: np.ndarray, shift_xy=(0.0, 0.0), growth: float = 1.0) -> np.ndarray:
    """Return a picture whose content moved, and grew around the middle of BOX."""
    middle = np.array([BOX[0] + BOX[2] / 2, BOX[1] + BOX[3] / 2])
    offset = middle + shift_xy - growth * middle
    to_moved = np.array([[growth, 0, offset[0]], [0, growth, offset[1]]])
    return cv2.warpAffine(image, to_moved, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT)


def follow_one(before: np.ndarray, now: np.ndarray, box=BOX):
    """Return the motion of one box."""
    first, second = GreyFrame.of(before), GreyFrame.of(now)
    (motion,) = follow_boxes(first, second, np.array([box]), [0], [patch_of(first, box)])
    return motion


@pytest.mark.parametrize(
    ("shift_xy", "growth"),
    [((0, 0), 1.0), ((5, -3), 1.0), ((0, 0), 0.95), ((-9, 6), 1.04)],
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
    image = textured(1)
    first = GreyFrame.of(image)
    patch, before = patch_of(first, BOX), first
    motions = []
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


@pytest.mark.parametrize(
    ("ranks", "followed"),
    [((0, 1), (True, False)), ((1, 0), (False, True)), ((0, 0), (False,) * 2)],
)
def test_points_where_boxes_overlap_belong_to_the_face_in_front(ranks, followed):
    image = GreyFrame.of(textured(1))
    boxes = np.array([BOX, (70.0, 50.0, 60.0, 60.0)])
    motions = follow_boxes(image, image, boxes, ranks, [patch_of(image, box) for box in boxes])
    assert tuple(motion is not None for motion in motions) == followed


FIRST, SECOND = textured(1), textured(3)
BLACK = np.zeros_like(FIRST)
DARK = np.random.default_rng(1).integers(0, 9, (4, 90, 120, 3)).astype(np.uint8)
SLOPE = np.linspace(0.3, 1.4, FIRST.shape[1])[None, :, None]
LARGE = cv2.resize(textured(1, (500, 40)), (2000, 160))


def cuts(*images: np.ndarray) -> list[int]:
    """Return the numbers of the pictures before which a cut is found."""
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
        pytest.param(
            [window(LARGE, 20 * k) for k in range(9)]
            + [window(LARGE, 1900 - 20 * k) for k in (5, 6)],
            [9],
            id="cut from pan to pan",
        ),
        pytest.param(DARK, [], id="noise in the dark"),
        pytest.param([FIRST, textured(1, (160, 200))], [1], id="another size"),
        pytest.param([FIRST, np.zeros((64, 48, 3), np.uint8)], [1], id="black of another size"),
    ],
)
def test_cuts(images, found):
    assert cuts(*images) == found


def test_heads_in_one_place_make_a_cut_and_a_fast_one_makes_none(astronaut, hopper):
    """Two close-ups in grey, the faces of one size in one place."""

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
