"""Uploads through the form and the API; kinds of files are in the tests of images."""

import io
import json
import re

import pytest
from model_folder import write_pair
from web_support import SHA256, encoded, make_app, photo_form, photos_form, stand_in_model

from emotion.labels import EMOTIONS

ROOT = "/api/v1"
MANY_BYTES = 2**18
DOORS = ("/", "/api/v1/recognize")
START = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n\r\n'
FORM, CUT = "multipart/form-data", "multipart/form-data; boundary=x"
MP4 = b"\0\0\0\x18ftypisom" + b"\0" * 60
FILES = {
    # name: (content, status, words that page and problem have)
    "empty": (b"", 400, "empty"),
    "video": (MP4, 415, "JPEG"),
    "cut": (encoded()[:-400], 422, "damaged"),
    "too many pixels": (encoded(width=300, height=200), 422, "0.05 megapixels"),
    "one byte too many": (b"\xff\xd8\xff" + b"\0" * (MANY_BYTES - 2), 413, "0.25 MB"),
    "many bytes too many": (b"\xff\xd8\xff" + b"\0" * (MANY_BYTES * 3 // 2), 413, "0.25 MB"),
}
REQUESTS = {
    # name: (body or fields, type, status, words)
    "no field": ({"other": "text"}, FORM, 400, "received none"),
    "text in the field": ({"photo": "my photo"}, FORM, 400, "received text"),
    "too much text": ({"photo": "x" * (MANY_BYTES + 70_000)}, FORM, 413, "0.25 MB"),
    "nothing chosen": ({"photo": (b"", "")}, FORM, 400, "none was chosen"),
    "many fields": ({f"field{n}": "x" for n in range(200)}, FORM, 413, "little else"),
    "photo without a form": (encoded(), "application/octet-stream", 400, "received none"),
    "file in another field": ({"picture": (encoded(), "a.jpg")}, FORM, 400, "picture"),
    "broken form": (b"--x\r\nbroken", CUT, 400, "received"),
    "file without a field": (
        START.replace(b' name="photo";', b"") + b"x\r\n--x--\r\n",
        CUT,
        400,
        "no name",
    ),
    "form that is cut": (START + b"\xff\xd8", CUT, 400, "received"),
} | {
    name: ({"photo": (content, "a.jpg")}, FORM, status, words)
    for name, (content, status, words) in FILES.items()
}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return make_app(tmp_path_factory.mktemp("bad"), MAX_UPLOAD_MB=0.25, MAX_MEGAPIXELS=0.05)


def check(reply, door, status, words):
    """Check the reply to a bad upload: a page with the form again, or an RFC 9457 problem."""
    assert reply.status_code == status
    assert reply.headers["Cache-Control"] == "no-store"
    assert "Traceback" not in reply.text
    if door == "/":
        assert reply.mimetype == "text/html"
        text = " ".join(reply.text.split())
        assert all(part in text for part in (words, 'type="file"', "0.25 MB"))
    else:
        assert reply.mimetype == "application/problem+json"
        assert set(reply.json) == {"type", "title", "status", "detail"}
        assert reply.json["status"] == status
        assert words in reply.json["detail"]


@pytest.mark.usefixtures("cut_forms")
@pytest.mark.parametrize("name", REQUESTS)
def test_bad_requests(app, name):
    body, kind, status, words = REQUESTS[name]
    for door in DOORS:
        data = body
        if isinstance(body, dict):
            data = {
                field: value if isinstance(value, str) else (io.BytesIO(value[0]), value[1])
                for field, value in body.items()
            }
        check(app.test_client().post(door, data=data, content_type=kind), door, status, words)
    assert not app.extensions["emotion"].settings.uploads.exists()


@pytest.mark.usefixtures("cut_forms")
@pytest.mark.parametrize("door", DOORS)
def test_a_body_without_a_length_is_measured_while_it_is_read(app, door):
    """So it goes with chunked bodies, which some servers hand on without a length."""
    body = io.BytesIO(START + b"\0" * (MANY_BYTES * 3 // 2) + b"\r\n--x--\r\n")
    chunked = {"headers": {"Transfer-Encoding": "chunked"}, "content_type": CUT}
    chunked["environ_overrides"] = {"wsgi.input_terminated": True}
    reply = app.test_client().post(door, input_stream=body, **chunked)
    check(reply, door, 413, "0.25 MB")


def test_a_photo_at_every_limit_is_read_and_of_two_none(app):
    padded = encoded(width=250, height=200).ljust(MANY_BYTES, b"\0")
    client = app.test_client()
    assert client.post("/api/v1/recognize", data=photo_form(padded)).status_code == 200
    reply = client.post("/api/v1/recognize", data=photos_form(None, None))
    assert (reply.status_code, "2 files" in reply.json["detail"]) == (400, True)


def post_frame(client, content=None):
    content = encoded() if content is None else content
    return client.post("/live/frame", data=content, content_type="image/jpeg")


def test_a_frame_of_the_camera_is_answered_with_the_results_alone(client):
    expected = client.post("/api/v1/recognize", data=photo_form()).json
    for name in ("key", "title"):
        del expected["model"][name]
    for reply in (post_frame(client), client.post("/live/frame", data=photo_form())):
        assert (reply.status_code, reply.json) == (200, expected)
        assert reply.headers["Cache-Control"] == "no-store"
        assert re.fullmatch(r"read;dur=\d+\.\d", reply.headers["Server-Timing"])


def test_what_is_no_frame_or_comes_when_all_is_full_is_refused_and_none_is_kept(tmp_path):
    client = make_app(tmp_path, MAX_IN_HAND=1).test_client()
    large, heavy = encoded(width=2000, height=1200), b"\xff\xd8\xff" + bytes(2**21)
    frames = {b"": 400, b"no picture": 415, encoded()[:200]: 422, large: 422, heavy: 413}
    for content, status in frames.items():
        assert post_frame(client, content).status_code == status
    services = client.application.extensions["emotion"]
    services.database = None  # where it should be there is nothing to read or write
    with services.gate.place("somebody"):
        refused = post_frame(client)
    assert (refused.status_code, int(refused.headers["Retry-After"]) >= 1) == (503, True)
    assert post_frame(client).status_code == 200
    assert not any((tmp_path / "uploads").glob("*"))


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
    content, times = keep(client).json, ["1970-01-12T13:46:40Z", "1970-01-13T13:46:40Z"]
    assert [content[name] for name in ("created", "expires")] == times
    address = f"{ROOT}/photos/{content['id']}"
    assert client.get(address).json == content
    assert content["results"] == client.post(f"{ROOT}/recognize", data=photo_form()).json
    assert client.delete(address).data == b""
    assert list(tmp_path.rglob("*.jpg")) == []


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
    files = write_pair(tmp_path / "models" / "tiny")
    # a card is shown without folders and without what JSON has not
    card = {"loss": float("nan"), "more": [f"{tmp_path}/x/b"]}
    files.card.write_text(json.dumps(card))
    model = stand_in_model(notes=("made anew",))
    client = make_app(tmp_path, model, MODEL=tmp_path / "models" / "stand_in").test_client()
    listed = client.get(f"{ROOT}/models").json["models"]
    facts = [(one["key"], one["default"], bool(one["problem"])) for one in listed]
    assert facts == [("stand_in", True, False), ("tiny", False, True)]
    reply = client.get(f"{ROOT}/models/tiny")
    assert reply.json["card"] == {"loss": None, "more": ["b"]}
    assert str(tmp_path) not in reply.text
    names = {"key": "stand_in", "title": "stand_in", "name": "stand_in", "sha256": SHA256}
    facts = names | {"runtime": "Stand-in", "notes": ["made anew"]}
    assert client.get("/healthz").json == {"status": "ok", "model": facts}
