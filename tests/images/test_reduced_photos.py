"""Large JPEGs are decoded no larger than needed, and know their full size."""

import numpy as np
import pytest
from image_files import PICTURE, encoded, exif_of, stored, swapped_profile
from PIL import Image

from emotion.errors import ImageDimensionsError
from emotion.images.decoding import Photo, decode_image, decode_photo
from emotion.images.guards import ImageLimits

LARGE = Image.fromarray(PICTURE).resize((400, 300))


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
        (201 * 150, (202, 151)),
        (100 * 75, (101, 76)),
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
        lambda: encoded(
            Image.fromarray(PICTURE).convert("CMYK").resize((400, 300)), "JPEG", quality=100
        ),
        lambda: encoded(LARGE.convert("L"), "JPEG"),
        lambda: encoded(LARGE, "JPEG", icc_profile=swapped_profile()),
    ],
    ids=["progressive", "cmyk", "grey", "profile"],
)
def test_colours_are_those_of_the_full_size(make):
    photo = decode_photo(make(), enough_pixels=1000)
    assert photo.pixels.size < photo.full.size / 10
    small = np.asarray(Image.fromarray(photo.full).resize(photo.pixels.shape[1::-1]))
    assert np.abs(photo.pixels.astype(int) - small).mean() < 6


def test_limits_hold_for_the_full_size():
    with pytest.raises(ImageDimensionsError, match="403x301"):
        decode_photo(large_jpeg(), ImageLimits(max_pixels=403 * 301 - 1), enough_pixels=1)


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


def test_an_array_is_a_photo_of_full_size():
    photo = Photo.of(PICTURE)
    assert photo.full is PICTURE
    assert photo.size_wh == (64, 48)
    assert Photo.of(photo) is photo
    assert photo.at_full_size((1, 2, 3, 4)) == (1, 2, 3, 4)
    pixels, box = photo.showing((1, 2, 3, 4), 48)
    assert (pixels is PICTURE, box) == (True, (1, 2, 3, 4))
