"""Several photos at once, faces of their own, exports, "my results", and keeping nothing."""

import csv
import errno
import html
import io
import re
import weakref
import zipfile
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from web_support import encoded, looking_model, make_app, photo_form, photos_form, text_of, upload

from emotion.errors import DatabaseError
from emotion.images.decoding import decode_photo
from emotion.web import storage as storage_module
from emotion.web.database import Database


@pytest.fixture
def client(tmp_path):
    return make_app(tmp_path, looking_model()).test_client()


def send(client, *contents):
    return client.post("/", data=photos_form(*contents))


def stored(folder):
    return sorted(path.name for path in (folder / "uploads").glob("*"))


def open_all(client, page, least):
    links = set(re.findall(r'(?:src|href)="(/(?:sets|results)/[^"]*)"', page))
    assert len(links) >= least
    for link in links:
        with client.get(html.unescape(link)) as answer:
            assert answer.status_code == 200, link


def test_several_photos_make_a_gallery_and_files(client):
    reply = send(client, encoded(seed=1), b"no photo", encoded(seed=3))
    assert reply.status_code == 303
    path = reply.headers["Location"]
    page = client.get(path)
    assert "<h1>3 photos, 4 faces</h1>" in page.text
    assert text_of(page).count("Not read.") == 1
    open_all(client, page.text, least=2 * 4 + 4)
    photos = client.get(f"{path}/emotions.json").json["photos"]
    assert [photo["photo"] for photo in photos] == ["photo-1", "photo-3"]
    table = client.get(f"{path}/emotions.csv").data.decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [(row["photo"], row["face"]) for row in rows] == [
        ("photo-1", "1"), ("photo-1", "2"), ("photo-2", ""), ("photo-3", "1"), ("photo-3", "2"),
    ]  # fmt: skip
    assert "none of them" in rows[2]["problem"]
    happy = photos[0]["faces"][0]["probabilities"]["happy"]
    assert float(rows[0]["probability_happy"]) == happy
    pictures = []
    for kind in ("annotated", "blurred"):
        with client.get(f"{path}/{kind}.zip") as reply:
            assert f"emotions-{kind}.zip" in reply.headers["Content-Disposition"]
            archive = zipfile.ZipFile(io.BytesIO(reply.data))
        assert archive.namelist() == ["photo-1.jpg", "photo-3.jpg", "emotions.csv"]
        pictures.append(np.asarray(Image.open(archive.open("photo-1.jpg"))).astype(int))
    difference = np.abs(pictures[0] - pictures[1]).mean(axis=2)
    assert difference[25:55, 25:55].mean() > 5 > difference[90:, 130:].mean(), "faces are hidden"


@pytest.mark.parametrize("KEEP_HOURS", ["24", "0"])
def test_the_pixels_of_one_photo_at_a_time_are_in_memory(tmp_path, monkeypatch, KEEP_HOURS):  # noqa: N803
    read, alive = [], []

    def watched(*arguments):
        alive.append(sum(photo() is not None for photo in read))
        photo = decode_photo(*arguments)
        read.append(weakref.ref(photo.pixels))
        return photo

    monkeypatch.setattr("emotion.web.photos.reading.decode_photo", watched)
    client = make_app(tmp_path, KEEP_HOURS=KEEP_HOURS).test_client()
    damaged = encoded(seed=4)[:-500]
    reply = send(client, encoded(seed=1), damaged, encoded(seed=2), damaged, encoded(seed=3))
    assert alive == [0] * 5
    before = stored(tmp_path)
    if KEEP_HOURS == "24":
        page = client.get(reply.headers["Location"])
    else:  # everything is shown, once
        page, one = reply, client.post("/", data=photo_form())
        for shown, words, least in ((page, "5 photos, 6 faces", 3), (one, "2 faces found", 4)):
            assert (shown.status_code, words in text_of(shown)) == (200, True)
            assert shown.text.count("data:image/jpeg;base64,") >= least
            assert not any(link in shown.text for link in ("/results/", "/sets/"))
            assert "no-store" in shown.headers["Cache-Control"]
        assert before == []
    assert re.findall(r"<h3>Photo (\d)</h3>|Not (read)\.", page.text) == [
        ("1", ""), ("2", ""), ("", "read"), ("3", ""), ("4", ""), ("", "read"), ("5", "")
    ]  # fmt: skip
    reply = send(client, b"no photo", b"nor this")
    assert (reply.status_code, text_of(reply).count("Not read.")) == (415, 2)
    assert stored(tmp_path) == before


@pytest.mark.parametrize(("number", "status"), [(errno.EDQUOT, 507), (errno.EACCES, 503)])
def test_a_set_that_cannot_be_kept_whole_leaves_nothing(tmp_path, monkeypatch, number, status):
    client, write, names = make_app(tmp_path).test_client(), storage_module._write, []

    def second_photo_fails(path, data):
        names.append(path.name)
        if names.count("view.jpg") > 1:
            raise OSError(number, "no room")
        write(path, data)

    monkeypatch.setattr(storage_module, "_write", second_photo_fails)
    contents = [encoded(seed=1), b"no photo", b"nor this", encoded(seed=2)]
    assert send(client, *contents).status_code == status
    assert stored(tmp_path) == client.get("/api/v1/mine").json["photos"] == []


def test_a_face_has_a_page_of_its_own_with_reasons(client):
    path = upload(client)
    words = text_of(client.get(f"{path}/faces/2"))
    assert ("Face 2 of 2" in words, len(re.findall(r"\d+%", words)) >= 3) == (True, True)
    pages = [client.get(f"{path}/faces/2?emotion={name}").text for name in ("disgust", "happy")]
    assert all(name in page for name, page in zip(("disgust", "happy"), pages, strict=True))
    pictures = [re.search(r'src="(data:image/png;base64,[^"]+)"', page)[1] for page in pages]
    assert pictures[0] != pictures[1]
    strange = client.get(f"{path}/faces/2?emotion=<script>")
    assert (strange.status_code, strange.text.count("<script>")) == (200, 0)
    # another model is served now
    object.__setattr__(client.application.extensions["emotion"].model, "sha256", "cd")
    assert "not in use" in text_of(client.get(f"{path}/faces/1"))


def test_delete_one_and_all_of_mine(tmp_path):
    app = make_app(tmp_path)
    one, other = app.test_client(), app.test_client()
    assert "Nothing is kept" in text_of(one.get("/mine"))
    first, second, third = upload(one), upload(one), upload(other)
    page = one.get("/mine")
    assert ("Happy 90%; 😠😨 unsure" in text_of(page), third in page.text) == (True, False)
    listed = one.get("/api/v1/mine").json["photos"]
    assert {f"/results/{photo['id']}" for photo in listed} == {first, second}
    assert listed[0]["emotions"] == ["happy", "angry"]
    assert listed[0]["verdicts"] == ["happy 90%", "unsure: angry 41% or fear 38%"]
    assert listed[0]["model"] == {"key": "detection_model", "title": "detection_model"}
    assert one.post(f"{first}/delete?back=mine").headers["Location"].startswith("/mine")
    assert app.test_client().delete("/api/v1/mine").status_code == 204
    page = one.get("/mine").text
    assert (first in page, second in page) == (False, True)
    for path, method in (("/mine/delete", "POST"), ("/api/v1/mine", "DELETE")):
        kept = upload(one)
        assert one.open(path, method=method).status_code in (303, 204)
        assert one.get("/api/v1/mine").json["total"] == {"photos": 0, "videos": 0}
        assert one.get(kept).status_code == one.get(second).status_code == 404
    assert other.get(third).status_code == 200
    # as it was kept before there were verdicts
    database = app.extensions["emotion"].database
    (row,) = database.photos_of_set(other.get("/api/v1/mine").json["photos"][0]["set"], 0)
    database.remember(replace(row, emotions="sad,happy"))
    assert "😢 Sad; 😊 Happy" in text_of(other.get("/mine"))
    (listed,) = other.get("/api/v1/mine").json["photos"]
    assert (listed["emotions"], listed["verdicts"]) == (["sad", "happy"], ["sad", "happy"])
    assert listed["model"] is None


def test_a_stranger_with_the_link_sees_the_photo_and_no_more(tmp_path):
    app = make_app(tmp_path, looking_model())
    sender, stranger = app.test_client(), app.test_client()
    of_set = send(sender, encoded(seed=1), encoded(seed=2)).headers["Location"]
    path = re.findall(r"/results/[\w-]{22}", sender.get(of_set).text)[0]
    face, photo = f"{path}/faces/1", path.replace("/results", "/api/v1/photos")
    feedback = f"{photo}/faces/1/feedback"
    said = sender.put(feedback, json={"emotion": "sad", "keep": True}).json
    upload(stranger)  # a cookie of its own does not help
    before = sorted(tmp_path.rglob("*.*g"))
    exports = ("", "/annotated.zip", "/blurred.zip", "/emotions.csv", "/emotions.json")
    for client in (stranger, app.test_client()):
        for method, addresses in {
            "GET": [*(of_set + rest for rest in exports), f"/api/v1{of_set}", feedback],
            "POST": [f"{of_set}/delete", f"{path}/delete", f"{face}/feedback/withdraw"],
            "PUT": [feedback],
            "DELETE": [photo, f"/api/v1{of_set}", feedback],
        }.items():
            for address in addresses:
                reply = client.open(address, method=method, json={"emotion": "fear", "keep": True})
                assert reply.status_code == 403, address
        said_too = {"emotion": "fear", "keep": "yes"}
        assert client.post(f"{face}/feedback", data=said_too).status_code == 403
    assert sorted(tmp_path.rglob("*.*g")) == before
    assert sender.get(feedback).json == said
    own, seen = (client.get(path).text + client.get(face).text for client in (sender, stranger))
    for hidden in (of_set, f"{path}/delete", "#feedback", f"{face}/feedback"):
        assert (hidden in own, hidden in seen) == (True, False)
    open_all(stranger, seen, least=10)
    own, seen = sender.get(photo).json, stranger.get(photo).json
    assert (own["links"]["set"], own["results"]) == (of_set, seen["results"])
    assert (seen["set"], seen["links"]["set"]) == (None, None)
    links = seen["links"]
    for link in (links["annotated"], links["blurred"], links["faces"][0]["explanation"]):
        assert stranger.get(link).status_code == 200


def test_a_photo_is_shown_while_the_database_is_away(client, monkeypatch):
    path, out_of_reach = upload(client), Mock(side_effect=DatabaseError("it cannot be reached"))
    monkeypatch.setattr(Database, "photo", out_of_reach)
    assert client.get(path).status_code == client.get(f"{path}/faces/1").status_code == 200
    assert client.post(f"{path}/delete").status_code == 503
    assert client.get(path).status_code == 200


def test_photos_added_one_by_one_to_a_set(tmp_path):
    client = make_app(tmp_path, MAX_PHOTOS=4).test_client()
    too_many = send(client, *[encoded(seed=seed) for seed in range(5)])
    assert (too_many.status_code, "5 files" in text_of(too_many)) == (400, True)
    form, kept = {"set": "A" * 22}, []
    # numbered without gaps and twins, in the order of their positions
    for position in ("3", "2", "3", ""):
        data = photo_form() | form | {"position": position}
        kept.append(client.post("/api/v1/photos", data=data).json)
    # nobody else adds to it
    other = client.application.test_client()
    assert other.post("/api/v1/photos", data=photo_form() | form).status_code == 400
    address = f"/api/v1/sets/{form['set']}"
    content = client.get(address).json
    assert [one["position"] for one in content["photos"]] == [1, 2, 3, 4]
    assert [content["photos"][at]["photo"] for at in (0, 3)] == [kept[1], kept[3]]
    assert content["faces"] == 8
    shares = {tuple(share.values())[:4]: share["mean_probability"] for share in content["summary"]}
    assert ("angry", 0, 4, 0.5) in shares
    faces = kept[1]["results"]["faces"]
    mean = pytest.approx(np.mean([face["probabilities"]["happy"] for face in faces]))
    assert shares["happy", 4, 0, 0.5] == mean
    for path in (f"/sets/{form['set']}", "/mine"):
        numbers = re.findall(r"Photo (\d)", client.get(path).text)
        assert list(dict.fromkeys(numbers)) == ["1", "2", "3", "4"]
    assert client.delete(address).status_code == 204
    assert stored(tmp_path) == []
