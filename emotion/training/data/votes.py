"""FER+: the votes of ten people for each row of fer2013.csv, and what is learned from them.

The rules are those of Barsoum, Zhang, Ferrer and Zhang 2016, "Training deep networks for facial
expression recognition with crowd-sourced label distribution" (arXiv:1608.01041), and of their code
(github.com/microsoft/FERPlus, src/ferplus.py): a single vote for a class counts as none; nothing is
learned from "unknown" and "not a face". `Dataset.votes` afterwards:

second-head, blend  the share of the votes for each class, beside FER2013's label; zeros where there
                    is no vote for one of the classes. No row is removed.
majority            None: the label is the class with more than half of the votes, other rows go.
distribution        what the paper's cross-entropy mode learns from; the label is its highest class.
                    Test rows also need a majority, as in the published code.
"""

import csv
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from emotion.errors import DatasetError
from emotion.labels import CONTEMPT, FERPLUS_COLUMNS
from emotion.training.data.dataset import TEST_SPLITS, Dataset
from emotion.training.data.layouts import CSV_SPLITS

VOTE_COLUMNS = (*FERPLUS_COLUMNS, CONTEMPT, "unknown", "NF")  # in the order of fer2013new.csv
CLASSES = [*FERPLUS_COLUMNS.values(), CONTEMPT, "unknown", "not a face"]  # of these columns
UNKNOWN = CLASSES.index("unknown")  # nothing is learned from this column and what follows
CSV_ROW = re.compile(r" row (\d+)$")  # how the name of an image ends that came from a csv

LEAST_VOTES = 2
MAJORITY = 0.5
ENOUGH = 0.75
MOST_CLASSES = 3
EXPECTED_AGREEMENT = 0.64  # share of the rows whose label most people chose, measured
LEAST_AGREEMENT = 0.4
FEWEST_ROWS_TO_JUDGE = 100


def apply_votes(
    dataset: Dataset, path: Path, votes_as: str = "second-head", contempt: bool = False
) -> Dataset:
    """Return a dataset that `read_layout` read from fer2013.csv with what people voted.

    `path` is fer2013new.csv, row for row beside the csv; more rows may follow. Without `contempt`
    as an eighth class its share is left out, and in "majority" and "distribution" the rows where it
    comes first. Raises DatasetError where the votes do not belong to these rows.
    """
    rows = csv_rows(dataset.names)
    usages, counts = _read_votes(path, rows)
    for row, usage, split in zip(rows + 2, usages, dataset.splits, strict=True):
        if CSV_SPLITS.get(usage) != split:
            received = f"row {row}, {split} in the csv, is {usage} in {path}"
            raise DatasetError(f"expected votes row for row beside the csv; {received}")
    shares = _by_class(counts, dataset.class_names)
    agreed = (shares.argmax(axis=1) == dataset.labels)[shares.any(axis=1)]
    if len(agreed) >= FEWEST_ROWS_TO_JUDGE and agreed.mean() < LEAST_AGREEMENT:
        dataset = dataset.noting(
            f"Only {agreed.mean():.0%} of the labels are what most people voted, where "
            f"{EXPECTED_AGREEMENT:.0%} are usual: do the votes belong to this csv?"
        )
    if contempt:
        names = tuple(sorted({*dataset.class_names, CONTEMPT}))
        places = np.array([names.index(name) for name in dataset.class_names])
        dataset = replace(dataset, class_names=names, labels=places[dataset.labels])
    if votes_as not in ("majority", "distribution"):
        return replace(dataset, votes=as_shares(_by_class(counts, dataset.class_names)))
    chosen = majority = _majority(counts)
    if votes_as == "distribution":
        unique, place = np.unique(counts, axis=0, return_inverse=True)  # many rows are equal
        chosen = np.array([_distribution(row) for row in unique])[place]
        chosen[np.isin(dataset.splits, TEST_SPLITS) & ~majority.any(axis=1)] = 0
    reasons = np.array(CLASSES)[chosen.argmax(axis=1)]
    reasons = np.where(chosen.any(axis=1), reasons, "no agreement")
    keep = np.isin(reasons, dataset.class_names)
    if not keep.any():
        raise DatasetError("expected votes in which people agree; received none in any row")
    removed = sorted(Counter(reasons[~keep].tolist()).items())
    listed = ", ".join(f"{count:,} {reason}" for reason, count in removed) or "none"
    note = f"FER+ {votes_as}: removed {np.count_nonzero(~keep):,} of {len(keep):,} rows ({listed})"
    votes = as_shares(_by_class(chosen[keep], dataset.class_names))
    kept = replace(dataset.where(keep), votes=None if votes_as == "majority" else votes)
    return replace(kept, labels=votes.argmax(axis=1).astype(np.int64)).noting(note)


def with_majority_labels(dataset: Dataset, path: Path) -> Dataset:
    """Return a dataset, read as "second-head", labelled as in "majority"; its votes stay.

    Rows without a majority go; images of other datasets than fer2013.csv keep their labels.
    """
    rows = csv_rows(dataset.names)
    voted = rows >= 0
    _, counts = _read_votes(path, rows[voted])
    majority = _by_class(_majority(counts), dataset.class_names)
    labels, keep = dataset.labels.copy(), np.ones(len(dataset), bool)
    labels[voted], keep[voted] = majority.argmax(axis=1), majority.any(axis=1)
    note = f"FER+ majority: left out {np.count_nonzero(~keep):,} of {len(dataset):,} images"
    return replace(dataset, labels=labels).where(keep).noting(note)


def with_all_votes(dataset: Dataset, path: Path) -> Dataset:
    """Return the images that somebody named a class for; `votes` are shares of all ten people."""
    rows = csv_rows(dataset.names)
    voted = rows >= 0
    _, counts = _read_votes(path, rows[voted])
    shares = _by_class(counts, dataset.class_names) / counts.sum(axis=1, keepdims=True).clip(1)
    return replace(dataset.where(voted), votes=shares).where(shares.any(axis=1))


def as_shares(counts: np.ndarray) -> np.ndarray:
    """Return votes as shares, float32; a row of zeros stays one."""
    votes = counts.astype(np.float32)
    totals = votes.sum(axis=1, keepdims=True)
    return np.divide(votes, totals, out=np.zeros_like(votes), where=totals > 0)


def ferplus_names(path: Path, names: np.ndarray) -> list[str]:
    """Return what FER+ calls the images (fer0032220.png); those of other datasets as they are."""
    with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        images = [row.get("Image name") for row in csv.DictReader(file)]
    pairs = zip(names.tolist(), csv_rows(names).tolist(), strict=True)
    return [(images[row] if row >= 0 else None) or name for name, row in pairs]


def csv_rows(names: np.ndarray) -> np.ndarray:
    """Return which row of pixels each image of a csv was, (N,) from 0; -1: it is from no csv."""
    found = (CSV_ROW.search(name) for name in names)
    return np.array([int(row[1]) - 2 if row else -1 for row in found], dtype=np.int64)


def _read_votes(path: Path, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Usage and votes, (N, 10) int64, of these rows."""
    usages, counts = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            if missing := [name for name in ("Usage", *VOTE_COLUMNS) if name not in columns]:
                raise DatasetError(f"expected votes; {path} is without {', '.join(missing)}")
            for row in reader:
                usages.append(row["Usage"])
                counts.append([int(row[name]) for name in VOTE_COLUMNS])
    except (OSError, csv.Error, TypeError, ValueError) as error:
        row = f"row {len(usages) + 1} of {path}"
        raise DatasetError(f"expected numbers of votes; {row} cannot be read: {error}") from error
    if (needed := rows.max(initial=-1) + 1) > len(counts):
        received = f"{path} has {len(counts)}: it belongs to another csv"
        raise DatasetError(f"expected votes for {needed} rows; {received}")
    return np.array(usages)[rows], np.array(counts, np.int64)[rows]


def _majority(counts: np.ndarray) -> np.ndarray:
    """Return the votes of the class that has more than half of a row's, else zeros, (N, 10)."""
    counts = np.where(counts >= LEAST_VOTES, counts, 0)
    return np.where(counts > MAJORITY * counts.sum(axis=1, keepdims=True), counts, 0)


def _distribution(counts: np.ndarray) -> np.ndarray:
    """Return the votes that the paper's cross-entropy mode keeps, (10,); zeros: no agreement.

    The highest classes, equal ones together, are taken until they hold three quarters of the votes,
    or until "unknown" or "not a face". They must be three or fewer, with more than half of them.
    """
    counts = np.where(counts >= LEAST_VOTES, counts, 0)
    chosen = np.zeros_like(counts)
    while counts.any() and chosen.sum() < ENOUGH * counts.sum():
        if np.count_nonzero(chosen) >= MOST_CLASSES:
            break
        left = counts - chosen
        chosen = np.where(left == left.max(), counts, chosen)
        if chosen[UNKNOWN:].any():
            chosen[UNKNOWN:] *= chosen[:UNKNOWN].sum() == 0
            break
    agreed = chosen.sum() > MAJORITY * counts.sum() and np.count_nonzero(chosen) <= MOST_CLASSES
    return chosen if agreed else np.zeros_like(counts)


def _by_class(counts: np.ndarray, class_names: tuple[str, ...]) -> np.ndarray:
    return counts[:, [CLASSES.index(name) for name in class_names]]
