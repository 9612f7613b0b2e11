"""What a training run can be told: one table of name, default and help."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from emotion.errors import TrainingError


def _setting(default, text: str, choices: tuple[str, ...] = ()):
    """Return a dataclass field that carries its line of help and its choices."""
    return field(default=default, metadata={"help": text, "choices": choices})


@dataclass(frozen=True)
class TrainingSettings:
    """Every setting of a training run; the command line is made from these fields."""

    dataset: str = _setting("dataset", "folder, .zip of it, or fer2013.csv to learn from")
    votes: str = _setting("", "fer2013new.csv (FER+), learned from as a second target")
    weights: str = _setting("", "saved model to start from: folder and name without suffix")
    models: str = _setting("models", "folder the model, its card and its report are written to")
    name: str = _setting("detection_model", "name of the model's files")
    runs: str = _setting("runs", "folder for the checkpoints of unfinished training")
    architecture: str = _setting("cnn", "network to train", choices=("cnn",))
    epochs: int = _setting(40, "passes over the training images, at most")
    batch_size: int = _setting(128, "images a step")
    learning_rate: float = _setting(0.1, "highest learning rate, after the warm-up")
    warmup_epochs: float = _setting(3.0, "epochs in which the learning rate rises")
    weight_decay: float = _setting(5e-3, "share of the weights taken off a step, times the rate")
    label_smoothing: float = _setting(0.1, "share of each label spread over all classes")
    patience: int = _setting(15, "epochs without a better validation accuracy before stopping")
    validation_share: float = _setting(0.1, "share of the training images held out to select on")
    augmentation: str = _setting(
        "standard", "random changes to faces", choices=("none", "light", "standard")
    )
    precision: str = _setting(
        "float32",
        "arithmetic; bfloat16 is faster on new CPUs",
        choices=("float32", "mixed_bfloat16"),
    )
    seed: int = _setting(7, "number that fixes every random choice")

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        self._require("learning_rate", self.learning_rate > 0, "above 0")
        self._require("warmup_epochs", self.warmup_epochs >= 0, "0 or more")
        self._require("weight_decay", 0 <= self.weight_decay < 1, "from 0 to below 1")
        self._require("label_smoothing", 0 <= self.label_smoothing < 1, "from 0 to below 1")
        self._require("validation_share", 0 < self.validation_share < 1, "between 0 and 1")
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

    def shaping(self) -> dict:
        """Return the settings that a resumed run must share with the interrupted one."""
        free = ("models", "name", "runs", "patience", "dataset", "votes", "weights")
        return {key: value for key, value in asdict(self).items() if key not in free}
