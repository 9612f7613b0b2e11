"""Bounded work: how many photos may be in hand at once; further ones are told to wait."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from emotion.errors import EmotionError

RETRY_AFTER_S = 2
"""When somebody who was refused may try again: a photo takes well under a second."""


MOST_OF_A_CLIENT = 2
"""Places that one client may hold, so that nobody takes them all: a browser asks for no more."""


class BusyError(EmotionError):
    """As many photos are in hand as there may be."""


class ClientBusyError(BusyError):
    """As many photos of one client are in hand as there may be."""


class Gate:
    """Lets in a bounded number of photos, and works on fewer at the same time.

    More at once than there are processors would answer none of them sooner, and each photo in work
    takes the memory of its pixels.
    """

    def __init__(self, most: int, at_once: int):
        """Let `most` photos in, `at_once` of which are worked on at the same time."""
        self.most = most
        self.in_hand = 0
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(at_once)

    @contextmanager
    def place(self, client: str) -> Iterator[None]:
        """Hold a place and then a turn; who holds one must not ask for a second.

        Args:
            client: who asks, such as an address.

        Raises:
            BusyError: there is no place, or none for this client; nothing waits.
        """
        self._enter(client)
        try:
            with self._turns:
                yield
        finally:
            self._leave(client)

    def _enter(self, client: str) -> None:
        with self._lock:
            if self.in_hand >= self.most:
                raise BusyError(
                    "expected a free place for the photo; "
                    f"received it while {self.most} others are in hand"
                )
            if self._held[client] >= MOST_OF_A_CLIENT:
                raise ClientBusyError(
                    f"expected at most {MOST_OF_A_CLIENT} photos in hand from one address; "
                    "received another"
                )
            self.in_hand += 1
            self._held[client] += 1

    def _leave(self, client: str) -> None:
        with self._lock:
            self.in_hand -= 1
            self._held[client] -= 1
            # a client that holds nothing is forgotten
            self._held += Counter()
