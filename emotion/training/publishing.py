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
from emotion.training.data.dataset import Dataset
from emotion.training.data.datasets import match_classes
from emotion.training.data.splits import Leaks
from emotion.training.data.votes import with_majority_labels
from emotion.training.fitting.fitting import FitResult
from emotion.training.measuring.evaluation import evaluate_model, fit_temperature, predict_images
from emotion.training.measuring.measurement import SplitResult, measure_split
from emotion.training.measuring.report import write_report
from emotion.training.measuring.selective import verdict_facts
from emotion.training.new_card import named_with_hash, new_card
from emotion.training.placing import move_into_place, report_of
from emotion.training.settings import TrainingSettings

LABELS_FOLDER = "fer2013"  # for the model of the labels, where another one is of the votes
SAME_ANSWER = 1e-4  # probabilities this close are one answer, computed in another order
# tables that are too long for a card; they stand in the report
NOT_ON_THE_CARD = ("confusion_matrix", "confusion_matrix_normalised", "reliability")


@dataclass(frozen=True)
class Published:
    """A finished model: its files without suffix, and the figures of each split but training."""

    stem: Path
    results: dict[str, SplitResult]
    answers: str = "labels"  # or "votes", if it answers as most voters of FER+ do


def publish(
    fitted: FitResult, dataset: Dataset, leaks: Leaks, settings: TrainingSettings
) -> tuple[Published, ...]:
    """Calibrate, save and evaluate a fitted network, and put it into the models folder.

    A network that learned labels and votes gives two models: what people saw is the better answer
    for a photo and takes the name of the settings, what the dataset's labels say goes into the
    folder `LABELS_FOLDER` below it, to be compared with other work.

    Raises TrainingError: the files cannot be written, or the present model is better; the
    checkpoint is kept.
    """
    weights = settings.starting_weights()
    is_model = weights not in ("none", "imagenet") and not weights.endswith(".h5")
    start = named_with_hash(weights) if is_model else {"name": Path(weights).name}
    teachers = [named_with_hash(one) for one in (*settings.teachers, *settings.votes_teachers)]
    facts = {
        "started_from": None if weights == "none" else start,
        "learned_from": teachers or None,
        "selection": {
            "by": "validation accuracy",
            "split": "validation",
            "epoch": fitted.selected_epoch,
            "epochs": len(fitted.history),
        },
    }
    with _staged(settings) as folder:
        stem = folder / settings.name
        heads = [(stem, "labels", fitted.network, dataset)]
        if fitted.votes_network is not None:
            crowd = with_majority_labels(dataset, Path(settings.votes))
            calibrate(fitted.network, dataset.split("validation"))
            calibrate(fitted.votes_network, crowd.split("validation"))
            blend_last_layers(fitted.votes_network, fitted.network, settings.labels_share)
            heads = [
                (stem, "votes", fitted.votes_network, crowd),
                (folder / LABELS_FOLDER / settings.name, "labels", fitted.network, dataset),
            ]
        finished = [
            _finish(stem, net, data, leaks, settings, facts | {"answers": answers}, fitted.history)
            for stem, answers, net, data in heads
        ]
        published = publish_finished(finished, folder, settings)
    shutil.rmtree(settings.run_folder(), ignore_errors=True)
    return published


def publish_average(
    network: keras.Model,
    class_names: tuple[str, ...],
    members: Sequence[Path],
    dataset: Dataset | None,
    leaks: Leaks | None,
    settings: TrainingSettings,
) -> Published:
    """Put the average of several models into the models folder.

    With data it is calibrated on the validation images and measured on each split.

    Raises:
        DatasetError: the data has classes that the models do not know.
        TrainingError: the files cannot be written, or the present model is better, or cannot be
            compared without data.
    """
    facts = {"average_of": [named_with_hash(member) for member in members]}
    with _staged(settings) as folder:
        stem = folder / settings.name
        if dataset is None:
            _save(network, stem, class_names, settings, facts)
            load_model(stem)
            return publish_finished([Published(stem, {})], folder, settings)[0]
        dataset = match_classes(dataset, class_names)
        kinds = {(load_model(member).card or {}).get("answers", "labels") for member in members}
        if kinds != {"votes"}:
            facts["answers"] = "labels"
        elif settings.votes:
            facts["answers"] = "votes"
            dataset = with_majority_labels(dataset, Path(settings.votes))
        finished = _finish(stem, network, dataset, leaks, settings, facts)
        return publish_finished([finished], folder, settings)[0]


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


def choose_serving(network: keras.Model, validation: Dataset) -> dict:
    """Return the card's `serving`.

    Mirrored faces are averaged in unless that lowers the accuracy, as for a network that never saw
    any, or changes nothing, as for one that looks at the mirror image itself.
    """
    plain, mirrored = (
        predict_images(network.predict_on_batch, images)
        for images in (validation.images, validation.images[:, :, ::-1])
    )
    mean = (plain + mirrored) / 2
    right_plain, right_mean = (
        np.mean(answers.argmax(axis=1) == validation.labels) for answers in (plain, mean)
    )
    if right_mean < right_plain or np.allclose(plain, mirrored, atol=SAME_ANSWER):
        return asdict(Serving())
    return asdict(Serving(True, fit_temperature(validation.labels, mean)))


def _finish(
    stem: Path,
    network: keras.Model,
    dataset: Dataset,
    leaks: Leaks,
    settings: TrainingSettings,
    facts: dict,
    history: Sequence[dict] = (),
) -> Published:
    """Calibrate, save and measure a network; its files are whole, but not yet in their place."""
    validation = dataset.split("validation")
    temperature = calibrate(network, validation)
    facts = facts | {
        "calibration": {"method": "temperature", "split": "validation", "temperature": temperature},
        "serving": choose_serving(network, validation),
        "dataset": {
            "name": " + ".join(Path(path).name for path in settings.dataset),
            "votes": Path(settings.votes).name if settings.votes else None,
            "fingerprint": dataset.fingerprint(),
            "images": {name: len(dataset.split(name)) for name in dataset.split_names()},
            "removed_because_also_in_test": leaks.identical + leaks.similar,
            "unreadable": len(dataset.unreadable),
            "notes": list(dataset.notes),
        },
    }
    card = _save(network, stem, dataset.class_names, settings, facts)
    model = load_model(stem)
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
    files = ModelFiles(stem)
    write_json(files.card, card)
    epoch = facts["selection"]["epoch"] if history else None
    model = replace(model, card=card)
    write_report(report_of(files), model, results, history, selected_epoch=epoch)
    return Published(stem, results, facts.get("answers", "labels"))


def _save(
    network: keras.Model,
    stem: Path,
    class_names: Sequence[str],
    settings: TrainingSettings,
    facts: dict,
) -> dict:
    """Save the pair, its fast form and its card; return the card."""
    files = ModelFiles(stem)
    save_keras_model(network, files)
    write_fast_form(files)
    card = new_card(files, class_names, settings, facts)
    write_json(files.card, card)
    return card


def publish_finished(
    finished: Sequence[Published], folder: Path, settings: TrainingSettings
) -> tuple[Published, ...]:
    """Move finished models to the places in `models/` that they have in their folder.

    Raises TrainingError: the present ones are better; the finished ones stay in their folder.
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


def _why_not_replace(present: ModelFiles, finished: Published) -> str:
    """Return why a finished model should not replace a present one, "" if it may."""
    if not present.weights.exists():
        return ""
    not_comparable = f"{present.stem} cannot be compared with it"
    if "validation" not in finished.results:
        return f"{not_comparable} without --dataset"
    result = finished.results["validation"]
    evaluation = result.evaluation
    try:
        model = load_model(present.stem)
    except ModelError as error:
        return f"{not_comparable} ({error})"
    if set(model.class_names) != set(evaluation.class_names):
        classes, new_classes = (", ".join(one.class_names) for one in (model, evaluation))
        return f"{not_comparable}: its classes are {classes}, those of the new one {new_classes}"
    answers = (model.card or {}).get("answers", "labels")
    if answers != finished.answers:
        return f"{not_comparable}: it answers as the {answers}, the new as the {finished.answers}"
    splits = np.full(len(evaluation.labels), "validation")
    validation = Dataset(result.images, evaluation.labels, splits, evaluation.class_names)
    accuracy = evaluate_model(model, validation).accuracy
    if evaluation.accuracy >= accuracy:
        return ""
    return (
        f"{present.stem} is right on {accuracy:.2%} of this run's validation images, the new one "
        f"on {evaluation.accuracy:.2%}"
    )


@contextlib.contextmanager
def _staged(settings: TrainingSettings) -> Iterator[Path]:
    """Give an empty folder beside the run, for files that are moved when all is well.

    The folder goes afterwards, unless its model was refused; a checkpoint of the same name stays.
    A disk that fills, or a folder that cannot be written to, becomes one sentence.
    """
    folder, is_refused = settings.run_folder() / "finished", False
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        raise TrainingError(
            f"expected to write the model to {settings.models} by way of {settings.run_folder()}; "
            f"{error.strerror or error}; nothing was replaced and the training is kept: make room "
            "and run the same command again"
        ) from error
    except TrainingError:
        is_refused = True
        raise
    finally:
        if not is_refused:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                folder.parent.rmdir()
