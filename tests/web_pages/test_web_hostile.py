"""Hostile requests and connections; hostile files are in tests/hostile."""

import contextlib
import errno
import io
import json
import select
import socket
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest
from waitress import buffers
from web_support import assert_nothing_is_left, encoded, make_app, photo_form, served, wait_until

from emotion.web import server

DEADLINE_S = 60
DOORS = ("/", "/api/v1/recognize", "/api/v1/photos")
BOUNDARY = "multipart/form-data; boundary=x"


@pytest.fixture
def app(tmp_path, monkeypatch, cut_forms):
    """Return an app whose temporary files go to a folder of the test's own."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return make_app(tmp_path, PORT=0, MAX_UPLOAD_MB=1, MAX_PHOTOS=2)


NAMES = (
    *(b"../../../etc/passwd", b"C:\\\\windows\\\\system.ini", b"/etc/cron.d/x", b"..."),
    *(b"x\0.jpg", b"x\\r\\nSet-Cookie: a=b.jpg", b"%2e%2e%2fx.jpg", b'x\\"; filename=\\"y.jpg'),
    *(b"<img src=x onerror=alert(1)>.jpg", b"{{ 7 * 7 }}.jpg", b"-rf.jpg", b"con.jpg", b"y" * 3000),
    "😀👩‍👩‍👧.jpg".encode(),
)


def test_neither_the_name_nor_the_type_of_a_file_plays_a_part(app):
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
    for name, kind in (("a.jpg", "text/html"), ("a.svg", "image/svg+xml"), ("a.exe", 'a/b; c="')):
        for content, status in ((encoded("PNG"), 200), (b"<svg/>", 415)):
            form = {"photo": (io.BytesIO(content), name, kind)}
            assert client.post("/api/v1/recognize", data=form).status_code == status


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


def test_forms_that_are_no_proper_forms(app):
    for name, body in BODIES.items():
        for door in DOORS:
            data = body + b"--x--\r\n"
            reply = app.test_client().post(door, data=data, content_type=BOUNDARY)
            assert reply.status_code in ((413,) if "10,000" in name else (400, 413)), name
    assert_nothing_is_left(app)


# the reader of forms puts aside what may be the start of a boundary, again and again
def test_a_photo_full_of_what_might_be_the_end_of_a_part_is_read(app):
    form = encoded() + b"\r\n--\r\n-" * 40_000
    assert app.test_client().post("/", data=photo_form(form)).status_code == 303


def test_a_full_disk_and_a_store_that_cannot_be_written(app, monkeypatch):
    client, uploads = app.test_client(), app.extensions["emotion"].settings.uploads
    full = Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    with monkeypatch.context() as patch:
        patch.setattr("werkzeug.formparser.SpooledTemporaryFile", full)
        assert [client.post(door, data=photo_form()).status_code for door in DOORS] == [507] * 3
    uploads.write_text("a file where the folder should be")
    for door, status in (("/", 503), ("/api/v1/photos", 503), ("/api/v1/recognize", 200)):
        reply = client.post(door, data=photo_form())
        assert reply.status_code == status
        assert str(uploads) not in reply.text


HEALTH = b"GET /healthz HTTP/1.0\r\n\r\n"
FILE_HEAD = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n\r\n'


def post_head(door, *lines):
    lines = (f"POST {door} HTTP/1.1", "Host: localhost", f"Content-Type: {BOUNDARY}", *lines)
    return "\r\n".join((*lines, "", "")).encode()


def rest_of(line):
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while data := line.recv(65536):
            received += data
    return received.decode() or "reset"


def answer_to(port, start, more=b"", pause_s=DEADLINE_S):
    """Send a start, then more again and again until there is an answer; return the answer."""
    deadline = time.monotonic() + DEADLINE_S
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as line:
        line.sendall(start)
        while not select.select([line], [], [], pause_s)[0]:
            assert time.monotonic() < deadline, "no answer"
            try:
                line.sendall(more)
            except OSError:
                break
        return rest_of(line)


@pytest.mark.parametrize("door", DOORS)
def test_bodies_without_end_or_of_any_length_are_cut(app, door):
    chunked, chunk = post_head(door, "Transfer-Encoding: chunked"), bytes(0x4000)
    broken = post_head(door, "Content-Length: 15000") + FILE_HEAD + encoded()[:3000]
    with served(app) as port:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as line:
                line.sendall(broken)
        answer = answer_to(port, chunked, b"4000\r\n" + chunk + b"\r\n", pause_s=0)
        assert answer == "reset" or answer.startswith("HTTP/1.1 413 ")
        enormous = answer_to(port, post_head(door, f"Content-Length: {10**15}"))
        assert enormous.startswith("HTTP/1.1 413 ")
        assert " 200 OK" in answer_to(port, HEALTH)
    assert_nothing_is_left(app)


def test_only_where_videos_are_sent_to_may_as_much_come_as_a_video_has(tmp_path):
    app = make_app(tmp_path, PORT=0, MAX_UPLOAD_MB=0.02, MAX_VIDEO_MB=2)
    length = (f"Content-Length: {2**20}", "Connection: close")
    body = FILE_HEAD.replace(b"photo", b"video") + bytes(2**20)
    with served(app) as port:
        others = ("/live/frame", "/mine/delete", "/healthz", "/videosXYZ", "/videos/x", "/nothing")
        for door in (*DOORS, *others):
            assert answer_to(port, post_head(door, *length)).startswith("HTTP/1.1 413 ")
        for door in ("/videos", "/api/v1/videos"):
            form = body[: 2**20 - 7] + b"\r\n--x--\r\n"
            assert " 415 " in answer_to(port, post_head(door, *length) + form)


def test_a_connection_that_trickles_is_told_so_and_closed(app, monkeypatch):
    monkeypatch.setattr(server, "GRACE_S", 0.2)
    monkeypatch.setattr(server, "LEAST_BYTES_PER_S", 10**9)
    with served(app) as port:
        for start in (b"GET / HT", post_head("/", "Content-Length: 9999") + FILE_HEAD):
            answer = answer_to(port, start, b"P", pause_s=0.02)
            assert " 408 Request Timeout" in answer
            assert "at least" in answer
        assert " 200 OK" in answer_to(port, HEALTH)
    assert_nothing_is_left(app)


def test_a_flood_sees_only_answers(app):
    """More at once than there are threads: each is answered, by its result or by 503."""
    body = FILE_HEAD + encoded(quality=50) + b"\r\n--x--\r\n"
    head = post_head("/api/v1/recognize", f"Content-Length: {len(body)}", "Connection: close")
    with served(app) as port, ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda _: answer_to(port, head + body), range(40)))
    statuses = {answer.split()[1] for answer in answers}
    assert "200" in statuses
    assert statuses <= {"200", "503"}
    for answer in answers:
        assert json.loads(answer.partition("\r\n\r\n")[2])


@contextlib.contextmanager
def lines_of_another(port, starts):
    """Give connections of another client, each with a start sent on it."""
    with contextlib.ExitStack() as lines:
        opened = []
        for start in starts:
            # all of 127.0.0.0/8 is this machine
            line = socket.create_connection(("127.0.0.1", port), DEADLINE_S, ("127.0.0.2", 0))
            opened.append(lines.enter_context(line))
            with contextlib.suppress(OSError):
                line.sendall(start)
        yield opened


def wait_until_unanswered(lines, count):
    wait_until(lambda: len(lines) - len(select.select(lines, [], [], 0.02)[0]) == count)


@pytest.mark.parametrize(("proxies", "left"), [(0, 3), (1, 20)])
def test_one_address_holds_so_many_connections(tmp_path, proxies, left):
    app = make_app(tmp_path, PORT=0, MAX_CONNECTIONS=3, TRUSTED_PROXIES=proxies)
    with served(app) as port:
        for _ in range(2):  # what is closed counts no more
            with lines_of_another(port, [b"GET / HT"] * 20) as lines:
                wait_until_unanswered(lines, left)
                assert " 200 OK" in answer_to(port, HEALTH)


@pytest.mark.parametrize(("proxies", "left"), [(0, 2), (1, 9)])
def test_one_address_has_so_many_bytes_on_the_way(tmp_path, proxies, left):
    app = make_app(tmp_path, PORT=0, MAX_UPLOAD_MB=0.1, MAX_VIDEO_MB=50, TRUSTED_PROXIES=proxies)
    start = post_head("/videos", f"Content-Length: {30 * 2**20}")
    endless = post_head("/videos", "Transfer-Encoding: chunked") + b"1000000\r\n"
    with served(app) as port, lines_of_another(port, [start] * 9) as lines:
        wait_until_unanswered(lines, left)
        for line in select.select(lines, [], [], 0)[0]:
            assert " 429 " in rest_of(line)
        if not proxies:
            with lines_of_another(port, [endless + bytes(2**24)]) as (line,):
                assert " 429 " in rest_of(line)


def test_a_refusal_is_read_although_the_body_was_not_wanted(tmp_path):
    app = make_app(tmp_path, PORT=0)
    app.extensions["emotion"].videos.full_now = True
    with served(app) as port:
        for size, door, status in (
            (3 * 2**20, "/videos", 503),
            (3 * 2**20, "/api/v1/videos", 503),
            (3 * 2**20, "/healthz", 413),
            (3, "/videos", 400),  # small enough for our page
        ):
            head = post_head(door, f"Content-Length: {size}", "Connection: close")
            answer = answer_to(port, head + b"x" * size)
            assert answer.startswith(f"HTTP/1.1 {status} "), door
            assert ("Retry-After" in answer) == (status == 503)
            assert ("problem+json" in answer) == door.startswith("/api/")


def test_a_full_disk_while_a_body_comes(app, monkeypatch):
    full = Path("/dev/full")
    monkeypatch.setattr(buffers.TempfileBasedBuffer, "newfile", lambda _: full.open("r+b"))
    with served(app) as port:
        head = post_head("/", f"Content-Length: {2**20}", "Connection: close")
        assert answer_to(port, head + bytes(2**20)).startswith("HTTP/1.1 507 ")
        assert " 200 OK" in answer_to(port, HEALTH)
