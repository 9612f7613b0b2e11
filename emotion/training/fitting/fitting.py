"""Fit a network to a dataset: targets, network, epochs, selection; each epoch is kept."""

import contextlib
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import keras
import numpy as np

from emotion.errors import TrainingError
from emotion.training.data.datasets import Dataset
from emotion.training.fitting.batches import FaceBatches
from emotion.training.fitting.checkpoints import Checkpoint, set_values, values_of
from emotion.training.fitting.devices import Devices, threads_to_feed_alike, use_devices
from emotion.training.fitting.event_log import EventLog
from emotion.training.fitting.progress import Progress, one_head
from emotion.training.fitting.schedules import (
    Stage,
    build_optimizer,
    current_rate,
    plan_stages,
    rate_on_plateau,
    side_of,
    stage_of,
)
from emotion.training.fitting.targets import balance_classes, build_targets, has_votes_head
from emotion.training.fitting.teachers import what_teachers_say
from emotion.training.networks.architectures import (
    HEADS,
    backbone_of,
    build_network,
    single_head,
    train_backbone,
)
from emotion.training.networks.normalisation import use_fast_normalisation
from emotion.training.networks.pretrained import start_from
from emotion.training.settings import SIDES, TrainingSettings

EVALUATION_BATCH_SIZE = 512


@dataclass(frozen=True)
class FitResult:
    """A fitted network and how it came to be.

    Attributes:
        network: float32, (N, 48, 48, 1) in [0, 1] -> (N, classes), at its selected epoch.
        history: a row an epoch: epoch, learning_rate, loss, accuracy, val_loss, val_accuracy.
        selected_epoch: the epoch, counted from 1, with the best validation accuracy.
        votes_network: the same with the head that learned the votes in place of the labels; None
            without such a head.
    """

    network: keras.Model
    history: tuple[dict, ...]
    selected_epoch: int
    votes_network: keras.Model | None = None


def fit(
    dataset: Dataset,
    settings: TrainingSettings,
    verbose: str | int = "auto",
    on_epoch: Callable[[dict], None] | None = None,
    stream: TextIO | None = None,
) -> FitResult:
    """Train on the split "train", select the epoch on "validation", and keep a checkpoint an epoch.

    A run folder with an unfinished run of the same data and settings is taken up where it stopped.

    Args:
        dataset: the faces, with the splits "train" and "validation".
        settings: the settings of the run.
        verbose: 0 shows nothing, 2 a line an epoch, "auto" and 1 also a line that is updated in
            place where the stream is a terminal.
        on_epoch: told the history's row of each epoch that is done; what it raises ends the run.
        stream: where progress is shown; standard output if not given.

    Raises:
        ModelError: a model to start from or to learn from cannot be loaded.
        TrainingError: the run folder holds a run of other settings or of other data, or the run
            cannot start or go on; the message says why.
    """
    keras.utils.set_random_seed(settings.seed)
    with use_devices(settings.devices) as devices:
        run = Run(dataset, settings, devices)
        events = EventLog(settings, run.checkpoint.history)
        progress = _build_progress(run, verbose, stream or sys.stdout)
        while not run.checkpoint.finished():
            row = run.train_epoch(progress)
            events.write(row)
            if on_epoch:
                on_epoch(row)
        events.close()
        run.checkpoint.load_selected(run.network)
        weights = run.network.get_weights()
    heads = _as_float32(weights, settings, dataset)
    return FitResult(
        network=heads["emotion"],
        history=tuple(run.checkpoint.history),
        selected_epoch=run.checkpoint.selected_epoch(),
        votes_network=heads.get("votes"),
    )


class Run:
    """A network in training: its data, its stages and its checkpoint.

    Args:
        dataset: the faces, with the splits "train" and "validation".
        settings: the settings of the run.
        devices: what it is trained on.
    """

    def __init__(self, dataset: Dataset, settings: TrainingSettings, devices: Devices):
        self.settings, self.devices = settings, devices
        self.checkpoint = Checkpoint(dataset, settings, _folder_of(settings, devices))
        self.checkpoint.open()
        self.training, self.validation = dataset.split("train"), dataset.split("validation")
        self.targets = _training_targets(self.training, self.validation, settings)
        self.second_head = has_votes_head(dataset, settings)
        self.threads = threads_to_feed_alike(settings.architecture)
        self.network = _build_network(dataset, settings)
        if devices.count == 1:
            self.network = use_fast_normalisation(self.network)
        self._start_or_resume()

    def train_epoch(self, progress: Progress | None) -> dict:
        """Train for one epoch, measure it, and keep it; return its row of the history."""
        epoch = len(self.checkpoint.history)
        if epoch == self.stage.end:
            self._enter(stage_of(self.stages, epoch))
        if self.settings.schedule == "plateau":
            self._set_rate_on_plateau()
        if progress:
            progress.start_epoch(epoch)
        logs = self.fit_epoch(epoch, [progress] if progress else [])
        learning = self.trainer.trainable_variables
        # On JAX a weight and its average now share memory that the next step gives away
        set_values(learning, values_of(learning))
        row = {"epoch": epoch + 1, "learning_rate": current_rate(self.trainer.optimizer)}
        row |= one_head(logs)
        row |= {f"val_{key}": value for key, value in self._measure().items()}
        measured = values_of(self.network.weights)
        set_values(learning, self.trained_values)
        self.checkpoint.keep(row, values_of(_all_variables(self.trainer)), measured)
        if progress:
            progress.finish_epoch(self.checkpoint.history)
        return row

    def fit_epoch(self, epoch: int, callbacks: Sequence[keras.callbacks.Callback]) -> dict:
        """Show every training image to the network once; return the mean figures.

        Args:
            epoch: counted from 0; it decides the order and the changes of the faces.
            callbacks: told of each batch.
        """
        if self.devices.count > 1:
            return self._fit_epoch_on_devices(epoch, callbacks)
        means = EpochMeans()
        with prepared_ahead(self._batches(epoch)) as batches:
            for step, batch in enumerate(batches):
                means.add(self.trainer.train_on_batch(*batch, return_dict=True), batch)
                for callback in callbacks:
                    callback.on_train_batch_end(step, means.logs())
        self.trained_values = values_of(self.trainer.trainable_variables)
        # as `fit` does at its end: puts the averages of the weights in their place, if asked for
        self.trainer.optimizer.finalize_variable_values(self.trainer.trainable_variables)
        return means.logs()

    def _fit_epoch_on_devices(
        self, epoch: int, callbacks: Sequence[keras.callbacks.Callback]
    ) -> dict:
        """Do what `fit_epoch` does through Keras' own loop, which parts batches among devices."""
        trained = TrainedWeights()
        logs = self.trainer.fit(
            self._batches(epoch),
            callbacks=[trained, *callbacks],
            shuffle=False,  # the batches come in an order of their own
            verbose=0,
        ).history
        self.trained_values = trained.values
        return {key: values[-1] for key, values in logs.items()}

    def steps(self) -> int:
        """Return how many batches an epoch has."""
        return len(self._batches(0))

    def has_pretrained_backbone(self) -> bool:
        """Tell whether a part of the network starts from ImageNet or from a model trained on it."""
        return backbone_of(self.network) is not None and self.settings.starting_weights() != "none"

    def _start_or_resume(self) -> None:
        """Prepare the first epoch, or put everything back as it was after the last one."""
        self.stages = plan_stages(self.settings, self.has_pretrained_backbone())
        done = len(self.checkpoint.history)
        if not done:
            start_from(self.network, self.settings)
        self._enter(stage_of(self.stages, max(0, done - 1)))
        if done:
            self.checkpoint.load_state(_all_variables(self.trainer))

    def _enter(self, stage: Stage) -> None:
        """Compile the model for a stage, with an optimizer of its own."""
        self.stage = stage
        if self.has_pretrained_backbone():
            train_backbone(self.network, not stage.is_frozen)
        self.trainer = _build_trainer(self.network, self.settings.smallest_side != max(SIDES))
        self.trainer.compile(
            optimizer=build_optimizer(self.settings, stage, self.steps()),
            loss=self._for_heads("categorical_crossentropy"),
            weighted_metrics=self._for_heads(["accuracy"]),
        )

    def _for_heads(self, value):
        """Return a loss or a metric for the one head, or for each of the two by its name."""
        return dict.fromkeys(HEADS, value) if self.second_head else value

    def _set_rate_on_plateau(self) -> None:
        rows = self.checkpoint.history[self.stage.start :]
        accuracies = [row["val_accuracy"] for row in rows]
        self.trainer.optimizer.learning_rate = rate_on_plateau(
            self.settings, self.stage, accuracies
        )

    def _batches(self, epoch: int) -> FaceBatches:
        return FaceBatches(
            self.training.images,
            self.targets,
            max(self.settings.batch_size // self.threads, 1) * self.threads,
            seed=(self.settings.seed, epoch),
            augmentation=self.settings.augmentation,
            mixup=self.settings.mixup,
            multiple_of=math.lcm(self.devices.count, self.threads),
            share=self.devices.share,
            side=side_of(self.settings, epoch),
        )

    def _measure(self) -> dict[str, float]:
        """Return loss and accuracy on the validation images."""
        batches = FaceBatches(
            self.validation.images,
            build_targets(self.validation, self.settings),
            EVALUATION_BATCH_SIZE,
            multiple_of=self.devices.count,
            share=self.devices.share,
        )
        if self.devices.count > 1:
            return one_head(self.trainer.evaluate(batches, return_dict=True, verbose=0))
        means = EpochMeans()
        with prepared_ahead(batches) as ready:
            for batch in ready:
                means.add(self.trainer.test_on_batch(*batch, return_dict=True), batch)
        return one_head(means.logs())


class EpochMeans:
    """The figures of an epoch from those of its batches, each counted as Keras' `fit` does.

    A loss counts as often as the batch has faces, an accuracy as its faces weigh.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.counts: dict[str, float] = {}

    def add(self, logs: Mapping[str, float], batch: tuple) -> None:
        """Take in the figures of one batch of (faces, targets, weights)."""
        faces, _, weights = batch
        for key, value in logs.items():
            count = len(faces)
            if key.endswith("accuracy"):
                head = key.removesuffix("accuracy").rstrip("_")
                count = float(np.sum(weights[head] if isinstance(weights, dict) else weights))
            self.sums[key] = self.sums.get(key, 0.0) + float(value) * count
            self.counts[key] = self.counts.get(key, 0.0) + count

    def logs(self) -> dict[str, float]:
        """Return the means so far."""
        return {key: self.sums[key] / max(self.counts[key], 1e-9) for key in self.sums}


@contextlib.contextmanager
def prepared_ahead(batches: FaceBatches) -> Iterator[Iterator[tuple]]:
    """Give the batches in their order, each made in a thread while the one before is in use.

    Keras' `fit` would do so through tf.data, which on some machines goes on waiting at the end of
    an epoch for up to as long as the epoch took: benchmarks/training_speed.md.
    """

    def batches_in_turn() -> Iterator[tuple]:
        waiting = executor.submit(batches.__getitem__, 0)
        for following in range(1, len(batches) + 1):
            batch = waiting.result()
            if following < len(batches):
                waiting = executor.submit(batches.__getitem__, following)
            yield batch

    with ThreadPoolExecutor(max_workers=1) as executor:
        yield batches_in_turn()


class TrainedWeights(keras.callbacks.Callback):
    """Remembers the weights to train on from.

    Where their average is wanted, Keras puts it in their place at the end of `fit`: there it is
    measured and selected.
    """

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.values = values_of(self.model.trainable_variables)


def _training_targets(training: Dataset, validation: Dataset, settings: TrainingSettings):
    """Return what is to be learned from the training images, weighted as the settings say."""
    taught = what_teachers_say(training, validation, settings) if settings.teachers else ()
    targets = build_targets(training, settings, taught)
    if settings.class_weights == "balanced":
        return balance_classes(targets, training.labels)
    return targets


def _build_network(dataset: Dataset, settings: TrainingSettings) -> keras.Model:
    """Return a new network that computes in the precision of the settings."""
    keras.config.set_dtype_policy(settings.resolved_precision())
    try:
        return build_network(
            settings.architecture, len(dataset.class_names), has_votes_head(dataset, settings)
        )
    finally:
        keras.config.set_dtype_policy("float32")


def _build_trainer(network: keras.Model, any_side: bool) -> keras.Model:
    """Return a model around the network whose outputs go by the names of the heads.

    With any_side it takes faces of any side, through the same layers and weights.
    """
    faces = keras.Input((None, None, 1) if any_side else network.input_shape[1:])
    heads = _through_layers(network, faces) if any_side else network(faces)
    if len(network.outputs) > 1:
        heads = dict(zip(HEADS, heads, strict=True))
    return keras.Model(faces, heads)


def _through_layers(network: keras.Model, faces):
    """Return the outputs of a network's own layers for faces of another side.

    Raises:
        TrainingError: the network takes faces of one side only.
    """
    try:
        _with_own_layers(network, keras.Input((min(SIDES), min(SIDES), 1)))
    except (ValueError, TypeError) as error:
        raise TrainingError(
            f"expected a network that averages over the face for faces that grow; received "
            f"{network.name}, which takes one side only: leave --smallest-side at {max(SIDES)}"
        ) from error
    return _with_own_layers(network, faces)


def _with_own_layers(network: keras.Model, faces):
    """Return the outputs of a network's layers, the very same and not copies, for an input."""
    return keras.models.clone_model(
        network, input_tensors=faces, clone_function=lambda layer: layer
    ).output


def _build_progress(run: Run, verbose: str | int, stream: TextIO) -> Progress | None:
    """Return what shows progress, None where nothing is to be shown."""
    if verbose == 0:
        return None
    is_live = verbose != 2 and stream.isatty()
    settings = run.settings
    return Progress(stream, settings.epochs, run.steps(), settings.batch_size, is_live)


def _folder_of(settings: TrainingSettings, devices: Devices) -> Path:
    """Return the folder of the checkpoint; each further host has one of its own."""
    folder = settings.run_folder()
    return folder / f"host-{devices.host}" if devices.host else folder


def _as_float32(
    weights: list[np.ndarray], settings: TrainingSettings, dataset: Dataset
) -> dict[str, keras.Model]:
    """Return a network for each head, computing in float32."""
    second_head = has_votes_head(dataset, settings)
    plain = build_network(settings.architecture, len(dataset.class_names), second_head)
    plain.set_weights(weights)
    return {head: single_head(plain, head) for head in HEADS[: 1 + second_head]}


def _all_variables(model: keras.Model) -> list[keras.Variable]:
    """Return every variable of a compiled model: weights, seeds and the optimizer's."""
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]
