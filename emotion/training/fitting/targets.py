"""What a network learns for each face: soft targets, and how much each face counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.utils.class_weight import compute_sample_weight

from emotion.training.data.dataset import Dataset
from emotion.training.settings import TrainingSettings


@dataclass(frozen=True)
class Targets:
    """Target probabilities (N, classes) and weights (N,), float32, the emotion's first.

    There is one array of each for one head, two where the votes are a second head.
    """

    values: tuple[np.ndarray, ...]
    weights: tuple[np.ndarray, ...]


def has_votes_head(dataset: Dataset, settings: TrainingSettings) -> bool:
    """Return whether the votes are a second output while training."""
    return dataset.votes is not None and settings.votes_as == "second-head"


def build_targets(
    dataset: Dataset, settings: TrainingSettings, taught: Sequence[np.ndarray] = ()
) -> Targets:
    """Return what is to be learned from each face of a split.

    Each face counts once; one without votes counts nothing for the votes. `taught` is what teachers
    say of the label of the same faces (Hinton et al. 2015, "Distilling the knowledge in a neural
    network") and, if they say anything of them, of the votes, each (N, classes) float32.
    """
    # One-hot labels, a share of which is spread over all classes (Szegedy et al. 2016)
    class_count, smoothing = len(dataset.class_names), settings.label_smoothing
    emotion = np.eye(class_count, dtype=np.float32)[dataset.labels]
    emotion = (emotion * (1 - smoothing) + smoothing / class_count).astype(np.float32)
    votes = dataset.votes
    has_votes = None if votes is None else votes.sum(axis=1) > 0
    if votes is not None and settings.votes_as in ("distribution", "blend"):
        # Shares of votes (Barsoum et al. 2016) are not smoothed: they are soft already
        part = np.float32(1 if settings.votes_as == "distribution" else settings.blend)
        emotion = np.where(has_votes[:, None], part * votes + (1 - part) * emotion, emotion)
    share = np.float32(settings.teacher_share)
    if taught:
        emotion = share * taught[0] + (1 - share) * emotion
    once = np.ones(len(dataset), np.float32)
    if not has_votes_head(dataset, settings):
        return Targets((emotion,), (once,))
    if len(taught) > 1:
        votes = share * taught[1] + (1 - share) * votes
    return Targets((emotion, votes), (once, has_votes.astype(np.float32)))


def balance_classes(targets: Targets, labels: np.ndarray) -> Targets:
    """Let rare classes count for more, so that every class counts the same for the emotion."""
    weights = compute_sample_weight("balanced", labels).astype(np.float32)
    return Targets(targets.values, (targets.weights[0] * weights, *targets.weights[1:]))
