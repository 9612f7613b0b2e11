"""The one handler of errors: a page, or problem+json (RFC 9457) for programs."""

import errno
import http
import time

from flask import current_app, g, json, render_template, request
from flask.typing import ResponseReturnValue
from flask_limiter import RateLimitExceeded
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge, Unauthorized

from emotion import errors
from emotion.errors import EmotionError
from emotion.text import duration, sentence
from emotion.web.logs import request_id

VIDEO_ENDPOINTS = ("videos.upload", "api.add_video")  # their requests may be larger than others
LIMITER = "emotion_rates"
# title and advice by status; other statuses have the standard's words
HTTP_WORDS = {
    403: ("Not from this site", "Open the start page here and send the photo from there."),
    401: ("Only for the operator", "The password is the setting OPERATOR_TOKEN; any name will do."),
    404: ("Page not found", "The address may be mistyped."),
    405: ("This address does not work that way", "The start page takes photos."),
    500: (EmotionError.title, EmotionError.advice),
}

API_WORDS = {  # the same for programs
    404: "Expected an address of the API; received another. The page /api lists them.",
    405: "Expected a method that this address takes, see Allow; received another.",
}


def problem_of(error: Exception) -> dict:
    """Return what a visitor or a program is told about an error; see `EmotionError`."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        error = errors.StorageError(error)
    elif isinstance(error, RateLimitExceeded):
        error = _too_often(error)
    elif isinstance(error, CSRFError):
        words = "expected a form with a valid token; received none, or an old one"
        error = errors.FormExpiredError(words)
    elif isinstance(error, RequestEntityTooLarge):
        error = _too_large()
    if isinstance(error, EmotionError):
        known = {name: getattr(error, name) for name in ("status", "title", "retry_after_s")}
        detail, advice = sentence(error) if error.public is None else error.public, error.advice
        is_video = error.again and request.endpoint in VIDEO_ENDPOINTS
        known["again"] = "video" if is_video else error.again
    else:
        is_known = isinstance(error, HTTPException)
        status = error.code or 500 if is_known else 500
        title, advice = HTTP_WORDS.get(status, (http.HTTPStatus(status).phrase, ""))
        known = {"status": status, "title": title, "retry_after_s": None}
        # only what `abort` was given: the library's own words belong to the class
        detail = vars(error).get("description") or "" if is_known else ""
    return known | {"detail": detail, "advice": advice.format(code=request_id())}


def _too_often(error: RateLimitExceeded) -> errors.RateError:
    broken = current_app.extensions[LIMITER].current_limit
    # the moment of reset is rounded up already
    wait_s = max(1, int(broken.reset_at - time.time())) if broken else 60
    at_most = f"expected at most {error.limit.limit} from one address; received more"
    found = errors.RateError(error.limit.error_message or at_most)
    found.advice, found.retry_after_s = f"Please wait {duration(wait_s)}, then go on.", wait_s
    return found


def _too_large() -> errors.RequestTooLargeError:
    settings = current_app.extensions["emotion"].settings
    if request.endpoint in VIDEO_ENDPOINTS:
        words = f"expected one video of at most {settings.max_video_mb:g} MB; received more"
        return errors.VideoTooLargeError(words)
    most_mb, photo_mb = (request.max_content_length or 0) / 2**20, settings.max_upload_mb
    together = f" each and {int(most_mb)} MB together" if most_mb >= 2 * photo_mb else ""
    words = f"expected a form with photos of at most {photo_mb:g} MB{together} and little else"
    return errors.RequestTooLargeError(f"{words}; received more")


def answer(error: Exception) -> ResponseReturnValue:
    problem = problem_of(error)
    status = problem["status"]
    if not isinstance(error, HTTPException | EmotionError):
        current_app.logger.error("unexpected error, code %s", request_id(), exc_info=error)
    elif isinstance(error, errors.BusyError | errors.QueueFullError | RateLimitExceeded):
        g.refused = "rate" if isinstance(error, RateLimitExceeded) else "busy"  # for the metrics
    elif status in (503, 507):
        # the first error knows more, such as paths that a visitor is not told
        first = error.__cause__ if isinstance(error.__cause__, EmotionError) else error
        current_app.logger.warning("%d, code %s: %s", status, request_id(), first)
    headers = {"Cache-Control": "no-store"}
    if problem["retry_after_s"] is not None:
        headers["Retry-After"] = str(problem["retry_after_s"])
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        headers["Allow"] = ", ".join(sorted(error.valid_methods))
    if isinstance(error, Unauthorized):
        asked = error.www_authenticate or 'Basic realm="operator", charset="UTF-8"'
        headers["WWW-Authenticate"] = str(asked)
    kinds = request.accept_mimetypes
    # a browser that opens a page names HTML; who names nothing gets a page as well
    is_program = not kinds.accept_html and kinds.accept_json
    if not (is_program or request.path.startswith("/api/") or request.path == "/healthz"):
        return render_template("problem.html", problem=problem), status, headers
    content = {
        "type": "about:blank",  # for which RFC 9457 asks for the status's own phrase as title
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "detail": problem["detail"]
        or API_WORDS.get(status, "{title}. {advice}".format(**problem).strip()),
    }
    headers["Content-Type"] = "application/problem+json"
    return json.dumps(content) + "\n", status, headers
