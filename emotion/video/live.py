"""The newest frame of a source that does not wait: a thread reads on and drops what nobody took."""

import threading
import time
from collections.abc import Callable
from typing import Any

from emotion.errors import SourceError

FRAME_TIMEOUT_S = 10.0  # a source that gives nothing for this long has stopped
CLOSE_TIMEOUT_S = 2.0
LARGEST_LAG_S = 5.0  # where a stream's own times and the clock differ by more, it has jumped


class NewestFrame:
    """Reads a live source in a thread and hands out its newest frame.

    `grab` waits for the next frame and returns it with the source's own time in seconds (None where
    it has none), or None at the end; it may raise SourceError. The thread calls `close` at the end.
    """

    def __init__(self, name: str, grab: Callable[[], tuple | None], close: Callable[[], None]):
        self.dropped = 0
        self._name, self._grab, self._close = name, grab, close
        self._newest, self._taken, self._problem = None, 0, None
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read, name=f"read {name}", daemon=True)

    def __enter__(self) -> "NewestFrame":
        self._thread.start()
        return self

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
        problem = start_s = offset_s = None
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
        except SourceError as error:
            problem = str(error)
        finally:
            self._close()
            with self._changed:
                count = self._taken + self.dropped + (self._newest is not None)
                self._problem = problem or (
                    f"expected more frames from {self._name}; it stopped after {count}: is it "
                    "still connected?"
                )
                self._changed.notify_all()
