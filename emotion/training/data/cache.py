"""Decoded datasets kept on the disk, so that the next run starts at once.

An entry is one file, named after its source and after everything its content depends on. A cache
that is damaged or cannot be written costs time, never a run.
"""

import contextlib
import hashlib
import json
from pathlib import Path

import numpy as np

from emotion.files import whole_file
from emotion.training.data.dataset import COLUMNS, Dataset
from emotion.training.data.layouts import names_below, read_layout

CACHE_VERSION = 1  # to be raised whenever an image would be read differently or `Dataset` changes


def read_cached(folder: Path, source: Path, options: dict, progress=None) -> Dataset:
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
    # No entry is the usual case; damaged bytes make numpy, zipfile and zlib raise almost any kind
    with contextlib.suppress(Exception), entry.open("rb") as file, np.load(file) as arrays:
        texts = json.loads(str(arrays["texts"]))
        columns = {name: arrays[name] for name in texts.pop("columns")}
        return Dataset(**columns, **{name: tuple(lines) for name, lines in texts.items()})
    dataset = read_layout(source, **options, progress=progress)
    values = {name: value for name, value in vars(dataset).items() if value is not None}
    arrays = {name: values.pop(name) for name in COLUMNS if name in values}
    texts = values | {"columns": sorted(arrays)}
    with contextlib.suppress(OSError):  # a full or read-only disk makes the next start slower
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(entry) as part, part.open("wb") as file:
            np.savez(file, texts=np.array(json.dumps(texts)), **arrays)
        for old in set(folder.glob(f"{whose}-*.npz")) - {entry}:
            old.unlink(missing_ok=True)
    return dataset


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
