"""Videos, cameras and windows: frames in, frames out; inside the program they are upright RGB.

OpenCV's colour order (BGR), its noise and its ways to fail stay in this module.
"""

import contextlib
import itertools
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from emotion.errors import SourceError

CODECS = MappingProxyType({".mp4": "mp4v", ".avi": "MJPG", ".webm": "VP80"})
"""Suffix of a video that can be written -> the codec that OpenCV's wheels bring for it."""

VIDEO_SUFFIXES = (
    *CODECS,
    *(".m4v", ".mov", ".mkv", ".mpg", ".mpeg", ".wmv", ".asf", ".flv", ".3gp", ".3g2", ".ogv"),
    *(".mts", ".m2ts"),
)
"""Suffixes that mean a video; a file of any other name is looked into."""

FALLBACK_FPS = 30.0
HIGHEST_FPS = 480.0
"""Files that claim more have frames at uneven times, such as a browser's recordings."""

SMALLEST_VIEW_WH = (640, 480)
LARGEST_VIEW_WH = (1280, 720)
"""A window shows frames enlarged or reduced to between these sizes, in pixels."""

QUIT_KEYS = (ord("q"), ord("Q"), 27)
PROBE_TIMEOUT_S = 30


@dataclass(frozen=True)
class VideoInfo:
    """What is known about a video before its end.

    Attributes:
        fps: frames per second, always a usable number.
        size_wh: width and height of the upright frames in pixels.
        frame_count: how many frames the file promises, None where it does not say.
        is_steady: whether frames come evenly, `fps` a second; not so from a camera.
    """

    fps: float
    size_wh: tuple[int, int]
    frame_count: int | None
    is_steady: bool


@dataclass(frozen=True)
class Frame:
    """One frame: its number from 0, its time in seconds, and (H, W, 3) uint8 RGB."""

    index: int
    timestamp_s: float
    image: np.ndarray


@dataclass(frozen=True)
class Video:
    """An opened video file or camera; `frames` may be taken from it once."""

    name: str
    is_camera: bool
    info: VideoInfo
    capture: cv2.VideoCapture
    first_bgr: np.ndarray
    first_timestamp_s: float


def silence_opencv() -> None:
    """Keep OpenCV and FFmpeg from writing on stderr, unless the environment asks for it."""
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("QT_LOGGING_RULES", "*.warning=false")


@contextlib.contextmanager
def open_video(source: int | Path, open_capture: Callable = cv2.VideoCapture) -> Iterator[Video]:
    """Open a camera (its number) or a video file, and close it at the end.

    Raises:
        SourceError: it cannot be opened, or gives no frame.
    """
    capture = open_capture(source if isinstance(source, int) else str(source))
    try:
        # a phone held upright records lying frames and a note to turn them
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        if isinstance(source, int):
            # without this a slow reader sees what the camera saw several frames ago
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        grabbed, first = capture.read() if capture.isOpened() else (False, None)
        if not grabbed or first is None:
            raise SourceError(_why_not_opened(source))
        yield _video(source, capture, first)
    finally:
        capture.release()


def frames(
    video: Video, is_mirrored: bool = False, clock: Callable[[], float] = time.monotonic
) -> Iterator[Frame]:
    """Yield every frame of a video up to its end or its damage, or of a camera for ever.

    Args:
        video: what `open_video` gave; it is used up.
        is_mirrored: swap left and right.
        clock: tells the time of a camera's frames, in seconds.

    Raises:
        SourceError: a camera stopped giving frames.
    """
    start_s, timestamp_s, bgr = clock(), video.first_timestamp_s, video.first_bgr
    for index in itertools.count():
        rgb = bgr[:, ::-1, ::-1] if is_mirrored else bgr[:, :, ::-1]
        yield Frame(index, timestamp_s, np.ascontiguousarray(rgb))
        grabbed, bgr = video.capture.read()
        if not grabbed or bgr is None:
            break
        now_s = clock() - start_s if video.is_camera else _position_s(video.capture)
        timestamp_s = now_s if now_s > timestamp_s else timestamp_s + 1 / video.info.fps
    if video.is_camera:
        raise SourceError(
            f"expected more frames from {video.name}; it stopped after {index + 1}: is it still "
            "connected?"
        )


def early_end(info: VideoInfo, last: Frame) -> str | None:
    """Return where a video file ended if that is well before the end it promises, else None.

    Many files round the number of their frames or guess it from their length, so being short of a
    few is no damage.
    """
    if info.frame_count is None:
        return None
    slack = max(2, 0.02 * info.frame_count)
    expected_s, reached_s = info.frame_count / info.fps, last.timestamp_s + 1 / info.fps
    if info.frame_count - last.index - 1 <= slack or expected_s - reached_s <= slack / info.fps:
        return None
    return (
        f"expected {info.frame_count} frames ({expected_s:.1f} s); the video can be read only up "
        f"to frame {last.index + 1} ({reached_s:.1f} s), where it is damaged or cut off"
    )


@contextlib.contextmanager
def kept_file(path: Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; at the end it becomes `path`, interrupted or not."""
    with tempfile.TemporaryDirectory(prefix=".part-", dir=path.parent) as folder:
        part = Path(folder) / f"part{path.suffix}"
        try:
            yield part
        finally:
            if part.exists() and part.stat().st_size:
                part.replace(path)


class VideoSink:
    """Writes frames to a video file, which appears at the end and is kept when interrupted.

    with VideoSink(Path("out.mp4"), info) as sink:
        sink.write(image)
    """

    def __init__(self, path: Path, info: VideoInfo):
        """Take the file and what it will hold; nothing is written yet.

        Raises:
            SourceError: no video of this suffix can be written.
        """
        if path.suffix.lower() not in CODECS:
            raise SourceError(
                f"expected a video file ending in {', '.join(CODECS)}; received {path.name}"
            )
        self._path, self._info = path, info
        # video formats share colours among 2x2 pixels and would cut an odd last row or column off
        self._size_wh = tuple(side + side % 2 for side in info.size_wh)
        self._written = 0
        self._start_s, self._held = None, None

    def __enter__(self) -> "VideoSink":
        with contextlib.ExitStack() as stack:
            self._part = stack.enter_context(kept_file(self._path))
            codec = cv2.VideoWriter_fourcc(*CODECS[self._path.suffix.lower()])
            with _stderr_muted():
                self._writer = cv2.VideoWriter(
                    str(self._part), codec, self._info.fps, self._size_wh
                )
            stack.callback(self._close)
            if not self._writer.isOpened():
                raise SourceError(f"expected to write a video; {self._problem()}")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._stack.close()

    def write(self, image: np.ndarray, timestamp_s: float | None = None) -> None:
        """Add a frame.

        Args:
            image: (H, W, 3) uint8 RGB, of the size that `info` says.
            timestamp_s: when it was taken, where frames come unevenly: the frame before is
                repeated, or this one left out, to keep the video in time.
        """
        bgr = self._fitted(image)
        if timestamp_s is not None:
            due = self._due(timestamp_s)
            if due < self._written:
                return
            self._add(self._held, due - self._written)
            self._held = bgr
        self._add(bgr, 1)

    def _due(self, timestamp_s: float) -> int:
        """Return the number of the frame that stands at a time."""
        if self._start_s is None:
            self._start_s = timestamp_s
        return round((timestamp_s - self._start_s) * self._info.fps)

    def _add(self, bgr: np.ndarray, copies: int) -> None:
        for _ in range(copies):
            self._writer.write(bgr)
        self._written += copies

    def _fitted(self, image: np.ndarray) -> np.ndarray:
        """Return a frame as BGR in the size of the file."""
        if image.shape[1::-1] != self._info.size_wh:
            image = cv2.resize(image, self._info.size_wh, interpolation=cv2.INTER_AREA)
        right, bottom = np.subtract(self._size_wh, self._info.size_wh).tolist()
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        return cv2.copyMakeBorder(bgr, 0, bottom, 0, right, cv2.BORDER_REPLICATE)

    def _close(self) -> None:
        """Close the file; raise where it cannot be read back, as when the disk is full."""
        self._writer.release()
        if not self._written:
            self._part.unlink(missing_ok=True)
            return
        capture = cv2.VideoCapture(str(self._part))
        is_readable = capture.isOpened() and capture.read()[0]
        capture.release()
        if not is_readable:
            self._part.unlink(missing_ok=True)
            raise SourceError(f"expected a readable video; {self._problem()}")

    def _problem(self) -> str:
        width, height = self._size_wh
        return (
            f"{self._path.name} of {width}x{height} pixels at {self._info.fps:.5g} frames per "
            "second could not be written"
        )


class FrameRate:
    """Counts frames per second, smoothed so that the number can be read."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, smoothing_s: float = 1.0):
        self._clock, self._smoothing_s = clock, smoothing_s
        self._last_s, self._interval_s = None, None

    def tick(self) -> float:
        """Count a frame and return the rate; 0 until there are two."""
        now_s = self._clock()
        if self._last_s is not None:
            elapsed_s = max(now_s - self._last_s, 1e-6)
            weight = 1 - math.exp(-elapsed_s / self._smoothing_s)
            before_s = elapsed_s if self._interval_s is None else self._interval_s
            self._interval_s = before_s + weight * (elapsed_s - before_s)
        self._last_s = now_s
        return 0.0 if self._interval_s is None else 1 / self._interval_s


class Window:
    """A window on the desktop; `gui` is OpenCV, or what stands in for it in a test."""

    def __init__(self, title: str, gui=cv2):
        self._title, self._gui = title, gui
        self._is_open = False

    def __enter__(self) -> "Window":
        return self

    def __exit__(self, *exception) -> None:
        if self._is_open:
            # a window that the user has closed cannot be closed again
            with contextlib.suppress(cv2.error):
                self._gui.destroyWindow(self._title)

    def show(self, image: np.ndarray, caption: str = "", wait_s: float = 0.0) -> bool:
        """Show a picture and look for keys; return False when the user wants to quit.

        Args:
            image: (H, W, 3) uint8 RGB.
            caption: a few words for the corner.
            wait_s: how long to wait for a key, in seconds; at least a millisecond.
        """
        view = _view(image)
        if caption:
            view = write_caption(view, caption)
        if not self._is_open:
            self._open(view.shape[1::-1])
        self._gui.imshow(self._title, np.ascontiguousarray(view[:, :, ::-1]))
        key = self._gui.waitKey(max(1, round(wait_s * 1000)))
        return (key < 0 or key & 0xFF not in QUIT_KEYS) and self._is_visible()

    def _open(self, size_wh: tuple[int, int]) -> None:
        flags = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
        self._gui.namedWindow(self._title, flags)
        self._gui.resizeWindow(self._title, *size_wh)
        self._is_open = True

    def _is_visible(self) -> bool:
        """Return False once the user has closed the window."""
        try:
            return self._gui.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) >= 1
        except cv2.error:
            return False


def window_problem(
    environment: Mapping[str, str] = os.environ,
    platform: str = sys.platform,
    build: str | None = None,
) -> str | None:
    """Return why no window can be opened, in words, or None where one can.

    OpenCV ends the whole process, beyond any handler, when it finds no display, so the last test
    is made by another process.
    """
    if re.search(r"GUI:\s+NONE", cv2.getBuildInformation() if build is None else build):
        return "this OpenCV (opencv-python-headless) cannot open windows"
    if not platform.startswith("linux"):
        return None
    if not environment.get("DISPLAY") and not environment.get("WAYLAND_DISPLAY"):
        return "there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    return None if _window_opens(environment) else "OpenCV cannot open a window on this display"


def write_caption(image: np.ndarray, text: str) -> np.ndarray:
    """Return a copy of an RGB picture with a few words on a dark plate in the lower left corner."""
    canvas = Image.fromarray(image)
    font = ImageFont.load_default(max(11, max(canvas.size) // 45))
    pad = font.size // 2
    ascent, descent = font.getmetrics()
    top = canvas.height - ascent - descent - pad
    pen = ImageDraw.Draw(canvas)
    pen.rectangle((0, top, font.getlength(text) + 2 * pad, canvas.height), fill=(20, 20, 20))
    middle = (top + canvas.height) / 2
    pen.text((pad, middle), text, font=font, fill=(255, 255, 255), anchor="lm")
    return np.asarray(canvas).copy()


def _video(source: int | Path, capture, first: np.ndarray) -> Video:
    """Return an opened video, described by what its capture says where that can be true."""
    is_camera = isinstance(source, int)
    fps, count = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    has_rate = math.isfinite(fps) and 0 < fps <= HIGHEST_FPS
    info = VideoInfo(
        fps=fps if has_rate else FALLBACK_FPS,
        size_wh=first.shape[1::-1],
        # numbers too large to be true come from files that do not say
        frame_count=int(count) if has_rate and not is_camera and 0 < count < 1e9 else None,
        is_steady=has_rate and not is_camera,
    )
    return Video(
        name=f"camera {source}" if is_camera else Path(source).name,
        is_camera=is_camera,
        info=info,
        capture=capture,
        first_bgr=first,
        first_timestamp_s=0.0 if is_camera else max(0.0, _position_s(capture)),
    )


def _position_s(capture) -> float:
    """Return the time of the frame just read, in seconds, -1 where it is not known."""
    position_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
    return position_ms / 1000 if math.isfinite(position_ms) else -1.0


def _why_not_opened(source: int | Path) -> str:
    if isinstance(source, int):
        return (
            f"expected a camera with number {source}; none could be opened: is it connected, free "
            "and allowed to be used?"
        )
    if source.is_file() and source.stat().st_size == 0:
        return f"expected a video; {source} is empty"
    return f"expected a video; {source} cannot be decoded: it is damaged, unfinished or no video"


def _view(image: np.ndarray) -> np.ndarray:
    """Return a picture in a size that suits a window."""
    size_wh = np.array(image.shape[1::-1])
    largest = min(np.array(LARGEST_VIEW_WH) / size_wh)
    smallest = min(np.array(SMALLEST_VIEW_WH) / size_wh)
    scale = min(largest, max(1.0, smallest))
    if scale == 1:
        return image
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    width, height = np.maximum(1, np.round(size_wh * scale)).astype(int).tolist()
    return cv2.resize(image, (width, height), interpolation=method)


def _window_opens(environment: Mapping[str, str]) -> bool:
    """Return whether another process can open a window and lives."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); "
        "import cv2; cv2.namedWindow('.'); cv2.destroyAllWindows()"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=dict(environment),
            capture_output=True,
            timeout=PROBE_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


@contextlib.contextmanager
def _stderr_muted() -> Iterator[None]:
    """Discard what libraries write on stderr themselves: one of FFmpeg's lines knows no switch."""
    with contextlib.ExitStack() as stack:
        # there is nothing to mute where stderr is closed
        with contextlib.suppress(OSError):
            saved = os.dup(2)
            stack.callback(os.close, saved)
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            stack.callback(os.dup2, saved, 2)
        yield
