"""From a fitted network to the files in `models/`: calibrate, save, convert, evaluate, publish."""

import contextlib
import csv
import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from emotion.errors import TrainingError
from emotion.files import write_json
from emotion.model.card import Serving, part, read_card
from emotion.model.keras import ModelFiles, save_keras_model, write_fast_form
from emotion.model.runtime import EmotionModel, load_model
from emotion.training.data.dataset import Dataset
from emotion.training.data.datasets import match_classes
from emotion.training.data.splits import Leaks
from emotion.training.data.votes import with_all_votes, with_majority_labels
from emotion.training.fitting.fitting import FitResult
from emotion.training.measuring.evaluation import evaluate_model, fit_temperature, predict_images
from emotion.training.measuring.measurement import measure_split
from emotion.training.measuring.report import write_report
from emotion.training.measuring.selective import fit_agreement, verdict_facts
from emotion.training.placing import Published, publish_finished, report_of, staged
from emotion.training.settings import TrainingSettings

LIBRARIES = ("keras", "tensorflow", "jax", "numpy", "onnxruntime", "scikit-learn")
LABELS_FOLDER = "fer2013"  # for the model of the labels, where another one is of the votes
SAME_ANSWER = 1e-4  # probabilities this close are one answer, computed in another order
# tables that are too long for a card; they stand in the report
NOT_ON_THE_CARD = ("confusion_matrix", "confusion_matrix_normalised", "reliability")


def publish(
    fitted: FitResult, dataset: Dataset, leaks: Leaks, settings: TrainingSettings
) -> tuple[Published, ...]:
    """Calibrate, save and evaluate a fitted network, and put it into the models folder.

    A network that learned labels and votes gives two models: that of the votes, the better answer
    for a photo, takes the name of the settings; that of the labels goes into `LABELS_FOLDER`.

    Raises TrainingError (a full disk, or the present model is better); the checkpoint is kept.
    """
    weights = settings.starting_weights()
    started_from = None if weights == "none" else {"name": Path(weights).name}
    if weights not in ("none", "imagenet") and not weights.endswith(".h5"):
        started_from = named_with_hash(weights)
    teachers = [named_with_hash(one) for one in (*settings.teachers, *settings.votes_teachers)]
    selection = {"by": "validation accuracy", "split": "validation"}
    selection |= {"epoch": fitted.selected_epoch, "epochs": len(fitted.history)}
    facts = {"started_from": started_from, "learned_from": teachers or None, "selection": selection}
    with staged(settings) as folder:
        heads = [(folder, "labels", fitted.network)]
        if fitted.votes_network is not None:
            crowd = with_majority_labels(dataset, Path(settings.votes))
            calibrate(fitted.network, dataset.split("validation"))
            calibrate(fitted.votes_network, crowd.split("validation"))
            blend_last_layers(fitted.votes_network, fitted.network, settings.labels_share)
            of_labels = (folder / LABELS_FOLDER, "labels", fitted.network)
            heads = [(folder, "votes", fitted.votes_network), of_labels]
        finished = []
        for place, answers, network in heads:
            stem, told = place / settings.name, facts | {"answers": answers}
            given = (stem, network, dataset.class_names, settings, told, dataset, leaks)
            finished.append(_finish(*given, fitted.history))
        published = publish_finished(finished, folder, settings)
    shutil.rmtree(settings.run_folder(), ignore_errors=True)
    return published


def publish_average(
    network: keras.Model,
    class_names: tuple[str, ...],
    members: Sequence[Path],
    settings: TrainingSettings,
    dataset: Dataset | None = None,
    leaks: Leaks | None = None,
) -> Published:
    """Put the average of models into the models folder; with data, measured."""
    facts: dict = {"average_of": [named_with_hash(member) for member in members]}
    if dataset is not None:
        dataset = match_classes(dataset, class_names)
        kinds = {(load_model(member).card or {}).get("answers", "labels") for member in members}
        if kinds != {"votes"}:
            facts["answers"] = "labels"
        elif settings.votes:
            facts["answers"] = "votes"
    with staged(settings) as folder:
        stem = folder / settings.name
        finished = _finish(stem, network, class_names, settings, facts, dataset, leaks)
        return publish_finished([finished], folder, settings)[0]


def blend_last_layers(network: keras.Model, other: keras.Model, share: float) -> None:
    """Answer with the weighted geometric mean of two networks that have the same features."""
    last = network.layers[-1]
    pairs = zip(last.get_weights(), other.layers[-1].get_weights(), strict=True)
    last.set_weights([(1 - share) * own + share * theirs for own, theirs in pairs])


def calibrate(network: keras.Model, validation: Dataset) -> float:
    """Divide the last layer by the temperature that fits (Guo et al. 2017); return it."""
    probabilities = predict_images(network.predict_on_batch, validation.images)
    temperature = fit_temperature(validation.labels, probabilities)
    last = network.layers[-1]
    last.set_weights([weights / temperature for weights in last.get_weights()])
    return temperature


def choose_serving(network: keras.Model, validation: Dataset) -> dict:
    """Return the card's `serving`; the mirror counts unless it hurts or changes nothing."""
    views, labels = (validation.images, validation.images[:, :, ::-1]), validation.labels
    plain, mirrored = (predict_images(network.predict_on_batch, view) for view in views)
    mean = (plain + mirrored) / 2
    right_plain, right_mean = (np.mean(one.argmax(axis=1) == labels) for one in (plain, mean))
    if right_mean < right_plain or np.allclose(plain, mirrored, atol=SAME_ANSWER):
        return asdict(Serving())
    return asdict(Serving(True, fit_temperature(labels, mean)))


def _finish(
    stem: Path, network, class_names, settings, facts: dict, dataset, leaks, history=()
) -> Published:
    """Calibrate, save and measure a network, or without data only save it; `facts`: of its card."""
    files, voted = ModelFiles(stem), None
    if dataset is not None:
        dataset, voted = _as_answered(dataset, facts, settings)
        validation = dataset.split("validation")
        calibration = {"method": "temperature", "split": "validation"}
        facts = facts | {
            "calibration": calibration | {"temperature": calibrate(network, validation)},
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
    save_keras_model(network, files)
    if keras.backend.backend() == "tensorflow":
        write_fast_form(files)  # else `load_model` asks a process with TensorFlow, if there is any
    versions = {"python": platform.python_version(), "backend": keras.backend.backend()}
    for library in LIBRARIES:
        with contextlib.suppress(ModuleNotFoundError):  # tensorflow-cpu has another name
            versions[library] = version(library)
    card = {
        "card": 1,  # the version of its form
        "name": settings.name,
        "created": datetime.now(UTC).date().isoformat(),
        "class_names": list(class_names),
        "input_shape": [48, 48, 1],
        **files.hashes(),
        **facts,
        "settings": without_folders(settings),
        "versions": versions,
    }
    write_json(files.card, card)
    model = load_model(stem)
    for note in model.notes:
        print(f"Note: {note}")
    if dataset is None:
        return Published(stem, {})
    return _measure(stem, model, dataset, voted, history)


def renew_card(stem: Path, settings: TrainingSettings, dataset: Dataset) -> Published:
    """Measure a saved model anew, renew its card; TrainingError if the card names other data."""
    files = ModelFiles(stem)
    card, history = read_card(files.card) or {}, []  # without a card no data is that of its card
    dataset, voted = _as_answered(dataset, card, settings)
    known, received = part(card, "dataset").get("fingerprint"), dataset.fingerprint()
    if known != received:
        raise TrainingError(
            f"expected the data of {files.card.name}, with the fingerprint {known}; received "
            f"{received}: give --dataset and --votes as in its training"
        )
    if (path := report_of(files) / "history.csv").exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            history = [{k: json.loads(v) if v else None for k, v in row.items()} for row in rows]
    return _measure(stem, load_model(stem), dataset, voted, history)


def _as_answered(
    dataset: Dataset, facts: Mapping, settings: TrainingSettings
) -> tuple[Dataset, Dataset | None]:
    """Return data labelled as a model answers, and with all votes if it answers as people do."""
    if facts.get("answers") != "votes" or not settings.votes:
        return dataset, None
    path = Path(settings.votes)
    held_out = dataset.where(dataset.splits != "train")
    return with_majority_labels(dataset, path), with_all_votes(held_out, path)


def _measure(stem: Path, model: EmotionModel, dataset: Dataset, voted, history) -> Published:
    """Measure a saved model on all that it did not learn from; write its card and report."""
    files, card = ModelFiles(stem), dict(model.card)
    validation = evaluate_model(model, dataset.split("validation"))
    card["verdict"] = verdict_facts(validation.labels, validation.probabilities)
    if voted is not None:
        temperature = fit_agreement(model, voted.split("validation"))
        card["verdict"]["agreement_temperature"] = temperature
    served, results = replace(model, card=card), {}
    for name in dataset.split_names():
        if name != "train":
            everyone = None if voted is None else voted.split(name)
            is_test = name != "validation"
            results[name] = measure_split(served, dataset.split(name), is_test, everyone)
    card["metrics"] = {
        name: {k: v for k, v in result.summary().items() if k not in NOT_ON_THE_CARD}
        for name, result in results.items()
    }
    write_json(files.card, card)
    epoch = part(card, "selection").get("epoch")
    write_report(report_of(files), served, results, history, selected_epoch=epoch)
    return Published(stem, results, card.get("answers", "labels"))


def without_folders(settings: TrainingSettings) -> dict:
    """Return the settings with the names of models, without their folders."""
    return settings.shaping() | {
        "weights": Path(settings.starting_weights()).name,
        "teachers": [Path(stem).name for stem in settings.teachers],
        "votes_teachers": [Path(stem).name for stem in settings.votes_teachers],
    }


def named_with_hash(stem: str | Path) -> dict:
    files = ModelFiles(Path(stem))
    return {"name": files.name, "weights_sha256": files.hashes()["weights_sha256"]}
