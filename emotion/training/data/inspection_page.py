"""The files of an inspection: its facts, its tables, its pictures, and one page with all of it."""

import csv
import io
from pathlib import Path

import jinja2
import numpy as np
from matplotlib.figure import Figure

from emotion.files import whole_file, write_json
from emotion.text import data_url
from emotion.training.data import inspection
from emotion.training.data.dataset import IMAGE_SIDE, Dataset

SHEET_SEED = 7
SHEET_COLUMNS = (12, 6)  # images of each class on the sheet, from the first split and the second


def write_inspection(folder: Path, dataset: Dataset, seen: dict) -> Path:
    """Write `inspection.html`, which loads nothing from elsewhere, and its parts."""
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
    sheet = io.BytesIO()
    _sheet_figure(dataset, seen).savefig(sheet, format="png", dpi=120)
    with whole_file(folder / "contact_sheet.png") as part:
        part.write_bytes(sheet.getvalue())
    template = Path(__file__).with_name("inspection.html").read_text(encoding="utf-8")
    strict = {"autoescape": True, "undefined": jinja2.StrictUndefined, "trim_blocks": True}
    lines = inspection.inspection_lines(seen)
    picture = data_url(sheet.getvalue())
    page = jinja2.Template(template, **strict).render(lines=lines, picture=picture)
    with whole_file(folder / "inspection.html") as part:
        part.write_text(page, encoding="utf-8")
    return folder / "inspection.html"


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
