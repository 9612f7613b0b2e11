"""Train the model that the app serves, and tell how good it is.

python emotion_model_training.py --dataset fer2013.csv
python emotion_model_training.py evaluate models/detection_model --dataset fer2013.csv
python emotion_model_training.py convert models/detection_model
"""

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path

from emotion.errors import EmotionError, TrainingError
from emotion.keras_pair import ModelFiles, import_keras, write_fast_form
from emotion.training.settings import TrainingSettings

COMMANDS = ("train", "evaluate", "convert")
EXIT_ERROR, EXIT_INTERRUPTED = 1, 130


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["train", *arguments]
    options = build_parser().parse_args(arguments)
    try:
        options.run(options)
    except EmotionError as error:
        print(f"emotion_model_training: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("\nInterrupted. Run the same command again to go on.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; the flags of `train` are `TrainingSettings`."""
    parser = argparse.ArgumentParser(
        prog="emotion_model_training.py",
        description="Train a model that reads emotions from faces. Without a command: train.",
        epilog="'COMMAND --help' lists the flags of a command.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    _add_evaluate(commands)
    _add_convert(commands)
    return parser


def train(options: argparse.Namespace) -> None:
    """Data -> network -> fit -> calibrate -> evaluate -> save."""
    settings = TrainingSettings(
        **{setting.name: getattr(options, setting.name) for setting in fields(TrainingSettings)}
    )
    _require_writable(Path(settings.models))
    print(f"Reading {settings.dataset}", flush=True)
    dataset, removed = read_for_training(settings)
    import_keras()
    from emotion.training.fitting import fit
    from emotion.training.publishing import publish

    _print_dataset(dataset, removed, settings)
    fitted = fit(dataset, settings)
    print(f"Selected epoch {fitted.selected_epoch} of {len(fitted.history)} by validation accuracy")
    evaluations = publish(fitted, dataset, removed, settings)
    for name, evaluation in evaluations.items():
        _print_evaluation(name, evaluation)
    report = Path(settings.models) / f"{settings.name}_report"
    print(
        f"\nWrote {Path(settings.models) / settings.name}.json, .h5 and its card; report: {report}"
    )


def evaluate(options: argparse.Namespace) -> None:
    """Measure a saved model, as it is served, on a split of a dataset."""
    from emotion.model import load_model
    from emotion.training.datasets import hold_out_validation, load_dataset, remove_leaks
    from emotion.training.evaluation import evaluate_model
    from emotion.training.report import write_evaluation

    model = load_model(Path(options.model))
    dataset = load_dataset(Path(options.dataset))
    if options.split in ("train", "validation"):
        dataset, _ = remove_leaks(dataset)
        dataset = hold_out_validation(dataset, options.validation_share, options.seed)
    if options.split not in dataset.split_names():
        raise TrainingError(
            f"expected a split among {', '.join(dataset.split_names())}; received {options.split}"
        )
    split = dataset.split(options.split)
    evaluation = evaluate_model(model, split)
    if options.json:
        print(json.dumps(evaluation.summary(), indent=1))
    else:
        print(f"{model.name} ({model.sha256[:12]}) on {model.runtime}")
        _print_evaluation(options.split, evaluation)
    if options.report:
        write_evaluation(Path(options.report), evaluation, split.images)


def convert(options: argparse.Namespace) -> None:
    """Write the fast form of a pair that came without one."""
    files = ModelFiles(Path(options.model))
    write_fast_form(files)
    print(f"Wrote {files.fast_form}")


def read_for_training(settings: TrainingSettings):
    """Return the dataset with a validation split and without leaks, and how many leaks there were.

    Returns:
        (Dataset, int).
    """
    from emotion.training.datasets import hold_out_validation, load_dataset, remove_leaks

    votes = Path(settings.votes) if settings.votes else None
    dataset, removed = remove_leaks(load_dataset(Path(settings.dataset), votes))
    return hold_out_validation(dataset, settings.validation_share, settings.seed), removed


def _add_train(commands) -> None:
    """Add the command `train`, a flag for each setting."""
    parser = commands.add_parser(
        "train",
        help="train a model (the default command)",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for setting in fields(TrainingSettings):
        parser.add_argument(
            f"--{setting.name.replace('_', '-')}",
            type=setting.type,
            default=setting.default,
            choices=setting.metadata["choices"] or None,
            help=setting.metadata["help"],
        )
    parser.set_defaults(run=train)


def _add_evaluate(commands) -> None:
    """Add the command `evaluate`."""
    defaults = TrainingSettings()
    parser = commands.add_parser(
        "evaluate",
        help="measure a saved model on a dataset",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("model", help="the model's files without suffix: models/detection_model")
    parser.add_argument("--dataset", default=defaults.dataset, help="as for training")
    parser.add_argument("--split", default="test", help="train, validation, test or private_test")
    parser.add_argument("--report", default="", help="folder to write figures and tables to")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument(
        "--validation-share",
        type=float,
        default=defaults.validation_share,
        help="as in training, to get the same validation split",
    )
    parser.add_argument("--seed", type=int, default=defaults.seed, help="as in training")
    parser.set_defaults(run=evaluate)


def _add_convert(commands) -> None:
    """Add the command `convert`."""
    parser = commands.add_parser("convert", help="write the fast form (.onnx) of a .json/.h5 pair")
    parser.add_argument("model", help="the model's files without suffix: models/detection_model")
    parser.set_defaults(run=convert)


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


def _print_dataset(dataset, removed: int, settings: TrainingSettings) -> None:
    """Print what will be learned from."""
    counts = ", ".join(
        f"{len(dataset.split(name)):,} {name.replace('_', ' ')}" for name in dataset.split_names()
    )
    print(f"Images: {counts}; classes: {', '.join(dataset.class_names)}")
    if removed:
        print(f"Removed {removed:,} training images that also stand in a test split")
    for line in dataset.unreadable[:20]:
        print(f"Skipped {line}")
    if len(dataset.unreadable) > 20:
        print(f"Skipped {len(dataset.unreadable) - 20} more files")
    print(f"Checkpoint after each epoch: {settings.run_folder()}", flush=True)


def _print_evaluation(name: str, evaluation) -> None:
    """Print the figures of one split."""
    from emotion.training.report import summary_lines

    print(f"\n{name.replace('_', ' ').capitalize()}")
    print("\n".join(summary_lines(evaluation)))


if __name__ == "__main__":
    sys.exit(main())
