"""What the pages share: their blueprint, words for templates, and replies with files."""

from collections.abc import Mapping
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from flask import Blueprint, Response, redirect, request, send_file, url_for
from flask.typing import ResponseReturnValue
from markupsafe import Markup

from emotion.faces import people_say, short_verdict, verdict
from emotion.images.guards import readable_types
from emotion.labels import EMOJI, color_rgb, label, with_labels
from emotion.model.card import Card
from emotion.text import duration, percent
from emotion.web.api import NO_STORE, moment
from emotion.web.database import Answers
from emotion.web.photos.uploads import SAMPLES
from emotion.web.services import current_services

pages = Blueprint("pages", __name__)

PRIVATE = {"Cache-Control": "private, no-store", "X-Robots-Tag": "noindex, nofollow"}


@pages.app_context_processor
def words_for_templates() -> dict:
    services = current_services()
    words = (color_rgb, percent, often_missed, duration, label, with_labels)
    of_faces = {
        say.__name__: lambda face, say=say: with_labels(say(face))
        for say in (people_say, short_verdict, verdict)
    }
    facts = {"settings": services.settings, "readable_types": readable_types(), "emoji": EMOJI}
    facts |= {"offered_models": services.models.offered(), "answers_from": Answers.from_text}
    videos = services.videos
    facts |= {"videos_refusal": videos.refusal, "videos_full": lambda: videos.full_now}
    facts |= {"samples": SAMPLES}
    return facts | of_faces | {word.__name__: word for word in words}


def often_missed(told: Mapping) -> list[str]:
    """Return what the model that read a photo often misses, "disgust (38% found)", as measured."""
    # pydantic, which reads a model's figures, is loaded when they are asked for
    from emotion.model.figures import card_figures

    offered = (Card(model.card) for model in current_services().models.offered())
    card = next((card for card in offered if card.weights_sha256 == told.get("sha256")), None)
    figures = card and card_figures(card)
    rows = figures.often_missed if figures else ()
    return [f"{label(row.name)} ({percent(row.recall)} found)" for row in rows]


pages.add_app_template_filter(label)


@pages.app_template_filter("moment")
def time_element(seconds: float) -> Markup:
    """Return seconds since 1970 as an element that shows "2026-11-21 19:52 UTC"."""
    element = Markup('<time datetime="{}">{:%Y-%m-%d %H:%M} UTC</time>')
    return element.format(moment(seconds), datetime.fromtimestamp(seconds, UTC))


def private_file(data: bytes | BinaryIO | Path, mimetype: str, name: str | None) -> Response:
    """Return a reply with a file that no cache keeps; with a name it is a download."""
    file = BytesIO(data) if isinstance(data, bytes) else data
    response = send_file(file, mimetype, name is not None, name, etag=False)
    response.headers.update(PRIVATE)
    return response


def after_deletion(page: str, **values: object) -> ResponseReturnValue:
    """Return an empty reply to a program, and to a browser the way to a page."""
    if request.blueprint != "api":
        return redirect(url_for(page, **values), 303)
    response = Response(status=204, headers=NO_STORE)
    del response.headers["Content-Type"]
    return response
