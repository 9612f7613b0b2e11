"""Random changes that leave the emotion as it is: Keras layers, active in training only."""

import keras
from keras import layers


def build_augmentation(seed: int) -> keras.Sequential:
    """Return layers that vary faces as photographs do: (N, 48, 48, 1) in [0, 1] to the same.

    Faces are mirrored, turned by up to 15 degrees, shifted by up to 10 %, zoomed by up to 15 %,
    made darker or brighter, flatter or starker, and half of them lose a patch (random erasing,
    Zhong et al. 2017).
    """
    steps = (
        layers.RandomFlip("horizontal", seed=seed),
        layers.RandomRotation(15 / 360, fill_mode="nearest", seed=seed + 1),
        layers.RandomTranslation(0.1, 0.1, fill_mode="nearest", seed=seed + 2),
        layers.RandomZoom(0.15, 0.15, fill_mode="nearest", seed=seed + 3),
        layers.RandomContrast(0.3, value_range=(0, 1), seed=seed + 4),
        layers.RandomBrightness(0.2, value_range=(0, 1), seed=seed + 5),
        layers.RandomErasing((0.5, 0.5), scale=(0.02, 0.2), value_range=(0, 1), seed=seed + 6),
    )
    return keras.Sequential(steps, name="augmentation")
