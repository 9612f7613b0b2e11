"""What came out of a search: lines for a terminal, a table and a picture."""

import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from emotion.files import whole_file, write_csv
from emotion.text import table
from emotion.training.settings import flag_of
from emotion.training.tuning import COMPLETE, PRUNED, Tuning, search_space, study_folder

SHOWN_TRIALS = 20
MARKERS = {COMPLETE: "o", PRUNED: "x"}
LABELS = {COMPLETE: "trained to its end", PRUNED: "stopped early (drawn at the bottom)"}


def winner_command(tuning: Tuning) -> str:
    """Return the command line that trains the winner, quoted for a shell."""
    settings = tuning.winning_settings
    words = ["python3", "run.py", "train"]
    for setting in fields(settings):
        value, flag = getattr(settings, setting.name), flag_of(setting.name)
        if value == setting.default and setting.name != "dataset":
            continue
        if isinstance(value, tuple):
            words += [flag, *value]
        else:  # a value may begin with a dash
            words.append(flag if value is True else f"{flag}={value}")
    return shlex.join(words)


def tuning_lines(tuning: Tuning) -> list[str]:
    """Return the best trials, what mattered, and the winner's command."""
    ranked = sorted(tuning.trials, key=lambda one: (one.state != COMPLETE, -(one.accuracy or 0)))
    rows = [trial.cells() for trial in ranked[:SHOWN_TRIALS]]
    lines = table(list(rows[0]), [list(row.values()) for row in rows])
    if len(ranked) > SHOWN_TRIALS:
        lines.append(f"and {len(ranked) - SHOWN_TRIALS} more")
    if tuning.importances:
        told = [f"{name.replace('_', ' ')} {v:.0%}" for name, v in tuning.importances.items()]
        lines += ["", "What made the difference, roughly: " + ", ".join(told[:4])]
    return [*lines, "", "To train the winner:", f"  {winner_command(tuning)}"]


def write_tuning(tuning: Tuning) -> Path:
    """Write the trials beside the study as `trials.csv` and `trials.png`; return the picture."""
    folder = study_folder(tuning.settings)
    head = "trial", "state", "validation_accuracy", "epochs", "seconds"
    rows = []
    for trial in tuning.trials:
        facts = trial.number, trial.state, trial.accuracy, trial.epochs, trial.seconds
        rows.append(dict(zip(head, facts, strict=True)) | trial.settings | {"reason": trial.reason})
    write_csv(folder / "trials.csv", rows)
    picture = folder / "trials.png"
    with whole_file(picture) as part:
        _draw(tuning).savefig(part, dpi=110)
    return picture


def _draw(tuning: Tuning) -> Figure:
    """Draw accuracy by trial, what mattered, and accuracy over each setting."""
    trials, best = tuning.trials, tuning.best
    least = min(trial.accuracy for trial in trials if trial.state == COMPLETE)
    floor = least - 0.1 * max(best.accuracy - least, 0.01)
    heights = [trial.accuracy if trial.state == COMPLETE else floor for trial in trials]
    figure = Figure(figsize=(13, 9), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.3))
    by_trial, by_importance = above.subplots(1, 2, width_ratios=(3, 2))

    def plot(axes, places: Sequence[float], **style) -> None:
        for state, marker in MARKERS.items():
            chosen = [index for index, trial in enumerate(trials) if trial.state == state]
            points = [places[index] for index in chosen], [heights[index] for index in chosen]
            if chosen:
                axes.plot(*points, marker, label=LABELS[state], **style)
        axes.grid(alpha=0.3)

    numbers, so_far = [trial.number for trial in trials], np.maximum.accumulate(heights)
    plot(by_trial, numbers)
    by_trial.step(numbers, so_far, where="post", label="best so far", zorder=0)
    text, place = f"trial {best.number}: {best.accuracy:.2%}", (best.number, best.accuracy)
    by_trial.annotate(text, place, textcoords="offset points", xytext=(0, 7), ha="center")
    by_trial.set(title="Trials", xlabel="trial", ylabel="validation accuracy")
    by_trial.xaxis.set_major_locator(MaxNLocator(integer=True))
    by_trial.margins(x=0.08, y=0.15)
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

    space, names = search_space(tuning.settings), list(trials[0].settings)
    grid = below.subplots(2, -(-len(names) // 2), sharey=True, squeeze=False)
    below.suptitle("Validation accuracy over each setting", fontsize=12)
    ring = {"markersize": 12, "markerfacecolor": "none", "color": "black"}
    for axes, name in zip(grid.flat, names, strict=False):
        places = [trial.settings[name] for trial in trials]
        choices = getattr(space.get(name), "choices", None)
        if choices:
            places = [choices.index(value) for value in places]
            axes.set_xticks(range(len(choices)), choices)
        elif name in ("learning_rate", "weight_decay"):
            axes.set_xscale("log")
        plot(axes, places, alpha=0.7)
        axes.plot([places[best.number - 1]], [best.accuracy], "o", **ring)
        axes.set_xlabel(name.replace("_", " "))
        axes.margins(x=0.15, y=0.15)
    for axes in grid[:, 0]:
        axes.set_ylabel("validation accuracy")
    return figure
