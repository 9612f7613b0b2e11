import json
import os
import pickle
from pathlib import Path

import pandas as pd
import pytest
from batch_support import SignDetector, ThreadWorkers, photos_of, read_table, write_photo

from emotion.batch.outputs import copy_path
from emotion.batch.worker import WorkerSettings, load_worker, portable_stem
from emotion.errors import ModelError, SourceError, TableError
from emotion.images.decoding import read_image
from emotion.images.folders import PhotoFile, find_photos
from emotion.labels import EMOTIONS
from emotion.recognizer import Recognizer
from emotion.rows import photo_columns

ROOT = Path(__file__).resolve().parents[2]


def problems_in(table):
    return {row["photo"]: row["problem"] for row in read_table(table)}


def test_rows_are_those_of_the_recognizer_in_tables_of_each_kind(batch, folder, model, tmp_path):
    report = batch(tables=("t.csv", "t.jsonl", "t.parquet"))
    assert (report.total, report.done, report.faces, report.problems) == (3, 3, 3, 0)
    recognizer = Recognizer.load(model, SignDetector())
    for table in (
        pd.read_csv(tmp_path / "t.csv"),
        pd.read_json(tmp_path / "t.jsonl", lines=True),
        pd.read_parquet(tmp_path / "t.parquet"),
    ):
        assert list(table) == list(photo_columns(EMOTIONS))
        rows = table.to_dict("records")
        for row, path in zip(rows, sorted(folder.iterdir()), strict=True):
            (face,) = recognizer.recognize(read_image(path))
            assert (row["photo"], row["face"], row["sure"]) == (path.name, 1, face.sure)
            assert (row["width"], row["emotion"]) == (face.box_xywh[2], face.emotion)
            assert row["probability_happy"] == pytest.approx(face.probabilities["happy"], 1e-3)
            assert pd.isna(row["problem"])
    documented = (ROOT / "docs" / "batch.md").read_text(encoding="utf-8")
    assert all(f"`{column}`" in documented for column in photo_columns(["<class>"]))


def test_bad_files_are_rows_with_their_reason(batch, folder, table):
    (folder / "empty.jpg").touch()
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "text.jpg").write_text("hello")
    (folder / "cut.png").write_bytes((folder / "000.png").read_bytes()[:60])
    bomb = b"RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00\x2f\xfe\xff\xff\x0f" + b"\0" * 8
    (folder / "bomb.webp").write_bytes(bomb)
    write_photo(folder / "mistake.png", "fails")
    os.mkfifo(folder / "pipe.jpg")
    report, problems = batch(), problems_in(table)
    assert (report.problems, len(report.first_problems)) == (7, 5)
    for name, words in {
        "empty.jpg": "empty file",
        "loop.jpg": "symbolic links",
        "text.jpg": "begins with hello",
        "cut.png": "its end",
        "bomb.webp": "megapixels",
        "mistake.png": "ZeroDivisionError",
        "pipe.jpg": "not a file",
    }.items():
        assert problems[name].startswith("expected")
        assert words in problems[name]
    # only problems of the machine are tried again
    (folder / "loop.jpg").unlink()
    write_photo(folder / "loop.jpg")
    done = []
    assert batch(on_photo=lambda name, results: done.append(name)).problems == 6
    assert sorted(done) == ["loop.jpg", "mistake.png"]


def test_vanished_and_unopened_are_rows(batch, folder, tmp_path):
    photos = [
        *find_photos(folder),
        PhotoFile(folder / "gone.jpg", "gone.jpg"),
        PhotoFile(folder / "closed", "closed/", "expected another folder"),
    ]
    for is_remote, words in ((False, "No such file"), (True, "--send-files")):
        name = f"{is_remote}.csv"
        assert batch(ThreadWorkers(1, is_remote), tables=(name,), source=photos).problems == 2
        problems = problems_in(tmp_path / name)
        assert words in problems["gone.jpg"]
        assert problems["closed/"] == "expected another folder"


def test_odd_names_survive(batch, table, tmp_path):
    for name in (b"new\nline.png", b"not-utf8-\xff.png", b"=1+1.png", "张三.png".encode()):
        write_photo(tmp_path / "photos" / os.fsdecode(name))
    batch(tables=("t.csv", "t.jsonl"))
    lines = (tmp_path / "t.jsonl").read_text(encoding="utf-8").splitlines()
    names = {"=1+1.png", "new\nline.png", r"not-utf8-\xff.png", "张三.png"}
    assert {json.loads(line)["photo"] for line in lines} == names
    assert set(photos_of(table)) == {"'=1+1.png", "new line.png", r"not-utf8-\xff.png", "张三.png"}
    assert batch(tables=("t.csv", "t.jsonl")).skipped == 4


def test_rows_keep_the_order_of_the_photos_and_progress_counts_up(batch, table, tmp_path):
    for number in range(8):
        write_photo(tmp_path / "photos" / f"{number}.png", "slow" if number % 3 == 0 else "")
    done, progress, workers = [], [], ThreadWorkers(4)
    batch(workers, on_photo=lambda name, results: done.append(name), on_progress=progress.append)
    assert photos_of(table) == sorted(done)
    assert [step.done for step in progress] == list(range(9))
    assert workers.opened_times == 1
    for tables, words in (((), "neither"), (("t.xlsx",), "ending in"), (("no/t.csv",), "no")):
        with pytest.raises((SourceError, TableError), match=words):
            batch(tables=tables)


def test_copies_stand_where_the_photos_did(batch, folder):
    write_photo(folder / "sub" / "a.png")
    write_photo(folder / "sub" / "a.gif")
    copies = folder / "annotated"
    batch(copies=copies)
    found = sorted(path.relative_to(copies).as_posix() for path in copies.rglob("*.*"))
    assert found == ["000.png", "001.png", "002.png", "sub/a.gif.jpg", "sub/a.png"]
    original, copy = (read_image(path / "000.png") for path in (folder, copies))
    assert original.shape == copy.shape
    assert (original != copy).any()
    (copies / "001.png").unlink()
    assert batch(copies=copies).skipped == 4
    assert (copies / "001.png").is_file()


def test_copies_never_replace_photos(batch, folder, tmp_path):
    original = write_photo(folder / "sub" / "a.png")
    photos = find_photos(folder)
    before = {photo.path: photo.path.read_bytes() for photo in photos}
    for place in (folder, tmp_path):
        with pytest.raises(SourceError, match="holds no photos"):
            batch(copies=place, source=photos)
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "sub").symlink_to(original.parent, target_is_directory=True)
    assert batch(copies=tmp_path / "copies").problems == 1
    assert {photo.path: photo.path.read_bytes() for photo in photos} == before
    for name, others, expected in (
        ("a.heic", ["a.jpg", "a.heic.jpg"], "a.heic.jpg.jpg"),
        ("/elsewhere/a.png", [], "elsewhere/a.png"),
        ("C:/photos/a.JPG", [], "C_/photos/a.JPG"),
    ):
        assert copy_path(Path("out"), name, {name, *others}) == Path("out", expected)


def test_a_worker_with_another_model_is_told(model, tmp_path):
    right = Recognizer.load(model).model.sha256

    def load(stem=model, sha256=right):
        settings = WorkerSettings(portable_stem(stem), SignDetector, model_sha256=sha256)
        return load_worker(pickle.dumps(settings))

    _, recognizer, _ = load()
    assert recognizer.model.name == "one"
    with pytest.raises(ModelError, match="abab"):
        load(sha256="ab" * 32)
    with pytest.raises(ModelError, match="worker cannot start"):
        load(tmp_path / "none")
    # a checkout elsewhere has its models elsewhere
    assert portable_stem(ROOT / "models" / "one") == Path("models", "one")
