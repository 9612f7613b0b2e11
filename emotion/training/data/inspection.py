"""What is in a dataset, what is wrong with it, and what training will do about it; no Keras."""

import textwrap
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import jinja2
import numpy as np
from matplotlib.figure import Figure

from emotion.files import whole_file, write_csv, write_json
from emotion.text import counted, data_url, share, table
from emotion.training.data.dataset import IMAGE_SIDE, TEST_SPLITS, Dataset
from emotion.training.data.splits import hash_images, remove_leaks

NO_SPLIT = "no split yet"
DARK_MEAN, BRIGHT_MEAN, FLAT_DEVIATION = 15, 240, 5
SIGNS = {"stop": "✗", "warning": "!", "note": "·", "fine": "✓"}  # by level, the gravest first
FEW_IMAGES = 50
LARGE_IMBALANCE = 5
SHOWN_LINES = 10
WIDTH = 98
SHEET_SEED = 7
SHEET_COLUMNS = (12, 6)  # images of each class on the sheet, from the first split and the second


class Finding(NamedTuple):
    """One thing to know before training; at the level "stop" training refuses the dataset."""

    level: str
    text: str
    consequence: str = ""


def inspect_dataset(dataset: Dataset) -> dict:
    """Return the facts about a dataset, even one that is too small or too odd to train on."""
    labels, splits, class_names = dataset.labels, dataset.splits, dataset.class_names
    counts = {
        split or NO_SPLIT: {
            name: int(((splits == split) & (labels == place)).sum())
            for place, name in enumerate(class_names)
        }
        for split in ("train", "validation", *TEST_SPLITS, "")
        if (splits == split).any()
    }
    of_training = counts.get("train", counts.get(NO_SPLIT, {})).values()
    sizes = people = votes = None
    if dataset.sizes_wh is not None and len(dataset):  # before the images were made 48x48
        kinds, of_kind = np.unique(dataset.sizes_wh, axis=0, return_counts=True)
        areas = kinds.astype(np.int64).prod(axis=1)
        sizes = {
            "smallest_wh": tuple(kinds[areas.argmin()].tolist()),
            "largest_wh": tuple(kinds[areas.argmax()].tolist()),
            "most_common_wh": tuple(kinds[of_kind.argmax()].tolist()),
            "most_common_images": int(of_kind.max()),
            "kinds": len(kinds),
            "not_square": int((dataset.sizes_wh[:, 0] != dataset.sizes_wh[:, 1]).sum()),
        }
    if dataset.groups is not None and (dataset.groups != "").any():
        pairs = set(zip(dataset.groups.tolist(), splits.tolist(), strict=True))
        splits_of = Counter(person for person, _ in pairs if person)
        people = {
            "count": len(splits_of),
            "images_unknown": int((dataset.groups == "").sum()),
            "in_several_splits": sum(count > 1 for count in splits_of.values()),
        }
    if dataset.votes is not None:
        voted = dataset.votes.any(axis=1)
        shares, chosen = dataset.votes[voted], labels[voted]
        agreed = shares[np.arange(len(shares)), chosen] >= shares.max(axis=1, initial=0)
        votes = {
            "images": len(shares),
            "without": int((~voted).sum()),
            "agreement": float(agreed.mean()) if len(shares) else 0.0,  # a tie agrees, too
        }
    rows_of = defaultdict(list)
    for row, picture in enumerate(hash_images(dataset.images).tolist()):
        rows_of[picture].append(row)
    groups = [rows for rows in rows_of.values() if len(rows) > 1]
    pixels, sides = dataset.images, (1, 2)
    lowest, highest, mean = pixels.min(sides), pixels.max(sides), pixels.mean(sides)
    odd, told = {}, np.zeros(len(dataset), dtype=bool)
    for kind, mask in (
        ("all black", highest == 0),
        ("all of one grey value", lowest == highest),
        ("nearly of one grey value", pixels.std(sides) < FLAT_DEVIATION),
        ("very dark", mean < DARK_MEAN),
        ("very bright", mean > BRIGHT_MEAN),
    ):
        odd[kind] = dataset.names[mask & ~told].tolist()
        told |= mask
    tested, learned = np.isin(splits, TEST_SPLITS), np.isin(splits, ("train", "validation"))
    leaks = remove_leaks(dataset)[1] if tested.any() else None
    least = min(of_training, default=0)
    seen = {"class_names": class_names, "counts": counts, "sizes": sizes, "people": people}
    seen |= {"votes": votes, "odd_images": {kind: found for kind, found in odd.items() if found}}
    seen |= {"duplicates": groups, "notes": dataset.notes, "unreadable": dataset.unreadable}
    seen["spanning"] = [rows for rows in groups if tested[rows].any() and learned[rows].any()]
    seen["conflicting"] = [rows for rows in groups if len(set(labels[rows])) > 1]
    seen["leaked_images"] = leaks.identical if leaks else 0
    seen["similar_images"] = leaks.similar if leaks else 0
    return seen | {"images": len(dataset), "imbalance": max(of_training) / least if least else None}


def findings(seen: dict) -> list[Finding]:
    """Return what to know before training, the gravest first."""
    found = [Finding("note", note) for note in seen["notes"]]

    def say(*words: str) -> None:
        found.append(Finding(*words))

    counts = seen["counts"]
    learnable = counts.get("train", counts.get(NO_SPLIT, {})).items()
    present = {name: count for name, count in learnable if count}
    if len(present) < 2:
        words = f"There are training images of {', '.join(present) or 'no class'} only."
        say("stop", words, "Training needs two classes or more.")
    else:
        if missing := [name for name in seen["class_names"] if name not in present]:
            words = "The model can answer with these names but never learns when to."
            say("warning", f"No training images of {', '.join(missing)}.", words)
        if few := [f"{name} ({count})" for name, count in present.items() if count < FEW_IMAGES]:
            words = "Figures of so small a class say little; cross-validate tests on every image."
            say("warning", f"Fewer than {FEW_IMAGES} training images of {', '.join(few)}.", words)
        largest, smallest = max(present, key=present.get), min(present, key=present.get)
        if (ratio := present[largest] / present[smallest]) >= LARGE_IMBALANCE:
            words = f"{largest} has {ratio:.1f} times as many training images as {smallest}."
            say("warning", words, "Look at macro F1, too, and try --class-weights balanced.")
    duplicates, spanning, conflicting = (
        f"{counted(len(seen[key]), 'group')} of identical images"
        for key in ("duplicates", "spanning", "conflicting")
    )
    if seen["duplicates"]:
        say("note", f"{duplicates}, {sum(map(len, seen['duplicates'])):,} images in all.")
    else:
        say("fine", "No two images are identical.")
    if seen["spanning"]:
        images = f"{counted(seen['leaked_images'], 'image')} that are also in a test split"
        words = f"Training leaves out {images} (--duplicates keep-leaks keeps them)."
        say("warning", f"{spanning} are in training and in a test split.", words)
    if seen["conflicting"]:
        images = f"{sum(map(len, seen['conflicting'])):,} images"
        words = "Training learns all of them (--duplicates drop: their mean); see conflicts.csv."
        say("warning", f"{conflicting} with conflicting labels ({images}).", words)
    if similar := seen["similar_images"]:
        images = f"{counted(similar, 'training image')} nearly the same as a test image"
        words = "Training leaves these out as well."
        say("warning", f"{images}: one picture, stored or cut otherwise.", words)
    if odd := seen["odd_images"]:
        kinds = (
            f"{len(names):,} {kind} ({names[0]}{', ...' * (len(names) > 1)})"
            for kind, names in odd.items()
        )
        words = "Training keeps them, with the labels they have; inspection.json names them."
        say("note", f"Images that hardly show a face: {', '.join(kinds)}.", words)
    if oblong := (seen["sizes"] or {}).get("not_square"):
        words = "The square in the middle is taken; --crop-faces finds the face and takes that."
        say("note", f"{counted(oblong, 'image')} not square.", words)
    if seen["unreadable"]:
        words = "They are skipped; unreadable.csv names each with its reason."
        count = len(seen["unreadable"])
        part = share(count / (count + seen["images"]), 1)
        say("warning", f"{counted(count, 'file')} could not be read ({part}).", words)
    else:
        say("fine", "Everything could be read.")
    if not set(counts) & set(TEST_SPLITS):
        people = ", each person on one side" * bool(seen["people"])
        words = f"Training holds out --test-share of it, or one part of it with --fold{people}."
        say("note", "The data brings no test split.", words)
    if several := (seen["people"] or {}).get("in_several_splits"):
        words = "A model may learn who it is: --fold and cross-validate keep people on one side."
        say("warning", f"{counted(several, 'person', 'people')} in more than one split.", words)
    if without := (seen["votes"] or {}).get("without"):
        words = f"{counted(without, 'image')} without a vote for a class."
        say("note", words, "They keep only FER2013's label.")
    return sorted(found, key=lambda finding: list(SIGNS).index(finding.level))


def inspection_lines(seen: dict) -> list[str]:
    """Return an inspection as lines for a terminal of 100 columns."""
    classes, counts = counted(len(seen["class_names"]), "class", "classes"), seen["counts"]
    header = ["", *(name.replace("_", " ") for name in counts), "all", "share"]
    columns = [[*of_class.values(), sum(of_class.values())] for of_class in counts.values()]
    rows = []
    for name, *numbers in zip((*seen["class_names"], "all"), *columns, strict=True):
        part = share(sum(numbers) / max(1, seen["images"]), 1) if name != "all" else ""
        rows.append([name, *(f"{number:,}" for number in (*numbers, sum(numbers))), part])
    lines = [f"{counted(seen['images'], 'image')} of {classes}", "", *table(header, rows), ""]
    if sizes := seen["sizes"]:
        ends = (sizes[f"{which}_wh"] for which in ("smallest", "largest", "most_common"))
        smallest, largest, common = (f"{width}x{height}" for width, height in ends)
        images = counted(sizes["most_common_images"], "image")
        mixed = f"{smallest} to {largest}, most often {common} ({images})"
        lines.append(f"Sizes        {mixed if sizes['kinds'] > 1 else f'all {common}'}")
    people = "not known (--subject-pattern reads them from file names)"
    if seen["people"]:
        people = f"{seen['people']['count']:,}"
        if unknown := seen["people"]["images_unknown"]:
            people += f", not known on {unknown:,} images"
    lines.append(f"People       {people}")
    if ratio := seen["imbalance"]:
        lines.append(f"Balance      the largest class is {ratio:.1f} times the smallest")
    if votes := seen["votes"]:
        agreed = f"the label has the most votes on {share(votes['agreement'], 1)} of them"
        lines.append(f"Votes        on {votes['images']:,} images; {agreed}")
    for finding in findings(seen):
        lines.append("")
        for start, words in ((SIGNS[finding.level], finding.text), ("  →", finding.consequence)):
            first, indent = f"{start} ", " " * (len(start) + 1)
            lines += textwrap.wrap(words, WIDTH, initial_indent=first, subsequent_indent=indent)
    skipped = seen["unreadable"]
    lines += ["", "Skipped:"] if skipped else []
    for line in skipped[:SHOWN_LINES]:  # the reason is at the end
        lines.append(f"  {line if len(line) <= WIDTH else f'...{line[3 - WIDTH :]}'}")
    if len(skipped) > SHOWN_LINES:
        lines.append(f"  and {len(skipped) - SHOWN_LINES:,} more")
    return lines


def write_inspection(folder: Path, dataset: Dataset, seen: dict) -> Path:
    """Write `inspection.html`, which loads nothing from elsewhere, and its parts."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {  # of the groups: the tables name them
        key: {"groups": len(seen[key]), "images": sum(map(len, seen[key]))}
        for key in ("duplicates", "spanning", "conflicting")
    }
    found = [finding._asdict() for finding in findings(seen)]
    write_json(folder / "inspection.json", seen | numbers | {"findings": found})
    class_of = np.array(dataset.class_names)[dataset.labels]
    skipped = [line.partition(": ") for line in dataset.unreadable]
    rows = [{"name": name, "reason": reason} for name, _, reason in skipped]
    write_csv(folder / "unreadable.csv", rows, "name reason")
    columns = {"name": dataset.names, "split": dataset.splits, "class": class_of}
    for name, key in (("duplicates", "duplicates"), ("conflicts", "conflicting")):
        rows = [
            {"group": number, "row": row} | {of: column[row] for of, column in columns.items()}
            for number, group in enumerate(seen[key], start=1)
            for row in group
        ]
        write_csv(folder / f"{name}.csv", rows, "group row name split class")
    sheet = folder / "contact_sheet.png"
    with whole_file(sheet) as part:
        _sheet_figure(dataset, seen).savefig(part, dpi=120)
    template = Path(__file__).with_name("inspection.html").read_text(encoding="utf-8")
    strict = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True}
    lines, picture = inspection_lines(seen), data_url(sheet.read_bytes())
    page = jinja2.Template(template, **strict).render(lines=lines, picture=picture)
    with whole_file(folder / "inspection.html") as part:
        part.write_text(page, encoding="utf-8")
    return folder / "inspection.html"


def _sheet_figure(dataset: Dataset, seen: dict) -> Figure:
    splits = list(seen["counts"])[:2] or [NO_SPLIT]
    columns = SHEET_COLUMNS[: len(splits)]
    lines = max(1, len(dataset.class_names))
    figure = Figure(figsize=(1.4 + 0.62 * sum(columns), 0.7 + 0.68 * lines), layout="constrained")
    grid = figure.subplots(lines, len(splits), squeeze=False, width_ratios=columns)
    random = np.random.default_rng(SHEET_SEED)
    for (place, block), axes in np.ndenumerate(grid):
        split = splits[block].replace(NO_SPLIT, "")
        rows = np.flatnonzero((dataset.labels == place) & (dataset.splits == split))
        rows = random.choice(rows, min(columns[block], len(rows)), replace=False)
        cells = np.full((columns[block], IMAGE_SIDE, IMAGE_SIDE + 2), 255, np.uint8)
        cells[: len(rows), :, :IMAGE_SIDE] = dataset.images[rows]
        strip = np.hstack(cells)[:, :-2]
        axes.imshow(strip, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        if place == 0:
            axes.set_title(splits[block].replace("_", " "), loc="left", fontsize=10)
        if block == 0:
            label = f"{dataset.class_names[place]}\n{int((dataset.labels == place).sum()):,}"
            axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
    return figure
