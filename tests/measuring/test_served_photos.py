"""The regression gate: photographs that ship in packages, through the path that serves them."""

import cv2
import numpy as np
import pytest
import skimage.data
import sklearn.datasets

from emotion.images.encoding import encode_jpeg
from emotion.recognizer import Recognizer


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.load()


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=method)


def turned(image: np.ndarray, degrees: float) -> np.ndarray:
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 3), degrees, 1.0)
    return cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)


def photographs(astronaut, hopper) -> dict[str, np.ndarray]:
    """Return photos by name, (H, W, 3) uint8 RGB; names begin with whom or what they show."""
    photos = {
        "astronaut, face alone": astronaut[50:185, 155:290],
        "astronaut, turned left": turned(astronaut, 15),
        "astronaut, seven times the size": resized(astronaut, 7),
        "both": np.hstack([astronaut, cv2.resize(hopper, (512, 512))]),
        "china": sklearn.datasets.load_sample_image("china.jpg"),
        "flower": sklearn.datasets.load_sample_image("flower.jpg"),
        "cat": skimage.data.chelsea(),
        "coffee": skimage.data.coffee(),
        "rocket": skimage.data.rocket(),
    }
    for name, photo in (("astronaut", astronaut), ("hopper", hopper)):
        photos |= {
            name: photo,
            f"{name}, mirrored": photo[:, ::-1],
            f"{name}, half the size": resized(photo, 0.5),
            f"{name}, half the light": (photo * 0.5).astype(np.uint8),
            f"{name}, turned right": turned(photo, -15),
        }
    return photos


EXPECTED = {"astronaut": ["happy"], "hopper": ["neutral"], "both": ["happy", "neutral"]}


def test_answers_on_packaged_photographs(recognizer, astronaut, hopper, subtests):
    for name, photo in photographs(astronaut, hopper).items():
        with subtests.test(name):
            faces = recognizer.recognize(encode_jpeg(photo, quality=92))
            expected = EXPECTED.get(name.partition(",")[0], [])
            assert [face.emotion for face in faces] == expected
            if name in EXPECTED:
                assert all(face.notes == () for face in faces)
