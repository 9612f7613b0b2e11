"""The figures of a report, narrow enough for a phone: one theme, a light and a dark palette."""

import textwrap
from collections.abc import Callable, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from emotion.labels import color_rgb
from emotion.training.measuring.evaluation import Evaluation
from emotion.training.measuring.measurement import CORRUPTIONS, LEVELS, UNCHANGED

WIDTH_INCHES = 4.2
SAMPLE_COLUMNS = 6
LONGEST_NAME = 16
LONGEST_CAPTION = 12
FIRST_COVERAGE = 0.02  # below that share of the images an accuracy rests on too few of them


class Palette(NamedTuple):
    paper: str
    ink: str
    muted: str
    grid: str
    first: str
    second: str


LIGHT = Palette("#ffffff", "#1b1f24", "#626a73", "#e3e6ea", "#0b62a8", "#c8590a")
DARK = Palette("#1a1e23", "#e8eaed", "#9aa3ad", "#333a42", "#6cb6f5", "#f2a25c")
THEME = {"font.family": "DejaVu Sans", "font.size": 9, "figure.dpi": 160, "lines.linewidth": 1.8}
THEME |= {"axes.titlesize": 9.5, "axes.titleweight": "bold", "axes.titlelocation": "left"}
THEME |= dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False)
THEME |= {"axes.grid": True, "axes.axisbelow": True, "legend.fontsize": 8}


def draw(figure_of: Callable[..., Figure], *arguments, palette: Palette = LIGHT) -> Figure:
    """Return `figure_of(*arguments, palette)` drawn in the theme, ready to be saved."""
    colours = {
        palette.paper: ("axes.facecolor", "figure.facecolor"),
        palette.ink: ("text.color", "xtick.labelcolor", "ytick.labelcolor"),
        palette.muted: ("axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"),
        palette.grid: ("grid.color",),
    }
    theme = THEME | {name: colour for colour, names in colours.items() for name in names}
    with matplotlib.rc_context(theme):
        return figure_of(*arguments, palette)


def curves(history: Sequence[dict], selected_epoch: int | None, palette: Palette) -> Figure:
    """Draw loss and accuracy over the epochs, of training and validation if known."""
    figure = _figure(4.4)
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(history) < 3 else ""
    for axes, key in zip(figure.subplots(2, 1, sharex=True), ("loss", "accuracy"), strict=True):
        for name, label, colour, style in (
            (key, "training", palette.second, "--"),
            (f"val_{key}", "validation", palette.first, "-"),
        ):
            values = [row.get(name) for row in history]
            if None not in values:
                axes.plot(epochs, values, style, color=colour, label=label, marker=marker)
        if selected_epoch is not None:
            axes.axvline(selected_epoch, color=palette.muted, linewidth=1, label="selected epoch")
        axes.set_title(key.capitalize())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1, None))
    axes.set_xlabel("epoch")
    return _with_legend(figure, axes)


def confusion_matrix(evaluation: Evaluation, palette: Palette) -> Figure:
    """Draw the confusion matrix: colour and percentage a true class, the count beneath."""
    names = [wrapped(name) for name in evaluation.class_names]
    width = max(WIDTH_INCHES, 1.1 + 0.45 * len(names))
    figure = _figure(width, width)
    axes = figure.subplots()
    axes.set_facecolor(palette.grid)  # shows where a class has no images
    shares, counts = evaluation.confusion_normalised, evaluation.confusion
    colours = LinearSegmentedColormap.from_list("shares", [palette.paper, palette.first])
    axes.imshow(shares, cmap=colours, vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        text = "–" if np.isnan(share) else f"{share:.0%}"[:-1]
        style = {"ha": "center", "color": palette.paper if share > 0.5 else palette.ink}
        axes.text(column, row, text, va="bottom", **style)
        style |= {"fontsize": 6.5, "alpha": 0.8}
        axes.text(column, row + 0.06, f"{counts[row, column]}", va="top", **style)
    axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 6 else 0)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="answer", ylabel="true class")
    title = "Confusion matrix: % of each true class, images beneath"
    figure.suptitle(title, x=0.01, ha="left", fontsize=9.5, weight="bold")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def classification_report(evaluation: Evaluation, palette: Palette) -> Figure:
    """Draw the F1 of each class as a bar, its precision and recall as marks on it."""
    rows = evaluation.per_class()[::-1]
    figure = _figure(1.5 + 0.42 * len(rows))
    axes = figure.subplots()
    marks = {"precision": ">", "recall": "<"}
    style = {"linestyle": "none", "color": palette.ink, "mec": palette.paper}
    for place, row in enumerate(rows):
        colour = np.array(color_rgb(row["class"], evaluation.class_names)) / 255
        score = row["f1"] or 0
        axes.barh(place, score, 0.6, color=colour, edgecolor=palette.muted, linewidth=0.6)
        text = f"{score:.2f}" if row["support"] else "no images"
        axes.text(1.02, place, text, va="center", color=palette.ink)
        for key, mark in marks.items():
            if row["support"] and row[key] is not None:
                axes.plot(row[key], place, marker=mark, markersize=6.5, **style)
    for key, mark in marks.items():
        axes.plot([], [], marker=mark, label=key, **style)
    axes.set_yticks(range(len(rows)), [wrapped(row["class"]) for row in rows])
    axes.set(xlim=(0, 1.0), ylim=(-0.6, len(rows) - 0.4))
    axes.set_title(f"F1 of each class (macro F1 {evaluation.macro_f1:.2f})")
    axes.grid(axis="y", visible=False)
    return _with_legend(figure, axes)


def risk_coverage(evaluation: Evaluation, one_crop: Evaluation | None, palette: Palette) -> Figure:
    """Draw the accuracy of the surest answers over the share of images answered."""
    figure = _figure(3.4)
    axes = figure.subplots()
    for measured, label, colour, style in (
        (one_crop, "one crop", palette.second, "--"),
        (evaluation, "as served", palette.first, "-"),
    ):
        if measured is not None:
            coverage, risk = measured.risk_coverage()
            drawn = coverage >= FIRST_COVERAGE
            axes.plot(coverage[drawn], 1 - risk[drawn], style, color=colour, label=label)
    rows = evaluation.accuracy_by_coverage()
    covered = [row["images"] / len(evaluation.labels) for row in rows]
    axes.plot(covered, [row["accuracy"] for row in rows], "o", ms=4.5, color=palette.first)
    axes.set(xlim=(0, 1.02), xlabel="share of the images answered, the surest first")
    axes.set_ylim(top=1.005)
    axes.set_title("Accuracy when the unsure answers are left out")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, 0))
    axes.legend(loc="lower left", reverse=True)
    return figure


def robustness(rows: Sequence[dict], palette: Palette) -> Figure:
    """Draw the accuracy over the levels of each corruption, as served and with one crop."""
    figure = _figure(5.4)
    panels = figure.subplots(3, 2, sharex=True, sharey=True).flat
    lines = {
        "accuracy": {"color": palette.first, "label": "as served", "zorder": 3},
        "accuracy_one_crop": {"color": palette.second, "label": "one crop", "linestyle": "--"},
    }
    for axes, corruption in zip(panels, CORRUPTIONS, strict=True):
        shown = [row for row in rows if row["corruption"] in (UNCHANGED, corruption)]
        for key, line in lines.items():
            values = [row[key] for row in shown]
            if None not in values:
                axes.plot(range(len(shown)), values, marker=".", **line)
        axes.set_title(corruption[0].upper() + corruption[1:])
        axes.set_xticks(range(4), ["none", *LEVELS], fontsize=7.5)
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    return _with_legend(figure, axes)


def sample_sheet(samples: Sequence[dict], title: str, palette: Palette) -> Figure:
    """Draw faces in a grid, each with its true class and the answer above it."""
    lines = max(1, -(-len(samples) // SAMPLE_COLUMNS))
    figure = _figure(0.4 + 1.45 * lines, 1.15 * SAMPLE_COLUMNS)
    figure.suptitle(title + ": none" * (not samples), x=0.01, ha="left", weight="bold")
    # one set of axes for all: a set for each face takes ten times as long to lay out
    axes = figure.subplots()
    axes.axis("off")
    for position, sample in enumerate(samples):
        line, column = divmod(position, SAMPLE_COLUMNS)
        left, top = column * 1.08, line * 1.36
        extent = (left, left + 1, top + 1, top)
        axes.imshow(sample["image"], cmap="gray", vmin=0, vmax=255, extent=extent)
        label, answer = (cut(sample[key], LONGEST_CAPTION) for key in ("true_class", "answer"))
        caption = f"{label}\n→ {answer} {sample['probability']:.0%}"
        axes.text(left + 0.5, top - 0.03, caption, ha="center", va="bottom", fontsize=6.5)
    axes.set(xlim=(0, 1.08 * SAMPLE_COLUMNS), ylim=(1.36 * lines - 0.3, -0.3), aspect="equal")
    return figure


def wrapped(name: str) -> str:
    """Return a class name on at most two lines, cut short where it is longer still."""
    lines = textwrap.wrap(name.replace("_", " "), LONGEST_NAME, max_lines=2, placeholder="…")
    return "\n".join(lines)


def cut(name: str, longest: int) -> str:
    """Return a name short enough for a caption or a table, its middle left out."""
    half = longest // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[half + 1 - longest :]}"


def _figure(height_inches: float, width_inches: float = WIDTH_INCHES) -> Figure:
    return Figure(figsize=(width_inches, height_inches), layout="constrained")


def _with_legend(figure: Figure, axes) -> Figure:
    """Put the legend of one of the axes under the figure, where it covers nothing."""
    entries = axes.get_legend_handles_labels()
    figure.legend(*entries, loc="outside lower left", ncols=3, handlelength=1.8)
    return figure
