"""The figures of a run for TensorBoard.

Keras' own callback would write the epochs of a resumed run a second time.
"""

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
"""Name of each figure in TensorBoard; what has the same first part is shown on one card."""


class EventLog:
    """Writes the figures of each epoch; does nothing without a folder.

    Args:
        settings: names the folder and the run.
        history: the epochs of a resumed run. They are written once more in place of the old file,
            so none is missing and none is doubled, whenever the run was killed.

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
        if self.writer is not None:
            for key, tag in TAGS.items():
                self.writer.add_scalar(tag, row[key], step=row["epoch"])
            self.writer.flush()

    def close(self) -> None:
        """Finish the file."""
        if self.writer is not None:
            self.writer.close()
