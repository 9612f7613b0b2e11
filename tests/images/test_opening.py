"""Whatever may hold a photo becomes the same upright one, at the scale that is large enough."""

import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas
import pytest
from image_files import GREY, PICTURE, encoded, exif_of, stored, swapped_profile
from PIL import Image

from emotion.errors import ImageDimensionsError, ImageError
from emotion.images.decoding import decode_image, decode_photo
from emotion.images.guards import ImageLimits
from emotion.images.sources import check_many, holds_many, name_of, open_photo

PNG = encoded(PICTURE, "PNG")


class Trickle(io.BytesIO):
    """A file that gives a few bytes at a time, as a pipe may."""

    def read(self, size=-1):
        return super().read(min(size, 10))


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "a photo é.png"
    place.write_bytes(PNG)
    return place


def test_every_way_gives_the_same_photo(path, tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "a") as archive:
        archive.writestr("a.png", PNG)
        member = archive.open("a.png")
        assert name_of(member) == "a.png"
        ways = [path, str(path), path.name, PNG, bytearray(PNG)]
        ways += [io.BytesIO(PNG), Trickle(PNG), member]
        ways += [PICTURE.copy(), PICTURE / 255, np.asfortranarray(PICTURE)]
        ways += [np.dstack([PICTURE, np.full_like(GREY, 255)])]
        ways += [Image.fromarray(PICTURE), decode_photo(PNG)]
        for way in ways:
            assert not holds_many(way)
            photo = open_photo(way)
            assert (photo.size_wh, photo.pixels.dtype) == ((64, 48), np.uint8)
            assert photo.pixels.flags.c_contiguous
            np.testing.assert_array_equal(photo.full, PICTURE)


def test_grey_arrays_have_three_equal_channels_and_alpha_lies_on_white():
    for array in (GREY, GREY[..., None], GREY / 255):
        np.testing.assert_array_equal(open_photo(array).pixels, np.dstack([GREY] * 3))
    clear = np.zeros((20, 20, 4), np.uint8)
    clear[10:, :, 3] = 255
    assert (open_photo(clear).pixels == [[[255]]] * 10 + [[[0]]] * 10).all()


class Tensor:
    """An array of another library, whose rows can be iterated over."""

    ndim = 3

    def __array__(self, dtype=None, copy=None):
        return PICTURE

    def __iter__(self):
        return iter(PICTURE)


CLOSED = io.BytesIO()
CLOSED.close()
REFUSED = [
    (np.zeros((3, 20, 30), np.uint8), "np.moveaxis"),
    (np.zeros((5, 20, 30, 3), np.uint8), r"list\(array\)"),
    (np.array(["a.jpg", "b.jpg"]), r"list\(array\)"),
    (np.zeros((20, 30, 2), np.uint8), r"received \(20, 30, 2\)$"),
    (np.zeros((20, 30, 3), np.uint16), "received uint16: scale"),
    (np.full((20, 30, 3), 255.0), r"received 255 to 255: .*astype\(np.uint8\)"),
    (np.full((20, 30, 3), np.nan), "received nan to nan"),
    (Tensor(), r"Tensor: give np\.asarray"),
    (None, "received NoneType"),
    ("https://example.org/a.jpg", "https://example.org/a.jpg: download"),
    ("missing.jpg", "missing.jpg: No such file"),
    ("a\0b.jpg", "readable image file"),
    ("", r"the folder : .*list\(Path\('"),
    (io.StringIO("text"), "mode 'rb'; received one that gives str"),
    (CLOSED, "closed file"),
    (b"no image", "begins with no image"),
    (Image.new("RGB", (100, 5)), "at least 16"),
    (Image.open(io.BytesIO(encoded(PICTURE, "JPEG")[:-50])), "JPEG"),
    (b"", "empty"),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_all_else_is_refused_with_a_sentence(number):
    image, message = REFUSED[number]
    assert not holds_many(image)
    with pytest.raises(ImageError, match=message):
        open_photo(image)


def test_no_more_of_a_file_is_read_than_allowed():
    file = io.BytesIO(b"\xff" * 5000)
    with pytest.raises(ImageError, match="up to"):
        open_photo(file, ImageLimits(max_bytes=1000))
    assert file.tell() == 1001


def test_one_photo_in_place_of_many_is_refused():
    for one in ("a.jpg", b"ab", io.BytesIO(b"a\nb"), PICTURE, GREY, Image.new("L", (9, 9)), None):
        with pytest.raises(ImageError, match=f"one {type(one).__name__}: give"):
            check_many(one)
    column = pandas.Series(["a.jpg", "b.jpg"])
    many = ([], ("a",), iter("ab"), (c for c in "ab"), {"a": 1}.keys(), column)
    assert all(map(holds_many, many))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_pillow_images_of_every_mode_are_read_and_left_as_they_are(mode):
    images = {"I;16": GREY.astype(np.uint16) * 257, "F": GREY.astype(np.float32)}
    image = Image.fromarray(images.get(mode, PICTURE))
    if mode not in images:
        image = (image.convert("P") if mode == "PA" else image).convert(mode)
    expected = GREY if mode in images else np.asarray(image.convert("RGB"), int)[..., 0]
    assert image.mode == mode
    pixels = open_photo(image).pixels
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels[..., 0].astype(int) - expected).mean() < 2
    assert (image.size, image.mode) == ((64, 48), mode)


def test_names(path):
    with path.open("rb") as file, Image.open(path) as image, tempfile.TemporaryFile() as by_number:
        assert name_of(file) == name_of(image) == str(path)
        assert not any(map(name_of, (b"bytes", PICTURE, io.BytesIO(), None, by_number)))
    assert name_of(Path("a/b.jpg")) == name_of("a/b.jpg") == "a/b.jpg"


def large_jpeg(orientation: int = 1, **options) -> bytes:
    """Return a smooth picture as a JPEG of odd sides, stored turned."""
    upright = np.asarray(Image.fromarray(PICTURE).resize((403, 301), Image.Resampling.BICUBIC))
    exif = exif_of(orientation)
    return encoded(stored(upright, orientation), "JPEG", quality=95, exif=exif, **options)


def test_a_large_jpeg_is_decoded_no_larger_than_is_enough():
    content = large_jpeg()
    sides = {None: (403, 301), 403 * 301: (403, 301), 201 * 150: (202, 151)}
    for enough, (width, height) in (sides | {100 * 75: (101, 76), 0: (51, 38)}).items():
        photo = decode_photo(content, enough_pixels=enough)
        assert (photo.pixels.shape, photo.size_wh) == ((height, width, 3), (403, 301))
        np.testing.assert_array_equal(photo.full, decode_image(content))
    with pytest.raises(ImageDimensionsError, match="403x301"):
        decode_photo(content, ImageLimits(max_pixels=403 * 301 - 1), enough_pixels=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pillow_images_and_reduced_photos_come_upright(orientation):
    for kind in ("JPEG", "TIFF"):
        content = encoded(PICTURE, kind, exif=exif_of(orientation))
        with Image.open(io.BytesIO(content)) as image:
            np.testing.assert_array_equal(open_photo(image).pixels, decode_image(content))
    photo = decode_photo(large_jpeg(orientation), enough_pixels=200 * 150)
    assert (photo.size_wh, photo.full.shape) == ((403, 301), (301, 403, 3))
    small = Image.fromarray(decode_image(large_jpeg())).resize(photo.pixels.shape[1::-1])
    assert np.abs(photo.pixels.astype(int) - small).mean() < 4


def test_reduced_colours_are_those_of_the_full_size():
    large = Image.fromarray(PICTURE).resize((400, 300))
    inks = Image.fromarray(PICTURE).convert("CMYK").resize((400, 300))
    contents = [encoded(inks, "JPEG", quality=100), encoded(large.convert("L"), "JPEG")]
    swapped = encoded(large, "JPEG", icc_profile=swapped_profile())
    for content in (*contents, large_jpeg(progressive=True), swapped):
        photo = decode_photo(content, enough_pixels=1000)
        assert photo.pixels.size < photo.full.size / 10
        small = np.asarray(Image.fromarray(photo.full).resize(photo.pixels.shape[1::-1]))
        assert np.abs(photo.pixels.astype(int) - small).mean() < 6
