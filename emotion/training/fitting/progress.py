"""How far training is: a bar and a line for each epoch on a terminal, figures for TensorBoard."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

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


@contextlib.contextmanager
def epoch_bar(title: str, images: int, verbose: bool) -> Iterator[Callable]:
    """Give a function that shows, on a terminal, how many more images are done, and figures."""
    how = {"file": sys.stdout, "leave": False, "dynamic_ncols": True, "unit": " images"}
    with tqdm(desc=title, total=images, disable=None if verbose else True, **how) as bar:

        def show(count: int, figures: Mapping[str, float]) -> None:
            loss, accuracy = figures["loss"], share(figures["accuracy"], 1)
            bar.set_postfix_str(f"loss {loss:.3f}, accuracy {accuracy}", refresh=False)
            bar.update(min(count, images - bar.n))

        yield show


def epoch_line(history: Sequence[Mapping[str, float]], epochs: int, seconds: float) -> str:
    """Return the line that stays for the last epoch of the history, which took so long."""
    row, best = history[-1], best_epoch(history)
    left = epochs - row["epoch"]
    line = (
        f"Epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  "
        f"loss {row['loss']:.3f}  accuracy {share(row['accuracy'], 1)}  "
        f"validation {row['val_loss']:.3f}, {share(row['val_accuracy'], 1)}  "
        f"best {share(history[best - 1]['val_accuracy'], 1)} (epoch {best})  {clock(seconds)}"
    )
    return line + (f", {clock(seconds * left)} left" if left else "")


def event_writer(
    settings: TrainingSettings, history: Sequence[Mapping[str, float]]
) -> Callable[[Mapping[str, float]], None]:
    """Return a function that writes an epoch for TensorBoard, and write those of a history."""
    if not settings.tensorboard:
        return lambda row: None
    from tensorboard.summary import Writer  # only who wants it waits for it

    folder = Path(settings.tensorboard) / settings.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        writer = Writer(str(folder))
    except OSError as error:
        expected = f"expected to write to --tensorboard {folder}"
        raise TrainingError(f"{expected}; received: {error.strerror}") from error

    def write(row: Mapping[str, float]) -> None:
        for key, tag in TAGS.items():
            writer.add_scalar(tag, row[key], step=row["epoch"])
        writer.flush()

    for row in history:
        write(row)
    return write
