"""The detector on real photographs and what is made of them, and the crop on generated pixels."""

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import matplotlib.cbook
import numpy as np
import pytest
import skimage.data
import sklearn.datasets

from emotion.detection.cascades import CASCADE_FILES, load_template
from emotion.detection.crop import crop_face
from emotion.detection.haar import FaceDetector
from emotion.errors import ImageError, ModelError

ASTRONAUT_BOX = (172, 66, 105, 105)
HOPPER_BOX = (164, 84, 190, 190)


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


@pytest.fixture(scope="module")
def astronaut():
    return skimage.data.astronaut()


@pytest.fixture(scope="module")
def hopper():
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        content = np.frombuffer(file.read(), np.uint8)
    return cv2.cvtColor(cv2.imdecode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def middle(box):
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def holds(box, point):
    x, y = point
    return box[0] <= x <= box[0] + box[2] and box[1] <= y <= box[1] + box[3]


def only(detections):
    assert len(detections) == 1
    return detections[0].box_xywh


@pytest.mark.parametrize(("name", "truth"), [("astronaut", ASTRONAUT_BOX), ("hopper", HOPPER_BOX)])
def test_a_portrait_has_one_face_of_the_right_place_and_size(request, detector, name, truth):
    (face,) = detector.detect(request.getfixturevalue(name))
    assert holds(face.box_xywh, middle(truth))
    assert 0.6 < face.box_xywh[2] / truth[2] < 1.6
    assert np.isfinite(face.score)
    assert face.score >= detector.settings.frontal_threshold
    assert all(type(value) is int for value in face.box_xywh)


@pytest.mark.parametrize(
    "load",
    [
        lambda: sklearn.datasets.load_sample_image("china.jpg"),
        lambda: sklearn.datasets.load_sample_image("flower.jpg"),
        skimage.data.chelsea,
    ],
    ids=["china", "flower", "chelsea"],
)
def test_a_photo_without_faces_has_none(detector, load):
    assert detector.detect(load()) == ()


def test_a_face_that_fills_the_photo_is_found_thanks_to_the_border(detector, hopper):
    x, y, width, height = HOPPER_BOX
    tight = hopper[y : y + height, x : x + width].copy()
    assert holds(only(detector.detect(tight)), (width / 2, height / 2))
    borderless = replace(detector.settings, border_share=0.0, fallbacks=())
    assert FaceDetector(borderless).detect(tight) == ()


def test_a_face_that_no_cascade_passes_is_found_by_the_portrait_pass(detector, astronaut):
    x, y, width, height = ASTRONAUT_BOX
    tight = astronaut[y : y + height, x : x + width].copy()
    unsure = replace(detector.settings, frontal_threshold=float("inf"), fallbacks=("portrait",))
    (face,) = FaceDetector(unsure).detect(tight)
    assert holds(face.box_xywh, (width / 2, height / 2))
    assert 0.6 < face.box_xywh[2] / width <= 1.0
    assert face.score >= detector.settings.portrait_threshold
    stricter = replace(unsure, portrait_threshold=face.score + 0.01)
    assert FaceDetector(stricter).detect(tight) == ()


@pytest.mark.parametrize("degrees", [-30, 0, 20])
def test_the_tilt_of_a_head_is_told_and_undone_by_the_crop(detector, astronaut, degrees):
    turn = cv2.getRotationMatrix2D(middle(ASTRONAUT_BOX), degrees, 1.0)
    tilted = cv2.warpAffine(astronaut, turn, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    (face,) = detector.detect(tilted)
    assert face.roll_degrees == pytest.approx(degrees, abs=10)
    assert (face.roll_degrees == 0) == (degrees == 0)
    turned_back = crop_face(tilted, ASTRONAUT_BOX, roll_degrees=degrees)
    upright = crop_face(astronaut, ASTRONAUT_BOX)
    assert np.abs(turned_back - upright).mean() < 0.03
    if degrees:
        assert np.abs(crop_face(tilted, ASTRONAUT_BOX) - upright).mean() > 0.08


def test_boxes_of_a_large_photo_are_in_its_own_pixels(detector, astronaut):
    large = cv2.resize(astronaut, (3072, 3072), interpolation=cv2.INTER_LINEAR)
    box = only(detector.detect(large))
    assert holds(box, [6 * value for value in middle(ASTRONAUT_BOX)])
    assert 0.6 < box[2] / (6 * ASTRONAUT_BOX[2]) < 1.6


@pytest.mark.parametrize(
    "cut",
    [np.s_[:, :277], np.s_[66:, 172:]],
    ids=["right", "corner"],
)
def test_a_face_at_the_edge_is_found_inside_the_photo(detector, astronaut, cut):
    image = astronaut[cut].copy()
    x, y, width, height = only(detector.detect(image))
    assert min(x, y) >= 0
    assert min(width, height) >= 1
    assert x + width <= image.shape[1]
    assert y + height <= image.shape[0]


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (240, 320), (3000, 20), (1, 5000)],
    ids=lambda shape: "x".join(map(str, shape)),
)
def test_a_photo_of_one_colour_has_no_face(detector, shape):
    assert detector.detect(np.full((*shape, 3), 127, np.uint8)) == ()


def test_faces_come_left_to_right_whatever_their_size(detector, astronaut, hopper):
    canvas = np.full((700, 1600, 3), 128, np.uint8)
    canvas[:512, 600:1112] = astronaut
    canvas[100:400, 20:276] = cv2.resize(hopper, (256, 300), interpolation=cv2.INTER_AREA)
    canvas[100:700, 1112:] = hopper[:, :488]
    found = detector.detect(canvas)
    lefts = [face.box_xywh[0] for face in found]
    assert len(found) == 3
    assert lefts == sorted(lefts)


def test_many_threads_find_what_one_finds(detector, astronaut, hopper):
    images = [astronaut, hopper, astronaut[:, ::-1].copy(), hopper[50:350, 100:400].copy()] * 6
    alone = [detector.detect(image) for image in images[:4]] * 6
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(detector.detect, images))
    assert together == alone


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((50, 50), np.uint8),
        np.zeros((50, 50, 4), np.uint8),
        np.zeros((50, 50, 3), np.float32),
        np.zeros((0, 50, 3), np.uint8),
        [[0, 0, 0]],
        None,
    ],
    ids=["grey", "alpha", "float", "empty", "list", "none"],
)
def test_what_is_no_photo_is_refused(detector, image):
    with pytest.raises(ImageError, match="expected an image"):
        detector.detect(image)
    with pytest.raises(ImageError, match="expected an image"):
        crop_face(image, (0, 0, 10, 10))


def ramp(width=120, height=100):
    """Return a photo whose grey value is its column."""
    return np.repeat(np.tile(np.arange(width, dtype=np.uint8), (height, 1))[:, :, None], 3, axis=2)


@pytest.mark.parametrize(
    ("box", "margin", "first", "last"),
    [
        ((20, 20, 48, 48), 0.0, 20, 67),
        ((30, 30, 32, 32), 0.25, 22, 69),
        ((10, 10, 96, 80), -0.25, 34, 81),
        ((-20, 0, 48, 48), 0.0, 0, 27),
        ((100, 20, 48, 48), 0.0, 100, 119),
        ((300, 300, 48, 48), 0.0, 119, 119),
    ],
)
def test_a_crop_is_a_square_around_the_box_with_the_edge_repeated(box, margin, first, last):
    crop = crop_face(ramp(), box, margin)
    assert crop.shape == (48, 48, 1)
    assert crop.dtype == np.float32
    assert crop[:, 0, 0] * 255 == pytest.approx(first)
    assert crop[:, -1, 0] * 255 == pytest.approx(last)


def test_a_crop_weighs_red_green_and_blue_as_the_eye_does():
    colors = {(255, 0, 0): 0.299, (0, 255, 0): 0.587, (0, 0, 255): 0.114}
    for color, luma in colors.items():
        image = np.full((60, 60, 3), color, np.uint8)
        assert crop_face(image, (0, 0, 60, 60)) == pytest.approx(luma, abs=0.005)


@pytest.mark.parametrize(
    ("box", "margin"), [((0, 0, 0, 10), 0.0), ((0, 0, 10, -1), 0.0), ((0, 0, 10, 10), -0.5)]
)
def test_a_crop_of_nothing_is_refused(box, margin):
    with pytest.raises(ImageError, match="expected a box"):
        crop_face(ramp(), box, margin)


def test_a_detector_travels_and_reads_any_view(detector, astronaut):
    view = astronaut[:, ::-1]
    view.flags.writeable = False
    copy = view.copy()
    (face,) = detector.detect(view)
    assert pickle.loads(pickle.dumps(detector)).detect(copy) == (face,)
    assert np.array_equal(copy, view), "the photo stays as it was"
    x, y = middle(ASTRONAUT_BOX)
    assert holds(face.box_xywh, (512 - x, y))


def test_a_missing_or_damaged_file_of_the_detector_is_named(monkeypatch, tmp_path):
    path = tmp_path / "face_template.yml"
    for content in (None, b"", b"not YAML: [", b"%YAML:1.0\n---\na: 1\n"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ModelError, match=r"face_template\.yml"):
            load_template(path)
    monkeypatch.setattr(cv2.data, "haarcascades", f"{tmp_path}/")
    for content in (None, b"", b"<opencv_storage></opencv_storage>"):
        for file in CASCADE_FILES.values() if content is not None else ():
            (tmp_path / file).write_bytes(content)
        with pytest.raises(ModelError, match="haarcascade_frontalface"):
            FaceDetector()
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(ModelError, match="OpenCV 4"):
        FaceDetector()
