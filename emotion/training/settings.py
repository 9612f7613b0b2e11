"""What a training run can be told: one table of name, default and help."""

import argparse
import re
from collections.abc import Iterable, Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from pathlib import Path

from emotion.errors import TrainingError

VOTE_USES = ("second-head", "distribution", "majority", "blend")


NATIVE_NETWORKS = ("cnn", "se_cnn", "mini_xception", "vgg", "resnet")


TRANSFER_NETWORKS = ("vgg16", "resnet50", "mobilenetv2")


PRECISIONS = ("auto", "float32", "mixed_bfloat16", "mixed_float16")


SIDES = (24, 32, 40, 48)


BEST_RATES = {"sgd": 0.1, "adam": 1e-3}


CPU_DESCRIPTION = Path("/proc/cpuinfo")


CPU_FLAGS_OF_BFLOAT16 = ("avx512_bf16", "amx_bf16")


def _setting(default, text: str, choices: tuple[str, ...] = ()):
    """Return a dataclass field that carries its line of help and its choices."""
    return field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True)
class TrainingSettings:
    """Every setting of a training run; the command line is made from these fields."""

    # What is learned from
    dataset: tuple[str, ...] = _setting(
        ("dataset",), "folders, .zip files of them, or fer2013.csv; several are put together"
    )
    votes: str = _setting("", "fer2013new.csv (FER+), the votes of ten people for each row")
    votes_as: str = _setting(
        "second-head",
        "what the votes are: a second output, which becomes a model of its own, or labels in place "
        "of FER2013's",
        choices=VOTE_USES,
    )
    blend: float = _setting(0.5, "share of the votes in --votes-as blend, the rest FER2013's label")
    labels_share: float = _setting(
        0.2,
        "share of the labels' answer in the model that a second head makes of the votes; it is "
        "then a little less given to neutral",
    )
    contempt: bool = _setting(False, "keep FER+'s contempt as an eighth class")
    crop_faces: bool = _setting(
        False, "find the face in each image and crop it as the app does, for photos that are wider"
    )
    subject_pattern: str = _setting(
        "", "regular expression for the person in a file name; that of CK+ is known"
    )
    keep_duplicates: bool = _setting(
        False, "learn from training images that also stand in a test split (they flatter it)"
    )
    test_share: float = _setting(0.2, "share held out to test on, where the data has no test split")
    folds: int = _setting(5, "parts the data is cut into by --fold and by cross-validate")
    fold: int = _setting(0, "part to test on, 1 to --folds; 0 takes the test split or --test-share")
    validation_share: float = _setting(0.1, "share of the training images held out to select on")

    # Where things are
    models: str = _setting("models", "folder the model, its card and its report are written to")
    name: str = _setting("detection_model", "name of the model's files")
    overwrite: bool = _setting(
        False,
        "replace the present model of this name, even by one that is worse or cannot be compared, "
        "which otherwise ends with exit code 1",
    )
    runs: str = _setting("runs", "folder for checkpoints of unfinished training and cached data")
    tensorboard: str = _setting("", "folder for TensorBoard logs; none are written without it")

    # The network
    architecture: str = _setting(
        "cnn", "network to train", choices=NATIVE_NETWORKS + TRANSFER_NETWORKS
    )
    weights: str = _setting(
        "auto",
        "imagenet, none, or a saved model to start from (folder and name without suffix, or an .h5 "
        "of ImageNet weights); auto is imagenet for the networks that have such weights, else none",
    )
    frozen_epochs: int = _setting(
        3, "first epochs in which weights from ImageNet stay as they are and the rest learns"
    )
    fine_tuning_rate: float = _setting(
        0.1, "learning rate after the frozen epochs, as a share of --learning-rate"
    )

    # How it learns
    epochs: int = _setting(40, "passes over the training images, at most")
    batch_size: int = _setting(128, "images a step")
    optimizer: str = _setting("sgd", "sgd (Nesterov momentum 0.9) or adam", choices=("sgd", "adam"))
    learning_rate: float = _setting(
        0.0, "highest learning rate; 0 takes 0.1 for sgd and 0.001 for adam"
    )
    schedule: str = _setting(
        "cosine",
        "how the learning rate falls: cosine to 0, plateau (a fifth where validation stands still "
        "for a third of --patience), or constant",
        choices=("cosine", "plateau", "constant"),
    )
    warmup_epochs: float = _setting(3.0, "epochs in which the learning rate rises")
    weight_decay: float = _setting(5e-3, "share of the weights taken off a step, times the rate")
    label_smoothing: float = _setting(0.1, "share of each label spread over all classes")
    class_weights: str = _setting(
        "none", "balanced: rare classes count for more", choices=("none", "balanced")
    )
    augmentation: str = _setting(
        "standard",
        "random changes to faces",
        choices=("none", "light", "standard", "photo", "strong"),
    )
    smallest_side: int = _setting(
        48,
        "side in pixels of the faces in the first epochs; it grows by 8 up to 48, and small faces "
        "are learned from much faster (Tan and Le 2021)",
    )
    mixup: float = _setting(0.0, "alpha of mixup (Zhang et al. 2018), such as 0.2; 0 is without")
    averaging: float = _setting(
        0.0, "momentum of an average of the weights (EMA), such as 0.999; 0 is without"
    )
    patience: int = _setting(15, "epochs without a better validation accuracy before stopping")
    precision: str = _setting(
        "auto",
        "arithmetic; auto is mixed_bfloat16 on processors that compute in it, else float32",
        choices=PRECISIONS,
    )
    devices: str = _setting(
        "one",
        "one, all (every GPU of this machine, else its logical CPUs) or hosts (several, on JAX)",
        choices=("one", "all", "hosts"),
    )
    seed: int = _setting(7, "number that fixes every random choice")

    # Learning from other models (distill)
    teachers: tuple[str, ...] = _setting(
        (), "saved models whose averaged answers are learned, for the command distill"
    )
    teacher_share: float = _setting(0.7, "share of the teachers in the target, the rest the label")
    teacher_temperature: float = _setting(
        2.0, "temperature that softens the teachers' answers (Hinton et al. 2015)"
    )
    votes_teachers: tuple[str, ...] = _setting(
        (),
        "saved models of the votes, for distill with a second head; both heads then learn what is "
        "to be expected of a face given the teachers and its other annotation, without softening "
        "(Lopez-Paz et al. 2016)",
    )

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("learning_rate", "warmup_epochs", "mixup", "frozen_epochs"):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        for name in ("weight_decay", "label_smoothing", "averaging"):
            self._require(name, 0 <= getattr(self, name) < 1, "from 0 to below 1")
        for name in ("validation_share", "test_share"):
            self._require(name, 0 < getattr(self, name) < 1, "between 0 and 1")
        for name in ("blend", "labels_share", "teacher_share"):
            self._require(name, 0 <= getattr(self, name) <= 1, "from 0 to 1")
        for name in ("fine_tuning_rate", "teacher_temperature"):
            self._require(name, getattr(self, name) > 0, "above 0")
        self._require("smallest_side", self.smallest_side in SIDES, f"one of {SIDES}")
        self._require("folds", self.folds >= 2, "at least 2")
        self._require("fold", 0 <= self.fold <= self.folds, f"from 0 to folds ({self.folds})")
        self._require("subject_pattern", _is_pattern(self.subject_pattern), "a regular expression")
        self._require("dataset", len(self.dataset) > 0, "at least one path")
        for setting in fields(self):
            choices = setting.metadata["choices"]
            value = getattr(self, setting.name)
            self._require(setting.name, not choices or value in choices, f"one of {choices}")

    def _require(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise TrainingError(f"expected {name} {expected}; received {getattr(self, name)!r}")

    def run_folder(self) -> Path:
        """Return the folder of this run's checkpoint."""
        return Path(self.runs) / self.name

    def cache_folder(self) -> Path:
        """Return the folder in which decoded datasets are kept."""
        return Path(self.runs) / ".cache"

    def rate(self) -> float:
        """Return the highest learning rate."""
        return self.learning_rate or BEST_RATES[self.optimizer]

    def resolved_precision(self) -> str:
        """Return the precision with "auto" decided for this machine."""
        if self.precision != "auto":
            return self.precision
        return "mixed_bfloat16" if _processor_has_bfloat16() else "float32"

    def starting_weights(self) -> str:
        """Return "imagenet", "none" or the path of a model, with "auto" decided."""
        if self.weights != "auto":
            return self.weights
        return "imagenet" if self.architecture in TRANSFER_NETWORKS else "none"

    def shaping(self) -> dict:
        """Return the settings that a resumed run must share with the interrupted one."""
        free = {"models", "name", "overwrite", "runs", "tensorboard", "dataset", "votes", "devices"}
        free |= set() if self.schedule == "plateau" else {"patience"}
        shaping = {key: value for key, value in asdict(self).items() if key not in free}
        resolved = {
            "learning_rate": self.rate(),
            "precision": self.resolved_precision(),
            "weights": self.starting_weights(),
            "teachers": list(self.teachers),
            "votes_teachers": list(self.votes_teachers),
        }
        return shaping | resolved


def _is_pattern(text: str) -> bool:
    """Tell whether a text is a regular expression."""
    try:
        re.compile(text)
    except re.error:
        return False
    return True


def _processor_has_bfloat16() -> bool:
    """Tell whether the processor has instructions for bfloat16, as far as Linux tells."""
    try:
        described = CPU_DESCRIPTION.read_text(encoding="utf-8")
    except OSError:
        return False
    return any(flag in described for flag in CPU_FLAGS_OF_BFLOAT16)


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
