"""The process that decodes a stranger's video: what it imports, makes and survives."""

import io
import json
import struct
import subprocess
import sys

import pytest
from web_videos import (
    ROOT,
    form_of,
    wait_for,
)

from emotion.web.settings import PROJECT_FOLDER
from emotion.web.videos import workers
from emotion.web.videos.queue import FAILED

APP = {"flask", "werkzeug", "sqlalchemy", "flask_limiter", "flask_wtf", "prometheus_client"}


def test_it_imports_no_flask_and_no_database():
    code = "import sys, emotion.web.videos.job; print(*{n.split('.')[0] for n in sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT_FOLDER, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    names = set(result.stdout.split())
    assert "emotion" in names
    assert not names & APP


@pytest.fixture
def real(make):
    """Return a client of an app that really works on videos, with the model of the repository."""
    pytest.importorskip("av")
    return make(command=workers.COMMAND).test_client()


def film(tmp_path, write, *arguments, **options):
    """Return the bytes of a video that one of the helpers writes."""
    return write(tmp_path / "film.mp4", *arguments, **options).read_bytes()


def test_a_real_video(real, tmp_path):
    import av

    video_files = pytest.importorskip("video_files")
    pictures = video_files.moving_faces(12, (320, 240))
    sound = video_files.clicks(1.2, [0.5])
    content = film(tmp_path, video_files.write_pictures, pictures, sound=sound)
    video = wait_for(real, send_bytes(real, content), "done", FAILED)
    assert video["state"] == "done", video["problem"]
    assert video["video"] == {
        "width": 320,
        "height": 240,
        "fps": 10.0,
        "frames": 12,
        "duration_s": pytest.approx(1.2, abs=0.1),
        "has_sound": True,
    }
    (track,) = video["summary"]["tracks"]
    assert track["seconds"] > 0.5
    files = {
        name: real.get(address, buffered=True).data
        for name, address in video["links"]["files"].items()
    }
    with av.open(io.BytesIO(files["video"])) as container:
        assert (container.streams.video[0].codec.name, len(container.streams.audio)) == ("h264", 1)
        assert sum(1 for _ in container.decode(video=0)) == 12
    assert files["poster"].startswith(b"\xff\xd8")
    assert files["timeline"].startswith(b"\x89PNG")
    assert len(files["csv"].splitlines()) == 13
    assert len(files["jsonl"].splitlines()) == 12
    assert files["parquet"].startswith(b"PAR1")
    assert json.loads(files["summary"])["tracks"] == video["summary"]["tracks"]
    for path in (tmp_path / "uploads").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def send_bytes(client, content):
    reply = client.post(ROOT, data=form_of(content))
    assert reply.status_code == 202, reply.text
    return reply.json


def box(kind, *contents):
    """Return a box of an MP4."""
    body = b"".join(contents)
    return struct.pack(">I", len(body) + 8) + kind + body


FTYP = box(b"ftyp", b"isom\0\0\2\0isomiso2mp41")


def test_hostile_files_end_their_own_work_alone(make, tmp_path):
    video_files = pytest.importorskip("video_files")
    pytest.importorskip("av")
    real = make(command=workers.COMMAND, VIDEO_WORKERS=2, MAX_VIDEO_MINUTES=0.01).test_client()
    small = film(tmp_path, video_files.steady_video)
    hostile = {
        "noise": FTYP + bytes(range(256)) * 500,
        "cut off": small[: len(small) // 3],
        "boxes in boxes": FTYP + nested(b"moov", 3000),
        "a list of files": FTYP + b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "Matroska of noise": b"\x1aE\xdf\xa3" + bytes(range(255, 0, -1)) * 200,
        "transport stream of nothing": (b"G" + b"\xff" * 187) * 400,
        "too long": small,
    }
    videos = {name: send_bytes(real, content) for name, content in hostile.items()}
    for name, video in videos.items():
        told = wait_for(real, video, "done", FAILED)
        assert (name, told["state"]) == (name, FAILED)
        for word in ("/", "passwd", "Traceback", "your video: "):
            assert word not in told["problem"], (name, told["problem"])
        assert told["problem"].endswith(".")
        assert told["problem"] != workers.DIED, name
    assert "0.6 s" in told["problem"]
    assert real.get("/").status_code == 200


def nested(kind, depth):
    content = b""
    for _ in range(depth):
        content = box(kind, content)
    return content


def test_work_beyond_its_memory_ends_alone(make, tmp_path, monkeypatch):
    pytest.importorskip("av")
    # a library that gets no memory may wait for a thread that it could not start
    monkeypatch.setattr(workers, "SILENCE_S", 5.0)
    video_files = pytest.importorskip("video_files")
    client = make(command=workers.COMMAND, VIDEO_MEMORY_MB=512).test_client()
    content = film(tmp_path, video_files.steady_video, count=2, size_wh=(3840, 2160))
    video = wait_for(client, send_bytes(client, content), "done", FAILED)
    assert video["state"] == FAILED
    assert video["problem"]
    assert client.get("/").status_code == 200
