import zipfile
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
from emotion.labels import EMOTIONS, FERPLUS_COLUMNS, SYNONYMS, common_name
from emotion.training.data.datasets import (
    Dataset,
    load_dataset,
    match_classes,
    read_datasets,
)
from emotion.training.data.splits import make_splits
from emotion.training.settings import TrainingSettings


def dataset_without_validation() -> Dataset:
    return make_dataset(train=42, validation=0, test=14)


def contents(dataset: Dataset) -> set:
    """Return every (image, class, split), so that order does not matter."""
    return {
        (image.tobytes(), dataset.class_names[label], str(split))
        for image, label, split in zip(dataset.images, dataset.labels, dataset.splits, strict=True)
    }


@pytest.mark.parametrize(
    "write",
    [
        lambda root, dataset: write_folder(root / "data", dataset),
        lambda root, dataset: write_zip(root / "archive.zip", dataset),
        lambda root, dataset: write_zip(root / "archive.zip", dataset, "fer2013/"),
        lambda root, dataset: write_csv(root / "fer2013.csv", dataset),
        lambda root, dataset: write_zip(root / "archive.zip", dataset).parent,
        lambda root, dataset: write_csv(root / "fer2013.csv", dataset).parent,
    ],
    ids=["folder", "zip", "zip in a folder", "csv", "folder of one zip", "folder of one csv"],
)
def test_every_layout_gives_the_same_dataset(tmp_path, write):
    expected = dataset_without_validation()
    loaded = load_dataset(write(tmp_path, expected))
    assert contents(loaded) == contents(expected)
    assert loaded.class_names == EMOTIONS
    assert loaded.images.dtype == np.uint8
    assert loaded.labels.dtype == np.int64
    assert len(set(loaded.names)) == len(loaded)
    assert loaded.sizes_wh.tolist() == [[48, 48]] * 56
    assert loaded.unreadable == loaded.notes == ()


def test_private_test_rows_are_a_split_of_their_own(tmp_path):
    dataset = dataset_without_validation()
    splits = dataset.splits.astype("U16")
    splits[-3:] = "private_test"
    dataset = Dataset(dataset.images, dataset.labels, splits, EMOTIONS)
    loaded = load_dataset(write_csv(tmp_path / "fer2013.csv", dataset))
    assert loaded.split_names() == ("train", "test", "private_test")
    assert len(loaded.split("private_test")) == 3


def test_a_dataset_with_a_test_split_alone_can_be_evaluated(tmp_path):
    root = write_folder(tmp_path, make_dataset(0, 0, 14))
    assert load_dataset(root).split_names() == ("test",)


def write_text(name: str, content: str):
    return lambda root: (root / name).write_text(content)


def write_one_class(root):
    (root / "d" / "happy").mkdir(parents=True)
    for number in range(3):
        image = np.full((48, 48), 9 * number, np.uint8)
        (root / "d" / "happy" / f"{number}.png").write_bytes(encode(image))


def pixels(count: int, value: str = "7") -> str:
    return " ".join([value] * count)


HEADER = "emotion,pixels,Usage\n"
BAD_DATASETS = {
    "missing": (lambda root: None, "absent", "does not exist"),
    "empty folder": (lambda root: (root / "d").mkdir(), "d", "dataset/README.md"),
    "folder of texts": (
        lambda root: (root / "d" / "happy").mkdir(parents=True),
        "d",
        "received no image in such a place",
    ),
    "text file": (write_text("d.txt", "x"), "d.txt", "folder, .zip or .csv"),
    "empty csv": (write_text("d.csv", ""), "d.csv", "expected the columns"),
    "header only": (write_text("d.csv", HEADER), "d.csv", "only a header"),
    "wrong column": (write_text("d.csv", "label,pixels,Usage\n0,1,Training\n"), "d.csv", "label"),
    "missing column": (write_text("d.csv", "emotion,pixels\n0,1\n"), "d.csv", "emotion, pixels$"),
    "binary csv": (lambda root: (root / "d.csv").write_bytes(b"\0\xff" * 99), "d.csv", "columns"),
    "short row": (
        write_text("d.csv", f"{HEADER}0,{pixels(9)},Training\n"),
        "d.csv",
        "row 2: expected 2304 pixels .* received 9 values",
    ),
    "value above 255": (
        write_text("d.csv", f"{HEADER}0,{pixels(2304, '256')},Training\n"),
        "d.csv",
        "row 2: .* between 0 and 255; .* '256' among them",
    ),
    "letters": (
        write_text("d.csv", f"{HEADER}0,{pixels(2304, 'x')},Training\n"),
        "d.csv",
        "row 2: .* between 0 and 255; .* 'x' among them",
    ),
    "no pixels": (write_text("d.csv", f"{HEADER}0\n"), "d.csv", "received '0' and ''"),
    "emotion 7": (
        write_text("d.csv", f"{HEADER}7,{pixels(2304)},Training\n"),
        "d.csv",
        "emotion from 0 to 6 .* received '7'",
    ),
    "usage": (
        write_text("d.csv", f"{HEADER}0,{pixels(2304)},Testing\n"),
        "d.csv",
        "Usage among Training, PublicTest, PrivateTest",
    ),
    "not a zip": (write_text("d.zip", "PK but no zip"), "d.zip", "damaged"),
    "empty zip": (
        lambda root: zipfile.ZipFile(root / "d.zip", "w").close(),
        "d.zip",
        "received no image in such a place",
    ),
}


def test_one_class_can_be_looked_at_but_not_learned(tmp_path):
    write_one_class(tmp_path)
    dataset = load_dataset(tmp_path / "d")
    assert (len(dataset), dataset.class_names) == (3, ("happy",))
    with pytest.raises(DatasetError, match=r"at least two classes; received 3 images .* happy"):
        make_splits(dataset, TrainingSettings())


@pytest.mark.parametrize("case", BAD_DATASETS, ids=str)
def test_bad_datasets_give_one_sentence(tmp_path, case):
    make, name, message = BAD_DATASETS[case]
    make(tmp_path)
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_truncated_zip(tmp_path):
    path = write_zip(tmp_path / "archive.zip", dataset_without_validation())
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DatasetError, match="damaged"):
        load_dataset(path)


@pytest.fixture
def voted(tmp_path):
    """Return (csv, votes) in which row n has all its votes in the n-th of the ten columns."""
    dataset = dataset_without_validation()
    counts = [[10 if column == row % 10 else 0 for column in range(10)] for row in range(60)]
    usages = ["Training"] * 42 + ["PublicTest"] * 18
    table = write_votes(tmp_path / "fer2013new.csv", usages, counts)
    return write_csv(tmp_path / "fer2013.csv", dataset), table


def test_votes_become_shares_of_the_seven_classes(voted):
    votes = load_dataset(*voted).votes
    assert votes.shape == (56, 7)
    assert votes.dtype == np.float32
    for row, name in enumerate(FERPLUS_COLUMNS.values()):
        assert votes[row].argmax() == EMOTIONS.index(name)
        assert votes[row].sum() == 1
    assert (votes[7:10] == 0).all(), "contempt, unknown and not-a-face belong to no class"


def test_votes_need_the_csv(tmp_path):
    with pytest.raises(DatasetError, match="row by row"):
        load_dataset(write_folder(tmp_path, dataset_without_validation()), tmp_path / "votes.csv")


def test_contempt_needs_votes(voted):
    with pytest.raises(DatasetError, match="--votes too"):
        load_dataset(voted[0], contempt=True)


@pytest.fixture
def settings(tmp_path):
    """Return a function from settings to a dataset, cached below the test's folder."""

    def read(*paths, **options):
        named = tuple(str(path) for path in paths)
        options = {
            name: str(value) if name == "votes" else value for name, value in options.items()
        }
        return read_datasets(
            TrainingSettings(dataset=named, runs=str(tmp_path / "runs"), **options)
        )

    return read


class FindsNothing:
    def detect(self, photo):
        return ()


def test_settings_reach_the_reading(tmp_path, voted, settings, monkeypatch):
    majority = settings(voted[0], votes=voted[1], votes_as="majority", contempt=True)
    assert majority.class_names == tuple(sorted((*EMOTIONS, "contempt")))
    assert majority.votes is None
    assert len(majority) == 46
    people = settings(write_classes(tmp_path / "ck"), subject_pattern="S00[0-3]")
    assert set(people.groups) == {"", "S000", "S001", "S002", "S003"}
    monkeypatch.setattr("emotion.training.data.framing.FaceDetector", FindsNothing)
    with pytest.raises(DatasetError, match="expected a face; none was found"):
        settings(tmp_path / "ck", crop_faces=True)


def test_a_pattern_that_tells_no_person_is_an_error(tmp_path, settings):
    root = write_folder(tmp_path / "data", dataset_without_validation())
    with pytest.raises(DatasetError, match=r"none of 56 does, such as test/angry/42\.png"):
        settings(root, subject_pattern="person-(.)")


def test_a_pattern_that_tells_some_people_is_noted(tmp_path, settings):
    folder = write_folder(tmp_path / "fer", dataset_without_validation())
    people = write_classes(tmp_path / "own")
    dataset = settings(folder, people, subject_pattern=r"^S(\d+)")
    assert set(dataset.groups) == {"", *(f"{person:03d}" for person in range(8))}
    assert "not known on 56 of 88 images, such as fer/" in dataset.notes[0]


def test_a_second_read_comes_from_the_cache(tmp_path, voted, settings, monkeypatch):
    first = settings(voted[0], votes=voted[1])
    monkeypatch.setattr("emotion.training.data.datasets.read_layout", None)
    second = settings(voted[0], votes=voted[1])
    assert first.fingerprint() == second.fingerprint()
    assert (first.votes == second.votes).all()
    assert list((tmp_path / "runs" / ".cache").iterdir())


def test_one_dataset_keeps_its_own_class_names(tmp_path, settings):
    root = write_classes(tmp_path / "ck", classes=("anger", "happiness", "bored"))
    assert settings(root).class_names == ("anger", "bored", "happiness")


def test_several_datasets_become_one(tmp_path, settings):
    folder = write_folder(tmp_path / "fer", dataset_without_validation())
    people = write_classes(tmp_path / "ck", classes=("anger", "contempt", "happiness"))
    (people / "anger" / "broken.png").write_bytes(b"x")
    (people / "stray.png").write_bytes(b"x")
    dataset = settings(folder, people)
    assert dataset.class_names == tuple(sorted((*EMOTIONS, "contempt")))
    assert len(dataset) == 56 + 48
    assert [dataset.class_names[label] for label in dataset.labels[[56, 72, 88]]] == [
        "angry",
        "contempt",
        "happy",
    ]
    assert dataset.names[0] == "fer/test/angry/42.png"
    assert dataset.names[56] == "ck/anger/S000_001_00000000.png"
    assert dataset.unreadable[0].startswith("ck/anger/broken.png: ")
    assert dataset.notes[0].startswith("ck: Left out 1 image")
    assert set(dataset.splits) == {"train", "test", ""}
    assert dataset.votes is None


def test_several_datasets_are_split_each_in_its_way(tmp_path, settings):
    folder = write_folder(tmp_path / "fer", make_dataset(140, 0, 35))
    people = write_classes(tmp_path / "ck")
    dataset, _ = make_splits(settings(folder, people), TrainingSettings(test_share=0.25))
    known = dataset.groups != ""
    assert (dataset.splits[~known] == "test").sum() == 35
    assert len(set(dataset.groups[known & (dataset.splits == "test")])) == 2
    assert len(dataset) == 175 + 32


def test_the_same_dataset_twice_has_names_of_its_own(voted, settings):
    dataset = settings(voted[0], voted[0])
    assert len(set(dataset.names)) == 112
    assert dataset.names[0] == "fer2013.csv row 2"
    assert dataset.names[56] == "fer2013.csv (2)/fer2013.csv row 2"


@pytest.mark.parametrize("votes_as", ["second-head", "distribution", "blend"])
def test_votes_beside_a_dataset_without_them(tmp_path, voted, settings, votes_as):
    people = write_classes(tmp_path / "ck")
    dataset = settings(people, voted[0], votes=voted[1], votes_as=votes_as)
    assert dataset.votes.shape == (len(dataset), 7)
    assert not dataset.votes[:32].any()
    assert (dataset.votes[32:39].sum(axis=1) == 1).all()


def test_votes_for_no_or_two_tables(tmp_path, voted, settings):
    for paths in ((voted[0], voted[0]), (write_classes(tmp_path / "ck"),)):
        with pytest.raises(DatasetError, match="expected once"):
            settings(*paths, votes=voted[1])


def with_names(*class_names: str) -> Dataset:
    """Return 70 images of as many classes as there are names."""
    dataset = make_dataset(70, 0, 0)
    labels = np.arange(70) % len(class_names)
    return replace(dataset, labels=labels, class_names=class_names)


def test_classes_are_matched_to_a_model_by_synonyms():
    dataset = with_names("anger", "happiness", "surprise")
    votes = np.eye(3, dtype=np.float32)[dataset.labels]
    matched = match_classes(replace(dataset, votes=votes), EMOTIONS)
    assert matched.class_names == EMOTIONS
    assert matched.labels[:3].tolist() == [0, 3, 6]
    assert (matched.votes.argmax(axis=1) == matched.labels).all()
    assert matched.votes.shape == (70, 7)


def test_classes_are_matched_to_a_model_with_names_of_its_own():
    matched = match_classes(with_names("angry", "sad"), ("Sadness", "neutral", "Anger"))
    assert matched.labels[:2].tolist() == [2, 0]
    assert matched.class_names == ("Sadness", "neutral", "Anger")


def test_the_same_classes_are_left_as_they_are():
    dataset = make_dataset()
    assert match_classes(dataset, list(EMOTIONS)) is dataset


def test_classes_that_the_model_does_not_know():
    dataset = with_names("anger", "contempt")
    with pytest.raises(DatasetError, match="received also contempt: --known-classes-only"):
        match_classes(dataset, EMOTIONS)
    votes = np.full((70, 2), 0.5, np.float32)
    matched = match_classes(replace(dataset, votes=votes), EMOTIONS, known_only=True)
    assert len(matched) == 35
    assert set(matched.labels) == {0}
    assert (matched.votes == np.eye(7, dtype=np.float32)[0]).all()
    assert "35 contempt" in matched.notes[0]


def test_a_class_without_images_need_not_be_known():
    dataset = replace(make_dataset(), class_names=(*EMOTIONS, "zeal"))
    assert match_classes(dataset, EMOTIONS).class_names == EMOTIONS


@pytest.mark.parametrize("known_only", [False, True])
def test_a_dataset_of_which_the_model_knows_nothing(known_only):
    with pytest.raises(DatasetError, match="bored, tired"):
        match_classes(with_names("bored", "tired"), EMOTIONS, known_only)


def test_synonyms_lead_to_names_that_lead_to_themselves():
    assert set(SYNONYMS.values()) <= {*EMOTIONS, "contempt"}
    assert all(common_name(name) == name for name in (*EMOTIONS, "contempt", "bored"))
    assert common_name(" Happiness ") == "happy"


def test_fingerprint_changes_with_the_data():
    dataset, other = make_dataset(), make_dataset()
    assert dataset.fingerprint() == other.fingerprint()
    other.images[0, 0, 0] += 1
    assert dataset.fingerprint() != other.fingerprint()


def test_visitors_faces_are_all_learned_from(tmp_path):
    data = make_dataset(validation=0)
    path = write_csv(tmp_path / "fer2013.csv", data)
    feedback = tmp_path / "feedback"
    for name in ("happy", "sad"):
        (feedback / name).mkdir(parents=True)
        (feedback / name / "one.png").write_bytes(encode(data.images[0]))
    alone = read_datasets(TrainingSettings(dataset=(str(tmp_path),), runs=str(tmp_path / "runs")))
    assert len(alone) == len(data)  # the default run learns from the csv beside them
    settings = TrainingSettings(dataset=(str(path), str(feedback)), runs=str(tmp_path / "runs"))
    both = read_datasets(settings)
    assert len(both.split("train")) == len(data.split("train")) + 2
    assert len(both.split("test")) == len(data.split("test"))


def test_visitors_faces_beside_class_folders_are_a_dataset_of_their_own(tmp_path):
    write_folder(tmp_path, make_dataset(train=14, validation=0, test=7))
    (tmp_path / "feedback" / "happy").mkdir(parents=True)
    (tmp_path / "feedback" / "happy" / "one.png").write_bytes(encode(make_dataset().images[0]))
    data = load_dataset(tmp_path)
    assert len(data) == 21
    assert not data.notes
