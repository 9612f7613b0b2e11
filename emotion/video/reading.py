"""Frames in: cameras (OpenCV), video files and streams (PyAV), as upright RGB with real times."""

import contextlib
import itertools
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from emotion.errors import SourceError
from emotion.text import length
from emotion.video import decoding
from emotion.video.decoding import Decoder, letterboxed

VIDEO_SUFFIXES = (  # a file of any other name is looked into
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts"),
    *(".wmv", ".asf", ".flv", ".3gp", ".3g2", ".ogv", ".gif"),
)
# FFmpeg's names of what phones, cameras and browsers make
WEB_FORMATS = tuple("mov matroska avi mpeg mpegts ogg".split())
WEB_CODECS = tuple("h264 hevc vp8 vp9 libdav1d av1 mpeg4 mpeg2video mjpeg h263 theora".split())
# the longest allowed video may be of such pictures; of larger ones, or more a second, less
USUAL_PIXELS, USUAL_FPS = 1920 * 1080, 30
FRAME_TIMEOUT_S = 10.0  # a source that gives nothing for this long has stopped
CLOSE_TIMEOUT_S = 2.0
LARGEST_LAG_S = 5.0  # where a stream's own times and the clock differ by more, it has jumped


@dataclass(frozen=True)
class VideoInfo:  # what is known about a video before its end; None where the file does not say
    fps: float  # average frames per second, always a usable number
    size_wh: tuple[int, int]  # of the upright frames
    frame_count: int | None = None
    duration_s: float | None = None
    is_steady: bool = True  # frames come evenly, `fps` a second; not so from a camera
    has_sound: bool = False
    start_s: float = 0.0  # time of the first frame by the clock of the file, which its sound shares


@dataclass(frozen=True)
class Frame:  # one frame of a video
    index: int  # from 0
    timestamp_s: float  # from the first frame on
    image: np.ndarray  # (H, W, 3) uint8 RGB, upright


@dataclass(frozen=True)
class VideoLimits:
    """Limits for a stranger's file; what exceeds them is refused before memory is spent on it."""

    most_pixels: int = 4096 * 2304  # of a frame
    most_frames: int = 36_000  # of the file, whether it states them or not
    longest_s: float = 600.0

    @property
    def most_pixels_in_all(self) -> int:
        return round(self.longest_s * USUAL_FPS * USUAL_PIXELS)


@dataclass
class Video:  # an opened video file, stream or camera; `frames` may be taken from it once
    name: str  # without folder, and without a stream's credentials
    is_live: bool  # it goes on while its frames are not read
    info: VideoInfo
    path: Path | None = None  # of a file
    dropped: int = 0  # frames of a live source that were skipped
    problem: str | None = None  # after the last frame: why a file was damaged or ended early
    reader: Iterable[Frame] = field(default=(), repr=False)


def silence_opencv() -> None:
    """Keep OpenCV and FFmpeg off stderr, unless the environment asks for it."""
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")


@contextlib.contextmanager
def open_video(
    source: int | str | Path, open_capture=cv2.VideoCapture, limits: VideoLimits | None = None
) -> Iterator[Video]:
    """Open a camera (its number), a stream (its URL) or a file; raises SourceError."""
    with contextlib.ExitStack() as stack:
        if isinstance(source, int):
            yield _open_camera(stack, source, open_capture)
        elif isinstance(source, str):
            yield _open_stream(stack, source)
        elif not source.is_file():
            found = "is a folder" if source.is_dir() else "does not exist"
            raise SourceError(f"expected a video file; {source} {found}")
        else:
            # no frame of a stranger's file is unpacked before its size is known
            how = (WEB_FORMATS, ("none",)) if limits else (decoding.FILE_FORMATS, ())
            container = stack.enter_context(decoding.open_container(source, *how))
            yield _recorded_video(container, source.name, source, limits)


def frames(video: Video, is_mirrored: bool = False) -> Iterator[Frame]:
    """Yield every frame of a file, or always the newest of a live source; raises SourceError."""
    for frame in video.reader:
        yield replace(frame, image=cv2.flip(frame.image, 1)) if is_mirrored else frame


def _recorded_video(container, name: str, path: Path | None, limits: VideoLimits | None) -> Video:
    """Return a video that waits for its reader, described by its container and first frame."""
    decoder = Decoder(container, name)
    stream, codec = decoder.stream, decoder.stream.codec_context

    def check(width: int, height: int, count: int, seconds: float) -> None:
        if limits and width * height > limits.most_pixels:
            expected = f"expected frames of at most {limits.most_pixels:,} pixels"
            raise SourceError(f"{expected}; {name} has {width}x{height}: make it smaller")
        if limits and (count > limits.most_frames or seconds > limits.longest_s):
            raise SourceError(
                f"expected a video of at most {limits.longest_s:g} s and {limits.most_frames:,} "
                f"frames; {name} is longer: cut it into parts"
            )

    def check_work(pixels: int) -> None:
        if limits and pixels > limits.most_pixels_in_all:
            (width, height), fps = info.size_wh, info.fps
            most = length(limits.most_pixels_in_all / (width * height * fps))
            raise SourceError(
                f"expected at most {most} of {width}x{height} pixels at {fps:.3g} frames a "
                f"second; {name} is longer: make its picture smaller or cut it into parts"
            )

    if limits:
        if codec.codec.name not in WEB_CODECS:
            words = f"expected a video of {', '.join(WEB_CODECS)}; {name} is {codec.codec.name}"
            raise SourceError(f"{words}: convert it to an .mp4 of H.264")
        # a file may promise less than it unpacks to; decoders round sides up to their blocks
        codec.options = {"max_pixels": str(2 * limits.most_pixels)}
    check(codec.width, codec.height, stream.frames, 0.0)
    frame_count, duration_s = decoder.promises()
    check(0, 0, frame_count or 0, duration_s or 0.0)
    pictures = decoder.pictures()
    first = next(pictures, None)
    if first is None:
        why = "it is damaged"
        if path is None:
            why += ", or its index comes last and its server sends no parts: download it first"
        raise SourceError(f"expected a video; no frame of {name} can be decoded: {why}")
    average, base = stream.average_rate, stream.base_rate
    has_rate = 0 < float(average or 0) <= decoding.HIGHEST_FPS
    info = VideoInfo(
        fps=decoder.fps,
        size_wh=decoder.size_wh(first),
        frame_count=frame_count if has_rate else None,
        duration_s=duration_s,
        is_steady=bool(has_rate and base and abs(average - base) <= Fraction(1, 100) * average),
        has_sound=bool(container.streams.audio),
        start_s=decoder.time_s(first) or 0.0,
    )
    video = Video(name, False, info, path)
    check(*info.size_wh, 0, 0.0)
    check_work(math.prod(info.size_wh) * (frame_count or round((duration_s or 0) * info.fps)))

    def recorded_frames() -> Iterator[Frame]:
        index, timestamp_s, pixels = 0, 0.0, 0
        for picture in itertools.chain([first], pictures):
            if index:
                # without a time, or where time would run backwards: a frame's length after the last
                own_s = decoder.time_s(picture)
                own_s = -1.0 if own_s is None else own_s - info.start_s
                timestamp_s = own_s if own_s > timestamp_s else timestamp_s + 1 / info.fps
            check(*info.size_wh, index + 1, timestamp_s)
            pixels += picture.width * picture.height
            check_work(pixels)
            decoder.position = (index, timestamp_s)
            image = decoder.rgb(picture)
            if image is not None:
                yield Frame(index, timestamp_s, letterboxed(image, info.size_wh))
                index += 1
        video.problem = _problem(info, decoder, index, timestamp_s + 1 / info.fps)

    video.reader = recorded_frames()
    return video


def _problem(info: VideoInfo, decoder: Decoder, count: int, end_s: float) -> str | None:
    # many files round the number of their frames or guess it from their length, so being short of a
    # few is no damage; nor is a picture that ends before its sound
    promised_s = info.duration_s or (info.frame_count or 0) / info.fps
    # where a file counts its frames it times its pictures alone, else with their sound
    packets_s = 0.0 if info.frame_count else decoder.packets_reach_s - info.start_s
    lacks_frames = (info.frame_count or math.inf) - count > max(2, 0.02 * (info.frame_count or 0))
    lacks_time = promised_s - max(end_s, packets_s) > max(2 / info.fps, 0.02 * promised_s)
    if lacks_frames and lacks_time:
        expected = f"{info.frame_count} frames" if info.frame_count else "a video"
        return (
            f"expected {expected} ({promised_s:.1f} s); the video can be read only up to frame "
            f"{count} ({end_s:.1f} s), where it is damaged or cut off"
        )
    if decoder.damages:
        index, timestamp_s = decoder.first_damage
        more = f", and in {decoder.damages - 1} more places" if decoder.damages > 1 else ""
        return (
            f"expected only whole frames; the video is damaged near frame {index + 1} "
            f"({timestamp_s:.1f} s), where frames are missing or partly wrong{more}"
        )
    return None


class NewestFrame(contextlib.AbstractContextManager):
    """Reads a live source in a thread and hands out its newest frame.

    `grab` waits for the next frame and returns it with the source's own time in seconds (None where
    it has none), or None at the end; then the thread calls `close`.
    """

    def __init__(self, name: str, grab: Callable[[], tuple | None], close: Callable[[], None]):
        self.dropped = 0
        self._name, self._grab, self._close = name, grab, close
        self._newest, self._taken, self._problem = None, 0, None
        self._changed, self._stopping = threading.Condition(), threading.Event()
        self._thread = threading.Thread(target=self._read, name=f"read {name}", daemon=True)
        self._thread.start()

    def __exit__(self, *exception) -> None:
        self._stopping.set()
        # a source that hangs is left to its thread, which frees it when it wakes
        self._thread.join(CLOSE_TIMEOUT_S)

    def take(self) -> tuple[float, Any]:
        """Wait for a new frame; return its time from the first one, in seconds, and the frame."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._problem, FRAME_TIMEOUT_S)
            if self._newest is None:
                raise SourceError(
                    self._problem
                    or f"expected a frame from {self._name}; none came for {FRAME_TIMEOUT_S:g} s: "
                    "is it still connected?"
                )
            newest, self._newest = self._newest, None
            self._taken += 1
        return newest

    def _read(self) -> None:
        start_s = offset_s = None
        last_s = -1e-3
        try:
            while not self._stopping.is_set() and (grabbed := self._grab()) is not None:
                own_s, frame = grabbed
                read_s = time.monotonic()
                start_s = read_s if start_s is None else start_s
                timestamp_s = now_s = read_s - start_s
                if own_s is not None:
                    if offset_s is None or abs(own_s - offset_s - now_s) > LARGEST_LAG_S:
                        offset_s = own_s - now_s
                    timestamp_s = own_s - offset_s
                last_s = max(timestamp_s, last_s + 1e-3)  # time never runs backwards
                # what comes in bursts, as segments over HTTP do, is shown at its pace
                self._stopping.wait(0.0 if own_s is None else max(0.0, last_s - now_s))
                with self._changed:
                    self.dropped += self._newest is not None
                    self._newest = (last_s, frame)
                    self._changed.notify_all()
        finally:
            self._close()
            with self._changed:
                count = self._taken + self.dropped + (self._newest is not None)
                expected = f"expected more frames from {self._name}"
                self._problem = f"{expected}; it stopped after {count}: is it still connected?"
                self._changed.notify_all()


def _open_camera(stack: contextlib.ExitStack, number: int, open_capture: Callable) -> Video:
    capture = open_capture(number)
    # without this a slow reader sees what the camera saw several frames ago
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    name, fps = f"camera {number}", decoding.usable_fps(capture.get(cv2.CAP_PROP_FPS))

    def grab():
        with contextlib.suppress(cv2.error):  # the camera has failed
            grabbed, bgr = capture.read()
            return (None, bgr) if grabbed else None

    def to_rgb(bgr: np.ndarray) -> np.ndarray:
        return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)

    newest = stack.enter_context(NewestFrame(name, grab, capture.release))
    try:
        return _live_video(name, fps, newest, lambda bgr: bgr.shape[1::-1], to_rgb)
    except SourceError as error:
        expected = f"expected a camera with number {number}; none could be opened"
        raise SourceError(f"{expected}: is it connected, free and allowed to be used?") from error


def _open_stream(stack: contextlib.ExitStack, url: str) -> Video:
    container, name = decoding.open_stream(url), decoding.stream_name(url)
    stack.callback(container.close)
    if url.startswith("http") and container.duration:
        # a file on a server waits, as one on the disk does
        return _recorded_video(container, name, None, None)
    # more threads would hold back a frame each
    decoder = Decoder(container, name, threading="SLICE")
    pictures = decoder.pictures()

    def grab():
        picture = next(pictures, None)
        return None if picture is None else (decoder.time_s(picture), picture)

    # from here on the thread closes it
    stack.pop_all()
    newest = stack.enter_context(NewestFrame(name, grab, container.close))
    return _live_video(name, decoder.fps, newest, decoder.size_wh, decoder.rgb)


def _live_video(name: str, fps: float, newest: NewestFrame, size_of, to_rgb) -> Video:
    first = newest.take()
    video = Video(name, True, VideoInfo(fps, size_of(first[1]), is_steady=False))

    def live_frames() -> Iterator[Frame]:
        taken, index = first, 0
        while True:
            video.dropped = newest.dropped
            image = to_rgb(taken[1])
            if image is not None:
                yield Frame(index, taken[0] - first[0], letterboxed(image, video.info.size_wh))
                index += 1
            taken = newest.take()

    video.reader = live_frames()
    return video
