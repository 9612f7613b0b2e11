"""Many photos to one table, in threads, in processes, interrupted and killed."""

import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from batch_support import (
    FAILS,
    HANGS,
    KILLS,
    SLOW,
    OtherDetector,
    SignDetector,
    ThreadWorkers,
    photos_of,
    read_table,
    write_photo,
    write_photos,
)
from model_folder import write_pair

from emotion.batch import BatchOutputs, BatchSettings, LocalWorkers, run_batch
from emotion.batch.outputs import copy_path, photo_columns
from emotion.batch.store import Record, Store
from emotion.batch.worker import WorkerSettings, load_worker, portable_stem
from emotion.errors import ModelError, SourceError, TableError
from emotion.images.decoding import read_image, read_photo
from emotion.images.folders import PhotoFile, find_photos, is_photo_list
from emotion.labels import EMOTIONS
from emotion.recognizer import Recognizer

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Return the stem of a model that runs."""
    return write_pair(tmp_path_factory.mktemp("model") / "one").stem


@pytest.fixture
def batch(model, tmp_path):
    """Return a function that runs a batch over the photos in tmp_path/photos, or another source."""

    def run(workers=None, copies=None, tables=("t.csv",), source="photos", **options):
        calls = {name: options.pop(name) for name in ("on_progress", "on_photo") if name in options}
        usual = {"model": model, "make_detector": SignDetector, "photo_timeout_s": None}
        settings = BatchSettings(**usual | options)
        outputs = BatchOutputs(tuple(tmp_path / table for table in tables), copies)
        path = tmp_path / source
        if is_photo_list(str(path)):
            photos = find_photos(path, leave_out=[copies] if copies else [])
        else:
            photos = [PhotoFile(path, path.name)]
        return run_batch(photos, outputs, settings, workers or ThreadWorkers(), **calls)

    return run


@pytest.fixture
def folder(tmp_path):
    """Return a folder with three photos."""
    return write_photos(tmp_path / "photos", 3)


# what comes out


def test_rows_are_those_of_the_recognizer(batch, folder, model, tmp_path):
    report = batch()
    assert (report.total, report.done, report.faces, report.problems) == (3, 3, 3, 0)
    assert report.is_complete
    rows = read_table(tmp_path / "t.csv")
    recognizer = Recognizer.load(model, SignDetector())
    for row, path in zip(rows, sorted(folder.iterdir()), strict=True):
        (face,) = recognizer.recognize(read_photo(path))
        assert row["photo"] == path.name
        assert (row["face"], row["width"]) == ("1", str(face.box_xywh[2]))
        assert row["emotion"] == face.emotion
        assert float(row["probability_happy"]) == pytest.approx(face.probabilities["happy"], 1e-3)
        assert row["sure"] == str(face.sure)
        assert row["problem"] == ""


def test_bad_files_are_rows_with_their_reason(batch, folder, tmp_path):
    (folder / "empty.jpg").touch()
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "text.jpg").write_text("hello")
    (folder / "cut.png").write_bytes((folder / "000.png").read_bytes()[:60])
    (folder / "bomb.webp").write_bytes(
        b"RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00\x2f\xfe\xff\xff\x0f" + b"\0" * 8
    )
    write_photo(folder / "mistake.png", FAILS)
    os.mkfifo(folder / "pipe.jpg")
    report = batch()
    problems = {row["photo"]: row["problem"] for row in read_table(tmp_path / "t.csv")}
    assert report.problems == 7
    assert len(report.first_problems) == 5
    for name, words in {
        "empty.jpg": "empty file",
        "loop.jpg": "symbolic links",
        "text.jpg": "begins with hello",
        "cut.png": "its end",
        "bomb.webp": "megapixels",
        "mistake.png": "ZeroDivisionError",
        "pipe.jpg": "not a file",
        "000.png": "",
    }.items():
        assert words in problems[name]
        assert problems[name].startswith("expected") or not words


def test_vanished_and_unopened_are_rows(model, tmp_path, folder):
    photos = [
        *find_photos(folder),
        PhotoFile(folder / "gone.jpg", "gone.jpg"),
        PhotoFile(folder / "closed", "closed/", "expected another folder"),
    ]
    settings = BatchSettings(model, SignDetector, photo_timeout_s=None)
    for is_remote, words in ((False, "No such file"), (True, "--send-files")):
        outputs = BatchOutputs((tmp_path / f"{is_remote}.csv",))
        report = run_batch(photos, outputs, settings, ThreadWorkers(is_remote=is_remote))
        assert report.problems == 2
        rows = {row["photo"]: row["problem"] for row in read_table(*outputs.tables)}
        assert words in rows["gone.jpg"]
        assert rows["closed/"] == "expected another folder"


def test_odd_names_survive(batch, tmp_path):
    folder = tmp_path / "photos"
    for name in (b"new\nline.png", b"not-utf8-\xff.png", b"=1+1.png", "张三.png".encode()):
        write_photo(folder / os.fsdecode(name))
    batch(tables=("t.csv", "t.jsonl"))
    assert sorted(photos_of(tmp_path / "t.csv")) == sorted(
        ["'=1+1.png", "new line.png", r"not-utf8-\xff.png", "张三.png"]
    )
    lines = (tmp_path / "t.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["photo"] for line in lines} == {
        "=1+1.png", "new\nline.png", r"not-utf8-\xff.png", "张三.png"
    }  # fmt: skip
    assert batch(tables=("t.csv", "t.jsonl")).skipped == 4


def test_tables_of_each_kind_hold_the_same(batch, folder, tmp_path):
    tables = ("t.csv", "t.jsonl", "t.parquet")
    batch(tables=tables)
    csv = pd.read_csv(tmp_path / "t.csv")
    lines = pd.read_json(tmp_path / "t.jsonl", lines=True)
    parquet = pd.read_parquet(tmp_path / "t.parquet")
    assert list(csv) == list(lines) == list(parquet) == list(photo_columns(EMOTIONS))
    for name in ("photo", "emotion", "width", "sure"):
        assert list(csv[name]) == list(lines[name]) == list(parquet[name])
    assert len(csv) == 3


def test_photos_come_in_their_order_however_they_were_done(batch, tmp_path):
    folder = tmp_path / "photos"
    for number in range(8):
        write_photo(folder / f"{number}.png", SLOW if number % 3 == 0 else (1, 2, 3), number)
    done = []
    batch(ThreadWorkers(4), on_photo=lambda name, results: done.append(name))
    assert photos_of(tmp_path / "t.csv") == sorted(done)


def test_few_photos_are_in_hand_at_a_time(batch, tmp_path):
    write_photos(tmp_path / "photos", 20)
    workers = ThreadWorkers(2)
    progress = []
    batch(workers, on_progress=progress.append)
    assert [step.done for step in progress] == list(range(21))
    assert progress[-1].is_complete
    assert workers.opened_times == 1


# run again


def test_done_and_unchanged_is_skipped(batch, folder, tmp_path):
    batch()
    before = (tmp_path / "t.csv").stat()
    workers = ThreadWorkers()
    report = batch(workers)
    assert (report.skipped, report.done, report.faces) == (3, 3, 3)
    after = (tmp_path / "t.csv").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    # tables are made of what is known
    (tmp_path / "t.csv").unlink()
    batch(workers, tables=("new.parquet", "t.csv"))
    assert workers.opened_times == 0
    assert len(photos_of(tmp_path / "t.csv")) == 3
    assert (tmp_path / "new.parquet").is_file()


def test_new_changed_and_vanished_photos(batch, folder, tmp_path):
    batch()
    write_photo(folder / "001.png", number=200)
    os.utime(folder / "001.png", ns=(1, 1))
    write_photo(folder / "000b.png", number=9)
    (folder / "002.png").unlink()
    done = []
    report = batch(on_photo=lambda name, results: done.append(name))
    assert sorted(done) == ["000b.png", "001.png"]
    assert (report.skipped, report.gone, report.total) == (1, 1, 3)
    rows = read_table(tmp_path / "t.csv")
    assert [row["photo"] for row in rows] == ["000.png", "000b.png", "001.png"]
    assert rows[2]["width"] == str(20 + 200 % 20)


@pytest.mark.parametrize("difference", ["again", "model", "detector", "limits"])
def test_what_was_made_otherwise_is_done_again(batch, folder, tmp_path, difference):
    batch()
    options = {
        "again": {"again": True},
        "model": {"model": write_pair(tmp_path / "other" / "one", seed=5).stem},
        "detector": {"make_detector": OtherDetector},
        "limits": {"limits": replace(BatchSettings().limits, max_side=1000)},
    }[difference]
    report = batch(**options)
    assert report.skipped == 0
    assert len(read_table(tmp_path / "t.csv")) == 3
    assert batch(**options | {"again": False}).skipped == 3


def test_problems_of_the_machine_are_tried_again_those_of_the_photo_are_not(batch, folder):
    (folder / "text.jpg").write_text("hello")
    (folder / "later.png").symlink_to("../not-yet.png")
    assert batch().problems == 2
    write_photo(folder.parent / "not-yet.png")
    done = []
    report = batch(on_photo=lambda name, results: done.append(name))
    assert done == ["later.png"]
    assert report.problems == 1


def test_stopped_run_has_no_rows_of_changed_photos(batch, folder, tmp_path):
    batch()
    os.utime(folder / "002.png", ns=(1, 1))
    for name in ("000a.png", "000b.png", "001a.png"):
        write_photo(folder / name)
    report = batch(on_progress=stop_after(2))
    assert report.done == 4
    assert photos_of(tmp_path / "t.csv") == ["000.png", "000a.png", "000b.png", "001.png"]
    assert batch().skipped == 4


def test_a_table_that_was_left_out_for_a_while_is_brought_up_to_date(batch, folder, tmp_path):
    batch(tables=("t.csv", "u.csv"))
    (folder / "001.png").rename(folder / "003.png")
    batch(tables=("t.csv",))
    assert batch(tables=("t.csv", "u.csv")).skipped == 3
    assert photos_of(tmp_path / "u.csv") == ["000.png", "002.png", "003.png"]


def stop_after(count):
    return lambda progress: progress.done - progress.skipped < count


@pytest.mark.parametrize("ends", ["stopped", "Ctrl-C"])
def test_what_is_done_is_kept_and_goes_on(batch, folder, tmp_path, ends):
    def interrupt(name, results):
        if name == "001.png":
            raise KeyboardInterrupt

    tables = ("t.csv", "t.parquet")
    if ends == "stopped":
        report = batch(on_progress=stop_after(2), tables=tables)
        assert (report.done, report.is_complete) == (2, False)
    else:
        with pytest.raises(KeyboardInterrupt):
            batch(on_photo=interrupt, tables=tables)
    assert photos_of(tmp_path / "t.csv") == ["000.png", "001.png"]
    assert len(pd.read_parquet(tmp_path / "t.parquet")) == 2
    report = batch(tables=tables)
    assert (report.skipped, report.is_complete) == (2, True)
    assert photos_of(tmp_path / "t.csv") == ["000.png", "001.png", "002.png"]


@pytest.mark.parametrize("is_ours", [True, False])
def test_no_half_table_takes_the_place_of_a_good_one(batch, folder, tmp_path, is_ours):
    if is_ours:
        batch()
    else:
        (tmp_path / "t.csv").write_text("mine\n")
    good = (tmp_path / "t.csv").read_bytes()
    seen = []

    def look(name, results):
        seen.append(((tmp_path / "t.csv").read_bytes(), len(photos_of(tmp_path / "t.part.csv"))))

    report = batch(make_detector=OtherDetector, on_progress=stop_after(2), on_photo=look)
    assert seen == [(good, 1), (good, 2)]
    assert (tmp_path / "t.csv").read_bytes() == good
    assert "still holds" in report.notes[-1]
    report = batch(make_detector=OtherDetector)
    assert (report.skipped, report.is_complete) == (2, True)
    assert len(photos_of(tmp_path / "t.csv")) == 3
    assert not (tmp_path / "t.part.csv").exists()


def test_a_run_that_cannot_start_changes_nothing(batch, folder, tmp_path):
    class Absent(ThreadWorkers):
        def opened(self):
            raise SourceError("expected a scheduler; received none")

    with pytest.raises(SourceError):
        batch(Absent())
    assert not list(tmp_path.glob("t.csv*"))
    batch()
    with pytest.raises(SourceError):
        batch(Absent(), again=True)
    assert batch().skipped == 3


# several sources, one table


@pytest.fixture
def folders(tmp_path):
    """Return two folders whose photos have equal names, sizes and times, but other faces."""
    made = []
    for number, name in ((0, "one"), (9, "two")):
        made.append(tmp_path / name)
        for photo in ("a.png", "b.png"):
            path = write_photo(made[-1] / photo, number=number)
            path.write_bytes(path.read_bytes().ljust(2000, b"\0"))
            os.utime(path, (1, 1))
    return made


def widths_of(table):
    return {row["photo"]: row["width"] for row in read_table(table)}


def test_another_source_adds_its_rows(batch, folders, tmp_path):
    one, two = folders
    expected = {"a.png": "20", "b.png": "20", f"{two}/a.png": "29", f"{two}/b.png": "29"}
    assert batch(source="one").skipped == 0
    report = batch(source="two")
    assert (report.total, report.done, report.skipped, report.gone) == (2, 2, 0, 0)
    assert widths_of(tmp_path / "t.csv") == expected
    before = (tmp_path / "t.csv").stat().st_mtime_ns
    assert [batch(source=name).skipped for name in ("one", "two")] == [2, 2]
    assert (tmp_path / "t.csv").stat().st_mtime_ns == before
    # a folder that is gone is no business of a run on another one
    (two / "b.png").unlink()
    one.rename(tmp_path / "away")
    assert batch(source="two").gone == 1
    assert expected.items() - widths_of(tmp_path / "t.csv").items() == {(f"{two}/b.png", "29")}


def test_photos_one_by_one_share_a_table(batch, folders, tmp_path):
    for source in ("one/a.png", "one/b.png", "two/a.png"):
        assert (batch(source=source).skipped, batch(source=source).skipped) == (0, 1)
    assert photos_of(tmp_path / "t.csv") == [f"{folders[1]}/a.png", "a.png", "b.png"]
    # a photo is the same one by whatever source it comes
    assert batch(source="one").skipped == 2
    assert batch(source=".").skipped == 3
    assert len(photos_of(tmp_path / "t.csv")) == 4


def test_photos_that_vanish_from_a_list_elsewhere_lose_their_rows(batch, folders, tmp_path):
    (tmp_path / "lists").mkdir()
    mine = tmp_path / "lists" / "mine.txt"
    places = [f"{folders[1]}/a.png", f"{folders[1]}/b.png"]
    mine.write_text("\n".join(places))
    batch(source="lists/mine.txt")
    assert batch(source="two").skipped == 2
    assert photos_of(tmp_path / "t.csv") == places
    mine.write_text(places[0])
    assert batch(source="lists/mine.txt").gone == 0
    (folders[1] / "b.png").unlink()
    assert batch(source="lists/mine.txt").gone == 1
    assert photos_of(tmp_path / "t.csv") == places[:1]


@pytest.mark.parametrize("again", [False, True])
def test_one_table_does_not_mix_settings(batch, folders, tmp_path, again):
    batch(source="one")
    before = {path.name: path.read_bytes() for path in tmp_path.glob("t.*")}
    with pytest.raises(TableError, match="name another table"):
        batch(source="two", make_detector=OtherDetector, again=again)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("t.*")} == before
    report = batch(source=".", make_detector=OtherDetector, again=again)
    assert (report.total, report.skipped) == (4, 0)


def test_a_link_in_place_of_a_photo_takes_its_row(batch, folder, tmp_path):
    batch()
    (folder / "002.png").unlink()
    (folder / "002.png").symlink_to("001.png")
    assert batch().gone == 1
    assert photos_of(tmp_path / "t.csv") == ["000.png", "001.png"]


# annotated copies


def test_copies_stand_where_the_photos_did(batch, folder, tmp_path):
    write_photo(folder / "sub" / "a.png")
    write_photo(folder / "sub" / "a.gif")
    copies = tmp_path / "photos" / "annotated"
    batch(copies=copies)
    found = sorted(path.relative_to(copies).as_posix() for path in copies.rglob("*.*"))
    assert found == ["000.png", "001.png", "002.png", "sub/a.gif.jpg", "sub/a.png"]
    original, copy = (read_image(path / "000.png") for path in (folder, copies))
    assert original.shape == copy.shape
    assert (original != copy).any()
    (copies / "001.png").unlink()
    assert batch(copies=copies).skipped == 4
    assert (copies / "001.png").is_file()


@pytest.mark.parametrize("place", ["photos", "."])
def test_copies_never_replace_photos(model, folder, tmp_path, place):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    outputs = BatchOutputs(copies=tmp_path / place)
    with pytest.raises(SourceError, match="holds no photos"):
        run_batch(find_photos(folder), outputs, BatchSettings(model=model), ThreadWorkers())
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_copies_do_not_follow_links_to_photos(batch, folder, tmp_path):
    original = write_photo(folder / "sub" / "a.png")
    before = original.read_bytes()
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "sub").symlink_to(folder / "sub", target_is_directory=True)
    assert batch(copies=tmp_path / "copies").problems == 1
    assert original.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "others", "expected"),
    [
        ("a.jpg", (), "a.jpg"),
        ("sub/a.JPG", (), "sub/a.JPG"),
        ("a.heic", ("a.jpg",), "a.heic.jpg"),
        ("a.heic", ("a.heic.jpg",), "a.heic.jpg.jpg"),
        ("/elsewhere/a.png", (), "elsewhere/a.png"),
        ("C:/photos/a.png", (), "C_/photos/a.png"),
    ],
)
def test_place_of_a_copy(name, others, expected):
    assert copy_path(Path("out"), name, {name, *others}) == Path("out", expected)


# what cannot be


@pytest.mark.parametrize(
    ("tables", "words"),
    [((), "neither"), (("t.xlsx",), "ending in"), (("no/t.csv",), "no")],
)
def test_outputs_are_checked_first(batch, folder, tables, words):
    with pytest.raises((SourceError, TableError), match=words):
        batch(tables=tables)


def test_a_worker_with_another_model_is_told(model, tmp_path):
    def load(**differences):
        sha256 = Recognizer.load(model).model.sha256
        settings = WorkerSettings(portable_stem(model), sha256, SignDetector)
        return load_worker(pickle.dumps(replace(settings, **differences)))

    _, recognizer, _ = load()
    assert recognizer.model.name == "one"
    for differences, words in [
        ({"model_sha256": "ab" * 32}, "abab"),
        ({"model": str(tmp_path / "none"), "is_remote": True}, "worker on .* cannot start"),
    ]:
        with pytest.raises(ModelError, match=words):
            load(**differences)
    # a checkout elsewhere has its models elsewhere
    assert portable_stem(ROOT / "models" / "detection_model") == "models/detection_model"


def test_two_runs_at_once_are_refused(batch, folder):
    def run_another(name, results):
        with pytest.raises(TableError, match="no other run"):
            batch()

    assert batch(on_photo=run_another).done == 3


# the store


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"settings":{"schema":1},"root":"/photos"}\n', "earlier version"),
        (b"my diary\n" * 100, "another file"),
    ],
)
def test_another_file_in_place_of_the_store_is_left_alone(batch, folder, tmp_path, content, words):
    (tmp_path / "t.csv.journal").write_bytes(content)
    with pytest.raises(TableError, match=words):
        batch()
    assert (tmp_path / "t.csv.journal").read_bytes() == content
    assert not (tmp_path / "t.csv").exists()


def test_a_damaged_store_is_one_sentence(batch, folder, tmp_path):
    batch()
    path = tmp_path / "t.csv.journal"
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * (len(content) - 100))
    with pytest.raises(TableError, match="journal"):
        batch()


def test_a_run_leaves_its_tables_and_one_file(batch, folder, tmp_path):
    batch()
    assert sorted(path.name for path in tmp_path.glob("t.*")) == ["t.csv", "t.csv.journal"]


def test_what_a_run_takes_out_counts_with_its_first_photo(tmp_path):
    names = ["one.jpg", "two.jpg", "x\udcff.jpg"]
    with Store(tmp_path / "s", {"model": "a"}) as store:
        store.start(names, [], False)
        for name in names:
            store.add(Record(name, (1, 2), problem=f"no {name}"))
    with Store(tmp_path / "s", {"model": "b"}) as store:
        assert store.start(names, [], False) == []
        assert store.names() == set()
    with Store(tmp_path / "s", {"model": "a"}) as store:
        assert store.start(names, [], False) == []
        assert store.find("x\udcff.jpg") == Record("x\udcff.jpg", (1, 2), problem="no x\udcff.jpg")
        store.forget(names)
        store.add(Record("four.jpg", None))
    with Store(tmp_path / "s", {"model": "a"}) as store:
        assert store.names() == {"four.jpg"}


# processes


def test_workers_that_die_and_photos_that_hang(batch, tmp_path):
    folder = tmp_path / "photos"
    write_photos(folder, 6)
    write_photo(folder / "001a.png", KILLS)
    write_photo(folder / "003a.png", HANGS)
    heard = []

    def on_photo(name, results):
        heard.append(name)
        if len(heard) == 1:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    report = batch(
        LocalWorkers(2), photo_timeout_s=1.0, copies=tmp_path / "copies", on_photo=on_photo
    )
    rows = read_table(tmp_path / "t.csv")
    assert [row["photo"] for row in rows] == sorted(path.name for path in folder.iterdir())
    ended = [row["photo"] for row in rows if "twice" in row["problem"]]
    assert ended == ["001a.png", "003a.png"]
    assert sorted(heard) == [row["photo"] for row in rows]
    assert (report.problems, report.faces) == (2, 6)


def test_workers_that_cannot_start_are_told(batch, folder):
    with pytest.raises(SourceError, match="workers that start"):
        batch(LocalWorkers(1), make_detector=partial(_detector_for, os.getpid()))


@pytest.mark.parametrize("name", ["__init__", "submit"])
def test_workers_whose_processes_cannot_start_are_told(batch, folder, monkeypatch, name):
    def fail(*arguments, **options):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(ProcessPoolExecutor, name, fail)
    with pytest.raises(SourceError, match="Broken pipe"):
        batch(LocalWorkers(1))


def _detector_for(process):
    """Return a detector in one process; end any other."""
    if os.getpid() != process:
        os._exit(3)
    return SignDetector()


@pytest.mark.parametrize("count", [0, -1])
def test_number_of_workers(count):
    with pytest.raises(SourceError, match="1 worker"):
        LocalWorkers(count)


RUN = """
import signal
import sys
# tests that a shell began in the background would hand on that it is ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
sys.path[:0] = {paths!r}
from batch_support import SignDetector
from emotion.batch import *
from emotion.images.folders import find_photos
if __name__ == "__main__":
    folder = Path({folder!r})
    settings = BatchSettings(Path({model!r}), SignDetector)
    outputs = BatchOutputs((folder / "t.csv",))
    run_batch(find_photos(folder / "photos"), outputs, settings, LocalWorkers(2))
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_killed_run_loses_the_photos_in_hand_alone(batch, model, tmp_path, name):
    write_photos(tmp_path / "photos", 24, SLOW)
    paths = [str(ROOT), str(ROOT / "tests")]
    script = tmp_path / "run.py"
    script.write_text(RUN.format(paths=paths, folder=str(tmp_path), model=str(model)))
    process = subprocess.Popen(
        [sys.executable, script], start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    table = tmp_path / "t.csv"
    wait_for(lambda: table.exists() and len(photos_of(table)) >= 5)
    if name == "SIGINT":
        # as a terminal sends it: to the workers too, which must say nothing
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGKILL)
    _, said = process.communicate()
    assert said.count("Traceback") == (name == "SIGINT")
    done = photos_of(tmp_path / "t.csv")
    assert 5 <= len(done) < 24
    assert len(set(done)) == len(done)
    wait_for(lambda: not processes_of(process.pid))
    report = batch(ThreadWorkers(4))
    assert report.skipped >= len(done)
    assert photos_of(tmp_path / "t.csv") == [f"{number:03}.png" for number in range(24)]


def wait_for(condition, timeout_s=30):
    """Wait until something is so."""
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.05)


def processes_of(group):
    """Return whether any process of a group is alive."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_documentation_names_every_column():
    text = (ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
    for column in photo_columns(["<class>"]):
        assert f"`{column}`" in text
