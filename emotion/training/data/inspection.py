"""What is in a dataset, what is wrong with it, and what training will do about it; no Keras."""

import base64
import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jinja2
import numpy as np
from matplotlib.figure import Figure

from emotion.files import whole_file, write_json
from emotion.training.data.layouts import Dataset
from emotion.training.data.splits import TEST_SPLITS, Leaks, hash_images, remove_leaks

TRAINING_SPLITS = ("train", "validation")
NO_SPLIT = "no split yet"
FINE, NOTE, WARNING, STOP = "fine", "note", "warning", "stop"

DARK_MEAN, BRIGHT_MEAN, FLAT_DEVIATION = 15, 240, 5
BLANK_KINDS = ("all black", "all of one grey value", "nearly of one grey value")
FEW_IMAGES = 50
LARGE_IMBALANCE = 5
SHEET_SEED = 7
SHEET_COLUMNS = (12, 6)
"""Images of each class on the contact sheet, from the first split and from the second."""
SHOWN_GROUPS = 18
SHOWN_LINES = 10


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
    """Who is on the images.

    Attributes:
        count: persons that are known by name.
        images_unknown: images of which the person is not known.
        in_several_splits: persons who stand in more than one split.
    """

    count: int
    images_unknown: int
    in_several_splits: int


@dataclass(frozen=True)
class VoteFacts:
    """What the votes say about the labels.

    Attributes:
        images: images with a vote for one of the classes.
        without: images nobody voted one of the classes for.
        agreement: share of the images with votes whose label has the most votes, ties counted in.
    """

    images: int
    without: int
    agreement: float


@dataclass(frozen=True)
class Inspection:
    """The facts about a dataset.

    Attributes:
        class_names: the classes in output order.
        counts: the images of each class, in the order of `class_names`, by split.
        sizes: None where the sizes were not kept.
        people: None where no person is known.
        votes: None without votes.
        odd_images: names of images with nearly nothing to see, by what is odd.
        duplicates: rows of each group of identical images.
        spanning: those of `duplicates` that stand in training and in a test split.
        conflicting: those of `duplicates` whose labels differ.
        leaked_images: training and validation images that also stand in a test split.
        similar_images: those that nearly do: the same picture, stored or cut otherwise.
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
        """Return how many images there are."""
        return sum(map(sum, self.counts.values()))

    @property
    def training_counts(self) -> tuple[int, ...]:
        """Return the images of each class that can be learned from."""
        split = "train" if "train" in self.counts else NO_SPLIT
        return self.counts.get(split, (0,) * len(self.class_names))

    @property
    def imbalance(self) -> float | None:
        """Return how many times the largest class has the images of the smallest, None if 0."""
        counts = self.training_counts
        return max(counts) / min(counts) if counts and min(counts) else None


@dataclass(frozen=True)
class Finding:
    """One thing to know before training.

    Attributes:
        level: "fine", "note", "warning" or "stop" (training refuses such a dataset).
        text: what was found.
        consequence: what training does about it, or what can be done; "" if nothing.
    """

    level: str
    text: str
    consequence: str = ""


def inspect_dataset(dataset: Dataset) -> Inspection:
    """Return the facts about a dataset, also about one that is too small or too odd to train on."""
    groups = _identical_groups(dataset)
    tests = np.isin(dataset.splits, TEST_SPLITS).any()
    leaks = remove_leaks(dataset)[1] if tests else Leaks(0, 0)
    return Inspection(
        class_names=tuple(dataset.class_names),
        counts=_counts(dataset),
        sizes=_sizes(dataset.sizes_wh),
        people=_people(dataset.groups, dataset.splits),
        votes=_vote_facts(dataset),
        odd_images=_odd_images(dataset),
        duplicates=groups,
        spanning=tuple(g for g in groups if _spans(dataset.splits[list(g)])),
        conflicting=tuple(g for g in groups if len(set(dataset.labels[list(g)])) > 1),
        leaked_images=leaks.identical,
        similar_images=leaks.similar,
        notes=tuple(dataset.notes),
        unreadable=tuple(dataset.unreadable),
    )


def findings(inspection: Inspection) -> list[Finding]:
    """Return what to know before training, the gravest first."""
    found = [
        *_class_findings(inspection),
        *_duplicate_findings(inspection),
        *_image_findings(inspection),
        *_source_findings(inspection),
    ]
    order = (STOP, WARNING, NOTE, FINE)
    return sorted(found, key=lambda finding: order.index(finding.level))


def inspection_lines(inspection: Inspection) -> list[str]:
    """Return the inspection as lines of text for a terminal of 100 columns."""
    lines = [_headline(inspection), "", *_table_lines(inspection), ""]
    lines += [f"{name:12} {text}" for name, text in _overview(inspection)]
    signs = {STOP: "✗", WARNING: "!", NOTE: "·", FINE: "✓"}
    for finding in findings(inspection):
        lines += ["", *_wrapped(f"{signs[finding.level]} ", finding.text)]
        lines += _wrapped("  → ", finding.consequence) if finding.consequence else []
    return lines + _listed("Skipped", inspection.unreadable)


def write_inspection(folder: Path, dataset: Dataset, inspection: Inspection) -> Path:
    """Write everything about a dataset.

    `inspection.json`; `duplicates.csv`, `conflicts.csv` and `unreadable.csv`; `class_counts.png`,
    `contact_sheet.png` and, where labels conflict, `conflicts.png`; and `inspection.html`, one
    page with all of it and nothing to load from elsewhere.

    Args:
        folder: made where it is missing.
        dataset: the images.
        inspection: of that dataset.

    Returns:
        The path of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "inspection.json", _as_plain(inspection))
    _write_csv(folder / "duplicates.csv", _group_rows(dataset, inspection.duplicates))
    _write_csv(folder / "conflicts.csv", _group_rows(dataset, inspection.conflicting))
    _write_csv(folder / "unreadable.csv", [_unreadable_row(line) for line in dataset.unreadable])
    figures = {"class_counts": _counts_figure(inspection), "contact_sheet": _sheet_figure(dataset)}
    if inspection.conflicting:
        figures["conflicts"] = _conflicts_figure(dataset, inspection.conflicting)
    pictures = {name: _as_png(figure) for name, figure in figures.items()}
    for name, picture in pictures.items():
        with whole_file(folder / f"{name}.png") as part:
            part.write_bytes(picture)
    page = folder / "inspection.html"
    with whole_file(page) as part:
        part.write_text(_page(inspection, pictures), encoding="utf-8")
    return page


# The facts


def _counts(dataset: Dataset) -> dict[str, tuple[int, ...]]:
    """Return the images of each class by split, training first."""
    classes = len(dataset.class_names)
    names = [*dataset.split_names(), *([""] if (dataset.splits == "").any() else [])]
    return {
        name or NO_SPLIT: tuple(
            np.bincount(dataset.labels[dataset.splits == name], minlength=classes).tolist()
        )
        for name in names
    }


def _sizes(sizes_wh: np.ndarray | None) -> Sizes | None:
    """Return what sizes there are; the smallest and the largest by area."""
    if sizes_wh is None or not len(sizes_wh):
        return None
    kinds, counts = np.unique(sizes_wh, axis=0, return_counts=True)
    areas = kinds.astype(np.int64).prod(axis=1)
    width, height = sizes_wh.T
    return Sizes(
        smallest_wh=tuple(kinds[areas.argmin()].tolist()),
        largest_wh=tuple(kinds[areas.argmax()].tolist()),
        most_common_wh=tuple(kinds[counts.argmax()].tolist()),
        most_common_images=int(counts.max()),
        kinds=len(kinds),
        not_square=int((width != height).sum()),
    )


def _people(groups: np.ndarray | None, splits: np.ndarray) -> People | None:
    """Return how many persons there are, None where none is known."""
    if groups is None or not (groups != "").any():
        return None
    persons = set(zip(groups.tolist(), splits.tolist(), strict=True))
    names = [person for person, _ in persons if person]
    return People(
        count=len(set(names)),
        images_unknown=int((groups == "").sum()),
        in_several_splits=sum(names.count(name) > 1 for name in set(names)),
    )


def _vote_facts(dataset: Dataset) -> VoteFacts | None:
    """Return how often the label is what most people voted for, None without votes."""
    if dataset.votes is None:
        return None
    voted = dataset.votes.sum(axis=1) > 0
    votes = dataset.votes[voted]
    on_label = np.take_along_axis(votes, dataset.labels[voted, None], axis=1)[:, 0]
    agreed = on_label >= votes.max(axis=1) if len(votes) else np.zeros(0)
    return VoteFacts(
        images=int(voted.sum()),
        without=int((~voted).sum()),
        agreement=float(agreed.mean()) if len(votes) else 0.0,
    )


def _odd_images(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """Return the names of images with nearly nothing to see, by what is odd."""
    pixels, sides = dataset.images, (1, 2)
    lowest, highest, mean = pixels.min(sides), pixels.max(sides), pixels.mean(sides)
    kinds = {
        "all black": highest == 0,
        "all of one grey value": lowest == highest,
        "nearly of one grey value": pixels.std(sides) < FLAT_DEVIATION,
        "very dark": mean < DARK_MEAN,
        "very bright": mean > BRIGHT_MEAN,
    }
    odd, told = {}, np.zeros(len(dataset), dtype=bool)
    for kind, mask in kinds.items():
        rows = np.flatnonzero(mask & ~told)
        told |= mask
        odd |= {kind: tuple(_name(dataset, row) for row in rows)} if len(rows) else {}
    return odd


def _identical_groups(dataset: Dataset) -> tuple[tuple[int, ...], ...]:
    """Return the rows of each group of images that are equal in every pixel."""
    digests = hash_images(dataset.images)
    order = np.argsort(digests, kind="stable")
    starts = np.flatnonzero(digests[order][1:] != digests[order][:-1]) + 1
    groups = [tuple(rows.tolist()) for rows in np.split(order, starts) if len(rows) > 1]
    return tuple(sorted(groups))


def _spans(splits: np.ndarray) -> bool:
    """Tell whether images stand in training and in a test split."""
    return bool(np.isin(splits, TRAINING_SPLITS).any() and np.isin(splits, TEST_SPLITS).any())


def _name(dataset: Dataset, row: int) -> str:
    """Return where an image comes from, or its place in the dataset."""
    return f"image {row}" if dataset.names is None else str(dataset.names[row])


# The findings


def _class_findings(inspection: Inspection) -> Iterable[Finding]:
    """Yield what is to say about the classes and how many images they have."""
    counts = dict(zip(inspection.class_names, inspection.training_counts, strict=True))
    present = [name for name, count in counts.items() if count]
    if len(present) < 2:
        yield Finding(
            STOP,
            f"There are training images of {_named(present) or 'no class'} alone.",
            "Training needs two classes at least: a folder for each, or more rows of the csv.",
        )
        return
    if missing := [name for name, count in counts.items() if not count]:
        yield Finding(
            WARNING,
            f"No training images of {_named(missing)}.",
            "The model can give these names but never learns when.",
        )
    if few := [name for name in present if counts[name] < FEW_IMAGES]:
        texts = [f"{name} ({counts[name]})" for name in few]
        yield Finding(
            WARNING,
            f"Fewer than {FEW_IMAGES} training images of {_named(texts)}.",
            "Figures of so small a class say little; cross-validate uses every image for testing.",
        )
    largest, smallest = max(present, key=counts.get), min(present, key=counts.get)
    ratio = counts[largest] / counts[smallest]
    if ratio >= LARGE_IMBALANCE:
        yield Finding(
            WARNING,
            f"{largest} has {ratio:.1f} times as many training images as {smallest}.",
            "Look at macro F1 besides accuracy; --class-weights balanced makes rare classes count "
            "for more.",
        )


def _duplicate_findings(inspection: Inspection) -> Iterable[Finding]:
    """Yield what is to say about identical images."""
    if not inspection.duplicates:
        yield Finding(FINE, "No two images are identical.")
    else:
        yield from _identical_findings(inspection)
    if inspection.similar_images:
        yield Finding(
            WARNING,
            f"{_counted(inspection.similar_images, 'training image')} nearly the same as a test "
            "image: one picture, stored or cut otherwise.",
            "Training leaves them out as well.",
        )


def _identical_findings(inspection: Inspection) -> Iterable[Finding]:
    """Yield what is to say about images that are equal in every pixel."""
    images = sum(map(len, inspection.duplicates))
    groups = _counted(len(inspection.duplicates), "group")
    yield Finding(NOTE, f"{groups} of identical images, {images:,} images in all.")
    if inspection.spanning:
        yield Finding(
            WARNING,
            f"{_counted(len(inspection.spanning), 'group')} of identical images stand in training "
            "and in test: a model that learned them by heart would look too good.",
            f"Training leaves {_counted(inspection.leaked_images, 'image')} out that also stand in "
            "a test split (--keep-duplicates keeps them).",
        )
    if inspection.conflicting:
        images = sum(map(len, inspection.conflicting))
        yield Finding(
            WARNING,
            f"{_counted(len(inspection.conflicting), 'group')} of identical images carry "
            f"conflicting labels ({images:,} images).",
            "Training learns all their labels, so no model can get all of them right; "
            "conflicts.csv names them.",
        )


def _image_findings(inspection: Inspection) -> Iterable[Finding]:
    """Yield what is to say about what is on the images and how large they are."""
    blank = {kind: names for kind, names in inspection.odd_images.items() if kind in BLANK_KINDS}
    if blank:
        yield Finding(
            NOTE,
            f"Images without a face to see: {_kinds_text(blank)}.",
            "Training keeps them, with the labels they have; inspection.json names them.",
        )
    extreme = {kind: names for kind, names in inspection.odd_images.items() if kind not in blank}
    if extreme:
        yield Finding(NOTE, f"Images at the ends of the scale: {_kinds_text(extreme)}.")
    if inspection.sizes and inspection.sizes.not_square:
        yield Finding(
            NOTE,
            f"{_counted(inspection.sizes.not_square, 'image')} not square.",
            "The square in their middle is taken; --crop-faces finds the face and takes that.",
        )


def _kinds_text(odd_images: dict[str, tuple[str, ...]]) -> str:
    """Return how many images there are of each kind, with the name of the first."""
    return ", ".join(
        f"{len(names):,} {kind} ({names[0]}{', ...' if len(names) > 1 else ''})"
        for kind, names in odd_images.items()
    )


def _source_findings(inspection: Inspection) -> Iterable[Finding]:
    """Yield what is to say about files, splits, people and votes."""
    if inspection.unreadable:
        yield Finding(
            WARNING,
            f"{_counted(len(inspection.unreadable), 'file')} could not be read.",
            "They are skipped; unreadable.csv names each with its reason.",
        )
    else:
        yield Finding(FINE, "Everything could be read.")
    for note in inspection.notes:
        yield Finding(NOTE, note)
    if not set(inspection.counts) & set(TEST_SPLITS):
        yield Finding(
            NOTE,
            "The data brings no test split.",
            "Training holds out --test-share of it, or one part of it with --fold"
            + (", each person on one side." if inspection.people else "."),
        )
    if inspection.people and inspection.people.in_several_splits:
        yield Finding(
            WARNING,
            f"{_counted(inspection.people.in_several_splits, 'person')} in more than one split.",
            "A model may know the face in place of the emotion: prefer --fold or cross-validate, "
            "which keep each person on one side.",
        )
    if inspection.votes and inspection.votes.without:
        yield Finding(
            NOTE,
            f"{_counted(inspection.votes.without, 'image')} without a vote for one of the classes.",
            "They have FER2013's label alone.",
        )


# The text


def _headline(inspection: Inspection) -> str:
    """Return what there is in one line."""
    classes = len(inspection.class_names)
    return f"{_counted(inspection.images, 'image')} of {_counted(classes, 'class', 'classes')}"


def _table(inspection: Inspection) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the images of each class and split."""
    splits = list(inspection.counts)
    totals = [sum(counts) for counts in zip(*inspection.counts.values(), strict=True)]
    header = ["", *(name.replace("_", " ") for name in splits), "all", "share"]
    rows = [
        [
            name,
            *(f"{inspection.counts[split][place]:,}" for split in splits),
            f"{total:,}",
            f"{total / max(1, inspection.images):.1%}",
        ]
        for place, (name, total) in enumerate(
            zip(inspection.class_names, totals or [0] * len(inspection.class_names), strict=True)
        )
    ]
    sums = [f"{sum(inspection.counts[split]):,}" for split in splits]
    return header, [*rows, ["all", *sums, f"{inspection.images:,}", ""]]


def _table_lines(inspection: Inspection) -> list[str]:
    """Return the table of classes and splits as text."""
    header, rows = _table(inspection)
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        f"{row[0]:{widths[0]}}  "
        + "  ".join(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in (header, *rows)
    ]
    return [line.rstrip() for line in lines]


def _overview(inspection: Inspection) -> list[tuple[str, str]]:
    """Return the facts that fit in a line each, as (name, text)."""
    facts = []
    if sizes := inspection.sizes:
        facts.append(("Sizes", _sizes_text(sizes)))
    if people := inspection.people:
        unknown = f", not known on {people.images_unknown:,} images" * bool(people.images_unknown)
        facts.append(("People", f"{people.count:,}{unknown}"))
    else:
        facts.append(("People", "not known (--subject-pattern reads them from file names)"))
    if ratio := inspection.imbalance:
        facts.append(("Balance", f"the largest class has {ratio:.1f} times the smallest"))
    if votes := inspection.votes:
        facts.append(
            (
                "Votes",
                f"for {votes.images:,} images; the label is what most people voted for on "
                f"{votes.agreement:.1%}",
            )
        )
    return facts


def _sizes_text(sizes: Sizes) -> str:
    """Return the sizes in words."""
    if sizes.kinds == 1:
        return f"all {_by(sizes.most_common_wh)}"
    return (
        f"{_by(sizes.smallest_wh)} to {_by(sizes.largest_wh)}, most often "
        f"{_by(sizes.most_common_wh)} ({_counted(sizes.most_common_images, 'image')})"
    )


def _by(size_wh: tuple[int, int]) -> str:
    return f"{size_wh[0]}x{size_wh[1]}"


def _counted(count: int, one: str, many: str = "") -> str:
    """Return a count with its word: "1 image", "1,200 images"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _named(names: Sequence[str]) -> str:
    return ", ".join(names)


def _wrapped(start: str, text: str, width: int = 98) -> list[str]:
    """Return a text in lines, the first after `start`, the others below its end."""
    lines, words = [start], text.split()
    for word in words:
        if len(lines[-1]) + len(word) > width and lines[-1].strip() != start.strip():
            lines.append(" " * len(start))
        lines[-1] += f"{word} "
    return [line.rstrip() for line in lines]


def _listed(title: str, texts: Sequence[str]) -> list[str]:
    """Return the first texts of a list, and how many more there are."""
    if not texts:
        return []
    more = len(texts) - SHOWN_LINES
    lines = ["", f"{title}:", *(f"  {_tail(text)}" for text in texts[:SHOWN_LINES])]
    return lines + ([f"  and {more:,} more"] if more > 0 else [])


def _tail(text: str, width: int = 98) -> str:
    """Return a text cut at its start, for a reason stands at the end."""
    return text if len(text) <= width else f"...{text[3 - width :]}"


# The files


def _as_plain(inspection: Inspection) -> dict:
    """Return the inspection as plain types for JSON, groups as counts; the tables name them."""
    plain = asdict(inspection)
    names = inspection.class_names
    counts = {key: dict(zip(names, row, strict=True)) for key, row in inspection.counts.items()}
    for key in ("duplicates", "spanning", "conflicting"):
        groups = plain.pop(key)
        plain[key] = {"groups": len(groups), "images": sum(map(len, groups))}
    told = [asdict(finding) for finding in findings(inspection)]
    extra = {"images": inspection.images, "imbalance": inspection.imbalance, "findings": told}
    return {**plain, "counts": counts, **extra}


def _group_rows(dataset: Dataset, groups: Sequence[Sequence[int]]) -> list[dict]:
    """Return a row an image of each group, for a table."""
    return [
        {
            "group": number,
            "row": row,
            "name": _name(dataset, row),
            "split": str(dataset.splits[row]),
            "class": dataset.class_names[dataset.labels[row]],
        }
        for number, group in enumerate(groups, start=1)
        for row in group
    ]


def _unreadable_row(line: str) -> dict:
    """Return a skipped file as a row of a table: what it is, and why it was skipped."""
    name, _, reason = line.partition(": ")
    return {"name": name, "reason": reason}


def _write_csv(path: Path, rows: Sequence[dict]) -> None:
    """Write rows as .csv; only a header where there are none."""
    columns = ("group", "row", "name", "split", "class")
    if path.name == "unreadable.csv":
        columns = ("name", "reason")
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns)
        writer.writeheader()
        writer.writerows(rows)


def _counts_figure(inspection: Inspection) -> Figure:
    """Draw the images of each class, a bar a split."""
    names, splits = inspection.class_names, list(inspection.counts)
    figure = Figure(figsize=(2.5 + 1.1 * len(names), 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / max(1, len(splits))
    for number, split in enumerate(splits):
        places = np.arange(len(names)) + (number - (len(splits) - 1) / 2) * width
        label = split.replace("_", " ")
        bars = axes.bar(places, inspection.counts[split], width * 0.94, label=label)
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=7, padding=1)
    axes.set_xticks(range(len(names)), names)
    axes.set(title="Images of each class", ylabel="images")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.1)
    if splits:
        axes.legend(frameon=False)
    return figure


def _sheet_figure(dataset: Dataset) -> Figure:
    """Draw faces of each class, a row a class, a block of columns for each of two splits."""
    splits = [name.replace(NO_SPLIT, "") for name in _counts(dataset)][:2] or [""]
    columns = SHEET_COLUMNS[: len(splits)]
    rows = max(1, len(dataset.class_names))
    figure = Figure(figsize=(1.4 + 0.62 * sum(columns), 0.7 + 0.68 * rows), layout="constrained")
    grid = figure.subplots(rows, len(splits), squeeze=False, width_ratios=columns)
    random = np.random.default_rng(SHEET_SEED)
    for (place, block), axes in np.ndenumerate(grid):
        mask = (dataset.labels == place) & (dataset.splits == splits[block])
        _draw_strip(axes, dataset.images, _sample(mask, columns[block], random), columns[block])
        if place == 0:
            axes.set_title((splits[block] or NO_SPLIT).replace("_", " "), loc="left", fontsize=10)
        if block == 0:
            count = int((dataset.labels == place).sum())
            text = f"{dataset.class_names[place]}\n{count:,}"
            axes.set_ylabel(text, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def _sample(mask: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Return up to `count` rows where `mask` holds, without order."""
    rows = np.flatnonzero(mask)
    return random.choice(rows, min(count, len(rows)), replace=False)


def _draw_strip(axes, images: np.ndarray, rows: np.ndarray, columns: int) -> None:
    """Draw images side by side in one picture, white where there are fewer than columns."""
    side = images.shape[1]
    strip = np.full((side, columns * (side + 2) - 2), 255, np.uint8)
    for number, row in enumerate(rows):
        strip[:, number * (side + 2) : number * (side + 2) + side] = images[row]
    axes.imshow(strip, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _conflicts_figure(dataset: Dataset, groups: Sequence[Sequence[int]]) -> Figure:
    """Draw one image of each conflicting group with the labels it carries."""
    shown = groups[:SHOWN_GROUPS]
    columns = min(9, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(max(3, 1.25 * columns), 1.75 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, group in zip(grid.flat, shown, strict=False):
        labels = np.bincount(dataset.labels[list(group)], minlength=len(dataset.class_names))
        text = _labels_text(labels, dataset.class_names)
        axes.imshow(dataset.images[group[0]], cmap="gray", vmin=0, vmax=255)
        axes.set_title(text, fontsize=8)
    return figure


def _labels_text(counts: np.ndarray, class_names: Sequence[str]) -> str:
    """Return the labels of one image in three lines at most, the most frequent first."""
    order = [int(place) for place in np.argsort(-counts, kind="stable") if counts[place]]
    lines = [f"{counts[place]} × {class_names[place]}" for place in order]
    return "\n".join(lines if len(lines) <= 3 else [*lines[:2], f"and {len(lines) - 2} more"])


def _as_png(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _page(inspection: Inspection, pictures: dict[str, bytes]) -> str:
    """Return the page, its pictures inside it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    header, rows = _table(inspection)
    return environment.get_template("inspection.html").render(
        headline=_headline(inspection),
        overview=_overview(inspection),
        findings=findings(inspection),
        header=header,
        rows=rows,
        pictures={name: base64.b64encode(data).decode() for name, data in pictures.items()},
        conflicting=len(inspection.conflicting),
        shown_conflicts=min(SHOWN_GROUPS, len(inspection.conflicting)),
        unreadable=inspection.unreadable[:SHOWN_LINES],
        more_unreadable=max(0, len(inspection.unreadable) - SHOWN_LINES),
    )
