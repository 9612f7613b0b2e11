"""Training, validation and test images that share no picture and, where known, no person."""

import hashlib
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, train_test_split

from emotion.errors import DatasetError
from emotion.text import counted
from emotion.training.data.dataset import IMAGE_SIDE, TEST_SPLITS, Dataset
from emotion.training.settings import TrainingSettings

# Correlation of the pixels above which two images are one picture. Measured: a picture of FER2013
# and its JPEG copy correlate above 0.995; all of the 267 pairs of PublicTest and Training above
# 0.94 are one photograph, cut or stretched otherwise; two different people come to 0.917 in FER2013
# and to 0.926 in CK+, one person with two expressions to 0.981.
SIMILAR = 0.95
SMALL_SIDE = 16
TEST_IMAGES_AT_ONCE = 256
MOST_PARTS = 20
# Among images of known people, as many without one count as a person each. More are divided by
# themselves, which is much faster, but needs a few of each class.
MOST_LIKE_PEOPLE = 1000


@dataclass(frozen=True)
class Leaks:  # how many images stand in two splits; all but the last copy of each was removed
    identical: int  # training and validation images that equal a test image in every pixel
    similar: int  # those that are the same picture as a test image, stored or cut otherwise
    in_validation: int = 0  # training images that are the same picture as a validation image
    kept: bool = False  # they were left where they are, on the user's wish
    copies: str = ""  # a note on pictures that stand in training several times


def make_splits(dataset: Dataset, settings: TrainingSettings) -> tuple[Dataset, Leaks]:
    """Return the dataset split without leaks; DatasetError: too few images, people or classes."""
    pool = "train validation test".split() if settings.fold else ["train"]
    learned = dataset.labels[np.isin(dataset.splits, [*pool, ""])]
    names = [dataset.class_names[label] for label in np.unique(learned)]
    if len(names) < 2:
        raise DatasetError(
            "expected training images of at least two classes; "
            f"received {len(learned)} images of the classes: {', '.join(names) or 'none'}"
        )
    if settings.fold:
        dataset = choose_fold(dataset, settings.folds, settings.fold, settings.seed)
    else:
        dataset = hold_out_test(dataset, settings.test_share, settings.seed)
    left, brings_validation = dataset.split("train").labels, "validation" in dataset.splits
    keep = settings.duplicates == "keep-leaks"
    dataset, leaks = remove_leaks(dataset, keep, settings.validation_share, settings.seed)
    training, missing = dataset.split("train"), {}
    held_out = [] if brings_validation else dataset.split("validation").labels
    for label in np.union1d(dataset.labels, learned):
        if label not in training.labels:
            why = "all of them also stand in another split and were removed from training"
            if label not in learned:
                why = "the data has none outside of its other splits"
            elif label in held_out or label not in left:
                why = "all were drawn for other splits: give more of them, or another --seed"
            missing.setdefault(why, []).append(dataset.class_names[label])
    if missing:
        reasons = "; ".join(f"none of {', '.join(missing[why])} ({why})" for why in missing)
        raise DatasetError(f"expected training images of all classes; received {reasons}")
    pictures, places = np.unique(hash_images(training.images), return_inverse=True)
    if copies := len(training) - len(pictures):
        pairs = np.unique(np.stack([places, training.labels]), axis=1)
        several = np.count_nonzero(np.bincount(pairs[0]) > 1)
        words = "training image is an exact copy", "training images are exact copies"
        note = f"{counted(copies, *words)}; {counted(several, 'picture')} with conflicting labels"
        how = "each picture is learned once, with the mean of its labels"
        how = how if settings.duplicates == "drop" else f"with --duplicates drop, {how}"
        leaks = replace(leaks, copies=f"{note} ({how})")
    return dataset, leaks


def split_lines(dataset: Dataset) -> list[str]:
    """Return how many images and, where file names tell, people each split has, as lines."""
    counts, people = [], []
    for name in dataset.split_names():
        part, title = dataset.split(name), name.replace("_", " ")
        counts.append(f"{len(part):,} {title} ({len(part) / len(dataset):.0%})")
        known = {*part.groups} - {""} if part.groups is not None else set()
        people.append((known, f"{len(known):,} {title}"))
    lines = [f"Images: {', '.join(counts)}; classes: {', '.join(dataset.class_names)}"]
    everyone = Counter(person for known, _ in people for person in known)
    if everyone:
        several = sum(count > 1 for count in everyone.values())
        words = f"{several:,} of them in several splits" if several else "nobody in two splits"
        lines.append(f"People: {', '.join(told for _, told in people)}; {words}")
    return lines


def remove_leaks(
    dataset: Dataset, keep: bool = False, validation_share: float = 0, seed: int = 0
) -> tuple[Dataset, Leaks]:
    """Remove images that also stand in a test split, and training images that also stand in
    validation, unless told to keep them; mark such test images in `twins`.

    Validation images, if asked for, are held out before similar images are removed, so that which
    they are depends on equal pixels and the seed alone.
    """
    dataset = replace(dataset, twins=np.zeros(len(dataset), bool))
    dataset, identical = _leave_out(dataset, TEST_SPLITS, [_find_identical], keep)
    if validation_share:
        dataset = hold_out_validation(dataset, validation_share, seed)
    dataset, similar = _leave_out(dataset, TEST_SPLITS, [_find_similar], keep)
    finds = [_find_identical, _find_similar]
    dataset, in_validation = _leave_out(dataset, ["validation"], finds, keep)
    return dataset, Leaks(identical, similar, in_validation, keep)


def hash_images(images: np.ndarray) -> np.ndarray:
    """Return a digest an image, (N,) S16, equal where every pixel is equal."""
    digests = [hashlib.blake2b(image.tobytes(), digest_size=8).hexdigest() for image in images]
    return np.array(digests, dtype="S16")


def hold_out_validation(dataset: Dataset, share: float, seed: int) -> Dataset:
    """Move a share of the training images to validation, unless the dataset brings such a split.

    Stratified by class; identical images move together, and so do all images of a known person.
    """
    if (dataset.splits == "validation").any():
        return dataset
    return _hold_out(dataset, dataset.splits == "train", "validation", share, seed)


def hold_out_test(dataset: Dataset, share: float, seed: int) -> Dataset:
    """Move a share of the images in no split to "test" and the others to "train".

    Where all are in a split and none in a test split, the share comes from the training images.
    """
    pool = dataset.splits == ""
    if not pool.any():
        if np.isin(dataset.splits, TEST_SPLITS).any():
            return dataset
        pool = dataset.splits == "train"
    splits = np.where(pool, "train", dataset.splits)
    return _hold_out(replace(dataset, splits=splits), pool, "test", share, seed)


def choose_fold(dataset: Dataset, folds: int, fold: int, seed: int) -> Dataset:
    """Cut all images but private_test into `folds` parts, each person and picture in one of them.

    Part `fold`, counted from 1, becomes "test" and the others "train", whatever they were before.
    """
    pool = dataset.splits != "private_test"
    labels, (units, has_person) = dataset.labels[pool], _find_units(dataset.where(pool))
    parts = np.zeros(len(labels), dtype=np.int64)
    for chosen, by_person in ((has_person, True), (~has_person, False)):
        if chosen.any():
            parts[chosen] = _cut(units[chosen], labels[chosen], by_person, folds, seed)
    splits = dataset.splits.astype("U16")
    splits[pool] = np.where(parts == fold - 1, "test", "train")
    return replace(dataset, splits=splits)


def _find_units(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return what must stay together: a number an image, equal for identical images and for one
    person over any number of steps; and whether it is divided with those whose person is known.
    """
    _, units = np.unique(hash_images(dataset.images), return_inverse=True)
    groups = np.zeros(len(dataset), "U1") if dataset.groups is None else dataset.groups
    known = groups != ""
    if not known.any():
        return units, known
    # pictures and people are linked where a person is on a picture; what hangs together is one
    _, people = np.unique(groups[known], return_inverse=True)
    people += units.max() + 1
    size = people.max() + 1
    links = coo_array((np.ones(len(people)), (units[known], people)), (size, size))
    units = connected_components(links, directed=False)[1][units].astype(np.int64)
    has_person = np.isin(units, units[known])
    return units, has_person | (np.count_nonzero(~has_person) <= MOST_LIKE_PEOPLE)


def _hold_out(dataset: Dataset, pool: np.ndarray, name: str, share: float, seed: int) -> Dataset:
    """Return the dataset with a share of the images of `pool` (bool, (N,)) in the split `name`."""
    labels, (units, has_person) = dataset.labels[pool], _find_units(dataset.where(pool))
    held_out = np.zeros(len(labels), dtype=bool)
    if has_person.any():  # all images of a person together
        most = min(MOST_PARTS, len(np.unique(units[has_person])))
        if most < 2:
            raise DatasetError(f"expected two people to hold {share:.0%} out for {name}, not one")
        part = Fraction(share).limit_denominator(most)
        part = np.clip(part, Fraction(1, most), Fraction(most - 1, most))
        parts = _cut(units[has_person], labels[has_person], True, part.denominator, seed)
        held_out[has_person] = parts < part.numerator
    if not has_person.all():  # equal images together
        unique, first = np.unique(units[~has_person], return_index=True)
        classes = labels[~has_person][first]
        try:
            chosen = train_test_split(unique, test_size=share, random_state=seed, stratify=classes)
        except ValueError as error:
            wanted = f"expected more images of each class to hold {share:.0%} out for {name}"
            raise DatasetError(f"{wanted}: {error}") from error
        held_out |= ~has_person & np.isin(units, chosen[1])
    splits = dataset.splits.astype("U16")
    splits[np.flatnonzero(pool)[held_out]] = name
    return replace(dataset, splits=splits)


def _cut(units: np.ndarray, labels: np.ndarray, by_person: bool, folds: int, seed: int):
    """Return the part of each image, from 0 to `folds` - 1, stratified by class."""
    unique, first, place = np.unique(units, return_index=True, return_inverse=True)
    if len(unique) < folds:
        kind = "people" if by_person else "different images"
        raise DatasetError(f"expected {folds} {kind} for {folds} parts; received {len(unique)}")
    cutter = StratifiedGroupKFold if by_person else StratifiedKFold
    labels = labels if by_person else labels[first]
    parts = np.empty(len(labels), dtype=np.int64)
    try:
        with warnings.catch_warnings():
            # A class with fewer images than parts is missing from some of them, which may be.
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            folded = cutter(folds, shuffle=True, random_state=seed).split(
                labels, labels, units if by_person else None
            )
            for part, (_, rows) in enumerate(folded):
                parts[rows] = part
    except ValueError as error:
        wanted = f"expected a class with as many images as parts, {folds}; received fewer of each"
        raise DatasetError(f"{wanted}: give more, or a higher --limit") from error
    return parts if by_person else parts[place]


def _leave_out(dataset: Dataset, tested, finds, keep: bool) -> tuple[Dataset, int]:
    """Return the dataset without the other images that stand in these splits, too, and how many."""
    testing = np.isin(dataset.splits, tested)
    learning = ~np.isin(dataset.splits, (*tested, *TEST_SPLITS))
    leaked, twins = np.any([find(dataset.images, learning, testing) for find in finds], axis=0)
    if tested == TEST_SPLITS:
        dataset = replace(dataset, twins=dataset.twins | twins)
    return dataset.where(keep | ~leaked), int(leaked.sum())


def _find_identical(images: np.ndarray, learned: np.ndarray, tested: np.ndarray):
    """Return which images of either side are on the other side, too: two (N,) bool."""
    digests = hash_images(images)
    leaked = learned & np.isin(digests, digests[tested])
    return leaked, tested & np.isin(digests, digests[leaked])


def _find_similar(images: np.ndarray, learned: np.ndarray, tested: np.ndarray):
    """Return the same of images that are alike, not equal: small copies are compared first, all
    with all, and only the pairs that are alike there pixel by pixel.
    """
    leaked, twins = np.zeros((2, len(images)), dtype=bool)
    step = IMAGE_SIDE // SMALL_SIDE
    squares = images.reshape(len(images), SMALL_SIDE, step, SMALL_SIDE, step)
    small = _standardized(squares.mean(axis=(2, 4), dtype=np.float32).reshape(len(images), -1))
    learned, tested = np.flatnonzero(learned), np.flatnonzero(tested)
    for start in range(0, len(tested), TEST_IMAGES_AT_ONCE):
        block = tested[start : start + TEST_IMAGES_AT_ONCE]
        ours, theirs = np.nonzero(small[block] @ small[learned].T > SIMILAR)
        ours, theirs = block[ours], learned[theirs]
        first, second = (images[rows].reshape(len(rows), IMAGE_SIDE**2) for rows in (ours, theirs))
        correlation = (_standardized(first) * _standardized(second)).sum(axis=1)
        alike = (correlation > SIMILAR) & (first != second).any(axis=1)
        twins[ours[alike]] = True
        leaked[theirs[alike]] = True
    return leaked, twins


def _standardized(rows: np.ndarray) -> np.ndarray:
    """Return rows with mean 0 and length 1, so that a product is a correlation; flat ones are 0."""
    centred = rows - rows.mean(axis=1, keepdims=True, dtype=np.float32)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1)
