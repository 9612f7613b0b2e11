"""Windows and their keys, with a stand-in for the desktop; how many frames a second are shown."""

# ruff: noqa: N802 - the stand-ins answer to OpenCV's names

import cv2
import numpy as np
import pytest

from emotion.video.rate import FrameRate
from emotion.video.windows import (
    BARS,
    HELP,
    MIRROR,
    PAUSE,
    QUIT,
    RECORD,
    SNAPSHOT,
    STEP,
    Window,
    fitted,
    key_lines,
    window_problem,
)

LINUX_BUILD = "  GUI:                           QT5\n"


class FakeGui:
    """Stands in for OpenCV's windows: remembers what is shown and presses keys."""

    def __init__(self, keys=(), visible=1.0):
        self.keys, self.visible = list(keys), visible
        self.shown, self.calls, self.waits = [], [], []

    def namedWindow(self, title, flags):
        self.calls.append("open")

    def resizeWindow(self, title, width, height):
        self.calls.append((width, height))

    def imshow(self, title, image):
        self.shown.append(image)

    def waitKey(self, delay_ms):
        self.waits.append(delay_ms)
        return self.keys.pop(0) if self.keys else -1

    def getWindowProperty(self, title, key):
        if self.visible is None:
            raise cv2.error("no such window")
        return self.visible

    def destroyWindow(self, title):
        self.calls.append("close")
        if self.visible is None:
            raise cv2.error("no such window")


def picture(index=0, size_wh=(64, 48)):
    """Return an RGB picture: red on the left, blue on the right, brighter with its number."""
    image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    image[:, : size_wh[0] // 2, 0] = 150 + 5 * index
    image[:, size_wh[0] // 2 :, 2] = 150 + 5 * index
    return image


def ticks(times_s):
    """Return a rate whose clock tells these times."""
    now_s = iter(times_s)
    return FrameRate(clock=lambda: next(now_s))


def test_frame_rate_of_even_frames_is_exact():
    rate = ticks(np.arange(20) * 0.04)
    rates = [rate.tick() for _ in range(20)]
    assert rates[0] == 0
    assert rates[1:] == pytest.approx([25.0] * 19)


def test_frame_rate_is_smooth_and_follows():
    gaps = [0.05] * 20 + [0.1] * 100
    rate = ticks(np.cumsum([0.0, *gaps]))
    rates = [rate.tick() for _ in range(len(gaps) + 1)]
    assert rates[20] == pytest.approx(20)
    assert 15 < rates[21] < 20
    assert rates[-1] == pytest.approx(10, rel=0.01)


def test_frame_rate_leaves_a_pause_out():
    rate = ticks([0.0, 0.1, 60.0, 60.1])
    rate.tick()
    assert rate.tick() == pytest.approx(10)
    rate.restart()
    assert [rate.tick(), rate.tick()] == pytest.approx([10, 10])


@pytest.mark.parametrize(
    ("key", "action"),
    [
        (-1, None),
        (ord("x"), None),
        (0, None),
        (ord("q"), QUIT),
        (ord("Q"), QUIT),
        (27, QUIT),
        (27 | 0x100000, QUIT),
        (ord(" "), PAUSE),
        (ord("n"), STEP),
        (ord("s"), SNAPSHOT),
        (ord("r"), RECORD),
        (ord("b"), BARS),
        (ord("M"), MIRROR),
        (ord("h"), HELP),
        (ord("?"), HELP),
    ],
)
def test_keys_ask_for_something(key, action):
    with Window("faces", FakeGui([key])) as window:
        assert window.show(picture()) == action


@pytest.mark.parametrize("visible", [0.0, -1.0, None])
@pytest.mark.parametrize("key", [-1, ord("s")])
def test_closed_window_quits(visible, key):
    with Window("faces", FakeGui([key], visible)) as window:
        assert window.show(picture()) == QUIT


def test_window_shows_bgr_once_opened_and_closes():
    gui = FakeGui()
    with Window("faces", gui) as window:
        window.show(picture(size_wh=(800, 600)))
        window.show(picture(1, (800, 600)), wait_s=0.04)
    assert gui.calls == ["open", (800, 600), "close"]
    assert gui.waits == [1, 40]
    assert np.array_equal(gui.shown[0], picture(size_wh=(800, 600))[:, :, ::-1])


@pytest.mark.parametrize(
    ("size_wh", "shown_wh"),
    [
        ((1280, 720), (1280, 720)),
        ((4000, 3000), (960, 720)),
        ((3000, 4000), (540, 720)),
        ((160, 120), (640, 480)),
        ((64, 640), (64, 640)),
        ((20_000, 10), (1280, 1)),
    ],
)
def test_pictures_are_fitted_to_a_window(size_wh, shown_wh):
    assert fitted(picture(size_wh=size_wh)).shape[1::-1] == shown_wh


def test_every_action_is_in_the_help():
    assert dict(key_lines()) == {
        "space": "pause, go on",
        "n": "while paused: next frame",
        "s": "save this picture (.png)",
        "r": "start, stop a recording (.mp4)",
        "b": "show, hide the bars",
        "m": "swap left and right",
        "h or ?": "show, hide this help",
        "q or Esc": "quit",
    }


@pytest.mark.parametrize(
    ("environment", "platform", "build", "message"),
    [
        ({"DISPLAY": ":0"}, "linux", "  GUI:                           NONE\n", "headless"),
        ({}, "win32", "  GUI:                           NONE\n", "headless"),
        ({}, "linux", LINUX_BUILD, "no display"),
        ({"DISPLAY": "", "WAYLAND_DISPLAY": ""}, "linux", LINUX_BUILD, "no display"),
        ({"DISPLAY": ":4711"}, "linux", LINUX_BUILD, "cannot open a window on this display"),
        ({}, "darwin", "  GUI: COCOA\n", None),
        ({}, "win32", "  GUI: WIN32UI\n", None),
    ],
)
def test_window_problem_is_found_without_opening_one(environment, platform, build, message):
    problem = window_problem(environment, platform, build)
    assert problem is None if message is None else message in problem
