"""The server: connections that keep a pace, and an end that finishes the requests in hand."""

import math
import signal
import sys
import threading
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import waitress.server
from flask import Flask
from waitress.channel import HTTPChannel
from waitress.task import ThreadedTaskDispatcher
from waitress.utilities import Error, RequestEntityTooLarge

from emotion.web.factory import SWEEPER, most_form_bytes, most_video_form_bytes
from emotion.web.settings import Settings

SPARE_THREADS = 4
"""How many threads there are at least that photos do not keep busy."""

VIDEO_PATHS = ("/videos", "/api/v1/videos")
"""How the addresses begin that videos are sent to."""

GRACE_S = 30
LEAST_BYTES_PER_S = 2048
MOST_S = 600
LARGE_BYTES_PER_S = 128 * 1024
"""A request that is too large to arrive within `MOST_S` has as long as this pace takes."""

FINISH_S = 25
"""How long requests in hand may take when the process is told to end; waitress would wait 5."""


class RequestTimeout(Error):  # noqa: N818  (waitress' own names end without Error)
    """The reply to a request that does not come to its end."""

    code = 408
    reason = "Request Timeout"


class PacedChannel(HTTPChannel):
    """A connection that must keep a pace, and may send no more than its address takes.

    Waitress closes connections that are silent for a while. One that sends a byte now and then is
    never silent, and some hundreds of those would keep everybody else out. And waitress has one
    limit for all bodies, but videos are much larger than anything else.
    """

    most_bytes_of: ClassVar[Mapping[str, int]] = MappingProxyType({})
    """The start of a path -> how much may be sent there; others have waitress' own limit."""

    _began_s = None
    _received_bytes = 0

    def received(self, data: bytes) -> bool:
        """Take what came; answer and close if it comes too slowly or is too much."""
        result = super().received(data)
        if self.request is None:
            self._began_s, self._received_bytes = None, 0
            return result
        if self._began_s is None:
            self._began_s = time.monotonic()
        self._received_bytes += len(data)
        most = math.inf
        if self.request.headers_finished:
            starts = (start for start in self.most_bytes_of if self.request.path.startswith(start))
            most = self.most_bytes_of.get(next(starts, None), math.inf)
        if time.monotonic() - self._began_s > allowed_s(self._received_bytes):
            self._give_up(
                RequestTimeout(
                    f"expected a whole request of at least {LEAST_BYTES_PER_S} bytes a second, "
                    f"within {MOST_S} s or at {LARGE_BYTES_PER_S} bytes a second; received "
                    f"{self._received_bytes} bytes so far"
                )
            )
        elif max(self.request.content_length, self._received_bytes) > most:
            self._give_up(RequestEntityTooLarge(f"expected at most {most} bytes"))
        return result

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


def allowed_s(received_bytes: int) -> float:
    """Return how long a request may take until this many bytes have come."""
    small = min(MOST_S, GRACE_S + received_bytes / LEAST_BYTES_PER_S)
    return max(small, received_bytes / LARGE_BYTES_PER_S)


class FinishingDispatcher(ThreadedTaskDispatcher):
    """Threads that may finish what they have in hand."""

    def __init__(self, threads: int):
        """Start the threads."""
        super().__init__()
        self.set_thread_count(threads)

    def shutdown(self, cancel_pending: bool = True, timeout: float = FINISH_S) -> bool:
        """Wait for the threads; what has not begun is cancelled."""
        return super().shutdown(cancel_pending, timeout)


def open_server(app: Flask, settings: Settings):
    """Return a waitress server that listens but does not answer yet.

    Waitress reads a whole request before a thread sees it, and whole requests wait for a thread in
    a queue without an end. So that it does not grow, threads must be left over when all places at
    the gate are taken: they answer further photos with 503 at once, and pages too. What can wait is
    bounded by the number of connections, each of which has at most one request in hand.
    """
    # A browser shows our page about a file that is too large only if its body is read to the end;
    # so a few times what is allowed is read (of videos a quarter more) before the line is cut.
    spare = 4 * app.config["MAX_CONTENT_LENGTH"]
    videos = most_video_form_bytes(settings)
    limits = dict.fromkeys(VIDEO_PATHS, videos + max(spare, videos // 4))
    limits[""] = most_form_bytes(settings) + spare
    channel_class = type("Channel", (PacedChannel,), {"most_bytes_of": MappingProxyType(limits)})
    server = waitress.server.create_server(
        app,
        _dispatcher=FinishingDispatcher(
            max(settings.threads, settings.max_in_hand + SPARE_THREADS)
        ),
        host=settings.host,
        port=settings.port,
        max_request_body_size=max(limits.values()),
        # a slow or silent client must not keep others out
        connection_limit=500,
        channel_timeout=10,
        cleanup_interval=5,
        # they say who sent a request; behind a trusted proxy they are for the app to read
        clear_untrusted_proxy_headers=settings.trusted_proxies == 0,
    )
    # a name may stand for several addresses, each with a server of its own
    for each in getattr(server, "map", {0: server}).values():
        if hasattr(each, "channel_class"):
            each.channel_class = channel_class
    return server


def serve(server, app: Flask) -> None:
    """Answer requests until the process is told to end; those in hand are finished."""
    # raised in the main thread, where waitress takes it as Ctrl-C: it finishes and returns
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    stop = threading.Event()
    sweeper = app.extensions[SWEEPER]

    def keep_sweeping() -> None:
        # what has expired goes even while nobody visits, as the form promises
        while not stop.wait(sweeper.interval_s):
            sweeper.sweep()

    threading.Thread(target=keep_sweeping, daemon=True).start()
    videos = app.extensions["emotion"].videos
    if not videos.refusal():
        # videos that waited or were in work when the app ended go on
        videos.workers.start()
    try:
        server.run()
    finally:
        stop.set()
        videos.workers.stop()
        server.close()
