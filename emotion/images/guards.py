"""What is refused before a decoder sees it: too large, cut off, or built to be slow."""

import importlib.util
import re
import struct
from dataclasses import dataclass

from PIL import TiffImagePlugin, features

from emotion import errors
from emotion.images.avif import coded_sizes


@dataclass(frozen=True)
class ImageLimits:
    """The largest and smallest image that is read: bytes of the file, pixels of the picture."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000
    max_side: int = 16_384
    min_side: int = 16  # a smaller picture cannot hold a face worth reading


DEFAULT_LIMITS = ImageLimits()

# the types this program knows; `readable_types` gives those that this environment can decode
READ_TYPES = ("JPEG", "PNG", "WebP", "BMP", "GIF", "TIFF", "AVIF", "HEIC")

# photos have about ten of each; Pillow and libjpeg take seconds for thousands, however small
JPEG_MAX_SEGMENTS, JPEG_MAX_SCANS = 1000, 100

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff]")
# coded pixels hold \xff only before a zero or a restart marker (ITU-T T.81, B.1.1)
_JPEG_MARKER_BETWEEN_SCANS = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
# markers without a length: Pillow and libjpeg look for the next marker right after them
_JPEG_BARE_MARKERS = frozenset([*range(1, 0xC0), 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)])

# bytes of one value of each TIFF field type (TIFF 6.0, section 2, and BigTIFF)
_TIFF_VALUE_BYTES = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8), 1))
# no picture within the limits needs more numbers in one field; Pillow takes a second for these
_TIFF_MAX_VALUES = 2**18
_TIFF_NEW_SUBFILE_TYPE, _TIFF_DNG_VERSION = 254, 50706


def readable_types() -> tuple[str, ...]:
    """Return the names of the types that this environment can read, in the order of READ_TYPES."""
    missing = set() if features.check("avif") else {"AVIF"}
    if importlib.util.find_spec("pillow_heif") is None:
        missing.add("HEIC")
    return tuple(name for name in READ_TYPES if name not in missing)


def check_bytes(size: int, limits: ImageLimits) -> None:
    """Refuse a file by its number of bytes."""
    if size == 0:
        raise errors.EmptyImageError("expected an image; received an empty file")
    if size > limits.max_bytes:
        allowed, received = f"{limits.max_bytes / 2**20:g} MB", f"{size / 2**20:.1f} MB"
        raise errors.ImageTooLargeError(f"expected a file of up to {allowed}; received {received}")


def check_size(size_wh: tuple[int, int], limits: ImageLimits) -> None:
    """Refuse a picture by the width and height it declares, before its pixels are decoded."""
    check_pixels(size_wh, limits)
    is_long = max(size_wh) > limits.max_side
    if is_long or min(size_wh) < limits.min_side:
        allowed = f"at most {limits.max_side}" if is_long else f"at least {limits.min_side}"
        expected = f"expected an image of {allowed} pixels a side"
        raise errors.ImageDimensionsError(f"{expected}; received {size_wh[0]}x{size_wh[1]}")


def check_pixels(size_wh: tuple[int, int], limits: ImageLimits) -> None:
    """Refuse a picture, or a tile of one, with too many pixels."""
    width, height = size_wh
    if width * height > limits.max_pixels:
        allowed = f"{limits.max_pixels / 1e6:g} megapixels"
        received = f"{width}x{height} ({width * height / 1e6:.4g} megapixels)"
        words = f"expected an image of at most {allowed}; received {received}"
        raise errors.ImageDimensionsError(words)


def check_jpeg(content: bytes) -> None:
    """Refuse a JPEG with more segments or scans than any photo has.

    A video behind the picture, as in phones' moving photos, is not counted; junk before the pixels
    is, which Pillow skips byte by byte.
    """
    at, segments, scans = 2, 0, 0
    while found := (_JPEG_MARKER_BETWEEN_SCANS if scans else _JPEG_MARKER).search(content, at):
        code = content[found.start() + 1]
        if scans and code == 0xD9:  # the end of the picture
            return
        segments += 1 if scans else 1 + found.start() - at
        scans += code == 0xDA
        at = found.end()
        if segments > JPEG_MAX_SEGMENTS or scans > JPEG_MAX_SCANS:
            break
        if code not in _JPEG_BARE_MARKERS:
            # the length counts its own two bytes
            at += max(2, int.from_bytes(content[at : at + 2], "big"))
    if not scans:
        segments += len(content) - at
    if segments > JPEG_MAX_SEGMENTS or scans > JPEG_MAX_SCANS:
        raise errors.ImageError(
            f"expected a JPEG of at most {JPEG_MAX_SEGMENTS} segments and "
            f"{JPEG_MAX_SCANS} scans; received one of more"
        )


def check_boxes(kind: str, content: bytes, limits: ImageLimits) -> None:
    """Refuse an AVIF or HEIC file that is cut off, or that codes too many pixels.

    Such a file is a row of boxes (ISO/IEC 14496-12). Phones store a photo as a grid of tiles, and
    libheif silently leaves out tiles that are missing. The picture may also declare a small crop of
    what is coded; the `ispe` boxes say how large that is. Where these lie, libheif itself refuses
    the HEIC picture before it makes room; for AVIF, `coded_sizes` looks.
    """
    start, heads = 0, b""
    while start < len(content):
        size, name = struct.unpack_from(">I4s", content, start)
        if size == 1:
            (size,) = struct.unpack_from(">Q", content, start + 8)
        # a size of 0 means "to the end of the file"
        end = start + max(size, 8) if size else len(content)
        if end > len(content):
            raise errors.DamagedImageError(f"expected a whole {kind}; received one that is cut off")
        if name in (b"meta", b"moov"):
            heads += content[start:end]
        if name == b"meta":
            for found in re.finditer(rb"ispe.{4}(.{8})", content[start:end], re.DOTALL):
                check_pixels(struct.unpack(">II", found[1]), limits)
        start = end
    for size_wh in coded_sizes(content, heads) if kind == "AVIF" else ():
        check_pixels(size_wh, limits)


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
    raise errors.DamagedImageError("expected a whole WebP image; received one without a header")


def check_tiff_directory(content: bytes) -> None:
    """Refuse a TIFF whose first directory is cut off or absurdly large, and one of a depth that is
    not read or of a camera raw file.

    Pillow reads on past a directory that is cut off, and then lacks the tags that were in it. The
    first page of a raw file is a thumbnail, which would be taken for the photo.
    """
    order, sign = ("little", "<") if content.startswith(b"II") else ("big", ">")
    is_big = content[2:4] in (b"+\x00", b"\x00+")
    at, start_format, count_format, entry_format = (
        (8, "Q", "Q", "HHQ8s") if is_big else (4, "I", "H", "HHI4s")
    )
    (start,) = struct.unpack_from(sign + start_format, content, at)
    (entry_count,) = struct.unpack_from(sign + count_format, content, start)
    start += struct.calcsize(sign + count_format)
    end = start + entry_count * struct.calcsize(sign + entry_format)
    # there are only so many tags
    if end > len(content) or entry_count > 2**16:
        raise errors.DamagedImageError("expected a whole TIFF image; received one that is cut off")
    firsts = {}
    for tag, kind, count, value in struct.iter_unpack(sign + entry_format, content[start:end]):
        value_bytes = _TIFF_VALUE_BYTES.get(kind, 0)
        # a field too large for its entry lies elsewhere in the file
        is_elsewhere = count * value_bytes > len(value)
        offset = int.from_bytes(value, order)
        is_outside = is_elsewhere and offset + count * value_bytes > len(content)
        if is_outside or (value_bytes != 1 and count > _TIFF_MAX_VALUES):
            raise errors.DamagedImageError("expected a whole TIFF image; received broken tags")
        first = content[offset : offset + value_bytes] if is_elsewhere else value[:value_bytes]
        firsts[tag] = int.from_bytes(first, order)
    if _TIFF_DNG_VERSION in firsts or firsts.get(_TIFF_NEW_SUBFILE_TYPE, 0) & 1:
        readable = ", ".join(readable_types())
        raise errors.ImageTypeError(f"expected one of {readable}; received a camera raw file")
    bits = firsts.get(TiffImagePlugin.BITSPERSAMPLE, 1)
    numbers = {2: "signed", 3: "float"}.get(firsts.get(TiffImagePlugin.SAMPLEFORMAT), "unsigned")
    is_read = bits == 32 if numbers == "float" else bits <= 8 or (bits, numbers) == (16, "unsigned")
    if not is_read:
        raise errors.ImageTypeError(
            "expected a TIFF of at most 8 bits, unsigned 16 bits or 32-bit floats a channel; "
            f"received one of {bits} bits, {numbers}"
        )
