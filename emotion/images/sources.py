"""Whatever may hold a photo in Python (path, bytes, file, array, Pillow image) -> `Photo`."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt
from PIL import Image

from emotion.errors import ImageDimensionsError, ImageError
from emotion.images import decoding
from emotion.images.decoding import ENOUGH_PIXELS, Photo
from emotion.images.guards import DEFAULT_LIMITS, ImageLimits

EXPECTED = "expected a path, the bytes of an image file, a binary file, an array or a Pillow image"
_URL = re.compile(r"[a-z][a-z0-9+.-]+://|data:", re.IGNORECASE)  # one letter would be a drive

# what `Recognizer.recognize` takes for one photo
_Path: TypeAlias = str | os.PathLike[str]
_Bytes: TypeAlias = bytes | bytearray | memoryview
PhotoLike: TypeAlias = _Path | _Bytes | IO[bytes] | npt.NDArray[Any] | Image.Image | Photo

_SINGLE = (str, bytes, bytearray, memoryview, os.PathLike, np.ndarray, Image.Image, Photo)


def holds_many(images: object) -> TypeGuard[Iterable[Any]]:
    """True for a list, a tuple, an iterator... of photos, false for one photo."""
    # a table such as a tensor is one photo, although it can be iterated over by rows
    is_table = getattr(images, "ndim", 1) > 1
    is_one = isinstance(images, _SINGLE) or hasattr(images, "read") or is_table
    return isinstance(images, Iterable) and not is_one


def check_many(images: object) -> None:
    """Refuse one photo where many are expected; its bytes, lines or rows are no photos."""
    is_stack = isinstance(images, np.ndarray) and images.ndim == 4
    if not is_stack and not holds_many(images):
        expected = "expected a list, tuple or iterator of photos, or an array (N, H, W, 3)"
        raise ImageError(f"{expected}; received one {type(images).__name__}: give it to recognize")


def open_photo(image: PhotoLike, limits: ImageLimits = DEFAULT_LIMITS) -> Photo:
    """Return what holds a photo as an upright RGB photo. Raises ImageError.

    That is a path; the bytes of an image file; an open binary file, read from where it stands to
    its end; an array (H, W, 3) or (H, W, 4) in RGB order, or (H, W) grey, uint8 from 0 to 255 or
    float from 0 to 1, of any size, as it is decoded already; or a Pillow image.
    """
    if isinstance(image, Photo):
        return image
    if isinstance(image, np.ndarray):
        pixels = _rgb_from_array(image)
        return Photo(pixels, pixels.shape[1::-1])
    if isinstance(image, Image.Image):
        return decoding.photo_from_pillow(image, limits)
    if isinstance(image, str | os.PathLike):
        content = decoding.read_content(_absolute(image), limits)
    else:
        content = _content_of(image, limits)
    return decoding.decode_photo(content, limits, ENOUGH_PIXELS)


def name_of(image: object) -> str | None:
    """Return what a photo is called: its path as given, a file's name, or None."""
    if isinstance(image, str | os.PathLike):
        return os.fsdecode(image)
    # Pillow says `filename`; files say `name`, which is a number where they were opened by one
    name = getattr(image, "filename", None) or getattr(image, "name", None)
    return os.fsdecode(name) if isinstance(name, str | os.PathLike) and name else None


def lasting(image: PhotoLike) -> PhotoLike:
    """Return what `open_photo` can open again and again: of an open file, its bytes."""
    if isinstance(image, str | os.PathLike):
        return _absolute(image)
    return _content_of(image, DEFAULT_LIMITS) if hasattr(image, "read") else image


def _rgb_from_array(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    pixels = array[..., None] if array.ndim == 2 else array
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
        way_out = ""
        if array.ndim in (1, 4):
            way_out = ": give list(array) for several photos"
        elif array.ndim == 3 and array.shape[0] in (1, 3, 4):
            way_out = ": give np.moveaxis(array, 0, -1)"
        raise ImageError(
            "expected an array of shape (height, width), (height, width, 3) or (height, width, 4); "
            f"received {array.shape}{way_out}"
        )
    height, width, channels = pixels.shape
    if min(height, width) < DEFAULT_LIMITS.min_side:
        expected = f"expected an array of at least {DEFAULT_LIMITS.min_side} pixels a side"
        raise ImageDimensionsError(f"{expected}; received {width}x{height}")
    if pixels.dtype.kind == "f":
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= 0 and high <= 1):  # true of not-a-number too
            raise ImageError(
                "expected floats from 0 to 1; "
                f"received {low:g} to {high:g}: give array.astype(np.uint8) if they go to 255"
            )
        # float32 is exact enough for 256 steps, and half as large
        pixels = np.rint(pixels.astype(np.float32) * 255).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        raise ImageError(
            "expected an array of type uint8 (0 to 255) or float (0 to 1); "
            f"received {pixels.dtype}: scale it to 0 to 255 and give array.astype(np.uint8)"
        )
    if channels == 3:
        return np.ascontiguousarray(pixels)
    if channels == 1:
        return np.repeat(pixels, 3, axis=2)
    alpha = pixels[..., 3:].astype(np.float32) / 255
    return np.rint(pixels[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


def _absolute(image: _Path) -> Path:
    """Return a path that leads there from another working directory too."""
    text = os.fsdecode(image)
    if _URL.match(text):
        raise ImageError(f"{EXPECTED}; received the address {text[:80]}: download it first")
    path = Path(text).absolute()
    if path.is_dir():
        example = f"list(Path({text!r}).glob('*.jpg'))"
        raise ImageError(f"{EXPECTED}; received the folder {text}: give its files, {example}")
    return path


def _content_of(image: Any, limits: ImageLimits) -> bytes:
    """Return the bytes of an image file; of an open file, at most one byte more than allowed."""
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if not callable(getattr(image, "read", None)):
        way_out = ": give np.asarray(...) of it" if hasattr(image, "__array__") else ""
        raise ImageError(f"{EXPECTED}; received {type(image).__name__}{way_out}")
    content, missing = [], limits.max_bytes + 1
    try:
        # unbuffered files give less at a time than they are asked for
        while missing > 0 and (part := image.read(missing)):
            if not isinstance(part, bytes):
                received = f"one that gives {type(part).__name__}"
                raise ImageError(f"expected a file opened with mode 'rb'; received {received}")
            content.append(part)
            missing -= len(part)
    except (OSError, ValueError) as error:
        raise ImageError(f"expected a readable file; received one that fails: {error}") from error
    return b"".join(content)
