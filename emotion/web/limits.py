"""How much one client, and all together, may ask for."""

import ipaddress
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from flask import Flask, request
from flask_limiter import Limiter
from limits.errors import ConfigurationError

from emotion.errors import BusyError, ClientBusyError
from emotion.text import first_line
from emotion.web.errors import LIMITER, VIDEO_ENDPOINTS
from emotion.web.settings import Settings, SettingsError

MOST_OF_A_CLIENT = 2  # places, so that nobody takes them all: a browser asks for no more
KEPT_FACES = "emotion_kept_faces"
LIMITS = {  # setting -> the endpoints that are counted together against its rate
    "rate_limit": ("pages.upload", "api.recognize", "api.add_photo"),
    "live_rate_limit": ("live.frame",),
    "video_rate_limit": VIDEO_ENDPOINTS,
    # what makes pictures, explains or writes, although it brings no photo
    "work_rate_limit": (
        *("pages.blurred", "pages.set_zip", "pages.face", "pages.say"),
        *("api.picture", "api.explanation", "api.say"),
    ),
}


class Gate:
    """Lets `most` photos in, and works on `at_once` of them at the same time.

    More than there are processors would answer none sooner, and each takes memory for its pixels.
    """

    def __init__(self, most: int, at_once: int):
        self.most, self.in_hand = most, 0
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(at_once)

    @contextmanager
    def place(self, client: str) -> Iterator[None]:
        """Hold a place and then a turn, never two; raises BusyError at once where there is none."""
        with self._lock:
            if self.in_hand >= self.most:
                raise BusyError(f"expected a free place for the photo; {self.most} are in hand")
            if self._held[client] >= MOST_OF_A_CLIENT:
                expected = f"expected at most {MOST_OF_A_CLIENT} photos in hand from one address"
                raise ClientBusyError(f"{expected}; received another")
            self.in_hand += 1
            self._held[client] += 1
        try:
            with self._turns:
                yield
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
            # when the storage is out of reach, each process counts for itself
            in_memory_fallback_enabled=True,
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

    def photos_in_request() -> int:  # one without any counts as one, too
        return max(1, sum(map(len, request.files.listvalues())))

    for name, endpoints in LIMITS.items():
        cost = photos_in_request if name == "rate_limit" else 1
        limit = limiter.shared_limit(getattr(settings, name), scope=name, cost=cost)
        for endpoint in endpoints:
            app.view_functions[endpoint] = limit(app.view_functions[endpoint])


def client_key() -> str:
    """Return who sends the current request, as `client_of`."""
    return client_of(request.remote_addr or "unknown")


def client_of(address: str) -> str:
    """Return the client behind an address: itself, of IPv6 the network of one subscriber."""
    try:
        return str(ipaddress.IPv6Network(f"{address}/64", strict=False))
    except ValueError:
        return address  # of IPv4
