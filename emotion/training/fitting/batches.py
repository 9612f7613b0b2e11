"""Faces and targets in batches: an order, changes and mixtures that seed and epoch alone decide."""

import cv2
import keras
import numpy as np

from emotion.training.fitting.augmentation import augment
from emotion.training.fitting.targets import Targets
from emotion.training.networks.architectures import HEADS


class FaceBatches(keras.utils.PyDataset):
    """Batches of (faces, targets, weights), each the same whenever it is asked for.

    Faces are (batch, 48, 48, 1) float32 in [0, 1]. With two heads, targets and weights are dicts by
    the heads' names. No batch depends on the one before, so Keras may make them beside the training
    step, and a run that is taken up again sees what it would have seen.

    Args:
        images: (N, 48, 48) uint8.
        targets: what is to be learned from each.
        batch_size: faces a batch; the last one may be smaller.
        seed: numbers that decide the order and every change; without them the order is the given
            one and no face is changed.
        augmentation: a key of `augmentation.STRENGTHS`, or "none".
        mixup: alpha of mixup (Zhang et al. 2018, "mixup: beyond empirical risk minimization").
        multiple_of: what the size of each batch must divide by, for several devices; the last one
            is filled with faces that count nothing.
        share: (which, of how many): the part of each batch that this process brings along.
        side: side in pixels to which the faces are made smaller; without it they stay as they are.
    """

    def __init__(
        self,
        images: np.ndarray,
        targets: Targets,
        batch_size: int,
        seed: tuple[int, ...] | None = None,
        augmentation: str = "none",
        mixup: float = 0.0,
        multiple_of: int = 1,
        share: tuple[int, int] = (0, 1),
        side: int = 0,
    ):
        super().__init__()
        self.images, self.targets = images, targets
        self.batch_size, self.seed = batch_size, seed
        self.augmentation, self.mixup = augmentation, mixup
        self.share, self.side = share, side
        count = len(images)
        order = np.random.default_rng(seed).permutation(count) if seed else np.arange(count)
        self.order = np.resize(order, count + -count % multiple_of)
        self.weight_of_place = np.zeros(len(self.order), np.float32)
        self.weight_of_place[:count] = len(self.order) / count  # the mean over a batch stays true

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, index: int):
        places = slice(index * self.batch_size, (index + 1) * self.batch_size)
        rows = self.order[places]
        values = [head[rows] for head in self.targets.values]
        weights = [head[rows] * self.weight_of_place[places] for head in self.targets.weights]
        if self.seed is None:
            faces = _scaled(self.images[rows])
        else:
            random = np.random.default_rng((*self.seed, index))
            faces = self._changed(self.images[rows], random)
            if self.mixup:
                faces, values, weights = mix(faces, values, weights, self.mixup, random)
        faces, values, weights = self._own_share(faces, values, weights)
        return _as_batch(_shrunk(faces, self.side), values, weights)

    def _own_share(self, faces, values, weights):
        """Return the part of a batch that this process brings along."""
        own = slice(self.share[0], None, self.share[1])
        return faces[own], [value[own] for value in values], [weight[own] for weight in weights]

    def _changed(self, images: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Return augmented faces, or the faces as they are."""
        if self.augmentation == "none":
            return _scaled(images)
        return augment(images, self.augmentation, random)


def mix(
    faces: np.ndarray,
    values: list[np.ndarray],
    weights: list[np.ndarray],
    alpha: float,
    random: np.random.Generator,
) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """Mix each face and its target with another of the batch (Zhang et al. 2018, mixup).

    The loss of a mixture is the mixture of the two losses, each with its own weight.

    Args:
        faces: (N, height, width) float32.
        values: (N, classes) float32 for each head.
        weights: (N,) float32 for each head.
        alpha: of the Beta distribution from which the batch's share is drawn.
        random: where every random choice comes from.
    """
    share = np.float32(random.beta(alpha, alpha))
    others = random.permutation(len(faces))
    mixed = share * faces + (1 - share) * faces[others]
    heads = [
        _mixed_target(value, weight, others, share)
        for value, weight in zip(values, weights, strict=True)
    ]
    return mixed, [value for value, _ in heads], [weight for _, weight in heads]


def _mixed_target(
    value: np.ndarray, weight: np.ndarray, others: np.ndarray, share: np.float32
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean of each two targets, and the mean of their weights."""
    own, other = share * weight, (1 - share) * weight[others]
    total = own + other
    summed = own[:, None] * value + other[:, None] * value[others]
    mixed = np.divide(summed, total[:, None], out=np.zeros_like(summed), where=total[:, None] > 0)
    return mixed, total


def _scaled(images: np.ndarray) -> np.ndarray:
    """Return faces in [0, 1] as float32."""
    return images.astype(np.float32) / np.float32(255)


def _shrunk(faces: np.ndarray, side: int) -> np.ndarray:
    """Return (N, height, width) faces as (N, side, side), or as they are where side is 0."""
    if side in (0, faces.shape[1]):
        return faces
    return np.stack(
        [cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA) for face in faces]
    )


def _as_batch(faces: np.ndarray, values: list[np.ndarray], weights: list[np.ndarray]):
    """Return a batch as Keras takes it: with two heads, by their names."""
    if len(values) == 1:
        return faces[..., None], values[0], weights[0]
    return (
        faces[..., None],
        dict(zip(HEADS, values, strict=True)),
        dict(zip(HEADS, weights, strict=True)),
    )
