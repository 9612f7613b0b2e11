"""Videos in the web app: sent, worked on outside of requests, watched, cancelled, kept and removed.

Most tests have a stand-in for the process that does the work; the last ones have the real one.
"""

import errno
import importlib.util
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
import video_job_stand_in as stand_in
from test_web_database import postgresql  # noqa: F401  (a fixture)
from web_support import make_app, make_app_without_model, photo_form, upload

from emotion.web.database import Database, DatabaseError
from emotion.web.errors import QueueFullError
from emotion.web.settings import PROJECT_FOLDER
from emotion.web.storage import PART_AGE_S, new_id
from emotion.web.videos import workers
from emotion.web.videos.queue import FAILED, RUNNING, SILENT_S, WAITING, VideoRow, VideoRows
from emotion.web.videos.service import UNFINISHED_S, looks_like_video

ROOT = "/api/v1/videos"
COMMAND = (sys.executable, stand_in.__file__)
PATIENCE_S = 60  # the machine may be busy
SLOW = {"steps": 100_000, "pause_s": 0.05}
DOORS = ("/videos", ROOT)


class Clock:
    """A clock that is set by hand, and goes on from there."""

    def __init__(self):
        self.ahead_s = 0.0

    def __call__(self):
        return time.time() + self.ahead_s


@pytest.fixture
def make(tmp_path):
    """Return a function that makes an app with a stand-in for the work; all are stopped."""
    apps = []

    def make_one(folder=tmp_path, command=COMMAND, **settings):
        app = make_app(folder, **{"VIDEO_RATE_LIMIT": "1000 per minute", **settings})
        app.extensions["emotion"].videos.workers.command = command
        apps.append(app)
        return app

    yield make_one
    for app in apps:
        app.extensions["emotion"].videos.workers.stop()
        app.extensions["emotion"].database.close()


def videos_of(app):
    return app.extensions["emotion"].videos


def form_of(content=None, name="holiday.mp4", **orders):
    """Return a form that brings a video."""
    content = stand_in.sent(**orders) if content is None else content
    return {"video": (io.BytesIO(content), name)}


def send(client, **orders):
    """Send a video by the API; return its document."""
    reply = client.post(ROOT, data=form_of(**orders))
    assert reply.status_code == 202, reply.text
    return reply.json


def wait_for(client, video, *states):
    """Return the document of a video once it is in one of some states."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        document = client.get(video["links"]["self"]).json
        if document["state"] in states:
            return document
        time.sleep(0.05)
    raise AssertionError(f"still {document}")


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def left_on_disk(app):
    folder = videos_of(app).files.folder
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# From a video to its page


def test_a_video_goes_from_the_form_to_its_page(make):
    client = make().test_client()
    reply = client.post("/videos", data=form_of())
    assert reply.status_code == 303
    page = reply.headers["Location"]
    assert len(page.rpartition("/")[2]) == 22
    wait_until(lambda: "<video" in client.get(page).text)
    text = client.get(page).text
    assert "2 faces in your video" in text
    for words in ("Face 1", "happy", "1.5 s", "unsure", "Delete now", "There was none"):
        assert words in text
    assert 'alt="Timeline of emotions: face 1 from 0:00 to 0:02, most of the time happy;' in text
    assert client.get(page).headers["Cache-Control"] == "private, no-store"
    assert "noindex" in client.get(page).headers["X-Robots-Tag"]
    assert "media-src 'self'" in client.get(page).headers["Content-Security-Policy"]


def test_every_file_can_be_had_whole_and_in_part(make):
    client = make().test_client()
    video = wait_for(client, send(client), "done")
    for name, address in video["links"]["files"].items():
        reply = client.get(address, buffered=True)
        assert (name, reply.status_code) == (name, 200)
        assert "no-store" in reply.headers["Cache-Control"]
    address = video["links"]["files"]["video"]
    assert client.get(address, buffered=True).mimetype == "video/mp4"
    part = client.get(address, headers={"Range": "bytes=256-257"}, buffered=True)
    assert (part.status_code, part.data) == (206, b"\0\1")
    assert part.headers["Content-Range"] == "bytes 256-257/10240"
    assert client.get(address, headers={"Range": "bytes=99999-"}).status_code == 416
    download = client.get(f"/videos/{video['id']}/emotions.csv?download=1", buffered=True)
    assert "attachment" in download.headers["Content-Disposition"]


def test_of_what_was_sent_neither_file_nor_name_stays(make, tmp_path):
    app = make()
    client = app.test_client()
    video = wait_for(client, send(client, secret="a secret word"), "done")
    wait_until(lambda: not any("your video" in path for path in left_on_disk(app)))
    names = {Path(path).name for path in left_on_disk(app)}
    assert {"annotated.mp4", "emotions.parquet", "facts.json"} <= names
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"holiday" not in everything
    assert b"a secret word" not in everything
    assert video["problem"] is None


def test_progress_is_told_on_page_and_api(make):
    client = make().test_client()
    video = send(client, **SLOW)
    assert (video["state"], video["before"], video["summary"]) in [
        (state, 0, None) for state in (WAITING, RUNNING)
    ]
    wait_until(lambda: client.get(video["links"]["self"]).json["progress"])
    progress = client.get(video["links"]["self"]).json["progress"]
    assert (progress["frame_count"], progress["duration_s"], progress["faces"]) == (20, 2.0, 1)
    text = client.get(video["links"]["page"]).text
    assert '<noscript><meta http-equiv="refresh"' in text
    for words in ("<progress", "Time left", "3 seconds", "of 0:02", 'role="status"'):
        assert words in text
    assert client.get(f"/videos/{video['id']}/annotated.mp4").status_code == 404


def test_the_queue_is_told_and_bounded(make):
    app = make(MAX_VIDEOS_WAITING=2)
    client = app.test_client()
    first = send(client, **SLOW)
    wait_for(client, first, RUNNING)
    second, third = send(client), send(client)
    assert (second["before"], third["before"]) == (0, 1)
    assert "It is next." in client.get(second["links"]["page"]).text
    assert "One video is before it." in client.get(third["links"]["page"]).text
    for door in DOORS:
        refused = client.post(door, data=form_of())
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) == 60
        assert "Many videos wait" in refused.text
    assert len(list(videos_of(app).files.folder.iterdir())) == 3
    client.delete(first["links"]["self"])
    assert wait_for(client, third, "done")["before"] == 0


def test_several_are_worked_on_at_once_where_the_setting_says_so(make):
    client = make(VIDEO_WORKERS=2).test_client()
    videos = [send(client, **SLOW) for _ in range(3)]
    for video in videos[:2]:
        wait_for(client, video, RUNNING)
    assert client.get(videos[2]["links"]["self"]).json["state"] == WAITING


def test_videos_have_a_rate_of_their_own(make):
    client = make(VIDEO_RATE_LIMIT="2 per hour", RATE_LIMIT="1 per hour").test_client()
    assert client.post("/videos", data=form_of()).status_code == 303
    assert client.post(ROOT, data=form_of()).status_code == 202
    for door in DOORS:
        reply = client.post(door, data=form_of())
        assert reply.status_code == 429
        assert int(reply.headers["Retry-After"]) > 0
    assert client.post("/", data=photo_form()).status_code == 303


def test_another_model_can_be_chosen_and_only_one_that_is_offered(make, tmp_path):
    client = make().test_client()
    reply = client.post(ROOT, data=form_of() | {"model": "no/such"})
    assert reply.status_code == 400
    assert client.post(ROOT, data=form_of() | {"model": "detection_model"}).status_code == 202


# What is no video


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (form_of(b""), 400, "empty"),
        ({}, 400, "video"),
        ({"video": "text"}, 400, "received text"),
        ({"video": (io.BytesIO(b""), "")}, 400, "none was chosen"),
        (form_of(b"\xff\xd8\xff\xe0 a photo"), 415, "MP4"),
        (form_of(b"\0\0\0\x18ftypheic" + b"\0" * 40), 415, "MP4"),
        (form_of(b"#EXTM3U\nfile:///etc/passwd"), 415, "MP4"),
        (form_of(b"ffconcat version 1.0\nfile /etc/passwd"), 415, "MP4"),
        (form_of(bytes(300_000)), 413, "0.125 MB"),
    ],
)
def test_what_is_no_video_is_told_at_once(make, door, data, status, words):
    app = make(MAX_VIDEO_MB=0.125)
    copies = {
        key: (io.BytesIO(value[0].getvalue()), value[1]) if isinstance(value, tuple) else value
        for key, value in data.items()
    }
    reply = app.test_client().post(door, data=copies, content_type="multipart/form-data")
    assert reply.status_code == status
    assert words in reply.text
    assert reply.headers["Cache-Control"] == "no-store"
    if door == "/videos":
        assert 'id="video-form"' in reply.text
    assert not videos_of(app).files.folder.exists()


@pytest.mark.parametrize(
    ("head", "is_video"),
    [
        (b"\0\0\0\x14ftypqt  ", True),
        (b"\x1aE\xdf\xa3" + b"\0" * 20, True),
        (b"RIFF\0\0\0\0AVI LIST", True),
        (b"RIFF\0\0\0\0WEBPVP8 ", False),
        ((b"G" + b"\0" * 187) * 3, True),
        (b"G" * 20, False),
        (b"GIF89a", False),
        (b"", False),
    ],
)
def test_heads_of_files(head, is_video):
    assert looks_like_video(head) is is_video


def test_two_videos_at_a_time_are_one_too_many(make):
    data = {"video": [(io.BytesIO(stand_in.sent()), "a.mp4"), (io.BytesIO(b"b"), "b.mp4")]}
    reply = make().test_client().post(ROOT, data=data)
    assert reply.status_code == 400
    assert "expected one video at a time" in reply.json["detail"].lower()


def test_forms_need_their_token(tmp_path):
    app = make_app(tmp_path, flask_config={"WTF_CSRF_ENABLED": True})
    reply = app.test_client().post("/videos", data=form_of())
    assert reply.status_code == 400
    assert not videos_of(app).files.folder.exists()


# Where videos are not taken


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"KEEP_HOURS": 0}, "this server keeps nothing"), ({"VIDEO_WORKERS": 0}, "not taken here")],
)
def test_where_videos_are_not_taken_the_form_says_so(make, settings, words):
    client = make(**settings).test_client()
    page = client.get("/").text
    assert words in page
    assert 'id="video-form"' not in page
    for door in DOORS:
        reply = client.post(door, data=form_of())
        assert reply.status_code == 409
        assert words in reply.text


def test_without_the_package_the_form_says_so(make, monkeypatch):
    found = importlib.util.find_spec

    def find(name, *rest):
        return None if name == "av" else found(name, *rest)

    client = make().test_client()
    monkeypatch.setattr(importlib.util, "find_spec", find)
    assert "this server lacks av." in client.get("/").text
    assert client.post(ROOT, data=form_of()).status_code == 409


def test_without_a_model_no_video_is_taken(tmp_path):
    client = make_app_without_model(tmp_path).test_client()
    assert client.post(ROOT, data=form_of()).status_code == 503


# Ends of all kinds


SENTENCE = "Expected a video; it is none."


@pytest.mark.parametrize(
    ("orders", "words"),
    [
        ({"say": {"problem": "expected a video; it is none"}}, SENTENCE),
        ({"say": {"problem": "a" * 5000}}, "A" + "a" * 999),
        ({"say": {"mistake": "Traceback: /a/secret/path"}}, workers.DIED),
        ({"kill": signal.SIGKILL}, workers.DIED),
        ({"kill": signal.SIGSEGV}, workers.DIED),
        ({"kill": signal.SIGXCPU}, workers.TOO_LONG),
        ({"say": {"done": {"faces": "many"}}}, workers.DIED),
        ({"say": ["no object"]}, workers.DIED),
        ({"say": {"progress": {"share": {}, "left_s": "x"}}, "status": 3}, workers.DIED),
    ],
)
def test_a_work_that_fails_is_told_and_harms_nobody(make, orders, words, caplog):
    app = make()
    client = app.test_client()
    video = wait_for(client, send(client, **orders), FAILED)
    assert video["problem"].startswith(words)
    assert len(video["problem"]) <= 1001
    page = client.get(video["links"]["page"])
    assert page.status_code == 200
    assert "could not be used" in page.text
    assert "secret" not in page.text
    wait_until(lambda: left_on_disk(app) == [video["id"]])
    assert wait_for(client, send(client), "done")["problem"] is None


def test_a_part_that_could_not_be_read_is_told(make):
    client = make().test_client()
    video = wait_for(client, send(client, problem="it is damaged after 1.0 s"), "done")
    assert video["problem"] == "It is damaged after 1.0 s."
    assert "It is damaged after 1.0 s." in client.get(video["links"]["page"]).text


@pytest.mark.parametrize("name", ["SILENCE_S", "START_S"])
def test_a_work_that_takes_too_long_is_ended(make, monkeypatch, name):
    monkeypatch.setattr(workers, name, 0.0)
    monkeypatch.setattr(workers, "TIMES_ITS_LENGTH", 0.0)
    client = make().test_client()
    pause_s = 5 if name == "SILENCE_S" else 0.05
    video = wait_for(client, send(client, steps=100_000, pause_s=pause_s), FAILED)
    assert video["problem"] == workers.TOO_LONG


def test_a_program_that_cannot_be_started_is_told(make):
    client = make(command=("/no/such/program",)).test_client()
    assert wait_for(client, send(client), FAILED)["problem"] == workers.CANNOT_START


# Cancelling, deleting, and time


@pytest.mark.parametrize("door", DOORS)
def test_cancelled_work_stops_at_once_and_nothing_is_kept(make, door):
    app = make()
    client = app.test_client()
    video = send(client, **SLOW)
    wait_for(client, video, RUNNING)
    wait_until(lambda: processes_of(app))
    (process,) = processes_of(app)
    if door == ROOT:
        assert client.delete(video["links"]["self"]).status_code == 204
    else:
        reply = client.post(f"/videos/{video['id']}/delete")
        assert reply.headers["Location"] == "/?deleted=video"
        assert "nothing of it is kept" in client.get(reply.headers["Location"]).text
    assert client.get(video["links"]["self"]).status_code == 404
    assert client.get(video["links"]["page"]).status_code == 404
    wait_until(lambda: not process.exists())
    wait_until(lambda: left_on_disk(app) == [])
    wait_until(lambda: not videos_of(app).workers.in_work)
    assert videos_of(app).workers.ended == {"cancelled": 1}


def processes_of(app):
    """Return the processes that work on videos, as they appear in the system."""
    command = str(COMMAND[1]).encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if command in path.read_bytes().split(b"\0") and is_child(path.parent):
                found.append(path)
        except OSError:
            continue
    return found


def is_child(folder):
    return int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == os.getpid()


def test_one_that_waits_can_be_cancelled(make):
    app = make()
    client = app.test_client()
    wait_for(client, send(client, **SLOW), RUNNING)
    video = send(client)
    assert client.delete(video["links"]["self"]).status_code == 204
    assert client.get(video["links"]["self"]).status_code == 404
    assert client.delete(video["links"]["self"]).status_code == 404


def test_a_stranger_with_the_link_sees_a_video_and_cannot_delete_it(make):
    app = make()
    client, stranger = app.test_client(), app.test_client()
    videos = [(send(client), "done"), (send(client, kill=signal.SIGKILL), FAILED)]
    videos = [wait_for(client, video, state) for video, state in videos]
    videos.append(wait_for(client, send(client, **SLOW), RUNNING))
    for video in videos:
        page, api = video["links"]["page"], video["links"]["self"]
        assert f"{page}/delete" in client.get(page).text
        assert f"{page}/delete" not in stranger.get(page).text
        assert stranger.post(f"{page}/delete").status_code == 403
        assert stranger.delete(api).status_code == 403
        assert stranger.get(api).status_code == 200
        assert client.delete(api).status_code == 204
        assert stranger.get(api).status_code == 404


def test_results_go_when_their_time_is_up(make, tmp_path):
    clock = Clock()
    app = make(clock=clock, KEEP_HOURS=1)
    client = app.test_client()
    done = wait_for(client, send(client), "done")
    broken = wait_for(client, send(client, kill=signal.SIGKILL), FAILED)
    clock.ahead_s = 3590
    assert client.get(done["links"]["page"]).status_code == 200
    clock.ahead_s = 3700
    for video in (done, broken):
        assert client.get(video["links"]["page"]).status_code == 404
        assert client.get(f"/videos/{video['id']}/annotated.mp4").status_code == 404
    videos_of(app).sweep()
    assert left_on_disk(app) == []
    assert videos_of(app).rows.known([done["id"], broken["id"]]) == set()


def test_time_counts_from_the_end_of_the_work_and_a_day_at_most(make):
    clock = Clock()
    app = make(clock=clock, KEEP_HOURS=0.001)
    client = app.test_client()
    first, second = send(client, **SLOW), send(client)
    wait_for(client, first, RUNNING)
    clock.ahead_s = 3600
    videos_of(app).sweep()
    assert client.get(second["links"]["self"]).json["state"] == WAITING
    clock.ahead_s = UNFINISHED_S + 60
    videos_of(app).sweep()
    wait_until(lambda: left_on_disk(app) == [])
    wait_until(lambda: not videos_of(app).workers.in_work)


def test_what_a_crash_left_is_removed_after_an_hour(make):
    clock = Clock()
    app = make(clock=clock)
    client = app.test_client()
    video = wait_for(client, send(client), "done")
    folder = videos_of(app).files.folder
    orphan, part, other = folder / new_id(), folder / f".part-{new_id()}", folder / "notes.txt"
    for path in (orphan, part):
        path.mkdir()
        (path / "your video").write_bytes(b"left")
    other.write_text("somebody's own")
    videos_of(app).sweep()
    assert orphan.exists()
    clock.ahead_s = PART_AGE_S + 60
    videos_of(app).sweep()
    assert not orphan.exists()
    assert not part.exists()
    assert other.exists()
    assert client.get(video["links"]["files"]["video"], buffered=True).status_code == 200


def test_links_in_the_folder_are_not_followed(make, tmp_path):
    app = make()
    client = app.test_client()
    video = wait_for(client, send(client), "done")
    (path,) = videos_of(app).files.folder.rglob("emotions.csv")
    (tmp_path / "secret").write_text("secret")
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    assert client.get(video["links"]["files"]["csv"]).status_code == 404
    assert client.get(f"/videos/{video['id']}/facts.json").status_code == 404
    assert client.get(f"/videos/{video['id']}/../../instance/secret_key").status_code == 404


# One's own


def test_my_results_list_videos_and_delete_them(make):
    app = make()
    client = app.test_client()
    client.get("/")
    upload(client)
    done = wait_for(client, send(client), "done")
    broken = wait_for(client, send(client, kill=signal.SIGKILL), FAILED)
    running = send(client, **SLOW)
    wait_for(client, running, RUNNING)
    waiting = send(client)
    mine = client.get("/api/v1/mine").json
    assert [video["id"] for video in mine["videos"]] == [
        each["id"] for each in (waiting, running, broken, done)
    ]
    assert mine["videos"][-1]["emotions"] == ["happy", "unsure"]
    text = " ".join(client.get("/mine").text.split())
    for words in ("waits for its turn", "is worked on", "could not be used", "2 faces"):
        assert words in text
    other = app.test_client()
    assert other.get("/api/v1/mine").json["videos"] == []
    client.post("/mine/delete")
    assert client.get("/api/v1/mine").json == {"photos": [], "videos": []}
    assert client.get(done["links"]["page"]).status_code == 404
    wait_until(lambda: left_on_disk(app) == [])


def test_deleting_one_leads_back_to_the_list(make):
    client = make().test_client()
    video = wait_for(client, send(client), "done")
    reply = client.post(f"/videos/{video['id']}/delete?back=mine")
    assert reply.headers["Location"] == "/mine?deleted=1"


# Figures


def test_videos_are_counted_without_anything_they_could_be_known_by(make, caplog):
    app = make(METRICS="on", MONITORING="on")
    client = app.test_client()
    with caplog.at_level("INFO"):
        video = wait_for(client, send(client), "done")
        wait_for(client, send(client, kill=signal.SIGKILL), FAILED)
        wait_until(lambda: videos_of(app).workers.ended.total() == 2)
    metrics = client.get("/metrics").text
    for line in ('emotion_videos_total{outcome="done"} 1.0', "emotion_videos_in_work 0.0"):
        assert line in metrics
    assert "emotion_videos_waiting 0.0" in metrics
    (count,) = app.extensions["emotion"].database.counts().videos
    assert (count.videos, count.without_face, count.faces, count.seconds) == (1, 0, 2, 2.0)
    facts = client.get("/api/v1/monitoring").json
    assert facts["videos"] == {"videos": 1, "without_face": 0, "faces": 2, "seconds": 2.0}
    assert "Videos" in client.get("/monitoring").text
    lines = " ".join(record.getMessage() + str(record.__dict__) for record in caplog.records)
    assert "video done" in lines
    assert "holiday" not in lines
    assert video["id"] not in lines


# A disk or a database that fails


@pytest.mark.parametrize("door", DOORS)
def test_a_full_disk_is_told_and_nothing_stays(make, monkeypatch, door):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    app = make()
    monkeypatch.setattr(shutil, "copyfileobj", fail)
    reply = app.test_client().post(door, data=form_of())
    assert reply.status_code == 507
    assert left_on_disk(app) == []


def test_a_disk_that_is_full_when_the_work_begins_is_told(make, monkeypatch):
    app = make()

    def fail(*_):
        raise workers.StorageError(OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr(videos_of(app).files, "make_room", fail)
    client = app.test_client()
    assert "disk is full" in wait_for(client, send(client), FAILED)["problem"]


def test_a_database_that_goes_away_keeps_no_file(make, monkeypatch):
    app = make()

    def fail(*_):
        raise DatabaseError("expected a database; it cannot be reached")

    monkeypatch.setattr(VideoRows, "add", fail)
    assert app.test_client().post(ROOT, data=form_of()).status_code == 503
    assert left_on_disk(app) == []


def test_a_database_that_is_away_for_a_while_ends_no_work(make, monkeypatch):
    app = make()
    client = app.test_client()
    beat, fails = VideoRows.beat, threading.Event()

    def beat_or_fail(*arguments):
        if not fails.is_set():
            fails.set()
            raise DatabaseError("expected a database; it cannot be reached")
        return beat(*arguments)

    monkeypatch.setattr(VideoRows, "beat", beat_or_fail)
    video = send(client, steps=20, pause_s=0.1)
    wait_for(client, video, "done")
    assert fails.is_set()


# The end of the app, and several of them


def test_what_was_in_work_when_the_app_ended_is_begun_anew(make):
    first = make()
    client = first.test_client()
    video = send(client, steps=30, pause_s=0.1)
    wait_for(client, video, RUNNING)
    videos_of(first).workers.stop()
    assert processes_of(first) == []
    row = videos_of(first).rows.find(video["id"], time.time())
    assert (row.state, row.attempts) == (WAITING, 0)
    second = make().test_client()
    assert second.get(video["links"]["self"]).json["state"] in (WAITING, RUNNING)
    wait_for(second, video, "done")


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


# The real work


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
    pictures = video_files.moving_faces(20, (320, 240))
    sound = video_files.clicks(2.0, [0.5])
    content = film(tmp_path, video_files.write_pictures, pictures, sound=sound)
    video = wait_for(real, send_bytes(real, content), "done", FAILED)
    assert video["state"] == "done", video["problem"]
    assert video["video"] == {
        "width": 320,
        "height": 240,
        "fps": 10.0,
        "frames": 20,
        "duration_s": pytest.approx(2.0, abs=0.1),
        "has_sound": True,
    }
    (track,) = video["summary"]["tracks"]
    assert track["seconds"] > 1
    files = {
        name: real.get(address, buffered=True).data
        for name, address in video["links"]["files"].items()
    }
    with av.open(io.BytesIO(files["video"])) as container:
        assert (container.streams.video[0].codec.name, len(container.streams.audio)) == ("h264", 1)
        assert sum(1 for _ in container.decode(video=0)) == 20
    assert files["poster"].startswith(b"\xff\xd8")
    assert files["timeline"].startswith(b"\x89PNG")
    assert len(files["csv"].splitlines()) == 21
    assert len(files["jsonl"].splitlines()) == 20
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


def test_hostile_files_end_their_own_work_alone(real, tmp_path):
    video_files = pytest.importorskip("video_files")
    small = film(tmp_path, video_files.steady_video)
    hostile = {
        "noise": FTYP + bytes(range(256)) * 500,
        "cut off": small[: len(small) // 3],
        "boxes in boxes": FTYP + nested(b"moov", 3000),
        "a list of files": FTYP + b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
        "Matroska of noise": b"\x1aE\xdf\xa3" + bytes(range(255, 0, -1)) * 200,
        "transport stream of nothing": (b"G" + b"\xff" * 187) * 400,
    }
    videos = {name: send_bytes(real, content) for name, content in hostile.items()}
    for name, video in videos.items():
        told = wait_for(real, video, "done", FAILED)
        assert (name, told["state"]) == (name, FAILED)
        for word in ("/", "passwd", "Traceback", "your video: "):
            assert word not in told["problem"], (name, told["problem"])
        assert told["problem"].endswith(".")
        assert told["problem"] != workers.DIED, name
    assert real.get("/").status_code == 200


def nested(kind, depth):
    content = b""
    for _ in range(depth):
        content = box(kind, content)
    return content


def test_a_video_beyond_the_limits_is_refused_in_a_sentence(make, tmp_path):
    pytest.importorskip("av")
    video_files = pytest.importorskip("video_files")
    client = make(command=workers.COMMAND, MAX_VIDEO_MINUTES=0.01).test_client()
    content = film(tmp_path, video_files.steady_video)
    video = wait_for(client, send_bytes(client, content), "done", FAILED)
    assert "at most 0.6 s" in video["problem"]


def test_work_beyond_its_memory_ends_alone(make, tmp_path, monkeypatch):
    pytest.importorskip("av")
    # a library that gets no memory may wait for a thread that it could not start
    monkeypatch.setattr(workers, "SILENCE_S", 8.0)
    video_files = pytest.importorskip("video_files")
    client = make(command=workers.COMMAND, VIDEO_MEMORY_MB=512).test_client()
    content = film(tmp_path, video_files.steady_video, count=3, size_wh=(3840, 2160))
    video = wait_for(client, send_bytes(client, content), "done", FAILED)
    assert video["state"] == FAILED
    assert video["problem"]
    assert client.get("/").status_code == 200
