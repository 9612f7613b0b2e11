"""One face of a photo, as a page and as JSON: why it got its answer, and what its sender says."""

from dataclasses import dataclass

import numpy as np
from flask import json, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import RequestEntityTooLarge

from emotion.errors import GoneError, UploadError
from emotion.explain import Explanation, draw_heat, explain
from emotion.faces import Face
from emotion.images.encoding import encode_png
from emotion.web.api import NO_STORE, ROOT, api, moment, nothing
from emotion.web.database import Opinion
from emotion.web.errors import ApiError
from emotion.web.limits import client_key
from emotion.web.photos.feedback import feedback_context, find_face, give, take_back
from emotion.web.photos.pages import PRIVATE, data_uri, pages
from emotion.web.photos.pictures import crop_from_picture
from emotion.web.services import Services, current_services
from emotion.web.storage import Analysis
from emotion.web.visitors import own_photo

FACE = f"{ROOT}/photos/<photo_id>/faces/<int:number>"
FEEDBACK_FORM = "/results/<photo_id>/faces/<int:number>/feedback"
MOST_OPINION_BYTES = 4096
HEAT_DIGITS = 3


# Why a face got its answer


@dataclass(frozen=True)
class Explained:
    """Which parts of a face spoke for an answer: a picture of them, and the check that they did."""

    picture: str
    reasons: Explanation


@pages.get("/results/<analysis_id>/faces/<int:number>")
def face(analysis_id: str, number: int) -> ResponseReturnValue:
    """Show one face: its answer, and which parts of it spoke for that."""
    services = current_services()
    analysis = services.storage.load(analysis_id)
    seen = find_face(analysis, number)
    chosen = _chosen_emotion(seen) or seen.emotion
    reasons, explained = _reasons_of(services, analysis, number, chosen), None
    if reasons is not None:
        crop, found = reasons
        drawn = encode_png(draw_heat(crop, found.heat))
        explained = Explained(data_uri("heat.png", drawn), found)
    return render_template(
        "face.html",
        analysis=analysis,
        face=seen,
        number=number,
        chosen=chosen,
        explained=explained,
        **feedback_context(analysis_id, number),
    ), PRIVATE


@api.get(f"{FACE}/explanation")
def explanation(photo_id: str, number: int) -> ResponseReturnValue:
    """See which parts of a face spoke for an emotion, by default for the model's answer."""
    services = current_services()
    analysis = services.storage.load(photo_id)
    face = find_face(analysis, number)
    emotion = _chosen_emotion(face)
    if emotion is None:
        known = ", ".join(face.probabilities)
        raise UploadError(f"expected one of {known} as emotion; received another word")
    reasons = _reasons_of(services, analysis, number, emotion)
    if reasons is None:
        raise ApiError(409, "The model that read this photo is not in use any more.")
    _, found = reasons
    shares = {name: round(getattr(found, name), 6) for name in ("before", "hidden", "elsewhere")}
    heat = [[round(value, HEAT_DIGITS) for value in row] for row in found.heat.tolist()]
    return jsonify({"emotion": emotion, **shares, "holds": found.holds, "heat": heat}), NO_STORE


def _chosen_emotion(face: Face) -> str | None:
    """Return the emotion in the query, by default the model's answer; None if it is unknown."""
    emotion = request.args.get("emotion", face.emotion)
    return emotion if emotion in face.probabilities else None


def _reasons_of(
    services: Services, analysis: Analysis, number: int, emotion: str
) -> tuple[np.ndarray, Explanation] | None:
    """Return a face as the model saw it, and which parts of it spoke for an emotion.

    Returns:
        The crop, (48, 48, 1) float32, and the reasons; None if the model that gave the answer is
        not served any more.

    Raises:
        GoneError: what the model saw is not kept.
        BusyError: too many photos are in hand, or too many of this client.
        ModelError: no model at all is served.
    """
    try:
        model = services.models.get(analysis.model.get("key", "")).model
    except UploadError:
        return None  # its files are gone
    if model.sha256 != analysis.results["model"]["sha256"]:
        return None
    content = services.storage.read_picture(analysis.id, f"input-{number}.png")
    with services.gate.place(client_key()):
        crop = crop_from_picture(content)
        return crop, explain(model, crop, emotion)


# What its sender says


@pages.post(FEEDBACK_FORM, endpoint="say")
def say_page(photo_id: str, number: int) -> ResponseReturnValue:
    """Note which emotion a visitor sees in a face, and keep the face if that was ticked."""
    keeps_face = request.form.get("keep") == "yes"
    give(current_services(), photo_id, number, request.form.get("emotion", ""), keeps_face)
    return redirect(url_for("pages.face", analysis_id=photo_id, number=number), 303)


@pages.post(f"{FEEDBACK_FORM}/withdraw", endpoint="withdraw")
def withdraw_page(photo_id: str, number: int) -> ResponseReturnValue:
    """Remove what was said about a face, and the face if it was kept."""
    take_back(current_services(), photo_id, number)
    return redirect(url_for("pages.face", analysis_id=photo_id, number=number), 303)


@api.get(f"{FACE}/feedback")
def opinion(photo_id: str, number: int) -> ResponseReturnValue:
    """See what was said about a face."""
    services = current_services()
    own_photo(photo_id)
    find_face(services.storage.load(photo_id), number)
    said = services.database.opinion_on(photo_id, number)
    if said is None:
        raise GoneError("expected a face about which something was said; nothing was")
    return jsonify(_opinion_document(said)), NO_STORE


@api.put(f"{FACE}/feedback")
def say(photo_id: str, number: int) -> ResponseReturnValue:
    """Say which emotion a face shows, and give the face for training if you like."""
    if request.mimetype != "application/json":
        raise ApiError(415, "Expected a body of type application/json; received another.")
    request.max_content_length = MOST_OPINION_BYTES
    try:
        content = json.loads(request.get_data())
    except RequestEntityTooLarge as error:
        detail = f"Expected at most {MOST_OPINION_BYTES} bytes of JSON; received more."
        raise ApiError(413, detail) from error
    except (ValueError, RecursionError) as error:
        raise UploadError("expected JSON in UTF-8; received something else") from error
    is_opinion = (
        isinstance(content, dict)
        and {"emotion"} <= set(content) <= {"emotion", "keep"}
        and isinstance(content["emotion"], str)
        and isinstance(content.get("keep", False), bool)
    )
    if not is_opinion:
        raise UploadError(
            'expected an object such as {"emotion": "happy", "keep": false}; received another'
        )
    keeps_face = content.get("keep", False)
    said = give(current_services(), photo_id, number, content["emotion"], keeps_face)
    return jsonify(_opinion_document(said)), NO_STORE


@api.delete(f"{FACE}/feedback")
def withdraw(photo_id: str, number: int) -> ResponseReturnValue:
    """Take back what was said about a face, and the face if it was kept."""
    take_back(current_services(), photo_id, number)
    return nothing()


def _opinion_document(said: Opinion) -> dict:
    # where a kept face lies is not told
    return {
        "emotion": said.chosen,
        "given": said.given,
        "agrees": said.chosen == said.given,
        "kept": bool(said.kept),
        "said": moment(said.said_s),
    }
