from dataclasses import replace

import numpy as np
import pytest
from training_data import (
    encode,
    make_dataset,
    write_classes,
    write_csv,
    write_folder,
    write_votes,
    write_zip,
)

from emotion.errors import DatasetError
from emotion.labels import EMOTIONS, FERPLUS_COLUMNS
from emotion.training.data.datasets import Dataset, match_classes, read_datasets
from emotion.training.data.splits import make_splits
from emotion.training.settings import TrainingSettings


@pytest.fixture
def read(tmp_path):
    """Return a function from settings to a dataset, cached below the test's folder."""

    def read(*paths, votes="", **options) -> Dataset:
        named = tuple(map(str, paths))
        runs = str(tmp_path / "runs")
        return read_datasets(
            TrainingSettings(dataset=named, votes=str(votes), runs=runs, **options)
        )

    return read


def small() -> Dataset:
    return make_dataset(train=42, validation=0, test=14)


LAYOUTS = {
    "folder": lambda root: write_folder(root / "data", small()),
    "zip": lambda root: write_zip(root / "archive.zip", small(), "fer2013/"),
    "folder of one zip": lambda root: write_zip(root / "archive.zip", small()).parent,
    "folder of one csv": lambda root: write_csv(root / "fer2013.csv", small()).parent,
}


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_every_layout_gives_the_same_dataset(tmp_path, read, layout):
    (tmp_path / "in").mkdir()
    dataset, written = read(LAYOUTS[layout](tmp_path / "in")), small()
    pictures = {  # order does not matter
        (image.tobytes(), data.class_names[label], str(split))
        for data in (dataset, written)
        for image, label, split in zip(data.images, data.labels, data.splits, strict=True)
    }
    assert len(pictures) == len(dataset) == len(written)
    assert (dataset.class_names, dataset.split_names()) == (EMOTIONS, ("train", "test"))
    assert (dataset.images.dtype, dataset.labels.dtype) == (np.uint8, np.int64)
    assert len(set(dataset.names)) == len(dataset)
    assert dataset.sizes_wh.tolist() == [[48, 48]] * 56
    assert dataset.unreadable == dataset.notes == ()


HEADER = "emotion,pixels,Usage\n"


def truncated_zip(root):
    path = write_zip(root / "d.zip", make_dataset(train=14, validation=0, test=0))
    path.write_bytes(path.read_bytes()[:-200])


BAD_DATASETS = {  # how it is made, or the content of the file; its name; what the sentence names
    "missing": (lambda root: None, "absent", "absent"),
    "empty folder": (lambda root: (root / "d").mkdir(), "d", "dataset/README.md"),
    "text file": ("x", "d.txt", ".zip or .csv"),
    "empty csv": ("", "d.csv", "columns"),
    "header only": (HEADER, "d.csv", "header"),
    "wrong column": ("label,pixels,Usage\n0,1,Training\n", "d.csv", "label"),
    "binary csv": (lambda root: (root / "d.csv").write_bytes(b"\0\xff" * 99), "d.csv", "columns"),
    "short row": (f"{HEADER}0,7 7 7,Training\n", "d.csv", "row 2: .* 2304 .* 3 values"),
    "truncated zip": (truncated_zip, "d.zip", "damaged"),
}


@pytest.mark.parametrize("case", BAD_DATASETS, ids=str)
def test_bad_datasets_give_one_sentence(tmp_path, read, case):
    make, name, message = BAD_DATASETS[case]
    if isinstance(make, str):
        (tmp_path / name).write_text(make)
    else:
        make(tmp_path)
    with pytest.raises(DatasetError, match=message) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.fixture
def voted(tmp_path):
    """Return (csv, votes) in which row n has all its votes in the n-th of the ten columns."""
    counts = [[10 if column == row % 10 else 0 for column in range(10)] for row in range(60)]
    usages = ["Training"] * 42 + ["PublicTest"] * 18
    table = write_votes(tmp_path / "fer2013new.csv", usages, counts)
    return write_csv(tmp_path / "fer2013.csv", small()), table


def test_votes_become_shares_of_the_seven_classes_and_come_from_the_cache(
    tmp_path, read, voted, monkeypatch
):
    first = read(voted[0], votes=voted[1])
    expected = [EMOTIONS.index(name) for name in FERPLUS_COLUMNS.values()]
    np.testing.assert_array_equal(first.votes[:7], np.eye(7)[expected])
    assert (first.votes[7:10] == 0).all(), "contempt, unknown and not-a-face belong to no class"
    monkeypatch.setattr("emotion.training.data.cache.read_layout", None)
    second = read(voted[0], votes=voted[1])
    assert first.fingerprint() == second.fingerprint()
    assert list((tmp_path / "runs" / ".cache").iterdir())


def test_votes_that_cannot_be_used(tmp_path, read, voted):
    people = write_classes(tmp_path / "ck")
    for paths in ((voted[0], voted[0]), (people,)):
        with pytest.raises(DatasetError, match="--votes"):
            read(*paths, votes=voted[1])
    with pytest.raises(DatasetError, match="--votes"):
        read(voted[0], contempt=True)


def test_settings_reach_the_reading(tmp_path, read, voted, astronaut):
    majority = read(voted[0], votes=voted[1], votes_as="majority", contempt=True)
    assert majority.class_names == tuple(sorted((*EMOTIONS, "contempt")))
    assert (majority.votes, len(majority)) == (None, 46)
    with pytest.raises(DatasetError, match=r"none on 56 .*fer2013.csv row 2"):
        read(voted[0], subject_pattern="person-(.)")
    (tmp_path / "photos" / "happy").mkdir(parents=True)
    (tmp_path / "photos" / "happy" / "S007.png").write_bytes(encode(astronaut))
    whole, face = (
        read(tmp_path / "photos", voted[0], subject_pattern=r"^S(\d+)", crop_faces=crop_faces)
        for crop_faces in (False, True)
    )
    assert (whole.images[0] != face.images[0]).any()
    assert set(whole.groups) == {"", "007"}
    assert "56 of 57 images, such as fer2013.csv" in whole.notes[-1]


def test_several_datasets_become_one(tmp_path, read, voted):
    folder = write_folder(tmp_path / "fer", small())
    people = write_classes(tmp_path / "ck", classes=("anger", "contempt", "happiness"))
    (people / "anger" / "broken.png").write_bytes(b"x")
    (people / "stray.png").write_bytes(b"x")
    assert read(people).class_names == ("anger", "contempt", "happiness"), "its own names"
    dataset = read(folder, people)
    assert dataset.class_names == tuple(sorted((*EMOTIONS, "contempt")))
    assert len(dataset) == 56 + 48
    classes = [dataset.class_names[label] for label in dataset.labels[[56, 72, 88]]]
    assert classes == ["angry", "contempt", "happy"]
    assert dataset.names[0] == "fer/test/angry/42.png"
    assert dataset.names[56] == "ck/anger/S000_001_00000000.png"
    assert dataset.unreadable[0].startswith("ck/anger/broken.png: ")
    assert dataset.notes[0].startswith("ck: Left out 1 image")
    assert set(dataset.splits) == {"train", "test", ""}
    assert dataset.votes is None
    split, _ = make_splits(dataset, TrainingSettings(test_share=0.25, validation_share=0.3))
    known = split.groups != ""
    assert (split.splits[~known] == "test").sum() == 14, "each is split in its own way"
    assert len(set(split.groups[known & (split.splits == "test")])) == 2
    dataset = read(voted[0], voted[0])
    assert len(set(dataset.names)) == 112
    assert dataset.names[0] == "fer2013.csv row 2"
    assert dataset.names[56] == "fer2013.csv (2)/fer2013.csv row 2"
    for votes_as in ("second-head", "distribution"):
        dataset = read(people, voted[0], votes=voted[1], votes_as=votes_as)
        assert dataset.votes.shape == (len(dataset), 8)
        assert not dataset.votes[:48].any()
        assert (dataset.votes[48:55].sum(axis=1) == 1).all()


def with_names(*class_names: str) -> Dataset:
    """Return 70 images of as many classes as there are names."""
    labels = np.arange(70) % len(class_names)
    return replace(make_dataset(70, 0, 0), labels=labels, class_names=class_names)


def test_classes_are_matched_to_a_model_by_synonyms():
    dataset = with_names("anger", "happiness", "surprise")
    votes = np.eye(3, dtype=np.float32)[dataset.labels]
    matched = match_classes(replace(dataset, votes=votes), EMOTIONS)
    assert matched.class_names == EMOTIONS
    assert matched.labels[:3].tolist() == [0, 3, 6]
    np.testing.assert_array_equal(matched.votes, np.eye(7, dtype=np.float32)[matched.labels])
    matched = match_classes(with_names("angry", "sad"), ("Sadness", "neutral", "Anger"))
    assert matched.labels[:2].tolist() == [2, 0]
    assert matched.class_names == ("Sadness", "neutral", "Anger")
    with_more = replace(make_dataset(), class_names=(*EMOTIONS, "zeal"))  # of which it has no image
    assert match_classes(with_more, EMOTIONS).class_names == EMOTIONS


def test_classes_that_the_model_does_not_know():
    dataset = with_names("anger", "contempt")
    with pytest.raises(DatasetError, match="contempt: --known-classes-only"):
        match_classes(dataset, EMOTIONS)
    votes = np.full((70, 2), 0.5, np.float32)
    matched = match_classes(replace(dataset, votes=votes), EMOTIONS, known_only=True)
    assert (len(matched), set(matched.labels)) == (35, {0})
    assert (matched.votes == np.eye(7, dtype=np.float32)[0]).all()
    assert "35 contempt" in matched.notes[0]
    for known_only in (False, True):
        with pytest.raises(DatasetError, match="bored, tired"):
            match_classes(with_names("bored", "tired"), EMOTIONS, known_only)


def test_visitors_faces_are_all_learned_from_and_only_where_they_are_named(tmp_path, read):
    data = make_dataset(14, 0, 7)
    path = write_csv(tmp_path / "fer2013.csv", data)
    write_folder(tmp_path / "folders", data)
    for place in (tmp_path / "feedback", tmp_path / "folders" / "feedback"):
        for name in ("happy", "sad"):
            (place / name).mkdir(parents=True)
            (place / name / "one.png").write_bytes(encode(data.images[0]))
    for beside in (tmp_path / "folders", path):
        alone = read(beside)
        assert (len(alone), alone.notes) == (21, ())
    both = read(path, tmp_path / "feedback")
    assert [len(both.split(name)) for name in ("train", "test")] == [16, 7]
