"""The one door to labelled faces: settings in, one `Dataset` out.

`layouts` reads what is on the disk, decoded images are kept for the next run, `votes` adds what
people voted; afterwards `splits` separates training, validation and test images.
"""

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from emotion.errors import DatasetError
from emotion.files import whole_file
from emotion.labels import common_name
from emotion.text import share
from emotion.training.data.dataset import Dataset
from emotion.training.data.layouts import (
    FEEDBACK_FOLDER,
    names_below,
    read_layout,
    resolve_dataset,
)
from emotion.training.data.votes import apply_votes, as_shares, csv_rows
from emotion.training.settings import TrainingSettings

CACHE_VERSION = 2  # to be raised whenever an image would be read differently or `Dataset` changes


def read_datasets(settings: TrainingSettings) -> Dataset:
    """Read every dataset of the settings and put them together as one; raises DatasetError."""
    options = {"crop_faces": settings.crop_faces, "subject_pattern": settings.subject_pattern}
    try:
        paths = [resolve_dataset(Path(path)) for path in settings.dataset]
        datasets = [read_cached(Path(settings.runs) / ".cache", path, options) for path in paths]
    except OSError as error:
        raise DatasetError(f"expected datasets that can be read; received: {error}") from error
    tables = [place for place, data in enumerate(datasets) if csv_rows(data.names[:1])[0] >= 0]
    if (settings.votes or settings.contempt) and not (settings.votes and len(tables) == 1):
        expected = "expected fer2013.csv once, with its --votes, where votes or contempt are wanted"
        raise DatasetError(f"{expected}; received {', '.join(path.name for path in paths)}")
    for data, path in zip(datasets, paths, strict=True):
        skipped = len(data.unreadable)
        if skipped > settings.unreadable_share * (skipped + len(data)):
            raise DatasetError(
                f"expected {path.name} with at most {share(settings.unreadable_share)} unreadable; "
                f"received {unreadable_words(data)}, such as {data.unreadable[0]}: mend them, or "
                "leave them out with a higher --unreadable-share"
            )
    for place in tables if settings.votes else ():
        votes = Path(settings.votes)
        datasets[place] = apply_votes(datasets[place], votes, settings.votes_as, settings.contempt)
    dataset = datasets[0] if len(datasets) == 1 else _put_together(datasets, paths)
    if settings.limit:
        dataset = limit_images(dataset, settings.limit, settings.seed)
    without_person = dataset.names[dataset.groups == ""]
    if not settings.subject_pattern or not len(without_person):
        return dataset
    words = f"{len(without_person):,} of {len(dataset):,} images, such as {without_person[0]}"
    if len(without_person) == len(dataset):
        wanted = f"expected file names that hold a person as {settings.subject_pattern!r} describes"
        raise DatasetError(f"{wanted}; received none on {words}")
    return dataset.noting(f"The person is not known on {words}")


def unreadable_words(dataset: Dataset) -> str:
    """Return how much of a dataset was skipped: "244 of 1,466 files or rows (16.6%)"."""
    skipped, total = len(dataset.unreadable), len(dataset.unreadable) + len(dataset)
    return f"{skipped:,} of {total:,} files or rows ({share(skipped / total, 1)})"


def limit_images(dataset: Dataset, limit: int, seed: int) -> Dataset:
    """Return at most `limit` images of each class in each split, drawn by `seed`, with a note."""
    order = np.random.default_rng(seed).permutation(len(dataset))
    _, kinds = np.unique([dataset.splits, dataset.labels.astype(str)], axis=1, return_inverse=True)
    chosen = [order[kinds[order] == kind][:limit] for kind in range(kinds.max() + 1)]
    limited = dataset.where(np.sort(np.concatenate(chosen)))
    words = f"{limit:,} of each class in each split, by --limit"
    return limited.noting(f"{len(limited):,} of {len(dataset):,} images: at most {words}")


def read_cached(folder: Path, source: Path, options: dict) -> Dataset:
    """Return `read_layout(source, **options)`, from the cache in `folder` where that holds it.

    An entry is one file, named after its source and after everything its content depends on. A
    cache that is damaged or cannot be written costs time, never a run.
    """
    files = []
    for name in names_below(source)[0] if source.is_dir() else [""]:
        try:
            status = (source / name).stat()
            files.append((name, status.st_size, status.st_mtime_ns))
        except OSError:  # a broken link
            files.append((name, 0, 0))
    state = json.dumps([CACHE_VERSION, options, files])
    whose = _digest(str(source.resolve()))
    entry = folder / f"{whose}-{_digest(state)}.npz"
    # No entry is the usual case; damaged bytes make numpy, zipfile and zlib raise almost any kind
    with contextlib.suppress(Exception), entry.open("rb") as file, np.load(file) as arrays:
        texts = json.loads(str(arrays["texts"]))
        columns = {name: arrays[name] for name in texts.pop("columns")}
        return Dataset(**columns, **{name: tuple(lines) for name, lines in texts.items()})
    dataset = read_layout(source, **options)
    arrays = dataset.columns()
    texts = {name: value for name, value in vars(dataset).items() if isinstance(value, tuple)}
    texts["columns"] = sorted(arrays)
    with contextlib.suppress(OSError):  # a full or read-only disk makes the next start slower
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(entry) as part, part.open("wb") as file:
            np.savez(file, texts=np.array(json.dumps(texts)), **arrays)
        for old in set(folder.glob(f"{whose}-*.npz")) - {entry}:
            old.unlink(missing_ok=True)
    return dataset


def with_extra_photos(dataset: Dataset, settings: TrainingSettings) -> Dataset:
    """Return a split dataset with `--extra-photos` to learn from; their class counts as votes."""
    for path in settings.extra_photos:
        source = resolve_dataset(Path(path))
        photos = read_cached(Path(settings.runs) / ".cache", source, {"crop_faces": True})
        photos = match_classes(photos, dataset.class_names)
        own = {"names": np.array([f"{source.name}/{name}" for name in photos.names])}
        own["splits"], own["twins"] = np.full(len(photos), "train"), np.zeros(len(photos), bool)
        own["votes"] = np.eye(len(dataset.class_names), dtype=np.float32)[photos.labels]
        joined = {
            name: np.concatenate([column, own.get(name, getattr(photos, name))])
            for name, column in dataset.columns().items()
        }
        unreadable = (*dataset.unreadable, *(f"{source.name}/{line}" for line in photos.unreadable))
        dataset = replace(dataset, **joined, unreadable=unreadable)
        dataset = dataset.noting(f"{len(photos):,} of the training images are of {source.name}")
    return dataset


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def match_classes(
    dataset: Dataset, class_names: Sequence[str], known_only: bool = False
) -> Dataset:
    """Return a dataset with the classes of a model in the order of its output, synonyms mapped.

    With `known_only`, images of other classes are left out, with a note; else a DatasetError.
    """
    class_names = tuple(class_names)
    if dataset.class_names == class_names:
        return dataset
    place_of = {common_name(name): place for place, name in enumerate(class_names)}
    place_of |= {name: place for place, name in enumerate(class_names)}
    known = (name if name in place_of else common_name(name) for name in dataset.class_names)
    places = np.array([place_of.get(name, -1) for name in known])
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

    All of the visitors' faces are learned from, so that what is measured does not change with them;
    what a visitor named counts as the votes for the face.
    """
    class_names = tuple(sorted({common_name(n) for data in datasets for n in data.class_names}))
    parts, unreadable, notes = [], [], []
    for number, (data, path) in enumerate(zip(datasets, paths, strict=True)):
        before = [other.name for other in paths[:number]].count(path.name)
        label = f"{path.name} ({before + 1})" if before else path.name

        def named(lines, label=label) -> list[str]:  # rows of a csv already have its name
            return [line if line.startswith(f"{label} ") else f"{label}/{line}" for line in lines]

        places = np.array([class_names.index(common_name(name)) for name in data.class_names])
        part = _relabelled(data, places, class_names)
        if path.name == FEEDBACK_FOLDER:
            named_votes = np.eye(len(class_names), dtype=np.float32)[part.labels]
            part = replace(part, splits=np.full(len(part), "train"), votes=named_votes)
        if part.votes is None:
            part = replace(part, votes=np.zeros((len(part), len(class_names)), np.float32))
        parts.append(replace(part, names=np.array(named(data.names))))
        unreadable += named(data.unreadable)
        notes += [f"{label}: {line}" for line in data.notes]
    columns = ["images", "labels", "splits", "names", "groups", "sizes_wh"]
    columns += ["votes"] * any(data.votes is not None for data in datasets)
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
    told = {"unreadable": tuple(unreadable), "notes": tuple(notes)}
    return Dataset(**joined, class_names=class_names, **told)


def _relabelled(dataset: Dataset, places: np.ndarray, class_names: tuple[str, ...]) -> Dataset:
    """Return a dataset with other class names; `places` has each class's new place, or -1."""
    votes = dataset.votes
    if votes is not None:
        is_moved = places[:, None] == np.arange(len(class_names))
        votes = as_shares(votes @ is_moved.astype(np.float32))
    return replace(dataset, labels=places[dataset.labels], class_names=class_names, votes=votes)
