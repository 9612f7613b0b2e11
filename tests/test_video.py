"""Videos in, videos out, windows: on videos made here, with stand-ins for cameras and desktops."""

# ruff: noqa: N802 - the stand-ins answer to OpenCV's names

import math
import struct

import cv2
import numpy as np
import pytest

from emotion.errors import SourceError
from emotion.video import (
    CODECS,
    Frame,
    FrameRate,
    VideoInfo,
    VideoSink,
    Window,
    early_end,
    frames,
    kept_file,
    open_video,
    window_problem,
    write_caption,
)

LINUX_BUILD = "  GUI:                           QT5\n"


class FakeCapture:
    """Stands in for cv2.VideoCapture: gives BGR frames, and properties from a dict."""

    def __init__(self, images, properties=(), is_open=True):
        self.images, self.properties, self.is_open = list(images), dict(properties), is_open
        self.settings, self.is_released = {}, False

    def __call__(self, source):
        self.source = source
        return self

    def isOpened(self):
        return self.is_open

    def read(self):
        return (True, self.images.pop(0)) if self.images else (False, None)

    def get(self, key):
        return self.properties.get(key, 0.0)

    def set(self, key, value):
        self.settings[key] = value
        return True

    def release(self):
        self.is_released = True


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


def info(fps=25.0, size_wh=(64, 48), frame_count=None, is_steady=True):
    return VideoInfo(fps, size_wh, frame_count, is_steady)


def write_video(path, count=10, fps=25.0, size_wh=(64, 48)):
    with VideoSink(path, info(fps, size_wh)) as sink:
        for index in range(count):
            sink.write(picture(index, size_wh))
    return path


def write_noise(path, count=50):
    """Write a video whose frames take about the same number of bytes each."""
    random = np.random.default_rng(0)
    with VideoSink(path, info()) as sink:
        for _ in range(count):
            sink.write(random.integers(0, 256, (48, 64, 3), np.uint8))
    return path


def turn_upright_video(path):
    """Note in an .mp4 that it must be turned by a quarter, as a phone held upright does."""
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    quarter = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    content[matrix : matrix + 36] = struct.pack(">9i", *quarter)
    path.write_bytes(content)


def read_all(path):
    with open_video(path) as video:
        return video, list(frames(video))


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize(
    ("size_wh", "written_wh"), [((64, 48), (64, 48)), ((65, 49), (66, 50)), ((99, 40), (100, 40))]
)
def test_what_is_written_reads_back(tmp_path, suffix, size_wh, written_wh):
    path = write_video(tmp_path / f"out{suffix}", count=7, fps=20.0, size_wh=size_wh)
    video, found = read_all(path)
    assert video.info == info(20.0, written_wh, 7)
    assert [frame.index for frame in found] == list(range(7))
    assert [frame.timestamp_s for frame in found] == pytest.approx([i / 20 for i in range(7)])
    for index, frame in enumerate(found):
        # compressed colours differ a little; swapped ones would differ by 150
        cut = frame.image[: size_wh[1], : size_wh[0]].astype(int)
        assert abs(cut - picture(index, size_wh)).mean() < 12
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", CODECS)
def test_writing_leaves_stderr_alone(tmp_path, capfd, suffix):
    write_video(tmp_path / f"out{suffix}")
    assert capfd.readouterr() == ("", "")


def test_capital_suffix_is_written(tmp_path):
    assert len(read_all(write_video(tmp_path / "OUT.MP4"))[1]) == 10


@pytest.mark.parametrize("name", ["out.mov", "out", "out.jpg"])
def test_other_suffixes_are_refused(tmp_path, name):
    with pytest.raises(SourceError, match=r"\.mp4, \.avi, \.webm; received"):
        VideoSink(tmp_path / name, info())


def test_interrupted_video_is_kept(tmp_path):
    path = tmp_path / "out.mp4"

    def write_and_interrupt():
        with VideoSink(path, info()) as sink:
            for index in range(4):
                sink.write(picture(index))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_interrupt()
    assert len(read_all(path)[1]) == 4
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]


def test_video_without_frames_leaves_what_was_there(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_bytes(b"before")
    with VideoSink(path, info()):
        pass
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize(("name", "size_wh"), [("out.webm", (1, 1)), ("out.mp4", (40_000, 2))])
def test_video_that_cannot_be_written_says_so(tmp_path, name, size_wh):
    with (
        pytest.raises(SourceError, match=rf"{name} of \d+x2 pixels .* could not be written"),
        VideoSink(tmp_path / name, info(size_wh=size_wh)) as sink,
    ):
        sink.write(picture(size_wh=size_wh))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("times_s", "numbers"),
    [
        ([5.0, 5.1, 5.2], [0, 1, 2]),
        ([0.0, 0.3, 0.4], [0, 0, 0, 1, 2]),
        ([0.0, 0.01, 0.02, 0.1], [0, 3]),
        ([0.0, 0.12, 0.18, 0.31], [0, 1, 2, 3]),
    ],
)
def test_uneven_frames_stay_in_time(tmp_path, times_s, numbers):
    path = tmp_path / "out.avi"
    with VideoSink(path, info(fps=10.0)) as sink:
        for number, time_s in enumerate(times_s):
            sink.write(picture(4 * number), time_s)
    levels = [frame.image[:, :20, 0].mean() for frame in read_all(path)[1]]
    assert [round((level - 150) / 20) for level in levels] == numbers


def test_frame_of_another_size_is_fitted(tmp_path):
    with VideoSink(tmp_path / "out.mp4", info()) as sink:
        sink.write(picture())
        sink.write(picture(size_wh=(128, 96)))
    assert [frame.image.shape for frame in read_all(tmp_path / "out.mp4")[1]] == [(48, 64, 3)] * 2


def test_upright_phone_video_comes_upright(tmp_path):
    path = write_video(tmp_path / "phone.mp4")
    turn_upright_video(path)
    video, found = read_all(path)
    assert video.info.size_wh == (48, 64)
    top, bottom = found[0].image[:20].mean((0, 1)), found[0].image[-20:].mean((0, 1))
    assert top[0] > 100 > top[2]
    assert bottom[2] > 100 > bottom[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be decoded"), (b"", "is empty"), (b"no video" * 1000, "cannot be decoded")],
)
def test_unreadable_video_says_so(tmp_path, content, message):
    path = tmp_path / "film.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=message), open_video(path):
        pass


@pytest.mark.parametrize("capture", [FakeCapture([], is_open=False), FakeCapture([])])
def test_camera_that_gives_nothing_says_so(capture):
    with pytest.raises(SourceError, match="camera with number 3"), open_video(3, capture):
        pass
    assert capture.is_released


@pytest.mark.parametrize(
    ("fps", "expected", "is_steady"),
    [
        (29.97, 29.97, True),
        (240.0, 240.0, True),
        (0.0, 30.0, False),
        (-1.0, 30.0, False),
        (math.nan, 30.0, False),
        (math.inf, 30.0, False),
        (1000.0, 30.0, False),
    ],
)
def test_unusable_rates_are_replaced(tmp_path, fps, expected, is_steady):
    capture = FakeCapture([picture()], {cv2.CAP_PROP_FPS: fps})
    with open_video(tmp_path / "film.mp4", capture) as video:
        assert (video.info.fps, video.info.is_steady) == (expected, is_steady)


@pytest.mark.parametrize(
    ("count", "expected"), [(100.0, 100), (0.0, None), (-9.2e18, None), (9.2e18, None)]
)
def test_impossible_frame_counts_are_unknown(tmp_path, count, expected):
    properties = {cv2.CAP_PROP_FPS: 25.0, cv2.CAP_PROP_FRAME_COUNT: count}
    with open_video(tmp_path / "film.mp4", FakeCapture([picture()], properties)) as video:
        assert video.info.frame_count == expected


@pytest.mark.parametrize("position_ms", [0.0, math.nan, -5.0])
def test_frames_without_times_are_counted(tmp_path, position_ms):
    properties = {cv2.CAP_PROP_FPS: 25.0, cv2.CAP_PROP_POS_MSEC: position_ms}
    capture = FakeCapture([picture()] * 3, properties)
    with open_video(tmp_path / "film.mp4", capture) as video:
        assert [frame.timestamp_s for frame in frames(video)] == pytest.approx([0, 0.04, 0.08])
    assert capture.settings == {cv2.CAP_PROP_ORIENTATION_AUTO: 1}


def test_camera_frames_bear_the_time_of_the_clock():
    capture = FakeCapture([picture()[:, :, ::-1]] * 3, {cv2.CAP_PROP_FPS: 30.0})
    ticks = iter([100.0, 100.5, 102.0])
    found = []
    with open_video(0, capture) as video, pytest.raises(SourceError, match=r"camera 0.* after 3"):
        found.extend(frames(video, clock=lambda: next(ticks)))
    assert [frame.timestamp_s for frame in found] == [0.0, 0.5, 2.0]
    assert np.array_equal(found[0].image, picture())
    assert not video.info.is_steady
    assert video.info.frame_count is None
    assert capture.settings[cv2.CAP_PROP_BUFFERSIZE] == 1
    assert capture.is_released


def test_mirrored_frames_swap_left_and_right():
    capture = FakeCapture([picture()[:, :, ::-1]])
    with open_video(0, capture) as video:
        frame = next(frames(video, is_mirrored=True))
    assert np.array_equal(frame.image, picture()[:, ::-1])


@pytest.mark.parametrize(
    ("count", "last_index", "last_s", "is_early"),
    [
        (None, 10, 0.4, False),
        (100, 99, 3.96, False),
        (100, 97, 3.88, False),
        (100, 90, 3.60, True),
        (1000, 985, 39.4, False),
        # a recording of uneven frames promises too many, but lasts as long as it says
        (100, 50, 3.96, False),
        # and one that says too low a rate seems too long
        (100, 90, 9.0, False),
    ],
)
def test_early_end_is_told_from_rounding(count, last_index, last_s, is_early):
    last = Frame(last_index, last_s, picture())
    assert bool(early_end(info(frame_count=count), last)) == is_early


@pytest.mark.parametrize("suffix", [".avi", ".webm"])
def test_cut_off_video_gives_the_frames_before_the_cut(tmp_path, suffix):
    path = write_noise(tmp_path / f"film{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    video, found = read_all(path)
    assert 15 <= len(found) <= 35
    assert f"only up to frame {len(found)} (" in early_end(video.info, found[-1])


def test_kept_file_keeps_what_an_error_interrupts(tmp_path):
    path = tmp_path / "lines.jsonl"

    def write_and_interrupt():
        with kept_file(path) as part:
            part.write_text("one\n")
            assert not path.exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_interrupt()
    assert path.read_text() == "one\n"
    assert len(list(tmp_path.iterdir())) == 1


def test_frame_rate_of_even_frames_is_exact():
    now_s = iter(np.arange(20) * 0.04)
    rate = FrameRate(clock=lambda: next(now_s))
    rates = [rate.tick() for _ in range(20)]
    assert rates[0] == 0
    assert rates[1:] == pytest.approx([25.0] * 19)


def test_frame_rate_is_smooth_and_follows():
    gaps = [0.05] * 20 + [0.1] * 100
    now_s = iter(np.cumsum([0.0, *gaps]))
    rate = FrameRate(clock=lambda: next(now_s))
    rates = [rate.tick() for _ in range(len(gaps) + 1)]
    assert rates[20] == pytest.approx(20)
    assert 15 < rates[21] < 20
    assert rates[-1] == pytest.approx(10, rel=0.01)


@pytest.mark.parametrize(
    ("key", "goes_on"),
    [
        (-1, True),
        (ord("x"), True),
        (ord("q"), False),
        (ord("Q"), False),
        (27, False),
        (27 | 0x100000, False),
    ],
)
def test_window_quits_on_its_keys(key, goes_on):
    with Window("faces", FakeGui([key])) as window:
        assert window.show(picture()) is goes_on


@pytest.mark.parametrize("visible", [0.0, -1.0, None])
def test_closed_window_quits(visible):
    with Window("faces", FakeGui(visible=visible)) as window:
        assert window.show(picture()) is False


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
def test_window_suits_the_picture(size_wh, shown_wh):
    gui = FakeGui()
    with Window("faces", gui) as window:
        window.show(picture(size_wh=size_wh))
    assert gui.shown[0].shape[1::-1] == shown_wh


def test_caption_stands_in_the_lower_left_corner():
    image = picture(size_wh=(640, 480))
    before = image.copy()
    captioned = write_caption(image, "25.0 frames per second")
    assert np.array_equal(image, before)
    rows, columns = np.nonzero((captioned != image).any(2))
    assert rows.min() > 400
    assert columns.max() < 320
    assert (captioned == 255).all(2).any()


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
