"""Windows on the desktop: a picture and its keys; whether a window can be shown at all."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from types import MappingProxyType

import cv2
import numpy as np

SMALLEST_VIEW_WH = (640, 480)
LARGEST_VIEW_WH = (1280, 720)
"""A window shows frames enlarged or reduced to between these sizes, in pixels."""

QUIT, PAUSE, STEP, SNAPSHOT, MIRROR, BARS, RECORD, HELP = (
    "quit pause step snapshot mirror bars record help".split()
)
"""What a person can ask of a window."""

KEYS = MappingProxyType(
    {
        "q": QUIT,
        "\x1b": QUIT,
        " ": PAUSE,
        "n": STEP,
        "s": SNAPSHOT,
        "r": RECORD,
        "b": BARS,
        "m": MIRROR,
        "h": HELP,
        "?": HELP,
    }
)
"""Key -> what it asks for; capitals do the same."""

KEY_NAMES = MappingProxyType({" ": "space", "\x1b": "Esc"})
"""The names of keys that cannot be seen."""

KEY_HELP = MappingProxyType(
    {
        PAUSE: "pause, go on",
        STEP: "while paused: next frame",
        SNAPSHOT: "save this picture (.png)",
        RECORD: "start, stop a recording (.mp4)",
        BARS: "show, hide the bars",
        MIRROR: "swap left and right",
        HELP: "show, hide this help",
        QUIT: "quit",
    }
)
"""What each key does, in words."""

PROBE_TIMEOUT_S = 30


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

    def show(self, view: np.ndarray, wait_s: float = 0.0) -> str | None:
        """Show a picture and return what the user asks for: a value of `KEYS`, or None.

        Args:
            view: (H, W, 3) uint8 RGB, best of a size that `fitted` gives.
            wait_s: how long to wait for a key, in seconds; at least a millisecond.
        """
        if not self._is_open:
            self._open(view.shape[1::-1])
        self._gui.imshow(self._title, cv2.cvtColor(view, cv2.COLOR_RGB2BGR))
        key = self._gui.waitKey(max(1, round(wait_s * 1000)))
        if not self._is_visible():
            return QUIT
        return None if key < 0 else KEYS.get(chr(key & 0xFF).lower())

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


def fitted(image: np.ndarray) -> np.ndarray:
    """Return a picture in a size that suits a window; itself where it has one."""
    size_wh = np.array(image.shape[1::-1])
    largest = min(np.array(LARGEST_VIEW_WH) / size_wh)
    smallest = min(np.array(SMALLEST_VIEW_WH) / size_wh)
    scale = min(largest, max(1.0, smallest))
    if scale == 1:
        return image
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    width, height = np.maximum(1, np.round(size_wh * scale)).astype(int).tolist()
    return cv2.resize(image, (width, height), interpolation=method)


def key_lines() -> tuple[tuple[str, str], ...]:
    """Return (keys, what they do) for each thing that a window can be asked for."""
    names = {action: [] for action in KEY_HELP}
    for key, action in KEYS.items():
        names[action].append(KEY_NAMES.get(key, key))
    return tuple((" or ".join(names[action]), text) for action, text in KEY_HELP.items())


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
