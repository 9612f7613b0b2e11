"""From a fitted network to the files in `models/`: calibrate, save, convert, evaluate, publish.

Everything is made in the run's own folder first and moved to `models/` at the end, so that a model
in use is never half replaced.
"""

import platform
import shutil
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from emotion.errors import TrainingError
from emotion.files import whole_file, write_json
from emotion.keras_pair import ModelFiles, save_keras_model, write_fast_form
from emotion.model import load_model
from emotion.training.datasets import Dataset
from emotion.training.evaluation import Evaluation, evaluate_model, fit_temperature
from emotion.training.fitting import FitResult
from emotion.training.report import write_evaluation, write_history
from emotion.training.settings import TrainingSettings

CARD_VERSION = 1
LIBRARIES = ("keras", "tensorflow", "numpy", "onnxruntime", "opencv-python", "scikit-learn")


def calibrate(network: keras.Model, validation: Dataset) -> float:
    """Divide the last layer by the temperature that fits the validation data; return it.

    The answers stay the same and the percentages become honest (Guo et al. 2017).
    """
    probabilities = _predict_with_keras(network, validation.images)
    temperature = fit_temperature(validation.labels, probabilities)
    last = network.layers[-1]
    last.set_weights([weights / temperature for weights in last.get_weights()])
    return temperature


def publish(
    fitted: FitResult, dataset: Dataset, removed: int, settings: TrainingSettings
) -> dict[str, Evaluation]:
    """Calibrate, save and evaluate a fitted network, and put it into the models folder.

    Args:
        fitted: what `fit` returned.
        dataset: the data it was fitted on, with its test splits.
        removed: how many training images were removed because they also stand in a test split.
        settings: the settings of the run.

    Returns:
        The evaluation of each split but training, by name.
    """
    temperature = calibrate(fitted.network, dataset.split("validation"))
    staged = ModelFiles(settings.run_folder() / "finished" / settings.name)
    shutil.rmtree(staged.stem.parent, ignore_errors=True)
    save_keras_model(fitted.network, staged)
    write_fast_form(staged)
    card = _card(staged, fitted, dataset, removed, settings, temperature)
    write_json(staged.card, card)
    model = load_model(staged.stem)
    report = staged.stem.parent / f"{settings.name}_report"
    write_history(report, fitted.history, fitted.selected_epoch)
    evaluations = {}
    for name in dataset.split_names():
        if name == "train":
            continue
        split = dataset.split(name)
        evaluations[name] = evaluate_model(model, split)
        write_evaluation(report / name, evaluations[name], split.images)
    write_json(staged.card, card | {"metrics": _metrics(evaluations)})
    _move_into_place(staged, report, Path(settings.models))
    shutil.rmtree(settings.run_folder(), ignore_errors=True)
    return evaluations


def _card(staged, fitted, dataset, removed, settings, temperature) -> dict:
    """Return what a reader and the app need to know about a model."""
    hashes = staged.hashes()
    return {
        "card": CARD_VERSION,
        "name": settings.name,
        "created": datetime.now(UTC).date().isoformat(),
        "class_names": list(dataset.class_names),
        "input_shape": [48, 48, 1],
        **hashes,
        "dataset": {
            "name": Path(settings.dataset).name,
            "votes": Path(settings.votes).name if settings.votes else None,
            "fingerprint": dataset.fingerprint(),
            "images": {name: len(dataset.split(name)) for name in dataset.split_names()},
            "removed_because_also_in_test": removed,
            "unreadable": len(dataset.unreadable),
        },
        "started_from": _started_from(settings),
        "selection": {
            "by": "validation accuracy",
            "split": "validation",
            "epoch": fitted.selected_epoch,
            "epochs": len(fitted.history),
        },
        "calibration": {"method": "temperature", "split": "validation", "temperature": temperature},
        "settings": settings.shaping(),
        "versions": {"python": platform.python_version()} | _versions(),
    }


def _started_from(settings: TrainingSettings) -> dict | None:
    """Return which saved model the training started from, None where from random weights."""
    if not settings.weights:
        return None
    files = ModelFiles(Path(settings.weights))
    return {"name": files.name, "weights_sha256": files.hashes()["weights_sha256"]}


def _versions() -> dict[str, str]:
    """Return the installed versions of the libraries that shape a model."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except ModuleNotFoundError:
            continue
    return found


def _metrics(evaluations: dict[str, Evaluation]) -> dict:
    """Return the figures of each split, without the tables that stand in the report."""
    left_out = ("confusion_matrix",)
    return {
        name: {key: value for key, value in evaluation.summary().items() if key not in left_out}
        for name, evaluation in evaluations.items()
    }


def _move_into_place(staged: ModelFiles, report: Path, models: Path) -> None:
    """Move the finished files into the models folder; the card goes last, so it never lies."""
    target = ModelFiles(models / staged.name)
    try:
        models.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(models / report.name, ignore_errors=True)
        shutil.copytree(report, models / report.name)
        target.card.unlink(missing_ok=True)
        for source, place in zip(_served_files(staged), _served_files(target), strict=True):
            with whole_file(place) as part:
                shutil.copyfile(source, part)
    except OSError as error:
        raise TrainingError(
            f"expected to write the model to {models}; {error.strerror}; "
            f"it is kept in {staged.stem.parent}: run the same command again"
        ) from error


def _served_files(files: ModelFiles) -> tuple[Path, ...]:
    """Return the files of a model in the order in which they are put into place."""
    return (files.architecture, files.weights, files.fast_form, files.fast_form_seal, files.card)


def _predict_with_keras(network: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return the probabilities of (N, 48, 48) uint8 images, (N, classes)."""
    batches = [
        keras.ops.convert_to_numpy(
            network.predict_on_batch(images[start : start + 512, ..., None].astype("float32") / 255)
        )
        for start in range(0, len(images), 512)
    ]
    return np.concatenate(batches)
