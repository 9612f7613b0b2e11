from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from web_support import StandInDetector, stand_in_model

from emotion.detection.crop import crop_face
from emotion.detection.haar import FaceDetector
from emotion.quality import blur, mirror_likeness, quality_notes
from emotion.recognizer import Recognizer

PHOTO_WH = (640, 480)
INSIDE = (100, 100, 90, 90)


@pytest.fixture(scope="module")
def face(astronaut) -> np.ndarray:
    """Return the crop of a real face that looks into the camera, (48, 48, 1) float32."""
    (detection,) = FaceDetector().detect(astronaut)
    return crop_face(astronaut, detection.box_xywh)


def blurred(crop: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(crop, (0, 0), sigma)[..., np.newaxis]


def half_hidden(crop: np.ndarray) -> np.ndarray:
    hidden = crop.copy()
    hidden[:, 24:] = 0.2
    return hidden


CHANGES = {
    "as it is": (lambda crop: crop, None),
    "a little soft": (lambda crop: blurred(crop, 0.5), None),
    "blurred": (lambda crop: blurred(crop, 2), "Blurred face: hold still"),
    "moved": (lambda crop: cv2.blur(crop, (9, 1))[..., None], "Blurred face: hold still"),
    "half the light": (lambda crop: crop / 2, None),
    "dark": (lambda crop: crop * 0.2, "Dark face: bring light"),
    "overexposed": (lambda crop: np.minimum(crop * 3, 1), "Overexposed face: use softer light"),
    "less contrast": (lambda crop: crop / 2 + 0.25, None),
    "pale": (lambda crop: crop * 0.1 + 0.5, "Pale face, almost without contrast: clean the lens"),
    "half hidden": (half_hidden, "Turned, tilted or partly hidden face: look straight"),
    "mirrored": (lambda crop: crop[:, ::-1], None),
}


@pytest.mark.parametrize("name", CHANGES)
def test_notes_on_a_real_face(face, name):
    change, expected = CHANGES[name]
    notes = quality_notes(np.ascontiguousarray(change(face)), INSIDE, PHOTO_WH)
    assert [note[: len(expected or "")] for note in notes] == ([expected] if expected else [])


def test_a_small_face_is_not_called_blurred_too(face):
    notes = quality_notes(blurred(face, 2), (100, 100, 33, 31), PHOTO_WH)
    assert notes == ("Small face (31 px): use a larger photo or move closer",)
    assert quality_notes(face, (100, 100, 32, 32), PHOTO_WH) == ()


@pytest.mark.parametrize(
    ("box", "is_cut"),
    [
        ((0, 100, 71, 90), True),
        ((570, 100, 70, 90), True),
        ((100, 0, 90, 70), True),
        ((100, 410, 90, 70), True),
        ((0, 100, 73, 90), False),
        ((0, 0, 90, 90), False),
        ((100, 100, 70, 90), False),
    ],
)
def test_a_face_cut_off_by_the_edge_of_the_photo(face, box, is_cut):
    expected = ("Face partly outside the photo: take one with the whole face in it",)
    assert quality_notes(face, box, PHOTO_WH) == (expected if is_cut else ())


def test_several_notes_come_together(face):
    notes = quality_notes(half_hidden(face) * np.float32(0.1), (0, 0, 20, 20), PHOTO_WH)
    assert [note.split()[0] for note in notes] == ["Small", "Dark", "Turned,"]


@pytest.mark.parametrize(("value", "first_word"), [(0, "Dark"), (0.5, "Pale"), (1, "Overexposed")])
def test_a_crop_of_one_grey_has_notes_on_light_alone(value, first_word):
    (note,) = quality_notes(np.full((48, 48, 1), value, np.float32), INSIDE, PHOTO_WH)
    assert note.startswith(f"{first_word} face")


def test_blur_grows_with_sigma_whatever_the_contrast(face):
    grey = face[..., 0]
    values = [blur(blurred(face, sigma)[..., 0]) for sigma in (0.3, 0.7, 1, 1.5, 2, 3)]
    assert values == sorted(values)
    assert 0 < blur(grey) < values[0] < 0.5
    assert blur(grey * np.float32(0.2)) == pytest.approx(blur(grey), abs=1e-4)
    assert blur(np.ascontiguousarray(grey.T)) == pytest.approx(blur(grey), abs=1e-6)


def test_mirror_likeness(face):
    grey = face[..., 0]
    half = np.hstack([grey[:, :24], grey[:, 23::-1]])
    assert mirror_likeness(half) == pytest.approx(1, abs=1e-5)
    assert mirror_likeness(np.roll(half, 2, axis=1)) > 0.9
    assert mirror_likeness(grey) > 0.3
    assert mirror_likeness(np.tile(np.linspace(0, 1, 48, dtype=np.float32), (48, 1))) < 0


def test_good_photographs_have_no_notes(astronaut):
    cbook = pytest.importorskip("matplotlib.cbook")
    hopper = np.asarray(Image.open(Path(cbook._get_data_path("sample_data", "grace_hopper.jpg"))))
    recognizer = Recognizer(stand_in_model())
    for photo in (astronaut, hopper):
        (face,) = recognizer.recognize(photo)
        assert face.notes == ()


def test_notes_belong_to_their_faces(astronaut):
    (detection,) = FaceDetector().detect(astronaut)
    good = detection.box_xywh
    dark = astronaut.copy()
    dark[: good[1] + good[3]] //= 6
    detector = StandInDetector([good, (10, 10, 20, 20)])
    read = Recognizer(stand_in_model(), detector).recognize_many([astronaut, dark])
    firsts = [[note.split()[0] for face in faces for note in face.notes[:1]] for faces in read]
    assert firsts == [["Small"], ["Dark", "Small"]]
