import errno
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from web_support import SHA256, Visit, looking_model

from emotion.errors import DatabaseError, DatasetError, ModelError
from emotion.training.data.layouts import read_layout, resolve_dataset
from emotion.web.database import Database, Opinion
from emotion.web.feedback.given import WAITING, GivenFaces
from emotion.web.photos.faces import give
from emotion.web.storage import StorageError
from emotion.web.visitors import COOKIE

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
        page = f"/results/{visit.photo_id}/faces/2#feedback"
        assert (reply.status_code, reply.location) == (303, page)
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
        page = f"/results/{visit.photo_id}/faces/1#feedback"
        assert (reply.status_code, reply.location) == (303, page)
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
