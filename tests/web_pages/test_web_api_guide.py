"""docs/api.md: its examples run, and it names every address and status."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import video_job_stand_in
from web_support import encoded, looking_model, make_app

from emotion.web.openapi import PROBLEMS, describe
from emotion.web.settings import Settings

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
SHELL = ("bash", "-euo", "pipefail", "-c")


@pytest.fixture
def run(tmp_path, serve):
    """Give a function that runs an example against a live server and returns what it prints."""
    app = make_app(tmp_path / "server", looking_model(), PORT=0)
    command = (sys.executable, video_job_stand_in.__file__)
    app.extensions["emotion"].videos.workers.command = command
    address = serve(app)
    for name in ("photo.jpg", "other.jpg"):
        (tmp_path / name).write_bytes(encoded())
    (tmp_path / "film.mp4").write_bytes(video_job_stand_in.sent())

    def run(example, *command):
        text = example.replace("http://127.0.0.1:5000", address)
        done = subprocess.run(
            [*command, text], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    assert not list((tmp_path / "server").rglob("*.jpg")), "the examples delete what they sent"


def examples(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.S)


def test_python_examples_run(run):
    (example,) = examples("python")
    lines = run(example, sys.executable, "-c").splitlines()
    assert len(lines) == 2 * 2 + 1
    assert lines[-1] == "1 photos of mine"


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="needs curl and jq")
def test_curl_examples_run(run, tmp_path):
    one, several, video = examples("sh")
    assert len(json.loads(run(one, *SHELL))["faces"]) == 2
    printed = run(several, *SHELL)
    assert '"share"' in printed
    assert printed.strip().endswith("2")
    assert '"verdict": "happy"' in run(video, *SHELL)
    assert (tmp_path / "emotions.parquet").exists()


def test_the_text_names_every_address_and_every_status():
    paths = describe(Settings(), "/api/v1")["paths"]
    described = {(method.upper(), path) for path, item in paths.items() for method in item}
    assert set(re.findall(r"^\| `([A-Z]+) (/[^`]*)` \|", TEXT, re.M)) == described
    assert set(map(int, re.findall(r"^\| (\d{3}) \|", TEXT, re.M))) == set(PROBLEMS)
