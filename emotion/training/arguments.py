"""The table of the commands of `emotion_model_training.py` and of their own flags, as a parser."""

import argparse

from emotion.training import commands, conversion, prediction, retraining
from emotion.training.settings import ALL, DATA, DISTILLING, SPLITS, add_flags

MODEL = "a model's files without suffix: models/detection_model"
REPORT = "folder to write pages, figures and tables to"
SETTINGS = "read flags from lines such as batch_size = 64 (TOML); those given here win"
SWITCH, FOLDER = {"action": "store_true"}, {"default": "", "metavar": "FOLDER"}
MANY, NAMES = {"nargs": "+", "metavar": "PHOTO"}, {"default": "", "metavar": "NAME,NAME"}
SERVED = {"default": "models/detection_model", "metavar": "MODEL"}
SPLIT = {"default": "auto", "metavar": "SPLIT"}
PHOTOS = {"default": "", "metavar": "FOLDER_OR_CSV"}
LISTS = {"nargs": "+", "default": [], "metavar": "NAME=LIST"}
FEEDBACK = {"default": "dataset/feedback", "metavar": "FOLDER"}
GRID = {"nargs": "+", "default": [], "metavar": "NAME=VALUES"}
PROTOCOLS = ("fer2013", "ferplus", "ferplus8")
MEASURED = (*DATA, *SPLITS, "quick")
PLACE = ("models", "name", "overwrite")
ENSEMBLE = (*MEASURED, *PLACE)
TRAIN = [name for name in ALL if name not in DISTILLING]
TRIED = [name for name in TRAIN if name not in ("overwrite", "quick")]
RETRAIN = [name for name in TRIED if name not in retraining.OF_THE_MODEL]


def positive(text: str) -> int:
    """Return a number above 0."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0; received {text}")
    return int(text)


def one_of(*words: str) -> dict:
    """Return how a flag with these choices is read; the first is the default."""
    return {"choices": words, "default": words[0]}


# name, what it does, the settings that are flags of it, one line of help
COMMANDS = (
    ("train", commands.train, TRAIN, "train a model (the default command)"),
    ("inspect", commands.inspect, DATA, "show a dataset before training"),
    ("download", commands.download, (), "fetch FER2013 from Kaggle"),
    ("predict", prediction.predict, (), "say what a model answers to photos"),
    ("explain", prediction.explain, (), "show which parts of a face spoke for the answer"),
    ("evaluate", commands.evaluate, MEASURED, "measure a saved model"),
    ("compare", commands.compare, DATA + SPLITS, "put several models side by side"),
    ("cross-validate", commands.cross_validate, TRIED, "train and test on each fold"),
    ("tune", commands.tune, TRIED, "search for the best hyperparameters"),
    ("ensemble", commands.ensemble, ENSEMBLE, "average several models into one"),
    ("distill", commands.distill, ALL, "train one network on the answers of several"),
    ("retrain", retraining.retrain, RETRAIN, "learn from visitors' faces, keep the better model"),
    ("convert", conversion.convert, PLACE, "make a model of another form one that is served"),
    ("export", conversion.export, (), "write a model as .keras, .tflite or SavedModel"),
    ("restore", conversion.restore, (), "bring a model back that was replaced"),
    ("renew", commands.renew, MEASURED, "measure a saved model anew and renew its card"),
)

# commands, flag, how it is read, one line of help; a default is added to that
FLAGS = (
    ("evaluate renew export restore retrain", "model", {}, MODEL),
    ("retrain", "--feedback", FEEDBACK, "the faces that visitors of the web app gave"),
    ("tune", "--grid", GRID, "try all combinations of these values, and nothing else"),
    ("predict explain", "photos", MANY, "photos, folders, patterns or lists (.txt) of them"),
    ("predict explain", "--model", SERVED, MODEL),
    ("predict explain", "--classes", NAMES, "its classes in order; refuse a model of others"),
    ("predict explain", "--whole", SWITCH, "each image is one face; up to 112 pixels it always is"),
    ("predict", "--draw", FOLDER, "where to put the photos with each face boxed and named"),
    ("explain", "--draw", FOLDER | {"default": "runs/explanations"}, "where to put the pictures"),
    ("explain", "--emotion", {"metavar": "NAME"}, "what to look for in place of the answer"),
    ("train distill", "--dry-run", SWITCH, "say what it would take and write, and stop"),
    ("compare", "members", {"nargs": "+", "metavar": "model"}, MODEL),
    ("ensemble", "members", {"nargs": "+", "metavar": "model"}, f"{MODEL}, or as for convert"),
    (
        *("convert", "files", {"nargs": "+", "metavar": "FILE"}),
        "a .keras, a whole .h5, a SavedModel, a pair without suffix, or a .json and its weights",
    ),
    (
        *("convert ensemble", "--classes", {"default": "", "metavar": "NAMES"}),
        "angry,disgust,... in the order of the outputs; fer2013 (angry, disgust, fear, happy, sad, "
        "surprise, neutral) or alphabetical for the usual seven",
    ),
    (
        *("convert ensemble", "--pixels", one_of(*conversion.PIXELS)),
        "what the network was trained on: 0 to 1, 0 to 255, -1 to 1 (centred) or VGG16's means "
        "taken off (imagenet); auto is 0-255 for a network that divides by 255 itself, else 0-1",
    ),
    ("export", "--to", {"required": True, "metavar": "FILE"}, "x.keras, x.tflite or a new folder"),
    ("tune", "--trials", {"type": positive, "default": 20, "metavar": "INT"}, "how many to try"),
    ("ensemble", "--mirrored", SWITCH, "each model also sees faces mirrored; then one is enough"),
    ("inspect", "--report", FOLDER | {"default": "runs/inspection"}, REPORT),
    ("evaluate compare", "--report", FOLDER, REPORT),
    (
        *("evaluate compare", "--split", SPLIT),
        "train, validation, test, private_test or all; auto is test, but by a protocol "
        "private_test, which papers report, where the data has it",
    ),
    (
        *("evaluate", "--protocol", {"choices": PROTOCOLS}),
        "measure as papers do: FER2013's own labels, FER+'s majority of seven or eight classes",
    ),
    (
        *("evaluate", "--photos", PHOTOS),
        "measure photographs from file to answer: <class>/<file>, or a csv with file and label; a "
        "label none is for photos without a face",
    ),
    (
        *("evaluate", "--groups", {"nargs": "+", "metavar": "COLUMN"}),
        "columns of that csv to compare people by, such as gender; without it, those with 2 to 10 "
        "different values",
    ),
    (
        *("evaluate", "--subset", LISTS),
        "NAME=LIST.txt: also measure the images of a list, a file name or FER+ name a line",
    ),
    (
        *("evaluate", "--detector-model", {"metavar": "FILE"}),
        "find the faces of --photos with YuNet, whose file this is",
    ),
    (
        *("evaluate compare", "--labels", one_of("auto", "dataset", "majority")),
        "the dataset's own, or what most voters of --votes chose; auto is what the (first) model "
        "was trained to answer",
    ),
    ("evaluate compare", "--known-classes-only", SWITCH, "leave out images of unknown classes"),
    ("evaluate", "--json", SWITCH, "print JSON instead of text"),
    ("evaluate", "--flip", SWITCH, "average with the mirrored face even if the card does not ask"),
    ("evaluate", "--runtime", one_of("served", "keras"), "as the app runs it, or by Keras"),
    ("download", "--to", FOLDER | {"default": "dataset"}, "where to put it"),
    ("download", "--kind", one_of("folders", "csv"), "the folders of images, or one csv"),
    ("download", "--overwrite", SWITCH, "replace what was downloaded before"),
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; the flags of `train` are `TrainingSettings`."""
    parser = argparse.ArgumentParser(
        prog="emotion_model_training.py",
        description="Train a model that reads emotions from faces. Without a command: train.",
        epilog="First 'inspect --dataset fer2013.csv', then 'train --dataset fer2013.csv'. "
        "'COMMAND --help' lists the flags of a command.",
    )
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, settings, text in COMMANDS:
        own = [(flag, how, about) for names, flag, how, about in FLAGS if name in names.split()]
        needed = [how.get("metavar", flag) for flag, how, _ in own if not flag.startswith("-")]
        usage = " ".join(["%(prog)s", *needed, "[flags]"])
        command = subparsers.add_parser(name, help=text, description=run.__doc__, usage=usage)
        command.set_defaults(run=run, settings="")
        if "epochs" in settings and not needed:
            command.add_argument("--settings", metavar="FILE", help=SETTINGS)
        add_flags(command, settings)
        for flag, how, about in own:
            shown = f" (default: {how['default'] or 'none'})" if "default" in how else ""
            command.add_argument(flag, help=about + shown, **how)
    return parser
