"""The server: connections that keep a pace and a measure, and an end that finishes requests."""

import contextlib
import functools
import json
import math
import signal
import socket
import sys
import threading
import time
from http import HTTPStatus
from types import SimpleNamespace

import waitress.server
from flask import Flask
from waitress.channel import HTTPChannel
from waitress.task import ThreadedTaskDispatcher
from waitress.utilities import Error

from emotion.web.limits import client_of
from emotion.web.settings import ENVELOPE_BYTES, MOST_FRAME_BYTES, Settings

VIDEO_PATHS = ("/videos", "/api/v1/videos")
GRACE_S = 30
LEAST_BYTES_PER_S = 2048
MOST_S = 600
OTHER_BYTES = 5 * ENVELOPE_BYTES  # of a request that brings no photo and no video


class Refusal(Error):  # noqa: N818  (waitress' own names end without Error)
    """The reply to a request that is not taken, or does not come to its end."""

    def to_response(self, ident: str | None = None) -> tuple:
        status, headers, body = super().to_response(ident)
        if self.is_api:  # RFC 9457
            problem = {"type": "about:blank", "title": self.reason, "status": self.code}
            body = json.dumps(problem | {"detail": self.body}).encode()
            headers = [("Content-Type", "application/problem+json")]
        if self.code in (429, 503):
            headers = [*headers, ("Retry-After", "60")]
        return status, headers, body


class PacedChannel(HTTPChannel):
    """A connection that must keep a pace, and may send no more than its address takes.

    Waitress would let some hundreds that send a byte now and then keep everybody else out, and has
    one limit for all bodies, but videos are much larger.
    """

    _began_s = 0.0
    _received_bytes = 0
    _drains = False  # whether more may come after a refusal
    _drain_until_s = 0.0  # 0 until the refusal is sent

    def __init__(self, server, sock, addr, adj, map=None):
        self._client = client_of(addr[0])
        super().__init__(server, sock, addr, adj, map)
        if len(self._of_client()) > server.bounds.connections:
            self.handle_close()

    def _of_client(self) -> list["PacedChannel"]:
        channels = tuple(self.server.active_channels.values())
        return [each for each in channels if each._client == self._client]

    def unanswered_bytes(self) -> int:
        """Return the bytes of bodies here; what a request has announced counts as received."""
        requests = [each for each in (*self.requests, self.request) if each and not each.error]
        return sum(max(each.content_length, each.body_bytes_received) for each in requests)

    def handle_close(self) -> None:
        # browsers read no reply on a line that is cut while they send: what comes after a refusal
        # is thrown away first
        if self._drains and self.will_close:
            self._drains, self.will_close = False, False
            self._drain_until_s = time.monotonic() + 60
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
                return
        super().handle_close()

    def received(self, data: bytes) -> bool:
        """Take what came; answer and close if it comes too slowly, is too much or has no room."""
        if self._drain_until_s:
            if time.monotonic() > self._drain_until_s:
                self.will_close = True
            return False
        try:
            result = super().received(data)
        except OSError as error:  # bodies that are not small lie in files
            self.request.body_rcv = None  # whose end would fail again
            words = f"to store the request; received: {error.strerror}"
            return self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, words)
        request = self.request
        if request is None:
            self._began_s, self._received_bytes = 0.0, 0
            return result
        self._began_s = self._began_s or time.monotonic()
        self._received_bytes = received = self._received_bytes + len(data)
        small_s = min(MOST_S, GRACE_S + received / LEAST_BYTES_PER_S)
        large_s = received / 2**17  # of one that is too large to arrive within `MOST_S`
        if time.monotonic() - self._began_s > max(small_s, large_s):
            pace = f"at least {LEAST_BYTES_PER_S} bytes a second, of large requests more"
            return self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"{pace}; received {received} so far")
        if not request.headers_finished:
            return result
        bounds, size = self.server.bounds, max(request.content_length, received)
        path = request.path if request.command == "POST" else ""
        if size > (most := bounds.bodies.get(path, OTHER_BYTES)):
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {most} bytes")
        if sum(map(PacedChannel.unanswered_bytes, self._of_client())) > bounds.unanswered:
            words = f"at most {bounds.unanswered} bytes at a time from one address"
            return self._refuse(HTTPStatus.TOO_MANY_REQUESTS, words)
        has_begun = path in VIDEO_PATHS and request.body_bytes_received < 2**15
        # small videos are taken, as our pages say more
        if has_begun and size > OTHER_BYTES and bounds.videos.full_now:
            words = "room in the queue of videos; it is full"
            return self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, words)
        return result

    def _refuse(self, status: HTTPStatus, expected: str) -> bool:
        self._drains = status != HTTPStatus.REQUEST_TIMEOUT
        error = Refusal(f"expected {expected}")
        error.code, error.reason = status.value, status.phrase
        error.is_api = self.request.headers_finished and self.request.path.startswith("/api/")
        with self.requests_lock:
            if self.request and not self.request.completed:
                # answered as it is; waitress closes the connection after an error
                self.request.error, self.request.completed = error, True
                self.requests.append(self.request)
                self.request = None
                if len(self.requests) == 1:
                    self.server.add_task(self)
        return True


def bounds_of(app: Flask, settings: Settings) -> SimpleNamespace:
    """Return what each address of the app takes, and what one client may hold.

    A body is refused at a few times what is allowed, of videos a quarter more: a browser shows our
    page about a file that is too large only if it could send it all.
    """
    photo, video = app.config["MAX_CONTENT_LENGTH"], settings.most_video_form_bytes
    many = settings.most_form_bytes + 4 * photo
    bodies = {"/": many, "/api/v1/recognize/many": many}
    bodies["/live/frame"] = 5 * min(photo, MOST_FRAME_BYTES + ENVELOPE_BYTES)
    bodies |= dict.fromkeys(("/api/v1/recognize", "/api/v1/photos"), 5 * photo)
    bodies |= dict.fromkeys(VIDEO_PATHS, video + max(4 * photo, video // 4))
    # of a client, of bodies that are not answered yet
    most = (max(bodies.values()) + 2 * settings.most_form_bytes, settings.max_connections)
    if settings.trusted_proxies:  # all connections come from the proxy
        most = math.inf, math.inf
    videos = app.extensions["emotion"].videos
    return SimpleNamespace(bodies=bodies, unanswered=most[0], connections=most[1], videos=videos)


def open_server(app: Flask, settings: Settings):
    """Return a waitress server that listens but does not answer yet.

    Whole requests wait for a thread in a queue without an end. So that it does not grow, threads
    are left over when all places at the gate are taken: they answer further photos with 503.
    """
    bounds = bounds_of(app, settings)
    dispatcher = ThreadedTaskDispatcher()
    # requests in hand may finish when the process is told to end; waitress would wait 5 seconds
    dispatcher.shutdown = functools.partial(dispatcher.shutdown, timeout=25)
    dispatcher.set_thread_count(max(settings.threads, settings.max_in_hand * 3 // 2 + 4))
    sockets = {}
    server = waitress.server.create_server(
        app,
        map=sockets,
        _dispatcher=dispatcher,
        host=settings.host,
        port=settings.port,
        max_request_body_size=max(bounds.bodies.values()),
        connection_limit=500,  # a slow or silent client must not keep others out
        channel_timeout=10,
        cleanup_interval=5,
        # they say who sent a request; behind a trusted proxy they are for the app to read
        clear_untrusted_proxy_headers=settings.trusted_proxies == 0,
    )
    # a name may stand for several addresses, each with a server of its own
    for each in sockets.values():
        if isinstance(each, waitress.server.BaseWSGIServer):
            each.channel_class, each.bounds = PacedChannel, bounds
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
