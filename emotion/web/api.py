"""The API for programs: its blueprint, what its views share, its description, and health."""

import hmac
from datetime import UTC, datetime

from flask import Blueprint, abort, current_app, jsonify, render_template, request, session, url_for
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import ServiceUnavailable

from emotion.errors import ModelError, StorageError
from emotion.web.models.offered import model_facts, without_folders
from emotion.web.services import current_services

api = Blueprint("api", __name__)

ROOT = "/api/v1"
NO_STORE = {"Cache-Control": "no-store"}
ALWAYS_CHECKED = {"Cache-Control": "no-cache"}


def moment(seconds: float) -> str:
    """Return seconds since 1970 as a time in UTC (RFC 3339): "2026-11-21T19:52:07Z"."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@api.before_request
def require_key() -> None:
    """Refuse programs without a key, where there are keys; browsers have opened a page before."""
    keys = (current_services().settings.api_keys or "").replace(" ", "").encode().split(b",")
    is_open = request.endpoint in ("api.page", "api.description", "api.health")
    if keys == [b""] or is_open or current_app.config["WTF_CSRF_FIELD_NAME"] in session:
        return
    given = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
    if not any(hmac.compare_digest(key, given.encode()) for key in keys if key):
        words = "Expected `Authorization: Bearer KEY` with a key of this server."
        abort(401, words, www_authenticate=WWWAuthenticate("bearer"))


@api.get("/api", endpoint="page")
@api.get(f"{ROOT}/openapi.json")
def description() -> ResponseReturnValue:
    """Answer with the description of this API."""
    from emotion.web.openapi import describe  # pydantic is imported by the first who asks

    root = url_for("api.description").removesuffix("/openapi.json")
    about = describe(current_services().settings, root)
    if request.endpoint == "api.page":
        return render_template("api.html", about=about), ALWAYS_CHECKED
    return jsonify(about), ALWAYS_CHECKED


@api.get("/healthz")
def health() -> ResponseReturnValue:
    """Answer that the app can do its work, and with which model, or why not."""
    services = current_services()
    folder, offered = services.settings.model.parent, services.models.find()
    if services.model:
        services.workers.wait_until_ready(5.0)
    try:
        model = services.require_model()
        if not services.settings.keeps_nothing:
            services.storage.require_room()
    except ModelError as error:
        raise ServiceUnavailable(without_folders(str(error), folder)) from error
    except StorageError as error:
        raise ServiceUnavailable(error.public) from error
    # any question that has to reach the database
    services.database.photos_of_visitor("nobody", services.storage.clock())
    return jsonify({"status": "ok", "model": model_facts(model, folder, offered.names)}), NO_STORE
