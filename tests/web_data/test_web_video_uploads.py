"""What is refused at the doors for videos, and where videos are not taken at all."""

import importlib.util
import io

import pytest
import video_job_stand_in as stand_in
from web_support import make_app, make_app_without_model
from web_videos import (
    DOORS,
    ROOT,
    form_of,
    videos_of,
)

from emotion.web.videos.service import looks_like_video


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


def test_other_requests_are_refused(make, tmp_path):
    client = make().test_client()
    two = {"video": [(io.BytesIO(stand_in.sent()), "a.mp4"), (io.BytesIO(b"b"), "b.mp4")]}
    assert client.post(ROOT, data=two).status_code == 400
    assert client.post(ROOT, data=form_of() | {"model": "no/such"}).status_code == 400
    assert client.post(ROOT, data=form_of() | {"model": "detection_model"}).status_code == 202
    guarded = make_app(tmp_path / "guarded", flask_config={"WTF_CSRF_ENABLED": True})
    assert guarded.test_client().post("/videos", data=form_of()).status_code == 400
    assert not videos_of(guarded).files.folder.exists()
    without_model = make_app_without_model(tmp_path / "without").test_client()
    assert without_model.post(ROOT, data=form_of()).status_code == 503


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"KEEP_HOURS": 0}, "keeps nothing"), ({"VIDEO_WORKERS": 0}, "not taken"), ({}, "lacks av")],
)
def test_where_videos_are_not_taken_the_form_says_so(make, monkeypatch, settings, words):
    found = importlib.util.find_spec
    client = make(**settings).test_client()
    if not settings:
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name: None if name == "av" else found(name)
        )
    page = client.get("/").text
    assert words in page
    assert 'id="video-form"' not in page
    for door in DOORS:
        reply = client.post(door, data=form_of())
        assert reply.status_code == 409
        assert words in reply.text
