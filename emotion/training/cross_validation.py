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
from emotion.training.data.dataset import Dataset
from emotion.training.data.splits import make_splits
from emotion.training.fitting.checkpoints import identity_of, require_same
from emotion.training.fitting.fitting import fit
from emotion.training.measuring.evaluation import Evaluation, fit_temperature, predict_images
from emotion.training.measuring.measurement import SplitResult
from emotion.training.measuring.report import summary_lines, write_split
from emotion.training.settings import TrainingSettings


@dataclass(frozen=True)
class CrossValidation:
    """What came out of each part of the data; images and names in the order of `pooled`."""

    evaluations: tuple[Evaluation, ...]  # a fold each, by a network that learned the others
    rows: tuple[dict, ...]  # the figures of each fold
    images: np.ndarray  # (N, 48, 48) uint8
    names: np.ndarray | None  # (N,) str, where each image comes from

    @property
    def pooled(self) -> Evaluation:
        labels = np.concatenate([each.labels for each in self.evaluations])
        answers = np.concatenate([each.probabilities for each in self.evaluations])
        return Evaluation(self.evaluations[0].class_names, labels, answers)

    @property
    def spread(self) -> dict[str, dict[str, float]]:
        """Return mean and sample standard deviation over the folds."""
        figures = {name: [row[name] for row in self.rows] for name in ("accuracy", "macro_f1")}
        return {
            name: {"mean": float(np.mean(of)), "standard_deviation": float(np.std(of, ddof=1))}
            for name, of in figures.items()
        }


def cross_validate(
    dataset: Dataset, settings: TrainingSettings, on_fold: Callable[[str], None] = lambda line: None
) -> CrossValidation:
    """Train and test `settings.folds` times.

    For each part: choose it as the test split, the same person never on both sides -> remove leaks
    -> hold out validation -> fit -> calibrate on validation -> answer the part's images. Finished
    folds are kept below `settings.runs`; one that was killed goes on from its last epoch.

    Raises DatasetError (too few images or persons) or TrainingError (a kept fold is of other data).
    """
    # TensorFlow warns of networks that are built again and again, which is meant here
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    evaluations, rows, images, names = [], [], [], []
    for number in range(1, settings.folds + 1):
        fold_settings = replace(settings, fold=number, name=f"{settings.name}_fold{number}")
        parts, _ = make_splits(dataset, fold_settings)
        tested = parts.split("test")
        fold, answers = _read_fold(parts, fold_settings) or _run_fold(parts, fold_settings)
        evaluation = Evaluation(parts.class_names, tested.labels, answers)
        evaluations.append(evaluation)
        splits = {"training": "train", "validation": "validation", "test": "test"}
        counts = {f"{name}_images": len(parts.split(split)) for name, split in splits.items()}
        figures = {"accuracy": evaluation.accuracy, "macro_f1": evaluation.macro_f1}
        rows.append({"fold": number, **figures, **counts, **fold})
        images.append(tested.images)
        names.append(tested.names)
        on_fold(
            f"Fold {number}/{settings.folds}: accuracy {evaluation.accuracy:.2%}, "
            f"macro F1 {evaluation.macro_f1:.3f} on {len(tested):,} images"
        )
    all_names = None if dataset.names is None else np.concatenate(names)
    return CrossValidation(tuple(evaluations), tuple(rows), np.concatenate(images), all_names)


def cross_validation_lines(result: CrossValidation) -> list[str]:
    """Return the folds, their mean and spread, and the pooled figures, as lines for a terminal."""
    head = ("fold", "accuracy", "macro F1", "trained on", "validated on", "tested on", "epoch")
    forms = ("{}", "{:.2%}", "{:.3f}", "{:,}", "{:,}", "{:,}", "{}")
    rows = [
        [form.format(value) for form, value in zip(forms, row.values(), strict=False)]
        for row in result.rows
    ]
    accuracy, macro_f1 = (result.spread[name] for name in ("accuracy", "macro_f1"))
    return [
        *table(head, rows),
        "",
        f"Mean and standard deviation over {len(rows)} folds: "
        f"accuracy {accuracy['mean']:.2%} ± {accuracy['standard_deviation']:.2%}, "
        f"macro F1 {macro_f1['mean']:.3f} ± {macro_f1['standard_deviation']:.3f}",
        "",
        "All folds together, each image answered by the network that never saw it:",
        *summary_lines(result.pooled),
    ]


def write_cross_validation(folder: Path, result: CrossValidation) -> Path:
    """Write tables and figures of folds, of images and of all; return the path of the JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    summary, pooled = folder / "cross_validation.json", result.pooled
    write_json(summary, {"folds": result.rows, **result.spread, "pooled": pooled.summary()})
    write_csv(folder / "folds.csv", result.rows)
    counts = [row["test_images"] for row in result.rows]
    folds = np.repeat([row["fold"] for row in result.rows], counts)
    names = range(len(folds)) if result.names is None else result.names
    classes = np.array(pooled.class_names)
    true, answers = classes[pooled.labels], classes[pooled.predictions]
    sure = [round(float(value), 4) for value in pooled.confidence]
    head = ("name", "fold", "true_class", "answer", "probability")
    cells = zip(names, folds, true, answers, sure, strict=True)
    write_csv(folder / "predictions.csv", [dict(zip(head, row, strict=True)) for row in cells])
    write_split(folder, SplitResult(pooled, None, (), result.images, None))
    return summary


def _run_fold(parts: Dataset, settings: TrainingSettings) -> tuple[dict, np.ndarray]:
    """Train on all parts but one; return facts, and the probabilities of that one, both kept."""
    started = time.monotonic()
    fitted = fit(parts, settings)
    validation, predict = parts.split("validation"), fitted.network.predict_on_batch
    temperature = fit_temperature(validation.labels, predict_images(predict, validation.images))
    answers = predict_images(predict, parts.split("test").images)
    probabilities = apply_temperature(answers, temperature)
    seconds = round(time.monotonic() - started, 1)  # of the last try
    fold = {"selected_epoch": fitted.selected_epoch, "seconds": seconds}
    kept = {"fold": fold, "probabilities": probabilities.tolist()}
    write_json(_file_of(settings), {"identity": identity_of(parts, settings)} | kept)
    shutil.rmtree(settings.run_folder(), ignore_errors=True)  # the checkpoint is done with
    keras.utils.clear_session()
    return fold, probabilities


def _read_fold(parts: Dataset, settings: TrainingSettings) -> tuple[dict, np.ndarray] | None:
    """Return what was kept of a finished fold, None where nothing is."""
    path = _file_of(settings)
    if not path.exists():
        return None
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


def _file_of(settings: TrainingSettings) -> Path:
    return settings.run_folder().with_name(f"{settings.name}.json")
