"""Faces and targets in batches; seed and epoch alone decide their order, changes and mixtures."""

import os
from dataclasses import dataclass

import cv2
import keras
import numpy as np

from emotion.training.fitting.augmentation import augment
from emotion.training.fitting.targets import Targets
from emotion.training.networks.architectures import HEADS

DEPTHWISE_NETWORKS = ("mini_xception", "mobilenetv2")


@dataclass
class FaceBatches:
    """Batches of (faces, targets, weights); with two heads, targets and weights are dicts."""

    images: np.ndarray  # (N, 48, 48) uint8
    targets: Targets
    batch_size: int
    seed: tuple[int, ...] | None = None  # decides order and changes; without it there are none
    augmentation: str = "none"  # or a key of `augmentation.STRENGTHS`
    mixup: float = 0.0  # alpha of `mix`; 0 is without
    multiple_of: int = 1  # divides the size of each batch; faces of no weight fill the last one
    side: int = 48  # the faces are shrunk to this, in pixels

    def __post_init__(self) -> None:
        count, random = len(self.images), np.random.default_rng(self.seed)
        order = random.permutation(count) if self.seed else np.arange(count)
        self.order = np.resize(order, count + -count % self.multiple_of)
        self.weight_of_place = np.zeros(len(self.order), np.float32)
        self.weight_of_place[:count] = len(self.order) / max(count, 1)  # so the mean stays true

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, index: int):
        places = slice(index * self.batch_size, (index + 1) * self.batch_size)
        rows = self.order[places]
        images = self.images[rows]
        values = [head[rows] for head in self.targets.values]
        weights = [head[rows] * self.weight_of_place[places] for head in self.targets.weights]
        random = np.random.default_rng((*self.seed, index)) if self.seed else None
        if random and self.augmentation != "none":
            faces = augment(images, self.augmentation, random)
        else:
            faces = images.astype(np.float32) / np.float32(255)
        if random and self.mixup:
            faces, values, weights = mix(faces, values, weights, self.mixup, random)
        if self.side != faces.shape[1]:
            size, way = (self.side, self.side), cv2.INTER_AREA
            faces = np.stack([cv2.resize(face, size, interpolation=way) for face in faces])
        if len(values) == 1:  # faces are (batch, side, side, 1) float32 in [0, 1]
            return faces[..., None], values[0], weights[0]
        by_head = (dict(zip(HEADS, heads, strict=True)) for heads in (values, weights))
        return faces[..., None], *by_head


def mix(faces: np.ndarray, values: list, weights: list, alpha: float, random: np.random.Generator):
    """Return (faces, values, weights), each face and target mixed with another of the batch.

    Zhang et al. 2018, "mixup: beyond empirical risk minimization"; alpha is that of the Beta
    distribution. The loss of a mixture is the mixture of the two losses, each with its own weight.
    For each head, values are (N, classes) and weights (N,).
    """
    share = np.float32(random.beta(alpha, alpha))
    others = random.permutation(len(faces))
    mixed_values, mixed_weights = [], []
    for value, weight in zip(values, weights, strict=True):
        own, other = share * weight[:, None], (1 - share) * weight[others, None]
        total, summed = own + other, own * value + other * value[others]
        mixed_values.append(np.divide(summed, total, out=np.zeros_like(summed), where=total > 0))
        mixed_weights.append(total[:, 0])
    return share * faces + (1 - share) * faces[others], mixed_values, mixed_weights


def batch_multiple(architecture: str) -> int:
    """Return what the size of a training batch must be a multiple of, 1 where it does not matter.

    TensorFlow 2.21 on processors writes past its memory in the gradient of a depthwise convolution
    whose batch does not split evenly among its threads, and the whole process dies.
    """
    is_affected = keras.backend.backend() == "tensorflow" and architecture in DEPTHWISE_NETWORKS
    if not is_affected or keras.distribution.list_devices("gpu"):  # which JAX without one refuses
        return 1
    threads = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    if threads.isdecimal() and int(threads):
        return int(threads)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
