"""Tables of rows as CSV, JSON lines or Parquet; what is written so far is kept when interrupted."""

import contextlib
import csv
import io
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path
from types import MappingProxyType

import numpy as np

from emotion.errors import TableError
from emotion.files import whole_file
from emotion.rows import safe_cell

SCHEMA = 1  # of the columns' meaning; it grows when one changes its meaning or goes away
TABLE_SUFFIXES = (".csv", ".jsonl", ".parquet")

# type of a column -> what its values may be; they become plain Python values
ACCEPTED = MappingProxyType({str: str, int: Integral, float: Real, bool: (bool, np.bool_)})

# type of a column -> the type in pandas that has missing values without turning into another
PANDAS_TYPES = MappingProxyType({str: "str", int: "Int64", float: "float64", bool: "boolean"})

Columns = Mapping[str, type]  # name -> str, int, float or bool; any value may be missing (None)


class TableSink:
    """Writes rows to a table: `with TableSink(path, {"frame": int}) as sink: sink.write(row)`."""

    def __init__(
        self, path: Path, columns: Columns, metadata: Mapping = MappingProxyType({}), first_rows=()
    ):
        """Take the file, which will be replaced, and its columns; raises TableError.

        Parquet also keeps `metadata`; `first_rows` may come from the very file that is replaced.
        """
        check_suffix(path)
        self._path, self._columns, self._first_rows = path, dict(columns), first_rows
        if path.suffix.lower() == ".parquet":
            self._form = _Parquet(path, self._columns, metadata)
        else:
            self._form = _Lines(path, self._columns)

    def __enter__(self) -> "TableSink":
        with _explained(self._path):
            self._form.open(map(self._plain_row, self._first_rows))
        return self

    def __exit__(self, *exception) -> None:
        with _explained(self._path):
            self._form.close()

    def write(self, row: Mapping) -> None:
        """Add a row; raises TableError. None and numbers that are not finite are missing values."""
        plain = self._plain_row(row)
        with _explained(self._path):
            self._form.write(plain)

    def _plain_row(self, row: Mapping) -> dict:
        plain = dict.fromkeys(self._columns)
        for name, value in row.items():
            kind = self._columns.get(name)
            if value is None and kind:
                continue
            if not kind or not isinstance(value, ACCEPTED[kind]):
                expected = ", ".join(f"{n} ({k.__name__})" for n, k in self._columns.items())
                raise TableError(
                    f"expected the columns {expected} for {self._path.name}; received {value!r} as "
                    f"{name}"
                )
            if kind is str:  # a file's name may have bytes that are no text
                plain[name] = value.encode("utf-8", "replace").decode()
            elif kind is not float or math.isfinite(value):
                plain[name] = kind(value)
        return plain


def check_suffix(path: Path) -> None:
    """Raise a TableError where no table of this suffix is known."""
    if path.suffix.lower() not in TABLE_SUFFIXES:
        raise TableError(f"expected a table ending in {', '.join(TABLE_SUFFIXES)}; received {path}")


class _Lines:
    """A table of text with a line a row, each of which is on its way to the disk at once."""

    def __init__(self, path: Path, columns: Columns):
        self._path, self._is_csv = path, path.suffix.lower() == ".csv"
        self._head = _csv_line(columns) if self._is_csv else b""

    def open(self, first_rows: Iterable[dict]) -> None:
        with whole_file(self._path) as part, part.open("wb") as file:
            file.write(self._head)
            file.writelines(map(self._line, first_rows))
        # unbuffered: nothing waits in this process, which may be killed
        self._file = self._path.open("ab", buffering=0)
        self._size = self._file.tell()

    def write(self, row: dict) -> None:
        line = rest = self._line(row)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.truncate(self._size)  # the disk is full: no half row stays behind
            raise
        self._size += len(line)

    def close(self) -> None:
        self._file.close()

    def _line(self, row: dict) -> bytes:
        if self._is_csv:
            return _csv_line(map(safe_cell, row.values()))
        return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _csv_line(values: Iterable) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(values)  # as in RFC 4180
    return text.getvalue().encode()


class _Parquet(_Lines):
    """A Parquet file, made when all rows are there from a table of lines in a folder beside it."""

    def __init__(self, path: Path, columns: Columns, metadata: Mapping[str, str]):
        try:
            import pyarrow  # large, so it is imported where it is needed
            import pyarrow.json
            import pyarrow.parquet
        except ImportError as error:
            raise TableError(
                f"expected the package pyarrow for {path.name}; it is not installed: pip install "
                "pyarrow, or use a table ending in .csv or .jsonl"
            ) from error
        super().__init__(path, columns)
        self._target, self._failed, self._arrow = path, False, pyarrow
        kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
        fields = [(name, kinds.get(kind, pyarrow.bool_())) for name, kind in columns.items()]
        pandas_columns = [
            {
                "name": name,
                "field_name": name,
                "pandas_type": "unicode" if columns[name] is str else str(kind),
                "numpy_type": "object" if columns[name] is str else PANDAS_TYPES[columns[name]],
                "metadata": None,
            }
            for name, kind in fields
        ]
        # pandas takes its types from this note
        pandas_note = {"index_columns": [], "column_indexes": [], "columns": pandas_columns}
        notes = {"schema": SCHEMA, **metadata}
        self._schema = pyarrow.schema(
            fields,
            {f"emotion.{name}": str(value) for name, value in notes.items()}
            | {"pandas": json.dumps(pandas_note)},
        )

    def open(self, first_rows: Iterable[dict]) -> None:
        with contextlib.ExitStack() as stack:
            folder = tempfile.TemporaryDirectory(prefix=".part-", dir=self._target.parent)
            self._path = Path(stack.enter_context(folder)) / self._target.name
            super().open(first_rows)
            stack.callback(super().close)
            self._stack = stack.pop_all()

    def write(self, row: dict) -> None:
        try:
            super().write(row)
        except OSError:
            self._failed = True
            raise

    def close(self) -> None:
        with self._stack:
            if self._failed:
                return
            arrow, part = self._arrow, self._path.with_suffix(".part")
            # a thread a processor might not fit into the memory that a stranger's video may use
            reading = arrow.json.ReadOptions(use_threads=False)
            kinds = arrow.json.ParseOptions(explicit_schema=self._schema)
            with arrow.parquet.ParquetWriter(part, self._schema) as writer:
                if self._path.stat().st_size:
                    for rows in arrow.json.open_json(self._path, reading, kinds):
                        writer.write_batch(rows)
            part.replace(self._target)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # pyarrow's errors have the number, but in place of the system's words its own
        problem = os.strerror(error.errno) if error.errno else error
        raise TableError(f"expected to write the table {path}; received: {problem}") from error
