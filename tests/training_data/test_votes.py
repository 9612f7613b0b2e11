from dataclasses import replace

import numpy as np
import pytest
from training_data import make_dataset, write_csv, write_votes

from emotion.errors import DatasetError
from emotion.labels import EMOTIONS, FERPLUS_COLUMNS
from emotion.training.data.layouts import read_layout
from emotion.training.data.votes import (
    VOTE_COLUMNS,
    apply_votes,
    with_all_votes,
    with_majority_labels,
)

USAGES = {"train": "Training", "test": "PublicTest", "private_test": "PrivateTest"}


def votes(text: str) -> list[int]:
    """Return a row of ten votes: "happiness 6 NF 4"."""
    words = text.split()
    return [int(words[words.index(name) + 1]) if name in words else 0 for name in VOTE_COLUMNS]


@pytest.fixture
def read(tmp_path):
    """Return a function from votes, a line a row, to the dataset that has them and two more."""

    def read(lines, split: str = "train", **options):
        lines = [*lines, "anger 10", "fear 10"]
        splits = [split] * (len(lines) - 2) + ["train"] * 2
        dataset = replace(make_dataset(len(lines), 0, 0), splits=np.array(splits))
        path = write_csv(tmp_path / "fer2013.csv", dataset)
        usages = [USAGES[name] for name in splits]
        table = write_votes(tmp_path / "fer2013new.csv", usages, [votes(line) for line in lines])
        return apply_votes(read_layout(path), table, **options)

    return read


def as_words(dataset, row: int = 0) -> dict[str, float]:
    shares = zip(dataset.class_names, dataset.votes[row], strict=True)
    return {name: round(float(share), 3) for name, share in shares if share}


BESIDE = {
    "happiness 1 anger 3": {"happy": 0.25, "angry": 0.75},
    "happiness 5 unknown 5": {"happy": 1},
    "contempt 5 neutral 5": {"neutral": 1},
    "contempt 4 unknown 3 NF 3": {},
}


def test_shares_beside_the_label(read):
    dataset = read(BESIDE, votes_as="blend")  # mixed where the targets are made, not here
    assert [as_words(dataset, row) for row in range(len(BESIDE))] == list(BESIDE.values())
    assert dataset.labels.tolist() == list(range(6))
    assert (dataset.votes.dtype, dataset.notes) == (np.float32, ())


MAJORITIES = {
    "happiness 6 sadness 4": "happy",
    "happiness 5 sadness 5": None,
    "happiness 4 sadness 2 fear 1 anger 1 disgust 1 surprise 1": "happy",
    "happiness 1 sadness 1 fear 1 anger 1 disgust 1 surprise 1": None,
    "happiness 4 unknown 6": None,
    "contempt 8 neutral 2": None,
    "fear 9 unknown 1": "fear",
    "NF 9 anger 1": None,
}


def test_majority_takes_the_label_of_more_than_half(read):
    dataset = read(MAJORITIES, votes_as="majority")
    expected = [name for name in MAJORITIES.values() if name]
    assert [EMOTIONS[label] for label in dataset.labels] == [*expected, "angry", "fear"]
    assert dataset.votes is None
    reasons = "1 contempt, 2 no agreement, 1 not a face, 1 unknown"
    assert f"5 of 10 rows ({reasons})" in dataset.notes[0]
    assert dataset.names[1] == "fer2013.csv row 4"


DISTRIBUTIONS = {
    "happiness 8 sadness 2": {"happy": 1},
    "happiness 5 sadness 3 fear 2": {"happy": 0.625, "sad": 0.375},
    "happiness 4 sadness 3 fear 3": {"happy": 0.4, "sad": 0.3, "fear": 0.3},
    "happiness 6 sadness 3 fear 1": {"happy": 0.667, "sad": 0.333},
    "happiness 4 sadness 2 fear 2 anger 2": None,
    "happiness 6 unknown 4": {"happy": 1},
    "happiness 4 unknown 4 sadness 2": None,
    "happiness 3 sadness 3 NF 2 unknown 2": {"happy": 0.5, "sad": 0.5},
    "NF 6 happiness 4": None,
    "contempt 6 neutral 4": None,
    "neutral 6 contempt 4": {"neutral": 1},
}


def test_distribution_is_that_of_the_published_code(read):
    dataset = read(DISTRIBUTIONS, votes_as="distribution")
    expected = [shares for shares in DISTRIBUTIONS.values() if shares]
    assert [as_words(dataset, row) for row in range(len(dataset) - 2)] == expected
    for label, shares in zip(dataset.labels, expected, strict=False):
        assert EMOTIONS[label] == max(shares, key=shares.get)
    for split, kept in (("train", 3), ("test", 2), ("private_test", 2)):  # tests need a majority
        assert len(read(["happiness 5 sadness 5"], split, votes_as="distribution")) == kept


def test_contempt_as_an_eighth_class(read):
    labels = {"second-head": "angry", "majority": "contempt", "distribution": "contempt"}
    for votes_as, label in labels.items():
        dataset = read(["contempt 6 neutral 4"], votes_as=votes_as, contempt=True)
        assert dataset.class_names == tuple(sorted((*EMOTIONS, "contempt")))
        assert dataset.class_names[dataset.labels[0]] == label
        if votes_as != "majority":
            assert as_words(dataset) == {"contempt": 0.6, "neutral": 0.4}


def test_votes_stay_with_their_rows_where_some_are_bad(tmp_path):
    path = write_csv(tmp_path / "fer2013.csv", make_dataset(21, 0, 0))
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], "0,1 2 3,Training", *lines[3:]]))
    counts = np.eye(10, dtype=int)[np.arange(30) % 7] * 10
    table = write_votes(tmp_path / "votes.csv", ["Training"] * 30, counts.tolist())
    dataset = apply_votes(read_layout(path), table)
    classes = list(FERPLUS_COLUMNS.values())
    expected = [classes[row % 7] for row in range(21) if row != 1]
    assert [dataset.class_names[place] for place in dataset.votes.argmax(axis=1)] == expected


ROW = f",fer.png,{','.join(['1'] * 10)}\n"
HEAD = f"Usage,Image name,{','.join(VOTE_COLUMNS)}\n"
BAD_VOTES = {  # the votes for three rows, and what the sentence names
    "short": (HEAD + f"Training{ROW}" * 2, "3 rows; .* has 2"),
    "other rows": (f"{HEAD}Training{ROW}PublicTest{ROW}x{ROW}", "row 3, train .* PublicTest"),
    "column": (HEAD.replace("surprise", "surprised") + f"Training{ROW}" * 3, "without surprise"),
    "letters": (f"{HEAD}Training{ROW}".replace("1,", "many,", 1), "row 2 of "),
    "binary": ("\0\x07" * 99, "cannot be read|without Usage"),
    "missing": (None, "cannot be read"),
    "none": (HEAD + f"Training{ROW}" * 3, "agree"),
}


@pytest.mark.parametrize("case", BAD_VOTES, ids=str)
def test_votes_that_do_not_fit(tmp_path, case):
    content, message = BAD_VOTES[case]
    if content is not None:
        (tmp_path / "votes.csv").write_text(content)
    path = write_csv(tmp_path / "fer2013.csv", make_dataset(3, 0, 0))
    with pytest.raises(DatasetError, match=f"^.*({message}).*$"):
        apply_votes(read_layout(path), tmp_path / "votes.csv", votes_as="majority")


def test_votes_that_seldom_agree_with_the_labels_are_doubted(read):
    places = {name: column for column, name in FERPLUS_COLUMNS.items()}
    for shift in (0, 1):
        lines = [f"{places[EMOTIONS[(row + shift) % 7]]} 10" for row in range(140)]
        assert len(read(lines).notes) == shift


def test_majority_labels_on_splits_made_before(read, tmp_path):
    lines = ["sadness 6 NF 4", "happiness 5 anger 5", "NF 10", "contempt 9 anger 1", "surprise 8"]
    dataset = read([*lines, "sadness 10"])
    dataset = replace(dataset, names=dataset.names.astype("U40"))
    dataset.names[5] = "CK+48.zip/happy/S005_001_00000011.png"  # of another dataset
    labelled = with_majority_labels(dataset, tmp_path / "fer2013new.csv")
    expected = ["sad", "surprise", EMOTIONS[dataset.labels[5]], "angry", "fear"]
    assert [EMOTIONS[label] for label in labelled.labels] == expected
    kept = [0, 4, 5, 6, 7]
    assert labelled.names.tolist() == dataset.names[kept].tolist()
    np.testing.assert_array_equal(labelled.votes, dataset.votes[kept])
    assert "3 of 8" in labelled.notes[-1]
    everyone = with_all_votes(dataset, tmp_path / "fer2013new.csv")
    assert everyone.names.tolist() == dataset.names[[0, 1, 3, 4, 6, 7]].tolist()
    expected = [{"sad": 0.6}, {"angry": 0.5, "happy": 0.5}, {"angry": 0.1}, {"surprise": 1}]
    assert [as_words(everyone, row) for row in range(4)] == expected
