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


@pytest.mark.parametrize(
    "image",
    [GREY, RGBA, PICTURE.astype(float), PICTURE[:0], PICTURE.tolist(), None],
    ids=["grey", "alpha", "float", "no rows", "list", "nothing"],
)
@pytest.mark.parametrize("encode", [encode_jpeg, encode_png])
def test_only_rgb_arrays_are_encoded(encode, image):
    with pytest.raises(ImageError, match="uint8"):
        encode(image)


@pytest.mark.parametrize("encode", [encode_jpeg, encode_png])
def test_encoded_images_carry_no_metadata(encode):
    exif = exif_of(6)
    exif[0x010F] = "SecretMaker"
    options = {"exif": exif, "icc_profile": swapped_profile(), "comment": b"SecretComment"}
    content = encode(decode_image(encoded(PICTURE, "JPEG", **options)))
    with Image.open(io.BytesIO(content)) as image:
        assert not set(image.info) - {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
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
