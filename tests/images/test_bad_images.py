"""Every bad image file ends in its own error, soon and in little memory."""

import random
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import image_files as files
import numpy as np
import pytest
from image_files import GREY, PICTURE, box, brand, cut, encoded, tiff, tiff_fields
from PIL import Image

from emotion.errors import (
    DamagedImageError,
    EmptyImageError,
    ImageDimensionsError,
    ImageError,
    ImageTooLargeError,
    ImageTypeError,
)
from emotion.images.decoding import decode_image, read_image
from emotion.images.encoding import encode_png
from emotion.images.guards import ImageLimits, readable_types

ROOT = Path(__file__).resolve().parents[2]


TEXT_BOMB = files.png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(64 * 2**20), 9))
PROFILE_BOMB = files.png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(64 * 2**20), 9))

BOMBS = {
    "webp of 34 bytes": lambda: files.webp_lossless_header(16383, 10900),
    "webp lossy": lambda: files.riff(
        b"VP8 ", b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383) + bytes(20)
    ),
    "webp animated canvas": lambda: files.webp_extended_header(12000, 12000),
    "png of 400 megapixels": lambda: files.one_bit_png(20000, 20000),
    "png of 170 megapixels": lambda: files.one_bit_png(13100, 13000),
    "gif screen": lambda: files.gif_screen(65535, 65535) + b",",
    "gif frame over its screen": lambda: files.gif_frame(60000, 60000, 2),
    "gif frame under pillow's limit": lambda: files.gif_frame(9000, 9000),
    "jpeg": files.huge_jpeg,
    "bmp": files.huge_bmp,
    "tiff": lambda: tiff(bytes(64), tiff_fields(60000, 60000)),
    "tiff deflated": lambda: tiff(zlib.compress(bytes(2**20)), tiff_fields(60000, 900, t259=8)),
    "tiff tile": files.huge_tiff_tile,
    "avif": lambda: files.huge_isobmff("AVIF"),
    "heic": lambda: files.huge_isobmff("HEIC"),
}

METADATA_BOMBS = {
    "png text bomb": lambda: files.small_png(TEXT_BOMB),
    "png profile bomb": lambda: files.small_png(PROFILE_BOMB),
    "tiff tag count": lambda: b"II*\0\x08\0\0\0" + b"\xff\xff" + bytes(50),
    "tiff value count": lambda: files.tiff_with_entry(273, 4, 2**32 - 1, 8),
    "tiff many values": lambda: tiff(
        GREY.tobytes(), tiff_fields(64, 48) | {258: (3, (8,) * (2**22))}
    ),
    "big tiff tag count": lambda: b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**60),
    "big tiff of many tags": lambda: (
        b"II+\0\x08\0\0\0" + struct.pack("<QQ", 16, 2**19) + bytes(20 * 2**19)
    ),
}

OTHER_TYPES = {
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "html": b"<!DOCTYPE html><script>alert(1)</script>",
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n(%pipe%id) (w) file\n",
    "mp4": brand(b"isom", b"iso2", b"avc1", b"mp41") + box(b"mdat", bytes(100)),
    "text": b"This is not an image at all.",
    "text with the letters of bmp": b"BMW is a maker of cars and motorcycles.",
    "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40),
    "ppm": b"P6\n64 48\n255\n" + bytes(64 * 48 * 3),
    "zeros": bytes(1000),
    "half a png signature": b"\x89PNG",
    "camera raw, dng": tiff(PICTURE.tobytes(), tiff_fields(64, 48) | {50706: (1, (1, 4, 0, 0))}),
    "camera raw, preview first": tiff(GREY.tobytes(), tiff_fields(64, 48, t254=1)),
}

DAMAGED = {
    "jpeg cut off": lambda: cut("JPEG"),
    "jpeg progressive cut off": lambda: cut("JPEG", 0.9, progressive=True),
    "png cut off": lambda: cut("PNG"),
    "png without its end": lambda: encoded(PICTURE, "PNG")[:-12],
    "png with a wrong checksum": lambda: files.with_bytes(encoded(PICTURE, "PNG"), 30, b"\0\0"),
    "png with broken pixels": lambda: files.with_bytes(encoded(PICTURE, "PNG"), 43, bytes(9)),
    "gif cut off": lambda: cut("GIF"),
    "bmp cut off": lambda: cut("BMP"),
    "bmp of an unknown compression": lambda: files.with_bytes(encoded(PICTURE, "BMP"), 30, b"\x63"),
    "webp of an unknown chunk": lambda: files.riff(b"ABCD", bytes(40)),
    "webp without a picture": lambda: files.webp_extended_header(64, 48),
    "tiff, directory outside": lambda: b"MM\0*\xff\xff\xff\xf0" + bytes(40),
    "tiff, pixels outside": lambda: tiff(bytes(10), tiff_fields(64, 48, t273=10**6)),
    "tiff of an unknown compression": lambda: tiff(bytes(64 * 48), tiff_fields(64, 48, t259=999)),
    "tiff with broken lzw": lambda: tiff(bytes(range(1, 200)), tiff_fields(64, 48, t259=5)),
    "tiff cut off": lambda: cut("TIFF"),
    "avif cut off": lambda: cut("AVIF"),
    "heic, brand only": lambda: brand(b"heic", b"mif1"),
    "heic, garbage": lambda: brand(b"heic", b"mif1") + box(b"meta", bytes(range(200))),
    "heic cut off": lambda: cut("HEIC"),
    "heic grid cut off": lambda: cut("HEIC", 0.9, tile_size=32),
}

IN_PIECES = {
    "jpeg of many exif segments": lambda: files.jpeg_with(files.segment(0xE1, b"Exif\0\0") * 1001),
    "jpeg of many comments": lambda: files.jpeg_with(files.segment(0xFE) * 1001),
    "jpeg of many segments between scans": lambda: files.jpeg_with(last=files.segment(0xE0) * 1001),
    "jpeg with an end before many segments": lambda: files.jpeg_with(
        b"\xff\xd9" + files.segment(0xE0) * 1001
    ),
    "jpeg with restarts before its scan": lambda: files.jpeg_with(b"\xff\xd0" * 1001),
    "jpeg with much junk": lambda: files.jpeg_with(files.segment(0xE0) + bytes(1001)),
    "jpeg of many scans": lambda: files.jpeg_with(scans=91),
    "jpeg of many scans behind an unknown marker": lambda: files.jpeg_with(
        last=b"\xff\x02\xff\xff" + files.segment(0xDA) * 91
    ),
}

TOO_SMALL = {
    "one pixel gif": lambda: encoded(GREY[:1, :1], "GIF"),
    "png of 15 pixels": lambda: encoded(PICTURE[:15], "PNG"),
    "tiff too long": lambda: tiff(bytes(17000 * 16), tiff_fields(17000, 16)),
    "png too long": lambda: files.one_bit_png(16, 17000),
}

DEPTHS = {
    f"tiff of {bits} bits, {kind}": lambda bits=bits, kind=kind: files.grey_tiff(
        bytes(64 * 48 * bits // 8), bits, kind
    )
    for bits, kind in ((12, 1), (24, 1), (32, 1), (64, 1), (16, 2), (32, 2), (16, 3), (64, 3))
}


def constant(content: bytes):
    return lambda: content


BAD_INPUTS = {
    name: (make, error)
    for error, makes in {
        EmptyImageError: {"empty": constant(b"")},
        ImageTooLargeError: {"too many bytes": lambda: b"\xff\xd8\xff" + bytes(20 * 2**20)},
        ImageTypeError: {name: constant(content) for name, content in OTHER_TYPES.items()}
        | {"bmp, run-length coded": files.run_length_bmp}
        | DEPTHS,
        ImageDimensionsError: BOMBS | TOO_SMALL,
        ImageError: IN_PIECES,
        DamagedImageError: METADATA_BOMBS | DAMAGED,
    }.items()
    for name, make in makes.items()
}


@pytest.mark.parametrize(("make", "expected"), BAD_INPUTS.values(), ids=BAD_INPUTS)
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
    "many segments": lambda: files.jpeg_with(files.segment(0xE1, b"Exif\0\0") * 900),
    "many scans": lambda: files.jpeg_with(scans=90),
    "markers in a segment, as of a thumbnail": lambda: files.jpeg_with(
        files.segment(0xE1, MARKERS)
    ),
    "a video behind the picture": lambda: files.jpeg_with() + MARKERS,
}


@pytest.mark.parametrize("make", WHOLE_JPEGS.values(), ids=WHOLE_JPEGS)
def test_a_jpeg_in_a_bearable_number_of_pieces_is_read(make):
    np.testing.assert_array_equal(decode_image(make()), decode_image(files.jpeg_with()))


def test_limits_are_inclusive():
    content = files.one_bit_png(64, 48)
    limits = ImageLimits(len(content), max_pixels=64 * 48, max_side=64, min_side=48)
    assert decode_image(content, limits).shape == (48, 64, 3)
    for field in ("max_bytes", "max_pixels", "max_side"):
        with pytest.raises(ImageError):
            decode_image(content, replace(limits, **{field: getattr(limits, field) - 1}))


def test_pillows_own_limit(monkeypatch):
    contents = {kind: encoded(GREY, kind) for kind in ("JPEG", "PNG", "BMP", "GIF")}
    refused = [encoded(PICTURE, kind) for kind in ("TIFF", "WEBP")]
    for pillow_limit in (2000, 1000):  # a warning, and an error, for 64x48 pixels
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow_limit)
        for content in contents.values():
            assert decode_image(content).shape == PICTURE.shape
    for content in refused:
        with pytest.raises(ImageDimensionsError, match="50 megapixels"):
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


TRUNCATED = {
    "jpeg": ("JPEG", "RGB", {}),
    "jpeg progressive": ("JPEG", "RGB", {"progressive": True}),
    "png": ("PNG", "RGB", {"exif": files.exif_of(6)}),
    "webp": ("WEBP", "RGB", {"exif": files.exif_of(6)}),
    "webp lossless": ("WEBP", "RGB", {"lossless": True}),
    "bmp": ("BMP", "RGB", {}),
    "gif": ("GIF", "P", {}),
    "tiff": ("TIFF", "RGB", {"exif": files.exif_of(6), "icc_profile": files.swapped_profile()}),
    "tiff lzw": ("TIFF", "RGB", {"compression": "tiff_lzw", "exif": files.exif_of(6)}),
    "tiff deflate": ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}),
    "avif": ("AVIF", "RGB", {"exif": files.exif_of(6)}),
    "heic": ("HEIC", "RGB", {"exif": files.exif_of(6)}),
    "heic grid": ("HEIC", "RGB", {"tile_size": 32}),
}


def offsets(size: int) -> list[int]:
    """Return where to cut: through the head, through the tail, and anywhere between."""
    anywhere = random.Random(size).sample(range(1, size), 20)
    return sorted({*range(0, 120, 15), *anywhere, *range(size - 60, size, 6), size - 1})


@pytest.mark.parametrize(("image_format", "mode", "options"), TRUNCATED.values(), ids=TRUNCATED)
def test_a_cut_file_raises_or_is_whole(image_format, mode, options):
    content = encoded(files.noisy_photo(mode), image_format, **options)
    whole = decode_image(content)
    raised = 0
    for offset in offsets(len(content)):
        try:
            np.testing.assert_array_equal(decode_image(content[:offset]), whole)
        except ImageError:
            raised += 1
    assert raised >= 25


@pytest.mark.parametrize(
    "image_format", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIC"]
)
def test_flipped_bytes_raise_nothing_but_image_errors(image_format):
    content = encoded(files.noisy_photo(), image_format)
    chance = random.Random(11)
    outcomes = set()
    for _ in range(40):
        broken = bytearray(content)
        for _ in range(chance.choice([1, 3, 10])):
            broken[chance.randrange(chance.choice([200, len(content)]))] = chance.randrange(256)
        try:
            decode_image(bytes(broken))
        except ImageError as error:
            outcomes.add(type(error))
    assert outcomes


def test_a_tiff_that_lost_its_profile_is_damaged():
    fields = tiff_fields(64, 48) | {34675: (1, tuple(files.swapped_profile()))}
    content = tiff(GREY.tobytes(), fields)
    assert decode_image(content).shape == PICTURE.shape
    with pytest.raises(DamagedImageError):
        decode_image(content[:-1])


def test_a_file_that_cannot_be_read_is_an_image_error(tmp_path):
    contents = {"text": b"just text", "big": bytes(30 * 2**20), "cut": cut("PNG"), "empty": b""}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for name, expected in {
        "missing": ImageError,
        ".": ImageError,
        "/dev/zero": ImageError,
        "bad\0name": ImageError,
        "empty": EmptyImageError,
        "text": ImageTypeError,
        "big": ImageTooLargeError,
        "cut": DamagedImageError,
    }.items():
        with pytest.raises(ImageError) as caught:
            read_image(tmp_path / name)
        assert type(caught.value) is expected, name
