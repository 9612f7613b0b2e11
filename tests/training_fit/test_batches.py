"""What a step of the training is given: faces varied, ordered, mixed; and what it shall learn."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from training_data import make_dataset

from emotion.errors import TrainingError
from emotion.labels import EMOTIONS
from emotion.model.runtime import apply_temperature
from emotion.training.fitting import targets
from emotion.training.fitting.batches import (
    STRENGTHS,
    FaceBatches,
    Strength,
    augment,
    batch_multiple,
    let_smile,
    mix,
    smile,
)
from emotion.training.fitting.targets import Targets, build_targets, what_teachers_say
from emotion.training.settings import TrainingSettings

PLAIN = TrainingSettings(label_smoothing=0.0)
DATA = make_dataset(train=50, validation=0, test=0)
FACES = np.random.default_rng(0).integers(0, 256, (64, 48, 48), dtype=np.uint8)
EYE = np.eye(7, dtype=np.float32)
TRAIN, CHECK = slice(0, 2000), slice(2000, 4000)


def change_alone(images=FACES, **most) -> np.ndarray:
    """Return faces that are changed in the named ways alone (and mirrored)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STRENGTHS, "this", replace(Strength(*[0] * 9), **most))
        return augment(images, "this", np.random.default_rng(1))


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


def test_each_change_of_light_and_detail_alone():
    still, given = change_alone(), FACES.astype(np.float32) / 255
    mirrored = np.isclose(still, given[:, :, ::-1], atol=1e-6).all(axis=(1, 2))
    assert (mirrored ^ np.isclose(still, given, atol=1e-6).all(axis=(1, 2))).all()
    assert 16 < mirrored.sum() < 48, "half, and each is else left alone"
    means = np.sort(given.mean(axis=(1, 2)))
    lit = np.sort(change_alone(brightness=0.2).mean(axis=(1, 2)))
    assert 0.1 < np.abs(lit - means).max() <= 0.21
    spread = change_alone(contrast=0.5).std(axis=(1, 2)) / given.std()
    assert spread.min() < 0.7 < 1.1 < spread.max()
    erased = (np.abs(still - change_alone(erased_share=0.5)) > 1e-6).mean(axis=(1, 2))
    assert 16 < (erased > 0).sum() < 48
    assert 0.05 < erased.max() <= 0.2
    assert 0.01 < (change_alone(noise=0.05) - still).std() < 0.06
    lighter = np.sort(change_alone(gamma=0.5).mean(axis=(1, 2)))
    assert lighter[0] < 0.45 < 0.55 < lighter[-1]
    flat = change_alone(np.full((64, 48, 48), 100, np.uint8), slope=0.3)
    assert 0.2 < (flat.max(axis=(1, 2)) - flat.min(axis=(1, 2))).max() * 2.55 < 0.6 * 2**0.5
    assert change_alone(coarse_share=1).std() < 0.7 * still.std()
    assert 0.01 < np.abs(change_alone(compressed_share=1) - still).mean() < 0.3


def test_the_corners_of_mouths_move_and_the_targets_of_neutral_faces_with_them():
    face = np.zeros((48, 48), np.uint8)
    cv2.line(face, (17, 36), (30, 36), 255, 2)
    faces, rows = np.stack([face] * 60), np.arange(48)
    corner_up, corner_down, corner = (
        (image[:, 15:20].sum(axis=1) @ rows) / image[:, 15:20].sum()
        for image in smile(faces[:3], np.array([0.4, -0.4, 0.0])).astype(float)
    )
    assert corner_up < corner - 1 < corner + 1 < corner_down
    before = EYE[[4] * 50 + [3] * 10]
    values = before.copy()
    let_smile(faces, [values], 0.5, EMOTIONS, np.random.default_rng(1))
    changed = (faces != face).any(axis=(1, 2))
    assert 10 < changed[:50].sum() == changed.sum() < 40
    np.testing.assert_allclose(values.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(values[~changed], before[~changed])
    assert (values[changed][:, [3, 5]].max(axis=1) > 0).all()
    assert 0.3 < values[changed, 3].max() <= 0.65
    assert 0 < values[changed, 5].max() <= 0.18


def batches_of(data=DATA, size: int = 16, **options) -> FaceBatches:
    return FaceBatches(data.images, build_targets(data, PLAIN), size, **options)


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
    nothing = Targets((np.eye(4, dtype=np.float32),), (np.zeros(4, np.float32),))
    batches = FaceBatches(DATA.images[:4], nothing, 4, seed=(1, 1), mixup=0.2)
    _, values, weights = batches[0]
    assert np.isfinite(values).all()
    assert (weights == 0).all()
    faces, _, _ = batches_of(size=50, side=24)[0]
    expected = DATA.images.reshape(50, 24, 2, 24, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(faces[..., 0] * 255, expected, atol=1)


def with_votes():
    """Return three faces of the classes 0, 1, 2; two people of four agree, the last has no vote."""
    votes = np.zeros((3, 7), np.float32)
    votes[:2, 0] = votes[:2, 6] = 0.5
    return make_dataset(train=3, validation=0, test=0, votes=votes)


def test_labels_are_one_hot_smoothed_and_balanced():
    data = make_dataset(train=7, validation=0, test=0)
    (plain,) = build_targets(data, PLAIN).values
    np.testing.assert_array_equal(plain, EYE)
    smoothed = build_targets(data, replace(PLAIN, label_smoothing=0.14)).values[0]
    np.testing.assert_allclose(np.diag(smoothed), 0.88, rtol=1e-5)
    np.testing.assert_allclose(smoothed.sum(axis=1), 1, rtol=1e-5)
    labels = np.array([0] * 9 + [3] * 3)
    even = build_targets(make_dataset(train=12, validation=0, test=0), PLAIN)
    (weights,) = targets.balance_classes(even, labels).weights
    assert weights[labels == 0].sum() == pytest.approx(weights[labels == 3].sum())
    assert weights.sum() == pytest.approx(12)
    assert smoothed.dtype == weights.dtype == np.float32


def test_votes_as_targets():
    for votes_as, expected in (
        ("majority", [[1, 0], [0, 0]]),
        ("distribution", [[0.5, 0.5], [0.5, 0.5]]),
        ("blend", [[0.75, 0.25], [0.25, 0.25]]),
    ):
        settings = replace(PLAIN, votes_as=votes_as)
        (values,) = build_targets(with_votes(), settings).values
        np.testing.assert_allclose(values[:2][:, [0, 6]], expected)
        np.testing.assert_array_equal(values[2], EYE[2], "no vote: the label")
        np.testing.assert_allclose(values.sum(axis=1), 1)


def test_copies_are_learned_once_with_the_mean_of_labels_and_votes():
    data = with_votes()
    data.images[2] = data.images[0]
    data = data.where(np.array([1, 0, 2, 0]))  # twice class 0 with votes, once class 2 without
    merged, learned = targets.merge_copies(data, build_targets(data, PLAIN))
    labels, votes = learned.values
    order = np.argsort(-merged.labels)
    assert merged.labels[order].tolist() == [1, 0]
    np.testing.assert_array_equal(merged.images[order], data.images[:2])
    np.testing.assert_allclose(labels[order], [EYE[1], (2 * EYE[0] + EYE[2]) / 3], rtol=1e-6)
    np.testing.assert_allclose(votes[order], data.votes[:2], rtol=1e-6)
    assert [weights.tolist() for weights in learned.weights] == [[1, 1], [1, 1]]


def test_votes_as_second_head_and_teachers_of_both():
    data = with_votes()
    plain = build_targets(data, PLAIN)
    np.testing.assert_array_equal(plain.values[0], EYE[:3])
    np.testing.assert_array_equal(plain.values[1], data.votes)
    taught = (np.full((3, 7), 1 / 7, np.float32), EYE[[3, 3, 3]])
    mixed = build_targets(data, replace(PLAIN, teacher_share=0.5), taught)
    np.testing.assert_allclose(np.diag(mixed.values[0]), 0.5 + 0.5 / 7, rtol=1e-5)
    np.testing.assert_allclose(mixed.values[1][0][[0, 3, 6]], [0.25, 0.5, 0.25])
    assert mixed.values[0].dtype == np.float32
    for one in (plain, mixed):
        assert [weights.tolist() for weights in one.weights] == [[1, 1, 1], [1, 1, 0]]


def test_two_views_tell_more_than_one_and_one_learned_by_heart_is_not_believed():
    random = np.random.default_rng(1)
    truth = random.integers(0, 7, 4000)
    labels = EYE[truth]
    noisy = [labels * 2 + random.normal(size=(4000, 7)) for _ in range(2)]
    seen, told = (view - np.log(np.exp(view).sum(axis=1, keepdims=True)) for view in noisy)
    expect = targets.expected_annotation
    expected = expect(*((view[CHECK], view[TRAIN]) for view in (seen, told, labels)))
    assert expected.shape == (2000, 7)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-5)
    entropies = [
        -np.log(answers[np.arange(2000), truth[CHECK]]).mean()
        for answers in (expected, np.exp(seen[CHECK]), np.exp(told[CHECK]))
    ]
    assert entropies[0] < 0.8 * min(entropies[1:])
    by_heart = np.where(labels[TRAIN], 0.0, -9.0)  # the very label, on training faces alone
    others = (told[TRAIN], told[CHECK]), (labels[TRAIN], labels[CHECK])
    for learned in (by_heart, np.random.default_rng(3).permutation(by_heart)):
        expected = expect((learned, np.zeros_like(seen[CHECK])), *others)
        assert np.isfinite(expected).all()
        # the other annotation still counts (1 of 7 by chance)
        assert (expected.argmax(axis=1) == truth[TRAIN]).mean() > 0.4


def test_softened_answers_are_kept_with_the_run_and_both_heads_are_taught(tmp_path, monkeypatch):
    """Every teacher answers the label's class at 0.5."""
    answering = []

    def teacher_answers(stems, images, class_names):
        answering.append((tuple(map(str, stems)), len(images)))
        return np.where(EYE[np.arange(len(images)) % 7] > 0, 0.5, 0.5 / 6).astype(np.float32)

    monkeypatch.setattr(targets, "teacher_answers", teacher_answers)
    data = make_dataset(train=70)
    parts = data.split("train"), data.split("validation")
    settings = TrainingSettings(runs=str(tmp_path), teachers=("one", "two"))
    (taught,), (again,) = (what_teachers_say(*parts, settings) for _ in range(2))
    row = np.array([[0.5] + [0.5 / 6] * 6])
    np.testing.assert_allclose(taught[0], apply_temperature(row, 2.0)[0], rtol=1e-5)
    assert taught.dtype == np.float32
    np.testing.assert_array_equal(taught, again)
    assert answering == [(("one", "two"), 70)]
    for kept in tmp_path.rglob("*.npz"):
        kept.write_bytes(b"damaged")
    what_teachers_say(*parts, settings)
    assert len(answering) == 2
    settings = replace(settings, votes_teachers=("three",), name="two heads")
    with pytest.raises(TrainingError, match="--votes-teachers"):
        what_teachers_say(*parts, settings)
    data = replace(data, votes=EYE[data.labels] * np.float32(0.65) + np.float32(0.05))
    alone = replace(settings, teachers=(), name="votes alone")
    nothing, votes = what_teachers_say(data.split("train"), data.split("validation"), alone)
    assert nothing is None
    np.testing.assert_allclose(votes[0], row[0], rtol=1e-5, err_msg="not softened")
    answering.pop()
    both = what_teachers_say(data.split("train"), data.split("validation"), settings)
    assert [one.shape for one in both] == [(70, 7)] * 2
    assert (both[0].argmax(axis=1) == data.split("train").labels).all()
    assert sorted(answering[2:]) == sorted(
        (stems, count) for stems in (("one", "two"), ("three",)) for count in (70, 35)
    )
