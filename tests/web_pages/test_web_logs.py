"""The log (one line a request, nothing about a visitor), and health."""

import errno
import io
import json
import logging
import re
from unittest.mock import Mock

import pytest
from web_support import StandInDetector, make_app, make_app_without_model, photo_form, upload

from emotion.web.logs import LOGGER, JsonLines, short_path
from emotion.web.storage import StorageError


@pytest.fixture
def lines():
    stream, logger = io.StringIO(), logging.getLogger(LOGGER)
    handler, level = logging.StreamHandler(stream), logger.level
    handler.setFormatter(JsonLines())
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_a_json_line_of_each_request_tells_nothing_of_the_visitor(tmp_path, lines):
    client = make_app(tmp_path).test_client()
    reply = client.post(
        "/",
        data=photo_form(name="private.jpg"),
        environ_overrides={"REMOTE_ADDR": "192.0.2.77"},
        headers={"User-Agent": "SecretBrowser"},
    )
    client.get(f"{reply.location}/face-1.jpg?download=1")
    client.get("/private-page")
    for secret in ("private", "192.0.2.77", "SecretBrowser", reply.location.rpartition("/")[2]):
        assert secret not in str(lines())
    content, *others = lines()
    assert [other["route"] for other in others] == ["/results/<analysis_id>/<name>.jpg", None]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+\+00:00", content.pop("time"))
    assert content.pop("request_id") == reply.headers["X-Request-ID"]
    assert content.pop("ms") > 0
    assert content.pop("received_bytes") > 1000
    assert content.pop("sent_bytes") == reply.content_length
    told = {"level": "INFO", "logger": LOGGER, "message": "request", "photos": 1, "faces": 2}
    assert content == told | {"method": "POST", "route": "/", "status": 303}
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
    clients = [make_app(tmp_path, TRUSTED_PROXIES=n).test_client() for n in (0, 1)]
    for proxies, given in ((1, good), (0, good), (1, "short"), (1, "x" * 65), (1, "<script>alert")):
        reply = clients[proxies].get("/", headers={"X-Request-ID": given})
        assert (reply.headers["X-Request-ID"] == given) == (proxies == 1 and given == good)


HARMS = {
    # what is harmed: (address, status, words of the cause)
    "database": ("/", 503, "file is not a database"),
    "health": ("/healthz", 503, "file is not a database"),
    "disk": ("/api/v1/photos", 507, "No space left"),
    "model": ("/api/v1/recognize", 503, "a.json"),
    "gate": ("/", 503, None),  # the metrics count it
}


@pytest.mark.parametrize("harm", HARMS)
def test_the_cause_of_503_and_507_is_logged_once(tmp_path, lines, monkeypatch, harm):
    path, status, cause = HARMS[harm]
    app = make_app_without_model(tmp_path) if harm == "model" else make_app(tmp_path)
    services, client = app.extensions["emotion"], app.test_client()
    if harm != "model":
        upload(client)
    if harm in ("database", "health"):
        folder = services.settings.instance
        services.database.close()
        for file in folder.glob("emotion.sqlite*"):
            file.unlink()
        (folder / "emotion.sqlite").write_text("no database, as anybody can see " * 50)
    if harm == "disk":
        full = StorageError(OSError(errno.ENOSPC, "No space left on device"))
        monkeypatch.setattr(services.storage, "save", Mock(side_effect=full))
    if harm == "gate":
        monkeypatch.setattr(services.gate, "in_hand", 2 * services.gate.most)
    reply = client.get(path) if path == "/healthz" else client.post(path, data=photo_form())
    assert reply.status_code == status
    found = [line for line in lines() if line["level"] == "WARNING"]
    assert len(found) == (cause is not None)
    for line in found:
        code = reply.headers["X-Request-ID"]
        assert line["request_id"] == code
        assert code in line["message"]
        assert cause in line["message"]
        assert cause not in reply.text or cause == "a.json"


def test_no_key_of_a_photo_is_in_the_cause(tmp_path, lines):
    app = make_app(tmp_path)
    client = app.test_client()
    key = upload(client).rpartition("/")[2]
    trigger = "CREATE TRIGGER t BEFORE DELETE ON photos BEGIN SELECT RAISE(ABORT, 'a trigger'); END"
    with app.extensions["emotion"].database.transaction(writes=True) as connection:
        connection.exec_driver_sql(trigger)
    assert client.post(f"/results/{key}/delete").status_code == 503
    assert "a trigger" in str(lines())
    assert key not in str(lines())


class Broken(StandInDetector):
    def detect(self, image):
        raise RuntimeError("secret detail")


@pytest.mark.parametrize("door", ["/", "/api/v1/recognize"])
def test_a_mistake_of_ours_is_found_by_the_code_in_the_reply(tmp_path, lines, door):
    client = make_app(tmp_path, detector=Broken()).test_client()
    reply = client.post(door, data=photo_form())
    code = reply.headers["X-Request-ID"]
    assert reply.status_code == 500
    assert f"the code {code}" in " ".join(reply.text.split())
    assert "secret detail" not in reply.text
    error, request = lines()
    assert (error["level"], error["request_id"], request["request_id"]) == ("ERROR", code, code)
    assert "RuntimeError: secret detail" in error["exc_info"]
    assert request["status"] == 500


def test_health_is_told_without_paths(tmp_path):
    def health(**settings):
        return make_app(tmp_path, **settings).test_client().get("/healthz")

    assert health().status_code == 200
    assert not (tmp_path / "uploads").exists()
    (tmp_path / "uploads").write_text("no folder")
    problem = health()
    assert problem.status_code == 503
    assert str(tmp_path) not in problem.text
    assert health(KEEP_HOURS=0).status_code == 200
