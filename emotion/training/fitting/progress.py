"""One line that tells how training goes on, and one that stays for each epoch."""

import math
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TextIO

import keras

from emotion.training.fitting.checkpoints import best_epoch

BAR_LENGTHS = (24, 12)
"""Lengths of the bar, of which the longer that fits the terminal is shown."""

REDRAW_S = 0.2


class Progress(keras.callbacks.Callback):
    """Tells how far a run is: on a terminal while it goes on, and in a line for each epoch.

    Args:
        stream: where it is written.
        epochs: how many there are in all.
        steps: batches an epoch.
        batch_size: images a batch.
        is_live: whether a line is updated in place; where the output is a pipe or a log it is not.
    """

    async_safe = True
    """Keras then does not wait for each batch's figures before it starts the next."""

    def __init__(self, stream: TextIO, epochs: int, steps: int, batch_size: int, is_live: bool):
        super().__init__()
        self.stream, self.is_live = stream, is_live
        self.epochs, self.steps, self.batch_size = epochs, steps, batch_size
        self.lock = threading.Lock()
        self.epoch, self.step = 0, 0
        self.epoch_seconds: list[float] = []
        self.shown = ""
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Begin an epoch, counted from 0."""
        self.epoch, self.step = epoch, 0
        self.started_s = self.drawn_s = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Redraw the line now and then."""
        now_s = time.monotonic()
        with self.lock:  # Keras may tell of two batches at once
            if not self.is_live or batch < self.step or not self._is_due(batch + 1, now_s):
                return
            self.step, self.drawn_s = batch + 1, now_s
            self._draw(live_lines(self._state(now_s), one_head(logs or {})))

    def finish_epoch(self, history: Sequence[Mapping[str, float]]) -> None:
        """Write the line that stays for the last epoch of the history."""
        seconds = time.monotonic() - self.started_s
        self.epoch_seconds.append(seconds)
        with self.lock:
            lines = summary_lines(history, self.epochs, seconds)
            if self.is_live:
                self._draw(lines)
                self.stream.write("\n")
                self.shown = ""
            else:
                self.stream.write(lines[0] + "\n")
            self.stream.flush()

    def _is_due(self, step: int, now_s: float) -> bool:
        return step == self.steps or now_s - self.drawn_s >= REDRAW_S

    def _state(self, now_s: float) -> dict[str, float]:
        """Return the figures of the line, times in seconds."""
        spent_s = max(now_s - self.started_s, 1e-9)
        left_s = spent_s / self.step * (self.steps - self.step)
        per_epoch_s = self.epoch_seconds[-1] if self.epoch_seconds else spent_s + left_s
        return {
            "epoch": self.epoch + 1,
            "epochs": self.epochs,
            "step": self.step,
            "steps": self.steps,
            "images_per_s": self.step * self.batch_size / spent_s,
            "epoch_left_s": left_s,
            "run_left_s": left_s + per_epoch_s * (self.epochs - self.epoch - 1),
        }

    def _draw(self, lines: Sequence[str]) -> None:
        """Put the longest line that fits in place of the one that is shown."""
        width = shutil.get_terminal_size().columns - 1
        line = next((line for line in lines if len(line) <= width), lines[-1][:width])
        self.stream.write("\r" + line.ljust(min(len(self.shown), width)))
        self.stream.flush()
        self.shown = line


def live_lines(state: Mapping[str, float], logs: Mapping[str, float]) -> list[str]:
    """Return the line of an epoch in training, longest form first."""
    counted = f"Epoch {state['epoch']}/{state['epochs']}"
    steps = f"{state['step']:>{len(str(state['steps']))}}/{state['steps']}"
    loss, accuracy = f"loss {logs['loss']:.3f}", f"accuracy {_percent(logs['accuracy'])}"
    speed = f"{state['images_per_s']:,.0f} images/s"
    left = f"epoch {_clock(state['epoch_left_s'])} left"
    run = f"run {_clock(state['run_left_s'])} left"
    long, short = (bar(state["step"], state["steps"], length) for length in BAR_LENGTHS)
    return [
        f"{counted}  {long} {steps}  {loss}  {accuracy}  {speed}  {left}, {run}",
        f"{counted}  {short} {steps}  {loss}  {accuracy}  {speed}  {left}, {run}",
        f"{counted}  {short} {steps}  {loss}  {accuracy}  {left}, {run}",
        f"{counted}  {short} {steps}  {_percent(logs['accuracy'])}  {left}, {run}",
        f"{counted}  {steps}  {accuracy}  {run}",
        f"{counted}  {steps}",
    ]


def summary_lines(history: Sequence[Mapping[str, float]], epochs: int, seconds: float) -> list[str]:
    """Return the line of a finished epoch, longest form first."""
    row, best = history[-1], best_epoch(history)
    width = len(str(epochs))
    counted = f"Epoch {row['epoch']:>{width}}/{epochs}"
    accuracy, measured = _percent(row["accuracy"]), _percent(row["val_accuracy"])
    best_accuracy = _percent(history[best - 1]["val_accuracy"])
    return [
        f"{counted}  loss {row['loss']:.3f}  accuracy {accuracy}  validation loss "
        f"{row['val_loss']:.3f}  accuracy {measured}  best {best_accuracy} (epoch {best})  "
        f"{_clock(seconds)}",
        f"{counted}  loss {row['loss']:.3f}  validation {row['val_loss']:.3f}, {measured}  "
        f"best {best_accuracy} ({best})  {_clock(seconds)}",
        f"{counted}  {measured}  best {best_accuracy} ({best})",
    ]


def bar(step: int, steps: int, length: int) -> str:
    """Return a bar of a length, filled as far as the steps are done."""
    done = step * length // max(1, steps)
    return f"[{'#' * done}{'.' * (length - done)}]"


def one_head(logs: Mapping[str, float]) -> dict[str, float]:
    """Return the figures of an epoch under the same names with one head or two."""
    return {key.replace("emotion_accuracy", "accuracy"): float(logs[key]) for key in logs}


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def _clock(seconds: float) -> str:
    """Return a time as 0:42, 31 min or 2 h 05 min."""
    if seconds < 600:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
