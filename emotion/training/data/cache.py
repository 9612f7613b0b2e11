"""Decoded datasets kept on the disk, so that the next run starts at once.

An entry is one file, named after its source and after everything its content depends on. A cache
that is damaged or cannot be written costs time, never a run.
"""

import contextlib
import hashlib
import json
from dataclasses import fields
from pathlib import Path

import numpy as np

from emotion.files import whole_file
from emotion.training.data.dataset import COLUMNS, Dataset, Progress
from emotion.training.data.layouts import names_below, read_layout

CACHE_VERSION = 1  # to be raised whenever an image would be read differently or `Dataset` changes


def read_cached(
    folder: Path, source: Path, options: dict, progress: Progress | None = None
) -> Dataset:
    """Return `read_layout(source, **options)`, from the cache in `folder` where that holds it."""
    files = []
    for name in names_below(source)[0] if source.is_dir() else [""]:
        try:
            status = (source / name).stat()
            files.append((name, status.st_size, status.st_mtime_ns))
        except OSError:  # a broken link
            files.append((name, 0, 0))
    state = json.dumps([CACHE_VERSION, options, files])
    whose = _digest(str(source.resolve()))
    entry = folder / f"{whose}-{_digest(state)}.npz"
    with contextlib.suppress(Exception):
        # No entry is the usual case; damaged bytes make numpy, zipfile and zlib raise almost any
        # kind. The source is at hand either way.
        return _load(entry)
    dataset = read_layout(source, **options, progress=progress)
    arrays = {name: getattr(dataset, name) for name in COLUMNS}
    arrays = {name: column for name, column in arrays.items() if column is not None}
    names = [field.name for field in fields(dataset) if field.name not in COLUMNS]
    texts = {name: getattr(dataset, name) for name in names} | {"columns": sorted(arrays)}
    with contextlib.suppress(OSError):  # a full or read-only disk makes the next start slower
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(entry) as part, part.open("wb") as file:
            np.savez(file, texts=np.array(json.dumps(texts)), **arrays)
        for old in set(folder.glob(f"{whose}-*.npz")) - {entry}:
            old.unlink(missing_ok=True)
    return dataset


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def _load(entry: Path) -> Dataset:
    """Return the dataset of an entry; almost any error where there is none or it is damaged."""
    with entry.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        texts = json.loads(str(arrays["texts"]))
        columns = {name: arrays[name] for name in texts.pop("columns")}
    return Dataset(**columns, **{name: tuple(lines) for name, lines in texts.items()})
