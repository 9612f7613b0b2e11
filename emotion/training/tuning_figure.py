"""The picture of a search: accuracy by trial, what mattered, and accuracy over each setting."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from emotion.training.tuning import Trial, Tuning

COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
MARKERS = {COMPLETE: "o", PRUNED: "x"}
LABELS = {COMPLETE: "trained to its end", PRUNED: "stopped early (drawn at the bottom)"}


def draw_tuning(tuning: "Tuning", kinds: Mapping[str, list]) -> Figure:
    """Draw a search; `kinds` has the values, in order, of each setting that has only a few."""
    trials, best = tuning.trials, tuning.best
    least = min(trial.accuracy for trial in trials if trial.state == COMPLETE)
    floor = least - 0.1 * max(best.accuracy - least, 0.01)
    figure = Figure(figsize=(13, 9), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.3))
    by_trial, by_importance = above.subplots(1, 2, width_ratios=(3, 2))

    def points(place: Callable[["Trial"], float]) -> Iterator[tuple]:
        """Yield state, places and accuracies; trials that were stopped early stand on the floor."""
        for state in MARKERS:
            chosen = [trial for trial in trials if trial.state == state]
            accuracies = [trial.accuracy if state == COMPLETE else floor for trial in chosen]
            if chosen:
                yield state, [place(trial) for trial in chosen], accuracies

    for state, places, accuracies in points(lambda trial: trial.number):
        by_trial.plot(places, accuracies, MARKERS[state], label=LABELS[state])
    scores = [trial.accuracy if trial.state == COMPLETE else floor for trial in trials]
    so_far = np.maximum.accumulate(scores)
    by_trial.step([t.number for t in trials], so_far, where="post", label="best so far", zorder=0)
    text, place = f"trial {best.number}: {best.accuracy:.2%}", (best.number, best.accuracy)
    by_trial.annotate(text, place, textcoords="offset points", xytext=(0, 7), ha="center")
    by_trial.set(title="Trials", xlabel="trial", ylabel="validation accuracy")
    by_trial.xaxis.set_major_locator(MaxNLocator(integer=True))
    by_trial.margins(x=0.08, y=0.15)
    by_trial.grid(alpha=0.3)
    by_trial.legend(loc="lower right")

    by_importance.set_title("What made the difference, roughly")
    if tuning.importances:
        names, shares = zip(*reversed(tuning.importances.items()), strict=True)
        bars = by_importance.barh([name.replace("_", " ") for name in names], shares)
        by_importance.bar_label(bars, fmt="{:.0%}", padding=3)
        by_importance.spines[["top", "right", "bottom"]].set_visible(False)
        by_importance.set_xticks([])
        by_importance.margins(x=0.12)
    else:
        by_importance.axis("off")
        middle = {"ha": "center", "transform": by_importance.transAxes}
        by_importance.text(0.5, 0.5, "too few trials to tell", **middle)

    names = list(trials[0].settings)
    grid = below.subplots(2, -(-len(names) // 2), sharey=True, squeeze=False)
    below.suptitle("Validation accuracy over each setting", fontsize=12)
    ring = {"markersize": 12, "markerfacecolor": "none", "color": "black"}
    for axes, name in zip(grid.flat, names, strict=False):
        values = kinds.get(name)

        def value_of(trial: "Trial", name: str = name, values: list | None = values) -> float:
            return values.index(trial.settings[name]) if values else trial.settings[name]

        for state, places, accuracies in points(value_of):
            axes.plot(places, accuracies, MARKERS[state], alpha=0.7)
        axes.plot([value_of(best)], [best.accuracy], "o", **ring)
        if values:
            axes.set_xticks(range(len(values)), values)
        elif name in ("learning_rate", "weight_decay"):
            axes.set_xscale("log")
        axes.set_xlabel(name.replace("_", " "))
        axes.margins(x=0.15, y=0.15)
        axes.grid(alpha=0.3)
    for axes in grid[:, 0]:
        axes.set_ylabel("validation accuracy")
    return figure
