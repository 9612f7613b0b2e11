"""Images a second in training: ours against Keras' ImageDataGenerator, on the same network.

python benchmarks/training_speed.py

The classic way is what tutorials do: a folder of .jpg files, ImageDataGenerator with turns, shifts,
zoom and flips, flow_from_directory, model.fit in float32. Ours is
`emotion.training.fitting.fitting` at float32 and at --precision auto. The ways take turns, an epoch
each, timed from start to end; the first epoch of each, which compiles, does not count. Run it on an
otherwise idle machine.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CLASSIC = "ImageDataGenerator, float32"
ARCHITECTURES = ("cnn", "mini_xception")


def main(arguments: list[str] | None = None) -> int:
    """Time every way on every network and print the table."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        dataset = _make_dataset(options.images)
        _write_folder(Path(folder) / "faces", dataset)
        print(
            f"{options.images:,} images, batches of {options.batch_size}, {options.rounds} rounds"
        )
        print("| network | way | images/s | lowest | highest | times the classic way |")
        print("| --- | --- | --- | --- | --- | --- |")
        for architecture in options.architectures:
            ways = _build_ways(architecture, dataset, Path(folder), options)
            _print_rows(architecture, _take_turns(ways, options.rounds))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=2560, help="images an epoch")
    parser.add_argument("--batch-size", type=int, default=128, help="images a step")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each way that count")
    parser.add_argument("--architectures", nargs="+", default=ARCHITECTURES, help="networks")
    return parser


def _make_dataset(count: int):
    """Return generated faces: noise that JPEG compresses as badly as a real face."""
    from emotion.labels import EMOTIONS
    from emotion.training.data.datasets import Dataset

    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, 12, 12), dtype=np.uint8)
    images = coarse.repeat(4, axis=1).repeat(4, axis=2)
    splits = np.array(["train"] * count)
    return Dataset(images, np.arange(count) % len(EMOTIONS), splits, EMOTIONS)


def _write_folder(folder: Path, dataset) -> None:
    """Write the images as `<class>/<number>.jpg`."""
    from PIL import Image

    for number, (image, label) in enumerate(zip(dataset.images, dataset.labels, strict=True)):
        path = folder / dataset.class_names[label] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, quality=90)


def _build_ways(architecture: str, dataset, folder: Path, options) -> dict[str, Callable]:
    """Return a function for each way that trains one epoch and returns its images a second."""
    ways = {CLASSIC: _build_classic(architecture, folder / "faces", options)}
    for precision in ("float32", "auto"):
        name = f"ours, {precision}"
        run, resolved = _build_run(architecture, dataset, folder, precision, options)
        if precision == "auto":
            name = f"ours, auto: {resolved}"
        ways[name] = run
    return ways


def _build_classic(architecture: str, folder: Path, options) -> Callable:
    """Return the way of the tutorials."""
    import keras
    import tensorflow as tf

    from emotion.training.networks.architectures import build_network

    generator = tf.keras.preprocessing.image.ImageDataGenerator(
        rescale=1 / 255,
        rotation_range=15,
        width_shift_range=0.1,
        height_shift_range=0.1,
        zoom_range=0.15,
        horizontal_flip=True,
        fill_mode="nearest",
    )
    flow = generator.flow_from_directory(
        folder,
        target_size=(48, 48),
        color_mode="grayscale",
        batch_size=options.batch_size,
        class_mode="categorical",
    )
    network = build_network(architecture, flow.num_classes)
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True)
    network.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"])

    def train_epoch(epoch: int) -> float:
        start_s = time.perf_counter()
        network.fit(flow, verbose=0)
        return options.images / (time.perf_counter() - start_s)

    return train_epoch


def _build_run(architecture: str, dataset, folder: Path, precision: str, options):
    """Return our way, and the arithmetic that it computes in."""
    from emotion.training.fitting.fitting import Run
    from emotion.training.settings import TrainingSettings

    settings = TrainingSettings(
        architecture=architecture,
        precision=precision,
        batch_size=options.batch_size,
        runs=str(folder),
        name=f"{architecture}_{precision}",
    )
    run = Run(dataset, settings)
    run.enter(run.stages[0])

    def train_epoch(epoch: int) -> float:
        start_s = time.perf_counter()
        run.train_epoch(epoch, [])
        return options.images / (time.perf_counter() - start_s)

    return train_epoch, settings.resolved_precision()


def _take_turns(ways: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Return the images a second of each way in each round but the first."""
    speeds = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, train_epoch in ways.items():
            speed = train_epoch(turn)
            if turn:
                speeds[name].append(speed)
    return speeds


def _print_rows(architecture: str, speeds: dict[str, list[float]]) -> None:
    """Print a row a way; the ratio is the median of the ratios round by round."""
    for name, measured in speeds.items():
        ratios = [own / classic for own, classic in zip(measured, speeds[CLASSIC], strict=True)]
        print(
            f"| {architecture} | {name} | {median(measured):,.0f} | {min(measured):,.0f} | "
            f"{max(measured):,.0f} | {median(ratios):.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    sys.exit(main())
