import os
from dataclasses import fields

import numpy as np
import pytest
from training_data import make_dataset, put, write_csv, write_folder, write_zip

from emotion.training.data import cache
from emotion.training.data.cache import read_cached
from emotion.training.data.layouts import read_layout

DATA = make_dataset(14, 0, 7)


@pytest.fixture
def asked(monkeypatch):
    """Return the list of what was read from its source."""
    asked = []

    def read(path, progress=None, **options):
        asked.append(path)
        return read_layout(path)

    monkeypatch.setattr(cache, "read_layout", read)
    return asked


@pytest.fixture
def source(tmp_path):
    return write_csv(tmp_path / "data.csv", DATA)


def pictures(dataset) -> set:
    """Return the images with what they are, in whatever order they stand."""
    rows = zip(dataset.images, dataset.labels, dataset.splits, strict=True)
    return {
        (image.tobytes(), dataset.class_names[label], str(split)) for image, label, split in rows
    }


@pytest.mark.parametrize("write", [write_folder, write_zip, write_csv])
def test_every_layout_is_the_same_dataset_and_comes_from_the_cache_next_time(
    tmp_path, asked, write, source
):
    other = write(tmp_path / f"other.{write.__name__.removeprefix('write_')}", DATA)
    if write is write_folder:
        put(other, {"train/happy/bröken.png": b"x", "stray.png": b"x"})
    first, _, second = (read_cached(tmp_path / "cache", one, {}) for one in (other, source, other))
    assert asked == [other, source]
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert pictures(first) == pictures(DATA)
    assert len(set(first.names)) == len(first.sizes_wh) == len(first) == 21
    assert len(first.unreadable) == len(first.notes) == (write is write_folder)
    for field in fields(first):
        ours, theirs = getattr(first, field.name), getattr(second, field.name)
        assert type(ours) is type(theirs)
        np.testing.assert_array_equal(ours, theirs)
        assert getattr(ours, "dtype", None) == getattr(theirs, "dtype", None)


def test_what_has_changed_is_read_again_and_replaces_the_old_entry(tmp_path, asked, monkeypatch):
    source = write_folder(tmp_path / "data", DATA)
    file, other = source / "train" / "happy" / "3.png", source / "train" / "sad" / "3.png"
    changes = {
        "first": lambda: None,
        "content": lambda: file.write_bytes((file.parent / "10.png").read_bytes()),
        "time": lambda: os.utime(file, (1, 1)),
        "name": lambda: file.rename(other),
        "removed": other.unlink,
        "version": lambda: monkeypatch.setattr(cache, "CACHE_VERSION", -1),
    }
    for number, (name, change) in enumerate(changes.items(), start=1):
        change()
        dataset = read_cached(tmp_path / "cache", source, {})
        assert len(asked) == number, name
        assert dataset.fingerprint() == read_layout(source).fingerprint()
        assert len(list((tmp_path / "cache").iterdir())) == 1
    read_cached(tmp_path / "cache", source, {"crop_faces": True})
    assert len(asked) == len(changes) + 1


def test_a_damaged_entry_is_read_again_and_mended(tmp_path, asked, source):
    expected = read_cached(tmp_path / "cache", source, {}).fingerprint()
    (entry,) = (tmp_path / "cache").iterdir()
    whole = entry.read_bytes()
    flipped = whole[:20_000] + bytes([whole[20_000] ^ 255]) + whole[20_001:]
    without_column = whole.replace(b"groups.npy", b"troupe.npy")
    for number, damaged in enumerate((b"", whole[:20_000], flipped, without_column), start=2):
        assert damaged != whole
        entry.write_bytes(damaged)
        for _ in range(2):
            assert read_cached(tmp_path / "cache", source, {}).fingerprint() == expected
        assert len(asked) == number


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, source, monkeypatch):
    (tmp_path / "file").write_text("a file where the folder should be")
    assert len(read_cached(tmp_path / "file", source, {})) == 21

    def fill(file, **arrays):
        file.write(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fill)
    assert len(read_cached(tmp_path / "cache", source, {})) == 21
    assert list((tmp_path / "cache").iterdir()) == []
