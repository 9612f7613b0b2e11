"""The state of a run after each epoch, so that it goes on as if it had never been stopped."""

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
    """The whole state of a run after each epoch, and the weights of the best one.

    The state is every variable of the model and of its optimizer. Files appear whole or not at all;
    `state.json` is written last and names the others, so whenever a run is killed the last epoch
    that it names can be gone on from.

    Attributes:
        history: a row an epoch that is done, with "epoch", "val_accuracy" and other figures.
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
            TrainingError: the folder cannot be used, or holds a run of other settings or data.
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
            TrainingError: it is a run of other settings or data.
        """
        state = _read_state(self.folder / STATE_FILE)
        if state:
            self._require_same(state["identity"])
            self.history, self.files = state["history"], state["files"]

    def load_state(self, variables: Sequence[keras.Variable]) -> None:
        """Give the variables the values they had after the last epoch."""
        _load_variables(self.folder / self.files["state"], variables)

    def load_selected(self, network: keras.Model) -> None:
        """Put the weights of the best epoch into the network."""
        _load_variables(self.folder / self.files["selected"], network.weights)

    def keep(
        self,
        row: dict,
        variables: Sequence[np.ndarray],
        weights: Sequence[np.ndarray],
    ) -> None:
        """Save the state after an epoch, and the network's weights where it is the best so far.

        Args:
            row: the figures of the epoch.
            variables: the whole state, to go on from.
            weights: the network's weights as they were measured on the validation images.

        Raises:
            TrainingError: the loss is not a finite number, or the files cannot be written; the last
                checkpoint stays.
        """
        _require_finite(row)
        history = [*self.history, row]
        files = self.files | {"state": f"epoch-{row['epoch']:03d}.npz"}
        is_best = best_epoch(history) == row["epoch"]
        if is_best:
            files["selected"] = f"selected-{row['epoch']:03d}.npz"
        try:
            if is_best:
                _save_arrays(self.folder / files["selected"], weights)
            _save_arrays(self.folder / files["state"], variables)
            state = {"files": files, "identity": self.identity, "history": history}
            write_json(self.folder / STATE_FILE, state)
        except OSError as error:
            self._remove_all_but(self.files)
            raise TrainingError(self._cannot_write(row, variables, error)) from error
        self.history, self.files = history, files
        self._remove_all_but(files)

    def selected_epoch(self) -> int:
        """Return the epoch, counted from 1, with the best validation accuracy so far."""
        return best_epoch(self.history)

    def finished(self) -> bool:
        """Tell whether all epochs are done, or validation has not improved for too many."""
        count = len(self.history)
        if count == 0:
            return False
        is_still = count - self.selected_epoch() >= self.settings.patience
        return count >= self.settings.epochs or is_still

    def _require_same(self, identity: dict) -> None:
        way_out = f"delete {self.folder} to start anew, or give another --name"
        if identity["data"] != self.identity["data"]:
            raise TrainingError(f"{self.folder} holds a run on other data; {way_out}")
        before = identity["settings"]
        for key, value in self.identity["settings"].items():
            if key not in before:
                raise TrainingError(
                    f"{self.folder} holds a run of an older version, which had no setting {key}; "
                    f"{way_out}"
                )
            if before[key] != value:
                raise TrainingError(
                    f"{self.folder} holds a run with {key} {before[key]!r}; "
                    f"received {value!r}; {way_out}"
                )

    def _cannot_write(self, row: dict, variables: Sequence[np.ndarray], error: OSError) -> str:
        """Return the sentence for a disk that is full or gone."""
        megabytes = sum(array.nbytes for array in variables) / 1e6
        kept = f"the epochs up to {len(self.history)} are kept" if self.history else "none is kept"
        return (
            f"expected room for a checkpoint of {megabytes:.0f} MB in {self.folder} after epoch "
            f"{row['epoch']}; received: {error.strerror or error}; {kept}: make room there "
            "and run the same command again"
        )

    def _remove_all_but(self, files: dict[str, str]) -> None:
        """Remove weights of epochs that the state does not name."""
        for pattern in ("epoch-*.npz", "selected-*.npz"):
            for path in self.folder.glob(pattern):
                if path.name not in files.values():
                    path.unlink()


def take_over_finished_run(dataset: Dataset, settings: TrainingSettings) -> Path | None:
    """Give this run what another one of the same data and settings has learned.

    It would learn the very same. Such a run is there when its model was not published.

    Returns:
        The folder that was renamed; None where there is no such run, or this one has begun.
    """
    if settings.devices == "hosts" or any(settings.run_folder().glob("*")):
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
    """Give variables back the values that `values_of` returned."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _read_state(path: Path) -> dict | None:
    """Return what `state.json` says, None where there is none.

    Raises:
        TrainingError: it is damaged, or an older version wrote it.
    """
    if not path.exists():
        return None
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        return {key: state[key] for key in ("files", "identity", "history")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(
            f"expected the state of an unfinished run in {path}; it is damaged or of an older "
            f"version ({type(error).__name__}: {error}): delete {path.parent} to start anew, or "
            "give another --name"
        ) from error


def _require_finite(row: dict) -> None:
    if not np.isfinite(row["loss"]):
        raise TrainingError(
            f"expected a finite loss in epoch {row['epoch']}; received {row['loss']}: "
            "lower --learning-rate"
        )


def _save_arrays(path: Path, arrays: Sequence[np.ndarray]) -> None:
    """Write arrays as .npz, whole or not at all."""
    with whole_file(path) as part, part.open("wb") as file:
        np.savez(file, *arrays)
        file.flush()
        os.fsync(file.fileno())


def _load_variables(path: Path, variables: Sequence[keras.Variable]) -> None:
    """Give variables the values of an .npz written by `_save_arrays`."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            values = [arrays[f"arr_{index}"] for index in range(len(arrays.files))]
        set_values(variables, values)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TrainingError(
            f"expected a checkpoint of this network in {path}; it cannot be used ({error})"
        ) from error
