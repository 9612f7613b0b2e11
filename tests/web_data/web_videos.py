"""What the tests of videos in the web app share: an app whose videos a stand-in analyses."""

import io
import sys
import time
from pathlib import Path

import video_job_stand_in as stand_in
from web_support import wait_until

ROOT = "/api/v1/videos"
DOORS = ("/videos", ROOT)
COMMAND = (sys.executable, stand_in.__file__)
SLOW = {"steps": 100_000, "pause_s": 0.05}


class Clock:
    """A clock that is set by hand, and goes on from there."""

    ahead_s = 0.0

    def __call__(self):
        return time.time() + self.ahead_s


def videos_of(app):
    return app.extensions["emotion"].videos


def form_of(content=None, **orders):
    content = stand_in.sent(**orders) if content is None else content
    return {"video": (io.BytesIO(content), "holiday.mp4")}


def send(client, content=None, **orders):
    reply = client.post(ROOT, data=form_of(content, **orders))
    assert reply.status_code == 202, reply.text
    return reply.json


def wait_for(client, video, *states):
    address = video["links"]["self"]
    wait_until(lambda: client.get(address).json["state"] in states)
    return client.get(address).json


def left_on_disk(app):
    folder = videos_of(app).files.folder
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def workers_of(pid):
    """Return a file of each process that analyses a video for one; it is there as long as that."""
    children = [
        Path(f"/proc/{child}/cmdline")
        for thread in Path(f"/proc/{pid}/task").iterdir()
        for child in (thread / "children").read_text().split()
    ]
    return [path for path in children if path.exists() and b"stand_in" in path.read_bytes()]
