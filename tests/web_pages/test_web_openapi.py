"""The description of the API: complete, true to what the app answers, and fuzzed (schemathesis)."""

import errno
import io
import re
import sys
from dataclasses import replace
from importlib import import_module

import flask
import jsonschema_rs
import pytest
import schemathesis
import video_job_stand_in
from hypothesis import HealthCheck, given, settings, strategies
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from web_support import encoded, looking_model, make_app, photo_form

from emotion.errors import DatabaseError
from emotion.web.database import Database
from emotion.web.openapi import PROBLEMS, describe
from emotion.web.settings import Settings
from emotion.web.storage import StorageError, new_id
from emotion.web.videos.queue import VideoRow, VideoRows
from emotion.web.visitors import COOKIE

ROOT = "/api/v1"
METHODS = ("get", "post", "put", "delete", "patch")
DOCUMENT = describe(Settings(), ROOT)
OPERATIONS = {
    content["operationId"]: (method.upper(), path, content)
    for path, item in DOCUMENT["paths"].items()
    for method, content in item.items()
    if method in METHODS
}
ANSWERS = [
    (name, int(code))
    for name, one in OPERATIONS.items()
    for code in one[2]["responses"]
    if code != "500" or name in ("recognize", "getModels")  # one handler answers for all
]
FORMS = ("recognize", "addPhoto", "addVideo")
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


class World:
    """An app that keeps a photo, and a client who sent it."""

    def __init__(self, folder, with_video=True, **chosen):
        usual = {"VIDEO_RATE_LIMIT": "1000000 per minute", "MONITORING": "on"}
        self.app = make_app(folder, looking_model(), **usual | chosen)
        self.services = self.app.extensions["emotion"]
        self.client = self.app.test_client()
        self.services.videos.workers.command = (sys.executable, video_job_stand_in.__file__)
        self.places = {"number": 1, "kind": "blurred", "key": "detection_model"}
        if not self.services.settings.keeps_nothing:
            self.keep()
            if with_video:
                self.keep_video()

    def keep(self):
        content = self.client.post(f"{ROOT}/photos", data=photo_form()).json
        self.places |= {"photo_id": content["id"], "set_id": content["set"]}

    def keep_video(self):
        """Keep a video that is done, without any work on it."""
        videos, now_s = self.services.videos, self.services.videos.clock()
        (photo, *_) = self.services.database.photos_of_set(self.places["set_id"], now_s)
        row = VideoRow(new_id(), photo.visitor, now_s, now_s + 3600)
        videos.rows.add(row, 1000)
        row = videos.rows.claim(new_id(), now_s)
        videos.files.receive(row.id, io.BytesIO(video_job_stand_in.sent()))
        video_job_stand_in.write_files(videos.files.make_room(row.id, row.attempt))
        videos.rows.finish(replace(row, state="done", faces=2, emotions="happy"))
        self.places |= {"video_id": row.id, "name": "emotions.csv"}

    def stop(self):
        """End the work on videos; another one waits or runs while there is a world."""
        self.services.videos.workers.stop()

    def send(self, name, **changes):
        """Send what an operation expects, up to some changes."""
        method, path, content = OPERATIONS[name]
        body = list(content.get("requestBody", {"content": ()})["content"])
        if body == ["multipart/form-data"]:
            changes.setdefault("data", form_of(name))
        elif body and not {"data", "json"} & set(changes):
            changes["json"] = {"emotion": "sad", "keep": True}
        address = ROOT + path.format(**self.places)
        return self.client.open(address, method=method, buffered=True, **changes)


def form_of(name, content=None):
    """Return the form that an operation expects, with a file of its kind or with other bytes."""
    if name == "addVideo":
        content = video_job_stand_in.sent() if content is None else content
        return photo_form(content, "video.mp4", "video")
    return photo_form(content)


@pytest.fixture
def make_world(tmp_path):
    worlds = []

    def make(**chosen):
        worlds.append(World(tmp_path, **chosen))
        return worlds[-1]

    yield make
    for world in worlds:
        world.stop()


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    """Return a world and its description as schemathesis reads it."""
    world = World(tmp_path_factory.mktemp("fuzzed"), MAX_VIDEOS_WAITING=1000)
    config = SchemathesisConfig.from_dict({"analysis": {"constants": {"enabled": False}}})
    schema = schemathesis.openapi.from_wsgi(f"{ROOT}/openapi.json", world.app, config=config)
    yield world, schema
    world.stop()


# The document itself


def test_the_description_is_valid_openapi(fuzzed):
    world, schema = fuzzed
    schema.validate()
    content = world.client.get(f"{ROOT}/openapi.json").json
    assert content["openapi"].startswith("3.1.")
    assert content == describe(world.services.settings, ROOT)


def test_every_address_of_the_app_is_described_and_no_other(tmp_path):
    described = {(method, ROOT + path) for method, path, _ in OPERATIONS.values()}
    served = {
        (method, re.sub(r"<(?:\w+(?:\(.*?\))?:)?(\w+)>", r"{\1}", rule.rule))
        for rule in make_app(tmp_path).url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/")
    }
    assert served == described
    assert len(described) >= 17


def test_examples_are_what_they_are_examples_of():
    schemas = DOCUMENT["components"]["schemas"]
    found = 0
    for name, schema in schemas.items():
        for example in schema.get("examples", ()):
            validator(name).validate(example)
            found += 1
    assert found >= 2


def validator(name):
    """Return what checks a value against a schema of the description."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return jsonschema_rs.Draft202012Validator(schema)


# Every answer that is described can be had


def missing(world, name):
    """Ask for what there is not."""
    keys = dict.fromkeys(("photo_id", "set_id", "video_id"), "A" * 22)
    world.places |= keys | {"key": "no/such/model"}
    return world.send(name)


def wrong(world, name):
    """Ask for something that is not offered."""
    if name in FORMS:
        address = "http://example.org/photo.jpg"
        return world.send(name, data={"photo": address, "video": address})
    if name == "explainFace":
        return world.send(name, query_string={"emotion": "hunger"})
    return world.send(name, json={"emotion": "hunger"})


def too_large(world, name):
    """Send too many bytes."""
    if name in FORMS:
        # beyond what a form may add to its file
        return world.send(name, data=form_of(name, bytes(100_000)))
    return world.send(name, json={"emotion": "sad" * 5000})


def wrong_type(world, name):
    """Send something of another type."""
    if name in FORMS:
        return world.send(name, data=form_of(name, b"<svg>"))
    return world.send(name, data='{"emotion": "sad"}', content_type="text/plain")


def another_model(world, name):
    """Ask when another model is served than the one that read the photo."""
    object.__setattr__(world.services.recognizer.model, "sha256", "cd" * 32)
    return world.send(name)


def often(world, name):
    """Send more than one may."""
    world.send(name)
    return world.send(name)


def our_mistake(world, name):
    """Ask when our own code fails."""

    def fail(**_):
        raise RuntimeError("/secret/path")

    method, path, _ = OPERATIONS[name]
    adapter = world.app.url_map.bind("localhost")
    endpoint, _ = adapter.match(ROOT + path.format(**world.places), method)
    world.app.view_functions[endpoint] = fail
    return world.send(name)


def not_now(world, name, monkeypatch):
    """Ask when the database is out of reach and the gate is full."""

    def fail(*_):
        raise DatabaseError("expected a database; it cannot be reached")

    for method in "count counts forget opinion_on photo photos_of_set photos_of_visitor".split():
        monkeypatch.setattr(Database, method, fail)
    for method in "add find".split():
        monkeypatch.setattr(VideoRows, method, fail)
    world.services.gate.in_hand = world.services.gate.most
    return world.send(name)


def disk_full(world, name, monkeypatch):
    """Send something when the disk is full."""
    full = OSError(errno.ENOSPC, "No space left on device")

    def fail(*_, **__):
        raise full if name in FORMS else StorageError(full)

    monkeypatch.setattr(flask.Request, "_get_file_stream", fail)
    monkeypatch.setattr(import_module("emotion.web.photos.faces"), "keep", fail)
    return world.send(name)


def from_elsewhere(world, name):
    """Ask without the sender's cookie, or where none is needed, from a page of another site."""
    if OPERATIONS[name][2].get("security") == [{"visitor": []}]:
        world.client = world.app.test_client()
        return world.send(name)
    return world.send(name, headers={"Origin": "http://elsewhere.example"})


def well(world, name):
    """Send what is expected."""
    if name == "getFeedback":
        world.send("putFeedback")
    return world.send(name)


CAUSES = {
    200: well,
    201: well,
    202: well,
    204: well,
    206: lambda world, name: world.send(name, headers={"Range": "bytes=0-2"}),
    400: wrong,
    403: from_elsewhere,
    404: missing,
    409: another_model,
    413: too_large,
    415: wrong_type,
    416: lambda world, name: world.send(name, headers={"Range": "bytes=99999-"}),
    422: lambda world, name: world.send(name, data=photo_form(encoded()[:2000])),
    429: often,
    500: our_mistake,
}
CAUSES_WITH_PATCHES = {503: not_now, 507: disk_full}
CHOSEN = {
    ("getMonitoring", 404): {"MONITORING": "off"},
    ("addPhoto", 409): {"KEEP_HOURS": "0"},
    ("recognize", 413): {"MAX_UPLOAD_MB": "0.01"},
    ("addPhoto", 413): {"MAX_UPLOAD_MB": "0.01"},
    ("addVideo", 413): {"MAX_VIDEO_MB": "0.01"},
    ("addVideo", 409): {"VIDEO_WORKERS": "0"},
    ("addVideo", 429): {"VIDEO_RATE_LIMIT": "1 per minute"},
    ("putFeedback", 429): {"FEEDBACK_RATE_LIMIT": "1 per day"},
    ("recognize", 429): {"RATE_LIMIT": "2 per minute"},  # the photo of the world is the first
    ("addPhoto", 429): {"RATE_LIMIT": "2 per minute"},
    ("getPicture", 429): {"WORK_RATE_LIMIT": "1 per minute"},
    ("explainFace", 429): {"WORK_RATE_LIMIT": "1 per minute"},
}


@pytest.mark.parametrize(("name", "status"), ANSWERS)
def test_every_described_answer_can_be_had(make_world, monkeypatch, name, status):
    with_video = "Video" in name
    world = make_world(with_video=with_video, **CHOSEN.get((name, status), {}))
    if status in CAUSES_WITH_PATCHES:
        reply = CAUSES_WITH_PATCHES[status](world, name, monkeypatch)
    else:
        reply = CAUSES[status](world, name)
    assert reply.status_code == status, reply.text
    assert b"/secret" not in reply.data
    described = OPERATIONS[name][2]["responses"][str(status)]
    if status >= 400:
        described = DOCUMENT["components"]["responses"][PROBLEMS[status][0]]
        assert reply.json["status"] == status
    kinds = list(described.get("content", [None]))
    assert (reply.mimetype or None) in kinds
    assert len(kinds) == 1 or name == "getVideoFile"
    for schema in described.get("content", {}).values():
        named = schema["schema"].get("$ref", "").rpartition("/")[2]
        if named:
            validator(named).validate(reply.json)
    assert "no-" in reply.headers["Cache-Control"]


# Whatever is sent, the answers are as described


def cases_of(operation, **fixed):
    """Return requests as described, and others where there is something to get wrong."""
    as_described = operation.as_strategy(GenerationMode.POSITIVE, **fixed)
    if fixed or not (operation.path_parameters or operation.query or operation.body):
        return as_described
    return strategies.one_of(as_described, operation.as_strategy(GenerationMode.NEGATIVE))


def try_all(cases, prepare=lambda case: None):
    """Send requests and check the answers."""

    @given(case=cases)
    @settings(
        max_examples=4,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    def check(case):
        prepare(case)
        case.call_and_validate(checks=CHECKS)

    check()


@pytest.mark.parametrize("name", OPERATIONS)
def test_any_request(fuzzed, name):
    _, schema = fuzzed
    method, path, _ = OPERATIONS[name]
    try_all(cases_of(schema[path][method]))


KEPT = [name for name, (_, path, _) in OPERATIONS.items() if "_id}" in path]


@pytest.mark.parametrize("name", KEPT)
def test_requests_for_what_is_kept(fuzzed, name):
    world, schema = fuzzed
    world.keep()
    method, path, _ = OPERATIONS[name]
    places = {key: world.places[key] for key in re.findall(r"{(\w+)}", path)}
    cookies = {COOKIE: world.client.get_cookie(COOKIE).value}
    try_all(
        cases_of(schema[path][method], path_parameters=places),
        lambda case: setattr(case, "cookies", cookies),
    )


@pytest.mark.parametrize("name", FORMS)
def test_forms_with_a_real_photo(fuzzed, name):
    _, schema = fuzzed
    method, path, _ = OPERATIONS[name]

    def put_photo(case):
        content = {"photo": encoded(), "video": video_job_stand_in.sent()}
        case.body = {key: content.get(key, value) for key, value in case.body.items()}

    try_all(cases_of(schema[path][method], media_type="multipart/form-data"), put_photo)
