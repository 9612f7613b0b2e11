from dataclasses import replace

import numpy as np
import pytest
from training_data import make_dataset, write_csv, write_votes

from emotion.errors import DatasetError
from emotion.labels import EMOTIONS
from emotion.training.data.layouts import read_layout
from emotion.training.data.votes import VOTE_COLUMNS, apply_votes, with_majority_labels

CLASSES = ("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear", "contempt")
EIGHT = tuple(sorted((*EMOTIONS, "contempt")))


def votes(text: str) -> list[int]:
    """Return a row of ten votes: "happiness 6 NF 4"."""
    words = text.split()
    counts = dict(zip(words[::2], map(int, words[1::2]), strict=True))
    return [counts.pop(name, 0) for name in VOTE_COLUMNS] + list(counts.values())


@pytest.fixture
def read(tmp_path):
    """Return a function from votes, a line a row, to the dataset that has them."""

    def read(lines: list[str], split: str = "train", **options):
        count = len(lines) + 2
        dataset = make_dataset(train=count, validation=0, test=0)
        dataset = replace(dataset, splits=np.array([split] * len(lines) + ["train"] * 2))
        usages = {"train": "Training", "test": "PublicTest", "private_test": "PrivateTest"}
        path = write_csv(tmp_path / "fer2013.csv", dataset)
        lines = [*lines, "anger 10", "fear 10"]
        table = write_votes(
            tmp_path / "fer2013new.csv",
            [usages[name] for name in dataset.splits],
            [votes(line) for line in lines],
        )
        return apply_votes(read_layout(path), table, **options)

    return read


def as_words(dataset, row: int = 0) -> dict[str, float]:
    """Return the soft target of a row as {class: share}."""
    shares = zip(dataset.class_names, dataset.votes[row], strict=True)
    return {name: round(float(share), 3) for name, share in shares if share}


def test_columns_stand_for_the_classes_of_the_paper():
    assert VOTE_COLUMNS[7:] == ("contempt", "unknown", "NF")
    assert len(VOTE_COLUMNS) == 10


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("happiness 10", {"happy": 1}),
        ("happiness 5 sadness 5", {"happy": 0.5, "sad": 0.5}),
        ("happiness 1 anger 3", {"happy": 0.25, "angry": 0.75}),
        ("happiness 5 unknown 5", {"happy": 1}),
        ("contempt 5 neutral 5", {"neutral": 1}),
        ("contempt 4 unknown 3 NF 3", {}),
    ],
)
def test_second_head_learns_the_shares_beside_the_label(read, line, expected):
    dataset = read([line])
    assert as_words(dataset) == expected
    assert dataset.labels[:3].tolist() == [0, 1, 2]
    assert dataset.notes == ()


def test_second_head_with_contempt(read):
    dataset = read(["contempt 5 neutral 5"], contempt=True)
    assert dataset.class_names == EIGHT
    assert as_words(dataset) == {"contempt": 0.5, "neutral": 0.5}
    assert [EIGHT[label] for label in dataset.labels] == list(EMOTIONS[:3])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("happiness 10", "happy"),
        ("happiness 6 sadness 4", "happy"),
        ("happiness 5 sadness 5", None),
        ("happiness 4 sadness 2 fear 1 anger 1 disgust 1 surprise 1", "happy"),
        ("happiness 1 sadness 1 fear 1 anger 1 disgust 1 surprise 1", None),
        ("happiness 4 NF 6", None),
        ("happiness 4 unknown 6", None),
        ("contempt 8 neutral 2", None),
        ("fear 9 unknown 1", "fear"),
    ],
)
def test_majority_takes_the_label_of_more_than_half(read, line, expected):
    dataset = read([line], votes_as="majority")
    labels = [EMOTIONS[label] for label in dataset.labels]
    assert labels == [*([expected] if expected else []), "angry", "fear"]
    assert dataset.votes is None


def test_majority_tells_what_it_removed(read):
    lines = ["happiness 5 sadness 5", "NF 10", "NF 9 anger 1", "unknown 8 fear 2", "contempt 10"]
    dataset = read(lines, votes_as="majority")
    assert dataset.notes == (
        "FER+ majority: removed 5 of 7 rows (1 contempt, 1 no agreement, 2 not a face, 1 unknown)",
    )
    assert dataset.names.tolist() == ["fer2013.csv row 7", "fer2013.csv row 8"]


def test_majority_with_contempt(read):
    dataset = read(["contempt 8 neutral 2"], votes_as="majority", contempt=True)
    assert [EIGHT[label] for label in dataset.labels] == ["contempt", "angry", "fear"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("happiness 10", {"happy": 1}),
        ("happiness 8 sadness 2", {"happy": 1}),
        ("happiness 6 sadness 4", {"happy": 0.6, "sad": 0.4}),
        ("happiness 5 sadness 3 fear 2", {"happy": 0.625, "sad": 0.375}),
        ("happiness 4 sadness 3 fear 3", {"happy": 0.4, "sad": 0.3, "fear": 0.3}),
        ("happiness 6 sadness 3 fear 1", {"happy": 0.667, "sad": 0.333}),
        ("happiness 4 sadness 2 fear 2 anger 2", None),
        ("happiness 6 unknown 4", {"happy": 1}),
        ("happiness 4 unknown 4 sadness 2", None),
        ("happiness 3 sadness 3 NF 2 unknown 2", {"happy": 0.5, "sad": 0.5}),
        ("NF 6 happiness 4", None),
        ("contempt 6 neutral 4", None),
        ("neutral 6 contempt 4", {"neutral": 1}),
    ],
)
def test_distribution_is_that_of_the_published_code(read, line, expected):
    dataset = read([line], votes_as="distribution")
    assert len(dataset) == (3 if expected else 2)
    if expected:
        assert as_words(dataset) == expected
        assert EMOTIONS[dataset.labels[0]] == max(expected, key=expected.get)


def test_distribution_with_contempt(read):
    dataset = read(["contempt 6 neutral 4"], votes_as="distribution", contempt=True)
    assert as_words(dataset) == {"contempt": 0.6, "neutral": 0.4}
    assert EIGHT[dataset.labels[0]] == "contempt"


@pytest.mark.parametrize(("split", "kept"), [("train", 3), ("test", 2), ("private_test", 2)])
def test_distribution_tests_on_rows_with_a_majority(read, split, kept):
    assert len(read(["happiness 5 sadness 5"], split, votes_as="distribution")) == kept


@pytest.mark.parametrize("line", ["happiness 5 anger 5", "happiness 9 fear 1", "NF 10"])
def test_blend_holds_the_same_as_second_head(read, line):
    """The shares are mixed with the label where the targets are made, not here."""
    second_head, blend = read([line]), read([line], votes_as="blend")
    np.testing.assert_array_equal(second_head.votes, blend.votes)
    np.testing.assert_array_equal(second_head.labels, blend.labels)


def test_votes_stay_with_their_rows_where_some_are_bad(tmp_path):
    path = write_csv(tmp_path / "fer2013.csv", make_dataset(21, 0, 0))
    lines = path.read_text().splitlines()
    lines[2] = "0,1 2 3,Training"
    path.write_text("\n".join(lines))
    counts = [[0] * 10 for _ in range(30)]
    for row in range(30):
        counts[row][row % 7] = 10
    table = write_votes(tmp_path / "votes.csv", ["Training"] * 30, counts)
    dataset = apply_votes(read_layout(path), table)
    expected = [CLASSES[row % 7] for row in range(21) if row != 1]
    assert [dataset.class_names[place] for place in dataset.votes.argmax(axis=1)] == expected


def bad_votes(usages=("Training",) * 3, rows=3, column="", value=""):
    def write(path):
        counts = [[1] * 10 for _ in range(rows)]
        write_votes(path, list(usages[:rows]), counts)
        text = path.read_text()
        if column:
            text = text.replace(column, "other")
        if value:
            text = text.replace("fer.png,1", f"fer.png,{value}")
        path.write_text(text)

    return write


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (bad_votes(rows=2), "votes for 3 rows; .* has 2"),
        (bad_votes(("Training", "PublicTest", "Training")), "row 3 has the Usage Training there"),
        (bad_votes(column="surprise"), "without surprise"),
        (bad_votes(column="Usage"), "without Usage"),
        (bad_votes(value="many"), "row 2 of .* has something else"),
        (lambda path: path.write_text(""), "without Usage, neutral"),
        (lambda path: None, "cannot be read"),
        (lambda path: path.write_bytes(b"\0\xff" * 99), "cannot be read|without Usage"),
    ],
    ids="short other-rows column usage letters empty missing binary".split(),
)
def test_votes_that_do_not_fit(tmp_path, write, message):
    write(tmp_path / "votes.csv")
    path = write_csv(tmp_path / "fer2013.csv", make_dataset(3, 0, 0))
    with pytest.raises(DatasetError, match=message) as caught:
        apply_votes(read_layout(path), tmp_path / "votes.csv")
    assert "\n" not in str(caught.value)


def test_votes_without_any_agreement(tmp_path):
    path = write_csv(tmp_path / "fer2013.csv", make_dataset(3, 0, 0))
    table = write_votes(tmp_path / "votes.csv", ["Training"] * 3, [votes("NF 10")] * 3)
    with pytest.raises(DatasetError, match="people agree"):
        apply_votes(read_layout(path), table, votes_as="majority")


@pytest.mark.parametrize(("shift", "doubted"), [(0, False), (1, True)])
def test_votes_that_seldom_agree_with_the_labels_are_doubted(tmp_path, shift, doubted):
    dataset = make_dataset(140, 0, 0)
    path = write_csv(tmp_path / "fer2013.csv", dataset)
    columns = [CLASSES.index(EMOTIONS[(label + shift) % 7]) for label in dataset.labels]
    counts = [[10 if column == place else 0 for column in range(10)] for place in columns]
    table = write_votes(tmp_path / "votes.csv", ["Training"] * 140, counts)
    notes = apply_votes(read_layout(path), table).notes
    assert any("Only 0% of the labels" in note for note in notes) == doubted


def test_majority_labels_on_splits_made_before(read, tmp_path):
    lines = ["sadness 6 NF 4", "happiness 5 anger 5", "NF 10", "contempt 9 anger 1", "surprise 8"]
    dataset = read(lines)
    labelled = with_majority_labels(dataset, tmp_path / "fer2013new.csv")
    assert [EMOTIONS[label] for label in labelled.labels] == ["sad", "surprise", "angry", "fear"]
    assert labelled.names.tolist() == [dataset.names[row] for row in (0, 4, 5, 6)]
    np.testing.assert_array_equal(labelled.votes, dataset.votes[[0, 4, 5, 6]])
    assert labelled.notes[-1] == "FER+ majority: left out 3 of 7 images"


def test_majority_labels_leave_images_of_other_datasets_alone(read, tmp_path):
    dataset = read(["sadness 10"])
    names = dataset.names.copy()
    names[0] = "CK+48.zip/happy/S005_001_00000011.png"
    labelled = with_majority_labels(replace(dataset, names=names), tmp_path / "fer2013new.csv")
    assert labelled.labels[0] == dataset.labels[0] != EMOTIONS.index("sad")


def test_majority_labels_of_another_csv(read, tmp_path):
    dataset = read(["sadness 10"])
    short = write_votes(tmp_path / "short.csv", ["Training"], [votes("anger 10")])
    with pytest.raises(DatasetError, match=r"expected votes for 3 rows; .*short.csv has 1"):
        with_majority_labels(dataset, short)
