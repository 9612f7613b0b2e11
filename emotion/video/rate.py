"""How many frames a second are done, as a number that can be read."""

import math
import time
from collections.abc import Callable


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

    def restart(self) -> None:
        """Leave the time since the last frame out, as after a pause."""
        self._last_s = None
