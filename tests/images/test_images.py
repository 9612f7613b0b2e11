"""Every type, mode and orientation against known pixels; writing; reduced photos."""

import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import image_files as files
import numpy as np
import pytest
from image_files import ALPHA, GREY, PICTURE, box, brand, encoded, made, png, tiff, tiff_fields
from PIL import Image, ImageCms

from emotion.errors import ImageTypeError
from emotion.images import decoding, guards
from emotion.images.decoding import decode_image
from emotion.images.guards import readable_types

RAMP_16 = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (48, 1))
RAMP_8 = (RAMP_16 >> 8).astype(np.uint8)
RGBA = np.dstack([PICTURE, ALPHA])
LA = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])
BILEVEL = Image.fromarray(PICTURE).convert("1")
CMYK = Image.fromarray(np.dstack([255 - PICTURE, np.zeros_like(GREY)]), "CMYK")
PALETTE = Image.fromarray(PICTURE).quantize(8)
PALETTE_RGB = np.asarray(PALETTE.convert("RGB"))
INDEX = np.asarray(PALETTE)
FLOATS = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (48, 1))
HOLES = FLOATS.copy()
HOLES[0, :3] = (np.nan, np.inf, -np.inf)
HOLES_8 = np.rint(FLOATS * 255).astype(np.uint8)
HOLES_8[0, :3] = (0, 255, 0)
TWO_BITS = np.tile(np.repeat([0, 1, 2, 3], 16), (48, 1)).astype(np.uint8)
TWO_BITS_PACKED = bytes([0] * 4 + [0x55] * 4 + [0xAA] * 4 + [0xFF] * 4) * 48
WIDE_RGB = np.stack([PICTURE, np.full_like(PICTURE, 77)], axis=-1).tobytes()
"""PICTURE with 16-bit channels whose low bytes must not matter."""


def grey_rgb(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey] * 3, axis=-1)


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.rint(rgb * share + 255 * (1 - share)).astype(np.uint8)


def white_where(rgb: np.ndarray, where: np.ndarray) -> np.ndarray:
    return np.where(where[..., None], 255, rgb).astype(np.uint8)


def full(value: int) -> np.ndarray:
    return np.full((48, 64, 3), value, np.uint8)


def trns(*values: int) -> bytes:
    return files.png_chunk(b"tRNS", b"".join(value.to_bytes(2, "big") for value in values))


RAMP = grey_rgb(RAMP_8)
made_png = partial(partial, png, 64, 48)
made_tiff = partial(partial, files.grey_tiff)


def ycck_jpeg() -> bytes:
    """Return PICTURE as Photoshop writes it: inks as YCC + K, all inverted, marked by transform 2.

    Pillow writes inverted CMYK, so that inverted YCC planes go in and the marker is changed after.
    """
    ycc = np.asarray(Image.fromarray(255 - PICTURE).convert("YCbCr"))
    planes = np.dstack([255 - ycc, np.zeros_like(GREY)])
    content = encoded(Image.fromarray(planes, "CMYK"), "JPEG", quality=100)
    marker = content.index(b"Adobe") + 11
    return content[:marker] + b"\x02" + content[marker + 1 :]


def premultiplied_tiff() -> bytes:
    """Return a TIFF of grey with associated alpha (extra sample 1)."""
    both = np.stack([np.rint(GREY * (ALPHA / 255)).astype(np.uint8), ALPHA], axis=-1).tobytes()
    fields = {256: (4, (64,)), 257: (4, (48,)), 258: (3, (8, 8)), 259: (3, (1,)), 262: (3, (1,))}
    return tiff(both, fields | {277: (3, (2,)), 338: (3, (1,))})


GREY_ALPHA_16 = np.stack([RAMP_16, np.full_like(RAMP_16, 65535)], -1).astype(">u2").tobytes()
IS_RED = (PICTURE == (200, 40, 40)).all(axis=-1)
ON_WHITE = on_white(PICTURE, ALPHA)
GREY_ON_WHITE = on_white(grey_rgb(GREY), ALPHA)
CLEARED_PALETTE = on_white(PALETTE_RGB, np.select([INDEX == 0, INDEX == 2], [0, 128], 255))
CLEAR_PNG = made(PALETTE, "PNG", transparency=bytes([0, 255, 128]))
BLACK_PNG = made_png(16, 0, RAMP_16.astype(">u2").tobytes(), trns(0))
RED_CLEARED = white_where(PICTURE, IS_RED)
WIDE_RED = (200 * 256 + 77, 40 * 256 + 77, 40 * 256 + 77)
BLACK_CLEARED = white_where(RAMP, RAMP_16 == 0)
FIRST_CLEARED = white_where(PALETTE_RGB, INDEX == 0)
TWO_BITS_RGB = white_where(grey_rgb(TWO_BITS * 85), TWO_BITS == 2)
BILEVEL_RGB = np.asarray(BILEVEL.convert("RGB"))
FLOATS_RGB = grey_rgb(np.rint(FLOATS * 255))
OWN_RANGE = FLOATS * np.float32(3e38) - np.float32(1e38)
MORE_RED = {"save_all": True, "append_images": [files.RED]}
MORE_INDEXED = {"save_all": True, "append_images": [Image.new("P", (64, 48), 3)]}
LOSSLESS = {"lossless": True}

# Name: (how to make it, expected pixels, largest difference allowed).
MODES = {
    "jpeg": (made(PICTURE, "JPEG", **files.FINE), PICTURE, 6),
    "jpeg grey": (made(GREY, "JPEG", quality=95), grey_rgb(GREY), 6),
    "jpeg cmyk inverted by adobe": (made(CMYK, "JPEG", quality=100), PICTURE, 6),
    "jpeg ycck": (ycck_jpeg, PICTURE, 8),
    "jpeg mpo, first picture": (made(PICTURE, "MPO", **MORE_RED, **files.FINE), PICTURE, 6),
    "png": (made(PICTURE, "PNG"), PICTURE, 0),
    "png alpha": (made(RGBA, "PNG"), ON_WHITE, 1),
    "png 1 bit": (made(BILEVEL, "PNG"), BILEVEL_RGB, 0),
    "png 2 bits, one clear": (made_png(2, 0, TWO_BITS_PACKED, trns(2)), TWO_BITS_RGB, 0),
    "png palette": (made(PALETTE, "PNG"), PALETTE_RGB, 0),
    "png palette, many transparencies": (CLEAR_PNG, CLEARED_PALETTE, 1),
    "png rgb, one clear": (made(PICTURE, "PNG", transparency=(200, 40, 40)), RED_CLEARED, 0),
    "png 16-bit rgb": (made_png(16, 2, WIDE_RGB), PICTURE, 0),
    "png 16-bit rgb, one clear": (made_png(16, 2, WIDE_RGB, trns(*WIDE_RED)), RED_CLEARED, 0),
    "png 16-bit grey": (made(RAMP_16, "PNG"), RAMP, 0),
    "png 16-bit grey, one clear": (BLACK_PNG, BLACK_CLEARED, 0),
    "png 16-bit grey alpha": (made_png(16, 4, GREY_ALPHA_16), RAMP, 0),
    "png animated, first picture": (made(PICTURE, "PNG", **MORE_RED), PICTURE, 0),
    "webp": (made(PICTURE, "WEBP", quality=95), PICTURE, 80),
    "webp lossless": (made(PICTURE, "WEBP", **LOSSLESS), PICTURE, 0),
    "webp alpha": (made(RGBA, "WEBP", exact=True, **LOSSLESS), ON_WHITE, 1),
    "webp animated, first picture": (made(PICTURE, "WEBP", **LOSSLESS, **MORE_RED), PICTURE, 0),
    "bmp": (made(PICTURE, "BMP"), PICTURE, 0),
    "bmp palette": (made(PALETTE, "BMP"), PALETTE_RGB, 0),
    "gif": (made(PALETTE, "GIF"), PALETTE_RGB, 0),
    "gif transparent": (made(PALETTE, "GIF", transparency=0), FIRST_CLEARED, 0),
    "gif animated, first picture": (made(PALETTE, "GIF", **MORE_INDEXED), PALETTE_RGB, 0),
    "tiff": (made(PICTURE, "TIFF"), PICTURE, 0),
    "tiff alpha": (made(RGBA, "TIFF"), ON_WHITE, 1),
    "tiff grey, alpha premultiplied": (premultiplied_tiff, GREY_ON_WHITE, 3),
    "tiff lzw": (made(PICTURE, "TIFF", compression="tiff_lzw"), PICTURE, 0),
    "tiff jpeg": (made(PICTURE, "TIFF", compression="jpeg", quality=95), PICTURE, 80),
    "tiff fax": (made(BILEVEL, "TIFF", compression="group4"), BILEVEL_RGB, 0),
    "tiff big": (made(PICTURE, "TIFF", big_tiff=True), PICTURE, 0),
    "tiff cmyk": (made(CMYK, "TIFF"), PICTURE, 1),
    "tiff ycbcr": (made(Image.fromarray(PICTURE).convert("YCbCr"), "TIFF"), PICTURE, 3),
    "tiff lab": (made(Image.new("LAB", (64, 48), (137, 128, 128)), "TIFF"), full(128), 2),
    "tiff 16-bit, big-endian": (made_tiff(RAMP_16.astype(">u2"), 16, order=">"), RAMP, 0),
    "tiff 16-bit, white is zero": (made_tiff(RAMP_16, 16, photometric=0), 255 - RAMP, 0),
    "tiff 8-bit, white is zero": (made_tiff(RAMP_8, 8, photometric=0), 255 - RAMP, 0),
    "tiff float 0-1": (made(FLOATS, "TIFF"), FLOATS_RGB, 0),
    "tiff float 0-255": (made(RAMP_8.astype(np.float32), "TIFF"), RAMP, 0),
    "tiff float of its own range": (made(OWN_RANGE, "TIFF"), FLOATS_RGB, 1),
    "tiff float with holes": (made(HOLES, "TIFF"), grey_rgb(HOLES_8), 0),
    "tiff float, nothing finite": (made(FLOATS * np.nan, "TIFF"), full(0), 0),
    "avif": (made(PICTURE, "AVIF", **files.FINE_AVIF), PICTURE, 12),
    "avif alpha": (made(RGBA, "AVIF", **files.FINE_AVIF), ON_WHITE, 16),
    "heic": (made(PICTURE, "HEIC"), PICTURE, 12),
    "heic alpha": (made(RGBA, "HEIC"), ON_WHITE, 16),
    "heic 16-bit grey": (made(RAMP_16, "HEIC", quality=-1), RAMP, 2),
    "heic grid": (made(PICTURE, "HEIC", tile_size=32), PICTURE, 12),
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


TURNED_TYPES = {"JPEG": files.FINE, "PNG": {}, "WEBP": LOSSLESS, "TIFF": {}, "HEIC": {}}
TURNED_TYPES |= {"TIFF lzw": {"compression": "tiff_lzw"}, "AVIF": files.FINE_AVIF}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("image_format", "options"), TURNED_TYPES.items(), ids=TURNED_TYPES)
def test_every_orientation_comes_out_upright(image_format, options, orientation):
    picture = np.ascontiguousarray(files.stored(PICTURE, orientation))
    content = encoded(picture, image_format.split()[0], exif=files.exif_of(orientation), **options)
    image = decode_image(content)
    assert image.shape == PICTURE.shape
    assert np.abs(image.astype(int) - PICTURE).mean() < 4


BROKEN_EXIF = (
    b"Exif\0\0",
    b"Exif\0\0II*\0\xff\xff\xff\xff",
    b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
    b"nonsense",
)


@pytest.mark.parametrize("exif", [*BROKEN_EXIF, files.exif_of(0), files.exif_of(9)])
def test_broken_exif_and_unknown_orientations_change_nothing(exif):
    np.testing.assert_array_equal(decode_image(encoded(PICTURE, "PNG", exif=exif)), PICTURE)


def test_odd_tiff_tags_change_nothing():
    fields = tiff_fields(64, 48) | {274: (3, (1, 1, 1, 1)), 282: (4, (72, 72, 72))}
    fields[34665] = (4, (9,))  # an EXIF directory that is none
    np.testing.assert_array_equal(decode_image(tiff(GREY.tobytes(), fields)), grey_rgb(GREY))


@pytest.mark.parametrize(
    ("image_format", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})]
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_embedded_profile_is_converted_to_srgb(image_format, options, mode):
    picture = Image.fromarray(PICTURE).convert(mode)
    content = encoded(picture, image_format, icc_profile=files.swapped_profile(), **options)
    expected = PICTURE[..., [1, 0, 2]].astype(int)
    assert np.abs(decode_image(content) - expected).max() <= 3


@pytest.mark.parametrize(
    "profile",
    [
        b"not a profile",
        files.swapped_profile()[:200],
        ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        files.swapped_profile() + bytes(5 * 2**20),
    ],
    ids=["nonsense", "cut off", "of another mode", "srgb itself", "too large"],
)
def test_a_profile_that_cannot_serve_changes_nothing(profile):
    content = encoded(PICTURE, "TIFF", icc_profile=profile)
    np.testing.assert_array_equal(decode_image(content), PICTURE)


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


def test_heic_without_pillow_heif_says_how_to_enable_it(monkeypatch):
    content = brand(b"heic", b"mif1") + box(b"meta")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert readable_types() == guards.READ_TYPES[:-1]
    with pytest.raises(ImageTypeError, match="pip install pillow-heif"):
        decode_image(content)


def test_avif_without_pillows_support_is_said(monkeypatch):
    monkeypatch.setattr(guards.features, "check", lambda name: False)
    assert "AVIF" not in readable_types()
    with pytest.raises(ImageTypeError, match="AVIF"):
        decode_image(brand(b"avif", b"mif1"))
