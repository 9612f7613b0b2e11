"""The layouts in which labelled faces come on a disk; each becomes one `Dataset`.

A layout is a folder or a .zip of `<split>/<class>/<image>` or of `<class>/<image>`, or fer2013.csv,
which may be in a .zip, too.
"""

import os
import re
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from tqdm import tqdm

from emotion.detection.crop import CROP_MARGIN, square_crop
from emotion.detection.haar import FaceDetector
from emotion.errors import DatasetError, ImageError
from emotion.images.decoding import decode_image
from emotion.images.folders import PHOTO_SUFFIXES
from emotion.images.guards import DEFAULT_LIMITS
from emotion.labels import EMOTIONS, FER2013_CODES, RAF_DB_CODES, common_name
from emotion.text import counted, printable
from emotion.training.data.dataset import IMAGE_SIDE, Dataset

FOLDER_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid"), "validation"),
    **dict.fromkeys(("test", "testing", "publictest", "public_test"), "test"),
    **dict.fromkeys(("privatetest", "private_test"), "private_test"),
}
CSV_SPLITS = {"Training": "train", "PublicTest": "test", "PrivateTest": "private_test"}
CSV_COLUMNS = ("emotion", "pixels", "Usage")  # the last may be missing: then it brings no split
NUMBERED_FOLDERS = {  # dataset -> number -> class
    "FER2013": {str(code): name for code, name in enumerate(FER2013_CODES)},
    "RAF-DB": {str(code): name for code, name in enumerate(RAF_DB_CODES, start=1)},
}
LABELS = {str(code): EMOTIONS.index(name) for code, name in enumerate(FER2013_CODES)}
GREY_VALUES = {str(value) for value in range(256)}
# The web app keeps the faces that visitors gave in this folder beside the data. It is a dataset of
# its own: read only where it is named, and all of it is learned from.
FEEDBACK_FOLDER = "feedback"
CK_PLUS_SUBJECT = r"^S\d{3}(?=_)"  # S010 in S010_004_00000017.png (CK+, Lucey et al. 2010)
MOST_TIMES_ITS_SIZE = 200
MOST_ROW_BYTES = 2**20  # a row of fer2013.csv has about 9,000
ITEMS_AT_ONCE = 16  # for a thread, as most are done in 0.1 ms

# The names of the files, a function from a name to its bytes, and what was skipped with its reason
_Files = tuple[list[str], Callable[[str], bytes], list[str]]


def resolve_dataset(path: Path) -> Path:
    """Return what a path stands for: itself, or the one .zip or .csv of images in a folder."""
    if path.is_file() and path.suffix.lower() in (".zip", ".csv"):
        return path
    if not path.is_dir():
        received = "is something else" if path.exists() else "does not exist"
        raise DatasetError(f"expected a folder, .zip or .csv as the dataset; {path} {received}")
    children = [child for child in sorted(path.iterdir()) if _is_visible(child.name)]
    if any(child.is_dir() and child.name != FEEDBACK_FOLDER for child in children):
        return path
    files = []
    for child in filter(Path.is_file, children):
        with child.open("rb") as opened:  # a csv of images, not of votes
            is_images = child.suffix.lower() == ".csv" and b"pixels" in opened.readline(1000)
        files += [child] * (is_images or child.suffix.lower() == ".zip")
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise DatasetError(f"expected one dataset in {path}; received {names}: name one of them")
    return files[0] if files else path


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"  # which macOS adds to a zip


def read_layout(path: Path, crop_faces=False, subject_pattern="") -> Dataset:
    """Read a folder, a .zip or a .csv; DatasetError where that is damaged, empty or no such layout.

    `crop_faces` takes each image's largest face as the app does, not the square in its middle.
    `subject_pattern` is a regular expression for the person in a file name, its first group if it
    has one; where it is empty or matches nothing, that of CK+ is tried.
    """
    detector = FaceDetector() if crop_faces else None
    if path.is_dir():
        dataset = _read_images(path, _files_below(path), detector)
    elif path.suffix.lower() == ".zip":
        with _open_zip(path) as (files, open_entry):
            if table := _find_csv(path, files[0], open_entry):
                dataset = _read_csv(path / table, partial(open_entry, table), detector)
            else:
                dataset = _read_images(path, files, detector)
    else:
        dataset = _read_csv(path, partial(path.open, "rb"), detector)
    return replace(dataset, groups=_find_subjects(dataset.names, subject_pattern))


def names_below(root: Path) -> tuple[list[str], list[str]]:
    """Return the names of all visible files below a folder, and what could not be looked into."""
    names, errors = [], []

    def is_entered(folder: Path) -> bool:
        if not _is_visible(folder.name) or folder == root / FEEDBACK_FOLDER:
            return False
        if not folder.is_symlink():
            return True
        above = folder.resolve()  # a link to a folder that it lies in would never end
        return not any(parent.resolve().is_relative_to(above) for parent in folder.parents)

    for folder, folders, files in os.walk(root, onerror=errors.append, followlinks=True):
        folders[:] = [name for name in folders if is_entered(Path(folder, name))]
        before = Path(folder).relative_to(root).as_posix() + "/"
        names += [before + name for name in files if not name.startswith(".")]
    skipped = [f"{Path(e.filename).relative_to(root).as_posix()}: {e.strerror}" for e in errors]
    return sorted(name.removeprefix("./") for name in names), skipped


def _files_below(root: Path) -> _Files:
    def read(name: str) -> bytes:
        try:
            status = (root / name).stat()
            if not stat.S_ISREG(status.st_mode):
                raise ImageError("expected an image file; received something that is not a file")
            _check_bytes(status.st_size)
            return (root / name).read_bytes()
        except OSError as error:
            raise ImageError(f"expected a readable file; {error.strerror or error}") from error

    names, skipped = names_below(root)
    return names, read, skipped


@contextmanager
def _open_zip(path: Path) -> Iterator[tuple[_Files, Callable[[str], IO[bytes]]]]:
    """Open a .zip and give what opens a file in it; nothing is ever extracted to the disk."""
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # a damaged directory makes zipfile raise almost any kind
        raise DatasetError(f"expected a .zip; {path} is damaged or no .zip ({error})") from error
    with archive:
        entries, skipped = {}, []
        for entry in archive.infolist():
            name = entry.filename.replace("\\", "/")
            if entry.is_dir():
                continue
            if name.startswith("/") or ".." in name.split("/") or re.match("[A-Za-z]:", name):
                skipped.append(f"{name}: expected a name inside the zip; it climbs out")
            else:
                entries[name] = entry
        if any(entry.flag_bits & 1 for entry in entries.values()):
            raise DatasetError(f"expected a .zip without a password; {path} is encrypted")

        def read(name: str) -> bytes:
            before, after = entries[name].compress_size, entries[name].file_size
            _check_bytes(after)
            if after > max(2**20, MOST_TIMES_ITS_SIZE * before):
                raise ImageError(f"expected a photo; {before:,} bytes of it become {after:,}")
            try:
                return archive.read(entries[name])
            except Exception as error:  # zipfile, zlib, bz2 and lzma raise kinds of their own
                raise ImageError(f"expected a whole file; it is damaged ({error})") from error

        try:
            yield (sorted(entries), read, skipped), lambda name: archive.open(entries[name])
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DatasetError(f"expected a whole .zip; {path} is damaged ({error})") from error


def _check_bytes(size: int) -> None:
    if size > DEFAULT_LIMITS.max_bytes:
        allowed = f"{DEFAULT_LIMITS.max_bytes / 2**20:g} MB"
        raise ImageError(f"expected a file of at most {allowed}; received {size / 2**20:.1f} MB")


def _read_images(source: Path, files: _Files, detector: FaceDetector | None) -> Dataset:
    names, read, skipped = files
    splits, notes = _find_splits(names)
    if not splits:
        raise DatasetError(
            f"expected train/<class>/<image> or <class>/<image> in {source}; received no image in "
            f"such a place among {len(names)} files: dataset/README.md says what goes there"
        )

    def decode(name: str) -> tuple[np.ndarray, tuple[int, int]]:
        photo = decode_image(read(name))
        return _frame(photo, detector), (photo.shape[1], photo.shape[0])

    decoded, found, failed = _try_each(decode, list(splits), source)
    images, sizes_wh = zip(*decoded, strict=True)
    kept = np.array(list(splits))[found]
    folders = [printable(name.split("/")[-2].lower()) for name in kept]
    class_of, note = _name_classes(set(folders))
    class_names, labels = np.unique([class_of[name] for name in folders], return_inverse=True)
    return Dataset(
        images=np.stack(images),
        labels=labels.astype(np.int64),
        splits=np.array(list(splits.values()), dtype="U16")[found],
        class_names=tuple(class_names.tolist()),
        unreadable=(*skipped, *failed),
        names=kept,
        sizes_wh=np.array(sizes_wh, dtype=np.int32),
        notes=(*notes, *filter(None, [note])),
    )


def _name_classes(folders: set[str]) -> tuple[dict[str, str], str]:
    """Return the class of each folder, where numbers get names and synonyms one, and a note."""
    for dataset, names in NUMBERED_FOLDERS.items():
        if folders == set(names):
            meant = ", ".join(map(" ".join, names.items()))
            return names, f"Numbers read as in {dataset} ({meant}): rename folders that differ"
    common = {name: common_name(name) for name in folders}
    count = Counter(common.values())
    same = sorted(name for name in folders if count[common[name]] > 1)
    note = f"Folders that mean the same are one class: {', '.join(same)}" if same else ""
    if all(map(str.isdecimal, folders)):
        note = "The classes have numbers for names: rename the folders to what the faces show"
    return {name: common[name] if name in same else name for name in folders}, note


def _find_csv(path: Path, names: list[str], open_entry: Callable[[str], IO[bytes]]) -> str:
    """Return the csv of images in a .zip without image files, rather one with a Usage, or ""."""
    with_images = any(name.lower().endswith(PHOTO_SUFFIXES) for name in names)
    heads = {}
    for name in names if not with_images else ():
        if name.lower().endswith(".csv") and all(map(_is_visible, name.split("/"))):
            with open_entry(name) as file:
                heads[name] = _read_head(file)
    tables = [name for name, head in heads.items() if {*CSV_COLUMNS[:2]}.issubset(head)]
    tables = [name for name in tables if CSV_COLUMNS[2] in heads[name]] or tables
    if len(tables) > 1:
        received = f"received {', '.join(tables)}: unpack it and name one"
        raise DatasetError(f"expected one csv of images in {path}; {received}")
    return tables[0] if tables else ""


def _read_head(file: IO[bytes]) -> list[str]:
    header = file.readline(10_000).decode("utf-8-sig", errors="replace").strip()
    return [name.strip(' "') for name in header.split(",")]


def _read_csv(
    path: Path, open_csv: Callable[[], IO[bytes]], detector: FaceDetector | None
) -> Dataset:
    """Read fer2013.csv (Goodfellow et al. 2013); bad rows are skipped, but not all of them."""
    found, unreadable = [], []
    with open_csv() as file:
        head = _read_head(file)
        if not {*CSV_COLUMNS[:2]}.issubset(head):
            raise DatasetError(
                f"expected the columns {', '.join(CSV_COLUMNS)} in {path}; "
                f"received {', '.join(head)[:200] or 'an empty first line'}"
            )
        split_of = CSV_SPLITS if CSV_COLUMNS[2] in head else {"": ""}
        columns = [head.index(name) if name in head else len(head) for name in CSV_COLUMNS]
        lines = iter(partial(file.readline, MOST_ROW_BYTES), b"")
        for number, line in enumerate(filter(bytes.strip, lines), start=2):
            if len(line) == MOST_ROW_BYTES:
                most = f"expected rows of less than {MOST_ROW_BYTES:,} bytes"
                raise DatasetError(f"{most}; row {number} of {path} has more")
            fields = [field.strip(b' "\r\n') for field in line.split(b",")]
            code, pixels, usage = (fields[c] if c < len(fields) else b"" for c in columns)
            code, usage = code.decode(errors="replace"), usage.decode(errors="replace")
            name = f"{path.name} row {number}"
            try:
                image = np.fromstring(pixels, np.int64, sep=" ")
            except ValueError:
                image = np.empty(0)
            is_image = image.size == IMAGE_SIDE**2 and image.min() >= 0 and image.max() <= 255
            if is_image and code in LABELS and usage in split_of:
                image = image.astype(np.uint8).reshape(IMAGE_SIDE, IMAGE_SIDE)
                found.append((image, LABELS[code], split_of[usage], name))
                continue
            values = pixels.decode(errors="replace").split()
            bad = [value for value in values if value not in GREY_VALUES]
            example = f", {bad[0][:20]!r} among them," if bad else ""
            unreadable.append(
                f"{name}: expected an emotion from 0 to 6, {IMAGE_SIDE**2} pixels from 0 to 255, "
                f"and a Usage among {', '.join(CSV_SPLITS)}; received {code[:20]!r}, "
                f"{len(values)} values{example} and {usage[:20]!r}"
            )
    if not found:
        reason = f"none can be used ({unreadable[0]})" if unreadable else "there is only a header"
        raise DatasetError(f"expected rows of pixels in {path}; {reason}")
    images, labels, splits, names = zip(*found, strict=True)
    dataset = Dataset(
        images=np.stack(images),
        labels=np.array(labels, dtype=np.int64),
        splits=np.array(splits, dtype="U16"),
        class_names=EMOTIONS,
        unreadable=tuple(unreadable),
        names=np.array(names),
        sizes_wh=np.full((len(names), 2), IMAGE_SIDE, dtype=np.int32),
    )
    if not detector:
        return dataset
    faces = dict(zip(names, images, strict=True))
    images, kept, failed = _try_each(lambda name: _frame(faces[name], detector), names, path)
    dataset = replace(dataset, unreadable=(*unreadable, *failed))
    return replace(dataset.where(kept), images=np.stack(images))


def _frame(photo: np.ndarray, detector: FaceDetector | None) -> np.ndarray:
    """Return the largest face, or without a detector the square in the middle, (48, 48) uint8."""
    if detector is None:
        height, width = photo.shape[:2]
        side = min(height, width)
        box = ((width - side) / 2, (height - side) / 2, side, side)
        return square_crop(photo, box, 0.0, IMAGE_SIDE)
    rgb = photo if photo.ndim == 3 else cv2.cvtColor(photo, cv2.COLOR_GRAY2RGB)
    boxes = [detection.box_xywh for detection in detector.detect(rgb)]
    if not boxes:
        raise ImageError("expected a face; none was found")
    box = max(boxes, key=lambda box: box[2] * box[3])
    return square_crop(photo, box, CROP_MARGIN, IMAGE_SIDE)


def _find_splits(names: list[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the split of each image of the dataset, and a note about images that lie elsewhere."""
    parts_of = {
        name: name.split("/")
        for name in names
        if name.lower().endswith(PHOTO_SUFFIXES)
        and all(_is_visible(part) or part == "." for part in name.split("/"))
    }
    expected = "<split>/<class>/<image>"
    splits = {
        name: FOLDER_SPLITS[parts[-3].lower()]
        for name, parts in parts_of.items()
        if len(parts) > 2 and parts[-3].lower() in FOLDER_SPLITS
    }
    depths = Counter(len(parts) for parts in parts_of.values() if len(parts) > 1)
    if not splits and depths:  # class folders alone: those as deep as most images lie
        usual = max(depths, key=lambda depth: (depths[depth], depth))
        splits = {name: "" for name, parts in parts_of.items() if len(parts) == usual}
        expected = "<class>/<image>"
    outside = [name for name in parts_of if name not in splits]
    if not outside:
        return splits, ()
    count = counted(len(outside), "image that does", "images that do")
    return splits, (f"Left out {count} not lie as {expected}, such as {printable(outside[0])}",)


def _try_each(
    work: Callable[[str], object], names: Sequence[str], source: Path
) -> tuple[list, np.ndarray, list[str]]:
    """Return `work` of each name that does not raise ImageError, which these are, (N,) bool, and a
    line for each that does; DatasetError if all do.
    """

    def attempt(start: int) -> list:
        outcomes = []
        for name in names[start : start + ITEMS_AT_ONCE]:
            try:
                outcomes.append(work(name))
            except ImageError as error:
                outcomes.append(f"{name}: {error}")
        return outcomes

    outcomes, how = [], {"unit": " images", "leave": False, "disable": None}  # on a terminal alone
    with ThreadPoolExecutor() as executor, tqdm(total=len(names), **how) as bar:
        for done in executor.map(attempt, range(0, len(names), ITEMS_AT_ONCE)):
            outcomes += done
            bar.update(len(done))
    found = np.array([not isinstance(outcome, str) for outcome in outcomes])
    if not found.any():
        raise DatasetError(f"expected images in {source}; none can be read ({outcomes[-1]})")
    failed = [outcome for outcome in outcomes if isinstance(outcome, str)]
    return [outcome for outcome in outcomes if not isinstance(outcome, str)], found, failed


def _find_subjects(names: np.ndarray, pattern: str) -> np.ndarray:
    """Return the person in each file name, "" where it tells none."""
    files = [name.rpartition("/")[2] for name in names]
    for wanted in filter(None, (pattern, CK_PLUS_SUBJECT)):
        found = [re.search(wanted, file) for file in files]
        if any(found):
            # the first group that took part, or all of the match where the pattern has none
            return np.array([next(filter(None, (*m.groups(), m[0]))) if m else "" for m in found])
    return np.full(len(names), "", dtype="U1")
