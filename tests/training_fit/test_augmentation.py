import cv2
import numpy as np
import pytest

from emotion.training.fitting import augmentation
from emotion.training.fitting.augmentation import STRENGTHS, Strength, augment

STILL = {"degrees": 0, "shift_share": 0, "zoom_share": 0, "contrast": 0, "brightness": 0}


def faces(count: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 48, 48), dtype=np.uint8)


def change_alone(monkeypatch, images=None, **most) -> np.ndarray:
    """Return faces changed in the named ways alone (and mirrored)."""
    strength = Strength(**(STILL | {"erased_share": 0} | most))
    monkeypatch.setattr(augmentation, "STRENGTHS", {"this": strength})
    images = faces() if images is None else images
    return augment(images, "this", np.random.default_rng(1))


@pytest.mark.parametrize("strength", STRENGTHS)
def test_changes_every_face_as_the_generator_decides_and_keeps_the_range(strength):
    given = faces()
    changed, same, other = (augment(given, strength, np.random.default_rng(n)) for n in (1, 1, 2))
    assert changed.shape == given.shape
    assert changed.dtype == np.float32
    assert 0 <= changed.min() <= changed.max() <= 1
    assert (np.abs(changed - given / 255).mean(axis=(1, 2)) > 0.02).all()
    np.testing.assert_array_equal(given, faces())
    np.testing.assert_array_equal(changed, same)
    assert np.abs(changed - other).mean() > 0.02


def test_mirrors_half_and_else_leaves_a_still_face_alone(monkeypatch):
    changed, given = change_alone(monkeypatch), faces().astype(np.float32) / 255
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
def test_moves_as_far_as_told(monkeypatch, most, largest_move_px):
    """A spot at 12 px above and right of the centre moves, but not farther than it may."""
    face = np.zeros((48, 48), np.uint8)
    cv2.circle(face, (36, 12), 2, 255, -1)
    changed = change_alone(monkeypatch, np.stack([face] * 200), **most)
    rows, columns = np.mgrid[:48, :48]
    totals = changed.sum(axis=(1, 2))
    x = (changed * columns).sum(axis=(1, 2)) / totals
    y = (changed * rows).sum(axis=(1, 2)) / totals
    x = np.where(x < 23.5, 47 - x, x)  # mirrored
    moves = np.hypot(x - 36, y - 12)
    assert moves.max() <= largest_move_px + 0.3
    assert moves.max() > largest_move_px / 2


def test_lights_and_contrasts(monkeypatch):
    given = np.sort(faces().mean(axis=(1, 2)) / 255)
    lit = change_alone(monkeypatch, brightness=0.2)
    assert 0.1 < np.abs(np.sort(lit.mean(axis=(1, 2))) - given).max() <= 0.21
    spread = change_alone(monkeypatch, contrast=0.5).std(axis=(1, 2)) / (faces() / 255).std()
    assert spread.min() < 0.7
    assert spread.max() > 1.1


def test_erases_a_patch_of_some(monkeypatch):
    still, erased = change_alone(monkeypatch), change_alone(monkeypatch, erased_share=0.5)
    shares = (np.abs(still - erased) > 1e-6).mean(axis=(1, 2))
    assert 16 < (shares > 0).sum() < 48
    assert 0.05 < shares.max() <= 0.2


def test_strong_is_coarser_and_noisier(monkeypatch):
    still = change_alone(monkeypatch)
    noisy, coarse = change_alone(monkeypatch, noise=0.05), change_alone(monkeypatch, coarse_share=1)
    assert 0.01 < (noisy - still).std() < 0.06
    assert coarse.std() < 0.7 * still.std()


def test_photo_leaves_the_traces_of_jpeg(monkeypatch):
    random = np.random.default_rng(0)
    given = cv2.GaussianBlur(random.integers(0, 256, (48, 48), dtype=np.uint8), (9, 9), 3)
    changed = change_alone(monkeypatch, np.stack([given] * 8), compressed_share=1) * 255
    views = given, given[:, ::-1]
    gaps = [min(abs(face - view).mean() for view in views) for face in changed]
    assert 0.3 < min(gaps) <= max(gaps) < 8
    blocks = np.abs(np.diff(changed.mean(axis=0), axis=1)).mean(axis=0)[7::8].mean()
    assert blocks > np.abs(np.diff(given.astype(float), axis=1)).mean(axis=0)[7::8].mean()
