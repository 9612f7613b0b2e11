"""YuNet behind the detector's interface: with a stand-in network, and with the real file if given.

The real file is not in the repository: name it in YUNET_MODEL, or put it into ../shared/data.
"""

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import matplotlib.cbook
import numpy as np
import pytest
import skimage.data
from yunet_network import BOX_WH, write_yunet_stand_in

from emotion.detection.haar import FaceDetector
from emotion.detection.yunet import NETWORK_FILE, YunetDetector, YunetSettings
from emotion.errors import ImageError, ModelError

ROOT = Path(__file__).resolve().parents[2]
CELL_PX = 32
ASTRONAUT_BOX = (172, 66, 105, 105)
HOPPER_BOX = (164, 84, 190, 190)


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    pytest.importorskip("onnx", reason="the stand-in is written with onnx")
    return write_yunet_stand_in(tmp_path_factory.mktemp("yunet") / "stand_in.onnx")


@pytest.fixture(scope="module")
def detector(stand_in):
    """Return a detector that searches one copy, of the photo's own size where that is enough."""
    return YunetDetector(stand_in, YunetSettings(overview_pixels=1280 * 960))


@pytest.fixture(scope="module")
def real():
    """Return a detector with YuNet itself."""
    path = Path(os.environ.get("YUNET_MODEL") or ROOT.parent / "shared" / "data" / NETWORK_FILE)
    if not path.is_file():
        pytest.skip(f"no {NETWORK_FILE}: name its path in YUNET_MODEL")
    return YunetDetector(path)


def photo_with_red(*cells, size_wh=(640, 480), color=(255, 0, 0)):
    """Return a black photo in which cells (column, row) of the coarsest grid are red."""
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    for column, row in cells:
        left, top = column * CELL_PX, row * CELL_PX
        image[top : top + CELL_PX, left : left + CELL_PX] = color
    return image


def middle(box):
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def middle_of_cell(column, row, settings):
    """Return where the middle of a square is expected for a face in the middle of a cell."""
    lift = settings.square_lift * BOX_WH[1]
    return (column + 0.5) * CELL_PX, (row + 0.5) * CELL_PX - lift


def test_a_box_becomes_a_square_in_pixels_of_the_photo(detector):
    (face,) = detector.detect(photo_with_red((7, 5)))
    settings = detector.settings
    assert face.box_xywh[2:] == (round(settings.square_share * BOX_WH[1]),) * 2
    assert middle(face.box_xywh) == pytest.approx(middle_of_cell(7, 5, settings), abs=1)
    assert face.score == pytest.approx(1)
    assert all(type(value) is int for value in face.box_xywh)
    assert type(face.score) is float


def test_a_face_below_the_threshold_is_left_out(stand_in, detector):
    pale = photo_with_red((7, 5), color=(41, 0, 0))
    assert detector.detect(pale) == ()
    (face,) = YunetDetector(stand_in, replace(detector.settings, score_threshold=0.5)).detect(pale)
    assert face.score == pytest.approx(np.sqrt(0.4), abs=0.01)


@pytest.mark.parametrize("cell", [(7, 14), (0, 0), (19, 14)])
def test_a_box_at_the_edge_is_cut_to_the_photo(detector, cell):
    ((x, y, width, height),) = [face.box_xywh for face in detector.detect(photo_with_red(cell))]
    assert min(x, y) >= 0
    assert min(width, height) >= 1
    assert x + width <= 640
    assert y + height <= 480


@pytest.mark.parametrize("scale", [2, 4])
def test_a_large_photo_is_searched_on_a_reduced_copy(stand_in, scale):
    settings = YunetSettings(detail_pixels=640 * 480, overview_pixels=640 * 480)
    image = cv2.resize(
        photo_with_red((7, 5)), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST
    )
    (face,) = YunetDetector(stand_in, settings).detect(image)
    expected = [scale * value for value in middle_of_cell(7, 5, settings)]
    assert middle(face.box_xywh) == pytest.approx(expected, abs=scale)


def test_a_small_photo_is_enlarged(detector):
    image = cv2.resize(photo_with_red((3, 3), size_wh=(240, 240)), (60, 60))
    (face,) = detector.detect(image)
    expected = [value / 4 for value in middle_of_cell(3, 3, detector.settings)]
    assert middle(face.box_xywh) == pytest.approx(expected, abs=1)


def test_many_threads_find_what_one_finds(detector):
    sizes = [(640, 480), (320, 320), (480, 640), (416, 288)]
    images = [photo_with_red((n % 4 + 3, n % 3 + 3), size_wh=sizes[n % 4]) for n in range(16)]
    alone = [detector.detect(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.detect, images)) == alone


def test_a_copy_in_another_process_needs_no_file(tmp_path, stand_in):
    moved = tmp_path / "moved.onnx"
    moved.write_bytes(stand_in.read_bytes())
    settings = YunetSettings(score_threshold=0.6)
    content = pickle.dumps(YunetDetector(moved, settings))
    moved.unlink()
    copy = pickle.loads(content)
    assert copy.settings == settings
    assert len(copy.detect(photo_with_red((7, 5)))) == 1


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (None, "no such file"),
        (lambda content: b"", "it is empty"),
        (lambda content: content[: len(content) // 2], "cannot run"),
        (lambda content: b"<html>not found</html>", "cannot run"),
        (lambda content: b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    ],
    ids=["missing", "empty", "cut short", "page", "pointer"],
)
def test_a_damaged_file_is_known_at_the_start(tmp_path, stand_in, damage, reason):
    path = tmp_path / "bad.onnx"
    if damage:
        path.write_bytes(damage(stand_in.read_bytes()))
    with pytest.raises(ModelError, match=reason) as caught:
        YunetDetector(path)
    message = str(caught.value)
    assert NETWORK_FILE in message
    assert str(path) in message
    assert "\n" not in message


def test_another_network_is_known_at_the_start(tmp_path, stand_in):
    path = write_yunet_stand_in(tmp_path / "other.onnx", without="kps_16")
    with pytest.raises(ModelError, match=r"OpenCV 4\.8 .*other"):
        YunetDetector(path)
    with pytest.raises(ModelError, match="another network"):
        YunetDetector(stand_in, YunetSettings(smallest_photo_side_px=1000))


def test_photos_of_any_shape_order_and_colour(detector, stand_in):
    several = photo_with_red((15, 3), (5, 10), (5, 4), (10, 7))
    view = several[:, ::-1]
    view.flags.writeable = False
    boxes = [face.box_xywh for face in detector.detect(view)]
    assert len(boxes) == 4
    assert boxes == sorted(boxes)
    assert detector.detect(photo_with_red((7, 5), color=(0, 0, 255))) == ()
    for shape in ((1, 1), (19, 400), (20, 3000), (3000, 20), (1100, 1400)):
        assert YunetDetector(stand_in).detect(np.full((*shape, 3), 127, np.uint8)) == ()
    both = np.zeros((960, 1280, 3), np.uint8)
    both[384:512, 512:640] = 255, 0, 0  # seen on both copies
    assert len(YunetDetector(stand_in, YunetSettings(detail_pixels=640 * 480)).detect(both)) == 1
    with pytest.raises(ImageError, match="an image"):
        detector.detect(np.zeros((40, 40), np.uint8))


def hopper():
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        content = np.frombuffer(file.read(), np.uint8)
    return cv2.cvtColor(cv2.imdecode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


@pytest.mark.parametrize(
    ("load", "truth"),
    [(skimage.data.astronaut, ASTRONAUT_BOX), (hopper, HOPPER_BOX)],
    ids=["astronaut", "hopper"],
)
def test_yunet_gives_a_portrait_the_square_that_the_cascades_give(real, load, truth):
    image = load()
    (face,) = real.detect(image)
    (other,) = FaceDetector().detect(image)
    assert 0.75 < face.box_xywh[2] / other.box_xywh[2] < 1.35
    assert middle(face.box_xywh) == pytest.approx(middle(other.box_xywh), abs=0.1 * truth[2])
    assert 0.7 <= face.score <= 1
