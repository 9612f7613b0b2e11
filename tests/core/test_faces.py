import pickle
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import skimage.data
import sklearn.datasets

from emotion.detection.crop import crop_face
from emotion.detection.haar import CASCADES, FaceDetector
from emotion.detection.networks import FACE_VERIFIER, load_network
from emotion.errors import ImageError, ModelError

ASTRONAUT_BOX = (172, 66, 105, 105)
HOPPER_BOX = (164, 84, 190, 190)


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


def middle(box):
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def holds(box, point):
    return all(box[i] <= point[i] <= box[i] + box[i + 2] for i in (0, 1))


def test_a_portrait_has_one_face_of_the_right_place_and_size(detector, astronaut, hopper):
    for image, truth in ((astronaut, ASTRONAUT_BOX), (hopper, HOPPER_BOX)):
        (face,) = detector.detect(image)
        assert holds(face.box_xywh, middle(truth))
        assert 0.6 < face.box_xywh[2] / truth[2] < 1.6
        assert 0.9 < face.score <= 1
        assert all(type(value) is int for value in face.box_xywh)


def test_a_photo_without_faces_has_none(detector):
    for name in ("china.jpg", "flower.jpg"):
        assert detector.detect(sklearn.datasets.load_sample_image(name)) == ()
    assert detector.detect(skimage.data.chelsea()) == ()
    for shape in ((1, 1), (240, 320), (3000, 20), (1, 5000)):
        assert detector.detect(np.full((*shape, 3), 127, np.uint8)) == ()


@pytest.mark.parametrize("side_px", [20, 40, 105, 630])
def test_faces_of_any_size_and_such_as_fill_the_photo_are_found(detector, astronaut, side_px):
    scale = side_px / ASTRONAUT_BOX[2]
    photo = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    (face,) = detector.detect(photo)
    assert holds(face.box_xywh, [scale * value for value in middle(ASTRONAUT_BOX)])
    assert 0.6 < face.box_xywh[2] / side_px < 1.6
    tight = cv2.resize(astronaut[66:171, 172:277], (side_px, side_px))
    (face,) = detector.detect(tight)
    assert holds(face.box_xywh, (side_px / 2, side_px / 2))


@pytest.mark.parametrize("degrees", [-40, -20, 0, 20, 40])
def test_the_tilt_of_a_head_is_told_and_undone_by_the_crop(detector, astronaut, degrees):
    turn = cv2.getRotationMatrix2D(middle(ASTRONAUT_BOX), degrees, 1.0)
    tilted = cv2.warpAffine(astronaut, turn, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    (face,) = detector.detect(tilted)
    assert face.roll_degrees == pytest.approx(degrees, abs=10)
    assert (face.roll_degrees == 0) == (degrees == 0)
    upright = crop_face(astronaut, ASTRONAUT_BOX)
    turned_back = crop_face(tilted, ASTRONAUT_BOX, roll_degrees=degrees)
    assert np.abs(turned_back - upright).mean() < 0.03
    if degrees:
        assert np.abs(crop_face(tilted, ASTRONAUT_BOX) - upright).mean() > 0.08


def test_boxes_are_inside_the_photo(detector, astronaut):
    for image in (astronaut[:, :277].copy(), astronaut[66:, 172:].copy()):
        ((x, y, width, height),) = [face.box_xywh for face in detector.detect(image)]
        assert min(x, y, width - 1, height - 1) >= 0
        assert x + width <= image.shape[1]
        assert y + height <= image.shape[0]


def test_faces_come_left_to_right_whatever_their_size(detector, astronaut, hopper):
    canvas = np.full((700, 1600, 3), 128, np.uint8)
    canvas[:512, 600:1112] = astronaut
    canvas[100:400, 20:276] = cv2.resize(hopper, (256, 300), interpolation=cv2.INTER_AREA)
    canvas[100:700, 1112:] = hopper[:, :488]
    first, second, third = (face.box_xywh[0] for face in detector.detect(canvas))
    assert first < second < third


def test_many_threads_find_what_one_finds(detector, astronaut, hopper):
    images = [astronaut, hopper, astronaut[:, ::-1].copy(), hopper[50:350, 100:400].copy()]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(detector.detect, images * 6)) == list(map(detector.detect, images)) * 6


def test_what_is_no_photo_is_refused(detector):
    whole = np.zeros((50, 50, 3), np.uint8)
    for image in (whole[..., 0], whole.repeat(2, 2), whole / 1, whole[:0], [[0, 0, 0]], None):
        with pytest.raises(ImageError, match="expected an image"):
            detector.detect(image)
        with pytest.raises(ImageError, match="expected an image"):
            crop_face(image, (0, 0, 10, 10))
    for box, margin in (((0, 0, 0, 10), 0.0), ((0, 0, 10, -1), 0.0), ((0, 0, 10, 10), -0.5)):
        with pytest.raises(ImageError, match="expected a box"):
            crop_face(whole, box, margin)


def test_a_crop_is_a_square_around_the_box_in_the_eyes_grey_with_the_edge_repeated():
    ramp = np.tile(np.arange(120, dtype=np.uint8)[:, np.newaxis], (100, 1, 3))  # grey is the column
    for box, margin, first, last in (
        ((20, 20, 48, 48), 0.0, 20, 67),
        ((30, 30, 32, 32), 0.25, 22, 69),
        ((10, 10, 96, 80), -0.25, 34, 81),
        ((-20, 0, 48, 48), 0.0, 0, 27),
        ((100, 20, 48, 48), 0.0, 100, 119),
        ((300, 300, 48, 48), 0.0, 119, 119),
    ):
        crop = crop_face(ramp, box, margin)
        assert (crop.shape, crop.dtype) == ((48, 48, 1), np.float32)
        assert crop[:, 0, 0] * 255 == pytest.approx(first)
        assert crop[:, -1, 0] * 255 == pytest.approx(last)
    for channel, luma in enumerate((0.299, 0.587, 0.114)):
        image = np.full((60, 60, 3), 255 * np.eye(3, dtype=np.uint8)[channel])
        assert crop_face(image, (0, 0, 60, 60)) == pytest.approx(luma, abs=0.005)


def test_a_detector_travels_and_reads_any_view(detector, astronaut):
    view = astronaut[:, ::-1]
    view.flags.writeable = False
    (face,) = detector.detect(view)
    assert pickle.loads(pickle.dumps(detector)).detect(view.copy()) == (face,)
    x, y = middle(ASTRONAUT_BOX)
    assert holds(face.box_xywh, (512 - x, y))


def test_a_missing_or_damaged_file_is_named(monkeypatch, tmp_path):
    path = tmp_path / "network.onnx"
    for content in (None, b"", b"no network", FACE_VERIFIER.read_bytes()):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ModelError, match=r"network\.onnx"):
            load_network(path, ("any", "any", "any", 1))
    monkeypatch.setattr(cv2.data, "haarcascades", f"{tmp_path}/")
    for content in (None, b"", b"<opencv_storage></opencv_storage>"):
        for file, _, _ in CASCADES if content is not None else ():
            (tmp_path / file).write_bytes(content)
        with pytest.raises(ModelError, match="haarcascade_frontalface"):
            FaceDetector()
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(ModelError, match="OpenCV 4"):
        FaceDetector()
