"""The app factory: `build_app` puts pages, API, storage and security around one recognizer."""

from collections.abc import Mapping

from flask import Flask, request

from emotion.files import make_private

# importing a noun registers its views with `pages` and `api`
from emotion.web.api import api
from emotion.web.errors import VIDEO_ENDPOINTS, handle_problems
from emotion.web.limits import limit_rates, trust_proxies
from emotion.web.logs import LOGGER, log_requests
from emotion.web.models.page import model_page
from emotion.web.photos import faces, mine, photos, sets  # noqa: F401
from emotion.web.photos.live import live
from emotion.web.photos.pages import pages
from emotion.web.security import protect
from emotion.web.services import Services, Sweeper
from emotion.web.settings import PROJECT_FOLDER, Settings
from emotion.web.usage.views import monitoring
from emotion.web.videos.views import videos
from emotion.web.visitors import use_sessions

ENVELOPE_BYTES = 64 * 1024
"""What a form may add to the photos in it."""

FIELDS_BYTES = 256 * 1024
"""What the fields of a form may hold beside its photos.

Werkzeug also subtracts what it has read from it, 64 KiB at a time: with less, photos would be
refused by chance.
"""

FORM_PHOTOS = 10
"""How many photos of the largest size may come with one form; smaller ones may be more."""

FORM_FIELDS = 20
SWEEPER = "emotion_sweeper"


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
    app.config.update(
        MAX_CONTENT_LENGTH=settings.image_limits.max_bytes + ENVELOPE_BYTES,
        MAX_FORM_MEMORY_SIZE=FIELDS_BYTES,
        MAX_FORM_PARTS=settings.max_photos + FORM_FIELDS,
    )
    app.config.update(flask_config or {})
    app.json.sort_keys = False
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    app.extensions["emotion"] = services
    app.extensions[SWEEPER] = sweeper = Sweeper(services)
    log_requests(app, settings.trusted_proxies)

    @app.before_request
    def begin() -> None:
        # any server can sweep like this, whether or not it has a thread for it
        sweeper.sweep()
        if request.endpoint == "pages.upload":
            request.max_content_length = most_form_bytes(settings)
        if request.endpoint in VIDEO_ENDPOINTS:
            request.max_content_length = most_video_form_bytes(settings)

    if settings.metrics:
        from emotion.web.usage.metrics import measure

        measure(app, services)
    use_sessions(app, settings)
    protect(app, without_forms=api)
    handle_problems(app)
    for blueprint in (pages, videos, live, model_page, monitoring, api):
        app.register_blueprint(blueprint)
    limit_rates(app, settings)
    trust_proxies(app, settings.trusted_proxies)
    sweeper.sweep()
    return app


def most_form_bytes(settings: Settings) -> int:
    """Return how large a form with several photos may be."""
    return min(settings.max_photos, FORM_PHOTOS) * settings.image_limits.max_bytes + ENVELOPE_BYTES


def most_video_form_bytes(settings: Settings) -> int:
    """Return how large a form with a video may be."""
    return settings.most_video_bytes + ENVELOPE_BYTES
