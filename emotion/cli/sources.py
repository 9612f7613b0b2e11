"""What a person names as a source: a camera, a stream, a video, a photo or many photos."""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from emotion.errors import ImageError, ImageTypeError, SourceError
from emotion.files import user_path
from emotion.images.decoding import Photo
from emotion.images.folders import LIST_SUFFIXES, PhotoFile, find_photos, is_photo_list
from emotion.images.sources import open_photo
from emotion.text import counted
from emotion.video.decoding import stream_name
from emotion.video.reading import VIDEO_SUFFIXES, frames, open_video

# a .gif may be a photo: one by itself is looked into, and in a folder it is a photo
MOVING_SUFFIXES = tuple(suffix for suffix in VIDEO_SUFFIXES if suffix != ".gif")
HIGHEST_CAMERA = 99  # OpenCV reads larger numbers as the code of a driver
SEVERAL = "expected one camera, stream or video, or else photos alone"
EXPECTED = (
    f"expected a camera (0 to {HIGHEST_CAMERA}), a video, a stream (rtsp://...), a photo, or a "
    "folder, pattern or list of photos"
)


@dataclass(frozen=True)
class VideoSource:
    """Moving pictures."""

    target: int | str | Path  # a camera's number, a stream's URL or a file's path

    @property
    def is_camera(self) -> bool:
        return isinstance(self.target, int)

    @property
    def is_live(self) -> bool:
        """True if it comes as it happens and has no end of its own."""
        return not isinstance(self.target, Path)


@dataclass(frozen=True)
class PhotoSource:
    """One photo: where it is, and its picture."""

    path: Path
    photo: Photo


@dataclass(frozen=True)
class PhotosSource:
    """Many photos, and what is to be said of what was left out."""

    files: tuple[PhotoFile, ...]
    notes: tuple[str, ...] = ()


Source = VideoSource | PhotoSource | PhotosSource


def find_source(texts: Sequence[str], leave_out: Sequence[Path] = ()) -> Source:
    """Return what one text names, or the photos that several name together.

    A list may follow an @. No photos are looked for in the folders to `leave_out`. Raises
    SourceError where a text names nothing that can be read, or several do not go together.
    """
    if len(texts) == 1:
        return _one(texts[0], leave_out)
    files, notes = {}, []
    for text in texts:
        path = user_path(text)
        if not path.is_file() or is_photo_list(str(path)):
            source = _one(text, leave_out)
        elif path.suffix.lower() in MOVING_SUFFIXES:
            source = PhotosSource((), (_left_out(text, 1),))
        else:  # a photo is not opened yet
            source = PhotosSource((PhotoFile(path, path.name),))
        if not isinstance(source, PhotosSource):
            raise SourceError(f"{SEVERAL}; received {text} among them")
        notes += source.notes
        for file in source.files:
            # a file and links to it are one photo
            files.setdefault(os.path.realpath(file.path), file)
    if not files:
        raise SourceError(f"{SEVERAL}; received several videos")
    # names begin in the one folder that holds all; where that is the root, they are whole paths
    places = [file.path.parent.resolve() / file.path.name for file in files.values()]
    root = Path(os.path.commonpath([place.parent for place in places]))
    is_shared = root != root.parent
    named = (
        replace(file, path=place, name=(place.relative_to(root) if is_shared else place).as_posix())
        for place, file in zip(places, files.values(), strict=True)
    )
    return PhotosSource(tuple(named), tuple(notes))


def _one(text: str, leave_out: Sequence[Path]) -> Source:
    """Return what one text names."""
    if text.isascii() and text.isdigit():
        if int(text) > HIGHEST_CAMERA:
            raise SourceError(f"{EXPECTED}; received {text} (a file is ./{text})")
        return VideoSource(int(text))
    if "://" in text:
        stream_name(text)  # raises SourceError where it is none
        return VideoSource(text)
    path = user_path(text)
    if text.startswith("@") and not path.exists():
        path = user_path(text[1:])
        if path.suffix.lower() not in LIST_SUFFIXES or not path.is_file():
            expected = ", ".join(LIST_SUFFIXES)
            raise SourceError(f"expected a list ({expected}) after @; received {text[1:]}")
    if text.strip() and is_photo_list(str(path)):
        return _photos(path, leave_out)
    if not path.is_file():
        raise SourceError(f"{EXPECTED}; there is no file {text or 'without a name'}")
    suffix = path.suffix.lower()
    if suffix in MOVING_SUFFIXES or (suffix in VIDEO_SUFFIXES and _is_video(path)):
        return VideoSource(path)
    try:
        return PhotoSource(path, open_photo(path))
    except ImageError as error:
        is_unknown = isinstance(error, ImageTypeError)
        if is_unknown and _is_video(path):
            return VideoSource(path)
        words = f"expected a photo or a video; {path} is neither" if is_unknown else path
        raise SourceError(f"{words}: {error}") from error


def _is_video(path: Path) -> bool:
    """True if a file of unknown suffix is a video; a picture is not, nor a video of one frame."""
    try:
        with open_video(path) as video:
            return len(list(itertools.islice(frames(video), 2))) == 2
    except SourceError:
        return False


def _photos(place: Path, leave_out: Sequence[Path]) -> PhotosSource:
    """Return the photos of a folder, a pattern or a list, and say which videos were left out."""
    videos = sum(
        name.lower().endswith(MOVING_SUFFIXES) and not name.startswith(".")
        for _, _, names in os.walk(place)  # nothing where it is no folder
        for name in names
    )
    try:
        found = find_photos(place, leave_out)
    except SourceError:
        if not videos:
            raise
        found = []
    files = tuple(file for file in found if file.path.suffix.lower() not in MOVING_SUFFIXES)
    videos += len(found) - len(files)
    if not files:
        raise SourceError(f"expected photos; {_left_out(place, videos)}, and there is no photo")
    return PhotosSource(files, (_left_out(place, videos),) if videos else ())


def _left_out(place: str | Path, count: int) -> str:
    videos = counted(count, "video")
    return f"{videos} in {place} left out: a video is a --source of its own"
