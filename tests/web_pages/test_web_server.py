"""Hostile connections to the real server: each gets an answer and leaves nothing behind."""

import json
import select
import socket
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from web_support import assert_nothing_is_left, encoded, make_app

import app as front_door
from emotion.web import server

DEADLINE_S = 60
DOORS = ("/", "/api/v1/recognize", "/api/v1/photos")


@contextmanager
def served(app):
    """Give the port at which an app is served by the very server of `python app.py`."""
    server = front_door.open_server(app, app.extensions["emotion"].settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server.effective_port
    finally:
        # run in the server's own thread, whose loop ends when no socket is left
        server.trigger.pull_trigger(lambda: server.asyncore.close_all(server._map))
        thread.join(DEADLINE_S)
        server.task_dispatcher.shutdown()


def answer_to(port, start, more=b"", pause_s=0.0):
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
        received = b""
        try:
            while data := line.recv(65536):
                received += data
        except ConnectionResetError:
            pass
        return received.decode() or "reset"


HEAD = (
    "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n{}\r\n"
)
FILE_HEAD = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n\r\n'


@pytest.fixture
def small_app(tmp_path, monkeypatch, cut_forms):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return make_app(tmp_path, PORT=0, MAX_UPLOAD_MB=0.02, MAX_PHOTOS=2)


@pytest.mark.parametrize("door", DOORS)
def test_bodies_without_end_or_of_any_length_are_cut(small_app, door):
    chunked = HEAD.format(door, "Transfer-Encoding: chunked\r\n").encode()
    chunk = b"4000\r\n" + b"\0" * 0x4000 + b"\r\n"
    enormous = HEAD.format(door, f"Content-Length: {10**15}\r\n").encode()
    broken = HEAD.format(door, "Content-Length: 15000\r\n").encode() + FILE_HEAD
    with served(small_app) as port:
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as line:
                line.sendall(broken + encoded()[:3000])
        answer = answer_to(port, chunked, chunk)
        assert answer == "reset" or answer.startswith("HTTP/1.1 413 ")
        assert answer_to(port, enormous, pause_s=DEADLINE_S).startswith("HTTP/1.1 413 ")
        assert " 200 OK" in answer_to(port, b"GET /healthz HTTP/1.0\r\n\r\n", pause_s=DEADLINE_S)
    assert_nothing_is_left(small_app)


def test_only_where_videos_are_sent_to_may_as_much_come_as_a_video_has(tmp_path):
    app = make_app(tmp_path, PORT=0, MAX_UPLOAD_MB=0.02, MAX_VIDEO_MB=2)
    length = f"Content-Length: {2**20}\r\nConnection: close\r\n"
    body = FILE_HEAD.replace(b"photo", b"video") + bytes(2**20)
    with served(app) as port:
        for door in (*DOORS, "/live/frame", "/mine/delete"):
            start = HEAD.format(door, length).encode()
            assert answer_to(port, start, pause_s=DEADLINE_S).startswith("HTTP/1.1 413 ")
        for door in ("/videos", "/api/v1/videos"):
            start = HEAD.format(door, length).encode() + body[: 2**20 - 7] + b"\r\n--x--\r\n"
            assert " 415 " in answer_to(port, start, pause_s=DEADLINE_S)


@pytest.mark.parametrize("where", ["head", "body"])
def test_a_connection_that_trickles_is_told_so_and_closed(small_app, monkeypatch, where):
    monkeypatch.setattr(server, "GRACE_S", 0.2)
    monkeypatch.setattr(server, "LEAST_BYTES_PER_S", 10**9)
    start = HEAD.format("/", "Content-Length: 9999\r\n").encode() + FILE_HEAD
    with served(small_app) as port:
        answer = answer_to(port, start if where == "body" else b"GET / HT", b"P", pause_s=0.02)
        others = answer_to(port, b"GET /healthz HTTP/1.0\r\n\r\n", pause_s=DEADLINE_S)
    assert " 408 Request Timeout" in answer
    assert "at least" in answer
    assert " 200 OK" in others
    assert_nothing_is_left(small_app)


def test_a_flood_sees_only_answers(small_app):
    """More at once than there are threads: each is answered, by its result or by 503."""
    body = FILE_HEAD + encoded(quality=50) + b"\r\n--x--\r\n"
    length = f"Content-Length: {len(body)}\r\nConnection: close\r\n"
    head = HEAD.format("/api/v1/recognize", length).encode()
    with served(small_app) as port, ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(answer_to, port, head + body, b"", DEADLINE_S) for _ in range(40)]
        answers = [answer.result() for answer in waiting]
    statuses = {answer.split()[1] for answer in answers}
    assert "200" in statuses
    assert statuses <= {"200", "503"}
    for answer in answers:
        assert json.loads(answer.partition("\r\n\r\n")[2])
