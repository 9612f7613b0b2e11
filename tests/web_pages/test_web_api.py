"""The API: results, what is kept, and threads. `test_contract.py` holds the form of each reply."""

import json

import pytest
from web_support import SHA256, make_app, photo_form, stand_in_model, write_fast_model

from emotion.labels import EMOTIONS
from emotion.model.keras import ModelFiles

ROOT = "/api/v1"


@pytest.fixture
def client(tmp_path):
    return make_app(tmp_path).test_client()


def keep(client, content=None, **fields):
    return client.post(f"{ROOT}/photos", data=photo_form(content) | fields)


def test_recognize(client, tmp_path):
    reply = client.post(f"{ROOT}/recognize", data=photo_form())
    assert (reply.status_code, reply.headers["Cache-Control"]) == (200, "no-store")
    content = reply.json
    names = {"key": "detection_model", "title": "detection_model"}
    assert content["model"] == {"name": "stand_in", "sha256": SHA256} | names
    assert content["image"] == {"width": 160, "height": 120}
    first = content["faces"][0]
    assert first["box"] == {"x": 10, "y": 10, "width": 60, "height": 60}
    assert (first["emotion"], first["confidence"]) == ("happy", 0.9)
    assert list(first["probabilities"]) == list(EMOTIONS)
    names = ("sure", "verdict", "candidates", "runner_up")
    assert [tuple(face[name] for name in names) for face in content["faces"]] == [
        (True, "happy 90%", ["happy"], None),
        (False, "unsure: angry 41% or fear 38%", ["angry", "fear"], "fear"),
    ]
    assert not (tmp_path / "uploads").exists()
    assert client.get(f"{ROOT}/recognize").headers["Allow"] == "OPTIONS, POST"


def test_a_kept_photo(tmp_path):
    # programs need no token of a form
    tokens, clock = {"WTF_CSRF_ENABLED": True}, lambda: 1_000_000.0
    client = make_app(tmp_path, clock=clock, flask_config=tokens).test_client()
    reply = keep(client)
    content, address = reply.json, reply.headers["Location"]
    assert (reply.status_code, address) == (201, f"{ROOT}/photos/{content['id']}")
    assert client.get(address).json == content
    assert content["created"] == "1970-01-12T13:46:40Z"
    assert content["expires"] == "1970-01-13T13:46:40Z"
    assert content["results"] == client.post(f"{ROOT}/recognize", data=photo_form()).json
    deleted = client.delete(address)
    assert (deleted.status_code, deleted.data) == (204, b"")
    assert "Content-Type" not in deleted.headers
    assert list(tmp_path.rglob("*.jpg")) == []
    assert client.get(address).status_code == client.delete(address).status_code == 404


def test_a_photo_that_cannot_be_read_begins_no_set_and_is_noted_in_one_until_sent_again(tmp_path):
    client = make_app(tmp_path, MAX_PHOTOS=2).test_client()
    wrong = [{"position": position} for position in ("0", "-1", "51", "first", "1.5")]
    wrong += [{"set": name} for name in ("short", "A" * 21 + "/", "../" + "A" * 19)]
    for fields in wrong:
        assert keep(client, **fields).status_code == 400, fields
    assert keep(client, b"no photo").status_code == 415
    assert client.get(f"{ROOT}/mine").json["photos"] == list(tmp_path.rglob("*.jpg")) == []
    fields = {"set": keep(client).json["set"], "position": "2"}

    def problems():
        photos = client.get(f"{ROOT}/sets/{fields['set']}").json["photos"]
        return [one["problem"] for one in photos]

    for _ in range(2):
        reply = keep(client, b"no photo", **fields)
        assert (reply.status_code, problems()) == (415, [None, reply.json["detail"]])
    # its sender alone deletes the note
    address = f"{ROOT}/photos/{client.get(f'{ROOT}/mine').json['photos'][0]['id']}"
    assert client.application.test_client().delete(address).status_code == 403
    assert [client.delete(address).status_code for _ in range(2)] == [204, 404]
    keep(client, b"no photo", **fields)
    assert keep(client, **fields).status_code == 201
    full = keep(client, set=fields["set"])
    assert (full.status_code, problems()) == (400, [None, None])


def test_models_and_health(tmp_path):
    (tmp_path / "models").mkdir()
    stem = write_fast_model(tmp_path / "models")
    # a card is shown without folders and without what JSON has not
    card = {"loss": float("nan"), "more": [f"{tmp_path}/x/b"]}
    ModelFiles(stem).card.write_text(json.dumps(card))
    model = stand_in_model(notes=("made anew",))
    client = make_app(tmp_path, model, MODEL=tmp_path / "models" / "stand_in").test_client()
    listed = client.get(f"{ROOT}/models").json["models"]
    facts = [(one["key"], one["default"], bool(one["problem"])) for one in listed]
    assert facts == [("stand_in", True, False), (stem.name, False, True)]
    reply = client.get(f"{ROOT}/models/{stem.name}")
    assert reply.json["card"] == {"loss": None, "more": ["b"]}
    assert str(tmp_path) not in reply.text
    for key in ("none", "..%2Fsecret", "a%00b"):
        assert client.get(f"{ROOT}/models/{key}").status_code == 404
    names = {"key": "stand_in", "title": "stand_in", "name": "stand_in", "sha256": SHA256}
    facts = names | {"runtime": "Stand-in", "notes": ["made anew"]}
    assert client.get("/healthz").json == {"status": "ok", "model": facts}
