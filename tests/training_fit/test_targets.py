"""What a network learns of each face: labels, votes, and what saved models say of both."""

from dataclasses import replace

import numpy as np
import pytest
from training_data import make_dataset

from emotion.errors import TrainingError
from emotion.model.runtime import apply_temperature
from emotion.training.fitting import targets
from emotion.training.fitting.targets import (
    balance_classes,
    build_targets,
    expected_annotation,
    what_teachers_say,
)
from emotion.training.settings import TrainingSettings

PLAIN = TrainingSettings(label_smoothing=0.0)
EYE = np.eye(7, dtype=np.float32)
DATA = make_dataset(train=70)
TRAIN, CHECK = slice(0, 2000), slice(2000, 4000)


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
    (weights,) = balance_classes(even, labels).weights
    assert weights[labels == 0].sum() == pytest.approx(weights[labels == 3].sum())
    assert weights.sum() == pytest.approx(12)
    assert smoothed.dtype == weights.dtype == np.float32


@pytest.mark.parametrize(
    ("votes_as", "expected"),
    [
        ("majority", [[1, 0], [0, 0]]),
        ("distribution", [[0.5, 0.5], [0.5, 0.5]]),
        ("blend", [[0.875, 0.125], [0.125, 0.125]]),
    ],
)
def test_votes_as_targets(votes_as, expected):
    settings = replace(PLAIN, votes_as=votes_as, blend=0.25)
    (values,) = build_targets(with_votes(), settings).values
    np.testing.assert_allclose(values[:2][:, [0, 6]], expected)
    np.testing.assert_array_equal(values[2], EYE[2], "no vote: the label")
    np.testing.assert_allclose(values.sum(axis=1), 1)


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


@pytest.fixture(scope="module")
def views() -> tuple[np.ndarray, ...]:
    """Return true classes, and two independent noisy views of them as logarithms, (N, classes)."""
    random = np.random.default_rng(1)
    truth = random.integers(0, 7, 4000)
    noisy = [EYE[truth] * 2 + random.normal(size=(4000, 7)) for _ in range(2)]
    return truth, *(view - np.log(np.exp(view).sum(axis=1, keepdims=True)) for view in noisy)


def test_two_views_tell_more_than_one(views):
    truth, seen, told = views
    labels = EYE[truth]
    expected = expected_annotation(*((view[CHECK], view[TRAIN]) for view in (seen, told, labels)))
    assert expected.shape == (2000, 7)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-5)
    entropies = [
        -np.log(answers[np.arange(2000), truth[CHECK]]).mean()
        for answers in (expected, np.exp(seen[CHECK]), np.exp(told[CHECK]))
    ]
    assert entropies[0] < 0.8 * min(entropies[1:])


def test_a_model_that_learned_its_faces_by_heart_is_not_believed(views):
    truth, seen, told = views
    labels = EYE[truth]
    by_heart = np.where(labels[TRAIN], 0.0, -9.0)  # the very label, on training faces alone
    for learned in (by_heart, np.random.default_rng(3).permutation(by_heart)):
        expected = expected_annotation(
            (learned, np.zeros_like(seen[CHECK])),
            (told[TRAIN], told[CHECK]),
            (labels[TRAIN], labels[CHECK]),
        )
        assert np.isfinite(expected).all()
        # the other annotation still counts (1 of 7 by chance)
        assert (expected.argmax(axis=1) == truth[TRAIN]).mean() > 0.4


@pytest.fixture
def answering(monkeypatch):
    """Let every teacher answer the label's class at 0.5; return the list of calls."""
    calls = []

    def teacher_answers(stems, images, class_names):
        calls.append((tuple(map(str, stems)), len(images)))
        labels = np.arange(len(images)) % len(class_names)
        answers = np.full((len(images), len(class_names)), 0.5 / 6, np.float32)
        answers[np.arange(len(images)), labels] = 0.5
        return answers

    monkeypatch.setattr(targets, "teacher_answers", teacher_answers)
    return calls


def test_softened_answers_are_kept_with_the_run(tmp_path, answering):
    parts = DATA.split("train"), DATA.split("validation")
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
    with pytest.raises(TrainingError, match="--votes-teachers"):
        what_teachers_say(*parts, replace(settings, votes_teachers=("three",)))


def test_both_heads_are_taught(tmp_path, answering):
    shares = np.full((len(DATA), 7), 0.05, np.float32)
    shares[np.arange(len(DATA)), DATA.labels] = 0.7
    data = replace(DATA, votes=shares)
    settings = TrainingSettings(
        runs=str(tmp_path), teachers=("one", "two"), votes_teachers=("three",)
    )
    taught = what_teachers_say(data.split("train"), data.split("validation"), settings)
    assert [one.shape for one in taught] == [(70, 7)] * 2
    assert (taught[0].argmax(axis=1) == data.split("train").labels).all()
    assert sorted(answering) == sorted(
        (stems, count) for stems in (("one", "two"), ("three",)) for count in (70, 35)
    )
