"""A video in a window: paced, captioned, and steered by keys."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emotion.errors import EmotionError
from emotion.images.encoding import write_image
from emotion.video.overlays import (
    annotated,
    mirrored,
    with_caption,
    with_help,
    with_message,
    with_recording,
)
from emotion.video.rate import FrameRate
from emotion.video.reading import Video, VideoInfo
from emotion.video.tracking import FrameFaces
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
)
from emotion.video.writing import VideoSink

FIRST_HELP_S = 6.0
"""So long the caption tells the keys."""

MESSAGE_S = 3.0
LONGEST_WAIT_S = 0.05
"""So long a key is waited for, at most, before the window is looked at again: it may be closed."""


class Viewer:
    """Shows the frames of a video in a window and does what the keys ask for.

    A pause holds a file where it is. A live source does not wait: only the picture is held, and the
    work goes on behind it, so that no track is lost and no file gets a gap.

    with Viewer(window, video) as viewer:
        viewer.show(seen)
    """

    def __init__(
        self,
        window: Window,
        video: Video,
        bars: bool = True,
        folder: Path = Path(),
        clock: Callable[[], float] = time.monotonic,
    ):
        """Take the window and what is needed to pace and to record the video.

        Args:
            window: where to show.
            video: the video; a file's frames are not shown before their time.
            bars: whether to begin with the bars.
            folder: where snapshots and recordings go.
            clock: tells the time in seconds.
        """
        self.saved: list[Path] = []
        self._window, self._video, self._folder, self._clock = window, video, folder, clock
        self._is_on = {PAUSE: False, MIRROR: False, BARS: bars, HELP: False}
        self._opened_s, self._zero_s = clock(), None
        self._message, self._message_until_s = "", clock()
        self._rate = FrameRate(clock)
        self._recording: _Recording | None = None
        self._held: FrameFaces | None = None
        self._sides: dict[int, int] = {}

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(self, *exception) -> None:
        self._stop_recording()

    def show(self, seen: FrameFaces) -> bool:
        """Show a frame for its time, or until a pause ends; return False when the user quits."""
        rate, due_s = self._rate.tick(), self._due_s(seen.timestamp_s)
        if self._recording:
            self._attempt(self._recording.add, self._picture(seen), seen.timestamp_s)
        if not (self._held and self._is_on[PAUSE] and self._video.is_live):
            self._held = seen
        while True:
            waits = self._is_on[PAUSE] and not self._video.is_live
            wait_s = LONGEST_WAIT_S if waits else due_s - self._clock()
            view = self._dressed(self._picture(self._held), seen.timestamp_s, rate)
            action = self._window.show(view, min(max(0.0, wait_s), LONGEST_WAIT_S))
            if action in (QUIT, STEP):
                self._is_on[PAUSE], self._held = True, None
                return action == STEP
            if action:
                self._do(action, seen)
            elif not waits and self._clock() >= due_s:
                return True

    def _due_s(self, timestamp_s: float) -> float:
        """Return until when a frame is shown: a file plays in its own time, never faster."""
        now_s = self._clock()
        if self._video.is_live:
            return now_s
        if self._zero_s is None or now_s > self._zero_s + timestamp_s:
            self._zero_s = now_s - timestamp_s
        return self._zero_s + timestamp_s

    def _picture(self, seen: FrameFaces) -> np.ndarray:
        """Return the annotated frame as the person wants to see it."""
        turned = mirrored(seen) if self._is_on[MIRROR] else seen
        return annotated(turned, self._is_on[BARS], self._sides)

    def _dressed(self, picture: np.ndarray, timestamp_s: float, rate: float) -> np.ndarray:
        """Return a picture in the size of the window, with all that stands over it."""
        view = with_caption(fitted(picture), self._caption(rate))
        if self._recording:
            view = with_recording(view, self._recording.seconds_until(timestamp_s))
        if self._clock() < self._message_until_s:
            view = with_message(view, self._message)
        return with_help(view, key_lines()) if self._is_on[HELP] else view

    def _caption(self, rate: float) -> str:
        if self._is_on[PAUSE]:
            return "paused: space goes on, n shows the next frame"
        if self._clock() - self._opened_s < FIRST_HELP_S:
            return "q quits, space pauses, h shows all keys"
        return f"{rate:.1f} frames per second"

    def _do(self, action: str, seen: FrameFaces) -> None:
        """Do what a key asks for, with the picture that is shown and the newest frame."""
        if action in self._is_on:
            self._is_on[action] = not self._is_on[action]
            self._rate.restart()
        elif action == SNAPSHOT:
            self._attempt(self._snapshot, self._picture(self._held))
        elif action == RECORD and self._recording:
            self._attempt(self._stop_recording)
        elif action == RECORD:
            self._attempt(self._start_recording, self._picture(seen), seen.timestamp_s)

    def _attempt(self, deed: Callable, *arguments) -> None:
        """Try to write a file; a window says what went wrong and goes on."""
        try:
            deed(*arguments)
        except (EmotionError, OSError) as error:
            self._recording = None
            self._say(str(error))

    def _say(self, sentence: str) -> None:
        self._message, self._message_until_s = sentence, self._clock() + MESSAGE_S

    def _snapshot(self, picture: np.ndarray) -> None:
        path = _new_path(self._folder, "snapshot", ".png")
        write_image(path, picture)
        self.saved.append(path)
        self._say(f"saved {path.name}")

    def _start_recording(self, picture: np.ndarray, timestamp_s: float) -> None:
        path = _new_path(self._folder, "recording", ".mp4")
        info = VideoInfo(self._video.info.fps, picture.shape[1::-1], is_steady=False)
        sink = VideoSink(path, info, is_live=True).__enter__()
        self._recording = _Recording(path, sink, timestamp_s)
        self._recording.add(picture, timestamp_s)
        self._say(f"recording {path.name}; r stops")

    def _stop_recording(self) -> None:
        recording, self._recording = self._recording, None
        if recording:
            recording.sink.__exit__(None, None, None)
            self.saved.append(recording.path)
            self._say(f"saved {recording.path.name}")


@dataclass
class _Recording:
    """A video that is being written of what the window shows."""

    path: Path
    sink: VideoSink
    start_s: float

    def add(self, picture: np.ndarray, timestamp_s: float) -> None:
        self.sink.write(picture, timestamp_s - self.start_s)

    def seconds_until(self, timestamp_s: float) -> float:
        return timestamp_s - self.start_s


def _new_path(folder: Path, kind: str, suffix: str) -> Path:
    """Return a name with the date and time that no file has yet."""
    stem = f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = folder / f"{stem}{suffix}", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}{suffix}"
    return path
