"""The command line: `python app.py` and `flask --app app run`, each as a process of its own."""

import contextlib
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace
from unittest import mock

import pytest
from web_support import encoded, folders, write_fast_model

import app
from emotion.web.settings import PROJECT_FOLDER

DEADLINE_S = 60
MULTIPART = "multipart/form-data; boundary=x"
FORM = {"Content-Type": MULTIPART}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Return the stem of a model that is served in its fast form."""
    pytest.importorskip("onnx", reason="the fast form is written with onnx")
    return write_fast_model(tmp_path_factory.mktemp("model"))


def environment(folder, **settings):
    """Return an environment in which settings are only those given."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    chosen = {name: str(value) for name, value in settings.items()}
    own = {name: str(path) for name, path in folders(folder).items()}
    return kept | own | {"PYTHONUNBUFFERED": "1"} | chosen


@contextmanager
def running(command, folder, **settings):
    """Give a process that is ended when the test is over."""
    process = subprocess.Popen(
        command,
        cwd=PROJECT_FOLDER,
        env=environment(folder, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # a test run in the background of a shell ignores Ctrl-C, and its children would, too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def finished(arguments, folder, **settings):
    """Return what a command line that ends by itself left behind; run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, environment(folder, **settings), clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = app.main(arguments)
    return SimpleNamespace(returncode=status, stdout=out.getvalue(), stderr=err.getvalue())


def line_with(process, words):
    """Return the next line of a process's output that has these words in it."""
    seen = []
    for line in process.stdout:
        seen.append(line)
        if words in line:
            return line
    pytest.fail(f"no line with {words!r}; the process ended after: {''.join(seen)}")


def port_of(line):
    return int(re.search(r"http://127\.0\.0\.1:(\d+)", line)[1])


def ask(port, method, path, body=None, headers=None):
    """Return the status and the body of a reply."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


def form_with(content, token=""):
    fields = [('name="photo"; filename="a.jpg"', content), ('name="csrf_token"', token.encode())]
    parts = [
        f"--x\r\nContent-Disposition: form-data; {name}\r\n\r\n".encode() + value + b"\r\n"
        for name, value in fields
    ]
    return b"".join(parts) + b"--x--\r\n"


def send_form(port, content):
    """Open the form as a browser does and send it; return the status and the address it names."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request("GET", "/")
        reply = connection.getresponse()
        cookie = reply.headers["Set-Cookie"].partition(";")[0]
        token = re.search(r'name="csrf_token" value="([^"]+)"', reply.read().decode())[1]
        connection.request("POST", "/", form_with(content, token), FORM | {"Cookie": cookie})
        reply = connection.getresponse()
        reply.read()
        return reply.status, reply.headers["Location"]
    finally:
        connection.close()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_serves_until_it_is_stopped(tmp_path, model, stop):
    port = free_port()
    command = [sys.executable, "app.py", "--port", str(port), "--model", str(model)]
    with running(command, tmp_path) as process:
        line = line_with(process, "Serving on")
        assert line == f"Serving on http://127.0.0.1:{port} (Ctrl-C stops)\n"
        assert "Model: tiny (ONNX Runtime, SHA-256 " in line_with(process, "Model:")
        assert ask(port, "GET", "/")[0] == 200
        assert json.loads(ask(port, "GET", "/healthz")[1])["model"]["name"] == "tiny"
        assert "Page not found" in ask(port, "GET", "/nothing")[1]
        status, _ = ask(port, "POST", "/api/v1/recognize", form_with(encoded()), FORM)
        assert status == 200
        process.send_signal(stop)
        assert process.wait(DEADLINE_S) == 0
        rest = process.stdout.read()
    assert "Traceback" not in rest
    lines = [json.loads(line) for line in rest.splitlines() if line.startswith("{")]
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        ("GET", "/", 200),
        ("GET", "/healthz", 200),
        ("GET", None, 404),
        ("POST", "/api/v1/recognize", 200),
    ]


def test_forms_need_their_token_and_get_it_through_the_server(tmp_path, model):
    command = [sys.executable, "app.py", "--port", "0", "--model", str(model)]
    with running(command, tmp_path) as process:
        port = port_of(line_with(process, "Serving on"))
        assert ask(port, "POST", "/", form_with(encoded()), FORM)[0] == 400
        assert send_form(port, encoded())[0] == 303
    assert (tmp_path / "instance" / "secret_key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_monitoring(tmp_path, model, flags):
    done = finished(["monitoring", "--model", str(model), *flags], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["total"] if flags else "No photo" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["monitoring", "--colour", "red"], 2, "unrecognized arguments: --colour red"),
        (["monitoring", "--database-url", "postgresql://127.0.0.1:1/x"], 1, "cannot be reached"),
        (["--json"], 2, "unrecognized arguments: --json"),
        (["watch"], 2, "unrecognized arguments: watch"),
    ],
)
def test_monitoring_that_fails_is_one_line(tmp_path, model, arguments, status, words):
    done = finished([*arguments, "--model", str(model)], tmp_path)
    assert done.returncode == status
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_damaged_secret_key_is_one_line_and_status_2(tmp_path, model):
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance" / "secret_key").write_text("short")
    done = finished(["--port", "0", "--model", str(model)], tmp_path)
    assert done.returncode == 2
    assert "secret key" in done.stderr
    assert done.stderr.count("\n") == 1


def test_flask_run(tmp_path, model):
    port = free_port()
    command = [sys.executable, "-m", "flask", "--app", "app", "run", "--port", str(port)]
    with running(command, tmp_path, MODEL=model) as process:
        line_with(process, "Running on")
        assert ask(port, "GET", "/")[0] == 200
        body, headers = form_with(encoded()), FORM
        assert ask(port, "POST", "/api/v1/recognize", body, headers)[0] == 200


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (["--port", "http"], {}, "0 to 65535"),
        (["--keep-hours", "-1"], {}, "expected KEEP_HOURS"),
        (["--colour", "red"], {}, "unrecognized arguments: --colour red"),
        (["--port"], {}, "expected one argument"),
        ([], {"KEEP_HOURS": "soon"}, "received 'soon'"),
        ([], {"MAX_UPLOAD_MB": "0"}, "expected MAX_UPLOAD_MB"),
        (["--detector", "yunet"], {}, "DETECTOR_MODEL"),
    ],
)
def test_wrong_settings_are_one_line_and_status_2(tmp_path, arguments, settings, words):
    done = finished(arguments, tmp_path, **settings)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.startswith("app.py: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.mark.parametrize("host", ["127.0.0.1", "no.such.host.invalid"])
def test_an_address_that_cannot_be_used_is_one_line_and_status_1(tmp_path, model, host):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "app.py", "--host", host, "--port", port, "--model", str(model)]
        with running(command, tmp_path) as process:
            output = process.stdout.read()
            assert process.wait(DEADLINE_S) == 1
    assert f"{host}, port {port}" in output
    assert output.count("\n") == 1


def test_starts_without_a_model_and_says_so(tmp_path):
    command = [sys.executable, "app.py", "--port", "0", "--model", str(tmp_path / "none")]
    with running(command, tmp_path) as process:
        assert "none.json" in line_with(process, "No m")
        port = port_of(line_with(process, "Serving on"))
        assert ask(port, "GET", "/")[0] == 503
        status, body = ask(port, "GET", "/healthz")
        assert status == 503
        assert str(tmp_path) not in body


def test_no_tensorflow_in_the_serving_process(tmp_path, model):
    code = (
        "import io, sys\n"
        "from app import create_app\n"
        "client = create_app().test_client()\n"
        "data = {'photo': (io.BytesIO(sys.stdin.buffer.read()), 'a.jpg')}\n"
        "assert client.post('/api/v1/recognize', data=data).status_code == 200\n"
        "heavy = {'tensorflow', 'keras', 'matplotlib', 'scipy', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT_FOLDER,
        env=environment(tmp_path, MODEL=model),
        input=encoded(),
        capture_output=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("arguments", [["monitoring"], ["--port", "0"]])
def test_a_reader_that_has_seen_enough_gets_no_traceback(tmp_path, model, arguments):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "app.py", *arguments, "--model", str(model)],
        cwd=PROJECT_FOLDER,
        env=environment(tmp_path),
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=DEADLINE_S,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


SLOW_APP = """
import sys, time
from pathlib import Path
sys.path[:0] = ["tests"]
from web_support import StandInDetector, make_app
from app import open_server, serve

class Slow(StandInDetector):
    def detect(self, image):
        print("busy", flush=True)
        time.sleep(1)
        return super().detect(image)

app = make_app(Path(sys.argv[1]), detector=Slow(), PORT=0, KEEP_HOURS=0.001)
services = app.extensions["emotion"]
server = open_server(app, services.settings)
print(f"http://127.0.0.1:{server.effective_port}", flush=True)
serve(server, app)
"""


def test_a_request_in_hand_is_finished_on_sigterm(tmp_path):
    command = [sys.executable, "-c", SLOW_APP, str(tmp_path)]
    with running(command, tmp_path) as process:
        port = port_of(line_with(process, "http"))
        body = form_with(encoded())
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
        connection.request("POST", "/api/v1/recognize", body, FORM)
        line_with(process, "busy")
        process.send_signal(signal.SIGTERM)
        reply = connection.getresponse()
        assert (reply.status, len(json.loads(reply.read())["faces"])) == (200, 2)
        connection.close()
        assert process.wait(DEADLINE_S) == 0


def test_results_are_removed_while_nobody_visits(tmp_path):
    command = [sys.executable, "-c", SLOW_APP, str(tmp_path)]
    uploads = tmp_path / "uploads"
    with running(command, tmp_path) as process:
        port = port_of(line_with(process, "http"))
        assert ask(port, "POST", "/", form_with(encoded()), FORM)[0] == 303
        deadline = time.monotonic() + DEADLINE_S
        while list(uploads.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not list(uploads.iterdir())


def test_bodies_that_are_too_large_get_our_words_through_the_server(tmp_path, model):
    """With a length and chunked: waitress hands on what Flask then refuses in its own words."""
    command = [sys.executable, "app.py", "--port", "0", "--model", str(model)]
    body = form_with(b"\xff\xd8\xff" + b"\0" * 2**18)
    with running(command, tmp_path, MAX_UPLOAD_MB=0.125) as process:
        port = port_of(line_with(process, "Serving on"))
        for chunked in (False, True):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
            sent = iter([body]) if chunked else body
            path = "/api/v1/recognize"
            connection.request("POST", path, sent, dict(FORM), encode_chunked=chunked)
            reply = connection.getresponse()
            assert reply.status == 413
            assert "0.125 MB" in reply.read().decode()
            connection.close()
