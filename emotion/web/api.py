"""JSON views: what the pages can do, for programs; `openapi` describes it."""

import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from flask import Blueprint, Response, json, jsonify, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import RequestEntityTooLarge

from emotion.errors import EmotionError, ImageError, ModelError
from emotion.web import exports
from emotion.web.analysis import (
    Services,
    chosen_recognizer,
    count,
    current_services,
    keep,
    model_facts,
    note,
    read_photo,
    read_request,
    unread_row,
    uploaded_files,
    without_folders,
)
from emotion.web.database import Opinion, PhotoRow
from emotion.web.errors import Problem, UploadError, as_json, problem_of
from emotion.web.feedback import find_face, give, take_back
from emotion.web.limits import client_key
from emotion.web.logs import log_cause
from emotion.web.models.offered import OfferedModel
from emotion.web.models.page import view_of
from emotion.web.openapi import describe
from emotion.web.sets import (
    Shown,
    chosen_emotion,
    reasons_of,
    remove_all_of_visitor,
    remove_rows,
    rows_of,
    rows_of_visitor,
    shown_of,
    summarize,
    videos_of_visitor,
)
from emotion.web.storage import Analysis, GoneError, is_id, new_id
from emotion.web.videos.queue import VideoRow
from emotion.web.visitors import is_own_photo, new_visitor, own_photo

api = Blueprint("api", __name__)


ROOT = "/api/v1"


FACE = f"{ROOT}/photos/<photo_id>/faces/<int:number>"


NO_STORE = {"Cache-Control": "no-store"}


ALWAYS_CHECKED = {"Cache-Control": "no-cache"}


MOST_OPINION_BYTES = 4096


HEAT_DIGITS = 3


PICTURES = {"annotated": exports.annotated_picture, "blurred": exports.blurred_picture}


class ApiError(EmotionError):
    """A request that only the API can get wrong."""

    def __init__(self, status: int, detail: str):
        super().__init__(detail)
        self.problem = Problem(status, "", detail)


@api.errorhandler(ApiError)
def answer(error: ApiError) -> ResponseReturnValue:
    """Answer a problem of the API's own; all others have the app's handler."""
    log_cause(error.problem.status, error.__cause__ or error)
    return as_json(error.problem, dict(NO_STORE))


# Photos


@api.post(f"{ROOT}/recognize")
def recognize() -> ResponseReturnValue:
    """Answer with the faces of a photo, in the schema of `results_to_dict`; nothing is stored."""
    services = current_services()
    results = read_request(services)
    count(services, [results])
    return jsonify(results), NO_STORE


@api.post(f"{ROOT}/photos")
def add_photo() -> ResponseReturnValue:
    """Read a photo and keep what was found, in a new set or in one of the sender's own.

    Of a photo that cannot be read, the set that it names keeps the reason until it is sent again.
    """
    services = current_services()
    if services.settings.keeps_nothing:
        raise ApiError(409, f"This server keeps nothing: use {url_for('api.recognize')}.")
    recognizer = chosen_recognizer(services)
    (file,) = uploaded_files(most=1)
    set_id, position, unread = _place_in_set()
    try:
        with services.gate.place(client_key()):
            reading = read_photo(services, recognizer, file.read())
            row, results = keep(services, reading, new_visitor(), set_id, position), reading.results
            del reading  # its pixels go before another photo has this place
    except ImageError as error:
        if request.form.get("set"):
            problem = problem_of(error).detail
            remove_rows(unread)
            services.database.remember(
                unread_row(services, problem, new_visitor(), set_id, position)
            )
        raise
    remove_rows(unread)
    note(services, [row], [results])
    headers = NO_STORE | {"Location": url_for("api.photo", photo_id=row.id)}
    return jsonify(photo_document(services.storage.load(row.id), True)), 201, headers


def _place_in_set() -> tuple[str, int, list[PhotoRow]]:
    """Return the set that a new photo goes to, its place there, and the notes that it replaces.

    Raises:
        UploadError: the set is another visitor's, is full, or has no proper name.
    """
    services = current_services()
    set_id = request.form.get("set", "") or new_id()
    if not is_id(set_id):
        raise UploadError("expected a set of 22 letters, digits, - and _; received another text")
    rows = services.database.photos_of_set(set_id, services.storage.clock())
    # of photos sent side by side, the second may come before the first one's reply has named us
    visitor = new_visitor() if rows else ""
    if any(row.visitor != visitor for row in rows):
        raise UploadError("expected a set of your own; received one of somebody else")
    most = services.settings.max_photos
    position = _position(rows, most)
    unread = [row for row in rows if row.problem and row.position == position]
    if len(rows) - len(unread) >= most:
        raise UploadError(f"expected up to {most} photos in a set; this one is full")
    return set_id, position, unread


def _position(rows: tuple[PhotoRow, ...], most: int) -> int:
    """Return the number that a photo asks for, or else the next one of its set."""
    if not request.form.get("position"):
        return min(rows[-1].position + 1 if rows else 1, most)
    position = request.form.get("position", type=int)
    if position is None or not 1 <= position <= most:
        raise UploadError(f"expected a whole number from 1 to {most} as position; received another")
    return position


@api.get(f"{ROOT}/photos/<photo_id>")
def photo(photo_id: str) -> ResponseReturnValue:
    """Answer with what was found in a photo that is kept."""
    analysis = current_services().storage.load(photo_id)
    return jsonify(photo_document(analysis, is_own_photo(photo_id))), NO_STORE


@api.delete(f"{ROOT}/photos/<photo_id>")
def delete_photo(photo_id: str) -> ResponseReturnValue:
    """Remove a photo and its results at once."""
    remove_rows([own_photo(photo_id)])
    return nothing()


@api.get(f"{ROOT}/photos/<photo_id>/<any(annotated, blurred):kind>.jpg")
def picture(photo_id: str, kind: str) -> ResponseReturnValue:
    """Send the photo with boxes, or with boxes and faces that nobody can recognize."""
    services = current_services()
    analysis = services.storage.load(photo_id)
    with services.gate.place(client_key()):
        data = PICTURES[kind](services.storage, analysis)
    return Response(data, mimetype="image/jpeg", headers=NO_STORE)


def photo_document(analysis: Analysis, is_own: bool) -> dict:
    """Return what is told about a photo that is kept; its set is told to the sender alone."""
    set_id = analysis.set_id if is_own else None
    return {
        "id": analysis.id,
        "set": set_id,
        "created": moment(analysis.created_s),
        "expires": moment(analysis.expires_s),
        "links": _links(analysis.id, set_id, len(analysis.faces)),
        "results": analysis.results,
    }


def _links(photo_id: str, set_id: str | None, face_count: int) -> Mapping[str, object]:
    """Return the addresses of a photo, of its pages and files, and of its faces."""
    return {
        "self": url_for("api.photo", photo_id=photo_id),
        "page": url_for("pages.result", analysis_id=photo_id),
        "set": url_for("pages.photo_set", set_id=set_id) if set_id else None,
        "annotated": url_for("api.picture", photo_id=photo_id, kind="annotated"),
        "blurred": url_for("api.picture", photo_id=photo_id, kind="blurred"),
        "thumbnail": url_for("pages.picture", analysis_id=photo_id, name="thumb"),
        "faces": [_face_links(photo_id, number) for number in range(1, face_count + 1)],
    }


def _face_links(photo_id: str, number: int) -> Mapping[str, str]:
    """Return the addresses of a face."""
    return {
        "page": url_for("pages.face", analysis_id=photo_id, number=number),
        "picture": url_for("pages.picture", analysis_id=photo_id, name=f"face-{number}"),
        "explanation": url_for("api.explanation", photo_id=photo_id, number=number),
        "feedback": url_for("api.opinion", photo_id=photo_id, number=number),
    }


# Faces


@api.get(f"{FACE}/explanation")
def explanation(photo_id: str, number: int) -> ResponseReturnValue:
    """Answer which parts of a face spoke for an emotion; without one, for the model's answer."""
    services = current_services()
    analysis = services.storage.load(photo_id)
    face = find_face(analysis, number)
    emotion = chosen_emotion(face)
    if emotion is None:
        known = ", ".join(face.probabilities)
        raise UploadError(f"expected one of {known} as emotion; received another word")
    reasons = reasons_of(services, analysis, number, emotion)
    if reasons is None:
        raise ApiError(409, "The model that read this photo is not in use any more.")
    _, found = reasons
    shares = {name: round(getattr(found, name), 6) for name in ("before", "hidden", "elsewhere")}
    heat = [[round(value, HEAT_DIGITS) for value in row] for row in found.heat.tolist()]
    return jsonify({"emotion": emotion, **shares, "holds": found.holds, "heat": heat}), NO_STORE


@api.get(f"{FACE}/feedback")
def opinion(photo_id: str, number: int) -> ResponseReturnValue:
    """Answer what was said about a face."""
    services = current_services()
    own_photo(photo_id)
    find_face(services.storage.load(photo_id), number)
    said = services.database.opinion_on(photo_id, number)
    if said is None:
        raise GoneError("expected a face about which something was said; nothing was")
    return jsonify(opinion_document(said)), NO_STORE


@api.put(f"{FACE}/feedback")
def say(photo_id: str, number: int) -> ResponseReturnValue:
    """Note which emotion somebody sees in a face, and keep the face for training if asked to."""
    chosen, keeps_face = _opinion_in_body()
    said = give(current_services(), photo_id, number, chosen, keeps_face)
    return jsonify(opinion_document(said)), NO_STORE


@api.delete(f"{FACE}/feedback")
def withdraw(photo_id: str, number: int) -> ResponseReturnValue:
    """Remove what was said about a face, and the face if it was kept; both may be gone already."""
    take_back(current_services(), photo_id, number)
    return nothing()


def opinion_document(said: Opinion) -> dict:
    """Return what is told about an opinion; where a kept face lies is nobody's business."""
    return {
        "emotion": said.chosen,
        "given": said.given,
        "agrees": said.chosen == said.given,
        "kept": bool(said.kept),
        "said": moment(said.said_s),
    }


def _opinion_in_body() -> tuple[str, bool]:
    """Return the emotion that a request names, and whether the face is to be kept.

    Raises:
        ApiError: the body is no JSON, or is too large.
        UploadError: it says something else.
    """
    if request.mimetype != "application/json":
        raise ApiError(415, "Expected a body of type application/json; received another.")
    try:
        content = json.loads(_body())
    except (ValueError, RecursionError) as error:
        raise UploadError("expected JSON in UTF-8; received something else") from error
    if not _is_opinion(content):
        raise UploadError(
            'expected an object such as {"emotion": "happy", "keep": false}; received another'
        )
    return content["emotion"], content.get("keep", False)


def _is_opinion(content: object) -> bool:
    """Tell whether JSON names an emotion and says nothing but that and `keep`."""
    return (
        isinstance(content, dict)
        and {"emotion"} <= set(content) <= {"emotion", "keep"}
        and isinstance(content["emotion"], str)
        and isinstance(content.get("keep", False), bool)
    )


def _body() -> bytes:
    """Return the body of the current request, which needs a few words at most."""
    request.max_content_length = MOST_OPINION_BYTES
    try:
        return request.get_data()
    except RequestEntityTooLarge as error:
        detail = f"Expected at most {MOST_OPINION_BYTES} bytes of JSON; received more."
        raise ApiError(413, detail) from error


# Sets, and the sender's own


@api.get(f"{ROOT}/sets/<set_id>")
def photo_set(set_id: str) -> ResponseReturnValue:
    """Answer with the photos of a set and what all their faces show together."""
    shown = shown_of(set_id)
    faces = [face for one in shown if one.analysis for face in one.analysis.faces]
    content = {
        "id": set_id,
        "links": _set_links(set_id),
        "photos": [_photo_in_set(one) for one in shown],
        "faces": len(faces),
        "summary": [asdict(share) for share in summarize(faces)],
    }
    return jsonify(content), NO_STORE


@api.delete(f"{ROOT}/sets/<set_id>")
def delete_set(set_id: str) -> ResponseReturnValue:
    """Remove all photos of a set."""
    remove_rows(rows_of(set_id))
    return nothing()


def _photo_in_set(one: Shown) -> dict:
    """Return a photo of a set, or why it could not be read."""
    return {
        "position": one.position,
        "problem": one.problem or None,
        "photo": photo_document(one.analysis, True) if one.analysis else None,
    }


def _set_links(set_id: str) -> Mapping[str, str]:
    """Return the addresses of a set, of its page and of its files."""
    return {
        "self": url_for("api.photo_set", set_id=set_id),
        "page": url_for("pages.photo_set", set_id=set_id),
        "csv": url_for("pages.set_csv", set_id=set_id),
        "annotated": url_for("pages.set_zip", set_id=set_id, kind="annotated"),
        "blurred": url_for("pages.set_zip", set_id=set_id, kind="blurred"),
    }


@api.get(f"{ROOT}/mine")
def mine() -> ResponseReturnValue:
    """Answer with what the sender, known by the cookie, has sent and is still kept."""
    content = {
        "photos": [_row_document(row) for row in rows_of_visitor()],
        "videos": [_video_row_document(row) for row in videos_of_visitor()],
    }
    return jsonify(content), NO_STORE


@api.delete(f"{ROOT}/mine")
def delete_mine() -> ResponseReturnValue:
    """Remove everything that the sender, known by the cookie, has sent."""
    remove_all_of_visitor()
    return nothing()


def _row_document(row: PhotoRow) -> dict:
    """Return what the list of the sender's own tells about a photo."""
    return {
        "id": row.id,
        "set": row.set_id,
        "position": row.position,
        "created": moment(row.created_s),
        "expires": moment(row.expires_s),
        "faces": row.faces,
        "emotions": row.emotions.split(",") if row.emotions else [],
        "problem": row.problem or None,
    }


def _video_row_document(row: VideoRow) -> dict:
    """Return what the list of the sender's own tells about a video."""
    return {
        "id": row.id,
        "state": row.state,
        "created": moment(row.created_s),
        "expires": moment(row.expires_s),
        "faces": row.faces,
        "emotions": row.emotions.split(",") if row.emotions else [],
        "problem": row.problem or None,
    }


# The server


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
    view = view_of(services, offered)
    return {
        "key": offered.key,
        "title": offered.title,
        "default": offered.is_default,
        "classes": list(view.class_names),
        "sha256": services.models.sha256(offered),
        "problem": view.problem or None,
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
    root = url_for("api.description").removesuffix("/openapi.json")
    return jsonify(describe(current_services().settings, root)), ALWAYS_CHECKED


@api.get("/healthz")
def health() -> ResponseReturnValue:
    """Answer that the app can do its work, and with which model, or why not."""
    services = current_services()
    folder = services.settings.model.parent
    try:
        model = services.require_recognizer().model
    except ModelError as error:
        raise ApiError(503, without_folders(str(error), folder)) from error
    if problem := trouble(services):
        raise ApiError(503, problem)
    return jsonify({"status": "ok", "model": model_facts(model, folder)}), NO_STORE


def moment(seconds: float) -> str:
    """Return seconds since 1970 as a time in UTC (RFC 3339): "2026-11-21T19:52:07Z"."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def nothing() -> Response:
    """Return the reply to what is done and needs no words."""
    response = Response(status=204, headers=NO_STORE)
    del response.headers["Content-Type"]
    return response


NOBODY = "nobody"


def trouble(services: Services) -> str:
    """Return what keeps the app from its work, in words without paths; "" where all is well.

    Raises:
        DatabaseError: the database cannot be reached.
    """
    settings = services.settings
    if not settings.keeps_nothing and not can_be_written(settings.uploads):
        return "The folder for results cannot be written to."
    # any question that has to reach the database
    services.database.photos_of_visitor(NOBODY, services.storage.clock())
    return ""


def can_be_written(folder: Path) -> bool:
    """Tell whether files can be made in a folder, which may still have to be made itself."""
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
