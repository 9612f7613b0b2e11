import json
from dataclasses import replace

import numpy as np
import pytest
from training_data import make_dataset

from emotion.errors import DatasetError
from emotion.labels import EMOTIONS
from emotion.model.runtime import apply_temperature
from emotion.training.measuring.evaluation import Evaluation, evaluate_model, fit_temperature

LABELS = np.array([0, 0, 1, 1, 2, 2])
PROBABILITIES = np.array([[8, 1, 1], [4, 5, 1], [1, 9, 0], [2, 6, 2], [1, 1, 8], [0, 3, 7]]) / 10
VOTES = np.float32([[10, 0, 0], [2, 8, 0], [0, 10, 0], [4, 4, 2], [0, 0, 0], [3, 0, 7]]) / 10
TWINS = np.array([False, True, False, False, False, True])
FULL = Evaluation(("a", "b", "c"), LABELS, PROBABILITIES, VOTES, TWINS)


def test_figures_by_hand():
    summary = FULL.summary()
    expected = {
        "images": 6,
        "accuracy": 5 / 6,
        "top_2_accuracy": 1,
        "macro_f1": (2 / 3 + 4 / 5 + 1) / 3,
        "log_loss": -np.log([0.8, 0.4, 0.9, 0.6, 0.8, 0.7]).mean(),
        "images_also_in_training": 2,
    }
    assert {name: summary[name] for name in expected} == pytest.approx(expected)
    assert summary["confusion_matrix"] == [[1, 1, 0], [0, 2, 0], [0, 0, 2]]
    assert summary["accuracy_interval_95"] == pytest.approx([0.436, 0.970], abs=1e-3)
    assert (summary["leak_free"]["images"], summary["leak_free"]["accuracy"]) == (4, 1)
    # answers a b b b c c, labels a a b b c c; the fourth is a tie, the fifth has no votes
    agreement = summary["vote_agreement"]
    expected = {
        "images": 5,
        "majority_images": 4,
        "mean_share": (1 + 0.8 + 1 + 0.4 + 0.7) / 5,
        "label_mean_share": (1 + 0.2 + 1 + 0.4 + 0.7) / 5,
        "best_mean_share": (1 + 0.8 + 1 + 0.4 + 0.7) / 5,
        "majority_accuracy": 1,
        "label_majority_accuracy": 0.75,
    }
    assert {name: agreement[name] for name in expected} == pytest.approx(expected)
    assert agreement["vote_entropy"] < agreement["cross_entropy"]
    assert 0 < agreement["jensen_shannon_divergence"] < 1
    assert FULL.leak_free().leak_free() is None
    last_resort = replace(FULL, labels=np.array([2, 2, 1, 1, 2, 2]))
    assert last_resort.figures()["top_2_accuracy"] == pytest.approx(4 / 6)

    # the divergence of equal and of opposite answers
    certain = np.array([[1.0, 0.0], [0.0, 1.0]])
    for votes, divergence in ((certain, 0), (certain[::-1], 1)):
        evaluation = Evaluation(("a", "b"), np.array([0, 1]), certain, votes.astype(np.float32))
        agreement = evaluation.vote_agreement()
        assert agreement["jensen_shannon_divergence"] == pytest.approx(divergence)
        assert np.isfinite(agreement["cross_entropy"])


def test_reliability_by_hand():
    four = np.array([[0.9, 0.1]] * 4)  # three are right: 0.9 against 0.75
    evaluation = Evaluation(("a", "b"), np.array([0, 0, 0, 1]), four)
    (row,) = (row for row in evaluation.reliability() if row["images"])
    assert row["lower"] < 0.9 < row["upper"]
    assert (row["images"], row["confidence"], row["accuracy"]) == (4, pytest.approx(0.9), 0.75)
    assert evaluation.figures()["expected_calibration_error"] == pytest.approx(0.15)
    empty = evaluation.reliability()[0]
    assert (empty["images"], empty["confidence"], empty["accuracy"]) == (0, None, None)


def test_risk_coverage_by_hand():
    first = np.array([0.9, 0.6, 0.8, 0.7])
    probabilities = np.stack([first, 1 - first], axis=1)
    evaluation = Evaluation(("a", "b"), np.array([0, 1, 0, 1]), probabilities)
    coverage, risk = evaluation.risk_coverage()
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]
    np.testing.assert_allclose(risk, [0, 0, 1 / 3, 1 / 2])
    area = evaluation.figures()["area_under_risk_coverage"]
    assert area == pytest.approx((1 / 3 + 1 / 2) / 4)
    half = evaluation.coverage_row(0.5)
    assert half == {"coverage": 0.5, "threshold": 0.8, "images": 2, "accuracy": 1}
    # equally sure answers share their errors, whatever their order
    for labels in ([0, 0, 1, 1], [1, 1, 0, 0]):
        evaluation = Evaluation(("a", "b"), np.array(labels), np.array([[0.7, 0.3]] * 4))
        np.testing.assert_allclose(evaluation.risk_coverage()[1], 0.5)
        assert evaluation.coverage_row(0.5)["images"] == 4


def test_summary_is_plain_json_without_nan():
    one = Evaluation(("a", "b", "c"), np.array([0]), np.array([[0.2, 0.5, 0.3]]))
    exact = Evaluation(("a", "b", "c"), np.array([0, 0]), np.array([[1.0, 0, 0], [0, 1, 0]]))
    for evaluation in (FULL, one, exact):
        summary = evaluation.summary()
        assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["leak_free"] is summary["vote_agreement"] is None
    # what is not defined for a class without images is None
    shares = [list(row.values())[1:] for row in summary["per_class"]]
    assert shares == [[1, 0.5, pytest.approx(2 / 3), 2], [0, None, 0, 0], [None, None, None, 0]]
    assert summary["macro_f1"] == pytest.approx(2 / 3)
    assert summary["confusion_matrix_normalised"] == [[0.5, 0.5, 0], [None] * 3, [None] * 3]


def test_temperature_is_recovered():
    random = np.random.default_rng(0)
    honest = apply_temperature(random.dirichlet(np.ones(4), 20_000), 1.0)
    labels = (honest.cumsum(axis=1) > random.random((20_000, 1))).argmax(axis=1)
    for temperature in (0.5, 2.5):
        distorted = apply_temperature(honest, 1 / temperature)
        assert fit_temperature(labels, distorted) == pytest.approx(temperature, rel=0.05)


def test_model_is_measured_in_its_own_class_order(stand_in_model):
    data = make_dataset()
    votes = np.random.default_rng(0).dirichlet(np.ones(7), len(data)).astype(np.float32)
    data = replace(data, votes=votes, twins=np.arange(len(data)) % 2 == 0)
    backwards = {"votes": votes[:, ::-1], "class_names": data.class_names[::-1]}
    other = replace(data, labels=6 - data.labels, **backwards)
    for measured in (evaluate_model(stand_in_model, one) for one in (data, other)):
        assert measured.class_names == EMOTIONS
        np.testing.assert_array_equal(measured.votes, votes)
        np.testing.assert_array_equal(measured.labels, data.labels)
        assert len(measured.leak_free().labels) == len(data) // 2
    unknown = replace(data, class_names=(*EMOTIONS[:-1], "contempt"))
    for wrong, words in ((data.split("absent"), "received none"), (unknown, "contempt")):
        with pytest.raises(DatasetError, match=words):
            evaluate_model(stand_in_model, wrong)
