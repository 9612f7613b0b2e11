"""Which photos a folder, a pattern or a list names: each once, in an order that never changes."""

# methods of `Path` raise where a text is too long for a name
# ruff: noqa: PTH112, PTH113, PTH114, PTH118, PTH207

import functools
import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from emotion.errors import SourceError

# of photos in folders; a pattern or a list may name files with others
_SUFFIXES = ".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .avif .heic .heif"
PHOTO_SUFFIXES = tuple(_SUFFIXES.split())
LIST_SUFFIXES = (".txt", ".lst")


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """A photo that was found."""

    path: Path
    # as in tables: the path below the folder, the pattern's fixed part or the list's folder, with
    # "/" between parts; the whole path where a list names one outside
    name: str
    problem: str | None = None  # why this is a folder whose photos are not known

    @property
    def root(self) -> Path | None:
        """The folder in which the name begins, None where the name is the whole path."""
        if Path(self.name).is_absolute():
            return None
        return self.path.absolute().parents[len(PurePosixPath(self.name).parts) - 1]


def is_photo_list(text: str) -> bool:
    """True if a text names many photos: a folder, a pattern or a list."""
    return os.path.isdir(text) or _is_pattern(text) or _is_list(text)


def find_photos(source: str | Path, leave_out: Sequence[Path] = ()) -> list[PhotoFile]:
    """Return the photos of a folder and those below it, of a pattern or of a list, sorted by name.

    A folder gives its files with a suffix of `PHOTO_SUFFIXES`, whatever is in them, but not those
    that begin with a dot. In a pattern of `glob`, ** stands for any folders. A list is a text file
    with a path a line, or with NUL between paths, as `find -print0` gives. Links are followed; each
    photo is taken once; the folders to `leave_out` are not searched. Raises SourceError.
    """
    text = os.fspath(source)
    if os.path.isdir(text):
        found = _in_folder(Path(text), leave_out)
    elif _is_pattern(text):
        found = _matching(text, leave_out)
    elif _is_list(text):
        found = _listed(Path(text))
    else:
        expected = "a folder, a pattern such as 'photos/**/*.jpg', or a list (.txt, .lst)"
        raise SourceError(f"expected {expected}; there is no {text}")
    photos = sorted(_each_once(found), key=lambda photo: photo.name.split("/"))
    if not photos:
        way_out = "name another folder, pattern or list"
        raise SourceError(f"expected photos ({_SUFFIXES}) in {text}; received none: {way_out}")
    return photos


def _is_pattern(text: str) -> bool:
    return glob.has_magic(text) and not os.path.lexists(text)


def _is_list(text: str) -> bool:
    return text.lower().endswith(LIST_SUFFIXES) and os.path.isfile(text)


def _is_photo(name: str) -> bool:
    return name.lower().endswith(PHOTO_SUFFIXES) and not name.startswith(".")


def _in_folder(folder: Path, leave_out: Sequence[Path]) -> Iterator[PhotoFile]:
    """Yield the photos below a folder, and the folders below it that cannot be opened."""
    problems: list[OSError] = []
    # a folder that two links lead to is searched once, and one that holds itself ends
    seen = {os.path.realpath(path) for path in leave_out}
    for place, folders, files in os.walk(folder, onerror=problems.append, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(place).relative_to(folder).as_posix()
        start = "" if below == "." else f"{below}/"
        for name in filter(_is_photo, files):
            yield PhotoFile(Path(place, name), start + name)
    for error in problems:
        path = Path(error.filename)
        if path == folder:
            message = f"expected a folder that can be read; {folder} cannot ({error.strerror})"
            raise SourceError(message) from error
        name = path.relative_to(folder).as_posix() + "/"
        yield PhotoFile(path, name, f"expected a folder that can be read; {error.strerror}")


def _matching(pattern: str, leave_out: Sequence[Path]) -> Iterator[PhotoFile]:
    """Yield the files that match; of a pattern that ends in no suffix, only photos."""
    root = Path(re.match(r"[^*?[]*", pattern)[0] + "*").parent
    outside = [path.resolve() for path in leave_out]
    # `Path.glob` refuses patterns that begin at the root
    for match in glob.iglob(pattern, recursive=True):
        path = Path(match)
        if os.path.isdir(match) or not (Path(pattern).suffix or _is_photo(path.name)):
            continue
        if not any(path.resolve().is_relative_to(folder) for folder in outside):
            yield PhotoFile(path, path.relative_to(root).as_posix())


def _listed(path: Path) -> Iterator[PhotoFile]:
    """Yield the photos of a list; blank lines and those that begin with # are skipped."""
    try:
        content = path.read_bytes()
    except OSError as error:
        message = f"expected a list of photos; {path} cannot be read ({error.strerror})"
        raise SourceError(message) from error
    # PowerShell writes UTF-16, Notepad a mark before UTF-8
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        content = content.decode("utf-16", "replace").encode()
    content = content.removeprefix(b"\xef\xbb\xbf")
    is_plain = b"\0" not in content
    folder = path.absolute().parent
    for line in content.splitlines() if is_plain else content.split(b"\0"):
        if not line or (is_plain and (not line.strip() or line.startswith(b"#"))):
            continue
        place = Path(os.path.normpath(folder / os.fsdecode(line)))
        is_inside = place.is_relative_to(folder)
        yield PhotoFile(place, (place.relative_to(folder) if is_inside else place).as_posix())


def _each_once(photos: Iterable[PhotoFile]) -> Iterator[PhotoFile]:
    """Yield each photo once: its own name goes before a link's, then the shallowest name."""
    photos, seen, real_folder = list(photos), set(), functools.cache(os.path.realpath)
    links = {photo for photo in photos if os.path.islink(photo.path)}

    def rank(photo: PhotoFile) -> tuple[bool, int, str]:
        return photo in links, photo.name.count("/"), photo.name

    for photo in sorted(photos, key=rank):
        real = os.path.join(real_folder(photo.path.parent), photo.path.name)
        if photo in links:
            real = os.path.realpath(real)
        if real not in seen:
            seen.add(real)
            yield photo
