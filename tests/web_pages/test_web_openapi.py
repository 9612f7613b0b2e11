"""The API's description, fuzzed (schemathesis), and its guide, whose examples run."""

import errno
import gzip
import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import flask
import jsonschema_rs
import pytest
import schemathesis
import video_job_stand_in
from hypothesis import HealthCheck, given, settings, strategies
from limits.strategies import FixedWindowRateLimiter
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi import checks
from web_support import encoded, looking_model, make_app, photo_form, upload

from emotion.errors import DatabaseError
from emotion.web.database import Database, VideoRow
from emotion.web.feedback.given import GivenFaces
from emotion.web.openapi import PROBLEMS, describe
from emotion.web.settings import Settings
from emotion.web.storage import StorageError, new_id
from emotion.web.visitors import COOKIE

ROOT = "/api/v1"
GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
SHELL = ("bash", "-euo", "pipefail", "-c")
DOCUMENT = describe(Settings(), ROOT)
OPERATIONS = {
    content["operationId"]: (method.upper(), path, content)
    for path, item in DOCUMENT["paths"].items()
    for method, content in item.items()
}
FORMS = ("recognize", "recognizeMany", "addPhoto", "addVideo")
CHECKS = [not_a_server_error, checks.status_code_conformance]
CHECKS += [checks.content_type_conformance, checks.response_schema_conformance]


class World:
    """An app that keeps a photo and a video, and a client who sent them."""

    def __init__(self, folder, **chosen):
        usual = {"VIDEO_RATE_LIMIT": "1000000 per minute", "MONITORING": "on"}
        self.app = make_app(folder, looking_model(), **usual | chosen)
        self.services = self.app.extensions["emotion"]
        self.client = self.app.test_client()
        videos, now_s = self.services.videos, self.services.videos.clock()
        videos.workers.command = (sys.executable, video_job_stand_in.__file__)
        # a video waits or runs until then
        self.close = videos.workers.stop
        self.places = {"face_id": "0" * 32, "number": 1}
        self.places |= {"kind": "blurred", "key": "detection_model"}
        self.keep()
        # a video that is done, without any work on it
        (photo,) = self.services.database.photos_of_set(self.places["set_id"], now_s)
        row = VideoRow(new_id(), photo.visitor, now_s, now_s + 3600)
        self.services.database.add_video(row, "", 1000, 1000)
        row = self.services.database.claim(new_id(), now_s)
        content = io.BytesIO(video_job_stand_in.sent())
        videos.files.create(row.id, {"your video": content})
        video_job_stand_in.write_files(videos.files.make_room(row.id, row.attempt))
        self.services.database.finish(replace(row, state="done", faces=2, emotions="happy"))
        self.places |= {"video_id": row.id, "name": "emotions.csv"}

    def keep(self):
        content = self.client.post(f"{ROOT}/photos", data=photo_form()).json
        self.places |= {"photo_id": content["id"], "set_id": content["set"]}

    def send(self, name, **changes):
        method, path, content = OPERATIONS[name]
        body = list(content.get("requestBody", {"content": ()})["content"])
        if "multipart/form-data" in body:
            changes.setdefault("data", form_of(name))
        elif body and not {"data", "json"} & set(changes):
            changes["json"] = {"emotion": "sad", "keep": True}
        address = ROOT + path.format(**self.places)
        return self.client.open(address, method=method, buffered=True, **changes)


def form_of(name, content=None):
    if name != "addVideo":
        return photo_form(content)
    content = video_job_stand_in.sent() if content is None else content
    return photo_form(content, "video.mp4", "video")


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("fuzzed"), MAX_VIDEOS_WAITING=1000)
    config = SchemathesisConfig.from_dict({"analysis": {"constants": {"enabled": False}}})
    schema = schemathesis.openapi.from_wsgi(f"{ROOT}/openapi.json", world.app, config=config)
    yield world, schema
    world.close()


def test_the_description_is_valid_openapi_and_so_are_its_examples(fuzzed):
    world, schema = fuzzed
    schema.validate()
    assert world.client.get(f"{ROOT}/openapi.json").json == describe(world.services.settings, ROOT)
    schemas = DOCUMENT["components"]["schemas"]
    examples = [(name, one) for name in schemas for one in schemas[name].get("examples", ())]
    for name, example in examples:
        validator(name).validate(example)
    assert len(examples) >= 2


def test_every_address_of_the_app_is_described_and_no_other(tmp_path):
    described = {(method, ROOT + path) for method, path, _ in OPERATIONS.values()}
    served = {
        (method, re.sub(r"<(?:\w+(?:\(.*?\))?:)?(\w+)>", r"{\1}", rule.rule))
        for rule in make_app(tmp_path).url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/api/")
    }
    assert served == described


def validator(name):
    schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return jsonschema_rs.Draft202012Validator(schema)


def troubles(world):
    """Return name -> what to replace so that it happens."""
    no_database = Mock(side_effect=DatabaseError("expected a database"))
    methods = "count counts forget opinion_on photo photos_of_set photos_of_visitor require_room"
    methods += " add_video video"
    full = OSError(errno.ENOSPC, "No space left on device")
    return {
        "no database, no free place": [
            *((Database, method, no_database) for method in methods.split()),
            (GivenFaces, "find", no_database),
            (world.services.gate, "in_hand", 2 * world.services.gate.most),
        ],
        "full disk": [
            (flask.Request, "_get_file_stream", Mock(side_effect=full)),
            (GivenFaces, "keep", Mock(side_effect=StorageError(full))),
        ],
        "too often": [(FixedWindowRateLimiter, "hit", lambda *_, **__: False)],
        "stranger": [(world, "client", world.app.test_client())],
    }


HAPPENS = {  # where not to every operation
    "stranger": lambda _, content: content.get("security") == [{"visitor": []}],
    "too often": lambda method, _: method != "DELETE",
    "full disk": lambda _, content: "requestBody" in content,
}


def test_what_goes_wrong_is_answered_as_described(tmp_path, monkeypatch):
    world = World(tmp_path)
    for trouble, replaced in troubles(world).items():
        with monkeypatch.context() as patch:
            for owner, attribute, value in replaced:
                patch.setattr(owner, attribute, value)
            for name, (method, _, content) in OPERATIONS.items():
                if HAPPENS.get(trouble, lambda *_: True)(method, content):
                    require_described(world.send(name), content["responses"])
    world.close()


def require_described(reply, described):
    status = reply.status_code
    assert str(status) in described, reply.text
    about = described[str(status)]
    if status >= 400:
        about = DOCUMENT["components"]["responses"][PROBLEMS[status][0]]
        assert reply.json["status"] == status
    kinds = about.get("content", {None: {}})
    assert (reply.mimetype or None) in kinds
    for schema in filter(None, kinds.values()):
        if named := schema["schema"].get("$ref", "").rpartition("/")[2]:
            validator(named).validate(reply.json)
    assert "no-" in reply.headers["Cache-Control"]


ANY_HEALTH = {"suppress_health_check": list(HealthCheck)}


def try_all(operation, prepare=lambda case: None, **fixed):
    """Send requests as described, and others where there is something to get wrong."""
    cases = operation.as_strategy(GenerationMode.POSITIVE, **fixed)
    if not fixed and (operation.path_parameters or operation.query or operation.body):
        wrong = operation.as_strategy(GenerationMode.NEGATIVE)
        cases = strategies.one_of(cases, wrong)

    @given(case=cases)
    @settings(max_examples=4, deadline=None, derandomize=True, database=None, **ANY_HEALTH)
    def check(case):
        prepare(case)
        case.headers["Accept-Encoding"] = "identity"  # schemathesis unpacks nothing
        case.call_and_validate(checks=CHECKS)

    check()


@pytest.mark.parametrize("name", OPERATIONS)
def test_any_request(fuzzed, name):
    world, schema = fuzzed
    method, path, _ = OPERATIONS[name]
    operation = schema[path][method]
    try_all(operation)
    if "_id}" in path:  # what is kept, asked for by its sender
        world.keep()
        places = {key: world.places[key] for key in re.findall(r"{(\w+)}", path)}
        cookies = {COOKIE: world.client.get_cookie(COOKIE).value}
        try_all(operation, lambda case: setattr(case, "cookies", cookies), path_parameters=places)
    if name in FORMS:
        many = name == "recognizeMany"
        photo = [encoded()] * 2 if many else encoded()
        files = {"photo": photo, "video": video_job_stand_in.sent()}

        def put_file(case):
            if isinstance(case.body, dict):  # else it is one photo and nothing else
                case.body = {key: files.get(key, value) for key, value in case.body.items()}

        try_all(operation, put_file, media_type="multipart/form-data")


@pytest.fixture
def run(tmp_path, serve):
    app = make_app(tmp_path / "server", looking_model(), PORT=0)
    command = (sys.executable, video_job_stand_in.__file__)
    app.extensions["emotion"].videos.workers.command = command
    address = serve(app)
    for name in ("photo.jpg", "other.jpg"):
        (tmp_path / name).write_bytes(encoded())
    (tmp_path / "film.mp4").write_bytes(video_job_stand_in.sent())

    def run(example, *command):
        text = example.replace("http://127.0.0.1:5000", address)
        done = subprocess.run(
            [*command, text], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    assert not list((tmp_path / "server").rglob("*.jpg")), "the examples delete what they sent"


def examples(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.S)


def test_python_examples_run(run):
    (example,) = examples("python")
    lines = run(example, sys.executable, "-c").splitlines()
    assert len(lines) == 2 * 2 + 1
    assert lines[-1] == "1 photos of mine"


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="needs curl and jq")
def test_curl_examples_run(run, tmp_path):
    one, several, video = examples("sh")
    assert len(json.loads(run(one, *SHELL))["faces"]) == 2
    printed = run(several, *SHELL)
    assert '"share"' in printed
    assert printed.strip().endswith("2")
    assert '"verdict": "happy"' in run(video, *SHELL)
    assert (tmp_path / "emotions.parquet").exists()


def test_the_text_names_every_address_and_every_status():
    described = {(method, path) for method, path, _ in OPERATIONS.values()}
    assert set(re.findall(r"^\| `([A-Z]+) (/[^`]*)` \|", GUIDE, re.M)) == described
    assert set(map(int, re.findall(r"^\| (\d{3}) \|", GUIDE, re.M))) == set(PROBLEMS)


# What programs get besides: photos as bodies, keys, origins, parts of lists, headers

RECOGNIZE = "/api/v1/recognize"


def test_a_photo_comes_as_a_body_or_in_another_field_and_several_at_once(tmp_path):
    client = make_app(tmp_path).test_client()
    expected = client.post(RECOGNIZE, data=photo_form()).json
    body = client.post(RECOGNIZE, data=encoded(), content_type="image/jpeg")
    assert [len(body.json["faces"]), body.json] == [2, expected]
    for field in ("image", "file"):
        assert client.post(RECOGNIZE, data=photo_form(field=field)).json == expected
    photos = {"photo": [photo_form(each)["photo"] for each in (encoded(), b"no photo")]}
    one, other = client.post(f"{RECOGNIZE}/many", data=photos).json["photos"]
    assert (one["results"], one["problem"], other["results"]) == (expected, None, None)
    assert "none of them" in other["problem"]


def test_keys_are_asked_of_programs_alone(tmp_path):
    app = make_app(tmp_path, API_KEYS="first, second", flask_config={"WTF_CSRF_ENABLED": True})
    program, browser = app.test_client(), app.test_client()
    for key, status in {"": 401, "third": 401, "Bearer": 401, "first": 200, "second": 200}.items():
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        reply = program.get("/api/v1/models", headers=headers)
        assert (reply.status_code, "WWW-Authenticate" in reply.headers) == (status, status == 401)
    for open_to_all in ("/api", "/api/v1/openapi.json", "/healthz"):
        assert program.get(open_to_all).status_code == 200
    browser.get("/")
    assert browser.get("/api/v1/models").status_code == 200


TWO = "https://a.example, https://b.example"


@pytest.mark.parametrize(("origins", "status"), [(TWO, 403), ("*", 200)])
def test_pages_of_named_sites_use_the_api_and_nothing_else(tmp_path, origins, status):
    client = make_app(tmp_path, CORS_ORIGINS=origins).test_client()

    def send(origin, path=RECOGNIZE, method="POST"):
        headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
        reply = client.open(path, method=method, data=photo_form(), headers=headers)
        return reply.status_code, reply.headers.get("Access-Control-Allow-Origin")

    for origin in ("https://a.example", "https://b.example"):
        assert send(origin) == (200, origin)
        assert send(origin, method="OPTIONS") == (200, origin)
    assert send("https://c.example")[0] == status
    assert send("https://a.example", "/") == (403, None)


def test_lists_are_asked_for_in_parts_and_rates_are_told(tmp_path):
    client = make_app(tmp_path, RATE_LIMIT="4 per hour").test_client()
    for _ in range(3):
        upload(client)
    whole, part = (client.get(f"/api/v1/mine{asked}").json for asked in ("", "?offset=1&limit=1"))
    assert part["photos"] == whole["photos"][1:2]
    assert part["total"] == whole["total"] == {"photos": 3, "videos": 0}
    told = client.post(RECOGNIZE, data=photo_form()).headers
    assert [told[f"RateLimit-{name}"] for name in ("Limit", "Remaining")] == ["4", "0"]
    assert 0 < int(told["RateLimit-Reset"]) <= 3600


def test_text_is_packed_for_those_who_can_unpack_it(tmp_path):
    client = make_app(tmp_path).test_client()
    style = f"{client.application.static_url_path}/style.css"
    for path in (style, "/api/v1/openapi.json"):
        plain, packed = (
            client.get(path, headers={"Accept-Encoding": kinds}, buffered=True)
            for kinds in ("identity", "gzip, br")
        )
        assert packed.headers["Content-Encoding"] == "gzip"
        assert "Accept-Encoding" in plain.headers["Vary"]
        assert gzip.decompress(packed.data) == plain.data
        assert len(packed.data) < len(plain.data) / 2


def test_programs_are_told_of_the_api_where_there_is_nothing(tmp_path):
    client = make_app(tmp_path).test_client()
    for method, path, status, word in (
        ("GET", "/api/v1/nothing", 404, "/api"),
        ("PUT", RECOGNIZE, 405, "Allow"),
    ):
        reply = client.open(path, method=method)
        assert (reply.status_code, word in reply.json["detail"]) == (status, True)
    assert "/api/v1/recognize/many" in client.get("/api").text
