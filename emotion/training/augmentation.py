"""Random changes that leave the emotion as it is: Keras layers, active in training only."""

from dataclasses import dataclass
from types import MappingProxyType

import keras
from keras import layers


@dataclass(frozen=True)
class Strength:
    """How far faces may be changed at most.

    Attributes:
        degrees: turn to either side.
        shift_share: shift in each direction, as a share of the side.
        zoom_share: growth or shrinkage.
        contrast: change of contrast, as a share.
        brightness: change of brightness, as a share of the range.
        erased_share: share of the faces that lose a patch (random erasing, Zhong et al. 2017).
    """

    degrees: float
    shift_share: float
    zoom_share: float
    contrast: float
    brightness: float
    erased_share: float


STRENGTHS = MappingProxyType(
    {
        "light": Strength(10, 0.06, 0.1, 0.15, 0.1, 0.0),
        "standard": Strength(15, 0.1, 0.15, 0.3, 0.2, 0.5),
    }
)


def build_augmentation(strength: str, seed: int) -> keras.Sequential:
    """Return layers that vary faces as photographs do: (N, 48, 48, 1) in [0, 1] to the same.

    Args:
        strength: a key of `STRENGTHS`; every strength also mirrors half of the faces.
        seed: fixes every random choice.
    """
    most = STRENGTHS[strength]
    shift, zoom, erased = most.shift_share, most.zoom_share, most.erased_share
    steps = [
        layers.RandomFlip("horizontal", seed=seed),
        layers.RandomRotation(most.degrees / 360, fill_mode="nearest", seed=seed + 1),
        layers.RandomTranslation(shift, shift, fill_mode="nearest", seed=seed + 2),
        layers.RandomZoom(zoom, zoom, fill_mode="nearest", seed=seed + 3),
        layers.RandomContrast(most.contrast, value_range=(0, 1), seed=seed + 4),
        layers.RandomBrightness(most.brightness, value_range=(0, 1), seed=seed + 5),
        layers.RandomErasing(
            (erased, erased), scale=(0.02, 0.2), value_range=(0, 1), seed=seed + 6
        ),
    ]
    return keras.Sequential(steps, name="augmentation")
