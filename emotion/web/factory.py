"""The app factory: `build_app` puts pages, API, storage and security around one recognizer."""

import gzip
import hashlib
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask, Response, abort, current_app, request
from flask_wtf.csrf import CSRFProtect
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.sansio.utils import host_is_trusted

from emotion.files import make_private

# importing a noun registers its views with `pages` and `api`
from emotion.web.api import api
from emotion.web.errors import VIDEO_ENDPOINTS, answer
from emotion.web.feedback.views import operator
from emotion.web.limits import limit_rates
from emotion.web.logs import LOGGER, log_requests
from emotion.web.models.views import model_page
from emotion.web.photos import faces, photos, sets  # noqa: F401
from emotion.web.photos.live import live
from emotion.web.photos.pages import pages
from emotion.web.services import Services
from emotion.web.settings import ENVELOPE_BYTES, PROJECT_FOLDER
from emotion.web.usage.views import monitoring
from emotion.web.videos.views import videos
from emotion.web.visitors import YEAR, OwnSessions, secret_key_in

# fonts and pictures are packed already
PACKED = "text/html text/css text/javascript application/json image/svg+xml text/csv".split()
HEADERS = {
    # blob: is the preview of a photo that has not left the visitor's machine yet, data: a picture
    # in a page that is not kept
    "Content-Security-Policy": "default-src 'none'; img-src 'self' blob: data:; media-src 'self'; "
    "style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # a result's address is its key, so it is told to no other site
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def build_app(services: Services, flask_config: Mapping | None = None) -> Flask:
    """Return the app that answers with these services; raises SettingsError."""
    settings = services.settings
    for folder in (settings.uploads, settings.instance, settings.feedback):
        make_private(folder)
    # an address of its own for each version of the files, so that browsers keep them for a year
    files = sorted(path for path in (PROJECT_FOLDER / "static").rglob("*") if path.is_file())
    version = hashlib.sha256(b"".join(map(Path.read_bytes, files))).hexdigest()[:12]
    app = Flask(LOGGER, root_path=str(PROJECT_FOLDER), static_url_path=f"/static/{version}")
    app.config.update(
        MAX_CONTENT_LENGTH=settings.image_limits.max_bytes + ENVELOPE_BYTES,
        # of the fields beside the photos; Werkzeug counts what it has read, 64 KiB at a time, so
        # with less, photos would be refused by chance
        MAX_FORM_MEMORY_SIZE=256 * 1024,
        MAX_FORM_PARTS=settings.max_photos + 20,
        SEND_FILE_MAX_AGE_DEFAULT=timedelta(days=365),
        # a form is good for as long as its session is: people leave pages open for hours
        WTF_CSRF_TIME_LIMIT=None,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        PERMANENT_SESSION_LIFETIME=YEAR,
    )
    app.config.update(flask_config or {})
    app.json.sort_keys = False
    app.url_map.merge_slashes = False  # it would redirect to the host that was sent
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True}
    app.extensions["emotion"] = services
    log_requests(app, settings.trusted_proxies)

    @app.before_request
    def begin() -> None:
        if not host_is_trusted(request.host.lower(), settings.hosts):
            abort(400, "Expected the name of this site as host; received another.")
        services.sweep()  # any server can sweep like this, whether or not it has a thread for it
        if request.endpoint in ("pages.upload", "api.recognize_many"):
            request.max_content_length = settings.most_form_bytes
        if request.endpoint in VIDEO_ENDPOINTS:
            request.max_content_length = settings.most_video_form_bytes

    if settings.metrics:
        from emotion.web.usage.metrics import measure

        measure(app, services)
    app.secret_key = app.secret_key or secret_key_in(settings.instance)
    app.session_interface = OwnSessions()
    app.before_request(refuse_odd_requests)
    app.after_request(add_headers)
    app.after_request(compress)
    # programs keep no cookie and see no form; other sites' pages are kept out without a token
    CSRFProtect(app).exempt(api)
    app.register_error_handler(Exception, answer)
    for blueprint in (pages, videos, live, model_page, monitoring, operator, api):
        app.register_blueprint(blueprint)
    limit_rates(app, settings)
    if proxies := settings.trusted_proxies:
        # address, scheme and host of a request come from the last proxies in front
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies)
    services.sweep()
    return app


def refuse_odd_requests() -> None:
    """Refuse what changes things from another site's page, and a form of a nameless field."""
    if request.method in ("GET", "HEAD", "OPTIONS", "TRACE"):
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    # browsers leave the site out on plain HTTP to another machine; programs send neither
    is_ours = origin is None or urlsplit(origin).netloc == request.host
    if not (is_welcome() or (is_ours if site is None else site in ("same-origin", "none"))):
        abort(403, "Expected a request from this site; received one from another.")
    if request.method == "POST" and None in request.form:  # others would trip over it
        abort(400, "Expected fields that have names; received one without.")


def is_welcome() -> bool:
    """True if a page of a site that may use the API asks for a part of it."""
    settings = current_app.extensions["emotion"].settings
    origins = (settings.cors_origins or "").replace(" ", "").split(",")
    is_named = request.headers.get("Origin") in filter(None, origins)
    return request.path.startswith("/api/") and (is_named or "*" in origins)


def compress(response: Response) -> Response:
    """Pack text for those who can unpack it; a page of many faces is a tenth of its size then."""
    is_text = response.mimetype in PACKED and response.status_code == 200
    if is_text and "gzip" in request.accept_encodings:
        response.direct_passthrough = False
        response.set_data(gzip.compress(response.get_data(), 5))
        response.headers["Content-Encoding"] = "gzip"
        if response.headers.get("ETag", "").startswith('"'):
            response.headers["ETag"] = f"W/{response.headers['ETag']}"
    if is_text:
        response.vary.add("Accept-Encoding")
    return response


def add_headers(response: Response) -> Response:
    camera = "self" if request.blueprint == "live" else ""
    headers = HEADERS | {"Permissions-Policy": f"camera=({camera}), geolocation=(), microphone=()"}
    if request.is_secure:
        # a year; names below this one are not ours to decide about
        headers["Strict-Transport-Security"] = "max-age=31536000"
    if is_welcome():
        headers["Access-Control-Allow-Origin"] = request.headers.get("Origin", "*")
        headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, DELETE"
        headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
        response.vary.add("Origin")
    for name, value in headers.items():
        response.headers.setdefault(name, value)
    return response
