"""What the tests of the web app share: an app with a stand-in model, and photos to send to it."""

import html
import io
import json
import re
import threading
import time
from contextlib import contextmanager

import numpy as np
from PIL import Image

from app import open_server
from emotion.detection.boxes import Detection
from emotion.labels import EMOTIONS
from emotion.model.runtime import EmotionModel, run_model
from emotion.recognizer import Recognizer
from emotion.web.factory import build_app
from emotion.web.feedback.given import WAITING
from emotion.web.photos.reading import TASKS
from emotion.web.services import Services
from emotion.web.settings import read_settings

HAPPY = (0.02, 0.01, 0.02, 0.9, 0.03, 0.01, 0.01)
CLOSE = (0.41, 0.01, 0.38, 0.05, 0.05, 0.05, 0.05)
TWO_BOXES = ((10, 10, 60, 60), (90, 20, 30, 30))
SHA256 = "ab" * 32
NO_TOKENS = {"WTF_CSRF_ENABLED": False}
RATES = ("RATE_LIMIT", "LIVE_RATE_LIMIT", "WORK_RATE_LIMIT")
NO_RATES = dict.fromkeys(RATES, "1000000 per minute")


class StandInDetector:
    def __init__(self, boxes=TWO_BOXES):
        self.boxes = boxes

    def detect(self, image):
        return [Detection(box_xywh=box, score=5.0) for box in self.boxes]


def stand_in_model(*rows, names=EMOTIONS, notes=()):
    """Return a model that gives the rows in turn to the faces of a photo, whatever they show."""
    rows = np.array(rows or (HAPPY, CLOSE), np.float32)

    def run(faces):
        return np.resize(rows, (len(faces), rows.shape[1]))

    return EmotionModel("stand_in", SHA256, tuple(names), "Stand-in", None, notes, run)


def looking_model():
    """Return a model whose answer depends on every pixel that it is shown."""
    weights = np.random.default_rng(1).normal(size=(48 * 48, 7)) / 10

    def run(faces):
        scores = np.exp(faces.reshape(len(faces), -1) @ weights)
        return (scores / scores.sum(1, keepdims=True)).astype(np.float32)

    return EmotionModel("looking", SHA256, EMOTIONS, "Stand-in", None, (), run)


class InProcess:
    """Works on photos in this process, as `PhotoWorkers` does in others."""

    problem = ""

    def __init__(self, detector):
        self.detector, self.models = detector, {}

    def call(self, client, model, task, content, **about):
        if model and id(model) not in self.models:
            runs = model if isinstance(model, EmotionModel) else run_model(model)
            self.models[id(model)] = Recognizer(runs, self.detector)
        answer, pictures = TASKS[task](self.models.get(id(model)), content, **about)
        return json.loads(json.dumps(answer)), pictures

    def load(self, model):
        self.call("", model, "nothing", b"")

    def start(self, *_):
        """Nothing is to be started."""

    stop = wait_until_ready = start


def make_app(folder, model=None, detector=None, clock=None, flask_config=None, **settings):
    """Return an app with a stand-in model, without tokens and rates unless a test asks for them."""
    chosen = read_settings({**folders(folder), **NO_RATES, **settings})
    workers = InProcess(detector or StandInDetector())
    model = model or stand_in_model()
    services = Services(chosen, model, clock=clock or time.time, workers=workers)
    return build_app(services, {**NO_TOKENS, **(flask_config or {})})


def folders(folder):
    """Return the settings that keep everything an app writes in one folder."""
    return {name.upper(): folder / name for name in ("uploads", "instance", "feedback")}


def make_app_without_model(folder, reason="expected a model as a.json; it is missing", **settings):
    chosen = read_settings({**folders(folder), **settings})
    workers = InProcess(StandInDetector())
    return build_app(Services(chosen, None, reason, workers=workers), NO_TOKENS)


@contextmanager
def served(app):
    """Give the port at which an app is served by the very server of `python app.py`."""
    services = app.extensions["emotion"]
    server = open_server(app, services.settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server.effective_port
    finally:
        # run in the server's own thread, whose loop ends when no socket is left
        server.trigger.pull_trigger(lambda: server.asyncore.close_all(server._map))
        thread.join(60)
        server.task_dispatcher.shutdown()
        services.videos.workers.stop()


def picture(width=160, height=120, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 255, (height // 8 + 1, width // 8 + 1, 3))
    return Image.fromarray(pixels.astype(np.uint8)).resize((width, height))


def encoded(kind="JPEG", width=160, height=120, seed=0, **options):
    buffer = io.BytesIO()
    picture(width, height, seed).save(buffer, kind, **options)
    return buffer.getvalue()


def photo_form(content=None, name="photo.jpg", field="photo"):
    return {field: (io.BytesIO(encoded() if content is None else content), name)}


def photos_form(*contents):
    return {"photo": [photo_form(content)["photo"] for content in contents]}


def upload(client, content=None):
    """Send a photo through the form; return the path of its result."""
    reply = client.post("/", data=photo_form(content))
    assert reply.status_code == 303, reply.text
    return reply.headers["Location"]


class Visit:
    """A visitor with a photo of two faces: the first happy, the second perhaps angry."""

    def __init__(self, folder, **options):
        self.app = make_app(folder, **options)
        self.client = self.app.test_client()
        self.services = self.app.extensions["emotion"]
        self.database = self.services.database
        self.folder = self.services.settings.feedback
        self.photo_id = upload(self.client).rsplit("/", 1)[-1]

    def say(self, number=1, path="", photo_id=None, **fields):
        rule = f"/results/{photo_id or self.photo_id}/faces/{number}/feedback{path}"
        return self.client.post(rule, data=fields)

    def opinion(self, number=1):
        return self.database.opinion_on(self.photo_id, number)

    def counted(self):
        rows = self.database.counts().opinions
        return sorted((row.given, row.chosen, row.opinions) for row in rows)

    def keep(self, *faces):
        crop = self.services.storage.read_picture(self.photo_id, "input-1.png")
        return [self.services.given.keep(*face, crop) for face in faces]

    def files(self, place=WAITING):
        folder = self.folder / place
        return sorted(path.relative_to(folder).as_posix() for path in folder.glob("[!.]*/*"))


def of(number):
    """Return options with which a request comes from another address."""
    return {"environ_overrides": {"REMOTE_ADDR": f"192.0.2.{number}"}}


def wait_until(condition, patience_s=240):  # the machine may be busy
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def text_of(reply):
    without_tags = re.sub(r"<[^>]+>", " ", reply.text.split("<body>")[1])
    return " ".join(html.unescape(without_tags).split())


def assert_nothing_is_left(app):
    services = app.extensions["emotion"]
    uploads = services.settings.uploads
    assert not uploads.exists() or list(uploads.iterdir()) == []
    assert list((uploads.parent / "temporary").iterdir()) == []
    counts = services.database.counts()
    assert (counts.photos, counts.faces) == ((), ())
