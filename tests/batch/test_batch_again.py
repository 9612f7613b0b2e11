"""The same table again: what is done is skipped; other sources; the store beside it."""

import os

import pandas as pd
import pytest
from batch_support import OtherDetector, ThreadWorkers, photos_of, read_table, write_photo
from model_folder import write_pair

from emotion.errors import SourceError, TableError


def stop_after(count):
    return lambda progress: progress.done - progress.skipped < count


def test_only_what_was_made_otherwise_is_done_again(batch, folder, table, tmp_path):
    for options in (
        {},
        {"again": True},
        {"model": write_pair(tmp_path / "other" / "one", seed=5).stem},
        {"make_detector": OtherDetector},
    ):
        assert batch(**options).skipped == 0
        assert len(read_table(table)) == 3
        before, workers, options["again"] = table.stat(), ThreadWorkers(), False
        report = batch(workers, **options)
        assert (report.skipped, report.done, report.faces) == (3, 3, 3)
        after = table.stat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    # tables are made of what is known
    table.unlink()
    batch(workers, tables=("new.parquet", "t.csv"), **options)
    assert workers.opened_times == 0
    assert len(photos_of(table)) == len(pd.read_parquet(tmp_path / "new.parquet")) == 3


def test_new_changed_and_vanished_photos(batch, folder, table):
    batch()
    write_photo(folder / "001.png", number=200)
    os.utime(folder / "001.png", ns=(1, 1))
    write_photo(folder / "000b.png", number=9)
    (folder / "002.png").unlink()
    report = batch()
    assert (report.done, report.skipped, report.gone, report.total) == (3, 1, 1, 3)
    assert photos_of(table) == ["000.png", "000b.png", "001.png"]
    assert read_table(table)[2]["width"] == str(20 + 200 % 20)
    # a run that stops has no rows of changed photos
    os.utime(folder / "001.png", ns=(2, 2))
    for name in ("000a.png", "000c.png", "002a.png"):
        write_photo(folder / name)
    assert batch(on_progress=stop_after(2)).done == 4
    assert photos_of(table) == ["000.png", "000a.png", "000b.png", "000c.png"]
    assert batch().skipped == 4


def test_links_runs_that_cannot_start_and_tables_left_out_for_a_while(batch, folder, tmp_path):
    class Absent(ThreadWorkers):
        def opened(self):
            raise SourceError("expected a scheduler; received none")

    with pytest.raises(SourceError):
        batch(Absent())
    assert not list(tmp_path.glob("t.csv*"))
    batch(tables=("t.csv", "u.csv"))
    with pytest.raises(SourceError):
        batch(Absent(), again=True)
    (folder / "001.png").rename(folder / "003.png")
    batch()
    assert batch(tables=("t.csv", "u.csv")).skipped == 3
    assert photos_of(tmp_path / "u.csv") == ["000.png", "002.png", "003.png"]
    (folder / "002.png").unlink()
    (folder / "002.png").symlink_to("000.png")
    assert batch().gone == 1
    assert photos_of(tmp_path / "t.csv") == ["000.png", "003.png"]
    assert sorted(path.name for path in tmp_path.glob("t.*")) == ["t.csv", "t.csv.journal"]


@pytest.mark.parametrize("is_ours", [True, False])
def test_no_half_table_takes_the_place_of_a_good_one(batch, folder, table, tmp_path, is_ours):
    if is_ours:
        batch()
    else:
        table.write_text("mine\n")
    good, seen, part = table.read_bytes(), [], tmp_path / "t.part.csv"

    def look(name, results):
        seen.append((table.read_bytes(), len(photos_of(part))))

    report = batch(make_detector=OtherDetector, on_progress=stop_after(2), on_photo=look)
    assert seen == [(good, 1), (good, 2)]
    assert table.read_bytes() == good
    assert "still holds" in report.notes[-1]
    report = batch(make_detector=OtherDetector)
    assert (report.skipped, report.done, len(photos_of(table))) == (2, 3, 3)
    assert not part.exists()


@pytest.fixture
def folders(tmp_path):
    """Return two folders whose photos have equal names, sizes and times, but other faces."""
    for number, name in ((0, "one"), (9, "two")):
        for photo in ("a.png", "b.png"):
            path = write_photo(tmp_path / name / photo, number=number)
            path.write_bytes(path.read_bytes().ljust(2000, b"\0"))
            os.utime(path, (1, 1))
    return tmp_path / "one", tmp_path / "two"


def test_sources_share_a_table_other_settings_do_not(batch, folders, table, tmp_path):
    def widths():
        return {row["photo"]: row["width"] for row in read_table(table)}

    one, two = folders
    expected = {"a.png": "20", "b.png": "20", f"{two}/a.png": "29", f"{two}/b.png": "29"}
    assert batch(source="one").skipped == 0
    report = batch(source="two")
    assert (report.total, report.done, report.skipped, report.gone) == (2, 2, 0, 0)
    assert widths() == expected
    before = {path: path.read_bytes() for path in tmp_path.glob("t.*")}
    assert [batch(source=name).skipped for name in ("one", "two")] == [2, 2]
    for again in (False, True):
        with pytest.raises(TableError, match="name another table"):
            batch(source="two", make_detector=OtherDetector, again=again)
    assert {path: path.read_bytes() for path in tmp_path.glob("t.*")} == before
    # a folder that is gone is no business of a run on another one
    (two / "b.png").unlink()
    one.rename(tmp_path / "away")
    assert batch(source="two").gone == 1
    assert expected.items() - widths().items() == {(f"{two}/b.png", "29")}


def test_photos_by_any_source_share_a_table(batch, folders, table, tmp_path):
    two = folders[1]
    for source in ("one/a.png", "one/b.png", "two/a.png"):
        assert (batch(source=source).skipped, batch(source=source).skipped) == (0, 1)
    assert photos_of(table) == [f"{two}/a.png", "a.png", "b.png"]
    # a photo is the same one by whatever source it comes
    assert (batch(source="one").skipped, batch(source=".").skipped) == (2, 3)
    # one that a list elsewhere no longer names stays as long as it is there
    mine = tmp_path / "lists" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text(f"{two}/a.png")
    assert (batch(source="lists/mine.txt").skipped, len(photos_of(table))) == (1, 4)
    # where a list comes first, all names are whole paths
    sources = "lists/mine.txt", "two"
    assert [batch(source=name, tables=("u.csv",)).skipped for name in sources] == [0, 1]
    assert photos_of(tmp_path / "u.csv") == [f"{two}/a.png", f"{two}/b.png"]
    (two / "b.png").unlink()
    assert batch(source="lists/mine.txt").gone == 1
    assert photos_of(table) == [f"{two}/a.png", "a.png", "b.png"]
    # where all of its photos come again, a table may have other settings
    report = batch(source=".", make_detector=OtherDetector)
    assert (report.total, report.skipped) == (3, 0)


def test_two_runs_at_once_and_another_file_are_refused(batch, folder, table, tmp_path):
    path = tmp_path / "t.csv.journal"
    for content in (b'{"settings":{"schema":1},"root":"/photos"}\n', b"my diary\n" * 100):
        path.write_bytes(content)
        with pytest.raises(TableError, match="another file"):
            batch()
        assert path.read_bytes() == content
        assert not table.exists()
    path.unlink()

    def run_another(name, results):
        with pytest.raises(TableError, match="another run"):
            batch()

    assert batch(on_photo=run_another).done == 3
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * (len(content) - 100))
    with pytest.raises(TableError, match="journal"):
        batch()
