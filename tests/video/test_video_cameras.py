"""Cameras, for which stand-ins stand in."""

# ruff: noqa: PT012 - streams end by raising

import threading
import time
from types import SimpleNamespace
from unittest import mock

import cv2
import numpy as np
import pytest
from video_files import SIZE_WH, picture

from emotion.errors import SourceError
from emotion.video import live
from emotion.video.live import NewestFrame
from emotion.video.reading import VideoInfo, frames, open_video


def camera(images, is_open=True, fps=30.0, waits=False):
    """Return a stand-in for cv2.VideoCapture: gives BGR frames, with `waits` each when its `gate`
    opens; raises errors in place of frames.
    """
    capture, gate, images = mock.Mock(), threading.Semaphore(1), list(images)

    def read():
        if waits:
            gate.acquire(timeout=10)
        image = images.pop(0) if images else None
        if isinstance(image, Exception):
            raise image
        return image is not None, image

    capture.configure_mock(gate=gate, images=images, return_value=capture)
    capture.isOpened.return_value, capture.read.side_effect = is_open, read
    capture.get.side_effect = lambda key: fps if key == cv2.CAP_PROP_FPS else 0.0
    return capture


def test_camera_that_gives_nothing_says_so():
    for capture in (camera([], is_open=False), camera([]), camera([cv2.error("no")])):
        with pytest.raises(SourceError, match="number 3"), open_video(3, capture):
            pass
        capture.release.assert_called_once()


def test_camera_gives_rgb_and_the_time_of_the_clock(monkeypatch):
    capture = camera([picture(i)[..., ::-1] for i in range(3)], waits=True)
    ticks, found = iter([100.0, 100.5, 102.0]), []
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    with (
        pytest.raises(SourceError, match=r"camera 0.* after 3"),
        open_video(0, capture) as video,
    ):
        for frame in frames(video):
            found.append(frame)
            capture.gate.release()
    assert [frame.timestamp_s for frame in found] == [0.0, 0.5, 2.0]
    assert all(np.array_equal(frame.image, picture(frame.index)) for frame in found)
    assert (video.is_live, video.dropped, video.name) == (True, 0, "camera 0")
    assert video.info == VideoInfo(30.0, SIZE_WH, is_steady=False)
    capture.set.assert_called_once_with(cv2.CAP_PROP_BUFFERSIZE, 1)
    capture.release.assert_called_once()


def test_slow_reader_gets_the_newest_frame():
    capture = camera([picture(i) for i in range(10)], waits=True)
    with open_video(0, capture) as video:
        looks = frames(video)
        next(looks)
        capture.gate.release(7)
        deadline_s = time.monotonic() + 30
        while len(capture.images) > 2 and time.monotonic() < deadline_s:
            time.sleep(0.005)
        time.sleep(0.05)  # until the thread has put the last one down
        second = next(looks)
        assert np.array_equal(second.image, picture(7)[..., ::-1])
        assert (second.index, video.dropped) == (1, 6)
        capture.gate.release(9)


def test_unusable_rates_of_cameras_are_replaced():
    for fps, expected in ((15.0, 15.0), (-1.0, 30.0), (float("nan"), 30.0), (1e9, 30.0)):
        with open_video(0, camera([picture()], fps=fps)) as video:
            assert video.info.fps == expected


def test_camera_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(live, "FRAME_TIMEOUT_S", 0.05)
    hanging = threading.Event()
    with NewestFrame("camera 0", lambda: hanging.wait(10) and None, lambda: None) as newest:
        with pytest.raises(SourceError, match=r"0\.05 s"):
            newest.take()
        hanging.set()


def test_stream_that_jumps_in_time_goes_on():
    own = iter([(100.0, "a"), (100.02, "b"), (5000.0, "c"), (1.0, "d"), (None, "e"), None])
    gate, found = threading.Semaphore(1), []

    def grab():
        gate.acquire(timeout=10)
        return next(own)

    with NewestFrame("x", grab, lambda: None) as newest, pytest.raises(SourceError):
        while True:
            found.append(newest.take())
            gate.release()
    times_s = [time_s for time_s, _ in found]
    assert [name for _, name in found] == list("abcde")
    assert times_s == sorted(set(times_s))
    assert times_s[:2] == pytest.approx([0.0, 0.02])
    assert times_s[-1] < 60
