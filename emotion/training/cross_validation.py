"""Test on every image once: as many trainings as parts, each tested on a part it never saw."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from emotion.errors import TrainingError
from emotion.files import write_csv, write_json
from emotion.model.runtime import apply_temperature
from emotion.text import table
from emotion.training.data.dataset import Dataset
from emotion.training.data.splits import make_splits
from emotion.training.fitting.checkpoints import identity_of, require_same
from emotion.training.fitting.fitting import fit
from emotion.training.measuring.evaluation import Evaluation, fit_temperature, predict_images
from emotion.training.measuring.measurement import SplitResult
from emotion.training.measuring.report import summary_lines, write_predictions, write_split
from emotion.training.settings import TrainingSettings


def cross_validate(
    dataset: Dataset, settings: TrainingSettings, on_fold: Callable[[str], None] = lambda line: None
) -> tuple[list[dict], SplitResult]:
    """Train and test `settings.folds` times; return a row a fold, and all tested images together.

    For each part: choose it as the test split, the same person never on both sides -> remove leaks
    -> hold out validation -> fit -> calibrate on validation -> answer the part's images. Finished
    folds are kept below `settings.runs`; one that was killed goes on from its last epoch.
    Raises DatasetError (too few images or persons) or TrainingError (a kept fold is of other data).
    """
    rows, columns = [], []
    for number in range(1, settings.folds + 1):
        fold_settings = replace(settings, fold=number, name=f"{settings.name}_fold{number}")
        parts, _ = make_splits(dataset, fold_settings)
        tested = parts.split("test")
        path = fold_settings.run_folder().with_name(f"{fold_settings.name}.json")
        if not path.exists():
            _run_fold(parts, fold_settings, path)
        fold, answers = _read_fold(parts, fold_settings, path)
        evaluation = Evaluation(parts.class_names, tested.labels, answers)
        splits = {"training": "train", "validation": "validation", "test": "test"}
        counts = {f"{name}_images": len(parts.split(split)) for name, split in splits.items()}
        figures = {"accuracy": evaluation.accuracy, "macro_f1": evaluation.macro_f1}
        rows.append({"fold": number, **figures, **counts, **fold})
        columns.append((tested.labels, answers, tested.images, tested.names))
        told = f"accuracy {evaluation.accuracy:.2%}, macro F1 {evaluation.macro_f1:.3f}"
        on_fold(f"Fold {number}/{settings.folds}: {told} on {len(tested):,} images")
    labels, answers, images, names = map(np.concatenate, zip(*columns, strict=True))
    pooled = Evaluation(dataset.class_names, labels, answers)
    return rows, SplitResult(pooled, None, (), images, names)


def cross_validation_lines(rows: Sequence[dict], pooled: SplitResult) -> list[str]:
    """Return the folds, their mean and spread, and the pooled figures, as lines for a terminal."""
    head = ("fold", "accuracy", "macro F1", "trained on", "validated on", "tested on", "epoch")
    forms = ("{}", "{:.2%}", "{:.3f}", "{:,}", "{:,}", "{:,}", "{}")
    cells = [list(map(str.format, forms, row.values())) for row in rows]
    accuracy, macro_f1 = _spread(rows).values()
    return [
        *table(head, cells),
        "",
        f"Mean and standard deviation over {len(rows)} folds: "
        f"accuracy {accuracy['mean']:.2%} ± {accuracy['standard_deviation']:.2%}, "
        f"macro F1 {macro_f1['mean']:.3f} ± {macro_f1['standard_deviation']:.3f}",
        "",
        "All folds together, each image answered by the network that never saw it:",
        *summary_lines(pooled),
    ]


def write_cross_validation(folder: Path, rows: Sequence[dict], pooled: SplitResult) -> Path:
    """Write tables and figures of folds, of images and of all; return the path of the JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    summary, evaluation = folder / "cross_validation.json", pooled.evaluation
    write_json(summary, {"folds": rows, **_spread(rows), "pooled": evaluation.summary()})
    write_csv(folder / "folds.csv", rows)
    folds = [f"fold {row['fold']}" for row in rows for _ in range(row["test_images"])]
    write_predictions(folder / "predictions.csv", evaluation, pooled.names, folds)
    write_split(folder, pooled)
    return summary


def _spread(rows: Sequence[dict]) -> dict[str, dict[str, float]]:
    figures = {name: [row[name] for row in rows] for name in ("accuracy", "macro_f1")}
    return {
        name: {"mean": float(np.mean(of)), "standard_deviation": float(np.std(of, ddof=1))}
        for name, of in figures.items()
    }


def _run_fold(parts: Dataset, settings: TrainingSettings, path: Path) -> None:
    """Train on all parts but one; keep facts, and the probabilities of that one, in a file."""
    started = time.monotonic()
    fitted = fit(parts, settings)
    validation, predict = parts.split("validation"), fitted.network.predict_on_batch
    temperature = fit_temperature(validation.labels, predict_images(predict, validation.images))
    answers = predict_images(predict, parts.split("test").images)
    probabilities = apply_temperature(answers, temperature)
    seconds = round(time.monotonic() - started, 1)  # of the last try
    fold = {"selected_epoch": fitted.selected_epoch, "seconds": seconds}
    kept = {"fold": fold, "probabilities": probabilities.tolist()}
    write_json(path, {"identity": identity_of(parts, settings)} | kept)
    shutil.rmtree(settings.run_folder(), ignore_errors=True)  # the checkpoint is done with
    keras.utils.clear_session()


def _read_fold(parts: Dataset, settings: TrainingSettings, path: Path) -> tuple[dict, np.ndarray]:
    way_out = f"delete {path} to train this fold again, or give another --name"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        require_same(kept["identity"], identity_of(parts, settings), path, "a fold", way_out)
        fold = {name: kept["fold"][name] for name in ("selected_epoch", "seconds")}
        shape = len(parts.split("test")), len(parts.class_names)
        return fold, np.array(kept["probabilities"], float).reshape(shape)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"expected a finished fold in {path}; it cannot be used ({error}): {way_out}"
        ) from error
