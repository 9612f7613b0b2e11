"""Photos are written whole, as they look, and without metadata."""

import io

import numpy as np
import pytest
from image_files import ALPHA, GREY, PICTURE, encoded, exif_of, swapped_profile
from PIL import Image

from emotion.errors import ImageError, ImageTypeError
from emotion.images.decoding import decode_image, read_image
from emotion.images.encoding import encode_jpeg, encode_png, write_image

RGBA = np.dstack([PICTURE, ALPHA])


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
    with pytest.raises(ImageTypeError, match=r"\.jpg, \.jpeg, \.png, \.webp"):
        write_image(tmp_path / name, PICTURE)
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_keeps_nothing(tmp_path):
    with pytest.raises(ImageError, match=r"a\.png"):
        write_image(tmp_path / "no folder" / "a.png", PICTURE)
    (tmp_path / "a.png").mkdir()
    with pytest.raises(ImageError, match=r"a\.png"):
        write_image(tmp_path / "a.png", PICTURE)
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    "image",
    [GREY, RGBA, PICTURE.astype(float), PICTURE[:0], PICTURE.tolist(), None],
    ids=["grey", "alpha", "float", "no rows", "list", "nothing"],
)
@pytest.mark.parametrize("encode", [encode_jpeg, encode_png])
def test_only_rgb_arrays_are_encoded(encode, image):
    with pytest.raises(ImageError, match="uint8"):
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
