import numpy as np
import pytest
from training_data import make_dataset

from emotion.errors import DatasetError
from emotion.labels import EMOTIONS
from emotion.training.evaluation import (
    Evaluation,
    apply_temperature,
    evaluate_model,
    fit_temperature,
)

LABELS = np.array([0, 0, 1, 1, 2, 2])
PROBABILITIES = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.4, 0.5, 0.1],
        [0.1, 0.9, 0.0],
        [0.2, 0.6, 0.2],
        [0.1, 0.1, 0.8],
        [0.0, 0.3, 0.7],
    ]
)


@pytest.fixture
def evaluation() -> Evaluation:
    return Evaluation(("a", "b", "c"), LABELS, PROBABILITIES)


def test_figures_by_hand(evaluation):
    assert evaluation.accuracy == pytest.approx(5 / 6)
    assert evaluation.confusion.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 2]]
    assert evaluation.macro_f1 == pytest.approx((2 / 3 + 4 / 5 + 1) / 3)
    right = PROBABILITIES[np.arange(6), LABELS]
    assert evaluation.log_loss == pytest.approx(-np.log(right).mean())
    low, high = evaluation.accuracy_interval
    assert low < 5 / 6 < high
    rows = {row["class"]: row for row in evaluation.per_class()}
    assert rows["b"]["precision"] == pytest.approx(2 / 3)
    assert rows["a"]["recall"] == 0.5
    assert rows["c"] == {"class": "c", "precision": 1, "recall": 1, "f1": 1, "support": 2}


def test_calibration_error_by_hand():
    # four answers at 90 %, three of them right: 0.9 against 0.75
    probabilities = np.array([[0.9, 0.1]] * 4)
    evaluation = Evaluation(("a", "b"), np.array([0, 0, 0, 1]), probabilities)
    assert evaluation.expected_calibration_error == pytest.approx(0.15)


def test_summary_is_plain_json(evaluation):
    import json

    assert json.loads(json.dumps(evaluation.summary()))["images"] == 6


@pytest.mark.parametrize("shape", [(5, 3), (6, 2)])
def test_shapes_must_fit(shape):
    with pytest.raises(ValueError, match="expected a row a label"):
        Evaluation(("a", "b", "c"), LABELS, np.ones(shape))


@pytest.mark.parametrize("true_temperature", [0.5, 1.0, 2.5])
def test_temperature_is_recovered(true_temperature):
    random = np.random.default_rng(0)
    honest = apply_temperature(random.dirichlet(np.ones(4), 20_000), 1.0)
    labels = (honest.cumsum(axis=1) > random.random((20_000, 1))).argmax(axis=1)
    distorted = apply_temperature(honest, 1 / true_temperature)
    temperature = fit_temperature(labels, distorted)
    assert temperature == pytest.approx(true_temperature, rel=0.05)
    np.testing.assert_array_equal(
        distorted.argmax(1), apply_temperature(distorted, temperature).argmax(1)
    )


def test_model_is_measured_in_its_own_class_order(stand_in_model):
    dataset = make_dataset()
    reversed_names = dataset.class_names[::-1]
    other = dataset.where(np.ones(len(dataset), bool))
    other = type(other)(
        other.images, len(reversed_names) - 1 - other.labels, other.splits, reversed_names
    )
    ours, theirs = (evaluate_model(stand_in_model, data) for data in (dataset, other))
    assert ours.class_names == EMOTIONS
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert ours.accuracy == theirs.accuracy


def test_classes_the_model_does_not_know(stand_in_model):
    dataset = make_dataset()
    other = type(dataset)(
        dataset.images, dataset.labels, dataset.splits, (*EMOTIONS[:-1], "contempt")
    )
    with pytest.raises(DatasetError, match="also has contempt"):
        evaluate_model(stand_in_model, other)
