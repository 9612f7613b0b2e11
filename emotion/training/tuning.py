"""Search for the settings that train the best network: Optuna proposes, validation decides."""

import logging
import shlex
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path

import keras
import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from emotion.errors import TrainingError
from emotion.files import write_csv
from emotion.text import first_line, table
from emotion.training.data.dataset import Dataset
from emotion.training.fitting.checkpoints import identity_of, require_same
from emotion.training.fitting.fitting import fit
from emotion.training.settings import BEST_RATES, TrainingSettings, flag_of

COMPLETE, PRUNED, FAILED = "complete", "pruned", "failed"
RATE_FACTORS = (0.1, 3.0)  # ends of the searched rates, as factors of the optimizer's usual one
WEIGHT_DECAYS = (1e-4, 5e-2)
RANDOM_TRIALS = 8  # drawn at random before the sampler learns from them
TRIALS_BEFORE_PRUNING = 4
SHOWN_TRIALS = 20

COLUMNS = {  # of a table; the others have the names of the settings
    "learning_rate": "rate",
    "weight_decay": "decay",
    "label_smoothing": "smoothing",
    "augmentation": "augment",
    "batch_size": "batch",
}


@dataclass(frozen=True)
class Trial:  # one training run of a search
    number: int  # counted from 1
    state: str  # "complete", "pruned" (stopped early for being behind the others) or "failed"
    settings: dict[str, object]  # those that are searched
    accuracy: float | None  # the best on validation, 0 to 1; None if the trial failed
    epochs: int
    seconds: float  # of the last try if it was interrupted
    reason: str = ""  # why it failed

    def cells(self) -> dict[str, str]:
        values = {COLUMNS.get(name, name): value for name, value in self.settings.items()}
        return {
            "trial": str(self.number),
            "validation": "-" if self.accuracy is None else f"{self.accuracy:.2%}",
            "epochs": f"{self.epochs}" + (f" {self.state}" if self.state != COMPLETE else ""),
            "optimizer": str(values.pop("optimizer")),
        } | {
            column: f"{value:g}" if isinstance(value, float) else str(value)
            for column, value in values.items()
        }

    def __str__(self) -> str:
        outcome = f"{self.accuracy:.2%}" if self.state == COMPLETE else self.reason or "stopped"
        searched = list(self.cells().items())[3:]  # after number, outcome and epochs
        return f"{outcome}; {', '.join(f'{name} {value}' for name, value in searched)}"


@dataclass(frozen=True)
class Tuning:  # a search and what came out of it
    settings: TrainingSettings  # what was not searched, and where the search started
    trials: tuple[Trial, ...]  # in the order they were run

    @property
    def best(self) -> Trial:
        complete = [trial for trial in self.trials if trial.state == COMPLETE]
        return max(complete, key=lambda trial: trial.accuracy)

    @property
    def winning_settings(self) -> TrainingSettings:
        return replace(self.settings, **self.best.settings)


def tune(
    dataset: Dataset, settings: TrainingSettings, trials: int, on_trial=lambda line: None
) -> Tuning:
    """Train with other settings until there are so many trials.

    The first has the settings as they are given; the next are drawn at random, and then by the
    tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for hyper-parameter
    optimization"). Trials below the median of the earlier ones at the same epoch are stopped. A
    search that was killed goes on where it stopped, in the middle of a trial too.

    Raises TrainingError: there is another search of this name, or the first trial fails.
    """
    seen = dataset.where(np.isin(dataset.splits, ("train", "validation")))
    with _open_study(study_folder(settings), seen, settings) as study:
        for trial in study.get_trials(states=(TrialState.RUNNING,)):  # a killed search left it
            study.tell(trial.number, state=TrialState.FAIL)
        while len(_finished(study)) < trials:
            finished = _run_trial(study, seen, settings)
            on_trial(f"Trial {finished.number}/{trials}: {finished}")
        return Tuning(settings, tuple(map(_as_trial, _finished(study))))


def study_folder(settings: TrainingSettings) -> Path:
    return Path(settings.runs) / f"{settings.name}_study"


def search_space(settings: TrainingSettings) -> dict[str, BaseDistribution]:
    """Return what is searched; the ranges are widened to hold the given settings."""

    def between(ends: tuple[float, float], value: float, log: bool = False) -> FloatDistribution:
        low, high = ends
        return FloatDistribution(min(low, value or low), max(high, value), log=log)

    factor = settings.rate() / BEST_RATES[settings.optimizer]
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
def _open_study(folder: Path, dataset: Dataset, settings) -> Iterator[optuna.Study]:
    """Open the study in a folder, a new one if there is none."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # TensorFlow warns of networks that are built again and again, which is meant here
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "trials.db"
    storage = None
    url = str(URL.create("sqlite", database=str(path)))
    try:
        storage = optuna.storages.RDBStorage(url)
        study = optuna.create_study(
            storage=storage, study_name="emotion", direction="maximize", load_if_exists=True
        )
        identity = identity_of(dataset, settings)
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


def _run_trial(study: optuna.Study, dataset: Dataset, settings: TrainingSettings) -> Trial:
    place = len(_finished(study))
    # The seed belongs to the place, so a search that was interrupted proposes what it would have
    # proposed, and not its first random settings again.
    seed = int(np.random.SeedSequence((settings.seed, place)).generate_state(1)[0])
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS)
    study.pruner = optuna.pruners.MedianPruner(
        n_startup_trials=TRIALS_BEFORE_PRUNING, n_warmup_steps=max(1, settings.epochs // 4)
    )
    space = search_space(settings)
    if place == 0 and not study.get_trials(states=(TrialState.WAITING,)):
        given = {name: getattr(settings, name) for name in space if name != "rate_factor"}
        given["rate_factor"] = settings.rate() / BEST_RATES[settings.optimizer]
        given["weight_decay"] = settings.weight_decay or WEIGHT_DECAYS[0]
        study.enqueue_trial(given)
    proposal = study.ask(space)
    values = dict(proposal.params)
    rate = values.pop("rate_factor") * BEST_RATES[values["optimizer"]]
    # numbers with two digits, which a person can type
    chosen = {
        name: float(f"{value:.2g}") if isinstance(value, float) else value
        for name, value in {"learning_rate": rate, **values}.items()
    }
    trial_settings = replace(settings, name=f"{settings.name}_trial{place + 1:03d}", **chosen)
    accuracies: list[float] = []
    started = time.monotonic()

    def on_epoch(row: Mapping[str, float]) -> None:
        accuracies.append(float(row["val_accuracy"]))
        proposal.report(accuracies[-1], step=int(row["epoch"]))
        if proposal.should_prune():
            raise optuna.TrialPruned

    state, reason = TrialState.PRUNED, ""
    try:
        fitted = fit(dataset, trial_settings, verbose=False, on_epoch=on_epoch)
        # of all its epochs: a trial that was interrupted has earlier ones
        accuracies = [row["val_accuracy"] for row in fitted.history]
        state = TrialState.COMPLETE
    except optuna.TrialPruned:
        pass
    except TrainingError as error:
        if not _finished(study):
            raise
        reason = str(error)
    facts = {"number": place + 1, "settings": chosen, "reason": reason}
    facts |= {"accuracy": max(accuracies, default=None), "epochs": len(accuracies)}
    facts["seconds"] = round(time.monotonic() - started, 1)
    proposal.set_user_attr("facts", facts)
    told = study.tell(proposal, max(accuracies) if state == TrialState.COMPLETE else None, state)
    shutil.rmtree(trial_settings.run_folder(), ignore_errors=True)
    keras.utils.clear_session()
    return _as_trial(told)


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def _as_trial(frozen: FrozenTrial) -> Trial:
    facts = frozen.user_attrs["facts"]
    state = COMPLETE if frozen.state == TrialState.COMPLETE else PRUNED
    return Trial(state=FAILED if facts["reason"] else state, **facts)


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
    """Return the best trials and the winner's command."""
    ranked = sorted(tuning.trials, key=lambda one: (one.state != COMPLETE, -(one.accuracy or 0)))
    rows = [trial.cells() for trial in ranked[:SHOWN_TRIALS]]
    lines = table(list(rows[0]), [list(row.values()) for row in rows])
    if len(ranked) > SHOWN_TRIALS:
        lines.append(f"and {len(ranked) - SHOWN_TRIALS} more")
    return [*lines, "", "To train the winner:", f"  {winner_command(tuning)}"]


def write_tuning(tuning: Tuning) -> Path:
    """Write the trials beside the study as `trials.csv`; return its path."""
    head = "trial", "state", "validation_accuracy", "epochs", "seconds"
    rows = []
    for trial in tuning.trials:
        facts = trial.number, trial.state, trial.accuracy, trial.epochs, trial.seconds
        rows.append(dict(zip(head, facts, strict=True)) | trial.settings | {"reason": trial.reason})
    path = study_folder(tuning.settings) / "trials.csv"
    write_csv(path, rows)
    return path
