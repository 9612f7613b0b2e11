"""RGB arrays -> JPEG, PNG and WebP, as bytes and as whole files, without metadata."""

import uuid
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from emotion.errors import ImageError, ImageTypeError


def encode_jpeg(image: np.ndarray, quality: int = 90) -> bytes:
    """Encode an RGB array of shape (height, width, 3) as JPEG without any metadata.

    Args:
        image: uint8 RGB array of shape (height, width, 3).
        quality: 1 (smallest file) to 95 (best picture).
    """
    return _encode(image, "JPEG", quality=quality)


def encode_png(image: np.ndarray) -> bytes:
    """Encode an RGB array of shape (height, width, 3) as PNG, lossless, without any metadata."""
    return _encode(image, "PNG")


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an RGB array to a file of the type its suffix names, whole or not at all.

    Args:
        path: ends in .jpg, .jpeg, .png or .webp; an existing file is replaced.
        image: uint8 RGB array of shape (height, width, 3).

    Raises:
        ImageTypeError: the suffix names no type that is written.
        ImageError: the array is no RGB image, or the file cannot be written.
    """
    path = Path(path)
    content = _encoder(path)(image)
    # Beside its target, so that the rename stays on one file system; a short name of its own,
    # so that a long target name does not grow past what a file system allows.
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
        part.replace(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"expected a place to write to; received {path}: {reason}") from error
    finally:
        _remove(part)


def _remove(path: Path) -> None:
    """Remove a file if it is there; a folder that cannot be reached holds none."""
    try:
        path.unlink(missing_ok=True)
    except (OSError, ValueError):
        return


def _encoder(path: Path):
    """Return the function that encodes an image for the suffix of a path."""
    encoders = {
        ".jpg": encode_jpeg,
        ".jpeg": encode_jpeg,
        ".png": encode_png,
        ".webp": lambda image: _encode(image, "WEBP", quality=90),
    }
    suffix = path.suffix.lower()
    if suffix not in encoders:
        received = suffix or "a name without a suffix"
        raise ImageTypeError(f"expected one of {', '.join(encoders)}; received {received}")
    return encoders[suffix]


def _encode(image: np.ndarray, pillow_format: str, **options) -> bytes:
    """Encode an RGB array; an image built from an array has no metadata to carry over."""
    _check_array(image)
    buffer = BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(image)).save(buffer, pillow_format, **options)
    except (OSError, ValueError) as error:
        size = f"{image.shape[1]}x{image.shape[0]}"
        message = f"expected an image that {pillow_format} can hold; received {size} pixels"
        raise ImageError(message) from error
    return buffer.getvalue()


def _check_array(image: np.ndarray) -> None:
    """Refuse anything but a uint8 array of shape (height, width, 3)."""
    shape, dtype = getattr(image, "shape", None), getattr(image, "dtype", None)
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        received = type(image).__name__ if shape is None else f"{dtype} of shape {shape}"
        raise ImageError(f"expected a uint8 array of shape (height, width, 3); received {received}")
