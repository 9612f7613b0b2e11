import json
import signal
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest

from emotion.errors import TableError
from emotion.tables import PANDAS_TYPES, TABLE_SUFFIXES, TableSink

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


def interrupted(*rows):
    yield from rows
    raise KeyboardInterrupt


def read_table(path: Path, columns) -> list[dict]:
    """Return the rows of a table as a user's program reads them, None where a value is missing."""
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_bytes().splitlines()]
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path).to_pylist()
    types = {name: PANDAS_TYPES[kind] for name, kind in columns.items()}
    frame = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=[""])
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


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


def test_what_cannot_be_written_leaves_the_table_before(tmp_path, path, monkeypatch):
    (tmp_path / "folder" / path.name).mkdir(parents=True)
    for place in (tmp_path / "no" / path.name, tmp_path / "folder" / path.name):
        with pytest.raises(TableError, match=path.name), TableSink(place, COLUMNS):
            pytest.fail("the table must not open")
    for name in ("a.xlsx", "a", "csv", "a.csv.gz"):
        with pytest.raises(TableError, match=r"\.csv, \.jsonl, \.parquet"):
            TableSink(tmp_path / name, COLUMNS)
    write(path)
    with pytest.raises(KeyboardInterrupt):
        write(path, first_rows=interrupted(FULL))
    assert read_table(path, COLUMNS) == ROWS
    if path.suffix == ".parquet":
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(TableError, match=r"pip install pyarrow"):
            TableSink(path, COLUMNS)


TEXTS = {  # in memory -> (in CSV, elsewhere)
    "two\r\nlines": ("two  lines", "two\r\nlines"),
    "lone \udcff": ("lone ?", "lone ?"),
    "张三 😊": ("张三 😊", "张三 😊"),
    "=1+1": ("'=1+1", "=1+1"),
    " -x": ("' -x", " -x"),
}


def test_any_text_is_held_and_no_spreadsheet_runs_it(path):
    rows = read_table(write(path, [{"name": text} for text in TEXTS]), COLUMNS)
    assert [row["name"] for row in rows] == [held[path.suffix != ".csv"] for held in TEXTS.values()]


def test_the_bytes_of_lines(tmp_path):
    rows = [{"name": "=1, 2", "frame": -1, "score": -1.5}, {"name": 'a "b"', "sure": True}]
    lines = write(tmp_path / "a.csv", rows).read_bytes().decode()  # RFC 4180, and no formulas
    assert lines == 'name,frame,score,sure\r\n"\'=1, 2",-1,-1.5,\r\n"a ""b""",,,True\r\n'
    lines = write(tmp_path / "a.jsonl", [{"name": "张"}]).read_text(encoding="utf-8")
    assert lines == '{"name":"张","frame":null,"score":null,"sure":null}\n'


def test_parquet_says_what_it_is(tmp_path):
    path = write(tmp_path / "a.parquet", metadata={"model": "m", "model_sha256": "ab"})
    with pyarrow.parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
    assert [str(field.type) for field in schema] == "string int64 double bool".split()
    notes = {name: schema.metadata[b"emotion." + name] for name in (b"schema", b"model")}
    assert notes == {b"schema": b"1", b"model": b"m"}


def test_an_interrupted_table_holds_all_rows_so_far(path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        write(path, interrupted(*ROWS))
    assert read_table(path, COLUMNS) == ROWS
    if path.suffix == ".parquet":  # a second time, while it is made from its rows
        fail = Mock(side_effect=KeyboardInterrupt)
        monkeypatch.setattr(pyarrow.parquet.ParquetWriter, "write_batch", fail)
        with pytest.raises(KeyboardInterrupt):
            write(path, [FULL])
        assert read_table(path, COLUMNS) == ROWS
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def process(path: Path, code: str):
    """Write a table in a process of its own, which runs `code` after a hundred rows."""
    lines = f"""
import os, resource, signal, sys
from pathlib import Path
from emotion.tables import TableSink
with TableSink(Path(sys.argv[1]), {{"frame": int}}) as sink:
    for frame in range(60_000):
        sink.write({{"frame": frame}})
        if frame == 99:
            {code}
"""
    command = [sys.executable, "-c", lines, str(path)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.parametrize("is_killed", [True, False], ids=["killed", "full disk"])
def test_lines_outlive_a_kill_and_a_full_disk_and_parquet_does_not(path, is_killed):
    if is_killed:
        ran = process(path, "os.kill(os.getpid(), signal.SIGKILL)")
        assert ran.returncode == -signal.SIGKILL
    else:  # the system lets no file grow any more, as when the disk is full
        ran = process(path, "resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))")
        assert f"table {path}" in ran.stderr
        assert {file.name for file in path.parent.iterdir()} <= {path.name}
    if path.suffix == ".parquet":
        assert not path.exists()
    else:
        frames = [row["frame"] for row in read_table(path, {"frame": int})]
        assert frames == list(range(100 if is_killed else len(frames)))
        assert len(frames) >= 100
        assert path.read_bytes().endswith(b"\n")
