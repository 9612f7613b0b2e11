"""What a network learns for each face: soft targets, and how much each face counts.

Saved models may teach it. With `--votes-teachers` it learns what is to be expected of the label
(one person's choice) and of the votes (ten people's), each given the other and what saved models
see. Lopez-Paz et al. 2016, "Unifying distillation and privileged information" (arXiv:1511.03643).
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import coo_array
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.utils.class_weight import compute_sample_weight

from emotion.errors import TrainingError
from emotion.files import whole_file
from emotion.model.runtime import apply_temperature
from emotion.training.data.dataset import Dataset
from emotion.training.data.splits import hash_images
from emotion.training.data.votes import csv_rows
from emotion.training.networks.ensembles import teacher_answers
from emotion.training.settings import TrainingSettings

SMALLEST_PROBABILITY = 1e-4
TEACHER_TEMPERATURE = 2.0  # softens the teachers' answers (Hinton et al. 2015)
VOTERS = 10  # people who voted on each face of FER+


@dataclass(frozen=True)
class Targets:  # an array a head, the emotion's first, then that of the votes
    values: tuple[np.ndarray, ...]  # (N, classes) float32, probabilities
    weights: tuple[np.ndarray, ...]  # (N,) float32


def has_votes_head(dataset: Dataset, settings: TrainingSettings) -> bool:
    """Return whether the votes are a second output while training."""
    return dataset.votes is not None and settings.votes_as == "second-head"


def build_targets(
    dataset: Dataset, settings: TrainingSettings, taught: Sequence[np.ndarray | None] = ()
) -> Targets:
    """Return what is to be learned from each face; `taught` is what `what_teachers_say`."""
    # One-hot labels, a share of which is spread over all classes (Szegedy et al. 2016)
    class_count, smoothing = len(dataset.class_names), settings.label_smoothing
    emotion = np.eye(class_count, dtype=np.float32)[dataset.labels]
    emotion = (emotion * (1 - smoothing) + smoothing / class_count).astype(np.float32)
    votes = dataset.votes
    has_votes = None if votes is None else votes.sum(axis=1) > 0
    if votes is not None and settings.votes_as in ("distribution", "blend"):
        # Shares of votes (Barsoum et al. 2016) are not smoothed: they are soft already
        part = np.float32(1 if settings.votes_as == "distribution" else 0.5)
        emotion = np.where(has_votes[:, None], part * votes + (1 - part) * emotion, emotion)
    share = np.float32(settings.teacher_share)
    if taught and taught[0] is not None:
        emotion = share * taught[0] + (1 - share) * emotion
    once = np.ones(len(dataset), np.float32)
    if not has_votes_head(dataset, settings):
        return Targets((emotion,), (once,))
    # the class of an extra photograph is what people see in it, so it is learned as votes alone
    is_extra = has_votes & (False if dataset.names is None else csv_rows(dataset.names) < 0)
    if len(taught) > 1:
        # They teach one of their classes from another, not that there are no others: these
        # keep what the teacher sees of them
        known, seen = votes[is_extra].any(axis=0), taught[1][is_extra]
        told = votes[is_extra] * seen[:, known].sum(axis=1, keepdims=True)
        votes = votes.copy()
        votes[is_extra] = np.where(known, told, seen)
        votes = share * taught[1] + (1 - share) * votes
    return Targets((emotion, votes), (once * ~is_extra, has_votes.astype(np.float32)))


def balance_classes(targets: Targets, labels: np.ndarray) -> Targets:
    """Let rare classes count for more, so that every class counts the same for the emotion."""
    weights = compute_sample_weight("balanced", labels).astype(np.float32)
    return Targets(targets.values, (targets.weights[0] * weights, *targets.weights[1:]))


def merge_copies(dataset: Dataset, targets: Targets) -> tuple[Dataset, Targets]:
    """Return each picture once, with the mean of what its copies teach, and its likeliest label."""
    digests = hash_images(dataset.images)
    _, first, places = np.unique(digests, return_index=True, return_inverse=True)
    member = coo_array((np.ones(len(places), np.float32), (places, np.arange(len(places)))))
    totals = [member @ weight for weight in targets.weights]
    values = [
        (member @ (value * weight[:, None]) / np.maximum(total, 1)[:, None]).astype(np.float32)
        for value, weight, total in zip(targets.values, targets.weights, totals, strict=True)
    ]
    weights = [(total > 0).astype(np.float32) for total in totals]
    merged = replace(dataset.where(first), labels=values[0].argmax(axis=1))
    return merged, Targets(tuple(values), tuple(weights))


def what_teachers_say(
    training: Dataset, validation: Dataset, settings: TrainingSettings
) -> tuple[np.ndarray | None, ...]:
    """Return what the teachers say of the label of each training face and, with their own, of its
    votes: none, one or two, (N, classes) float32, rows sum to 1; None for a head without a teacher.
    Where both have one, they are weighed on the validation faces against the other annotation.
    """
    if not (settings.teachers or settings.votes_teachers):
        return ()
    if not settings.votes_teachers:
        answers = _kept_answers(training, settings, "label")
        return (apply_temperature(answers, TEACHER_TEMPERATURE).astype(np.float32),)
    if not has_votes_head(training, settings):
        expected = "expected --votes as a second head with --votes-teachers"
        raise TrainingError(f"{expected}; received no such votes")
    if not settings.teachers:
        return None, _kept_answers(training, settings, "votes")
    faces = (training, validation)
    of_label, of_votes = (
        [_log(_kept_answers(part, settings, head)) for part in faces] for head in ("label", "votes")
    )
    labels = [np.eye(len(part.class_names), dtype=np.float32)[part.labels] for part in faces]
    votes = [part.votes for part in faces]
    voted = [np.log((VOTERS * shares + 1 / shares.shape[1]) / (VOTERS + 1)) for shares in votes]
    given = (of_label, voted, labels), (of_votes, labels, votes)
    return tuple(expected_annotation(*each) for each in given)


def expected_annotation(
    seen: Sequence[np.ndarray], others: Sequence[np.ndarray], annotation: Sequence[np.ndarray]
) -> np.ndarray:
    """Return what is to be expected of one annotation of the training faces, given another and
    their looks: (N, classes) float32, rows sum to 1.

    A logistic regression says what the other annotation tells; it is multiplied with what a saved
    model sees, each to a power that suits the validation faces best, which neither has learned.
    Each is given for training and for validation faces: `seen`, logarithms of probabilities, and
    `annotation`, shares (or all 0), as (N, classes); `others`, facts of the other, as (N, F).
    """
    rows, classes = np.nonzero(annotation[0])
    regression = LogisticRegression(max_iter=2000)
    regression.fit(others[0][rows], classes, sample_weight=annotation[0][rows, classes])
    told = [_log(regression.predict_proba(facts)) for facts in others]

    def cross_entropy(powers: np.ndarray) -> float:
        expected = softmax(powers[0] * seen[1] + powers[1] * told[1], axis=1)
        return float(-np.sum(annotation[1] * _log(expected)) / annotation[1].sum())

    powers = minimize(cross_entropy, [0.5, 0.5], method="Nelder-Mead").x
    return softmax(powers[0] * seen[0] + powers[1] * told[0], axis=1).astype(np.float32)


def _kept_answers(faces: Dataset, settings: TrainingSettings, head: str) -> np.ndarray:
    """Return the mean answer of a head's teachers, (N, classes), kept with the run."""
    stems = settings.teachers if head == "label" else settings.votes_teachers
    kept = settings.run_folder() / f"{head}-{len(faces)}-teachers.npz"
    # None yet, or damaged, for which numpy and zipfile have many words: they are asked again
    with contextlib.suppress(Exception), kept.open("rb") as file, np.load(file) as arrays:
        return arrays["answers"]
    answers = teacher_answers([Path(stem) for stem in stems], faces.images, faces.class_names)
    kept.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(kept) as part, part.open("wb") as file:
        np.savez(file, answers=answers)
    return answers


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(probabilities, SMALLEST_PROBABILITY))
