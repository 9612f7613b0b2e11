import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest
from yunet_network import BOX_WH, EYES_UP_PX, write_yunet_stand_in

from emotion.detection import yunet
from emotion.detection.settings import NETWORK_FILE, yunet_file
from emotion.detection.yunet import EYES_LIFT, SQUARE_SIDE, YunetDetector, YunetSettings
from emotion.errors import ImageError, ModelError

CELL_PX = 32
SIDE_PX = SQUARE_SIDE * math.sqrt(BOX_WH[0] * BOX_WH[1])


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    pytest.importorskip("onnx", reason="the stand-in is written with onnx")
    return write_yunet_stand_in(tmp_path_factory.mktemp("yunet") / "stand_in.onnx")


@pytest.fixture(scope="module")
def detector(stand_in):
    # it searches one copy, of the photo's own size where that is enough
    return YunetDetector(stand_in, YunetSettings(overview_pixels=1280 * 960))


def photo_with_red(*cells, size_wh=(640, 480), color=(255, 0, 0)):
    """Return a black photo in which cells (column, row) of the coarsest grid are red."""
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    for column, row in cells:
        left, top = column * CELL_PX, row * CELL_PX
        image[top : top + CELL_PX, left : left + CELL_PX] = color
    return image


def lies_at(face, column, row, scale=1.0):
    """True if a square's middle is where that of a face in the middle of a cell is expected."""
    x, y, width, height = face.box_xywh
    across = x + width / 2 - scale * (column + 0.5) * CELL_PX
    lift = EYES_UP_PX - EYES_LIFT * SIDE_PX
    down = y + height / 2 - scale * ((row + 0.5) * CELL_PX - lift)
    return max(abs(across), abs(down)) <= max(1, scale)


def test_a_box_becomes_a_square_in_pixels_of_the_photo(stand_in, detector):
    (face,) = detector.detect(photo_with_red((7, 5)))
    assert face.box_xywh[2:] == pytest.approx((SIDE_PX, SIDE_PX), abs=1)
    assert face.roll_degrees == pytest.approx(0, abs=0.1)
    assert lies_at(face, 7, 5)
    assert face.score == pytest.approx(1)
    assert [type(value) for value in (*face.box_xywh, face.score)] == [int] * 4 + [float]
    (small,) = detector.detect(cv2.resize(photo_with_red((3, 3), size_wh=(240, 240)), (60, 60)))
    assert lies_at(small, 3, 3, 0.25)
    reduced = YunetDetector(stand_in, YunetSettings(640 * 480, 640 * 480))
    for scale in (2, 4):
        (large,) = reduced.detect(
            photo_with_red((7, 5)).repeat(scale, axis=0).repeat(scale, axis=1)
        )
        assert lies_at(large, 7, 5, scale)


def test_the_square_keeps_its_height_at_the_eyes_and_turns_with_the_head():
    """A mouth that opens makes the box longer, and must not move the eyes in the square."""
    eyes, nose = [(35, 50), (75, 50)], (55, 70)
    shut = [(15, 5, 80, 105), *eyes, nose, (42, 90), (68, 90)]
    wide_open = [(15, 5, 80, 115), *eyes, nose, (42, 95), (68, 95)]
    for face in (shut, wide_open):
        x, y, side, tilt = yunet.upright_square(np.array([n for part in face for n in part], float))
        assert (x, (y - 50) / side, tilt) == pytest.approx((55, EYES_LIFT, 0))
    # the same head, a quarter turn to the left around (0, 0)
    turned = [(5, -95, 105, 80), *((y, -x) for x, y in shut[1:])]
    x, y, side, tilt = yunet.upright_square(np.array([n for part in turned for n in part], float))
    assert ((x - 50) / side, y, tilt) == pytest.approx((EYES_LIFT, -55, 90))


def test_weak_faces_are_left_out_and_boxes_at_the_edge_cut_to_the_photo(stand_in, detector):
    pale = photo_with_red((7, 5), color=(41, 0, 0))
    assert detector.detect(pale) == ()
    (face,) = YunetDetector(stand_in, replace(detector.settings, score_threshold=0.5)).detect(pale)
    assert face.score == pytest.approx(np.sqrt(0.4), abs=0.01)
    for cell in ((7, 14), (0, 0), (19, 14)):
        ((x, y, width, height),) = [face.box_xywh for face in detector.detect(photo_with_red(cell))]
        assert min(x, y, width - 1, height - 1) >= 0
        assert x + width <= 640
        assert y + height <= 480


def test_many_threads_find_what_one_finds(detector):
    sizes = [(640, 480), (320, 320), (480, 640), (416, 288)]
    images = [photo_with_red((n % 4 + 3, n % 3 + 3), size_wh=sizes[n % 4]) for n in range(16)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.detect, images)) == list(map(detector.detect, images))


def test_a_copy_in_another_process_needs_no_file(tmp_path, stand_in):
    (moved := tmp_path / "moved.onnx").write_bytes(stand_in.read_bytes())
    detector = YunetDetector(moved, YunetSettings(score_threshold=0.6))
    moved.unlink()
    copy = pickle.loads(pickle.dumps(detector))
    assert copy.settings == detector.settings
    assert len(copy.detect(photo_with_red((7, 5)))) == 1


def test_a_damaged_file_or_another_network_is_known_at_the_start(tmp_path, stand_in):
    path = tmp_path / "bad.onnx"
    half = stand_in.read_bytes()[: stand_in.stat().st_size // 2]
    for content, reason in (
        (None, "No such file"),
        (b"", "it is empty"),
        (half, "cannot run"),
        (b"<html>not found</html>", "cannot run"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ModelError, match=reason) as caught:
            YunetDetector(path)
        assert NETWORK_FILE in str(caught.value)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"OpenCV .*other"):
        YunetDetector(write_yunet_stand_in(tmp_path / "other.onnx", without="kps_16"))
    with pytest.raises(ModelError, match="another network"):
        YunetDetector(stand_in, YunetSettings(score_threshold=1.1))


def test_photos_of_any_shape_order_and_colour(detector, stand_in):
    view = photo_with_red((15, 3), (5, 10), (5, 4), (10, 7))[:, ::-1]
    view.flags.writeable = False
    boxes = [face.box_xywh for face in detector.detect(view)]
    assert len(boxes) == 4
    assert boxes == sorted(boxes)
    assert detector.detect(photo_with_red((7, 5), color=(0, 0, 255))) == ()
    usual = YunetDetector(stand_in)
    for shape in ((1, 1), (19, 400), (20, 3000), (3000, 20), (1100, 1400)):
        assert usual.detect(np.full((*shape, 3), 127, np.uint8)) == ()
    both = np.zeros((960, 1280, 3), np.uint8)
    both[384:512, 512:640] = 255, 0, 0  # seen on both copies
    assert len(YunetDetector(stand_in, YunetSettings(detail_pixels=640 * 480)).detect(both)) == 1
    with pytest.raises(ImageError, match="an image"):
        detector.detect(np.zeros((40, 40), np.uint8))


def test_the_file_is_the_one_named_or_the_newest_in_models(tmp_path, monkeypatch):
    monkeypatch.setattr("emotion.detection.settings.models_folder", lambda: tmp_path)
    with pytest.raises(ModelError, match=NETWORK_FILE):
        yunet_file()
    for name in ("face_detection_yunet_2023mar.onnx", NETWORK_FILE):
        (tmp_path / name).touch()
    assert yunet_file() == tmp_path / NETWORK_FILE
    assert yunet_file(tmp_path / "other.onnx") == tmp_path / "other.onnx"
