"""How far training is: a bar and a line an epoch on a terminal, figures for others to draw."""

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from emotion.errors import TrainingError
from emotion.text import clock, first_line, share
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
    """Send a history where the settings say; return what sends an epoch. Raises TrainingError."""
    senders = {"--tensorboard": _tensorboard} if settings.tensorboard else {}
    if settings.log_to != "none":
        senders[f"--log-to {settings.log_to}"] = _service

    def send(flag: str, what: Callable, *told):
        try:
            return what(*told)
        except Exception as error:  # the services have many kinds of their own
            raise TrainingError(
                f"expected to write to {flag}; received: {first_line(error)}: run the same command "
                "again to go on, without the flag if need be"
            ) from error

    opened = {flag: send(flag, begin, settings) for flag, begin in senders.items()}

    def write(row: Mapping[str, float]) -> None:
        figures = {tag: row[key] for key, tag in TAGS.items()}
        for flag, log in opened.items():
            send(flag, log, figures, row["epoch"])

    for row in history:
        write(row)
    return write


def _tensorboard(settings: TrainingSettings) -> Callable:
    from tensorboard.summary import Writer  # only who wants it waits for it

    folder = Path(settings.tensorboard) / settings.name
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("events.out.tfevents.*"):
        old.unlink()
    writer = Writer(str(folder))

    def log(figures: Mapping[str, float], epoch: int) -> None:
        for tag, value in figures.items():
            writer.add_scalar(tag, value, step=epoch)
        writer.flush()

    return log


def _service(settings: TrainingSettings) -> Callable:
    """Begin a run of MLflow or of Weights & Biases, which its own environment variables set up."""
    service = importlib.import_module(settings.log_to)
    if settings.log_to == "mlflow":
        service.end_run()  # of the fold or trial before
        service.start_run(run_name=settings.name)
        service.log_params(settings.shaping())
        return service.log_metrics
    return service.init(name=settings.name, config=settings.shaping(), reinit=True).log
