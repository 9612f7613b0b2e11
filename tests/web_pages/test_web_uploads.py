"""Bad uploads: each, through the form and through the API, gets the right status and words."""

import io
import struct
import zlib

import pytest
from PIL import Image
from web_support import encoded, make_app, photo_form

MANY_BYTES = 2**18
DOORS = ("/", "/api/v1/recognize")


def png_of_size(width, height):
    """Return a small PNG that declares a size; its pixels are not there."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"0" * 10)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def half(kind):
    content = encoded(kind)
    return content[: len(content) // 2]


def huge_webp():
    """Return a WebP of a few bytes that declares 16383x10900 pixels."""
    bits = (16383 - 1) | (10900 - 1) << 14
    chunk = b"VP8L" + struct.pack("<I", 6) + b"\x2f" + struct.pack("<I", bits) + b"\x00"
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


FILES = {
    # name: (content, status, words that page and problem have)
    "empty": (b"", 400, "empty"),
    "text": (b"hello, this is no photo", 415, "JPEG"),
    "html": (b"<!doctype html><script>alert(1)</script>", 415, "JPEG"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415, "JPEG"),
    "pdf": (b"%PDF-1.7\n1 0 obj\n", 415, "JPEG"),
    "mp4": (struct.pack(">I", 24) + b"ftypisom" + b"\0" * 60, 415, "JPEG"),
    "one byte": (b"\xff", 415, "JPEG"),
    "portable map": (encoded("PPM"), 415, "JPEG"),
    "JPEG cut": (half("JPEG"), 422, "damaged"),
    "JPEG start": (b"\xff\xd8\xff\xe0", 422, "damaged"),
    "PNG cut": (half("PNG"), 422, "whole PNG"),
    "PNG start": (b"\x89PNG\r\n\x1a\n", 422, "whole PNG"),
    "PNG without pixels": (png_of_size(100, 100), 422, "damaged"),
    "WebP cut": (half("WEBP"), 422, "damaged"),
    "GIF without a picture": (b"GIF89ad\0d\0\0\0\0;", 422, "damaged"),
    "GIF cut": (half("GIF"), 422, "damaged"),
    "BMP cut": (half("BMP"), 422, "damaged"),
    "TIFF cut": (half("TIFF"), 422, "whole TIFF"),
    "too many pixels": (encoded(width=300, height=200), 422, "0.05 megapixels"),
    "PNG of 400 megapixels": (png_of_size(20000, 20000), 422, "0.05 megapixels"),
    "PNG of no pixels": (png_of_size(0, 0), 422, ""),
    "WebP of 178 megapixels": (huge_webp(), 422, "0.05 megapixels"),
    "too wide": (png_of_size(40000, 1), 422, "pixels"),
    "too small": (encoded("PNG", 4, 4), 422, "at least 16 pixels"),
    "one byte too many": (b"\xff\xd8\xff" + b"\0" * (MANY_BYTES - 2), 413, "0.25 MB"),
    "many bytes too many": (b"\xff\xd8\xff" + b"\0" * (MANY_BYTES * 3 // 2), 413, "0.25 MB"),
}
START = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n\r\n'
FORM, CUT = "multipart/form-data", "multipart/form-data; boundary=x"
REQUESTS = {
    # name: (body or fields, type, status, words)
    "no field": ({"other": "text"}, FORM, 400, "1 other field"),
    "nothing": ({}, FORM, 400, "0 other fields"),
    "another field": ({"file": (encoded(), "a.jpg")}, FORM, 400, "1 other field"),
    "text in the field": ({"photo": "my photo"}, FORM, 400, "received text"),
    "too much text": ({"photo": "x" * (MANY_BYTES + 70_000)}, FORM, 413, "0.25 MB"),
    "nothing chosen": ({"photo": (b"", "")}, FORM, 400, "none was chosen"),
    "many fields": ({f"field{n}": "x" for n in range(200)}, FORM, 413, "one photo"),
    "photo without a form": (encoded(), "image/jpeg", 400, "received"),
    "JSON": (b"{}", "application/json", 400, "received"),
    "form without a boundary": (b"photo", FORM, 400, "received"),
    "broken form": (b"--x\r\nbroken", CUT, 400, "received"),
    "form that is cut": (START + b"\xff\xd8", CUT, 400, "received"),
    "plain form": (b"photo=text", "application/x-www-form-urlencoded", 400, "received"),
    "no type": (encoded(), None, 400, "received"),
}


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return make_app(tmp_path_factory.mktemp("bad"), MAX_UPLOAD_MB=0.25, MAX_MEGAPIXELS=0.05)


@pytest.fixture
def client(app):
    return app.test_client()


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


@pytest.mark.parametrize("name", FILES)
def test_bad_files(app, client, name):
    content, status, words = FILES[name]
    for door in DOORS:
        check(client.post(door, data=photo_form(content)), door, status, words)
    uploads = app.extensions["emotion"].settings.uploads
    assert not uploads.exists() or not list(uploads.iterdir())


@pytest.mark.usefixtures("cut_forms")
@pytest.mark.parametrize("name", REQUESTS)
def test_bad_requests(client, name):
    body, kind, status, words = REQUESTS[name]
    for door in DOORS:
        data = body
        if isinstance(body, dict):
            data = {
                field: value if isinstance(value, str) else (io.BytesIO(value[0]), value[1])
                for field, value in body.items()
            }
        check(client.post(door, data=data, content_type=kind), door, status, words)


@pytest.mark.usefixtures("cut_forms")
@pytest.mark.parametrize("door", DOORS)
def test_a_body_without_a_length_is_measured_while_it_is_read(client, door):
    """So it goes with chunked bodies, which some servers hand on without a length."""
    reply = client.post(
        door,
        input_stream=io.BytesIO(START + b"\0" * (MANY_BYTES * 3 // 2) + b"\r\n--x--\r\n"),
        content_type=CUT,
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    check(reply, door, 413, "0.25 MB")


def test_a_photo_at_every_limit_is_read_and_of_two_none(client):
    buffer = io.BytesIO()
    Image.new("RGB", (250, 200), "white").save(buffer, "JPEG")
    padded = buffer.getvalue().ljust(MANY_BYTES, b"\0")
    assert client.post("/api/v1/recognize", data=photo_form(padded)).status_code == 200
    files = [(io.BytesIO(encoded()), "a.jpg"), (io.BytesIO(encoded()), "b.jpg")]
    reply = client.post("/api/v1/recognize", data={"photo": files})
    assert (reply.status_code, "2 files" in reply.json["detail"]) == (400, True)
