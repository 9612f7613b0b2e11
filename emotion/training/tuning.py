"""Search for the settings that train the best network: Optuna proposes, validation decides."""

import itertools
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path

import keras
import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from emotion.errors import TrainingError
from emotion.files import write_csv
from emotion.text import first_line, share, table
from emotion.training.data.dataset import Dataset
from emotion.training.fitting.checkpoints import identity_of, require_same
from emotion.training.fitting.fitting import fit
from emotion.training.settings import ALL, TrainingSettings, changed, words_of

RATE_FACTORS = (0.1, 3.0)  # ends of the searched rates, as factors of the optimizer's usual one
WEIGHT_DECAYS = (1e-4, 5e-2)
RANDOM_TRIALS = 8  # drawn at random before the sampler learns from them
TRIALS_BEFORE_PRUNING = 4
SHOWN_TRIALS = 20
SEARCHABLE = ALL[ALL.index("architecture") : ALL.index("seed")]  # in a grid

SEARCHED = {  # the settings that are searched, and what a table calls them
    "optimizer": "optimizer",
    "learning_rate": "rate",
    "weight_decay": "decay",
    "label_smoothing": "smoothing",
    "augmentation": "augment",
    "mixup": "mixup",
    "batch_size": "batch",
    "schedule": "schedule",
}


def read_grid(words: Sequence[str], settings: TrainingSettings) -> list[dict]:
    """Return the settings of each trial: all combinations of `rate=0.1,0.01 batch_size=64,128`."""
    axes = {}
    for word in words:
        name, _, values = word.partition("=")
        name = {"rate": "learning_rate", "batch": "batch_size"}.get(name, name.replace("-", "_"))
        try:
            kind = type(getattr(settings, name if name in SEARCHABLE else ""))
            axes[name] = [kind(value) for value in values.split(",")]
        except (AttributeError, ValueError) as error:
            expected = "expected --grid as settings of the network or the fitting with values"
            raise TrainingError(f"{expected}, such as rate=0.1,0.01; received {word}") from error
    grid = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    for chosen in grid:
        replace(settings, **chosen)  # a value out of range is known before the first training
    return grid


def tune(
    dataset: Dataset,
    settings: TrainingSettings,
    trials: int,
    on_trial=lambda line: None,
    grid: Sequence[dict] = (),
) -> list[dict]:
    """Train with other settings until there are so many trials; return a row of facts on each.

    These are all of a grid; or first the given settings, then random ones, then those of the
    tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for hyper-parameter
    optimization"), stopped where below the median of earlier ones at the same epoch. A search that
    was killed goes on. Raises TrainingError: another search has the name, or the first trial fails.
    """
    seen = dataset.where(np.isin(dataset.splits, ("train", "validation")))
    trials = len(grid) or trials
    identity = identity_of(seen, settings) | {"grid": list(grid) or None}
    with _open_study(study_folder(settings), identity) as study:
        for trial in study.get_trials(states=(TrialState.RUNNING,)):  # a killed search left it
            study.tell(trial.number, state=TrialState.FAIL)
        while len(rows := _finished_rows(study)) < trials:
            row = _run_trial(study, seen, settings, grid, len(rows))
            is_complete = row["state"] == "complete"
            outcome = f"{row['validation_accuracy']:.2%}" if is_complete else row["reason"]
            words = ", ".join(f"{name} {cell}" for name, cell in _searched_cells(row, grid).items())
            on_trial(f"Trial {row['trial']}/{trials}: {outcome or 'stopped'}; {words}")
        return rows


def study_folder(settings: TrainingSettings) -> Path:
    return Path(settings.runs) / f"{settings.name}_study"


def search_space(settings: TrainingSettings) -> dict[str, BaseDistribution]:
    """Return what is searched; the ranges are widened to hold the given settings."""

    def between(ends: tuple[float, float], value: float, log: bool = False) -> FloatDistribution:
        low, high = ends
        return FloatDistribution(min(low, value or low), max(high, value), log=log)

    factor = settings.rate() / settings.usual_rate()
    choices = {field.name: field.metadata["choices"] for field in fields(settings)}
    return {
        "optimizer": CategoricalDistribution(choices["optimizer"]),
        "rate_factor": between(RATE_FACTORS, factor, log=True),
        "weight_decay": between(WEIGHT_DECAYS, settings.weight_decay, log=True),
        "label_smoothing": between((0.0, 0.2), settings.label_smoothing),
        "augmentation": CategoricalDistribution(choices["augmentation"]),
        "mixup": between((0.0, 0.4), settings.mixup),
        "batch_size": CategoricalDistribution(sorted({32, 64, 128, 256, settings.batch_size})),
        "schedule": CategoricalDistribution(choices["schedule"]),
    }


@contextmanager
def _open_study(folder: Path, identity: Mapping) -> Iterator[optuna.Study]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    path, storage = folder / "trials.db", None
    try:
        storage = optuna.storages.RDBStorage(str(URL.create("sqlite", database=str(path))))
        how = {"direction": "maximize", "load_if_exists": True}
        study = optuna.create_study(storage=storage, study_name="rows", **how)
        if "identity" not in study.user_attrs:
            study.set_user_attr("identity", identity)
        way_out = f"delete {folder} to start anew, or give another --name"
        require_same(study.user_attrs["identity"], identity, path, "a search", way_out)
        yield study
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise TrainingError(
            f"expected to keep the trials in {path}; it cannot be used ({first_line(error)}): "
            "free some disk, or delete the file to start anew"
        ) from error
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()


def _run_trial(
    study: optuna.Study, dataset: Dataset, settings: TrainingSettings, grid, place: int
) -> dict:
    """Return the trial as a row of `trials.csv`, with a reason if it failed."""
    # The seed belongs to the place, so a search that was interrupted proposes what it would have
    # proposed, and not its first random settings again.
    seed = int(np.random.SeedSequence((settings.seed, place)).generate_state(1)[0])
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS)
    first, steps = TRIALS_BEFORE_PRUNING, max(1, settings.epochs // 4)
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=first, n_warmup_steps=steps)
    space = {} if grid else search_space(settings)
    if not grid and place == 0 and not study.get_trials(states=(TrialState.WAITING,)):
        given = {name: getattr(settings, name) for name in space if name != "rate_factor"}
        given["rate_factor"] = settings.rate() / settings.usual_rate()
        given["weight_decay"] = settings.weight_decay or WEIGHT_DECAYS[0]
        study.enqueue_trial(given)
    proposal = study.ask(space)
    chosen = grid[place] if grid else _chosen(proposal.params, settings)
    trial_settings = replace(settings, name=f"{settings.name}_trial{place + 1:03d}", **chosen)
    accuracies: list[float] = []
    state, reason, started = TrialState.PRUNED, "", time.monotonic()

    def on_epoch(row: Mapping[str, float]) -> None:
        accuracies.append(float(row["val_accuracy"]))
        proposal.report(accuracies[-1], step=int(row["epoch"]))
        if not grid and proposal.should_prune():
            raise optuna.TrialPruned

    try:
        fitted = fit(dataset, trial_settings, verbose=False, on_epoch=on_epoch)
        # of all its epochs: a trial that was interrupted has earlier ones
        accuracies = [row["val_accuracy"] for row in fitted.history]
        state = TrialState.COMPLETE
    except optuna.TrialPruned:
        pass
    except TrainingError as error:
        if not grid and not place:
            raise
        reason = str(error)
    row = {
        "trial": place + 1,
        "state": "failed" if reason else state.name.lower(),
        "validation_accuracy": max(accuracies, default=None),  # the best
        "epochs": len(accuracies),
        "seconds": round(time.monotonic() - started, 1),  # of the last try if it was interrupted
        **chosen,
        "reason": reason,
    }
    proposal.set_user_attr("row", row)
    study.tell(proposal, max(accuracies) if state == TrialState.COMPLETE else None, state)
    shutil.rmtree(trial_settings.run_folder(), ignore_errors=True)
    keras.utils.clear_session()
    return row


def _chosen(proposed: Mapping, settings: TrainingSettings) -> dict:
    values = dict(proposed)
    factor = values.pop("rate_factor")
    values = {"learning_rate": factor * replace(settings, **values).usual_rate(), **values}
    # numbers with two digits, which a person can type
    return {k: float(f"{v:.2g}") if isinstance(v, float) else v for k, v in values.items()}


def _finished_rows(study: optuna.Study) -> list[dict]:
    trials = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    return [trial.user_attrs["row"] for trial in trials]


def _searched_cells(row: Mapping, grid: Sequence[dict]) -> dict[str, str]:
    cells = {}
    for name in grid[0] if grid else SEARCHED:
        value = row[name]
        cells[SEARCHED.get(name, name)] = f"{value:g}" if isinstance(value, float) else str(value)
    return cells


def winning_settings(
    settings: TrainingSettings, rows: Sequence[dict], grid: Sequence[dict] = ()
) -> TrainingSettings:
    """Return the best trial's settings, with the usual epochs if the search had fewer, no limit."""
    complete = [row for row in rows if row["state"] == "complete"]
    if not complete:
        reason = rows[0]["reason"] if rows else ""
        raise TrainingError(f"expected settings that train; all of these failed: {reason}")
    best = max(complete, key=lambda row: row["validation_accuracy"])
    epochs = max(settings.epochs, TrainingSettings.epochs)
    won = {"epochs": epochs} | {name: best[name] for name in (grid[0] if grid else SEARCHED)}
    return replace(settings, limit=0, **won)


def training_command(settings: TrainingSettings) -> str:
    """Return the command line that trains with these settings, quoted for a shell."""
    command = ["distill"] if settings.teachers else []
    return shlex.join(["python3", "run.py", "train", *command, *words_of(changed(settings))])


def tuning_lines(
    settings: TrainingSettings, rows: Sequence[dict], grid: Sequence[dict] = ()
) -> list[str]:
    """Return the best trials and the command that trains the best one again."""
    by_accuracy = sorted(rows, key=lambda row: -(row["validation_accuracy"] or 0))
    ranked, cells = sorted(by_accuracy, key=lambda row: row["state"] != "complete"), []
    for row in ranked[:SHOWN_TRIALS]:
        epochs = f"{row['epochs']} {row['state']}".removesuffix(" complete")
        outcome = (str(row["trial"]), share(row["validation_accuracy"], 2), epochs)
        searched = _searched_cells(row, grid)
        searched.pop("epochs", None)  # it has a column already
        cells.append((*outcome, *searched.values()))
    lines = table(("trial", "validation", "epochs", *searched), cells)
    if len(ranked) > SHOWN_TRIALS:
        lines.append(f"and {len(ranked) - SHOWN_TRIALS} more")
    command = training_command(winning_settings(settings, rows, grid))
    return [*lines, "", "To train the winner:", f"  {command}"]


def write_tuning(settings: TrainingSettings, rows: Sequence[dict]) -> Path:
    """Write the trials beside the study as `trials.csv`; return its path."""
    path = study_folder(settings) / "trials.csv"
    write_csv(path, rows)
    return path
