"""Image files that tests read, made byte by byte where no library writes them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, features

# a 64x48 picture whose four unequal corners tell every turn and mirror apart
CORNERS = np.array([[[200, 40, 40], [40, 180, 60]], [[50, 60, 190], [220, 220, 210]]], np.uint8)
PICTURE = CORNERS.repeat(24, axis=0).repeat(32, axis=1)
PICTURE[:16, :16] = (90, 90, 20)
GREY = np.asarray(Image.fromarray(PICTURE).convert("L"))
ALPHA = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
RGBA = np.dstack([PICTURE, ALPHA])


def encoded(image, image_format: str, **options) -> bytes:
    """Return an array or Pillow image as a file; skip the test where no codec writes it."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image.copy()
    buffer = io.BytesIO()
    if image_format == "HEIC":
        heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
        if not heif.libheif_info()["encoders"].get("x265"):
            pytest.skip("this pillow-heif cannot write HEIC")
        heif.from_pillow(image).save(buffer, **{"quality": 95, "chroma": 444} | options)
    elif image_format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow cannot write AVIF")
    else:
        image.save(buffer, image_format, **options)
    return buffer.getvalue()


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(depth: int, colour: int, rows: bytes, *extra: bytes, size_wh=(64, 48)) -> bytes:
    """Return a PNG with unfiltered rows given without their filter bytes; extra chunks first."""
    stride = len(rows) // size_wh[1]
    raw = b"".join(b"\0" + rows[at : at + stride] for at in range(0, len(rows), stride))
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", *size_wh, depth, colour, 0, 0, 0))
    pixels = png_chunk(b"IDAT", zlib.compress(raw))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + pixels + png_chunk(b"IEND", b"")


def tiff(data: bytes, tags=(), size_wh=(64, 48), order="<") -> bytes:
    """Return a one-strip TIFF, grey of eight bits; a tag is a number, or (type, values)."""
    fields = {256: size_wh[0], 257: size_wh[1], 258: 8, 259: 1, 262: 1, 277: 1}
    fields |= {273: 8, 279: len(data), 278: 2**31} | dict(tags)
    start = 8 + len(data)
    spill_at = start + 2 + 12 * len(fields) + 4
    entries, spill = b"", b""
    for tag, field in sorted(fields.items()):
        kind, values = field if isinstance(field, tuple) else (4, (field,))
        packed = struct.pack(f"{order}{len(values)}{' B HI'[kind]}", *values)
        if len(packed) > 4:
            spill, packed = spill + packed, struct.pack(order + "I", spill_at + len(spill))
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    return head + data + struct.pack(order + "H", len(fields)) + entries + bytes(4) + spill


def exif_of(orientation: int, maker: str = "A") -> bytes:
    exif = Image.Exif()
    exif.update({ExifTags.Base.Orientation: orientation, ExifTags.Base.Make: maker})
    return exif.tobytes()


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """Return how a camera stores a picture for the EXIF orientation that brings it upright."""
    sides_swapped = upright.swapaxes(0, 1)
    turns = [upright, upright[:, ::-1], upright[::-1, ::-1], upright[::-1], sides_swapped]
    turns += [np.rot90(upright, 1), sides_swapped[::-1, ::-1], np.rot90(upright, -1)]
    return np.ascontiguousarray(turns[orientation - 1])


def swapped_profile() -> bytes:
    """Return sRGB with its red and green primaries exchanged, under another name."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"rXYZ", b"none").replace(b"gXYZ", b"rXYZ").replace(b"none", b"gXYZ")
    return profile.replace("sRGB".encode("utf-16-be"), "Swap".encode("utf-16-be"))


def riff(chunk: bytes, data: bytes) -> bytes:
    body = b"WEBP" + chunk + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def box(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", 8 + len(data)) + name + data


def segment(code: int, data: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(data) + 2) + data


def jpeg_with(first: bytes = b"", scans: int = 0, last: bytes = b"") -> bytes:
    """Return a JPEG of ten scans and some more, with bytes before its first segment and its end."""
    content = encoded(PICTURE, "JPEG", progressive=True)
    scan = content[content.rindex(b"\xff\xda") : -2]
    return content[:2] + first + content[2:-2] + scan * scans + last + content[-2:]


def lying_avif(side: int, **options) -> bytes:
    """Return a square AVIF, or the film of one, whose boxes all declare 100x100."""
    content = encoded(np.zeros((side, side, 3), np.uint8), "AVIF", speed=10, **options)
    for form, unit in ((">II", 1), (">II", 2**16), (">HH", 1)):
        size, declared = struct.pack(form, *[side * unit] * 2), struct.pack(form, *[100 * unit] * 2)
        content = content.replace(size, declared)
    return content


BMP_SIZES = (0, 0, 0, 54 + 1024, 40, 16, 16, 1, 8, 1, 0, 0, 0, 256, 0)
RUN_LENGTH_BMP = (
    struct.pack("<2sIHHIIiiHHIIiiII1024x", b"BM", *BMP_SIZES) + b"\x10\x07\0\0" * 16 + b"\0\1"
)
