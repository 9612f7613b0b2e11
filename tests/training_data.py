"""Generated datasets for the training tests: every class is a square in a place of its own."""

import csv
import zipfile
from pathlib import Path

import cv2
import numpy as np

from emotion.labels import EMOTIONS, FER2013_CODES
from emotion.training.data.datasets import Dataset


class Killed(BaseException):
    """Stands for `kill -9`: nothing may catch it."""


def make_image(label: int, random: np.random.Generator) -> np.ndarray:
    """Return a noisy (48, 48) uint8 image with a bright square whose place tells the class."""
    image = random.integers(0, 80, (48, 48), dtype=np.uint8)
    row, column = divmod(label, 3)
    image[4 + 14 * row : 14 + 14 * row, 4 + 14 * column : 14 + 14 * column] = 230
    return image


def make_dataset(train: int = 140, validation: int = 35, test: int = 35, votes=None) -> Dataset:
    random = np.random.default_rng(3)
    splits = np.array(["train"] * train + ["validation"] * validation + ["test"] * test)
    labels = np.arange(len(splits)) % len(EMOTIONS)
    images = np.stack([make_image(label, random) for label in labels])
    return Dataset(images, labels, splits, EMOTIONS, votes)


def encode(image: np.ndarray) -> bytes:
    """Return a grey image, or a colour one with red and blue changed, as PNG."""
    return cv2.imencode(".png", image)[1].tobytes()


def files_of(dataset: Dataset) -> dict[str, bytes]:
    """Return the bytes of each image by `<split>/<class>/<n>.png`."""
    rows = zip(dataset.splits, dataset.labels, dataset.images, strict=True)
    return {
        f"{split}/{dataset.class_names[label]}/{number}.png": encode(image)
        for number, (split, label, image) in enumerate(rows)
    }


def put(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def write_folder(root: Path, dataset: Dataset) -> Path:
    return put(root, files_of(dataset))


def write_zip(path: Path, dataset: Dataset) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files_of(dataset).items():
            archive.writestr(name, content)
    return path


def write_csv(path: Path, dataset: Dataset) -> Path:
    usages = {"train": "Training", "test": "PublicTest", "private_test": "PrivateTest"}
    lines = ["emotion,pixels,Usage"]
    for image, label, split in zip(dataset.images, dataset.labels, dataset.splits, strict=True):
        code = FER2013_CODES.index(dataset.class_names[label])
        lines.append(f"{code},{' '.join(map(str, image.ravel()))},{usages[split]}")
    path.write_text("\n".join(lines) + "\n")
    return path


def read_csv(path: Path) -> list[dict]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_classes(root: Path, people: int = 8, classes=("anger", "happy")) -> Path:
    """Write `<class>/S<person>_001_<n>.png` as CK+ does: two images of each class a person."""
    random = np.random.default_rng(4)
    files = {
        f"{name}/S{person:03d}_001_{number:08d}.png": encode(make_image(label, random))
        for person in range(people)
        for label, name in enumerate(classes)
        for number in range(2)
    }
    return put(root, files)


def write_votes(path: Path, usages: list[str], counts: list[list[int]]) -> Path:
    """Write fer2013new.csv: the Usage and the ten votes of each row."""
    lines = [
        "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
    ]
    for usage, row in zip(usages, counts, strict=True):
        lines.append(f"{usage},fer{len(lines) - 1:07}.png,{','.join(map(str, row))}")
    path.write_text("\n".join(lines) + "\n")
    return path
