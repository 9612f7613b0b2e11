"""The flags of the training script: each is a field of `TrainingSettings`."""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import Field, fields

from emotion.training.settings import TrainingSettings

ALL = tuple(setting.name for setting in fields(TrainingSettings))
DATA = (
    "dataset",
    "votes",
    "votes_as",
    "blend",
    "contempt",
    "crop_faces",
    "subject_pattern",
    "runs",
)
"""What says which images are read and how."""

SPLITS = ("test_share", "folds", "fold", "validation_share", "seed")
"""What says which image stands in which split."""

OF_TEACHERS = ("teachers", "teacher_share", "teacher_temperature", "votes_teachers")
"""What only `distill` takes."""


def add_flags(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Add a flag for each named setting; a flag that is not given is left out of the result."""
    settings = {setting.name: setting for setting in fields(TrainingSettings)}
    for name in names:
        _add_flag(parser, settings[name])


def settings_from(
    options: argparse.Namespace, defaults: Mapping[str, object] | None = None
) -> TrainingSettings:
    """Return the settings: what the command line gives, else `defaults`, else the table's.

    Raises:
        TrainingError: a value is outside its range.
    """
    given = {name: getattr(options, name) for name in ALL if name in options}
    return TrainingSettings(**{**(defaults or {}), **given})


def flag_of(name: str) -> str:
    """Return the flag of a setting: "batch_size" is --batch-size."""
    return f"--{name.replace('_', '-')}"


def _add_flag(parser: argparse.ArgumentParser, setting: Field) -> None:
    """Add one flag, its kind decided by the setting's default."""
    default = setting.default
    if isinstance(default, bool):
        how = {"action": "store_true"}
    elif isinstance(default, tuple):
        how = {"nargs": "+", "action": _AsTuple, "metavar": "PATH"}
    else:
        how = {"type": type(default), "choices": setting.metadata["choices"] or None}
        how |= {} if how["choices"] else {"metavar": type(default).__name__.upper()}
    text = f"{setting.metadata['help']} (default: {shown(default)})".replace("%", "%%")
    parser.add_argument(flag_of(setting.name), default=argparse.SUPPRESS, help=text, **how)


class _AsTuple(argparse.Action):
    """Keep several values as a tuple, as the settings do."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        setattr(namespace, self.dest, tuple(values))


def shown(default: object) -> str:
    """Return a default as a person writes it."""
    if isinstance(default, bool):
        return "off"
    if isinstance(default, tuple):
        return " ".join(default) or "none"
    return f"{default:g}" if isinstance(default, float) else str(default) or "none"
