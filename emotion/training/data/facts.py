"""The facts about a dataset, even one that is too small or too odd to train on; no Keras."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from emotion.training.data.dataset import Dataset
from emotion.training.data.splits import TEST_SPLITS, Leaks, hash_images, remove_leaks

NO_SPLIT = "no split yet"
DARK_MEAN, BRIGHT_MEAN, FLAT_DEVIATION = 15, 240, 5
BLANK_KINDS = ("all black", "all of one grey value", "nearly of one grey value")


@dataclass(frozen=True)
class Sizes:
    """Width and height of the images before they were made 48x48, in pixels."""

    smallest_wh: tuple[int, int]
    largest_wh: tuple[int, int]
    most_common_wh: tuple[int, int]
    most_common_images: int
    kinds: int
    not_square: int


@dataclass(frozen=True)
class People:
    """How many people are known by name, on how many images they are not, who is in two splits."""

    count: int
    images_unknown: int
    in_several_splits: int


@dataclass(frozen=True)
class VoteFacts:
    """Images with and without votes, and the share whose label has the most votes (or a tie)."""

    images: int
    without: int
    agreement: float


@dataclass(frozen=True)
class Inspection:
    """The facts about a dataset.

    Attributes:
        class_names: the classes in output order.
        counts: images of each class, in the order of `class_names`, by split.
        sizes: None where the sizes were not kept.
        people: None where no person is known.
        votes: None without votes.
        odd_images: names of images with nearly nothing to see, by what is odd.
        duplicates: rows of each group of identical images.
        spanning: the groups of `duplicates` with images in training and in a test split.
        conflicting: the groups of `duplicates` with several labels.
        leaked_images: training and validation images that are also in a test split.
        similar_images: the same picture as a test image, but stored or cut otherwise.
        notes: what was left out on purpose, and why.
        unreadable: files or rows that were skipped, each with its reason.
    """

    class_names: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    sizes: Sizes | None
    people: People | None
    votes: VoteFacts | None
    odd_images: dict[str, tuple[str, ...]]
    duplicates: tuple[tuple[int, ...], ...]
    spanning: tuple[tuple[int, ...], ...]
    conflicting: tuple[tuple[int, ...], ...]
    leaked_images: int
    similar_images: int
    notes: tuple[str, ...]
    unreadable: tuple[str, ...]

    @property
    def images(self) -> int:
        """How many images there are."""
        return sum(map(sum, self.counts.values()))

    @property
    def training_counts(self) -> tuple[int, ...]:
        """Images of each class that can be learned from."""
        split = "train" if "train" in self.counts else NO_SPLIT
        return self.counts.get(split, (0,) * len(self.class_names))

    @property
    def imbalance(self) -> float | None:
        """Size of the largest class divided by that of the smallest; None where one is empty."""
        counts = self.training_counts
        return max(counts) / min(counts) if counts and min(counts) else None


def inspect_dataset(dataset: Dataset) -> Inspection:
    """Return the facts about a dataset, even one that is too small or too odd to train on."""
    sizes = people = votes = None
    if dataset.sizes_wh is not None and len(dataset):
        kinds, counts = np.unique(dataset.sizes_wh, axis=0, return_counts=True)
        areas = kinds.astype(np.int64).prod(axis=1)
        chosen = (areas.argmin(), areas.argmax(), counts.argmax())
        smallest, largest, most_common = (tuple(kinds[place].tolist()) for place in chosen)
        not_square = int((dataset.sizes_wh[:, 0] != dataset.sizes_wh[:, 1]).sum())
        sizes = Sizes(smallest, largest, most_common, int(counts.max()), len(kinds), not_square)
    if dataset.groups is not None and (dataset.groups != "").any():
        pairs = set(zip(dataset.groups.tolist(), dataset.splits.tolist(), strict=True))
        splits_of = Counter(person for person, _ in pairs if person)
        several = sum(count > 1 for count in splits_of.values())
        people = People(len(splits_of), int((dataset.groups == "").sum()), several)
    if dataset.votes is not None:
        voted = dataset.votes.sum(axis=1) > 0
        shares, labels = dataset.votes[voted], dataset.labels[voted]
        agreed = shares[np.arange(len(shares)), labels] >= shares.max(axis=1, initial=0)
        agreement = float(agreed.mean()) if len(shares) else 0.0
        votes = VoteFacts(len(shares), int((~voted).sum()), agreement)
    digests = hash_images(dataset.images)
    order = np.argsort(digests, kind="stable")
    starts = np.flatnonzero(digests[order][1:] != digests[order][:-1]) + 1
    groups = sorted(tuple(rows.tolist()) for rows in np.split(order, starts) if len(rows) > 1)
    tested = np.isin(dataset.splits, TEST_SPLITS)
    learned = np.isin(dataset.splits, ("train", "validation"))
    leaks = remove_leaks(dataset)[1] if tested.any() else Leaks(0, 0)
    return Inspection(
        class_names=tuple(dataset.class_names),
        counts=class_counts(dataset),
        sizes=sizes,
        people=people,
        votes=votes,
        odd_images=_odd_images(dataset),
        duplicates=tuple(groups),
        spanning=tuple(g for g in groups if tested[list(g)].any() and learned[list(g)].any()),
        conflicting=tuple(g for g in groups if len(set(dataset.labels[list(g)])) > 1),
        leaked_images=leaks.identical,
        similar_images=leaks.similar,
        notes=tuple(dataset.notes),
        unreadable=tuple(dataset.unreadable),
    )


def class_counts(dataset: Dataset) -> dict[str, tuple[int, ...]]:
    """Return the images of each class by split, training first."""
    names = [*dataset.split_names(), *([""] if (dataset.splits == "").any() else [])]
    classes = len(dataset.class_names)
    labels = {name: dataset.labels[dataset.splits == name] for name in names}
    return {
        name or NO_SPLIT: tuple(np.bincount(those, minlength=classes).tolist())
        for name, those in labels.items()
    }


def _odd_images(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    pixels, sides = dataset.images, (1, 2)
    lowest, highest, mean = pixels.min(sides), pixels.max(sides), pixels.mean(sides)
    masks = (highest == 0, lowest == highest, pixels.std(sides) < FLAT_DEVIATION)
    kinds = dict(zip(BLANK_KINDS, masks, strict=True))
    kinds |= {"very dark": mean < DARK_MEAN, "very bright": mean > BRIGHT_MEAN}
    odd, told = {}, np.zeros(len(dataset), dtype=bool)
    for kind, mask in kinds.items():
        if rows := np.flatnonzero(mask & ~told).tolist():
            odd[kind] = tuple(name_of(dataset, row) for row in rows)
        told |= mask
    return odd


def name_of(dataset: Dataset, row: int) -> str:
    """Return where an image comes from, or its place in the dataset."""
    return f"image {row}" if dataset.names is None else str(dataset.names[row])
