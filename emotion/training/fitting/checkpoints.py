"""The state of a run after each epoch, so that it can go on after it was stopped or killed."""

import contextlib
import json
import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from emotion.errors import TrainingError
from emotion.files import whole_file, write_json
from emotion.training.data.dataset import Dataset
from emotion.training.settings import SETTINGS_FILE, TrainingSettings, write_settings

STATE_FILE = "state.json"


class Checkpoint:
    """The last state of a run, the weights of its best epoch, and a row of figures for each epoch.

    The state is every variable of the model and of its optimizer. `state.json` is written last and
    names the other files, so a run that is killed at any moment goes on from the epoch it names.
    """

    def __init__(self, dataset: Dataset, settings: TrainingSettings, folder: Path | None = None):
        self.settings, self.folder = settings, folder or settings.run_folder()
        self.identity = identity_of(dataset, settings)
        self.history: list[dict] = []
        self.files: dict[str, str] = {}

    def open(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in self.folder.glob(".part-*"):
                shutil.rmtree(leftover)
        except OSError as error:
            received = f"{self.folder}: {error.strerror}"
            raise TrainingError(f"expected a folder for checkpoints; {received}") from error

    def read(self, may_extend: bool = False) -> None:
        """Read how far a run of the same data came; `may_extend`: it may have had fewer epochs."""
        path = self.folder / STATE_FILE
        if not path.exists():
            return
        way_out = f"delete {self.folder} to start anew, or give another --name"
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            files, identity, history = (state[key] for key in ("files", "identity", "history"))
            before = dict(identity)
            if may_extend and before["epochs"] < self.identity["epochs"]:
                before["epochs"] = self.identity["epochs"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"expected the state of an unfinished run in {path}; it is damaged or of an older "
                f"version ({type(error).__name__}: {error}): {way_out}"
            ) from error
        require_same(before, self.identity, self.folder, "a run", way_out)
        self.history, self.files = history, files

    def load(self, key: str, variables: Sequence[keras.Variable]) -> None:
        """Give variables their values: "state" after the last epoch, "selected" after the best."""
        path = self.folder / self.files[key]
        try:
            with path.open("rb") as file, np.load(file) as arrays:
                values = [arrays[f"arr_{n}"] for n in range(len(arrays.files))]
                for variable, value in zip(variables, values, strict=True):
                    variable.assign(value)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            expected = f"expected a checkpoint of this network in {path}"
            raise TrainingError(f"{expected}; it cannot be used ({error})") from error

    def keep(
        self, row: dict, variables: Sequence[np.ndarray], weights: Sequence[np.ndarray]
    ) -> None:
        """Save the state after an epoch, and the weights if they are the best so far."""
        epoch, history = row["epoch"], [*self.history, row]
        if not np.isfinite(row["loss"]):
            lost = f"expected a finite loss in epoch {epoch}; received {row['loss']}"
            raise TrainingError(f"{lost}: lower --learning-rate")
        files, arrays = self.files | {"state": f"epoch-{epoch:03d}.npz"}, {"state": variables}
        if best_epoch(history) == epoch:
            files["selected"], arrays["selected"] = f"selected-{epoch:03d}.npz", weights
        try:
            for key, values in arrays.items():
                with whole_file(self.folder / files[key]) as part, part.open("wb") as file:
                    np.savez(file, *values)
                    file.flush()
                    os.fsync(file.fileno())
            state = {"files": files, "identity": self.identity, "history": history}
            write_settings(self.folder / SETTINGS_FILE, self.settings)
            write_json(self.folder / STATE_FILE, state)
        except OSError as error:
            self._remove_all_but_kept()
            raise TrainingError(
                f"expected room for a checkpoint in {self.folder} after epoch {epoch}; received: "
                f"{error.strerror or error}: make room there and run the same command again"
            ) from error
        self.history, self.files = history, files
        self._remove_all_but_kept()

    def _remove_all_but_kept(self) -> None:
        for path in (*self.folder.glob("epoch-*.npz"), *self.folder.glob("selected-*.npz")):
            if path.name not in self.files.values():
                path.unlink()

    def finished(self) -> bool:
        """Return whether all epochs are done, or validation has not improved for too long."""
        count = len(self.history)
        waited = count - best_epoch(self.history) if count else 0
        return count >= self.settings.epochs or waited >= self.settings.patience


def take_over_finished_run(dataset: Dataset, settings: TrainingSettings) -> Path | None:
    """Give a finished run of the same data and settings, whose model was not published, this run's
    name, and return its old folder; None if there is none, or if this run has begun.
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


def identity_of(dataset: Dataset, settings: TrainingSettings) -> dict:
    """Return the data's fingerprint and the settings that shape a training, as JSON gives it."""
    return json.loads(json.dumps({"data": dataset.fingerprint(), **settings.shaping()}))


def require_same(before: Mapping, identity: Mapping, path: Path, kept: str, way_out: str) -> None:
    """Raise a TrainingError unless what is kept in a file ("a fold") has this data and settings."""
    for key, value in identity.items():
        if (found := before.get(key)) != value:
            held = "other data" if key == "data" else f"{key} {found!r}; received {value!r}"
            raise TrainingError(f"{path} holds {kept} with {held}: {way_out}")


def best_epoch(history: Sequence[Mapping]) -> int:
    """Return the epoch, counted from 1, with the best validation accuracy; the first of equals."""
    return 1 + int(np.argmax([row["val_accuracy"] for row in history]))
