"""Whatever may hold a photo in Python becomes the same upright RGB photo."""

import io
import pathlib
import tempfile
import zipfile

import numpy as np
import pandas
import pytest
from PIL import Image
from web_support import encoded, picture

from emotion.errors import ImageError
from emotion.images.decoding import decode_photo
from emotion.images.guards import ImageLimits
from emotion.images.sources import check_many, holds_many, name_of, open_photo

RGB = np.asarray(picture())
ORIENTATION_TAG = 0x0112


class Trickle(io.RawIOBase):
    """A file without a buffer that gives a few bytes at a time, as a pipe may."""

    def __init__(self, content):
        self.content = io.BytesIO(content)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self.content.readinto(memoryview(buffer)[:1000])


@pytest.fixture
def path(tmp_path):
    place = tmp_path / "a photo é.png"
    place.write_bytes(encoded("PNG"))
    return place


WAYS = {
    "path": lambda path: path,
    "text": str,
    "relative": lambda path: path.name,
    "bytes": lambda path: path.read_bytes(),
    "bytearray": lambda path: bytearray(path.read_bytes()),
    "file in memory": lambda path: io.BytesIO(path.read_bytes()),
    "file without buffer": lambda path: Trickle(path.read_bytes()),
    "array": lambda path: RGB.copy(),
    "floats": lambda path: RGB / 255,
    "another order in memory": lambda path: np.asfortranarray(RGB),
    "opaque RGBA": lambda path: np.dstack([RGB, np.full(RGB.shape[:2], 255, np.uint8)]),
    "Pillow": lambda path: picture(),
    "photo": lambda path: decode_photo(path.read_bytes()),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_the_same_photo(way, path, monkeypatch):
    monkeypatch.chdir(path.parent)
    photo = open_photo(WAYS[way](path))
    assert photo.size_wh == (160, 120)
    assert photo.pixels.dtype == np.uint8
    assert photo.pixels.flags.c_contiguous
    np.testing.assert_array_equal(photo.full, RGB)
    assert not holds_many(WAYS[way](path))


def test_a_member_of_a_zip_is_a_file(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("a.png", encoded("PNG"))
    with zipfile.ZipFile(tmp_path / "photos.zip") as archive, archive.open("a.png") as member:
        np.testing.assert_array_equal(open_photo(member).pixels, RGB)
        assert name_of(member) == "a.png"


GREY = np.asarray(picture().convert("L"))


@pytest.mark.parametrize("array", [GREY, GREY[..., None], GREY / 255], ids=["2d", "3d", "float"])
def test_grey_arrays_have_three_equal_channels(array):
    np.testing.assert_array_equal(open_photo(array).pixels, np.dstack([GREY] * 3))


def test_alpha_of_an_array_is_flattened_on_white():
    array = np.zeros((20, 20, 4), np.uint8)
    array[10:, :, 3] = 255
    pixels = open_photo(array).pixels
    assert (pixels[:10] == 255).all()
    assert (pixels[10:] == 0).all()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 20, 30), np.uint8), "np.moveaxis"),
        (np.zeros((5, 20, 30, 3), np.uint8), r"list\(array\)"),
        (np.array(["a.jpg", "b.jpg"]), r"list\(array\)"),
        (np.zeros((20, 30, 2), np.uint8), r"received \(20, 30, 2\)$"),
        (np.zeros((640, 3), np.uint8), "received 3x640"),
        (np.zeros((), np.uint8), r"received \(\)$"),
        (np.zeros((20, 30, 3), np.uint16), "received uint16: scale"),
        (np.full((20, 30, 3), 255.0), r"received 255 to 255: .*astype\(np.uint8\)"),
        (np.full((20, 30, 3), -0.5), "received -0.5 to -0.5"),
        (np.full((20, 30, 3), np.nan), "received nan to nan"),
    ],
)
def test_arrays_that_are_refused(array, message):
    with pytest.raises(ImageError, match=message):
        open_photo(array)


def closed_file():
    with pathlib.Path(__file__).open("rb") as file:
        return file


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "received NoneType"),
        ("https://example.org/a.jpg", "the address https://example.org/a.jpg: download"),
        ("data:image/png;base64,AAAA", "download"),
        ("missing.jpg", "missing.jpg: No such file"),
        ("a\0b.jpg", "readable image file"),
        ("", r"the folder : .*list\(Path\('"),
        (io.StringIO("text"), "mode 'rb'; received one that gives str"),
        (closed_file(), "closed file"),
        (b"no image", "begins with no image"),
        (Image.new("RGB", (100, 5)), "at least 16"),
        (Image.open(io.BytesIO(encoded("JPEG")[:-2000])), "JPEG"),
        (b"", "empty"),
    ],
)
def test_others_are_refused_with_a_sentence(image, message):
    with pytest.raises(ImageError, match=message):
        open_photo(image)


def test_no_more_of_a_file_is_read_than_allowed():
    file = io.BytesIO(b"\xff" * 5000)
    with pytest.raises(ImageError, match="at most"):
        open_photo(file, ImageLimits(max_bytes=1000))
    assert file.tell() == 1001


def with_orientation(orientation, kind="JPEG"):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    return encoded(kind, exif=exif)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pillow_images_come_upright_as_their_files_do(kind, orientation):
    content = with_orientation(orientation, kind)
    with Image.open(io.BytesIO(content)) as image:
        photo = open_photo(image)
    np.testing.assert_array_equal(photo.pixels, decode_photo(content).pixels)


class Tensor:
    """An array of another library, whose rows can be iterated over."""

    ndim = 3

    def __array__(self, dtype=None, copy=None):
        return RGB

    def __iter__(self):
        return iter(RGB)


def test_arrays_of_other_libraries_are_refused_with_the_way_out():
    assert not holds_many(Tensor())
    with pytest.raises(ImageError, match=r"Tensor: give np\.asarray"):
        open_photo(Tensor())
    np.testing.assert_array_equal(open_photo(np.asarray(Tensor())).pixels, RGB)


@pytest.mark.parametrize("one", ["a.jpg", b"ab", io.BytesIO(b"a\nb"), RGB, GREY, picture(), None])
def test_one_photo_in_place_of_many_is_refused(one):
    with pytest.raises(ImageError, match=f"one {type(one).__name__}: give"):
        check_many(one)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "I;16", "F"])
def test_pillow_images_of_every_mode_are_read_and_left_as_they_are(mode):
    expected = GREY
    if mode == "I;16":
        image = Image.fromarray(GREY.astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(GREY.astype(np.float32))
    else:
        source = picture().convert("RGBA" if mode == "PA" else "RGB")
        image = source.convert("P").convert("PA") if mode == "PA" else source.convert(mode)
        expected = np.asarray(image.convert("RGB"), int)[..., 0]
    assert image.mode == mode
    pixels = open_photo(image).pixels
    assert pixels.shape == (120, 160, 3)
    assert np.abs(pixels[..., 0].astype(int) - expected).mean() < 2
    assert (image.size, image.mode) == ((160, 120), mode)


def test_names(path):
    with path.open("rb") as file, Image.open(path) as image, tempfile.TemporaryFile() as other:
        assert name_of(file) == name_of(image) == str(path)
        # the last one is opened by number
        assert [name_of(one) for one in (b"bytes", RGB, io.BytesIO(), None, other)] == [None] * 5
    assert name_of(pathlib.PurePosixPath("a/b.jpg")) == name_of("a/b.jpg") == "a/b.jpg"


def test_lists_tuples_iterators_and_columns_hold_many():
    column = pandas.Series(["a.jpg", "b.jpg"])
    for many in ([], ("a",), iter("ab"), (c for c in "ab"), {"a": 1}.keys(), column):
        assert holds_many(many)
