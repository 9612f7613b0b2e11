"""Which photos are meant by a folder, a pattern or a list: each once, in an order that stays."""

import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from emotion.errors import SourceError

PHOTO_SUFFIXES = tuple(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .gif .tif .tiff .avif .heic .heif".split()
)
"""What the photos of a folder are told by; a pattern or a list may name others."""

LIST_SUFFIXES = (".txt", ".lst")

PLACES = "a folder, a pattern such as 'photos/**/*.jpg', or a list (.txt, .lst)"


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """A photo that was found.

    Attributes:
        path: where it is.
        name: what tables call it: its path below the folder, the pattern's fixed part or the list's
            folder, with "/" between parts; the whole path where a list names one outside.
        problem: why this is a folder whose photos are not known; None for every photo.
    """

    path: Path
    name: str
    problem: str | None = None

    @property
    def root(self) -> Path | None:
        """The folder in which the name begins, None where the name is the whole path."""
        if Path(self.name).is_absolute():
            return None
        return self.path.absolute().parents[len(PurePosixPath(self.name).parts) - 1]


def is_photo_list(text: str) -> bool:
    """Return whether a text names many photos: a folder, a pattern or a list."""
    return _is_folder(text) or _is_pattern(text) or _is_list(text)


def find_photos(source: str | Path, leave_out: Sequence[Path] = ()) -> list[PhotoFile]:
    """Return the photos of a folder and those below it, of a pattern or of a list, sorted by name.

    A folder gives its files with a suffix of `PHOTO_SUFFIXES`, whatever is in them; what begins
    with a dot is hidden and passed over. Links are followed; each photo is taken once.

    Args:
        source: the folder; a pattern of `glob`, where ** stands for any folders; or a text file
            with a path a line, or with NUL between paths, as `find -print0` gives.
        leave_out: folders that are not searched, such as one for annotated copies.

    Raises:
        SourceError: there is none, or the folder or list cannot be read.
    """
    text = os.fspath(source)
    if _is_folder(text):
        found = _each_once(_in_folder(Path(text), leave_out))
    elif _is_pattern(text):
        found = _each_once(_matching(text, leave_out))
    elif _is_list(text):
        found = _each_once(_listed(Path(text)))
    else:
        raise SourceError(f"expected {PLACES}; there is no {text}")
    photos = sorted(found, key=lambda photo: photo.name.split("/"))
    if not photos:
        raise SourceError(
            f"expected photos ({' '.join(PHOTO_SUFFIXES)}) in {text}; received none: name another "
            "folder, pattern or list"
        )
    return photos


def _is_folder(text: str) -> bool:
    try:
        return Path(text).is_dir()
    except OSError:
        return False  # a name that is too long, or below a folder without permission


def _is_pattern(text: str) -> bool:
    return glob.has_magic(text) and not os.path.lexists(text)


def _is_list(text: str) -> bool:
    return text.lower().endswith(LIST_SUFFIXES) and Path(text).is_file()


def _in_folder(folder: Path, leave_out: Sequence[Path]) -> Iterator[PhotoFile]:
    """Yield the photos below a folder, and the folders below it that cannot be opened."""
    problems: list[OSError] = []
    # a folder that two links lead to is searched once, and one that holds itself ends
    seen = {_identity(path) for path in leave_out}
    for place, folders, files in os.walk(folder, onerror=problems.append, followlinks=True):
        if _is_new(place, seen):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            below = Path(place).relative_to(folder).as_posix()
            start = "" if below == "." else f"{below}/"
            for name in filter(_is_photo, files):
                yield PhotoFile(Path(place, name), start + name)
        else:
            folders.clear()
    for error in problems:
        if Path(error.filename) == folder:
            raise SourceError(
                f"expected a folder that can be read; {folder} cannot ({error.strerror})"
            ) from error
        path = Path(error.filename)
        name = path.relative_to(folder).as_posix() + "/"
        yield PhotoFile(path, name, f"expected a folder that can be read; {error.strerror}")


def _is_new(place: str, seen: set) -> bool:
    """Return whether a folder was not searched yet, and remember it."""
    identity = _identity(place)
    is_new = identity not in seen
    seen.add(identity)
    return is_new


def _identity(place: str | Path) -> tuple[int, int] | str:
    """Return what tells a folder from every other."""
    try:
        status = Path(place).stat()
    except OSError:
        return str(Path(place).absolute())
    return (status.st_dev, status.st_ino)


def _is_photo(name: str) -> bool:
    return name.lower().endswith(PHOTO_SUFFIXES) and not name.startswith(".")


def _photo(path: Path, root: Path) -> PhotoFile:
    return PhotoFile(path, path.relative_to(root).as_posix())


def _matching(pattern: str, leave_out: Sequence[Path]) -> Iterator[PhotoFile]:
    """Yield the files that match; of a pattern that ends in no suffix, those of photos."""
    fixed = re.match(r"[^*?[]*", pattern)[0]
    root = Path(f"{fixed}*").parent
    outside = [path.resolve() for path in leave_out]
    takes_all = bool(Path(pattern).suffix)
    # `Path.glob` refuses patterns that begin at the root
    for match in glob.iglob(pattern, recursive=True):  # noqa: PTH207
        path = Path(match)
        if _is_folder(match) or not (takes_all or _is_photo(path.name)):
            continue
        if not any(path.resolve().is_relative_to(folder) for folder in outside):
            yield _photo(path, root)


def _listed(path: Path) -> Iterator[PhotoFile]:
    """Yield the photos of a list; paths in it begin at the list's folder."""
    folder = path.absolute().parent
    for line in _lines(path):
        place = Path(os.path.normpath(folder / line))
        if place.is_relative_to(folder):
            yield _photo(place, folder)
        else:
            yield PhotoFile(place, place.as_posix())


def _lines(path: Path) -> Iterator[str]:
    """Yield the paths of a list as the file system writes them; blank lines and # are passed over.

    Raises:
        SourceError: the list cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SourceError(
            f"expected a list of photos; {path} cannot be read ({error.strerror})"
        ) from error
    # PowerShell writes UTF-16, Notepad a mark before UTF-8
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        content = content.decode("utf-16", "replace").encode()
    content = content.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in content:
        yield from (os.fsdecode(name) for name in content.split(b"\0") if name)
        return
    for line in content.splitlines():
        if line.strip() and not line.startswith(b"#"):
            yield os.fsdecode(line)


def _each_once(photos: Iterable[PhotoFile]) -> Iterator[PhotoFile]:
    """Yield each photo once, however many links and lines lead to it: by the name of the file
    before that of a link to it, and by the shortest of several names.
    """
    photos, real_folders, seen = list(photos), {}, set()
    # `Path.is_symlink` raises where a line of a list is too long for a name
    links = {photo for photo in photos if os.path.islink(photo.path)}  # noqa: PTH114
    for photo in sorted(
        photos, key=lambda photo: (photo in links, photo.name.count("/"), photo.name)
    ):
        folder = photo.path.parent
        if folder not in real_folders:
            real_folders[folder] = Path(os.path.realpath(folder))
        identity = real_folders[folder] / photo.path.name
        if photo in links:
            identity = Path(os.path.realpath(identity))
        if identity not in seen:
            seen.add(identity)
            yield photo
