"""Tables that grow row by row: CSV, JSON lines and Parquet, with the same columns and types.

CSV and JSON lines stand on the disk as soon as a row is written: even where the process is killed,
every row so far is there. Parquet ends with its index: it appears when the sink is closed, also by
Ctrl-C or an error, and is lost where the process is killed outright.
"""

import contextlib
import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path
from types import MappingProxyType

import numpy as np

from emotion.errors import TableError
from emotion.files import whole_file
from emotion.rows import safe_cell

SCHEMA = 1
"""Version of the columns' meaning; it grows when one changes its meaning or goes away."""

TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")

ROWS_A_GROUP = 16_384
"""Rows that a Parquet file holds back before it writes them together."""

ACCEPTED = MappingProxyType({str: str, int: Integral, float: Real, bool: (bool, np.bool_)})
"""Type of a column -> what its values may be; they become plain Python values."""

PANDAS_TYPES = MappingProxyType({str: "str", int: "Int64", float: "float64", bool: "boolean"})
"""Type of a column -> the type in pandas that has missing values without turning into another."""

BOOLEANS = MappingProxyType({"True": True, "False": False})

Columns = Mapping[str, type]
"""Name of each column -> str, int, float or bool; any value may be missing (None)."""


class TableSink:
    """Writes rows to a table; what is written so far is kept when interrupted.

    with TableSink(Path("faces.csv"), {"frame": int, "score": float}) as sink:
        sink.write({"frame": 0})
    """

    def __init__(
        self,
        path: Path,
        columns: Columns,
        metadata: Mapping[str, str] = MappingProxyType({}),
        first_rows: Iterable[Mapping] = (),
    ):
        """Take the file and what it will hold; nothing is written yet.

        Args:
            path: its suffix says the kind of table; an existing file is replaced.
            columns: the columns in order, name -> type.
            metadata: what else to say of the whole table, such as the model; kept by Parquet.
            first_rows: rows to begin with; they may be read from the very file that is replaced.

        Raises:
            TableError: no table of this suffix can be written, or pyarrow is missing.
        """
        self._path, self._columns, self._first_rows = path, dict(columns), first_rows
        self._form = _form_of(path, self._columns, metadata)

    def __enter__(self) -> "TableSink":
        """Open the file.

        Raises:
            TableError: it cannot be written.
        """
        with _told(self._path):
            self._form.open(map(self._values, self._first_rows))
        return self

    def __exit__(self, *exception) -> None:
        with _told(self._path):
            self._form.close()

    def write(self, row: Mapping) -> None:
        """Add a row: column -> value; columns that are not there or None are missing values.

        Numbers that are not finite are missing values too.

        Raises:
            TableError: the row has another column or a value of another type, or the disk is full.
        """
        values = self._values(row)
        with _told(self._path):
            self._form.write(values)

    def _values(self, row: Mapping) -> list:
        """Return the plain values of a row in the order of the columns."""
        if not row.keys() <= self._columns.keys():
            raise TableError(
                f"expected the columns {', '.join(self._columns)} for {self._path.name}; received "
                f"also {', '.join(map(str, row.keys() - self._columns.keys()))}"
            )
        try:
            return [_plain(row.get(name), kind, name) for name, kind in self._columns.items()]
        except ValueError as error:
            raise TableError(f"{error} for {self._path.name}") from error


def read_rows(path: Path, columns: Columns) -> Iterator[dict]:
    """Yield the rows of a table that a `TableSink` wrote, column -> value, None where missing.

    A last line that was only half written, as when the power failed, is passed over. Text is as
    `written_text` gives it.

    Raises:
        TableError: the file cannot be read, or is not a table of these columns.
    """
    reader = {".csv": _read_csv, ".jsonl": _read_json_lines, ".parquet": _read_parquet}
    check_suffix(path)
    with _told(path, "read"):
        yield from reader[path.suffix.lower()](path, dict(columns))


def pandas_types(columns: Columns) -> dict[str, str]:
    """Return column -> type for `pandas.read_csv(path, dtype=...)`, which otherwise has to guess.

    With it columns that are all or partly missing have their right type too.
    """
    return {name: PANDAS_TYPES[kind] for name, kind in columns.items()}


def written_text(path: Path, text: str) -> str:
    """Return a text as the table at `path` gives it back, to find a row again."""
    return safe_cell(text) if path.suffix.lower() == ".csv" else _unicode(text)


def check_suffix(path: Path) -> None:
    """Raise a `TableError` where no table of this suffix is known."""
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise TableError(
            f"expected a table ending in {', '.join(TABLE_SUFFIXES)}; received {path.name}"
        )


def _form_of(path: Path, columns: Columns, metadata: Mapping[str, str]):
    """Return what writes the kind of table that a suffix names."""
    check_suffix(path)
    match path.suffix.lower():
        case ".csv":
            return _Lines(path, _csv_line(columns), _csv_line)
        case ".jsonl":
            return _Lines(path, "", lambda values: _json_line(columns, values))
        case _:
            return _Parquet(path, columns, metadata)


class _Lines:
    """A table of text with a line a row, each of which is on its way to the disk at once."""

    def __init__(self, path: Path, head: str, line_of: Callable[[list], str]):
        self._path, self._head, self._line_of = path, head, line_of

    def open(self, first_rows: Iterable[list]) -> None:
        with whole_file(self._path) as part, part.open("wb") as file:
            file.write(self._head.encode())
            file.writelines(self._line_of(values).encode() for values in first_rows)
        # unbuffered: nothing waits in this process, which may be killed
        self._file = self._path.open("ab", buffering=0)
        self._size = self._file.tell()

    def write(self, values: list) -> None:
        line = self._line_of(values).encode()
        try:
            self._append(line)
        except OSError:
            # the disk is full: no half row stays behind
            self._file.truncate(self._size)
            raise
        self._size += len(line)

    def _append(self, line: bytes) -> None:
        while line:
            line = line[self._file.write(line) :]

    def close(self) -> None:
        self._file.close()


class _Parquet:
    """A Parquet file, written a group of rows at a time."""

    def __init__(self, path: Path, columns: Columns, metadata: Mapping[str, str]):
        self._path, self._rows, self._failed = path, [], False
        self._arrow = _pyarrow(path)
        self._schema = _schema(self._arrow, columns, metadata)

    def open(self, first_rows: Iterable[list]) -> None:
        with contextlib.ExitStack() as stack:
            folder = tempfile.TemporaryDirectory(prefix=".part-", dir=self._path.parent)
            self._part = Path(stack.enter_context(folder)) / self._path.name
            # a file of Python's would be interrupted by Ctrl-C in the middle of a group
            self._file = stack.enter_context(self._arrow.OSFile(str(self._part), "wb"))
            self._writer = self._arrow.parquet.ParquetWriter(self._file, self._schema)
            stack.callback(self._abandon)
            self._start = self._file.tell()
            for values in first_rows:
                self.write(values)
            self._stack = stack.pop_all()

    def write(self, values: list) -> None:
        self._rows.append(tuple(map(_storable, values)))
        if len(self._rows) >= ROWS_A_GROUP:
            self._write_group()

    def _write_group(self) -> None:
        try:
            # Ctrl-C may have come just after the group was written, before it was forgotten
            if self._file.tell() == self._start:
                self._writer.write_table(self._group())
            self._rows, self._start = [], self._file.tell()
        except OSError:
            self._failed = True
            raise

    def _group(self):
        """Return the rows that wait, as a table of pyarrow's."""
        columns = zip(*self._rows, strict=True)
        arrays = [
            self._arrow.array(column, field.type)
            for column, field in zip(columns, self._schema, strict=True)
        ]
        return self._arrow.Table.from_arrays(arrays, schema=self._schema)

    def _abandon(self) -> None:
        # no more than the end of a file that is thrown away, or that is closed already
        with contextlib.suppress(OSError):
            self._writer.close()

    def close(self) -> None:
        with self._stack:
            if self._failed:
                return
            if self._rows:
                self._write_group()
            self._writer.close()
            self._file.close()
            self._part.replace(self._path)


@contextlib.contextmanager
def _told(path: Path, deed: str = "write") -> Iterator[None]:
    """Turn what the system or pyarrow says of a file into a sentence."""
    try:
        yield
    except OSError as error:
        # pyarrow's errors have the number, but in place of the system's words its own
        problem = os.strerror(error.errno) if error.errno else error
        raise TableError(f"expected to {deed} the table {path}; received: {problem}") from error


def _pyarrow(path: Path):
    """Return pyarrow, imported where it is needed: it is large.

    Raises:
        TableError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise TableError(
            f"expected the package pyarrow for {path.name}; it is not installed: pip install "
            "pyarrow, or use a table ending in .csv or .jsonl"
        ) from error
    return pyarrow


def _schema(pyarrow, columns: Columns, metadata: Mapping[str, str]):
    """Return the schema of a Parquet file, with the note that pandas takes its types from."""
    kinds = {
        str: pyarrow.string(),
        int: pyarrow.int64(),
        float: pyarrow.float64(),
        bool: pyarrow.bool_(),
    }
    fields = [pyarrow.field(name, kinds[kind]) for name, kind in columns.items()]
    notes = {"emotion.schema": str(SCHEMA), **{f"emotion.{k}": str(v) for k, v in metadata.items()}}
    return pyarrow.schema(fields, notes | {"pandas": json.dumps(_pandas_note(columns, kinds))})


def _pandas_note(columns: Columns, kinds: Mapping) -> dict:
    """Return what pandas wants to know of a Parquet file, in the form it writes itself."""
    return {
        "index_columns": [],
        "column_indexes": [],
        "columns": [
            {
                "name": name,
                "field_name": name,
                "pandas_type": "unicode" if kind is str else str(kinds[kind]),
                "numpy_type": "object" if kind is str else PANDAS_TYPES[kind],
                "metadata": None,
            }
            for name, kind in columns.items()
        ],
    }


def _plain(value, kind: type, name: str):
    """Return a value as one of Python's own types, None where it is missing."""
    if value is None:
        return None
    if type(value) is not kind and not isinstance(value, ACCEPTED[kind]):
        raise ValueError(f"expected {kind.__name__} in the column {name}; received {value!r}")
    plain = kind(value)
    return None if kind is float and not math.isfinite(plain) else plain


def _csv_line(values: Iterable) -> str:
    """Return values as a line of CSV (RFC 4180)."""
    text = io.StringIO(newline="")
    csv.writer(text).writerow(safe_cell(v) if isinstance(v, str) else v for v in values)
    return text.getvalue()


def _json_line(columns: Columns, values: list) -> str:
    """Return values as a line of JSON."""
    row = dict(zip(columns, map(_storable, values), strict=True))
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


def _storable(value):
    return _unicode(value) if isinstance(value, str) else value


def _unicode(text: str) -> str:
    """Return text with a mark where a file's name has bytes that are no text."""
    return text.encode("utf-8", "replace").decode() if not text.isascii() else text


def _read_csv(path: Path, columns: Columns) -> Iterator[dict]:
    """Yield the rows of a CSV file."""
    with path.open("rb") as file:
        lines = csv.reader(_whole_lines(file))
        _check_columns(path, next(lines, []), columns)
        with _damage_told(path, lambda: lines.line_num):
            for cells in lines:
                yield {
                    name: _from_cell(cell, columns[name])
                    for name, cell in zip(columns, cells, strict=True)
                }


def _read_json_lines(path: Path, columns: Columns) -> Iterator[dict]:
    """Yield the rows of a file of JSON lines."""
    number = 0
    with path.open("rb") as file, _damage_told(path, lambda: number):
        for line in _whole_lines(file):
            number += 1
            row = dict(json.loads(line))
            _check_columns(path, list(row), columns)
            yield {name: _plain(row[name], kind, name) for name, kind in columns.items()}


def _read_parquet(path: Path, columns: Columns) -> Iterator[dict]:
    """Yield the rows of a Parquet file."""
    pyarrow = _pyarrow(path)
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names, columns)
            if not file.schema_arrow.equals(_schema(pyarrow, columns, {})):
                raise _damaged(path, "the types of its columns")
            for batch in file.iter_batches(ROWS_A_GROUP):
                yield from batch.to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise TableError(f"expected a Parquet file; received {path.name}, which is none") from error


def _whole_lines(file: io.BufferedReader) -> Iterator[str]:
    """Yield the lines of a file up to one without an end."""
    for line in file:
        if line.endswith(b"\n"):
            yield line.decode("utf-8", "replace")


def _check_columns(path: Path, received: list[str], columns: Columns) -> None:
    if received != list(columns):
        raise TableError(
            f"expected a table with the columns {', '.join(columns)}; received {path.name} with "
            f"{', '.join(received) or 'none'}: name another file, or remove this one"
        )


@contextlib.contextmanager
def _damage_told(path: Path, line_number: Callable[[], int]) -> Iterator[None]:
    """Turn what is wrong with a line into a sentence."""
    try:
        yield
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise _damaged(path, f"line {line_number()}") from error


def _damaged(path: Path, place: str) -> TableError:
    return TableError(
        f"expected a table that was written here; received {path.name}, where {place} cannot be "
        "used: name another file, or remove this one"
    )


def _from_cell(cell: str, kind: type):
    """Return the value of a cell of CSV."""
    if cell == "":
        return None
    return BOOLEANS[cell] if kind is bool else kind(cell)
