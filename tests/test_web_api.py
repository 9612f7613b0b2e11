"""The API: the schema, problems as RFC 9457, the state of the app, and threads."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import skimage.data
from web_support import (
    SHA256,
    StandInDetector,
    looking_model,
    make_app,
    make_app_without_model,
    photo_form,
    stand_in_model,
)

from emotion.faces import FaceDetector
from emotion.images import encode_jpeg
from emotion.labels import EMOTIONS

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
    assert content["model"] == {"name": "stand_in", "sha256": SHA256}
    assert content["image"] == {"width": 160, "height": 120}
    first, second = content["faces"]
    assert first["box"] == {"x": 10, "y": 10, "width": 60, "height": 60}
    assert (first["emotion"], first["confidence"]) == ("happy", 0.9)
    assert list(first["probabilities"]) == list(EMOTIONS)
    assert (first["sure"], first["verdict"]) == (True, "happy 90 %")
    assert (first["candidates"], first["runner_up"]) == (["happy"], None)
    assert (second["sure"], second["verdict"]) == (False, "unsure: angry 41 % or fear 38 %")
    assert (second["candidates"], second["runner_up"]) == (["angry", "fear"], "fear")
    assert second["notes"] == ["Small face (30 px): use a larger photo or move closer"]


def test_recognize_stores_nothing(client, tmp_path):
    client.post(ADDRESS, data=photo_form())
    assert not (tmp_path / "uploads").exists()


def test_no_face_is_an_empty_list(tmp_path):
    client = make_app(tmp_path, detector=StandInDetector([])).test_client()
    reply = client.post(ADDRESS, data=photo_form())
    assert reply.status_code == 200
    assert reply.json["faces"] == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/", 404),
        ("GET", "/api/v2/recognize", 404),
        ("POST", "/api/v1/nothing", 404),
        ("GET", ADDRESS, 405),
        ("DELETE", ADDRESS, 405),
        ("POST", "/healthz", 405),
    ],
)
def test_problems(client, method, path, status):
    reply = client.open(path, method=method)
    assert reply.status_code == status
    assert reply.mimetype == "application/problem+json"
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.json["status"] == status
    assert reply.json["type"] == "about:blank"
    assert reply.json["title"] in ("Not Found", "Method Not Allowed")
    assert reply.json["detail"]
    assert ("Allow" in reply.headers) == (status == 405)


def test_a_mistake_of_ours(tmp_path):
    class Broken(StandInDetector):
        def detect(self, image):
            raise RuntimeError("secret detail")

    client = make_app(tmp_path, detector=Broken()).test_client()
    reply = client.post(ADDRESS, data=photo_form())
    assert reply.status_code == 500
    assert reply.mimetype == "application/problem+json"
    assert "secret" not in reply.text


def test_health(tmp_path):
    client = make_app(tmp_path, stand_in_model(notes=("made anew",))).test_client()
    reply = client.get("/healthz")
    assert reply.status_code == 200
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.json == {
        "status": "ok",
        "model": {
            "name": "stand_in",
            "sha256": SHA256,
            "runtime": "Stand-in",
            "notes": ["made anew"],
        },
    }


def test_without_a_model(tmp_path):
    reason = f"expected a model as x.json and x.h5 in {tmp_path}/deep; x.json is missing"
    client = make_app_without_model(tmp_path, reason).test_client()
    for reply in (client.get("/healthz"), client.post(ADDRESS, data=photo_form())):
        assert reply.status_code == 503
        assert reply.mimetype == "application/problem+json"
        assert reply.json["title"] == "Service Unavailable"
        assert str(tmp_path) not in reply.text
    assert "x.json is missing" in client.get("/healthz").json["detail"]


def test_threads_give_the_same_answers_as_one_by_one(tmp_path):
    """With the real detector: one shared cascade gives wrong answers (and fails this test)."""
    app = make_app(tmp_path, looking_model(), FaceDetector())
    astronaut = skimage.data.astronaut()[:256, 100:356]
    photos = [encode_jpeg(image) for image in (astronaut, astronaut[:, ::-1], astronaut[20:220])]
    photos.append(encode_jpeg(np.full((200, 200, 3), 128, np.uint8)))

    def recognize(content):
        return json.loads(app.test_client().post(ADDRESS, data=photo_form(content)).data)

    one_by_one = [recognize(content) for content in photos]
    assert [len(content["faces"]) for content in one_by_one] == [1, 1, 1, 0]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(recognize, photos * 5))
    assert at_once == one_by_one * 5
