"""The web app: `build_app` wires pages, API, storage and security around one recognizer."""

from collections.abc import Mapping

from flask import Flask, current_app, request

from emotion.detection.haar import FaceDetector
from emotion.detection.yunet import YunetDetector
from emotion.errors import EmotionError
from emotion.files import make_private
from emotion.recognizer import Detector, Recognizer
from emotion.web.analysis import Services, current_services
from emotion.web.api import api
from emotion.web.errors import VIDEO_ENDPOINTS, handle_problems
from emotion.web.feedback import feedback
from emotion.web.limits import limit_rates, trust_proxies
from emotion.web.live import live
from emotion.web.logs import LOGGER, log_requests
from emotion.web.models.page import model_page
from emotion.web.pages import pages
from emotion.web.security import protect
from emotion.web.settings import PROJECT_FOLDER, Settings
from emotion.web.sweeping import Sweeper
from emotion.web.usage.views import monitoring
from emotion.web.videos.views import videos
from emotion.web.visitors import use_sessions

ENVELOPE_BYTES = 64 * 1024
"""What a form may add to the photos in it."""

FIELDS_BYTES = 256 * 1024
"""What the fields of a form may hold beside its photos.

Werkzeug also measures by it what it reads at a time, 64 KiB, with what is left of that before: with
less, photos would be refused by chance.
"""

FORM_PHOTOS = 10
"""How many photos of the largest size may come with one form; smaller ones may be more."""

FORM_FIELDS = 20
VIDEO_PATHS = ("/videos", "/api/v1/videos")
"""Where videos are sent to, as the addresses of requests begin."""

SWEEPER = "emotion_sweeper"


def load_services(settings: Settings) -> Services:
    """Return the services of an app; a model that cannot be loaded is told, not raised."""
    try:
        return Services.make(settings, Recognizer.load(settings.model, load_detector(settings)))
    except EmotionError as error:
        return Services.make(settings, None, str(error))


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

    Raises:
        SettingsError: there is no secret key, or rates cannot be counted.
    """
    settings = services.settings
    for folder in (settings.uploads, settings.instance, settings.feedback):
        make_private(folder)
    app = Flask(LOGGER, root_path=str(PROJECT_FOLDER))
    app.config.update(limits_of_forms(settings))
    app.config.update(flask_config or {})
    app.json.sort_keys = False
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    app.extensions["emotion"] = services
    log_requests(app, settings.trusted_proxies)
    app.before_request(_begin)
    if settings.metrics:
        from emotion.web.usage.metrics import measure

        measure(app, services)
    use_sessions(app, settings)
    protect(app, without_forms=api)
    handle_problems(app)
    for blueprint in (pages, videos, live, feedback, model_page, monitoring, api):
        app.register_blueprint(blueprint)
    limit_rates(app, settings)
    trust_proxies(app, settings.trusted_proxies)
    app.extensions[SWEEPER] = Sweeper(services)
    app.extensions[SWEEPER].sweep()
    return app


def limits_of_forms(settings: Settings) -> dict[str, int]:
    """Return Flask's settings of how much a request may bring."""
    return {
        "MAX_CONTENT_LENGTH": settings.image_limits.max_bytes + ENVELOPE_BYTES,
        "MAX_FORM_MEMORY_SIZE": FIELDS_BYTES,
        "MAX_FORM_PARTS": settings.max_photos + FORM_FIELDS,
    }


def most_form_bytes(settings: Settings) -> int:
    """Return how much a form with several photos may bring."""
    photos = min(settings.max_photos, FORM_PHOTOS)
    return photos * settings.image_limits.max_bytes + ENVELOPE_BYTES


def most_video_form_bytes(settings: Settings) -> int:
    """Return how much a form with a video may bring."""
    return settings.most_video_bytes + ENVELOPE_BYTES


def _begin() -> None:
    """Let any server sweep, whether or not it has a thread for that, and measure the form."""
    current_app.extensions[SWEEPER].sweep()
    if request.endpoint == "pages.upload":
        request.max_content_length = most_form_bytes(current_services().settings)
    if request.endpoint in VIDEO_ENDPOINTS:
        request.max_content_length = most_video_form_bytes(current_services().settings)
