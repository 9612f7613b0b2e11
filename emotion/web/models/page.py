"""The page about a model: what it answers, how good it is, its limits, and where it comes from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flask import Blueprint, abort, render_template
from flask.typing import ResponseReturnValue

from emotion.errors import ModelError
from emotion.faces import Thresholds, read_thresholds
from emotion.labels import EMOTIONS
from emotion.model.runtime import read_serving
from emotion.recognizer import Recognizer
from emotion.web.analysis import Services, current_services, without_folders
from emotion.web.errors import UploadError
from emotion.web.models.card import Measurement, Report, read_measurement, read_report
from emotion.web.models.offered import OfferedModel, data_names

model_page = Blueprint("model_page", __name__)

ALWAYS_CHECKED = {"Cache-Control": "no-cache"}
"""The page changes when a model does."""

SHORT_SHA = 16
NBSP = "\u00a0"


@dataclass(frozen=True)
class ModelView:
    """What the page shows of one model.

    Attributes:
        model: what is offered.
        class_names: the expressions it tells apart, in output order.
        answers: "votes", "labels", or "" where the card does not say.
        data: what people call the data it learned from.
        votes: what people call the votes on them.
        measurement: what was measured; None where that is not known.
        report: what the report adds; None where there is none of the same training.
        twins_removed: whether copies of test images were taken out of the training data.
        mirrored: whether photos get the mean of the answers to each face and its mirror image.
        thresholds: when an answer is sure; None where the card says it in no usable way.
        verdict: how often sure answers were right, and on what; empty where that is not known.
        origin: (term, text) of where it comes from.
        files: (term, text) of what is served.
        problem: why it cannot be used at the moment, "" where it can.
    """

    model: OfferedModel
    class_names: tuple[str, ...]
    answers: str
    data: tuple[str, ...]
    votes: tuple[str, ...]
    measurement: Measurement | None
    report: Report | None
    twins_removed: bool
    mirrored: bool
    thresholds: Thresholds | None
    verdict: Mapping
    origin: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, str], ...]
    problem: str


@model_page.get("/model", defaults={"key": ""})
@model_page.get("/model/<path:key>")
def page(key: str) -> ResponseReturnValue:
    """Show what is known about an offered model."""
    services = current_services()
    try:
        model = services.models.find(key)
    except UploadError:
        abort(404)
    content = render_template(
        "model.html",
        view=view_of(services, model),
        offered=services.models.offered(),
        share=share,
        points=points,
    )
    return content, ALWAYS_CHECKED


def view_of(services: Services, model: OfferedModel) -> ModelView:
    """Return what the page shows of a model."""
    card = model.card
    measurement = read_measurement(card)
    dataset = _part(card, "dataset")
    return ModelView(
        model=model,
        class_names=_class_names(services.models.loaded(model), card),
        answers=str((card or {}).get("answers") or ""),
        data=data_names(dataset.get("name")),
        votes=data_names(dataset.get("votes")),
        measurement=measurement,
        report=read_report(model.stem, card, measurement),
        twins_removed=bool(dataset.get("removed_because_also_in_test")),
        mirrored=_is_mirrored(card),
        thresholds=_thresholds(card),
        verdict=_verdict(card),
        origin=_cleaned(_origin(card), model.stem.parent),
        files=_cleaned(_files(services, model), model.stem.parent),
        problem=without_folders(_problem(services, model), model.stem.parent),
    )


def share(value: float | None, digits: int = 0) -> str:
    """Return a share as a percentage; neither 0% nor 100% unless it is exactly that."""
    if value is None:
        return "–"
    smallest = 10**-digits / 2
    text = f"{value * 100:.{digits}f}"
    if 0 < value * 100 < smallest:
        text = f"<{2 * smallest:g}"
    elif 100 - smallest <= value * 100 < 100:
        text = f">{100 - 2 * smallest:g}"
    return f"{text}{NBSP}%"


def points(value: float, digits: int = 1) -> str:
    """Return a difference of shares in percentage points."""
    number = f"{value * 100:.{digits}f}"
    return f"{number}{NBSP}percentage point" + ("" if float(number) == 1 else "s")


def _problem(services: Services, model: OfferedModel) -> str:
    """Return why a model cannot be used, "" where it can as far as is known."""
    if services.models.loaded(model):
        return ""
    if model.is_default or services.recognizer is None:
        return services.model_problem or "expected a default model; none is loaded"
    belongs_to = (model.card or {}).get("weights_sha256")
    if model.card and belongs_to != services.models.sha256_of_files(model):
        return "expected a card that belongs to the weights; it names others"
    return services.models.problem(model) or ""


def _class_names(recognizer: Recognizer | None, card: Mapping | None) -> tuple[str, ...]:
    """Return the expressions that a model tells apart."""
    if recognizer:
        return recognizer.model.class_names
    names = (card or {}).get("class_names", EMOTIONS)
    return tuple(map(str, names)) if isinstance(names, list | tuple) else EMOTIONS


def _is_mirrored(card: Mapping | None) -> bool:
    """Return whether photos get the mean of two answers."""
    try:
        return read_serving(card).mirrored
    except ModelError:
        return False


def _thresholds(card: Mapping | None) -> Thresholds | None:
    """Return when an answer is sure, None where the card says it in no usable way."""
    try:
        return read_thresholds(card)
    except ModelError:
        return None


def _verdict(card: Mapping | None) -> Mapping:
    """Return how often sure and unsure answers were right; empty unless all of it is known."""
    content = _part(card, "verdict")
    names = ("coverage", "accuracy_when_sure", "accuracy_when_unsure", "named_when_unsure")
    shares = {name: content.get(name) for name in names}
    if not all(_is_share(value) for value in shares.values()):
        return {}
    if not _is_count(content.get("images")):
        return {}
    return shares | {"images": content["images"], "split": str(content.get("split") or "labelled")}


def _origin(card: Mapping | None) -> list[tuple[str, str]]:
    """Return (term, text) of where a model comes from, as far as its card tells."""
    dataset, selection = _part(card, "dataset"), _part(card, "selection")
    settings, versions = _part(card, "settings"), _part(card, "versions")
    return [
        ("Data", _joined(dataset.get("name"), dataset.get("votes"))),
        ("Images", _images(_part(dataset, "images"))),
        ("Taken out", _taken_out(dataset.get("removed_because_also_in_test"))),
        ("Remarks", _listed(dataset.get("notes"))),
        ("Network", str(settings.get("architecture") or "")),
        ("Started from", _names([_part(card, "started_from")])),
        ("Learned from", _names((card or {}).get("learned_from"))),
        ("Average of", _names((card or {}).get("average_of"))),
        ("Chosen", _selected(selection)),
        ("Made", str((card or {}).get("created") or "")),
        ("Made with", ", ".join(f"{name} {number}" for name, number in versions.items())),
        ("Fingerprint of the data", str(dataset.get("fingerprint") or "")[:SHORT_SHA]),
    ]


def _files(services: Services, model: OfferedModel) -> list[tuple[str, str]]:
    """Return (term, text) of what is served: no folders, they are nobody's business."""
    models = services.models
    recognizer, sha256 = models.loaded(model), models.sha256(model)
    on_disk = models.sha256_of_files(model)
    replaced = "its files were replaced since it was loaded; the new ones count after a restart"
    return [
        ("Title", model.title),
        ("Key", model.key),
        ("SHA-256 of its weights", sha256 or "its weights cannot be read"),
        ("Run by", recognizer.model.runtime if recognizer else "not loaded yet: a photo loads it"),
        ("Notes", "; ".join(recognizer.model.notes) if recognizer else ""),
        ("Replaced", replaced if recognizer and on_disk and on_disk != sha256 else ""),
    ]


def _cleaned(rows: list[tuple[str, str]], folder: Path) -> tuple[tuple[str, str], ...]:
    """Return the rows that say something, without folders of the server."""
    return tuple((term, without_folders(text, folder)) for term, text in rows if text)


def _images(counts: Mapping) -> str:
    """Return how many images were used for what."""
    purposes = {
        "train": "to learn from",
        "validation": "to make choices on",
        "test": "to measure on",
        "private_test": "to measure on at the very end",
    }
    known = {name: counts[name] for name in purposes if _is_count(counts.get(name))}
    return ", ".join(f"{count:,} {purposes[name]}" for name, count in known.items())


def _taken_out(count: object) -> str:
    """Return how many images were not learned from because they equal test images."""
    return f"{count:,} images that equal or nearly equal test images" if _is_count(count) else ""


def _selected(selection: Mapping) -> str:
    """Return which epoch was kept."""
    if not all(selection.get(name) for name in ("epoch", "epochs", "by")):
        return ""
    return f"epoch {selection['epoch']} of {selection['epochs']}, by {selection['by']}"


def _names(models: object) -> str:
    """Return the names of the models in a part of a card."""
    listed = models if isinstance(models, list) else []
    return ", ".join(
        str(model["name"]) for model in listed if isinstance(model, Mapping) and model.get("name")
    )


def _listed(texts: object) -> str:
    """Return the remarks in a part of a card."""
    return "; ".join(map(str, texts)) if isinstance(texts, list) else ""


def _joined(*texts: object) -> str:
    """Return the texts that are there, with "and" between them."""
    return " and ".join(str(text) for text in texts if text)


def _part(content: Mapping | None, key: str) -> Mapping:
    """Return a part of a card, empty where it is missing or of another kind."""
    part = (content or {}).get(key)
    return part if isinstance(part, Mapping) else {}


def _is_share(value: object) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= 1


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
