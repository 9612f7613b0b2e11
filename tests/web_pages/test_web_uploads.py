"""Bad uploads, through the form and through the API; kinds of files are in the tests of images."""

import io

import pytest
from web_support import encoded, make_app, photo_form

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
    "no field": ({"other": "text"}, FORM, 400, "1 other field"),
    "text in the field": ({"photo": "my photo"}, FORM, 400, "received text"),
    "too much text": ({"photo": "x" * (MANY_BYTES + 70_000)}, FORM, 413, "0.25 MB"),
    "nothing chosen": ({"photo": (b"", "")}, FORM, 400, "none was chosen"),
    "many fields": ({f"field{n}": "x" for n in range(200)}, FORM, 413, "little else"),
    "photo without a form": (encoded(), "image/jpeg", 400, "received"),
    "broken form": (b"--x\r\nbroken", CUT, 400, "received"),
    "form that is cut": (START + b"\xff\xd8", CUT, 400, "received"),
    "no type": (encoded(), None, 400, "received"),
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
    reply = app.test_client().post(
        door,
        input_stream=io.BytesIO(START + b"\0" * (MANY_BYTES * 3 // 2) + b"\r\n--x--\r\n"),
        content_type=CUT,
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    check(reply, door, 413, "0.25 MB")


def test_a_photo_at_every_limit_is_read_and_of_two_none(app):
    padded = encoded(width=250, height=200).ljust(MANY_BYTES, b"\0")
    client = app.test_client()
    assert client.post("/api/v1/recognize", data=photo_form(padded)).status_code == 200
    two = {"photo": [photo_form()["photo"] for _ in range(2)]}
    reply = client.post("/api/v1/recognize", data=two)
    assert (reply.status_code, "2 files" in reply.json["detail"]) == (400, True)
