"""Images a second in training: ours against the two ways of Keras' tutorials, on the same network.

python benchmarks/training_speed.py

"cached" is image_dataset_from_directory, cached in memory, changed by Keras' layers and prefetched;
"generator" is the older ImageDataGenerator. All train whole epochs: every image, the validation
images, a checkpoint. They take turns, an epoch each; the first epoch of each, which compiles and
fills caches, does not count.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from threading import Thread

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from emotion.labels import EMOTIONS
from emotion.training.data.dataset import Dataset
from emotion.training.settings import TrainingSettings

VALIDATION_SHARE = 1 / 8  # of the training images, as in FER2013


def main(arguments: list[str] | None = None) -> int:
    """Time every way on every network, in both precisions, with and without augmentation."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=512, help="training images")
    parser.add_argument("--batch-size", type=int, default=128, help="images a step")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each way that count")
    parser.add_argument("--architectures", nargs="+", default=["cnn", "mini_xception"])
    options = parser.parse_args(arguments)
    print(f"{options.images:,} images, batches of {options.batch_size}, {options.rounds} rounds")
    print("| network | precision | augmentation | way | images/s | ours against it | by CPU time |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        dataset = _write_faces(Path(folder), options.images)
        ways = {
            "ours": partial(_train_ours, dataset),
            "cached": partial(_train_keras, _read_cached, Path(folder)),
            "generator": partial(_train_keras, _read_generated, Path(folder)),
        }
        names = "architecture", "precision", "augmentation"
        precisions, augmentations = ("float32", "mixed_bfloat16"), ("none", "standard")
        for shared in product(options.architectures, precisions, augmentations):
            settings = TrainingSettings(
                runs=tempfile.mkdtemp(dir=folder),
                batch_size=options.batch_size,
                epochs=1 + options.rounds,
                patience=1 + options.rounds,  # all of them
                **dict(zip(names, shared, strict=True)),
            )
            epochs = [_begin(partial(train, settings)) for train in ways.values()]
            turns = [[next_epoch() for next_epoch in epochs] for _ in range(2 + options.rounds)]
            seconds = np.array(turns[1:-1])  # (rounds, ways, 2), without what is done at the end
            for way, (name, of_way) in enumerate(zip(ways, seconds.swapaxes(0, 1), strict=True)):
                speed = options.images / median(of_way[:, 0])
                ratios = (seconds[:, way] / seconds[:, 0]).T
                spread = [f"{median(r):.2f} ({min(r):.2f} to {max(r):.2f})" for r in ratios]
                print("|", " | ".join([*shared, name, f"{speed:,.0f}", *spread]), "|", flush=True)
    return 0


def _write_faces(folder: Path, count: int) -> Dataset:
    """Return generated faces, and write them as `<split>/<class>/<number>.jpg`."""
    from PIL import Image

    splits = np.array(["train"] * count + ["validation"] * round(count * VALIDATION_SHARE))
    # noise that JPEG compresses as badly as a real face
    coarse = np.random.default_rng(0).integers(0, 256, (len(splits), 12, 12), dtype=np.uint8)
    images = coarse.repeat(4, axis=1).repeat(4, axis=2)
    labels = np.arange(len(splits)) % len(EMOTIONS)
    for number, (image, label, split) in enumerate(zip(images, labels, splits, strict=True)):
        path = folder / split / EMOTIONS[label] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, quality=90)
    return Dataset(images, labels, splits, EMOTIONS)


def _begin(train: Callable) -> Callable[[], np.ndarray]:
    """Return a function that lets a training go on by an epoch; it returns seconds, CPU seconds."""
    turns, ends = SimpleQueue(), SimpleQueue()

    def run() -> None:
        turns.get()
        try:
            ends.put(train(lambda *_: (ends.put(None), turns.get())))
        except Exception as error:
            ends.put(error)

    def next_epoch() -> np.ndarray:
        start_s = time.perf_counter(), time.process_time()
        turns.put(None)
        if error := ends.get():
            raise error
        return np.subtract((time.perf_counter(), time.process_time()), start_s)

    Thread(target=run, daemon=True).start()
    return next_epoch


def _train_ours(dataset: Dataset, settings: TrainingSettings, on_epoch: Callable) -> None:
    from emotion.training.fitting.fitting import fit

    fit(dataset, settings, verbose=False, on_epoch=on_epoch)


def _train_keras(
    read: Callable, faces: Path, settings: TrainingSettings, on_epoch: Callable
) -> None:
    import keras

    from emotion.training.networks.architectures import build_network

    training, validation = read(faces, settings.batch_size, settings.augmentation != "none")
    keras.config.set_dtype_policy(settings.precision)
    network = build_network(settings.architecture, len(EMOTIONS))
    keras.config.set_dtype_policy("float32")
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
    network.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])
    callbacks = [
        keras.callbacks.ModelCheckpoint(f"{settings.runs}/{{epoch}}.keras"),
        keras.callbacks.LambdaCallback(on_epoch_end=on_epoch),
    ]
    how = {"epochs": settings.epochs, "callbacks": callbacks, "verbose": 0}
    network.fit(training, validation_data=validation, **how)


def _read_cached(faces: Path, batch_size: int, augmented: bool):
    """Return (faces, targets) of training and validation as tf.data has them."""
    import tensorflow as tf
    from keras import Sequential, layers, utils

    def scale(images, targets):
        return images / 255, targets

    how = {"image_size": (48, 48), "color_mode": "grayscale", "label_mode": "categorical"}
    how |= {"batch_size": batch_size, "verbose": False}
    training, validation = (
        utils.image_dataset_from_directory(faces / split, **how).map(scale).cache()
        for split in ("train", "validation")
    )
    if augmented:  # as strongly as "standard"
        change = Sequential(
            [
                layers.RandomFlip("horizontal"),
                layers.RandomRotation(15 / 360, "nearest"),
                layers.RandomTranslation(0.1, 0.1, "nearest"),
                layers.RandomZoom(0.15, 0.15, "nearest"),
                layers.RandomContrast(0.3, value_range=(0, 1)),
                layers.RandomBrightness(0.2, value_range=(0, 1)),
                layers.RandomErasing(0.5, scale=(0.02, 0.2), value_range=(0, 1)),
            ]
        )
        training = training.map(
            lambda images, targets: (change(images, training=True), targets), tf.data.AUTOTUNE
        )
    return training.prefetch(tf.data.AUTOTUNE), validation.prefetch(tf.data.AUTOTUNE)


def _read_generated(faces: Path, batch_size: int, augmented: bool):
    """Return (faces, targets) of training and validation as ImageDataGenerator reads them."""
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    changes = {"rotation_range": 15, "width_shift_range": 0.1, "height_shift_range": 0.1}
    changes |= {"zoom_range": 0.15, "horizontal_flip": True}
    how = {"target_size": (48, 48), "color_mode": "grayscale", "batch_size": batch_size}
    training = ImageDataGenerator(rescale=1 / 255, **(changes if augmented else {}))
    validation = ImageDataGenerator(rescale=1 / 255)
    with contextlib.redirect_stdout(sys.stderr):
        return (
            training.flow_from_directory(faces / "train", **how),
            validation.flow_from_directory(faces / "validation", shuffle=False, **how),
        )


if __name__ == "__main__":
    sys.exit(main())
