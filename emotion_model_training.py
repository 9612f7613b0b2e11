"""Train the model that the app serves, and tell how good it is.

python emotion_model_training.py --dataset fer2013.csv
python emotion_model_training.py inspect --dataset fer2013.csv
python emotion_model_training.py evaluate models/detection_model --dataset fer2013.csv
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from emotion.errors import EmotionError, TrainingError
from emotion.files import stdout_was_closed
from emotion.model.keras import ModelFiles, import_keras, write_fast_form
from emotion.training.settings import ALL, DATA, SPLITS, TrainingSettings, add_flags, settings_from

EXIT_ERROR, EXIT_INTERRUPTED = 1, 130
RUNTIMES = ("served", "keras")
LABELS = ("auto", "dataset", "majority")
MODEL_HELP = "a model's files without suffix: models/detection_model"
SKIPPED_LINES = 20


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["train", *arguments]
    options = build_parser().parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except (EmotionError, BrokenPipeError) as error:
        if not (isinstance(error, BrokenPipeError) and stdout_was_closed()):
            print(f"emotion_model_training: {error}", file=sys.stderr)
        return EXIT_ERROR
    except OSError as error:  # such as a full disk while a report is written
        sentence = f"expected to read and to write files; received: {error}"
        print(f"emotion_model_training: {sentence}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("\nInterrupted. Run the same command again to go on.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


# The commands


def train(options: argparse.Namespace) -> None:
    """Data -> network -> fit -> calibrate -> evaluate -> save."""
    settings = settings_from(options)
    _require_writable(Path(settings.models))
    _require_teachers(settings)
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
    _require_no_member(stems, ModelFiles(Path(settings.models) / settings.name))
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
    if len({json.dumps(_split_of(stem)) for stem in stems}) > 1:
        print(
            "Note: the members do not all say that they were trained on one split of one dataset; "
            "those that learned from images of this validation split make the average look surer"
        )
    _print_published(publish_average(network, class_names, stems, dataset, leaks, settings))


def evaluate(options: argparse.Namespace) -> None:
    """Measure a saved model on a split of a dataset, answered as photos are."""
    from emotion.model.runtime import Serving, load_model
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
    rows = compare_models(stems, split, progress=lambda name: _tell(f"Measuring {name}"))
    print("\n".join([f"{len(split):,} images of the split {options.split}", *split.notes, ""]))
    print("\n".join(comparison_lines(rows)))
    if options.report:
        write_comparison(Path(options.report), rows)
        print(f"\nWrote {options.report}")


def inspect(options: argparse.Namespace) -> None:
    """Show a dataset before training."""
    from emotion.training.data.datasets import read_datasets
    from emotion.training.data.inspection import inspect_dataset, inspection_lines, write_inspection

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
    if _is_measured_on_majority(settings, options):
        dataset = with_majority_labels(dataset, Path(settings.votes))
    return match_classes(dataset, class_names, options.known_classes_only)


def _is_measured_on_majority(settings: TrainingSettings, options: argparse.Namespace) -> bool:
    """Tell whether the labels are to be what most voters chose.

    Raises:
        TrainingError: they are asked for without votes to take them from.
    """
    if options.labels == "majority" and not settings.votes:
        raise TrainingError("expected --votes fer2013new.csv for --labels majority; received none")
    wanted = options.labels == "majority" or (
        options.labels == "auto" and _answers_as_votes(_measured_stems(options)[0])
    )
    return wanted and bool(settings.votes) and settings.votes_as == "second-head"


def _measured_stems(options: argparse.Namespace) -> list[Path]:
    """Return the models that are measured."""
    return [Path(stem) for stem in getattr(options, "members", None) or [options.model]]


def _answers_as_votes(stem: Path) -> bool:
    """Tell whether a model's card says that it answers as most voters of FER+ do."""
    return _card_of(stem).get("answers") == "votes"


def _card_of(stem: Path) -> dict:
    """Return the card of a model, empty where it has none that can be read."""
    try:
        card = json.loads(ModelFiles(stem).card.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return card if isinstance(card, dict) else {}


def _settings_of(stem: Path) -> dict[str, object]:
    """Return the settings of reading and splitting that stand on a model's card, if it has one."""
    settings = _card_of(stem).get("settings") or {}
    return {name: settings[name] for name in (*DATA, *SPLITS) if name in settings}


def _split_of(stem: Path) -> dict[str, object]:
    """Return what tells on a model's card which images were held out from it."""
    fingerprint = (_card_of(stem).get("dataset") or {}).get("fingerprint", str(stem))
    settings = _settings_of(stem)
    return {"data": fingerprint, **{name: settings.get(name) for name in SPLITS}}


def _require_writable(folder: Path) -> None:
    """Raise before an hour of training where its result could not be saved."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise TrainingError(
            f"expected a folder that can be written to as --models; {folder}: {error.strerror}"
        ) from error


def _require_teachers(settings: TrainingSettings) -> None:
    """Raise before the data is read where a model to learn from is missing."""
    for stem in (*settings.teachers, *settings.votes_teachers):
        ModelFiles(Path(stem)).require_pair()


def _require_no_member(stems: list[Path], target: ModelFiles) -> None:
    """Raise where the average would replace one of the models it is made of."""
    if any(stem.resolve() == target.stem.resolve() for stem in stems):
        raise TrainingError(
            f"expected a --name of its own for the average; received {target.name}, which is one "
            "of its members"
        )


# What is printed


def reading_line() -> Callable[[int, int], None] | None:
    """Return a function that shows how much is read, on a terminal, in one line."""
    if not sys.stderr.isatty():
        return None

    def show(done: int, total: int) -> None:
        end = "\r" if done < total else "\n"
        print(f"Read {done:,} of {total:,}", end=end, file=sys.stderr, flush=True)

    return show


def _tell(line: str) -> None:
    """Print a line of progress on stderr; stdout belongs to the result."""
    print(line, file=sys.stderr, flush=True)


def _print_line(line: str) -> None:
    print(line, flush=True)


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
    for line in (*dataset.notes, *_leak_lines(leaks)):
        print(line)
    for line in dataset.unreadable[:SKIPPED_LINES]:
        print(f"Skipped {line}")
    if len(dataset.unreadable) > SKIPPED_LINES:
        print(f"Skipped {len(dataset.unreadable) - SKIPPED_LINES} more")


def _leak_lines(leaks) -> list[str]:
    """Return what was done about images that stand in two splits, a line each."""
    what = "Kept" if leaks.kept else "Removed"
    counts = (
        (leaks.identical, "images that also stand in a test split"),
        (leaks.similar, "images nearly the same as a test image"),
        (leaks.in_validation, "training images that also stand in validation"),
    )
    return [f"{what} {count:,} {text}" for count, text in counts if count]


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


# The command line


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; the flags of `train` are `TrainingSettings`."""
    parser = argparse.ArgumentParser(
        prog="emotion_model_training.py",
        description="Train a model that reads emotions from faces. Without a command: train.",
        epilog="'COMMAND --help' lists the flags of a command.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=run.__doc__)
        added.set_defaults(run=run)
        return added

    command_train = command("train", train, "train a model (the default command)")
    command_inspect = command("inspect", inspect, "show a dataset before training")
    command_download = command("download", download, "fetch FER2013 from Kaggle")
    command_evaluate = command("evaluate", evaluate, "measure a saved model on a dataset")
    command_compare = command("compare", compare, "put several models side by side")
    command_validate = command("cross-validate", cross_validate, "train and test on each fold")
    command_tune = command("tune", tune, "search for the best hyperparameters")
    command_ensemble = command("ensemble", ensemble, "average several models into one")
    command_distill = command("distill", distill, "train one network on the answers of several")
    command_convert = command("convert", convert, "write the fast form (.onnx) of a model")

    for publishing in (command_train, command_distill):
        add_flags(publishing, ALL)
    for measuring in (command_validate, command_tune):
        add_flags(measuring, [name for name in ALL if name != "overwrite"])
    command_tune.add_argument(
        "--trials", type=_positive, default=20, metavar="INT", help="how many to try (default: 20)"
    )
    add_flags(command_inspect, DATA)
    _add_report(command_inspect, "runs/inspection")
    _add_download_flags(command_download)
    command_evaluate.add_argument("model", help=MODEL_HELP)
    _add_evaluation_flags(command_evaluate)
    command_compare.add_argument("members", nargs="+", metavar="model", help=MODEL_HELP)
    _add_measuring_flags(command_compare)
    command_ensemble.add_argument("members", nargs="+", metavar="model", help=MODEL_HELP)
    command_ensemble.add_argument(
        "--mirrored",
        action="store_true",
        help="each model also sees each face mirrored; one model is enough then",
    )
    add_flags(command_ensemble, (*DATA, *SPLITS, "models", "name", "overwrite"))
    command_convert.add_argument("model", help=MODEL_HELP)
    return parser


def _add_evaluation_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `evaluate`."""
    _add_measuring_flags(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument(
        "--flip",
        action="store_true",
        help="average with the mirrored face also where the model's card does not ask for it",
    )
    parser.add_argument(
        "--runtime",
        choices=RUNTIMES,
        default="served",
        help="as the app runs it, or by Keras from the pair itself (default: served)",
    )


def _add_measuring_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what a model is measured on, and where the report goes."""
    add_flags(parser, (*DATA, *SPLITS))
    parser.add_argument(
        "--split",
        default="test",
        metavar="SPLIT",
        help="train, validation, test, private_test or all (default: test)",
    )
    parser.add_argument(
        "--labels",
        choices=LABELS,
        default="auto",
        help="the dataset's own, or what most voters of --votes chose; auto is what the (first) "
        "model was trained to answer (default: auto)",
    )
    parser.add_argument(
        "--known-classes-only",
        action="store_true",
        help="leave out images of classes that the model does not know",
    )
    _add_report(parser, "")


def _add_download_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `download`."""
    parser.add_argument(
        "--to", default="dataset", metavar="FOLDER", help="where to put it (default: dataset)"
    )
    parser.add_argument(
        "--kind",
        choices=("folders", "csv"),
        default="folders",
        help="the folders of images, or the csv of the challenge (default: folders)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what was downloaded before"
    )


def _add_report(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--report",
        default=default,
        metavar="FOLDER",
        help=f"folder to write pages, figures and tables to (default: {default or 'none'})",
    )


def _positive(text: str) -> int:
    """Return a whole number above 0, or raise what argparse turns into a usage error."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0; received {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())
