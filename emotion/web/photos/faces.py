"""One face of a photo, as a page and as JSON: why it got its answer, and what its sender says."""

from flask import json, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import RequestEntityTooLarge

from emotion.errors import DatabaseError, GoneError, NotSenderError, UploadError
from emotion.explain import Explanation, draw_heat, explain
from emotion.faces import Face
from emotion.images.encoding import encode_png
from emotion.web.api import NO_STORE, ROOT, api, moment, nothing
from emotion.web.database import Opinion
from emotion.web.errors import ApiError
from emotion.web.limits import client_key
from emotion.web.photos.feedback import find_face, give, take_back
from emotion.web.photos.pages import PRIVATE, data_uri, pages
from emotion.web.photos.pictures import crop_from_picture
from emotion.web.services import current_services
from emotion.web.storage import Analysis
from emotion.web.visitors import own_photo

FACE = f"{ROOT}/photos/<photo_id>/faces/<int:number>"
FEEDBACK_FORM = "/results/<photo_id>/faces/<int:number>/feedback"
MOST_OPINION_BYTES = 4096


# Why a face got its answer


@pages.get("/results/<analysis_id>/faces/<int:number>")
def face(analysis_id: str, number: int) -> ResponseReturnValue:
    """Show one face: its answer, which parts of it spoke for that, and what its sender said."""
    services = current_services()
    analysis = services.storage.load(analysis_id)
    seen = find_face(analysis, number)
    chosen = _chosen_emotion(seen) or seen.emotion
    reasons = _reasons_of(analysis, number, chosen)
    heat = encode_png(draw_heat(reasons.crop, reasons.heat)) if reasons else b""
    said = {"is_own": True, "opinion": None, "can_say": True}
    try:
        own_photo(analysis_id)
        said["opinion"] = services.database.opinion_on(analysis_id, number)
    except (GoneError, NotSenderError):
        said["is_own"] = False
    except DatabaseError:
        # the page is about the face; it is worth showing without this part
        said["can_say"] = False
    return render_template(
        "face.html",
        analysis=analysis,
        face=seen,
        number=number,
        chosen=chosen,
        reasons=reasons,
        picture=data_uri("heat.png", heat),
        **said,
    ), PRIVATE


@api.get(f"{FACE}/explanation")
def explanation(photo_id: str, number: int) -> ResponseReturnValue:
    """See which parts of a face spoke for an emotion, by default for the model's answer."""
    analysis = current_services().storage.load(photo_id)
    face = find_face(analysis, number)
    emotion = _chosen_emotion(face)
    if emotion is None:
        known = ", ".join(face.probabilities)
        raise UploadError(f"expected one of {known} as emotion; received another word")
    reasons = _reasons_of(analysis, number, emotion)
    if reasons is None:
        raise ApiError(409, "The model that read this photo is not in use any more.")
    shares = {name: round(getattr(reasons, name), 6) for name in ("before", "hidden", "elsewhere")}
    heat = [[round(value, 3) for value in row] for row in reasons.heat.tolist()]
    return jsonify({"emotion": emotion, **shares, "holds": reasons.holds, "heat": heat}), NO_STORE


def _chosen_emotion(face: Face) -> str | None:
    """Return the emotion in the query, by default the model's answer; None if it is unknown."""
    emotion = request.args.get("emotion", face.emotion)
    return emotion if emotion in face.probabilities else None


def _reasons_of(analysis: Analysis, number: int, emotion: str) -> Explanation | None:
    """Return which parts of a face spoke for an emotion.

    None if the model that gave the answer is not served any more.
    """
    services = current_services()
    try:
        model = services.models.get(analysis.model.get("key", "")).model
    except UploadError:
        return None  # its files are gone
    if model.sha256 != analysis.results["model"]["sha256"]:
        return None
    content = services.storage.read_picture(analysis.id, f"input-{number}.png")
    with services.gate.place(client_key()):
        return explain(model, crop_from_picture(content), emotion)


# What its sender says


@pages.post(FEEDBACK_FORM, endpoint="say")
def say_page(photo_id: str, number: int) -> ResponseReturnValue:
    """Note which emotion a visitor sees in a face, and keep the face if that was ticked."""
    give(photo_id, number, request.form.get("emotion", ""), request.form.get("keep") == "yes")
    return redirect(url_for("pages.face", analysis_id=photo_id, number=number), 303)


@pages.post(f"{FEEDBACK_FORM}/withdraw", endpoint="withdraw")
def withdraw_page(photo_id: str, number: int) -> ResponseReturnValue:
    """Remove what was said about a face, and the face if it was kept."""
    take_back(photo_id, number)
    return redirect(url_for("pages.face", analysis_id=photo_id, number=number), 303)


@api.get(f"{FACE}/feedback")
def opinion(photo_id: str, number: int) -> ResponseReturnValue:
    """See what was said about a face."""
    own_photo(photo_id)
    find_face(current_services().storage.load(photo_id), number)
    said = current_services().database.opinion_on(photo_id, number)
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
    match content:
        case {"emotion": str(emotion), "keep": bool(keeps_face)} if len(content) == 2:
            pass
        case {"emotion": str(emotion)} if len(content) == 1:
            keeps_face = False
        case _:
            raise UploadError(
                'expected an object such as {"emotion": "happy", "keep": false}; received another'
            )
    return jsonify(_opinion_document(give(photo_id, number, emotion, keeps_face))), NO_STORE


@api.delete(f"{FACE}/feedback")
def withdraw(photo_id: str, number: int) -> ResponseReturnValue:
    """Take back what was said about a face, and the face if it was kept."""
    take_back(photo_id, number)
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
