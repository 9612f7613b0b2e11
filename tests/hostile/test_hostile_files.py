"""Small files that are much work: each is answered, and so is the next visitor."""

import pytest
from hostile_files import HOSTILE, MEGAPIXELS, noisy_png, webp
from web_support import StandInDetector, encoded, make_app, photo_form, photos_form, upload

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


# The picture with its boxes and what else is kept of a photo is bounded when photos are read in
# processes of their own; until then this photo of 0.3 MB keeps 28 MB.
@pytest.mark.xfail(reason="what is kept of a photo is not bounded yet", strict=False)
def test_a_small_file_takes_no_room(tmp_path):
    client = make_app(tmp_path).test_client()
    upload(client, noisy_png(6_000, 6_000))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.*")) < 20e6
    assert_others_are_answered(client)


@pytest.mark.xfail(reason="the number of faces is not bounded yet", strict=False)
def test_a_photo_of_hundreds_of_faces(tmp_path):
    boxes = [(x, y, 20, 20) for x in range(0, 600, 24) for y in range(0, 400, 24)]
    client = make_app(tmp_path, detector=StandInDetector(boxes)).test_client()
    photo = photo_form(encoded(width=640, height=480))
    assert len(client.post("/api/v1/recognize", data=photo).json["faces"]) == 100
