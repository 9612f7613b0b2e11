"""RGB arrays -> JPEG, PNG and WebP, as bytes and as whole files, without metadata."""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from emotion.errors import ImageError, ImageTypeError
from emotion.files import whole_file

_WRITTEN_TYPES = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
WRITTEN_SUFFIXES = tuple(_WRITTEN_TYPES)


def encode_jpeg(image: np.ndarray, quality: int = 90) -> bytes:
    """Encode a (height, width, 3) uint8 RGB array as JPEG of quality 1 to 95."""
    return _encode(image, "JPEG", quality)


def encode_png(image: np.ndarray) -> bytes:
    """Encode a (height, width, 3) uint8 RGB array as PNG, lossless."""
    return _encode(image, "PNG")


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an (H, W, 3) uint8 RGB array as the type its suffix names. Raises ImageError."""
    path = Path(path)
    written_type = _WRITTEN_TYPES.get(path.suffix.lower())
    if written_type is None:
        received = path.suffix or "a name without a suffix"
        raise ImageTypeError(f"expected one of {', '.join(WRITTEN_SUFFIXES)}; received {received}")
    content = _encode(image, written_type)
    try:
        with whole_file(path) as part:
            part.write_bytes(content)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"expected a place to write to; received {path}: {reason}") from error


def _encode(image: np.ndarray, pillow_format: str, quality: int = 90) -> bytes:
    shape, dtype = getattr(image, "shape", None), getattr(image, "dtype", None)
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape:
        received = type(image).__name__ if shape is None else f"{dtype} of shape {shape}"
        raise ImageError(f"expected a uint8 array of shape (height, width, 3); received {received}")
    buffer = BytesIO()
    try:
        # an image made from an array has no metadata; PNG ignores the quality
        Image.fromarray(np.ascontiguousarray(image)).save(buffer, pillow_format, quality=quality)
    except (OSError, ValueError) as error:
        message = f"expected an image that {pillow_format} can hold; received {shape[1]}x{shape[0]}"
        raise ImageError(f"{message} pixels") from error
    return buffer.getvalue()
