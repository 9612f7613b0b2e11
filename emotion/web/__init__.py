"""The web app: `build_app` wires pages, API, storage and security around one recognizer."""

import logging
import re
import time
from collections.abc import Mapping
from urllib.parse import quote

from flask import Flask, Response, g, request

from emotion.errors import EmotionError
from emotion.faces import FaceDetector
from emotion.recognizer import Detector, Recognizer
from emotion.web.analysis import Services, current_services
from emotion.web.api import api
from emotion.web.pages import pages
from emotion.web.problems import handle_problems
from emotion.web.security import protect
from emotion.web.settings import PROJECT_FOLDER, Settings
from emotion.web.storage import Storage, StorageError
from emotion.yunet import YunetDetector

ENVELOPE_BYTES = 64 * 1024
"""What a form may add to the photo in it."""

LOGGER = "emotion.web"


def load_services(settings: Settings) -> Services:
    """Return the services of an app; a model that cannot be loaded is told, not raised."""
    storage = Storage(settings.uploads, settings.keep_s)
    try:
        recognizer = Recognizer.load(settings.model, load_detector(settings))
        return Services(settings, storage, recognizer)
    except EmotionError as error:
        return Services(settings, storage, None, str(error))


def load_detector(settings: Settings) -> Detector:
    """Return what finds the faces."""
    if settings.detector == "yunet":
        return YunetDetector(settings.detector_model)
    return FaceDetector()


def build_app(services: Services, flask_config: Mapping | None = None) -> Flask:
    """Return the app that answers with these services.

    Args:
        services: what the app is made of.
        flask_config: settings of Flask's own, such as TESTING.
    """
    app = Flask(LOGGER, root_path=str(PROJECT_FOLDER))
    app.config["MAX_CONTENT_LENGTH"] = services.settings.image_limits.max_bytes + ENVELOPE_BYTES
    app.config["MAX_FORM_PARTS"] = 100
    app.config.update(flask_config or {})
    app.json.sort_keys = False
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    app.extensions["emotion"] = services
    app.before_request(_begin)
    app.after_request(_log)
    protect(app)
    handle_problems(app)
    app.register_blueprint(pages)
    app.register_blueprint(api)
    sweep(services.storage)
    return app


def sweep(storage: Storage) -> None:
    """Remove what is due if it was not looked for lately; a failure is logged, not raised."""
    try:
        storage.sweep_if_due()
    except StorageError as error:
        logging.getLogger(LOGGER).warning("cannot remove expired results: %s", error)


def _begin() -> None:
    """Note the time, and let any server sweep, whether or not it has a thread for that."""
    g.started_s = time.perf_counter()
    sweep(current_services().storage)


def _log(response: Response) -> Response:
    """Write one line about a request, without names of files and with the ids of results cut."""
    elapsed_ms = (time.perf_counter() - g.get("started_s", time.perf_counter())) * 1000
    logging.getLogger(LOGGER).info(
        "%s %s %d %.0f ms", request.method, _short_path(), response.status_code, elapsed_ms
    )
    return response


def _short_path() -> str:
    """Return the path of a request: quoted, not too long, and no key to a result."""
    path = re.sub(r"(/results/[^/]{4})[^/]+", r"\1...", request.path)
    return quote(path[:200], safe="/.")
