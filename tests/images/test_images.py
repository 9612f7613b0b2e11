import io
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import image_files as files
import numpy as np
import pytest
from image_files import ALPHA, GREY, PICTURE, RGBA, encoded
from PIL import Image, ImageCms

from emotion.errors import ImageError, ImageTypeError
from emotion.images import decoding
from emotion.images.decoding import decode_image, read_image
from emotion.images.encoding import encode_jpeg, encode_png, write_image


def grey_rgb(grey: np.ndarray) -> np.ndarray:
    return np.stack([grey] * 3, axis=-1)


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None] / 255
    return np.rint(rgb * share + 255 * (1 - share)).astype(np.uint8)


def trns(*values: int) -> bytes:
    return files.png_chunk(b"tRNS", b"".join(value.to_bytes(2, "big") for value in values))


def followed_by(mode: str, colour) -> dict:
    return {"save_all": True, "append_images": [Image.new(mode, (64, 48), colour)]}


def ycck_jpeg() -> bytes:
    """Return PICTURE as Photoshop writes it: YCC + K inks, inverted, marked by transform 2."""
    # Pillow writes inverted CMYK, so that inverted YCC planes go in and the marker is changed after
    ycc = np.asarray(Image.fromarray(255 - PICTURE).convert("YCbCr"))
    planes = np.dstack([255 - ycc, np.zeros_like(GREY)])
    content = encoded(Image.fromarray(planes, "CMYK"), "JPEG", quality=100)
    marker = content.index(b"Adobe") + 11
    return content[:marker] + b"\x02" + content[marker + 1 :]


# these return functions that make the file when its test runs, so that a missing codec skips it
made, made_png, made_tiff = (partial(partial, maker) for maker in (encoded, files.png, files.tiff))

RAMP_16 = np.tile(np.linspace(0, 65535, 64).astype(np.uint16), (48, 1))
RAMP_8 = (RAMP_16 >> 8).astype(np.uint8)
RAMP = grey_rgb(RAMP_8)
BIG_ENDIAN = RAMP_16.astype(">u2")
CMYK = Image.fromarray(np.dstack([255 - PICTURE, np.zeros_like(GREY)]), "CMYK")
PALETTE = Image.fromarray(PICTURE).quantize(8)
PALETTE_RGB = np.asarray(PALETTE.convert("RGB"))
INDEX = np.asarray(PALETTE)
CLEARED_PALETTE = on_white(PALETTE_RGB, np.select([INDEX == 0, INDEX == 2], [0, 128], 255))
FIRST_CLEARED = on_white(PALETTE_RGB, np.where(INDEX == 0, 0, 255))
TWO_BITS = np.tile(np.repeat(np.array([0, 1, 2, 3], np.uint8), 16), (48, 1))
TWO_BITS_PACKED = bytes([0] * 4 + [0x55] * 4 + [0xAA] * 4 + [0xFF] * 4) * 48
TWO_BITS_RGB = on_white(grey_rgb(TWO_BITS * 85), np.where(TWO_BITS == 2, 0, 255))
# PICTURE with 16-bit channels whose low bytes must not matter
WIDE_RGB = np.stack([PICTURE, np.full_like(PICTURE, 77)], axis=-1).tobytes()
WIDE_RED = (200 * 256 + 77, 40 * 256 + 77, 40 * 256 + 77)
RED_CLEARED = np.where((PICTURE == (200, 40, 40)).all(axis=-1)[..., None], 255, PICTURE)
GREY_ALPHA_16 = np.stack([RAMP_16, np.full_like(RAMP_16, 65535)], -1).astype(">u2").tobytes()
BLACK_CLEARED = np.where(grey_rgb(RAMP_16) == 0, 255, RAMP)
ON_WHITE = on_white(PICTURE, ALPHA)
GREY_ON_WHITE = on_white(grey_rgb(GREY), ALPHA)
PREMULTIPLIED = np.stack([np.rint(GREY * (ALPHA / 255)).astype(np.uint8), ALPHA], -1).tobytes()
TWO_CHANNELS = {258: (3, (8, 8)), 277: 2, 338: 1}
FLOATS = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (48, 1))
FLOATS_RGB = grey_rgb(np.rint(FLOATS * 255))
HOLES, HOLES_RGB = FLOATS.copy(), FLOATS_RGB.copy()
HOLES[0, :3], HOLES_RGB[0, :3, :] = (np.nan, np.inf, -np.inf), [[0], [255], [0]]
LAB = Image.new("LAB", (64, 48), (137, 128, 128))
ODD_TAGS = {274: (3, (1, 1, 1, 1)), 282: (4, (72, 72, 72)), 34665: 9}  # 34665: EXIF that is none
FINE = {"quality": 95, "subsampling": 0}
FINE_AVIF = {"quality": 95, "subsampling": "4:4:4"}
LOSSLESS = {"lossless": True}
OWN_RANGE = FLOATS * np.float32(3e38) - np.float32(1e38)

# name: (what makes it, expected pixels, largest difference allowed)
FILES = {
    "jpeg cmyk inverted by adobe": (made(CMYK, "JPEG", quality=100), PICTURE, 6),
    "jpeg ycck": (ycck_jpeg, PICTURE, 8),
    "jpeg mpo": (made(PICTURE, "MPO", **followed_by("RGB", "red"), **FINE), PICTURE, 6),
    "png alpha": (made(RGBA, "PNG"), ON_WHITE, 1),
    "png 2 bits, one clear": (made_png(2, 0, TWO_BITS_PACKED, trns(2)), TWO_BITS_RGB, 0),
    "png clear": (made(PALETTE, "PNG", transparency=bytes([0, 255, 128])), CLEARED_PALETTE, 1),
    "png rgb, one clear": (made(PICTURE, "PNG", transparency=(200, 40, 40)), RED_CLEARED, 0),
    "png 16-bit rgb": (made_png(16, 2, WIDE_RGB), PICTURE, 0),
    "png 16-bit rgb, one clear": (made_png(16, 2, WIDE_RGB, trns(*WIDE_RED)), RED_CLEARED, 0),
    "png 16-bit grey": (made(RAMP_16, "PNG"), RAMP, 0),
    "png 16-bit, one clear": (made_png(16, 0, BIG_ENDIAN.tobytes(), trns(0)), BLACK_CLEARED, 0),
    "png 16-bit grey alpha": (made_png(16, 4, GREY_ALPHA_16), RAMP, 0),
    "png animated": (made(PICTURE, "PNG", **followed_by("RGB", "red")), PICTURE, 0),
    "webp": (made(PICTURE, "WEBP", quality=95), PICTURE, 80),
    "webp alpha": (made(RGBA, "WEBP", exact=True, **LOSSLESS), ON_WHITE, 1),
    "webp animated": (made(PICTURE, "WEBP", **LOSSLESS, **followed_by("RGB", "red")), PICTURE, 0),
    "bmp palette": (made(PALETTE, "BMP"), PALETTE_RGB, 0),
    "gif": (made(PALETTE, "GIF"), PALETTE_RGB, 0),
    "gif transparent": (made(PALETTE, "GIF", transparency=0), FIRST_CLEARED, 0),
    "gif animated": (made(PALETTE, "GIF", **followed_by("P", 3)), PALETTE_RGB, 0),
    "tiff alpha": (made(RGBA, "TIFF"), ON_WHITE, 1),
    "tiff premultiplied": (made_tiff(PREMULTIPLIED, TWO_CHANNELS), GREY_ON_WHITE, 3),
    "tiff big": (made(PICTURE, "TIFF", big_tiff=True), PICTURE, 0),
    "tiff cmyk": (made(CMYK, "TIFF"), PICTURE, 1),
    "tiff lab": (made(LAB, "TIFF"), np.full_like(PICTURE, 128), 2),
    "tiff 16-bit": (made_tiff(BIG_ENDIAN.tobytes(), {258: 16}, order=">"), RAMP, 0),
    "tiff 16-bit, white is 0": (made_tiff(RAMP_16.tobytes(), {258: 16, 262: 0}), 255 - RAMP, 0),
    "tiff 8-bit, white is zero": (made_tiff(RAMP_8.tobytes(), {262: 0}), 255 - RAMP, 0),
    "tiff with odd tags": (made_tiff(GREY.tobytes(), ODD_TAGS), grey_rgb(GREY), 0),
    "tiff float 0-1": (made(FLOATS, "TIFF"), FLOATS_RGB, 0),
    "tiff float 0-255": (made(RAMP_8.astype(np.float32), "TIFF"), RAMP, 0),
    "tiff float of its own range": (made(OWN_RANGE, "TIFF"), FLOATS_RGB, 1),
    "tiff float with holes": (made(HOLES, "TIFF"), HOLES_RGB, 0),
    "tiff float, nothing finite": (made(FLOATS * np.nan, "TIFF"), np.zeros_like(PICTURE), 0),
    "avif alpha": (made(RGBA, "AVIF", **FINE_AVIF), ON_WHITE, 16),
    "heic alpha": (made(RGBA, "HEIC"), ON_WHITE, 16),
    "heic 16-bit grey": (made(RAMP_16, "HEIC", quality=-1), RAMP, 2),
    "heic grid": (made(PICTURE, "HEIC", tile_size=32), PICTURE, 12),
}

TURNED = {"JPEG": (6, FINE), "PNG": (0, {}), "WEBP": (0, LOSSLESS), "TIFF": (0, {})}
TURNED |= {"AVIF": (12, FINE_AVIF), "HEIC": (12, {}), "TIFF lzw": (0, {"compression": "tiff_lzw"})}
for kind, (tolerance, options) in TURNED.items():
    for number in range(1, 9):
        picture, exif = files.stored(PICTURE, number), files.exif_of(number)
        make = made(picture, kind.split()[0], exif=exif, **options)
        FILES[f"{kind}, orientation {number}"] = make, PICTURE, tolerance

SWAPPED = files.swapped_profile()
for kind, options in {"PNG": {}, "WEBP": LOSSLESS, "TIFF": {}}.items():
    for image in (PICTURE, np.dstack([PICTURE, np.full_like(GREY, 255)])):
        make = made(image, kind, icc_profile=SWAPPED, **options)
        FILES[f"{kind}, profile, {image.shape[2]}"] = make, PICTURE[..., [1, 0, 2]], 3

USELESS_EXIF = [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"nonsense"]
USELESS_EXIF += [b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", files.exif_of(0), files.exif_of(9)]
for number, exif in enumerate(USELESS_EXIF):
    FILES[f"useless exif {number}"] = made(PICTURE, "PNG", exif=exif), PICTURE, 0

LAB_PROFILE, SRGB = (ImageCms.ImageCmsProfile(ImageCms.createProfile(n)) for n in ("LAB", "sRGB"))
USELESS_PROFILES = [b"not a profile", SWAPPED[:200], SWAPPED + bytes(5 * 2**20)]
for number, profile in enumerate([*USELESS_PROFILES, LAB_PROFILE.tobytes(), SRGB.tobytes()]):
    FILES[f"useless profile {number}"] = made(PICTURE, "TIFF", icc_profile=profile), PICTURE, 0


@pytest.mark.parametrize(("make", "expected", "tolerance"), FILES.values(), ids=FILES)
def test_every_file_becomes_the_same_rgb(make, expected, tolerance):
    image = decode_image(make())
    assert (image.shape, image.dtype) == (expected.shape, np.uint8)
    assert image.flags["C_CONTIGUOUS"]
    difference = np.abs(image.astype(int) - expected)
    assert difference.max() <= tolerance
    # Chroma stored at half size bleeds over the edges between the blocks, and nowhere else.
    assert difference.mean() <= min(tolerance, 5)


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
            assert executor.submit(decode_image, encoded(PICTURE, "PNG")).result(30).any()
        finally:
            go_on.set()
        assert first.result().shape == PICTURE.shape


def test_written_images_read_back(tmp_path):
    starts = {"a.jpg": b"\xff\xd8", "a.JPEG": b"\xff\xd8", "a.png": b"\x89PNG", "a.webp": b"RIFF"}
    for name, start in starts.items():
        path = tmp_path / name
        path.write_bytes(b"an older file")
        write_image(path, PICTURE)
        assert path.read_bytes().startswith(start)
        difference = np.abs(read_image(path).astype(int) - PICTURE).max()
        assert difference <= (0 if name == "a.png" else 80)
        assert [each.name for each in tmp_path.iterdir()] == [name]
        path.unlink()


@pytest.mark.parametrize("encode", [encode_jpeg, encode_png])
def test_only_rgb_arrays_are_encoded_and_carry_no_metadata(encode):
    for image in (GREY, RGBA, PICTURE.astype(float), PICTURE[:0], PICTURE.tolist(), None):
        with pytest.raises(ImageError, match="uint8"):
            encode(image)
    secrets = {"exif": files.exif_of(6, "SecretMaker"), "comment": b"SecretComment"}
    photo = encoded(PICTURE, "JPEG", icc_profile=SWAPPED, **secrets)
    content = encode(decode_image(photo))
    with Image.open(io.BytesIO(content)) as image:
        assert not set(image.info) - {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert b"Secret" in photo
    assert b"Secret" not in content


def test_what_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "folder.png").mkdir()
    wide = np.zeros((16, 70_000, 3), np.uint8)
    for name, image, kind, words in (
        ("a.gif", PICTURE, ImageTypeError, ".jpg, .jpeg, .png, .webp"),
        ("a", PICTURE, ImageTypeError, ".webp"),
        ("no folder/a.png", PICTURE, ImageError, "a.png"),
        ("folder.png", PICTURE, ImageError, "folder.png"),
        ("a.jpg", wide, ImageError, "70000x16"),
        ("a.webp", wide, ImageError, "70000x16"),
    ):
        with pytest.raises(kind, match=words):
            write_image(tmp_path / name, image)
    assert [each.name for each in tmp_path.iterdir()] == ["folder.png"]
