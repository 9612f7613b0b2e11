"""The files of an inspection: its facts, its tables, its pictures, and one page with all of it."""

import base64
import csv
import io
from pathlib import Path

import jinja2
import numpy as np
from matplotlib.figure import Figure

from emotion.files import whole_file, write_json
from emotion.training.data import inspection
from emotion.training.data.dataset import IMAGE_SIDE, Dataset

SHEET_SEED = 7
SHEET_COLUMNS = (12, 6)  # images of each class on the sheet, from the first split and the second


def write_inspection(folder: Path, dataset: Dataset, seen: dict) -> Path:
    """Write the facts, tables and pictures of a dataset into a folder, and `inspection.html`, one
    page with all of it that loads nothing from elsewhere; return its path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {  # of the groups: the tables name them
        key: {"groups": len(seen[key]), "images": sum(map(len, seen[key]))}
        for key in ("duplicates", "spanning", "conflicting")
    }
    found = [finding._asdict() for finding in inspection.findings(seen)]
    write_json(folder / "inspection.json", seen | numbers | {"findings": found})
    class_of = np.array(dataset.class_names)[dataset.labels]
    skipped = (line.partition(": ")[::2] for line in dataset.unreadable)
    tables = {"unreadable": [("name", "reason"), *skipped]}
    for table, key in (("duplicates", "duplicates"), ("conflicts", "conflicting")):
        tables[table] = [("group", "row", "name", "split", "class")]
        for number, rows in enumerate(seen[key], start=1):
            for row in rows:
                facts = (column[row] for column in (dataset.names, dataset.splits, class_of))
                tables[table].append((number, row, *facts))
    for name, rows in tables.items():
        path = folder / f"{name}.csv"
        with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    figures = {"class_counts": _counts_figure(seen), "contact_sheet": _sheet_figure(dataset, seen)}
    pictures = {}
    for name, figure in figures.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=120)
        pictures[name] = base64.b64encode(buffer.getvalue()).decode()
        with whole_file(folder / f"{name}.png") as part:
            part.write_bytes(buffer.getvalue())
    template = Path(__file__).with_name("inspection.html").read_text(encoding="utf-8")
    strict = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True}
    lines = inspection.inspection_lines(seen)
    page = jinja2.Template(template, **strict).render(lines=lines, pictures=pictures)
    with whole_file(folder / "inspection.html") as part:
        part.write_text(page, encoding="utf-8")
    return folder / "inspection.html"


def _counts_figure(seen: dict) -> Figure:
    names, counts = seen["class_names"], seen["counts"]
    figure = Figure(figsize=(2.5 + 1.1 * len(names), 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / max(1, len(counts))
    for number, (split, of_class) in enumerate(counts.items()):
        places = np.arange(len(names)) + (number - (len(counts) - 1) / 2) * width
        label = split.replace("_", " ")
        bars = axes.bar(places, of_class.values(), width * 0.94, label=label)
        axes.bar_label(bars, fmt="{:,.0f}", fontsize=7, padding=1)
    axes.set_xticks(range(len(names)), names)
    axes.set(title="Images of each class", ylabel="images")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(y=0.1)
    if counts:
        axes.legend(frameon=False)
    return figure


def _sheet_figure(dataset: Dataset, seen: dict) -> Figure:
    """Draw a row of faces for each class, from the first two splits."""
    splits = list(seen["counts"])[:2] or [inspection.NO_SPLIT]
    columns = SHEET_COLUMNS[: len(splits)]
    lines = max(1, len(dataset.class_names))
    figure = Figure(figsize=(1.4 + 0.62 * sum(columns), 0.7 + 0.68 * lines), layout="constrained")
    grid = figure.subplots(lines, len(splits), squeeze=False, width_ratios=columns)
    random = np.random.default_rng(SHEET_SEED)
    for (place, block), axes in np.ndenumerate(grid):
        split = splits[block].replace(inspection.NO_SPLIT, "")
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
