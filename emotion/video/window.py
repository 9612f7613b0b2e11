"""A video in a window on the desktop: paced, captioned, and steered by keys."""

import contextlib
import functools
import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from emotion.errors import EmotionError
from emotion.images.encoding import write_image
from emotion.text import clock as clock_text
from emotion.video.outputs import FrameRate, annotated
from emotion.video.reading import Video, VideoInfo
from emotion.video.tracking import FrameFaces
from emotion.video.writing import VideoSink

# a window shows frames enlarged or reduced to between these sizes
SMALLEST_VIEW_WH, LARGEST_VIEW_WH = (640, 480), (1280, 720)

ACTIONS = "quit pause step snapshot mirror bars record help".split()
QUIT, PAUSE, STEP, SNAPSHOT, MIRROR, BARS, RECORD, HELP = ACTIONS
CONTROLS = (  # keys, of which capitals do the same; what they do; both in words
    (" ", PAUSE, "space", "pause, go on"),
    ("n", STEP, "n", "while paused: next frame"),
    ("s", SNAPSHOT, "s", "save this picture (.png)"),
    ("r", RECORD, "r", "start, stop a recording (.mp4)"),
    ("b", BARS, "b", "show, hide the bars"),
    ("m", MIRROR, "m", "swap left and right"),
    ("h?", HELP, "h or ?", "show, hide this help"),
    ("q\x1b", QUIT, "q or Esc", "quit"),
)
KEYS = {key: action for keys, action, _, _ in CONTROLS for key in keys}

FIRST_HELP_S = 6.0  # how long the caption names the keys
MESSAGE_S = 3.0
LONGEST_WAIT_S = 0.05  # for a key, before the window is checked again: it may be closed
PROBE_TIMEOUT_S = 30

PLATE_RGB, INK_RGB = (20, 20, 20), (255, 255, 255)
PLATE_OPACITY = 0.88
SMALLEST_TEXT_PX = 12


class Window(contextlib.AbstractContextManager):
    """A window on the desktop; `gui` is OpenCV, or what stands in for it in a test."""

    def __init__(self, title: str, gui=cv2):
        self._title, self._gui = title, gui
        self._is_open = False

    def __exit__(self, *exception) -> None:
        if self._is_open:
            # a window that the user has closed cannot be closed again
            with contextlib.suppress(cv2.error):
                self._gui.destroyWindow(self._title)

    def show(self, view: np.ndarray, wait_s: float = 0.0) -> str | None:
        """Show an RGB picture, wait for a key and return its value of `KEYS`, or None."""
        if not self._is_open:
            flags = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
            self._gui.namedWindow(self._title, flags)
            self._gui.resizeWindow(self._title, *view.shape[1::-1])
            self._is_open = True
        self._gui.imshow(self._title, cv2.cvtColor(view, cv2.COLOR_RGB2BGR))
        key = self._gui.waitKey(max(1, round(wait_s * 1000)))
        try:
            is_closed = self._gui.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error:
            is_closed = True
        if is_closed:
            return QUIT
        return None if key < 0 else KEYS.get(chr(key & 0xFF).lower())


class Viewer(contextlib.AbstractContextManager):
    """Shows the frames of a video in a window and does what the keys ask for.

    A pause holds a file where it is. A live source does not wait: only the picture is held, and the
    work goes on behind it, so that no track is lost and no file gets a gap.
    """

    def __init__(self, window: Window, video: Video, bars: bool = True, clock=time.monotonic):
        self.saved: list[Path] = []
        self._window, self._video, self._clock = window, video, clock
        self._is_on = {PAUSE: False, MIRROR: False, BARS: bars, HELP: False}
        self._opened_s, self._zero_s = clock(), None
        self._message, self._message_until_s = "", clock()
        self._rate = FrameRate(clock)
        self._recording: VideoSink | None = None
        self._recorded_s, self._recorded_path = 0.0, Path()
        self._held: FrameFaces | None = None
        self._sides: dict[int, int] = {}

    def __exit__(self, *exception) -> None:
        if self._recording:
            self._stop_recording()

    def show(self, frame: FrameFaces) -> bool:
        """Show a frame for its time, or until a pause ends; return False when the user quits."""
        rate, now_s, is_live = self._rate.tick(), self._clock(), self._video.is_live
        # a file plays in its own time, never faster
        if self._zero_s is None or now_s > self._zero_s + frame.timestamp_s or is_live:
            self._zero_s = now_s - frame.timestamp_s
        due_s = self._zero_s + frame.timestamp_s
        if self._recording:
            self._try(self._record, frame)
        if not (self._held and self._is_on[PAUSE] and is_live):
            self._held = frame
        while True:
            waits = self._is_on[PAUSE] and not is_live
            wait_s = LONGEST_WAIT_S if waits else due_s - self._clock()
            view = self._view(frame.timestamp_s, rate)
            action = self._window.show(view, min(max(0.0, wait_s), LONGEST_WAIT_S))
            if action in (QUIT, STEP):
                self._is_on[PAUSE], self._held = True, None
                return action == STEP
            if action in self._is_on:
                self._is_on[action] = not self._is_on[action]
                self._rate.restart()
            elif action == SNAPSHOT:
                self._try(self._save_snapshot)
            elif action == RECORD and self._recording:
                self._try(self._stop_recording)
            elif action == RECORD:
                self._try(self._start_recording, frame)
            elif not waits and self._clock() >= due_s:
                return True

    def _picture(self, frame: FrameFaces) -> np.ndarray:
        shown = mirrored(frame) if self._is_on[MIRROR] else frame
        return annotated(shown, self._is_on[BARS], self._sides)

    def _view(self, timestamp_s: float, rate: float) -> np.ndarray:
        view, caption = fitted(self._picture(self._held)), f"{rate:.1f} frames per second"
        if self._is_on[PAUSE]:
            caption = "paused: space goes on, n shows the next frame"
        elif self._clock() - self._opened_s < FIRST_HELP_S:
            caption = "q quits, space pauses, h shows all keys"
        view = with_words(view, (caption,), (0, 1))
        if self._recording:
            lasted = clock_text(timestamp_s - self._recorded_s)
            view = with_words(view, (f"recording {lasted}",), (1, 0), 1.3)
        if self._clock() < self._message_until_s:
            view = with_words(view, (self._message,), (1, 1))
        lines = tuple(f"{key}: {told}" for _, _, key, told in CONTROLS)
        return with_words(view, lines, (0.5, 0.5), 1.3) if self._is_on[HELP] else view

    def _try(self, write: Callable, *arguments) -> None:
        try:
            write(*arguments)
        except (EmotionError, OSError) as error:
            # the window says what went wrong and goes on
            self._recording = None
            self._say(str(error))

    def _say(self, sentence: str, saved: Sequence[Path] = ()) -> None:
        self.saved += saved
        self._message, self._message_until_s = sentence, self._clock() + MESSAGE_S

    def _save_snapshot(self) -> None:
        path = _new_path("snapshot", ".png")
        write_image(path, self._picture(self._held))
        self._say(f"saved {path.name}", [path])

    def _start_recording(self, frame: FrameFaces) -> None:
        path, size_wh = _new_path("recording", ".mp4"), frame.image.shape[1::-1]
        info = VideoInfo(self._video.info.fps, size_wh, is_steady=False)
        self._recording = VideoSink(path, info, is_live=True).__enter__()
        self._recorded_s, self._recorded_path = frame.timestamp_s, path
        self._record(frame)
        self._say(f"recording {path.name}; r stops")

    def _record(self, frame: FrameFaces) -> None:
        self._recording.write(self._picture(frame), frame.timestamp_s)

    def _stop_recording(self) -> None:
        recording, self._recording = self._recording, None
        recording.__exit__(None, None, None)
        self._say(f"saved {self._recorded_path.name}", [self._recorded_path])


def _new_path(kind: str, suffix: str) -> Path:
    stem = f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}"
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    return next(path for name in names if not (path := Path(f"{name}{suffix}")).exists())


def mirrored(frame: FrameFaces) -> FrameFaces:
    """Return a frame with its boxes as in a mirror."""
    faces = []
    for tracked in frame.faces:
        x, y, width, height = tracked.face.box_xywh
        box_xywh = (frame.image.shape[1] - x - width, y, width, height)
        faces.append(replace(tracked, face=replace(tracked.face, box_xywh=box_xywh)))
    return replace(frame, image=cv2.flip(frame.image, 1), faces=tuple(faces))


def fitted(image: np.ndarray) -> np.ndarray:
    """Return a picture in a size that suits a window."""
    size_wh = np.array(image.shape[1::-1])
    smallest, largest = (min(wh / size_wh) for wh in (SMALLEST_VIEW_WH, LARGEST_VIEW_WH))
    scale = min(largest, max(1.0, smallest))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    shown_wh = np.maximum(1, np.round(size_wh * scale)).astype(int).tolist()
    return cv2.resize(image, shown_wh, interpolation=method)


def with_words(
    view: np.ndarray, lines: tuple[str, ...], place: tuple[float, float], scale: float = 1
) -> np.ndarray:
    """Return a copy of a picture with words on a plate; `place`: (0, 0) upper left to (1, 1)."""
    size = round(scale * max(SMALLEST_TEXT_PX, max(view.shape[:2]) // 55))
    plate, copy = _plate(lines, size), view.copy()
    left = max(0, int((view.shape[1] - plate.shape[1]) * place[0]))
    top = max(0, int((view.shape[0] - plate.shape[0]) * place[1]))
    part = copy[top : top + plate.shape[0], left : left + plate.shape[1]]
    cut = plate[: part.shape[0], : part.shape[1]]
    part[:] = cv2.addWeighted(part, 1 - PLATE_OPACITY, cut, PLATE_OPACITY, 0)
    return copy


@functools.lru_cache(maxsize=64)
def _plate(lines: tuple[str, ...], size: int) -> np.ndarray:
    """Return a dark plate with lines of words; not to be changed."""
    font = ImageFont.load_default(size)
    row, pad = round(size * 1.5), round(size * 0.6)
    width = round(max(map(font.getlength, lines))) + 2 * pad
    plate = Image.new("RGB", (width, row * len(lines) + pad), PLATE_RGB)
    pen = ImageDraw.Draw(plate)
    for number, text in enumerate(lines):
        pen.text((pad, pad / 2 + (number + 0.5) * row), text, INK_RGB, font, anchor="lm")
    return np.asarray(plate)


def window_problem() -> str | None:
    """Return why no window can be opened, in words, or None where one can."""
    if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
        return "this OpenCV (opencv-python-headless) cannot open windows"
    if not sys.platform.startswith("linux"):
        return None
    if not os.environ.get("DISPLAY") and not os.environ.get("WAYLAND_DISPLAY"):
        return "there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    # without a display OpenCV ends the whole process, beyond any handler: another one tries
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); "
        "import cv2; cv2.namedWindow('.'); cv2.destroyAllWindows()"
    )
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        command = [sys.executable, "-c", code]
        if not subprocess.run(command, capture_output=True, timeout=PROBE_TIMEOUT_S).returncode:
            return None
    return "OpenCV cannot open a window on this display"
