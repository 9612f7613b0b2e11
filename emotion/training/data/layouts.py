"""The layouts in which labelled faces come on a disk; each becomes one `Dataset`.

A layout is a folder or a .zip of `<split>/<class>/<image>` or of `<class>/<image>`, or fer2013.csv.
"""

import hashlib
import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import JpegImagePlugin, PngImagePlugin

from emotion.detection.crop import CROP_SIDE_PX, crop_face
from emotion.detection.haar import FaceDetector
from emotion.errors import DatasetError, ImageError
from emotion.images.decoding import decode_image
from emotion.images.folders import PHOTO_SUFFIXES
from emotion.images.guards import DEFAULT_LIMITS
from emotion.labels import EMOTIONS, FER2013_CODES

IMAGE_SIDE = CROP_SIDE_PX
FOLDER_SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
FOLDER_SPLITS |= {"validation": "validation", "val": "validation", "valid": "validation"}
FOLDER_SPLITS |= {"publictest": "test", "public_test": "test"}
FOLDER_SPLITS |= {"privatetest": "private_test", "private_test": "private_test"}
CSV_SPLITS = {"Training": "train", "PublicTest": "test", "PrivateTest": "private_test"}
CSV_COLUMNS = ("emotion", "pixels", "Usage")
FEEDBACK_FOLDER = "feedback"
"""Folder beside the data in which the web app keeps the faces that visitors gave: a dataset of its
own, which is read where it is named and all of which is learned from."""

COLUMNS = ("images", "labels", "splits", "votes", "names", "groups", "sizes_wh", "twins")
"""The attributes of a `Dataset` that have a row an image."""

CK_PLUS_SUBJECT = r"^S\d{3}(?=_)"
"""The person in a file name of CK+ (Lucey et al. 2010): S010 in S010_004_00000017.png."""

MOST_TIMES_ITS_SIZE = 200
SMALLEST_BOMB_BYTES = 2**20
CSV_ROWS_AT_ONCE = 64
ITEMS_AT_ONCE = 16


Progress = Callable[[int, int], None]
"""Is told how many images are done, and of how many."""


@dataclass(frozen=True)
class Dataset:
    """Labelled faces, each in one split.

    Attributes:
        images: (N, 48, 48) uint8, grey.
        labels: (N,) int64, an index into `class_names`.
        splits: (N,) str: "train", "validation", "test" or "private_test"; "" where the data brings
            no splits and none were made yet.
        class_names: the classes in output order.
        votes: (N, classes) float32, shares of what people voted for each image, or None. What they
            are depends on `votes_as`, see `emotion.training.data.votes`; else zeros.
        unreadable: the files or rows that were skipped, each with its reason.
        notes: lines for a person: what was left out on purpose, and why.
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
    notes: tuple[str, ...] = ()

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

    def noting(self, *lines: str) -> "Dataset":
        """Return the dataset with more notes."""
        return replace(self, notes=(*self.notes, *lines))

    def fingerprint(self) -> str:
        """Return a SHA-256 over images, labels, splits, votes and class names, in hexadecimal."""
        digest = hashlib.sha256("\n".join(self.class_names).encode())
        columns = (self.images, self.labels, self.splits.astype("S16"), self.votes)
        for column in columns:
            if column is not None:
                digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class _Place:
    """An image file among others: its name with forward slashes, its split and its class."""

    name: str
    split: str
    class_name: str


@dataclass(frozen=True)
class _Reading:
    """How the images of a folder or a zip are read.

    Attributes:
        read: from a name to the bytes of its file.
        source: what the names belong to, for messages.
        framing: from an upright photo to the (48, 48) that is learned from.
        progress: called with the images done and the images there are.
    """

    read: Callable[[str], bytes]
    source: Path
    framing: Callable[[np.ndarray], np.ndarray]
    progress: Progress | None


def resolve_dataset(path: Path) -> Path:
    """Return what a path stands for: itself, or the one dataset file in a folder.

    Raises:
        DatasetError: there is nothing at the path, or several datasets, or none of a known kind.
    """
    try:
        return _resolved(path)
    except OSError as error:
        raise DatasetError(
            f"expected a dataset that can be read; {path}: {error.strerror or error}"
        ) from error


def _resolved(path: Path) -> Path:
    """Return what a path that may be looked at stands for."""
    if not path.exists():
        raise DatasetError(f"expected a folder, .zip or .csv as the dataset; {path} does not exist")
    if not path.is_dir() and path.suffix.lower() not in (".zip", ".csv"):
        raise DatasetError(f"expected a folder, .zip or .csv as the dataset; received {path}")
    if path.is_file() or any(_is_data_folder(child) for child in path.iterdir()):
        return path
    files = [child for child in sorted(path.iterdir()) if _is_dataset_file(child)]
    if len(files) > 1:
        raise DatasetError(
            f"expected one dataset in {path}; received {', '.join(file.name for file in files)}: "
            "give the path of the one that is meant"
        )
    return files[0] if files else path


def _is_data_folder(path: Path) -> bool:
    """Tell whether a path is a folder of the dataset around it."""
    return _is_visible(path) and path.is_dir() and path.name != FEEDBACK_FOLDER


def list_files(path: Path) -> list[str]:
    """Return the names of the files below a folder, in order; "" stands for the path itself."""
    return _names_below(path)[0] if path.is_dir() else [""]


def read_layout(
    path: Path,
    crop_faces: bool = False,
    subject_pattern: str = "",
    progress: Progress | None = None,
) -> Dataset:
    """Read one dataset, as `resolve_dataset` returned it.

    Args:
        path: a folder, a .zip or a .csv.
        crop_faces: find the largest face of each image and crop it as the app does; otherwise the
            square in the middle is taken.
        subject_pattern: regular expression for the person in a file name, its first group if it has
            one; where it is empty or matches nothing, that of CK+ is tried.
        progress: called now and then with the images done and the images there are.

    Raises:
        DatasetError: the path is damaged, empty or not laid out as expected.
    """
    framing = _largest_face_framing() if crop_faces else _centre_square
    try:
        if path.is_dir():
            dataset = _read_folder(path, framing, progress)
        elif path.suffix.lower() == ".zip":
            dataset = _read_zip(path, framing, progress)
        else:
            dataset = _read_csv(path)
            dataset = _framed_again(dataset, framing, path, progress) if crop_faces else dataset
    except OSError as error:
        raise DatasetError(
            f"expected a dataset that can be read; {path}: {error.strerror or error}"
        ) from error
    return replace(dataset, groups=_find_subjects(dataset.names, subject_pattern))


def csv_row_index(names: np.ndarray) -> np.ndarray:
    """Return which row of pixels each image of a csv was, counted from 0, from `Dataset.names`."""
    return np.array([int(name.rpartition(" ")[2]) - 2 for name in names], dtype=np.int64)


def _is_visible(path: Path) -> bool:
    """Tell whether a file or folder is neither hidden nor what macOS adds to a zip."""
    return not path.name.startswith(".") and path.name != "__MACOSX"


def _is_dataset_file(path: Path) -> bool:
    """Tell whether a file is a .zip, or a .csv whose first line names a column of pixels."""
    if not path.is_file() or not _is_visible(path):
        return False
    if path.suffix.lower() != ".csv":
        return path.suffix.lower() == ".zip"
    with path.open("rb") as file:
        return b"pixels" in file.readline(1000)


def _find_subjects(names: np.ndarray, pattern: str) -> np.ndarray:
    """Return the person in each file name, "" where it tells none."""
    files = [name.rpartition("/")[2] for name in names]
    for wanted in filter(None, (pattern, CK_PLUS_SUBJECT)):
        found = [re.search(wanted, file) for file in files]
        if any(found):
            return np.array(["" if match is None else _first_group(match) for match in found])
    return np.full(len(names), "", dtype="U1")


def _first_group(match: re.Match) -> str:
    """Return the first group of a match that took part in it, or all of it where it has none."""
    return next((group for group in match.groups() if group), match[0])


def _read_folder(root: Path, framing: Callable, progress: Progress | None) -> Dataset:
    """Read the images below a folder."""
    names, skipped = _names_below(root)
    reading = _Reading(lambda name: _read_file(root / name), root, framing, progress)
    return _read_images(names, reading, skipped)


def _names_below(root: Path) -> tuple[list[str], list[str]]:
    """Return the names of all visible files below a folder, and what could not be looked into."""
    names, skipped = [], []

    def skip(error: OSError) -> None:
        skipped.append(f"{Path(error.filename).relative_to(root).as_posix()}: {error.strerror}")

    for folder, folders, files in os.walk(root, onerror=skip, followlinks=True):
        here = Path(folder)
        folders[:] = [
            name
            for name in folders
            if _is_visible(here / name)
            and not _leads_back(here / name)
            and not (here == root and name == FEEDBACK_FOLDER)
        ]
        before = "" if here == root else f"{here.relative_to(root).as_posix()}/"
        names += [before + name for name in files if not name.startswith(".")]
    return sorted(names), skipped


def _leads_back(folder: Path) -> bool:
    """Tell whether a folder is a link to one of those it lies in, which would never end."""
    if not folder.is_symlink():
        return False
    target = folder.resolve()
    return any(parent.resolve().is_relative_to(target) for parent in folder.parents)


def _read_file(path: Path) -> bytes:
    """Return the bytes of a regular file within the limits of an image.

    Raises:
        ImageError: it is no regular file, too large, or cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("expected an image file; received something that is not a file")
        check_bytes(status.st_size)
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"expected a readable file; {error.strerror or error}") from error


def check_bytes(size: int) -> None:
    """Refuse an image file by its size before it is read."""
    if size > DEFAULT_LIMITS.max_bytes:
        allowed = f"{DEFAULT_LIMITS.max_bytes / 2**20:g} MB"
        raise ImageError(f"expected a file of at most {allowed}; received {size / 2**20:.1f} MB")


def _read_zip(path: Path, framing: Callable, progress: Progress | None) -> Dataset:
    """Read the images inside a .zip; nothing is ever extracted to the disk."""
    with _open_zip(path) as archive:
        entries, skipped = _safe_entries(archive.infolist())
        if any(entry.flag_bits & 1 for entry in entries.values()):
            raise DatasetError(f"expected a .zip without a password; {path} is encrypted")
        reading = _Reading(
            lambda name: _read_entry(archive, entries[name]), path, framing, progress
        )
        return _read_images(sorted(entries), reading, skipped)


def _open_zip(path: Path) -> zipfile.ZipFile:
    """Return an open .zip.

    Raises:
        DatasetError: its directory is damaged.
    """
    try:
        return zipfile.ZipFile(path)
    except OSError:
        raise
    except Exception as error:
        # A damaged directory makes zipfile raise almost any kind.
        raise DatasetError(f"expected a readable .zip; {path} is damaged ({error})") from error


def _safe_entries(
    entries: Iterable[zipfile.ZipInfo],
) -> tuple[dict[str, zipfile.ZipInfo], list[str]]:
    """Return the files of a zip by name, without those whose names climb out of it."""
    safe, skipped = {}, []
    for entry in entries:
        name = entry.filename.replace("\\", "/")
        if entry.is_dir():
            continue
        if name.startswith("/") or ".." in name.split("/") or re.match("[A-Za-z]:", name):
            skipped.append(f"{name}: expected a name inside the zip; received one that climbs out")
        else:
            safe[name] = entry
    return safe, skipped


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Return the bytes of one file of a zip.

    Raises:
        ImageError: the file is damaged, too large, or swells out of proportion.
    """
    check_bytes(entry.file_size)
    swollen = entry.file_size > MOST_TIMES_ITS_SIZE * max(1, entry.compress_size)
    if swollen and entry.file_size > SMALLEST_BOMB_BYTES:
        raise ImageError(
            f"expected at most {MOST_TIMES_ITS_SIZE} times the compressed size; received "
            f"{entry.compress_size:,} bytes that become {entry.file_size:,}"
        )
    try:
        return archive.read(entry)
    except Exception as error:
        # zipfile, zlib, bz2 and lzma each raise kinds of their own on damaged bytes.
        raise ImageError(f"expected a whole file in the zip; it is damaged ({error})") from error


def _read_images(names: list[str], reading: _Reading, skipped: list[str]) -> Dataset:
    """Decode every image that lies in a class folder, in parallel.

    Args:
        names: paths with forward slashes; other folders may stand before the split or the class.
        reading: how a name becomes an image.
        skipped: what was left out before, each with its reason.
    """
    places, notes = _find_places(names)
    if not places:
        raise DatasetError(
            "expected train/<class>/<image> and test/<class>/<image>, or <class>/<image>, in "
            f"{reading.source}; received no image in such a place ({len(names)} files seen); "
            "dataset/README.md says what goes there"
        )
    decoded = _in_parallel(lambda place: _decode(place.name, reading), places, reading.progress)
    pairs = list(zip(places, decoded, strict=True))
    unreadable = [
        *skipped,
        *(f"{place.name}: {got}" for place, got in pairs if isinstance(got, str)),
    ]
    kept = [(place, *got) for place, got in pairs if not isinstance(got, str)]
    if not kept:
        raise DatasetError(
            f"expected images in {reading.source}; none can be read ({unreadable[-1]})"
        )
    class_names = tuple(sorted({place.class_name for place, _, _ in kept}))
    return Dataset(
        images=np.stack([image for _, image, _ in kept]),
        labels=np.array([class_names.index(place.class_name) for place, _, _ in kept], np.int64),
        splits=np.array([place.split for place, _, _ in kept], dtype="U16"),
        class_names=class_names,
        unreadable=tuple(unreadable),
        names=np.array([place.name for place, _, _ in kept]),
        sizes_wh=np.array([size_wh for _, _, size_wh in kept], dtype=np.int32),
        notes=notes,
    )


def _in_parallel(work: Callable, items: Sequence, progress: Progress | None) -> list:
    """Return `work` of each item; some items go to a thread at once, as most are done in 0.1 ms."""
    chunks = [items[start : start + ITEMS_AT_ONCE] for start in range(0, len(items), ITEMS_AT_ONCE)]
    results = []
    with ThreadPoolExecutor() as executor:
        for done in executor.map(lambda chunk: [work(item) for item in chunk], chunks):
            results += done
            if progress is not None:
                progress(len(results), len(items))
    return results


def _find_places(names: Iterable[str]) -> tuple[list[_Place], tuple[str, ...]]:
    """Return where the images of the dataset lie, and a note about those that lie elsewhere."""
    images = [name for name in names if _is_image_name(name)]
    places = [place for name in images if (place := _place_in_split(name))]
    expected = "<split>/<class>/<image>"
    if not places:
        places, expected = _places_in_classes(images), "<class>/<image>"
    inside = {place.name for place in places}
    outside = [name for name in images if name not in inside]
    if not outside:
        return places, ()
    count = f"{len(outside):,} image" + ("s that do" if len(outside) > 1 else " that does")
    return places, (f"Left out {count} not lie as {expected}, such as {outside[0]}",)


def _is_image_name(name: str) -> bool:
    """Tell whether a name is that of a visible image."""
    if not name.lower().endswith(PHOTO_SUFFIXES):
        return False
    return not any(
        part == "__MACOSX" or (part.startswith(".") and part != ".") for part in name.split("/")
    )


def _place_in_split(name: str) -> _Place | None:
    """Return the place of an image in a class folder of a split, else None."""
    parts = name.split("/")
    split = FOLDER_SPLITS.get(parts[-3].lower()) if len(parts) > 2 else None
    return _Place(name, split, parts[-2].lower()) if split else None


def _places_in_classes(names: list[str]) -> list[_Place]:
    """Return the places of images in class folders: those as deep as most images lie."""
    depths = {name: len(name.split("/")) for name in names}
    counts = Counter(depth for depth in depths.values() if depth > 1)
    if not counts:
        return []
    usual = max(counts, key=lambda depth: (counts[depth], depth))
    return [
        _Place(name, "", name.split("/")[-2].lower())
        for name, depth in depths.items()
        if depth == usual
    ]


def _decode(name: str, reading: _Reading) -> tuple[np.ndarray, tuple[int, int]] | str:
    """Return the (48, 48) uint8 grey image of a file and its first size, or why there is none."""
    try:
        content = reading.read(name)
        photo = _plain_grey(content)
        photo = decode_image(content) if photo is None else photo
        return reading.framing(photo), (photo.shape[1], photo.shape[0])
    except ImageError as error:
        return str(error)


def _plain_grey(content: bytes) -> np.ndarray | None:
    """Return an eight-bit grey JPEG or PNG as (H, W) uint8; None for all else and what is damaged.

    FER2013 and CK+ consist of such images, and `decode_image`, which also settles colour profiles,
    transparency and orientation, takes several times as long and comes to the same pixels.
    """
    if content.startswith(b"\xff\xd8\xff"):
        plugin = JpegImagePlugin.JpegImageFile
    elif content.startswith(b"\x89PNG\r\n\x1a\n") and b"IEND" in content[-12:]:
        plugin = PngImagePlugin.PngImageFile
    else:
        return None
    if b"Exif" in content or b"eXIf" in content:
        return None
    try:
        with plugin(BytesIO(content)) as image:
            special = {"icc_profile", "transparency"}.intersection(image.info)
            is_plain = image.mode == "L" and not special and min(image.size) >= IMAGE_SIDE
            return np.asarray(image) if is_plain and max(image.size) <= 1024 else None
    except Exception:
        # Decoders raise almost any kind on broken bytes; `decode_image` tells what is wrong.
        return None


def _centre_square(photo: np.ndarray) -> np.ndarray:
    """Return the square in the middle of a photo as (48, 48) uint8 grey, resized as the app does.

    Args:
        photo: (H, W, 3) RGB or (H, W) grey, uint8.
    """
    if photo.shape == (IMAGE_SIDE, IMAGE_SIDE):
        return photo
    height, width = photo.shape[:2]
    side = min(height, width)
    return _crop(_as_rgb(photo), ((width - side) / 2, (height - side) / 2, side, side))


def _largest_face_framing() -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from a photo to the app's crop of its largest face."""
    detector = FaceDetector()

    def crop_largest(photo: np.ndarray) -> np.ndarray:
        rgb = _as_rgb(photo)
        boxes = [detection.box_xywh for detection in detector.detect(rgb)]
        if not boxes:
            raise ImageError("expected a face; none was found")
        return _crop(rgb, max(boxes, key=lambda box: box[2] * box[3]))

    return crop_largest


def _crop(photo: np.ndarray, box_xywh: tuple[float, float, float, float]) -> np.ndarray:
    """Return the app's crop of a box as (48, 48) uint8."""
    return np.rint(crop_face(photo, box_xywh, side=IMAGE_SIDE)[..., 0] * 255).astype(np.uint8)


def _as_rgb(photo: np.ndarray) -> np.ndarray:
    """Return a photo as (H, W, 3)."""
    return photo if photo.ndim == 3 else cv2.cvtColor(photo, cv2.COLOR_GRAY2RGB)


def _read_csv(path: Path) -> Dataset:
    """Read fer2013.csv: a label, 2,304 grey values and a usage a row; bad rows are skipped."""
    images, labels, splits, rows, unreadable = [], [], [], [], []
    with path.open("rb") as file:
        columns = _find_columns(file.readline(10_000), path)
        for numbers, fields in _chunks(file, columns):
            pixels, reasons = _parse_rows(fields)
            for number, (code, _, usage), image, reason in zip(
                numbers, fields, pixels, reasons, strict=True
            ):
                if reason:
                    unreadable.append(f"{path.name} row {number}: {reason}")
                    continue
                images.append(image)
                labels.append(EMOTIONS.index(FER2013_CODES[int(code)]))
                splits.append(CSV_SPLITS[usage.decode()])
                rows.append(number)
    if not images:
        reason = f"none can be used ({unreadable[0]})" if unreadable else "there is only a header"
        raise DatasetError(f"expected rows of pixels in {path}; {reason}")
    return Dataset(
        images=np.stack(images),
        labels=np.array(labels, dtype=np.int64),
        splits=np.array(splits, dtype="U16"),
        class_names=EMOTIONS,
        unreadable=tuple(unreadable),
        names=np.array([f"{path.name} row {number}" for number in rows]),
        sizes_wh=np.full((len(rows), 2), IMAGE_SIDE, dtype=np.int32),
    )


def _find_columns(header: bytes, path: Path) -> tuple[int, ...]:
    """Return the position of each of `CSV_COLUMNS` in the header of a csv."""
    text = header.decode("utf-8-sig", errors="replace").strip()
    names = [name.strip(' "') for name in text.split(",")]
    if any(name not in names for name in CSV_COLUMNS):
        raise DatasetError(
            f"expected the columns {', '.join(CSV_COLUMNS)} in {path}; "
            f"received {', '.join(names)[:200] if text else 'an empty first line'}"
        )
    return tuple(names.index(name) for name in CSV_COLUMNS)


def _chunks(file: Iterable[bytes], columns: tuple[int, ...]) -> Iterator[tuple[list, list]]:
    """Yield row numbers and rows (emotion, pixels, Usage), some at a time; the header is row 1."""
    fields = (_pick(line, columns) for line in file if line.strip())
    numbered = enumerate(fields, start=2)
    while chunk := list(islice(numbered, CSV_ROWS_AT_ONCE)):
        yield [number for number, _ in chunk], [row for _, row in chunk]


def _pick(line: bytes, columns: tuple[int, ...]) -> tuple[bytes, ...]:
    """Return the fields of a line that are asked for, empty where it is too short."""
    fields = [field.strip(b' "\r\n') for field in line.split(b",")]
    return tuple(fields[column] if column < len(fields) else b"" for column in columns)


def _parse_rows(fields: list[tuple[bytes, ...]]) -> tuple[Iterable, list[str]]:
    """Return the image of each row, None where it has none, and what is wrong with it or ""."""
    reasons = [_wrong_fields(row) for row in fields]
    pixels = _parse_pixels([row[1] for row in fields]) if not any(reasons) else None
    if pixels is not None:
        return pixels, reasons
    images = []
    for index, row in enumerate(fields):
        one = None if reasons[index] else _parse_pixels([b" ".join(row[1].split())])
        images.append(None if one is None else one[0])
        if one is None and not reasons[index]:
            reasons[index] = _wrong_pixels(row[1])
    return images, reasons


def _wrong_fields(row: tuple[bytes, ...]) -> str:
    """Return what is wrong with the label or the usage of a row, "" where nothing is."""
    code, _, usage = (field.decode(errors="replace") for field in (row[0], b"", row[2]))
    if code in map(str, range(len(FER2013_CODES))) and usage in CSV_SPLITS:
        return ""
    return (
        f"expected an emotion from 0 to 6 and a Usage among {', '.join(CSV_SPLITS)}; "
        f"received {code[:20]!r} and {usage[:20]!r}"
    )


def _wrong_pixels(text: bytes) -> str:
    """Return what is wrong with the pixels of a row."""
    values = text.decode(errors="replace").split()
    bad = [value for value in values if not _is_grey_value(value)]
    example = f", {bad[0][:20]!r} among them" if bad else ""
    return (
        f"expected {IMAGE_SIDE**2} pixels between 0 and 255; received {len(values)} values{example}"
    )


def _is_grey_value(text: str) -> bool:
    """Tell whether a text is a whole number from 0 to 255."""
    return text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= 255


def _parse_pixels(texts: list[bytes]) -> np.ndarray | None:
    """Return (rows, 48, 48) uint8 of texts with 2,304 numbers each, one space between them.

    The digits are added up for all rows at once, which is several times faster than to convert
    number by number. None where any text holds anything else.
    """
    count = IMAGE_SIDE**2
    characters = np.frombuffer(b" ".join(texts) + b" ", dtype=np.uint8)
    digits = characters - np.uint8(ord("0"))
    ends = np.flatnonzero(characters == ord(" "))
    row_ends = np.cumsum([len(text) + 1 for text in texts]) - 1
    if len(ends) != count * len(texts) or (ends[count - 1 :: count] != row_ends).any():
        return None
    lengths = np.diff(ends, prepend=-1) - 1
    if (
        lengths.min() < 1
        or lengths.max() > 3
        or np.count_nonzero(digits < 10) != digits.size - ends.size
    ):
        return None
    values = digits[ends - 1].astype(np.uint16)
    values += np.where(lengths > 1, digits[ends - 2], 0) * np.uint16(10)
    values += np.where(lengths > 2, digits[ends - 3], 0) * np.uint16(100)
    if values.max() > 255:
        return None
    return values.astype(np.uint8).reshape(len(texts), IMAGE_SIDE, IMAGE_SIDE)


def _framed_again(
    dataset: Dataset, framing: Callable, path: Path, progress: Progress | None
) -> Dataset:
    """Return a dataset with each image framed; those that cannot be are listed as unreadable."""

    def frame(index: int) -> np.ndarray | str:
        try:
            return framing(dataset.images[index])
        except ImageError as error:
            return f"{dataset.names[index]}: {error}"

    framed = _in_parallel(frame, range(len(dataset)), progress)
    found = np.array([not isinstance(image, str) for image in framed])
    if not found.any():
        raise DatasetError(f"expected images in {path}; none can be read ({framed[0]})")
    reasons = tuple(reason for reason in framed if isinstance(reason, str))
    kept = replace(dataset.where(found), unreadable=(*dataset.unreadable, *reasons))
    return replace(kept, images=np.stack([image for image in framed if not isinstance(image, str)]))
