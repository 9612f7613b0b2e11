"""The one door to labelled faces: paths and settings in, one `Dataset` out; see also `make_splits`.

`layouts` reads what lies on the disk, `cache` keeps it, `votes` adds what people voted, `splits`
tells training, validation and test images apart.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from emotion.errors import DatasetError
from emotion.labels import common_name
from emotion.training.data.cache import read_cached
from emotion.training.data.dataset import Dataset, Progress
from emotion.training.data.layouts import FEEDBACK_FOLDER, read_layout, resolve_dataset
from emotion.training.data.splits import (
    Leaks,
    choose_fold,
    hash_images,
    hold_out_test,
    hold_out_validation,
    make_splits,
    remove_leaks,
)
from emotion.training.data.votes import apply_votes
from emotion.training.settings import TrainingSettings

__all__ = (
    "Dataset",
    "Leaks",
    "choose_fold",
    "hash_images",
    "hold_out_test",
    "hold_out_validation",
    "load_dataset",
    "make_splits",
    "match_classes",
    "read_datasets",
    "remove_leaks",
)


def load_dataset(
    path: Path,
    votes: Path | None = None,
    *,
    votes_as: str = "second-head",
    contempt: bool = False,
    crop_faces: bool = False,
    subject_pattern: str = "",
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Read one dataset: a folder, a .zip of one, or fer2013.csv.

    Args:
        path: a folder of `<split>/<class>/<image>` or of `<class>/<image>`, a .zip of such a
            folder, or a csv with the columns emotion, pixels and Usage (Goodfellow et al. 2013,
            "Challenges in representation learning"). A folder that holds just one zip or csv
            stands for it.
        votes: fer2013new.csv (Barsoum et al. 2016), row for row beside the csv.
        votes_as: what the votes become, see `emotion.training.data.votes`.
        contempt: keep contempt, which only the votes know, as an eighth class.
        crop_faces: find the face in each image and crop it as the app does.
        subject_pattern: regular expression for the person in a file name.
        cache: the folder in which decoded images are kept; None keeps none.
        progress: called now and then with the images done and the images there are.

    Raises:
        DatasetError: the path is missing, damaged, empty or not laid out as expected.
    """
    path = resolve_dataset(Path(path))
    if votes is not None and path.suffix.lower() != ".csv":
        raise DatasetError(
            f"votes belong row by row to fer2013.csv; the dataset received is {path.name}"
        )
    if votes is None and contempt:
        raise DatasetError(
            f"expected the votes of fer2013new.csv to take contempt from; received {path.name} "
            "alone: give --votes too"
        )
    options = {"crop_faces": crop_faces, "subject_pattern": subject_pattern}
    dataset = read_cached(
        cache, path, options, lambda: read_layout(path, **options, progress=progress)
    )
    if votes is not None:
        dataset = apply_votes(dataset, Path(votes), votes_as, contempt)
    return dataset


def read_datasets(settings: TrainingSettings, progress: Progress | None = None) -> Dataset:
    """Read every dataset of the settings and put them together as one.

    Args:
        settings: names the datasets and how they are read.
        progress: called now and then with the images done and the images there are, of one dataset.

    Raises:
        DatasetError: one of them cannot be read, the votes belong to none or several of them, or
            the pattern tells no person.
    """
    paths = [resolve_dataset(Path(path)) for path in settings.dataset]
    voted = _find_voted(paths, settings)
    datasets = [
        load_dataset(
            path,
            Path(settings.votes) if path == voted else None,
            votes_as=settings.votes_as,
            contempt=settings.contempt and (path == voted or not settings.votes),
            crop_faces=settings.crop_faces,
            subject_pattern=settings.subject_pattern,
            cache=settings.cache_folder(),
            progress=progress,
        )
        for path in paths
    ]
    dataset = datasets[0]
    if len(datasets) > 1:
        datasets = [_learned_from(*pair) for pair in zip(datasets, paths, strict=True)]
        dataset = _put_together(datasets, _distinct(paths))
    return _told_apart(dataset, settings.subject_pattern)


def match_classes(
    dataset: Dataset, class_names: Sequence[str], known_only: bool = False
) -> Dataset:
    """Return a dataset with the classes of a model in the model's order, synonyms mapped.

    Args:
        dataset: with classes of its own.
        class_names: the classes of the model, in the order of its output.
        known_only: leave images of classes that the model does not know out, with a note.

    Raises:
        DatasetError: the model does not know a class of the dataset, or none of them.
    """
    class_names = tuple(class_names)
    if dataset.class_names == class_names:
        return dataset
    places = np.array([_find_class(name, class_names) for name in dataset.class_names])
    unknown = places[dataset.labels] < 0
    counts = Counter(dataset.class_names[label] for label in dataset.labels[unknown])
    if unknown.all() or (counts and not known_only):
        raise DatasetError(
            f"expected the classes of the model, {', '.join(class_names)}; received also "
            f"{', '.join(sorted(counts))}: --known-classes-only leaves those images out"
        )
    if counts:
        listed = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
        dataset = dataset.where(~unknown).noting(
            f"Left out images of classes that the model does not know: {listed}"
        )
    return _relabelled(dataset, places, class_names)


def _find_voted(paths: list[Path], settings: TrainingSettings) -> Path | None:
    """Return the dataset that the votes belong to, None without votes."""
    if not settings.votes:
        return None
    tables = [path for path in paths if path.suffix.lower() == ".csv"]
    if len(tables) != 1:
        raise DatasetError(
            "votes belong row by row to fer2013.csv, expected once; the datasets received are "
            f"{', '.join(path.name for path in paths)}"
        )
    return tables[0]


def _distinct(paths: list[Path]) -> list[str]:
    """Return the names of paths, made to differ: the second "a" becomes "a (2)"."""
    names = [path.name for path in paths]
    return [
        f"{name} ({names[: index + 1].count(name)})" if name in names[:index] else name
        for index, name in enumerate(names)
    ]


def _told_apart(dataset: Dataset, subject_pattern: str) -> Dataset:
    """Return the dataset with a note on images whose person the pattern does not tell.

    Raises:
        DatasetError: there is a pattern and no person is known.
    """
    unknown = np.count_nonzero(dataset.groups == "")
    if not subject_pattern or not unknown:
        return dataset
    example = dataset.names[dataset.groups == ""][0]
    if unknown == len(dataset):
        raise DatasetError(
            f"expected file names that hold a person as {subject_pattern!r} describes; none of "
            f"{unknown} does, such as {example}"
        )
    return dataset.noting(
        f"The person is not known on {unknown:,} of {len(dataset):,} images, such as {example}"
    )


def _learned_from(dataset: Dataset, path: Path) -> Dataset:
    """Return a dataset; if it is of visitors' faces, with all of them to be learned from.

    They are too few to test on, and what is measured must not change with them.
    """
    if path.name != FEEDBACK_FOLDER:
        return dataset
    return replace(dataset, splits=np.full(len(dataset), "train"))


def _put_together(datasets: list[Dataset], labels: list[str]) -> Dataset:
    """Return several datasets as one, their classes united under common names.

    Args:
        datasets: each as `load_dataset` returned it.
        labels: a name for each, which goes before the names of its images.
    """
    class_names = tuple(sorted({common_name(n) for data in datasets for n in data.class_names}))
    parts = [
        _renamed(data, class_names, label) for data, label in zip(datasets, labels, strict=True)
    ]
    columns = ("images", "labels", "splits", "names", "groups", "sizes_wh")
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
    votes = None
    if any(part.votes is not None for part in parts):
        votes = np.concatenate([_votes_of(part) for part in parts])
    return Dataset(
        **joined,
        class_names=class_names,
        votes=votes,
        unreadable=tuple(line for part in parts for line in part.unreadable),
        notes=tuple(line for part in parts for line in part.notes),
    )


def _renamed(dataset: Dataset, class_names: tuple[str, ...], label: str) -> Dataset:
    """Return a dataset under united class names, `label` before each name and line."""
    places = np.array([class_names.index(common_name(name)) for name in dataset.class_names])
    return replace(
        _relabelled(dataset, places, class_names),
        names=np.array([_prefixed(name, label) for name in dataset.names]),
        unreadable=tuple(_prefixed(line, label) for line in dataset.unreadable),
        notes=tuple(f"{label}: {line}" for line in dataset.notes),
    )


def _prefixed(name: str, label: str) -> str:
    """Return a name with the dataset before it; rows of a csv already bear it."""
    return name if name.startswith(f"{label} ") else f"{label}/{name}"


def _votes_of(dataset: Dataset) -> np.ndarray:
    """Return the votes of a dataset, (N, classes) float32, zeros where it has none."""
    if dataset.votes is not None:
        return dataset.votes
    return np.zeros((len(dataset), len(dataset.class_names)), dtype=np.float32)


def _find_class(name: str, class_names: tuple[str, ...]) -> int:
    """Return where a class stands among others, under its own or its common name; else -1."""
    if name in class_names:
        return class_names.index(name)
    common = [common_name(other) for other in class_names]
    return common.index(common_name(name)) if common_name(name) in common else -1


def _relabelled(dataset: Dataset, places: np.ndarray, class_names: tuple[str, ...]) -> Dataset:
    """Return a dataset with its classes at other places among other class names.

    Args:
        dataset: none of whose images is of a class without a place.
        places: the new place of each class, negative where it has none.
        class_names: the names at the new places.
    """
    votes = dataset.votes
    if votes is not None:
        moved = np.zeros((len(dataset), len(class_names)), dtype=np.float32)
        for column, place in enumerate(places):
            if place >= 0:
                moved[:, place] += votes[:, column]
        totals = moved.sum(axis=1, keepdims=True)
        votes = np.divide(moved, totals, out=np.zeros_like(moved), where=totals > 0)
    return replace(dataset, labels=places[dataset.labels], class_names=class_names, votes=votes)
