"""From a fitted network to the files in `models/`: calibrate, save, convert, evaluate, publish.

Everything is made in the run's own folder first and moved to `models/` at the end, all of it or
nothing: `move_into_place` says in which order.
"""

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import keras
import numpy as np

from emotion.errors import ModelError, TrainingError
from emotion.files import write_json
from emotion.model.card import Serving
from emotion.model.keras import ModelFiles, save_keras_model, write_fast_form
from emotion.model.runtime import load_model
from emotion.training.data.datasets import Dataset, match_classes
from emotion.training.data.splits import Leaks
from emotion.training.data.votes import with_majority_labels
from emotion.training.fitting.fitting import FitResult
from emotion.training.measuring.evaluation import (
    evaluate_model,
    fit_temperature,
    predict_images,
)
from emotion.training.measuring.measurement import SplitResult, measure_split
from emotion.training.measuring.report import write_report
from emotion.training.measuring.selective import verdict_facts
from emotion.training.new_card import data_facts, named_with_hash, new_card, started_from
from emotion.training.placing import move_into_place, report_of
from emotion.training.settings import TrainingSettings

LABELS_FOLDER = "fer2013"
"""Where the model that answers as the labels goes, if another one answers as the voters."""

SAME_ANSWER = 1e-4
"""Probabilities that differ by less are one answer, computed in another order."""

NOT_ON_THE_CARD = ("confusion_matrix", "confusion_matrix_normalised", "reliability")
"""Tables that are too long for a card; they stand in the report."""


@dataclass(frozen=True)
class Published:
    """A model in its place.

    Attributes:
        stem: its files without suffix.
        results: the figures of each split but training, by name.
        answers: "votes" if it answers as most voters of FER+ do, else "labels".
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
        "started_from": started_from(settings),
        "learned_from": [
            named_with_hash(Path(stem)) for stem in (*settings.teachers, *settings.votes_teachers)
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
    facts = {"average_of": [named_with_hash(member) for member in members]}
    kinds = {(load_model(Path(member)).card or {}).get("answers", "labels") for member in members}
    answers = "votes" if kinds == {"votes"} else "labels"
    if answers == "votes" and settings.votes:
        dataset = with_majority_labels(dataset, Path(settings.votes))
    if answers == "labels" or settings.votes:
        facts["answers"] = answers
    with _staged(settings) as folder:
        fitted, stem = FitResult(network, (), 0), folder / settings.name
        finished = _finish(stem, fitted, dataset, leaks, settings, facts)
        return publish_finished([finished], folder, settings)[0]


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
    facts = {"average_of": [named_with_hash(member) for member in members]}
    with _staged(settings) as folder:
        staged = ModelFiles(folder / settings.name)
        _save(network, staged)
        write_json(staged.card, new_card(staged, class_names, settings, facts))
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
    probabilities = predict_images(network.predict_on_batch, validation.images)
    temperature = fit_temperature(validation.labels, probabilities)
    last = network.layers[-1]
    last.set_weights([weights / temperature for weights in last.get_weights()])
    return temperature


def _finish(
    stem: Path,
    fitted: FitResult,
    dataset: Dataset,
    leaks: Leaks,
    settings: TrainingSettings,
    facts: dict,
) -> Published:
    """Calibrate, save and measure a network; its files are whole, but not yet in their place."""
    staged, validation = ModelFiles(stem), dataset.split("validation")
    temperature = calibrate(fitted.network, validation)
    _save(fitted.network, staged)
    facts = facts | {
        "calibration": {"method": "temperature", "split": "validation", "temperature": temperature},
        "serving": choose_serving(fitted.network, validation),
        "dataset": data_facts(dataset, leaks, settings),
    }
    card = new_card(staged, dataset.class_names, settings, facts)
    write_json(staged.card, card)
    model = load_model(staged.stem)
    results = {
        name: measure_split(model, dataset.split(name), robustness=name != "validation")
        for name in dataset.split_names()
        if name != "train"
    }
    measured = results["validation"].evaluation
    card |= {
        "verdict": verdict_facts(measured.labels, measured.probabilities),
        "metrics": {
            name: {k: v for k, v in result.summary().items() if k not in NOT_ON_THE_CARD}
            for name, result in results.items()
        },
    }
    write_json(staged.card, card)
    epoch = fitted.selected_epoch if fitted.history else None
    write_report(
        report_of(staged), replace(model, card=card), results, fitted.history, selected_epoch=epoch
    )
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
    """Return why a finished model should not replace a present one, None if it may."""
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
    folder, is_done = settings.run_folder() / "finished", False
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder
        is_done = True
    except OSError as error:
        is_done = True
        raise TrainingError(
            f"expected to write the model to {settings.models} by way of {settings.run_folder()}; "
            f"{error.strerror or error}; nothing was replaced and the training is kept: make room "
            "and run the same command again"
        ) from error
    finally:
        if is_done:  # a model that was refused stays there
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                folder.parent.rmdir()


def choose_serving(network: keras.Model, validation: Dataset) -> dict:
    """Return the card's `serving`.

    Mirrored faces are averaged in unless that lowers the accuracy, as for a network that never saw
    any, or changes nothing, as for one that looks at the mirror image itself.
    """
    plain = predict_images(network.predict_on_batch, validation.images)
    mirrored = predict_images(network.predict_on_batch, validation.images[:, :, ::-1])
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
