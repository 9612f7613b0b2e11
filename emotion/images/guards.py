"""What is refused before a decoder sees it: too large, cut off, or built to be slow."""

import importlib.util
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import MappingProxyType

from PIL import Image, TiffImagePlugin, features

from emotion.errors import (
    DamagedImageError,
    EmptyImageError,
    ImageDimensionsError,
    ImageTooLargeError,
    ImageTypeError,
)


@dataclass(frozen=True)
class ImageLimits:
    """The largest and smallest image that is read: bytes of the file, pixels of the picture."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000
    max_side: int = 16_384
    min_side: int = 16
    """A picture smaller than this cannot hold a face worth reading."""


DEFAULT_LIMITS = ImageLimits()


READ_TYPES = ("JPEG", "PNG", "WebP", "BMP", "GIF", "TIFF", "AVIF", "HEIC")
"""The types that are read, by the names people know; see `readable_types` for those read here."""


PNG_END = b"IEND\xaeB`\x82"


_TIFF_VALUE_BYTES = MappingProxyType(
    {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
    | {16: 8, 17: 8, 18: 8}
)
"""Bytes of one value of each TIFF field type (TIFF 6.0, section 2, and BigTIFF)."""


_TIFF_BYTE_TYPES = frozenset({1, 2, 6, 7})


_TIFF_MAX_VALUES = 2**18
"""More numbers than any field of a picture within the limits holds, such as a place for each tile
of 16x16 pixels; Pillow takes a second for so many."""


_TIFF_NEW_SUBFILE_TYPE = 254


_TIFF_DNG_VERSION = 50706


def readable_types() -> tuple[str, ...]:
    """Return the names of the types that this environment can read, in the order of READ_TYPES."""
    missing = set()
    if not features.check("avif"):
        missing.add("AVIF")
    if importlib.util.find_spec("pillow_heif") is None:
        missing.add("HEIC")
    return tuple(name for name in READ_TYPES if name not in missing)


def check_bytes(size: int, limits: ImageLimits) -> None:
    """Refuse a file by its number of bytes, before anything in it is looked at."""
    if size == 0:
        raise EmptyImageError("expected an image; received an empty file")
    if size > limits.max_bytes:
        allowed, received = f"{limits.max_bytes / 2**20:g} MB", f"{size / 2**20:.1f} MB"
        raise ImageTooLargeError(f"expected a file of at most {allowed}; received {received}")


def check_size(size_wh: tuple[int, int], limits: ImageLimits) -> None:
    """Refuse a picture by the width and height it declares, before its pixels are decoded."""
    _check_pixels(size_wh, limits)
    received = "received {}x{}".format(*size_wh)
    if max(size_wh) > limits.max_side:
        allowed = f"{limits.max_side} pixels a side"
        raise ImageDimensionsError(f"expected an image of at most {allowed}; {received}")
    if min(size_wh) < limits.min_side:
        allowed = f"{limits.min_side} pixels a side"
        raise ImageDimensionsError(f"expected an image of at least {allowed}; {received}")


def _check_pixels(size_wh: tuple[int, int], limits: ImageLimits) -> None:
    """Refuse more pixels than allowed."""
    width, height = size_wh
    if width * height > limits.max_pixels:
        allowed = f"{limits.max_pixels / 1e6:g} megapixels"
        received = f"{width}x{height} ({width * height / 1e6:.4g} megapixels)"
        raise ImageDimensionsError(f"expected an image of at most {allowed}; received {received}")


def check_boxes(kind: str, content: bytes, limits: ImageLimits) -> None:
    """Refuse a file whose boxes (ISO/IEC 14496-12) run past its end, or code too many pixels.

    Phones store a photo as a grid of tiles, and libheif leaves out the tiles it does not find.
    What a picture declares may be a small crop of what is coded, which an `ispe` box tells.
    """
    for name, start, end in _boxes(content):
        if end > len(content):
            message = f"expected a whole {kind} image; received one that is cut off"
            raise DamagedImageError(message)
        if name == b"meta":
            for found in re.finditer(rb"ispe.{4}(.{8})", content[start:end], re.DOTALL):
                _check_pixels(struct.unpack(">II", found[1]), limits)


def _boxes(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, start, end) of the outermost boxes of a file."""
    start = 0
    while start < len(content):
        size, name = struct.unpack_from(">I4s", content, start)
        if size == 1:
            (size,) = struct.unpack_from(">Q", content, start + 8)
        # A size of zero means "to the end of the file"; of other sizes, 8 holds a bare header.
        end = start + max(size, 8) if size else len(content)
        yield name, start, end
        start = end


def canvas_size(kind: str, content: bytes) -> tuple[int, int]:
    """Return the (width, height) that the header of a WebP or GIF file declares."""
    if kind == "GIF":
        return struct.unpack_from("<HH", content, 6)
    chunk = content[12:16]
    if chunk == b"VP8X":
        width = int.from_bytes(content[24:27], "little") + 1
        return width, int.from_bytes(content[27:30], "little") + 1
    if chunk == b"VP8L" and content[20:21] == b"\x2f":
        (bits,) = struct.unpack_from("<I", content, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 " and content[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise DamagedImageError("expected a whole WebP image; received one without a picture header")


def check_tiff_directory(content: bytes) -> None:
    """Refuse a TIFF whose first directory is cut off, absurdly large, or of a camera raw file.

    Pillow reads on past a directory that is cut off, and then lacks the tags that were in it.
    A raw file is a TIFF whose first page is a thumbnail, which would be taken for the photo.
    """
    order = "little" if content.startswith(b"II") else "big"
    for tag, field_type, count, value in _tiff_entries(content, order):
        size = count * _TIFF_VALUE_BYTES.get(field_type, 0)
        outside = size > len(value) and int.from_bytes(value, order) + size > len(content)
        absurd = field_type not in _TIFF_BYTE_TYPES and count > _TIFF_MAX_VALUES
        if outside or absurd:
            raise DamagedImageError("expected a whole TIFF image; received one with broken tags")
        preview = tag == _TIFF_NEW_SUBFILE_TYPE and int.from_bytes(value[:4], order) & 1
        if preview or tag == _TIFF_DNG_VERSION:
            readable = ", ".join(readable_types())
            raise ImageTypeError(f"expected one of {readable}; received a camera raw file")


def _tiff_entries(content: bytes, order: str) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield (tag, field type, count, value or offset) of the first directory of a TIFF."""
    sign = "<" if order == "little" else ">"
    if content[2:4] in (b"+\x00", b"\x00+"):
        start_at, count_format, entry_format = (8, "Q"), "Q", "HHQ8s"
    else:
        start_at, count_format, entry_format = (4, "I"), "H", "HHI4s"
    (start,) = struct.unpack_from(sign + start_at[1], content, start_at[0])
    (count,) = struct.unpack_from(sign + count_format, content, start)
    start += struct.calcsize(sign + count_format)
    end = start + count * struct.calcsize(sign + entry_format)
    if end > len(content):
        raise DamagedImageError("expected a whole TIFF image; received one that is cut off")
    return struct.iter_unpack(sign + entry_format, content[start:end])


def check_tiff_tiles(image: Image.Image, limits: ImageLimits) -> None:
    """Refuse tiles larger than any picture: the decoder makes room for a whole tile at a time."""
    width = image.tag_v2.get(TiffImagePlugin.TILEWIDTH, 0)
    height = image.tag_v2.get(TiffImagePlugin.TILELENGTH, 0)
    if width * height > limits.max_pixels:
        allowed = f"{limits.max_pixels / 1e6:g} megapixels"
        message = f"expected a TIFF with tiles of at most {allowed}; received {width}x{height}"
        raise ImageDimensionsError(message)
