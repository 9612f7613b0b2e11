import itertools
import re
import sys
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest

from emotion.errors import SourceError
from emotion.faces import Face
from emotion.images.decoding import read_image
from emotion.labels import EMOTIONS
from emotion.video import window
from emotion.video.outputs import annotated
from emotion.video.reading import Video, VideoInfo, frames, open_video
from emotion.video.tracking import FrameFaces, TrackedFace
from emotion.video.window import Viewer, Window, fitted, window_problem

SIZE_WH = (640, 480)
PAUSE, STEP, QUIT, SNAPSHOT, RECORD = "pause", "step", "quit", "snapshot", "record"


class FakeDesk:
    """A window and a clock; `asks` has what the person asks for at each picture shown."""

    def __init__(self, asks=()):
        self.asks, self.now_s, self.shown, self.times_s = list(asks), 100.0, [], []

    def clock(self):
        return self.now_s

    def show(self, view, wait_s=0.0):
        self.shown.append(view)
        self.times_s.append(round(self.now_s - 100, 3))
        action = self.asks.pop(0) if self.asks else None
        # a key is pressed at once; without one the whole time is waited
        self.now_s += 0.001 if action else max(0.001, wait_s)
        return action


def seen(index=0):
    """Return a frame with one face left of its middle; each is a little brighter."""
    probabilities = dict.fromkeys(EMOTIONS, 0.05) | {"happy": 0.7}
    face = TrackedFace(7, Face((100, 150, 120, 120), 5.0, probabilities), probabilities, True)
    image = np.full((SIZE_WH[1], SIZE_WH[0], 3), 90 + index, np.uint8)
    image[:, :320] += 40
    return FrameFaces(index, index / 10, image, (face,))


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def show_all(desk, count=3, is_live=True, behind_s=0.0):
    """Show frames, the second one late, until the person quits; return the answers, and files."""
    answers = []
    video = Video("film.mp4", is_live, VideoInfo(10.0, SIZE_WH))
    with Viewer(desk, video, clock=desk.clock) as viewer:
        for index in range(count):
            desk.now_s += behind_s * (index == 1)
            answers.append(viewer.show(seen(index)))
            if not answers[-1]:
                break
    return answers, viewer.saved


def test_frames_are_shown_in_their_time_and_live_ones_at_once():
    desk = FakeDesk([None, None, None, QUIT])
    assert show_all(desk, 5)[0] == [True, True, True, False]
    assert desk.times_s[-1] < 0.02
    # a file that fell behind goes on at its own speed, from the frame that took so long
    for behind_s, lasted_s in ((0.0, 0.3), (5.0, 5.2)):
        desk = FakeDesk()
        show_all(desk, 4, is_live=False, behind_s=behind_s)
        assert desk.now_s - 100 == pytest.approx(lasted_s, abs=0.02)
        # the window is looked at all the while: it may be closed
        assert sorted(np.diff(desk.times_s))[-2] < 0.06


HELD = [PAUSE, None, None, None, PAUSE]
STEPPED = [PAUSE, STEP, None, STEP, None, QUIT]


@pytest.mark.parametrize(
    ("is_live", "asks", "count", "corners"),
    [
        # a file waits until the key comes again; of a live picture frames go on behind
        (False, HELD, 2, [130] * 6 + [131]),
        (True, HELD, 6, [130] * 6 + [134, 135]),
        (False, STEPPED, 9, [130, 130, 131, 131, 132, 132]),
        (True, STEPPED, 9, [130, 130, 131, 131, 133, 133]),
    ],
)
def test_a_pause_holds_the_picture_and_can_be_stepped_through(is_live, asks, count, corners):
    desk = FakeDesk(asks)
    answers, _ = show_all(desk, count, is_live=is_live)
    assert answers[-1] is (asks is HELD)
    assert [int(view[0, 0, 0]) for view in desk.shown] == corners


def test_what_is_switched_on_shows_at_once_and_can_be_switched_off():
    for action in ("bars", "mirror", "help"):
        desk = FakeDesk([PAUSE, None, action, None, action, None, QUIT])
        show_all(desk, 1, is_live=False)
        before, switched, after = desk.shown[2], desk.shown[3], desk.shown[5]
        assert (before != switched).any(), action
        assert np.array_equal(before, after), action


def test_a_snapshot_has_the_full_picture_without_what_stands_over_it():
    _, saved = show_all(FakeDesk(["help", SNAPSHOT, SNAPSHOT]))
    assert len({path.name for path in saved}) == 2
    assert re.fullmatch(r"snapshot-\d{8}-\d{6}\.png", saved[0].name)
    assert np.array_equal(read_image(saved[0]), annotated(seen()))
    assert sorted(saved) == sorted(Path().iterdir())


def test_a_recording_holds_what_is_shown_in_real_time():
    _, (saved,) = show_all(FakeDesk([None, RECORD, None, None, "bars", None, RECORD]), 8)
    with open_video(saved) as video:
        found = list(frames(video))
    assert [frame.timestamp_s for frame in found] == pytest.approx([0, 0.1, 0.2, 0.3], abs=0.01)
    assert abs(found[0].image - annotated(seen(1)).astype(int)).mean() < 4
    # it is kept when the person quits
    _, (saved,) = show_all(FakeDesk([RECORD, None, None, QUIT]), 5)
    assert saved.suffix == ".mp4"
    assert len(list(Path().iterdir())) == 2


def test_a_file_that_cannot_be_written_is_told_in_the_window(monkeypatch):
    monkeypatch.setattr(window, "write_image", mock.Mock(side_effect=SourceError("disk is full")))
    desk = FakeDesk([PAUSE, None, SNAPSHOT, None, QUIT])
    assert show_all(desk, 1, is_live=False) == ([False], [])
    rows, columns = np.nonzero((desk.shown[1] != desk.shown[3]).any(axis=2))
    assert rows.min() > 400
    assert columns.min() > 320


PICTURE = np.full((48, 64, 3), (200, 100, 0), np.uint8)


def gui(keys=(), visible=1.0):
    error = cv2.error("no such window") if visible is None else None
    return mock.Mock(
        waitKey=mock.Mock(side_effect=[*keys, *[-1] * 9]),
        getWindowProperty=mock.Mock(return_value=visible, side_effect=error),
        destroyWindow=mock.Mock(side_effect=error),
    )


def test_a_window_shows_bgr_and_its_keys_ask_for_something():
    asked = {"q": QUIT, "Q": QUIT, "\x1b": QUIT, " ": PAUSE, "n": STEP, "s": SNAPSHOT, "x": None}
    asked |= {"r": RECORD, "b": "bars", "M": "mirror", "h": "help", "?": "help", "\0": None}
    actions = {ord(key): action for key, action in asked.items()} | {-1: None, 27 | 0x100000: QUIT}
    desk = gui(actions)
    with Window("faces", desk) as opened:
        assert [opened.show(PICTURE, wait_s=0.04) for _ in actions] == list(actions.values())
    desk.namedWindow.assert_called_once()
    desk.resizeWindow.assert_called_once_with("faces", 64, 48)
    desk.destroyWindow.assert_called_once()
    desk.waitKey.assert_called_with(40)
    assert np.array_equal(desk.imshow.call_args.args[1], PICTURE[:, :, ::-1])


def test_closed_window_quits():
    for visible, key in itertools.product((0.0, -1.0, None), (-1, ord("s"))):
        with Window("faces", gui([key], visible)) as opened:
            assert opened.show(PICTURE) == QUIT


def test_pictures_are_fitted_to_a_window():
    cases = {(1280, 720): (1280, 720), (3000, 4000): (540, 720), (160, 120): (640, 480)}
    for size_wh, shown_wh in (cases | {(20_000, 10): (1280, 1)}).items():
        assert fitted(np.zeros((*size_wh[::-1], 3), np.uint8)).shape[1::-1] == shown_wh


@pytest.mark.parametrize(
    ("display", "platform", "build", "message"),
    [
        (":0", "linux", "GUI:     NONE\n", "headless"),
        ("", "linux", "GUI:     QT5\n", "no display"),
        (":4711", "linux", "GUI:     QT5\n", "cannot open"),
        ("", "win32", "GUI: WIN32UI\n", None),
    ],
)
def test_window_problem_is_found(monkeypatch, display, platform, build, message):
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: build)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    problem = window_problem()
    assert problem is None if message is None else message in problem
