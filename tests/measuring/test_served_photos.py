"""The regression gate: photographs that ship in packages, through the path that serves them."""

from pathlib import Path

import cv2
import matplotlib.cbook
import numpy as np
import pytest
import skimage.data
import sklearn.datasets

from emotion.images.decoding import ENOUGH_PIXELS, decode_photo
from emotion.recognizer import Recognizer

EXPECTED = {
    "astronaut": ["happy"],
    "grace hopper": ["neutral"],
    "both side by side": ["happy", "neutral"],
    **{name: [] for name in ("china", "flower", "chelsea the cat", "coffee", "rocket")},
}
"""Beginning of a photo's name -> top class of each of its faces, left to right."""


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.load()


def photographs() -> dict[str, np.ndarray]:
    """Return the photos by name, (H, W, 3) uint8 RGB."""
    astronaut, hopper = skimage.data.astronaut(), grace_hopper()
    pair = np.hstack([astronaut, cv2.resize(hopper, (512, 512), interpolation=cv2.INTER_AREA)])
    return {
        "astronaut": astronaut,
        "grace hopper": hopper,
        "astronaut, mirrored": astronaut[:, ::-1],
        "grace hopper, mirrored": hopper[:, ::-1],
        "astronaut, half the size": resized(astronaut, 0.5),
        "grace hopper, half the size": resized(hopper, 0.5),
        "astronaut, seven times the size": resized(astronaut, 7),
        "astronaut, half the light": (astronaut * 0.5).astype(np.uint8),
        "grace hopper, half the light": (hopper * 0.5).astype(np.uint8),
        "astronaut, turned left": turned(astronaut, 15),
        "astronaut, turned right": turned(astronaut, -15),
        "grace hopper, turned right": turned(hopper, -15),
        "astronaut, face alone": astronaut[50:185, 155:290],
        "both side by side": pair,
        "china": sklearn.datasets.load_sample_image("china.jpg"),
        "flower": sklearn.datasets.load_sample_image("flower.jpg"),
        "chelsea the cat": skimage.data.chelsea(),
        "coffee": skimage.data.coffee(),
        "rocket": skimage.data.rocket(),
    }


def grace_hopper() -> np.ndarray:
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        content = np.frombuffer(file.read(), np.uint8)
    return cv2.cvtColor(cv2.imdecode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=method)


def turned(image: np.ndarray, degrees: float) -> np.ndarray:
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 3), degrees, 1.0)
    return cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REPLICATE)


def as_jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


@pytest.mark.parametrize("name", PHOTOGRAPHS := photographs())
def test_answers_on_packaged_photographs(recognizer, name):
    photo = decode_photo(as_jpeg(PHOTOGRAPHS[name]), enough_pixels=ENOUGH_PIXELS)
    expected = EXPECTED[name.split(",")[0]]
    assert [face.emotion for face in recognizer.recognize(photo)] == expected


GROUP = Path(__file__).resolve().parents[3] / "shared" / "photos" / "six_people_2048x1536.jpg"


MIDDLES = ((368, 408), (628, 476), (1050, 1126), (902, 425), (1239, 452), (1590, 416))
"""Where the six faces of the group photo are, left to right, in pixels."""


@pytest.mark.skipif(not GROUP.exists(), reason="the group photo is not part of this repository")
def test_six_people_are_six_faces(recognizer):
    photo = decode_photo(GROUP.read_bytes(), enough_pixels=ENOUGH_PIXELS)
    boxes = [face.box_xywh for face in recognizer.recognize(photo)]
    assert len(boxes) == len(MIDDLES)
    for (x, y, width, height), middle in zip(boxes, MIDDLES, strict=True):
        assert (x + width / 2, y + height / 2) == pytest.approx(middle, abs=60)
