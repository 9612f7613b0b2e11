import zipfile

import numpy as np
import pytest
from training_data import encode, make_dataset, write_csv, write_folder, write_zip

from emotion.errors import DatasetError
from emotion.labels import EMOTIONS, FERPLUS_COLUMNS
from emotion.training.datasets import (
    Dataset,
    hash_images,
    hold_out_validation,
    load_dataset,
    remove_leaks,
)


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
    assert loaded.unreadable == ()


def test_private_test_rows_are_a_split_of_their_own(tmp_path):
    dataset = dataset_without_validation()
    splits = dataset.splits.astype("U16")
    splits[-3:] = "private_test"
    dataset = Dataset(dataset.images, dataset.labels, splits, EMOTIONS)
    loaded = load_dataset(write_csv(tmp_path / "fer2013.csv", dataset))
    assert loaded.split_names() == ("train", "test", "private_test")
    assert len(loaded.split("private_test")) == 3


def test_unreadable_files_are_skipped_and_listed(tmp_path):
    root = write_folder(tmp_path, dataset_without_validation())
    (root / "train" / "happy" / "broken.png").write_bytes(b"not an image")
    (root / "train" / "happy" / "notes.txt").write_text("no image at all")
    loaded = load_dataset(root)
    assert len(loaded) == 56
    assert len(loaded.unreadable) == 1
    assert "broken.png" in loaded.unreadable[0]


def test_images_of_other_sizes_and_modes_become_48_grey(tmp_path):
    root = write_folder(tmp_path, dataset_without_validation())
    color = np.zeros((96, 120, 3), np.uint8)
    color[..., 1] = 200
    (root / "train" / "sad" / "large.jpg").write_bytes(encode(color, "JPEG"))
    assert load_dataset(root).images.shape == (57, 48, 48)


def write_text(name: str, content: str):
    return lambda root: (root / name).write_text(content)


def pixels(count: int, value: str = "7") -> str:
    return " ".join([value] * count)


HEADER = "emotion,pixels,Usage\n"
BAD_DATASETS = {
    "missing": (lambda root: None, "absent", "does not exist"),
    "empty folder": (lambda root: (root / "d").mkdir(), "d", "dataset/README.md"),
    "text file": (write_text("d.txt", "x"), "d.txt", "folder, .zip or .csv"),
    "empty csv": (write_text("d.csv", ""), "d.csv", "expected the columns"),
    "header only": (write_text("d.csv", HEADER), "d.csv", "only a header"),
    "wrong column": (write_text("d.csv", "label,pixels,Usage\n0,1,Training\n"), "d.csv", "label"),
    "short row": (
        write_text("d.csv", f"{HEADER}0,{pixels(9)},Training\n"),
        "d.csv",
        "2304 pixels .* row 2 .* received 9 values",
    ),
    "value above 255": (
        write_text("d.csv", f"{HEADER}0,{pixels(2304, '256')},Training\n"),
        "d.csv",
        "between 0 and 255 in row 2",
    ),
    "letters": (
        write_text("d.csv", f"{HEADER}0,{pixels(2304, 'x')},Training\n"),
        "d.csv",
        "between 0 and 255 in row 2",
    ),
    "no pixels": (write_text("d.csv", f"{HEADER}0\n"), "d.csv", "received '0' and None"),
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
    "one class": (
        write_text("d.csv", f"{HEADER}0,{pixels(2304)},Training\n"),
        "d.csv",
        "at least two classes",
    ),
    "not a zip": (write_text("d.zip", "PK but no zip"), "d.zip", "damaged"),
}


@pytest.mark.parametrize("case", BAD_DATASETS, ids=str)
def test_bad_datasets_give_one_sentence(tmp_path, case):
    make, name, message = BAD_DATASETS[case]
    make(tmp_path)
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_zip_with_paths_that_climb_out_writes_nothing(tmp_path):
    path = write_zip(tmp_path / "archive.zip", dataset_without_validation())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../train/happy/evil.png", encode(np.zeros((48, 48), np.uint8)))
    load_dataset(path)
    assert [file.name for file in tmp_path.rglob("*")] == ["archive.zip"]
    assert not list(tmp_path.parent.rglob("evil.png"))


def test_truncated_zip(tmp_path):
    path = write_zip(tmp_path / "archive.zip", dataset_without_validation())
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DatasetError, match="damaged"):
        load_dataset(path)


def write_votes(path, rows: int, columns=None) -> None:
    columns = columns or [*FERPLUS_COLUMNS, "contempt", "unknown", "NF"]
    lines = ["Usage,Image name," + ",".join(columns)]
    for row in range(rows):
        counts = [10 if column == row % len(columns) else 0 for column in range(len(columns))]
        lines.append("Training,x.png," + ",".join(map(str, counts)))
    path.write_text("\n".join(lines) + "\n")


def test_votes_become_shares_of_the_seven_classes(tmp_path):
    csv_path = write_csv(tmp_path / "fer2013.csv", dataset_without_validation())
    write_votes(tmp_path / "fer2013new.csv", 60)
    votes = load_dataset(csv_path, tmp_path / "fer2013new.csv").votes
    assert votes.shape == (56, 7)
    for row, name in enumerate(FERPLUS_COLUMNS.values()):
        assert votes[row].argmax() == EMOTIONS.index(name)
        assert votes[row].sum() == 1
    assert (votes[7:10] == 0).all(), "contempt, unknown and not-a-face belong to no class"


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [(10, None, "votes for 56 images"), (60, ["neutral", "happiness"], "surprise")],
)
def test_votes_that_do_not_fit(tmp_path, rows, columns, message):
    csv_path = write_csv(tmp_path / "fer2013.csv", dataset_without_validation())
    write_votes(tmp_path / "votes.csv", rows, columns)
    with pytest.raises(DatasetError, match=message):
        load_dataset(csv_path, tmp_path / "votes.csv")


def test_votes_need_the_csv(tmp_path):
    with pytest.raises(DatasetError, match="row by row"):
        load_dataset(write_folder(tmp_path, dataset_without_validation()), tmp_path / "votes.csv")


def test_leaks_leave_training_and_never_the_test_split():
    dataset = dataset_without_validation()
    dataset.images[3] = dataset.images[-1]
    clean, removed = remove_leaks(dataset)
    assert removed == 1
    assert len(clean.split("test")) == 14
    training, testing = (hash_images(clean.split(name).images) for name in ("train", "test"))
    assert not np.isin(training, testing).any()


@pytest.mark.parametrize("seed", range(5))
def test_validation_is_stratified_and_shares_no_image(seed):
    dataset = make_dataset(train=140, validation=0, test=7)
    dataset.images[7:70:7] = dataset.images[0]  # one image eleven times
    split = hold_out_validation(dataset, 0.2, seed)
    training, validation = split.split("train"), split.split("validation")
    assert not np.isin(hash_images(training.images), hash_images(validation.images)).any()
    assert len(training) + len(validation) == 140
    assert (np.bincount(validation.labels, minlength=7) > 0).all()
    assert len(split.split("test")) == 7


def test_validation_depends_on_the_seed_alone():
    dataset = make_dataset(validation=0)
    splits = [hold_out_validation(dataset, 0.2, seed).splits for seed in (1, 1, 2)]
    assert (splits[0] == splits[1]).all()
    assert (splits[0] != splits[2]).any()


def test_a_validation_split_of_its_own_is_kept(tmp_path):
    loaded = load_dataset(write_folder(tmp_path, make_dataset()))
    assert len(hold_out_validation(loaded, 0.5, 1).split("validation")) == 35


def test_too_few_images_to_hold_out():
    with pytest.raises(DatasetError, match="hold 10% out"):
        hold_out_validation(make_dataset(train=7, validation=0), 0.1, 1)


def test_fingerprint_changes_with_the_data():
    dataset, other = make_dataset(), make_dataset()
    assert dataset.fingerprint() == other.fingerprint()
    other.images[0, 0, 0] += 1
    assert dataset.fingerprint() != other.fingerprint()
