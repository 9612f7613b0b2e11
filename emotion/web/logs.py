"""The log: one line a request, as text for a terminal or as JSON for a collector.

No line holds a photo, the name of a file, a visitor's address or the whole id of a result.
"""

import logging
import re
import secrets
import sys
import time
from urllib.parse import quote

from flask import Flask, Response, g, has_request_context, request
from pythonjsonlogger.json import JsonFormatter

LOGGER = "emotion.web"
ID_HEADER = "X-Request-ID"
ID_PATTERN = re.compile(r"[A-Za-z0-9._-]{8,64}")  # what a proxy in front may give a request
TEXT_LINES = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S")


def log_requests(app: Flask, proxies: int) -> None:
    """Give every request an id, its own where `proxies` are trusted, and a line in the log."""

    @app.before_request
    def begin() -> None:
        g.started_s = time.perf_counter()
        given = request.headers.get(ID_HEADER, "") if proxies else ""
        g.request_id = given if ID_PATTERN.fullmatch(given) else secrets.token_hex(8)

    @app.after_request
    def log_request(response: Response) -> Response:
        response.headers[ID_HEADER] = request_id()
        fields = {"request_id": request_id(), "method": request.method[:16], "route": route()}
        fields |= {"status": response.status_code, "ms": round(elapsed_s() * 1000, 1)}
        fields |= {"received_bytes": request.content_length or 0}
        fields |= {"sent_bytes": response.content_length}
        fields |= {name: g.get(name, 0) for name in ("photos", "faces")}
        line = "{method} {} {status} {ms:.0f} ms".format(short_path(request.path), **fields)
        logging.getLogger(LOGGER).info("%s", line, extra=fields)
        return response


def request_id() -> str:
    """Return the id of the current request; "" outside of one."""
    return g.get("request_id", "") if has_request_context() else ""


def route() -> str | None:
    """Return the rule of the current request's address, without keys or names."""
    return request.url_rule.rule if request.url_rule else None


def elapsed_s() -> float:
    """Return how long the current request has taken so far."""
    now_s = time.perf_counter()
    return now_s - g.get("started_s", now_s)


def note_photo(faces: int) -> None:
    """Note that the current request read a photo, for its line of the log and for the metrics."""
    g.photos = g.get("photos", 0) + 1
    g.faces = g.get("faces", 0) + faces


def log_cause(status: int, cause: object) -> None:
    """Log why the current request is answered 503 or 507; other answers say it themselves."""
    if status in (503, 507):
        logging.getLogger(LOGGER).warning("%d, code %s: %s", status, request_id(), cause)


def short_path(path: str) -> str:
    """Return a path: quoted, not too long, and with every id cut, for an id is a key."""
    cut = re.sub(r"([A-Za-z0-9_-]{4})[A-Za-z0-9_-]{12,}", r"\1...", path)
    return quote(cut[:200], safe="/.")


class JsonLines(JsonFormatter):
    """An object a line, the time first; a request is told by its route, not by its path."""

    def __init__(self):
        super().__init__(
            "%(levelname)s %(name)s %(message)s",
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
        )

    def process_log_record(self, log_data: dict) -> dict:
        if "route" in log_data:
            log_data["message"] = "request"
        log_data.setdefault("request_id", request_id() or None)
        return {"time": log_data.pop("time"), **log_data}


def show_log(form: str) -> None:
    """Send the log to stderr as "text", as "json", or "auto": text in a terminal, else JSON."""
    is_text = form == "text" or (form == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler()
    handler.setFormatter(TEXT_LINES if is_text else JsonLines())
    logging.basicConfig(handlers=[handler])
    logging.getLogger(LOGGER).setLevel(logging.INFO)
    # it would log every request that waits for a thread
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
