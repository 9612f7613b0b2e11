"""The command line: `python app.py` as a process of its own."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from unittest import mock

import pytest
from model_folder import write_pair
from web_support import encoded, folders, wait_until

import app
from emotion.web.settings import PROJECT_FOLDER

DEADLINE_S = 60
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
SERVER = [sys.executable, "app.py"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pytest.importorskip("onnx", reason="the fast form is written with onnx")
    return write_pair(tmp_path_factory.mktemp("model") / "tiny").stem


def environment(folder, **settings):
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    chosen = {name: str(value) for name, value in {**folders(folder), **settings}.items()}
    return kept | {"PYTHONUNBUFFERED": "1"} | chosen


@contextmanager
def running(command, folder, **settings):
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


def line_with(process, words):
    seen = []
    for line in process.stdout:
        seen.append(line)
        if words in line:
            return line
    pytest.fail(f"no line with {words!r}; the process ended after: {''.join(seen)}")


def port_of(line):
    return int(re.search(r"http://127\.0\.0\.1:(\d+)", line)[1])


def ask(port, method, path, body=None):
    address = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    with contextlib.closing(address) as connection:
        connection.request(method, path, body, FORM)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()


def form_with(content):
    head = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a.jpg"\r\n\r\n'
    return head + content + b"\r\n--x--\r\n"


def test_serves_until_it_is_stopped(tmp_path, model):
    command = [*SERVER, "--port", "0", "--model", str(model)]
    large = form_with(b"\xff\xd8\xff" + b"\0" * 2**18)
    api = "/api/v1/recognize"
    with running(command, tmp_path, MAX_UPLOAD_MB=0.125) as process:
        port = port_of(line_with(process, "Serving on"))
        assert "tiny (ONNX Runtime, SHA-256 " in line_with(process, "Model:")
        assert json.loads(ask(port, "GET", "/healthz")[1])["model"]["name"] == "tiny"
        assert ask(port, "GET", "/nothing")[0] == 404
        assert ask(port, "POST", api, form_with(encoded()))[0] == 200
        # with a length and chunked: waitress hands on what Flask then refuses in its own words
        for body in (large, iter([large])):
            status, words = ask(port, "POST", api, body)
            assert (status, "0.125 MB" in words) == (413, True)
        assert ask(port, "POST", "/", form_with(encoded()))[0] == 400, "a form needs its token"
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) == 0
        rest = process.stdout.read()
    assert (tmp_path / "instance" / "secret_key").stat().st_mode & 0o777 == 0o600
    assert "Traceback" not in rest
    lines = [json.loads(line) for line in rest.splitlines() if line.startswith("{")]
    told = [(line["method"], line["route"], line["status"]) for line in lines]
    assert told[:3] == [("GET", "/healthz", 200), ("GET", None, 404), ("POST", api, 200)]


NO_DATABASE = ["monitoring", "--database-url", "postgresql://127.0.0.1:1/x"]
MISTAKES = (
    (NO_DATABASE, {}, 1, "cannot be reached"),
    (["watch"], {}, 2, "watch"),
    (["--port", "http"], {}, 2, "0 to 65535"),
    ([], {"KEEP_HOURS": "soon"}, 2, "'soon'"),
    (["--port", "0"], {}, 2, "secret key"),
)


def test_mistakes_are_one_line_and_the_report_is_text_or_json(tmp_path, model, capsys):
    def run(arguments, **settings):
        chosen = environment(tmp_path, MODEL=model, **settings)
        with mock.patch.dict(os.environ, chosen, clear=True):
            return app.main(arguments), *capsys.readouterr()

    (tmp_path / "instance").mkdir()
    (tmp_path / "instance" / "secret_key").write_text("short")
    for arguments, settings, status, words in MISTAKES:
        found, out, err = run(arguments, **settings)
        assert (found, out) == (status, ""), arguments
        assert words in err
        assert err.startswith("app.py: ")
        assert err.count("\n") == 1
    for flags in ([], ["--json"]):
        found, out, err = run(["monitoring", *flags])
        assert (found, err) == (0, "")
        assert json.loads(out)["total"] if flags else "No photo" in out


ONE_PHOTO = """
import io, sys
from app import create_app
form = {"photo": (io.BytesIO(sys.stdin.buffer.read()), "a.jpg")}
assert create_app().test_client().post("/api/v1/recognize", data=form).status_code == 200
heavy = {"tensorflow", "keras", "matplotlib", "scipy", "pydantic", "cv2", "onnxruntime"}
heavy &= set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""


def test_processes_that_end_by_themselves(tmp_path, model):
    """With nothing that decodes in the one that serves; no reader; an address in use."""

    def run(*command, **options):
        options |= {"cwd": PROJECT_FOLDER, "env": environment(tmp_path, MODEL=model)}
        done = subprocess.run(command, stderr=subprocess.PIPE, timeout=DEADLINE_S, **options)
        return done.returncode, done.stderr.decode()

    assert run(sys.executable, "-c", ONE_PHOTO, input=encoded()) == (0, "")
    reader, writer = os.pipe()
    os.close(reader)
    assert run(*SERVER, "monitoring", stdout=writer) == (1, "")
    os.close(writer)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, error = run(*SERVER, "--port", port)
    assert (status, error.count("\n")) == (1, 1)
    assert f"127.0.0.1, port {port}" in error


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
        assert ask(port, "POST", "/", form_with(encoded()))[0] == 303
        line_with(process, "busy")
        wait_until(lambda: not list(uploads.iterdir()))
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask, port, "POST", "/api/v1/recognize", form_with(encoded()))
            line_with(process, "busy")
            process.send_signal(signal.SIGTERM)
            status, body = asked.result()
        assert (status, len(json.loads(body)["faces"])) == (200, 2)
        assert process.wait(DEADLINE_S) == 0
