"""The processes that work on photos: ended when they take too long, and lent fairly."""

import io
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from web_support import NO_RATES, NO_TOKENS, folders, photo_form, upload, wait_until

from emotion import errors
from emotion.images.encoding import encode_jpeg
from emotion.web.factory import build_app
from emotion.web.photos import workers
from emotion.web.photos.workers import PhotoWorkers
from emotion.web.services import load_services
from emotion.web.settings import read_settings

STAND_IN = (sys.executable, "-m", "tests.photo_job_stand_in")


@pytest.fixture
def pool(tmp_path):
    settings = read_settings({**folders(tmp_path), "PHOTO_WORKERS": 2, "PHOTO_SECONDS": 1})
    pool = PhotoWorkers(settings, None, STAND_IN)
    yield pool
    pool.stop()


def pid(pool, client="a"):
    return pool.call(client, None, "echo", b"")[0]["pid"]


def test_bytes_come_back_and_errors_keep_their_kind(pool):
    assert pool.call("a", None, "echo", b"\n{\x00")[1] == {"content": b"\n{\x00"}
    kinds = {"ImageTypeError": errors.ImageTypeError, "ModelError": errors.ModelError}
    # a hostile file may have taken the process over
    kinds |= dict.fromkeys(("StorageError", "errno", "No", "__builtins__"), errors.ImageError)
    for name, kind in kinds.items():
        with pytest.raises(kind) as caught:
            pool.call("a", None, "fail", b"", kind=name)
        assert type(caught.value) is kind
    with pytest.raises(RuntimeError):
        pool.call("a", None, "mistake", b"")


@pytest.mark.parametrize("task", ["sleep", "die", "garbage"])
def test_a_process_that_ends_or_must_be_ended_is_replaced(pool, task):
    before = {pid(pool), pid(pool)}
    expected = errors.SlowImageError if task == "sleep" else errors.DamagedImageError
    with pytest.raises(expected):
        pool.call("a", None, task, b"", for_s=30)
    wait_until(lambda: pid(pool) not in before)


def test_who_was_too_slow_has_one_process_at_a_time(pool):
    with pytest.raises(errors.SlowImageError):
        pool.call("slow", None, "sleep", b"", for_s=30)
    with ThreadPoolExecutor(2) as threads:
        works = [threads.submit(pool.call, "slow", None, "sleep", b"", for_s=0.3) for _ in range(2)]
        while not all(work.done() for work in works):
            assert list(pool._busy.values()).count("slow") <= 1
            assert pid(pool, "other")  # is not kept waiting
    assert [work.exception() for work in works] == [None, None]


def test_the_next_process_goes_to_who_has_fewest(pool):
    pool.start()
    held, order = [pool._take("greedy") for _ in range(2)], []

    def work(client):
        pool.call(client, None, "sleep", b"", for_s=0.2)
        order.append(client)

    with ThreadPoolExecutor(2) as threads:
        for waiting, client in enumerate(("greedy", "modest"), 1):
            threads.submit(work, client)
            wait_until(lambda waiting=waiting: len(pool._waiting) == waiting)
        pool._give_back(held[0], True)
        wait_until(lambda: len(order) == 2)
        pool._give_back(held[1], True)
    assert order == ["modest", "greedy"]


def test_who_has_several_gives_one_back_and_begins_again(pool, monkeypatch):
    monkeypatch.setattr(workers, "PATIENCE_S", 0.2)
    pool.settings = replace(pool.settings, photo_seconds=30)
    with ThreadPoolExecutor(2) as threads:
        works = [threads.submit(pool.call, "greedy", None, "sleep", b"", for_s=2) for _ in range(2)]
        wait_until(lambda: len(pool._busy) == 2)
        assert pid(pool, "modest")
        assert not any(work.done() for work in works)
    assert [work.exception() for work in works] == [None, None]


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    limits = {"PHOTO_SECONDS": 3, "PHOTO_MEMORY_MB": 256, "PHOTO_WORKERS": 1}
    services = load_services(read_settings({**folders(folder), **NO_RATES, **limits}))
    yield build_app(services, NO_TOKENS)
    services.workers.stop()


def test_the_shipped_model_reads_explains_and_draws_in_a_process(app, astronaut):
    client, content = app.test_client(), encode_jpeg(astronaut)
    where = upload(client, content)
    assert client.get(f"{where}/faces/1").status_code == 200
    photo = f"/api/v1/photos/{where.rsplit('/', 1)[1]}"
    assert 0 < client.get(f"{photo}/faces/1/explanation").json["before"] <= 1
    for kind in ("annotated", "blurred"):
        assert client.get(f"{photo}/{kind}.jpg").data.startswith(b"\xff\xd8")
    frame = client.post("/live/frame", data=content, content_type="image/jpeg")
    assert len(frame.json["faces"]) == 1


def test_a_photo_that_takes_too_much_memory_is_refused_and_the_next_one_read(app):
    client, large = app.test_client(), io.BytesIO()
    Image.fromarray(np.zeros((7000, 7000, 4), np.uint8)).save(large, "PNG")
    reply = client.post("/api/v1/recognize", data=photo_form(large.getvalue()))
    assert (reply.status_code, "memory" in reply.json["detail"]) == (422, True)
    assert client.post("/api/v1/recognize", data=photo_form()).status_code == 200


def test_a_process_that_was_killed_costs_nobody_anything(app):
    client, workers = app.test_client(), app.extensions["emotion"].workers
    client.post("/api/v1/recognize", data=photo_form())
    os.kill(workers._free[0].process.pid, signal.SIGKILL)
    workers._free[0].process.wait()
    assert client.post("/api/v1/recognize", data=photo_form()).status_code == 200
