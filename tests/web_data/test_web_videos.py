import errno
import io
import os
import shutil
import signal
from pathlib import Path
from unittest.mock import Mock

import pytest
import web_videos
from web_support import make_app_without_model, photo_form, text_of, upload, wait_until
from web_videos import DOORS, ROOT, SLOW, form_of, left_on_disk, send, videos_of, wait_for

from emotion.errors import DatabaseError
from emotion.web.database import Database
from emotion.web.storage import PART_AGE_S, StorageError, new_id
from emotion.web.videos import workers
from emotion.web.videos.queue import FAILED, RUNNING, WAITING
from emotion.web.videos.service import UNFINISHED_S, VIDEO_HEAD

LOST = DatabaseError("expected a database; it cannot be reached")
FULL = OSError(errno.ENOSPC, "No space left on device")


def test_a_video_goes_from_the_form_to_its_page_its_files_and_the_figures(make, tmp_path, caplog):
    app = make(METRICS="on", MONITORING="on")
    client = app.test_client()
    orders = {"secret": "a secret word", "problem": "it is damaged after 1.0 s"}
    with caplog.at_level("INFO"):
        page = client.post("/videos", data=form_of(**orders)).headers["Location"]
        wait_until(lambda: "<video" in client.get(page).text)
        wait_for(client, send(client, kill=signal.SIGKILL), FAILED)
        wait_until(lambda: videos_of(app).workers.ended.total() == 2)
    reply = client.get(page)
    told = ("2 faces", "Face 2", "1.5 s", "unsure", "It is damaged after 1.0 s.")
    for words in (*told, 'aria-label="face 1 from 0:00 to 0:02', '<rect x="1.5"'):
        assert words in reply.text
    assert "noindex" in reply.headers["X-Robots-Tag"]
    for name, status in (("face-1.jpg", 200), ("face-2.jpg", 404), ("facts.json", 404)):
        assert client.get(f"{page}/{name}", buffered=True).status_code == status
    # the files, whole and in part
    files = client.get(f"/api/v1{page}").json["links"]["files"]
    for one in (page, *files.values()):
        reply = client.get(one, buffered=True)
        assert (reply.status_code, reply.headers["Cache-Control"]) == (200, "private, no-store")
    part = client.get(files["video"], headers={"Range": "bytes=256-257"}, buffered=True)
    assert (part.status_code, part.mimetype, part.data) == (206, "video/mp4", b"\0\1")
    assert part.headers["Content-Range"] == "bytes 256-257/10240"
    download = client.get(f"{page}/emotions.csv?download=1", buffered=True)
    assert "attachment" in download.headers["Content-Disposition"]
    # of the upload neither file nor name stays
    wait_until(lambda: not any("your video" in path for path in left_on_disk(app)))
    names = {Path(path).name for path in left_on_disk(app)}
    assert {"annotated.mp4", "emotions.parquet", "facts.json"} <= names
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert not any(word in everything for word in (b"holiday", b"a secret word"))
    # it is counted without anything it could be known by
    metrics = client.get("/metrics").text
    for line in ('total{outcome="done"} 1.0', "in_work 0.0", "waiting 0.0"):
        assert f"emotion_videos_{line}" in metrics
    facts = client.get("/api/v1/monitoring").json
    assert facts["videos"] == {"videos": 1, "without_face": 0, "faces": 2, "seconds": 2.0}
    assert "Videos" in client.get("/monitoring").text
    lines = " ".join(record.getMessage() + str(record.__dict__) for record in caplog.records)
    found = [word in lines for word in ("video done", "holiday", page.rsplit("/", 1)[-1])]
    assert found == [True, False, False]


def test_progress_and_the_queue_are_shown_and_the_queue_is_bounded(make):
    rates = {"VIDEO_RATE_LIMIT": "6 per hour", "RATE_LIMIT": "1 per hour"}
    app = make(MAX_VIDEOS_WAITING=2, MAX_VIDEOS_WAITING_EACH=3, **rates)
    client = app.test_client()
    first = send(client, **SLOW)
    wait_until(lambda: client.get(first["links"]["self"]).json["progress"])
    text = client.get(first["links"]["page"]).text
    for words in ('<noscript><meta http-equiv="refresh"', "<progress", "3 seconds", "of 0:02"):
        assert words in text
    assert client.get(f"/videos/{first['id']}/annotated.mp4").status_code == 404
    second, third = send(client), send(client)
    assert (second["before"], third["before"]) == (0, 1)
    assert videos_of(app).full_now
    assert "is full at the moment" in client.get("/").text
    assert client.get(f"{ROOT}/queue").status_code == 503
    for status, wait_s in ((503, range(60, 61)), (429, range(1, 3601))):
        for door in (*DOORS, ROOT):
            refused = client.post(door, data=form_of())
            assert refused.status_code == status
            assert int(refused.headers["Retry-After"]) in wait_s
    assert client.post("/", data=photo_form()).status_code == 303
    assert len(list(videos_of(app).files.folder.iterdir())) == 3
    assert [client.delete(second["links"]["self"]).status_code for _ in range(2)] == [204, 404]
    assert not videos_of(app).full_now
    client.delete(first["links"]["self"])
    assert wait_for(client, third, "done")["before"] == 0


def test_one_sender_has_two_places_in_the_queue_and_turns_are_fair(make):
    app = make()
    loud, quiet = app.test_client(), app.test_client()
    quiet.environ_base["REMOTE_ADDR"] = "203.0.113.9"
    running = wait_for(loud, send(loud, **SLOW), RUNNING)
    waiting = [send(loud), send(app.test_client())]  # of one address, with the cookie and without
    for sender in (loud, app.test_client()):
        assert sender.get(f"{ROOT}/queue").status_code == 429
        for door in (*DOORS, *DOORS):
            refused = sender.post(door, data=form_of())
            assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")
    assert quiet.get(f"{ROOT}/queue").json == {"waiting": 2}
    other = send(quiet, **SLOW)
    befores = [quiet.get(one["links"]["self"]).json["before"] for one in (other, *waiting)]
    assert befores == [0, 1, 2]
    loud.delete(running["links"]["self"])
    wait_for(quiet, other, RUNNING)
    # a visitor who changes the address is still one
    send(quiet)
    send(quiet)
    quiet.environ_base["REMOTE_ADDR"] = "203.0.113.10"
    assert quiet.post(ROOT, data=form_of()).status_code == 429


DONE = {"problem": "", "faces": 1, "frames": 1, "duration_s": 1.0, "emotions": ["happy"]}
DONE |= {"verdicts": ["happy"], "model": {"sha256": "ab", "key": "k", "title": "t"}}
WRONG = (
    *({"faces": "many"}, {"model": []}, {"emotions": [["happy"]]}),
    *({"duration_s": float("nan")}, {"duration_s": 10**400}),
)
FAILURES = (
    ({"say": {"problem": "expected a video; it is none"}}, "Expected a video; it is none."),
    ({"say": {"problem": "a" * 5000}}, "A" + "a" * 999),
    ({"say": {"mistake": "Traceback: /a/secret/path"}}, workers.DIED),
    ({"kill": signal.SIGKILL}, workers.DIED),
    ({"kill": signal.SIGXCPU}, workers.TOO_LONG),
    *(({"say": {"done": DONE | wrong}}, workers.DIED) for wrong in WRONG),
    ({"say": ["no object"]}, workers.DIED),
    ({"say": {"progress": {"share": {}, "left_s": "x"}}, "status": 3}, workers.DIED),
    ({"say": {"progress": {"share": 10**400}}}, workers.DIED),
)


def test_work_that_fails_is_told_and_harms_nobody(make, monkeypatch):
    app = make(VIDEO_WORKERS=2, MAX_VIDEOS_WAITING=20, MAX_VIDEOS_WAITING_EACH=20)
    client = app.test_client()
    videos = [(send(client, **orders), words) for orders, words in FAILURES]
    for video, words in videos:
        problem = wait_for(client, video, FAILED)["problem"]
        assert (problem[: len(words)], len(problem) <= 1001) == (words, True)
        page = client.get(video["links"]["page"])
        assert (page.status_code, "not be used" in page.text) == (200, True)
        assert "secret" not in page.text
    wait_until(lambda: left_on_disk(app) == sorted(video["id"] for video, _ in videos))
    assert wait_for(client, send(client), "done")["problem"] is None
    videos_of(app).workers.command = ("/no/such/program",)
    assert wait_for(client, send(client), FAILED)["problem"] == workers.CANNOT_START
    monkeypatch.setattr(videos_of(app).files, "make_room", Mock(side_effect=StorageError(FULL)))
    assert "full" in wait_for(client, send(client), FAILED)["problem"]


@pytest.mark.parametrize(("name", "pause_s"), [("SILENCE_S", 5), ("START_S", 0.05)])
def test_a_work_that_takes_too_long_is_ended(make, monkeypatch, name, pause_s):
    for limit in (name, "TIMES_ITS_LENGTH"):
        monkeypatch.setattr(workers, limit, 0.0)
    client = make().test_client()
    video = wait_for(client, send(client, steps=100_000, pause_s=pause_s), FAILED)
    assert video["problem"] == workers.TOO_LONG


def test_cancelled_work_stops_at_once_and_nothing_is_kept(make):
    app = make(VIDEO_WORKERS=2)
    client = app.test_client()
    first, second, third = videos = [send(client, **SLOW) for _ in range(3)]
    for video in (first, second):
        wait_for(client, video, RUNNING)
    assert client.get(third["links"]["self"]).json["state"] == WAITING
    client.delete(third["links"]["self"])
    wait_until(lambda: len(web_videos.workers_of(os.getpid())) == 2)
    working = web_videos.workers_of(os.getpid())
    assert client.delete(first["links"]["self"]).status_code == 204
    reply = client.post(f"/videos/{second['id']}/delete")
    assert "deleted" in client.get(reply.headers["Location"]).text
    for link in ("self", "page"):
        assert {client.get(video["links"][link]).status_code for video in videos} == {404}
    wait_until(lambda: not any(map(Path.exists, working)))
    wait_until(lambda: left_on_disk(app) == [] and not videos_of(app).workers.in_work)
    assert videos_of(app).workers.ended == {"cancelled": 2}


def test_a_stranger_with_the_link_sees_a_video_and_my_results_list_and_delete_mine(make):
    app = make()
    client, stranger = app.test_client(), app.test_client()
    upload(client)
    done = wait_for(client, send(client), "done")
    broken = wait_for(client, send(client, kill=signal.SIGKILL), FAILED)
    running = wait_for(client, send(client, **SLOW), RUNNING)
    waiting = send(client)
    for video in (done, broken, running):
        page, api = video["links"]["page"], video["links"]["self"]
        shown = [f"{page}/delete" in one.get(page).text for one in (client, stranger)]
        refused = [stranger.post(f"{page}/delete"), stranger.delete(api)]
        assert (shown, [reply.status_code for reply in refused]) == ([True, False], [403, 403])
        assert stranger.get(api).status_code == 200
    mine = client.get("/api/v1/mine").json["videos"]
    assert [one["id"] for one in mine] == [one["id"] for one in (waiting, running, broken, done)]
    assert mine[-1]["emotions"] == ["happy", "unsure"]
    client.post("/mine/chosen/delete", data={"chosen": broken["id"]})
    text = text_of(client.get("/mine"))
    assert all(words in text for words in ("in the queue", "2 faces", "24 hours left", "being"))
    assert "not analysed" not in text
    client.post("/mine/delete")
    left = client.get("/api/v1/mine").json
    assert (left["photos"], left["videos"]) == ([], [])
    wait_until(lambda: left_on_disk(app) == [])


def test_results_go_when_their_time_is_up_and_work_after_a_day(make, tmp_path):
    clock = web_videos.Clock()
    app = make(clock=clock, KEEP_HOURS=1)
    client, folder = app.test_client(), videos_of(app).files.folder
    done = wait_for(client, send(client), "done")
    broken = wait_for(client, send(client, kill=signal.SIGKILL), FAILED)
    running, waiting = send(client, **SLOW), send(client)
    wait_for(client, running, RUNNING)
    # what a crash left, and somebody's own
    orphan, part, other = folder / new_id(), folder / f".part-{new_id()}", folder / "notes.txt"
    for path in (orphan, part):
        path.mkdir()
        (path / "your video").write_bytes(b"left")
    other.write_text("somebody's own")
    clock.ahead_s = 3590
    videos_of(app).sweep()
    assert orphan.exists()
    assert part.exists()
    assert client.get(done["links"]["page"]).status_code == 200
    # what was made before there were crops is shown with the picture alone
    (facts,) = folder.rglob("facts.json")
    facts.write_text(facts.read_text().replace("lanes", "other"))
    assert 'alt="Timeline of emotions: face 1' in client.get(done["links"]["page"]).text
    # links are not followed, and no other file is given away
    (tmp_path / "secret").write_text("secret")
    (table,) = folder.rglob("emotions.csv")
    table.unlink()
    table.symlink_to(tmp_path / "secret")
    for path in ("emotions.csv", "facts.json", "../../instance/secret_key"):
        assert client.get(f"/videos/{done['id']}/{path}").status_code == 404
    clock.ahead_s = PART_AGE_S + 100
    for video in (done, broken):
        for path in ("", "/annotated.mp4"):
            assert client.get(video["links"]["page"] + path).status_code == 404
    videos_of(app).sweep()
    left = {path.name for path in folder.iterdir()}
    assert left == {running["id"], waiting["id"], other.name}
    assert client.get(waiting["links"]["self"]).json["state"] == WAITING
    clock.ahead_s = UNFINISHED_S + 60
    videos_of(app).sweep()
    wait_until(lambda: left_on_disk(app) == [other.name] and not videos_of(app).workers.in_work)


def test_what_the_server_lacks_is_told_and_nothing_stays(make, tmp_path, monkeypatch):
    app = make()
    failures = ((shutil, "copyfileobj", FULL, 507), (Database, "add_video", LOST, 503))
    for place, name, error, status in failures:
        with monkeypatch.context() as patch:
            patch.setattr(place, name, Mock(side_effect=error))
            for door in DOORS:
                assert app.test_client().post(door, data=form_of()).status_code == status
        assert left_on_disk(app) == []
    without_model = make_app_without_model(tmp_path / "without")
    assert without_model.test_client().post(ROOT, data=form_of()).status_code == 503
    assert not list(tmp_path.rglob("your video"))


def test_a_database_that_is_away_for_a_while_ends_no_work(make, monkeypatch):
    failed, methods = set(), {name: getattr(Database, name) for name in ("change", "finish")}

    def fail_once(name):
        def call(*arguments, **values):
            if name in failed:
                return methods[name](*arguments, **values)
            failed.add(name)
            raise LOST

        return call

    for name in methods:
        monkeypatch.setattr(Database, name, fail_once(name))
    client = make().test_client()
    wait_for(client, send(client, steps=12, pause_s=0.1), "done")
    assert failed == set(methods)


NO_VIDEOS = (
    (b"", 400, "empty"),
    (b"\xff\xd8\xff\xe0 a photo", 415, "MP4"),
    (b"\0\0\0\x18ftypheic" + b"\0" * 40, 415, "MP4"),
    (b"#EXTM3U\nfile:///etc/passwd", 415, "MP4"),
    (b"ffconcat version 1.0\nfile /etc/passwd", 415, "MP4"),
    (bytes(300_000), 413, "0.125 MB"),
)


@pytest.mark.parametrize("door", DOORS)
def test_what_is_no_video_is_told_at_once(make, door):
    app, form = make(MAX_VIDEO_MB=0.125), {"content_type": "multipart/form-data"}
    forms = [(form_of(content), status, words) for content, status, words in NO_VIDEOS]
    forms += [({}, 400, "video"), ({"video": "text"}, 400, "received text")]
    forms += [({"video": (io.BytesIO(b""), "")}, 400, "none")]
    forms += [({"video": [form_of()["video"] for _ in range(2)]}, 400, "2 files")]
    forms += [(form_of() | {"model": "no/such"}, 400, "model")]
    for data, status, words in forms:
        reply = app.test_client().post(door, data=data, **form)
        assert (reply.status_code, words in reply.text) == (status, True)
        assert reply.headers["Cache-Control"] == "no-store"
        assert ('id="video-form"' in reply.text) == (door == "/videos")
    assert not videos_of(app).files.folder.exists()


def test_heads_of_files():
    videos = (b"\0\0\0\x14ftypqt  ", b"\x1aE\xdf\xa3" + b"\0" * 20, b"RIFF\0\0\0\0AVI LIST")
    videos += ((b"G" + b"\n" * 187) * 3, b"\n" * 4 + b"moov", b"\0\0\x01\xba", b"OggS")
    assert all(map(VIDEO_HEAD.match, videos))
    others = (b"RIFF\0\0\0\0WEBPVP8 ", b"G" * 20, b"GIF89a", b"", b"\0" * 4 + b"ftypavif")
    assert not any(map(VIDEO_HEAD.match, others))


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"KEEP_HOURS": 0}, "keeps nothing"), ({"VIDEO_WORKERS": 0}, "not taken"), ({}, "lacks av")],
)
def test_where_videos_are_not_taken_the_form_says_so(make, monkeypatch, settings, words):
    client = make(**settings).test_client()
    if not settings:
        monkeypatch.setattr("emotion.web.videos.service.PACKAGES", ("scipy", "av_is_absent"))
    page = client.get("/").text
    assert (words in page, 'id="video-form"' in page) == (True, False)
    for door in DOORS:
        reply = client.post(door, data=form_of())
        assert (reply.status_code, words in reply.text) == (409, True)
    assert client.get(f"{ROOT}/queue").status_code == 409
