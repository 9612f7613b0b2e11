from dataclasses import replace

import numpy as np
import pytest
from training_data import make_dataset

from emotion.training.fitting.targets import balance_classes, build_targets
from emotion.training.settings import TrainingSettings

PLAIN = TrainingSettings(label_smoothing=0.0)


def dataset_with_votes():
    """Return three faces of the classes 0, 1, 2; two people of four agree, the last has no vote."""
    votes = np.zeros((3, 7), np.float32)
    votes[:2, 0] = votes[:2, 6] = 0.5
    return make_dataset(train=3, validation=0, test=0, votes=votes)


def test_labels_are_one_hot_and_smoothed():
    data = make_dataset(train=7, validation=0, test=0)
    plain = build_targets(data, PLAIN)
    np.testing.assert_array_equal(plain.values[0], np.eye(7, dtype=np.float32))
    smoothed = build_targets(data, replace(PLAIN, label_smoothing=0.14)).values[0]
    np.testing.assert_allclose(np.diag(smoothed), 0.88, rtol=1e-5)
    np.testing.assert_allclose(smoothed.sum(axis=1), 1, rtol=1e-5)
    assert smoothed.dtype == np.float32
    assert len(plain.values) == 1, "without votes there is one head"


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
    targets = build_targets(dataset_with_votes(), settings)
    (values,) = targets.values
    np.testing.assert_allclose(values[:2][:, [0, 6]], expected)
    np.testing.assert_array_equal(values[2], np.eye(7)[2], "no vote: the label")
    np.testing.assert_allclose(values.sum(axis=1), 1)


def test_votes_as_second_head_count_only_where_there_are_any():
    data = dataset_with_votes()
    targets = build_targets(data, PLAIN)
    np.testing.assert_array_equal(targets.values[0], np.eye(7, dtype=np.float32)[:3])
    np.testing.assert_array_equal(targets.values[1], data.votes)
    assert targets.weights[0].tolist() == [1, 1, 1]
    assert targets.weights[1].tolist() == [1, 1, 0]


def test_teachers_are_mixed_with_the_label_and_with_the_votes():
    even = np.full((3, 7), 1 / 7, np.float32)
    taught = (even, np.eye(7, dtype=np.float32)[[3, 3, 3]])
    targets = build_targets(dataset_with_votes(), replace(PLAIN, teacher_share=0.5), taught)
    np.testing.assert_allclose(np.diag(targets.values[0]), 0.5 + 0.5 / 7, rtol=1e-5)
    np.testing.assert_allclose(targets.values[1][0][[0, 3, 6]], [0.25, 0.5, 0.25])
    assert targets.weights[1].tolist() == [1, 1, 0]
    assert targets.values[0].dtype == np.float32


def test_balanced_classes_count_the_same():
    labels = np.array([0] * 9 + [3] * 3)
    data = make_dataset(train=12, validation=0, test=0)
    targets = balance_classes(build_targets(data, PLAIN), labels)
    (weights,) = targets.weights
    assert weights[labels == 0].sum() == pytest.approx(weights[labels == 3].sum())
    assert weights.sum() == pytest.approx(12)
    assert weights.dtype == np.float32
