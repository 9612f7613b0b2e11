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
ACCEPTED = {str: str, int: Integral, float: Real, bool: (bool, np.bool_)}

# type of a column -> the type in pandas that has missing values without turning into another
PANDAS_TYPES = {str: "str", int: "Int64", float: "float64", bool: "boolean"}

Columns = Mapping[str, type]  # name -> str, int, float or bool; any value may be missing (None)


class TableSink:
    """Writes rows to a table: `with TableSink(path, {"frame": int}) as sink: sink.write(row)`.

    A table of text has a line a row, each of which is on its way to the disk at once. A Parquet
    file is made when all rows are there, from a table of lines in a folder beside it.
    """

    def __init__(
        self, path: Path, columns: Columns, metadata: Mapping = MappingProxyType({}), first_rows=()
    ):
        """Take the file, columns and, for Parquet, `metadata`; `first_rows` may be of that file."""
        self._path, self._columns, self._first_rows = path, dict(columns), first_rows
        self._suffix, self._has_failed = path.suffix.lower(), False
        if self._suffix not in TABLE_SUFFIXES:
            known = ", ".join(TABLE_SUFFIXES)
            raise TableError(f"expected a table ending in {known}; received {path}")
        if self._suffix == ".parquet":
            self._schema = _parquet_schema(path, self._columns, metadata)

    def __enter__(self) -> "TableSink":
        with _explained(self._path), contextlib.ExitStack() as stack:
            lines = self._path
            if self._suffix == ".parquet":
                folder = tempfile.TemporaryDirectory(prefix=".part-", dir=lines.parent)
                lines = Path(stack.enter_context(folder)) / lines.name
            with whole_file(lines) as part, part.open("wb") as file:
                file.write(_csv_line(self._columns) if self._suffix == ".csv" else b"")
                file.writelines(map(self._line, self._first_rows))
            # unbuffered: nothing waits in this process, which may be killed
            self._file = stack.enter_context(lines.open("ab", buffering=0))
            self._size = self._file.tell()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        with _explained(self._path), self._stack:
            if self._suffix == ".parquet" and not self._has_failed:
                _write_parquet(Path(self._file.name), self._schema, self._path)

    def write(self, row: Mapping) -> None:
        """Add a row; raises TableError. None and numbers that are not finite are missing values."""
        line = rest = self._line(row)
        with _explained(self._path):
            try:
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError:
                self._has_failed = True
                self._file.truncate(self._size)  # the disk is full: no half row stays behind
                raise
        self._size += len(line)

    def _line(self, row: Mapping) -> bytes:
        plain = dict.fromkeys(self._columns)
        for name, value in row.items():
            kind = self._columns.get(name)
            if value is None and kind:
                continue
            if not kind or not isinstance(value, ACCEPTED[kind]):
                expected = ", ".join(f"{n} ({k.__name__})" for n, k in self._columns.items())
                words = f"expected the columns {expected} for {self._path.name}"
                raise TableError(f"{words}; received {value!r} as {name}")
            if kind is str:  # a file's name may have bytes that are no text
                plain[name] = value.encode("utf-8", "replace").decode()
            elif kind is not float or math.isfinite(value):
                plain[name] = kind(value)
        if self._suffix == ".csv":
            return _csv_line(map(safe_cell, plain.values()))
        return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _csv_line(values: Iterable) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(values)  # as in RFC 4180
    return text.getvalue().encode()


def _parquet_schema(path: Path, columns: Columns, metadata: Mapping):
    try:
        import pyarrow.json  # large, so it is imported where it is needed
        import pyarrow.parquet
    except ImportError as error:
        raise TableError(
            f"expected the package pyarrow for {path.name}; it is not installed: pip install "
            "pyarrow, or use a table ending in .csv or .jsonl"
        ) from error
    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64()}
    fields = [(name, kinds.get(kind, pyarrow.bool_())) for name, kind in columns.items()]
    # pandas takes its types from this note
    unused = {"pandas_type": None, "metadata": None}
    types = [
        {"name": name, "field_name": name, "numpy_type": PANDAS_TYPES[kind], **unused}
        for name, kind in columns.items()
    ]
    note = {"index_columns": [], "column_indexes": [], "columns": types}
    facts = {"schema": SCHEMA, **metadata}
    about = {f"emotion.{name}": str(value) for name, value in facts.items()}
    return pyarrow.schema(fields, about | {"pandas": json.dumps(note)})


def _write_parquet(lines: Path, schema, target: Path) -> None:
    import pyarrow

    part = lines.with_suffix(".part")
    # a thread a processor might not fit into the memory that a stranger's video may use
    reading = pyarrow.json.ReadOptions(use_threads=False)
    kinds = pyarrow.json.ParseOptions(explicit_schema=schema)
    with pyarrow.parquet.ParquetWriter(part, schema) as writer:
        if lines.stat().st_size:
            for rows in pyarrow.json.open_json(lines, reading, kinds):
                writer.write_batch(rows)
    part.replace(target)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # pyarrow's errors have the number, but in place of the system's words its own
        problem = os.strerror(error.errno) if error.errno else error
        raise TableError(f"expected to write the table {path}; received: {problem}") from error
