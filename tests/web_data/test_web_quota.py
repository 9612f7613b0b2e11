"""How much is kept: of one address, of one browser, and while the disk has room."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import sqlalchemy as sql
from web_support import encoded, of, photo_form
from web_videos import form_of, send, wait_for

from emotion.web.videos.queue import KeptRow
from emotion.web.visitors import COOKIE

MOST_MB = 0.2
FORMS = dict.fromkeys(("/", "/api/v1/photos"), photo_form)
FORMS["/api/v1/videos"] = lambda: form_of(pad="x" * int(MOST_MB * 2**20))


def kept_bytes(app):
    with app.extensions["emotion"].database.transaction() as connection:
        return connection.scalar(sql.select(sql.func.sum(KeptRow.bytes))) or 0


def written_bytes(app):
    found = app.extensions["emotion"].settings.uploads.rglob("*")
    return sum(path.stat().st_size for path in found if path.is_file())


def test_an_address_and_a_browser_have_a_quota_until_they_delete(make, tmp_path):
    app = make(MAX_KEPT_MB=MOST_MB)
    client, other = app.test_client(), app.test_client()
    while client.post("/", data=photo_form(), **of(1)).status_code == 303:
        assert kept_bytes(app) == written_bytes(app) <= MOST_MB * 2**20
    before = written_bytes(app)
    files = [path.read_bytes() for path in (tmp_path / "instance").iterdir()]
    assert (before > 0, any(b"192.0.2." in content for content in files)) == (True, False)
    for door, form in FORMS.items():
        for who, number in ((other, 1), (client, 2)):
            reply = who.post(door, data=form(), **of(number))
            assert (reply.status_code, "MB" in reply.text) == (413, True), (door, number)
    assert written_bytes(app) == before
    assert other.post("/", data=photo_form(), **of(3)).status_code == 303
    assert client.delete("/api/v1/mine").status_code == 204
    assert client.post("/", data=photo_form(), **of(1)).status_code == 303


@pytest.mark.parametrize(
    ("bound", "set_id", "refused"),
    [({"MAX_PHOTOS": 3}, "A" * 22, 400), ({"MAX_KEPT_MB": MOST_MB}, "", 413)],
)
def test_photos_sent_at_once_pass_neither_a_set_nor_the_quota(make, bound, set_id, refused):
    app = make(MAX_IN_HAND=64, **bound)
    client = app.test_client()
    client.get("/")

    def send_photo(number):
        sender = app.test_client()
        sender.set_cookie(COOKIE, client.get_cookie(COOKIE).value)
        form = photo_form() | {"set": set_id}
        return sender.post("/api/v1/photos", data=form, **of(number)).status_code

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(send_photo, range(24)))
    assert set(statuses) == {201, refused}
    assert len(client.get("/api/v1/mine").json["photos"]) == statuses.count(201)
    assert written_bytes(app) == kept_bytes(app) <= MOST_MB * 2**20
    assert statuses.count(201) <= 3 or not set_id


def test_a_video_counts_with_what_was_made_of_it_until_it_expires(make, monkeypatch):
    app = make(KEEP_HOURS=1)
    services, client = app.extensions["emotion"], app.test_client()
    video = send(client, pad="x" * 1000)
    assert kept_bytes(app) > 1000
    wait_for(client, video, "done")
    services.videos.workers.stop()
    assert kept_bytes(app) == written_bytes(app)
    now_s = services.storage.clock() + 3601
    monkeypatch.setattr(services.storage, "clock", lambda: now_s)
    monkeypatch.setattr(services.videos, "clock", lambda: now_s)
    services._sweep_database()
    assert kept_bytes(app) == written_bytes(app) == 0


def test_nothing_is_kept_once_little_of_the_disk_is_free(make, monkeypatch):
    app = make(MIN_FREE_MB=100)
    client = app.test_client()
    free = SimpleNamespace(free=99 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    for door, form in FORMS.items():
        assert client.post(door, data=form()).status_code == 507, door
    assert written_bytes(app) == 0
    health = client.get("/healthz")
    assert (health.status_code, "full" in health.json["detail"]) == (503, True)
    assert client.post("/api/v1/recognize", data=photo_form(encoded())).status_code == 200
    free.free = 101 * 2**20
    assert client.get("/healthz").status_code == 200
    assert client.post("/", data=photo_form()).status_code == 303


def test_a_database_without_room_is_told_as_such(make):
    app = make()
    client, database = app.test_client(), app.extensions["emotion"].database
    client.get("/healthz")
    database.close()

    @sql.event.listens_for(database._engine, "connect")
    def allow_no_growth(connection, _):
        connection.execute("PRAGMA max_page_count = 1")

    while (status := client.post("/", data=photo_form()).status_code) == 303:
        pass
    before = written_bytes(app)
    assert (status, client.post("/api/v1/photos", data=photo_form()).status_code) == (507, 507)
    assert written_bytes(app) == before
    assert client.get("/healthz").status_code == 200
