"""The figure of a comparison: accuracy over time, and F1 by class."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, PercentFormatter

from emotion.training.measuring.report_figures import Palette, cut

if TYPE_CHECKING:
    from emotion.training.measuring.comparison import ComparisonRow

LABEL_INCHES = 0.21  # height that the label of one model takes beside the plot
LONGEST_NAME = 28


def short(count: int | None) -> str:
    """Return a count in thousands, millions or billions."""
    if count is None:
        return "–"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def draw_comparison(rows: Sequence["ComparisonRow"], palette: Palette) -> Figure:
    """Draw accuracy over time, and F1 by class, a colour a model in both."""
    upper_inches = max(3.8, 0.8 + LABEL_INCHES * len(rows))
    figure = Figure(figsize=(8, upper_inches + 3.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=(upper_inches, 3.1))
    colors = [matplotlib.color_sequences["tab10"][number % 10] for number in range(len(rows))]
    _draw_trade(upper, rows, colors)
    _label_dots(upper, rows, colors, LABEL_INCHES / (upper_inches - 0.7), palette)
    _draw_classes(lower, rows, colors)
    handles = lower.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower left", ncols=4, handlelength=1.2)
    return figure


def _draw_trade(axes, rows: Sequence["ComparisonRow"], colors) -> None:
    """Draw accuracy with its interval over milliseconds; the dot's area is the parameters."""
    largest = max(row.parameters for row in rows)
    for row, color in zip(rows, colors, strict=True):
        area = 25 + 350 * row.parameters / largest
        axes.vlines(row.milliseconds_alone, *row.accuracy_interval, color=color, linewidth=1.5)
        axes.scatter(row.milliseconds_alone, row.accuracy, s=area, color=color, alpha=0.8)
    times = [row.milliseconds_alone for row in rows]
    axes.set(xscale="log", xlim=(min(times) / 1.8, max(times) * 1.8))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(LogLocator(subs=()))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.margins(y=0.1)
    axes.set_title(f"Accuracy and 95% interval on {rows[0].images:,} images")
    axes.set_xlabel("milliseconds a face, one at a time (area and label: parameters)")


def _label_dots(
    axes, rows: Sequence["ComparisonRow"], colors, gap: float, palette: Palette
) -> None:
    """Write the names beside the plot, at least a gap apart, each with a line to its dot."""
    bottom, top = axes.get_ylim()
    wanted = (np.array([row.accuracy for row in rows]) - bottom) / (top - bottom)
    order, steps = np.argsort(wanted, kind="stable"), np.arange(len(rows)) * gap
    # without the steps the places must only not fall: push up, push down, meet in the middle
    level = wanted[order] - steps
    upward = np.maximum.accumulate(level)
    downward = np.minimum.accumulate(level[::-1])[::-1]
    for position, height in zip(order, (upward + downward) / 2 + steps, strict=True):
        row, line = rows[position], {"arrowstyle": "-", "linewidth": 0.8, "alpha": 0.7}
        axes.annotate(
            f"{cut(row.name, LONGEST_NAME)}, {short(row.parameters)}",
            (row.milliseconds_alone, row.accuracy),
            xytext=(1.03, height),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=palette.ink,
            arrowprops=line | {"color": colors[position], "relpos": (0, 0.5)},
        )


def _draw_classes(axes, rows: Sequence["ComparisonRow"], colors) -> None:
    """Draw F1 by class, a bar a model."""
    class_names, width = list(rows[0].f1), 0.8 / len(rows)
    for number, (row, color) in enumerate(zip(rows, colors, strict=True)):
        places = np.arange(len(class_names)) - 0.4 + (number + 0.5) * width
        heights = [row.f1[name] or 0 for name in class_names]
        style = {"color": color, "hatch": "//" if number >= 10 else ""}
        axes.bar(places, heights, 0.9 * width, label=cut(row.name, LONGEST_NAME), **style)
    is_crowded = sum(map(len, class_names)) + 2 * len(class_names) > 90
    axes.set_xticks(range(len(class_names)), class_names, rotation=90 if is_crowded else 0)
    axes.grid(visible=False, axis="x")
    axes.set(ylim=(0, 1))
    axes.set_title("F1 by class")
