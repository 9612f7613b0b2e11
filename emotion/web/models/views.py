"""The models as JSON, and a page about each: what it answers, how good it is, its limits."""

import contextlib
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from flask import Blueprint, abort, jsonify, render_template, url_for
from flask.typing import ResponseReturnValue

from emotion.errors import ChoiceError, GoneError, ModelError
from emotion.faces import read_thresholds
from emotion.labels import EMOTIONS
from emotion.model.card import Card
from emotion.text import counted, decimal, share
from emotion.web.api import ALWAYS_CHECKED, ROOT, api
from emotion.web.models.offered import OfferedModel, without_folders
from emotion.web.services import current_services

model_page = Blueprint("model_page", __name__)


@model_page.get("/model", defaults={"key": ""})
@model_page.get("/model/<path:key>")
def page(key: str) -> ResponseReturnValue:
    # pydantic, which reads a model's figures, is loaded when they are asked for
    from emotion.model.figures import read_figures

    models, thresholds = current_services().models, None
    try:
        model = models.find(key)
    except ChoiceError:
        abort(404)
    with contextlib.suppress(ModelError):
        thresholds = read_thresholds(model.card)
    card, stored, sha256 = Card(model.card), models.loaded(model), models.sha256(model)
    on_disk = models.sha256_of_files(model)
    replaced = "its files were replaced since it was loaded; the new ones count after a restart"
    served = [
        ("Title", model.title),
        ("Key", model.key),
        ("SHA-256 of its weights", sha256 or "its weights cannot be read"),
        ("Run by", stored.runtime if stored else "not loaded yet: a photo loads it"),
        ("Notes", "; ".join(stored.notes) if stored else ""),
        ("Replaced", replaced if stored and on_disk and on_disk != sha256 else ""),
    ]
    facts = {"origin": card.origin(), "settings": card.settings(), "files": served}
    facts = {
        name: [(term, without_folders(text, model.stem.parent)) for term, text in rows if text]
        for name, rows in facts.items()
    }
    facts |= {"class_names": class_names_of(model), "verdict": card.verdict}
    facts |= {"problem": why_unusable(model), "figures": read_figures(model.stem, card)}
    about = {"model": model, "offered": models.offered(), "card": card, "thresholds": thresholds}
    look = {"pictures": {}, "heading": "h2", "prefix": ""}
    words = {"share": share, "decimal": decimal, "counted": counted}
    return render_template("model.html", **about, **facts, **look, **words), ALWAYS_CHECKED


@api.get(f"{ROOT}/models")
def offered_models() -> ResponseReturnValue:
    """Answer with the models that a photo may ask for, the default first."""
    listed = list(map(model_document, current_services().models.offered()))
    return jsonify({"models": listed}), ALWAYS_CHECKED


@api.get(f"{ROOT}/models/<path:key>", merge_slashes=False)
def model(key: str) -> ResponseReturnValue:
    """Answer with what is known about a model, its card included."""
    try:
        found = current_services().models.find(key)
    except ChoiceError as error:
        raise GoneError(str(error)) from error
    card = clean_card(found.card, found.stem.parent)
    return jsonify(model_document(found) | {"card": card}), ALWAYS_CHECKED


def model_document(model: OfferedModel) -> dict:
    link = partial(url_for, key=model.key)
    return model.names | {
        "default": model.is_default,
        "classes": list(class_names_of(model)),
        "sha256": current_services().models.sha256(model),
        "problem": why_unusable(model) or None,
        "links": {"self": link("api.model"), "page": link("model_page.page")},
    }


def clean_card(content: object, folder: Path) -> object:
    """Return a part of a card as plain JSON: files without folders, no NaN and no infinity."""
    if isinstance(content, Mapping):
        pairs = content.items()
        return {clean_card(str(key), folder): clean_card(value, folder) for key, value in pairs}
    if isinstance(content, list):
        return [clean_card(value, folder) for value in content]
    if isinstance(content, str):
        return without_folders(content, folder)
    return None if isinstance(content, float) and not math.isfinite(content) else content


def class_names_of(model: OfferedModel) -> tuple[str, ...]:
    if stored := current_services().models.loaded(model):
        return stored.class_names
    return Card(model.card).class_names or EMOTIONS


def why_unusable(model: OfferedModel) -> str:
    """Return why a model cannot be used at the moment, without folders; "" if it can."""
    services, models = current_services(), current_services().models
    if models.loaded(model) and not services.workers.problem:
        return ""
    problem = models.problem(model) or ""
    if model.is_default or services.model is None:
        problem = services.model_problem or "expected a default model; none is loaded"
    elif model.card and model.card.get("weights_sha256") != models.sha256_of_files(model):
        problem = "expected a card that belongs to the weights; it names others"
    return without_folders(problem, model.stem.parent)
