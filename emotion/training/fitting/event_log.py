"""The figures of a run for TensorBoard, written by its own package on every backend."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from emotion.errors import TrainingError
from emotion.training.settings import TrainingSettings

TAGS = {
    "loss": "loss/training",
    "val_loss": "loss/validation",
    "accuracy": "accuracy/training",
    "val_accuracy": "accuracy/validation",
    "learning_rate": "learning_rate",
}
"""Name of each figure in TensorBoard; what belongs together stands on one card."""


class EventLog:
    """Writes a scalar for each figure of each epoch; does nothing without a folder.

    Args:
        settings: names the folder and the run.
        history: the epochs of a run that is taken up again. Its events are written anew, so none
            is missing and none stands there twice, at whatever moment the run was killed.

    Raises:
        TrainingError: TensorBoard is not installed, or the folder cannot be written to.
    """

    def __init__(self, settings: TrainingSettings, history: Sequence[Mapping[str, float]] = ()):
        self.writer = None
        if not settings.tensorboard:
            return
        folder = Path(settings.tensorboard) / settings.name
        try:
            from tensorboard.summary import Writer

            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob("events.out.tfevents.*"):
                old.unlink()
            self.writer = Writer(str(folder))
        except ImportError as error:
            raise TrainingError(
                "expected the package tensorboard for --tensorboard; it is not installed: "
                "pip install tensorboard, or leave the flag out"
            ) from error
        except OSError as error:
            raise TrainingError(
                f"expected a folder that can be written to as --tensorboard; {folder}: "
                f"{error.strerror}"
            ) from error
        for row in history:
            self.write(row)

    def write(self, row: Mapping[str, float]) -> None:
        """Write the figures of one epoch."""
        if self.writer is None:
            return
        for key, tag in TAGS.items():
            self.writer.add_scalar(tag, row[key], step=row["epoch"])
        self.writer.flush()

    def close(self) -> None:
        """Finish the file."""
        if self.writer is not None:
            self.writer.close()
