"""Decoded datasets kept on the disk, so that the next run starts at once.

An entry is one file, named after its source and after everything its content depends on. A cache
that is damaged or cannot be written costs time, never a run.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np

from emotion.files import whole_file
from emotion.training.data.dataset import COLUMNS, Dataset
from emotion.training.data.layouts import list_files

CACHE_VERSION = 1
"""To be raised whenever an image would be read differently or `Dataset` changes."""


def read_cached(
    folder: Path | None, source: Path, options: dict, read: Callable[[], Dataset]
) -> Dataset:
    """Return what `read` returns, from the cache where that holds it.

    Args:
        folder: the cache; None reads without one.
        source: the folder or file that is read.
        options: everything else that the result depends on, as JSON can hold it.
        read: reads the source.
    """
    if folder is None:
        return read()
    files = []
    for name in list_files(source):
        try:
            status = (source / name).stat()
            files.append((name, status.st_size, status.st_mtime_ns))
        except OSError:  # a broken link
            files.append((name, 0, 0))
    state = json.dumps([CACHE_VERSION, options, files])
    entry = folder / f"{_digest(str(source.resolve()))}-{_digest(state)}.npz"
    dataset = _load(entry)
    if dataset is None:
        dataset = read()
        _keep(entry, dataset)
    return dataset


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def _load(entry: Path) -> Dataset | None:
    """Return the dataset of an entry; None where there is none or it is damaged."""
    try:
        with entry.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            columns = {name: arrays[name] for name in arrays.files if name in COLUMNS}
            texts = json.loads(str(arrays["texts"]))
        is_whole = texts.pop("columns") == sorted(columns)
        dataset = Dataset(**columns, **{name: tuple(lines) for name, lines in texts.items()})
    except Exception:
        # No entry is the usual case; damaged bytes make numpy, zipfile and zlib raise almost any
        # kind. The source is at hand either way.
        return None
    rows = {len(column) for column in columns.values()}
    return dataset if is_whole and rows == {len(dataset)} else None


def _keep(entry: Path, dataset: Dataset) -> None:
    """Write an entry and remove older ones of its source; do without where that fails."""
    texts = {
        field.name: getattr(dataset, field.name)
        for field in fields(dataset)
        if field.name not in COLUMNS
    }
    columns = {name: getattr(dataset, name) for name in COLUMNS}
    arrays = {name: column for name, column in columns.items() if column is not None}
    texts["columns"] = sorted(arrays)
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(entry) as part, part.open("wb") as file:
            np.savez(file, texts=np.array(json.dumps(texts)), **arrays)
        for old in entry.parent.glob(f"{entry.name.partition('-')[0]}-*.npz"):
            if old != entry:
                old.unlink(missing_ok=True)
    except OSError:
        # A full or read-only disk: the dataset itself is at hand, only the next start is slower.
        return
