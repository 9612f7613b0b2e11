"""What a step of the training is given: faces varied, ordered, mixed, with their targets."""

import cv2
import numpy as np
import pytest
from training_data import make_dataset

from emotion.training.fitting import augmentation
from emotion.training.fitting.augmentation import STRENGTHS, Strength, augment
from emotion.training.fitting.batches import FaceBatches, batch_multiple, mix
from emotion.training.fitting.targets import Targets, build_targets
from emotion.training.settings import TrainingSettings

DATA = make_dataset(train=50, validation=0, test=0)
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


def batches_of(data=DATA, size: int = 16, **options) -> FaceBatches:
    targets = build_targets(data, TrainingSettings(label_smoothing=0.0))
    return FaceBatches(data.images, targets, size, **options)


def joined(batches: FaceBatches) -> list[np.ndarray]:
    parts = zip(*(batches[index] for index in range(len(batches))), strict=True)
    return [np.concatenate(part) for part in parts]


def test_batches_hold_every_image_once_in_the_order_of_the_seed():
    orders = [batches_of(seed=seed).order.tolist() for seed in ((7, 0), (7, 0), (7, 1))]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(len(DATA)))
    for seed, order in ((None, range(len(DATA))), ((7, 0), orders[0])):
        faces, labels, weights = joined(batches_of(seed=seed))
        assert faces.dtype == labels.dtype == weights.dtype == np.float32
        np.testing.assert_allclose(faces[..., 0] * 255, DATA.images[order], atol=1e-4)
        np.testing.assert_array_equal(labels.argmax(axis=1), DATA.labels[order])
        np.testing.assert_array_equal(weights, 1)


def test_two_heads_go_by_their_names():
    votes = np.eye(7, dtype=np.float32)[np.arange(210) % 7]
    votes[2] = 0
    faces, values, weights = batches_of(make_dataset(votes=votes))[0]
    assert faces.shape == (16, 48, 48, 1)
    assert values.keys() == weights.keys() == {"emotion", "votes"}
    np.testing.assert_array_equal(values["votes"], votes[:16])
    assert weights["votes"].tolist() == [1, 1, 0] + [1] * 13


def test_added_faces_count_nothing_and_the_mean_stays(monkeypatch):
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "4")
    multiples = [batch_multiple(name) for name in ("cnn", "mini_xception", "mobilenetv2")]
    assert multiples == [1, 4, 4]
    batches = batches_of(multiple_of=4)
    faces, _, weights = joined(batches)
    assert [len(batches[index][0]) for index in range(len(batches))] == [16, 16, 16, 4]
    assert (weights[50:] == 0).all()
    np.testing.assert_allclose(weights.mean(), 1, rtol=1e-6)
    np.testing.assert_array_equal(faces[50:], faces[:2])


def test_loss_of_a_mixture_is_the_mixture_of_the_losses():
    random = np.random.default_rng(0)
    values = [random.dirichlet(np.ones(7), 8).astype(np.float32) for _ in range(2)]
    weights = [np.arange(8, dtype=np.float32), np.float32([0, 0, 0, 0, 1, 1, 1, 1])]
    faces = random.random((8, 4, 4), dtype=np.float32)
    mixed, mixed_values, mixed_weights = mix(faces, values, weights, 0.4, np.random.default_rng(5))
    again = np.random.default_rng(5)
    share, others = again.beta(0.4, 0.4), again.permutation(8)
    np.testing.assert_allclose(mixed, share * faces + (1 - share) * faces[others], rtol=1e-5)
    logs = np.log(random.dirichlet(np.ones(7), 8))
    for head in range(2):
        losses = -(values[head] * logs).sum(axis=1) * weights[head]
        partners = -(values[head][others] * logs).sum(axis=1) * weights[head][others]
        expected = share * losses + (1 - share) * partners
        received = -(mixed_values[head] * logs).sum(axis=1) * mixed_weights[head]
        np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-6)


def test_no_weight_makes_no_target_and_smaller_faces_are_means():
    targets = Targets((np.eye(4, dtype=np.float32),), (np.zeros(4, np.float32),))
    batches = FaceBatches(DATA.images[:4], targets, 4, seed=(1, 1), mixup=0.2)
    _, values, weights = batches[0]
    assert np.isfinite(values).all()
    assert (weights == 0).all()
    faces, _, _ = batches_of(size=50, side=24)[0]
    expected = DATA.images.reshape(50, 24, 2, 24, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(faces[..., 0] * 255, expected, atol=1)
