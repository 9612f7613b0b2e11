"""Every bad image file ends in its own error, soon and in little memory."""

import contextlib
import random
import re
import subprocess
import sys
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from struct import pack

import image_files as files
import numpy as np
import pytest
from image_files import GREY, PICTURE, box, encoded, jpeg_with, png, png_chunk, riff, segment, tiff
from PIL import Image

from emotion import errors
from emotion.images import guards
from emotion.images.decoding import decode_image, read_image
from emotion.images.guards import ImageLimits, readable_types

ROOT = Path(__file__).resolve().parents[2]


def one_bit_png(width: int, height: int) -> bytes:
    return png(1, 0, bytes((width + 7) // 8 * height), size_wh=(width, height))


def cut(image_format: str, share: float = 0.6, **options) -> bytes:
    content = encoded(PICTURE, image_format, **options)
    return content[: int(len(content) * share)]


def patched(image_format: str, mark: bytes, offset: int, new: bytes) -> bytes:
    """Return a file with other bytes in it, so far from a mark."""
    content = encoded(PICTURE, image_format)
    at = content.index(mark) + offset
    return content[:at] + new + content[at + len(new) :]


def gif_frame(side: int, dispose: int) -> bytes:
    """Return a GIF whose frame is larger than its screen, with a disposal to make room for."""
    control = b"!\xf9\x04" + bytes([dispose << 2, 0, 0, 0, 0])
    frame = b"," + pack("<HHHHB", 0, 0, side, side, 0) + b"\x08\x02\x00\x01\x00;"
    return b"GIF89a" + pack("<HHBBB", 64, 48, 0, 0, 0) + control + frame


def brand(major: bytes, *others: bytes) -> bytes:
    return box(b"ftyp", major + bytes(4) + b"".join(others))


BOMBS = {
    "webp of 34 bytes": riff(b"VP8L", pack("<BII", 0x2F, 16382 | 10899 << 14, 0x88888)),
    "webp lossy": riff(b"VP8 ", pack("<6sHH20x", b"\x30\x01\x00\x9d\x01\x2a", 16383, 16383)),
    "webp animated canvas": riff(b"VP8X", b"\x02\0\0\0" + pack("<I", 11999)[:3] * 2),
    "png of 400 megapixels": lambda: one_bit_png(20000, 20000),
    "png of 170 megapixels": lambda: one_bit_png(13100, 13000),
    "gif screen": b"GIF89a" + pack("<HHBBB", 65535, 65535, 0, 0, 0) + b",",
    "gif frame over its screen": gif_frame(60000, 2),
    "gif frame under pillow's limit": gif_frame(9000, 0),
    "jpeg": lambda: patched("JPEG", b"\xff\xc0", 5, pack(">HH", 60000, 60000)),
    "bmp": lambda: patched("BMP", b"BM", 18, pack("<ii", 30000, 30000)),
    "tiff": tiff(bytes(64), size_wh=(60000, 60000)),
    "tiff deflated": tiff(zlib.compress(bytes(2**20)), {259: 8}, (60000, 900)),
    "tiff tile": tiff(bytes(100), {259: 8, 322: 60000, 323: 60000, 324: 8, 325: 100}),
    "avif": lambda: patched("AVIF", b"ispe", 8, pack(">II", 12000, 12000)),
    "heic": lambda: patched("HEIC", b"ispe", 8, pack(">II", 12000, 12000)),
}

PICTURE_PNG = partial(png, 8, 2, PICTURE.tobytes())
ZEROS = zlib.compress(bytes(64 * 2**20), 9)
METADATA_BOMBS = {
    "png text bomb": PICTURE_PNG(png_chunk(b"zTXt", b"Comment\0\0" + ZEROS)),
    "png profile bomb": PICTURE_PNG(png_chunk(b"iCCP", b"icc\0\0" + ZEROS)),
    "tiff tag count": b"II*\0\x08\0\0\0" + b"\xff\xff" + bytes(50),
    "tiff value count": b"II*\0\x08\0\0\0" + pack("<HHHIII", 1, 273, 4, 2**32 - 1, 8, 0),
    "tiff many values": lambda: tiff(GREY.tobytes(), {258: (3, (8,) * 2**22)}),
    "big tiff tag count": pack("<3sxIQQ", b"II+", 8, 16, 2**60),
    "big tiff of many tags": lambda: pack("<3sxIQQ", b"II+", 8, 16, 2**19) + bytes(20 * 2**19),
}

TOO_SMALL_OR_LONG = {
    "one pixel gif": lambda: encoded(GREY[:1, :1], "GIF"),
    "png of 15 pixels": lambda: encoded(PICTURE[:15], "PNG"),
    "page that begins as a gif": b"GIF89a/*<script>alert(1)</script>*/=1;",
    "tiff too long": tiff(bytes(17000 * 16), size_wh=(17000, 16)),
    "png too long": lambda: one_bit_png(16, 17000),
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
    "camera raw, dng": tiff(PICTURE.tobytes(), {50706: (1, (1, 4, 0, 0))}),
    "camera raw, preview first": tiff(GREY.tobytes(), {254: 1}),
    "bmp, run-length coded": files.RUN_LENGTH_BMP,
    "page that begins as a bmp": b"BM<html><script>alert(1)</script></html>" + b" " * 60,
} | {
    f"tiff of {bits} bits, {kind}": tiff(bytes(64 * 48 * bits // 8), {258: bits, 339: kind})
    for bits, kind in ((12, 1), (24, 1), (32, 1), (64, 1), (16, 2), (32, 2), (16, 3), (64, 3))
}

DAMAGED = {
    f"{kind} cut off": partial(cut, kind)
    for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "AVIF", "HEIC")
} | {
    "jpeg progressive cut off": lambda: cut("JPEG", 0.9, progressive=True),
    "png without its end": lambda: encoded(PICTURE, "PNG")[:-12],
    "png with a wrong checksum": lambda: patched("PNG", b"\x89PNG", 30, b"\0\0"),
    "png with broken pixels": lambda: patched("PNG", b"\x89PNG", 43, bytes(9)),
    "bmp of an unknown compression": lambda: patched("BMP", b"BM", 30, b"\x63"),
    "webp of an unknown chunk": riff(b"ABCD", bytes(40)),
    "webp without a picture": riff(b"VP8X", b"\x02\0\0\0\x3f\0\0\x2f\0\0"),
    "tiff, directory outside": b"MM\0*\xff\xff\xff\xf0" + bytes(40),
    "tiff, pixels outside": tiff(bytes(10), {273: 10**6}),
    "tiff of an unknown compression": tiff(bytes(64 * 48), {259: 999}),
    "tiff with broken lzw": tiff(bytes(range(1, 200)), {259: 5}),
    "tiff with a cut profile": tiff(GREY.tobytes(), {34675: (1, (*files.swapped_profile(),))})[:-1],
    "heic, brand only": brand(b"heic", b"mif1"),
    "heic, garbage": brand(b"heic", b"mif1") + box(b"meta", bytes(range(200))),
    "heic grid cut off": lambda: cut("HEIC", 0.9, tile_size=32),
    "page that begins as a jpeg": b"\xff\xd8\xff<!doctype html><script>alert(1)</script>",
    "page that begins as a png": b"\x89PNG\r\n\x1a\n<svg onload='alert(1)'/>",
    "page that begins as a tiff": b"II*\0<script>alert(1)</script>" + b" " * 60,
    "page that begins as a webp": b"RIFF\x40\0\0\0WEBP<script>alert(1)</script>" + b" " * 60,
}

MANY, ODD_MARKER = segment(0xE0) * 1001, b"\xff\x02\xff\xff"
IN_PIECES = {
    "jpeg of many exif segments": lambda: jpeg_with(segment(0xE1, b"Exif\0\0") * 1001),
    "jpeg of many comments": lambda: jpeg_with(segment(0xFE) * 1001),
    "jpeg of many segments between scans": lambda: jpeg_with(last=MANY),
    "jpeg with an end before many segments": lambda: jpeg_with(b"\xff\xd9" + MANY),
    "jpeg with restarts before its scan": lambda: jpeg_with(b"\xff\xd0" * 1001),
    "jpeg with much junk": lambda: jpeg_with(segment(0xE0) + bytes(1001)),
    "jpeg of many scans": lambda: jpeg_with(scans=91),
    "jpeg of many scans, odd marker": lambda: jpeg_with(last=ODD_MARKER + segment(0xDA) * 91),
}

BAD_INPUTS = {
    errors.EmptyImageError: {"empty": b""},
    errors.ImageTooLargeError: {"too many bytes": lambda: b"\xff\xd8\xff" + bytes(20 * 2**20)},
    errors.ImageTypeError: OTHER_TYPES,
    errors.ImageDimensionsError: BOMBS | TOO_SMALL_OR_LONG,
    errors.ImageError: IN_PIECES,
    errors.DamagedImageError: METADATA_BOMBS | DAMAGED,
}
ROWS = [(error, name) for error, contents in BAD_INPUTS.items() for name in contents]


def made(content) -> bytes:
    """Return the bytes of a row above; a row that needs a codec is made when its test runs."""
    return content() if callable(content) else content


@pytest.mark.parametrize(("expected", "name"), ROWS)
def test_every_bad_input_ends_in_its_own_error(expected, name):
    with pytest.raises(errors.ImageError) as caught:
        decode_image(made(BAD_INPUTS[expected][name]))
    assert type(caught.value) is expected
    assert re.fullmatch("expected [^<>&\"'\n]*; received [^<>&\"'\n]*", str(caught.value))


def test_a_type_without_its_codec_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(guards.features, "check", lambda name: False)
    assert readable_types() == guards.READ_TYPES[:-2]
    for major, word in {b"heic": "pip install pillow-heif", b"avif": "AVIF"}.items():
        with pytest.raises(errors.ImageTypeError, match=word):
            decode_image(brand(major, b"mif1") + box(b"meta"))


def test_a_jpeg_in_a_bearable_number_of_pieces_is_read():
    whole, markers = jpeg_with(), b"\xff\xda\xff\xe0" * 1001
    many = [jpeg_with(segment(0xE1, b"Exif\0\0") * 900), jpeg_with(scans=90)]
    # markers as of a thumbnail, and in a video behind the picture
    for content in (*many, jpeg_with(segment(0xE1, markers)), whole + markers):
        np.testing.assert_array_equal(decode_image(content), decode_image(whole))


def test_an_avif_is_as_large_as_what_it_codes():
    film = {"save_all": True, "append_images": [Image.new("RGB", (1100, 1100))]}
    for options in ({}, film):
        content = files.lying_avif(1100, **options)
        # without the place of its items, of which a film has both
        for part in (content, content.replace(b"iloc", b"xxxx")) if options else (content,):
            with pytest.raises(errors.ImageDimensionsError, match="1100x1100"):
                decode_image(part, ImageLimits(max_pixels=2**20))
        with pytest.raises(errors.DamagedImageError):
            decode_image(content.replace(b"iloc", b"xxxx").replace(b"stco", b"xxxx"))
    for side, quality in ((16, 1), (97, 90), (1024, 50)):
        content = encoded(GREY[:, :1].repeat(side, 1)[:side], "AVIF", quality=quality, speed=10)
        assert decode_image(content).shape[1] == side


def test_limits_are_inclusive():
    content = one_bit_png(64, 48)
    limits = ImageLimits(len(content), max_pixels=64 * 48, max_side=64, min_side=48)
    assert decode_image(content, limits).shape == (48, 64, 3)
    for field in ("max_bytes", "max_pixels", "max_side"):
        with pytest.raises(errors.ImageError):
            decode_image(content, replace(limits, **{field: getattr(limits, field) - 1}))


READ_BOMBS = """
import re, sys
from pathlib import Path
from emotion.errors import ImageError
from emotion.images.decoding import read_image

def peak_kib():
    return int(re.search("VmHWM:[^0-9]*([0-9]+)", Path("/proc/self/status").read_text())[1])

first, *bombs = sorted(Path(sys.argv[1]).iterdir())
read_image(first)
before = peak_kib()
for path in bombs:
    try:
        sys.exit(f"{path} was read: {read_image(path).shape}")
    except ImageError:
        pass
print(peak_kib() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_bombs_take_little_memory(tmp_path):
    # ru_maxrss is no use here: a child inherits the peak of the process that started it.
    (tmp_path / "0.png").write_bytes(encoded(PICTURE, "PNG"))
    for index, (name, content) in enumerate((BOMBS | METADATA_BOMBS).items(), start=1):
        if name != "heic" or "HEIC" in readable_types():
            (tmp_path / f"{index}.bomb").write_bytes(made(content))
    command = [sys.executable, "-W", "error", "-c", READ_BOMBS, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 48 * 1024


EXIF = {"exif": files.exif_of(6)}  # of a picture that lies on its side
TRUNCATED = {
    "jpeg": ("JPEG", "RGB", {}),
    "jpeg progressive": ("JPEG", "RGB", {"progressive": True}),
    "png": ("PNG", "RGB", EXIF),
    "webp": ("WEBP", "RGB", EXIF),
    "webp lossless": ("WEBP", "RGB", {"lossless": True}),
    "bmp": ("BMP", "RGB", {}),
    "gif": ("GIF", "P", {}),
    "tiff": ("TIFF", "RGB", {**EXIF, "icc_profile": files.swapped_profile()}),
    "tiff lzw": ("TIFF", "RGB", {**EXIF, "compression": "tiff_lzw"}),
    "tiff deflate": ("TIFF", "RGB", {"compression": "tiff_adobe_deflate"}),
    "avif": ("AVIF", "RGB", EXIF),
    "heic": ("HEIC", "RGB", EXIF),
    "heic grid": ("HEIC", "RGB", {"tile_size": 32}),
}


@pytest.mark.parametrize(("image_format", "mode", "options"), TRUNCATED.values(), ids=TRUNCATED)
def test_a_cut_or_changed_file_raises_or_is_read(image_format, mode, options):
    # every part of noise matters to the bytes, so that any cut is seen
    noise = np.random.default_rng(3).integers(0, 256, (60, 72, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise).convert(mode), image_format, **options)
    whole, size, chance = decode_image(content), len(content), random.Random(11)
    raised = 0
    anywhere = chance.sample(range(1, size), 20)
    for at in {*range(0, 120, 15), *anywhere, *range(size - 60, size, 6), size - 1}:
        try:
            np.testing.assert_array_equal(decode_image(content[:at]), whole)
        except errors.ImageError:
            raised += 1
    assert raised >= 25
    for _ in range(40):
        broken = bytearray(content)
        for _ in range(chance.choice([1, 3, 10])):
            broken[chance.randrange(chance.choice([200, size]))] = chance.randrange(256)
        with contextlib.suppress(errors.ImageError):
            assert decode_image(bytes(broken)).dtype == np.uint8


def test_a_file_that_cannot_be_read_is_an_image_error(tmp_path):
    for name, content, expected in (
        ("missing", None, errors.ImageError),
        (".", None, errors.ImageError),
        ("/dev/zero", None, errors.ImageError),
        ("bad\0name", None, errors.ImageError),
        ("big", bytes(30 * 2**20), errors.ImageTooLargeError),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(errors.ImageError) as caught:
            read_image(tmp_path / name)
        assert type(caught.value) is expected, name
