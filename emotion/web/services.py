"""What the app is made of, and the removal of what has expired."""

import logging
import threading
import time

from flask import current_app

from emotion.errors import DatabaseError, EmotionError, ModelError, StorageError
from emotion.model.runtime import StoredModel
from emotion.web.database import Database
from emotion.web.feedback.given import GivenFaces
from emotion.web.limits import Gate
from emotion.web.logs import LOGGER
from emotion.web.models.offered import Models, read_served
from emotion.web.photos.workers import PhotoWorkers
from emotion.web.settings import Settings
from emotion.web.storage import Storage
from emotion.web.videos.service import Videos


class Services:
    """What an app is made of; made once, shared by all threads."""

    def __init__(self, settings: Settings, model, model_problem="", clock=time.time, workers=None):
        """Open nothing yet; without a `model`, `model_problem` says why there is none."""
        self.settings, self.model, self._model_problem = settings, model, model_problem
        self.workers = workers or PhotoWorkers(settings, model)
        self.storage = Storage(settings.uploads, settings.keep_s, clock, settings.min_free_mb)
        self.database = Database(settings.database)
        self.gate = Gate(settings.max_in_hand)
        self.models = Models(model, settings.model, self.workers.load)
        self.videos = Videos(settings, self.database, self.models, clock)
        self.given = GivenFaces(settings.feedback, self.database, clock)
        # what is kept for a short time goes soon after it
        self.sweep_every_s = min(300.0, max(1.0, (settings.keep_s or 3000) / 10))
        self._next_sweep_s, self._lock = 0.0, threading.Lock()

    # why no photo can be read, "" if photos can
    model_problem = property(lambda self: self._model_problem or self.workers.problem)

    def require_model(self) -> StoredModel:
        """Return the default model, or raise a `ModelError` that says why there is none."""
        if self.model is None or self.model_problem:
            raise ModelError(self.model_problem or "expected a model; received none")
        return self.model

    def sweep(self) -> None:
        """Remove what has expired, at most once an interval; a failure is logged, not raised."""
        now_s = self.storage.clock()
        with self._lock:
            if now_s < self._next_sweep_s:
                return
            is_first, self._next_sweep_s = not self._next_sweep_s, now_s + self.sweep_every_s
        try:
            self.storage.sweep()
        except StorageError as error:
            logging.getLogger(LOGGER).warning("cannot remove expired results: %s", error)
        # expired rows are shown to nobody, so the start need not wait for the database; later it
        # has a thread of its own, so that no request waits for another writer
        if not is_first:
            threading.Thread(target=self._sweep_database, daemon=True).start()

    def _sweep_database(self) -> None:
        try:
            self.database.forget_expired(self.storage.clock())
            self.videos.sweep()
        except (DatabaseError, StorageError) as error:
            logging.getLogger(LOGGER).warning("cannot forget what expired: %s", error)


def load_services(settings: Settings) -> Services:
    """Return the services of an app; if the model cannot be loaded, they say why."""
    try:
        _ = settings.yunet  # whose file may be missing
        return Services(settings, read_served(settings.model))
    except EmotionError as error:
        return Services(settings, None, str(error))


def current_services() -> Services:
    return current_app.extensions["emotion"]
