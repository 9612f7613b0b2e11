"""The commands of `emotion_model_training.py`; what needs Keras is imported inside of them."""

import argparse
import importlib.util
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from emotion.errors import TrainingError
from emotion.files import user_path
from emotion.model.card import part, read_card
from emotion.model.keras import ModelFiles, import_keras
from emotion.progress import progress_bar
from emotion.text import counted
from emotion.training.conversion import member_as_pair
from emotion.training.settings import DATA, SPLITS, TrainingSettings, settings_from

SKIPPED_LINES = 20
say = partial(print, flush=True)


def train(options: argparse.Namespace) -> None:
    """Train a model, measure it and put it where the app finds it."""
    settings = settings_from(options)
    _look_at_target(settings)
    require_what_is_named(settings)
    dataset, leaks = read_for_training(settings)
    from emotion.training.data.datasets import with_extra_photos

    learned = with_extra_photos(dataset, settings)
    print(*learned.notes[len(dataset.notes) :], sep="\n", end="\n" * bool(settings.extra_photos))
    if vars(options).get("dry_run"):
        from emotion.training.fitting.dry_run import dry_run_lines

        print(*dry_run_lines(learned, settings), sep="\n")
        return
    say(f"Checkpoint after each epoch: {settings.run_folder()}")
    from emotion.training.fitting.checkpoints import take_over_finished_run
    from emotion.training.fitting.fitting import fit
    from emotion.training.publishing import publish

    if finished := take_over_finished_run(learned, settings):
        print(f"Going on from {finished}, a finished run of the same data and settings")
    fitted = fit(learned, settings)
    print(f"Selected epoch {fitted.selected_epoch} of {len(fitted.history)} by validation accuracy")
    for published in publish(fitted, dataset, leaks, settings):
        _print_published(published)


def distill(options: argparse.Namespace) -> None:
    """Train one network on the averaged answers of several."""
    if not {"teachers", "votes_teachers"} & vars(options).keys():
        how = "distill --teachers models/one models/another"
        raise TrainingError(f"expected the models to learn from: {how}; received none")
    train(options)


def ensemble(options: argparse.Namespace) -> None:
    """Save the average of several models as one ordinary model."""
    stems = [user_path(member) for member in options.members]
    settings = settings_from(options, _settings_of(stems[0]))
    target = Path(settings.models) / settings.name
    if target.resolve() in [stem.resolve() for stem in stems]:
        received = f"received {target.name}, which is one of its members"
        raise TrainingError(f"expected a --name of its own for the average; {received}")
    _look_at_target(settings)
    with tempfile.TemporaryDirectory() as folder:
        members = (member_as_pair(stem, Path(folder), options) for stem in stems)
        _average(list(members), settings, options)


def _average(stems: Sequence[Path], settings: TrainingSettings, options) -> None:
    import_keras()
    from emotion.training.networks.ensembles import average_models
    from emotion.training.publishing import publish_average

    network, class_names = average_models(stems, options.mirrored)
    if "dataset" not in options:
        published = publish_average(network, class_names, stems, settings)
        print(f"Wrote {published.stem}.json, .h5 and its card")
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
    """Measure a saved model on a split of a dataset, by a paper's protocol, or on photographs."""
    if options.photos:
        evaluate_photographs(options)
        return
    from emotion.model.runtime import load_model
    from emotion.training.data.votes import ferplus_names
    from emotion.training.measuring import protocols
    from emotion.training.measuring.evaluation import mirrored
    from emotion.training.measuring.measurement import measure_split
    from emotion.training.measuring.report import summary_lines, write_predictions, write_report

    stem = Path(options.model)
    settings = settings_from(options, _settings_of(stem))
    model = load_model(stem, keras_alone=options.runtime == "keras")
    model = mirrored(model) if options.flip else model
    if options.protocol:
        contempt = options.protocol == "ferplus8"
        settings = replace(settings, fold=0, votes_as="second-head", contempt=contempt)
        options.labels = protocols.PROTOCOLS[options.protocol][0]
        model = protocols.with_contempt(model) if contempt else model
    split, voted = read_split(settings, options, stem, model.class_names)
    names = ferplus_names(Path(settings.votes), split.names) if settings.votes else split.names
    lists, notes = protocols.read_lists(options.subset, names)
    tell = partial(say, "Measuring:", file=sys.stderr)  # stdout belongs to the result
    worsened = bool(options.report) and not settings.quick
    result = measure_split(model, split, worsened, voted, tell)
    summary, rows, lines = result.summary(), [], []
    if options.protocol:
        rule = protocols.PROTOCOLS[options.protocol][1]
        rows = protocols.protocol_rows(options.protocol, model, split, options.split, result)
        summary |= {"protocol": {"name": options.protocol, "source": rule, "rows": rows}}
        lines = ["", f"Protocol {options.protocol}: {rule}"]
    subsets = {name: result.evaluation.where(mask) for name, mask in lists.items()}
    summary["subsets"] = [protocols.row_of(*each) for each in subsets.items()]
    if rows := [*rows, *summary["subsets"]]:
        lines += ["", *protocols.row_lines(rows)]
    lines += _titled(options.split, [*split.notes, *summary_lines(result)])
    about = f"on {model.runtime}" + ", averaged with the mirrored faces" * model.serving.mirrored
    _print_measured(options, summary, model, about, notes, lines)
    if options.report:
        path = write_report(Path(options.report), model, {options.split: result})
        given = result.evaluation, split.names, split.splits
        write_predictions(path.with_name("predictions.csv"), *given)
        print(f"\nWrote {path} and predictions.csv", file=sys.stderr)


def evaluate_photographs(options: argparse.Namespace) -> None:
    """Measure what is served on photographs, from file to answer."""
    from emotion.batch import BatchSettings
    from emotion.detection.yunet import YunetDetector
    from emotion.model.runtime import load_model
    from emotion.training.measuring import photographs

    if options.protocol or options.flip or options.runtime != "served" or "dataset" in options:
        expected = "expected --photos without --dataset, --protocol, --flip and --runtime keras"
        raise TrainingError(f"{expected}, as photographs are measured as served; received both")
    settings, model = BatchSettings(Path(options.model)), load_model(Path(options.model))
    if options.detector_model:
        path = user_path(options.detector_model).resolve()
        YunetDetector(path)  # a network that is missing is known here, not in each worker
        settings = replace(settings, make_detector=partial(YunetDetector, path))
    source = user_path(options.photos)
    chosen = options.groups, options.subset
    found, notes = photographs.read_photographs(source, model.class_names, *chosen)
    bar = progress_bar("photos", len(found), sys.stderr)
    with tempfile.TemporaryDirectory() as spare, bar as show:
        folder = Path(options.report or spare)
        folder.mkdir(parents=True, exist_ok=True)
        read, is_interrupted = photographs.recognize_photographs(
            found, folder / "faces.csv", settings, lambda progress: show(progress.done)
        )
        figures = photographs.measure_photographs(read, model)
        if options.report:
            photographs.write_photographs(folder, read, figures, model)
    lines = _skipped([f"{name}: {why}" for name, why in figures["unreadable"].items()])
    lines += photographs.photograph_lines(figures)
    about = f"on {len(read):,} of {len(found):,} photos"
    _print_measured(options, figures, model, about, notes, lines)
    if options.report:
        print(f"\nWrote photographs.json, photographs.csv, faces.csv to {folder}", file=sys.stderr)
    if is_interrupted:
        raise KeyboardInterrupt


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
    from emotion.training.data import inspection
    from emotion.training.data.datasets import read_datasets

    dataset = read_datasets(replace(settings_from(options), unreadable_share=1.0))
    seen = inspection.inspect_dataset(dataset)
    print(*inspection.inspection_lines(seen), sep="\n")
    if options.report:
        print(f"\nWrote {inspection.write_inspection(Path(options.report), dataset, seen)}")


def download(options: argparse.Namespace) -> None:
    """Fetch FER2013 from Kaggle."""
    from emotion.training.data.download import download_fer2013

    print(*download_fer2013(Path(options.to), options.kind, options.overwrite), sep="\n")


def cross_validate(options: argparse.Namespace) -> None:
    """Train and test on each fold of a dataset in turn."""
    from emotion.training.data.datasets import read_datasets

    settings = settings_from(options)
    require_what_is_named(settings)
    dataset = read_datasets(settings)
    from emotion.training import cross_validation

    rows, pooled = cross_validation.cross_validate(dataset, settings, on_fold=say)
    print(*cross_validation.cross_validation_lines(rows, pooled), sep="\n")
    folder = Path(settings.models) / f"{settings.name}_cross_validation"
    print(f"\nWrote {cross_validation.write_cross_validation(folder, rows, pooled)}")


def tune(options: argparse.Namespace) -> None:
    """Search for the best hyperparameters."""
    settings = settings_from(options)
    require_what_is_named(settings)
    from emotion.training import tuning

    grid = tuning.read_grid(options.grid, settings) if options.grid else []
    dataset, _ = read_for_training(settings)
    rows = tuning.tune(dataset, settings, options.trials, on_trial=say, grid=grid)
    print(*tuning.tuning_lines(settings, rows, grid), sep="\n")
    print(f"\nWrote {tuning.write_tuning(settings, rows)}")


def renew(options: argparse.Namespace) -> None:
    """Measure a saved model anew on the data of its card, and renew its card and report."""
    stem = Path(options.model)
    settings = settings_from(options, _settings_of(stem))
    dataset, _ = read_for_training(settings)
    import_keras()
    from emotion.training.publishing import renew_card

    _print_published(renew_card(stem, settings, dataset))


def require_what_is_named(settings: TrainingSettings) -> None:
    """Raise an EmotionError unless the models, weights and packages of the settings are there.

    It is for before the data is read, which takes minutes.
    """
    for stem in (*settings.teachers, *settings.votes_teachers):
        ModelFiles(Path(stem)).require_pair()
    if settings.log_to != "none" and importlib.util.find_spec(settings.log_to) is None:
        name = settings.log_to
        expected = f"expected the package {name} for --log-to {name}; it is not installed"
        raise TrainingError(f"{expected}: pip install {name}")
    import_keras()
    weights = settings.starting_weights()
    if weights == "imagenet" or weights.endswith(".h5"):
        from emotion.training.networks.architectures import build_network, start_from

        start_from(build_network(class_count=2, **settings.network()), settings)
    elif weights.endswith(".keras"):
        received = f"received {weights}: the command convert makes one of it"
        raise TrainingError(f"expected --weights of a model's pair, without suffix; {received}")
    elif weights != "none":
        ModelFiles(Path(weights)).require_pair()


def read_for_training(settings: TrainingSettings):
    """Return the dataset with its splits and without leaks, and the `Leaks`; print both."""
    from emotion.training.data.datasets import read_datasets, unreadable_words
    from emotion.training.data.splits import make_splits, split_lines

    say(f"Reading {', '.join(settings.dataset)}")
    dataset, leaks = make_splits(read_datasets(settings), settings)
    leaked = {
        "also in a test split": leaks.identical,
        "nearly the same as a test image": leaks.similar,
        "of training also in validation": leaks.in_validation,
    }
    what = "Kept" if leaks.kept else "Removed"
    lines = [*split_lines(dataset), *dataset.notes]
    lines += [f"{what} {counted(count, 'image')} {why}" for why, count in leaked.items() if count]
    lines += [leaks.copies] * bool(leaks.copies) + _skipped(dataset.unreadable)
    if dataset.unreadable:
        lines.append(f"Skipped in all: {unreadable_words(dataset)}")
    print(*lines, sep="\n")
    return dataset, leaks


def read_split(settings: TrainingSettings, options: argparse.Namespace, stem: Path, class_names):
    """Return the images of `--split`, labelled as a model answers, and those with votes or None."""
    from emotion.training.data.datasets import match_classes, read_datasets
    from emotion.training.data.splits import make_splits
    from emotion.training.data.votes import with_all_votes, with_majority_labels
    from emotion.training.measuring.protocols import PART_IMAGES, PARTS

    dataset = read_datasets(settings)
    protocol = vars(options).get("protocol")
    if options.split == "auto":
        papers = protocol and "private_test" in dataset.splits
        options.split = "private_test" if papers else "test"
    if options.split != "all":
        dataset, _ = make_splits(dataset, settings)
        if options.split not in dataset.split_names():
            names = ", ".join((*dataset.split_names(), "all"))
            raise TrainingError(f"expected a split among {names}; received {options.split}")
        dataset = dataset.split(options.split)
    if protocol and options.split not in PARTS:
        expected = "expected --split test (PublicTest) or private_test with --protocol"
        raise TrainingError(f"{expected}; received {options.split}")
    if protocol and len(dataset) != PART_IMAGES:
        whole = f"{PARTS[options.split]} has {PART_IMAGES:,}: not what the papers measured on"
        dataset = dataset.noting(f"{len(dataset):,} images, where {whole}")
    if options.labels == "majority" and not settings.votes:
        raise TrainingError("expected --votes fer2013new.csv for labels by majority; received none")
    labels = options.labels
    if labels == "auto" and _card_of(stem).get("answers") == "votes":
        labels = "majority"
    voted = None
    if labels == "majority" and settings.votes and settings.votes_as == "second-head":
        voted = with_all_votes(dataset, Path(settings.votes))
        dataset = with_majority_labels(dataset, Path(settings.votes))
    return match_classes(dataset, class_names, options.known_classes_only), voted


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
        print(*_titled(name, summary_lines(result)), sep="\n")
    stem = published.stem
    print(f"\nWrote {stem}.json, .h5 and its card; report: {stem}_report/report.html")


def _print_measured(options: argparse.Namespace, figures: dict, model, about, notes, lines) -> None:
    if options.json:
        print(json.dumps(figures, indent=1))
    else:
        notes = [f"Note: {note}" for note in (*model.notes, *notes)]
        print(f"{model.name} ({model.sha256[:12]}) {about}", *notes, *lines, sep="\n")


def _skipped(problems: Sequence[str]) -> list[str]:
    more = len(problems) - SKIPPED_LINES
    lines = [f"Skipped {line}" for line in problems[:SKIPPED_LINES]]
    return [*lines, f"Skipped {more} more"] if more > 0 else lines


def _titled(split: str, lines: Sequence[str]) -> list[str]:
    return ["", split.replace("_", " ").capitalize(), *lines]
