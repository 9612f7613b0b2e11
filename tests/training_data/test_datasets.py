import os
from dataclasses import fields, replace

import numpy as np
import pytest
import training_data
from training_data import encode, make_dataset, put, write_csv, write_folder, write_zip

from emotion.errors import DatasetError
from emotion.labels import EMOTIONS
from emotion.training.data import datasets
from emotion.training.data.datasets import Dataset, match_classes, read_cached, read_datasets
from emotion.training.data.layouts import read_layout
from emotion.training.data.splits import make_splits
from emotion.training.fitting.targets import build_targets
from emotion.training.settings import TrainingSettings

SMALL = make_dataset(train=42, validation=0, test=14)
EIGHT = tuple(sorted((*EMOTIONS, "contempt")))
EYE = np.eye(7, dtype=np.float32)


@pytest.fixture
def read(tmp_path):
    """Return a function from settings to a dataset, cached below the test's folder."""

    def read(*paths, votes="", **options) -> Dataset:
        options |= {"dataset": tuple(map(str, paths)), "votes": str(votes)}
        return read_datasets(TrainingSettings(runs=str(tmp_path / "runs"), **options))

    return read


HEADER = b"emotion,pixels,Usage\n"
BAD_DATASETS = {  # the files, which of them is read, and what the sentence names
    "missing": ({}, "absent", "absent"),
    "empty folder": ({}, ".", "dataset/README.md"),
    "text file": ({"d.txt": b"x"}, "d.txt", ".zip or .csv"),
    "empty csv": ({"d.csv": b""}, "d.csv", "columns"),
    "header only": ({"d.csv": HEADER}, "d.csv", "header"),
    "wrong column": ({"d.csv": b"label,pixels,Usage\n0,1,Training\n"}, "d.csv", "label"),
    "binary csv": ({"d.csv": b"\0\xff" * 99}, "d.csv", "columns"),
    "short row": ({"d.csv": HEADER + b"0,7 7,Training\n"}, "d.csv", "row 2: .* 2304 .* 2 values"),
    "no zip": ({"d.zip": b"PK\x03\x04 cut"}, "d.zip", "damaged"),
}


@pytest.mark.parametrize("case", BAD_DATASETS, ids=str)
def test_bad_datasets_give_one_sentence(tmp_path, read, case):
    files, name, message = BAD_DATASETS[case]
    with pytest.raises(DatasetError, match=f"^.*({message}).*$"):
        read(put(tmp_path, files) / name)


@pytest.fixture
def voted(tmp_path):
    """Return (csv, votes) in which row n has all its votes in the n-th of the ten columns."""
    counts = [[10 * (column == row % 10) for column in range(10)] for row in range(60)]
    usages = ["Training"] * 42 + ["PublicTest"] * 18
    table = training_data.write_votes(tmp_path / "fer2013new.csv", usages, counts)
    return write_csv(tmp_path / "fer2013.csv", SMALL), table


def test_votes_come_from_the_cache_or_a_sentence_says_why_not(tmp_path, read, voted, monkeypatch):
    people = training_data.write_classes(tmp_path / "ck")
    for paths in ((voted[0], voted[0]), (people,)):
        with pytest.raises(DatasetError, match="--votes"):
            read(*paths, votes=voted[1])
    with pytest.raises(DatasetError, match="--votes"):
        read(voted[0], contempt=True)
    majority = read(voted[0], votes=voted[1], votes_as="majority", contempt=True)
    assert (majority.class_names, majority.votes, len(majority)) == (EIGHT, None, 46)
    monkeypatch.setattr("emotion.training.data.datasets.read_layout", None)
    assert read(voted[0], votes=voted[1]).votes[:10].sum() == 7, "three columns are no class"
    assert list((tmp_path / "runs" / ".cache").iterdir())


def test_settings_reach_the_reading(tmp_path, read, voted, astronaut):
    with pytest.raises(DatasetError, match=r"none on 56 .*fer2013.csv row 2"):
        read(voted[0], subject_pattern="person-(.)")
    photos = put(tmp_path / "photos", {"happy/S007.png": encode(astronaut[::2, ::2])})
    whole, face = (
        read(photos, subject_pattern=r"^S(\d+)", crop_faces=crop_faces)
        for crop_faces in (False, True)
    )
    assert (whole.images[0] != face.images[0]).any()
    both = read(photos, voted[0], subject_pattern=r"^S(\d+)")
    assert set(both.groups) == {"", "007"}
    assert "56 of 57 images" in both.notes[-1]


def test_several_datasets_become_one(tmp_path, read, voted):
    folder = write_folder(tmp_path / "fer", SMALL)
    people = training_data.write_classes(
        tmp_path / "ck", classes=("anger", "contempt", "happiness")
    )
    put(people, {"anger/broken.png": b"x", "stray.png": b"x"})
    assert read(people).class_names == ("anger", "contempt", "happiness"), "its own names"
    dataset = read(folder, people)
    assert (dataset.class_names, dataset.votes, len(dataset)) == (EIGHT, None, 56 + 48)
    classes = [dataset.class_names[label] for label in dataset.labels[[56, 72, 88]]]
    assert classes == ["angry", "contempt", "happy"]
    assert dataset.names[0] == "fer/test/angry/42.png"
    assert dataset.names[56] == "ck/anger/S000_001_00000000.png"
    assert dataset.unreadable[0].startswith("ck/anger/broken.png: ")
    assert dataset.notes[0].startswith("ck: Left out 1 image")
    assert set(dataset.splits) == {"train", "test", ""}
    split, _ = make_splits(dataset, TrainingSettings(test_share=0.25, validation_share=0.3))
    known = split.groups != ""
    assert (split.splits[~known] == "test").sum() == 14, "each is split in its own way"
    assert len(set(split.groups[known & (split.splits == "test")])) == 2
    names = read(voted[0], voted[0]).names
    assert len(set(names)) == 112
    assert (names[0], names[56]) == ("fer2013.csv row 2", "fer2013.csv (2)/fer2013.csv row 2")
    votes = read(people, voted[0], votes=voted[1]).votes
    assert votes.shape == (48 + 56, 8)
    assert not votes[:48].any()
    assert (votes[48:55].sum(axis=1) == 1).all()


def test_extra_photos_are_learned_from_as_votes_alone(tmp_path, voted, astronaut):
    photos = put(tmp_path / "press", {"happiness/1.png": encode(astronaut[::2, ::2])})
    settings = TrainingSettings(
        dataset=(str(voted[0]),),
        votes=str(voted[1]),
        runs=str(tmp_path / "runs"),
        validation_share=0.3,
        duplicates="keep-leaks",
        teacher_share=0.5,
    )
    plain, _ = make_splits(read_datasets(settings), settings)
    settings = replace(settings, extra_photos=(str(photos),))
    dataset = datasets.with_extra_photos(plain, settings)
    assert len(dataset) == len(plain) + 1
    for split in ("validation", "test"):
        np.testing.assert_array_equal(dataset.split(split).names, plain.split(split).names)
    assert (dataset.names[-1], dataset.splits[-1]) == ("press/happiness/1.png", "train")
    seen = np.full((len(dataset), 7), 0.1, np.float32) + np.float32(0.3) * (np.arange(7) == 0)
    taught = build_targets(dataset, settings, (None, seen))
    labels, votes = taught.weights
    assert (labels[-1], votes[-1], labels[:-1].all()) == (0, 1, True)
    np.testing.assert_allclose(taught.values[1][-1], seen[-1], rtol=1e-5)
    happy = dataset.class_names.index("happy")
    assert dataset.votes[-1].tolist() == EYE[happy].tolist()
    with pytest.raises(DatasetError, match="absent"):
        datasets.with_extra_photos(
            plain, replace(settings, extra_photos=(str(tmp_path / "absent"),))
        )


def test_many_unreadable_files_stop_unless_told(tmp_path, read):
    root = training_data.write_classes(tmp_path / "ck")  # 32 images
    put(root, {f"happy/{number}.png": b"x" for number in range(2)})
    with pytest.raises(DatasetError, match=r"ck .* 2 of 34 .*\(5\.9%\), .*--unreadable-share"):
        read(root)
    assert len(read(root, unreadable_share=0.06)) == 32
    put(root, {"happy/0.png": (root / "happy/S000_001_00000000.png").read_bytes()})
    assert len(read(root).unreadable) == 1


def test_a_limit_draws_as_many_of_each_class_in_each_split_by_the_seed(tmp_path, read):
    path = write_csv(tmp_path / "fer2013.csv", make_dataset(train=42, validation=0, test=10))
    first, same, other = (read(path, limit=2, seed=seed) for seed in (1, 1, 2))
    assert [len(first.split(name)) for name in ("train", "test")] == [14, 10]
    assert np.bincount(first.split("train").labels).tolist() == [2] * 7
    assert first.names.tolist() == same.names.tolist() != other.names.tolist()
    assert "24 of 52 images" in first.notes[0]


def with_names(*class_names: str, votes=None) -> Dataset:
    """Return 70 images of as many classes as there are names."""
    labels = np.arange(70) % len(class_names)
    return replace(make_dataset(70, 0, 0, votes), labels=labels, class_names=class_names)


def test_classes_are_matched_to_a_model_by_synonyms():
    votes = np.eye(3, dtype=np.float32)[np.arange(70) % 3]
    matched = match_classes(with_names("anger", "happiness", "surprise", votes=votes), EMOTIONS)
    assert matched.class_names == EMOTIONS
    assert matched.labels[:3].tolist() == [0, 3, 6]
    np.testing.assert_array_equal(matched.votes, EYE[matched.labels])
    names = ("Sadness", "neutral", "Anger")
    matched = match_classes(with_names("angry", "sad"), names)
    assert (matched.labels[:2].tolist(), matched.class_names) == ([2, 0], names)
    with_more = replace(make_dataset(), class_names=(*EMOTIONS, "zeal"))  # of which it has no image
    assert match_classes(with_more, EMOTIONS).class_names == EMOTIONS


def test_classes_that_the_model_does_not_know():
    dataset = with_names("anger", "contempt", votes=np.full((70, 2), 0.5, np.float32))
    with pytest.raises(DatasetError, match="contempt: --known-classes-only"):
        match_classes(dataset, EMOTIONS)
    matched = match_classes(dataset, EMOTIONS, known_only=True)
    assert (len(matched), set(matched.labels)) == (35, {0})
    assert (matched.votes == EYE[0]).all()
    assert "35 contempt" in matched.notes[0]
    with pytest.raises(DatasetError, match="bored, tired"):
        match_classes(with_names("bored", "tired"), EMOTIONS, known_only=True)


def test_visitors_faces_are_all_learned_from_and_only_where_they_are_named(tmp_path, read, voted):
    path, votes = voted
    folder = write_folder(tmp_path / "folders", SMALL)
    for place in (tmp_path / "feedback", folder / "feedback"):
        put(place, dict.fromkeys(("happy/one.png", "sad/one.png"), encode(SMALL.images[0])))
    for beside in (folder, path):
        alone = read(beside)
        assert (len(alone), alone.notes) == (56, ())
    both = read(path, tmp_path / "feedback")
    assert [len(both.split(name)) for name in ("train", "test")] == [44, 14]
    assert both.votes is None
    learned = read(path, tmp_path / "feedback", votes=votes)
    assert learned.votes[56:].tolist() == np.eye(7)[learned.labels[56:]].tolist()


@pytest.fixture
def asked(monkeypatch):
    """Return the list of what was read from its source."""
    asked = []

    def read(path, **options):
        asked.append(path)
        return read_layout(path)

    monkeypatch.setattr(datasets, "read_layout", read)
    return asked


def pictures(dataset) -> set:
    """Return the images with what they are, in whatever order they stand."""
    rows = zip(dataset.images, dataset.labels, dataset.splits, strict=True)
    return {
        (image.tobytes(), dataset.class_names[label], str(split)) for image, label, split in rows
    }


@pytest.mark.parametrize("write", [write_folder, write_zip, write_csv])
def test_every_layout_is_the_same_dataset_also_from_the_cache(tmp_path, asked, write):
    source = write_csv(tmp_path / "data.csv", SMALL)
    other = write(tmp_path / f"other.{write.__name__.removeprefix('write_')}", SMALL)
    if write is write_folder:
        put(other, {"train/happy/bröken.png": b"x", "stray.png": b"x"})
    first, _, second = (read_cached(tmp_path / "cache", one, {}) for one in (other, source, other))
    assert asked == [other, source]
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert pictures(first) == pictures(SMALL)
    assert len(set(first.names)) == len(first.sizes_wh) == len(first) == 56
    assert len(first.unreadable) == len(first.notes) == (write is write_folder)
    for field in fields(first):
        ours, theirs = getattr(first, field.name), getattr(second, field.name)
        assert type(ours) is type(theirs)
        np.testing.assert_array_equal(ours, theirs)
        assert getattr(ours, "dtype", None) == getattr(theirs, "dtype", None)


def test_what_has_changed_is_read_again_and_replaces_the_old_entry(tmp_path, asked, monkeypatch):
    source = write_folder(tmp_path / "data", SMALL)
    file, other = source / "train" / "happy" / "3.png", source / "train" / "sad" / "3.png"
    changes = {
        "first": lambda: None,
        "content": lambda: file.write_bytes((file.parent / "10.png").read_bytes()),
        "time": lambda: os.utime(file, (1, 1)),
        "name": lambda: file.rename(other),
        "removed": other.unlink,
        "version": lambda: monkeypatch.setattr(datasets, "CACHE_VERSION", -1),
    }
    for number, (name, change) in enumerate(changes.items(), start=1):
        change()
        dataset = read_cached(tmp_path / "cache", source, {})
        assert len(asked) == number, name
        assert dataset.fingerprint() == read_layout(source).fingerprint()
        assert len(list((tmp_path / "cache").iterdir())) == 1
    read_cached(tmp_path / "cache", source, {"crop_faces": True})
    assert len(asked) == len(changes) + 1


def test_a_damaged_entry_is_read_again_and_mended(tmp_path, asked):
    source = write_csv(tmp_path / "data.csv", SMALL)
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


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, monkeypatch):
    source = write_csv(tmp_path / "data.csv", SMALL)
    (tmp_path / "file").write_text("a file where the folder should be")
    assert len(read_cached(tmp_path / "file", source, {})) == 56

    def fill(file, **arrays):
        file.write(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fill)
    assert len(read_cached(tmp_path / "cache", source, {})) == 56
    assert list((tmp_path / "cache").iterdir()) == []
