"""The one handler of errors: each kind gets a status, and words as a page or as RFC 9457 JSON."""

import errno
import http
import math
import time
from dataclasses import dataclass

from flask import Flask, current_app, g, json, render_template, request
from flask.typing import ResponseReturnValue
from flask_limiter import RateLimitExceeded
from flask_wtf.csrf import CSRFError
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
from emotion.web.database import DatabaseError
from emotion.web.logs import log_cause, request_id
from emotion.web.storage import GoneError, StorageError

DATABASE_RETRY_AFTER_S = 10


class UploadError(EmotionError):
    """A request does not bring one photo in the field that is expected."""


class ChoiceError(UploadError):
    """A request chooses something, such as a model or an emotion, that is not offered."""


class ChosenModelError(ModelError):
    """A model that a visitor chose, other than the default, cannot be loaded."""


class NotSenderError(EmotionError):
    """Somebody else than the sender asks for what is the sender's alone."""


VIDEO_ENDPOINTS = ("videos.upload", "api.add_video")
"""Where videos are sent to: what these bring may be larger than photos."""


class VideoTypeError(EmotionError):
    """What was sent is no video of a kind that is read."""


class EmptyVideoError(EmotionError):
    """There are no bytes at all."""


class NoVideosError(EmotionError):
    """This server, as it runs, takes no videos."""


class QueueFullError(EmotionError):
    """As many videos wait as may."""


RETRY_AFTER_S = 2
"""When somebody who was refused may try again: a photo takes well under a second."""


class BusyError(EmotionError):
    """As many photos are in hand as there may be."""


EXTENSION = "emotion_rates"


class ClientBusyError(BusyError):
    """As many photos of one client are in hand as there may be."""


@dataclass(frozen=True)
class Problem:
    """What went wrong, for a person and for a program.

    Attributes:
        status: the HTTP status.
        title: a few words.
        detail: one sentence: what was expected and what was received.
        advice: what to do about it, in one or two sentences.
        is_upload: whether sending another photo may help.
        is_video: whether that would be a video.
        retry_after_s: when the same request may be sent again; None where that helps nothing.
    """

    status: int
    title: str
    detail: str = ""
    advice: str = ""
    is_upload: bool = False
    is_video: bool = False
    retry_after_s: int | None = None


UPLOAD_PROBLEMS = (
    (
        ChoiceError,
        400,
        "This cannot be chosen",
        "Go back and choose one that is offered.",
    ),
    (UploadError, 400, "No photo arrived", "Choose one photo, then press the button again."),
    (EmptyImageError, 400, "The file is empty", "Open it on your device first: is it whole?"),
    (ImageTooLargeError, 413, "The file is too large", "A smaller copy of the photo does as well."),
    (
        ImageTypeError,
        415,
        "Not a photo we can read",
        "Save or export it as JPEG and try again. Videos have a form of their own.",
    ),
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


VIDEO_PROBLEMS = (
    (EmptyVideoError, 400, "The file is empty", "Play it on your device first: is it whole?"),
    (
        VideoTypeError,
        415,
        "Not a video we can read",
        "Save or export it as MP4 and try again; photos have a form of their own.",
    ),
)


QUEUE_RETRY_AFTER_S = 60
"""When somebody for whose video there was no room may try again: each takes a minute or more."""


HTTP_PROBLEMS = {
    403: ("Not from this site", "Open the start page here and send the photo from there."),
    404: ("Page not found", "The address may be mistyped."),
    405: ("This address does not work that way", "The start page takes photos."),
    500: (
        "Something went wrong here",
        "It is our mistake, not yours, and it has been noted. Who runs this server finds it by "
        "the code {code}.",
    ),
}
"""Title and advice by status; other statuses have the standard's words."""


def problem_of(error: Exception) -> Problem:
    """Return what to tell about an error."""
    if isinstance(error, UploadError) and request.endpoint in VIDEO_ENDPOINTS:
        return _no_video(error)
    for kind, status, title, advice in UPLOAD_PROBLEMS:
        if isinstance(error, kind):
            return Problem(status, title, sentence(error), advice, is_upload=True)
    for kind, status, title, advice in VIDEO_PROBLEMS:
        if isinstance(error, kind):
            return Problem(status, title, sentence(error), advice, is_video=True)
    if isinstance(error, NoVideosError):
        return Problem(409, "No videos here", sentence(error))
    if isinstance(error, GoneError):
        advice = "Results are removed when their time is up, or when their owner deletes them."
        return Problem(404, "This result is gone", sentence(error), advice)
    if isinstance(error, NotSenderError):
        advice = "Use the browser that sent it. The link of a single photo or video works for all."
        return Problem(403, "Only for the sender", sentence(error), advice)
    if isinstance(error, BusyError | QueueFullError | DatabaseError | RateLimitExceeded):
        return _problem_that_passes(error)
    if isinstance(error, StorageError):
        return _storage_problem(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _storage_problem(StorageError(error))
    if isinstance(error, CSRFError):
        return _expired_form()
    if isinstance(error, ChosenModelError):
        advice = "Choose another model, or try again later."
        return Problem(503, "This model cannot be used", sentence(error), advice)
    if isinstance(error, ModelError):
        return Problem(503, "No model is loaded", NO_MODEL, "Please try again later.")
    if isinstance(error, RequestEntityTooLarge):
        return _too_large()
    if isinstance(error, HTTPException):
        return _http_problem(error.code or 500, error.description or "")
    return _http_problem(500, "")


NO_MODEL = "Photos cannot be read at the moment: the server runs, but without its model."


def _problem_that_passes(error: Exception) -> Problem:
    """Return the problem of a request that may well succeed a little later."""
    if isinstance(error, QueueFullError):
        detail = "Many videos wait for their turn, so no further one is taken at the moment."
        advice, wait_s = "Please try again in a minute.", QUEUE_RETRY_AFTER_S
        return Problem(503, "Busy", detail, advice, is_video=True, retry_after_s=wait_s)
    if isinstance(error, BusyError):
        detail = "Many photos are being read at the moment."
        if isinstance(error, ClientBusyError):
            detail = sentence(error)
        advice, wait_s = "Please try again.", RETRY_AFTER_S
        return Problem(503, "Busy", detail, advice, is_upload=True, retry_after_s=wait_s)
    if isinstance(error, DatabaseError):
        detail = "The database cannot be reached at the moment."
        advice = "Please try again in a minute."
        title = "Not possible at the moment"
        return Problem(503, title, detail, advice, retry_after_s=DATABASE_RETRY_AFTER_S)
    wait_s = seconds_to_wait()
    detail = (
        error.limit.error_message
        or f"Expected at most {error.limit.limit} from one address; received more."
    )
    advice = f"Please wait {wait_s} second{'' if wait_s == 1 else 's'}, then go on."
    if wait_s > 2 * 3600:
        advice = f"Please come back in {math.ceil(wait_s / 3600)} hours."
    return Problem(429, "Too many at once", detail, advice, retry_after_s=wait_s)


def _expired_form() -> Problem:
    """Return the problem of a form that lacks our mark, or whose mark is no longer valid."""
    return Problem(
        400,
        "The form has expired",
        "Expected a form with this visit's mark; received none, or an old one.",
        "Go back, reload the page and send it again. If that does not help, let this site keep "
        "its cookie.",
    )


def _storage_problem(error: StorageError) -> Problem:
    """Return the problem of results that cannot be written."""
    advice = "Please try again later, or tell the person who runs this server."
    if error.is_full:
        detail = "The server's disk is full, so the results of the photo could not be kept."
        return Problem(507, "No room for the results", detail, advice)
    detail = "The server's folder for results cannot be written to at the moment."
    return Problem(503, "The results could not be kept", detail, advice)


def _too_large() -> Problem:
    """Return the problem of a request that is refused before the photos in it are looked at."""
    settings = current_app.extensions["emotion"].settings
    if request.endpoint in VIDEO_ENDPOINTS:
        return _too_large_video(settings.max_video_mb)
    most_mb = settings.max_upload_mb
    together_mb = (request.max_content_length or 0) // 2**20
    allowed = f"one photo of at most {most_mb:g} MB"
    if together_mb >= 2 * most_mb:
        allowed = f"photos of at most {most_mb:g} MB each and {together_mb} MB together"
    received = "a form with more in it than one photo"
    if (request.content_length or 0) > (request.max_content_length or 0):
        received = f"{request.content_length / 2**20:.1f} MB"
    return Problem(
        413,
        "The file is too large",
        f"Expected {allowed}; received {received}.",
        "A smaller copy of the photo does as well; many photos go in several turns.",
        is_upload=True,
    )


def _no_video(error: UploadError) -> Problem:
    """Return the problem of a request that should bring a video and does not."""
    title, advice = "No video arrived", "Choose one video, then press the button again."
    if isinstance(error, ChoiceError):
        title, advice = "This cannot be chosen", "Go back and choose one that is offered."
    return Problem(400, title, sentence(error), advice, is_video=True)


def _too_large_video(most_mb: float) -> Problem:
    """Return the problem of a video that is refused before it is looked at."""
    return Problem(
        413,
        "The file is too large",
        f"Expected one video of at most {most_mb:g} MB; received more.",
        "Cut it, or save it with a smaller picture: faces need no more than a hundred pixels.",
        is_video=True,
    )


def _http_problem(status: int, detail: str) -> Problem:
    """Return the problem of a status that Flask or Werkzeug gave."""
    phrase = http.HTTPStatus(status).phrase
    title, advice = HTTP_PROBLEMS.get(status, (phrase, ""))
    advice = advice.format(code=request_id())
    return Problem(status, title, sentence(detail) if status == 403 else "", advice)


def sentence(words: object) -> str:
    """Return words as a sentence: a capital at the start, a full stop at the end; "" stays."""
    text = str(words).strip()
    end = "" if not text or text.endswith((".", "!", "?")) else "."
    return text[:1].upper() + text[1:] + end


def handle_problems(app: Flask) -> None:
    """Let one function answer every error of an app."""
    app.register_error_handler(Exception, answer)


def answer(error: Exception) -> ResponseReturnValue:
    """Return the reply to an error, as a page or as JSON."""
    problem = problem_of(error)
    if not isinstance(error, HTTPException | EmotionError):
        current_app.logger.error("unexpected error, code %s", request_id(), exc_info=error)
    elif isinstance(error, BusyError | QueueFullError | RateLimitExceeded):
        # the metrics count them
        g.refused = "rate" if isinstance(error, RateLimitExceeded) else "busy"
    else:
        log_cause(problem.status, error)
    headers = {"Cache-Control": "no-store"}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(problem.retry_after_s)
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        headers["Allow"] = ", ".join(sorted(error.valid_methods))
    if wants_json():
        return as_json(problem, headers)
    return render_template("problem.html", problem=problem), problem.status, headers


def wants_json() -> bool:
    """Tell whether the sender of the current request is a program."""
    if request.path.startswith("/api/") or request.path == "/healthz":
        return True
    kinds = request.accept_mimetypes
    # a browser that opens a page names HTML; who names nothing gets a page as well
    return not kinds.accept_html and kinds.accept_json


def as_json(problem: Problem, headers: dict[str, str]) -> ResponseReturnValue:
    """Return a problem as `application/problem+json`.

    The type is "about:blank", for which RFC 9457 asks that the title be the status's own phrase.
    """
    content = {
        "type": "about:blank",
        "title": http.HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail or " ".join((f"{problem.title}.", problem.advice)).strip(),
    }
    body = json.dumps(content) + "\n"
    return body, problem.status, {**headers, "Content-Type": "application/problem+json"}


def seconds_to_wait() -> int:
    """Return when a client that was refused may send again."""
    broken = current_app.extensions[EXTENSION].current_limit
    # the moment of reset is rounded up already
    return max(1, int(broken.reset_at - time.time())) if broken else 60
