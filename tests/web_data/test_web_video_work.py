"""The work on videos: its queue, whatever ends those who share it, and the process that decodes."""

import io
import json
import re
import signal
import socket
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import video_job_stand_in as stand_in
from web_support import wait_until
from web_videos import Clock, send, videos_of, wait_for, workers_of

from emotion.errors import QueueFullError
from emotion.web.settings import PROJECT_FOLDER
from emotion.web.storage import new_id
from emotion.web.videos import workers
from emotion.web.videos.queue import DONE, FAILED, RUNNING, SILENT_S, WAITING, VideoRow

NOW_S = 1_795_260_000.0


def queued(videos, now_s, content, **state):
    row = replace(VideoRow(new_id(), "", now_s, now_s + 3600), **state)
    videos.files.create(row.id, {"your video": io.BytesIO(content)})
    videos.database.add_video(row, "", 10, 10)
    return row


def test_a_process_that_fell_silent_loses_its_video_until_it_happens_too_often(make):
    clock = Clock()
    videos, now_s = videos_of(make(clock=clock)), clock()
    rows = videos.database
    lost = queued(videos, now_s, stand_in.sent())
    dead = rows.claim(new_id(), now_s)
    used_up = {"state": RUNNING, "beat_s": now_s, "attempts": workers.MOST_ATTEMPTS}
    deadly = queued(videos, now_s, stand_in.sent(), **used_up)
    room = videos.files.make_room(dead.id, dead.attempt)
    (room / "half").write_text("half of it")
    assert rows.claim(new_id(), now_s + SILENT_S - 1) is None
    clock.ahead_s = SILENT_S + 1
    videos.workers.start()
    wait_until(lambda: videos.find(lost.id).state == DONE)
    wait_until(lambda: not room.exists())
    # the dead one wakes up: it may neither tell nor end anything any more
    assert not any((rows.change(dead, progress="{}"), rows.finish(dead)))
    wait_until(lambda: videos.find(deadly.id).state == FAILED)
    assert videos.find(deadly.id).problem == workers.TOO_OFTEN


def row_of(number):
    return VideoRow(f"{number:022d}", "visitor", NOW_S + number, NOW_S + 3600)


def test_each_video_is_claimed_once_and_the_queue_is_bounded_when_many_come_at_once(database):
    with ThreadPoolExecutor(8) as pool:
        adding = [pool.submit(database.add_video, row_of(n), "", 4, 8) for n in range(8)]
    refused = [job.exception() for job in adding if job.exception()]
    assert [type(error) for error in refused] == [QueueFullError] * 4
    assert database.videos_waiting() == 4
    kept = [row_of(n).id for n, job in enumerate(adding) if not job.exception()]
    assert database.videos_before(database.video(kept[2], NOW_S), NOW_S) == 2

    def claim(_):
        return list(iter(lambda: getattr(database.claim(new_id(), NOW_S + 10), "id", None), None))

    with ThreadPoolExecutor(4) as pool:
        claimed = [found for each in pool.map(claim, range(4)) for found in each]
    assert sorted(claimed) == kept
    assert database.videos_waiting() == 0


@pytest.mark.parametrize("ends", [True, False])
def test_senders_take_turns_whoever_came_first(database, ends):
    senders, turns = "aaabaabc", []
    for number, sender in enumerate(senders):
        database.add_video(replace(row_of(number), visitor=sender), sender * 4, 10, 10)
    rows = {n: database.video(row_of(n).id, NOW_S) for n in range(len(senders))}
    foreseen = sorted(rows, key=lambda n: database.videos_before(rows[n], NOW_S))
    for n in range(len(senders)):
        row = database.claim(new_id(), NOW_S + 100 + n)
        turns.append(row.visitor)
        if ends:
            database.finish(replace(row, state=DONE))
    assert "".join(turns) == "abcabaaa"
    assert [rows[n].visitor for n in foreseen] == turns


HARNESS = """
import sys
from pathlib import Path
sys.path[:0] = ["tests"]
import video_job_stand_in as stand_in
from web_support import make_app
import app as front_door

app = make_app(Path(sys.argv[1]), PORT=0)
app.extensions["emotion"].videos.workers.command = (sys.executable, stand_in.__file__)
front_door.serve(front_door.open_server(app, app.extensions["emotion"].settings), app)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux' /proc")
def test_an_app_that_is_ended_leaves_no_process_and_loses_no_video(tmp_path, make):
    endings, apps = {signal.SIGTERM: (WAITING, 0), signal.SIGKILL: (RUNNING, 1)}, {}
    with ExitStack() as ended:
        for how in endings:
            command = [sys.executable, "-c", HARNESS, str(tmp_path / how.name)]
            apps[how] = ended.enter_context(subprocess.Popen(command, cwd=PROJECT_FOLDER))
            ended.callback(apps[how].kill)
        for how, process in apps.items():
            clock = Clock()
            videos = videos_of(make(tmp_path / how.name, clock=clock))
            key = queued(videos, clock(), stand_in.sent(steps=40, pause_s=0.1)).id
            wait_until(lambda find=videos.find, key=key: find(key).progress)
            (worker,) = workers_of(process.pid)
            process.send_signal(how)
            process.wait(240)
            wait_until(lambda worker=worker: not worker.exists())
            row = videos.find(key)
            assert (row.state, row.attempts) == endings[how]
            clock.ahead_s = SILENT_S + 1
            videos.workers.start()
            wait_until(lambda find=videos.find, key=key: find(key).state == DONE)


SANDBOXED = """
import socket, sys
from pathlib import Path
from emotion.web import sandbox

if not sandbox.drop_network():
    sys.exit(77)
sandbox.limit_process(2**28, cpu_s=60, file_bytes=2**20)
folder, port = Path(sys.argv[1]), int(sys.argv[2])
(folder / "made").write_text((folder / "there").read_text())
try:
    socket.create_connection(("127.0.0.1", port), 5)
except OSError:
    bytes(2**29)
"""


def test_a_process_that_decodes_has_files_but_neither_network_nor_all_memory(tmp_path):
    (tmp_path / "there").write_text("words")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        command = [sys.executable, "-c", SANDBOXED, str(tmp_path), port]
        done = subprocess.run(command, cwd=PROJECT_FOLDER, capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("this system lets nobody leave the network")
    assert "MemoryError" in done.stderr
    made = tmp_path / "made"
    assert (made.read_text(), made.stat().st_mode & 0o777) == ("words", 0o600)


@pytest.fixture
def film(tmp_path):
    video_files = pytest.importorskip("video_files")

    def film(helper, *arguments, **options):
        write = getattr(video_files, helper)
        return write(tmp_path / "film.mp4", *arguments, **options).read_bytes()

    film.helpers = video_files
    return film


@pytest.fixture
def real(make):
    return lambda **settings: make(command=workers.COMMAND, **settings).test_client()


def test_a_real_video(real, film, tmp_path):
    import av

    client = real()
    pictures, sound = film.helpers.moving_faces(12, (320, 240)), film.helpers.clicks(1.2, [0.5])
    content = film("write_pictures", pictures, sound=sound)
    video = wait_for(client, send(client, content), DONE, FAILED)
    assert video["state"] == DONE, video["problem"]
    facts = {"width": 320, "height": 240, "fps": 10.0, "frames": 12, "has_sound": True}
    assert video["video"] == facts | {"duration_s": pytest.approx(1.2, abs=0.1)}
    (track,) = video["summary"]["tracks"]
    assert track["seconds"] > 0.5
    page = client.get(video["links"]["page"]).text
    (crop,) = set(re.findall(r'src="(/videos/[^"]+/face-1.jpg)"', page))
    crop = client.get(crop, buffered=True)
    assert (crop.mimetype, crop.data[:2]) == ("image/jpeg", b"\xff\xd8")
    widths = re.findall(r'<rect x="[\d.]+" y="[\d.]+" width="([\d.]+)"', page)
    assert sum(map(float, widths)) == pytest.approx(track["seconds"], abs=0.05)
    files = {
        name: client.get(address, buffered=True).data
        for name, address in video["links"]["files"].items()
    }
    with av.open(io.BytesIO(files["video"])) as container:
        assert (container.streams.video[0].codec.name, len(container.streams.audio)) == ("h264", 1)
        assert sum(1 for _ in container.decode(video=0)) == 12
    for name, start in {"poster": b"\xff\xd8", "timeline": b"\x89PNG", "parquet": b"PAR1"}.items():
        assert files[name].startswith(start)
    assert [len(files[name].splitlines()) for name in ("csv", "jsonl")] == [13, 12]
    assert json.loads(files["summary"])["tracks"] == video["summary"]["tracks"]
    for path in (tmp_path / "uploads").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def box(kind, content=b""):
    return struct.pack(">I", len(content) + 8) + kind + content


FTYP = box(b"ftyp", b"isom\0\0\2\0isomiso2mp41")


def test_hostile_files_end_their_own_work_alone(real, film):
    client = real(VIDEO_WORKERS=2, MAX_VIDEO_MINUTES=0.01, MAX_VIDEOS_WAITING_EACH=9)
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
        told = wait_for(client, video, DONE, FAILED)
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
    video = wait_for(client, send(client, content), DONE, FAILED)
    assert (video["state"], bool(video["problem"])) == (FAILED, True)
    assert client.get("/").status_code == 200
