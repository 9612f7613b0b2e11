"""Many photos to one table: its rows, its annotated copies, and what is refused."""

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from batch_support import (
    FAILS,
    PLAIN,
    SLOW,
    SignDetector,
    ThreadWorkers,
    photos_of,
    read_table,
    write_photo,
)

from emotion.batch import BatchOutputs, BatchSettings, run_batch
from emotion.batch.outputs import copy_path
from emotion.batch.worker import WorkerSettings, load_worker, portable_stem
from emotion.errors import ModelError, SourceError, TableError
from emotion.images.decoding import read_image, read_photo
from emotion.images.folders import PhotoFile, find_photos
from emotion.labels import EMOTIONS
from emotion.recognizer import Recognizer
from emotion.rows import photo_columns

ROOT = Path(__file__).resolve().parents[2]


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


def test_rows_keep_the_order_of_the_photos_and_progress_counts_up(batch, tmp_path):
    for number in range(8):
        write_photo(tmp_path / "photos" / f"{number}.png", SLOW if number % 3 == 0 else PLAIN)
    done, progress = [], []
    workers = ThreadWorkers(4)
    batch(workers, on_photo=lambda name, results: done.append(name), on_progress=progress.append)
    assert photos_of(tmp_path / "t.csv") == sorted(done)
    assert [step.done for step in progress] == list(range(9))
    assert progress[-1].is_complete
    assert workers.opened_times == 1
    for tables, words in (((), "neither"), (("t.xlsx",), "ending in"), (("no/t.csv",), "no")):
        with pytest.raises((SourceError, TableError), match=words):
            batch(tables=tables)


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


def test_copies_never_replace_photos(batch, model, folder, tmp_path):
    original = write_photo(folder / "sub" / "a.png")
    photos = find_photos(folder)
    before = {photo.path: photo.path.read_bytes() for photo in photos}
    for place in (folder, tmp_path):
        outputs = BatchOutputs(copies=place)
        with pytest.raises(SourceError, match="holds no photos"):
            run_batch(photos, outputs, BatchSettings(model=model), ThreadWorkers())
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "sub").symlink_to(original.parent, target_is_directory=True)
    assert batch(copies=tmp_path / "copies").problems == 1
    assert {photo.path: photo.path.read_bytes() for photo in photos} == before


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


def test_a_worker_with_another_model_is_told(model, tmp_path):
    def load(**differences):
        sha256 = Recognizer.load(model).model.sha256
        settings = WorkerSettings(portable_stem(model), SignDetector, model_sha256=sha256)
        return load_worker(pickle.dumps(replace(settings, **differences)))

    _, recognizer, _ = load()
    assert recognizer.model.name == "one"
    for differences, words in [
        ({"model_sha256": "ab" * 32}, "abab"),
        ({"model": tmp_path / "none", "is_remote": True}, "worker on .* cannot start"),
    ]:
        with pytest.raises(ModelError, match=words):
            load(**differences)
    # a checkout elsewhere has its models elsewhere
    assert portable_stem(ROOT / "models" / "detection_model") == Path("models/detection_model")


def test_documentation_names_every_column():
    text = (ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
    for column in photo_columns(["<class>"]):
        assert f"`{column}`" in text
