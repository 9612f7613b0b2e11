"""Search for the settings that train the best network: Optuna proposes, validation decides."""

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
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from emotion.errors import TrainingError
from emotion.files import whole_file, write_csv
from emotion.text import first_line, table
from emotion.training.data.datasets import Dataset
from emotion.training.fitting.checkpoints import identity_of, require_same
from emotion.training.fitting.fitting import fit
from emotion.training.settings import BEST_RATES, TrainingSettings, flag_of
from emotion.training.tuning_figure import COMPLETE, FAILED, PRUNED, draw_tuning

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


@dataclass(frozen=True)
class Trial:
    """One training run of a search.

    Attributes:
        number: counted from 1.
        state: "complete", "pruned" (stopped early for being behind the others) or "failed".
        settings: the searched settings and their values.
        accuracy: the best on validation, 0 to 1; None if the trial failed.
        epochs: epochs that were trained.
        seconds: how long that took, of the last try if it was interrupted.
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
        folder: where the trials are kept, NAME_study below `settings.runs` if not given.
        on_trial: called after each trial with a line about it.
        verbose: as for `fit`.

    Raises:
        TrainingError: the folder holds another search, or the first trial cannot be trained.
    """
    seen = dataset.where(np.isin(dataset.splits, ("train", "validation")))
    folder = folder or Path(settings.runs) / f"{settings.name}_study"
    with _open_study(folder, seen, settings) as study:
        for trial in study.get_trials(states=(TrialState.RUNNING,)):  # a killed search left it
            study.tell(trial.number, state=TrialState.FAIL)
        while len(_finished(study)) < trials:
            finished = _run_trial(study, seen, settings, verbose)
            if on_trial:
                on_trial(trial_line(finished, trials))
        done = tuple(_as_trial(frozen) for frozen in _finished(study))
        if not any(trial.state == COMPLETE for trial in done):
            raise TrainingError("expected at least one trial; received --trials 0")
        return Tuning(settings, done, _importances(study, done))


def winner_command(tuning: Tuning) -> str:
    """Return the command line that trains the winner, quoted for a shell."""
    settings = tuning.winning_settings
    words = ["python3", "run.py", "train"]
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        if value == setting.default and setting.name != "dataset":
            continue
        flag, text = flag_of(setting.name), str(value)
        if isinstance(value, bool):
            words.append(flag)
        elif isinstance(value, tuple):
            words += [flag, *map(str, value)]
        else:
            words += [f"{flag}={text}"] if text.startswith("-") else [flag, text]
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
    ranked = sorted(tuning.trials, key=lambda one: (one.state != COMPLETE, -(one.accuracy or 0)))
    rows = [_table_row(trial) for trial in ranked[:shown]]
    lines = table(list(rows[0]), [list(row.values()) for row in rows])
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
    rows = [
        {
            "trial": trial.number,
            "state": trial.state,
            "validation_accuracy": trial.accuracy,
            "epochs": trial.epochs,
            "seconds": trial.seconds,
            **trial.settings,
            "reason": trial.reason,
        }
        for trial in tuning.trials
    ]
    write_csv(folder / "trials.csv", rows)
    picture = folder / "trials.png"
    space = search_space(tuning.settings).items()
    kinds = {name: list(s.choices) for name, s in space if isinstance(s, CategoricalDistribution)}
    with whole_file(picture) as part:
        draw_tuning(tuning, kinds).savefig(part, dpi=110)
    return picture


@contextmanager
def _open_study(
    folder: Path, dataset: Dataset, settings: TrainingSettings
) -> Iterator[optuna.Study]:
    """Open the study in a folder, a new one if there is none.

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
        storage = optuna.storages.RDBStorage(
            URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)
        )
        study = optuna.create_study(
            storage=storage, study_name=STUDY_NAME, direction="maximize", load_if_exists=True
        )
        identity = identity_of(dataset, settings)
        if "identity" not in study.user_attrs:
            study.set_user_attr("identity", identity)
        way_out = f"delete {path.parent} to start anew, or give another --name"
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


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    """Return the trials that were trained to an end of some kind, without interrupted ones."""
    return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))


def _run_trial(
    study: optuna.Study, dataset: Dataset, settings: TrainingSettings, verbose: str | int
) -> Trial:
    """Propose settings, train with them, and keep what came out."""
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
    # numbers with two digits, which a person can type
    chosen = {
        name: float(f"{value:.2g}") if isinstance(value, float) else value
        for name, value in proposal.params.items()
    }
    factor = proposal.params["rate_factor"]
    del chosen["rate_factor"]
    rate = float(f"{factor * BEST_RATES[proposal.params['optimizer']]:.2g}")
    chosen = {"learning_rate": rate, **chosen}
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
        fitted = fit(dataset, trial_settings, verbose, on_epoch=on_epoch)
        # of all its epochs: a trial that was interrupted has earlier ones
        accuracies = [row["val_accuracy"] for row in fitted.history]
        state = TrialState.COMPLETE
    except optuna.TrialPruned:
        pass
    except TrainingError as error:
        if not _finished(study):
            raise
        reason = str(error)
    facts = {
        "number": place + 1,
        "settings": chosen,
        "accuracy": max(accuracies, default=None),
        "epochs": len(accuracies),
        "seconds": round(time.monotonic() - started, 1),
        "reason": reason,
    }
    proposal.set_user_attr("facts", facts)
    told = study.tell(proposal, max(accuracies) if state == TrialState.COMPLETE else None, state)
    shutil.rmtree(trial_settings.run_folder(), ignore_errors=True)
    keras.utils.clear_session()
    return _as_trial(told)


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
    """Return a range that also holds a value, unless it is 0, which has no logarithm."""
    low, high = ends
    return (min(low, value) if value > 0 else low), max(high, value)


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


def _shown(value: object) -> str:
    """Return a value as a person writes it."""
    return f"{value:g}" if isinstance(value, float) else str(value)
