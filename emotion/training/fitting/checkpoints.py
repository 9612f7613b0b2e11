"""The state of a run after each epoch, so that it can go on after it was stopped or killed."""

import contextlib
import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from emotion.errors import TrainingError
from emotion.files import whole_file, write_json
from emotion.training.data.datasets import Dataset
from emotion.training.settings import TrainingSettings

STATE_FILE = "state.json"


class Checkpoint:
    """The last state of a run, and the weights of its best epoch.

    The state is every variable of the model and of its optimizer. Files appear whole or not at all;
    `state.json` is written last and names the others, so a run that is killed at any moment can go
    on from the last epoch that it names.

    Attributes:
        history: a row for each finished epoch, with "epoch", "val_accuracy" and other figures.
    """

    def __init__(self, dataset: Dataset, settings: TrainingSettings, folder: Path | None = None):
        self.settings = settings
        self.folder = folder or settings.run_folder()
        shaping = json.loads(json.dumps(settings.shaping()))
        self.identity = {"data": dataset.fingerprint(), "settings": shaping}
        self.history: list[dict] = []
        self.files: dict[str, str] = {}

    def open(self) -> None:
        """Make the folder, or read how far the unfinished run in it came.

        Raises:
            TrainingError: the folder cannot be used, or holds a run with other settings or data.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(".part-*"):
                shutil.rmtree(leftover)
        except OSError as error:
            raise TrainingError(
                f"expected a folder for checkpoints; {self.folder}: {error.strerror}"
            ) from error
        self.read()

    def read(self) -> None:
        """Read how far the run in the folder came, if there is one.

        Raises:
            TrainingError: it has other settings or data, or is damaged.
        """
        path = self.folder / STATE_FILE
        way_out = f"delete {self.folder} to start anew, or give another --name"
        if not path.exists():
            return
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            files, identity, history = (state[key] for key in ("files", "identity", "history"))
            data, before = identity["data"], identity["settings"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"expected the state of an unfinished run in {path}; it is damaged or of an older "
                f"version ({type(error).__name__}: {error}): {way_out}"
            ) from error
        if data != self.identity["data"]:
            raise TrainingError(f"{self.folder} holds a run on other data: {way_out}")
        for key, value in self.identity["settings"].items():
            if key not in before:
                raise TrainingError(
                    f"{self.folder} holds a run of an older version, without the setting {key}: "
                    f"{way_out}"
                )
            if before[key] != value:
                raise TrainingError(
                    f"{self.folder} holds a run with {key} {before[key]!r}; received {value!r}: "
                    f"{way_out}"
                )
        self.history, self.files = history, files

    def load_state(self, variables: Sequence[keras.Variable]) -> None:
        """Give the variables the values they had after the last epoch."""
        self._load("state", variables)

    def load_selected(self, network: keras.Model) -> None:
        """Give the network the weights of the best epoch."""
        self._load("selected", network.weights)

    def _load(self, key: str, variables: Sequence[keras.Variable]) -> None:
        path = self.folder / self.files[key]
        try:
            with path.open("rb") as file, np.load(file) as arrays:
                set_values(variables, [arrays[f"arr_{n}"] for n in range(len(arrays.files))])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise TrainingError(
                f"expected a checkpoint of this network in {path}; it cannot be used ({error})"
            ) from error

    def keep(
        self,
        row: dict,
        variables: Sequence[np.ndarray],
        weights: Sequence[np.ndarray],
    ) -> None:
        """Save the state after an epoch, and the network's weights if they are the best so far.

        Args:
            row: the figures of the epoch.
            variables: the whole state, to go on from.
            weights: the network's weights as they were measured on the validation images.

        Raises:
            TrainingError: the loss is not a finite number, or the files cannot be written; the last
                checkpoint stays.
        """
        epoch, history = row["epoch"], [*self.history, row]
        if not np.isfinite(row["loss"]):
            raise TrainingError(
                f"expected a finite loss in epoch {epoch}; received {row['loss']}: "
                "lower --learning-rate"
            )
        files, arrays = self.files | {"state": f"epoch-{epoch:03d}.npz"}, {"state": variables}
        if best_epoch(history) == epoch:
            files["selected"], arrays["selected"] = f"selected-{epoch:03d}.npz", weights
        try:
            for key, values in arrays.items():
                _save_arrays(self.folder / files[key], values)
            state = {"files": files, "identity": self.identity, "history": history}
            write_json(self.folder / STATE_FILE, state)
        except OSError as error:
            self._remove_all_but(self.files)
            megabytes = sum(array.nbytes for array in variables) / 1e6
            kept = f"the epochs up to {epoch - 1} are kept" if epoch > 1 else "none is kept"
            raise TrainingError(
                f"expected room for a checkpoint of {megabytes:.0f} MB in {self.folder} after "
                f"epoch {epoch}; received: {error.strerror or error}; {kept}: make room there and "
                "run the same command again"
            ) from error
        self.history, self.files = history, files
        self._remove_all_but(files)

    def _remove_all_but(self, files: dict[str, str]) -> None:
        for pattern in ("epoch-*.npz", "selected-*.npz"):
            for path in self.folder.glob(pattern):
                if path.name not in files.values():
                    path.unlink()

    def selected_epoch(self) -> int:
        """Return the epoch, counted from 1, with the best validation accuracy so far."""
        return best_epoch(self.history)

    def finished(self) -> bool:
        """Return whether all epochs are done, or validation has not improved for too long."""
        count = len(self.history)
        if count == 0:
            return False
        waited = count - self.selected_epoch()
        return count >= self.settings.epochs or waited >= self.settings.patience


def take_over_finished_run(dataset: Dataset, settings: TrainingSettings) -> Path | None:
    """Rename a finished run with the same data and settings, if there is one, to this run's name.

    Training again would give the very same. Such a run is there when its model was not published.

    Returns:
        The folder that was renamed; None where there is no such run, or this one has begun.
    """
    if any(settings.run_folder().glob("*")):
        return None
    for path in sorted(Path(settings.runs).glob(f"*/{STATE_FILE}")):
        run = Checkpoint(dataset, settings, path.parent)
        with contextlib.suppress(TrainingError):  # other settings or data
            run.read()
        if run.finished():
            path.parent.rename(settings.run_folder())
            return path.parent
    return None


def best_epoch(history: Sequence[dict]) -> int:
    """Return the epoch, counted from 1, with the best validation accuracy; the first of equals."""
    return 1 + int(np.argmax([row["val_accuracy"] for row in history]))


def values_of(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """Return copies of the values of variables."""
    return [np.array(variable.numpy()) for variable in variables]


def set_values(variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
    """Give variables the values that `values_of` returned."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _save_arrays(path: Path, arrays: Sequence[np.ndarray]) -> None:
    with whole_file(path) as part, part.open("wb") as file:
        np.savez(file, *arrays)
        file.flush()
        os.fsync(file.fileno())
