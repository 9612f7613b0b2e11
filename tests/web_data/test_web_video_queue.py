"""The queue of videos: shared by threads, processes and machines, whatever ends them."""

import io
import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import video_job_stand_in as stand_in
from web_videos import (
    PATIENCE_S,
    ROOT,
    Clock,
    send,
    videos_of,
    wait_for,
    wait_until,
    workers_of,
)

from emotion.errors import QueueFullError
from emotion.web.settings import PROJECT_FOLDER
from emotion.web.storage import new_id
from emotion.web.videos import workers
from emotion.web.videos.queue import FAILED, RUNNING, SILENT_S, WAITING, VideoRow, VideoRows
from emotion.web.videos.service import UNFINISHED_S


def test_a_process_that_fell_silent_loses_its_video_until_it_happens_too_often(make):
    clock = Clock()
    app = make(clock=clock)
    videos, now_s = videos_of(app), clock()
    lost, deadly = (VideoRow(new_id(), "", now_s, now_s + UNFINISHED_S) for _ in range(2))
    for row in (lost, deadly):
        videos.files.receive(row.id, io.BytesIO(stand_in.sent()))
    videos.rows.add(lost, 10)
    dead = videos.rows.claim(new_id(), now_s)
    used_up = {"state": RUNNING, "beat_s": now_s, "attempts": workers.MOST_ATTEMPTS}
    videos.rows.add(replace(deadly, **used_up), 10)
    room = videos.files.make_room(dead.id, dead.attempt)
    (room / "half").write_text("half of it")
    assert videos.rows.claim(new_id(), now_s + SILENT_S - 1) is None
    clock.ahead_s = SILENT_S + 1
    videos.workers.start()
    client = app.test_client()
    wait_for(client, {"links": {"self": f"{ROOT}/{lost.id}"}}, "done")
    wait_until(lambda: not room.exists())
    # the dead one wakes up: it may neither tell nor end anything any more
    changes = (videos.rows.hand_back(dead), videos.rows.finish(dead))
    assert not any((videos.rows.beat(dead, clock(), "{}"), *changes))
    given_up = wait_for(client, {"links": {"self": f"{ROOT}/{deadly.id}"}}, FAILED)
    assert given_up["problem"] == workers.TOO_OFTEN


def test_several_apps_share_the_queue_and_do_each_video_once(make):
    apps = [make() for _ in range(3)]
    client = apps[0].test_client()
    for app in apps:
        videos_of(app).workers.start()
    videos = [send(client, steps=3, pause_s=0.05) for _ in range(6)]
    for video in videos:
        wait_for(client, video, "done")
    wait_until(lambda: sum(videos_of(app).workers.ended["done"] for app in apps) == 6)
    (count,) = apps[0].extensions["emotion"].database.counts().videos
    assert count.videos == 6


@pytest.fixture
def rows(database):
    return VideoRows(database)


NOW_S = 1_795_260_000.0


def row_of(number):
    return VideoRow(f"{number:022d}", "visitor", NOW_S + number, NOW_S + 3600)


def test_each_video_is_claimed_once_and_the_queue_is_bounded_when_many_come_at_once(rows):
    with ThreadPoolExecutor(8) as pool:
        adding = [pool.submit(rows.add, row_of(number), 4) for number in range(8)]
    refused = [job.exception() for job in adding if job.exception()]
    assert [type(error) for error in refused] == [QueueFullError] * 4
    assert rows.count(WAITING) == 4
    kept = [row_of(n).id for n, job in enumerate(adding) if not job.exception()]
    assert rows.before(rows.find(kept[2], NOW_S)) == 2

    def claim(_):
        return list(iter(lambda: getattr(rows.claim(new_id(), NOW_S + 10), "id", None), None))

    with ThreadPoolExecutor(4) as pool:
        claimed = [found for each in pool.map(claim, range(4)) for found in each]
    assert sorted(claimed) == kept
    assert rows.count(RUNNING) == 4


def test_rows_are_found_by_their_own_keys_and_changed_by_their_own_attempt_alone(rows):
    rows.add(row_of(1), 10)
    assert rows.find(row_of(1).id, NOW_S) == row_of(1)
    assert rows.find(row_of(1).id, NOW_S + 3600) is None
    assert rows.expired(NOW_S + 3600) == [row_of(1).id]
    for text in ("", "x\0y", "' OR 1=1 --", "A" * 22):
        assert rows.find(text, NOW_S) is None
        assert not rows.remove(text)
        assert rows.of_visitor(text, NOW_S) == ()
    assert rows.of_visitor("visitor", NOW_S) == (row_of(1),)
    row = rows.claim(new_id(), NOW_S + 5)
    assert (row.state, row.attempts, row.beat_s) == (RUNNING, 1, NOW_S + 5)
    assert rows.beat(row, NOW_S + 6, '{"share": 0.5}')
    assert rows.hand_back(row)
    assert not rows.beat(row, NOW_S + 7, "{}")
    assert rows.find(row.id, NOW_S).attempts == 0
    assert rows.remove(row.id)
    assert not rows.finish(row)


HARNESS = """
import sys
from pathlib import Path
sys.path[:0] = ["tests"]
import video_job_stand_in as stand_in
from web_support import make_app
import app as front_door

app = make_app(Path(sys.argv[1]), PORT=0)
app.extensions["emotion"].videos.workers.command = (sys.executable, stand_in.__file__)
server = front_door.open_server(app, app.extensions["emotion"].settings)
print(server.effective_port, flush=True)
front_door.serve(server, app)
"""


def post_video(address, content):
    """Send a video by HTTP; return its document."""
    head = 'Content-Disposition: form-data; name="video"; filename="a.mp4"'
    body = f"--x\r\n{head}\r\n\r\n".encode() + content + b"\r\n--x--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    return fetch(Request(f"{address}{ROOT}", data=body, headers=kind))


def fetch(request):
    with urlopen(request, timeout=PATIENCE_S) as reply:
        return json.loads(reply.read())


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux' /proc")
def test_an_app_that_is_ended_leaves_no_process_and_loses_no_video(tmp_path, make):
    endings = {signal.SIGTERM: (WAITING, 0), signal.SIGKILL: (RUNNING, 1)}
    with ExitStack() as ended:
        apps = {}
        for how in endings:
            command = [sys.executable, "-c", HARNESS, str(tmp_path / how.name)]
            apps[how] = subprocess.Popen(command, cwd=PROJECT_FOLDER, stdout=subprocess.PIPE)
            ended.enter_context(apps[how])
            ended.callback(apps[how].kill)
        for how, process in apps.items():
            address = f"http://127.0.0.1:{int(process.stdout.readline())}"
            video = post_video(address, stand_in.sent(steps=40, pause_s=0.1))
            wait_until(lambda page=address + video["links"]["self"]: fetch(page)["progress"])
            (worker,) = workers_of(process.pid)
            process.send_signal(how)
            process.wait(PATIENCE_S)
            wait_until(lambda worker=worker: not worker.exists())
            clock = Clock()
            app = make(tmp_path / how.name, clock=clock)
            row = videos_of(app).rows.find(video["id"], clock())
            assert (row.state, row.attempts) == endings[how]
            clock.ahead_s = SILENT_S + 1
            videos_of(app).workers.start()
            wait_for(app.test_client(), video, "done")
