"""While another program writes to the database, reads go on and writes soon fail."""

import sqlite3
import threading
from contextlib import closing

import pytest
import video_job_stand_in as stand_in
from web_support import encoded, make_app, photo_form, photos_form

from emotion.web import connections
from emotion.web.database import Database, VideoRow
from emotion.web.storage import new_id


def two_photos():
    return photos_form(encoded(seed=1), encoded(seed=2))


def stored(folder):
    return sorted(path.name for path in (folder / "uploads").glob("*") if path.name != "videos")


def test_reads_go_on_and_writes_are_answered_503_and_leave_nothing(tmp_path, make, monkeypatch):
    monkeypatch.setattr(connections, "BUSY_TIMEOUT_S", 0.05)
    app = make()
    client, services = app.test_client(), app.extensions["emotion"]
    first = client.post("/", data=two_photos()).location
    now_s = services.storage.clock()
    services.database.add_video(video := VideoRow(new_id(), "", now_s, now_s + 100), "", 1, 1)
    before = stored(tmp_path)
    reads = (first, "/healthz", "/mine", "/api/v1/mine", f"/api/v1/videos/{video.id}")
    writes = {"/": two_photos, "/api/v1/photos": photo_form}
    writes["/api/v1/videos"] = lambda: photo_form(stand_in.sent(), "video.mp4", "video")
    with closing(sqlite3.connect(tmp_path / "instance" / "emotion.sqlite")) as other:
        other.execute("BEGIN IMMEDIATE")
        for path, form in (*writes.items(), ("/mine/delete", dict)):
            reply = client.post(path, data=form())
            assert reply.status_code == 503, path
            assert int(reply.headers["Retry-After"]) > 0
            if path in writes:
                assert stored(tmp_path) == before
            assert [client.get(read).status_code for read in reads] == [200] * len(reads)
        # only its numbers are missing
        assert client.post("/api/v1/recognize", data=photo_form()).status_code == 200
        started_meanwhile = make().test_client()
        for read in ("/healthz", "/mine"):
            assert started_meanwhile.get(read).status_code == 200
    assert client.post("/", data=two_photos()).status_code == 303


@pytest.mark.parametrize("keep_hours", [24, 0])
def test_no_photo_holds_its_turn_while_it_waits_for_the_database(tmp_path, monkeypatch, keep_hours):
    app = make_app(tmp_path, KEEP_HOURS=keep_hours)
    services, in_hand = app.extensions["emotion"], []
    begin = services.database.transaction

    def transaction(**options):
        in_hand.append(services.gate.in_hand)
        return begin(**options)

    monkeypatch.setattr(services.database, "transaction", transaction)
    kept = [("/", photo_form), ("/api/v1/photos", photo_form)] if keep_hours else []
    for path, form in (*kept, ("/", two_photos), ("/api/v1/recognize", photo_form)):
        assert app.test_client().post(path, data=form()).status_code < 400
    assert set(in_hand) == {0}


def test_no_request_waits_for_what_expired_to_be_forgotten(tmp_path, monkeypatch):
    now, answered, forgotten, waited = [1_700_000_000.0], threading.Event(), threading.Event(), []
    app = make_app(tmp_path, clock=lambda: now[0])

    def forget_expired(*_):
        waited.append(answered.wait(20))
        forgotten.set()

    monkeypatch.setattr(Database, "forget_expired", forget_expired)
    now[0] += 3600
    assert app.test_client().get("/healthz").status_code == 200
    answered.set()
    assert forgotten.wait(20)
    assert waited == [True]
