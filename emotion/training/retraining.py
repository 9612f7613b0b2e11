"""Learn from the faces that visitors gave, and keep whichever model is better."""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from emotion.errors import TrainingError
from emotion.files import user_path
from emotion.model.card import part, read_card
from emotion.model.keras import ModelFiles
from emotion.text import share, table
from emotion.training import commands
from emotion.training.data.layouts import FEEDBACK_FOLDER
from emotion.training.settings import BEST_RATES, DATA, SPLITS, settings_from

NETWORK = ("architecture", "blocks", "filters")
OF_THE_MODEL = (*NETWORK, "models", "name", "weights")  # said by the model, not by a flag
# a trained network goes on: few epochs, at a low rate
SHORT = {"epochs": 5, "warmup_epochs": 1.0, "learning_rate": BEST_RATES["sgd"] / 10}


def retrain(options: argparse.Namespace) -> None:
    """Train a model on with the faces that visitors gave; replace it only by a better one.

    Without other flags it learns for 5 epochs at a rate of 0.01. Both models are measured on the
    same test images, from which neither learned; no visitor's face is among them. Faces that wait
    for an operator's approval are not read. Run again without new faces, it trains nothing.
    """
    stem, feedback = Path(options.model), user_path(options.feedback)
    if feedback.name != FEEDBACK_FOLDER:
        expected = f"expected --feedback as a folder named {FEEDBACK_FOLDER}, as the app keeps it"
        raise TrainingError(f"{expected}; received {feedback}")
    present = ModelFiles(stem)
    present.require_pair()
    if not any(feedback.glob("[!.]*/*.png")):  # those in hidden folders wait for approval
        print(f"{stem} stays: there are no faces in {feedback} that were approved")
        return
    card = read_card(present.card) or {}
    its, learned = part(card, "settings"), part(card, "dataset")
    kept = {name: its[name] for name in (*DATA, *SPLITS, *NETWORK) if name in its}
    settings = settings_from(options, kept | SHORT)
    by_votes = card.get("answers") == "votes"
    if "architecture" not in its:
        raise TrainingError(f"expected a model whose card names its network; received {stem}")
    if by_votes != bool(settings.votes and settings.votes_as == "second-head"):
        expected = "expected --votes where the model answers as votes, not where it does as labels"
        raise TrainingError(f"{expected}; received {stem}, of {'votes' if by_votes else 'labels'}")
    run, paths = Path(settings.runs) / f"{stem.name}_retrained", settings.dataset
    settings = replace(settings, dataset=(*paths, str(feedback)), weights=str(stem), name=stem.name)
    commands.require_what_is_named(settings)
    dataset, leaks = commands.read_for_training(settings)
    from emotion.model.runtime import load_model
    from emotion.training.data.datasets import Dataset, match_classes
    from emotion.training.data.votes import with_majority_labels
    from emotion.training.fitting.checkpoints import Checkpoint
    from emotion.training.fitting.fitting import fit
    from emotion.training.measuring.evaluation import evaluate_model
    from emotion.training.publishing import move_into_place, publish

    old, models = load_model(stem), run / "models"
    dataset = match_classes(dataset, old.class_names)
    answered = with_majority_labels(dataset, Path(settings.votes)) if by_votes else dataset
    judged = part(read_card(ModelFiles(models / stem.name).card) or {}, "dataset")  # but not better
    if answered.fingerprint() in (learned.get("fingerprint"), judged.get("fingerprint")):
        print(f"{stem} stays: there is nothing new since the last training")
        return
    names = {Path(path).name for path in paths}
    if names != set(str(learned.get("name")).split(" + ")) - {FEEDBACK_FOLDER}:
        print(f"Note: {stem} learned from {learned.get('name')}; if from test images too, it gains")
    settings = replace(settings, runs=str(run), models=str(models))
    begun = Checkpoint(dataset, settings)
    try:
        begun.read()
    except TrainingError:  # visitors gave more faces since it was interrupted
        shutil.rmtree(begun.folder)
    fitted = fit(dataset, settings)
    shutil.rmtree(models, ignore_errors=True)
    published = publish(fitted, dataset, leaks, settings)
    rows, pairs, told = [], [], []
    for one in published:  # a second head's model is judged by itself, if there is a present one
        target, gains = stem.parent / one.stem.relative_to(models), {}
        if not ModelFiles(target).weights.exists():
            continue
        old = load_model(target)
        for name, result in one.results.items():
            new = result.evaluation
            splits = np.full(len(new.labels), name)
            seen = Dataset(result.images, new.labels, splits, new.class_names)
            before = evaluate_model(old, seen)
            gains[name] = new.accuracy - before.accuracy
            cells = (share(before.accuracy, 2), share(new.accuracy, 2))
            rows.append((f"{target}, {name.replace('_', ' ')}", f"{len(splits):,}", *cells))
        if gains.get("test", gains.get("private_test")) > 0:
            pairs.append((ModelFiles(one.stem), ModelFiles(target)))
            previous = ModelFiles(target).previous.name
            told.append(f"Published {target}, which is better; the former one is {previous}")
        else:
            told.append(f"{target} stays: {one.stem} is not better on the test images")
    print("", *table(("right on", "images", "present", "new"), rows), sep="\n")
    move_into_place(pairs)
    print(*told, sep="\n")
