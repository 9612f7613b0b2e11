"""Faces given for training: they wait, are approved or refused, and can be taken back."""

import contextlib
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from web_support import Visit, encoded, make_app, upload

import app
from emotion.errors import WaitingFacesError
from emotion.text import data_url
from emotion.web.feedback import given as given_module
from emotion.web.feedback.given import GivenFaces
from emotion.web.settings import SettingsError

TOKEN = "a-token-of-the-operator"
QUEUE, OPERATOR = "/operator/feedback", {"auth": ("any", TOKEN)}


def ids_of(visit):
    faces = visit.client.get("/api/v1/mine/feedback").json["faces"]
    return {face["emotion"]: face["id"] for face in faces}


@pytest.mark.parametrize("words", ["4 per day", "4 faces"])  # of an address, of a visitor
def test_one_client_fills_neither_the_training_data_nor_the_queue(tmp_path, monkeypatch, words):
    monkeypatch.setattr(given_module, "MOST_OF_VISITOR", 4)
    of_address = "day" in words
    visit = Visit(tmp_path, FEEDBACK_RATE_LIMIT=words if of_address else "10000 per minute")
    statuses = []
    for _ in range(3):
        statuses += [visit.say(number, emotion="fear", keep="yes").status_code for number in (1, 2)]
        visit.photo_id = upload(visit.client).rsplit("/", 1)[-1]
    assert statuses == [303] * 4 + [429] * 2
    assert (len(visit.files()), visit.files("")) == (4, [])
    address = f"/api/v1/photos/{visit.photo_id}/faces/1/feedback"
    refused = visit.client.put(address, json={"emotion": "fear", "keep": True})
    assert (refused.status_code, words in refused.json["detail"]) == (429, True)
    assert (int(refused.headers.get("Retry-After", 0)) > 3600) is of_address
    assert visit.say(emotion="fear").status_code == 303, "the answer alone is taken"
    visit.client = visit.app.test_client()
    visit.photo_id = upload(visit.client).rsplit("/", 1)[-1]
    assert (visit.say(1, emotion="sad", keep="yes").status_code == 429) is of_address
    monkeypatch.setattr(given_module, "MOST", 5)
    assert visit.say(2, emotion="sad", keep="yes").status_code == 429


def test_the_operator_sees_whose_faces_wait_and_decides_on_those_that_were_shown(tmp_path):
    visit = Visit(tmp_path, OPERATOR_TOKEN=TOKEN)
    visit.app.config["WTF_CSRF_ENABLED"] = True
    client, given = visit.app.test_client(), visit.services.given
    names = visit.keep(*[("sad", "one" * 9)] * 3, ("fear", "two" * 9))
    page = client.get(QUEUE, **OPERATOR).text
    visitors = [page.index(name) for name in ("oneoneoneone: 3", "twotwotwotwo: 1")]
    assert visitors == sorted(visitors)
    token = re.search('name="csrf_token" value="(.*?)"', page)[1]
    ticks = {len(tick.split()): tick for tick in re.findall('name="face" value="(.*?)"', page)}
    (later,) = visit.keep(("sad", "one" * 9))
    said = {"face": ticks[3], "decision": "approve"}
    assert client.post(QUEUE, data=said, **OPERATOR).status_code == 400
    for data, status in (({"decision": "no"}, 400), ({}, 303)):
        reply = client.post(QUEUE, data=said | data | {"csrf_token": token}, **OPERATOR)
        assert reply.status_code == status
    assert visit.files("") == sorted(names[:3])
    said = {"face": Path(names[3]).stem, "decision": "refuse", "csrf_token": token}
    assert client.post(QUEUE, data=said, **OPERATOR).location == f"{QUEUE}?refuse=1"
    assert visit.files() == [later] == [face.kept for face in given.find()]


@pytest.mark.parametrize("path", [QUEUE, "/monitoring", "/api/v1/monitoring"])
def test_the_operators_pages_need_the_token(tmp_path, path):
    client = make_app(tmp_path / "token", OPERATOR_TOKEN=TOKEN).test_client()
    assert client.get(path, **OPERATOR).status_code == 200
    for password in ("", TOKEN[:-1], TOKEN + "x", "ä" * 16):
        refused = client.get(path, auth=("any", password))
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"].startswith("Basic ")
    for _ in range(10):
        limited = client.get(path)
    assert (limited.status_code, client.get(path, **OPERATOR).status_code) == (429, 429)
    none = make_app(tmp_path / "none").test_client()
    assert {none.get(path, **one).status_code for one in ({}, OPERATOR)} == {404}
    open_to_all = make_app(tmp_path / "all", OPERATOR_TOKEN=TOKEN, MONITORING="on").test_client()
    assert open_to_all.get(path).status_code == (401 if path == QUEUE else 200)
    with pytest.raises(SettingsError, match="16"):
        make_app(tmp_path, OPERATOR_TOKEN="short")


def test_the_operator_decides_in_the_shell(visit, monkeypatch, capsys):
    for name in ("INSTANCE", "FEEDBACK"):
        monkeypatch.setenv(name, str(getattr(visit.services.settings, name.lower())))
    visit.keep(*[("sad", "a" * 32)] * 2, ("fear", "a" * 32), ("sad", "b" * 32))

    def run(*words):
        return app.main(["feedback", *words]), *capsys.readouterr()

    status, out, err = run()
    assert (status, err, out.splitlines()[-2].split()) == (0, "", ["a" * 32, "3", "1", "2"])
    for words in (["approve"], ["burn", "all"], ["approve", "sad", "happy"], ["refuse", "aaa"]):
        assert run(*words)[:2] == (2, ""), words
    assert len(visit.files()) == 4
    counts = {"approve fear": (3, 1), f"refuse {'a' * 32}": (1, 1), "approve all": (0, 2)}
    for words, found in counts.items():
        assert run(*words.split())[0] == 0
        assert (len(visit.files()), len(visit.files(""))) == found, words


def test_a_face_can_be_taken_back_when_its_photo_is_gone_and_by_nobody_else(tmp_path):
    now_s = [1_795_260_000.0]
    visit = Visit(tmp_path, clock=lambda: now_s[0])
    for number, emotion in ((1, "sad"), (2, "fear")):
        kept = visit.say(number, emotion=emotion, keep="yes")
    year = parsedate_to_datetime(re.search("Expires=(.*?);", kept.headers["Set-Cookie"])[1])
    assert (year - datetime.now(UTC)).days >= 364
    given, ids = visit.services.given, ids_of(visit)
    given.approve([face for face in given.find() if face.emotion == "sad"])
    now_s[0] += 25 * 3600
    visit.services.storage.sweep()
    visit.database.forget_expired(now_s[0])
    page = visit.client.get("/mine").text
    crops = [data_url(given.picture(face)) for face in given.find(given.find()[0].visitor)]
    assert ("2 faces" in page, all(crop in page for crop in crops)) == (True, True)
    sender, visit.client = visit.client, visit.app.test_client()
    upload(visit.client)
    assert (ids_of(visit), "data:image" in visit.client.get("/mine").text) == ({}, False)
    for name, status in ((f"/{ids['sad']}", 404), ("", 204)):
        assert visit.client.delete(f"/api/v1/mine/feedback{name}").status_code == status
    assert visit.client.post(f"/mine/feedback/{ids['sad']}/withdraw").status_code == 404
    assert (len(visit.files()), len(visit.files(""))) == (1, 1)
    visit.client = sender
    assert sender.post(f"/mine/feedback/{ids['sad']}/withdraw").location == "/mine?deleted=1"
    assert (ids_of(visit), visit.files("")) == ({"fear": ids["fear"]}, [])
    assert sender.delete("/api/v1/mine/feedback").status_code == 204
    assert (ids_of(visit), visit.files(), given.find()) == ({}, [], ())


def test_a_refused_or_withdrawn_face_is_not_said_to_be_kept(visit):
    address = f"/api/v1/photos/{visit.photo_id}/faces/1/feedback"
    for withdraw in (
        lambda face: visit.services.given.remove([face]),
        lambda face: visit.client.delete(f"/api/v1/mine/feedback/{face.id}"),
    ):
        visit.say(emotion="sad", keep="yes")
        assert visit.client.get(address).json["kept"] is True
        withdraw(visit.services.given.find()[0])
        assert visit.client.get(address).json["kept"] is False


def test_however_many_come_at_once_no_more_wait_than_may(tmp_path, database, monkeypatch):
    monkeypatch.setattr(given_module, "MOST_OF_VISITOR", 3)
    given = GivenFaces(tmp_path, database)

    def keep(_):
        with contextlib.suppress(WaitingFacesError):
            return given.keep("sad", "somebody", encoded("PNG"))

    with ThreadPoolExecutor(8) as pool:
        assert sum(map(bool, pool.map(keep, range(20)))) == 3
    waiting = given.find()
    given.remove(waiting[:1])
    given.approve(waiting)  # one of which was withdrawn in the meantime
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert files == {face.kept for face in given.find("somebody")} == {f.kept for f in waiting[1:]}
    assert given.find() == ()
