"""Bytes or file <-> upright RGB; every limit on the size and the type of an image is held here.

`decode_photo` reads as the pipeline: bytes are counted before anything is parsed, the type is told
from the first bytes, the size is checked before any pixel is decoded, and only then are colours and
orientation settled, once, for the whole program. Nothing global in Pillow or in pillow-heif is
changed, and a decoder is named directly instead of being searched for, so that no type but those of
`READ_TYPES` is ever parsed.
"""

import functools
import importlib.util
import re
import stat
import struct
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from emotion.errors import (
    DamagedImageError,
    EmptyImageError,
    ImageDimensionsError,
    ImageError,
    ImageTooLargeError,
    ImageTypeError,
)

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels."""


@dataclass(frozen=True)
class ImageLimits:
    """The largest and smallest image that is read: bytes of the file, pixels of the picture."""

    max_bytes: int = 20 * 2**20
    max_pixels: int = 50_000_000
    max_side: int = 16_384
    min_side: int = 16
    """A picture smaller than this cannot hold a face worth reading."""


DEFAULT_LIMITS = ImageLimits()

ENOUGH_PIXELS = 1280 * 960
"""The largest area that a face detector here searches by default: see `decode_photo`."""


@dataclass(frozen=True)
class Photo:
    """An upright photo, decoded at a scale that is large enough to find its faces.

    Attributes:
        pixels: (h, w, 3) uint8 RGB, upright; of the full size, or a half, a quarter or an eighth.
        size_wh: width and height in pixels of the upright photo at its full size.
        content: the file that `full` decodes again; None where `pixels` has the full size.
        limits: what was refused when `pixels` was decoded.
    """

    pixels: np.ndarray
    size_wh: tuple[int, int]
    content: bytes | None = field(default=None, repr=False)
    limits: ImageLimits = DEFAULT_LIMITS

    @classmethod
    def of(cls, image: "np.ndarray | Photo") -> "Photo":
        """Return an (H, W, 3) uint8 RGB array as a photo of full size; a photo as it is."""
        return image if isinstance(image, Photo) else cls(image, image.shape[1::-1])

    @functools.cached_property
    def full(self) -> np.ndarray:
        """The (H, W, 3) uint8 RGB array of the full size, decoded when first asked for."""
        return self.pixels if self.content is None else decode_image(self.content, self.limits)

    def at_full_size(self, box_xywh: Box) -> tuple[int, int, int, int]:
        """Return the box in pixels of the full size that a box in `pixels` stands for."""
        if self.content is None:
            return tuple(box_xywh)
        x, y, width, height = box_xywh
        across, down = self._shrinkage()
        left, top = round(x * across), round(y * down)
        right, bottom = round((x + width) * across), round((y + height) * down)
        return (left, top, right - left, bottom - top)

    def showing(self, box_xywh: Box, least_side_px: int) -> tuple[np.ndarray, Box]:
        """Return (pixels, box in them) that show a face in enough detail.

        Args:
            box_xywh: the face, in pixels of the full size.
            least_side_px: how many pixels a side of the box must have, unless there are no more.
        """
        across, down = self._shrinkage()
        x, y, width, height = box_xywh
        box = (x / across, y / down, width / across, height / down)
        if self.content is None or min(box[2:]) < least_side_px:
            return self.full, tuple(box_xywh)
        return self.pixels, box

    def _shrinkage(self) -> tuple[float, float]:
        """Return how many pixels of the full size one of `pixels` stands for, across and down."""
        height, width = self.pixels.shape[:2]
        return self.size_wh[0] / width, self.size_wh[1] / height


READ_TYPES = ("JPEG", "PNG", "WebP", "BMP", "GIF", "TIFF", "AVIF", "HEIC")
"""The types that are read, by the names people know; see `readable_types` for those read here."""

_PLUGINS = MappingProxyType(
    {
        "JPEG": JpegImagePlugin.JpegImageFile,
        "PNG": PngImagePlugin.PngImageFile,
        "WebP": WebPImagePlugin.WebPImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
        "AVIF": AvifImagePlugin.AvifImageFile,
    }
)

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
)

_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_CONTAINER_BRANDS = frozenset({b"mif1", b"msf1"})
_BMP_HEADER_BYTES = frozenset({12, 40, 52, 56, 64, 108, 124})

_PNG_END = b"IEND\xaeB`\x82"

_TRANSPOSITIONS = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)
"""What brings a picture of each EXIF orientation upright."""

_SIDEWAYS = frozenset({5, 6, 7, 8})
"""The EXIF orientations that exchange width and height."""

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

_MAX_PROFILE_BYTES = 4 * 2**20

_JPEG_MAX_SEGMENTS = 1000
_JPEG_MAX_SCANS = 100
"""Photos have some ten of each; Pillow and libjpeg take seconds for thousands, however small."""

_JPEG_MARKER = re.compile(rb"\xff[^\x00\xff]")
_JPEG_MARKER_BETWEEN_SCANS = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""Coded pixels hold \\xff only before a zero or a restart marker (ITU-T T.81, B.1.1)."""

_JPEG_BARE_MARKERS = frozenset([*range(1, 0xC0), 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)])
"""Markers after which Pillow and libjpeg, if they go on at all, look for the next one at once."""

_REMARKS = ("ignore", None, Warning, re.compile(r"(PIL|pillow_heif)(\.|$)"), 0)
"""The warning filter, as Python keeps it, for what Pillow's parsers say about odd metadata."""


def readable_types() -> tuple[str, ...]:
    """Return the names of the types that this environment can read, in the order of READ_TYPES."""
    missing = set()
    if not features.check("avif"):
        missing.add("AVIF")
    if importlib.util.find_spec("pillow_heif") is None:
        missing.add("HEIC")
    return tuple(name for name in READ_TYPES if name not in missing)


def read_image(path: Path, limits: ImageLimits = DEFAULT_LIMITS) -> np.ndarray:
    """Read an image file into an upright RGB array.

    Args:
        path: the file; its name and suffix play no part in how it is read.
        limits: what is refused, before the file is read, parsed or decoded.

    Returns:
        uint8 array of shape (height, width, 3), upright, RGB.

    Raises:
        ImageError: the file is missing, unreadable, or no regular file; else as `decode_photo`.
    """
    return read_photo(path, limits).pixels


def read_photo(
    path: Path, limits: ImageLimits = DEFAULT_LIMITS, enough_pixels: int | None = None
) -> Photo:
    """Read an image file into a photo; see `read_image` and `decode_photo`."""
    return decode_photo(read_content(path, limits), limits, enough_pixels)


def read_content(path: Path, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """Return the bytes of an image file; see `read_image`."""
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"expected an image file; received {path}, which is not a file")
        _check_bytes(status.st_size, limits)
        with Path(path).open("rb") as file:
            # One byte more than allowed: a file that grew since `stat` is still refused.
            return file.read(limits.max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"expected a readable image file; received {path}: {reason}") from error


def decode_image(content: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> np.ndarray:
    """Decode the bytes of an image file into an upright RGB array of its full size.

    Args and Raises: as `decode_photo`.

    Returns:
        uint8 array of shape (height, width, 3), upright, RGB, C-contiguous.
    """
    return decode_photo(content, limits).pixels


def decode_photo(
    content: bytes, limits: ImageLimits = DEFAULT_LIMITS, enough_pixels: int | None = None
) -> Photo:
    """Decode the bytes of an image file into an upright photo.

    The first picture of a file with several is taken. Alpha is flattened on white, an embedded
    colour profile is converted to sRGB, and 16-bit channels keep their high byte. See
    `_grey_from_numbers` for how float and 32-bit pictures are scaled.

    Args:
        content: the whole file.
        limits: what is refused, before the content is parsed or decoded; they hold for its full
            size.
        enough_pixels: a JPEG is decoded at the smallest scale of 1/1, 1/2, 1/4 and 1/8 that
            leaves so many pixels in all; None: every photo is decoded at its full size.

    Raises:
        EmptyImageError: no bytes.
        ImageTooLargeError: more than `limits.max_bytes`.
        ImageTypeError: none of the types that are read here.
        ImageDimensionsError: too many pixels, or a side too long or too short.
        DamagedImageError: of a known type, but cannot be decoded to its end.
        ImageError: a JPEG in far more pieces than any photo.
    """
    content = bytes(content)
    _check_bytes(len(content), limits)
    kind = _kind(content)
    with _decoding(kind, limits):
        image = _open(kind, content, limits)
        stored_wh = image.size
        is_reduced = _reduce(kind, image, enough_pixels)
        image.load()
        orientation = _orientation(kind, image)
        image = _flat_rgb(_eight_bit(image, content))
        pixels = np.ascontiguousarray(_turned(image, orientation))
    if not is_reduced:
        return Photo(pixels, pixels.shape[1::-1], limits=limits)
    size_wh = stored_wh[::-1] if orientation in _SIDEWAYS else stored_wh
    return Photo(pixels, size_wh, content, limits)


def photo_from_pillow(image: Image.Image, limits: ImageLimits = DEFAULT_LIMITS) -> Photo:
    """Return an image of Pillow's as an upright photo; the image is left as it is.

    Colours are settled as by `decode_photo`. The orientation that its EXIF block names is applied:
    Pillow's own operations, but for `ImageOps.exif_transpose`, leave it there.

    Raises:
        ImageDimensionsError: too many pixels, or a side too long or too short.
        DamagedImageError: its file cannot be decoded to its end, or is closed.
    """
    _check_size(image.size, limits)
    with _decoding(image.format or "Pillow", limits):
        image.load()
        orientation = _orientation(image.format or "", image)
        flat = _flat_rgb(_eight_bit(image, b""))
        pixels = np.ascontiguousarray(_turned(flat, orientation))
    return Photo(pixels, pixels.shape[1::-1], limits=limits)


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


def _check_bytes(size: int, limits: ImageLimits) -> None:
    """Refuse a file by its number of bytes, before anything in it is looked at."""
    if size == 0:
        raise EmptyImageError("expected an image; received an empty file")
    if size > limits.max_bytes:
        allowed, received = f"{limits.max_bytes / 2**20:g} MB", f"{size / 2**20:.1f} MB"
        raise ImageTooLargeError(f"expected a file of at most {allowed}; received {received}")


def _check_size(size_wh: tuple[int, int], limits: ImageLimits) -> None:
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


def _kind(content: bytes) -> str:
    """Return which of READ_TYPES the content is, told from its first bytes."""
    kind = _known_kind(content)
    readable = readable_types()
    if kind in readable:
        return kind
    received = f"a file that is none of them (it begins with {_beginning(content)})"
    if kind == "HEIC":
        received = "a HEIC photo, which needs the pillow-heif package (pip install pillow-heif)"
    elif kind is not None:
        received = f"an {kind} image, which this build of Pillow cannot decode"
    raise ImageTypeError(f"expected one of {', '.join(readable)}; received {received}")


def _known_kind(content: bytes) -> str | None:
    """Return which of READ_TYPES the content looks like, whether or not it can be read here."""
    for signature, kind in _SIGNATURES:
        if content.startswith(signature):
            return kind
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "WebP"
    # Two letters alone would claim any text that begins with them.
    if content.startswith(b"BM") and int.from_bytes(content[14:18], "little") in _BMP_HEADER_BYTES:
        return "BMP"
    return _iso_media_kind(content) if content[4:8] == b"ftyp" else None


def _iso_media_kind(content: bytes) -> str | None:
    """Tell AVIF and HEIC from each other and from video, by the brands of an `ftyp` box."""
    box = content[: min(int.from_bytes(content[:4], "big"), 512)]
    brands = [content[8:12], *(box[start : start + 4] for start in range(16, len(box) - 3, 4))]
    for brand in brands:
        if brand in _AVIF_BRANDS:
            return "AVIF"
        if brand in _HEIC_BRANDS:
            return "HEIC"
    # Brands of the container alone: libheif looks inside and says what it cannot decode.
    return "HEIC" if _CONTAINER_BRANDS.intersection(brands) else None


def _beginning(content: bytes) -> str:
    """Describe the first bytes of a file in text that is safe on any page or terminal."""
    start = content[:12]
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in start):
        text = start.decode("ascii")
        return "".join(letter if letter.isalnum() or letter in " -_%!." else "." for letter in text)
    return "the bytes " + start[:8].hex(" ")


@contextmanager
def _decoding(kind: str, limits: ImageLimits) -> Iterator[None]:
    """Turn whatever a decoder raises on hostile or broken bytes into an ImageError."""
    # The filters belong to the process, so that swapping them for each photo would need a lock,
    # under which one slow header stops all photos. So they are set once, unless others do.
    if warnings.filters[:1] != [_REMARKS]:
        warnings.filterwarnings("ignore", module=_REMARKS[3].pattern)
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        allowed = f"{limits.max_pixels / 1e6:g} megapixels"
        message = f"expected an image of at most {allowed}; received a {kind} that declares more"
        raise ImageDimensionsError(message) from error
    except Exception as error:
        # Decoders raise almost any kind, from struct.error to RuntimeError, and none of them
        # tells more than this: nothing is swallowed, the cause stays attached for the log.
        message = f"expected a whole {kind} image; received one that is damaged or cut off"
        raise DamagedImageError(message) from error


def _open(kind: str, content: bytes, limits: ImageLimits) -> Image.Image:
    """Parse the headers of an image and check its size; no pixel is decoded yet.

    HEIC is the exception that its library demands: its pixels come with `to_pillow`, after the
    same check.
    """
    if kind == "HEIC":
        return _open_heic(content, limits)
    if kind == "TIFF":
        return _open_tiff(content, limits)
    # Pillow makes a canvas for these two while it parses, so their headers are read here first.
    if kind in ("WebP", "GIF"):
        _check_size(_canvas_size(kind, content), limits)
    if kind == "PNG" and _PNG_END not in content:
        raise DamagedImageError("expected a whole PNG image; received one without its end")
    if kind == "AVIF":
        _check_boxes(kind, content, limits)
    if kind == "JPEG":
        _check_jpeg_segments(content)
    if kind == "BMP" and int.from_bytes(content[14:18], "little") > 12 and content[30] in (1, 2):
        raise ImageTypeError("expected a BMP without compression; received a run-length coded one")
    image = _PLUGINS[kind](BytesIO(content))
    _check_size(image.size, limits)
    return image


def _check_jpeg_segments(content: bytes) -> None:
    """Refuse a JPEG with more segments or scans than any photo has.

    They are counted to the end of the picture, so that a video behind it, as in phones' moving
    photos, counts for nothing. Junk before the pixels, which Pillow skips byte by byte, counts too.
    """
    at, segments, scans = 2, 0, 0
    while found := (_JPEG_MARKER_BETWEEN_SCANS if scans else _JPEG_MARKER).search(content, at):
        code = content[found.start() + 1]
        if scans and code == 0xD9:
            return
        segments += 1 if scans else 1 + found.start() - at
        scans += code == 0xDA
        if segments > _JPEG_MAX_SEGMENTS or scans > _JPEG_MAX_SCANS:
            raise ImageError(
                f"expected a JPEG of at most {_JPEG_MAX_SEGMENTS} segments and "
                f"{_JPEG_MAX_SCANS} scans; received one of more"
            )
        at = found.end()
        if code not in _JPEG_BARE_MARKERS:
            # the length counts its own two bytes
            at += max(2, int.from_bytes(content[at : at + 2], "big"))


def _reduce(kind: str, image: Image.Image, enough_pixels: int | None) -> bool:
    """Make the decoder of a large JPEG leave out detail; return whether it will.

    libjpeg then computes fewer frequencies of each block, which saves half of the time and, at
    1/2, looks like averaging four pixels.
    """
    if kind != "JPEG" or enough_pixels is None:
        return False
    for divisor in (8, 4, 2):
        width, height = (side // divisor for side in image.size)
        if width * height >= max(1, enough_pixels):
            return image.draft(None, (width, height)) is not None
    return False


def _open_heic(content: bytes, limits: ImageLimits) -> Image.Image:
    """Decode the primary picture of a HEIC file; libheif has already turned it upright."""
    # Optional and slow to load, so it is imported when the first HEIC photo arrives.
    try:
        import pillow_heif
    except ImportError as error:
        message = "expected a working pillow-heif to read HEIC photos; received one that fails"
        raise ImageTypeError(message) from error
    _check_boxes("HEIC", content, limits)
    heif = pillow_heif.open_heif(content)
    _check_size(heif.size, limits)
    return heif.to_pillow()


def _check_boxes(kind: str, content: bytes, limits: ImageLimits) -> None:
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


def _open_tiff(content: bytes, limits: ImageLimits) -> Image.Image:
    """Parse the first page of a TIFF and check its size and that of its tiles."""
    _check_tiff_directory(content)
    image = _PLUGINS["TIFF"](BytesIO(content))
    exif = image.getexif()
    # Pillow turns the page while it decodes it, and would parse all other tags with it.
    for tag in set(exif) - {ExifTags.Base.Orientation}:
        del exif[tag]
    _check_size(image.size, limits)
    _check_tiff_tiles(image, limits)
    return image


def _canvas_size(kind: str, content: bytes) -> tuple[int, int]:
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


def _check_tiff_directory(content: bytes) -> None:
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


def _check_tiff_tiles(image: Image.Image, limits: ImageLimits) -> None:
    """Refuse tiles larger than any picture: the decoder makes room for a whole tile at a time."""
    width = image.tag_v2.get(TiffImagePlugin.TILEWIDTH, 0)
    height = image.tag_v2.get(TiffImagePlugin.TILELENGTH, 0)
    if width * height > limits.max_pixels:
        allowed = f"{limits.max_pixels / 1e6:g} megapixels"
        message = f"expected a TIFF with tiles of at most {allowed}; received {width}x{height}"
        raise ImageDimensionsError(message)


def _orientation(kind: str, image: Image.Image) -> int:
    """Return how a decoded picture is still turned: its EXIF orientation, 1 (upright) to 8.

    An unknown value counts as upright.

    libheif turns HEIC pictures, and Pillow turns TIFF pages, while they are decoded. Pillow hands
    on the turn that an AVIF file itself declares as if it were an EXIF orientation.
    """
    if kind in ("HEIC", "TIFF"):
        return 1
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        # A broken EXIF block, which can raise as many kinds as a broken picture, must not cost
        # the photo: such a photo is shown as it lies by every viewer.
        return 1
    is_known = isinstance(orientation, int) and orientation in _TRANSPOSITIONS
    return orientation if is_known else 1


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    """Bring a picture of the given EXIF orientation upright."""
    return image if orientation == 1 else image.transpose(_TRANSPOSITIONS[orientation])


def _eight_bit(image: Image.Image, content: bytes) -> Image.Image:
    """Scale 16-bit, 32-bit and float pictures to eight bits a channel; leave all others."""
    tags = getattr(image, "tag_v2", {})
    if image.mode.startswith("I;16"):
        bits = 12 if tags.get(TiffImagePlugin.BITSPERSAMPLE) == (12,) else 16
        grey = _grey_from_words(np.asarray(image), bits, image.info.get("transparency"))
    elif image.mode in ("I", "F"):
        values = np.asarray(image)
        is_unsigned = image.mode == "I" and tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,)) == (1,)
        grey = _grey_from_numbers(values.view(np.uint32) if is_unsigned else values)
    else:
        return _with_eight_bit_transparency(image, content)
    white_is_zero = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    return Image.fromarray(255 - grey if white_is_zero else grey)


def _grey_from_words(values: np.ndarray, bits: int, transparent: int | None) -> np.ndarray:
    """Keep the high byte of unsigned words, as Pillow does for 16-bit colour.

    Args:
        values: uint16 array of shape (height, width).
        bits: how many of the 16 bits are used, 12 or 16.
        transparent: the one value that is wholly transparent and so becomes white, if any.
    """
    grey = (values >> (bits - 8)).astype(np.uint8)
    if transparent is not None:
        grey[values == transparent] = 255
    return grey


def _grey_from_numbers(values: np.ndarray) -> np.ndarray:
    """Scale 32-bit integers or floats of unknown range to 0-255.

    The first of the customary ranges 0-1 (floats only), 0-255 and 0-65535 that holds every finite
    value is taken as black to white; failing all, the smallest value is black and the largest
    white. Not-a-number becomes black, infinities become black (minus) and white (plus).
    """
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    tops = (255, 65535) if values.dtype.kind in "iu" else (1, 255, 65535)
    fitting = [top for top in tops if low >= 0 and high <= top]
    if fitting or low >= high:
        low, high = 0.0, float(fitting[0] if fitting else 1)
    grey = np.empty(values.shape, np.uint8)
    # A row at a time, so that the float64 copy stays small.
    for row, target in zip(values, grey, strict=True):
        scaled = (row.astype(np.float64) - low) * (255 / (high - low))
        target[:] = np.rint(np.clip(np.nan_to_num(scaled, nan=0.0), 0, 255))
    return grey


def _with_eight_bit_transparency(image: Image.Image, content: bytes) -> Image.Image:
    """Bring the transparent colour of a PNG to the eight bits of the pixels it is compared with.

    Without the content (an image that Pillow opened elsewhere) the depth is not known.
    """
    transparent = image.info.get("transparency")
    is_plain = image.mode in ("L", "RGB") and transparent is not None
    if image.format != "PNG" or not is_plain or not content:
        return image
    depth = content[24]
    if depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    elif depth < 8:
        image.info["transparency"] = transparent * 255 // (2**depth - 1)
    return image


def _flat_rgb(image: Image.Image) -> Image.Image:
    """Convert any eight-bit mode to RGB: colour profile to sRGB, alpha flattened on white."""
    profile = image.info.get("icc_profile")
    if image.mode == "La":
        image = image.convert("LA")
    if not image.has_transparency_data:
        image = image if image.mode in ("RGB", "CMYK") else image.convert("RGB")
        image = _in_srgb(image, profile)
        # `convert` copies also where there is nothing to convert
        return image if image.mode == "RGB" else image.convert("RGB")
    image = _in_srgb(image.convert("RGBA"), profile)
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A"))
    return flat


def _in_srgb(image: Image.Image, profile_bytes: bytes | None) -> Image.Image:
    """Convert a picture from its embedded colour profile to sRGB; ignore a profile that is broken.

    Args:
        image: mode RGB, RGBA or CMYK.
        profile_bytes: an ICC profile, or None.
    """
    if not profile_bytes or len(profile_bytes) > _MAX_PROFILE_BYTES:
        return image
    # Most photos carry no profile, so the colour library is loaded when the first one does.
    from PIL import ImageCms

    mode = image.mode
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(profile_bytes))
        if _is_srgb(profile):
            return image
        srgb = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(
            image, profile, srgb, outputMode=mode.replace("CMYK", "RGB")
        )
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        return image


def _is_srgb(profile) -> bool:
    """Tell whether a profile calls itself sRGB, in which case converting it changes nothing."""
    return (profile.profile.profile_description or "").strip().startswith("sRGB")
