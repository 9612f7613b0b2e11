"""Image files of every type, whole and broken, made byte by byte where no library writes them."""

import io
import struct
import zlib
from functools import partial

import numpy as np
import pytest
from PIL import Image, ImageCms, features

ORIENTATION = 0x0112
FINE = {"quality": 95, "subsampling": 0}
FINE_AVIF = {"quality": 95, "subsampling": "4:4:4"}


def colour_blocks() -> np.ndarray:
    """Return a 64x48 picture whose four unequal corners tell every turn and mirror apart."""
    blocks = np.array([[[200, 40, 40], [40, 180, 60]], [[50, 60, 190], [220, 220, 210]]], np.uint8)
    picture = blocks.repeat(24, axis=0).repeat(32, axis=1)
    picture[:16, :16] = (90, 90, 20)
    return picture


PICTURE = colour_blocks()
GREY = np.asarray(Image.fromarray(PICTURE).convert("L"))
ALPHA = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
RED = Image.new("RGB", (64, 48), "red")


def encoded(image, image_format: str, **options) -> bytes:
    """Return an array or Pillow image as the bytes of a file; HEIC goes through pillow-heif."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image.copy()
    if "append_images" in options:  # Pillow leaves options of one type in them
        options["append_images"] = [more.copy() for more in options["append_images"]]
    buffer = io.BytesIO()
    if image_format == "HEIC":
        heif = pytest.importorskip("pillow_heif", reason="pillow-heif is not installed")
        if not heif.libheif_info()["encoders"].get("x265"):
            pytest.skip("this pillow-heif cannot write HEIC")
        if "exif" in options:
            options["exif"] = options["exif"].tobytes()
        heif.from_pillow(image).save(buffer, **{"quality": 95, "chroma": 444} | options)
    else:
        if image_format == "AVIF" and not features.check("avif"):
            pytest.skip("this Pillow cannot write AVIF")
        image.save(buffer, image_format, **options)
    return buffer.getvalue()


def made(image, image_format: str, **options):
    """Return a function that makes the file; a missing codec then skips one test."""
    return partial(encoded, image, image_format, **options)


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """Return a PNG with unfiltered rows given without their filter bytes; extra chunks first."""
    stride = len(rows) // height
    raw = b"".join(b"\0" + rows[y * stride : (y + 1) * stride] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), *extra, png_chunk(b"IDAT", zlib.compress(raw))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + png_chunk(b"IEND", b"")


def tiff(data: bytes, tags: dict[int, tuple[int, tuple]], order: str = "<") -> bytes:
    """Return a one-strip TIFF: data first, then its directory, then the values that need room."""
    tags = {273: (4, (8,)), 279: (4, (len(data),)), 278: (4, (2**31,))} | tags
    start = 8 + len(data)
    spill_at = start + 2 + 12 * len(tags) + 4
    entries, spill = b"", b""
    for tag, (field_type, values) in sorted(tags.items()):
        letter = {1: "B", 3: "H", 4: "I", 12: "d"}[field_type]
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(packed) > 4:
            spill, packed = spill + packed, struct.pack(order + "I", spill_at + len(spill))
        entries += struct.pack(order + "HHI", tag, field_type, len(values)) + packed.ljust(4, b"\0")
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    return head + data + struct.pack(order + "H", len(tags)) + entries + bytes(4) + spill


def grey_tiff(values: np.ndarray, bits: int, sample_format=1, photometric=1, order="<", **tags):
    """Return a TIFF of one channel, in bytes or in words of the given order."""
    height, width = getattr(values, "shape", (48, 64))
    fields = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 277: 1}
    fields |= {339: sample_format} | {int(tag[1:]): value for tag, value in tags.items()}
    packed = values if isinstance(values, bytes) else values.tobytes()
    kinds = {256: 4, 257: 4}
    tags = {tag: (kinds.get(tag, 3), (value,)) for tag, value in fields.items()}
    return tiff(packed, tags, order)


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def stored(upright: np.ndarray, orientation: int) -> np.ndarray:
    """Return how a camera stores a picture for the EXIF orientation that brings it upright."""
    sides_swapped = upright.swapaxes(0, 1)
    return {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: sides_swapped,
        6: np.rot90(upright, 1),
        7: sides_swapped[::-1, ::-1],
        8: np.rot90(upright, -1),
    }[orientation]


def swapped_profile() -> bytes:
    """Return sRGB with its red and green primaries exchanged, under another name."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"rXYZ", b"none").replace(b"gXYZ", b"rXYZ").replace(b"none", b"gXYZ")
    return profile.replace("sRGB".encode("utf-16-be"), "Swap".encode("utf-16-be"))


def one_bit_png(width: int, height: int) -> bytes:
    """Return an all-black PNG of any size without ever holding its rows."""
    compressor = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    data = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), png_chunk(b"IDAT", data), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def riff(chunk: bytes, data: bytes) -> bytes:
    body = b"WEBP" + chunk + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp_lossless_header(width: int, height: int) -> bytes:
    bits = (width - 1) | (height - 1) << 14
    return riff(b"VP8L", b"\x2f" + struct.pack("<I", bits) + b"\x88\x88\x08\x00")


def webp_extended_header(width: int, height: int) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return riff(b"VP8X", b"\x02\0\0\0" + sides)


def box(name: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", 8 + len(data)) + name + data


def brand(major: bytes, *others: bytes) -> bytes:
    return box(b"ftyp", major + bytes(4) + b"".join(others))


def with_bytes(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]


def jpeg_with(first: bytes = b"", scans: int = 0, last: bytes = b"") -> bytes:
    """Return a JPEG of ten scans and some more, with bytes before its first segment and its end."""
    content = encoded(PICTURE, "JPEG", progressive=True)
    scan = content[content.rindex(b"\xff\xda") : -2]
    return content[:2] + first + content[2:-2] + scan * scans + last + content[-2:]


def segment(code: int, data: bytes = b"") -> bytes:
    return struct.pack(">BBH", 0xFF, code, len(data) + 2) + data


def run_length_bmp() -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, 16, 16, 1, 8, 1, 0, 0, 0, 256, 0)
    pixels = b"\x10\x07\0\0" * 16 + b"\0\1"
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 54 + 1024) + header + bytes(1024) + pixels


def tiff_fields(width: int, height: int, **more) -> dict:
    fields = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1}
    fields |= {int(tag[1:]): value for tag, value in more.items()}
    return {tag: (4, (value,)) for tag, value in fields.items()}


def cut(image_format: str, share: float = 0.6, **options) -> bytes:
    content = encoded(PICTURE, image_format, **options)
    return content[: int(len(content) * share)]


def noisy_photo(mode: str = "RGB") -> Image.Image:
    """Return a picture whose every part matters to its bytes, so that any cut is seen."""
    noise = np.random.default_rng(3).integers(0, 256, (60, 72, 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


def small_png(*chunks: bytes) -> bytes:
    return png(64, 48, 8, 2, PICTURE.tobytes(), *chunks)


def huge_jpeg() -> bytes:
    content = encoded(PICTURE, "JPEG")
    return with_bytes(content, content.index(b"\xff\xc0") + 5, struct.pack(">HH", 60000, 60000))


def huge_isobmff(image_format: str) -> bytes:
    content = encoded(PICTURE, image_format)
    at = content.index(b"ispe") + 8
    return with_bytes(content, at, struct.pack(">II", 12000, 12000))


def huge_bmp() -> bytes:
    return with_bytes(encoded(PICTURE, "BMP"), 18, struct.pack("<ii", 30000, 30000))


def huge_tiff_tile() -> bytes:
    return tiff(bytes(100), tiff_fields(64, 48, t259=8, t322=60000, t323=60000, t324=8, t325=100))


def tiff_with_entry(tag: int, field_type: int, count: int, value: int) -> bytes:
    directory = struct.pack("<HHHII", 1, tag, field_type, count, value) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory


def gif_screen(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0)


def gif_frame(width: int, height: int, dispose: int = 0) -> bytes:
    """Return a GIF whose frame is larger than its screen, with a disposal to make room for."""
    control = b"!\xf9\x04" + bytes([dispose << 2, 0, 0, 0, 0])
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x08\x02\x00\x01\x00;"
    return gif_screen(64, 48) + control + frame
