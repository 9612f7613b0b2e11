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
        is_chunked = body is not None and not isinstance(body, bytes)
        connection.request(method, path, body, dict(headers or {}), encode_chunked=is_chunked)
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


def test_serves_until_it_is_stopped(tmp_path, model):
    port = free_port()
    command = [sys.executable, "app.py", "--port", str(port), "--model", str(model)]
    large = form_with(b"\xff\xd8\xff" + b"\0" * 2**18)
    api = "/api/v1/recognize"
    with running(command, tmp_path, MAX_UPLOAD_MB=0.125) as process:
        assert f"http://127.0.0.1:{port} " in line_with(process, "Serving on")
        assert "tiny (ONNX Runtime, SHA-256 " in line_with(process, "Model:")
        assert json.loads(ask(port, "GET", "/healthz")[1])["model"]["name"] == "tiny"
        assert ask(port, "GET", "/nothing")[0] == 404
        assert ask(port, "POST", api, form_with(encoded()), FORM)[0] == 200
        # with a length and chunked: waitress hands on what Flask then refuses in its own words
        for body in (large, iter([large])):
            status, words = ask(port, "POST", api, body, FORM)
            assert (status, "0.125 MB" in words) == (413, True)
        # a form needs its token, and gets it
        assert ask(port, "POST", "/", form_with(encoded()), FORM)[0] == 400
        assert send_form(port, encoded())[0] == 303
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
        rest = process.stdout.read()
    assert (tmp_path / "instance" / "secret_key").stat().st_mode & 0o777 == 0o600
    assert "Traceback" not in rest
    lines = [json.loads(line) for line in rest.splitlines() if line.startswith("{")]
    told = [(line["method"], line["route"], line["status"]) for line in lines]
    assert told[:3] == [("GET", "/healthz", 200), ("GET", None, 404), ("POST", api, 200)]


def test_flask_run_without_a_model(tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "flask", "--app", "app", "run", "--port", str(port)]
    with running(command, tmp_path, MODEL=tmp_path / "none") as process:
        line_with(process, "Running on")
        assert ask(port, "GET", "/")[0] == 503
        status, body = ask(port, "GET", "/healthz")
        assert status == 503
        assert "none.json" in body
        assert str(tmp_path) not in body


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_monitoring(tmp_path, model, flags):
    done = finished(["monitoring", "--model", str(model), *flags], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["total"] if flags else "No photo" in done.stdout


NO_DATABASE = ["monitoring", "--database-url", "postgresql://127.0.0.1:1/x"]
MISTAKES = (
    (["monitoring", "--colour", "red"], {}, 2, "unrecognized arguments: --colour red"),
    (NO_DATABASE, {}, 1, "cannot be reached"),
    (["watch"], {}, 2, "watch"),
    (["--json"], {}, 2, "--json"),
    (["--port", "http"], {}, 2, "0 to 65535"),
    (["--keep-hours", "-1"], {}, 2, "KEEP_HOURS"),
    (["--port"], {}, 2, "expected one argument"),
    ([], {"KEEP_HOURS": "soon"}, 2, "'soon'"),
    ([], {"MAX_UPLOAD_MB": "0"}, 2, "MAX_UPLOAD_MB"),
    (["--detector", "yunet"], {}, 2, "DETECTOR_MODEL"),
    (["--port", "0"], {}, 2, "secret key"),
)


@pytest.mark.parametrize(("arguments", "settings", "status", "words"), MISTAKES)
def test_mistakes_are_one_line(tmp_path, model, arguments, settings, status, words):
    if words == "secret key":
        (tmp_path / "instance").mkdir()
        (tmp_path / "instance" / "secret_key").write_text("short")
    done = finished([*arguments, "--model", str(model)], tmp_path, **settings)
    if arguments == ["--port"]:
        done = finished(arguments, tmp_path)
    assert done.returncode == status
    assert words in done.stderr
    assert done.stderr.startswith("app.py: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_an_address_that_cannot_be_used_is_one_line_and_status_1(tmp_path, model):
    host = "127.0.0.1"
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


def test_a_reader_that_has_seen_enough_gets_no_traceback(tmp_path, model):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "app.py", "monitoring", "--model", str(model)],
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


def test_what_is_in_hand_is_finished_on_sigterm_and_results_go_while_nobody_visits(tmp_path):
    command = [sys.executable, "-c", SLOW_APP, str(tmp_path)]
    uploads = tmp_path / "uploads"
    with running(command, tmp_path) as process:
        port = port_of(line_with(process, "http"))
        assert ask(port, "POST", "/", form_with(encoded()), FORM)[0] == 303
        line_with(process, "busy")
        deadline = time.monotonic() + DEADLINE_S
        while list(uploads.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not list(uploads.iterdir())
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
        connection.request("POST", "/api/v1/recognize", form_with(encoded()), FORM)
        line_with(process, "busy")
        process.send_signal(signal.SIGTERM)
        reply = connection.getresponse()
        assert (reply.status, len(json.loads(reply.read())["faces"])) == (200, 2)
        connection.close()
        assert process.wait(DEADLINE_S) == 0
