"""The commands of `emotion_model_training.py`; what needs Keras is imported inside of them."""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

from emotion.errors import TrainingError
from emotion.model.card import Serving, part, read_card
from emotion.model.keras import ModelFiles, import_keras, write_fast_form
from emotion.training.settings import DATA, SPLITS, TrainingSettings, settings_from

SKIPPED_LINES = 20
say = partial(print, flush=True)


def train(options: argparse.Namespace) -> None:
    """Data -> network -> fit -> calibrate -> evaluate -> save."""
    settings = settings_from(options)
    _look_at_target(settings)
    for stem in (*settings.teachers, *settings.votes_teachers):  # before the data is read
        ModelFiles(Path(stem)).require_pair()
    dataset, leaks = read_for_training(settings)
    say(f"Checkpoint after each epoch: {settings.run_folder()}")
    import_keras()
    from emotion.training.fitting.checkpoints import take_over_finished_run
    from emotion.training.fitting.fitting import fit
    from emotion.training.publishing import publish

    if finished := take_over_finished_run(dataset, settings):
        print(f"Going on from {finished}, a finished run of the same data and settings")
    fitted = fit(dataset, settings)
    print(f"Selected epoch {fitted.selected_epoch} of {len(fitted.history)} by validation accuracy")
    say("Saving it, and measuring what was saved on each split")
    for published in publish(fitted, dataset, leaks, settings):
        _print_published(published)


def distill(options: argparse.Namespace) -> None:
    """Train one network on the averaged answers of several."""
    if "teachers" not in options:
        how = "distill --teachers models/one models/another"
        raise TrainingError(f"expected the models to learn from: {how}; received none")
    train(options)


def ensemble(options: argparse.Namespace) -> None:
    """Save the average of several models as one ordinary model."""
    stems = [Path(member) for member in options.members]
    settings = settings_from(options, _settings_of(stems[0]))
    target = Path(settings.models) / settings.name
    if target.resolve() in [stem.resolve() for stem in stems]:
        received = f"received {target.name}, which is one of its members"
        raise TrainingError(f"expected a --name of its own for the average; {received}")
    _look_at_target(settings)
    import_keras()
    from emotion.training.networks.ensembles import average_models
    from emotion.training.publishing import publish_average

    network, class_names = average_models(stems, options.mirrored)
    if "dataset" not in options:
        publish_average(network, class_names, stems, settings)
        print(f"Wrote {target}.json, .h5 and its card")
        print("Without --dataset it is neither calibrated nor measured")
        return
    dataset, leaks = read_for_training(settings)
    splits = {}  # what tells which images were held out from each member
    for stem in stems:
        fingerprint = part(_card_of(stem), "dataset").get("fingerprint", str(stem))
        splits[stem] = fingerprint, [_settings_of(stem).get(name) for name in SPLITS]
    if any(split != splits[stems[0]] for split in splits.values()):
        print(
            "Note: the members do not all say that they were trained on one split of one dataset; "
            "those that learned from images of this validation split make the average look surer"
        )
    _print_published(publish_average(network, class_names, stems, settings, dataset, leaks))


def evaluate(options: argparse.Namespace) -> None:
    """Measure a saved model on a split of a dataset, answered as photos are."""
    from emotion.model.runtime import load_model
    from emotion.training.measuring.measurement import measure_split
    from emotion.training.measuring.report import summary_lines, write_report

    stem = Path(options.model)
    settings = settings_from(options, _settings_of(stem))
    model = load_model(stem, keras_alone=options.runtime == "keras")
    if options.flip and not model.serving.mirrored:
        model = replace(model, card={**(model.card or {}), "serving": asdict(Serving(True))})
    split, voted = read_split(settings, options, stem, model.class_names)
    result = measure_split(model, split, bool(options.report), voted)
    if options.json:
        print(json.dumps(result.summary(), indent=1))
    else:
        mirrored = ", averaged with the mirrored faces" if model.serving.mirrored else ""
        notes = [f"Note: {note}" for note in model.notes]
        print(f"{model.name} ({model.sha256[:12]}) on {model.runtime}{mirrored}", *notes, sep="\n")
        lines = summary_lines(result.evaluation, result.one_crop, result.agreement)
        _print_split(options.split, [*split.notes, *lines])
    if options.report:
        path = write_report(Path(options.report), model, {options.split: result})
        print(f"\nWrote {path}", file=sys.stderr)


def compare(options: argparse.Namespace) -> None:
    """Put several models side by side on one split."""
    from emotion.model.runtime import load_model
    from emotion.training.measuring import comparison

    stems = [Path(stem) for stem in options.members]
    settings = settings_from(options, _settings_of(stems[0]))
    split, _ = read_split(settings, options, stems[0], load_model(stems[0]).class_names)

    tell = partial(say, "Measuring", file=sys.stderr)  # stdout belongs to the result
    rows = comparison.compare_models(stems, split, tell)
    print(f"{len(split):,} images of the split {options.split}", *split.notes, "", sep="\n")
    print(*comparison.comparison_lines(rows), sep="\n")
    if options.report:
        comparison.write_comparison(Path(options.report), rows)
        print(f"\nWrote {options.report}")


def inspect(options: argparse.Namespace) -> None:
    """Show a dataset before training."""
    from emotion.training.data.datasets import read_datasets
    from emotion.training.data.inspection import inspect_dataset, inspection_lines
    from emotion.training.data.inspection_page import write_inspection

    dataset = read_datasets(settings_from(options), reading_line())
    inspection = inspect_dataset(dataset)
    print(*inspection_lines(inspection), sep="\n")
    if options.report:
        print(f"\nWrote {write_inspection(Path(options.report), dataset, inspection)}")


def download(options: argparse.Namespace) -> None:
    """Fetch FER2013 from Kaggle."""
    from emotion.training.data.download import download_fer2013

    print(*download_fer2013(Path(options.to), options.kind, options.overwrite), sep="\n")


def cross_validate(options: argparse.Namespace) -> None:
    """Train and test on each fold of a dataset in turn."""
    from emotion.training.data.datasets import read_datasets

    settings = settings_from(options)
    dataset = read_datasets(settings, reading_line())
    import_keras()
    from emotion.training import cross_validation

    result = cross_validation.cross_validate(dataset, settings, on_fold=say)
    print(*cross_validation.cross_validation_lines(result), sep="\n")
    folder = Path(settings.models) / f"{settings.name}_cross_validation"
    print(f"\nWrote {cross_validation.write_cross_validation(folder, result)}")


def tune(options: argparse.Namespace) -> None:
    """Search for the best hyperparameters."""
    settings = settings_from(options)
    dataset, _ = read_for_training(settings)
    import_keras()
    from emotion.training.tuning import tune
    from emotion.training.tuning_report import tuning_lines, write_tuning

    result = tune(dataset, settings, options.trials, on_trial=say)
    print(*tuning_lines(result), sep="\n")
    print(f"\nWrote {write_tuning(result)}")


def convert(options: argparse.Namespace) -> None:
    """Write the fast form of a pair that came without one."""
    files = ModelFiles(Path(options.model))
    write_fast_form(files)
    print(f"Wrote {files.fast_form}")


def renew(options: argparse.Namespace) -> None:
    """Measure a saved model anew on the data of its card, and renew its card and report."""
    stem = Path(options.model)
    settings = settings_from(options, _settings_of(stem))
    dataset, _ = read_for_training(settings)
    import_keras()
    from emotion.training.publishing import renew_card

    _print_published(renew_card(stem, settings, dataset))


def read_for_training(settings: TrainingSettings):
    """Return the dataset with its splits and without leaks, and the `Leaks`; print both."""
    from emotion.training.data.datasets import read_datasets
    from emotion.training.data.splits import make_splits

    say(f"Reading {', '.join(settings.dataset)}")
    dataset, leaks = make_splits(read_datasets(settings, reading_line()), settings)
    names = dataset.split_names()
    counts = ", ".join(f"{len(dataset.split(name)):,} {name.replace('_', ' ')}" for name in names)
    leaked = {
        "images that also stand in a test split": leaks.identical,
        "images nearly the same as a test image": leaks.similar,
        "training images that also stand in validation": leaks.in_validation,
    }
    what, skipped = "Kept" if leaks.kept else "Removed", list(dataset.unreadable)
    if len(skipped) > SKIPPED_LINES:
        skipped[SKIPPED_LINES:] = [f"{len(skipped) - SKIPPED_LINES} more"]
    lines = [f"Images: {counts}; classes: {', '.join(dataset.class_names)}", *dataset.notes]
    lines += [f"{what} {count:,} {images}" for images, count in leaked.items() if count]
    print(*lines, *(f"Skipped {line}" for line in skipped), sep="\n")
    return dataset, leaks


def read_split(
    settings: TrainingSettings, options: argparse.Namespace, stem: Path, class_names: Sequence[str]
):
    """Return the images of `--split`, with the classes and the kind of labels of a model.

    Then those that anybody voted on, if it answers as people do, else None.
    """
    from emotion.training.data.datasets import match_classes, read_datasets
    from emotion.training.data.splits import make_splits
    from emotion.training.data.votes import with_all_votes, with_majority_labels

    dataset = read_datasets(settings, reading_line())
    if options.split != "all":
        dataset, _ = make_splits(dataset, settings)
        if options.split not in dataset.split_names():
            names = ", ".join((*dataset.split_names(), "all"))
            raise TrainingError(f"expected a split among {names}; received {options.split}")
        dataset = dataset.split(options.split)
    if options.labels == "majority" and not settings.votes:
        raise TrainingError("expected --votes fer2013new.csv for --labels majority; received none")
    labels = options.labels
    if labels == "auto" and _card_of(stem).get("answers") == "votes":
        labels = "majority"
    voted = None
    if labels == "majority" and settings.votes and settings.votes_as == "second-head":
        voted = with_all_votes(dataset, Path(settings.votes))
        dataset = with_majority_labels(dataset, Path(settings.votes))
    return match_classes(dataset, class_names, options.known_classes_only), voted


def reading_line() -> Callable[[int, int], None] | None:
    """Return a function that shows how much is read, on a terminal, in one line."""

    def show(done: int, total: int) -> None:
        say(f"Read {done:,} of {total:,}", end="\r" if done < total else "\n", file=sys.stderr)

    return show if sys.stderr.isatty() else None


def _card_of(stem: Path) -> dict:
    return read_card(ModelFiles(stem).card) or {}


def _settings_of(stem: Path) -> dict[str, object]:
    """Return how a model's data was read and split, as far as its card says."""
    settings = part(_card_of(stem), "settings")
    return {name: settings[name] for name in (*DATA, *SPLITS) if name in settings}


def _look_at_target(settings: TrainingSettings) -> None:
    """Say what will become of a model of the new one's name; refuse a folder that is read-only."""
    target = ModelFiles(Path(settings.models) / settings.name)
    folder, expected = target.stem.parent, "expected a folder that can be written to as --models"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise TrainingError(f"{expected}; {folder}: {error.strerror}") from error
    if target.weights.exists():
        when = "it is" if settings.overwrite else "if the new model is at least as good, it is"
        print(f"{target.stem} exists; {when} replaced and kept as {target.previous.name}")


def _print_published(published) -> None:
    from emotion.training.measuring.report import summary_lines

    if published.answers == "votes":
        print("\nThe model that answers as most people who saw the faces (FER+) do:")
    for name, result in published.results.items():
        _print_split(name, summary_lines(result.evaluation, result.one_crop, result.agreement))
    stem = published.stem
    print(f"\nWrote {stem}.json, .h5 and its card; report: {stem}_report/report.html")


def _print_split(name: str, lines: Sequence[str]) -> None:
    print("", name.replace("_", " ").capitalize(), *lines, sep="\n")
