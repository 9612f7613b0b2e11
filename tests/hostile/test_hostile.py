"""Small files and forms that are much work, or pretend: each is answered, and so is the next."""

import pytest
from hostile_files import HOSTILE, MEGAPIXELS, noisy_png
from web_support import StandInDetector, encoded, make_app, photo_form, upload

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


# as a JPEG of its own size this photo of 0.1 MB takes 14 MB
def test_a_small_file_takes_no_room(tmp_path):
    client = make_app(tmp_path).test_client()
    upload(client, noisy_png(4_200, 4_200))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.*")) < 10e6
    assert_others_are_answered(client)


def test_a_photo_of_hundreds_of_faces(tmp_path):
    boxes = [(x, y, 20, 20) for x in range(0, 600, 24) for y in range(0, 400, 24)]
    client = make_app(tmp_path, detector=StandInDetector(boxes)).test_client()
    photo = photo_form(encoded(width=640, height=480))
    assert len(client.post("/api/v1/recognize", data=photo).json["faces"]) == 100


POLYGLOTS = (  # files that are two things at once
    encoded() + b"<!doctype html><script>alert('polyglot')</script>",
    encoded(comment=b"<script>alert('polyglot')</script>"),
    encoded() + b"PK\x03\x04polyglot" + b"PK\x05\x06" + b"\0" * 18,
    encoded("PNG") + b"\x7fELFpolyglot",
    encoded("GIF") + b"/*polyglot*/=1;alert(1)",
)


def test_of_two_things_in_one_file_only_the_photo_is_kept(tmp_path):
    client, uploads = make_app(tmp_path).test_client(), tmp_path / "uploads"
    for content in POLYGLOTS:
        reply = client.post("/", data=photo_form(content, name="x.html"))
        assert reply.status_code == 303, content
        assert client.get(f"{reply.location}/annotated.jpg").mimetype == "image/jpeg"
    files = [path for path in uploads.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".jpg", ".png", ".json"}
    assert not any(b"polyglot" in path.read_bytes() for path in files)
