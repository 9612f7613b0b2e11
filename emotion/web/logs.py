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
        sent, received = response.content_length, request.content_length or 0
        fields |= {"received_bytes": received, "sent_bytes": sent}
        fields |= {name: g.get(name, 0) for name in ("photos", "faces")}
        line = "{method} {} {status} {ms:.0f} ms".format(short_path(request.path), **fields)
        logging.getLogger(LOGGER).info("%s", line, extra=fields)
        return response


def request_id() -> str:
    return g.get("request_id", "") if has_request_context() else ""


def route() -> str | None:
    """Return the rule of the current request's address, without keys or names."""
    return request.url_rule.rule if request.url_rule else None


def elapsed_s() -> float:
    now_s = time.perf_counter()
    return now_s - g.get("started_s", now_s)


def short_path(path: str) -> str:
    """Return a path, quoted and not too long, with every id cut, for an id is a key."""
    cut = re.sub(r"([A-Za-z0-9_-]{4})[A-Za-z0-9_-]{12,}", r"\1...", path)
    return quote(cut[:200], safe="/.")


class JsonLines(JsonFormatter):
    """An object a line, the time first; a request is told by its route, not by its path."""

    def __init__(self):
        names = {"levelname": "level", "name": "logger"}
        super().__init__(
            "%(levelname)s %(name)s %(message)s", rename_fields=names, timestamp="time"
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
    text = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S")
    handler.setFormatter(text if is_text else JsonLines())
    logging.basicConfig(handlers=[handler])
    logging.getLogger(LOGGER).setLevel(logging.INFO)
    # it would log every request that waits for a thread
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
