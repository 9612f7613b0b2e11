"""How long the server waits: for a request that comes at some pace, and for those in hand."""

import time

from waitress.channel import HTTPChannel
from waitress.task import ThreadedTaskDispatcher
from waitress.utilities import Error

GRACE_S = 30
LEAST_BYTES_PER_S = 2048
MOST_S = 600
FINISH_S = 25
"""How long requests in hand may take when the process is told to end; waitress would wait 5."""


class RequestTimeout(Error):  # noqa: N818  (waitress' own names end without Error)
    """The reply to a request that does not come to its end."""

    code = 408
    reason = "Request Timeout"


class PacedChannel(HTTPChannel):
    """A connection that must bring its request at a pace.

    Waitress closes connections that are silent for a while. One that brings a byte now and then is
    never silent, and some hundreds of those would keep all others out.
    """

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
            self._give_up()
        return result

    def _give_up(self) -> None:
        """Answer the request as it is; waitress closes the connection after an error."""
        with self.requests_lock:
            if self.request is None or self.request.completed:
                return
            self.request.error = RequestTimeout(
                f"expected a whole request within {MOST_S} s and at least "
                f"{LEAST_BYTES_PER_S} bytes a second; received {self._received_bytes} bytes so far"
            )
            self.request.completed = True
            self.requests.append(self.request)
            self.request = None
            if len(self.requests) == 1:
                self.server.add_task(self)


def patience_s(received_bytes: int) -> float:
    """Return how long a request may take of which so many bytes have come."""
    return min(MOST_S, GRACE_S + received_bytes / LEAST_BYTES_PER_S)


class PatientDispatcher(ThreadedTaskDispatcher):
    """Threads that may finish what they have in hand."""

    def __init__(self, threads: int):
        """Start the threads."""
        super().__init__()
        self.set_thread_count(threads)

    def shutdown(self, cancel_pending: bool = True, timeout: float = FINISH_S) -> bool:
        """Wait for the threads; what has not begun is cancelled."""
        return super().shutdown(cancel_pending, timeout)
