"""The one handler of errors: a page, or problem+json (RFC 9457) for programs."""

import errno
import http
import math
import time
from typing import NamedTuple

from flask import current_app, g, json, render_template, request
from flask.typing import ResponseReturnValue
from flask_limiter import RateLimitExceeded
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge

from emotion.errors import (
    BusyError,
    EmotionError,
    FormExpiredError,
    QueueFullError,
    RateError,
    RequestTooLargeError,
    StorageError,
    VideoTooLargeError,
)
from emotion.text import counted, sentence
from emotion.web.logs import log_cause, request_id

VIDEO_ENDPOINTS = ("videos.upload", "api.add_video")  # their requests may be larger than others
LIMITER = "emotion_rates"
# title and advice by status; other statuses have the standard's words
HTTP_WORDS = {
    403: ("Not from this site", "Open the start page here and send the photo from there."),
    404: ("Page not found", "The address may be mistyped."),
    405: ("This address does not work that way", "The start page takes photos."),
    500: (EmotionError.title, EmotionError.advice),
}


class ApiError(EmotionError):
    """A request that only the API can get wrong."""

    advice = ""
    public = None

    def __init__(self, status: int, detail: str):
        super().__init__(detail)
        self.status, self.title = status, http.HTTPStatus(status).phrase


class Problem(NamedTuple):
    """What a visitor or a program is told about an error; see `EmotionError`."""

    status: int
    title: str
    detail: str
    advice: str
    again: str = ""
    retry_after_s: int | None = None


def problem_of(error: Exception) -> Problem:
    """Return what to tell about an error."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        error = StorageError(error)
    elif isinstance(error, RateLimitExceeded):
        error = _too_often(error)
    elif isinstance(error, CSRFError):
        error = FormExpiredError("expected a form with a valid token; received none, or an old one")
    elif isinstance(error, RequestEntityTooLarge):
        error = _too_large()
    if not isinstance(error, EmotionError):
        status = (error.code or 500) if isinstance(error, HTTPException) else 500
        title, advice = HTTP_WORDS.get(status, (http.HTTPStatus(status).phrase, ""))
        detail = sentence(error.description) if status == 403 else ""
        return Problem(status, title, detail, advice.format(code=request_id()))
    again = "video" if error.again and request.endpoint in VIDEO_ENDPOINTS else error.again
    detail = sentence(error) if error.public is None else error.public
    advice = error.advice.format(code=request_id())
    return Problem(error.status, error.title, detail, advice, again, error.retry_after_s)


def _too_often(error: RateLimitExceeded) -> RateError:
    broken = current_app.extensions[LIMITER].current_limit
    # the moment of reset is rounded up already
    wait_s = max(1, int(broken.reset_at - time.time())) if broken else 60
    at_most = f"expected at most {error.limit.limit} from one address; received more"
    found = RateError(error.limit.error_message or at_most)
    found.advice = f"Please wait {counted(wait_s, 'second')}, then go on."
    if wait_s > 2 * 3600:
        found.advice = f"Please come back in {math.ceil(wait_s / 3600)} hours."
    found.retry_after_s = wait_s
    return found


def _too_large() -> RequestTooLargeError:
    settings = current_app.extensions["emotion"].settings
    if request.endpoint in VIDEO_ENDPOINTS:
        return VideoTooLargeError(
            f"expected one video of at most {settings.max_video_mb:g} MB; received more"
        )
    most_mb = (request.max_content_length or 0) / 2**20
    sent_mb = (request.content_length or 0) / 2**20
    allowed = f"photos of at most {settings.max_upload_mb:g} MB"
    if most_mb >= 2 * settings.max_upload_mb:
        allowed += f" each and {int(most_mb)} MB together"
    is_larger = sent_mb > most_mb
    received = f"{sent_mb:.1f} MB" if is_larger else "a form with more in it than one photo"
    return RequestTooLargeError(f"expected {allowed}; received {received}")


def answer(error: Exception) -> ResponseReturnValue:
    """Return the reply to an error, as a page or as JSON."""
    problem = problem_of(error)
    if not isinstance(error, HTTPException | EmotionError):
        current_app.logger.error("unexpected error, code %s", request_id(), exc_info=error)
    elif isinstance(error, BusyError | QueueFullError | RateLimitExceeded):
        # the metrics count them
        g.refused = "rate" if isinstance(error, RateLimitExceeded) else "busy"
    else:
        # the first error knows more, such as paths that a visitor is not told
        first = error.__cause__ if isinstance(error.__cause__, EmotionError) else error
        log_cause(problem.status, first)
    headers = {"Cache-Control": "no-store"}
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(problem.retry_after_s)
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        headers["Allow"] = ", ".join(sorted(error.valid_methods))
    kinds = request.accept_mimetypes
    # a browser that opens a page names HTML; who names nothing gets a page as well
    is_program = not kinds.accept_html and kinds.accept_json
    if not (is_program or request.path.startswith("/api/") or request.path == "/healthz"):
        return render_template("problem.html", problem=problem), problem.status, headers
    content = {
        "type": "about:blank",  # for which RFC 9457 asks for the status's own phrase as title
        "title": http.HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail or f"{problem.title}. {problem.advice}".strip(),
    }
    headers["Content-Type"] = "application/problem+json"
    return json.dumps(content) + "\n", problem.status, headers
