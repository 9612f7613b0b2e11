"""The server: connections that keep a pace and a measure, and an end that finishes requests."""

import contextlib
import functools
import signal
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import waitress.server
from flask import Flask
from waitress.channel import HTTPChannel
from waitress.task import ThreadedTaskDispatcher
from waitress.utilities import Error, RequestEntityTooLarge

from emotion.web.limits import client_of
from emotion.web.settings import ENVELOPE_BYTES, MOST_FRAME_BYTES, Settings

SPARE_THREADS = 4  # how many threads there are at least that photos do not keep busy
VIDEO_DOORS = (("POST", "/videos"), ("POST", "/api/v1/videos"))
GRACE_S = 30
LEAST_BYTES_PER_S = 2048
MOST_S = 600
LARGE_BYTES_PER_S = 128 * 1024  # of a request that is too large to arrive within `MOST_S`
DRAIN_S = 60  # how long the rest of a body that was refused is read and thrown away
FINISH_S = 25  # for requests in hand when the process is told to end; waitress would wait 5
MOST_CONNECTIONS = 500  # of all; a slow or silent client must not keep others out


class RequestTimeout(Error):  # noqa: N818  (waitress' own names end without Error)
    """The reply to a request that does not come to its end."""

    code = 408
    reason = "Request Timeout"


class ComeBackLater(Error):  # noqa: N818
    """The reply to a body that there is no room for now."""

    code = 503
    reason = "Service Unavailable"

    def to_response(self, ident: str | None = None) -> tuple:
        """Return status, headers and body, with the time after which it may be sent again."""
        status, headers, body = super().to_response(ident)
        return status, [*headers, ("Retry-After", "60"), ("Cache-Control", "no-store")], body


class NoRoom(ComeBackLater):
    """The reply to a request that cannot be stored."""

    code = 507
    reason = "Insufficient Storage"


class TooMuchAtOnce(ComeBackLater):
    """The reply to an address that sends more at the same time than it may."""

    code = 429
    reason = "Too Many Requests"


@dataclass(frozen=True)
class Bounds:
    """What may be sent to an address of ours, and what one client may hold."""

    doors: Mapping[tuple[str, str], int]  # method and path -> bytes of a body
    elsewhere: int  # bytes of a body that any other address takes
    is_video_queue_full: Callable[[], bool]
    connections: int
    unanswered_bytes: int  # of all bodies of a client that are not answered yet
    channels: dict[str, set["PacedChannel"]] = field(default_factory=lambda: defaultdict(set))


class PacedChannel(HTTPChannel):
    """A connection that must keep a pace, and may send no more than its address takes.

    Waitress closes connections that are silent; some hundreds that send a byte now and then would
    keep everybody else out. It has one limit for all bodies, but videos are much larger.
    """

    _began_s = 0.0
    _received_bytes = 0
    _has_header = False
    _drains = False  # whether the rest of a refused body is read before the end
    _drain_until_s = 0.0  # of the clock; 0 until the reply is sent
    _client = ""

    def __init__(self, server, sock, addr, adj, map=None):
        super().__init__(server, sock, addr, adj, map)
        self._client = client_of(addr[0])
        self._peers.add(self)
        if len(self._peers) > server.bounds.connections:
            self.handle_close()

    @property
    def _peers(self) -> set["PacedChannel"]:
        return self.server.bounds.channels[self._client]

    def del_channel(self, map=None) -> None:
        super().del_channel(map)
        self._peers.discard(self)
        if not self._peers:
            del self.server.bounds.channels[self._client]

    def unanswered_bytes(self) -> int:
        """Return the bytes of bodies here; what a request has announced counts as received."""
        requests = [request for request in (*self.requests, self.request) if request]
        sizes = [max(each.content_length, each.body_bytes_received) for each in requests]
        return sum(size for size, each in zip(sizes, requests, strict=True) if not each.error)

    def handle_close(self) -> None:
        """Close; after a refusal only once the client has sent its body, or else it sees no reply.

        A browser reads a reply after its whole request was taken; a line that is cut before shows
        as a network error.
        """
        if self._drains and self.will_close:
            self._drains, self.will_close = False, False
            self._drain_until_s = time.monotonic() + DRAIN_S
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
            return self._refuse(NoRoom(f"the request cannot be received: {error.strerror}"))
        request = self.request
        if request is None:
            self._began_s, self._received_bytes, self._has_header = 0.0, 0, False
            return result
        self._began_s = self._began_s or time.monotonic()
        self._received_bytes = received = self._received_bytes + len(data)
        small_s = min(MOST_S, GRACE_S + received / LEAST_BYTES_PER_S)
        if time.monotonic() - self._began_s > max(small_s, received / LARGE_BYTES_PER_S):
            pace = f"expected at least {LEAST_BYTES_PER_S} bytes a second, of large requests more"
            return self._refuse(RequestTimeout(f"{pace}; received {received} bytes so far"))
        if not request.headers_finished:
            return result
        is_first, self._has_header = not self._has_header, True
        bounds, door = self.server.bounds, (request.command, request.path)
        most = bounds.doors.get(door, bounds.elsewhere)
        most_at_once, error = bounds.unanswered_bytes, None
        # small ones are taken, as our pages say more
        is_large = max(request.content_length, received) > bounds.elsewhere
        if max(request.content_length, received) > most:
            error = RequestEntityTooLarge(f"expected at most {most} bytes")
        elif sum(peer.unanswered_bytes() for peer in tuple(self._peers)) > most_at_once:
            expected = f"expected at most {most_at_once} bytes at the same time from one address"
            error = TooMuchAtOnce(f"{expected}; send this when the others have been answered")
        elif is_first and is_large and door in VIDEO_DOORS and bounds.is_video_queue_full():
            error = ComeBackLater("the queue of videos is full; send this in a minute")
        return self._refuse(error) if error else result

    def _refuse(self, error: Error) -> bool:
        self._drains = not isinstance(error, RequestTimeout)
        with self.requests_lock:
            if self.request and not self.request.completed:
                # answered as it is; waitress closes the connection after an error
                self.request.error, self.request.completed = error, True
                self.requests.append(self.request)
                self.request = None
                if len(self.requests) == 1:
                    self.server.add_task(self)
        return True


def bounds_of(app: Flask, settings: Settings) -> Bounds:
    """Return what the server of an app takes.

    A browser shows our page about a file that is too large only if its body is read to the end; so
    a few times what is allowed is read (of videos a quarter more) before it is refused.
    """
    videos, photo = settings.most_video_form_bytes, settings.image_limits.max_bytes
    spare = 4 * app.config["MAX_CONTENT_LENGTH"]
    one_photo, live = photo + ENVELOPE_BYTES, min(photo, MOST_FRAME_BYTES) + ENVELOPE_BYTES
    doors = dict.fromkeys(VIDEO_DOORS, videos + max(spare, videos // 4))
    doors |= {("POST", "/"): settings.most_form_bytes + spare, ("POST", "/live/frame"): 5 * live}
    doors |= {("POST", f"/api/v1/{name}"): one_photo + spare for name in ("recognize", "photos")}
    service, is_direct = app.extensions["emotion"].videos, settings.trusted_proxies == 0
    return Bounds(
        doors,
        elsewhere=5 * ENVELOPE_BYTES,
        is_video_queue_full=lambda: service.full_now,
        # all connections of a proxy come from one address
        connections=settings.max_connections if is_direct else MOST_CONNECTIONS,
        unanswered_bytes=(
            max(doors.values()) + 2 * settings.most_form_bytes if is_direct else sys.maxsize
        ),
    )


def open_server(app: Flask, settings: Settings):
    """Return a waitress server that listens but does not answer yet.

    Waitress reads a whole request, which then waits for a thread in a queue without an end. So that
    it does not grow, threads must be left over when all places at the gate are taken: they answer
    further photos with 503 at once. Each connection has at most one request in hand.
    """
    bounds = bounds_of(app, settings)
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
        max_request_body_size=max(bounds.doors.values()),
        connection_limit=MOST_CONNECTIONS,
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
    if not videos.refusal():
        videos.workers.start()  # videos that waited or were in work when the app ended go on
    try:
        server.run()
    finally:
        stop.set()
        videos.workers.stop()
        server.close()
