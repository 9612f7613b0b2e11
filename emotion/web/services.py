"""What the app is made of, and the removal of what has expired."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from flask import current_app

from emotion.errors import DatabaseError, EmotionError, ModelError, StorageError
from emotion.files import available_cpus
from emotion.recognizer import Detector, Recognizer
from emotion.web.database import Database
from emotion.web.limits import Gate
from emotion.web.logs import LOGGER
from emotion.web.models.offered import Models
from emotion.web.settings import Settings
from emotion.web.storage import Storage
from emotion.web.videos.service import Videos

LONGEST_INTERVAL_S = 300.0


@dataclass(frozen=True)
class Services:
    """What an app is made of; made once, shared by all threads.

    Attributes:
        settings: how the app runs.
        storage: where results are kept.
        recognizer: reads photos; None if no model could be loaded.
        model_problem: why there is no recognizer.
        database: whose photos are whose, and statistics.
        gate: how many photos may be in hand.
        models: what a visitor may choose among.
        videos: the videos that wait, are being analysed, or are kept.
    """

    settings: Settings
    storage: Storage
    recognizer: Recognizer | None
    model_problem: str | None
    database: Database
    gate: Gate
    models: Models
    videos: Videos

    @classmethod
    def make(
        cls,
        settings: Settings,
        recognizer: Recognizer | None,
        model_problem: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> "Services":
        """Return the services around a recognizer; nothing is opened or written yet."""
        database = Database(settings.database)
        models = Models(recognizer, settings.model)
        return cls(
            settings,
            Storage(settings.uploads, settings.keep_s, clock),
            recognizer,
            model_problem,
            database,
            Gate(settings.max_in_hand, available_cpus()),
            models,
            Videos(settings, database, models, clock),
        )

    def require_recognizer(self) -> Recognizer:
        """Return the recognizer, or raise a `ModelError` that says why there is none."""
        if self.recognizer is None:
            raise ModelError(self.model_problem or "expected a model; received none")
        return self.recognizer


def load_services(settings: Settings) -> Services:
    """Return the services of an app; if the model cannot be loaded, they say why."""
    try:
        return Services.make(settings, Recognizer.load(settings.model, load_detector(settings)))
    except EmotionError as error:
        return Services.make(settings, None, str(error))


def load_detector(settings: Settings) -> Detector:
    """Return what finds the faces."""
    if settings.detector == "yunet":
        from emotion.detection.yunet import YunetDetector

        return YunetDetector(settings.detector_model)
    from emotion.detection.haar import FaceDetector

    return FaceDetector()


def current_services() -> Services:
    """Return the services of the app that answers this request."""
    return current_app.extensions["emotion"]


class Sweeper:
    """Removes what has expired, now and then; safe to share between threads and processes."""

    def __init__(self, services: Services):
        """Look after these services; nothing is touched yet."""
        self._services = services
        keeps_nothing = services.settings.keeps_nothing
        self.interval_s = LONGEST_INTERVAL_S if keeps_nothing else services.storage.sweep_interval_s
        # expired rows are shown to nobody, so the database can wait for its first turn
        self._next_database_s = services.storage.clock() + self.interval_s
        self._lock = threading.Lock()

    def sweep(self) -> None:
        """Remove what has expired, at most once an interval; a failure is logged, not raised."""
        try:
            self._services.storage.sweep_if_due()
        except StorageError as error:
            logging.getLogger(LOGGER).warning("cannot remove expired results: %s", error)
        now_s = self._services.storage.clock()
        with self._lock:
            is_due = now_s >= self._next_database_s
            if is_due:
                self._next_database_s = now_s + self.interval_s
        if is_due:
            # a thread of its own: a request must not wait for another writer to the database
            threading.Thread(target=self._sweep_database, daemon=True).start()

    def _sweep_database(self) -> None:
        try:
            self._services.database.forget_expired(self._services.storage.clock())
            self._services.videos.sweep()
        except (DatabaseError, StorageError) as error:
            logging.getLogger(LOGGER).warning("cannot forget what expired: %s", error)
