"""One face of a photo, as a page and as JSON: why it got its answer, and what its sender says."""

from dataclasses import replace

from flask import abort, current_app, json, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import RequestEntityTooLarge

from emotion import errors
from emotion.faces import Face
from emotion.text import data_url
from emotion.web.api import NO_STORE, ROOT, api, moment
from emotion.web.database import Opinion
from emotion.web.limits import KEPT_FACES, client_key
from emotion.web.photos.pages import PRIVATE, after_deletion, pages
from emotion.web.photos.workers import Answer
from emotion.web.services import current_services
from emotion.web.storage import Analysis
from emotion.web.visitors import giver_key, own_photo

FACE = f"{ROOT}/photos/<photo_id>/faces/<int:number>"
FEEDBACK_FORM = "/results/<photo_id>/faces/<int:number>/feedback"
MOST_OPINION_BYTES = 4096


def find_face(photo_id: str, number: int, is_own: bool = False) -> tuple[Analysis, Face]:
    """Return a photo and its face of this number, from 1.

    Raises GoneError, or NotSenderError if `is_own` and somebody else sent it.
    """
    if is_own:
        own_photo(photo_id)
    analysis = current_services().storage.load(photo_id)
    if not 1 <= number <= len(analysis.faces):
        raise errors.GoneError("expected the number of a face in the photo; received another")
    return analysis, analysis.faces[number - 1]


@pages.get("/results/<analysis_id>/faces/<int:number>")
def face(analysis_id: str, number: int) -> ResponseReturnValue:
    analysis, seen = find_face(analysis_id, number)
    chosen = request.args.get("emotion")
    if chosen not in seen.probabilities:
        chosen = seen.emotion
    reasons = _reasons_of(analysis, number, chosen)
    about = {"analysis": analysis, "face": seen, "number": number, "chosen": chosen}
    if reasons:
        about |= {"reasons": reasons[0], "picture": data_url(reasons[1]["heat.png"], "png")}
    said = {"is_own": True, "opinion": None, "can_say": True}
    try:
        own_photo(analysis_id)
        said["opinion"] = current_services().database.opinion_on(analysis_id, number)
    except (errors.GoneError, errors.NotSenderError):
        said["is_own"] = False
    except errors.DatabaseError:  # the page is worth showing without this part
        said["can_say"] = False
    return render_template("face.html", **about, **said), PRIVATE


@api.get(f"{FACE}/explanation")
def explanation(photo_id: str, number: int) -> ResponseReturnValue:
    """See which parts of a face spoke for an emotion, by default for the model's answer."""
    analysis, face = find_face(photo_id, number)
    emotion = request.args.get("emotion", face.emotion)
    if emotion not in face.probabilities:
        known = ", ".join(face.probabilities)
        raise errors.UploadError(f"expected one of {known} as emotion; received another word")
    reasons = _reasons_of(analysis, number, emotion)
    if reasons is None:
        abort(409, "The model that read this photo is not in use any more.")
    return jsonify({"emotion": emotion, **reasons[0]}), NO_STORE


def _reasons_of(analysis: Analysis, number: int, emotion: str) -> Answer | None:
    """Return what `reading.explain_face` answers; None if a face's model is not served now."""
    services = current_services()
    try:
        model = services.models.get(analysis.model.get("key", ""))
    except errors.UploadError:
        return None  # its files are gone
    if model.sha256 != analysis.results["model"]["sha256"]:
        return None
    content = services.storage.read_picture(analysis.id, f"input-{number}.png")
    with services.gate.place(client_key()) as client:
        return services.workers.call(client, model, "explain", content, emotion=emotion)


@pages.post(FEEDBACK_FORM, endpoint="say")
def say_page(photo_id: str, number: int) -> ResponseReturnValue:
    give(photo_id, number, request.form.get("emotion", ""), request.form.get("keep") == "yes")
    about = {"analysis_id": photo_id, "number": number, "_anchor": "feedback"}
    return redirect(url_for("pages.face", **about), 303)


@api.get(f"{FACE}/feedback")
def opinion(photo_id: str, number: int) -> ResponseReturnValue:
    """See what was said about a face."""
    find_face(photo_id, number, is_own=True)
    if said := current_services().database.opinion_on(photo_id, number):
        return jsonify(_opinion_document(said)), NO_STORE
    raise errors.GoneError("expected a face about which something was said; nothing was")


@api.put(f"{FACE}/feedback")
def say(photo_id: str, number: int) -> ResponseReturnValue:
    """Say which emotion a face shows, and give the face for training if you like."""
    if request.mimetype != "application/json":
        abort(415, "Expected a body of type application/json; received another.")
    request.max_content_length = MOST_OPINION_BYTES
    try:
        content = json.loads(request.get_data())
    except RequestEntityTooLarge as error:
        words = f"expected at most {MOST_OPINION_BYTES} bytes of JSON; received more"
        raise errors.RequestTooLargeError(words) from error
    except (ValueError, RecursionError) as error:
        raise errors.UploadError("expected JSON in UTF-8; received something else") from error
    match {"keep": False, **content} if isinstance(content, dict) else {}:
        case {"emotion": str(emotion), "keep": bool(keeps_face), **rest} if not rest:
            said = give(photo_id, number, emotion, keeps_face)
            return jsonify(_opinion_document(said)), NO_STORE
    words = 'expected an object such as {"emotion": "happy", "keep": false}; received another'
    raise errors.UploadError(words)


@pages.post(f"{FEEDBACK_FORM}/withdraw")
@api.delete(f"{FACE}/feedback")
def withdraw(photo_id: str, number: int) -> ResponseReturnValue:
    """Take back what was said about a face, and the face if it was kept."""
    find_face(photo_id, number, is_own=True)
    database, given = current_services().database, current_services().given
    # the file first: if that fails, the opinion still knows of it
    given.remove([database.opinion_on(photo_id, number)])
    # somebody with the same cookie may have said something else in the meantime
    given.remove([database.withdraw(photo_id, number)])
    return after_deletion("pages.face", analysis_id=photo_id, number=number, _anchor="feedback")


def _opinion_document(said: Opinion) -> dict:
    # where a kept face lies is not told
    about = {"emotion": said.chosen, "given": said.given, "agrees": said.chosen == said.given}
    return about | {"kept": bool(said.kept), "said": moment(said.said_s)}


def give(photo_id: str, number: int, chosen: str, keeps_face: bool) -> Opinion:
    """Note which emotion the sender sees in a face, in place of an earlier opinion."""
    analysis, face = find_face(photo_id, number, is_own=True)
    services = current_services()
    storage, database, given = services.storage, services.database, services.given
    if chosen not in face.probabilities:
        known = ", ".join(face.probabilities)
        raise errors.ChoiceError(f"expected one of {known}; received another word")
    sha256 = analysis.results["model"]["sha256"]
    opinion = Opinion(photo_id, number, face.emotion, chosen, sha256, storage.clock())
    if keeps_face:
        with current_app.extensions[KEPT_FACES]:  # so many a day from one address
            crop = storage.read_picture(photo_id, f"input-{number}.png")
            opinion = replace(opinion, kept=given.keep(chosen, giver_key(), crop))
    try:
        given.remove([database.opinion_on(photo_id, number)])
        # somebody with the same cookie may have said something else in the meantime
        given.remove([database.say(opinion)])
        storage.load(photo_id)
    except (errors.StorageError, errors.DatabaseError, errors.GoneError) as error:
        given.remove([opinion])
        if isinstance(error, errors.GoneError):
            # deleted in the meantime, perhaps before there was an opinion to delete with it
            database.withdraw(photo_id, number)
        raise
    return opinion
