import json
from dataclasses import replace

import numpy as np
import pytest
from web_support import StandInDetector, stand_in_model

from emotion.errors import ModelError
from emotion.faces import Thresholds, read_thresholds
from emotion.recognizer import Recognizer
from emotion.training.measuring.selective import (
    LEAST_COVERAGE,
    TARGET_ACCURACY,
    WIDEST_MARGIN,
    choose_thresholds,
    sure_answers,
    verdict_facts,
)


def honest_answers(count=4000, sharpness=3.0, classes=7, seed=0):
    """Return labels and probabilities of a perfectly calibrated model; sharper is more accurate."""
    random = np.random.default_rng(seed)
    powers = np.exp(sharpness * random.normal(size=(count, classes)))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    labels = np.array([random.choice(classes, p=row) for row in probabilities])
    return labels, probabilities


def figures(labels, probabilities, thresholds):
    """Return (coverage, accuracy of the sure answers), counted in the plainest way."""
    ranked = np.sort(probabilities, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] >= thresholds.clear_margin
    sure = clear & (ranked[:, -1] >= thresholds.sure_from)
    return sure.mean(), (probabilities.argmax(axis=1) == labels)[sure].mean()


def test_target_is_reached_with_as_many_sure_answers_as_can_be():
    labels, probabilities = honest_answers(sharpness=4)
    chosen = choose_thresholds(labels, probabilities)
    coverage, accuracy = figures(labels, probabilities, chosen)
    assert accuracy == pytest.approx(TARGET_ACCURACY, abs=0.002)
    assert LEAST_COVERAGE < coverage < 1
    looser = replace(chosen, sure_from=chosen.sure_from - 0.05)
    assert figures(labels, probabilities, looser)[1] < accuracy


def test_where_the_target_costs_too_many_answers_the_least_coverage_holds():
    labels, probabilities = honest_answers(sharpness=2)
    coverage, accuracy = figures(labels, probabilities, choose_thresholds(labels, probabilities))
    assert coverage == pytest.approx(LEAST_COVERAGE, abs=0.01)
    assert accuracy < TARGET_ACCURACY
    chosen = choose_thresholds(labels, probabilities, least_coverage=0.1)
    coverage, accuracy = figures(labels, probabilities, chosen)
    assert accuracy == pytest.approx(TARGET_ACCURACY, abs=0.01)
    assert coverage < LEAST_COVERAGE


def test_answers_below_the_clear_margin_are_wrong_more_often_than_right():
    labels, probabilities = honest_answers(sharpness=2)
    margin = choose_thresholds(labels, probabilities).clear_margin
    assert 0.02 < margin < 0.4
    ranked = np.sort(probabilities, axis=1)
    leads, right = ranked[:, -1] - ranked[:, -2], probabilities.argmax(axis=1) == labels
    assert right[leads < margin].mean() < 0.5 < right[leads >= margin].mean()


@pytest.mark.parametrize(
    ("is_right", "expected"), [(True, Thresholds(0.5, 0.0)), (False, Thresholds(1.0, 0.5))]
)
def test_always_right_or_never(is_right, expected):
    probabilities = np.tile([[0.5, 0.3, 0.2]], (200, 1))
    labels = np.zeros(200, int) if is_right else np.ones(200, int)
    assert choose_thresholds(labels, probabilities) == expected
    assert sure_answers(probabilities, expected).all() == is_right


@pytest.mark.parametrize(("share_right", "margin"), [(0.8, 0.0), (0.2, WIDEST_MARGIN)])
def test_a_lead_that_says_nothing(share_right, margin):
    probabilities = np.tile([[0.9, 0.1], [0.6, 0.4]], (500, 1))
    labels = (np.arange(1000) // 2 % 10 >= share_right * 10).astype(int)
    assert choose_thresholds(labels, probabilities).clear_margin == margin


def test_few_images_leave_the_defaults():
    labels, probabilities = honest_answers(count=99)
    assert choose_thresholds(labels, probabilities) == Thresholds()
    assert verdict_facts(labels, probabilities)["images"] == 99


def test_facts_for_the_card():
    labels, probabilities = honest_answers(sharpness=2)
    facts = verdict_facts(labels, probabilities)
    assert set(facts) == {
        *("sure_from", "clear_margin", "target_accuracy", "coverage", "accuracy_when_sure"),
        *("accuracy_when_unsure", "named_when_unsure", "split", "images"),
    }
    assert json.loads(json.dumps(facts)) == facts
    coverage, accuracy = figures(labels, probabilities, choose_thresholds(labels, probabilities))
    assert (facts["coverage"], facts["accuracy_when_sure"]) == pytest.approx((coverage, accuracy))
    total = coverage * accuracy + (1 - coverage) * facts["accuracy_when_unsure"]
    assert total == pytest.approx((probabilities.argmax(axis=1) == labels).mean())
    assert facts["accuracy_when_unsure"] < facts["named_when_unsure"] < 1
    assert (facts["split"], facts["target_accuracy"]) == ("validation", TARGET_ACCURACY)


def test_figures_of_no_faces_are_none():
    facts = verdict_facts(np.zeros(200, int), np.tile([[0.8, 0.2]], (200, 1)), "test")
    assert (facts["coverage"], facts["accuracy_when_sure"], facts["split"]) == (1.0, 1.0, "test")
    assert facts["accuracy_when_unsure"] is facts["named_when_unsure"] is None


def test_what_a_card_says_is_what_is_served():
    facts = verdict_facts(*honest_answers(sharpness=2))
    card = {"verdict": facts | {"sure_from": 0.95}}
    assert read_thresholds(card).accuracy_when_unsure == facts["accuracy_when_unsure"]
    model = replace(stand_in_model(), card=card)
    faces = Recognizer(model, StandInDetector()).recognize(np.zeros((120, 160, 3), np.uint8))
    assert [face.sure for face in faces] == [False, False]
    faces = Recognizer(stand_in_model(), StandInDetector()).recognize(
        np.zeros((120, 160, 3), np.uint8)
    )
    assert [face.sure for face in faces] == [True, False]


def test_a_damaged_card_is_refused_when_the_model_is_loaded():
    with pytest.raises(ModelError, match="sure_from"):
        Recognizer(replace(stand_in_model(), card={"verdict": {"sure_from": 7}}))
