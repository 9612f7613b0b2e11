"""What is removed when its time is up: folders of results, and what the database knows of them."""

import logging
import threading

from emotion.web.analysis import Services
from emotion.web.database import DatabaseError
from emotion.web.logs import LOGGER
from emotion.web.storage import StorageError

LONGEST_INTERVAL_S = 300.0


class Sweeper:
    """Removes what is due, now and then; safe to share between threads and between processes."""

    def __init__(self, services: Services):
        """Look after these services; nothing is touched yet."""
        self._services = services
        keeps_nothing = services.settings.keeps_nothing
        self.interval_s = LONGEST_INTERVAL_S if keeps_nothing else services.storage.sweep_interval_s
        # rows that are due are shown to nobody, so that the database can wait for its first turn
        self._next_database_s = services.storage.clock() + self.interval_s
        self._lock = threading.Lock()

    def sweep(self) -> None:
        """Remove what is due if it was not looked for lately; a failure is logged, not raised."""
        try:
            self._services.storage.sweep_if_due()
        except StorageError as error:
            _warn("cannot remove expired results: %s", error)
        if self._is_turn_of_database():
            # a thread of its own, as a request must not wait for whoever writes to the database
            threading.Thread(target=self._sweep_database, daemon=True).start()

    def _sweep_database(self) -> None:
        try:
            self._services.database.forget_expired(self._services.storage.clock())
            self._services.videos.sweep()
        except (DatabaseError, StorageError) as error:
            _warn("cannot forget what expired: %s", error)

    def _is_turn_of_database(self) -> bool:
        """Tell whether the database is due, to one of several threads that ask."""
        now_s = self._services.storage.clock()
        with self._lock:
            if now_s < self._next_database_s:
                return False
            self._next_database_s = now_s + self.interval_s
            return True


def _warn(text: str, error: Exception) -> None:
    logging.getLogger(LOGGER).warning(text, error)
