"""Every dataset layout becomes one `Dataset`; splits that never share an image."""

import csv
import hashlib
import io
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from sklearn.model_selection import train_test_split

from emotion.errors import DatasetError
from emotion.labels import EMOTIONS, FER2013_CODES, FERPLUS_COLUMNS

IMAGE_SIDE = 48
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
FOLDER_SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
FOLDER_SPLITS |= {"validation": "validation", "val": "validation", "valid": "validation"}
CSV_SPLITS = {"Training": "train", "PublicTest": "test", "PrivateTest": "private_test"}
COLUMNS = ("images", "labels", "splits", "votes", "names", "groups", "sizes_wh", "twins")
"""The attributes of a `Dataset` that have a row an image."""
CSV_COLUMNS = ("emotion", "pixels", "Usage")


@dataclass(frozen=True)
class Dataset:
    """Labelled faces, each in one split.

    Attributes:
        images: (N, 48, 48) uint8, grey.
        labels: (N,) int64, an index into `class_names`.
        splits: (N,) str: "train", "validation", "test" or "private_test"; "" where the data brings
            no splits and none were made yet.
        class_names: the classes in output order.
        votes: (N, classes) float32, the share of the votes for each class; a row of zeros where
            nobody voted for one of the classes. None without votes.
        unreadable: the files or rows that were skipped, each with its reason.
        names: (N,) str, where each image comes from: "train/happy/1.jpg" or "fer2013.csv row 17".
        groups: (N,) str, the person on the image; "" where that is not known.
        sizes_wh: (N, 2) int32, width and height in pixels before the image was made 48x48.
        twins: (N,) bool, set by `remove_leaks`: test images that also stand in the training data.
    """

    images: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    class_names: tuple[str, ...]
    votes: np.ndarray | None = None
    unreadable: tuple[str, ...] = ()
    names: np.ndarray | None = None
    groups: np.ndarray | None = None
    sizes_wh: np.ndarray | None = None
    twins: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, mask: np.ndarray) -> "Dataset":
        """Return the images for which `mask` (bool, (N,)) holds."""
        columns = {name: getattr(self, name) for name in COLUMNS}
        kept = {name: column[mask] for name, column in columns.items() if column is not None}
        return replace(self, **kept)

    def split(self, name: str) -> "Dataset":
        """Return the images of one split."""
        return self.where(self.splits == name)

    def split_names(self) -> tuple[str, ...]:
        """Return the names of the splits that have images, training first."""
        order = ("train", "validation", "test", "private_test")
        return tuple(name for name in order if (self.splits == name).any())

    def fingerprint(self) -> str:
        """Return a SHA-256 over images, labels, splits and class names, in hexadecimal."""
        digest = hashlib.sha256("\n".join(self.class_names).encode())
        for array in (self.images, self.labels, self.splits.astype("S16")):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def load_dataset(path: Path, votes: Path | None = None) -> Dataset:
    """Read a folder, a .zip of one, or fer2013.csv.

    Args:
        path: a folder with `train/<class>/` and `test/<class>/`, a .zip of such a folder, or a csv
            with the columns emotion, pixels and Usage (Goodfellow et al. 2013, "Challenges in
            representation learning"). A folder that holds just one zip or csv stands for it.
        votes: fer2013new.csv (Barsoum et al. 2016, "Training deep networks for facial expression
            recognition with crowd-sourced label distribution"), row for row beside the csv.

    Raises:
        DatasetError: the path is missing, damaged, empty or not laid out as expected.
    """
    path = _resolve(Path(path))
    if votes is not None and path.suffix.lower() != ".csv":
        raise DatasetError(
            f"votes belong row by row to fer2013.csv; the dataset received is {path.name}"
        )
    if path.is_dir():
        dataset = _read_folder(path)
    elif path.suffix.lower() == ".zip":
        dataset = _read_zip(path)
    else:
        dataset = _read_csv(path)
    if votes is not None:
        dataset = replace(dataset, votes=_read_votes(Path(votes), len(dataset)))
    return _checked(dataset, path)


def hash_images(images: np.ndarray) -> np.ndarray:
    """Return a digest an image, (N,) S16, equal where every pixel is equal."""
    digests = [hashlib.blake2b(image.tobytes(), digest_size=8).hexdigest() for image in images]
    return np.array(digests, dtype="S16")


def remove_leaks(dataset: Dataset) -> tuple[Dataset, int]:
    """Remove training and validation images that also stand in a test split.

    Returns:
        The dataset without them, and how many were removed.
    """
    digests = hash_images(dataset.images)
    testing = np.isin(dataset.splits, ("test", "private_test"))
    leaked = ~testing & np.isin(digests, digests[testing])
    return dataset.where(~leaked), int(leaked.sum())


def hold_out_validation(dataset: Dataset, share: float, seed: int) -> Dataset:
    """Move a share of the training images to validation, stratified by class.

    Identical images move together, so none stands on both sides. A dataset that brings its own
    validation split keeps it.
    """
    if "validation" in dataset.split_names():
        return dataset
    training = np.flatnonzero(dataset.splits == "train")
    digests = hash_images(dataset.images[training])
    unique, first = np.unique(digests, return_index=True)
    labels = dataset.labels[training][first]
    try:
        _, held_out = train_test_split(unique, test_size=share, random_state=seed, stratify=labels)
    except ValueError as error:
        raise DatasetError(
            f"expected enough images of each class to hold {share:.0%} out for validation; "
            f"received {len(unique)} different images, the smallest class with "
            f"{np.bincount(labels).min()} ({error})"
        ) from error
    splits = dataset.splits.astype("U16")
    splits[training[np.isin(digests, held_out)]] = "validation"
    return replace(dataset, splits=splits)


def _resolve(path: Path) -> Path:
    """Return what a path stands for: itself, or the one dataset file in a folder."""
    if not path.exists():
        raise DatasetError(f"expected a folder, .zip or .csv as the dataset; {path} does not exist")
    if path.is_file() and path.suffix.lower() not in (".zip", ".csv"):
        raise DatasetError(f"expected a folder, .zip or .csv as the dataset; received {path}")
    if path.is_dir() and not any(child.is_dir() for child in path.iterdir()):
        files = [
            child
            for child in sorted(path.iterdir())
            if child.suffix.lower() == ".zip" or _is_pixel_csv(child)
        ]
        if len(files) == 1:
            return files[0]
    return path


def _is_pixel_csv(path: Path) -> bool:
    """Tell whether a file is a csv whose first line names the columns of fer2013.csv."""
    if path.suffix.lower() != ".csv":
        return False
    with path.open("rb") as file:
        return b"pixels" in file.readline(1000)


def _checked(dataset: Dataset, path: Path) -> Dataset:
    """Return the dataset, or raise where nothing could be learned from it."""
    training = dataset.split("train")
    counts = np.bincount(training.labels, minlength=len(dataset.class_names))
    if len(dataset.class_names) < 2 or np.count_nonzero(counts) < 2:
        names = ", ".join(dataset.class_names) or "none"
        raise DatasetError(
            f"expected training images of at least two classes in {path}; "
            f"received {len(training)} images of the classes: {names}"
        )
    return dataset


def _read_folder(root: Path) -> Dataset:
    """Read `<split>/<class>/<image>` below a folder."""
    names = [file.relative_to(root).as_posix() for file in sorted(root.rglob("*"))]
    return _read_images(names, lambda name: (root / name).read_bytes(), root)


def _read_zip(path: Path) -> Dataset:
    """Read `<split>/<class>/<image>` inside a zip; nothing is extracted to the disk."""
    try:
        with zipfile.ZipFile(path) as archive:
            content = {name: archive.read(name) for name in sorted(archive.namelist())}
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise DatasetError(
            f"expected a readable .zip; {path} is damaged or protected ({error})"
        ) from error
    return _read_images(list(content), content.__getitem__, path)


def _read_images(names: list[str], read, source: Path) -> Dataset:
    """Decode every `<split>/<class>/<image>` among the names, in parallel.

    Args:
        names: paths with forward slashes; other folders may stand before the split.
        read: a function from a name to the file's bytes.
        source: what the names belong to, for messages.
    """
    placed = [place for place in map(_place, names) if place]
    if not placed:
        raise DatasetError(
            f"expected train/<class>/<image> and test/<class>/<image> in {source}; "
            f"received no image in such a place ({len(names)} files and folders seen); "
            "dataset/README.md says what goes there"
        )
    with ThreadPoolExecutor() as executor:
        decoded = list(executor.map(lambda place: _decode(read(place[0])), placed))
    unreadable = tuple(
        f"{place[0]}: {image}"
        for place, image in zip(placed, decoded, strict=True)
        if isinstance(image, str)
    )
    kept = [
        (image, place)
        for image, place in zip(decoded, placed, strict=True)
        if not isinstance(image, str)
    ]
    if not kept:
        raise DatasetError(f"expected images in {source}; none can be read ({unreadable[0]})")
    class_names = tuple(sorted({place[2] for _, place in kept}))
    return Dataset(
        images=np.stack([image for image, _ in kept]),
        labels=np.array([class_names.index(place[2]) for _, place in kept], dtype=np.int64),
        splits=np.array([place[1] for _, place in kept], dtype="U16"),
        class_names=class_names,
        unreadable=unreadable,
    )


def _place(name: str) -> tuple[str, str, str] | None:
    """Return (name, split, class) of an image in a class folder of a split, else None."""
    parts = PurePosixPath(name).parts
    if len(parts) < 3 or not parts[-1].lower().endswith(IMAGE_SUFFIXES):
        return None
    if parts[-1].startswith(".") or "__MACOSX" in parts:
        return None
    split = FOLDER_SPLITS.get(parts[-3].lower())
    return (name, split, parts[-2].lower()) if split else None


def _decode(content: bytes) -> np.ndarray | str:
    """Return a grey (48, 48) uint8 image, or the reason why there is none."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            grey = image.convert("L")
            if grey.size != (IMAGE_SIDE, IMAGE_SIDE):
                grey = grey.resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BOX)
            return np.asarray(grey)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return f"{type(error).__name__}: {error}"


def _read_csv(path: Path) -> Dataset:
    """Read fer2013.csv: a label, 2,304 grey values and a usage a row."""
    images, labels, splits = [], [], []
    for number, label, pixels, split in _csv_rows(path):
        image = np.fromstring(pixels, dtype=np.int64, sep=" ") if _is_pixels(pixels) else None
        if (
            image is None
            or image.size != IMAGE_SIDE**2
            or not 0 <= image.min() <= image.max() < 256
        ):
            raise DatasetError(
                f"expected {IMAGE_SIDE**2} pixels between 0 and 255 in row {number} of {path}; "
                f"received {len(pixels.split())} values, {pixels[:20]!r}..."
            )
        images.append(image.astype(np.uint8).reshape(IMAGE_SIDE, IMAGE_SIDE))
        labels.append(EMOTIONS.index(FER2013_CODES[label]))
        splits.append(split)
    if not images:
        raise DatasetError(f"expected rows of pixels in {path}; received only a header")
    return Dataset(
        images=np.stack(images),
        labels=np.array(labels, dtype=np.int64),
        splits=np.array(splits, dtype="U16"),
        class_names=EMOTIONS,
    )


def _csv_rows(path: Path) -> Iterator[tuple[int, int, str, str]]:
    """Yield (row number, label code, pixels as text, split) of each row; the header is row 1."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        reader = csv.DictReader(file)
        missing = [name for name in CSV_COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise DatasetError(
                f"expected the columns {', '.join(CSV_COLUMNS)} in {path}; "
                f"received {', '.join(reader.fieldnames or ['an empty file'])[:200]}"
            )
        for number, row in enumerate(reader, start=2):
            code, usage = row["emotion"], row["Usage"]
            if code not in map(str, range(len(FER2013_CODES))) or usage not in CSV_SPLITS:
                raise DatasetError(
                    f"expected an emotion from 0 to 6 and a Usage among {', '.join(CSV_SPLITS)} "
                    f"in row {number} of {path}; received {code!r} and {usage!r}"
                )
            yield number, int(code), row["pixels"] or "", CSV_SPLITS[usage]


def _is_pixels(text: str) -> bool:
    """Tell whether a text holds only digits and spaces, and some."""
    return text.replace(" ", "").isdecimal()


def _read_votes(path: Path, count: int) -> np.ndarray:
    """Read fer2013new.csv as the share of the votes each of the seven classes got.

    Returns:
        (N, 7) float32; votes for contempt, unknown and not-a-face are left out, and a row whose
        votes all went there is zeros.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        columns = {name: [float(row[name]) for row in rows] for name in FERPLUS_COLUMNS}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"expected a csv with a number in each of {', '.join(FERPLUS_COLUMNS)} as the votes; "
            f"{path} has none such ({type(error).__name__}: {error})"
        ) from error
    if len(rows) < count:
        raise DatasetError(f"expected votes for {count} images; {path} has {len(rows)} rows")
    by_class = {FERPLUS_COLUMNS[name]: values for name, values in columns.items()}
    votes = np.array([by_class[name] for name in EMOTIONS], dtype=np.float32).T[:count]
    totals = votes.sum(axis=1, keepdims=True)
    return np.divide(votes, totals, out=np.zeros_like(votes), where=totals > 0)
