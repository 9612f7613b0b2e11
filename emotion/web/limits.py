"""How much one client, and all together, may ask for, and how much of one client is kept."""

import hmac
import ipaddress
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict

import sqlalchemy as sql
from flask import Flask, Response, current_app, has_request_context, request
from flask_limiter import Limiter
from limits.errors import ConfigurationError
from sqlalchemy import Connection

from emotion.errors import BusyError, ClientBusyError, QuotaError
from emotion.text import first_line
from emotion.web.database import PhotoRow, VideoRow
from emotion.web.errors import LIMITER, VIDEO_ENDPOINTS
from emotion.web.photos.workers import SMALL_BYTES
from emotion.web.settings import Settings, SettingsError
from emotion.web.videos.queue import KeptRow

MOST_OF_A_CLIENT = 2  # places, so that nobody takes them all: a browser asks for no more
GUESSES = "10 per minute"  # of the operator's token, from one address
KEPT_FACES = "emotion_kept_faces"
LIMITS = {  # setting, if it is one -> the endpoints that are counted together against its rate
    "rate_limit": ("pages.upload", "api.recognize", "api.recognize_many", "api.add_photo"),
    "live_rate_limit": ("live.frame",),
    "video_rate_limit": VIDEO_ENDPOINTS,
    # what makes pictures, explains or writes, although it brings no photo
    "work_rate_limit": (
        *("pages.drawn", "pages.set_zip", "pages.face", "pages.say", "pages.compare"),
        *("pages.chosen", "api.picture", "api.explanation", "api.say"),
    ),
    "guesses": ("operator.waiting", "operator.decide", "monitoring.page", "api.use"),
}


class Gate:
    """Lets `most` photos in, of one client only a few; those who are in wait for a process."""

    def __init__(self, most: int):
        self.most, self.in_hand = most, 0
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def place(self, client: str) -> Iterator[str]:
        """Hold a place in the name of a client; raises BusyError at once where there is none."""
        is_small = has_request_context() and (request.content_length or 0) <= SMALL_BYTES
        with self._lock:
            # large ones never take all places
            if self.in_hand >= self.most + is_small * (self.most // 2):
                raise BusyError(f"expected a free place for the photo; {self.most} are in hand")
            if self._held[client] >= MOST_OF_A_CLIENT:
                at_most = f"at most {MOST_OF_A_CLIENT} photos in hand from one address"
                raise ClientBusyError(f"expected {at_most}; received another")
            self.in_hand += 1
            self._held[client] += 1
        try:
            yield client
        finally:
            with self._lock:
                self.in_hand -= 1
                self._held[client] -= 1
                self._held += Counter()  # a client that holds nothing is forgotten


def limit_rates(app: Flask, settings: Settings) -> None:
    """Limit what one client may send and ask for; all views must be there. Raises SettingsError."""
    try:
        limiter = Limiter(
            client_key,
            app=app,
            storage_uri=settings.rate_limit_storage,
            strategy="fixed-window",
            in_memory_fallback_enabled=True,  # while the storage is out of reach
        )
    except (ConfigurationError, ValueError) as error:
        expected = "memory:// or an address that the package limits knows, its client installed"
        received = f"{settings.rate_limit_storage!r} ({first_line(error)})"
        words = f"expected RATE_LIMIT_STORAGE to be {expected}; received {received}"
        raise SettingsError(words) from error
    app.extensions[LIMITER] = limiter
    app.extensions[KEPT_FACES] = limiter.shared_limit(
        settings.feedback_rate_limit,
        scope="kept faces",
        error_message="Expected faces to keep for training from one address at most "
        f"{settings.feedback_rate_limit}; received more. Send the opinion without the face.",
    )

    @app.before_request
    def read_form() -> None:
        if request.method == "POST":  # before it is counted: a form that is too large ends here
            _ = request.files

    @app.after_request
    def tell_rate(response: Response) -> Response:
        if limit := limiter.current_limit:  # draft-ietf-httpapi-ratelimit-headers-06
            response.headers["RateLimit-Limit"] = str(limit.limit.amount)
            response.headers["RateLimit-Remaining"] = str(max(0, limit.remaining))
            response.headers["RateLimit-Reset"] = str(max(0, int(limit.reset_at - time.time())))
        return response

    by_photos = {"cost": lambda: max(1, sum(map(len, request.files.listvalues())))}
    if_wrong = {"deduct_when": lambda reply: reply.status_code == 401}
    for name, endpoints in LIMITS.items():
        how = {"rate_limit": by_photos, "guesses": if_wrong}.get(name, {})
        limit = limiter.shared_limit(getattr(settings, name, GUESSES), scope=name, **how)
        for endpoint in endpoints:
            app.view_functions[endpoint] = limit(app.view_functions[endpoint])


def client_key() -> str:
    return client_of(request.remote_addr or "unknown")


def client_digest() -> str:
    """Return a digest of the client of this request that only this server can make."""
    key = str(current_app.secret_key).encode()
    return hmac.new(key, client_key().encode(), "sha256").hexdigest()[:32]


def client_of(address: str) -> str:
    """Return the client behind an address: itself, of IPv6 the network of one subscriber."""
    try:
        return str(ipaddress.IPv6Network(f"{address}/64", strict=False))
    except ValueError:
        return address  # of IPv4


def quota(sizes: Mapping[str, int], visitor: str, now_s: float) -> Callable[[Connection], None]:
    """Return what notes the bytes of new photos or a video of this request, or raises QuotaError.

    Called in the transaction that adds them, it lets several requests pass no bound together.
    """
    most_mb = current_app.extensions["emotion"].settings.max_kept_mb
    client = client_digest()

    def note(connection: Connection) -> None:
        of_address = kept_bytes(connection, lambda _: KeptRow.client == client, now_s)
        of_browser = kept_bytes(connection, lambda kind: kind.visitor == visitor, now_s)
        if max(of_address, of_browser) + sum(sizes.values()) > most_mb * 2**20:
            expected = f"expected at most {most_mb:g} MB kept of one address, and of one browser"
            raise QuotaError(f"{expected}; with this there would be more")
        connection.execute(sql.delete(KeptRow).where(KeptRow.id.in_(sizes)))  # a new video's
        for new, size in sizes.items():
            connection.execute(sql.insert(KeptRow), asdict(KeptRow(new, client, size)))

    return note


def kept_bytes(connection: Connection, is_own: Callable, now_s: float) -> int:
    """Return the bytes of the photos and videos whose table `is_own` makes a condition for."""
    kept = 0
    for kind in (PhotoRow, VideoRow):
        query = sql.select(sql.func.sum(KeptRow.bytes)).join(kind, kind.id == KeptRow.id)
        kept += connection.scalar(query.where(is_own(kind), kind.expires_s > now_s)) or 0
    return kept
