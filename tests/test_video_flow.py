"""Where the content of a box goes, and cuts, on pictures of noise and blobs."""

import cv2
import numpy as np
import pytest

from emotion.video.flow import (
    Glance,
    correlation,
    follow_boxes,
    is_cut,
    patch_of,
)

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
    first, second = Glance.of(before), Glance.of(now)
    (motion,) = follow_boxes(first, second, np.array([box]), [0], [patch_of(first, box)])
    return motion


@pytest.mark.parametrize(
    ("shift_xy", "growth"),
    [((0, 0), 1.0), ((5, -3), 1.0), ((0, 0), 1.06), ((0, 0), 0.95), ((-9, 6), 1.04)],
)
def test_shift_and_growth_are_found(shift_xy, growth):
    image = textured(1)
    motion = follow_one(image, moved(image, shift_xy, growth))
    assert motion.shift_xy == pytest.approx(shift_xy, abs=0.3)
    assert motion.growth == pytest.approx(growth, abs=0.01)


def test_a_large_frame_is_followed_on_a_reduced_copy_in_its_own_pixels():
    image = textured(1, (1200, 900))
    box = (300.0, 300.0, 300.0, 300.0)
    to_moved = np.array([[1.0, 0, 24], [0, 1.0, -12]])
    now = cv2.warpAffine(image, to_moved, (1200, 900), borderMode=cv2.BORDER_REFLECT)
    # blobs of 3 pixels would be gone on the reduced copy
    image, now = (cv2.GaussianBlur(frame, (0, 0), 8) for frame in (image, now))
    glance = Glance.of(image)
    assert max(glance.grey.shape) <= 500
    assert follow_one(image, now, box).shift_xy == pytest.approx((24, -12), abs=1.5)


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(textured(2), id="other content"),
        pytest.param(np.full_like(textured(1), 128), id="flat"),
    ],
)
def test_content_that_is_gone_is_lost(now):
    assert follow_one(textured(1), now) is None


def test_what_covers_a_face_little_by_little_is_not_taken_for_it():
    image = textured(1)
    first = Glance.of(image)
    patch, before = patch_of(first, BOX), first
    motions = []
    for edge in range(60, 116, 4):
        covered = image.copy()
        covered[:, 50:edge] = textured(7)[:, 50:edge]
        now = Glance.of(covered)
        motions += follow_boxes(before, now, np.array([BOX]), [0], [patch])
        before = now
    assert motions[0] is not None
    assert motions[-1] is None


@pytest.mark.parametrize(
    ("ranks", "followed"),
    [((0, 1), (True, False)), ((1, 0), (False, True)), ((0, 0), (False,) * 2)],
)
def test_points_where_boxes_overlap_belong_to_the_face_in_front(ranks, followed):
    image = Glance.of(textured(1))
    boxes = np.array([BOX, (70.0, 50.0, 60.0, 60.0)])
    motions = follow_boxes(image, image, boxes, ranks, [patch_of(image, box) for box in boxes])
    assert tuple(motion is not None for motion in motions) == followed


@pytest.mark.parametrize(
    ("now", "cut"),
    [
        pytest.param(textured(1), False, id="the same"),
        pytest.param(moved(textured(1), (8, 5)), False, id="moved"),
        pytest.param(cv2.convertScaleAbs(textured(1), alpha=0.5, beta=100), False, id="flash"),
        pytest.param(textured(3), True, id="another scene"),
        pytest.param(np.zeros_like(textured(1)), True, id="black"),
        pytest.param(textured(1, (160, 200)), True, id="another size"),
    ],
)
def test_cuts(now, cut):
    assert is_cut(Glance.of(textured(1)), Glance.of(now)) is cut


def test_noise_in_the_dark_is_no_cut():
    one, other = (np.random.default_rng(seed).integers(0, 9, (90, 120, 3)) for seed in (1, 2))
    assert not is_cut(Glance.of(one.astype(np.uint8)), Glance.of(other.astype(np.uint8)))


def test_correlation_of_a_flat_picture_is_nothing():
    assert correlation(np.ones((4, 4)), np.arange(16.0).reshape(4, 4)) == 0


@pytest.mark.parametrize("size_wh", [(1, 1), (3, 200), (31, 17)])
def test_tiny_frames(size_wh):
    image = textured(1, size_wh)
    glance = Glance.of(image)
    box = np.array([[0.0, 0.0, *size_wh]])
    assert not is_cut(glance, glance)
    assert len(follow_boxes(glance, glance, box, [0], [patch_of(glance, box[0])])) == 1


def test_no_boxes():
    glance = Glance.of(textured(1))
    assert follow_boxes(glance, glance, np.zeros((0, 4)), [], []) == []
