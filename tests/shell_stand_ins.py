"""Stand-ins for what the shell uses of the machine: a camera, a desktop, a model; and a photo."""

# ruff: noqa: N802, N815 - the stand-ins answer to OpenCV's names

import functools
import json
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from emotion.cli.tools import Tools
from emotion.files import sha256_of
from emotion.labels import EMOTIONS
from emotion.model.keras import ModelFiles
from emotion.model.runtime import EmotionModel
from emotion.recognizer import Recognizer
from emotion.video.reading import frames, open_video
from emotion.video.window import Window

WEIGHTS = (0.02, 0.02, 0.02, 0.8, 0.06, 0.04, 0.04)
VIDEO_SIZE_WH = (320, 240)


class FakeCamera:
    """Stands in for cv2.VideoCapture on a camera: gives some frames, at a camera's pace."""

    def __init__(self, image, count=100_000):
        self.image, self.count, self.is_released = image, count, False

    def __call__(self, *source):
        return self

    def isOpened(self, *key_and_value):
        return True

    set = isOpened

    def read(self):
        time.sleep(0.02)
        self.count -= 1
        return (False, None) if self.count < 0 else (True, self.image[:, :, ::-1])

    def grab(self):
        return self.read()[0]

    def get(self, key):
        return 30.0 if key == cv2.CAP_PROP_FPS else 0.0

    def release(self):
        self.is_released = True


class FakeGui:
    """Stands in for OpenCV's windows: keeps what is shown, and presses a key at some picture."""

    def __init__(self, key=-1, at=1):
        self.key, self.at, self.shown = key, at, []

    def imshow(self, title, image):
        self.shown.append(image)

    def waitKey(self, delay_ms):
        if len(self.shown) < self.at or self.key == -1:
            time.sleep(delay_ms / 1000)
            return -1
        return self.key

    def getWindowProperty(self, title, key):
        return 1.0

    def namedWindow(self, *title_and_size):
        pass

    resizeWindow = destroyWindow = namedWindow


def stand_in_model(notes=()):
    """Return a model that answers every face with the same probabilities."""
    return EmotionModel(
        name="stand-in",
        sha256="0" * 64,
        class_names=EMOTIONS,
        runtime="numpy",
        card=None,
        notes=notes,
        run=lambda faces: np.tile(np.float32(WEIGHTS), (len(faces), 1)),
    )


def tools(capture=None, gui=None, notes=()):
    """Return tools with the stand-in model; with a `gui`, windows open."""
    return Tools(
        load_recognizer=lambda stem, detector: Recognizer(stand_in_model(notes), detector),
        open_capture=capture or cv2.VideoCapture,
        open_window=functools.partial(Window, gui=gui),
        window_problem=lambda: None if gui else "nothing can be shown",
    )


def portrait(left=0):
    """Return (240, 320, 3) RGB: the astronaut's face, moved to the right by `left` pixels."""
    image = np.full((VIDEO_SIZE_WH[1], VIDEO_SIZE_WH[0], 3), 90, np.uint8)
    face = data.astronaut()[0:240, 100:340]
    image[:, left : left + 240] = face
    return image


def pictures_of(path):
    """Return the pictures of a video."""
    with open_video(Path(path)) as video:
        return [frame.image for frame in frames(video)]


def interrupted_tools(capture, after=4):
    """Return tools whose model is interrupted by Ctrl-C when it has answered some times."""
    calls = iter(range(after))

    def load_recognizer(stem, detector):
        model = stand_in_model()

        def run(faces):
            if next(calls, None) is None:
                raise KeyboardInterrupt
            return model.run(faces)

        return Recognizer(replace(model, run=run), detector)

    return replace(tools(capture), load_recognizer=load_recognizer)


def write_model(stem):
    """Write a model whose fast form answers every face with the same probabilities."""
    onnx = pytest.importorskip("onnx")
    make, floats = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        make.make_node("Flatten", ["faces"], ["flat"]),
        make.make_node("MatMul", ["flat", "nothing"], ["none"]),
        make.make_node("Add", ["none", "weights"], ["probabilities"]),
    ]
    numbers = {"nothing": np.zeros((48 * 48, 7), np.float32), "weights": np.float32([WEIGHTS])}
    graph = make.make_graph(
        nodes,
        "stand-in",
        [make.make_tensor_value_info("faces", floats, ["n", 48, 48, 1])],
        [make.make_tensor_value_info("probabilities", floats, ["n", 7])],
        [onnx.numpy_helper.from_array(value, name) for name, value in numbers.items()],
    )
    files, opset = ModelFiles(stem), [make.make_opsetid("", 17)]
    onnx.save(make.make_model(graph, opset_imports=opset, ir_version=9), files.fast_form)
    files.architecture.write_text("{}")
    files.weights.write_bytes(b"weights")
    seal = {"sha256": sha256_of(files.fast_form)} | files.hashes()
    files.fast_form_seal.write_text(json.dumps(seal))
