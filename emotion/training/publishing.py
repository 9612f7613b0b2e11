"""From a fitted network to the files in `models/`: calibrate, save, measure, move in place."""

import contextlib
import csv
import json
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from emotion.errors import ModelError, TrainingError
from emotion.files import rename_all, write_json
from emotion.model.card import Serving, part, read_card
from emotion.model.keras import ModelFiles, save_keras_model, write_fast_form
from emotion.model.runtime import EmotionModel, load_model
from emotion.text import counted
from emotion.training.data.dataset import Dataset
from emotion.training.data.datasets import match_classes
from emotion.training.data.splits import Leaks
from emotion.training.data.votes import with_all_votes, with_majority_labels
from emotion.training.fitting.fitting import FitResult
from emotion.training.measuring.evaluation import evaluate_model, fit_temperature, predict_images
from emotion.training.measuring.measurement import SplitResult, measure_split
from emotion.training.measuring.report import write_report
from emotion.training.measuring.selective import fit_agreement, verdict_facts
from emotion.training.settings import SETTINGS_FILE, TrainingSettings, write_settings

LIBRARIES = ("keras", "tensorflow", "jax", "numpy", "onnxruntime", "scikit-learn")
LABELS_FOLDER = "fer2013"  # for the model of the labels, where another one is of the votes
SAME_ANSWER = 1e-4  # probabilities this close are one answer, computed in another order
# tables that are too long for a card; they stand in the report
NOT_ON_THE_CARD = ("confusion_matrix", "confusion_matrix_normalised", "reliability")
say = partial(print, flush=True)


@dataclass(frozen=True)
class Published:  # a finished model
    stem: Path  # of its files
    results: dict[str, SplitResult]  # of each split but training
    answers: str = "labels"  # or "votes", if it answers as most voters of FER+ do


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
        cards = [read_card(ModelFiles(member).card) or {} for member in members]
        kinds = {card.get("answers", "labels") for card in cards}
        if kinds != {"votes"}:
            facts["answers"] = "labels"
        elif settings.votes:
            facts["answers"] = "votes"
    with staged(settings) as folder:
        stem = folder / settings.name
        finished = _finish(stem, network, class_names, settings, facts, dataset, leaks)
        return publish_finished([finished], folder, settings)[0]


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
        extra = [f"Also learned from {Path(path).name}" for path in settings.extra_photos]
        validation = dataset.split("validation")
        say(f"Calibrating on {counted(len(validation), 'validation image')}")
        calibration = {"method": "temperature", "split": "validation"}
        facts = facts | {
            "calibration": calibration | {"temperature": calibrate(network, validation)},
            "serving": choose_serving(network, validation),
            "dataset": {
                "name": " + ".join(Path(path).name for path in settings.dataset),
                "votes": Path(settings.votes).name if settings.votes else None,
                "fingerprint": dataset.fingerprint(),
                "images": {name: len(dataset.split(name)) for name in dataset.split_names()},
                "removed_because_also_in_test": (leaks.identical + leaks.similar)
                * (not leaks.kept),
                "unreadable": len(dataset.unreadable),
                "notes": [*dataset.notes, *filter(None, [leaks.copies]), *extra],
            },
        }
    say("Saving it, and making its fast form")
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
        "settings": settings.shaping()
        | {  # models by their names, without the folders they were in
            "weights": Path(settings.starting_weights()).name,
            "teachers": [Path(stem).name for stem in settings.teachers],
            "votes_teachers": [Path(stem).name for stem in settings.votes_teachers],
            "extra_photos": [Path(path).name for path in settings.extra_photos],
        },
        "versions": versions,
    }
    write_json(files.card, card)
    model = load_model(stem)
    for note in model.notes:
        print(f"Note: {note}")
    if dataset is None:
        return Published(stem, {})
    report_of(files).mkdir(exist_ok=True)
    write_settings(report_of(files) / SETTINGS_FILE, settings)
    return _measure(stem, model, dataset, voted, history, settings.quick)


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
    return _measure(stem, load_model(stem), dataset, voted, history, settings.quick)


def _as_answered(
    dataset: Dataset, facts: Mapping, settings: TrainingSettings
) -> tuple[Dataset, Dataset | None]:
    """Return data labelled as a model answers, and with all votes if it answers as people do."""
    if facts.get("answers") != "votes" or not settings.votes:
        return dataset, None
    path, held_out = Path(settings.votes), dataset.where(dataset.splits != "train")
    return with_majority_labels(dataset, path), with_all_votes(held_out, path)


def _measure(
    stem: Path, model: EmotionModel, dataset: Dataset, voted, history, quick: bool
) -> Published:
    """Measure a saved model on all that it did not learn from; write its card and report."""
    files, card = ModelFiles(stem), dict(model.card)
    say("Fitting on validation when an answer is unsure")
    validation = evaluate_model(model, dataset.split("validation"))
    card["verdict"] = verdict_facts(validation.labels, validation.probabilities)
    if voted is not None:
        card["verdict"]["agreement_temperature"] = fit_agreement(model, voted.split("validation"))
    served, results = replace(model, card=card), {}
    for name in dataset.split_names():
        if name != "train":
            everyone = None if voted is None else voted.split(name)
            worsened, tell = name != "validation" and not quick, partial(say, f"Measuring {name}:")
            results[name] = measure_split(served, dataset.split(name), worsened, everyone, tell)
    card["metrics"] = {
        name: {k: v for k, v in result.summary().items() if k not in NOT_ON_THE_CARD}
        for name, result in results.items()
    }
    write_json(files.card, card)
    epoch = part(card, "selection").get("epoch")
    say("Writing the report")
    write_report(report_of(files), served, results, history, selected_epoch=epoch)
    return Published(stem, results, card.get("answers", "labels"))


def named_with_hash(stem: str | Path) -> dict:
    files = ModelFiles(Path(stem))
    return {"name": files.name, "weights_sha256": files.hashes()["weights_sha256"]}


@contextlib.contextmanager
def staged(settings: TrainingSettings) -> Iterator[Path]:
    """Give an empty folder in that of the run; it goes afterwards, unless its model was refused."""
    folder, is_refused = settings.run_folder() / "finished", False
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        raise TrainingError(
            f"expected to write the model to {settings.models} by way of {settings.run_folder()}; "
            f"{error.strerror or error}; nothing was replaced and the training is kept: mend that "
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


def publish_finished(
    finished: Sequence[Published], folder: Path, settings: TrainingSettings
) -> tuple[Published, ...]:
    """Move finished models to their places in `models/`; raise TrainingError if one is worse."""
    models = Path(settings.models)
    pairs = [(model, ModelFiles(models / model.stem.relative_to(folder))) for model in finished]
    if not settings.overwrite:
        reasons = "; ".join(filter(None, (_why_not_replace(*pair) for pair in pairs)))
        if reasons:
            raise TrainingError(
                f"expected a model at least as good as the present one; {reasons}. Nothing was "
                f"replaced; the new model is in {folder}: to publish it, run the same command "
                "again with --overwrite, or with another --name"
            )
    move_into_place([(ModelFiles(model.stem), target) for model, target in pairs])
    return tuple(replace(model, stem=target.stem) for model, target in pairs)


def _why_not_replace(finished: Published, present: ModelFiles) -> str:  # "" if it may
    if not present.weights.exists():
        return ""
    not_comparable = f"{present.stem} cannot be compared with it"
    if "validation" not in finished.results:
        return f"{not_comparable} without --dataset"
    result = finished.results["validation"]
    new = result.evaluation
    try:
        model = load_model(present.stem)
    except ModelError as error:
        return f"{not_comparable} ({error})"
    classes = [", ".join(sorted(one.class_names)) for one in (model, new)]
    answers = [(model.card or {}).get("answers", "labels"), finished.answers]
    for what, (its, other) in (("classes", classes), ("answers", answers)):
        if its != other:
            return f"{not_comparable}: its {what} are {its}, those of the new one {other}"
    splits = np.full(len(new.labels), "validation")
    validation = Dataset(result.images, new.labels, splits, new.class_names)
    accuracy = evaluate_model(model, validation).accuracy
    told = f"{present.stem} is right on {accuracy:.2%} of this run's validation images, the new one"
    return "" if new.accuracy >= accuracy else f"{told} on {new.accuracy:.2%}"


def move_into_place(models: Sequence[tuple[ModelFiles, ModelFiles]]) -> None:
    """Put each finished model (first) into the place of another (second).

    1. Copy the finished files into a hidden folder beside each target, and the present ones, which
       become NAME.previous. A full disk shows here, where nothing has changed yet.
    2. For NAME.previous, then for NAME: rename what it has away, the weights first, and the copies
       into their places, the weights last.

    Where a step fails, all is undone, and the OSError raised. Where the process is killed, one of
    the two has no weights, so `load_model` refuses it: a loadable pair always has its own card.
    """
    renames = []
    with contextlib.ExitStack() as hidden_folders:
        for finished, target in models:
            target.stem.parent.mkdir(parents=True, exist_ok=True)
            hidden = tempfile.TemporaryDirectory(prefix=".part-", dir=target.stem.parent)
            folder = Path(hidden_folders.enter_context(hidden))
            if target.weights.exists():  # else it is not worth keeping
                renames += _replacement(target, target.previous, folder / "previous")
            renames += _replacement(finished, target, folder / "finished")
        rename_all(renames)


def _replacement(source: ModelFiles, target: ModelFiles, folder: Path) -> list[tuple[Path, Path]]:
    """Copy a model into a new folder; return the renames that then put it into a place."""
    copies, away = ModelFiles(folder / source.name), ModelFiles(folder / "away" / target.name)
    away.stem.parent.mkdir(parents=True)
    for path, copy in _renames(source, copies):
        for file in (path, *path.rglob("*")):
            if file.is_dir():
                (copy / file.relative_to(path)).mkdir()
            else:
                shutil.copyfile(file, copy / file.relative_to(path))
    return _renames(target, away) + _renames(copies, target)[::-1]


def _renames(files: ModelFiles, others: ModelFiles) -> list[tuple[Path, Path]]:
    """Return (from, to) of each file that a model has, the weights first."""
    kinds = ("weights", "architecture", "card", "fast_form", "fast_form_seal")
    pairs = [(getattr(files, kind), getattr(others, kind)) for kind in kinds]
    return [pair for pair in (*pairs, (report_of(files), report_of(others))) if pair[0].exists()]


def report_of(files: ModelFiles) -> Path:
    return files.stem.with_name(f"{files.name}_report")
