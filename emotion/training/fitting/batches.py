"""Faces and targets in batches; seed and epoch alone decide their order, changes and mixtures."""

import os
from dataclasses import dataclass

import cv2
import keras
import numpy as np

from emotion.training.fitting.targets import Targets
from emotion.training.networks.architectures import HEADS

DEPTHWISE_NETWORKS = ("mini_xception", "mobilenetv2")


@dataclass(frozen=True)
class Strength:
    """How far faces may be changed at most; every strength also mirrors half of the faces."""

    degrees: float  # to either side
    shift_share: float  # in each direction, of the side
    zoom_share: float  # of the width and, apart from it, of the height
    contrast: float
    brightness: float  # of the range
    erased_share: float  # of the faces lose a patch (random erasing, Zhong et al. 2017)
    coarse_share: float = 0.0  # of the faces are as coarse as far photos are
    noise: float = 0.0  # most standard deviation, of the range; each face has its own
    compressed_share: float = 0.0  # of the faces are saved as JPEG once
    gamma: float = 0.0  # of the light, as a natural logarithm, to either side
    slope: float = 0.0  # most that light from one side adds at an edge, as a share


STRENGTHS = {
    "light": Strength(10, 0.06, 0.1, 0.15, 0.1, 0.0),
    "standard": Strength(15, 0.1, 0.15, 0.3, 0.2, 0.5),
    "photo": Strength(15, 0.1, 0.15, 0.3, 0.2, 0.5, 0.15, 0.03, compressed_share=0.15),
    # as faces come out of the detector, in the light of a photograph
    "detected": Strength(12, 0.06, 0.13, 0.35, 0.15, 0.25, 0.25, 0.03, 0.15, 0.45, 0.35),
    "strong": Strength(25, 0.15, 0.25, 0.5, 0.3, 0.7, 0.2, 0.05),
}
ERASED_AREA = (0.02, 0.2)  # of the face; Zhong et al. 2017 go up to 0.4
ERASED_ASPECT = (0.3, 3.3)
COARSE_SCALE = (0.3, 0.7)
# Where mouths are in faces of 48 pixels, as YuNet finds them: the middle and half of the width
MOUTH_X, MOUTH_Y, HALF_MOUTH = 23.5, 36.0, 6.8
SMILE_CLASSES = ("happy", "neutral", "sad")
# How far the corners of a mouth go up, or down, in halves of its width; how much of "neutral" that
# makes "happy" or "sad" was set by eye
RAISED, HAPPY_SHARE = (0.0, 0.1, 0.2, 0.3, 0.42), (0.0, 0.08, 0.25, 0.45, 0.65)
LOWERED, SAD_SHARE, RAISED_SHARE = (0.0, 0.3), (0.0, 0.18), 0.75
JPEG_QUALITY = (15, 60)


@dataclass
class FaceBatches:
    """Batches of (faces, targets, weights); with two heads, targets and weights are dicts."""

    images: np.ndarray  # (N, 48, 48) uint8
    targets: Targets
    batch_size: int
    seed: tuple[int, ...] | None = None  # decides order and changes; without it there are none
    augmentation: str = "none"  # or a key of `STRENGTHS`
    mixup: float = 0.0  # alpha of `mix`; 0 is without
    multiple_of: int = 1  # divides the size of each batch; faces of no weight fill the last one
    side: int = 48  # the faces are shrunk to this, in pixels
    smiles: float = 0.0  # share of the neutral faces that `let_smile`
    class_names: tuple[str, ...] = ()  # which that needs

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
        if random and self.smiles:
            let_smile(images, values, self.smiles, self.class_names, random)
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


def augment(images: np.ndarray, strength: str, random: np.random.Generator) -> np.ndarray:
    """Return (N, height, width) uint8 faces varied as photographs vary, float32 in [0, 1]."""
    most = STRENGTHS[strength]
    moved = _move(images, most, random)
    _degrade(moved, most, random)
    one_each = (len(images), 1, 1)
    contrasts = random.uniform(1 - most.contrast, 1 + most.contrast, one_each).astype(np.float32)
    lights = random.uniform(-most.brightness, most.brightness, one_each).astype(np.float32)
    faces = moved.astype(np.float32)
    faces *= np.float32(1 / 255)
    if most.gamma:
        faces **= np.exp(random.uniform(-most.gamma, most.gamma, one_each)).astype(np.float32)
    if most.slope:
        angles, (rows, columns) = random.uniform(0, 2 * np.pi, one_each), faces.shape[1:]
        down, across = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
        light = np.cos(angles) * across + np.sin(angles) * down
        faces *= (1 + random.uniform(0, most.slope, one_each) * light).astype(np.float32)
    means = faces.mean(axis=(1, 2), keepdims=True)
    faces *= contrasts
    faces += (1 - contrasts) * means + lights
    if most.noise:
        deviations = random.uniform(0, most.noise, one_each).astype(np.float32)
        faces += deviations * random.standard_normal(faces.shape, dtype=np.float32)
    _erase(faces, most.erased_share, random)
    return np.clip(faces, 0, 1, out=faces)


def let_smile(
    images: np.ndarray,
    values: list,
    share: float,
    class_names: tuple[str, ...],
    random: np.random.Generator,
) -> None:
    """Give a share of the neutral faces a mild smile, or lower the corners of the mouth, in place.

    People who smile in FER2013 laugh, so networks call mild smiles neutral. For each head, values
    are (N, classes) targets; "neutral" in them becomes partly "happy", or a little "sad".
    """
    happy, neutral, sad = map(class_names.index, SMILE_CLASSES)
    is_neutral = (values[-1][:, neutral] >= 0.5) & (values[-1][:, happy] < 0.3)
    chosen = np.flatnonzero(is_neutral & (random.random(len(images)) < share))
    up, down = (random.uniform(0, places[-1], len(chosen)) for places in (RAISED, LOWERED))
    is_up = random.random(len(chosen)) < RAISED_SHARE
    images[chosen] = smile(images[chosen], np.where(is_up, up, -down))
    of_happy = np.where(is_up, np.interp(up, RAISED, HAPPY_SHARE), 0)
    of_sad = np.where(is_up, 0, np.interp(down, LOWERED, SAD_SHARE))
    for value in values:
        was = value[chosen, neutral]
        value[chosen, happy] += of_happy * was
        value[chosen, sad] += of_sad * was
        value[chosen, neutral] = (1 - of_happy - of_sad) * was


def smile(images: np.ndarray, raised: np.ndarray) -> np.ndarray:
    """Return (N, 48, 48) uint8 faces whose mouths smile: the corners go up and outwards.

    `raised`, (N,): by how much, in halves of the mouth's width; below 0 they only go down.
    """
    down, across = np.mgrid[: images.shape[1], : images.shape[2]].astype(np.float32)
    beside, below = (across - MOUTH_X) / HALF_MOUTH, (down - MOUTH_Y) / HALF_MOUTH
    reach = HALF_MOUTH * np.exp(-((below / 0.85) ** 2))
    corners, lips = np.exp(-((abs(beside) - 1) ** 2) / 0.3), np.exp(-(beside**2) / 0.25)
    upwards = reach * (corners - 0.35 * lips)
    outwards = 0.5 * reach * np.sign(beside) * np.exp(-((abs(beside) - 0.85) ** 2) / 0.35)
    smiling = np.empty_like(images)
    for image, share, changed in zip(images, raised.astype(np.float32), smiling, strict=True):
        places = across - max(share, 0) * outwards, down + share * upwards
        cv2.remap(image, *places, cv2.INTER_LINEAR, changed, cv2.BORDER_REPLICATE)
    return smiling


def _move(images: np.ndarray, most: Strength, random: np.random.Generator) -> np.ndarray:
    """Mirror, turn, zoom and shift each face in one affine change, which blurs it only once."""
    count, height, width = images.shape
    angles = np.radians(random.uniform(-most.degrees, most.degrees, count))
    cosines, sines = np.cos(angles), np.sin(angles)
    scales = 1 + random.uniform(-most.zoom_share, most.zoom_share, (count, 2))
    scales[:, 0] *= random.choice((-1, 1), count)
    turns = np.stack([np.stack([cosines, -sines], 1), np.stack([sines, cosines], 1)], 1)
    matrices = np.empty((count, 2, 3))  # from places in the changed face to places in the face
    matrices[:, :, :2] = turns * scales[:, None, :]
    centre = (np.array((width, height)) - 1) / 2
    shifts = random.uniform(-most.shift_share, most.shift_share, (count, 2)) * (width, height)
    matrices[:, :, 2] = centre + shifts - matrices[:, :, :2] @ centre
    size, flags = (width, height), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = np.empty_like(images)
    for image, matrix, changed in zip(images, matrices, moved, strict=True):
        cv2.warpAffine(image, matrix, size, changed, flags, cv2.BORDER_REPLICATE)
    return moved


def _degrade(images: np.ndarray, most: Strength, random: np.random.Generator) -> None:
    """Make some faces, in place, as coarse as far photos, and give some the traces of JPEG."""
    height, width = images.shape[1:]
    for index in np.flatnonzero(random.random(len(images)) < most.coarse_share):
        scale = random.uniform(*COARSE_SCALE)
        small = cv2.resize(images[index], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        images[index] = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    if most.compressed_share:
        for index in np.flatnonzero(random.random(len(images)) < most.compressed_share):
            quality = int(random.integers(*JPEG_QUALITY, endpoint=True))
            _, encoded = cv2.imencode(".jpg", images[index], [cv2.IMWRITE_JPEG_QUALITY, quality])
            images[index] = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)


def _erase(faces: np.ndarray, share: float, random: np.random.Generator) -> None:
    """Put noise over a patch of a share of the faces, in place."""
    height, width = faces.shape[1:]
    chosen = np.flatnonzero(random.random(len(faces)) < share)
    areas = random.uniform(*ERASED_AREA, len(chosen))
    aspects = np.exp(random.uniform(*np.log(ERASED_ASPECT), len(chosen)))
    heights = np.clip(np.sqrt(areas * aspects) * height, 1, height).astype(int)
    widths = np.clip(np.sqrt(areas / aspects) * width, 1, width).astype(int)
    tops = random.integers(0, height - heights + 1)
    lefts = random.integers(0, width - widths + 1)
    for index, top, left, rows, columns in zip(chosen, tops, lefts, heights, widths, strict=True):
        patch = random.random((rows, columns), dtype=np.float32)
        faces[index, top : top + rows, left : left + columns] = patch


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
