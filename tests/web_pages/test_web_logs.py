"""The log: one line a request, as text or JSON, and nothing in it about a visitor."""

import errno
import io
import json
import logging
import re

import pytest
from sqlalchemy import text
from web_support import StandInDetector, make_app, make_app_without_model, photo_form, upload

from emotion.errors import ModelError
from emotion.web.errors import BusyError
from emotion.web.limits import Gate
from emotion.web.logs import LOGGER, JsonLines, TextLines, request_id, short_path, show_log
from emotion.web.services import Services
from emotion.web.storage import Storage, StorageError


class Broken(StandInDetector):
    def detect(self, image):
        raise RuntimeError("secret detail")


@pytest.fixture
def log():
    """Give what the app logs, as the lines of a form."""
    stream, logger = io.StringIO(), logging.getLogger(LOGGER)
    handler, level = logging.StreamHandler(stream), logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)

    def lines(form):
        handler.setFormatter(form())
        return lambda: stream.getvalue().splitlines()

    yield lines
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_json_line_of_a_request(tmp_path, log):
    lines = log(JsonLines)
    reply = make_app(tmp_path).test_client().post("/", data=photo_form(name="private.jpg"))
    (line,) = lines()
    content = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00", content.pop("time"))
    assert content.pop("request_id") == reply.headers["X-Request-ID"]
    assert content.pop("ms") > 0
    assert content.pop("received_bytes") > 1000
    assert content.pop("sent_bytes") == reply.content_length
    # the code that reads photos notes how many
    assert {"photos", "faces"} <= set(content)
    del content["photos"], content["faces"]
    assert content == {
        "level": "INFO",
        "logger": LOGGER,
        "message": "request",
        "method": "POST",
        "route": "/",
        "status": 303,
    }


def test_json_lines_tell_no_name_no_address_and_no_key(tmp_path, log):
    lines = log(JsonLines)
    client = make_app(tmp_path).test_client()
    reply = client.post(
        "/",
        data=photo_form(name="private.jpg"),
        environ_overrides={"REMOTE_ADDR": "192.0.2.77"},
        headers={"User-Agent": "SecretBrowser"},
    )
    client.get(f"{reply.location}/face-1.jpg?download=1")
    client.get("/private-page")
    text = "\n".join(lines())
    assert [json.loads(line)["route"] for line in lines()] == [
        "/",
        "/results/<analysis_id>/<name>.jpg",
        None,
    ]
    for secret in ("private", "192.0.2.77", "SecretBrowser", reply.location.rpartition("/")[2]):
        assert secret not in text


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/results/" + "a" * 22, "/results/aaaa..."),
        ("/sets/" + "-" * 22 + "/faces/1", "/sets/----.../faces/1"),
        ("/api/v1/recognize", "/api/v1/recognize"),
        ("/a\nb", "/a%0Ab"),
        ("/" + "x." * 300, "/" + "x." * 99 + "x"),
    ],
)
def test_short_path(path, shown):
    assert short_path(path) == shown


def test_every_reply_has_an_id_of_its_own(tmp_path):
    client = make_app(tmp_path).test_client()
    ids = {client.get(path).headers["X-Request-ID"] for path in ("/", "/", "/nothing", "/healthz")}
    assert len(ids) == 4
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in ids)
    assert request_id() == ""


@pytest.mark.parametrize(
    ("proxies", "given", "is_kept"),
    [
        (1, "abc-123.DEF_456", True),
        (0, "abc-123.DEF_456", False),
        (1, "short", False),
        (1, "x" * 65, False),
        (1, "<script>alert", False),
    ],
)
def test_the_id_of_a_proxy_is_kept_where_it_is_trusted_and_sane(tmp_path, proxies, given, is_kept):
    client = make_app(tmp_path, TRUSTED_PROXIES=proxies).test_client()
    received = client.get("/", headers={"X-Request-ID": given}).headers["X-Request-ID"]
    assert (received == given) == is_kept


def no_database(folder, monkeypatch):
    for file in (folder / "instance").glob("emotion.sqlite*"):
        file.unlink()
    (folder / "instance" / "emotion.sqlite").write_text("no database, as anybody can see " * 50)


def full_disk(folder, monkeypatch):
    def fail(*_):
        raise StorageError(OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(Storage, "save", fail)


def no_model(folder, monkeypatch):
    monkeypatch.setattr(Services, "require_recognizer", broken_model)


def broken_model(*_):
    raise ModelError("expected a model as a.json; it is missing")


def busy(folder, monkeypatch):
    monkeypatch.setattr(Gate, "_enter", refuse)


def refuse(*_):
    raise BusyError("expected a free place")


@pytest.mark.parametrize(
    ("harm", "path", "status", "cause"),
    [
        (no_database, "/", 503, "file is not a database"),
        (no_database, "/healthz", 503, "file is not a database"),
        (full_disk, "/api/v1/photos", 507, "No space left"),
        (no_model, "/api/v1/recognize", 503, "a.json"),
        (no_model, "/healthz", 503, "a.json"),
        (busy, "/", 503, None),  # the metrics count it
    ],
)
def test_the_cause_of_503_and_507_is_logged_once(
    tmp_path, log, monkeypatch, harm, path, status, cause
):
    lines = log(JsonLines)
    client = make_app(tmp_path).test_client()
    client.post("/", data=photo_form())
    harm(tmp_path, monkeypatch)
    reply = client.get(path) if path == "/healthz" else client.post(path, data=photo_form())
    assert reply.status_code == status
    found = [line for line in map(json.loads, lines()) if line["level"] == "WARNING"]
    assert len(found) == (cause is not None)
    for line in found:
        code = reply.headers["X-Request-ID"]
        assert line["request_id"] == code
        assert code in line["message"]
        assert cause in line["message"]
        assert cause not in reply.text or harm is no_model


@pytest.mark.parametrize("path", ["/", "/live"])
def test_a_page_that_needs_a_model_logs_why_there_is_none(tmp_path, log, path):
    lines = log(TextLines)
    client = make_app_without_model(tmp_path, "expected a.json; it is missing").test_client()
    code = client.get(path).headers["X-Request-ID"]
    (warning,) = [line for line in lines() if "a.json" in line]
    assert code in warning


def test_no_key_of_a_photo_is_in_the_cause(tmp_path, log):
    lines = log(TextLines)
    app = make_app(tmp_path)
    client = app.test_client()
    key = upload(client).rpartition("/")[2]
    with app.extensions["emotion"].database.transaction(writes=True) as connection:
        connection.execute(
            text(
                "CREATE TRIGGER t BEFORE DELETE ON photos BEGIN "
                "SELECT RAISE(ABORT, 'a trigger'); END"
            )
        )
    assert client.post(f"/results/{key}/delete").status_code == 503
    assert any("a trigger" in line for line in lines())
    assert key not in "\n".join(lines())


@pytest.mark.parametrize("door", ["/", "/api/v1/recognize"])
def test_a_mistake_of_ours_is_found_by_the_code_in_the_reply(tmp_path, log, door):
    lines = log(JsonLines)
    client = make_app(tmp_path, detector=Broken()).test_client()
    reply = client.post(door, data=photo_form())
    code = reply.headers["X-Request-ID"]
    assert reply.status_code == 500
    assert f"the code {code}" in " ".join(reply.text.split())
    assert "secret detail" not in reply.text
    error, request = map(json.loads, lines())
    assert (error["level"], error["request_id"], request["request_id"]) == ("ERROR", code, code)
    assert "RuntimeError: secret detail" in error["exc_info"]
    assert request["status"] == 500


@pytest.mark.parametrize(
    ("form", "is_terminal", "kind"),
    [
        ("auto", True, TextLines),
        ("auto", False, JsonLines),
        ("text", False, TextLines),
        ("json", True, JsonLines),
    ],
)
def test_auto_is_text_in_a_terminal(monkeypatch, form, is_terminal, kind):
    given = {}
    monkeypatch.setattr(logging, "basicConfig", given.update)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    monkeypatch.setattr("sys.stderr.isatty", lambda: is_terminal, raising=False)
    names = (LOGGER, "waitress.queue")
    levels = [logging.getLogger(name).level for name in names]
    show_log(form)
    for name, level in zip(names, levels, strict=True):
        logging.getLogger(name).setLevel(level)
    (handler,) = given["handlers"]
    assert isinstance(handler.formatter, kind)
