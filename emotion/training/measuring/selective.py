"""When an answer is sure enough to be given as one emotion; no Keras, no files.

An answer is sure when it leads clearly and is probable enough:

1. `clear_margin` is the lead over the second class from which an answer is right more often than
   wrong, by a logistic regression of right on lead (the reject rule of Chow 1970, "On optimum
   recognition error and reject tradeoff", where an error costs twice an unsure answer).
2. `sure_from` is the lowest probability from which the answers with a clear lead are right in at
   least `TARGET_ACCURACY` of cases, read off their risk-coverage curve (Geifman & El-Yaniv 2017,
   "Selective classification for deep neural networks"). Where fewer than `LEAST_COVERAGE` of all
   faces would then have a sure answer, it is the highest one that leaves so many.

How many of 10 people would say so is another matter: the answer may surely be that of most people
although many say otherwise. So a temperature of its own softens probabilities into shares of votes.
"""

import math
from collections import Counter
from dataclasses import asdict

import numpy as np
from sklearn.linear_model import LogisticRegression

from emotion.faces import PEOPLE, Thresholds, likely_classes, read_thresholds
from emotion.model.runtime import EmotionModel
from emotion.training.data.dataset import Dataset
from emotion.training.measuring.evaluation import Evaluation, best_fit, evaluate_model, mean_of

TARGET_ACCURACY = 0.9
LEAST_COVERAGE = 0.6
WIDEST_MARGIN = 0.5  # where answers are wrong more often than right at any lead
LEAST_IMAGES = 100  # with fewer a threshold would be chance: the defaults of `Thresholds` stand
DIGITS = 3


def verdict_facts(labels: np.ndarray, probabilities: np.ndarray) -> dict:
    """Return `verdict` of a card: the thresholds, from validation images, and what they give."""
    right = probabilities.argmax(axis=1) == labels
    thresholds = choose_thresholds(labels, probabilities)
    sure = np.array([thresholds.met_by(row) for row in probabilities.tolist()], bool)
    named = [
        label in likely_classes(dict(enumerate(row)))
        for label, row in zip(labels[~sure], probabilities[~sure].tolist(), strict=True)
    ]
    facts = {"accuracy_when_unsure": mean_of(right[~sure]), "target_accuracy": TARGET_ACCURACY}
    facts |= {"coverage": mean_of(sure), "accuracy_when_sure": mean_of(right[sure])}
    facts |= {"named_when_unsure": mean_of(np.array(named)), "split": "validation"}
    return asdict(thresholds) | facts | {"images": len(labels)}


def choose_thresholds(labels: np.ndarray, probabilities: np.ndarray) -> Thresholds:
    """Return when answers are sure, by the rule at the head of this file."""
    if len(labels) < LEAST_IMAGES:
        return Thresholds()
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    margin = _clear_margin(first - second, probabilities.argmax(axis=1) == labels)
    clear = first - second >= margin
    if not clear.any():
        return Thresholds(sure_from=1.0, clear_margin=margin)
    names = tuple(map(str, range(probabilities.shape[1])))
    _, risk = Evaluation(names, labels[clear], probabilities[clear]).risk_coverage()
    confidence = np.sort(first[clear])[::-1]
    is_last_of_ties = np.append(confidence[:-1] > confidence[1:], True)
    on_target = 1 + np.flatnonzero((1 - risk >= TARGET_ACCURACY) & is_last_of_ties)
    least_images = min(math.ceil(LEAST_COVERAGE * len(labels)), len(confidence))
    lowest = float(confidence[max(on_target.max(initial=0), least_images) - 1])
    return Thresholds(math.floor(lowest * 10**DIGITS) / 10**DIGITS, margin)


def fit_agreement(model: EmotionModel, voted: Dataset) -> float | None:
    """Return the temperature that fits the votes of `with_all_votes` best; None: too few images."""
    if len(voted) < LEAST_IMAGES:
        return None
    evaluation = evaluate_model(model, voted)
    at = np.arange(len(voted)), evaluation.predictions
    votes = evaluation.votes[at]
    best = best_fit(evaluation.probabilities, lambda soft: np.square(soft[at] - votes).mean())
    return round(best, DIGITS)


def measure_agreement(model: EmotionModel, voted: Dataset) -> dict | None:
    """Return what a model says of 10 people beside the votes of `with_all_votes`, if anything."""
    thresholds = read_thresholds(model.card)
    if thresholds.agreement_temperature is None or not len(voted):
        return None
    evaluation = evaluate_model(model, voted)
    rows, votes = evaluation.probabilities.tolist(), PEOPLE * evaluation.votes
    said = np.array([thresholds.agreement(row) for row in rows])
    first = votes[np.arange(len(votes)), evaluation.predictions]
    split = np.array([not thresholds.met_by(row) for row in rows])
    named = [
        votes[at, list(likely_classes(dict(enumerate(rows[at]))))].sum()
        for at in np.flatnonzero(split)
    ]
    return {
        "images": len(said),
        "mean_absolute_error": float(np.abs(said - first).mean()),
        "mean_error": float((said - first).mean()),
        "said": [
            {"said": number, "named": float(first[said == number].mean()), "images": count}
            for number, count in sorted(Counter(said.tolist()).items())
        ],
        "split_images": len(named),
        "split_first": mean_of(first[split]),
        "split_named": mean_of(np.array(named)),
    }


def _clear_margin(leads: np.ndarray, right: np.ndarray) -> float:
    """Return the lead from which answers are right more often than wrong."""
    if right.all() or not right.any():
        return 0.0 if right.all() else WIDEST_MARGIN
    regression = LogisticRegression().fit(leads[:, np.newaxis], right)
    intercept, slope = float(regression.intercept_[0]), float(regression.coef_[0, 0])
    if slope <= 0:  # the lead says nothing; what is left is how often answers are right at all
        return 0.0 if intercept > 0 else WIDEST_MARGIN
    return round(min(max(-intercept / slope, 0.0), WIDEST_MARGIN), DIGITS)
