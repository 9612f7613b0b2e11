"""When an answer is sure enough to be given as one emotion; no Keras, no files.

An answer is sure when it leads clearly and is probable enough:

1. `clear_margin` is the lead over the second class from which an answer is right more often than
   wrong, by a logistic regression of right on lead (the reject rule of Chow 1970, "On optimum
   recognition error and reject tradeoff", where an error costs twice an unsure answer).
2. `sure_from` is the lowest probability from which the answers with a clear lead are right in at
   least `TARGET_ACCURACY` of cases, read off their risk-coverage curve (El-Yaniv & Wiener 2010, "On
   the foundations of noise-free selective classification"; Geifman & El-Yaniv 2017, "Selective
   classification for deep neural networks"). Where that would leave fewer than `LEAST_COVERAGE` of
   all faces with a sure answer, it is the highest one that leaves so many: an app that is unsure of
   most faces helps nobody. What it then reaches stands beside it as `accuracy_when_sure`.

Both are rounded to what a person can read, and what they give is measured after that.
"""

import math
from dataclasses import asdict

import numpy as np
from sklearn.linear_model import LogisticRegression

from emotion.faces import Thresholds, likely_classes
from emotion.training.measuring.evaluation import Evaluation

TARGET_ACCURACY = 0.9
LEAST_COVERAGE = 0.6
WIDEST_MARGIN = 0.5
"""A model that is wrong more often than right at any lead is unsure below this one."""

LEAST_IMAGES = 100
"""On fewer images a threshold would be chance: the defaults of `Thresholds` stand."""

DIGITS = 3


def verdict_facts(labels: np.ndarray, probabilities: np.ndarray, split: str = "validation") -> dict:
    """Return what a model's card says under `verdict`: the thresholds and what they give.

    Args:
        labels: (N,) int, from images the network was not trained on; N above 0.
        probabilities: (N, classes), calibrated, as they are served.
        split: the name of the split the images are from.

    Returns:
        sure_from, clear_margin, accuracy_when_unsure: as in `Thresholds`; target_accuracy;
        coverage: share of the faces with a sure answer; accuracy_when_sure: how often those are
        right; named_when_unsure: how often the true class is among the one to three that an unsure
        answer names; split, images. A share of no faces is None.
    """
    evaluation = _evaluation(labels, probabilities)
    thresholds = choose_thresholds(labels, probabilities)
    sure = sure_answers(probabilities, thresholds)
    named = [
        label in likely_classes(dict(enumerate(row)))
        for label, row in zip(labels[~sure], probabilities[~sure].tolist(), strict=True)
    ]
    return asdict(thresholds) | {
        "accuracy_when_unsure": _share(evaluation.right[~sure]),
        "target_accuracy": TARGET_ACCURACY,
        "coverage": _share(sure),
        "accuracy_when_sure": _share(evaluation.right[sure]),
        "named_when_unsure": _share(np.array(named)),
        "split": split,
        "images": len(labels),
    }


def choose_thresholds(
    labels: np.ndarray,
    probabilities: np.ndarray,
    target_accuracy: float = TARGET_ACCURACY,
    least_coverage: float = LEAST_COVERAGE,
) -> Thresholds:
    """Return when answers are sure, by the rule at the head of this file.

    Args:
        labels: (N,) int, from images the network was not trained on.
        probabilities: (N, classes), calibrated.
        target_accuracy: how often sure answers should be right, 0 to 1.
        least_coverage: share of all faces that get a sure answer even if the target is missed,
            as far as they have a clear lead.
    """
    if len(labels) < LEAST_IMAGES:
        return Thresholds()
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    leads = first - second
    margin = _clear_margin(leads, _evaluation(labels, probabilities).right)
    clear = leads >= margin
    if not clear.any():
        return Thresholds(sure_from=1.0, clear_margin=margin)
    among_clear = _evaluation(labels[clear], probabilities[clear])
    least_images = min(math.ceil(least_coverage * len(labels)), len(among_clear.labels))
    sure_from = _sure_from(among_clear, target_accuracy, least_images)
    return Thresholds(sure_from=sure_from, clear_margin=margin)


def sure_answers(probabilities: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    """Return which answers are sure, (N,) bool, of (N, classes) probabilities."""
    return np.array([thresholds.met_by(row) for row in probabilities.tolist()], bool)


def _clear_margin(leads: np.ndarray, right: np.ndarray) -> float:
    """Return the lead from which answers are right more often than wrong."""
    if right.all() or not right.any():
        return 0.0 if right.all() else WIDEST_MARGIN
    regression = LogisticRegression().fit(leads[:, np.newaxis], right)
    intercept, slope = float(regression.intercept_[0]), float(regression.coef_[0, 0])
    if slope <= 0:  # the lead says nothing; what is left is how often answers are right at all
        return 0.0 if intercept > 0 else WIDEST_MARGIN
    return round(min(max(-intercept / slope, 0.0), WIDEST_MARGIN), DIGITS)


def _sure_from(evaluation: Evaluation, target_accuracy: float, least_images: int) -> float:
    """Return the lowest probability that reaches the target, or else leaves `least_images`."""
    confidence = np.sort(evaluation.confidence)[::-1]
    _, risk = evaluation.risk_coverage()
    is_last_of_ties = np.append(confidence[:-1] > confidence[1:], True)
    kept = 1 + np.flatnonzero((1 - risk >= target_accuracy) & is_last_of_ties)
    images = max(kept.max(initial=0), least_images)
    return math.floor(float(confidence[images - 1]) * 10**DIGITS) / 10**DIGITS


def _evaluation(labels: np.ndarray, probabilities: np.ndarray) -> Evaluation:
    """Return an evaluation of classes whose names do not matter."""
    names = tuple(map(str, range(probabilities.shape[1])))
    return Evaluation(names, labels, probabilities)


def _share(values: np.ndarray) -> float | None:
    """Return the share of the values that hold, None of no values."""
    return float(values.mean()) if len(values) else None
