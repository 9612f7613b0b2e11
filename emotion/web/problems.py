"""The one handler of errors: each kind gets a status, and words as a page or as RFC 9457 JSON."""

import http
from dataclasses import dataclass

from flask import Flask, current_app, json, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge

from emotion.errors import (
    DamagedImageError,
    EmotionError,
    EmptyImageError,
    ImageDimensionsError,
    ImageError,
    ImageTooLargeError,
    ImageTypeError,
    ModelError,
)
from emotion.web.storage import GoneError, StorageError


class UploadError(EmotionError):
    """A request does not bring one photo in the field that is expected."""


@dataclass(frozen=True)
class Problem:
    """What went wrong, for a person and for a program.

    Attributes:
        status: the HTTP status.
        title: a few words.
        detail: one sentence: what was expected and what was received.
        advice: what to do about it, in one or two sentences.
        is_upload: whether sending another photo may help.
    """

    status: int
    title: str
    detail: str = ""
    advice: str = ""
    is_upload: bool = False


UPLOAD_PROBLEMS = (
    (UploadError, 400, "No photo arrived", "Choose one photo, then press the button again."),
    (EmptyImageError, 400, "The file is empty", "Open it on your device first: is it whole?"),
    (ImageTooLargeError, 413, "The file is too large", "A smaller copy of the photo does as well."),
    (ImageTypeError, 415, "Not a photo we can read", "Save or export it as JPEG and try again."),
    (
        ImageDimensionsError,
        422,
        "The photo does not have the right size",
        "Scale it and try again; a face needs no more than a few hundred pixels.",
    ),
    (
        DamagedImageError,
        422,
        "The photo is damaged",
        "Open it and save a new copy, or send it once more: perhaps the end was lost on the way.",
    ),
    (ImageError, 422, "The photo cannot be used", "Save a new copy as JPEG and try again."),
)
"""Kind, status, title and advice; the first kind that fits counts."""

HTTP_PROBLEMS = {
    403: ("Not from this site", "Open the start page here and send the photo from there."),
    404: ("Page not found", "The address may be mistyped."),
    405: ("This address does not work that way", "The start page takes photos."),
    500: ("Something went wrong here", "It is our mistake, not yours, and it has been noted."),
}
"""Title and advice by status; other statuses have the standard's words."""


def problem_of(error: Exception) -> Problem:
    """Return what to tell about an error."""
    for kind, status, title, advice in UPLOAD_PROBLEMS:
        if isinstance(error, kind):
            return Problem(status, title, _sentence(error), advice, is_upload=True)
    if isinstance(error, GoneError):
        advice = "Results are removed when their time is up, or when their owner deletes them."
        return Problem(404, "This result is gone", _sentence(error), advice)
    if isinstance(error, StorageError):
        return _storage_problem(error)
    if isinstance(error, ModelError):
        return Problem(503, "No model is loaded", NO_MODEL, "Please try again later.")
    if isinstance(error, RequestEntityTooLarge):
        return _too_large()
    if isinstance(error, HTTPException):
        return _http_problem(error.code or 500, error.description or "")
    return _http_problem(500, "")


NO_MODEL = "Photos cannot be read at the moment: the server runs, but without its model."


def _storage_problem(error: StorageError) -> Problem:
    """Return the problem of results that cannot be written."""
    advice = "Please try again later, or tell the person who runs this server."
    if error.is_full:
        detail = "The server's disk is full, so the results of the photo could not be kept."
        return Problem(507, "No room for the results", detail, advice)
    detail = "The server's folder for results cannot be written to at the moment."
    return Problem(503, "The results could not be kept", detail, advice)


def _too_large() -> Problem:
    """Return the problem of a request that is refused before the photo in it is looked at."""
    allowed = f"{current_app.extensions['emotion'].settings.max_upload_mb:g} MB"
    received = "a form with more in it than one photo"
    if (request.content_length or 0) > (current_app.config["MAX_CONTENT_LENGTH"] or 0):
        received = f"{request.content_length / 2**20:.1f} MB"
    return Problem(
        413,
        "The file is too large",
        f"Expected one photo of at most {allowed}; received {received}.",
        "A smaller copy of the photo does as well.",
        is_upload=True,
    )


def _http_problem(status: int, detail: str) -> Problem:
    """Return the problem of a status that Flask or Werkzeug gave."""
    phrase = http.HTTPStatus(status).phrase
    title, advice = HTTP_PROBLEMS.get(status, (phrase, ""))
    return Problem(status, title, _sentence(detail) if status == 403 else "", advice)


def _sentence(words: object) -> str:
    """Return words as a sentence: a capital at the start, a full stop at the end."""
    text = str(words).strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def handle_problems(app: Flask) -> None:
    """Let one function answer every error of an app."""
    app.register_error_handler(Exception, answer)


def answer(error: Exception) -> ResponseReturnValue:
    """Return the reply to an error, as JSON under /api/ and for /healthz, else as a page."""
    problem = problem_of(error)
    if not isinstance(error, HTTPException | EmotionError):
        current_app.logger.error("unexpected error", exc_info=error)
    headers = {"Cache-Control": "no-store"}
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        headers["Allow"] = ", ".join(sorted(error.valid_methods))
    if request.path.startswith("/api/") or request.path == "/healthz":
        return as_json(problem, headers)
    return render_template("problem.html", problem=problem), problem.status, headers


def as_json(problem: Problem, headers: dict[str, str]) -> ResponseReturnValue:
    """Return a problem as `application/problem+json`.

    The type is "about:blank", for which RFC 9457 asks that the title be the status's own phrase.
    """
    content = {
        "type": "about:blank",
        "title": http.HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail or f"{problem.title}.",
    }
    body = json.dumps(content) + "\n"
    return body, problem.status, {**headers, "Content-Type": "application/problem+json"}
