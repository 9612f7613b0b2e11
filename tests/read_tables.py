"""Reads tables back as a user's program does."""

import json

import pandas as pd
import pyarrow.parquet

from emotion.tables import PANDAS_TYPES


def read_table(path, columns):
    """Return the rows of a table, column -> value, None where a value is missing."""
    if path.suffix.lower() == ".jsonl":
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert all(list(row) == list(columns) for row in rows)
        return rows
    if path.suffix.lower() == ".parquet":
        table = pyarrow.parquet.read_table(path)
        assert table.column_names == list(columns)
        return table.to_pylist()
    types = {name: PANDAS_TYPES[kind] for name, kind in columns.items()}
    frame = pd.read_csv(path, dtype=types, keep_default_na=False, na_values=[""])
    assert list(frame) == list(columns)
    return frame.astype(object).where(frame.notna(), None).to_dict("records")
