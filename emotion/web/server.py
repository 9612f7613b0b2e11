"""The server: connections that keep a pace, and an end that finishes the requests in hand."""

import functools
import math
import signal
import sys
import threading
import time

import waitress.server
from flask import Flask
from waitress.channel import HTTPChannel
from waitress.task import ThreadedTaskDispatcher
from waitress.utilities import Error, RequestEntityTooLarge

from emotion.web.settings import Settings

SPARE_THREADS = 4  # how many threads there are at least that photos do not keep busy
VIDEO_PATHS = ("/videos", "/api/v1/videos")  # how the addresses begin that videos are sent to
GRACE_S = 30
LEAST_BYTES_PER_S = 2048
MOST_S = 600
LARGE_BYTES_PER_S = 128 * 1024  # of a request that is too large to arrive within `MOST_S`
FINISH_S = 25  # for requests in hand when the process is told to end; waitress would wait 5


class RequestTimeout(Error):  # noqa: N818  (waitress' own names end without Error)
    """The reply to a request that does not come to its end."""

    code = 408
    reason = "Request Timeout"


class PacedChannel(HTTPChannel):
    """A connection that must keep a pace, and may send no more than its address takes.

    Waitress closes connections that are silent; some hundreds that send a byte now and then would
    keep everybody else out. It has one limit for all bodies, but videos are much larger.
    """

    _began_s = 0.0
    _received_bytes = 0

    def received(self, data: bytes) -> bool:
        """Take what came; answer and close if it comes too slowly or is too much."""
        result = super().received(data)
        request = self.request
        if request is None:
            self._began_s, self._received_bytes = 0.0, 0
            return result
        self._began_s = self._began_s or time.monotonic()
        self._received_bytes = received = self._received_bytes + len(data)
        small_s = min(MOST_S, GRACE_S + received / LEAST_BYTES_PER_S)
        limits = self.server.most_bytes_of.items() if request.headers_finished else ()
        most = next((most for start, most in limits if request.path.startswith(start)), math.inf)
        if time.monotonic() - self._began_s > max(small_s, received / LARGE_BYTES_PER_S):
            pace = f"expected at least {LEAST_BYTES_PER_S} bytes a second, of large requests more"
            error: Error = RequestTimeout(f"{pace}; received {received} bytes so far")
        elif max(request.content_length, received) > most:
            error = RequestEntityTooLarge(f"expected at most {most} bytes")
        else:
            return result
        with self.requests_lock:
            if self.request and not self.request.completed:
                # answered as it is; waitress closes the connection after an error
                self.request.error, self.request.completed = error, True
                self.requests.append(self.request)
                self.request = None
                if len(self.requests) == 1:
                    self.server.add_task(self)
        return result


def open_server(app: Flask, settings: Settings):
    """Return a waitress server that listens but does not answer yet.

    Waitress reads a whole request, which then waits for a thread in a queue without an end. So that
    it does not grow, threads must be left over when all places at the gate are taken: they answer
    further photos with 503 at once. Each connection has at most one request in hand.
    """
    # A browser shows our page about a file that is too large only if its body is read to the end;
    # so a few times what is allowed is read (of videos a quarter more) before the line is cut.
    spare = 4 * app.config["MAX_CONTENT_LENGTH"]
    videos = settings.most_video_form_bytes
    limits = dict.fromkeys(VIDEO_PATHS, videos + max(spare, videos // 4))
    limits[""] = settings.most_form_bytes + spare
    dispatcher = ThreadedTaskDispatcher()
    dispatcher.shutdown = functools.partial(dispatcher.shutdown, timeout=FINISH_S)
    dispatcher.set_thread_count(max(settings.threads, settings.max_in_hand + SPARE_THREADS))
    sockets = {}
    server = waitress.server.create_server(
        app,
        map=sockets,
        _dispatcher=dispatcher,
        host=settings.host,
        port=settings.port,
        max_request_body_size=max(limits.values()),
        connection_limit=500,  # a slow or silent client must not keep others out
        channel_timeout=10,
        cleanup_interval=5,
        # they say who sent a request; behind a trusted proxy they are for the app to read
        clear_untrusted_proxy_headers=settings.trusted_proxies == 0,
    )
    # a name may stand for several addresses, each with a server of its own
    for each in sockets.values():
        if isinstance(each, waitress.server.BaseWSGIServer):
            each.channel_class, each.most_bytes_of = PacedChannel, limits
    return server


def serve(server, app: Flask) -> None:
    """Answer requests until the process is told to end; those in hand are finished."""
    # raised in the main thread, where waitress takes it as Ctrl-C: it finishes and returns
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    stop, services = threading.Event(), app.extensions["emotion"]

    def keep_sweeping() -> None:
        # what has expired goes even while nobody visits, as the form promises
        while not stop.wait(services.sweep_every_s):
            services.sweep()

    threading.Thread(target=keep_sweeping, daemon=True).start()
    videos = services.videos
    services.workers.start()
    if not videos.refusal():
        videos.workers.start()  # videos that waited or were in work when the app ended go on
    try:
        server.run()
    finally:
        stop.set()
        videos.workers.stop()
        services.workers.stop()
        server.close()
