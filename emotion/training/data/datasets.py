"""The one door to labelled faces: paths and settings in, one `Dataset` out.

`layouts` reads what is on the disk, `cache` keeps it, `votes` adds what people voted; afterwards
`splits` separates training, validation and test images.
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
from emotion.training.data.votes import apply_votes, as_shares
from emotion.training.settings import TrainingSettings


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
        raise DatasetError(f"votes belong row by row to fer2013.csv; received {path.name}")
    if votes is None and contempt:
        raise DatasetError(
            f"expected fer2013new.csv to take contempt from; received {path.name} alone: "
            "give --votes too"
        )
    options = {"crop_faces": crop_faces, "subject_pattern": subject_pattern}
    dataset = read_cached(
        cache, path, options, lambda: read_layout(path, **options, progress=progress)
    )
    return dataset if votes is None else apply_votes(dataset, Path(votes), votes_as, contempt)


def read_datasets(settings: TrainingSettings, progress: Progress | None = None) -> Dataset:
    """Read every dataset of the settings and put them together as one.

    Raises:
        DatasetError: one of them cannot be read, the votes belong to none or several of them, or
            the pattern finds no person.
    """
    paths = [resolve_dataset(Path(path)) for path in settings.dataset]
    tables = [path for path in paths if path.suffix.lower() == ".csv"]
    if settings.votes and len(tables) != 1:
        raise DatasetError(
            "votes belong row by row to fer2013.csv, expected once; the datasets received are "
            f"{', '.join(path.name for path in paths)}"
        )
    voted = tables[0] if settings.votes else None
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
    dataset = datasets[0] if len(datasets) == 1 else _put_together(datasets, paths)
    without_person = dataset.names[dataset.groups == ""]
    if not settings.subject_pattern or not len(without_person):
        return dataset
    unknown, example = len(without_person), without_person[0]
    if unknown == len(dataset):
        raise DatasetError(
            f"expected file names that hold a person as {settings.subject_pattern!r} describes; "
            f"none of {unknown} does, such as {example}"
        )
    return dataset.noting(
        f"The person is not known on {unknown:,} of {len(dataset):,} images, such as {example}"
    )


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
    common = [common_name(name) for name in class_names]

    def place_of(name: str) -> int:
        if name in class_names:
            return class_names.index(name)
        return common.index(common_name(name)) if common_name(name) in common else -1

    places = np.array([place_of(name) for name in dataset.class_names])
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


def _put_together(datasets: list[Dataset], paths: list[Path]) -> Dataset:
    """Return several datasets as one, under common class names; image names start with a dataset's.

    All of the visitors' faces are learned from: they are too few to test on, and what is measured
    must not change with them.
    """
    class_names = tuple(sorted({common_name(n) for data in datasets for n in data.class_names}))
    names = [path.name for path in paths]
    parts = []
    for number, (data, name) in enumerate(zip(datasets, names, strict=True)):
        before = names[:number].count(name)
        label = f"{name} ({before + 1})" if before else name

        def prefixed(line: str, label: str = label) -> str:
            # rows of a csv already have its name
            return line if line.startswith(f"{label} ") else f"{label}/{line}"

        if name == FEEDBACK_FOLDER:
            data = replace(data, splits=np.full(len(data), "train"))
        places = np.array([class_names.index(common_name(name)) for name in data.class_names])
        part = _relabelled(data, places, class_names)
        parts.append(
            replace(
                part,
                votes=np.zeros((len(part), len(class_names)), np.float32)
                if part.votes is None
                else part.votes,
                names=np.array([prefixed(name) for name in data.names]),
                unreadable=tuple(prefixed(line) for line in data.unreadable),
                notes=tuple(f"{label}: {line}" for line in data.notes),
            )
        )
    columns = ["images", "labels", "splits", "names", "groups", "sizes_wh"]
    columns += ["votes"] * any(data.votes is not None for data in datasets)
    return Dataset(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns},
        class_names=class_names,
        unreadable=tuple(line for part in parts for line in part.unreadable),
        notes=tuple(line for part in parts for line in part.notes),
    )


def _relabelled(dataset: Dataset, places: np.ndarray, class_names: tuple[str, ...]) -> Dataset:
    """Return a dataset with other class names; `places` has each class's new place, or -1.

    No image may be of a class without a place.
    """
    votes = dataset.votes
    if votes is not None:
        moved = np.zeros((len(dataset), len(class_names)), dtype=np.float32)
        for column, place in enumerate(places):
            if place >= 0:
                moved[:, place] += votes[:, column]
        votes = as_shares(moved)
    return replace(dataset, labels=places[dataset.labels], class_names=class_names, votes=votes)
