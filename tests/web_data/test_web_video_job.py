"""The process that decodes a stranger's video: what it imports, makes and survives."""

import io
import json
import struct
import subprocess
import sys

import pytest
from web_videos import send, wait_for

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
def film(tmp_path):
    """Return a function: the bytes of a video that a helper of `video_files` writes."""
    video_files = pytest.importorskip("video_files")

    def film(helper, *arguments, **options):
        write = getattr(video_files, helper)
        return write(tmp_path / "film.mp4", *arguments, **options).read_bytes()

    film.helpers = video_files
    return film


@pytest.fixture
def real(make):
    """Return a function: a client of an app that really works on videos."""
    return lambda **settings: make(command=workers.COMMAND, **settings).test_client()


def test_a_real_video(real, film, tmp_path):
    import av

    client = real()
    pictures, sound = film.helpers.moving_faces(12, (320, 240)), film.helpers.clicks(1.2, [0.5])
    content = film("write_pictures", pictures, sound=sound)
    video = wait_for(client, send(client, content), "done", FAILED)
    assert video["state"] == "done", video["problem"]
    facts = {"width": 320, "height": 240, "fps": 10.0, "frames": 12, "has_sound": True}
    assert video["video"] == facts | {"duration_s": pytest.approx(1.2, abs=0.1)}
    (track,) = video["summary"]["tracks"]
    assert track["seconds"] > 0.5
    files = {
        name: client.get(address, buffered=True).data
        for name, address in video["links"]["files"].items()
    }
    with av.open(io.BytesIO(files["video"])) as container:
        assert (container.streams.video[0].codec.name, len(container.streams.audio)) == ("h264", 1)
        assert sum(1 for _ in container.decode(video=0)) == 12
    for name, start in {"poster": b"\xff\xd8", "timeline": b"\x89PNG", "parquet": b"PAR1"}.items():
        assert files[name].startswith(start)
    assert len(files["csv"].splitlines()) == 13
    assert len(files["jsonl"].splitlines()) == 12
    assert json.loads(files["summary"])["tracks"] == video["summary"]["tracks"]
    for path in (tmp_path / "uploads").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def box(kind, content=b""):
    """Return a box of an MP4."""
    return struct.pack(">I", len(content) + 8) + kind + content


FTYP = box(b"ftyp", b"isom\0\0\2\0isomiso2mp41")


def test_hostile_files_end_their_own_work_alone(real, film):
    client = real(VIDEO_WORKERS=2, MAX_VIDEO_MINUTES=0.01)
    small, nested = film("steady_video"), b""
    for _ in range(3000):
        nested = box(b"moov", nested)
    hostile = {
        "noise": FTYP + bytes(range(256)) * 500,
        "cut off": small[: len(small) // 3],
        "boxes in boxes": FTYP + nested,
        "a list of files": FTYP + b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "Matroska of noise": b"\x1aE\xdf\xa3" + bytes(range(255, 0, -1)) * 200,
        "transport stream of nothing": (b"G" + b"\xff" * 187) * 400,
        "too long": small,
    }
    videos = {name: send(client, content) for name, content in hostile.items()}
    for name, video in videos.items():
        told = wait_for(client, video, "done", FAILED)
        assert (name, told["state"]) == (name, FAILED)
        for word in ("/", "passwd", "Traceback", "your video: "):
            assert word not in told["problem"], (name, told["problem"])
        assert told["problem"].endswith(".")
        assert told["problem"] != workers.DIED, name
    assert "0.6 s" in told["problem"]
    assert client.get("/").status_code == 200


def test_work_beyond_its_memory_ends_alone(real, film, monkeypatch):
    # a library that gets no memory may wait for a thread that it could not start
    monkeypatch.setattr(workers, "SILENCE_S", 5.0)
    client = real(VIDEO_MEMORY_MB=512)
    content = film("steady_video", count=2, size_wh=(3840, 2160))
    video = wait_for(client, send(client, content), "done", FAILED)
    assert (video["state"], bool(video["problem"])) == (FAILED, True)
    assert client.get("/").status_code == 200
