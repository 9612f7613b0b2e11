import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from types import SimpleNamespace

import pytest
from web_support import photo_form

from emotion.web.storage import GoneError, Storage

RESULTS = {"schema": 1, "image": {"width": 4, "height": 3}, "faces": []}
RESULTS |= {"model": {"name": "m", "sha256": "ab" * 32}}
MODEL = {"name": "m", "runtime": "r", "notes": []}
PICTURES = {"annotated.jpg": b"picture", "face-1.jpg": b"crop"}
HOUR = 3600


@pytest.fixture
def storage(tmp_path):
    clock = SimpleNamespace(now=1_700_000_000.0)
    storage = Storage(tmp_path / "uploads", 24 * HOUR, lambda: clock.now)
    storage.set_clock = clock
    return storage


def save(storage):
    return storage.save(RESULTS, MODEL, PICTURES)


def names(storage):
    return sorted(entry.name for entry in storage.folder.iterdir())


OTHER_IDS = (
    *("", ".", "..", "../secret", "README.md", "a" * 21, "a" * 22, "a" * 23, "ä" * 22, "." * 22),
    *("x/" * 11, "%2e" * 7, "a" * 22 + "\n", *("a" * 21 + end for end in ("/", "\n", "\0"))),
)
OTHER_PICTURES = "result.json ../annotated.jpg face-0.jpg face-2.jpg x.jpg face-1.png".split()


def test_other_ids_and_pictures_and_links_are_gone(storage, tmp_path):
    kept, link = save(storage), "z" * 22
    (storage.folder / link).symlink_to(storage.folder / kept)
    for act in (storage.load, storage.delete, lambda i: storage.read_picture(i, "annotated.jpg")):
        for photo_id in (*OTHER_IDS, link):
            with pytest.raises(GoneError):
                act(photo_id)
    (tmp_path / "secret").write_bytes(b"secret")
    picture = storage.folder / kept / "face-1.jpg"
    picture.unlink()
    picture.symlink_to(tmp_path / "secret")
    for name in (*OTHER_PICTURES, "", "face-1.jpg"):
        with pytest.raises(GoneError):
            storage.read_picture(kept, name)
    assert storage.load(kept)


def test_time_is_up_even_before_the_sweep_and_where_the_clock_was_set_back(storage):
    photo_id = save(storage)
    for later_s in (24 * HOUR, -1000 * HOUR):
        storage.set_clock.now += later_s
        for act in (storage.load, lambda i: storage.read_picture(i, "annotated.jpg")):
            with pytest.raises(GoneError):
                act(photo_id)
    assert storage.sweep() == 1


def test_the_sweep_removes_what_a_crash_left_and_leaves_what_is_not_its_own(storage, tmp_path):
    save(storage)
    elsewhere, holiday = tmp_path / "elsewhere", storage.folder / ("h" * 22)
    for folder in (elsewhere, holiday, storage.folder / ".part-", storage.folder / ".part-of-mine"):
        folder.mkdir()
        os.utime(folder, (0, 0))
    for file in (storage.folder / "README.md", storage.folder / ("f" * 22), holiday / "photo.jpg"):
        file.write_text("mine")
    (elsewhere / "result.json").write_text(json.dumps({"created_s": 0}))
    (storage.folder / ("s" * 22)).symlink_to(elsewhere)
    part = storage.folder / (".part-" + "p" * 22)
    part.mkdir()
    (part / "annotated.jpg").write_bytes(b"half")
    storage.set_clock.now += 100 * HOUR
    before = names(storage)
    for age_s, removed in ((60, 1), (2 * HOUR, 1)):
        os.utime(part, (storage.set_clock.now - age_s, storage.set_clock.now - age_s))
        assert storage.sweep() == removed
        assert part.exists() == (age_s == 60)
    assert len(names(storage)) == len(before) - 2 == 6
    assert (elsewhere / "result.json").exists()
    assert (holiday / "photo.jpg").exists()


def test_a_damaged_result_is_gone_and_swept_by_its_files_age(storage):
    for content in ("", "{", "[]", "{}", '{"created_s": "soon"}', "\x00", "[" * 10**5):
        photo_id = save(storage)
        path = storage.folder / photo_id / "result.json"
        path.write_text(content)
        os.utime(path, (storage.set_clock.now, storage.set_clock.now))
        with pytest.raises(GoneError):
            storage.load(photo_id)
        assert storage.sweep() == 0
        storage.set_clock.now += 25 * HOUR
        assert storage.sweep() == 1


PLACES = (
    *("/results/{id}", "/results/{id}/faces/1", "/results/{id}/emotions.csv", "/mine"),
    *("/results/{id}/emotions.json", "/results/{id}/blurred.jpg", "/api/v1/photos/{id}"),
    *("/sets/{set}", "/sets/{set}/annotated.zip", "/sets/{set}/emotions.csv", "/api/v1/sets/{set}"),
)
OTHERS = (None, "text", -1, 0, 10**30, True, [], {}, [[]], {"a": {}}, float("nan"), float("inf"))


def damages(content):
    """Give the content with each part of it removed, or replaced by something else."""
    for key in list(content) if isinstance(content, dict) else range(len(content)):
        part = content[key]
        if isinstance(part, dict | list):
            yield from damages(part)
        del content[key]
        yield key
        content.insert(key, part) if isinstance(content, list) else content.update({key: part})
        for other in OTHERS:
            content[key] = other
            yield key
        content[key] = part


def test_no_damage_of_a_result_is_a_mistake_of_ours(make):
    client = make().test_client()
    photo = client.post("/api/v1/photos", data=photo_form()).json
    path = client.application.extensions["emotion"].storage.path(photo["id"], "result.json")
    content = json.loads(path.read_text())
    for number, key in enumerate(islice(damages(content), 0, None, 7)):
        path.write_text(json.dumps(content))
        for place in (PLACES[number % len(PLACES)], PLACES[-number % len(PLACES)]):
            with client.get(place.format(**photo)) as reply:
                assert reply.status_code in (200, 404), (key, place)
    path.write_text('{"created_s": 1e999}')
    assert client.get(PLACES[0].format(**photo)).status_code == 404


def test_several_sweeps_at_once(tmp_path):
    """Processes that share a folder sweep it at once: each folder is removed, none is missed."""
    for_now = Storage(tmp_path / "uploads", HOUR / 2)
    for _ in range(25):
        save(for_now)
    later = [Storage(for_now.folder, HOUR / 2, lambda: time.time() + 0.6 * HOUR) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        removed = list(pool.map(Storage.sweep, later))
    assert sum(removed) == 25
    assert names(for_now) == []
