"""How far training is: a bar while an epoch lasts, and a line that stays for each epoch."""

import time
from collections.abc import Mapping, Sequence
from typing import TextIO

from tqdm import tqdm

from emotion.text import clock, share
from emotion.training.fitting.checkpoints import best_epoch


class Progress:
    """Shows on a stream how training goes.

    Args:
        stream: where it is written.
        epochs: how many epochs there are at most.
        images: how many images an epoch has.
        verbose: 0 shows nothing, 2 a line an epoch; anything else also a bar on a terminal.
    """

    def __init__(self, stream: TextIO, epochs: int, images: int, verbose: str | int = "auto"):
        self.stream, self.epochs, self.images = stream, epochs, images
        self.is_silent = verbose == 0
        self.has_bar = verbose not in (0, 2) and stream.isatty()

    def start_epoch(self, epoch: int) -> None:
        """Begin an epoch, counted from 0."""
        self.started_s = time.monotonic()
        self.bar = tqdm(
            desc=f"Epoch {epoch + 1}/{self.epochs}",
            total=self.images,
            unit=" images",
            file=self.stream,
            leave=False,
            dynamic_ncols=True,
            disable=not self.has_bar,
        )

    def show(self, images: int, figures: Mapping[str, float]) -> None:
        """Count the images of a batch, and show the figures so far."""
        loss, accuracy = figures["loss"], share(figures["accuracy"], 1)
        self.bar.set_postfix_str(f"loss {loss:.3f}, accuracy {accuracy}", refresh=False)
        self.bar.update(min(images, self.images - self.bar.n))

    def finish_epoch(self, history: Sequence[Mapping[str, float]]) -> None:
        """Write the line that stays for the last epoch of the history."""
        self.bar.close()
        if not self.is_silent:
            seconds = time.monotonic() - self.started_s
            row, best = history[-1], best_epoch(history)
            left = self.epochs - row["epoch"]
            parts = [
                f"Epoch {row['epoch']:>{len(str(self.epochs))}}/{self.epochs}",
                f"loss {row['loss']:.3f}",
                f"accuracy {share(row['accuracy'], 1)}",
                f"validation {row['val_loss']:.3f}, {share(row['val_accuracy'], 1)}",
                f"best {share(history[best - 1]['val_accuracy'], 1)} (epoch {best})",
                clock(seconds) + (f", {clock(seconds * left)} left" if left else ""),
            ]
            self.stream.write("  ".join(parts) + "\n")
            self.stream.flush()
