"""How the server waits and ends: paced connections, requests in hand, memory given back."""

import ctypes
import math
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from waitress.channel import HTTPChannel
from waitress.task import ThreadedTaskDispatcher
from waitress.utilities import Error, RequestEntityTooLarge

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
"""glibc's numbers for `mallopt` (malloc.h)."""


LARGE_BYTES = 1 << 20


OPTIONS = ((TRIM_THRESHOLD, LARGE_BYTES), (MMAP_THRESHOLD, LARGE_BYTES), (ARENA_MAX, 2))


def return_memory_early() -> bool:
    """Let buffers of pixels go back to the system when they are freed; tell whether that is so.

    By default each thread keeps a heap of its own, in which a photo of 12 megapixels leaves 60 MB
    behind: with 16 threads a gigabyte. Fixed thresholds and few heaps leave next to nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    answers = [mallopt(option, value) for option, value in OPTIONS]
    return all(answers)


GRACE_S = 30


LEAST_BYTES_PER_S = 2048


MOST_S = 600


LARGE_BYTES_PER_S = 128 * 1024
"""A request that is too large to come within `MOST_S` has as long as this pace takes."""


FINISH_S = 25
"""How long requests in hand may take when the process is told to end; waitress would wait 5."""


class RequestTimeout(Error):  # noqa: N818  (waitress' own names end without Error)
    """The reply to a request that does not come to its end."""

    code = 408
    reason = "Request Timeout"


class PacedChannel(HTTPChannel):
    """A connection that must bring its request at a pace, and no more than its address takes.

    Waitress closes connections that are silent for a while. One that brings a byte now and then is
    never silent, and some hundreds of those would keep all others out. And it knows one limit for
    all bodies; that of videos is much larger than what any other address has use for.
    """

    most_bytes_of: ClassVar[Mapping[str, int]] = MappingProxyType({})
    """The start of a path -> how much may be sent there; waitress' own limit goes for others."""

    _began_s = None
    _received_bytes = 0

    def received(self, data: bytes) -> bool:
        """Take what came; answer and close when it comes too slowly."""
        result = super().received(data)
        if self.request is None:
            self._began_s, self._received_bytes = None, 0
            return result
        if self._began_s is None:
            self._began_s = time.monotonic()
        self._received_bytes += len(data)
        if time.monotonic() - self._began_s > patience_s(self._received_bytes):
            self._give_up(
                RequestTimeout(
                    f"expected a whole request of at least {LEAST_BYTES_PER_S} bytes a second, "
                    f"within {MOST_S} s or at {LARGE_BYTES_PER_S} bytes a second; received "
                    f"{self._received_bytes} bytes so far"
                )
            )
        elif self._is_too_much():
            self._give_up(RequestEntityTooLarge(f"expected at most {self._most_bytes()} bytes"))
        return result

    def _is_too_much(self) -> bool:
        """Tell whether a request says that it brings more than its address takes, or does so."""
        if not self.request.headers_finished:
            return False
        return max(self.request.content_length, self._received_bytes) > self._most_bytes()

    def _most_bytes(self) -> float:
        """Return how much the address of the request takes."""
        path = self.request.path
        known = (most for start, most in self.most_bytes_of.items() if path.startswith(start))
        return next(known, math.inf)

    def _give_up(self, error: Error) -> None:
        """Answer the request as it is; waitress closes the connection after an error."""
        with self.requests_lock:
            if self.request is None or self.request.completed:
                return
            self.request.error = error
            self.request.completed = True
            self.requests.append(self.request)
            self.request = None
            if len(self.requests) == 1:
                self.server.add_task(self)


def patience_s(received_bytes: int) -> float:
    """Return how long a request may take of which so many bytes have come."""
    small = min(MOST_S, GRACE_S + received_bytes / LEAST_BYTES_PER_S)
    return max(small, received_bytes / LARGE_BYTES_PER_S)


class PatientDispatcher(ThreadedTaskDispatcher):
    """Threads that may finish what they have in hand."""

    def __init__(self, threads: int):
        """Start the threads."""
        super().__init__()
        self.set_thread_count(threads)

    def shutdown(self, cancel_pending: bool = True, timeout: float = FINISH_S) -> bool:
        """Wait for the threads; what has not begun is cancelled."""
        return super().shutdown(cancel_pending, timeout)
