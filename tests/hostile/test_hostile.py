"""Small files and forms that are much work, or pretend: each is answered, and so is the next."""

import tempfile

import pytest
from hostile_files import HOSTILE, MEGAPIXELS, noisy_png, webp
from web_support import (
    StandInDetector,
    assert_nothing_is_left,
    encoded,
    make_app,
    photo_form,
    photos_form,
    upload,
)

pytestmark = pytest.mark.usefixtures("cut_forms")  # large ones


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    app = make_app(tmp_path_factory.mktemp("app"), MAX_MEGAPIXELS=MEGAPIXELS)
    return app.test_client()


def assert_others_are_answered(client):
    reply = client.post("/api/v1/recognize", data=photo_form())
    assert (reply.status_code, len(reply.json["faces"])) == (200, 2)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_answered_and_so_is_the_next(client, name):
    make, status = HOSTILE[name]
    assert client.post("/", data=photo_form(make())).status_code == status
    assert_others_are_answered(client)


def test_fifty_photos_of_34_bytes(client):
    reply = client.post("/", data=photos_form(*[webp(600, 600)] * 50))
    assert reply.status_code == 303
    assert client.get(reply.location).status_code == 200
    assert_others_are_answered(client)


# as a picture without loss, or as a JPEG of its size, this photo of 0.3 MB takes 20 MB and more
def test_a_small_file_takes_no_room(tmp_path):
    client = make_app(tmp_path).test_client()
    upload(client, noisy_png(5_200, 5_200))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.*")) < 20e6
    assert_others_are_answered(client)


def test_a_photo_of_hundreds_of_faces(tmp_path):
    boxes = [(x, y, 20, 20) for x in range(0, 600, 24) for y in range(0, 400, 24)]
    client = make_app(tmp_path, detector=StandInDetector(boxes)).test_client()
    photo = photo_form(encoded(width=640, height=480))
    assert len(client.post("/api/v1/recognize", data=photo).json["faces"]) == 100


# Files that are two things at once, or pretend

POLYGLOTS = (
    encoded() + b"<!doctype html><script>alert('polyglot')</script>",
    encoded(comment=b"<script>alert('polyglot')</script>"),
    encoded() + b"PK\x03\x04polyglot" + b"PK\x05\x06" + b"\0" * 18,
    encoded("PNG") + b"\x7fELFpolyglot",
    encoded("GIF") + b"/*polyglot*/=1;alert(1)",
)
PRETENDERS = (
    b"\xff\xd8\xff<!doctype html><script>alert(1)</script>",
    b"GIF89a/*<script>alert(1)</script>*/=1;",
    b"\x89PNG\r\n\x1a\n<svg onload='alert(1)'/>",
    b"BM<html><script>alert(1)</script></html>" + b" " * 60,
    b"II*\0<script>alert(1)</script>" + b" " * 60,
    b"RIFF\x40\0\0\0WEBP<script>alert(1)</script>" + b" " * 60,
)


def test_pages_that_begin_as_photos_are_refused_and_leave_nothing(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    app = make_app(tmp_path)
    client = app.test_client()
    for content in PRETENDERS:
        for door in ("/", "/api/v1/recognize", "/api/v1/photos"):
            reply = client.post(door, data=photo_form(content))
            assert reply.status_code in (413, 415, 422), content[:40]
            assert "alert(1)" not in reply.text
            assert len(reply.text) < 20_000
    assert_nothing_is_left(app)


def test_of_two_things_in_one_file_only_the_photo_is_kept(tmp_path):
    client, uploads = make_app(tmp_path).test_client(), tmp_path / "uploads"
    for content in POLYGLOTS:
        reply = client.post("/", data=photo_form(content, name="x.html"))
        assert reply.status_code == 303, content
        assert client.get(f"{reply.location}/annotated.jpg").mimetype == "image/jpeg"
    files = [path for path in uploads.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".jpg", ".png", ".json"}
    assert not any(b"polyglot" in path.read_bytes() for path in files)


def test_a_field_without_a_name_is_no_token(tmp_path):
    client = make_app(tmp_path, flask_config={"WTF_CSRF_ENABLED": True}).test_client()
    body = b"--x\r\nContent-Disposition: form-data\r\n\r\n\r\n--x--\r\n"
    for door in ("/", "/mine/delete"):
        reply = client.post(door, data=body, content_type="multipart/form-data; boundary=x")
        assert reply.status_code == 400
