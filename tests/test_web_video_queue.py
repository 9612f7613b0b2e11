"""The queue of videos: shared by threads, processes and machines, whatever ends them."""

import io
import json
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import video_job_stand_in as stand_in
from test_web_database import postgresql  # noqa: F401  (a fixture)
from web_videos import (
    PATIENCE_S,
    ROOT,
    Clock,
    left_on_disk,
    make_fixture,  # noqa: F401  (a fixture)
    send,
    videos_of,
    wait_for,
    wait_until,
)

from emotion.errors import QueueFullError
from emotion.web.database import Database
from emotion.web.settings import PROJECT_FOLDER
from emotion.web.storage import new_id
from emotion.web.videos import workers
from emotion.web.videos.queue import FAILED, RUNNING, SILENT_S, WAITING, VideoRow, VideoRows
from emotion.web.videos.service import UNFINISHED_S


def test_a_process_that_fell_silent_loses_its_video(make):
    clock = Clock()
    app = make(clock=clock)
    videos = videos_of(app)
    now_s = clock()
    lost = VideoRow(new_id(), "", now_s, now_s + UNFINISHED_S)
    videos.files.receive(lost.id, io.BytesIO(stand_in.sent()))
    videos.rows.add(lost, 10)
    dead = videos.rows.claim(new_id(), now_s)
    room = videos.files.make_room(dead.id, dead.attempt)
    (room / "half").write_text("half of it")
    assert videos.rows.claim(new_id(), now_s + SILENT_S - 1) is None
    clock.ahead_s = SILENT_S + 1
    videos.workers.start()
    client = app.test_client()
    wait_for(client, {"links": {"self": f"{ROOT}/{lost.id}"}}, "done")
    wait_until(lambda: not room.exists())
    # the dead one wakes up: it may neither tell nor end anything any more
    assert not videos.rows.beat(dead, clock(), "{}")
    assert not videos.rows.hand_back(dead)
    assert not videos.rows.finish(dead)


def test_a_video_on_which_the_app_ends_again_and_again_is_given_up(make):
    clock = Clock()
    app = make(clock=clock)
    videos = videos_of(app)
    row = VideoRow(new_id(), "", clock(), clock() + UNFINISHED_S)
    videos.files.receive(row.id, io.BytesIO(stand_in.sent()))
    videos.rows.add(row, 10)
    for _ in range(workers.MOST_ATTEMPTS):
        assert videos.rows.claim(new_id(), clock())
        clock.ahead_s += SILENT_S + 1
    videos.workers.start()
    client = app.test_client()
    video = wait_for(client, {"links": {"self": f"{ROOT}/{row.id}"}}, FAILED)
    assert video["problem"] == workers.TOO_OFTEN
    wait_until(lambda: left_on_disk(app) == [row.id])


def test_several_apps_share_the_queue_and_do_each_video_once(make):
    apps = [make() for _ in range(3)]
    client = apps[0].test_client()
    for app in apps:
        videos_of(app).workers.start()
    videos = [send(client, steps=3, pause_s=0.05) for _ in range(9)]
    for video in videos:
        wait_for(client, video, "done")
    wait_until(lambda: sum(videos_of(app).workers.ended["done"] for app in apps) == 9)
    (count,) = apps[0].extensions["emotion"].database.counts().videos
    assert count.videos == 9


@pytest.fixture(params=["sqlite", "postgresql"])
def rows(request, tmp_path):
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'a.sqlite'}"
    else:
        server = request.getfixturevalue("postgresql")
        server.empty()
        url = server.url
    database = Database(url)
    yield VideoRows(database)
    database.close()


NOW_S = 1_795_260_000.0


def row_of(number, **changes):
    return VideoRow(f"{number:022d}", "visitor", NOW_S + number, NOW_S + 3600, **changes)


def test_each_video_is_claimed_once_in_the_order_they_came(rows):
    for number in (3, 1, 2):
        rows.add(row_of(number), 10)
    assert rows.before(rows.find(row_of(2).id, NOW_S)) == 1
    claimed, lock = [], threading.Lock()

    def claim():
        while row := rows.claim(new_id(), NOW_S + 10):
            with lock:
                claimed.append(row.id)

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == [row_of(number).id for number in (1, 2, 3)]
    assert rows.count(RUNNING) == 3
    assert rows.claim(new_id(), NOW_S + 10) is None


def test_the_queue_is_bounded_also_when_many_add_at_once(rows):
    refused = []

    def add(number):
        try:
            rows.add(row_of(number), 4)
        except QueueFullError as error:
            refused.append(error)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (rows.count(WAITING), len(refused)) == (4, 4)


def test_rows_are_found_by_their_own_keys_alone(rows):
    rows.add(row_of(1), 10)
    assert rows.find(row_of(1).id, NOW_S) == row_of(1)
    assert rows.find(row_of(1).id, NOW_S + 3600) is None
    assert rows.expired(NOW_S + 3600) == (row_of(1).id,)
    for text in ("", "x\0y", "' OR 1=1 --", "A" * 22):
        assert rows.find(text, NOW_S) is None
        assert not rows.remove(text)
        assert rows.of_visitor(text, NOW_S) == ()
    assert rows.of_visitor("visitor", NOW_S) == (row_of(1),)
    assert rows.remove(row_of(1).id)


def test_work_is_told_and_ended_by_its_own_attempt_alone(rows):
    rows.add(row_of(1), 10)
    row = rows.claim(new_id(), NOW_S + 5)
    assert (row.state, row.attempts, row.beat_s) == (RUNNING, 1, NOW_S + 5)
    assert rows.beat(row, NOW_S + 6, '{"share": 0.5}')
    assert rows.hand_back(row)
    assert not rows.beat(row, NOW_S + 7, "{}")
    assert rows.find(row.id, NOW_S).attempts == 0
    rows.remove(row.id)
    assert not rows.finish(row)


HARNESS = """
import signal, sys, threading
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


@contextmanager
def served(folder):
    """Serve an app in a process of its own; give the process and the address."""
    process = subprocess.Popen(
        [sys.executable, "-c", HARNESS, str(folder)], cwd=PROJECT_FOLDER, stdout=subprocess.PIPE
    )
    try:
        yield process, f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


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
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_an_app_that_is_ended_leaves_no_process_and_loses_no_video(tmp_path, make, how):
    with served(tmp_path) as (process, address):
        video = post_video(address, stand_in.sent(steps=40, pause_s=0.1))
        page = f"{address}{video['links']['self']}"
        wait_until(lambda: fetch(page)["progress"])
        workers = [
            child
            for thread in Path(f"/proc/{process.pid}/task").iterdir()
            for child in (thread / "children").read_text().split()
        ]
        assert len(workers) == 1
        process.send_signal(how)
        process.wait(PATIENCE_S)
        wait_until(lambda: not Path(f"/proc/{workers[0]}/cmdline").exists())
    clock = Clock()
    app = make(clock=clock)
    row = videos_of(app).rows.find(video["id"], clock())
    if how == signal.SIGTERM:
        assert (row.state, row.attempts) == (WAITING, 0)
    else:
        assert (row.state, row.attempts) == (RUNNING, 1)
        clock.ahead_s = SILENT_S + 1
    videos_of(app).workers.start()
    wait_for(app.test_client(), video, "done")
