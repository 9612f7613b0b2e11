import builtins
import contextlib
import csv
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

from emotion import tables
from emotion.errors import TableError
from emotion.tables import (
    TABLE_SUFFIXES,
    TableSink,
    check_suffix,
    pandas_types,
    read_rows,
    written_text,
)

ROOT = Path(__file__).resolve().parent.parent
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


def in_pandas(path: Path, **more) -> pd.DataFrame:
    """Return a table as people open it."""
    if path.suffix == ".csv":
        return pd.read_csv(path, **more)
    if path.suffix == ".jsonl":
        return pd.read_json(path, lines=True, **more)
    return pd.read_parquet(path, **more)


def types_of(frame: pd.DataFrame) -> dict[str, str]:
    return {name: str(kind) for name, kind in frame.dtypes.items()}


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
    assert list(read_rows(write(path), COLUMNS)) == ROWS


def test_a_table_without_rows_is_a_table(path):
    assert list(read_rows(write(path, ()), COLUMNS)) == []


def test_columns_that_a_row_has_not_are_missing_values(path):
    assert list(read_rows(write(path, [{"frame": 0}]), COLUMNS)) == [EMPTY | {"frame": 0}]


def test_pandas_reads_nullable_types(path):
    frame = in_pandas(write(path), dtype_backend="numpy_nullable")
    expected = {"name": "string", "frame": "Int64", "score": "Float64", "sure": "boolean"}
    assert types_of(frame) == expected
    assert frame["sure"].tolist() == [pd.NA, True, False, True]
    assert frame["frame"].tolist() == [pd.NA, 7, pd.NA, 7]


@pytest.mark.parametrize("rows", [ROWS, [EMPTY], ROWS[:2], [FULL]], ids=len)
def test_pandas_reads_the_very_types_of_the_columns(path, rows):
    write(path, rows)
    types = pandas_types(COLUMNS)
    frame = in_pandas(path, **({} if path.suffix == ".parquet" else {"dtype": types}))
    assert types_of(frame) == types
    back = frame.astype(object).where(frame.notna(), None).to_dict("records")
    assert back == [{name: row[name] for name in COLUMNS} for row in rows]


def test_pandas_reads_plain_types_where_nothing_is_missing(path):
    frame = in_pandas(write(path, [FULL, FULL | {"sure": False}]))
    assert pd.api.types.is_integer_dtype(frame["frame"])
    assert pd.api.types.is_bool_dtype(frame["sure"])
    assert pd.api.types.is_float_dtype(frame["score"])


def test_numbers_of_numpy_are_numbers(path):
    row = {"frame": np.int64(2), "score": np.float32(0.5), "sure": np.bool_(True)}
    assert list(read_rows(write(path, [row]), COLUMNS)) == [
        EMPTY | {"frame": 2, "score": 0.5, "sure": True}
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("-inf")])
def test_numbers_that_are_none_are_missing(path, value):
    assert list(read_rows(write(path, [{"score": value}]), COLUMNS)) == [EMPTY]


@pytest.mark.parametrize("value", [0.1, 1e-07, 123456789.123456, -0.0, 1e300, 2.0])
def test_numbers_keep_every_digit(path, value):
    (row,) = read_rows(write(path, [{"score": value}]), COLUMNS)
    assert row["score"] == value


@pytest.mark.parametrize(
    "row",
    [{"frame": 1.5}, {"frame": "1"}, {"score": "1"}, {"sure": 1}, {"sure": "True"}, {"name": 1}],
    ids=str,
)
def test_values_of_another_type_are_refused(path, row):
    with TableSink(path, COLUMNS) as sink, pytest.raises(TableError, match=r"expected .* received"):
        sink.write(row)


def test_a_row_with_an_unknown_column_is_refused_and_the_table_goes_on(path):
    with TableSink(path, COLUMNS) as sink:
        with pytest.raises(TableError, match=r"expected the columns name, .* received also other"):
            sink.write(FULL | {"other": 1})
        sink.write(FULL)
    assert list(read_rows(path, COLUMNS)) == [FULL]


TEXTS = (
    "",
    "x",
    'a "b", c;d',
    "two\r\nlines",
    "nul\0",
    "lone \udcff",
    "张三 😊",
    "=1+1",
    " -x",
    "'=",
)


@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_any_text_comes_back_as_written_text_says(path, text):
    (row,) = read_rows(write(path, [{"name": text, "frame": 1}]), COLUMNS)
    assert (row["name"] or "") == written_text(path, text)
    assert row["frame"] == 1
    assert len(in_pandas(path)) == 1


def test_csv_follows_rfc_4180_and_runs_no_formulas(tmp_path):
    rows = [{"name": "=1, 2", "frame": -1, "score": -1.5}, {"name": 'a "b"', "sure": True}]
    lines = write(tmp_path / "a.csv", rows).read_bytes().decode()
    assert lines == 'name,frame,score,sure\r\n"\'=1, 2",-1,-1.5,\r\n"a ""b""",,,True\r\n'


def test_json_lines_have_every_column(tmp_path):
    lines = write(tmp_path / "a.jsonl", [{"name": "张"}]).read_text(encoding="utf-8").splitlines()
    assert lines == ['{"name":"张","frame":null,"score":null,"sure":null}']


def test_parquet_says_what_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROWS_A_GROUP", 2)
    path = write(tmp_path / "a.parquet", metadata={"model": "m", "model_sha256": "ab"})
    with pyarrow.parquet.ParquetFile(path) as file:
        notes = file.schema_arrow.metadata
        assert file.metadata.num_row_groups == 2
        assert [str(field.type) for field in file.schema_arrow] == [
            "string",
            "int64",
            "double",
            "bool",
        ]
    said = {name: notes[f"emotion.{name}".encode()] for name in ("schema", "model", "model_sha256")}
    assert said == {"schema": b"1", "model": b"m", "model_sha256": b"ab"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupted_table_holds_all_rows_so_far(path, monkeypatch, error):
    monkeypatch.setattr(tables, "ROWS_A_GROUP", 3)

    def rows():
        yield from ROWS
        raise error

    with pytest.raises(error):
        write(path, rows())
    assert list(read_rows(path, COLUMNS)) == ROWS
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("is_written", [True, False])
def test_a_group_interrupted_while_it_is_written_is_neither_lost_nor_doubled(
    tmp_path, monkeypatch, is_written
):
    monkeypatch.setattr(tables, "ROWS_A_GROUP", 3)
    write_table = pyarrow.parquet.ParquetWriter.write_table

    def interrupted(writer, table):
        monkeypatch.undo()
        if is_written:
            write_table(writer, table)
        raise KeyboardInterrupt

    monkeypatch.setattr(pyarrow.parquet.ParquetWriter, "write_table", interrupted)
    path = tmp_path / "a.parquet"
    with pytest.raises(KeyboardInterrupt):
        write(path)
    assert list(read_rows(path, COLUMNS)) == ROWS[:3]


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
        assert [row["frame"] for row in read_rows(path, {"frame": int})] == list(range(100))


def test_lines_are_there_while_the_table_grows(tmp_path):
    path = tmp_path / "a.csv"
    with TableSink(path, COLUMNS) as sink:
        assert list(read_rows(path, COLUMNS)) == []
        sink.write(FULL)
        assert list(read_rows(path, COLUMNS)) == [FULL]


def test_a_full_disk_is_a_sentence_and_leaves_whole_rows(path, monkeypatch):
    monkeypatch.setattr(tables, "ROWS_A_GROUP", 50)
    told = pytest.raises(TableError, match=rf"expected to write the table .*{path.name}; received")
    with files_no_larger_than(4000), told, TableSink(path, COLUMNS) as sink:
        for frame in range(100_000):
            sink.write({"name": f"{frame * 7919}", "frame": frame})
    if path.suffix == ".parquet":
        assert not path.exists()
    else:
        rows = list(read_rows(path, COLUMNS))
        assert [row["frame"] for row in rows] == list(range(len(rows)))
        assert path.read_bytes().endswith(b"\n")
    assert {file.name for file in path.parent.iterdir()} <= {path.name}


def test_a_file_that_cannot_be_made_is_a_sentence(tmp_path, path):
    for place in (tmp_path / "no" / path.name, tmp_path / "folder" / path.name):
        if place.parent.name == "folder":
            place.mkdir(parents=True)
        with (
            pytest.raises(TableError, match="expected to write the table"),
            TableSink(place, COLUMNS),
        ):
            pytest.fail("the table must not open")


@pytest.mark.parametrize("name", ["a.xlsx", "a", "csv", "a.csv.gz"])
def test_another_suffix_is_a_sentence(tmp_path, name):
    for refused in (
        lambda path: TableSink(path, COLUMNS),
        check_suffix,
        lambda path: list(read_rows(path, COLUMNS)),
    ):
        with pytest.raises(TableError, match=r"expected a table ending in \.csv, \.jsonl, \.par"):
            refused(tmp_path / name)


def test_large_letters_in_a_suffix_are_no_other_suffix(tmp_path, path):
    large = write(path.with_suffix(path.suffix.upper()))
    assert list(read_rows(large, COLUMNS)) == ROWS


def test_without_pyarrow_the_other_tables_are_written(tmp_path, monkeypatch):
    real = builtins.__import__

    def without_pyarrow(name, *arguments):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    with pytest.raises(TableError, match=r"expected the package pyarrow .* pip install pyarrow"):
        TableSink(tmp_path / "a.parquet", COLUMNS)
    assert len(list(read_rows(write(tmp_path / "a.csv"), COLUMNS))) == len(ROWS)


def test_a_table_is_gone_on_with_from_its_own_rows(path):
    write(path)
    kept = (row for row in read_rows(path, COLUMNS) if row["frame"] != 7)
    more = FULL | {"frame": 99}
    write(path, [more], first_rows=kept)
    assert list(read_rows(path, COLUMNS)) == [EMPTY, ROWS[2], more]


def test_text_is_made_safe_once_however_often_a_table_is_gone_on_with(path):
    write(path, [{"name": "=1"}])
    for _ in range(2):
        write(path, (), first_rows=read_rows(path, COLUMNS))
    (row,) = read_rows(path, COLUMNS)
    assert row["name"] == written_text(path, "=1")


def test_the_table_before_stays_where_the_first_rows_fail(path):
    write(path)

    def failing():
        yield FULL
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, first_rows=failing())
    assert list(read_rows(path, COLUMNS)) == ROWS


@pytest.mark.parametrize("cut", [1, 2, 5, 11])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_half_written_last_line_is_passed_over(tmp_path, name, cut):
    path = tmp_path / name
    content = write(path).read_bytes()
    path.write_bytes(content[:-cut])
    assert list(read_rows(path, COLUMNS)) == ROWS[:-1]
    write(path, [FULL], first_rows=read_rows(path, COLUMNS))
    assert list(read_rows(path, COLUMNS)) == [*ROWS[:-1], FULL]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"photo,emotion\r\na,happy\r\n"),
        ("a.csv", b""),
        ("a.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256))),
        ("a.csv", b"name,frame,score,sure\r\nx,1\r\n"),
        ("a.csv", b"name,frame,score,sure\r\nx,one,1,True\r\n"),
        ("a.csv", b"name,frame,score,sure\r\nx,1,1,yes\r\n"),
        ("a.csv", b'name,frame,score,sure\r\n"' + b"x" * 200_000 + b'",1,1,True\r\n'),
        ("a.jsonl", b'{"photo": 1}\n'),
        ("a.jsonl", b"[1, 2]\n"),
        ("a.jsonl", b"{\n"),
        ("a.jsonl", b'{"name":1,"frame":"x","score":[],"sure":2}\n'),
        ("a.jsonl", b"\xff\xfe\x00\n"),
        ("a.parquet", b""),
        ("a.parquet", b"PAR1 and no more"),
    ],
)
def test_files_of_others_are_told(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TableError, match=rf"expected .* {name}"):
        list(read_rows(path, COLUMNS))


def test_parquet_of_others_is_told(tmp_path):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"name": [1], "frame": [1]}).to_parquet(path)
    with pytest.raises(TableError, match="with name, frame: name another file"):
        list(read_rows(path, COLUMNS))
    pd.DataFrame({name: ["x"] for name in COLUMNS}).to_parquet(path)
    with pytest.raises(TableError, match=r"a\.parquet, where the types of its columns"):
        list(read_rows(path, COLUMNS))


def test_a_table_that_is_not_there_is_a_sentence(path):
    with pytest.raises(TableError, match="expected to read the table"):
        list(read_rows(path, COLUMNS))


def test_every_cell_of_csv_is_read_by_the_csv_module(tmp_path):
    path = write(tmp_path / "a.csv", [{"name": text} for text in TEXTS])
    with path.open(newline="", encoding="utf-8") as file:
        cells = [row["name"] for row in csv.DictReader(file, strict=True)]
    assert cells == [written_text(path, text) for text in TEXTS]


def test_every_line_of_json_lines_is_a_document(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"name": text} for text in TEXTS])
    names = [json.loads(line)["name"] for line in path.read_bytes().split(b"\n")[:-1]]
    assert names == [written_text(path, text) for text in TEXTS]
