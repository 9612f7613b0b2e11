"""The settings of a training run: one table of name, default, help and limits."""

import argparse
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from emotion.errors import TrainingError

NATIVE_NETWORKS = ("cnn", "se_cnn", "mini_xception", "vgg", "resnet")
TRANSFER_NETWORKS = ("vgg16", "resnet50", "mobilenetv2")
AUGMENTATIONS = ("none", "light", "standard", "photo", "strong")
SIDES = (24, 32, 40, 48)
BEST_RATES = {"sgd": 0.1, "adam": 1e-3}
METAVARS = {"dataset": "PATH", "votes": "FILE", "subject_pattern": "REGEX", "name": "NAME"}
METAVARS |= {"weights": "FILE"} | dict.fromkeys(("models", "runs", "tensorboard"), "FOLDER")
CPU_DESCRIPTION = Path("/proc/cpuinfo")

# What a value must be: in words, and as a test
FROM_1 = ("at least 1", lambda value: value >= 1)
FROM_2 = ("at least 2", lambda value: value >= 2)
FROM_0 = ("0 or more", lambda value: value >= 0)
ABOVE_0 = ("above 0", lambda value: value > 0)
BELOW_1 = ("from 0 to below 1", lambda value: 0 <= value < 1)
SHARE = ("from 0 to 1", lambda value: 0 <= value <= 1)
PART = ("between 0 and 1", lambda value: 0 < value < 1)


def _row(default, text: str, limit: tuple | None = None, choices: tuple[str, ...] = ()):
    return field(default=default, metadata={"help": text, "choices": choices, "limit": limit})


@dataclass(frozen=True)
class TrainingSettings:
    """Every setting of a training run; the flags of the command line are made from it."""

    # What is learned from
    dataset: tuple[str, ...] = _row(
        ("dataset",),
        "folders, .zip files of them, or fer2013.csv; several are put together",
        ("at least one path", lambda value: len(value) > 0),
    )
    votes: str = _row("", "fer2013new.csv (FER+), the votes of ten people for each row")
    votes_as: str = _row(
        "second-head",
        "what the votes are: a second output, which becomes a model of its own, or labels in place "
        "of FER2013's",
        choices=("second-head", "distribution", "majority", "blend"),
    )
    blend: float = _row(0.5, "share of the votes in --votes-as blend, the rest the label's", SHARE)
    labels_share: float = _row(
        0.2, "share of the labels' answer in the votes' model; more makes it less neutral", SHARE
    )
    contempt: bool = _row(False, "keep FER+'s contempt as an eighth class")
    crop_faces: bool = _row(False, "find and crop the face in each image as the app does")
    subject_pattern: str = _row("", "regular expression for people in file names; CK+'s is known")
    duplicates: str = _row(
        "keep",
        "exact copies in training: keep them, or drop (each picture is learned once, with the mean "
        "of its labels); keep-leaks also keeps those of test images, which flatters",
        choices=("keep", "drop", "keep-leaks"),
    )
    limit: int = _row(0, "most images of each class in each split, drawn by --seed; 0: all", FROM_0)
    unreadable_share: float = _row(0.05, "most files or rows that may be unreadable", SHARE)
    test_share: float = _row(0.2, "share held out to test on, if the data has no test split", PART)
    folds: int = _row(5, "parts the data is cut into by --fold and by cross-validate", FROM_2)
    fold: int = _row(0, "part to test on, 1 to --folds; 0 takes the test split or --test-share")
    validation_share: float = _row(0.1, "share of the training images held out to select on", PART)

    # Where things are
    models: str = _row("models", "folder the model, its card and its report are written to")
    name: str = _row("detection_model", "name of the model's files")
    quick: bool = _row(False, "measure no pictures made worse (blur, noise), which takes longest")
    overwrite: bool = _row(False, "replace the present model even by a worse or an unlike one")
    runs: str = _row("runs", "folder for checkpoints of unfinished training and cached data")
    tensorboard: str = _row("", "folder for TensorBoard logs; none are written without it")

    # The network
    architecture: str = _row(
        "cnn", "network to train", choices=(*NATIVE_NETWORKS, *TRANSFER_NETWORKS)
    )
    weights: str = _row(
        "auto",
        "where to start: imagenet, an .h5 of its weights, a saved model (folder and name without "
        "suffix) or none; auto is imagenet for the networks that have such weights, else none",
    )
    frozen_epochs: int = _row(3, "first epochs, in which weights from ImageNet stay fixed", FROM_0)
    fine_tuning_rate: float = _row(0.1, "share of --learning-rate after the frozen epochs", ABOVE_0)

    # How it learns
    epochs: int = _row(40, "passes over the training images, at most", FROM_1)
    batch_size: int = _row(128, "images a step", FROM_1)
    optimizer: str = _row("sgd", "sgd (Nesterov momentum 0.9) or adam", choices=("sgd", "adam"))
    learning_rate: float = _row(0.0, "highest; 0 takes 0.1 for sgd and 0.001 for adam", FROM_0)
    schedule: str = _row(
        "cosine",
        "how the learning rate falls: cosine to 0, plateau (a fifth where validation stands still "
        "for a third of --patience), or constant",
        choices=("cosine", "plateau", "constant"),
    )
    warmup_epochs: float = _row(3.0, "epochs in which the learning rate rises", FROM_0)
    weight_decay: float = _row(5e-3, "share of the weights taken off a step, times rate", BELOW_1)
    label_smoothing: float = _row(0.1, "share of each label spread over all classes", BELOW_1)
    class_weights: str = _row(
        "none", "balanced lets rare classes count for more", choices=("none", "balanced")
    )
    augmentation: str = _row("standard", "random changes to faces", choices=AUGMENTATIONS)
    smallest_side: int = _row(
        48,
        "side in pixels of the faces in the first epochs; it grows by 8 up to 48, and small faces "
        "are learned from much faster (Tan and Le 2021)",
        (f"one of {SIDES}", lambda value: value in SIDES),
    )
    mixup: float = _row(0.0, "alpha of mixup (Zhang et al. 2018), such as 0.2; 0: without", FROM_0)
    averaging: float = _row(0.0, "momentum of averaged weights, such as 0.999; 0: without", BELOW_1)
    patience: int = _row(15, "epochs without a better validation accuracy before stopping", FROM_1)
    precision: str = _row(
        "auto",
        "arithmetic; auto is mixed_bfloat16 on processors that compute in it, else float32",
        choices=("auto", "float32", "mixed_bfloat16", "mixed_float16"),
    )
    seed: int = _row(7, "number that fixes every random choice")

    # Learning from other models (distill)
    teachers: tuple[str, ...] = _row((), "saved models whose averaged answers distill learns from")
    teacher_share: float = _row(0.7, "share of the teachers in the target, the rest: label", SHARE)
    teacher_temperature: float = _row(
        2.0, "temperature that softens the teachers' answers (Hinton et al. 2015)", ABOVE_0
    )
    votes_teachers: tuple[str, ...] = _row(
        (),
        "saved models of the votes, for distill with a second head; each head then learns what the "
        "teachers and the other annotation let expect, without softening (Lopez-Paz et al. 2016)",
    )

    def __post_init__(self) -> None:
        for setting in fields(self):
            flag, value = flag_of(setting.name), getattr(self, setting.name)
            choices, limit = setting.metadata["choices"], setting.metadata["limit"]
            if choices and value not in choices:
                raise TrainingError(f"expected {flag} one of {choices}; received {value!r}")
            if limit and not limit[1](value):
                raise TrainingError(f"expected {flag} {limit[0]}; received {value!r}")
        if not 0 <= self.fold <= self.folds:
            raise TrainingError(f"expected --fold from 0 to {self.folds}; received {self.fold}")
        try:
            re.compile(self.subject_pattern)
        except re.error as error:
            expected = "expected --subject-pattern as a regular expression"
            raise TrainingError(f"{expected}; received {self.subject_pattern!r}") from error

    def run_folder(self) -> Path:
        return Path(self.runs) / self.name

    def rate(self) -> float:
        return self.learning_rate or BEST_RATES[self.optimizer]

    def resolved_precision(self) -> str:
        """Return the precision with "auto" decided for this machine, if Linux describes it."""
        if self.precision != "auto":
            return self.precision
        described = CPU_DESCRIPTION.read_text("utf-8") if CPU_DESCRIPTION.exists() else ""
        is_fast = any(flag in described for flag in ("avx512_bf16", "amx_bf16"))
        return "mixed_bfloat16" if is_fast else "float32"

    def starting_weights(self) -> str:
        """Return "imagenet", "none" or the path of a model, with "auto" decided."""
        if self.weights != "auto":
            return self.weights
        return "imagenet" if self.architecture in TRANSFER_NETWORKS else "none"

    def shaping(self) -> dict:
        """Return the settings that a resumed run must share with the interrupted one."""
        free = {"models", "name", "overwrite", "quick", "runs", "tensorboard", "dataset", "votes"}
        free.add("unreadable_share")
        free |= set() if self.schedule == "plateau" else {"patience"}
        return {key: value for key, value in asdict(self).items() if key not in free} | {
            "learning_rate": self.rate(),
            "precision": self.resolved_precision(),
            "weights": self.starting_weights(),
        }


ALL = tuple(setting.name for setting in fields(TrainingSettings))
# which images are read and how, and which of them stands in which split
DATA = "dataset votes votes_as blend contempt crop_faces subject_pattern limit runs".split()
SPLITS = "duplicates test_share folds fold validation_share seed".split()
SPLITS += ["unreadable_share"]  # not in DATA: `inspect` shows what is unreadable, and never stops


def add_flags(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Add a flag for each named setting; a flag that is not given is left out of the result."""
    for setting in (TrainingSettings.__dataclass_fields__[name] for name in names):
        default, choices = setting.default, setting.metadata["choices"]
        metavar = METAVARS.get(setting.name, type(default).__name__.upper())
        how = {"type": type(default), "metavar": metavar}
        if isinstance(default, bool):
            how = {"action": "store_true"}
        elif isinstance(default, tuple):
            how = {"nargs": "+", "metavar": METAVARS.get(setting.name, "MODEL")}
        elif choices:
            how = {"choices": choices}
        text = f"{setting.metadata['help']} (default: {shown(default)})".replace("%", "%%")
        parser.add_argument(flag_of(setting.name), default=argparse.SUPPRESS, help=text, **how)


def settings_from(
    options: argparse.Namespace, defaults: Mapping[str, object] | None = None
) -> TrainingSettings:
    """Return the settings: what the command line gives, else `defaults`, else the table's."""
    values = dict(defaults or {}) | {name: vars(options)[name] for name in ALL if name in options}
    return TrainingSettings(
        **{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    )


def flag_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def shown(default: object) -> str:
    """Return a default as a person writes it."""
    if isinstance(default, bool):
        return "off"
    if isinstance(default, tuple):
        return " ".join(default) or "none"
    return f"{default:g}" if isinstance(default, float) else str(default) or "none"
