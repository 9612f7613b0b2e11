"""The layouts in which labelled faces come on a disk; each becomes one `Dataset`.

A layout is a folder or a .zip of `<split>/<class>/<image>` or of `<class>/<image>`, or fer2013.csv.
"""

import os
import re
import stat
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from emotion.errors import DatasetError, ImageError
from emotion.images.decoding import decode_image
from emotion.images.folders import PHOTO_SUFFIXES
from emotion.images.guards import DEFAULT_LIMITS
from emotion.training.data.dataset import Dataset, Progress
from emotion.training.data.fer2013 import read_csv
from emotion.training.data.framing import centre_square, largest_face_framing, plain_grey

FOLDER_SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
FOLDER_SPLITS |= {"validation": "validation", "val": "validation", "valid": "validation"}
FOLDER_SPLITS |= {"publictest": "test", "public_test": "test"}
FOLDER_SPLITS |= {"privatetest": "private_test", "private_test": "private_test"}
FEEDBACK_FOLDER = "feedback"
"""Folder beside the data in which the web app keeps the faces that visitors gave.

It is a dataset of its own: read only where it is named, and all of it is learned from."""

CK_PLUS_SUBJECT = r"^S\d{3}(?=_)"
"""The person in a file name of CK+ (Lucey et al. 2010): S010 in S010_004_00000017.png."""

MOST_TIMES_ITS_SIZE = 200
SMALLEST_BOMB_BYTES = 2**20
ITEMS_AT_ONCE = 16


class _Place(NamedTuple):
    """An image file: its name with forward slashes, its split and its class."""

    name: str
    split: str
    class_name: str


def resolve_dataset(path: Path) -> Path:
    """Return what a path stands for: itself, or the one dataset file in a folder.

    Raises:
        DatasetError: there is nothing at the path, or several datasets, or none of a known kind.
    """
    wanted = "expected a folder, .zip or .csv as the dataset"
    files = []
    try:
        if not path.exists():
            raise DatasetError(f"{wanted}; {path} does not exist")
        if not path.is_dir() and path.suffix.lower() not in (".zip", ".csv"):
            raise DatasetError(f"{wanted}; received {path}")
        if path.is_file():
            return path
        children = [child for child in sorted(path.iterdir()) if _is_visible(child.name)]
        if any(child.is_dir() and child.name != FEEDBACK_FOLDER for child in children):
            return path
        for child in children:
            if not child.is_file():
                continue
            if child.suffix.lower() == ".csv":  # of images, not of votes
                with child.open("rb") as file:
                    files += [child] * (b"pixels" in file.readline(1000))
            elif child.suffix.lower() == ".zip":
                files.append(child)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(files) > 1:
        raise DatasetError(
            f"expected one dataset in {path}; received {', '.join(file.name for file in files)}: "
            "give the path of one of them"
        )
    return files[0] if files else path


def _unreadable(path: Path, error: OSError) -> DatasetError:
    return DatasetError(f"expected a dataset that can be read; {path}: {error.strerror or error}")


def _is_visible(name: str) -> bool:
    """Return whether a file or folder is neither hidden nor what macOS adds to a zip."""
    return not name.startswith(".") and name != "__MACOSX"


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
    framing = largest_face_framing() if crop_faces else centre_square
    try:
        if path.is_dir():
            names, skipped = _names_below(path)
            dataset = _read_images(
                path, names, lambda name: _read_file(path / name), framing, skipped, progress
            )
        elif path.suffix.lower() == ".zip":
            dataset = _read_zip(path, framing, progress)
        else:
            dataset = read_csv(path)
            dataset = _framed_again(dataset, framing, path, progress) if crop_faces else dataset
    except OSError as error:
        raise _unreadable(path, error) from error
    return replace(dataset, groups=_find_subjects(dataset.names, subject_pattern))


def _find_subjects(names: np.ndarray, pattern: str) -> np.ndarray:
    """Return the person in each file name, "" where it tells none."""
    files = [name.rpartition("/")[2] for name in names]
    for wanted in filter(None, (pattern, CK_PLUS_SUBJECT)):
        found = [re.search(wanted, file) for file in files]
        if any(found):
            # the first group that took part, or all of the match where the pattern has none
            people = [next(filter(None, (*m.groups(), m[0]))) if m else "" for m in found]
            return np.array(people)
    return np.full(len(names), "", dtype="U1")


def _names_below(root: Path) -> tuple[list[str], list[str]]:
    """Return the names of all visible files below a folder, and what could not be looked into."""
    names, skipped = [], []

    def skip(error: OSError) -> None:
        skipped.append(f"{Path(error.filename).relative_to(root).as_posix()}: {error.strerror}")

    def leads_back(folder: Path) -> bool:  # a link to a folder that it lies in would never end
        above = folder.resolve() if folder.is_symlink() else None
        return above and any(parent.resolve().is_relative_to(above) for parent in folder.parents)

    for folder, folders, files in os.walk(root, onerror=skip, followlinks=True):
        here = Path(folder)
        folders[:] = [
            name
            for name in folders
            if _is_visible(name)
            and not leads_back(here / name)
            and not (here == root and name == FEEDBACK_FOLDER)
        ]
        before = "" if here == root else f"{here.relative_to(root).as_posix()}/"
        names += [before + name for name in files if not name.startswith(".")]
    return sorted(names), skipped


def _read_file(path: Path) -> bytes:
    """Return the bytes of a regular file within the limits of an image.

    Raises:
        ImageError: it is no regular file, too large, or cannot be read.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("expected an image file; received something that is not a file")
        _check_bytes(status.st_size)
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"expected a readable file; {error.strerror or error}") from error


def _check_bytes(size: int) -> None:
    """Refuse an image file by its size before it is read."""
    if size > DEFAULT_LIMITS.max_bytes:
        allowed = f"{DEFAULT_LIMITS.max_bytes / 2**20:g} MB"
        raise ImageError(f"expected a file of at most {allowed}; received {size / 2**20:.1f} MB")


def _read_zip(path: Path, framing: Callable, progress: Progress | None) -> Dataset:
    """Read the images inside a .zip; nothing is ever extracted to the disk."""
    try:
        opened = zipfile.ZipFile(path)
    except OSError:
        raise
    except Exception as error:
        # A damaged directory makes zipfile raise almost any kind.
        raise DatasetError(f"expected a readable .zip; {path} is damaged ({error})") from error
    with opened as archive:
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
        return _read_images(
            path,
            sorted(entries),
            lambda name: _read_entry(archive, entries[name]),
            framing,
            skipped,
            progress,
        )


def _read_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Return the bytes of one file of a zip.

    Raises:
        ImageError: the file is damaged, too large, or swells out of proportion.
    """
    _check_bytes(entry.file_size)
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


def _read_images(
    source: Path,
    names: list[str],
    read: Callable[[str], bytes],
    framing: Callable[[np.ndarray], np.ndarray],
    skipped: list[str],
    progress: Progress | None,
) -> Dataset:
    """Decode every image that lies in a class folder, in parallel.

    Args:
        source: what the names belong to, for messages.
        names: paths with forward slashes; other folders may stand before the split or the class.
        read: from a name to the bytes of its file.
        framing: from an upright photo to the (48, 48) that is learned from.
        skipped: what was left out before, each with its reason.
        progress: called with the images done and the images there are.
    """
    places, notes = _find_places(names)
    if not places:
        raise DatasetError(
            "expected train/<class>/<image> and test/<class>/<image>, or <class>/<image>, in "
            f"{source}; received no image in such a place ({len(names)} files seen); "
            "dataset/README.md says what goes there"
        )

    def decode(place: _Place) -> tuple[np.ndarray, tuple[int, int]] | str:
        """Return the grey image and the first size of a file, or why there is none."""
        try:
            content = read(place.name)
            photo = plain_grey(content)
            photo = decode_image(content) if photo is None else photo
            return framing(photo), (photo.shape[1], photo.shape[0])
        except ImageError as error:
            return str(error)

    pairs = list(zip(places, _in_parallel(decode, places, progress), strict=True))
    failed = [f"{place.name}: {got}" for place, got in pairs if isinstance(got, str)]
    kept = [(place, *got) for place, got in pairs if not isinstance(got, str)]
    if not kept:
        raise DatasetError(f"expected images in {source}; none can be read ({failed[-1]})")
    class_names = tuple(sorted({place.class_name for place, _, _ in kept}))
    return Dataset(
        images=np.stack([image for _, image, _ in kept]),
        labels=np.array([class_names.index(place.class_name) for place, _, _ in kept], np.int64),
        splits=np.array([place.split for place, _, _ in kept], dtype="U16"),
        class_names=class_names,
        unreadable=(*skipped, *failed),
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
    parts_of = {
        name: name.split("/")
        for name in names
        if name.lower().endswith(PHOTO_SUFFIXES)
        and all(_is_visible(part) or part == "." for part in name.split("/"))
    }
    splits = {
        name: FOLDER_SPLITS.get(parts[-3].lower())
        for name, parts in parts_of.items()
        if len(parts) > 2
    }
    splits, expected = {name: split for name, split in splits.items() if split}, "<split>/"
    depths = Counter(len(parts) for parts in parts_of.values() if len(parts) > 1)
    if not splits and depths:  # class folders alone: those as deep as most images lie
        usual = max(depths, key=lambda depth: (depths[depth], depth))
        splits = {name: "" for name, parts in parts_of.items() if len(parts) == usual}
        expected = ""
    places = [_Place(name, split, parts_of[name][-2].lower()) for name, split in splits.items()]
    outside = [name for name in parts_of if name not in splits]
    if not outside:
        return places, ()
    count = f"{len(outside):,} image" + ("s that do" if len(outside) > 1 else " that does")
    expected += "<class>/<image>"
    return places, (f"Left out {count} not lie as {expected}, such as {outside[0]}",)


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
