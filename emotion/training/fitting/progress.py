"""How far training is: a bar and a line for each epoch on a terminal, figures for TensorBoard."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from emotion.errors import TrainingError
from emotion.text import clock, share
from emotion.training.fitting.checkpoints import best_epoch
from emotion.training.settings import TrainingSettings

TAGS = {  # in TensorBoard; those with the same first part are shown on one card
    "loss": "loss/training",
    "val_loss": "loss/validation",
    "accuracy": "accuracy/training",
    "val_accuracy": "accuracy/validation",
    "learning_rate": "learning_rate",
}


class Progress:
    """Shows on a stream how training goes: a line an epoch, and a bar if it is a terminal."""

    def __init__(self, stream: TextIO, epochs: int, images: int, verbose: bool = True):
        self.stream, self.epochs, self.images, self.verbose = stream, epochs, images, verbose

    def start_epoch(self, epoch: int) -> None:
        self.started_s = time.monotonic()
        self.bar = tqdm(
            desc=f"Epoch {epoch + 1}/{self.epochs}",
            total=self.images,
            unit=" images",
            file=self.stream,
            leave=False,
            dynamic_ncols=True,
            disable=not (self.verbose and self.stream.isatty()),
        )

    def show(self, images: int, figures: Mapping[str, float]) -> None:
        loss, accuracy = figures["loss"], share(figures["accuracy"], 1)
        self.bar.set_postfix_str(f"loss {loss:.3f}, accuracy {accuracy}", refresh=False)
        self.bar.update(min(images, self.images - self.bar.n))

    def finish_epoch(self, history: Sequence[Mapping[str, float]]) -> None:
        """Write the line that stays for the last epoch of the history."""
        self.bar.close()
        if not self.verbose:
            return
        seconds, row, best = time.monotonic() - self.started_s, history[-1], best_epoch(history)
        left = self.epochs - row["epoch"]
        line = (
            f"Epoch {row['epoch']:>{len(str(self.epochs))}}/{self.epochs}  "
            f"loss {row['loss']:.3f}  accuracy {share(row['accuracy'], 1)}  "
            f"validation {row['val_loss']:.3f}, {share(row['val_accuracy'], 1)}  "
            f"best {share(history[best - 1]['val_accuracy'], 1)} (epoch {best})  {clock(seconds)}"
        )
        self.stream.write(line + (f", {clock(seconds * left)} left\n" if left else "\n"))
        self.stream.flush()


class EventLog:
    """Writes the figures of each epoch for TensorBoard, those of a resumed run anew."""

    def __init__(self, settings: TrainingSettings, history: Sequence[Mapping[str, float]]):
        self.writer = None
        if not settings.tensorboard:
            return
        from tensorboard.summary import Writer  # only who wants it waits for it

        folder = Path(settings.tensorboard) / settings.name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.glob("events.out.tfevents.*"):
                old.unlink()
            self.writer = Writer(str(folder))
        except OSError as error:
            expected = f"expected to write to --tensorboard {folder}"
            raise TrainingError(f"{expected}; received: {error.strerror}") from error
        for row in history:
            self.write(row)

    def write(self, row: Mapping[str, float]) -> None:
        if self.writer:
            for key, tag in TAGS.items():
                self.writer.add_scalar(tag, row[key], step=row["epoch"])
            self.writer.flush()

    def close(self) -> None:
        if self.writer:
            self.writer.close()
