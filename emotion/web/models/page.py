"""The page about a model: what it answers, how good it is, its limits, and where it comes from."""

import contextlib

from flask import Blueprint, abort, render_template
from flask.typing import ResponseReturnValue

from emotion.errors import ModelError, UploadError
from emotion.faces import read_thresholds
from emotion.labels import EMOTIONS
from emotion.model.card import Card
from emotion.text import counted, decimal, share
from emotion.web.models.offered import OfferedModel, without_folders
from emotion.web.services import Services, current_services

model_page = Blueprint("model_page", __name__)

ALWAYS_CHECKED = {"Cache-Control": "no-cache"}  # the page changes when a model does


@model_page.get("/model", defaults={"key": ""})
@model_page.get("/model/<path:key>")
def page(key: str) -> ResponseReturnValue:
    # pydantic, which reads a model's figures, is loaded when they are asked for
    from emotion.model.figures import read_figures

    services = current_services()
    models, thresholds = services.models, None
    try:
        model = models.find(key)
    except UploadError:
        abort(404)
    card = Card(model.card)
    with contextlib.suppress(ModelError):
        thresholds = read_thresholds(model.card)

    def without_paths(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
        return [(term, without_folders(text, model.stem.parent)) for term, text in rows if text]

    recognizer, sha256 = models.loaded(model), models.sha256(model)
    on_disk = models.sha256_of_files(model)
    replaced = "its files were replaced since it was loaded; the new ones count after a restart"
    served = [
        ("Title", model.title),
        ("Key", model.key),
        ("SHA-256 of its weights", sha256 or "its weights cannot be read"),
        ("Run by", recognizer.model.runtime if recognizer else "not loaded yet: a photo loads it"),
        ("Notes", "; ".join(recognizer.model.notes) if recognizer else ""),
        ("Replaced", replaced if recognizer and on_disk and on_disk != sha256 else ""),
    ]
    facts = {"origin": card.origin(), "settings": card.settings(), "files": served}
    facts = {name: without_paths(rows) for name, rows in facts.items()}
    facts |= {"class_names": class_names_of(services, model), "verdict": card.verdict}
    facts |= {"problem": why_unusable(services, model), "figures": read_figures(model.stem, card)}
    about = {"model": model, "offered": models.offered(), "card": card, "thresholds": thresholds}
    look = {"pictures": {}, "heading": "h2", "prefix": ""}
    words = {"share": share, "decimal": decimal, "counted": counted}
    return render_template("model.html", **about, **facts, **look, **words), ALWAYS_CHECKED


def class_names_of(services: Services, model: OfferedModel) -> tuple[str, ...]:
    """Return the expressions that a model tells apart, in output order."""
    if recognizer := services.models.loaded(model):
        return recognizer.model.class_names
    return Card(model.card).class_names or EMOTIONS


def why_unusable(services: Services, model: OfferedModel) -> str:
    """Return why a model cannot be used at the moment, without folders; "" if it can."""
    models = services.models
    if models.loaded(model):
        return ""
    problem = models.problem(model) or ""
    if model.is_default or services.recognizer is None:
        problem = services.model_problem or "expected a default model; none is loaded"
    elif model.card and model.card.get("weights_sha256") != models.sha256_of_files(model):
        problem = "expected a card that belongs to the weights; it names others"
    return without_folders(problem, model.stem.parent)
