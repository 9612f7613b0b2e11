"""Bytes or file <-> upright RGB; every limit on the size and the type of an image is held here.

`decode_photo` reads as the pipeline: bytes are counted before anything is parsed, the type is told
from the first bytes, the size is checked before any pixel is decoded, and only then are colours and
orientation settled, once, for the whole program. Nothing global in Pillow or in pillow-heif is
changed, and a decoder is named directly instead of being searched for, so that no type but those of
`READ_TYPES` is ever parsed.
"""

import functools
import re
import stat
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
)

from emotion.errors import DamagedImageError, ImageDimensionsError, ImageError, ImageTypeError
from emotion.images.colours import eight_bit, flat_rgb
from emotion.images.guards import (
    DEFAULT_LIMITS,
    PNG_END,
    ImageLimits,
    canvas_size,
    check_boxes,
    check_bytes,
    check_size,
    check_tiff_directory,
    check_tiff_tiles,
    readable_types,
)

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels."""


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
        check_bytes(status.st_size, limits)
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
    check_bytes(len(content), limits)
    kind = _kind(content)
    with _decoding(kind, limits):
        image = _open(kind, content, limits)
        stored_wh = image.size
        is_reduced = _reduce(kind, image, enough_pixels)
        image.load()
        orientation = _orientation(kind, image)
        image = flat_rgb(eight_bit(image, content))
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
    check_size(image.size, limits)
    with _decoding(image.format or "Pillow", limits):
        image.load()
        orientation = _orientation(image.format or "", image)
        flat = flat_rgb(eight_bit(image, b""))
        pixels = np.ascontiguousarray(_turned(flat, orientation))
    return Photo(pixels, pixels.shape[1::-1], limits=limits)


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
        check_size(canvas_size(kind, content), limits)
    if kind == "PNG" and PNG_END not in content:
        raise DamagedImageError("expected a whole PNG image; received one without its end")
    if kind == "AVIF":
        check_boxes(kind, content, limits)
    if kind == "JPEG":
        _check_jpeg_segments(content)
    if kind == "BMP" and int.from_bytes(content[14:18], "little") > 12 and content[30] in (1, 2):
        raise ImageTypeError("expected a BMP without compression; received a run-length coded one")
    image = _PLUGINS[kind](BytesIO(content))
    check_size(image.size, limits)
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
    check_boxes("HEIC", content, limits)
    heif = pillow_heif.open_heif(content)
    check_size(heif.size, limits)
    return heif.to_pillow()


def _open_tiff(content: bytes, limits: ImageLimits) -> Image.Image:
    """Parse the first page of a TIFF and check its size and that of its tiles."""
    check_tiff_directory(content)
    image = _PLUGINS["TIFF"](BytesIO(content))
    exif = image.getexif()
    # Pillow turns the page while it decodes it, and would parse all other tags with it.
    for tag in set(exif) - {ExifTags.Base.Orientation}:
        del exif[tag]
    check_size(image.size, limits)
    check_tiff_tiles(image, limits)
    return image


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
