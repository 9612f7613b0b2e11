"""A video in a window: the window itself, its pace, its keys, and what stands over the picture."""

# ruff: noqa: N802 - the stand-ins answer to OpenCV's names

import itertools
import re

import cv2
import numpy as np
import pytest

from emotion.errors import SourceError
from emotion.faces import Face
from emotion.images.decoding import read_image
from emotion.labels import EMOTIONS
from emotion.video import window
from emotion.video.outputs import FrameRate, annotated
from emotion.video.reading import Video, VideoInfo, frames, open_video
from emotion.video.tracking import FrameFaces, TrackedFace
from emotion.video.window import (
    BARS,
    HELP,
    KEY_HELP,
    KEYS,
    MIRROR,
    PAUSE,
    QUIT,
    RECORD,
    SNAPSHOT,
    STEP,
    Viewer,
    Window,
    fitted,
    mirrored,
    window_problem,
)

LINUX_BUILD = "  GUI:                           QT5\n"
SIZE_WH = (640, 480)
BOX = (100, 150, 120, 120)


class FakeDesk:
    """Stands in for a window and a clock: asks for things, and lets the time pass that is waited.

    `asks` has, for each time that a picture is shown, what the person asks for then.
    """

    def __init__(self, asks=(), work_s=0.0):
        self.asks, self.work_s, self.now_s = list(asks), work_s, 100.0
        self.shown, self.times_s = [], []

    def clock(self):
        return self.now_s

    def show(self, view, wait_s=0.0):
        self.shown.append(view)
        self.times_s.append(round(self.now_s - 100, 3))
        action = self.asks.pop(0) if self.asks else None
        # a key is pressed at once; without one the whole time is waited
        self.now_s += 0.001 if action else max(0.001, wait_s)
        return action


def seen(index=0, fps=10.0):
    """Return a frame with one face left of its middle."""
    probabilities = dict.fromkeys(EMOTIONS, 0.05) | {"happy": 0.7}
    face = Face(BOX, 5.0, probabilities)
    image = np.full((SIZE_WH[1], SIZE_WH[0], 3), 90 + index, np.uint8)
    image[:, :320] += 40
    return FrameFaces(index, index / fps, image, (TrackedFace(7, face, probabilities, True),))


def viewer_of(desk, folder=None, is_live=True):
    video = Video("film.mp4", is_live, VideoInfo(10.0, SIZE_WH))
    return Viewer(desk, video, folder=folder, clock=desk.clock)


def show_all(desk, count=3, folder=None, is_live=True):
    """Show frames until the person quits; return how many got an answer to go on."""
    with viewer_of(desk, folder, is_live) as viewer:
        answers = []
        for index in range(count):
            answers.append(viewer.show(seen(index)))
            if not answers[-1]:
                break
    return answers, viewer.saved


def test_live_frames_are_shown_at_once_and_quitting_ends_it():
    desk = FakeDesk([None, None, None, QUIT])
    assert show_all(desk, 5)[0] == [True, True, True, False]
    assert desk.times_s[-1] < 0.02


def test_frames_of_a_file_are_shown_in_their_time():
    desk = FakeDesk()
    show_all(desk, 4, is_live=False)
    assert desk.now_s - 100 == pytest.approx(0.3, abs=0.02)
    # the window is looked at all the while: it may be closed
    assert max(np.diff(desk.times_s)) < 0.06
    # one that fell behind goes on at its own speed
    with viewer_of(desk, is_live=False) as viewer:
        viewer.show(seen(0))
        desk.now_s += 5  # the frame took so long
        viewer.show(seen(1))
        behind_s = desk.now_s
        viewer.show(seen(2))
    assert desk.now_s - behind_s == pytest.approx(0.1, abs=0.02)


def test_a_pause_holds_a_file_until_the_key_comes_again():
    desk = FakeDesk([PAUSE, None, None, None, PAUSE])
    assert show_all(desk, 2, is_live=False)[0] == [True, True]
    assert len(desk.shown) == 7  # five of the first frame, the end of its pause, the second
    changed = [(desk.shown[1] != view).any() for view in desk.shown[2:5]]
    assert not any(changed)


def test_a_pause_holds_a_live_picture_while_frames_go_on():
    desk = FakeDesk([PAUSE, None, None, None, PAUSE])
    assert show_all(desk, 6)[0] == [True] * 6
    assert [view[0, 0, 0] for view in desk.shown] == [130] * 6 + [134, 135]


@pytest.mark.parametrize("is_live", [True, False])
def test_a_pause_can_be_stepped_through_and_quit(is_live):
    desk = FakeDesk([PAUSE, STEP, None, STEP, None, QUIT])
    answers, _ = show_all(desk, 9, is_live=is_live)
    assert answers[-1] is False
    corners = [view[0, 0, 0] for view in desk.shown]
    assert corners == [130, 130, 131, 131, 133, 133] if is_live else [130, 130, 131, 131, 132, 132]


def test_what_is_switched_on_shows_at_once_and_can_be_switched_off():
    for action in (BARS, MIRROR, HELP):
        desk = FakeDesk([PAUSE, None, action, None, action, None, QUIT])
        show_all(desk, 1, is_live=False)
        before, switched, after = desk.shown[2], desk.shown[3], desk.shown[5]
        assert (before != switched).any(), action
        assert np.array_equal(before, after), action


def test_mirroring_takes_the_boxes_along_and_leaves_words_readable():
    turned = mirrored(seen())
    assert turned.faces[0].face.box_xywh == (640 - 100 - 120, 150, 120, 120)
    assert np.array_equal(turned.image, seen().image[:, ::-1])
    label = annotated(seen(), bars=False)[100:148, 90:300]
    moved = annotated(turned, bars=False)[100:148, 410:620]
    is_yellow = [(part == (240, 228, 66)).all(axis=2) for part in (label, moved)]
    assert is_yellow[0].sum() == is_yellow[1].sum() > 500


def test_a_snapshot_has_the_full_picture_without_what_stands_over_it(tmp_path):
    desk = FakeDesk([HELP, SNAPSHOT, SNAPSHOT])
    _, saved = show_all(desk, 3, tmp_path)
    assert len({path.name for path in saved}) == 2
    assert re.fullmatch(r"snapshot-\d{8}-\d{6}\.png", saved[0].name)
    assert np.array_equal(read_image(saved[0]), annotated(seen()))
    assert sorted(saved) == sorted(tmp_path.iterdir())


def test_a_recording_holds_what_is_shown_in_real_time(tmp_path):
    desk = FakeDesk([None, RECORD, None, None, BARS, None, RECORD])
    _, saved = show_all(desk, 8, tmp_path)
    assert len(saved) == 1
    with open_video(saved[0]) as video:
        found = list(frames(video))
    assert [frame.timestamp_s for frame in found] == pytest.approx([0, 0.1, 0.2, 0.3], abs=0.01)
    with_bars = annotated(seen(1)).astype(int)
    assert abs(found[0].image - with_bars).mean() < 4
    # it is kept when the person quits
    _, saved = show_all(FakeDesk([RECORD, None, None, QUIT]), 5, tmp_path)
    assert [path.suffix for path in saved] == [".mp4"]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_that_cannot_be_written_is_told_in_the_window(tmp_path, monkeypatch):
    def refuse(path, image):
        raise SourceError("the disk is full")

    monkeypatch.setattr(window, "write_image", refuse)
    desk = FakeDesk([PAUSE, None, SNAPSHOT, None, QUIT])
    answers, saved = show_all(desk, 1, tmp_path, is_live=False)
    assert (answers, saved) == ([False], [])
    before, told = desk.shown[1], desk.shown[3]
    rows, columns = np.nonzero((before != told).any(axis=2))
    assert rows.min() > 400
    assert columns.min() > 320


def test_keys_are_told_at_first_and_the_rate_later(monkeypatch):
    captions, draw = [], window.with_words
    monkeypatch.setattr(
        window,
        "with_words",
        lambda view, lines, *rest: captions.append(lines[0][1]) or draw(view, lines, *rest),
    )
    desk = FakeDesk()
    with viewer_of(desk) as viewer:
        for index in range(4):
            viewer.show(seen(index))
            desk.now_s += 2.0
    assert "q quits" in captions[0]
    assert captions[-1].startswith("0.5 ")


PICTURE = np.full((48, 64, 3), (200, 100, 0), np.uint8)


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


def test_frame_rate_is_smooth_and_follows():
    gaps = [0.05] * 20 + [0.1] * 100
    now_s = iter([*np.cumsum([0.0, *gaps]), 60.0, 60.1])
    rate = FrameRate(clock=lambda: next(now_s))
    rates = [rate.tick() for _ in range(len(gaps) + 1)]
    assert rates[20] == pytest.approx(20)
    assert 15 < rates[21] < 20
    assert rates[-1] == pytest.approx(10, rel=0.01)
    rate.restart()  # a pause is left out
    assert [rate.tick(), rate.tick()] == pytest.approx([10, 10], rel=0.01)


def test_keys_ask_for_something():
    asked = {"q": QUIT, "Q": QUIT, "\x1b": QUIT, " ": PAUSE, "n": STEP, "s": SNAPSHOT, "x": None}
    asked |= {"r": RECORD, "b": BARS, "M": MIRROR, "h": HELP, "?": HELP, "\0": None}
    actions = {ord(key): action for key, action in asked.items()} | {-1: None, 27 | 0x100000: QUIT}
    with Window("faces", FakeGui(actions)) as opened:
        assert [opened.show(PICTURE) for _ in actions] == list(actions.values())


def test_closed_window_quits():
    for visible, key in itertools.product((0.0, -1.0, None), (-1, ord("s"))):
        with Window("faces", FakeGui([key], visible)) as opened:
            assert opened.show(PICTURE) == QUIT


def test_window_shows_bgr_once_opened_and_closes():
    gui = FakeGui()
    with Window("faces", gui) as opened:
        opened.show(PICTURE)
        opened.show(PICTURE, wait_s=0.04)
    assert gui.calls == ["open", (64, 48), "close"]
    assert gui.waits == [1, 40]
    assert np.array_equal(gui.shown[0], PICTURE[:, :, ::-1])


def test_pictures_are_fitted_to_a_window():
    for size_wh, shown_wh in (
        ((1280, 720), (1280, 720)),
        ((3000, 4000), (540, 720)),
        ((160, 120), (640, 480)),
        ((64, 640), (64, 640)),
        ((20_000, 10), (1280, 1)),
    ):
        assert fitted(np.zeros((*size_wh[::-1], 3), np.uint8)).shape[1::-1] == shown_wh


def test_every_key_is_in_the_help():
    told = {key for keys, _ in KEY_HELP for key in keys.split(" or ")}
    assert told == {{" ": "space", "\x1b": "Esc"}.get(key, key) for key in KEYS}


def test_window_problem_is_found_without_opening_one():
    for environment, platform, build, message in (
        ({"DISPLAY": ":0"}, "linux", "  GUI:                           NONE\n", "headless"),
        ({}, "win32", "  GUI:                           NONE\n", "headless"),
        ({"DISPLAY": "", "WAYLAND_DISPLAY": ""}, "linux", LINUX_BUILD, "no display"),
        ({"DISPLAY": ":4711"}, "linux", LINUX_BUILD, "cannot open"),
        ({}, "darwin", "  GUI: COCOA\n", None),
        ({}, "win32", "  GUI: WIN32UI\n", None),
    ):
        problem = window_problem(environment, platform, build)
        assert problem is None if message is None else message in problem
