"""Stand-ins for what the shell uses of the machine: a camera, a desktop, a model; and a photo."""

import functools
import itertools
import time
from pathlib import Path
from unittest.mock import Mock

import cv2
import numpy as np
from model_folder import write_pair
from skimage import data
from web_support import HAPPY, stand_in_model

from emotion.cli.tools import Tools
from emotion.labels import EMOTIONS
from emotion.recognizer import Recognizer
from emotion.video.reading import frames, open_video
from emotion.video.window import Window

VIDEO_SIZE_WH = (320, 240)


def fake_camera(image, count=100_000):
    """Stand in for cv2.VideoCapture on a camera: give some frames, at a camera's pace."""
    taken, camera = itertools.count(), Mock()

    def read():
        time.sleep(0.02)
        return (True, image[:, :, ::-1]) if next(taken) < count else (False, None)

    camera.return_value, camera.read = camera, read
    camera.get.return_value = 30.0
    return camera


def fake_gui(key=-1, at=1):
    """Stand in for OpenCV's windows: keep what is shown, and press a key at some picture."""
    gui = Mock(shown=[])
    gui.imshow = lambda title, image: gui.shown.append(image)
    gui.getWindowProperty.return_value = 1.0

    def wait_key(delay_ms):
        if key != -1 and len(gui.shown) >= at:
            return key
        time.sleep(delay_ms / 1000)
        return -1

    gui.waitKey = wait_key
    return gui


def tools(capture=None, gui=None, notes=()):
    """Return tools with a model that finds every face happy; with a `gui`, windows open."""
    model = stand_in_model(HAPPY, notes=notes)
    return Tools(
        load_recognizer=lambda stem, detector: Recognizer(model, detector),
        open_capture=capture or cv2.VideoCapture,
        open_window=functools.partial(Window, gui=gui),
        window_problem=lambda: None if gui else "nothing can be shown",
    )


def portrait(left=0):
    """Return (240, 320, 3) RGB: the astronaut's face, moved to the right by `left` pixels."""
    image = np.full((VIDEO_SIZE_WH[1], VIDEO_SIZE_WH[0], 3), 90, np.uint8)
    image[:, left : left + 240] = data.astronaut()[0:240, 100:340]
    return image


def pictures_of(path):
    with open_video(Path(path)) as video:
        return [frame.image for frame in frames(video)]


def write_model(stem):
    weights = np.zeros((48 * 48, 7), np.float32)
    weights[:, EMOTIONS.index("happy")] = 1
    write_pair(stem, weights=weights)
