"""The pipeline on photos of a reduced scale: boxes of the full size, crops with enough detail."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from web_support import StandInDetector, looking_model, picture, stand_in_model

from emotion.images import ENOUGH_PIXELS, decode_photo, encode_jpeg
from emotion.recognizer import LEAST_SIDE_PX, Recognizer


@pytest.fixture(scope="module")
def content() -> bytes:
    """Return a JPEG of 640x480."""
    return encode_jpeg(np.asarray(picture(640, 480)), quality=95)


def recognize(content, boxes, enough_pixels, model=None):
    photo = decode_photo(content, enough_pixels=enough_pixels)
    recognizer = Recognizer(model or stand_in_model(), StandInDetector(boxes))
    return photo, recognizer.recognize(photo)


@pytest.mark.parametrize(
    ("enough_pixels", "scale"), [(None, 1), (640 * 480, 1), (320 * 240, 2), (160 * 120, 4)]
)
def test_boxes_are_in_pixels_of_the_full_size(content, enough_pixels, scale):
    photo, (face, other) = recognize(content, ((10, 10, 60, 60), (90, 20, 30, 30)), enough_pixels)
    assert photo.pixels.shape == (480 // scale, 640 // scale, 3)
    assert face.box_xywh == (10 * scale, 10 * scale, 60 * scale, 60 * scale)
    assert other.box_xywh == (90 * scale, 20 * scale, 30 * scale, 30 * scale)


def test_a_large_face_reads_as_from_the_full_size(content):
    side = LEAST_SIDE_PX
    photo, (face,) = recognize(content, ((50, 40, side, side),), 320 * 240, looking_model())
    _, (full,) = recognize(content, ((100, 80, 2 * side, 2 * side),), None, looking_model())
    assert "full" not in vars(photo)  # it was never decoded
    assert face.box_xywh == full.box_xywh
    for name, probability in full.probabilities.items():
        assert face.probabilities[name] == pytest.approx(probability, abs=0.02)


def test_a_small_face_is_read_from_the_full_size(content):
    side = LEAST_SIDE_PX - 1
    _, (face,) = recognize(content, ((50, 40, side, side),), 320 * 240, looking_model())
    _, (full,) = recognize(content, ((100, 80, 2 * side, 2 * side),), None, looking_model())
    assert dict(face.probabilities) == dict(full.probabilities)


@pytest.mark.parametrize(("before", "available", "after"), [(2, 1, 1), (2, 8, 2)])
def test_loading_keeps_opencv_to_the_processors_at_hand(monkeypatch, before, available, after):
    monkeypatch.setattr("emotion.recognizer.load_model", lambda stem: stand_in_model())
    monkeypatch.setattr("emotion.recognizer.available_cpus", lambda: available)
    usual = cv2.getNumThreads()
    try:
        cv2.setNumThreads(before)
        Recognizer.load(detector=StandInDetector())
        assert cv2.getNumThreads() == after
    finally:
        cv2.setNumThreads(usual)


def test_arrays_and_photos_of_full_size_read_alike(content):
    recognizer = Recognizer(looking_model(), StandInDetector())
    photo = decode_photo(content, enough_pixels=ENOUGH_PIXELS)
    assert recognizer.recognize(photo) == recognizer.recognize(photo.pixels)


def test_all_faces_of_all_photos_are_one_batch(content):
    sizes = []
    model = looking_model()
    watched = replace(model, run=lambda faces: sizes.append(len(faces)) or model.run(faces))
    photos = [decode_photo(content), decode_photo(content, enough_pixels=320 * 240)]
    found = Recognizer(watched, StandInDetector()).recognize_many(photos)
    assert [len(faces) for faces in found] == [2, 2]
    assert sizes == [4]
