"""The log (one line a request, nothing about a visitor), health, and memory given back."""

import ctypes
import errno
import io
import json
import logging
import re
from types import SimpleNamespace

import pytest
from sqlalchemy import text
from web_support import StandInDetector, make_app, photo_form, upload

from emotion.errors import BusyError, ModelError
from emotion.web.api import trouble
from emotion.web.limits import Gate
from emotion.web.logs import LOGGER, JsonLines, TextLines, short_path, show_log
from emotion.web.memory import OPTIONS, return_memory_early
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


def test_a_json_line_of_each_request_tells_nothing_of_the_visitor(tmp_path, log):
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
    for secret in ("private", "192.0.2.77", "SecretBrowser", reply.location.rpartition("/")[2]):
        assert secret not in text
    content, *others = map(json.loads, lines())
    assert [other["route"] for other in others] == ["/results/<analysis_id>/<name>.jpg", None]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00", content.pop("time"))
    assert content.pop("request_id") == reply.headers["X-Request-ID"]
    assert content.pop("ms") > 0
    assert content.pop("received_bytes") > 1000
    assert content.pop("sent_bytes") == reply.content_length
    assert (content.pop("photos"), content.pop("faces")) == (1, 2)
    assert content == {
        "level": "INFO",
        "logger": LOGGER,
        "message": "request",
        "method": "POST",
        "route": "/",
        "status": 303,
    }


def test_keys_and_control_characters_in_paths_are_cut():
    for path, shown in (
        ("/results/" + "a" * 22, "/results/aaaa..."),
        ("/sets/" + "-" * 22 + "/faces/1", "/sets/----.../faces/1"),
        ("/a\nb", "/a%0Ab"),
        ("/" + "x." * 300, "/" + "x." * 99 + "x"),
    ):
        assert short_path(path) == shown


def test_ids_of_requests(tmp_path):
    """Each reply has its own; that of a proxy is kept where it is trusted and sane."""
    client = make_app(tmp_path).test_client()
    ids = {client.get(path).headers["X-Request-ID"] for path in ("/", "/", "/nothing", "/healthz")}
    assert len(ids) == 4
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in ids)
    good = "abc-123.DEF_456"
    for proxies, given in ((1, good), (0, good), (1, "short"), (1, "x" * 65), (1, "<script>alert")):
        client = make_app(tmp_path, TRUSTED_PROXIES=proxies).test_client()
        received = client.get("/", headers={"X-Request-ID": given}).headers["X-Request-ID"]
        assert (received == given) == (proxies == 1 and given == good)


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


def test_auto_is_text_in_a_terminal(monkeypatch):
    given, names = {}, (LOGGER, "waitress.queue")
    monkeypatch.setattr(logging, "basicConfig", given.update)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    levels = [logging.getLogger(name).level for name in names]
    for form, is_terminal, kind in (
        ("auto", True, TextLines),
        ("auto", False, JsonLines),
        ("text", False, TextLines),
        ("json", True, JsonLines),
    ):
        monkeypatch.setattr("sys.stderr.isatty", lambda answer=is_terminal: answer, raising=False)
        show_log(form)
        (handler,) = given["handlers"]
        assert isinstance(handler.formatter, kind)
    for name, level in zip(names, levels, strict=True):
        logging.getLogger(name).setLevel(level)


# Health


def test_health_is_told_without_paths(tmp_path, monkeypatch):
    assert trouble(make_app(tmp_path).extensions["emotion"]) == ""
    assert not (tmp_path / "uploads").exists()
    (tmp_path / "uploads").write_text("no folder")
    problem = trouble(make_app(tmp_path).extensions["emotion"])
    assert problem
    assert str(tmp_path) not in problem
    assert trouble(make_app(tmp_path, KEEP_HOURS=0).extensions["emotion"]) == ""


def test_memory_is_given_back_where_the_library_can(monkeypatch):
    for answer in (1, 0):
        told = []
        library = SimpleNamespace(
            mallopt=lambda *one, told=told, answer=answer: told.append(one) or answer
        )
        monkeypatch.setattr(ctypes, "CDLL", lambda name, library=library: library)
        assert return_memory_early() == bool(answer)
        assert told == list(OPTIONS)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    assert not return_memory_early()
