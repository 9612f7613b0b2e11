"""Test on every image once: as many trainings as parts, each tested on a part it never saw."""

import json
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from emotion.errors import TrainingError
from emotion.files import write_csv, write_json
from emotion.model.runtime import apply_temperature
from emotion.text import table
from emotion.training.data.datasets import Dataset
from emotion.training.data.splits import make_splits
from emotion.training.fitting.checkpoints import identity_of, require_same
from emotion.training.fitting.fitting import fit
from emotion.training.measuring.evaluation import Evaluation, fit_temperature, predict_images
from emotion.training.measuring.report import summary_lines, write_evaluation
from emotion.training.settings import TrainingSettings

FIGURES = ("accuracy", "macro_f1")
KEPT = ("training_images", "validation_images", "selected_epoch", "seconds")


@dataclass(frozen=True)
class Fold:
    """One part of the data, tested by a network that was trained on the others.

    Attributes:
        number: counted from 1.
        evaluation: on the images of this part.
        training_images: images the network learned from.
        validation_images: images its epoch was selected on.
        selected_epoch: counted from 1.
        seconds: how long the training took, of the last try if it was interrupted.
    """

    number: int
    evaluation: Evaluation
    training_images: int
    validation_images: int
    selected_epoch: int
    seconds: float


@dataclass(frozen=True)
class CrossValidation:
    """All parts of the data, and their images.

    Attributes:
        folds: in order.
        images: (N, 48, 48) uint8, the tested images in the order of `pooled`.
        names: (N,) str, where each image comes from; None if not known.
    """

    folds: tuple[Fold, ...]
    images: np.ndarray
    names: np.ndarray | None

    @property
    def pooled(self) -> Evaluation:
        """Return one evaluation of all images, each answered by the network that never saw it."""
        evaluations = [fold.evaluation for fold in self.folds]
        return Evaluation(
            class_names=evaluations[0].class_names,
            labels=np.concatenate([evaluation.labels for evaluation in evaluations]),
            probabilities=np.concatenate([each.probabilities for each in evaluations]),
        )

    def mean(self, figure: str) -> float:
        """Return the mean over the folds of "accuracy" or "macro_f1"."""
        return float(np.mean([getattr(fold.evaluation, figure) for fold in self.folds]))

    def deviation(self, figure: str) -> float:
        """Return the sample standard deviation over the folds of "accuracy" or "macro_f1"."""
        return float(np.std([getattr(fold.evaluation, figure) for fold in self.folds], ddof=1))


def cross_validate(
    dataset: Dataset,
    settings: TrainingSettings,
    on_fold: Callable[[str], None] | None = None,
    verbose: str | int = "auto",
) -> CrossValidation:
    """Train and test `settings.folds` times.

    For each part: choose it as the test split, the same person never on both sides -> remove leaks
    -> hold out validation -> fit -> calibrate on validation -> answer the part's images. A
    cross-validation that was killed goes on where it stopped: finished folds are kept below
    `settings.runs`, an unfinished one goes on from its last epoch.

    Args:
        dataset: as it was read; it needs no splits.
        settings: those of each training; `fold` and `name` are set for each.
        on_fold: called after each fold with a line about it, also after one that was kept.
        verbose: as for `fit`.

    Raises:
        DatasetError: there are too few images or persons for so many folds.
        TrainingError: a fold was kept that had other data or settings.
    """
    # TensorFlow warns of networks that are built again and again, which is meant here
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    folds, images, names = [], [], []
    for number in range(1, settings.folds + 1):
        fold_settings = replace(settings, fold=number, name=f"{settings.name}_fold{number}")
        parts, _ = make_splits(dataset, fold_settings)
        fold = _kept_fold(parts, fold_settings) or _run_fold(parts, fold_settings, verbose)
        tested = parts.split("test")
        folds.append(fold)
        images.append(tested.images)
        names.append(tested.names)
        if on_fold:
            on_fold(fold_line(fold, settings.folds))
    return CrossValidation(
        folds=tuple(folds),
        images=np.concatenate(images),
        names=None if dataset.names is None else np.concatenate(names),
    )


def fold_line(fold: Fold, folds: int) -> str:
    """Return one fold as a line of text."""
    return (
        f"Fold {fold.number}/{folds}: accuracy {fold.evaluation.accuracy:.2%}, "
        f"macro F1 {fold.evaluation.macro_f1:.3f} on {len(fold.evaluation.labels):,} images"
    )


def cross_validation_lines(result: CrossValidation) -> list[str]:
    """Return the folds, their mean and spread, and the pooled figures, as lines for a terminal."""
    head = ("fold", "accuracy", "macro F1", "trained on", "validated on", "tested on", "epoch")
    rows = [
        (
            str(fold.number),
            f"{fold.evaluation.accuracy:.2%}",
            f"{fold.evaluation.macro_f1:.3f}",
            f"{fold.training_images:,}",
            f"{fold.validation_images:,}",
            f"{len(fold.evaluation.labels):,}",
            str(fold.selected_epoch),
        )
        for fold in result.folds
    ]
    lines = [
        *table(head, rows),
        "",
        f"Mean and standard deviation over {len(result.folds)} folds: "
        f"accuracy {result.mean('accuracy'):.2%} ± {result.deviation('accuracy'):.2%}, "
        f"macro F1 {result.mean('macro_f1'):.3f} ± {result.deviation('macro_f1'):.3f}",
        "",
        "All folds together, each image answered by the network that never saw it:",
    ]
    return lines + summary_lines(result.pooled)


def write_cross_validation(folder: Path, result: CrossValidation) -> Path:
    """Write everything about a cross-validation.

    `cross_validation.json`; `folds.csv`, a row a fold; `predictions.csv`, a row an image; and the
    tables and figures of the pooled evaluation, as for a single one.

    Args:
        folder: made where it is missing.
        result: the folds.

    Returns:
        The path of `cross_validation.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "fold": fold.number,
            "accuracy": fold.evaluation.accuracy,
            "macro_f1": fold.evaluation.macro_f1,
            "training_images": fold.training_images,
            "validation_images": fold.validation_images,
            "test_images": len(fold.evaluation.labels),
            "selected_epoch": fold.selected_epoch,
            "seconds": fold.seconds,
        }
        for fold in result.folds
    ]
    spread = {
        name: {"mean": result.mean(name), "standard_deviation": result.deviation(name)}
        for name in FIGURES
    }
    content = {"folds": rows, **spread, "pooled": result.pooled.summary()}
    summary = folder / "cross_validation.json"
    write_json(summary, content)
    write_csv(folder / "folds.csv", rows)
    write_csv(folder / "predictions.csv", _prediction_rows(result))
    write_evaluation(folder, result.pooled, result.images)
    return summary


def _run_fold(parts: Dataset, settings: TrainingSettings, verbose: str | int) -> Fold:
    """Train on all parts but one, test on that one, and keep the result."""
    started = time.monotonic()
    fitted = fit(parts, settings, verbose)
    validation, tested = parts.split("validation"), parts.split("test")
    temperature = fit_temperature(
        validation.labels, predict_images(fitted.network.predict_on_batch, validation.images)
    )
    probabilities = apply_temperature(
        predict_images(fitted.network.predict_on_batch, tested.images), temperature
    )
    fold = Fold(
        number=settings.fold,
        evaluation=Evaluation(parts.class_names, tested.labels, probabilities),
        training_images=len(parts.split("train")),
        validation_images=len(validation),
        selected_epoch=fitted.selected_epoch,
        seconds=round(time.monotonic() - started, 1),
    )
    path = _result_path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {name: getattr(fold, name) for name in KEPT}
    write_json(
        path,
        {
            "identity": identity_of(parts, settings),
            "fold": kept,
            "probabilities": probabilities.tolist(),
        },
    )
    shutil.rmtree(settings.run_folder(), ignore_errors=True)  # the checkpoint is done with
    keras.utils.clear_session()
    return fold


def _result_path(settings: TrainingSettings) -> Path:
    """Return where a finished fold is kept, beside its run folder."""
    return settings.run_folder().with_name(f"{settings.name}.json")


def _kept_fold(parts: Dataset, settings: TrainingSettings) -> Fold | None:
    """Return a fold that was finished before, None if there is none.

    Raises:
        TrainingError: it had other data or settings, or cannot be read.
    """
    path = _result_path(settings)
    if not path.exists():
        return None
    way_out = f"delete {path} to train this fold again, or give another --name"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        require_same(kept["identity"], identity_of(parts, settings), path, "a fold", way_out)
        probabilities = np.array(kept["probabilities"])
        evaluation = Evaluation(parts.class_names, parts.split("test").labels, probabilities)
        return Fold(settings.fold, evaluation, **kept["fold"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"expected a finished fold in {path}; it cannot be used ({error}): {way_out}"
        ) from error


def _prediction_rows(result: CrossValidation) -> list[dict]:
    """Return a row an image: where it comes from, its fold, its class and the answer."""
    rows = []
    for fold in result.folds:
        evaluation = fold.evaluation
        names, answers = evaluation.class_names, evaluation.predictions
        for row, (label, answer) in enumerate(zip(evaluation.labels, answers, strict=True)):
            source = len(rows) if result.names is None else str(result.names[len(rows)])
            rows.append(
                {
                    "name": source,
                    "fold": fold.number,
                    "true_class": names[label],
                    "answer": names[answer],
                    "probability": round(float(evaluation.probabilities[row, answer]), 4),
                }
            )
    return rows
