import contextlib
import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from emotion.errors import TableError
from emotion.tables import PANDAS_TYPES, TABLE_SUFFIXES, TableSink, check_suffix

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = {"name": str, "frame": int, "score": float, "sure": bool}
FULL = {"name": "a", "frame": 7, "score": 0.25, "sure": True}
EMPTY = dict.fromkeys(COLUMNS)
ROWS = [EMPTY, FULL, FULL | {"frame": None, "sure": False}, FULL | {"score": 3.0}]


@pytest.fixture(params=TABLE_SUFFIXES)
def path(request, tmp_path) -> Path:
    return tmp_path / f"faces{request.param}"


def write(path: Path, rows=ROWS, **more) -> Path:
    with TableSink(path, COLUMNS, **more) as sink:
        for row in rows:
            sink.write(row)
    return path


def read_table(path: Path, columns) -> list[dict]:
    """Return the rows of a table as a user's program reads them, None where a value is missing."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_bytes().splitlines()]
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    types = {name: PANDAS_TYPES[kind] for name, kind in columns.items()}
    frame = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=[""])
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


@contextlib.contextmanager
def files_no_larger_than(size: int):
    """Let the system refuse to make any file larger, as when the disk is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_rows_come_back_as_they_were(path):
    rows = read_table(write(path), COLUMNS)
    assert rows == ROWS
    assert all(list(row) == list(COLUMNS) for row in rows)
    assert read_table(write(path, ()), COLUMNS) == []
    row = {"frame": np.int64(2), "score": np.float32(0.5), "sure": np.bool_(True)}
    odd = [{"score": value} for value in (float("nan"), float("inf"), np.float32("-inf"))]
    rows = read_table(write(path, [row, *odd]), COLUMNS)
    assert rows == [EMPTY | {"frame": 2, "score": 0.5, "sure": True}, EMPTY, EMPTY, EMPTY]
    numbers = [0.1, 1e-07, 123456789.123456, -0.0, 1e300, 2.0]
    rows = read_table(write(path, [{"score": number} for number in numbers]), COLUMNS)
    assert [row["score"] for row in rows] == numbers


def test_other_rows_are_refused_and_the_table_goes_on(path):
    wrong = [{"frame": 1.5}, {"frame": "1"}, {"score": "1"}, {"sure": 1}, {"name": 1}, {"other": 1}]
    with TableSink(path, COLUMNS) as sink:
        for row in wrong:
            with pytest.raises(TableError, match=r"expected .* received"):
                sink.write(row)
        sink.write(FULL)
        if path.suffix != ".parquet":  # lines are there while the table grows
            assert read_table(path, COLUMNS) == [FULL]
    assert read_table(path, COLUMNS) == [FULL]


def test_what_cannot_be_written_is_a_sentence_and_the_table_before_stays(tmp_path, path):
    (tmp_path / "folder" / path.name).mkdir(parents=True)
    for place in (tmp_path / "no" / path.name, tmp_path / "folder" / path.name):
        with pytest.raises(TableError, match=path.name), TableSink(place, COLUMNS):
            pytest.fail("the table must not open")
    for name in ("a.xlsx", "a", "csv", "a.csv.gz"):
        for refused in (lambda path: TableSink(path, COLUMNS), check_suffix):
            with pytest.raises(TableError, match=r"\.csv, \.jsonl, \.parquet"):
                refused(tmp_path / name)
    write(path)

    def failing():
        yield FULL
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, first_rows=failing())
    assert read_table(path, COLUMNS) == ROWS


@pytest.mark.parametrize(
    ("text", "in_csv", "elsewhere"),
    [
        ('a "b", c;d', 'a "b", c;d', 'a "b", c;d'),
        ("two\r\nlines", "two  lines", "two\r\nlines"),
        ("nul\0", "nul ", "nul\0"),
        ("lone \udcff", "lone ?", "lone ?"),
        ("张三 😊", "张三 😊", "张三 😊"),
        ("=1+1", "'=1+1", "=1+1"),
        (" -x", "' -x", " -x"),
    ],
    ids=ascii,
)
def test_any_text_is_held_and_no_spreadsheet_runs_it(path, text, in_csv, elsewhere):
    (row,) = read_table(write(path, [{"name": text, "frame": 1}]), COLUMNS)
    assert (row["name"], row["frame"]) == (in_csv if path.suffix == ".csv" else elsewhere, 1)


def test_the_bytes_of_lines(tmp_path):
    rows = [{"name": "=1, 2", "frame": -1, "score": -1.5}, {"name": 'a "b"', "sure": True}]
    lines = write(tmp_path / "a.csv", rows).read_bytes().decode()  # RFC 4180, and no formulas
    assert lines == 'name,frame,score,sure\r\n"\'=1, 2",-1,-1.5,\r\n"a ""b""",,,True\r\n'
    lines = write(tmp_path / "a.jsonl", [{"name": "张"}]).read_text(encoding="utf-8").splitlines()
    assert lines == ['{"name":"张","frame":null,"score":null,"sure":null}']


def test_parquet_says_what_it_is(tmp_path):
    path = write(tmp_path / "a.parquet", metadata={"model": "m", "model_sha256": "ab"})
    with pyarrow.parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
    assert [str(field.type) for field in schema] == "string int64 double bool".split()
    notes = {name: schema.metadata[b"emotion." + name] for name in (b"schema", b"model")}
    assert notes == {b"schema": b"1", b"model": b"m"}
    frame = pd.read_parquet(path)
    assert list(map(str, frame.dtypes)) == "str Int64 float64 boolean".split()
    assert frame["sure"].tolist() == [pd.NA, True, False, True]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_table_holds_all_rows_so_far(path, error):

    def rows():
        yield from ROWS
        raise error

    with pytest.raises(error):
        write(path, rows())
    assert read_table(path, COLUMNS) == ROWS
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_second_interrupt_while_parquet_is_made_leaves_the_table_before(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet")

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(pyarrow.parquet.ParquetWriter, "write_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(path, [FULL])
    assert read_table(path, COLUMNS) == ROWS
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


KILLED = """
import os, signal, sys
from pathlib import Path
from emotion.tables import TableSink
with TableSink(Path(sys.argv[1]), {"frame": int}) as sink:
    for frame in range(100):
        sink.write({"frame": frame})
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_lines_outlive_a_killed_process_and_parquet_does_not(path):
    code = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT).returncode
    assert code == -signal.SIGKILL
    if path.suffix == ".parquet":
        assert not path.exists()
    else:
        assert [row["frame"] for row in read_table(path, {"frame": int})] == list(range(100))


def test_a_full_disk_is_a_sentence_and_leaves_whole_rows(path):
    told = pytest.raises(TableError, match=rf"{path.name}; received")
    with files_no_larger_than(4000), told, TableSink(path, COLUMNS) as sink:
        for frame in range(100_000):
            sink.write({"name": f"{frame * 7919}", "frame": frame})
    if path.suffix == ".parquet":
        assert not path.exists()
    else:
        rows = read_table(path, COLUMNS)
        assert [row["frame"] for row in rows] == list(range(len(rows)))
        assert path.read_bytes().endswith(b"\n")
    assert {file.name for file in path.parent.iterdir()} <= {path.name}


def test_without_pyarrow_the_other_tables_are_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(TableError, match=r"pip install pyarrow"):
        TableSink(tmp_path / "a.parquet", COLUMNS)
    assert len(read_table(write(tmp_path / "a.csv"), COLUMNS)) == len(ROWS)
