"""The network that says where faces may be: on a real photograph, and its files."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import skimage.data

from emotion.detection.places import find_places, load_places
from emotion.errors import ModelError

FACE_MIDDLE = (224, 118)
FACE_SIDE_PX = 105


@pytest.fixture(scope="module")
def network():
    return load_places()


@pytest.fixture(scope="module")
def astronaut():
    return cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2GRAY)


def shows_face(box):
    x, y, width, height = box
    off = abs(x + width / 2 - FACE_MIDDLE[0]), abs(y + height / 2 - FACE_MIDDLE[1])
    return max(off) < 0.3 * FACE_SIDE_PX and 0.65 < width / FACE_SIDE_PX < 1.5


def test_a_face_is_among_few_places(network, astronaut):
    places = find_places(network, astronaut, 80, 160, -1.0)
    assert any(map(shows_face, places))
    assert len(places) < 20
    for limits in ((20, 48), (200, 400)):
        places = find_places(network, astronaut, *limits, -1.0)
        assert not any(map(shows_face, places))
        assert all(limits[0] <= width <= limits[1] for _, _, width, _ in places)
    # the likeliest comes first
    some, fewer = (find_places(network, astronaut, 60, 0, height) for height in (-3.0, 0.0))
    assert 0 < len(fewer) < len(some)
    assert some[: len(fewer)] == fewer
    for shape in ((20, 20), (400, 20), (1, 1)):
        assert find_places(network, np.zeros(shape, np.uint8), 24, 0, -1.0) == []


def test_many_threads_share_one_network(network, astronaut):
    pictures = [astronaut, astronaut[:, ::-1].copy(), astronaut[100:, :300].copy()] * 8
    alone = [find_places(network, picture, 40, 0, 0.0) for picture in pictures[:3]] * 8
    with ThreadPoolExecutor(8) as pool:
        together = pool.map(lambda picture: find_places(network, picture, 40, 0, 0.0), pictures)
    assert list(together) == alone


@pytest.mark.parametrize("content", [None, b"", b"no network"], ids=["missing", "empty", "foreign"])
def test_a_missing_or_damaged_network_is_named(tmp_path, content):
    path = tmp_path / "face_places.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"face_places\.onnx"):
        load_places(path)


def test_another_network_is_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    ends = [helper.make_tensor_value_info(name, number, [1, 4]) for name in ("in", "out")]
    graph = helper.make_graph([helper.make_node("Relu", ["in"], ["out"])], "g", ends[:1], ends[1:])
    path = tmp_path / "face_places.onnx"
    opset = helper.make_opsetid("", 17)
    onnx.save_model(helper.make_model(graph, opset_imports=[opset], ir_version=9), str(path))
    with pytest.raises(ModelError, match="received another"):
        load_places(path)
