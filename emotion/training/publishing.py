"""From a fitted network to the files in `models/`: calibrate, save, convert, evaluate, publish.

Everything is made in the run's own folder first and moved to `models/` at the end, all of it or
nothing: `move_into_place` says in which order.
"""

import contextlib
import platform
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from emotion.errors import ModelError, TrainingError
from emotion.files import rename_all, write_json
from emotion.model.keras import ModelFiles, save_keras_model, write_fast_form
from emotion.model.runtime import EmotionModel, Serving, load_model
from emotion.training.data.datasets import Dataset, match_classes
from emotion.training.data.splits import Leaks
from emotion.training.data.votes import with_majority_labels
from emotion.training.fitting.fitting import FitResult
from emotion.training.measuring.evaluation import evaluate_model, fit_temperature
from emotion.training.measuring.measurement import SplitResult, measure_split
from emotion.training.measuring.report import write_report
from emotion.training.measuring.selective import verdict_facts
from emotion.training.settings import TrainingSettings

CARD_VERSION = 1
LABELS_FOLDER = "fer2013"
"""Where the model that answers as the labels goes, where another one answers as the voters."""

MANTISSA_BITS = 11
SAME_ANSWER = 1e-4
"""Probabilities that differ by less are one answer, computed in another order."""

LIBRARIES = ("keras", "tensorflow", "jax", "torch", "numpy", "onnxruntime", "scikit-learn")
NOT_ON_THE_CARD = ("confusion_matrix", "confusion_matrix_normalised", "reliability")
"""Tables that are too long for a card; they stand in the report."""


@dataclass(frozen=True)
class Published:
    """A model in its place.

    Attributes:
        stem: its files without suffix.
        results: the figures of each split but training, by name.
        answers: "votes" where it answers as most voters of FER+ do, else "labels".
    """

    stem: Path
    results: dict[str, SplitResult]
    answers: str = "labels"


def publish(
    fitted: FitResult, dataset: Dataset, leaks: Leaks, settings: TrainingSettings
) -> tuple[Published, ...]:
    """Calibrate, save and evaluate a fitted network, and put it into the models folder.

    A network that learned labels and votes gives two models: what people saw is the better answer
    for a photo and takes the name of the settings, what the dataset's labels say goes into the
    folder `LABELS_FOLDER` below it, to be compared with other work.

    Args:
        fitted: what `fit` returned.
        dataset: the data it was fitted on, with its test splits.
        leaks: what was removed from the training images because it also stands in a test split.
        settings: the settings of the run.

    Returns:
        What was put into place, the model of the settings' name first.

    Raises:
        TrainingError: the files cannot be written, or the present model is better; the checkpoint
            is kept.
    """
    facts = {
        "started_from": _started_from(settings),
        "learned_from": [
            _named_with_hash(Path(stem)) for stem in (*settings.teachers, *settings.votes_teachers)
        ]
        or None,
        "selection": {
            "by": "validation accuracy",
            "split": "validation",
            "epoch": fitted.selected_epoch,
            "epochs": len(fitted.history),
        },
    }
    with _staged(settings) as folder:
        finished = [
            _finish(stem, head, data, leaks, settings, facts | {"answers": answers})
            for stem, answers, head, data in _heads(folder, fitted, dataset, settings)
        ]
        published = publish_finished(finished, folder, settings)
    shutil.rmtree(settings.run_folder(), ignore_errors=True)
    return published


def publish_average(
    network: keras.Model,
    class_names: tuple[str, ...],
    members: Sequence[Path],
    dataset: Dataset,
    leaks: Leaks,
    settings: TrainingSettings,
) -> Published:
    """Calibrate, save and evaluate the average of several models.

    Args:
        network: what `average_models` returned.
        class_names: the classes in its output order.
        members: the models it is made of.
        dataset: the data to calibrate on (validation) and to measure on (the other splits).
        leaks: as for `publish`.
        settings: how the data was read and split, and where the model goes.

    Raises:
        DatasetError: the data has classes that the models do not know.
        TrainingError: the files cannot be written, or the present model is better.
    """
    dataset = match_classes(dataset, class_names)
    facts = {"average_of": [_named_with_hash(member) for member in members]}
    answers = _common_answers(members)
    if answers == "votes" and settings.votes:
        dataset = with_majority_labels(dataset, Path(settings.votes))
    if answers == "labels" or settings.votes:
        facts["answers"] = answers
    with _staged(settings) as folder:
        fitted, stem = FitResult(network, (), 0), folder / settings.name
        finished = _finish(stem, fitted, dataset, leaks, settings, facts)
        return publish_finished([finished], folder, settings)[0]


def _common_answers(members: Sequence[Path]) -> str:
    """Return "votes" where all models answer as most voters do, else "labels"."""
    kinds = {(load_model(Path(member)).card or {}).get("answers", "labels") for member in members}
    return "votes" if kinds == {"votes"} else "labels"


def publish_untested(
    network: keras.Model,
    class_names: tuple[str, ...],
    members: Sequence[Path],
    settings: TrainingSettings,
) -> None:
    """Save the average of several models without data to calibrate or to measure it on.

    Raises:
        TrainingError: the files cannot be written, or there is a model of this name.
    """
    facts = {"average_of": [_named_with_hash(member) for member in members]}
    with _staged(settings) as folder:
        staged = ModelFiles(folder / settings.name)
        _save(network, staged)
        write_json(staged.card, _card(staged, class_names, settings, facts))
        load_model(staged.stem)
        publish_finished([Published(staged.stem, {})], folder, settings)


def _heads(
    folder: Path, fitted: FitResult, dataset: Dataset, settings: TrainingSettings
) -> Iterator[tuple]:
    """Yield where each head is saved, what it answers as, the head, and the data to measure on."""
    stem = folder / settings.name
    if fitted.votes_network is None:
        yield stem, "labels", fitted, dataset
        return
    crowd = with_majority_labels(dataset, Path(settings.votes))
    calibrate(fitted.network, dataset.split("validation"))
    calibrate(fitted.votes_network, crowd.split("validation"))
    blend_last_layers(fitted.votes_network, fitted.network, settings.labels_share)
    yield stem, "votes", replace(fitted, network=fitted.votes_network), crowd
    yield folder / LABELS_FOLDER / settings.name, "labels", fitted, dataset


def blend_last_layers(network: keras.Model, other: keras.Model, share: float) -> None:
    """Move the last layer of a network a share of the way to that of another on the same features.

    It then answers with the weighted geometric mean of both answers, made to sum to 1.
    """
    last, others = network.layers[-1], other.layers[-1].get_weights()
    pairs = zip(last.get_weights(), others, strict=True)
    last.set_weights([(1 - share) * own + share * theirs for own, theirs in pairs])


def calibrate(network: keras.Model, validation: Dataset) -> float:
    """Divide the last layer by the temperature that fits the validation data; return it.

    The answers stay the same and the percentages become honest (Guo et al. 2017).
    """
    probabilities = _predict_with_keras(network, validation.images)
    temperature = fit_temperature(validation.labels, probabilities)
    last = network.layers[-1]
    last.set_weights([weights / temperature for weights in last.get_weights()])
    return temperature


def round_weights(network: keras.Model) -> None:
    """Round the weights to the 11 bits of half precision, in float32's range.

    Compressed, they take half the room; the answers stay the same to three decimals or so, and what
    is calibrated and measured is the rounded network.
    """
    network.set_weights([_rounded(weights) for weights in network.get_weights()])


def _rounded(weights: np.ndarray) -> np.ndarray:
    """Return numbers with `MANTISSA_BITS` significant bits; whole numbers as they are."""
    if not np.issubdtype(weights.dtype, np.floating):
        return weights
    mantissa, exponent = np.frexp(weights)
    steps = 2.0**MANTISSA_BITS
    return np.ldexp(np.round(mantissa * steps) / steps, exponent).astype(weights.dtype)


def _finish(
    stem: Path,
    fitted: FitResult,
    dataset: Dataset,
    leaks: Leaks,
    settings: TrainingSettings,
    facts: dict,
) -> Published:
    """Calibrate, save and measure a network; its files are whole, but not yet in their place."""
    staged = ModelFiles(stem)
    honesty = _calibrate_and_save(fitted.network, dataset, staged)
    facts = facts | honesty | _data_facts(dataset, leaks, settings)
    card = _card(staged, dataset.class_names, settings, facts)
    results = _measure(staged, card, dataset, fitted)
    return Published(stem, results, facts.get("answers", "labels"))


def publish_finished(
    finished: Sequence[Published], folder: Path, settings: TrainingSettings
) -> tuple[Published, ...]:
    """Move finished models to the places in `models/` that they have in their folder.

    Raises:
        TrainingError: the present ones are better; the finished ones stay in their folder.
    """
    models = Path(settings.models)
    targets = [models / model.stem.relative_to(folder) for model in finished]
    pairs = list(zip(finished, targets, strict=True))
    if not settings.overwrite:
        reasons = [_why_not_replace(ModelFiles(target), model) for model, target in pairs]
        if any(reasons):
            raise TrainingError(
                "expected a model at least as good as the present one; "
                f"{'; '.join(filter(None, reasons))}. Nothing was replaced; the new model is in "
                f"{folder}: to publish it, run the same command again with --overwrite, or with "
                "another --name"
            )
    move_into_place([(ModelFiles(model.stem), ModelFiles(target)) for model, target in pairs])
    return tuple(replace(model, stem=target) for model, target in pairs)


def _why_not_replace(present: ModelFiles, finished: Published) -> str | None:
    """Return why a finished model should not replace a present one, None where it may."""
    if not present.weights.exists():
        return None
    if "validation" not in finished.results:
        return f"{present.stem} cannot be compared with it without --dataset"
    result = finished.results["validation"]
    evaluation = result.evaluation
    try:
        model = load_model(present.stem)
    except ModelError as error:
        return f"{present.stem} cannot be compared with it ({error})"
    if set(model.class_names) != set(evaluation.class_names):
        classes, new_classes = (", ".join(one.class_names) for one in (model, evaluation))
        return (
            f"{present.stem} cannot be compared with it: its classes are {classes}, those of the "
            f"new one {new_classes}"
        )
    answers = (model.card or {}).get("answers", "labels")
    if answers != finished.answers:
        return (
            f"{present.stem} cannot be compared with it: it learned to answer as the {answers} "
            f"do, the new one as the {finished.answers} do"
        )
    splits = np.full(len(evaluation.labels), "validation")
    validation = Dataset(result.images, evaluation.labels, splits, evaluation.class_names)
    accuracy = evaluate_model(model, validation).accuracy
    if evaluation.accuracy >= accuracy:
        return None
    return (
        f"{present.stem} is right on {accuracy:.2%} of this run's validation images, the new one "
        f"on {evaluation.accuracy:.2%}"
    )


@contextlib.contextmanager
def _staged(settings: TrainingSettings) -> Iterator[Path]:
    """Give an empty folder beside the run, for files that are moved when all is well.

    The folder goes afterwards; a checkpoint of the same name stays, also that of another training.
    A disk that fills, or a folder that cannot be written to, becomes one sentence.
    """
    folder = settings.run_folder() / "finished"
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        _remove_staged(folder)
        raise TrainingError(
            f"expected to write the model to {settings.models} by way of {settings.run_folder()}; "
            f"{error.strerror or error}; nothing was replaced and the training is kept: make room "
            "and run the same command again"
        ) from error
    _remove_staged(folder)


def _remove_staged(folder: Path) -> None:
    """Remove a folder, and the one that it is in where that is empty then."""
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()


def _calibrate_and_save(network: keras.Model, dataset: Dataset, staged: ModelFiles) -> dict:
    """Calibrate on the validation images, save the pair and its fast form; return the facts."""
    validation = dataset.split("validation")
    round_weights(network)
    temperature = calibrate(network, validation)
    _save(network, staged)
    return {
        "calibration": {"method": "temperature", "split": "validation", "temperature": temperature},
        "serving": _choose_serving(network, validation),
    }


def _choose_serving(network: keras.Model, validation: Dataset) -> dict:
    """Return the card's `serving`.

    Mirrored faces are averaged in unless that lowers the accuracy, as for a network that never saw
    any, or changes nothing, as for one that looks at the mirror image itself.
    """
    plain = _predict_with_keras(network, validation.images)
    mirrored = _predict_with_keras(network, validation.images[:, :, ::-1])
    mean = (plain + mirrored) / 2
    right_plain, right_mean = (
        np.mean(answers.argmax(axis=1) == validation.labels) for answers in (plain, mean)
    )
    if right_mean < right_plain or np.allclose(plain, mirrored, atol=SAME_ANSWER):
        return asdict(Serving())
    return asdict(Serving(True, fit_temperature(validation.labels, mean)))


def _save(network: keras.Model, staged: ModelFiles) -> None:
    """Save the pair and its fast form."""
    save_keras_model(network, staged)
    if keras.backend.backend() == "tensorflow":
        write_fast_form(staged)  # elsewhere `load_model` has it made by a process with TensorFlow


def _measure(
    staged: ModelFiles, card: dict, dataset: Dataset, fitted: FitResult
) -> dict[str, SplitResult]:
    """Measure the saved model on each split but training; complete its card; write its report."""
    write_json(staged.card, card)
    model = load_model(staged.stem)
    names = [name for name in dataset.split_names() if name != "train"]
    results = {
        name: measure_split(model, dataset.split(name), robustness=name != "validation")
        for name in names
    }
    validation = results["validation"].evaluation
    card = card | {
        "verdict": verdict_facts(validation.labels, validation.probabilities),
        "metrics": {name: _figures(result) for name, result in results.items()},
    }
    write_json(staged.card, card)
    model = _with_card(model, card)
    write_report(
        _report_of(staged), model, results, history=fitted.history, selected_epoch=_epoch_of(fitted)
    )
    return results


def _epoch_of(fitted: FitResult) -> int | None:
    """Return the selected epoch, None where there were none."""
    return fitted.selected_epoch if fitted.history else None


def _with_card(model: EmotionModel, card: dict) -> EmotionModel:
    """Return a loaded model with another card."""
    return EmotionModel(**{**vars(model), "card": card})


def _card(
    staged: ModelFiles, class_names: Sequence[str], settings: TrainingSettings, facts: dict
) -> dict:
    """Return what a reader and the app need to know about a model."""
    return {
        "card": CARD_VERSION,
        "name": settings.name,
        "created": datetime.now(UTC).date().isoformat(),
        "class_names": list(class_names),
        "input_shape": [48, 48, 1],
        **staged.hashes(),
        **facts,
        "settings": _without_folders(settings),
        "versions": {
            "python": platform.python_version(),
            "backend": keras.backend.backend(),
            **_versions(),
        },
    }


def _without_folders(settings: TrainingSettings) -> dict:
    """Return the settings with the names of models alone: where they lay is nobody's business."""
    teachers, votes_teachers = (
        [Path(stem).name for stem in stems]
        for stems in (settings.teachers, settings.votes_teachers)
    )
    weights = Path(settings.starting_weights()).name
    names = {"weights": weights, "teachers": teachers, "votes_teachers": votes_teachers}
    return settings.shaping() | names


def _data_facts(dataset: Dataset, leaks: Leaks, settings: TrainingSettings) -> dict:
    """Return what a card says of the data."""
    facts = {
        "name": " + ".join(Path(path).name for path in settings.dataset),
        "votes": Path(settings.votes).name if settings.votes else None,
        "fingerprint": dataset.fingerprint(),
        "images": {name: len(dataset.split(name)) for name in dataset.split_names()},
        "removed_because_also_in_test": leaks.identical + leaks.similar,
        "unreadable": len(dataset.unreadable),
        "notes": list(dataset.notes),
    }
    return {"dataset": facts}


def _started_from(settings: TrainingSettings) -> dict | None:
    """Return what the training started from, None where from random weights."""
    weights = settings.starting_weights()
    if weights == "none":
        return None
    if weights == "imagenet" or weights.endswith(".h5"):
        return {"name": Path(weights).name}
    return _named_with_hash(Path(weights))


def _named_with_hash(stem: Path) -> dict:
    """Return the name of a saved model and the hash of its weights."""
    files = ModelFiles(stem)
    return {"name": files.name, "weights_sha256": files.hashes()["weights_sha256"]}


def _versions() -> dict[str, str]:
    """Return the installed versions of the libraries that shape a model."""
    found = {}
    for name in LIBRARIES:
        with contextlib.suppress(ModuleNotFoundError):
            found[name] = version(name)
    return found


def _figures(result: SplitResult) -> dict:
    """Return the figures of a split without the tables that stand in the report."""
    summary = result.summary()
    return {key: value for key, value in summary.items() if key not in NOT_ON_THE_CARD}


def move_into_place(models: Sequence[tuple[ModelFiles, ModelFiles]]) -> None:
    """Put finished models into the places of the present ones: all of them, or none.

    1. Copy the finished files into a hidden folder beside each target, and the present ones, which
       become NAME.previous. A full disk shows here, where nothing has changed yet.
    2. For NAME.previous: rename what it has away, the weights first, and the copies into their
       places, the weights last.
    3. The same for NAME.

    Where a step fails, the renames are undone in reverse. Where the process is killed between two
    of them, one of the two has no weights, so `load_model` refuses it: a loadable pair always has
    its own card. A target without weights is not worth keeping as NAME.previous.

    Args:
        models: the files of each finished model, and those it is to have.

    Raises:
        OSError: the disk is full or cannot be written to; everything is as it was.
    """
    renames = []
    with contextlib.ExitStack() as hidden_folders:
        for finished, target in models:
            target.stem.parent.mkdir(parents=True, exist_ok=True)
            hidden = tempfile.TemporaryDirectory(prefix=".part-", dir=target.stem.parent)
            folder = Path(hidden_folders.enter_context(hidden))
            if target.weights.exists():
                renames += _replacement(target, target.previous, folder / "previous")
            renames += _replacement(finished, target, folder / "finished")
        rename_all(renames)


def _replacement(source: ModelFiles, target: ModelFiles, folder: Path) -> list[tuple[Path, Path]]:
    """Copy a model into a new folder; return the renames that then put it into a place."""
    copies, away = ModelFiles(folder / source.name), ModelFiles(folder / "away" / target.name)
    away.stem.parent.mkdir(parents=True)
    for path, copy in _renames(source, copies):
        for part in (path, *sorted(path.rglob("*"))):
            if part.is_dir():
                (copy / part.relative_to(path)).mkdir()
            else:
                shutil.copyfile(part, copy / part.relative_to(path))
    return _renames(target, away) + _renames(copies, target)[::-1]


def _renames(files: ModelFiles, others: ModelFiles) -> list[tuple[Path, Path]]:
    """Return from where to where what exists of a model goes, the weights first."""
    pairs = zip(_parts(files), _parts(others), strict=True)
    return [(source, place) for source, place in pairs if source.exists()]


def _report_of(files: ModelFiles) -> Path:
    """Return the folder of a model's report."""
    return files.stem.with_name(f"{files.name}_report")


def _parts(files: ModelFiles) -> tuple[Path, ...]:
    """Return the files of a model and its report, the weights first."""
    fast_form = (files.fast_form, files.fast_form_seal)
    return (files.weights, files.architecture, files.card, *fast_form, _report_of(files))


def _predict_with_keras(network: keras.Model, images: np.ndarray) -> np.ndarray:
    """Return the probabilities of (N, 48, 48) uint8 images, (N, classes)."""
    batches = [
        keras.ops.convert_to_numpy(
            network.predict_on_batch(images[start : start + 512, ..., None].astype("float32") / 255)
        )
        for start in range(0, len(images), 512)
    ]
    return np.concatenate(batches)
