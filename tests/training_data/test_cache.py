import io
import json
import os
from dataclasses import fields

import numpy as np
import pytest
from training_data import make_dataset, write_csv, write_folder, write_zip

from emotion.training.data import cache
from emotion.training.data.cache import read_cached
from emotion.training.data.layouts import read_layout


@pytest.fixture
def counted():
    """Return a function that reads a layout, and the list of what it was asked for."""
    asked = []

    def read(path):
        asked.append(path)
        return read_layout(path)

    return read, asked


def load(folder, path, counted, **options):
    return read_cached(folder, path, options, lambda: counted[0](path))


def make_source(root, kind: str):
    dataset = make_dataset(14, 0, 7)
    if kind == "folder":
        return write_folder(root / "data", dataset)
    write = write_zip if kind == "zip" else write_csv
    return write(root / f"data.{kind}", dataset)


@pytest.mark.parametrize("kind", ["folder", "zip", "csv"])
def test_the_second_read_comes_from_the_cache_and_is_the_same(tmp_path, counted, kind):
    source = make_source(tmp_path, kind)
    if kind == "folder":
        (source / "train" / "happy" / "bröken.png").write_bytes(b"x")
        (source / "stray.png").write_bytes(b"x")
    first, second = (load(tmp_path / "cache", source, counted) for _ in range(2))
    assert len(counted[1]) == 1
    assert len(first.unreadable) == len(first.notes) == (kind == "folder")
    for field in fields(first):
        ours, theirs = getattr(first, field.name), getattr(second, field.name)
        assert type(ours) is type(theirs)
        np.testing.assert_array_equal(ours, theirs)
        assert getattr(ours, "dtype", None) == getattr(theirs, "dtype", None)


def test_a_changed_source_is_read_again_and_replaces_the_old_entry(tmp_path, counted):
    source = make_source(tmp_path, "folder")
    file, other = source / "train" / "happy" / "3.png", source / "train" / "sad" / "3.png"
    changes = {
        "first": lambda: None,
        "content": lambda: file.write_bytes((file.parent / "10.png").read_bytes()),
        "time": lambda: os.utime(file, (1, 1)),
        "name": lambda: file.rename(other),
        "removed": other.unlink,
    }
    for number, (name, change) in enumerate(changes.items(), start=1):
        change()
        dataset = load(tmp_path / "cache", source, counted)
        assert len(counted[1]) == number, name
        assert dataset.fingerprint() == read_layout(source).fingerprint()
        assert len(list((tmp_path / "cache").iterdir())) == 1


def test_other_options_or_another_version_are_read_again(tmp_path, counted, monkeypatch):
    source = make_source(tmp_path, "csv")
    load(tmp_path / "cache", source, counted, crop_faces=False)
    load(tmp_path / "cache", source, counted, crop_faces=True)
    monkeypatch.setattr(cache, "CACHE_VERSION", -1)
    load(tmp_path / "cache", source, counted, crop_faces=True)
    assert len(counted[1]) == 3


def test_several_sources_stay_side_by_side(tmp_path, counted):
    sources = [make_source(tmp_path, kind) for kind in ("zip", "csv")]
    for source in sources * 2:
        load(tmp_path / "cache", source, counted)
    assert len(counted[1]) == 2
    assert len(list((tmp_path / "cache").iterdir())) == 2


def damage_middle(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


def shorten_labels(content: bytes) -> bytes:
    columns, written = dict(np.load(io.BytesIO(content))), io.BytesIO()
    np.savez(written, **columns | {"labels": columns["labels"][:-1]})
    return written.getvalue()


DAMAGES = {
    "empty": lambda content: b"",
    "nonsense": lambda content: b"PK nonsense",
    "cut": lambda content: content[: len(content) // 2],
    "flipped": damage_middle,
    "shape": lambda content: content.replace(b"'shape': (21, 48", b"'shape': (91, 48"),
    "texts": lambda content: content.replace(b"texts.npy", b"exits.npy"),
    "column": lambda content: content.replace(b"groups.npy", b"troupe.npy"),
    "length": shorten_labels,
}


def test_a_damaged_entry_is_read_again_and_mended(tmp_path, counted):
    source = make_source(tmp_path, "csv")
    expected = load(tmp_path / "cache", source, counted).fingerprint()
    (entry,) = (tmp_path / "cache").iterdir()
    whole = entry.read_bytes()
    for number, (name, damage) in enumerate(DAMAGES.items(), start=2):
        damaged = damage(whole)
        assert damaged != whole
        entry.write_bytes(damaged)
        for _ in range(2):
            assert load(tmp_path / "cache", source, counted).fingerprint() == expected, name
        assert len(counted[1]) == number, name


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, counted, monkeypatch):
    source = make_source(tmp_path, "csv")
    (tmp_path / "file").write_text("a file where the folder should be")
    assert len(load(tmp_path / "file", source, counted)) == 21

    def fill(file, **arrays):
        file.write(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fill)
    assert len(load(tmp_path / "cache", source, counted)) == 21
    assert list((tmp_path / "cache").iterdir()) == []


def test_no_cache_writes_nothing(tmp_path, counted):
    source = make_source(tmp_path, "csv")
    load(None, source, counted)
    load(None, source, counted)
    assert len(counted[1]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


def test_an_entry_holds_no_code(tmp_path, counted):
    source = make_source(tmp_path, "csv")
    load(tmp_path / "cache", source, counted)
    (entry,) = (tmp_path / "cache").iterdir()
    with np.load(entry, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)
        assert json.loads(str(arrays["texts"]))["class_names"][0] == "angry"
