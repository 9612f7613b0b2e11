"""The API for programs: its blueprint, what its views share, and the views about the server."""

import math
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from flask import Blueprint, Response, jsonify, url_for
from flask.typing import ResponseReturnValue

from emotion.errors import GoneError, ModelError, UploadError
from emotion.web.errors import ApiError
from emotion.web.models.offered import OfferedModel, model_facts, without_folders
from emotion.web.models.page import class_names_of, why_unusable
from emotion.web.services import Services, current_services

api = Blueprint("api", __name__)

ROOT = "/api/v1"
NO_STORE = {"Cache-Control": "no-store"}
ALWAYS_CHECKED = {"Cache-Control": "no-cache"}


def moment(seconds: float) -> str:
    """Return seconds since 1970 as a time in UTC (RFC 3339): "2026-11-21T19:52:07Z"."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def nothing() -> Response:
    """Return an empty reply, 204."""
    response = Response(status=204, headers=NO_STORE)
    del response.headers["Content-Type"]
    return response


@api.get(f"{ROOT}/models")
def offered_models() -> ResponseReturnValue:
    """Answer with the models that a photo may ask for, the default first."""
    services = current_services()
    listed = [model_document(services, one) for one in services.models.offered()]
    return jsonify({"models": listed}), ALWAYS_CHECKED


@api.get(f"{ROOT}/models/<path:key>", merge_slashes=False)
def model(key: str) -> ResponseReturnValue:
    """Answer with what is known about a model, its card included."""
    services = current_services()
    try:
        offered = services.models.find(key)
    except UploadError as error:
        raise GoneError(str(error)) from error
    card = clean_card(offered.card, offered.stem.parent)
    return jsonify(model_document(services, offered) | {"card": card}), ALWAYS_CHECKED


def model_document(services: Services, offered: OfferedModel) -> dict:
    """Return what the list of models tells about one of them."""
    return {
        **offered.names,
        "default": offered.is_default,
        "classes": list(class_names_of(services, offered)),
        "sha256": services.models.sha256(offered),
        "problem": why_unusable(services, offered) or None,
        "links": {
            "self": url_for("api.model", key=offered.key),
            "page": url_for("model_page.page", key=offered.key),
        },
    }


def clean_card(content: object, folder: Path) -> object:
    """Return a part of a card as plain JSON: files without folders, no NaN and no infinity."""
    if isinstance(content, Mapping):
        return {
            without_folders(str(key), folder): clean_card(value, folder)
            for key, value in content.items()
        }
    if isinstance(content, list):
        return [clean_card(value, folder) for value in content]
    if isinstance(content, str):
        return without_folders(content, folder)
    return None if isinstance(content, float) and not math.isfinite(content) else content


@api.get(f"{ROOT}/openapi.json")
def description() -> ResponseReturnValue:
    """Answer with the description of this API."""
    # pydantic is imported by the first who asks
    from emotion.web.openapi import describe

    root = url_for("api.description").removesuffix("/openapi.json")
    return jsonify(describe(current_services().settings, root)), ALWAYS_CHECKED


@api.get("/healthz")
def health() -> ResponseReturnValue:
    """Answer that the app can do its work, and with which model, or why not."""
    services = current_services()
    folder, offered = services.settings.model.parent, services.models.find()
    try:
        model = services.require_recognizer().model
    except ModelError as error:
        raise ApiError(503, without_folders(str(error), folder)) from error
    uploads = services.settings.uploads
    # it may still have to be made
    kept = next(path for path in (uploads, *uploads.parents) if path.exists())
    is_writable = kept.is_dir() and os.access(kept, os.W_OK | os.X_OK)
    if not services.settings.keeps_nothing and not is_writable:
        raise ApiError(503, "The folder for results cannot be written to.")
    # any question that has to reach the database
    services.database.photos_of_visitor("nobody", services.storage.clock())
    return jsonify({"status": "ok", "model": model_facts(model, folder, offered.names)}), NO_STORE
