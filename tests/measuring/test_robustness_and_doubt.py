"""What is measured beside the accuracy: worse pictures, and answers that are left out as unsure."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from training_data import make_dataset
from web_support import stand_in_model as answering_model

from emotion.faces import Thresholds
from emotion.model.runtime import apply_temperature
from emotion.training.measuring import measurement, selective


@pytest.mark.parametrize("name", measurement.CORRUPTIONS)
def test_corruptions_repeat_and_each_level_is_further_from_the_image(name, astronaut):
    grey = cv2.cvtColor(astronaut[40:200, 150:310], cv2.COLOR_RGB2GRAY)
    face = cv2.resize(grey, (48, 48), interpolation=cv2.INTER_AREA)
    faces = np.stack([face, np.zeros_like(face), np.full_like(face, 255)])
    (change, strengths, _), before = measurement.CORRUPTIONS[name], faces.copy()
    changed = [change(faces, strength) for strength in strengths]
    np.testing.assert_array_equal(changed[-1], change(faces, strengths[-1]))
    np.testing.assert_array_equal(faces, before)
    assert {(images.shape, images.dtype) for images in changed} == {(faces.shape, faces.dtype)}
    gaps = [np.abs(images[0].astype(float) - faces[0]).mean() for images in changed]
    assert 0 < gaps[0] < gaps[1] < gaps[2]


@pytest.mark.parametrize("mirrored", [False, True])
def test_measures_every_condition_once(mirrored, stand_in_model):
    def run(faces):
        bright = (faces.mean(axis=(1, 2, 3)) > 0.3).astype(np.float32)
        return np.stack([1 - bright, bright], axis=1)

    names, card = ("dim", "bright"), {"serving": {"mirrored": mirrored, "temperature": 1}}
    model = replace(stand_in_model, class_names=names, run=run, card=card)
    count = measurement.CORRUPTED_IMAGES + 100  # the rest is not needed
    facts = {"images": np.full((count, 48, 48), 200, np.uint8), "class_names": names}
    dataset = replace(make_dataset(0, 0, count), labels=np.ones(count, np.int64), **facts)
    rows = measurement.measure_robustness(model, dataset)
    accuracies = {(row["corruption"], row["level"]): row["accuracy"] for row in rows}
    cases = [(name, level) for name in measurement.CORRUPTIONS for level in measurement.LEVELS]
    assert list(accuracies) == [(measurement.UNCHANGED, ""), *cases]
    assert {row["images"] for row in rows} == {measurement.CORRUPTED_IMAGES}
    assert all((row["accuracy_one_crop"] is not None) == mirrored for row in rows)
    assert len({row["description"] for row in rows}) == len(rows) == 19
    assert accuracies[measurement.UNCHANGED, ""] == accuracies["blur", "strong"] == 1
    assert accuracies["darkness", "strong"] == 0


def honest_answers(count=4000, sharpness=3.0):
    """Return labels and probabilities of a perfectly calibrated model; sharper is more accurate."""
    random = np.random.default_rng(0)
    powers = np.exp(sharpness * random.normal(size=(count, 7)))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    return np.array([random.choice(7, p=row) for row in probabilities]), probabilities


def sure_by(chosen, probabilities):
    """Return which answers are sure, counted in the plainest way."""
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    return (first - second >= chosen.clear_margin) & (first >= chosen.sure_from)


def test_the_target_is_reached_or_else_the_least_coverage_holds():
    labels, probabilities = honest_answers(sharpness=4)
    right = probabilities.argmax(axis=1) == labels
    chosen = selective.choose_thresholds(labels, probabilities)
    sure = sure_by(chosen, probabilities)
    assert right[sure].mean() == pytest.approx(selective.TARGET_ACCURACY, abs=0.002)
    assert selective.LEAST_COVERAGE < sure.mean() < 1
    looser = replace(chosen, sure_from=chosen.sure_from - 0.05)
    assert right[sure_by(looser, probabilities)].mean() < right[sure].mean()

    labels, probabilities = honest_answers(sharpness=2)
    facts = selective.verdict_facts(labels, probabilities)
    chosen = Thresholds(facts["sure_from"], facts["clear_margin"])
    sure, right = sure_by(chosen, probabilities), probabilities.argmax(axis=1) == labels
    assert facts["coverage"] == pytest.approx(sure.mean())
    assert sure.mean() == pytest.approx(selective.LEAST_COVERAGE, abs=0.01)
    assert facts["accuracy_when_sure"] == pytest.approx(right[sure].mean())
    assert facts["accuracy_when_sure"] < selective.TARGET_ACCURACY
    assert facts["accuracy_when_unsure"] == pytest.approx(right[~sure].mean())
    assert facts["accuracy_when_unsure"] < facts["named_when_unsure"] < 1
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    assert right[first - second < chosen.clear_margin].mean() < 0.55
    assert (facts["split"], facts["target_accuracy"]) == ("validation", selective.TARGET_ACCURACY)


def test_answers_that_are_always_right_or_never_and_a_lead_that_says_nothing():
    probabilities = np.tile([[0.5, 0.3, 0.2]], (200, 1))
    for label, expected in ((0, Thresholds(0.5, 0.0)), (1, Thresholds(1.0, 0.5))):
        assert selective.choose_thresholds(np.full(200, label), probabilities) == expected
    probabilities = np.tile([[0.9, 0.1], [0.6, 0.4]], (500, 1))
    for share_right, margin in ((0.8, 0.0), (0.2, selective.WIDEST_MARGIN)):
        labels = (np.arange(1000) // 2 % 10 >= share_right * 10).astype(int)
        assert selective.choose_thresholds(labels, probabilities).clear_margin == margin


def test_few_images_leave_the_defaults_and_figures_of_no_faces_are_none():
    facts = selective.verdict_facts(*honest_answers(count=99))
    assert Thresholds(facts["sure_from"], facts["clear_margin"]) == Thresholds()
    assert facts["images"] == 99
    facts = selective.verdict_facts(np.zeros(200, int), np.tile([[0.8, 0.2]], (200, 1)))
    assert (facts["coverage"], facts["accuracy_when_sure"]) == (1.0, 1.0)
    assert facts["accuracy_when_unsure"] is facts["named_when_unsure"] is None


def test_agreement_is_fitted_to_the_votes_and_measured_beside_them():
    _, probabilities = honest_answers(count=400)
    voted = replace(make_dataset(0, 0, 400), votes=apply_temperature(probabilities, 1.7))
    voted.images[:, 0, :2] = np.stack(np.divmod(np.arange(400), 256), axis=1)  # names its row

    def run(faces):
        return probabilities[np.round(faces[:, 0, :2, 0] * 255).astype(int) @ (256, 1)]

    def said_by(temperature: float | None) -> dict | None:
        facts = {"sure_from": 0.5, "clear_margin": 0.1, "agreement_temperature": temperature}
        return selective.measure_agreement(replace(model, card={"verdict": facts}), voted)

    model = replace(answering_model(), run=run)
    assert selective.fit_agreement(model, voted) == pytest.approx(1.7, abs=0.01)
    assert selective.fit_agreement(model, voted.where(np.arange(400) < 99)) is said_by(None) is None
    honest = said_by(1.7)
    assert honest["mean_absolute_error"] < 0.5, "what rounding leaves"
    assert all(abs(row["said"] - row["named"]) <= 0.5 for row in honest["said"])
    assert sum(row["images"] for row in honest["said"]) == honest["images"] == 400
    assert 0 < honest["split_first"] < honest["split_named"] < 10
    assert said_by(1)["mean_error"] > 1
