"""The commands of `emotion_model_training.py`: what each does with the flags it was given.

What imports Keras is imported inside the command that needs it.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from emotion.errors import TrainingError
from emotion.model.card import Serving, part, read_card
from emotion.model.keras import ModelFiles, import_keras, write_fast_form
from emotion.training.settings import DATA, SPLITS, TrainingSettings, settings_from

SKIPPED_LINES = 20


def train(options: argparse.Namespace) -> None:
    """Data -> network -> fit -> calibrate -> evaluate -> save."""
    settings = settings_from(options)
    _require_writable(Path(settings.models))
    for stem in (*settings.teachers, *settings.votes_teachers):  # before the data is read
        ModelFiles(Path(stem)).require_pair()
    _print_present(settings)
    dataset, leaks = read_for_training(settings)
    _print_dataset(dataset, leaks)
    print(f"Checkpoint after each epoch: {settings.run_folder()}", flush=True)
    import_keras()
    from emotion.training.fitting.checkpoints import take_over_finished_run
    from emotion.training.fitting.fitting import fit
    from emotion.training.publishing import publish

    finished = take_over_finished_run(dataset, settings)
    if finished:
        print(f"Going on from {finished}, a finished run of the same data and settings")
    fitted = fit(dataset, settings)
    print(f"Selected epoch {fitted.selected_epoch} of {len(fitted.history)} by validation accuracy")
    print("Saving it, and measuring what was saved on each split", flush=True)
    for published in publish(fitted, dataset, leaks, settings):
        _print_published(published)


def distill(options: argparse.Namespace) -> None:
    """Train one network on the averaged answers of several."""
    if "teachers" not in options:
        raise TrainingError(
            "expected the models to learn from: distill --teachers models/one models/another; "
            "received none"
        )
    train(options)


def ensemble(options: argparse.Namespace) -> None:
    """Save the average of several models as one ordinary model."""
    stems = [Path(member) for member in options.members]
    settings = settings_from(options, _settings_of(stems[0]))
    _require_writable(Path(settings.models))
    target = ModelFiles(Path(settings.models) / settings.name)
    if any(stem.resolve() == target.stem.resolve() for stem in stems):
        raise TrainingError(
            f"expected a --name of its own for the average; received {target.name}, which is one "
            "of its members"
        )
    _print_present(settings)
    import_keras()
    from emotion.training.networks.ensembles import average_models
    from emotion.training.publishing import publish_average, publish_untested

    network, class_names = average_models(stems, options.mirrored)
    if "dataset" not in options:
        publish_untested(network, class_names, stems, settings)
        print(f"Wrote {Path(settings.models) / settings.name}.json, .h5 and its card")
        print("Without --dataset it is neither calibrated nor measured")
        return
    dataset, leaks = read_for_training(settings)
    _print_dataset(dataset, leaks)
    splits = [  # what tells which images were held out from each member
        {"data": part(_card_of(stem), "dataset").get("fingerprint", str(stem))}
        | {name: _settings_of(stem).get(name) for name in SPLITS}
        for stem in stems
    ]
    if len({json.dumps(split) for split in splits}) > 1:
        print(
            "Note: the members do not all say that they were trained on one split of one dataset; "
            "those that learned from images of this validation split make the average look surer"
        )
    _print_published(publish_average(network, class_names, stems, dataset, leaks, settings))


def evaluate(options: argparse.Namespace) -> None:
    """Measure a saved model on a split of a dataset, answered as photos are."""
    from emotion.model.runtime import load_model
    from emotion.training.measuring.measurement import measure_split
    from emotion.training.measuring.report import summary_lines, write_report

    settings = settings_from(options, _settings_of(Path(options.model)))
    model = load_model(Path(options.model), keras_alone=options.runtime == "keras")
    if options.flip and not model.serving.mirrored:
        model = replace(model, card={**(model.card or {}), "serving": asdict(Serving(True))})
    split = read_split(settings, options, model.class_names)
    result = measure_split(model, split, robustness=bool(options.report))
    if options.json:
        print(json.dumps(result.summary(), indent=1))
    else:
        mirrored = ", averaged with the mirrored faces" if model.serving.mirrored else ""
        print(f"{model.name} ({model.sha256[:12]}) on {model.runtime}{mirrored}")
        print("\n".join(f"Note: {note}" for note in model.notes), end="\n" * bool(model.notes))
        _print_split(options.split, summary_lines(result.evaluation, result.one_crop), split.notes)
    if options.report:
        path = write_report(Path(options.report), model, {options.split: result})
        print(f"\nWrote {path}", file=sys.stderr)


def compare(options: argparse.Namespace) -> None:
    """Put several models side by side on one split."""
    from emotion.model.runtime import load_model
    from emotion.training.measuring.comparison import (
        compare_models,
        comparison_lines,
        write_comparison,
    )

    stems = [Path(stem) for stem in options.members]
    settings = settings_from(options, _settings_of(stems[0]))
    split = read_split(settings, options, load_model(stems[0]).class_names)
    rows = compare_models(stems, split, progress=_print_progress)
    print("\n".join([f"{len(split):,} images of the split {options.split}", *split.notes, ""]))
    print("\n".join(comparison_lines(rows)))
    if options.report:
        write_comparison(Path(options.report), rows)
        print(f"\nWrote {options.report}")


def inspect(options: argparse.Namespace) -> None:
    """Show a dataset before training."""
    from emotion.training.data.datasets import read_datasets
    from emotion.training.data.inspection import inspect_dataset, inspection_lines
    from emotion.training.data.inspection_page import write_inspection

    dataset = read_datasets(settings_from(options), reading_line())
    inspection = inspect_dataset(dataset)
    print("\n".join(inspection_lines(inspection)))
    if options.report:
        print(f"\nWrote {write_inspection(Path(options.report), dataset, inspection)}")


def download(options: argparse.Namespace) -> None:
    """Fetch FER2013 from Kaggle."""
    from emotion.training.data.download import download_fer2013

    print("\n".join(download_fer2013(Path(options.to), options.kind, options.overwrite)))


def cross_validate(options: argparse.Namespace) -> None:
    """Train and test on each fold of a dataset in turn."""
    from emotion.training.data.datasets import read_datasets

    settings = settings_from(options)
    dataset = read_datasets(settings, reading_line())
    import_keras()
    from emotion.training.cross_validation import (
        cross_validate,
        cross_validation_lines,
        write_cross_validation,
    )

    result = cross_validate(dataset, settings, on_fold=_print_line)
    print("\n".join(cross_validation_lines(result)))
    folder = Path(settings.models) / f"{settings.name}_cross_validation"
    print(f"\nWrote {write_cross_validation(folder, result)}")


def tune(options: argparse.Namespace) -> None:
    """Search for the best hyperparameters."""
    settings = settings_from(options)
    dataset, leaks = read_for_training(settings)
    _print_dataset(dataset, leaks)
    import_keras()
    from emotion.training.tuning import tune, tuning_lines, write_tuning

    result = tune(dataset, settings, options.trials, on_trial=_print_line)
    print("\n".join(tuning_lines(result)))
    folder = Path(settings.runs) / f"{settings.name}_study"
    print(f"\nWrote {write_tuning(folder, result)}")


def convert(options: argparse.Namespace) -> None:
    """Write the fast form of a pair that came without one."""
    files = ModelFiles(Path(options.model))
    write_fast_form(files)
    print(f"Wrote {files.fast_form}")


# What several commands share


def read_for_training(settings: TrainingSettings):
    """Return the dataset with its splits and without leaks, and how many leaks there were.

    Returns:
        (Dataset, Leaks).
    """
    from emotion.training.data.datasets import read_datasets
    from emotion.training.data.splits import make_splits

    _print_line(f"Reading {', '.join(settings.dataset)}")
    return make_splits(read_datasets(settings, reading_line()), settings)


def read_split(
    settings: TrainingSettings, options: argparse.Namespace, class_names: tuple[str, ...]
):
    """Return the images of `--split`, with the classes in the order of a model's.

    Returns:
        Dataset.
    """
    from emotion.training.data.datasets import match_classes, read_datasets
    from emotion.training.data.splits import make_splits
    from emotion.training.data.votes import with_majority_labels

    dataset = read_datasets(settings, reading_line())
    if options.split != "all":
        dataset, _ = make_splits(dataset, settings)
        if options.split not in dataset.split_names():
            names = ", ".join((*dataset.split_names(), "all"))
            raise TrainingError(f"expected a split among {names}; received {options.split}")
        dataset = dataset.split(options.split)
    if options.labels == "majority" and not settings.votes:
        raise TrainingError("expected --votes fer2013new.csv for --labels majority; received none")
    first = Path((getattr(options, "members", None) or [options.model])[0])
    answers_as_votes = _card_of(first).get("answers") == "votes"
    if (
        settings.votes
        and settings.votes_as == "second-head"
        and (options.labels == "majority" or (options.labels == "auto" and answers_as_votes))
    ):
        dataset = with_majority_labels(dataset, Path(settings.votes))
    return match_classes(dataset, class_names, options.known_classes_only)


def _card_of(stem: Path) -> dict:
    return read_card(ModelFiles(stem).card) or {}


def _settings_of(stem: Path) -> dict[str, object]:
    """Return the settings of reading and splitting that stand on a model's card, if it has one."""
    settings = part(_card_of(stem), "settings")
    return {name: settings[name] for name in (*DATA, *SPLITS) if name in settings}


def _require_writable(folder: Path) -> None:
    """Raise now, rather than after an hour of training whose result cannot be saved."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise TrainingError(
            f"expected a folder that can be written to as --models; {folder}: {error.strerror}"
        ) from error


# What is printed


def reading_line() -> Callable[[int, int], None] | None:
    """Return a function that shows how much is read, on a terminal, in one line."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        end = "\r" if done < total else "\n"
        print(f"Read {done:,} of {total:,}", end=end, file=sys.stderr, flush=True)

    return show


def _print_line(line: str) -> None:
    print(line, flush=True)


def _print_progress(name: str) -> None:
    print(f"Measuring {name}", file=sys.stderr, flush=True)  # stdout belongs to the result


def _print_present(settings: TrainingSettings) -> None:
    """Print what will become of a model that has the name of the new one."""
    present = ModelFiles(Path(settings.models) / settings.name)
    if present.weights.exists():
        when = "it is" if settings.overwrite else "if the new model is at least as good, it is"
        print(f"{present.stem} exists; {when} replaced and kept as {present.previous.name}")


def _print_dataset(dataset, leaks) -> None:
    """Print what will be learned from."""
    counts = ", ".join(
        f"{len(dataset.split(name)):,} {name.replace('_', ' ')}" for name in dataset.split_names()
    )
    print(f"Images: {counts}; classes: {', '.join(dataset.class_names)}")
    what = "Kept" if leaks.kept else "Removed"
    counts = {
        "images that also stand in a test split": leaks.identical,
        "images nearly the same as a test image": leaks.similar,
        "training images that also stand in validation": leaks.in_validation,
    }
    removed = [f"{what} {count:,} {text}" for text, count in counts.items() if count]
    print("\n".join([*dataset.notes, *removed]), end="\n" * bool(dataset.notes or removed))
    for line in dataset.unreadable[:SKIPPED_LINES]:
        print(f"Skipped {line}")
    if len(dataset.unreadable) > SKIPPED_LINES:
        print(f"Skipped {len(dataset.unreadable) - SKIPPED_LINES} more")


def _print_published(published) -> None:
    """Print the figures of each split and where the model is."""
    from emotion.training.measuring.report import summary_lines

    if published.answers == "votes":
        print("\nThe model that answers as most people who saw the faces (FER+) do:")
    for name, result in published.results.items():
        _print_split(name, summary_lines(result.evaluation, result.one_crop))
    stem = published.stem
    print(f"\nWrote {stem}.json, .h5 and its card; report: {stem}_report/report.html")


def _print_split(name: str, lines: list[str], notes: tuple[str, ...] = ()) -> None:
    """Print the figures of one split."""
    print(f"\n{name.replace('_', ' ').capitalize()}")
    print("\n".join([*notes, *lines]))
