from dataclasses import replace

import numpy as np
import pytest
from training_data import make_dataset

from emotion.training.fitting.targets import balance_classes, build_targets
from emotion.training.settings import TrainingSettings

PLAIN = TrainingSettings(label_smoothing=0.0)
EYE = np.eye(7, dtype=np.float32)


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
    targets = build_targets(make_dataset(train=12, validation=0, test=0), PLAIN)
    (weights,) = balance_classes(targets, labels).weights
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
    targets = build_targets(data, PLAIN)
    np.testing.assert_array_equal(targets.values[0], EYE[:3])
    np.testing.assert_array_equal(targets.values[1], data.votes)
    taught = (np.full((3, 7), 1 / 7, np.float32), EYE[[3, 3, 3]])
    mixed = build_targets(data, replace(PLAIN, teacher_share=0.5), taught)
    np.testing.assert_allclose(np.diag(mixed.values[0]), 0.5 + 0.5 / 7, rtol=1e-5)
    np.testing.assert_allclose(mixed.values[1][0][[0, 3, 6]], [0.25, 0.5, 0.25])
    assert mixed.values[0].dtype == np.float32
    for one in (targets, mixed):
        assert [weights.tolist() for weights in one.weights] == [[1, 1, 1], [1, 1, 0]]
