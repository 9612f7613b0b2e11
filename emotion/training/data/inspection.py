"""What is in a dataset, what is wrong with it, and what training will do about it; no Keras."""

import base64
import csv
import io
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import jinja2
import numpy as np
from matplotlib.figure import Figure

from emotion import text
from emotion.files import whole_file, write_json
from emotion.training.data.dataset import Dataset
from emotion.training.data.facts import BLANK_KINDS, NO_SPLIT, Inspection, class_counts, name_of
from emotion.training.data.facts import inspect_dataset as inspect_dataset
from emotion.training.data.splits import TEST_SPLITS

FINE, NOTE, WARNING, STOP = "fine", "note", "warning", "stop"
SIGNS = {STOP: "✗", WARNING: "!", NOTE: "·", FINE: "✓"}
"""Every level with its sign in the terminal, the gravest first."""

FEW_IMAGES = 50
LARGE_IMBALANCE = 5
SHEET_SEED = 7
SHEET_COLUMNS = (12, 6)
"""Images of each class on the contact sheet, from the first split and from the second."""
SHOWN_GROUPS = 18
SHOWN_LINES = 10
WIDTH = 98


@dataclass(frozen=True)
class Finding:
    """One thing to know before training: a level, what was found, and what follows from it.

    At the level "stop" training refuses the dataset.
    """

    level: str
    text: str
    consequence: str = ""


def findings(inspection: Inspection) -> list[Finding]:
    """Return what to know before training, the gravest first."""
    found = [*_class_findings(inspection), *_image_findings(inspection)]
    return sorted(found, key=lambda finding: list(SIGNS).index(finding.level))


def _class_findings(inspection: Inspection) -> list[Finding]:
    counts = dict(zip(inspection.class_names, inspection.training_counts, strict=True))
    present = [name for name, count in counts.items() if count]
    if len(present) < 2:
        found = f"There are training images of {', '.join(present) or 'no class'} only."
        advice = "Training needs at least two classes: a folder for each, or more rows of the csv."
        return [Finding(STOP, found, advice)]
    found = []
    if missing := [name for name, count in counts.items() if not count]:
        advice = "The model can answer with these names but never learns when to."
        found.append(Finding(WARNING, f"No training images of {', '.join(missing)}.", advice))
    if few := [f"{name} ({counts[name]})" for name in present if counts[name] < FEW_IMAGES]:
        few = f"Fewer than {FEW_IMAGES} training images of {', '.join(few)}."
        advice = "Figures of so small a class say little; cross-validate tests on every image."
        found.append(Finding(WARNING, few, advice))
    largest, smallest = max(present, key=counts.get), min(present, key=counts.get)
    ratio = counts[largest] / counts[smallest]
    if ratio >= LARGE_IMBALANCE:
        unequal = f"{largest} has {ratio:.1f} times as many training images as {smallest}."
        advice = (
            "Look at macro F1 as well as accuracy; --class-weights balanced makes rare classes "
            "count for more."
        )
        found.append(Finding(WARNING, unequal, advice))
    return found


def _image_findings(inspection: Inspection) -> list[Finding]:
    """Return what to say about copies, pictures, files, splits, people and votes."""
    counted, seen, found = text.counted, inspection, []

    def say(level: str, words: str, consequence: str = "") -> None:
        found.append(Finding(level, words, consequence))

    if seen.duplicates:
        images = sum(map(len, seen.duplicates))
        groups = counted(len(seen.duplicates), "group")
        say(NOTE, f"{groups} of identical images, {images:,} images in all.")
    else:
        say(FINE, "No two images are identical.")
    if seen.spanning:
        say(
            WARNING,
            f"{counted(len(seen.spanning), 'group')} of identical images are in training and in a "
            "test split: a model that learned them by heart would look too good.",
            f"Training leaves out {counted(seen.leaked_images, 'image')} that are also in a test "
            "split (--keep-duplicates keeps them).",
        )
    if seen.conflicting:
        images = sum(map(len, seen.conflicting))
        say(
            WARNING,
            f"{counted(len(seen.conflicting), 'group')} of identical images with conflicting "
            f"labels ({images:,} images).",
            "Training learns all their labels, so no model can get all of them right; "
            "conflicts.csv names them.",
        )
    if seen.similar_images:
        say(
            WARNING,
            f"{counted(seen.similar_images, 'training image')} nearly the same as a test image: "
            "one picture, stored or cut otherwise.",
            "Training leaves these out as well.",
        )
    for kinds, words, consequence in (
        (
            [kind for kind in seen.odd_images if kind in BLANK_KINDS],
            "Images without a face to see",
            "Training keeps them, with the labels they have; inspection.json names them.",
        ),
        (
            [kind for kind in seen.odd_images if kind not in BLANK_KINDS],
            "Very dark or very bright images",
            "",
        ),
    ):
        named = {kind: seen.odd_images[kind] for kind in kinds}
        listed = ", ".join(
            f"{len(names):,} {kind} ({names[0]}{', ...' if len(names) > 1 else ''})"
            for kind, names in named.items()
        )
        if listed:
            say(NOTE, f"{words}: {listed}.", consequence)
    if seen.sizes and seen.sizes.not_square:
        say(
            NOTE,
            f"{counted(seen.sizes.not_square, 'image')} not square.",
            "The square in the middle is taken; --crop-faces finds the face and takes that.",
        )
    if seen.unreadable:
        files = counted(len(seen.unreadable), "file")
        advice = "They are skipped; unreadable.csv names each with its reason."
        say(WARNING, f"{files} could not be read.", advice)
    else:
        say(FINE, "Everything could be read.")
    for note in seen.notes:
        say(NOTE, note)
    if not set(seen.counts) & set(TEST_SPLITS):
        people = ", each person on one side" * bool(seen.people)
        advice = f"Training holds out --test-share of it, or one part of it with --fold{people}."
        say(NOTE, "The data brings no test split.", advice)
    if seen.people and seen.people.in_several_splits:
        say(
            WARNING,
            f"{counted(seen.people.in_several_splits, 'person', 'people')} in more than one split.",
            "A model may recognise the person instead of the emotion: prefer --fold or "
            "cross-validate, which keep each person on one side.",
        )
    if seen.votes and seen.votes.without:
        images = counted(seen.votes.without, "image")
        say(NOTE, f"{images} without a vote for a class.", "They keep only FER2013's label.")
    return found


def inspection_lines(inspection: Inspection) -> list[str]:
    """Return the inspection as lines for a terminal of 100 columns."""
    lines = [_headline(inspection), "", *text.table(*_table(inspection)), ""]
    lines += [f"{name:12} {fact}" for name, fact in _overview(inspection)]
    for finding in findings(inspection):
        for start, words in ((SIGNS[finding.level], finding.text), ("  →", finding.consequence)):
            first, indent = f"{start} ", " " * (len(start) + 1)
            lines += [""] * (start != "  →")
            lines += textwrap.wrap(words, WIDTH, initial_indent=first, subsequent_indent=indent)
    if inspection.unreadable:
        lines += ["", "Skipped:"]
        for line in inspection.unreadable[:SHOWN_LINES]:
            # the reason is at the end
            lines.append(f"  {line if len(line) <= WIDTH else f'...{line[3 - WIDTH :]}'}")
    if (more := len(inspection.unreadable) - SHOWN_LINES) > 0:
        lines.append(f"  and {more:,} more")
    return lines


def _headline(inspection: Inspection) -> str:
    classes = text.counted(len(inspection.class_names), "class", "classes")
    return f"{text.counted(inspection.images, 'image')} of {classes}"


def _table(inspection: Inspection) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: the images of each class in each split, in all, and their share."""
    header = ["", *(name.replace("_", " ") for name in inspection.counts), "all", "share"]
    rows = []
    for place, name in enumerate(inspection.class_names):
        counts = [of_split[place] for of_split in inspection.counts.values()]
        share = sum(counts) / max(1, inspection.images)
        rows.append([name, *(f"{n:,}" for n in (*counts, sum(counts))), text.share(share, 1)])
    sums = [f"{sum(counts):,}" for counts in inspection.counts.values()]
    return header, [*rows, ["all", *sums, f"{inspection.images:,}", ""]]


def _overview(inspection: Inspection) -> list[tuple[str, str]]:
    """Return the facts that fit in a line each, as (name, fact)."""
    facts = []
    if sizes := inspection.sizes:
        ends = (sizes.smallest_wh, sizes.largest_wh, sizes.most_common_wh)
        smallest, largest, common = (f"{width}x{height}" for width, height in ends)
        images = text.counted(sizes.most_common_images, "image")
        mixed = f"{smallest} to {largest}, most often {common} ({images})"
        facts.append(("Sizes", f"all {common}" if sizes.kinds == 1 else mixed))
    if people := inspection.people:
        unknown = f", not known on {people.images_unknown:,} images" * bool(people.images_unknown)
        facts.append(("People", f"{people.count:,}{unknown}"))
    else:
        facts.append(("People", "not known (--subject-pattern reads them from file names)"))
    if ratio := inspection.imbalance:
        facts.append(("Balance", f"the largest class is {ratio:.1f} times the smallest"))
    if votes := inspection.votes:
        agreed = f"the label has the most votes on {text.share(votes.agreement, 1)} of them"
        facts.append(("Votes", f"on {votes.images:,} images; {agreed}"))
    return facts


def write_inspection(folder: Path, dataset: Dataset, inspection: Inspection) -> Path:
    """Write everything about a dataset, and return the path of the page.

    `inspection.json`; `duplicates.csv`, `conflicts.csv` and `unreadable.csv`; `class_counts.png`,
    `contact_sheet.png` and, where labels conflict, `conflicts.png`; and `inspection.html`, one page
    with all of it that loads nothing from elsewhere.

    Args:
        folder: made where it is missing.
        dataset: the images.
        inspection: of that dataset.
    """
    folder.mkdir(parents=True, exist_ok=True)
    facts = asdict(inspection)
    for name, counts in inspection.counts.items():
        facts["counts"][name] = dict(zip(inspection.class_names, counts, strict=True))
    for key in ("duplicates", "spanning", "conflicting"):  # as numbers: the tables name them
        groups = facts[key]
        facts[key] = {"groups": len(groups), "images": sum(map(len, groups))}
    facts |= {"images": inspection.images, "imbalance": inspection.imbalance}
    facts["findings"] = [asdict(finding) for finding in findings(inspection)]
    write_json(folder / "inspection.json", facts)
    head = ("group", "row", "name", "split", "class")
    skipped = [line.partition(": ")[::2] for line in dataset.unreadable]
    for name, rows in (
        ("duplicates", [head, *_group_rows(dataset, inspection.duplicates)]),
        ("conflicts", [head, *_group_rows(dataset, inspection.conflicting)]),
        ("unreadable", [("name", "reason"), *skipped]),
    ):
        path = folder / f"{name}.csv"
        with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    figures = {"class_counts": _counts_figure(inspection), "contact_sheet": _sheet_figure(dataset)}
    if inspection.conflicting:
        figures["conflicts"] = _conflicts_figure(dataset, inspection.conflicting)
    pictures = {}
    for name, figure in figures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120)
        pictures[name] = base64.b64encode(buffer.getvalue()).decode()
        with whole_file(folder / f"{name}.png") as part:
            part.write_bytes(buffer.getvalue())
    template = Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
    header, rows = _table(inspection)
    page = jinja2.Template(
        template, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    ).render(
        headline=_headline(inspection),
        overview=_overview(inspection),
        findings=findings(inspection),
        header=header,
        rows=rows,
        pictures=pictures,
        conflicting=len(inspection.conflicting),
        shown_conflicts=min(SHOWN_GROUPS, len(inspection.conflicting)),
        unreadable=inspection.unreadable[:SHOWN_LINES],
        more_unreadable=max(0, len(inspection.unreadable) - SHOWN_LINES),
    )
    with whole_file(folder / "inspection.html") as part:
        part.write_text(page, encoding="utf-8")
    return folder / "inspection.html"


def _group_rows(dataset: Dataset, groups: Sequence[Sequence[int]]) -> list[tuple]:
    names = np.array(dataset.class_names)[dataset.labels]
    return [
        (number, row, name_of(dataset, row), dataset.splits[row], names[row])
        for number, group in enumerate(groups, start=1)
        for row in group
    ]


def _counts_figure(inspection: Inspection) -> Figure:
    """Draw a bar for each class and split."""
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
    """Draw a row of faces for each class, from the first two splits."""
    splits = [name.replace(NO_SPLIT, "") for name in class_counts(dataset)][:2] or [""]
    columns = SHEET_COLUMNS[: len(splits)]
    lines = max(1, len(dataset.class_names))
    figure = Figure(figsize=(1.4 + 0.62 * sum(columns), 0.7 + 0.68 * lines), layout="constrained")
    grid = figure.subplots(lines, len(splits), squeeze=False, width_ratios=columns)
    random = np.random.default_rng(SHEET_SEED)
    for (place, block), axes in np.ndenumerate(grid):
        rows = np.flatnonzero((dataset.labels == place) & (dataset.splits == splits[block]))
        rows = random.choice(rows, min(columns[block], len(rows)), replace=False)
        side = dataset.images.shape[1]
        strip = np.full((side, columns[block] * (side + 2) - 2), 255, np.uint8)
        for number, row in enumerate(rows):
            left = number * (side + 2)
            strip[:, left : left + side] = dataset.images[row]
        axes.imshow(strip, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        if place == 0:
            axes.set_title((splits[block] or NO_SPLIT).replace("_", " "), loc="left", fontsize=10)
        if block == 0:
            label = f"{dataset.class_names[place]}\n{int((dataset.labels == place).sum()):,}"
            axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    return figure


def _conflicts_figure(dataset: Dataset, groups: Sequence[Sequence[int]]) -> Figure:
    """Draw one image of each conflicting group, with its labels above it."""
    shown = groups[:SHOWN_GROUPS]
    columns = min(9, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(max(3, 1.25 * columns), 1.75 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, group in zip(grid.flat, shown, strict=False):
        labels = Counter(dataset.class_names[label] for label in dataset.labels[list(group)])
        words = [f"{count} × {name}" for name, count in labels.most_common()]
        if len(words) > 3:
            words = [*words[:2], f"and {len(words) - 2} more"]
        axes.imshow(dataset.images[group[0]], cmap="gray", vmin=0, vmax=255)
        axes.set_title("\n".join(words), fontsize=8)
    return figure
