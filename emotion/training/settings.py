"""The settings of a training run: one table of name, default, help and limits."""

import argparse
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from emotion.errors import TrainingError
from emotion.files import whole_file

NATIVE_NETWORKS = ("cnn", "se_cnn", "sequential", "mini_xception", "vgg", "resnet")
TRANSFER_NETWORKS = ("vgg16", "resnet50", "mobilenetv2")
AUGMENTATIONS = ("none", "light", "standard", "photo", "detected", "strong")
SIDES = (24, 32, 40, 48)
LOGGERS = ("mlflow", "wandb")
BEST_RATES = {"sgd": 0.1, "adam": 1e-3}  # at batches of `USUAL_BATCH`
USUAL_BATCH = 128
SETTINGS_FILE = "settings.toml"  # beside checkpoint and report
METAVARS = {"dataset": "PATH", "votes": "FILE", "subject_pattern": "REGEX", "name": "NAME"}
METAVARS |= {"weights": "FILE", "extra_photos": "PATH"} | dict.fromkeys(
    ("models", "runs", "tensorboard"), "FOLDER"
)
CPU_DESCRIPTION = Path("/proc/cpuinfo")

# What a value must be: in words, and as a test
FROM_1 = ("at least 1", lambda value: value >= 1)
FROM_2 = ("at least 2", lambda value: value >= 2)
FROM_0 = ("0 or more", lambda value: value >= 0)
ABOVE_0 = ("above 0", lambda value: value > 0)
BELOW_1 = ("from 0 to below 1", lambda value: 0 <= value < 1)
HALVINGS = ("from 1 to 5", lambda value: 1 <= value <= 5)  # of 48 pixels
SHARE = ("from 0 to 1", lambda value: 0 <= value <= 1)
PART = ("between 0 and 1", lambda value: 0 < value < 1)


def _row(default, text: str, limit: tuple | None = None, choices: tuple[str, ...] = ()):
    return field(default=default, metadata={"help": text, "choices": choices, "limit": limit})


@dataclass(frozen=True)
class TrainingSettings:
    """Every setting of a training run; the flags of the command line are made from it."""

    dataset: tuple[str, ...] = _row(
        ("dataset",),
        "folders, .zip files of them, or fer2013.csv; several are put together",
        ("at least one path", lambda value: len(value) > 0),
    )
    extra_photos: tuple[str, ...] = _row(
        (),
        "folders or .zip of photographs by class, such as happy/1.jpg, all to learn from: the "
        "largest face of each is cropped, and its class counts as the votes for it",
    )
    votes: str = _row("", "fer2013new.csv (FER+), the votes of ten people for each row")
    votes_as: str = _row(
        "second-head",
        "what the votes are: a second output, which becomes a model of its own, or labels in place "
        "of FER2013's, which blend mixes with them half and half",
        choices=("second-head", "distribution", "majority", "blend"),
    )
    labels_weight: float = _row(1.0, "how much labels count while training beside votes", FROM_0)
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

    models: str = _row("models", "folder the model, its card and its report are written to")
    name: str = _row("detection_model", "name of the model's files")
    quick: bool = _row(False, "measure no pictures made worse (blur, noise), which takes longest")
    overwrite: bool = _row(False, "replace the present model even by a worse or an unlike one")
    runs: str = _row("runs", "folder for checkpoints of unfinished training and cached data")
    tensorboard: str = _row("", "folder for TensorBoard logs; none are written without it")
    log_to: str = _row(
        "none", "send each epoch to MLflow or to Weights & Biases", choices=("none", *LOGGERS)
    )

    architecture: str = _row(
        "cnn", "network to train", choices=(*NATIVE_NETWORKS, *TRANSFER_NETWORKS)
    )
    weights: str = _row(
        "auto",
        "where to start: imagenet, an .h5 of its weights, a saved model (folder and name without "
        "suffix) or none; auto is imagenet for the networks that have such weights, else none",
    )
    blocks: int = _row(3, "blocks of convolutions in the network sequential", HALVINGS)
    filters: int = _row(32, "filters of the first of them; each next one has twice as many", FROM_1)
    frozen_epochs: int = _row(3, "first epochs, in which weights from ImageNet stay fixed", FROM_0)
    fine_tuning_rate: float = _row(0.1, "share of --learning-rate after the frozen epochs", ABOVE_0)

    epochs: int = _row(40, "passes over the training images, at most", FROM_1)
    batch_size: int = _row(128, "images a step", FROM_1)
    optimizer: str = _row("sgd", "sgd (Nesterov momentum 0.9) or adam", choices=("sgd", "adam"))
    learning_rate: float = _row(
        0.0, "highest; 0 takes 0.1 for sgd, 0.001 for adam, less for batches below 128", FROM_0
    )
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
    smiles: float = _row(
        0.0, "share of the neutral faces whose mouth is bent to a mild smile, and the target", SHARE
    )
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

    teachers: tuple[str, ...] = _row((), "saved models whose averaged answers distill learns from")
    teacher_share: float = _row(0.7, "share of the teachers in the target, the rest: label", SHARE)
    votes_teachers: tuple[str, ...] = _row(
        (),
        "saved models of the votes, for distill with a second head: alone they teach the votes; "
        "with --teachers each head learns what they and the other annotation let expect "
        "(Lopez-Paz et al. 2016); neither is softened",
    )

    def __post_init__(self) -> None:
        for setting in fields(self):
            flag, value = flag_of(setting.name), getattr(self, setting.name)
            choices, limit = setting.metadata["choices"], setting.metadata["limit"]
            if choices and value not in choices:
                expected = f"expected {flag} as one of {', '.join(choices)}"
                raise TrainingError(f"{expected}; received {value!r}")
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
        return self.learning_rate or self.usual_rate()

    def usual_rate(self) -> float:
        """Return the rate without --learning-rate, for small batches a smaller one.

        With the batch for SGD (Goyal et al. 2017), with its root for Adam (Malladi et al. 2022).
        """
        smaller = min(1.0, self.batch_size / USUAL_BATCH) ** (1 if self.optimizer == "sgd" else 0.5)
        return BEST_RATES[self.optimizer] * smaller

    def network(self) -> dict:
        """Return how the network is built: its name and, where it has a choice, its size."""
        sized = ("blocks", "filters") if self.architecture == "sequential" else ()
        return {name: getattr(self, name) for name in ("architecture", *sized)}

    def resolved_precision(self) -> str:
        """Return the precision with "auto" decided for this machine, if Linux describes it."""
        if self.precision != "auto":
            return self.precision
        described = CPU_DESCRIPTION.read_text("utf-8") if CPU_DESCRIPTION.exists() else ""
        is_fast = any(flag in described for flag in ("avx512_bf16", "amx_bf16"))
        # its layers are so small that converting costs more (benchmarks/training_speed.md)
        is_tiny = self.architecture == "mini_xception"
        return "mixed_bfloat16" if is_fast and not is_tiny else "float32"

    def starting_weights(self) -> str:
        """Return "imagenet", "none" or the path of a model, with "auto" decided."""
        if self.weights != "auto":
            return self.weights
        return "imagenet" if self.architecture in TRANSFER_NETWORKS else "none"

    def shaping(self) -> dict:
        """Return the settings that a resumed run must share with the interrupted one."""
        free = {*"models name overwrite quick runs tensorboard dataset extra_photos votes".split()}
        free |= {"log_to", "unreadable_share"} | ({"blocks", "filters"} - {*self.network()})
        free |= set() if self.schedule == "plateau" else {"patience"}
        return {key: value for key, value in asdict(self).items() if key not in free} | {
            "learning_rate": self.rate(),
            "precision": self.resolved_precision(),
            "weights": self.starting_weights(),
        }


ALL = tuple(setting.name for setting in fields(TrainingSettings))
# which images are read and how, and which of them stands in which split
DATA = "dataset votes votes_as contempt crop_faces subject_pattern limit runs".split()
SPLITS = "duplicates test_share folds fold validation_share seed".split()
SPLITS += ["unreadable_share"]  # not in DATA: `inspect` shows what is unreadable, and never stops
DISTILLING = ("teachers", "teacher_share", "votes_teachers")
# the setting that begins a group of flags in --help, and the group's title
GROUPS = {
    "dataset": "data",
    "votes": "votes (FER+)",
    "crop_faces": "data",
    "models": "files",
    "architecture": "network",
    "epochs": "fitting",
    "teachers": "teachers",
}


def add_flags(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Add a flag for each named setting; a flag that is not given is left out of the result."""
    groups = {title: parser.add_argument_group(title) for title in dict.fromkeys(GROUPS.values())}
    title = ""
    for setting in fields(TrainingSettings):
        title, default = GROUPS.get(setting.name, title), setting.default
        if setting.name not in names:
            continue
        choices, kind = setting.metadata["choices"], type(default)
        metavar = METAVARS.get(setting.name, {int: "N", float: "NUMBER"}.get(kind))
        how = {"type": kind, "metavar": metavar}
        if isinstance(default, bool):
            how = {"action": "store_true"}
        elif isinstance(default, tuple):
            how = {"nargs": "+", "metavar": METAVARS.get(setting.name, "MODEL")}
        elif choices:
            how = {"choices": choices}
        text = f"{setting.metadata['help']} (default: {shown(default)})".replace("%", "%%")
        flag = flag_of(setting.name)
        groups[title].add_argument(flag, default=argparse.SUPPRESS, help=text, **how)


def settings_from(
    options: argparse.Namespace, defaults: Mapping[str, object] | None = None
) -> TrainingSettings:
    """Return the settings: what the command line gives, else `defaults`, else the table's."""
    values = dict(defaults or {}) | {name: vars(options)[name] for name in ALL if name in options}
    return TrainingSettings(
        **{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    )


def read_settings(path: Path) -> list[str]:
    """Return a file of settings (TOML) as words of a command line; raises TrainingError."""
    try:
        return words_of(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        expected = "expected --settings as a file of lines such as batch_size = 64"
        raise TrainingError(f"{expected}; {path} cannot be read ({error})") from error


def words_of(settings: Mapping[str, object]) -> list[str]:
    """Return settings as words of a command line; what is empty or off is left out."""
    words = []
    for name, value in settings.items():
        if isinstance(value, list | tuple):
            words += [flag_of(name), *map(str, value)] if value else []
        elif value not in (False, ""):  # a value may begin with a dash
            words.append(flag_of(name) if value is True else f"{flag_of(name)}={value}")
    return words


def changed(settings: TrainingSettings) -> dict[str, object]:
    """Return the settings that are not as the table has them, and always the dataset."""
    values, defaults = asdict(settings), asdict(TrainingSettings()) | {"dataset": ()}
    return {name: value for name, value in values.items() if value != defaults[name]}


def write_settings(path: Path, settings: TrainingSettings) -> None:
    """Write what `changed` so that `--settings` reads it; what JSON writes of it is TOML."""
    values = changed(replace(settings, overwrite=False)).items()
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values]
    with whole_file(path) as part:
        part.write_text("".join(lines), encoding="utf-8")


def flag_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def shown(default: object) -> str:
    """Return a default as a person writes it."""
    if isinstance(default, bool):
        return "off"
    if isinstance(default, tuple):
        return " ".join(default) or "none"
    return f"{default:g}" if isinstance(default, float) else str(default) or "none"
