"""Train the model that the app serves, and tell how good it is.

python emotion_model_training.py --dataset fer2013.csv
python emotion_model_training.py inspect --dataset fer2013.csv
python emotion_model_training.py evaluate models/detection_model --dataset fer2013.csv
"""

import argparse
import sys

from emotion.errors import EmotionError
from emotion.files import stdout_was_closed
from emotion.training import commands
from emotion.training.settings import ALL, DATA, SPLITS, add_flags

EXIT_ERROR, EXIT_INTERRUPTED = 1, 130
MODEL_HELP = "a model's files without suffix: models/detection_model"


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


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; the flags of `train` are `TrainingSettings`."""
    parser = argparse.ArgumentParser(
        prog="emotion_model_training.py",
        description="Train a model that reads emotions from faces. Without a command: train.",
        epilog="'COMMAND --help' lists the flags of a command.",
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    no_overwrite = [name for name in ALL if name != "overwrite"]
    added = {}
    for name, run, names, text in (
        ("train", commands.train, ALL, "train a model (the default command)"),
        ("inspect", commands.inspect, DATA, "show a dataset before training"),
        ("download", commands.download, (), "fetch FER2013 from Kaggle"),
        ("evaluate", commands.evaluate, (*DATA, *SPLITS), "measure a saved model on a dataset"),
        ("compare", commands.compare, (*DATA, *SPLITS), "put several models side by side"),
        ("cross-validate", commands.cross_validate, no_overwrite, "train and test on each fold"),
        ("tune", commands.tune, no_overwrite, "search for the best hyperparameters"),
        (
            *("ensemble", commands.ensemble, (*DATA, *SPLITS, "models", "name", "overwrite")),
            "average several models into one",
        ),
        ("distill", commands.distill, ALL, "train one network on the answers of several"),
        ("convert", commands.convert, (), "write the fast form (.onnx) of a model"),
    ):
        added[name] = subparsers.add_parser(name, help=text, description=run.__doc__)
        added[name].set_defaults(run=run)
        add_flags(added[name], names)

    added["tune"].add_argument(
        "--trials", type=_positive, default=20, metavar="INT", help="how many to try (default: 20)"
    )
    for name in ("evaluate", "convert"):
        added[name].add_argument("model", help=MODEL_HELP)
    for name in ("compare", "ensemble"):
        added[name].add_argument("members", nargs="+", metavar="model", help=MODEL_HELP)
    added["ensemble"].add_argument(
        "--mirrored",
        action="store_true",
        help="each model also sees each face mirrored; one model is enough then",
    )
    for name, folder in (("inspect", "runs/inspection"), ("evaluate", ""), ("compare", "")):
        added[name].add_argument(
            "--report",
            default=folder,
            metavar="FOLDER",
            help=f"folder to write pages, figures and tables to (default: {folder or 'none'})",
        )
    for name in ("evaluate", "compare"):
        _add_measuring_flags(added[name])
    evaluate, download = added["evaluate"], added["download"]
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of text")
    evaluate.add_argument(
        "--flip",
        action="store_true",
        help="average with the mirrored face also if the model's card does not ask for it",
    )
    evaluate.add_argument(
        "--runtime",
        choices=("served", "keras"),
        default="served",
        help="as the app runs it, or by Keras from the pair itself (default: served)",
    )
    download.add_argument(
        "--to", default="dataset", metavar="FOLDER", help="where to put it (default: dataset)"
    )
    download.add_argument(
        "--kind",
        choices=("folders", "csv"),
        default="folders",
        help="the folders of images, or the csv of the challenge (default: folders)",
    )
    download.add_argument(
        "--overwrite", action="store_true", help="replace what was downloaded before"
    )
    return parser


def _add_measuring_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what a model is measured on."""
    parser.add_argument(
        "--split",
        default="test",
        metavar="SPLIT",
        help="train, validation, test, private_test or all (default: test)",
    )
    parser.add_argument(
        "--labels",
        choices=("auto", "dataset", "majority"),
        default="auto",
        help="the dataset's own, or what most voters of --votes chose; auto is what the (first) "
        "model was trained to answer (default: auto)",
    )
    parser.add_argument(
        "--known-classes-only",
        action="store_true",
        help="leave out images of classes that the model does not know",
    )


def _positive(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0; received {text}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
