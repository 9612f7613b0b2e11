"""The regression gate: photographs that ship in packages, through the path that serves them."""

import cv2
import numpy as np
import pytest
import skimage.data
import sklearn.datasets

from emotion.files import models_folder
from emotion.images.encoding import encode_jpeg
from emotion.model.keras import ModelFiles, import_keras, load_keras_model
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


@pytest.mark.parametrize("name", ["detection_model", "fer2013/detection_model"])
def test_a_training_can_go_on_from_the_shipped_networks(astronaut, hopper, name):
    """Their batch statistics are those of faces, which running the network alone would not show."""
    keras = import_keras()
    network = load_keras_model(ModelFiles(models_folder() / name))
    faces = [cv2.resize(photo, (48, 48)) for photo in (astronaut[56:169, 169:282], hopper)]
    grey = np.stack([cv2.cvtColor(face, cv2.COLOR_RGB2GRAY) for face in faces])[..., None] / 255
    norms = [one for one in network.layers if isinstance(one, keras.layers.BatchNormalization)]
    seen = keras.Model(network.input, [one.input for one in norms]).predict_on_batch(grey)
    for values, norm in zip(seen, norms, strict=True):
        kept = keras.ops.convert_to_numpy(norm.moving_variance)
        assert 0.1 < np.median(values.var((0, 1, 2)) / kept) < 10
