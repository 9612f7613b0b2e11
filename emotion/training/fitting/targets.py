"""What a network learns for each face: soft targets, and how much each face counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from emotion.training.data.datasets import Dataset
from emotion.training.settings import TrainingSettings


@dataclass(frozen=True)
class Targets:
    """Target probabilities and weights of N faces, for one head or for two.

    Attributes:
        values: (N, classes) float32 for each head, the emotion first.
        weights: (N,) float32 for each head.
    """

    values: tuple[np.ndarray, ...]
    weights: tuple[np.ndarray, ...]

    def __len__(self) -> int:
        return len(self.weights[0])


def has_votes_head(dataset: Dataset, settings: TrainingSettings) -> bool:
    """Return whether the votes are a second output while training."""
    return dataset.votes is not None and settings.votes_as == "second-head"


def build_targets(
    dataset: Dataset, settings: TrainingSettings, taught: Sequence[np.ndarray] = ()
) -> Targets:
    """Return what is to be learned from each face.

    Args:
        dataset: the faces of one split; its labels, and its votes if it has them.
        settings: how the votes are used, label smoothing, and the teachers' share.
        taught: (N, classes) float32, what teachers say of the label of the same faces (Hinton et
            al. 2015, "Distilling the knowledge in a neural network"), then, if they say anything
            of them, of the votes.

    Returns:
        Targets in which each face counts once; a face without votes counts nothing for the votes.
    """
    # One-hot labels, a share of which is spread over all classes (Szegedy et al. 2016)
    class_count, smoothing = len(dataset.class_names), settings.label_smoothing
    emotion = np.eye(class_count, dtype=np.float32)[dataset.labels]
    emotion = (emotion * (1 - smoothing) + smoothing / class_count).astype(np.float32)
    if dataset.votes is not None and settings.votes_as in ("distribution", "blend"):
        # Shares of votes (Barsoum et al. 2016) are not smoothed: they are soft already
        part = np.float32(1 if settings.votes_as == "distribution" else settings.blend)
        mixed = part * dataset.votes + (1 - part) * emotion
        emotion = np.where(_has_votes(dataset)[:, None], mixed, emotion)
    share = np.float32(settings.teacher_share)
    if taught:
        emotion = share * taught[0] + (1 - share) * emotion
    once = np.ones(len(dataset), np.float32)
    if not has_votes_head(dataset, settings):
        return Targets((emotion,), (once,))
    votes = share * taught[1] + (1 - share) * dataset.votes if len(taught) > 1 else dataset.votes
    return Targets((emotion, votes), (once, _has_votes(dataset).astype(np.float32)))


def balance_classes(targets: Targets, labels: np.ndarray) -> Targets:
    """Let rare classes count for more, so that every class counts the same for the emotion.

    Args:
        targets: what is to be learned.
        labels: (N,) int64, the class of each face.
    """
    present = np.unique(labels)
    of_class = compute_class_weight("balanced", classes=present, y=labels)
    weights = of_class[np.searchsorted(present, labels)].astype(np.float32)
    return Targets(targets.values, (targets.weights[0] * weights, *targets.weights[1:]))


def _has_votes(dataset: Dataset) -> np.ndarray:
    """Return which faces have votes for one of the classes, (N,) bool."""
    return dataset.votes.sum(axis=1) > 0
