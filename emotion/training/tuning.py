"""Search for the settings that train the best network: Optuna proposes, validation decides."""

import csv
import json
import logging
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

import keras
import numpy as np
import optuna
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from emotion.errors import TrainingError
from emotion.files import whole_file
from emotion.training.data.datasets import Dataset
from emotion.training.fitting.fitting import fit
from emotion.training.settings import BEST_RATES, TrainingSettings, flag_of

STUDY_FILE = "trials.db"
STUDY_NAME = "emotion"
RATE_FACTORS = (0.1, 3.0)
"""Ends of the searched learning rates, as factors of the optimizer's usual one."""

WEIGHT_DECAYS = (1e-4, 5e-2)
LABEL_SMOOTHINGS = (0.0, 0.2)
MIXUPS = (0.0, 0.4)
BATCH_SIZES = (32, 64, 128, 256)
RANDOM_TRIALS = 8
"""Trials that are drawn at random before the sampler learns from them."""

TRIALS_BEFORE_PRUNING = 4
TRIALS_TO_COMPARE = 10
"""Trials below which nothing is said about what made the difference."""

IMPORTANCE_SEED = 7
COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
MARKERS = {COMPLETE: "o", PRUNED: "x"}


@dataclass(frozen=True)
class Trial:
    """One training run of a search.

    Attributes:
        number: counted from 1.
        state: "complete", "pruned" (stopped early for being behind the others) or "failed".
        settings: the searched settings and their values.
        accuracy: the best on validation, 0 to 1; None where the trial failed.
        epochs: epochs that were trained.
        seconds: how long that took, of the last try where the trial was interrupted.
        reason: why it failed.
    """

    number: int
    state: str
    settings: dict[str, object]
    accuracy: float | None
    epochs: int
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class Tuning:
    """A search and what came out of it.

    Attributes:
        settings: what was not searched, and where the search started.
        trials: in the order they were run.
        importances: how much of the differences between trials each setting explains, 0 to 1,
            the most important first; empty with too few trials to tell.
    """

    settings: TrainingSettings
    trials: tuple[Trial, ...]
    importances: dict[str, float]

    @property
    def best(self) -> Trial:
        """Return the complete trial with the best validation accuracy."""
        complete = [trial for trial in self.trials if trial.state == COMPLETE]
        return max(complete, key=lambda trial: trial.accuracy)

    @property
    def winning_settings(self) -> TrainingSettings:
        """Return the settings of the best trial."""
        return replace(self.settings, **self.best.settings)


def tune(
    dataset: Dataset,
    settings: TrainingSettings,
    trials: int,
    folder: Path | None = None,
    on_trial: Callable[[str], None] | None = None,
    verbose: str | int = 0,
) -> Tuning:
    """Train with other settings again and again, and learn which are good.

    The first trial has the settings as they are given; the next are drawn at random, and then by
    the tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for hyper-parameter
    optimization"). Trials below the median of the earlier ones at the same epoch are stopped. Only
    the splits "train" and "validation" are used.

    A search that was killed goes on where it stopped: finished trials stay, the interrupted one is
    taken up again from its last epoch.

    Args:
        dataset: with the splits "train" and "validation".
        settings: what is not searched, and where the search starts.
        trials: how many to have in the end, those of earlier calls included.
        folder: where the trials are kept, NAME_study below `settings.runs` where none is given.
        on_trial: called after each trial with a line about it.
        verbose: as for `fit`.

    Raises:
        TrainingError: the folder holds another search, or the first trial cannot be trained.
    """
    seen = dataset.where(np.isin(dataset.splits, ("train", "validation")))
    folder = folder or Path(settings.runs) / f"{settings.name}_study"
    with _open_study(folder, seen, settings) as study:
        _fail_interrupted(study)
        while len(_finished(study)) < trials:
            trial = _run_trial(study, seen, settings, verbose)
            if on_trial:
                on_trial(trial_line(trial, trials))
        return _summary(study, settings)


def winner_command(tuning: Tuning) -> str:
    """Return the command line that trains the winner, quoted for a shell."""
    return command_of(tuning.winning_settings)


def command_of(settings: TrainingSettings) -> str:
    """Return the command line that trains with these settings, quoted for a shell."""
    words = ["python3", "run.py", "train"]
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        if value != setting.default or setting.name == "dataset":
            words += _flag_words(flag_of(setting.name), value)
    return shlex.join(words)


def trial_line(trial: Trial, trials: int) -> str:
    """Return one trial as a line of text."""
    row = _table_row(trial)
    outcome = row["validation"] if trial.state == COMPLETE else trial.reason or "stopped"
    told = (
        f"{row['optimizer']} {row['rate']}, decay {row['decay']}, smoothing {row['smoothing']}, "
        f"{row['augment']}, mixup {row['mixup']}, batch {row['batch']}, {row['schedule']}"
    )
    return f"Trial {trial.number}/{trials}: {outcome}; {told}"


def tuning_lines(tuning: Tuning, shown: int = 20) -> list[str]:
    """Return the best trials, what mattered, and the winner's command, as lines for a terminal.

    Args:
        tuning: the search.
        shown: how many trials.
    """
    rows = [_table_row(trial) for trial in _ranked(tuning)[:shown]]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in rows[0]}
    lines = [
        "  ".join(f"{text:>{widths[name]}}" for name, text in row.items())
        for row in ({name: name for name in rows[0]}, *rows)
    ]
    left_out = len(tuning.trials) - len(rows)
    lines += [f"and {left_out} more"] if left_out else []
    if tuning.importances:
        told = [f"{name.replace('_', ' ')} {v:.0%}" for name, v in tuning.importances.items()]
        lines += ["", "What made the difference, roughly: " + ", ".join(told[:4])]
    return [*lines, "", "To train the winner:", f"  {winner_command(tuning)}"]


def write_tuning(folder: Path, tuning: Tuning) -> Path:
    """Write the trials as a table and as a picture, `trials.csv` and `trials.png`.

    Returns:
        The path of the picture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [_csv_row(trial) for trial in tuning.trials]
    with (
        whole_file(folder / "trials.csv") as part,
        part.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    picture = folder / "trials.png"
    with whole_file(picture) as part:
        _figure(tuning).savefig(part, dpi=110)
    return picture


# The search


@contextmanager
def _open_study(
    folder: Path, dataset: Dataset, settings: TrainingSettings
) -> Iterator[optuna.Study]:
    """Give the study that is kept in a folder, a new one where there is none.

    Raises:
        TrainingError: the file cannot be used, or holds a search on other data or settings.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # TensorFlow warns of networks that are built again and again, which is meant here
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / STUDY_FILE
    storage = None
    try:
        storage = optuna.storages.RDBStorage(_storage_url(path))
        study = optuna.create_study(
            storage=storage, study_name=STUDY_NAME, direction="maximize", load_if_exists=True
        )
        _require_same(study, {"data": dataset.fingerprint(), **_plain(settings)}, path)
        yield study
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise TrainingError(
            f"expected to keep the trials in {path}; it cannot be used ({_first_line(error)}): "
            "free some disk, or delete the file to start anew"
        ) from error
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()


def _storage_url(path: Path) -> str:
    """Return the address of a SQLite file as SQLAlchemy writes it."""
    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def _plain(settings: TrainingSettings) -> dict:
    """Return what a search must keep, as JSON gives it back."""
    return json.loads(json.dumps(settings.shaping()))


def _require_same(study: optuna.Study, identity: dict, path: Path) -> None:
    """Remember what a new study searches; raise where an old one searched something else."""
    before = study.user_attrs.get("identity")
    if before is None:
        study.set_user_attr("identity", identity)
        return
    for key, value in identity.items():
        if before.get(key) != value:
            what = "other data" if key == "data" else f"{key} {before.get(key)!r}"
            received = "" if key == "data" else f"; received {value!r}"
            raise TrainingError(
                f"{path} holds a search with {what}{received}; delete {path.parent} to start anew, "
                "or give another --name"
            )


def _fail_interrupted(study: optuna.Study) -> None:
    """Mark the trial that a killed search left running; its place is taken up again."""
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that were trained to an end of some kind, without interrupted ones."""
    return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def _run_trial(
    study: optuna.Study, dataset: Dataset, settings: TrainingSettings, verbose: str | int
) -> Trial:
    """Propose settings, train with them, and keep what came out."""
    place = len(_finished(study))
    _prepare_proposal(study, settings, place)
    proposal = study.ask(search_space(settings))
    chosen = _chosen(proposal.params)
    trial_settings = replace(settings, name=f"{settings.name}_trial{place + 1:03d}", **chosen)
    watch = _Watch(study, proposal)
    try:
        fitted = fit(dataset, trial_settings, verbose, on_epoch=watch.on_epoch)
        watch.rows = [row["val_accuracy"] for row in fitted.history]
        state, reason = TrialState.COMPLETE, ""
    except optuna.TrialPruned:
        state, reason = TrialState.PRUNED, ""
    except TrainingError as error:
        if not _finished(study):
            raise
        state, reason = TrialState.PRUNED, str(error)
    facts = {
        "number": place + 1,
        "settings": chosen,
        "accuracy": max(watch.rows, default=None),
        "epochs": len(watch.rows),
        "seconds": round(watch.seconds(), 1),
        "reason": reason,
    }
    proposal.set_user_attr("facts", facts)
    told = study.tell(proposal, max(watch.rows) if state == TrialState.COMPLETE else None, state)
    shutil.rmtree(trial_settings.run_folder(), ignore_errors=True)
    keras.utils.clear_session()
    return _as_trial(told)


class _Watch:
    """Follow a trial's epochs, and end it where it is behind the others."""

    def __init__(self, study: optuna.Study, proposal: optuna.Trial):
        self.proposal = proposal
        self.rows: list[float] = []
        self.started = time.monotonic()

    def on_epoch(self, row: Mapping[str, float]) -> None:
        """Tell the pruner the validation accuracy of an epoch.

        Raises:
            optuna.TrialPruned: the trial is not worth the rest of its epochs.
        """
        self.rows.append(float(row["val_accuracy"]))
        self.proposal.report(self.rows[-1], step=int(row["epoch"]))
        if self.proposal.should_prune():
            raise optuna.TrialPruned

    def seconds(self) -> float:
        """Return how long the trial took so far."""
        return time.monotonic() - self.started


def _prepare_proposal(study: optuna.Study, settings: TrainingSettings, place: int) -> None:
    """Set the sampler and the pruner for the trial at one place of the search.

    The seed belongs to the place, so a search that was interrupted proposes what it would have
    proposed, and not its first random settings again.
    """
    study.sampler = optuna.samplers.TPESampler(
        seed=int(np.random.SeedSequence((settings.seed, place)).generate_state(1)[0]),
        n_startup_trials=RANDOM_TRIALS,
    )
    study.pruner = optuna.pruners.MedianPruner(
        n_startup_trials=TRIALS_BEFORE_PRUNING, n_warmup_steps=max(1, settings.epochs // 4)
    )
    if place == 0 and not study.get_trials(states=(TrialState.WAITING,)):
        study.enqueue_trial(_starting_values(settings))


def search_space(settings: TrainingSettings) -> dict[str, BaseDistribution]:
    """Return what is searched; the ranges are widened to hold the given settings."""
    factor = settings.rate() / BEST_RATES[settings.optimizer]
    decays = _widened(WEIGHT_DECAYS, settings.weight_decay)
    choices = {field.name: field.metadata["choices"] for field in fields(settings)}
    return {
        "optimizer": CategoricalDistribution(choices["optimizer"]),
        "rate_factor": FloatDistribution(*_widened(RATE_FACTORS, factor), log=True),
        "weight_decay": FloatDistribution(*decays, log=True),
        "label_smoothing": FloatDistribution(*_widened(LABEL_SMOOTHINGS, settings.label_smoothing)),
        "augmentation": CategoricalDistribution(choices["augmentation"]),
        "mixup": FloatDistribution(*_widened(MIXUPS, settings.mixup)),
        "batch_size": CategoricalDistribution(sorted({*BATCH_SIZES, settings.batch_size})),
        "schedule": CategoricalDistribution(choices["schedule"]),
    }


def _widened(ends: tuple[float, float], value: float) -> tuple[float, float]:
    """Return a range that also holds a value, unless that is 0 where a logarithm is searched."""
    low, high = ends
    return (min(low, value) if value > 0 else low), max(high, value)


def _starting_values(settings: TrainingSettings) -> dict[str, object]:
    """Return the given settings as a proposal."""
    return {
        "optimizer": settings.optimizer,
        "rate_factor": settings.rate() / BEST_RATES[settings.optimizer],
        "weight_decay": settings.weight_decay or WEIGHT_DECAYS[0],
        "label_smoothing": settings.label_smoothing,
        "augmentation": settings.augmentation,
        "mixup": settings.mixup,
        "batch_size": settings.batch_size,
        "schedule": settings.schedule,
    }


def _chosen(params: Mapping[str, object]) -> dict[str, object]:
    """Return proposed values as settings, numbers with two digits that a person can type."""
    rounded = {
        name: float(f"{value:.2g}") if isinstance(value, float) else value
        for name, value in params.items()
        if name != "rate_factor"
    }
    rate = float(f"{params['rate_factor'] * BEST_RATES[params['optimizer']]:.2g}")
    return {"learning_rate": rate, **rounded}


# What came out


def _summary(study: optuna.Study, settings: TrainingSettings) -> Tuning:
    """Return the finished trials and what made the difference between them."""
    trials = tuple(_as_trial(frozen) for frozen in _finished(study))
    if not any(trial.state == COMPLETE for trial in trials):
        raise TrainingError("expected at least one trial; received --trials 0")
    return Tuning(settings, trials, _importances(study, trials))


def _as_trial(frozen: FrozenTrial) -> Trial:
    """Return what the study keeps about a finished trial."""
    facts = frozen.user_attrs["facts"]
    state = COMPLETE if frozen.state == TrialState.COMPLETE else PRUNED
    return Trial(state=FAILED if facts["reason"] else state, **facts)


def _importances(study: optuna.Study, trials: Sequence[Trial]) -> dict[str, float]:
    """Return how much of the variance each setting explains (fANOVA, Hutter et al. 2014).

    Optuna's default, PED-ANOVA, compares with what was tried, and so takes a setting on which the
    sampler settled early for unimportant.
    """
    accuracies = {trial.accuracy for trial in trials if trial.state == COMPLETE}
    if len(accuracies) < TRIALS_TO_COMPARE:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=IMPORTANCE_SEED)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    names = {"rate_factor": "learning_rate"}
    return {names.get(name, name): float(share) for name, share in shares.items()}


def _ranked(tuning: Tuning) -> list[Trial]:
    """Return complete trials, the best first, then the others."""
    return sorted(
        tuning.trials, key=lambda trial: (trial.state != COMPLETE, -(trial.accuracy or 0))
    )


def _table_row(trial: Trial) -> dict[str, str]:
    """Return a trial as a row of a table 100 columns wide."""
    values = trial.settings
    return {
        "trial": str(trial.number),
        "validation": f"{trial.accuracy:.2%}" if trial.accuracy is not None else "-",
        "epochs": f"{trial.epochs}" + (f" {trial.state}" if trial.state != COMPLETE else ""),
        "optimizer": str(values["optimizer"]),
        "rate": _shown(values["learning_rate"]),
        "decay": _shown(values["weight_decay"]),
        "smoothing": _shown(values["label_smoothing"]),
        "augment": str(values["augmentation"]),
        "mixup": _shown(values["mixup"]),
        "batch": str(values["batch_size"]),
        "schedule": str(values["schedule"]),
    }


def _csv_row(trial: Trial) -> dict[str, object]:
    """Return a trial as a row for a file."""
    return {
        "trial": trial.number,
        "state": trial.state,
        "validation_accuracy": trial.accuracy,
        "epochs": trial.epochs,
        "seconds": trial.seconds,
        **trial.settings,
        "reason": trial.reason,
    }


def _flag_words(flag: str, value: object) -> list[str]:
    """Return a flag and its value as words of a command line."""
    if isinstance(value, bool):
        return [flag]
    if isinstance(value, tuple):
        return [flag, *map(str, value)]
    return [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]


def _shown(value: object) -> str:
    """Return a value as a person writes it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its kind."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _figure(tuning: Tuning) -> Figure:
    """Draw accuracy by trial, what mattered, and accuracy over each setting."""
    names = list(tuning.trials[0].settings)
    least = min(trial.accuracy for trial in tuning.trials if trial.state == COMPLETE)
    figure = Figure(figsize=(13, 9), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.3))
    by_trial, by_importance = above.subplots(1, 2, width_ratios=(3, 2))
    floor = least - 0.1 * max(tuning.best.accuracy - least, 0.01)
    _draw_trials(by_trial, tuning, floor)
    _draw_importances(by_importance, tuning.importances)
    grid = below.subplots(2, -(-len(names) // 2), sharey=True, squeeze=False)
    below.suptitle("Validation accuracy over each setting", fontsize=12)
    for axes, name in zip(grid.flat, names, strict=False):
        _draw_slice(axes, tuning, name, floor)
    for axes in grid[:, 0]:
        axes.set_ylabel("validation accuracy")
    return figure


def _draw_trials(axes, tuning: Tuning, floor: float) -> None:
    """Draw the accuracy of each trial and the best so far."""
    labels = {COMPLETE: "trained to its end", PRUNED: "stopped early (drawn at the bottom)"}
    for state, places, accuracies in _points(tuning, floor, lambda trial: trial.number):
        axes.plot(places, accuracies, MARKERS[state], label=labels[state])
    scores = [trial.accuracy if trial.state == COMPLETE else floor for trial in tuning.trials]
    places = [trial.number for trial in tuning.trials]
    axes.step(places, np.maximum.accumulate(scores), where="post", label="best so far", zorder=0)
    best = tuning.best
    text, place = f"trial {best.number}: {best.accuracy:.2%}", (best.number, best.accuracy)
    axes.annotate(text, place, textcoords="offset points", xytext=(0, 7), ha="center")
    axes.set(title="Trials", xlabel="trial", ylabel="validation accuracy")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.08, y=0.15)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")


def _points(tuning: Tuning, floor: float, place: Callable[[Trial], float]) -> Iterator[tuple]:
    """Yield state, places and accuracies of the trials; those stopped early stand on the floor."""
    for state in MARKERS:
        chosen = [trial for trial in tuning.trials if trial.state == state]
        accuracies = [trial.accuracy if state == COMPLETE else floor for trial in chosen]
        if chosen:
            yield state, [place(trial) for trial in chosen], accuracies


def _draw_importances(axes, importances: Mapping[str, float]) -> None:
    """Draw how much each setting mattered, the most important on top."""
    axes.set_title("What made the difference, roughly")
    if not importances:
        axes.axis("off")
        axes.text(0.5, 0.5, "too few trials to tell", ha="center", transform=axes.transAxes)
        return
    names = list(reversed(importances))
    bars = axes.barh([name.replace("_", " ") for name in names], [importances[n] for n in names])
    axes.bar_label(bars, fmt="{:.0%}", padding=3)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_xticks([])
    axes.margins(x=0.12)


def _draw_slice(axes, tuning: Tuning, name: str, floor: float) -> None:
    """Draw the accuracy of each trial over one of its settings."""
    kinds = _kinds(tuning, name)

    def place(trial: Trial) -> float:
        return kinds.index(trial.settings[name]) if kinds else trial.settings[name]

    for state, places, accuracies in _points(tuning, floor, place):
        axes.plot(places, accuracies, MARKERS[state], alpha=0.7)
    ring = {"markersize": 12, "markerfacecolor": "none", "color": "black"}
    axes.plot([place(tuning.best)], [tuning.best.accuracy], "o", **ring)
    if kinds:
        axes.set_xticks(range(len(kinds)), kinds)
    elif name in ("learning_rate", "weight_decay"):
        axes.set_xscale("log")
    axes.set_xlabel(name.replace("_", " "))
    axes.margins(x=0.15, y=0.15)
    axes.grid(alpha=0.3)


def _kinds(tuning: Tuning, name: str) -> list:
    """Return the values of a setting that has only a few, in their order; none for a number."""
    choices = search_space(tuning.settings).get(name)
    return list(choices.choices) if isinstance(choices, CategoricalDistribution) else []
