"""docs/api.md: its examples run, and it names every address and status."""

import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import video_job_stand_in
from web_support import (
    encoded,
    looking_model,
    make_app,
)
from werkzeug.serving import make_server

from emotion.web.openapi import PROBLEMS, describe
from emotion.web.settings import Settings

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "api.md"


def everything_under(folder):
    return sorted(path.name for path in folder.rglob("*.jpg"))


@pytest.fixture
def server(tmp_path):
    """Return the address of a live server and a folder with the photos that the text names."""
    app = make_app(tmp_path / "server", looking_model())
    live = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=live.serve_forever)
    thread.start()
    for name in ("photo.jpg", "other.jpg"):
        (tmp_path / name).write_bytes(encoded())
    (tmp_path / "film.mp4").write_bytes(video_job_stand_in.sent())
    workers = app.extensions["emotion"].videos.workers
    workers.command = (sys.executable, video_job_stand_in.__file__)
    yield f"http://127.0.0.1:{live.port}", tmp_path
    live.shutdown()
    thread.join()
    live.server_close()
    workers.stop()


def blocks_of_text(language):
    """Return the examples of the text in a language."""
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)


def run_example(server, command, text):
    """Run an example against the live server; return what it prints."""
    address, folder = server
    text = text.replace("http://127.0.0.1:5000", address)
    done = subprocess.run([*command, text], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_python_examples_run(server):
    (example,) = blocks_of_text("python")
    lines = run_example(server, [sys.executable, "-c"], example).splitlines()
    assert len(lines) == 2 * 2 + 1
    assert lines[-1] == "1 photos of mine"
    assert everything_under(server[1] / "server") == []


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="needs curl and jq")
def test_curl_examples_run(server):
    one, several, video = blocks_of_text("sh")
    shell = ["bash", "-euo", "pipefail", "-c"]
    assert len(json.loads(run_example(server, shell, one))["faces"]) == 2
    printed = run_example(server, shell, several)
    assert '"share"' in printed
    assert printed.strip().endswith("2")
    assert '"verdict": "happy"' in run_example(server, shell, video)
    assert (server[1] / "emotions.parquet").exists()
    assert everything_under(server[1] / "server") == []


def test_the_text_names_every_address_and_every_status():
    text = GUIDE.read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `([A-Z]+) (/[^`]*)` \|", text, re.M))
    document = describe(Settings(), "/api/v1")
    described = {
        (method.upper(), path)
        for path, item in document["paths"].items()
        for method in item
        if method != "parameters"
    }
    assert named == described
    assert set(map(int, re.findall(r"^\| (\d{3}) \|", text, re.M))) == set(PROBLEMS)
