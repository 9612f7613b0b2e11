import cv2
import numpy as np
import pytest

from emotion.training.fitting import augmentation
from emotion.training.fitting.augmentation import STRENGTHS, Strength, augment

FACES = np.random.default_rng(0).integers(0, 256, (64, 48, 48), dtype=np.uint8)


@pytest.fixture
def change_alone(monkeypatch):
    """Return a function that changes faces in the named ways alone (and mirrors them)."""

    def change(images=FACES, **most) -> np.ndarray:
        still = ("degrees", "shift_share", "zoom_share", "contrast", "brightness", "erased_share")
        strength = Strength(**dict.fromkeys(still, 0) | most)
        monkeypatch.setattr(augmentation, "STRENGTHS", {"this": strength})
        return augment(images, "this", np.random.default_rng(1))

    return change


@pytest.mark.parametrize("strength", STRENGTHS)
def test_changes_every_face_as_the_generator_decides_and_keeps_the_range(strength):
    given = FACES.copy()
    changed, same, other = (augment(given, strength, np.random.default_rng(n)) for n in (1, 1, 2))
    assert (changed.shape, changed.dtype) == (given.shape, np.float32)
    assert 0 <= changed.min() <= changed.max() <= 1
    assert (np.abs(changed - given / 255).mean(axis=(1, 2)) > 0.02).all()
    np.testing.assert_array_equal(given, FACES)
    np.testing.assert_array_equal(changed, same)
    assert np.abs(changed - other).mean() > 0.02


def test_mirrors_half_and_else_leaves_a_still_face_alone(change_alone):
    changed, given = change_alone(), FACES.astype(np.float32) / 255
    mirrored = np.isclose(changed, given[:, :, ::-1], atol=1e-6).all(axis=(1, 2))
    same = np.isclose(changed, given, atol=1e-6).all(axis=(1, 2))
    assert (mirrored ^ same).all()
    assert 16 < mirrored.sum() < 48


@pytest.mark.parametrize(
    ("most", "largest_move_px"),
    [
        ({"shift_share": 0.1}, 4.8 * 2**0.5),
        ({"degrees": 15}, 17 * 0.27),
        ({"zoom_share": 0.1}, 2.2),
    ],
)
def test_moves_as_far_as_told(change_alone, most, largest_move_px):
    """A spot at 12 px above and right of the centre moves, but not farther than it may."""
    face = np.zeros((48, 48), np.uint8)
    cv2.circle(face, (36, 12), 2, 255, -1)
    changed = change_alone(np.stack([face] * 200), **most)
    rows, columns = np.mgrid[:48, :48]
    totals = changed.sum(axis=(1, 2))
    x = (changed * columns).sum(axis=(1, 2)) / totals
    y = (changed * rows).sum(axis=(1, 2)) / totals
    x = np.where(x < 23.5, 47 - x, x)  # mirrored
    moves = np.hypot(x - 36, y - 12)
    assert largest_move_px / 2 < moves.max() <= largest_move_px + 0.3


def test_each_other_change_alone(change_alone):
    still, means = change_alone(), np.sort(FACES.mean(axis=(1, 2)) / 255)
    lit = np.sort(change_alone(brightness=0.2).mean(axis=(1, 2)))
    assert 0.1 < np.abs(lit - means).max() <= 0.21
    spread = change_alone(contrast=0.5).std(axis=(1, 2)) / (FACES / 255).std()
    assert spread.min() < 0.7
    assert spread.max() > 1.1
    erased = (np.abs(still - change_alone(erased_share=0.5)) > 1e-6).mean(axis=(1, 2))
    assert 16 < (erased > 0).sum() < 48
    assert 0.05 < erased.max() <= 0.2
    assert 0.01 < (change_alone(noise=0.05) - still).std() < 0.06
    assert change_alone(coarse_share=1).std() < 0.7 * still.std()
    smooth = cv2.GaussianBlur(FACES[0], (9, 9), 3)
    compressed = change_alone(np.stack([smooth] * 8), compressed_share=1) * 255
    views = smooth, smooth[:, ::-1]
    gaps = [min(abs(face - view).mean() for view in views) for face in compressed]
    assert 0.3 < min(gaps) <= max(gaps) < 8
