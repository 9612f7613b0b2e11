"""The API: results, problems as RFC 9457, what is kept, and threads."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import skimage.data
from web_support import (
    SHA256,
    looking_model,
    make_app,
    photo_form,
    stand_in_model,
    write_fast_model,
)

from emotion.detection.haar import FaceDetector
from emotion.images.encoding import encode_jpeg
from emotion.labels import EMOTIONS
from emotion.model.keras import ModelFiles

ADDRESS = "/api/v1/recognize"


@pytest.fixture
def client(tmp_path):
    return make_app(tmp_path).test_client()


def test_recognize(client, tmp_path):
    reply = client.post(ADDRESS, data=photo_form())
    assert reply.status_code == 200
    assert reply.mimetype == "application/json"
    assert reply.headers["Cache-Control"] == "no-store"
    content = reply.json
    assert list(content) == ["schema", "model", "image", "faces"]
    assert content["schema"] == 1
    names = {"key": "detection_model", "title": "detection_model"}
    assert content["model"] == {"name": "stand_in", "sha256": SHA256} | names
    assert content["image"] == {"width": 160, "height": 120}
    first, second = content["faces"]
    assert first["box"] == {"x": 10, "y": 10, "width": 60, "height": 60}
    assert (first["emotion"], first["confidence"]) == ("happy", 0.9)
    assert list(first["probabilities"]) == list(EMOTIONS)
    assert (first["sure"], first["verdict"]) == (True, "happy 90%")
    assert (first["candidates"], first["runner_up"]) == (["happy"], None)
    assert (second["sure"], second["verdict"]) == (False, "unsure: angry 41% or fear 38%")
    assert (second["candidates"], second["runner_up"]) == (["angry", "fear"], "fear")
    assert len(second["notes"]) == 1
    assert not (tmp_path / "uploads").exists()


def test_problems(client):
    for method, path, status in (
        ("GET", "/api/", 404),
        ("GET", "/api/v2/recognize", 404),
        ("GET", ADDRESS, 405),
        ("POST", "/healthz", 405),
        *(("GET", f"/api/v1/models/{key}", 404) for key in ("none", "..%2Fsecret", "a%00b")),
    ):
        reply = client.open(path, method=method)
        assert reply.status_code == reply.json["status"] == status, path
        assert reply.mimetype == "application/problem+json"
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.json["type"] == "about:blank"
        assert reply.json["detail"]
        assert ("Allow" in reply.headers) == (status == 405)


def test_health(tmp_path):
    client = make_app(tmp_path, stand_in_model(notes=("made anew",))).test_client()
    reply = client.get("/healthz")
    assert reply.status_code == 200
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.json == {
        "status": "ok",
        "model": {
            "key": "detection_model",
            "title": "detection_model",
            "name": "stand_in",
            "sha256": SHA256,
            "runtime": "Stand-in",
            "notes": ["made anew"],
        },
    }


def test_threads_give_the_same_answers_as_one_by_one(tmp_path):
    """With the real detector: one shared cascade gives wrong answers (and fails this test)."""
    app = make_app(tmp_path, looking_model(), FaceDetector())
    astronaut = skimage.data.astronaut()[:256, 100:356]
    photos = [encode_jpeg(image) for image in (astronaut, astronaut[:, ::-1], astronaut[20:220])]
    photos.append(encode_jpeg(np.full((200, 200, 3), 128, np.uint8)))

    def recognize(content):
        # each thread is a client of its own: one may not have four photos read at once
        sender = {"REMOTE_ADDR": str(threading.get_ident())}
        reply = app.test_client().post(ADDRESS, data=photo_form(content), environ_overrides=sender)
        return json.loads(reply.data)

    one_by_one = [recognize(content) for content in photos]
    assert [len(content["faces"]) for content in one_by_one] == [1, 1, 1, 0]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(recognize, photos * 5))
    assert at_once == one_by_one * 5


# What is kept


def keep(client, **fields):
    """Send a photo that is kept; return what is told about it."""
    reply = client.post("/api/v1/photos", data={**photo_form(), **fields})
    assert reply.status_code == 201, reply.text
    return reply.json


def everything_under(folder):
    return sorted(path.name for path in folder.rglob("*.jpg"))


def test_a_kept_photo(tmp_path):
    client = make_app(tmp_path, clock=lambda: 1_000_000.0).test_client()
    reply = client.post("/api/v1/photos", data=photo_form())
    content = reply.json
    assert reply.status_code == 201
    assert reply.headers["Location"] == f"/api/v1/photos/{content['id']}"
    assert client.get(reply.headers["Location"]).json == content
    assert content["created"] == "1970-01-12T13:46:40Z"
    assert content["expires"] == "1970-01-13T13:46:40Z"
    assert content["results"] == client.post(ADDRESS, data=photo_form()).json
    assert len(content["links"]["faces"]) == 2
    address = reply.headers["Location"]
    deleted = client.delete(address)
    assert (deleted.status_code, deleted.data) == (204, b"")
    assert "Content-Type" not in deleted.headers
    assert everything_under(tmp_path) == []
    assert client.get(address).status_code == client.delete(address).status_code == 404


# Sets, and the sender's own


def test_a_photo_that_cannot_be_read_begins_no_set(client, tmp_path):
    client.get("/")
    assert client.post("/api/v1/photos", data=photo_form(b"no photo")).status_code == 415
    for position in ("0", "-1", "51", "first", "1.5"):
        reply = client.post("/api/v1/photos", data={**photo_form(), "position": position})
        assert reply.status_code == 400
    assert client.get("/api/v1/mine").json["photos"] == []
    assert everything_under(tmp_path) == []


def test_a_set_over_several_requests(tmp_path):
    app = make_app(tmp_path)
    client = app.test_client()
    first = keep(client)
    second = keep(client, set=first["set"])
    content = client.get(f"/api/v1/sets/{first['set']}").json
    assert [one["position"] for one in content["photos"]] == [1, 2]
    assert [one["photo"] for one in content["photos"]] == [first, second]
    assert content["faces"] == 4
    happy = next(share for share in content["summary"] if share["emotion"] == "happy")
    assert (happy["sure"], happy["unsure"], happy["share"]) == (2, 0, 0.5)
    assert sum(share["share"] for share in content["summary"]) == pytest.approx(1)
    assert client.delete(f"/api/v1/sets/{first['set']}").status_code == 204
    assert everything_under(tmp_path) == []


def test_a_set_notes_a_photo_that_cannot_be_read_until_it_is_sent_again(tmp_path):
    client = make_app(tmp_path, MAX_PHOTOS=2).test_client()
    fields = {"set": keep(client)["set"], "position": "2"}
    for _ in range(2):
        reply = client.post("/api/v1/photos", data=photo_form(b"no photo") | fields)
        assert reply.status_code == 415
        photos = client.get(f"/api/v1/sets/{fields['set']}").json["photos"]
        assert [one["problem"] for one in photos] == [None, reply.json["detail"]]
    assert keep(client, **fields)
    full = client.post("/api/v1/photos", data={**photo_form(), "set": fields["set"]})
    assert full.status_code == 400
    photos = client.get(f"/api/v1/sets/{fields['set']}").json["photos"]
    assert [one["problem"] for one in photos] == [None, None]


def test_the_note_on_a_photo_is_deleted_by_its_sender_alone(tmp_path):
    app = make_app(tmp_path)
    client, other = app.test_client(), app.test_client()
    form = photo_form(b"no photo") | {"set": "A" * 22}
    assert client.post("/api/v1/photos", data=form).status_code == 415
    (noted,) = client.get("/api/v1/mine").json["photos"]
    address = f"/api/v1/photos/{noted['id']}"
    assert other.delete(address).status_code >= 400
    assert [client.delete(address).status_code for _ in range(2)] == [204, 404]
    assert client.get("/api/v1/mine").json["photos"] == []


def test_mine(tmp_path):
    app = make_app(tmp_path)
    one, other = app.test_client(), app.test_client()
    assert one.get("/api/v1/mine").json == {"photos": [], "videos": []}
    first, second, third = keep(one), keep(one), keep(other)
    listed = one.get("/api/v1/mine").json["photos"]
    assert {photo["id"] for photo in listed} == {first["id"], second["id"]}
    assert listed[0]["emotions"] == ["happy", "angry"]
    assert listed[0]["verdicts"] == ["happy 90%", "unsure: angry 41% or fear 38%"]
    assert listed[0]["model"] == {"key": "detection_model", "title": "detection_model"}
    assert app.test_client().delete("/api/v1/mine").status_code == 204
    assert one.delete("/api/v1/mine").status_code == 204
    assert one.get("/api/v1/mine").json == {"photos": [], "videos": []}
    assert other.get(third["links"]["self"]).status_code == 200
    assert one.get(first["links"]["self"]).status_code == 404


def test_a_stranger_with_the_link_sees_the_photo_and_no_more(tmp_path):
    app = make_app(tmp_path)
    client, stranger = app.test_client(), app.test_client()
    keep(stranger)  # a cookie of its own does not help
    first = keep(client)
    second = keep(client, set=first["set"])
    face = first["links"]["faces"][0]
    client.put(face["feedback"], json={"emotion": "sad", "keep": True})
    of_photo, of_set = first["links"]["self"], f"/api/v1/sets/{first['set']}"
    asked = [
        ("DELETE", of_photo),
        ("GET", of_set),
        ("DELETE", of_set),
        ("GET", face["feedback"]),
        ("PUT", face["feedback"]),
        ("DELETE", face["feedback"]),
    ]
    before = everything_under(tmp_path)
    for method, address in asked:
        for other in (stranger, app.test_client()):
            reply = other.open(address, method=method, json={"emotion": "fear", "keep": True})
            assert (reply.status_code, reply.mimetype) == (403, "application/problem+json"), address
    assert everything_under(tmp_path) == before
    assert client.get(face["feedback"]).json["emotion"] == "sad"
    seen = stranger.get(of_photo).json
    assert (seen["set"], seen["links"]["set"]) == (None, None)
    assert seen["results"] == first["results"]
    for link in (first["links"]["annotated"], first["links"]["blurred"], face["explanation"]):
        assert stranger.get(link).status_code == 200
    assert client.get(of_photo).json == first
    assert client.delete(of_set).status_code == 204
    assert client.get(second["links"]["self"]).status_code == 404


@pytest.mark.parametrize("header", ["Origin", "Sec-Fetch-Site"])
def test_other_sites_change_nothing(tmp_path, header):
    """With the tokens of forms switched on: programs need none."""
    client = make_app(tmp_path, flask_config={"WTF_CSRF_ENABLED": True}).test_client()
    content = keep(client)
    value = {"Origin": "http://elsewhere.example", "Sec-Fetch-Site": "cross-site"}[header]
    for path in (f"photos/{content['id']}", f"sets/{content['set']}", "mine"):
        assert client.delete(f"/api/v1/{path}", headers={header: value}).status_code == 403
    assert client.get(content["links"]["self"]).status_code == 200
    assert client.delete(content["links"]["self"]).status_code == 204


# Faces


def test_an_explanation(tmp_path):
    client = make_app(tmp_path, looking_model()).test_client()
    content = keep(client)
    face = content["results"]["faces"][1]
    address = content["links"]["faces"][1]["explanation"]
    reasons = client.get(address).json
    assert reasons["emotion"] == face["emotion"]
    assert reasons["before"] == pytest.approx(face["confidence"], abs=0.02)
    assert np.shape(reasons["heat"]) == (48, 48)
    assert reasons["holds"] == (reasons["hidden"] < min(reasons["before"], reasons["elsewhere"]))
    other = client.get(address, query_string={"emotion": "fear"}).json
    assert other["emotion"] == "fear"
    assert other["heat"] != reasons["heat"]
    assert client.get(address, query_string={"emotion": ""}).status_code == 400
    for number in ("0", "3", "x", "9" * 30):
        wrong = address.replace("/2/", f"/{number}/")
        assert client.get(wrong).status_code == 404


def test_feedback(client, tmp_path):
    address = keep(client)["links"]["faces"][0]["feedback"]
    assert client.get(address).status_code == 404
    said = client.put(address, json={"emotion": "sad", "keep": True}).json
    assert (said["emotion"], said["given"]) == ("sad", "happy")
    assert (said["agrees"], said["kept"]) == (False, True)
    assert len(list((tmp_path / "feedback" / "sad").iterdir())) == 1
    assert client.get(address).json == said
    again = client.put(address, json={"emotion": "happy"}).json
    assert (again["agrees"], again["kept"]) == (True, False)
    assert list((tmp_path / "feedback" / "sad").iterdir()) == []
    for _ in range(2):
        assert client.delete(address).status_code == 204
    assert client.get(address).status_code == 404


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


def test_bodies_of_feedback(client, tmp_path):
    address = keep(client)["links"]["faces"][0]["feedback"]
    for body, kind, status in BODIES:
        reply = client.put(address, data=body, content_type=kind)
        assert reply.status_code == status, body
        assert "passwd" not in reply.text
    assert not (tmp_path / "feedback").exists()


# The server


def test_models(tmp_path):
    (tmp_path / "models").mkdir()
    stem = write_fast_model(tmp_path / "models")
    client = make_app(tmp_path, MODEL=tmp_path / "models" / "stand_in").test_client()
    first, second = client.get("/api/v1/models").json["models"]
    assert (first["key"], first["default"], first["sha256"]) == ("stand_in", True, SHA256)
    assert first["classes"] == list(EMOTIONS)
    assert (second["key"], second["default"]) == (stem.name, False)
    reply = client.post(ADDRESS, data={**photo_form(), "model": second["key"]})
    names = {name: second[name] for name in ("key", "title")}
    assert reply.json["model"] == {"name": stem.name, "sha256": second["sha256"]} | names
    assert client.get("/api/v1/models/stand_in").json["card"] is None
    # a card has neither folders nor what JSON has not
    card = {"name": f"{tmp_path}/models/a.csv", "loss": float("nan"), "more": [f"{tmp_path}/x/b"]}
    ModelFiles(stem).card.write_text(json.dumps(card))
    client = make_app(tmp_path, MODEL=tmp_path / "models" / "stand_in").test_client()
    reply = client.get(f"/api/v1/models/{stem.name}")
    assert reply.status_code == 200
    assert str(tmp_path) not in reply.text
    assert reply.json["card"]["loss"] is None
    assert reply.json["card"]["name"].endswith("a.csv")
    assert reply.json["problem"]
