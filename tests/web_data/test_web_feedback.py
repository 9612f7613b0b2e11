import contextlib
import errno
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from web_support import SHA256, encoded, looking_model, make_app, upload

import app
from emotion.errors import DatabaseError, DatasetError, ModelError, WaitingFacesError
from emotion.text import data_url
from emotion.training.data.layouts import read_layout, resolve_dataset
from emotion.web.database import Database, Opinion
from emotion.web.feedback.given import WAITING, GivenFaces
from emotion.web.photos.faces import give
from emotion.web.settings import SettingsError
from emotion.web.storage import StorageError
from emotion.web.visitors import COOKIE


class Visit:
    """A visitor with a photo of two faces: the first happy, the second perhaps angry."""

    def __init__(self, folder, **options):
        self.app = make_app(folder, **options)
        self.client = self.app.test_client()
        self.services = self.app.extensions["emotion"]
        self.database = self.services.database
        self.folder = self.services.settings.feedback
        self.photo_id = upload(self.client).rsplit("/", 1)[-1]

    def say(self, number=1, path="", photo_id=None, **fields):
        rule = f"/results/{photo_id or self.photo_id}/faces/{number}/feedback{path}"
        return self.client.post(rule, data=fields)

    def opinion(self, number=1):
        return self.database.opinion_on(self.photo_id, number)

    def counted(self):
        rows = self.database.counts().opinions
        return sorted((row.given, row.chosen, row.opinions) for row in rows)

    def keep(self, *faces):
        crop = self.services.storage.read_picture(self.photo_id, "input-1.png")
        return [self.services.given.keep(*face, crop) for face in faces]

    def files(self, place=WAITING):
        folder = self.folder / place
        return sorted(path.relative_to(folder).as_posix() for path in folder.glob("[!.]*/*"))


@pytest.fixture
def visit(tmp_path):
    return Visit(tmp_path)


BODIES = (
    *((body, "application/json", 400) for body in (
        b"", b"{", b"\xff", b"[" * 4000, b"[]", b"{}", b'{"emotion": 1}',
        b'{"emotion": "sad", "keep": "yes"}', b'{"emotion": "sad", "file": "/etc/passwd"}',
        b'{"emotion": "../sad"}', b'{"emotion": "\\ud800"}',
    )),
    (b'{"emotion": "sad"}', "application/x-www-form-urlencoded", 415),
    (b'{"emotion": "sad"}' + b" " * 5000, "application/json", 413),
    (b'{"emotion": "sad"}', "application/json; charset=utf-8", 200),
)  # fmt: skip


def test_an_opinion_is_counted_and_without_the_tick_no_face_is_kept(visit):
    for fields in ({}, {"emotion": ""}, {"emotion": "../sad"}, {"emotion": "Sad"}):
        assert visit.say(**fields, keep="yes").status_code == 400
    for path in ("", "/withdraw"):
        for number, photo_id in ((0, None), (3, None), (10**30, None), (1, "A" * 22), (1, "..")):
            reply = visit.say(number, path, photo_id, emotion="sad", keep="yes")
            assert reply.status_code == 404
    assert visit.opinion() is None
    for tick in ({}, {"keep": ""}, {"keep": "on"}):
        reply = visit.say(2, emotion="fear", **tick)
        assert (reply.status_code, reply.location) == (303, f"/results/{visit.photo_id}/faces/2")
    said = visit.opinion(2)
    assert said == Opinion(visit.photo_id, 2, "angry", "fear", SHA256, said.said_s, "")
    assert visit.counted() == [("angry", "fear", 1)]
    # by the API
    address, client = f"/api/v1/photos/{visit.photo_id}/faces/1/feedback", visit.client
    assert client.get(address).status_code == 404
    for body, kind, status in BODIES:
        reply = client.put(address, data=body, content_type=kind)
        assert (reply.status_code, "passwd" in reply.text) == (status, False), body
    facts = {"emotion": "sad", "given": "happy", "agrees": False, "kept": False}
    assert client.get(address).json == reply.json == facts | {"said": reply.json["said"]}
    assert [client.delete(address).status_code for _ in range(2)] == [204, 204]
    assert visit.opinion(1) is None
    assert not visit.folder.exists()


def test_a_ticked_face_is_kept_as_the_model_saw_it_until_replaced_or_withdrawn(tmp_path):
    seen, model = [], looking_model()
    watched = replace(model, run=lambda faces: (seen.append(faces), model.run(faces))[1])
    visit = Visit(tmp_path, model=watched)
    visit.say(2, emotion="sad", keep="yes")
    kept = visit.opinion(2).kept
    assert visit.files() == [kept]
    assert (kept.startswith("sad/"), visit.photo_id in kept) == (True, False)
    picture = Image.open(visit.folder / WAITING / kept)
    assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (48, 48))
    # a model may be shown the mirrored face after the face itself
    shown = np.round(seen[0][1, ..., 0] * 255)
    assert np.abs(np.asarray(picture) - shown).max() <= 1
    visit.say(2, emotion="fear", keep="yes")
    assert visit.files() == [visit.opinion(2).kept] != [kept]
    visit.say(2, emotion="fear")
    assert visit.files() == []
    for number in (1, 2):
        visit.say(number, emotion="sad", keep="yes")
    for _ in range(2):
        reply = visit.say(1, "/withdraw")
        assert (reply.status_code, reply.location) == (303, f"/results/{visit.photo_id}/faces/1")
    assert visit.opinion(1) is None
    assert visit.files() == [visit.opinion(2).kept]
    assert [opinions for *_, opinions in visit.counted()] == [1]
    # also where the face was taken away for training
    (visit.folder / WAITING / visit.opinion(2).kept).unlink()
    assert visit.say(2, "/withdraw").status_code == 303
    assert visit.opinion(2) is None


def test_a_given_face_and_a_number_stay_for_training_when_the_photos_time_is_up(tmp_path):
    now_s = [1_795_260_000.0]
    visit = Visit(tmp_path, clock=lambda: now_s[0])
    visit.say(1, emotion="sad", keep="yes")
    visit.say(2, emotion="fear", keep="yes")
    files = visit.files()
    now_s[0] += 25 * 3600
    visit.database.forget_expired(now_s[0])
    assert visit.say(emotion="fear").status_code == 404
    assert (visit.opinion(), visit.files()) == (None, files)
    assert visit.counted() == [("angry", "fear", 1), ("happy", "sad", 1)]
    with pytest.raises(DatasetError):
        read_layout(resolve_dataset(visit.folder))
    visit.services.given.approve(visit.services.given.find())
    assert (visit.files(), visit.files("")) == ([], files)
    # what a process that was killed leaves behind
    (visit.folder / "sad" / ".part-x").mkdir()
    (visit.folder / "sad" / ".part-x" / "half.png").write_bytes(b"half")
    dataset = read_layout(resolve_dataset(visit.folder))
    assert (dataset.class_names, dataset.unreadable) == (("fear", "sad"), ())
    assert np.bincount(dataset.labels).tolist() == [1, 1]


WAYS_TO_DELETE = (
    *("POST /results/{photo}/delete", "POST /sets/{set}/delete", "POST /mine/delete"),
    *("DELETE /api/v1/photos/{photo}", "DELETE /api/v1/sets/{set}", "DELETE /api/v1/mine"),
)


def delete(visit, way, client=None):
    method, path = way.split()
    keys = {"photo": visit.photo_id, "set": visit.services.storage.load(visit.photo_id).set_id}
    return (client or visit.client).open(path.format(**keys), method=method).status_code


@pytest.mark.parametrize("way", WAYS_TO_DELETE)
def test_given_faces_are_deleted_with_the_photo_and_numbers_stay(visit, way):
    visit.say(1, emotion="sad", keep="yes")
    visit.say(2, emotion="fear", keep="yes")
    assert delete(visit, way) in (204, 303)
    assert visit.files() == []
    assert visit.opinion(1) is visit.opinion(2) is None
    assert visit.counted() == [("angry", "fear", 1), ("happy", "sad", 1)]


def test_a_client_gives_so_many_faces_a_day_whatever_its_cookie(tmp_path):
    visit = Visit(tmp_path, FEEDBACK_RATE_LIMIT="2 per day")
    for number in (1, 2):
        assert visit.say(number, emotion="sad", keep="yes").status_code == 303
    files = visit.files()
    address = f"/api/v1/photos/{visit.photo_id}/faces/1/feedback"
    refused = visit.client.put(address, json={"emotion": "fear", "keep": True})
    assert (refused.status_code, "2 per day" in refused.json["detail"]) == (429, True)
    assert int(refused.headers["Retry-After"]) > 3600
    visit.client = visit.app.test_client()
    visit.photo_id = upload(visit.client).rsplit("/", 1)[-1]
    assert visit.say(emotion="fear", keep="yes").status_code == 429
    assert (visit.opinion(), visit.files()) == (None, files)
    assert visit.say(emotion="fear").status_code == 303


def test_what_cannot_be_written_or_removed_changes_nothing(visit, monkeypatch):
    def write_half(picture, path, **_):
        path.write_bytes(picture.tobytes()[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    refuse = Mock(side_effect=OSError(errno.EROFS, "Read-only file system"))
    be_away = Mock(side_effect=DatabaseError("expected a database; it cannot be reached"))
    visit.folder.write_text("in the way")
    reply = visit.say(emotion="sad", keep="yes")
    assert (reply.status_code, str(visit.folder) in reply.text) == (503, False)
    assert visit.opinion() is None
    assert visit.say(emotion="sad").status_code == 303
    visit.folder.unlink()
    visit.say(emotion="sad", keep="yes")
    before = visit.opinion()
    with monkeypatch.context() as full:
        full.setattr(Image.Image, "save", write_half)
        assert visit.say(emotion="fear", keep="yes").status_code == 507
    with monkeypatch.context() as away:
        for name in ("say", "opinion_on", "withdraw"):
            away.setattr(visit.database, name, be_away)
        page = visit.client.get(f"/results/{visit.photo_id}/faces/1")
        assert (page.status_code, "cannot be saved" in page.text) == (200, True)
        refused = [visit.say(1, path, emotion="fear", keep="yes") for path in ("", "/withdraw")]
        assert [reply.status_code for reply in refused] == [503] * 2
    with monkeypatch.context() as read_only:
        read_only.setattr(Path, "unlink", refuse)
        refused = [visit.say(1, "/withdraw"), visit.say(emotion="fear")]
        refused += [visit.client.post("/mine/delete")]
        assert [reply.status_code for reply in refused] == [503] * 3
    assert (visit.opinion(), visit.files()) == (before, [before.kept])
    # the face is still known
    assert visit.client.post("/mine/delete").status_code == 303
    assert visit.files() == []


def test_two_at_once_leave_one_face(visit, monkeypatch):
    """The second opinion comes in the middle of the first one, then of a withdrawal."""
    database = visit.database
    visit.say(emotion="sad", keep="yes")
    ask, withdraw = database.opinion_on, database.withdraw

    def ask_before_another_says_something(photo_id, number):
        earlier = ask(photo_id, number)
        monkeypatch.setattr(database, "opinion_on", ask)
        give(photo_id, number, "disgust", True)
        return earlier

    monkeypatch.setattr(database, "opinion_on", ask_before_another_says_something)
    visit.say(emotion="fear", keep="yes")
    assert visit.files() == [visit.opinion().kept]
    assert visit.counted() == [("happy", "fear", 1)]

    def withdraw_after_another_said_something(photo_id, number):
        give(photo_id, number, "disgust", True)
        return withdraw(photo_id, number)

    monkeypatch.setattr(database, "withdraw", withdraw_after_another_said_something)
    visit.say(1, "/withdraw")
    assert (visit.opinion(), visit.files()) == (None, [])


@pytest.mark.parametrize("way", [WAYS_TO_DELETE[0], WAYS_TO_DELETE[4]])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_photo_deleted_while_something_is_said_leaves_no_face(visit, monkeypatch, way, moment):
    database, say = visit.database, visit.database.say

    def say_while_another_deletes(opinion):
        monkeypatch.setattr(database, "say", say)
        replaced = say(opinion) if moment == "after" else None
        other = visit.app.test_client()
        other.set_cookie(COOKIE, visit.client.get_cookie(COOKIE).value)
        delete(visit, way, other)
        return say(opinion) if moment == "before" else replaced

    monkeypatch.setattr(database, "say", say_while_another_deletes)
    assert visit.say(emotion="sad", keep="yes").status_code == 404
    assert (visit.opinion(), visit.files()) == (None, [])


def test_classes_and_crops_that_cannot_be_kept(tmp_path):
    given = GivenFaces(tmp_path / "feedback", Database(f"sqlite:///{tmp_path}/a.sqlite"))
    for name in ("..", ".", "a/b", "/etc", "a\\b", ".part-x"):
        with pytest.raises(ModelError, match="folders"):
            given.keep(name, "v", b"")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StorageError):
        given.keep("sad", "v", b"no picture")
    assert (list(tmp_path.rglob("*.png")), given.find()) == ([], ())


# Faces wait, are approved or refused, and can be taken back

TOKEN = "a-token-of-the-operator"
QUEUE, OPERATOR = "/operator/feedback", {"auth": ("any", TOKEN)}


def ids_of(visit):
    faces = visit.client.get("/api/v1/mine/feedback").json["faces"]
    return {face["emotion"]: face["id"] for face in faces}


def test_one_client_fills_neither_the_training_data_nor_the_queue(tmp_path, monkeypatch):
    visit = Visit(tmp_path, FEEDBACK_RATE_LIMIT="10000 per minute")
    statuses = []
    for _ in range(27):
        statuses += [visit.say(number, emotion="fear", keep="yes").status_code for number in (1, 2)]
        visit.photo_id = upload(visit.client).rsplit("/", 1)[-1]
    assert statuses == [303] * 50 + [429] * 4
    assert (len(visit.files()), visit.files("")) == (50, [])
    address = f"/api/v1/photos/{visit.photo_id}/faces/1/feedback"
    refused = visit.client.put(address, json={"emotion": "fear", "keep": True})
    assert (refused.status_code, "50 faces" in refused.json["detail"]) == (429, True)
    assert visit.say(emotion="fear").status_code == 303, "the answer alone is taken"
    visit.client = visit.app.test_client()
    visit.photo_id = upload(visit.client).rsplit("/", 1)[-1]
    assert visit.say(1, emotion="sad", keep="yes").status_code == 303
    monkeypatch.setattr("emotion.web.feedback.given.MOST", 51)
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
    monkeypatch.setattr("emotion.web.feedback.given.MOST_OF_VISITOR", 3)
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
