import cv2
import numpy as np
import pytest
from web_support import stand_in_model

from emotion.quality import quality_notes
from emotion.recognizer import Recognizer

PHOTO_WH = (640, 480)
INSIDE = (100, 100, 90, 90)


@pytest.fixture(scope="module")
def face(astronaut) -> np.ndarray:
    """Return the crop of a real face that looks into the camera, (48, 48, 1) float32."""
    (sight,) = Recognizer(stand_in_model()).look(astronaut)
    return sight.crop


def blurred(crop: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(crop, (0, 0), sigma)[..., np.newaxis]


def half_hidden(crop: np.ndarray) -> np.ndarray:
    return np.where(np.arange(48)[:, None] < 24, crop, np.float32(0.2))


def test_notes_on_a_real_face(face):
    for name, change, expected in (
        ("as it is", lambda crop: crop, None),
        ("blurred", lambda crop: blurred(crop, 2), "Blurred"),
        ("moved", lambda crop: cv2.blur(crop, (9, 1))[..., None], "Blurred"),
        ("half the light", lambda crop: crop / 2, None),
        ("dark", lambda crop: crop * 0.2, "Dark"),
        ("overexposed", lambda crop: np.minimum(crop * 3, 1), "Overexposed"),
        ("pale", lambda crop: crop * 0.1 + 0.5, "Pale"),
        ("half hidden", half_hidden, "Turned"),
        ("mirrored", lambda crop: crop[:, ::-1], None),
        ("all black", lambda crop: crop * 0, "Dark"),
        ("all white", lambda crop: crop * 0 + 1, "Overexposed"),
    ):
        notes = quality_notes(np.ascontiguousarray(change(face)), INSIDE, PHOTO_WH)
        begin = [note[: len(expected or "")] for note in notes]
        assert begin == ([expected] if expected else []), name


def test_notes_on_where_a_face_is_and_several_together(face):
    for box, is_cut in (
        ((0, 100, 71, 90), True),
        ((100, 410, 90, 70), True),
        ((0, 100, 73, 90), False),
        ((0, 0, 90, 90), False),
        ((100, 100, 70, 90), False),
        ((100, 100, 32, 32), False),
    ):
        notes = quality_notes(face, box, PHOTO_WH)
        assert ["outside" in note for note in notes] == [True] * is_cut
    notes = quality_notes(half_hidden(face) * np.float32(0.1), (0, 0, 20, 20), PHOTO_WH)
    assert [note.split()[0] for note in notes] == ["Small", "Dark", "Turned,"]
    notes = quality_notes(blurred(face, 2), (100, 100, 33, 31), PHOTO_WH)
    assert [note[:18] for note in notes] == ["Small face (31 px)"]  # not called blurred, too
