"""Fit a network to a dataset: compile, feed, watch, checkpoint, resume."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from emotion.errors import TrainingError
from emotion.files import whole_file, write_json
from emotion.keras_pair import ModelFiles, load_keras_model
from emotion.training.architectures import HEADS, build_network, single_head
from emotion.training.augmentation import build_augmentation
from emotion.training.datasets import Dataset
from emotion.training.settings import TrainingSettings

STATE_FILE = "state.json"
SELECTED_FILE = "selected.npz"
EVALUATION_BATCH_SIZE = 512


@dataclass(frozen=True)
class FitResult:
    """A fitted network and how it came to be.

    Attributes:
        network: float32, (N, 48, 48, 1) in [0, 1] -> (N, classes), at its selected epoch.
        history: a row an epoch: epoch, seconds, loss, accuracy, val_loss, val_accuracy.
        selected_epoch: the epoch, counted from 1, with the best validation accuracy.
    """

    network: keras.Model
    history: tuple[dict, ...]
    selected_epoch: int


def fit(dataset: Dataset, settings: TrainingSettings, verbose: str | int = "auto") -> FitResult:
    """Train on the split "train", select the epoch on "validation", and keep a checkpoint an epoch.

    A run folder with an unfinished run of the same data and settings is taken up where it stopped.

    Raises:
        TrainingError: the run folder holds a run of other settings or of other data.
    """
    keras.utils.set_random_seed(settings.seed)
    network, trainer = _build_trainer(settings, dataset)
    checkpoint = Checkpoint(dataset, settings)
    checkpoint.resume(trainer)
    validation = FaceBatches(dataset.split("validation"), EVALUATION_BATCH_SIZE)
    while not checkpoint.finished():
        epoch = len(checkpoint.history)
        batches = FaceBatches(dataset.split("train"), settings.batch_size, (settings.seed, epoch))
        logs = trainer.fit(
            batches,
            validation_data=validation,
            initial_epoch=epoch,
            epochs=settings.epochs,
            callbacks=[StopAfterEpoch()],
            shuffle=False,  # the batches come in an order of their own
            verbose=verbose,
        ).history
        checkpoint.keep(network, trainer, logs)
    checkpoint.load_selected(network)
    return FitResult(
        network=_as_float32(network, settings, dataset),
        history=tuple(checkpoint.history),
        selected_epoch=checkpoint.selected_epoch(),
    )


class StopAfterEpoch(keras.callbacks.Callback):
    """End `fit` after one epoch, so that the bar counts to all of them: "Epoch 2/40"."""

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.model.stop_training = True


class FaceBatches(keras.utils.PyDataset):
    """Batches of (faces, targets, weights), in an order that the seed fixes.

    Faces are (batch, 48, 48, 1) float32 in [0, 1]. Targets are one-hot labels and, where the
    dataset has votes, vote shares, whose weight is 0 where nobody voted for one of the classes.
    Without a seed the order is the dataset's own.
    """

    def __init__(self, dataset: Dataset, batch_size: int, seed: tuple[int, ...] | None = None):
        super().__init__()
        self.dataset, self.batch_size = dataset, batch_size
        count = len(dataset)
        self.order = np.random.default_rng(seed).permutation(count) if seed else np.arange(count)

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __getitem__(self, index: int):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        faces = self.dataset.images[rows, ..., None].astype(np.float32) / 255
        labels = np.eye(len(self.dataset.class_names), dtype=np.float32)[self.dataset.labels[rows]]
        if self.dataset.votes is None:
            return faces, labels
        votes = self.dataset.votes[rows]
        weights = (np.ones(len(rows), np.float32), votes.sum(axis=1))
        return faces, _by_head((labels, votes)), _by_head(weights)


class Checkpoint:
    """The whole state of a run after each epoch, and the weights of the best one.

    The state is every variable of the model and of its optimizer, so a resumed run goes on just
    as it would have. Files appear whole or not at all; `state.json` is written last and names the
    others.
    """

    def __init__(self, dataset: Dataset, settings: TrainingSettings):
        self.settings = settings
        self.folder = settings.run_folder()
        self.identity = {"data": dataset.fingerprint(), "settings": settings.shaping()}
        self.history: list[dict] = []

    def resume(self, trainer: keras.Model) -> None:
        """Load the state of an unfinished run, if there is one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        state_path = self.folder / STATE_FILE
        if not state_path.exists():
            return
        state = json.loads(state_path.read_text())
        self._require_same(state["identity"])
        self.history = state["history"]
        _load_variables(self.folder / state["file"], _all_variables(trainer))

    def _require_same(self, identity: dict) -> None:
        way_out = f"delete {self.folder} to start anew, or give another --name"
        if identity["data"] != self.identity["data"]:
            raise TrainingError(f"{self.folder} holds a run on other data; {way_out}")
        for key, value in self.identity["settings"].items():
            before = identity["settings"].get(key)
            if before != value:
                raise TrainingError(
                    f"{self.folder} holds a run with {key} {before!r}; "
                    f"received {value!r}; {way_out}"
                )

    def keep(self, network: keras.Model, trainer: keras.Model, logs: dict) -> None:
        """Save the state after an epoch, and the network's weights where it is the best so far.

        Args:
            network: the network in training.
            trainer: the compiled model around it.
            logs: the figures of the epoch, each a list of one number, as `fit` returns them.

        Raises:
            TrainingError: the loss is not a finite number; the last checkpoint stays.
        """
        row = _history_row(len(self.history) + 1, logs)
        if not np.isfinite(row["loss"]):
            raise TrainingError(
                f"expected a finite loss in epoch {row['epoch']}; received {row['loss']}: "
                "lower --learning-rate"
            )
        self.history.append(row)
        if self.selected_epoch() == row["epoch"]:
            _save_variables(self.folder / SELECTED_FILE, network.weights)
        name = f"epoch-{row['epoch']:03d}.npz"
        _save_variables(self.folder / name, _all_variables(trainer))
        state = {"file": name, "identity": self.identity, "history": self.history}
        write_json(self.folder / STATE_FILE, state)
        for old in self.folder.glob("epoch-*.npz"):
            if old.name != name:
                old.unlink()

    def selected_epoch(self) -> int:
        """Return the epoch, counted from 1, with the best validation accuracy so far."""
        return 1 + int(np.argmax([row["val_accuracy"] for row in self.history]))

    def finished(self) -> bool:
        """Tell whether all epochs are done, or validation has not improved for too many."""
        count = len(self.history)
        if count == 0:
            return False
        return (
            count >= self.settings.epochs or count - self.selected_epoch() >= self.settings.patience
        )

    def load_selected(self, network: keras.Model) -> None:
        """Put the weights of the best epoch into the network."""
        _load_variables(self.folder / SELECTED_FILE, network.weights)


def _build_trainer(settings: TrainingSettings, dataset: Dataset):
    """Return the network with its heads, and the compiled model that augments and trains it."""
    has_votes = dataset.votes is not None
    steps = len(FaceBatches(dataset.split("train"), settings.batch_size))
    keras.config.set_dtype_policy(settings.precision)
    try:
        network = build_network(settings.architecture, len(dataset.class_names), has_votes)
    finally:
        keras.config.set_dtype_policy("float32")
    if settings.weights:
        _start_from(network, ModelFiles(Path(settings.weights)))
    faces = keras.Input(network.input_shape[1:])
    has_augmentation = settings.augmentation != "none"
    augment = build_augmentation(settings.augmentation, settings.seed) if has_augmentation else None
    augmented = augment(faces) if augment else faces
    heads = network(augmented)
    trainer = keras.Model(faces, _by_head(heads) if has_votes else heads)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=settings.label_smoothing)
    trainer.compile(
        optimizer=_build_optimizer(settings, steps),
        loss=_by_head((loss, "categorical_crossentropy")) if has_votes else loss,
        weighted_metrics=_by_head((["accuracy"], ["accuracy"])) if has_votes else ["accuracy"],
    )
    return network, trainer


def _start_from(network: keras.Model, files: ModelFiles) -> None:
    """Give a network the weights of a saved model; a second head starts as the first.

    Raises:
        ModelError: the model cannot be loaded.
        TrainingError: it is of another architecture or of other classes.
    """
    values = load_keras_model(files).get_weights()
    values += values[-2:] if len(network.outputs) > 1 else []
    expected = [weights.shape for weights in network.get_weights()]
    received = [weights.shape for weights in values]
    if expected != received:
        raise TrainingError(
            f"expected --weights of the same architecture and number of classes; {files.name} has "
            f"{len(received)} arrays ending in {received[-1:]}, the network {len(expected)} "
            f"ending in {expected[-1:]}"
        )
    network.set_weights(values)


def _build_optimizer(settings: TrainingSettings, steps: int) -> keras.optimizers.Optimizer:
    """Return SGD with Nesterov momentum, a warm-up and a cosine decay (Loshchilov, Hutter 2017).

    The weight decay is decoupled (Loshchilov and Hutter 2019) and spares biases and batch
    normalisation.
    """
    warmup_steps = round(min(settings.warmup_epochs, settings.epochs / 2) * steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup_steps else settings.learning_rate,
        decay_steps=max(1, settings.epochs * steps - warmup_steps),
        warmup_target=settings.learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )
    optimizer = keras.optimizers.SGD(
        schedule, momentum=0.9, nesterov=True, weight_decay=settings.weight_decay
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _as_float32(network: keras.Model, settings: TrainingSettings, dataset: Dataset) -> keras.Model:
    """Return the network with the emotion head alone, computing in float32."""
    plain = build_network(
        settings.architecture, len(dataset.class_names), dataset.votes is not None
    )
    plain.set_weights(network.get_weights())
    return single_head(plain)


def _by_head(values) -> dict:
    """Return two values under the names of the heads they belong to."""
    return dict(zip(HEADS, values, strict=True))


def _history_row(epoch: int, logs: dict) -> dict:
    """Return the figures of one epoch, under the same names with one head or two."""
    names = {key: key.replace("emotion_accuracy", "accuracy") for key in logs}
    return {"epoch": epoch} | {names[key]: float(values[-1]) for key, values in logs.items()}


def _all_variables(model: keras.Model) -> list:
    """Return every variable of a compiled model: weights, seeds and the optimizer's."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def _save_variables(path: Path, variables: list) -> None:
    """Write the values of variables as .npz, whole or not at all."""
    arrays = [keras.ops.convert_to_numpy(variable.value) for variable in variables]
    with whole_file(path) as part, part.open("wb") as file:
        np.savez(file, *arrays)
        file.flush()
        os.fsync(file.fileno())


def _load_variables(path: Path, variables: list) -> None:
    """Give variables the values of an .npz written by `_save_variables`."""
    try:
        with np.load(path) as arrays:
            values = [arrays[f"arr_{index}"] for index in range(len(variables))]
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(
            f"expected a checkpoint of this network in {path}; it cannot be used ({error})"
        ) from error
