"""Every type, mode and orientation against known pixels; every bad input against its error."""

import io
import random
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, features

from emotion.detection.settings import DetectorSettings
from emotion.detection.yunet import YunetSettings
from emotion.errors import (
    DamagedImageError,
    EmptyImageError,
    ImageDimensionsError,
    ImageError,
    ImageTooLargeError,
    ImageTypeError,
)
from emotion.images import decoding
from emotion.images.decoding import (
    ENOUGH_PIXELS,
    Photo,
    decode_image,
    decode_photo,
    read_image,
    read_photo,
)
from emotion.images.encoding import encode_jpeg, encode_png, write_image
from emotion.images.guards import DEFAULT_LIMITS, ImageLimits, readable_types

ROOT = Path(__file__).resolve().parent.parent
ORIENTATION = 0x0112


def colour_blocks() -> np.ndarray:
    """Return a 64x48 picture whose four unequal corners tell every turn and mirror apart."""
    blocks = np.array([[[200, 40, 40], [40, 180, 60]], [[50, 60, 190], [220, 220, 210]]], np.uint8)
    picture = blocks.repeat(24, axis=0).repeat(32, axis=1)
    picture[:16, :16] = (90, 90, 20)
    return picture


PICTURE = colour_blocks()
GREY = np.asarray(Image.fromarray(PICTURE).convert("L"))
ALPHA = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))


def grey_rgb(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey] * 3, axis=-1)


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.rint(rgb * share + 255 * (1 - share)).astype(np.uint8)


def encoded(image, image_format: str, **options) -> bytes:
    """Return an array or Pillow image as the bytes of a file; HEIC goes through pillow-heif."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
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
    height, width = values.shape
    fields = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 277: 1}
    fields |= {339: sample_format} | {int(tag[1:]): value for tag, value in tags.items()}
    packed = values if isinstance(values, bytes) else values.tobytes()
    kinds = {256: 4, 257: 4}
    tags = {tag: (kinds.get(tag, 3), (value,)) for tag, value in fields.items()}
    return tiff(packed, tags, order)


RAMP_16 = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (48, 1))
RAMP_8 = (RAMP_16 >> 8).astype(np.uint8)


def twelve_bit_tiff() -> bytes:
    """Return a TIFF of 12-bit samples, two packed into three bytes: RAMP_16 without 4 bits."""
    values = (RAMP_16 >> 4).astype(np.uint32).reshape(-1, 2)
    both = (values[:, 0] << 12) | values[:, 1]
    packed = np.stack([both >> 16, both >> 8 & 255, both & 255], axis=1).astype(np.uint8).tobytes()
    names = {256: (4, (64,)), 257: (4, (48,)), 258: (3, (12,)), 259: (3, (1,)), 262: (3, (1,))}
    return tiff(packed, names | {277: (3, (1,))})


def wide_rgb() -> bytes:
    """Return the rows of PICTURE with 16-bit channels whose low bytes must not matter."""
    return np.stack([PICTURE, np.full_like(PICTURE, 77)], axis=-1).tobytes()


def palette_png(transparency) -> bytes:
    return encoded(Image.fromarray(PICTURE).quantize(8), "PNG", transparency=transparency)


def paletted(index: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return PICTURE after quantizing, and where the palette's first colour lies."""
    image = Image.fromarray(PICTURE).quantize(8)
    return np.asarray(image.convert("RGB")), np.asarray(image) == index


def with_white(rgb: np.ndarray, where: np.ndarray) -> np.ndarray:
    return np.where(where[..., None], 255, rgb).astype(np.uint8)


def ycck_jpeg() -> bytes:
    """Return PICTURE as Photoshop writes it: inks as YCC + K, all inverted, marked by transform 2.

    Pillow writes inverted CMYK, so that inverted YCC planes go in and the marker is changed after.
    """
    ycc = np.asarray(Image.fromarray(255 - PICTURE).convert("YCbCr"))
    planes = np.dstack([255 - ycc, np.zeros_like(GREY)])
    content = encoded(Image.fromarray(planes, "CMYK"), "JPEG", quality=100)
    marker = content.index(b"Adobe") + 11
    return content[:marker] + b"\x02" + content[marker + 1 :]


def cmyk_image() -> Image.Image:
    return Image.fromarray(np.dstack([255 - PICTURE, np.zeros_like(GREY)]), "CMYK")


def premultiplied_tiff() -> bytes:
    """Return a TIFF of grey with associated alpha (extra sample 1)."""
    both = np.stack([np.rint(GREY * (ALPHA / 255)).astype(np.uint8), ALPHA], axis=-1).tobytes()
    fields = {256: (4, (64,)), 257: (4, (48,)), 258: (3, (8, 8)), 259: (3, (1,)), 262: (3, (1,))}
    return tiff(both, fields | {277: (3, (2,)), 338: (3, (1,))})


RGBA = np.dstack([PICTURE, ALPHA])
LA = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])
BILEVEL = Image.fromarray(PICTURE).convert("1")
BILEVEL_RGB = np.asarray(BILEVEL.convert("RGB"))
INTS = np.tile(np.arange(64, dtype=np.int32), (48, 1))
FLOATS = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (48, 1))
HOLES = FLOATS.copy()
HOLES[0, :3] = (np.nan, np.inf, -np.inf)
HOLES_8 = np.rint(FLOATS * 255).astype(np.uint8)
HOLES_8[0, :3] = (0, 255, 0)
TWO_BITS = np.tile(np.repeat([0, 1, 2, 3], 16), (48, 1)).astype(np.uint8)
TWO_BITS_PACKED = bytes([0] * 4 + [0x55] * 4 + [0xAA] * 4 + [0xFF] * 4) * 48


def trns(*values: int) -> bytes:
    return png_chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))


def stretch(values: np.ndarray) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    return grey_rgb(np.rint((values.astype(float) - low) * 255 / (high - low)).astype(np.uint8))


def full(value: int) -> np.ndarray:
    return np.full((48, 64, 3), value, np.uint8)


# Name: (content or how to make it, expected pixels, largest difference allowed).
MODES = {
    "jpeg": (lambda: encoded(PICTURE, "JPEG", quality=95, subsampling=0), PICTURE, 6),
    "jpeg progressive": (
        lambda: encoded(PICTURE, "JPEG", quality=95, subsampling=0, progressive=True),
        PICTURE,
        6,
    ),
    "jpeg grey": (lambda: encoded(GREY, "JPEG", quality=95), grey_rgb(GREY), 6),
    "jpeg cmyk inverted by adobe": (
        lambda: encoded(cmyk_image(), "JPEG", quality=100),
        PICTURE,
        6,
    ),
    "jpeg ycck": (ycck_jpeg, PICTURE, 8),
    "jpeg mpo, first picture": (
        lambda: encoded(
            PICTURE,
            "MPO",
            save_all=True,
            append_images=[Image.new("RGB", (64, 48), "red")],
            quality=95,
            subsampling=0,
        ),
        PICTURE,
        6,
    ),
    "png rgb": (lambda: encoded(PICTURE, "PNG"), PICTURE, 0),
    "png rgba": (lambda: encoded(RGBA, "PNG"), on_white(PICTURE, ALPHA), 1),
    "png grey": (lambda: encoded(GREY, "PNG"), grey_rgb(GREY), 0),
    "png grey alpha": (lambda: encoded(LA, "PNG"), on_white(grey_rgb(GREY), ALPHA), 1),
    "png one bit": (lambda: encoded(BILEVEL, "PNG"), BILEVEL_RGB, 0),
    "png one bit, black transparent": (
        lambda: encoded(BILEVEL, "PNG", transparency=0),
        full(255),
        0,
    ),
    "png two bits": (
        lambda: png(64, 48, 2, 0, TWO_BITS_PACKED),
        grey_rgb(TWO_BITS * 85),
        0,
    ),
    "png two bits, one value transparent": (
        lambda: png(64, 48, 2, 0, TWO_BITS_PACKED, trns(2)),
        with_white(grey_rgb(TWO_BITS * 85), TWO_BITS == 2),
        0,
    ),
    "png palette": (
        lambda: encoded(Image.fromarray(PICTURE).quantize(8), "PNG"),
        paletted()[0],
        0,
    ),
    "png palette, one colour transparent": (
        lambda: palette_png(0),
        with_white(*paletted()),
        0,
    ),
    "png palette, many transparencies": (
        lambda: palette_png(bytes([0, 255, 128])),
        on_white(
            paletted()[0],
            np.select([paletted()[1], paletted(2)[1]], [0, 128], 255),
        ),
        1,
    ),
    "png grey, one value transparent": (
        lambda: encoded(GREY, "PNG", transparency=int(GREY[0, 0])),
        with_white(grey_rgb(GREY), GREY[0, 0] == GREY),
        0,
    ),
    "png rgb, one colour transparent": (
        lambda: encoded(PICTURE, "PNG", transparency=(200, 40, 40)),
        with_white(PICTURE, (PICTURE == (200, 40, 40)).all(axis=-1)),
        0,
    ),
    "png 16-bit rgb": (lambda: png(64, 48, 16, 2, wide_rgb()), PICTURE, 0),
    "png 16-bit rgb, one colour transparent": (
        lambda: png(64, 48, 16, 2, wide_rgb(), trns(200 * 256 + 77, 40 * 256 + 77, 40 * 256 + 77)),
        with_white(PICTURE, (PICTURE == (200, 40, 40)).all(axis=-1)),
        0,
    ),
    "png 16-bit grey": (lambda: encoded(RAMP_16, "PNG"), grey_rgb(RAMP_8), 0),
    "png 16-bit grey, one value transparent": (
        lambda: png(64, 48, 16, 0, RAMP_16.astype(">u2").tobytes(), trns(0)),
        with_white(grey_rgb(RAMP_8), RAMP_16 == 0),
        0,
    ),
    "png 16-bit grey alpha": (
        lambda: png(
            64,
            48,
            16,
            4,
            np.stack([RAMP_16, np.full_like(RAMP_16, 65535)], -1).astype(">u2").tobytes(),
        ),
        grey_rgb(RAMP_8),
        0,
    ),
    "png animated, first picture": (
        lambda: encoded(
            PICTURE, "PNG", save_all=True, append_images=[Image.new("RGB", (64, 48), "red")]
        ),
        PICTURE,
        0,
    ),
    "webp": (lambda: encoded(PICTURE, "WEBP", quality=95), PICTURE, 80),
    "webp lossless": (lambda: encoded(PICTURE, "WEBP", lossless=True), PICTURE, 0),
    "webp alpha": (
        lambda: encoded(RGBA, "WEBP", lossless=True, exact=True),
        on_white(PICTURE, ALPHA),
        1,
    ),
    "webp animated, first picture": (
        lambda: encoded(
            PICTURE,
            "WEBP",
            lossless=True,
            save_all=True,
            append_images=[Image.new("RGB", (64, 48), "red")],
        ),
        PICTURE,
        0,
    ),
    "bmp": (lambda: encoded(PICTURE, "BMP"), PICTURE, 0),
    "bmp grey": (lambda: encoded(GREY, "BMP"), grey_rgb(GREY), 0),
    "bmp one bit": (lambda: encoded(BILEVEL, "BMP"), BILEVEL_RGB, 0),
    "bmp palette": (
        lambda: encoded(Image.fromarray(PICTURE).quantize(8), "BMP"),
        paletted()[0],
        0,
    ),
    "gif": (lambda: encoded(Image.fromarray(PICTURE).quantize(8), "GIF"), paletted()[0], 0),
    "gif grey": (lambda: encoded(GREY, "GIF"), grey_rgb(GREY), 0),
    "gif transparent": (
        lambda: encoded(Image.fromarray(PICTURE).quantize(8), "GIF", transparency=0),
        with_white(*paletted()),
        0,
    ),
    "gif animated, first picture": (
        lambda: encoded(
            Image.fromarray(PICTURE).quantize(8),
            "GIF",
            save_all=True,
            append_images=[Image.new("P", (64, 48), 3)],
        ),
        paletted()[0],
        0,
    ),
    "tiff rgb": (lambda: encoded(PICTURE, "TIFF"), PICTURE, 0),
    "tiff rgba": (lambda: encoded(RGBA, "TIFF"), on_white(PICTURE, ALPHA), 1),
    "tiff grey alpha": (lambda: encoded(LA, "TIFF"), on_white(grey_rgb(GREY), ALPHA), 1),
    "tiff grey, alpha premultiplied": (premultiplied_tiff, on_white(grey_rgb(GREY), ALPHA), 3),
    "tiff palette with alpha": (
        lambda: encoded(
            Image.merge("LA", [Image.fromarray(PICTURE).quantize(8).convert("L"), LA.split()[1]]),
            "TIFF",
        ),
        on_white(
            np.asarray(Image.fromarray(PICTURE).quantize(8).convert("L").convert("RGB")), ALPHA
        ),
        1,
    ),
    "tiff lzw": (lambda: encoded(PICTURE, "TIFF", compression="tiff_lzw"), PICTURE, 0),
    "tiff deflate": (
        lambda: encoded(PICTURE, "TIFF", compression="tiff_adobe_deflate"),
        PICTURE,
        0,
    ),
    "tiff packbits": (lambda: encoded(PICTURE, "TIFF", compression="packbits"), PICTURE, 0),
    "tiff jpeg": (
        lambda: encoded(PICTURE, "TIFF", compression="jpeg", quality=95),
        PICTURE,
        80,
    ),
    "tiff fax": (lambda: encoded(BILEVEL, "TIFF", compression="group4"), BILEVEL_RGB, 0),
    "tiff big": (lambda: encoded(PICTURE, "TIFF", big_tiff=True), PICTURE, 0),
    "tiff first page": (
        lambda: encoded(
            PICTURE, "TIFF", save_all=True, append_images=[Image.new("RGB", (64, 48), "red")]
        ),
        PICTURE,
        0,
    ),
    "tiff cmyk": (lambda: encoded(cmyk_image(), "TIFF"), PICTURE, 1),
    "tiff ycbcr": (
        lambda: encoded(Image.fromarray(PICTURE).convert("YCbCr"), "TIFF"),
        PICTURE,
        3,
    ),
    "tiff lab": (
        lambda: encoded(Image.new("LAB", (64, 48), (137, 128, 128)), "TIFF"),
        full(128),
        2,
    ),
    "tiff 16-bit grey": (lambda: encoded(RAMP_16, "TIFF"), grey_rgb(RAMP_8), 0),
    "tiff 16-bit grey, lzw": (
        lambda: encoded(RAMP_16, "TIFF", compression="tiff_lzw"),
        grey_rgb(RAMP_8),
        0,
    ),
    "tiff 16-bit grey, big-endian": (
        lambda: grey_tiff(RAMP_16.astype(">u2"), 16, order=">"),
        grey_rgb(RAMP_8),
        0,
    ),
    "tiff 16-bit grey, white is zero": (
        lambda: grey_tiff(RAMP_16, 16, photometric=0),
        255 - grey_rgb(RAMP_8),
        0,
    ),
    "tiff 8-bit grey, white is zero": (
        lambda: grey_tiff(RAMP_8, 8, photometric=0),
        255 - grey_rgb(RAMP_8),
        0,
    ),
    "tiff 12-bit grey": (twelve_bit_tiff, grey_rgb(RAMP_8), 0),
    "tiff signed 16-bit": (
        lambda: grey_tiff((RAMP_16.astype(np.int32) - 32768).astype("<i2"), 16, 2),
        stretch(RAMP_16),
        0,
    ),
    "tiff 32-bit in 0-255": (lambda: encoded(INTS, "TIFF"), grey_rgb(INTS.astype(np.uint8)), 0),
    "tiff 32-bit in 0-65535": (
        lambda: encoded(RAMP_16.astype(np.int32), "TIFF"),
        grey_rgb(np.rint(RAMP_16 / 257).astype(np.uint8)),
        0,
    ),
    "tiff 32-bit of its own range": (
        lambda: encoded(INTS * 1000 - 5, "TIFF"),
        stretch(INTS),
        0,
    ),
    "tiff unsigned 32-bit": (
        lambda: grey_tiff((RAMP_16.astype(np.uint32) << 16), 32),
        stretch(RAMP_16),
        0,
    ),
    "tiff float 0-1": (
        lambda: encoded(FLOATS, "TIFF"),
        grey_rgb(np.rint(FLOATS * 255).astype(np.uint8)),
        0,
    ),
    "tiff float 0-255": (
        lambda: encoded(RAMP_8.astype(np.float32), "TIFF"),
        grey_rgb(RAMP_8),
        0,
    ),
    "tiff float of its own range": (
        lambda: encoded(FLOATS * np.float32(3e38) - np.float32(1e38), "TIFF"),
        stretch(FLOATS),
        1,
    ),
    "tiff float with holes": (lambda: encoded(HOLES, "TIFF"), grey_rgb(HOLES_8), 0),
    "tiff float, nothing finite": (lambda: encoded(FLOATS * np.nan, "TIFF"), full(0), 0),
    "tiff float, one value": (
        lambda: encoded(np.full((48, 64), -7, np.float32), "TIFF"),
        full(0),
        0,
    ),
    "avif": (lambda: encoded(PICTURE, "AVIF", quality=95, subsampling="4:4:4"), PICTURE, 12),
    "avif alpha": (
        lambda: encoded(RGBA, "AVIF", quality=95, subsampling="4:4:4"),
        on_white(PICTURE, ALPHA),
        16,
    ),
    "avif animated, first picture": (
        lambda: encoded(
            PICTURE,
            "AVIF",
            quality=95,
            subsampling="4:4:4",
            save_all=True,
            append_images=[Image.new("RGB", (64, 48), "red")],
        ),
        PICTURE,
        12,
    ),
    "heic": (lambda: encoded(PICTURE, "HEIC"), PICTURE, 12),
    "heic alpha": (lambda: encoded(RGBA, "HEIC"), on_white(PICTURE, ALPHA), 16),
    "heic grey": (lambda: encoded(GREY, "HEIC"), grey_rgb(GREY), 12),
    "heic 16-bit grey": (lambda: encoded(RAMP_16, "HEIC", quality=-1), grey_rgb(RAMP_8), 2),
    "heic grid": (lambda: encoded(PICTURE, "HEIC", tile_size=32), PICTURE, 12),
}


@pytest.mark.parametrize(("make", "expected", "tolerance"), MODES.values(), ids=MODES)
def test_every_type_and_mode_becomes_the_same_rgb(make, expected, tolerance):
    image = decode_image(make())
    assert image.shape == expected.shape
    assert image.dtype == np.uint8
    assert image.flags["C_CONTIGUOUS"]
    difference = np.abs(image.astype(int) - expected)
    assert difference.max() <= tolerance
    # Chroma stored at half size bleeds over the edges between the blocks, and nowhere else.
    assert difference.mean() <= min(tolerance, 5)


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


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


TURNED_TYPES = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "AVIF": {"quality": 95, "subsampling": "4:4:4"},
    "HEIC": {},
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("image_format", "options"), TURNED_TYPES.items(), ids=TURNED_TYPES)
def test_every_orientation_comes_out_upright(image_format, options, orientation):
    picture = np.ascontiguousarray(stored(PICTURE, orientation))
    content = encoded(picture, image_format, exif=exif_of(orientation), **options)
    image = decode_image(content)
    assert image.shape == PICTURE.shape
    assert np.abs(image.astype(int) - PICTURE).mean() < 4


@pytest.mark.parametrize("orientation", range(2, 9))
def test_compressed_tiff_is_turned_once(orientation):
    picture = np.ascontiguousarray(stored(PICTURE, orientation))
    options = {"exif": exif_of(orientation), "compression": "tiff_lzw"}
    np.testing.assert_array_equal(decode_image(encoded(picture, "TIFF", **options)), PICTURE)


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"nonsense",
    ],
)
def test_broken_exif_costs_nothing(exif):
    np.testing.assert_array_equal(decode_image(encoded(PICTURE, "PNG", exif=exif)), PICTURE)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_unknown_orientation_turns_nothing(orientation):
    content = encoded(PICTURE, "PNG", exif=exif_of(orientation))
    np.testing.assert_array_equal(decode_image(content), PICTURE)


def swapped_profile() -> bytes:
    """Return sRGB with its red and green primaries exchanged, under another name."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"rXYZ", b"none").replace(b"gXYZ", b"rXYZ").replace(b"none", b"gXYZ")
    return profile.replace("sRGB".encode("utf-16-be"), "Swap".encode("utf-16-be"))


@pytest.mark.parametrize(
    ("image_format", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})]
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_embedded_profile_is_converted_to_srgb(image_format, options, mode):
    picture = Image.fromarray(PICTURE).convert(mode)
    content = encoded(picture, image_format, icc_profile=swapped_profile(), **options)
    expected = PICTURE[..., [1, 0, 2]].astype(int)
    assert np.abs(decode_image(content) - expected).max() <= 3


@pytest.mark.parametrize(
    "profile",
    [
        b"not a profile",
        swapped_profile()[:200],
        ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        swapped_profile() + bytes(5 * 2**20),
    ],
    ids=["nonsense", "cut off", "of another mode", "srgb itself", "too large"],
)
def test_a_profile_that_cannot_serve_changes_nothing(profile):
    content = encoded(PICTURE, "TIFF", icc_profile=profile)
    np.testing.assert_array_equal(decode_image(content), PICTURE)


def one_bit_png(width: int, height: int) -> bytes:
    """Return an all-black PNG of any size without ever holding its rows."""
    compressor = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    data = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), png_chunk(b"IDAT", data), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def small_png(*chunks: bytes) -> bytes:
    return png(64, 48, 8, 2, PICTURE.tobytes(), *chunks)


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


def huge_jpeg() -> bytes:
    content = encoded(PICTURE, "JPEG")
    return with_bytes(content, content.index(b"\xff\xc0") + 5, struct.pack(">HH", 60000, 60000))


def huge_isobmff(image_format: str) -> bytes:
    content = encoded(PICTURE, image_format)
    at = content.index(b"ispe") + 8
    return with_bytes(content, at, struct.pack(">II", 12000, 12000))


def huge_bmp() -> bytes:
    return with_bytes(encoded(PICTURE, "BMP"), 18, struct.pack("<ii", 30000, 30000))


def tiff_fields(width: int, height: int, **more) -> dict:
    fields = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 277: 1}
    fields |= {int(tag[1:]): value for tag, value in more.items()}
    return {tag: (4, (value,)) for tag, value in fields.items()}


def huge_tiff_tile() -> bytes:
    return tiff(bytes(100), tiff_fields(64, 48, t259=8, t322=60000, t323=60000, t324=8, t325=100))


def tiff_with_entry(tag: int, field_type: int, count: int, value: int) -> bytes:
    directory = struct.pack("<HHHII", 1, tag, field_type, count, value) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + directory


def cut(image_format: str, share: float = 0.6, **options) -> bytes:
    content = encoded(PICTURE, image_format, **options)
    return content[: int(len(content) * share)]


def gif_screen(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0)


def gif_frame(width: int, height: int, dispose: int = 0) -> bytes:
    """Return a GIF whose frame is larger than its screen, with a disposal to make room for."""
    control = b"!\xf9\x04" + bytes([dispose << 2, 0, 0, 0, 0])
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x08\x02\x00\x01\x00;"
    return gif_screen(64, 48) + control + frame


TEXT_BOMB = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(64 * 2**20), 9))
PROFILE_BOMB = png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(64 * 2**20), 9))

BOMBS = {
    "webp of 34 bytes": lambda: webp_lossless_header(16383, 10900),
    "webp lossy": lambda: riff(
        b"VP8 ", b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383) + bytes(20)
    ),
    "webp animated canvas": lambda: webp_extended_header(12000, 12000),
    "png of 400 megapixels": lambda: one_bit_png(20000, 20000),
    "png of 60 megapixels": lambda: one_bit_png(7800, 7800),
    "png of 170 megapixels": lambda: one_bit_png(13100, 13000),
    "gif screen": lambda: gif_screen(65535, 65535) + b",",
    "gif frame over its screen": lambda: gif_frame(60000, 60000, 2),
    "gif frame under pillow's limit": lambda: gif_frame(9000, 9000),
    "jpeg": huge_jpeg,
    "bmp": huge_bmp,
    "tiff": lambda: tiff(bytes(64), tiff_fields(60000, 60000)),
    "tiff deflated": lambda: tiff(zlib.compress(bytes(2**20)), tiff_fields(60000, 900, t259=8)),
    "tiff tile": huge_tiff_tile,
    "avif": lambda: huge_isobmff("AVIF"),
    "heic": lambda: huge_isobmff("HEIC"),
}

METADATA_BOMBS = {
    "png text bomb": lambda: small_png(TEXT_BOMB),
    "png profile bomb": lambda: small_png(PROFILE_BOMB),
    "tiff tag count": lambda: b"II*\0\x08\0\0\0" + b"\xff\xff" + bytes(50),
    "tiff value count": lambda: tiff_with_entry(273, 4, 2**32 - 1, 8),
    "tiff many values": lambda: tiff(
        GREY.tobytes(), tiff_fields(64, 48) | {258: (3, (8,) * (2**22))}
    ),
    "big tiff tag count": lambda: b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**60),
}

OTHER_TYPES = {
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "svg with prolog": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
    "html": b"<!DOCTYPE html><script>alert(1)</script>",
    "html in utf-16": "<html>".encode("utf-16"),
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n(%pipe%id) (w) file\n",
    "dos eps": b"\xc5\xd0\xd3\xc6" + bytes(40),
    "ico": b"\0\0\x01\0\x01\0\x10\x10\0\0\x01\0\x20\0" + bytes(40),
    "psd": b"8BPS\0\x01" + bytes(40),
    "tga": b"\0\0\x02" + bytes(9) + b"\x40\0\x30\0\x18\0" + bytes(100),
    "mp4": brand(b"isom", b"iso2", b"avc1", b"mp41") + box(b"mdat", bytes(100)),
    "quicktime": brand(b"qt  ") + box(b"mdat", bytes(100)),
    "canon raw": brand(b"crx ", b"isom") + box(b"mdat", bytes(100)),
    "webm": b"\x1aE\xdf\xa3" + bytes(40),
    "avi": b"RIFF\x40\0\0\0AVI LIST" + bytes(40),
    "wav": b"RIFF\x40\0\0\0WAVEfmt " + bytes(40),
    "zip": b"PK\x03\x04" + bytes(40),
    "gzip": b"\x1f\x8b\x08" + bytes(40),
    "text": b"This is not an image at all.",
    "text with the letters of bmp": b"BMW is a maker of cars and motorcycles.",
    "json": b'{"image": "photo.jpg"}',
    "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40),
    "jpeg xl": b"\xff\x0a" + bytes(40),
    "ppm": b"P6\n64 48\n255\n" + bytes(64 * 48 * 3),
    "xbm": b"#define im_width 16\n#define im_height 16\n",
    "fits": b"SIMPLE  =                    T" + bytes(50),
    "dds": b"DDS |" + bytes(120),
    "wmf": b"\xd7\xcd\xc6\x9a" + bytes(40),
    "elf": b"\x7fELF\x02\x01\x01" + bytes(40),
    "pickle": b"\x80\x04\x95\x1a\0\0\0\0\0\0\0\x8c\x02os",
    "zeros": bytes(1000),
    "one byte": b"\xff",
    "half a png signature": b"\x89PNG",
    "gif of another version": b"GIF90a" + bytes(40),
    "camera raw, dng": tiff(PICTURE.tobytes(), tiff_fields(64, 48) | {50706: (1, (1, 4, 0, 0))}),
    "camera raw, preview first": tiff(GREY.tobytes(), tiff_fields(64, 48, t254=1)),
}

DAMAGED = {
    "jpeg, first marker only": lambda: b"\xff\xd8\xff\xe0",
    "jpeg, garbage after the marker": lambda: b"\xff\xd8\xff" + bytes(range(256)) * 4,
    "jpeg cut off": lambda: cut("JPEG"),
    "jpeg progressive cut off": lambda: cut("JPEG", 0.9, progressive=True),
    "png, signature only": lambda: b"\x89PNG\r\n\x1a\n",
    "png cut off": lambda: cut("PNG"),
    "png without its end": lambda: encoded(PICTURE, "PNG")[:-12],
    "png without pixels": lambda: (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0))
        + png_chunk(b"IEND", b"")
    ),
    "png with a wrong checksum": lambda: with_bytes(encoded(PICTURE, "PNG"), 30, b"\0\0"),
    "png of an unknown depth": lambda: png(64, 48, 3, 7, bytes(64 * 48)),
    "png with broken pixels": lambda: (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 8, 2, 0, 0, 0))
        + png_chunk(b"IDAT", b"\x78\x9c" + bytes(50))
        + png_chunk(b"IEND", b"")
    ),
    "png with no width": lambda: png(0, 48, 8, 2, bytes(48)),
    "gif, screen only": lambda: gif_screen(64, 48),
    "gif without a picture": lambda: gif_screen(64, 48) + b";",
    "gif cut off": lambda: cut("GIF"),
    "bmp, header only": lambda: encoded(PICTURE, "BMP")[:54],
    "bmp cut off": lambda: cut("BMP"),
    "bmp of an unknown compression": lambda: with_bytes(encoded(PICTURE, "BMP"), 30, b"\x63"),
    "webp, header only": lambda: encoded(PICTURE, "WEBP")[:12],
    "webp of an unknown chunk": lambda: riff(b"ABCD", bytes(40)),
    "webp cut off": lambda: cut("WEBP"),
    "webp without a picture": lambda: webp_extended_header(64, 48),
    "tiff, header only": lambda: b"II*\0\x08\0\0\0",
    "tiff, directory outside": lambda: b"MM\0*\xff\xff\xff\xf0" + bytes(40),
    "tiff, no tags": lambda: b"II*\0\x08\0\0\0\0\0\0\0\0\0",
    "tiff, pixels outside": lambda: tiff(bytes(10), tiff_fields(64, 48, t273=10**6)),
    "tiff of an unknown compression": lambda: tiff(bytes(64 * 48), tiff_fields(64, 48, t259=999)),
    "tiff of doubles": lambda: tiff(bytes(64 * 48 * 8), tiff_fields(64, 48, t258=64, t339=3)),
    "tiff with broken lzw": lambda: tiff(bytes(range(1, 200)), tiff_fields(64, 48, t259=5)),
    "tiff cut off": lambda: cut("TIFF"),
    "avif, brand only": lambda: brand(b"avif", b"mif1"),
    "avif cut off": lambda: cut("AVIF"),
    "heic, brand only": lambda: brand(b"heic", b"mif1"),
    "heic, garbage": lambda: brand(b"heic", b"mif1") + box(b"meta", bytes(range(200))),
    "heif of an unknown brand": lambda: brand(b"mif1") + box(b"meta", bytes(50)),
    "heic cut off": lambda: cut("HEIC"),
    "heic grid cut off": lambda: cut("HEIC", 0.9, tile_size=32),
}

IN_PIECES = {
    "jpeg of many exif segments": lambda: jpeg_with(segment(0xE1, b"Exif\0\0") * 1001),
    "jpeg of many comments": lambda: jpeg_with(segment(0xFE) * 1001),
    "jpeg of many segments between scans": lambda: jpeg_with(last=segment(0xE0) * 1001),
    "jpeg with an end before many segments": lambda: jpeg_with(b"\xff\xd9" + segment(0xE0) * 1001),
    "jpeg with restarts before its scan": lambda: jpeg_with(b"\xff\xd0" * 1001),
    "jpeg with many fill bytes": lambda: jpeg_with(b"\xff" * 1001),
    "jpeg with much junk": lambda: jpeg_with(segment(0xE0) + bytes(1001)),
    "jpeg of many scans": lambda: jpeg_with(scans=91),
    "jpeg of many scans behind an unknown marker": lambda: jpeg_with(
        last=b"\xff\x02\xff\xff" + segment(0xDA) * 91
    ),
}

TOO_SMALL = {
    "one pixel gif": lambda: encoded(GREY[:1, :1], "GIF"),
    "png of 15 pixels": lambda: encoded(PICTURE[:15], "PNG"),
    "tiff too long": lambda: tiff(bytes(17000 * 16), tiff_fields(17000, 16)),
    "png too long": lambda: one_bit_png(16, 17000),
}

BAD_INPUTS = (
    [("empty", lambda: b"", EmptyImageError)]
    + [("too many bytes", lambda: b"\xff\xd8\xff" + bytes(20 * 2**20), ImageTooLargeError)]
    + [
        (name, lambda content=content: content, ImageTypeError)
        for name, content in OTHER_TYPES.items()
    ]
    + [(name, make, ImageDimensionsError) for name, make in (BOMBS | TOO_SMALL).items()]
    + [("bmp, run-length coded", run_length_bmp, ImageTypeError)]
    + [(name, make, ImageError) for name, make in IN_PIECES.items()]
    + [(name, make, DamagedImageError) for name, make in (METADATA_BOMBS | DAMAGED).items()]
)


@pytest.mark.parametrize(
    ("make", "expected"), [case[1:] for case in BAD_INPUTS], ids=[case[0] for case in BAD_INPUTS]
)
def test_every_bad_input_ends_in_its_own_error(make, expected):
    with pytest.raises(ImageError) as caught:
        decode_image(make())
    assert type(caught.value) is expected
    message = str(caught.value)
    assert message.startswith("expected ")
    assert "; received " in message
    assert not set("<>&\"'\n") & set(message)


MARKERS = b"\xff\xda\xff\xe0" * 1001

WHOLE_JPEGS = {
    "many segments": lambda: jpeg_with(segment(0xE1, b"Exif\0\0") * 900),
    "many scans": lambda: jpeg_with(scans=90),
    "markers in a segment, as of a thumbnail": lambda: jpeg_with(segment(0xE1, MARKERS)),
    "a video behind the picture": lambda: jpeg_with() + MARKERS,
}


@pytest.mark.parametrize("make", WHOLE_JPEGS.values(), ids=WHOLE_JPEGS)
def test_a_jpeg_in_a_bearable_number_of_pieces_is_read(make):
    np.testing.assert_array_equal(decode_image(make()), decode_image(jpeg_with()))


def test_at_least_fifty_kinds_of_bad_input_are_tried():
    assert len({name for name, _, _ in BAD_INPUTS}) == len(BAD_INPUTS) >= 50


@pytest.mark.parametrize(
    ("content", "limits", "parts"),
    [
        (bytes(3 * 2**20), ImageLimits(max_bytes=2**21), ["at most 2 MB", "received 3.0 MB"]),
        (
            webp_lossless_header(16383, 10900),
            DEFAULT_LIMITS,
            ["at most 50 megapixels", "16383x10900 (178.6 megapixels)"],
        ),
        (one_bit_png(64, 48), ImageLimits(max_side=63), ["at most 63 pixels", "64x48"]),
        (one_bit_png(64, 48), ImageLimits(min_side=49), ["at least 49 pixels", "64x48"]),
        (one_bit_png(64, 48), ImageLimits(max_pixels=3071), ["0.003071 megapixels", "64x48"]),
        (
            b"%PDF-1.7\n",
            DEFAULT_LIMITS,
            ["JPEG, PNG, WebP", "none of them", "begins with %PDF-1.7"],
        ),
        (b"\0\x01\xfe" + bytes(40), DEFAULT_LIMITS, ["begins with the bytes 00 01 fe 00"]),
    ],
)
def test_messages_say_the_limit_and_what_came(content, limits, parts):
    with pytest.raises(ImageError) as caught:
        decode_image(content, limits)
    for part in parts:
        assert part in str(caught.value)


def test_limits_are_inclusive():
    content = one_bit_png(64, 48)
    limits = ImageLimits(len(content), max_pixels=64 * 48, max_side=64, min_side=48)
    assert decode_image(content, limits).shape == (48, 64, 3)
    for field in ("max_bytes", "max_pixels", "max_side"):
        with pytest.raises(ImageError):
            decode_image(content, replace(limits, **{field: getattr(limits, field) - 1}))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "BMP", "GIF", "AVIF", "HEIC"])
def test_pillows_own_limit_says_nothing_where_ours_allows_more(image_format, monkeypatch):
    content = encoded(GREY, image_format)
    for pillow_limit in (2000, 1000):  # a warning, and an error, for 64x48 pixels
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow_limit)
        assert decode_image(content).shape == PICTURE.shape


@pytest.mark.parametrize("image_format", ["TIFF", "WEBP"])
def test_pillows_own_error_is_told_as_ours(image_format, monkeypatch):
    content = encoded(PICTURE, image_format)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ImageDimensionsError, match="at most 50 megapixels; received a"):
        decode_image(content)


READ_BOMBS = """
import sys
from pathlib import Path
from emotion.errors import ImageError
from emotion.images.decoding import decode_image, read_image

def peak_kib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

paths = sorted(Path(sys.argv[1]).iterdir())
read_image(paths.pop(0))
before = peak_kib()
for path in paths:
    try:
        read_image(path)
    except ImageError:
        continue
    sys.exit(f"{path} was read")
print(peak_kib() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_bombs_take_little_memory(tmp_path):
    # ru_maxrss is no use here: a child inherits the peak of the process that started it.
    (tmp_path / "0.png").write_bytes(encode_png(PICTURE))
    bombs = BOMBS | METADATA_BOMBS
    if "HEIC" not in readable_types():
        bombs.pop("heic")
    for index, make in enumerate(bombs.values(), start=1):
        (tmp_path / f"{index}.bomb").write_bytes(make())
    command = [sys.executable, "-W", "error", "-c", READ_BOMBS, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 48 * 1024


def noisy_photo(mode: str = "RGB") -> Image.Image:
    """Return a picture whose every part matters to its bytes, so that any cut is seen."""
    noise = np.random.default_rng(3).integers(0, 256, (60, 72, 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


TRUNCATED = {
    "jpeg": ("JPEG", "RGB", {}),
    "jpeg progressive": ("JPEG", "RGB", {"progressive": True}),
    "jpeg cmyk": ("JPEG", "CMYK", {}),
    "jpeg restarts": ("JPEG", "RGB", {"restart_marker_rows": 1}),
    "png": ("PNG", "RGB", {"exif": exif_of(6)}),
    "png palette": ("PNG", "P", {}),
    "webp": ("WEBP", "RGB", {"exif": exif_of(6)}),
    "webp lossless": ("WEBP", "RGB", {"lossless": True}),
    "bmp": ("BMP", "RGB", {}),
    "gif": ("GIF", "P", {}),
    "tiff": ("TIFF", "RGB", {"exif": exif_of(6), "icc_profile": swapped_profile()}),
    "tiff lzw": ("TIFF", "RGB", {"compression": "tiff_lzw", "exif": exif_of(6)}),
    "tiff deflate": ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}),
    "tiff jpeg": ("TIFF", "RGB", {"compression": "jpeg"}),
    "tiff fax": ("TIFF", "1", {"compression": "group4"}),
    "avif": ("AVIF", "RGB", {"exif": exif_of(6)}),
    "heic": ("HEIC", "RGB", {"exif": exif_of(6)}),
    "heic grid": ("HEIC", "RGB", {"tile_size": 32}),
}


def offsets(size: int) -> list[int]:
    """Return where to cut: through the head, through the tail, and anywhere between."""
    anywhere = random.Random(size).sample(range(1, size), 40)
    return sorted({*range(0, 120, 11), *anywhere, *range(size - 60, size, 3), size - 1})


@pytest.mark.parametrize(("image_format", "mode", "options"), TRUNCATED.values(), ids=TRUNCATED)
def test_a_cut_file_raises_or_is_whole(image_format, mode, options):
    content = encoded(noisy_photo(mode), image_format, **options)
    whole = decode_image(content)
    raised = 0
    for offset in offsets(len(content)):
        try:
            np.testing.assert_array_equal(decode_image(content[:offset]), whole)
        except ImageError:
            raised += 1
    assert raised >= 50


@pytest.mark.parametrize(
    "image_format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIC"]
)
def test_flipped_bytes_raise_nothing_but_image_errors(image_format):
    content = encoded(noisy_photo(), image_format)
    chance = random.Random(11)
    outcomes = set()
    for _ in range(80):
        broken = bytearray(content)
        for _ in range(chance.choice([1, 3, 10])):
            broken[chance.randrange(chance.choice([200, len(content)]))] = chance.randrange(256)
        try:
            decode_image(bytes(broken))
        except ImageError as error:
            outcomes.add(type(error))
    assert outcomes


def test_odd_tiff_tags_raise_no_warning():
    fields = tiff_fields(64, 48) | {274: (3, (1, 1, 1, 1)), 282: (4, (72, 72, 72))}
    fields[34665] = (4, (9,))  # an EXIF directory that is none
    np.testing.assert_array_equal(decode_image(tiff(GREY.tobytes(), fields)), grey_rgb(GREY))


def test_a_tiff_that_lost_its_profile_is_damaged():
    fields = tiff_fields(64, 48) | {34675: (1, tuple(swapped_profile()))}
    content = tiff(GREY.tobytes(), fields)
    assert decode_image(content).shape == PICTURE.shape
    with pytest.raises(DamagedImageError):
        decode_image(content[:-1])


def test_threads_agree_and_set_the_warning_filters_once():
    corner = PICTURE[8:24, 8:24].copy()
    contents = [encoded(corner, "TIFF")] * 1000
    decode_image(contents[0])
    before, interval = list(warnings.filters), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that threads interrupt each other where it could hurt
    try:
        with ThreadPoolExecutor(8) as executor:
            decoded = list(executor.map(decode_image, contents))
    finally:
        sys.setswitchinterval(interval)
    assert all(np.array_equal(image, corner) for image in decoded)
    assert warnings.filters == before


def test_one_slow_header_stops_no_other_photo(monkeypatch):
    began, go_on = threading.Event(), threading.Event()
    plugins = dict(decoding._PLUGINS)

    def slow(file):
        began.set()
        assert go_on.wait(30)
        return plugins["JPEG"](file)

    monkeypatch.setattr(decoding, "_PLUGINS", plugins | {"JPEG": slow})
    with ThreadPoolExecutor(2) as executor:
        first = executor.submit(decode_image, encoded(PICTURE, "JPEG"))
        try:
            assert began.wait(30)
            second = executor.submit(decode_image, encoded(PICTURE, "PNG"))
            assert second.result(30).shape == PICTURE.shape
        finally:
            go_on.set()
        assert first.result().shape == PICTURE.shape


def test_pillow_is_left_as_it_was():
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, sorted(Image.OPEN))
    for make in (MODES["png rgb"][0], MODES["heic"][0], BOMBS["webp of 34 bytes"]):
        with pytest.raises(ImageDimensionsError):
            decode_image(make(), ImageLimits(max_pixels=100))
    decode_image(MODES["heic"][0]())
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, sorted(Image.OPEN)) == before


def test_importing_loads_nothing_heavy():
    heavy = [
        "cv2",
        "tensorflow",
        "keras",
        "matplotlib",
        "pillow_heif",
        "PIL.ImageCms",
        "onnxruntime",
    ]
    code = f"import sys, emotion.images.decoding; print([n for n in {heavy} if n in sys.modules])"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_heic_without_pillow_heif_says_how_to_enable_it(monkeypatch):
    content = brand(b"heic", b"mif1") + box(b"meta")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert readable_types() == decoding.READ_TYPES[:-1]
    with pytest.raises(ImageTypeError, match="pip install pillow-heif"):
        decode_image(content)


def test_avif_without_pillows_support_is_said(monkeypatch):
    monkeypatch.setattr(decoding.features, "check", lambda name: False)
    assert "AVIF" not in readable_types()
    with pytest.raises(ImageTypeError, match="an AVIF image, which this build"):
        decode_image(brand(b"avif", b"mif1"))


def test_real_photos_keep_their_size():
    data = pytest.importorskip("skimage.data")
    photo = data.astronaut()
    image = decode_image(encode_jpeg(photo, quality=95))
    assert image.shape == photo.shape
    assert np.abs(image.astype(int) - photo).mean() < 3


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda folder: folder / "missing.jpg", ImageError),
        (lambda folder: folder, ImageError),
        (lambda folder: Path("/dev/zero"), ImageError),
        (lambda folder: folder / "bad\0name.jpg", ImageError),
        (lambda folder: written(folder / "empty.jpg", b""), EmptyImageError),
        (lambda folder: written(folder / "text.jpg", b"just text"), ImageTypeError),
        (lambda folder: written(folder / "big.jpg", bytes(30 * 2**20)), ImageTooLargeError),
        (lambda folder: written(folder / "cut.png", cut("PNG")), DamagedImageError),
    ],
    ids=["missing", "folder", "device", "null in its name", "empty", "text", "big", "cut off"],
)
def test_a_file_that_cannot_be_read_is_an_image_error(tmp_path, make, expected):
    with pytest.raises(ImageError, match=r"^expected .+; received .+") as caught:
        read_image(make(tmp_path))
    assert type(caught.value) is expected


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_file_is_told_by_its_content_not_its_name(tmp_path):
    path = written(tmp_path / "photo.jpg", encode_png(PICTURE))
    np.testing.assert_array_equal(read_image(path), PICTURE)


@pytest.mark.parametrize(
    ("name", "beginning", "tolerance"),
    [
        ("a.jpg", b"\xff\xd8\xff", 80),
        ("a.JPEG", b"\xff\xd8\xff", 80),
        ("a.png", b"\x89PNG", 0),
        ("a.webp", b"RIFF", 80),
    ],
)
def test_written_images_read_back(tmp_path, name, beginning, tolerance):
    path = tmp_path / name
    path.write_bytes(b"an older file")
    write_image(path, PICTURE)
    assert path.read_bytes().startswith(beginning)
    assert np.abs(read_image(path).astype(int) - PICTURE).max() <= tolerance
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_a_view_is_written_as_it_looks(tmp_path):
    turned = np.rot90(PICTURE)
    write_image(tmp_path / "turned.png", turned)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png"), turned)


@pytest.mark.parametrize("name", ["a.gif", "a.tiff", "a", "a.svg", "a.jpg.txt"])
def test_an_unknown_suffix_names_those_written(tmp_path, name):
    with pytest.raises(ImageTypeError, match=r"\.jpg, \.jpeg, \.png, \.webp; received"):
        write_image(tmp_path / name, PICTURE)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_keeps_nothing(tmp_path):
    with pytest.raises(ImageError, match="expected a place to write to"):
        write_image(tmp_path / "no folder" / "a.png", PICTURE)
    (tmp_path / "a.png").mkdir()
    with pytest.raises(ImageError, match="expected a place to write to"):
        write_image(tmp_path / "a.png", PICTURE)
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    "image",
    [GREY, RGBA, PICTURE.astype(float), PICTURE[:0], PICTURE.tolist(), None],
    ids=["grey", "alpha", "float", "no rows", "list", "nothing"],
)
@pytest.mark.parametrize("encode", [encode_jpeg, encode_png])
def test_only_rgb_arrays_are_encoded(encode, image):
    with pytest.raises(ImageError, match=r"expected a uint8 array of shape \(height, width, 3\)"):
        encode(image)


def test_an_image_too_wide_for_its_type_is_an_image_error(tmp_path):
    wide = np.zeros((16, 70_000, 3), np.uint8)
    for name in ("a.jpg", "a.webp"):
        with pytest.raises(ImageError, match="70000x16"):
            write_image(tmp_path / name, wide)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("encode", [encode_jpeg, encode_png])
def test_encoded_images_carry_no_metadata(encode):
    exif = exif_of(6)
    exif[0x010F] = "SecretMaker"
    options = {"exif": exif, "icc_profile": swapped_profile(), "comment": b"SecretComment"}
    content = encode(decode_image(encoded(PICTURE, "JPEG", **options)))
    with Image.open(io.BytesIO(content)) as image:
        assert not set(image.info) - {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert b"Secret" not in content


def test_jpeg_quality_is_heeded():
    photo = np.asarray(noisy_photo())
    assert len(encode_jpeg(photo, quality=30)) < len(encode_jpeg(photo, quality=90))


def large_jpeg(orientation: int = 1, size_wh=(403, 301), **options) -> bytes:
    """Return a smooth picture as a JPEG of odd sides, stored turned."""
    upright = np.asarray(Image.fromarray(PICTURE).resize(size_wh, Image.Resampling.BICUBIC))
    picture = np.ascontiguousarray(stored(upright, orientation))
    return encoded(picture, "JPEG", quality=95, exif=exif_of(orientation), **options)


@pytest.mark.parametrize(
    ("enough_pixels", "sides"),
    [
        (None, (403, 301)),
        (403 * 301, (403, 301)),
        (201 * 150 + 1, (403, 301)),
        (201 * 150, (202, 151)),
        (100 * 75, (101, 76)),
        (1, (51, 38)),
        (0, (51, 38)),
    ],
)
def test_a_large_jpeg_is_decoded_no_larger_than_is_enough(enough_pixels, sides):
    content = large_jpeg()
    photo = decode_photo(content, enough_pixels=enough_pixels)
    assert photo.pixels.shape == (*sides[::-1], 3)
    assert photo.size_wh == (403, 301)
    np.testing.assert_array_equal(photo.full, decode_image(content))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_reduced_photo_is_upright_and_knows_its_full_size(orientation):
    upright = decode_image(large_jpeg())
    photo = decode_photo(large_jpeg(orientation), enough_pixels=200 * 150)
    assert photo.size_wh == (403, 301)
    assert photo.full.shape == upright.shape
    small = np.asarray(Image.fromarray(upright).resize(photo.pixels.shape[1::-1]))
    assert np.abs(photo.pixels.astype(int) - small).mean() < 4


@pytest.mark.parametrize(
    "make",
    [
        lambda: large_jpeg(progressive=True),
        lambda: encoded(cmyk_image().resize((400, 300)), "JPEG", quality=100),
        lambda: encoded(Image.fromarray(GREY).resize((400, 300)), "JPEG"),
        lambda: encoded(
            Image.fromarray(PICTURE).resize((400, 300)), "JPEG", icc_profile=swapped_profile()
        ),
    ],
    ids=["progressive", "cmyk", "grey", "profile"],
)
def test_colours_are_those_of_the_full_size(make):
    photo = decode_photo(make(), enough_pixels=1000)
    assert photo.pixels.size < photo.full.size / 10
    small = np.asarray(Image.fromarray(photo.full).resize(photo.pixels.shape[1::-1]))
    assert np.abs(photo.pixels.astype(int) - small).mean() < 6


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_other_types_keep_their_full_size(image_format):
    photo = decode_photo(encoded(PICTURE, image_format), enough_pixels=1)
    assert photo.pixels.shape == PICTURE.shape
    assert photo.full is photo.pixels


def test_limits_hold_for_the_full_size():
    with pytest.raises(ImageDimensionsError, match="403x301"):
        decode_photo(large_jpeg(), ImageLimits(max_pixels=403 * 301 - 1), enough_pixels=1)
    with pytest.raises(ImageDimensionsError, match="60000x60000"):
        decode_photo(huge_jpeg(), enough_pixels=1)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_cut_file_is_noticed_at_a_reduced_scale_too(options):
    content = encoded(noisy_photo(), "JPEG", **options)
    for offset in offsets(len(content) - 2):
        with pytest.raises(ImageError):
            decode_photo(content[:offset], enough_pixels=1)


@pytest.mark.parametrize(
    ("box", "full"),
    [
        ((0, 0, 202, 151), (0, 0, 403, 301)),
        ((101, 0, 101, 76), (202, 0, 201, 151)),
        ((10, 20, 30, 40), (20, 40, 60, 80)),
    ],
)
def test_boxes_at_full_size_stay_inside(box, full):
    assert decode_photo(large_jpeg(), enough_pixels=100**2).at_full_size(box) == full


def test_a_small_face_is_shown_from_the_full_size_alone():
    photo = decode_photo(large_jpeg(), enough_pixels=200 * 150)
    pixels, box = photo.showing((40, 60, 100, 120), 49)
    assert pixels is photo.pixels
    np.testing.assert_allclose(box, (20, 30, 50, 60), rtol=0.01)
    pixels, box = photo.showing((40, 60, 100, 120), 51)
    assert pixels is photo.full
    assert box == (40, 60, 100, 120)


def test_enough_pixels_are_enough_for_every_detector():
    assert DetectorSettings().working_pixels <= ENOUGH_PIXELS
    assert YunetSettings().detail_pixels <= ENOUGH_PIXELS


def test_an_array_is_a_photo_of_full_size():
    photo = Photo.of(PICTURE)
    assert (photo.full is PICTURE, photo.size_wh, Photo.of(photo) is photo) == (
        True,
        (64, 48),
        True,
    )
    assert photo.at_full_size((1, 2, 3, 4)) == (1, 2, 3, 4)
    pixels, box = photo.showing((1, 2, 3, 4), 48)
    assert (pixels is PICTURE, box) == (True, (1, 2, 3, 4))


def test_read_photo_reads_as_decode_photo(tmp_path):
    photo = read_photo(written(tmp_path / "large.jpg", large_jpeg()), enough_pixels=200 * 150)
    again = decode_photo(large_jpeg(), enough_pixels=200 * 150)
    np.testing.assert_array_equal(photo.pixels, again.pixels)
    assert photo.size_wh == again.size_wh
