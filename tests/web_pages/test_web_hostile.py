"""Hostile requests: each gets a clear answer and leaves nothing behind, neither files nor memory.

What a photo's bytes may be like is in the tests of images, plain mistakes in test_web_uploads.py.
"""

import errno
import io
import struct
import subprocess
import sys
import tempfile
import zlib

import pytest
from web_support import assert_nothing_is_left, encoded, make_app, photo_form

from emotion.errors import DatabaseError
from emotion.web.database import Database
from emotion.web.settings import PROJECT_FOLDER

DEADLINE_S = 60
DOORS = ("/", "/api/v1/recognize", "/api/v1/photos")
BOUNDARY = "multipart/form-data; boundary=x"


# Bombs: a few bytes that say they are much, or become much


def png_of(*chunks):
    written = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


def png(width, height, pixels=b"0", *more):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return png_of((b"IHDR", header), *more, (b"IDAT", zlib.compress(pixels)), (b"IEND", b""))


def png_animation(width, height, frames):
    """Return an animation whose frames are each as large as the canvas."""
    controls = [
        (b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, 0, 0, 1, 1, 0, 0))
        for number in range(frames)
    ]
    return png(width, height, b"0", (b"acTL", struct.pack(">II", frames, 0)), *controls)


def gif(width, height, frame_width, frame_height, frames=1):
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    place = b"," + struct.pack("<HHHHB", 0, 0, frame_width, frame_height, 0)
    return screen + (place + b"\x02\x02\x4c\x01\x00") * frames + b";"


def webp_canvas(width, height):
    """Return an animated WebP of one pixel on a canvas."""

    def three(number):
        return struct.pack("<I", number)[:3]

    lossless = b"VP8L" + struct.pack("<I", 6) + b"\x2f\0\0\0\0\0"
    frame = three(0) * 2 + three(0) * 2 + three(100) + b"\0" + lossless
    chunks = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + three(width - 1) + three(height - 1)
    chunks += b"ANIM" + struct.pack("<I", 6) + b"\0" * 6
    chunks += b"ANMF" + struct.pack("<I", len(frame)) + frame
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def tiff(width, height, rows=None, byte_count=8, compression=1, **tags):
    """Return a TIFF of RGB that has nearly no pixels."""
    entries = {256: width, 257: height, 259: compression, 262: 2, 273: 8, 277: 3}
    entries |= {278: rows or height, 279: byte_count} | {int(k[1:]): v for k, v in tags.items()}
    directory = struct.pack("<H", len(entries) + 1)
    entries[258] = None
    for tag in sorted(entries):
        if tag == 258:  # three samples of eight bits, after the directory
            directory += struct.pack("<HHII", tag, 3, 3, 16 + 2 + 12 * len(entries) + 4)
        else:
            directory += struct.pack("<HHII", tag, 4, 1, entries[tag])
    start = b"II*\0" + struct.pack("<I", 16) + b"\0" * 8
    return start + directory + b"\0" * 4 + struct.pack("<HHH", 8, 8, 8)


def bmp(width, height):
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


def jpeg_of(width, height):
    """Return a JPEG whose header says another size than its pixels have."""
    content = bytearray(encoded())
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(content)


BOMBS = {
    "PNG of 2.5 gigapixels": png(50_000, 50_000),
    "PNG, text that inflates": png(
        100, 100, b"0", (b"zTXt", b"a\0\0" + zlib.compress(b"\0" * 200_000_000))
    ),
    "PNG, profile that inflates": png(
        100, 100, b"0", (b"iCCP", b"a\0\0" + zlib.compress(b"\0" * 200_000_000))
    ),
    "PNG animation, canvas": png_animation(40_000, 40_000, 3),
    "PNG, side of 100,000": png(100_000, 20),
    "PNG, side of 2 billion": png(2**31 - 1, 1),
    "GIF, screen": gif(65_535, 65_535, 10, 10),
    "GIF, frame larger than its screen": gif(20, 20, 65_535, 65_535),
    "GIF, thousands of frames": gif(65_535, 65_535, 65_535, 65_535, 5000),
    "WebP animation, canvas": webp_canvas(16_384, 16_384),
    "TIFF of 10 gigapixels": tiff(100_000, 100_000),
    "TIFF of 10 gigapixels, one strip of deflate": tiff(100_000, 100_000, compression=8),
    "TIFF, side of 300,000": tiff(300_000, 20),
    "TIFF, strip of 4 GB": tiff(100, 100, byte_count=2**32 - 1, compression=5),
    "TIFF, tile of 10 gigapixels": tiff(
        100, 100, compression=5, t322=100_000, t323=100_000, t324=8, t325=8
    ),
    "BMP of 10 gigapixels": bmp(100_000, 100_000),
    "JPEG of 4 gigapixels": jpeg_of(65_500, 65_500),
}
HARMLESS = {
    "PNG, inflated beyond its size": png(100, 100, b"\0" * 200_000_000),
}
"""What looks like a bomb, and is read as the photo that it also is."""


@pytest.fixture
def app(tmp_path, monkeypatch):
    """Return an app whose temporary files go to a folder of the test's own."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return make_app(tmp_path, MAX_UPLOAD_MB=1)


def test_bombs_are_refused_and_leave_nothing(app):
    client = app.test_client()
    for name, content in BOMBS.items():
        for door in DOORS:
            reply = client.post(door, data=photo_form(content))
            assert reply.status_code in (413, 415, 422), name
            assert len(reply.text) < 20_000, name
    assert_nothing_is_left(app)


MEASURE = """
import resource, sys
from pathlib import Path
sys.path[:0] = ["tests", "tests/web_pages"]
from test_web_hostile import BOMBS, HARMLESS
from web_support import assert_nothing_is_left, make_app, photo_form

client = make_app(Path(sys.argv[1])).test_client()

def post(content=None):
    return client.post("/api/v1/recognize", data=photo_form(content)).status_code

def most_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

assert post() == 200
before_mb = most_mb()
for name, content in (BOMBS | HARMLESS).items():
    assert post(content) in ((200,) if name in HARMLESS else (413, 415, 422)), name
    assert most_mb() < before_mb + 100, f"{name}: {most_mb() - before_mb:.0f} MB"
"""


def test_bombs_take_no_memory(tmp_path):
    """Under the default limits; each would take gigabytes, or hundreds of megabytes at least."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)],
        cwd=PROJECT_FOLDER,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S * 5,
    )
    assert done.returncode == 0, done.stderr


# Files that are two things at once, or pretend

POLYGLOTS = {
    "JPEG, then HTML": encoded() + b"<!doctype html><script>alert('polyglot')</script>",
    "JPEG with HTML in a comment": encoded(comment=b"<script>alert('polyglot')</script>"),
    "JPEG, then a zip": encoded() + b"PK\x03\x04polyglot" + b"PK\x05\x06" + b"\0" * 18,
    "PNG, then a program": encoded("PNG") + b"\x7fELFpolyglot",
    "GIF, then script": encoded("GIF") + b"/*polyglot*/=1;alert(1)",
}


def test_of_two_things_in_one_file_only_the_photo_is_kept(app):
    client, uploads = app.test_client(), app.extensions["emotion"].settings.uploads
    for name, content in POLYGLOTS.items():
        reply = client.post("/", data=photo_form(content, name="x.html"))
        assert reply.status_code == 303, name
        assert client.get(f"{reply.location}/annotated.jpg").mimetype == "image/jpeg"
    files = [path for path in uploads.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".jpg", ".png", ".json"}
    assert not any(b"polyglot" in path.read_bytes() for path in files)


PRETENDERS = (
    b"\xff\xd8\xff<!doctype html><script>alert(1)</script>",
    b"GIF89a/*<script>alert(1)</script>*/=1;",
    b"\x89PNG\r\n\x1a\n<svg onload='alert(1)'/>",
    b"BM<html><script>alert(1)</script></html>" + b" " * 60,
    b"II*\0<script>alert(1)</script>" + b" " * 60,
    b"RIFF\x40\0\0\0WEBP<script>alert(1)</script>" + b" " * 60,
)


def test_pages_that_begin_as_photos_are_refused(app):
    for content in PRETENDERS:
        for door in DOORS:
            reply = app.test_client().post(door, data=photo_form(content))
            assert 415 <= reply.status_code <= 422
            assert "alert(1)" not in reply.text
    assert_nothing_is_left(app)


def test_neither_a_files_name_nor_its_type_is_believed(app):
    client = app.test_client()
    for name, kind in (
        ("photo.jpg", "text/html"),
        ("a.svg", "image/svg+xml"),
        ("a.exe", 'a/b; c="'),
    ):
        good, bad = ((io.BytesIO(data), name, kind) for data in (encoded("PNG"), b"<svg/>"))
        assert client.post("/api/v1/recognize", data={"photo": good}).status_code == 200
        assert client.post("/api/v1/recognize", data={"photo": bad}).status_code == 415


NAMES = (
    b"../../../etc/passwd",
    b"C:\\\\windows\\\\system.ini",
    b"/etc/cron.d/x",
    b"...",
    b"x\0.jpg",
    b"x\\r\\nSet-Cookie: a=b.jpg",
    b"%2e%2e%2fx.jpg",
    b'x\\"; filename=\\"y.jpg',
    b"<img src=x onerror=alert(1)>.jpg",
    "😀👩‍👩‍👧.jpg".encode(),
    b"{{ 7 * 7 }}.jpg",
    b"-rf.jpg",
    b"con.jpg",
    b"y" * 3000,
)


def test_names_of_all_kinds_play_no_part(app):
    client, uploads = app.test_client(), app.extensions["emotion"].settings.uploads
    for name in NAMES:
        head = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="' + name
        body = head + b'"\r\n\r\n' + encoded() + b"\r\n--x--\r\n"
        reply = client.post("/", data=body, content_type=BOUNDARY)
        assert reply.status_code == 303, name
        assert "Set-Cookie: a" not in str(reply.headers)
        page = client.get(reply.location).text
        assert name.decode(errors="replace") not in page
        assert "alert(1)" not in page
    kept = {path.name for folder in uploads.iterdir() for path in folder.iterdir()}
    assert not kept & {name.decode(errors="replace") for name in NAMES}
    assert not (uploads.parent / "etc").exists()


def part(head, content=b""):
    return b"--x\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


FIELD, FILE = (
    b"Content-Disposition: form-data; " + names
    for names in (b'name="a"', b'name="photo"; filename="a.jpg"')
)
BODIES = {
    "10,000 fields": part(FIELD) * 10_000,
    "10,000 files": part(FILE) * 10_000,
    "a name of 2 MB": part(FIELD + b"a" * 2_000_000),
    "a head of 2 MB": part(b"X-" + b"a" * 2_000_000 + b": b"),
    "no name": part(b"Content-Disposition: form-data"),
    "zeros": part(b"\0\0\0\0"),
    "a name that is no text": part(FILE.replace(b"a.jpg", b"\xff\xfe.jpg"), encoded()),
}


@pytest.mark.usefixtures("cut_forms")
@pytest.mark.parametrize("name", BODIES)
def test_forms_that_are_no_proper_forms(app, name):
    for door in DOORS:
        body = BODIES[name] + b"--x--\r\n"
        reply = app.test_client().post(door, data=body, content_type=BOUNDARY)
        assert reply.status_code in ((413,) if "10,000" in name else (400, 413))
    assert_nothing_is_left(app)


def test_a_photo_full_of_what_might_be_the_end_of_a_part_is_read(app):
    """The reader of forms puts aside what may be the start of a boundary, again and again."""
    content = encoded() + b"\r\n--\r\n-" * 40_000
    for door in DOORS:
        assert app.test_client().post(door, data=photo_form(content)).status_code < 400


# What fails around us


def test_a_full_disk_and_a_store_that_cannot_be_written(app, monkeypatch):
    client, uploads = app.test_client(), app.extensions["emotion"].settings.uploads

    def fail(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("werkzeug.formparser.SpooledTemporaryFile", fail)
        assert [client.post(door, data=photo_form()).status_code for door in DOORS] == [507] * 3
    uploads.write_text("a file where the folder should be")
    for door, status in (("/", 503), ("/api/v1/photos", 503), ("/api/v1/recognize", 200)):
        reply = client.post(door, data=photo_form())
        assert reply.status_code == status
        assert str(uploads) not in reply.text


@pytest.mark.parametrize("door", ["/", "/api/v1/photos"])
def test_a_database_that_goes_away_leaves_no_photo_behind(app, monkeypatch, door):
    def fail(*arguments):
        raise DatabaseError("expected a database; received nothing from 10.0.0.1")

    client = app.test_client()
    with monkeypatch.context() as gone:
        gone.setattr(Database, "remember", fail)
        reply = client.post(door, data=photo_form())
    assert reply.status_code == 503
    assert int(reply.headers["Retry-After"]) > 0
    assert "10.0.0.1" not in reply.text
    assert list(app.extensions["emotion"].settings.uploads.iterdir()) == []
    # statistics hold back no answer
    monkeypatch.setattr(Database, "count", fail)
    for one in (door, "/api/v1/recognize"):
        assert client.post(one, data=photo_form()).status_code in (200, 201, 303)
