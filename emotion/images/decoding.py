"""The bytes of an image file, or a file -> an upright RGB photo.

Each decoder is named, so that no type but those of `READ_TYPES` is ever parsed.
"""

import functools
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

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
)

from emotion.errors import DamagedImageError, ImageDimensionsError, ImageError, ImageTypeError
from emotion.images import guards
from emotion.images.colours import eight_bit, flat_rgb
from emotion.images.guards import DEFAULT_LIMITS, ImageLimits

Box = tuple[float, float, float, float]  # left, top, width, height in pixels

ENOUGH_PIXELS = 1280 * 960  # the largest area that a detector searches by default: `decode_photo`

_PLUGINS = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}

# how the bytes of a file begin
_SIGNATURES = {
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n\x1a\n",
    "WebP": rb"RIFF....WEBP",
    # with the size of its header: two letters alone would claim any text that begins with them
    "BMP": rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0",
    "GIF": rb"GIF8[79]a",
    "TIFF": rb"II[*+]\0|MM\0[*+]",
}

_AVIF_BRANDS = {b"avif", b"avis"}
# files with brands of the container alone, the last two, go to libheif, which looks inside
_HEIC_BRANDS = set(b"heic heix heim heis hevc hevx hevm hevs mif1 msf1".split())

# what brings a picture of EXIF orientation 2, 3... 8 upright; from 5 on the sides change places
_TURNS = "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_270 TRANSVERSE ROTATE_90"
_TRANSPOSITIONS = {at: Image.Transpose[name] for at, name in enumerate(_TURNS.split(), 2)}

# the warning filter, as Python keeps it, for what Pillow's parsers say about odd metadata
_REMARKS = ("ignore", None, Warning, re.compile(r"(PIL|pillow_heif)(\.|$)"), 0)


@dataclass(frozen=True)
class Photo:
    """An upright photo, decoded at a scale that is large enough to find its faces."""

    pixels: np.ndarray  # (h, w, 3) uint8 RGB: the full size, or a half, a quarter, an eighth of it
    size_wh: tuple[int, int]  # of the full size
    content: bytes | None = field(default=None, repr=False)  # None: `pixels` has the full size
    limits: ImageLimits = DEFAULT_LIMITS

    @functools.cached_property
    def full(self) -> np.ndarray:
        """The (H, W, 3) uint8 RGB array of the full size, decoded when first asked for."""
        return self.pixels if self.content is None else decode_image(self.content, self.limits)

    def at_full_size(self, box_xywh: Box) -> tuple[int, int, int, int]:
        """Return a box in `pixels` as a box in pixels of the full size."""
        x, y, width, height = box_xywh
        across, down = np.divide(self.size_wh, self.pixels.shape[1::-1])
        left, top = round(x * across), round(y * down)
        right, bottom = round((x + width) * across), round((y + height) * down)
        return (left, top, right - left, bottom - top)

    def showing(self, box_xywh: Box, least_side_px: int) -> tuple[np.ndarray, Box]:
        """Return (pixels, box in them) where a box of the full size has the least side."""
        across, down = np.divide(self.size_wh, self.pixels.shape[1::-1])
        x, y, width, height = box_xywh
        box = (x / across, y / down, width / across, height / down)
        if self.content is None or min(box[2:]) < least_side_px:
            return self.full, tuple(box_xywh)
        return self.pixels, box


def read_image(path: Path, limits: ImageLimits = DEFAULT_LIMITS) -> np.ndarray:
    """Read an image file into an upright (H, W, 3) uint8 RGB array; see `decode_photo`."""
    return decode_image(read_content(path, limits), limits)


def read_content(path: Path, limits: ImageLimits = DEFAULT_LIMITS) -> bytes:
    """Return the bytes of an image file. Raises ImageError."""
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"expected an image file; received {path}, which is not a file")
        guards.check_bytes(status.st_size, limits)
        with Path(path).open("rb") as file:
            # One byte more than allowed: a file that grew since `stat` is still refused.
            return file.read(limits.max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"expected a readable image file; received {path}: {reason}") from error


def decode_image(content: bytes, limits: ImageLimits = DEFAULT_LIMITS) -> np.ndarray:
    """Decode an image file into its upright, C-contiguous (height, width, 3) uint8 RGB array."""
    return decode_photo(content, limits).pixels


def decode_photo(
    content: bytes, limits: ImageLimits = DEFAULT_LIMITS, enough_pixels: int | None = None
) -> Photo:
    """Decode the bytes of an image file into an upright photo.

    Of a file with several pictures, the first is taken. Alpha is flattened on white, an embedded
    colour profile is converted to sRGB, and 16-bit channels keep their high byte. A JPEG is decoded
    at the smallest scale of 1/1, 1/2, 1/4 and 1/8 that leaves `enough_pixels`, all else, or if that
    is None, at full size; `limits` are of that. Raises one of the kinds of ImageError.
    """
    content = bytes(content)
    guards.check_bytes(len(content), limits)
    kind = _kind(content)
    with _decoding(kind, limits):
        image = _open(kind, content, limits)
        stored_wh = image.size
        is_reduced = kind == "JPEG" and enough_pixels is not None and _reduce(image, enough_pixels)
        pixels, sides_swapped = _upright(kind, image, content)
    if not is_reduced:
        return Photo(pixels, pixels.shape[1::-1])
    return Photo(pixels, stored_wh[::-1] if sides_swapped else stored_wh, content, limits)


def photo_from_pillow(image: Image.Image, limits: ImageLimits = DEFAULT_LIMITS) -> Photo:
    """Return a Pillow image, turned as its EXIF says, as a photo; raises as `decode_photo`."""
    guards.check_size(image.size, limits)
    with _decoding(image.format or "Pillow", limits):
        # of Pillow's operations only `ImageOps.exif_transpose` turns it, and then removes that tag
        pixels, _ = _upright(image.format or "", image, b"")
    return Photo(pixels, pixels.shape[1::-1])


def _kind(content: bytes) -> str:
    """Return which of READ_TYPES the content is, told from its first bytes."""
    starts = _SIGNATURES.items()
    kind = next((kind for kind, start in starts if re.match(start, content, re.DOTALL)), None)
    if content[4:8] == b"ftyp":
        box = content[: min(int.from_bytes(content[:4], "big"), 512)]
        brands = {content[8:12], *(box[at : at + 4] for at in range(16, len(box) - 3, 4))}
        kind = "AVIF" if brands & _AVIF_BRANDS else "HEIC" if brands & _HEIC_BRANDS else None
    readable = guards.readable_types()
    if kind in readable:
        return kind
    # the beginning as text that is safe on any page or terminal
    beginning = "the bytes " + content[:8].hex(" ")
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in content[:12]):
        beginning = re.sub(r"[^A-Za-z0-9 \-_%!.]", ".", content[:12].decode("ascii"))
    received = f"a file that is none of them (it begins with {beginning})"
    if kind == "HEIC":
        received = "a HEIC photo, which needs the pillow-heif package (pip install pillow-heif)"
    elif kind is not None:
        received = f"an {kind} image, which this build of Pillow cannot decode"
    raise ImageTypeError(f"expected one of {', '.join(readable)}; received {received}")


@contextmanager
def _decoding(kind: str, limits: ImageLimits) -> Iterator[None]:
    """Turn whatever a decoder raises on hostile or broken bytes into an ImageError."""
    # Filters belong to the process: swapping them for each photo would need a lock, so that a slow
    # header would hold up all photos. So the filter is set once, unless others reset it.
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
        # decoders raise almost anything, from struct.error to RuntimeError; the log gets the cause
        message = f"expected a whole {kind} image; received one that is damaged or cut off"
        raise DamagedImageError(message) from error


def _open(kind: str, content: bytes, limits: ImageLimits) -> Image.Image:
    """Parse an image's headers and check its size; only HEIC decodes its pixels here as well."""
    match kind:
        case "HEIC":
            # optional and slow to load, so it is imported when the first HEIC photo arrives
            try:
                import pillow_heif
            except ImportError as error:
                message = "expected a working pillow-heif to read HEIC; received a broken one"
                raise ImageTypeError(message) from error
            guards.check_boxes(kind, content, limits)
            heif = pillow_heif.open_heif(content)
            guards.check_size(heif.size, limits)
            return heif.to_pillow()
        case "AVIF":
            guards.check_boxes(kind, content, limits)
        case "JPEG":
            guards.check_jpeg(content)
        case "TIFF":
            guards.check_tiff_directory(content)
        case "WebP" | "GIF":
            # while it parses these two, Pillow already makes room for their pixels
            guards.check_size(guards.canvas_size(kind, content), limits)
        case "PNG" if b"IEND\xaeB`\x82" not in content:
            raise DamagedImageError("expected a whole PNG image; received one without its end")
        case "BMP" if int.from_bytes(content[14:18], "little") > 12 and content[30] in (1, 2):
            message = "expected a BMP without compression; received a run-length coded one"
            raise ImageTypeError(message)
    image = _PLUGINS[kind](BytesIO(content))
    guards.check_size(image.size, limits)
    if kind == "TIFF":
        # the decoder makes room for a whole tile at a time
        sides = (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)
        guards.check_pixels(tuple(image.tag_v2.get(side, 0) for side in sides), limits)
        exif = image.getexif()
        # Pillow turns the page while it decodes it, and would parse all other tags with it
        for tag in set(exif) - {ExifTags.Base.Orientation}:
            del exif[tag]
    return image


def _reduce(image: Image.Image, enough_pixels: int) -> bool:
    """Make the decoder of a large JPEG leave out detail; return whether it will.

    libjpeg then computes fewer frequencies of each block, which saves half of the time and, at
    1/2, looks like averaging four pixels.
    """
    for divisor in (8, 4, 2):
        width, height = (side // divisor for side in image.size)
        if width * height >= max(1, enough_pixels):
            return image.draft(None, (width, height)) is not None
    return False


def _upright(kind: str, image: Image.Image, content: bytes) -> tuple[np.ndarray, bool]:
    """Decode a picture; return its RGB pixels upright, and whether its sides changed places.

    libheif turns HEIC pictures, and Pillow turns TIFF pages, while they are decoded. Pillow hands
    on the turn that an AVIF file itself declares as if it were an EXIF orientation.
    """
    image.load()
    orientation = None
    if kind not in ("HEIC", "TIFF"):
        # a broken EXIF block can raise anything too, but every viewer shows such a photo as it lies
        with suppress(Exception):
            orientation = image.getexif().get(ExifTags.Base.Orientation)
    image = flat_rgb(eight_bit(image, content))
    if not isinstance(orientation, int) or orientation not in _TRANSPOSITIONS:
        return np.ascontiguousarray(image), False
    return np.ascontiguousarray(image.transpose(_TRANSPOSITIONS[orientation])), orientation >= 5
