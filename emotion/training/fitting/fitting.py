"""Fit a network to a dataset: targets, network, epochs, selection; each epoch is kept."""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import keras
import numpy as np

from emotion.errors import TrainingError
from emotion.training.data.dataset import Dataset
from emotion.training.fitting import schedules, targets
from emotion.training.fitting.batches import FaceBatches, batch_multiple
from emotion.training.fitting.checkpoints import Checkpoint, best_epoch
from emotion.training.fitting.progress import EventLog, Progress
from emotion.training.networks import architectures
from emotion.training.networks.architectures import HEADS, build_network, start_from
from emotion.training.networks.normalisation import use_fast_normalisation
from emotion.training.settings import SIDES, TrainingSettings

EVALUATION_BATCH_SIZE = 512


@dataclass(frozen=True)
class FitResult:
    """A fitted network at its selected epoch, and how it came to be."""

    network: keras.Model  # float32, (N, 48, 48, 1) in [0, 1] -> (N, classes)
    history: tuple[dict, ...]  # a row an epoch: epoch, learning_rate, [val_]loss, [val_]accuracy
    selected_epoch: int  # counted from 1, with the best validation accuracy
    votes_network: keras.Model | None = None  # the head that learned the votes, if there was one


def fit(
    dataset: Dataset,
    settings: TrainingSettings,
    verbose: bool = True,
    on_epoch: Callable[[dict], None] | None = None,
) -> FitResult:
    """Train on the split "train", select the epoch on "validation", and keep a checkpoint an epoch.

    If the run folder holds an unfinished run of the same data and settings, that run goes on.
    `on_epoch` is called with the history's row of each finished epoch; what it raises ends the run.

    Raises ModelError (of a model to start from or to learn from) or TrainingError.
    """
    keras.utils.set_random_seed(settings.seed)
    checkpoint = Checkpoint(dataset, settings)
    checkpoint.open()
    run = Run(dataset, settings)
    if not checkpoint.history:
        start_from(run.network, settings)
    events = EventLog(settings, checkpoint.history)
    progress = Progress(sys.stdout, settings.epochs, len(run.training), verbose)
    for stage in run.stages:
        run.enter(stage)
        if stage.start < len(checkpoint.history) <= stage.end:
            checkpoint.load("state", run.variables())
        while len(checkpoint.history) < stage.end and not checkpoint.finished():
            epoch = len(checkpoint.history)
            progress.start_epoch(epoch)
            accuracies = [row["val_accuracy"] for row in checkpoint.history[stage.start :]]
            figures = run.train_epoch(epoch, accuracies, progress.show)
            optimizer, learning = run.trainer.optimizer, run.trainer.trainable_variables
            rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
            # The average of the weights, if asked for, is measured and selected, not trained on
            trained = _values(learning)
            optimizer.finalize_variable_values(learning)
            # On JAX a weight and its average now share memory that the next step gives away
            _assign(learning, _values(learning))
            validation = run_epoch(run.trainer.test_on_batch, run.validation_batches)
            measured = _values(run.network.weights)
            _assign(learning, trained)
            row = {"epoch": epoch + 1, "learning_rate": rate} | figures
            row |= {f"val_{key}": value for key, value in validation.items()}
            checkpoint.keep(row, _values(run.variables()), measured)
            progress.finish_epoch(checkpoint.history)
            events.write(row)
            if on_epoch:
                on_epoch(row)
    events.close()
    checkpoint.load("selected", run.network.weights)
    # The same network in float32, and with Keras' own layers
    plain = build_network(settings.architecture, len(dataset.class_names), run.second_head)
    plain.set_weights(run.network.get_weights())
    heads = [architectures.single_head(plain, name) for name in HEADS[: 1 + run.second_head]]
    history = checkpoint.history
    return FitResult(heads[0], tuple(history), best_epoch(history), *heads[1:])


class Run:
    """A network in training, with its data: the splits "train" and "validation" of a dataset."""

    def __init__(self, dataset: Dataset, settings: TrainingSettings):
        self.settings = settings
        self.training, validation = dataset.split("train"), dataset.split("validation")
        self.validation_batches = FaceBatches(
            validation.images, targets.build_targets(validation, settings), EVALUATION_BATCH_SIZE
        )
        taught = targets.what_teachers_say(self.training, validation, settings)
        self.targets = targets.build_targets(self.training, settings, taught)
        if settings.class_weights == "balanced":
            self.targets = targets.balance_classes(self.targets, self.training.labels)
        self.second_head = targets.has_votes_head(dataset, settings)
        keras.config.set_dtype_policy(settings.resolved_precision())
        try:
            self.network = use_fast_normalisation(
                build_network(settings.architecture, len(dataset.class_names), self.second_head)
            )
        finally:
            keras.config.set_dtype_policy("float32")
        starts_trained = settings.starting_weights() != "none"
        self.has_backbone = architectures.backbone_of(self.network) is not None and starts_trained
        self.stages = schedules.plan_stages(settings, self.has_backbone)

    def enter(self, stage: schedules.Stage) -> None:  # with an optimizer of its own
        self.stage = stage
        if self.has_backbone:
            architectures.train_backbone(self.network, not stage.is_frozen)
        self.trainer = _build_trainer(self.network, self.settings.smallest_side != max(SIDES))
        loss, metrics = "categorical_crossentropy", ["accuracy"]
        if self.second_head:
            loss, metrics = (dict.fromkeys(HEADS, value) for value in (loss, metrics))
        optimizer = schedules.build_optimizer(self.settings, stage, len(self.batches(stage.start)))
        optimizer.build(self.trainer.trainable_variables)
        self.trainer.compile(optimizer=optimizer, loss=loss, weighted_metrics=metrics)

    def variables(self) -> list[keras.Variable]:  # all there is to keep
        return [*self.trainer.variables, *self.trainer.optimizer.variables]

    def train_epoch(
        self, epoch: int, accuracies: Sequence[float], on_batch: Callable | None = None
    ) -> dict[str, float]:
        """Show every image once; `accuracies` are those on validation in this stage so far."""
        if self.settings.schedule == "plateau":
            rate = schedules.rate_on_plateau(self.settings, self.stage, accuracies)
            self.trainer.optimizer.learning_rate = rate
        return run_epoch(self.trainer.train_on_batch, self.batches(epoch), on_batch)

    def batches(self, epoch: int) -> FaceBatches:
        """Return the training images of an epoch, counted from 0."""
        settings, multiple = self.settings, batch_multiple(self.settings.architecture)
        size = max(settings.batch_size // multiple, 1) * multiple
        side, images = schedules.side_of(settings, epoch), self.training.images
        changes = settings.augmentation, settings.mixup, multiple, side
        return FaceBatches(images, self.targets, size, (settings.seed, epoch), *changes)


def run_epoch(
    step: Callable, batches: FaceBatches, on_batch: Callable[[int, dict], None] | None = None
) -> dict[str, float]:
    """Give every batch to `train_on_batch` or `test_on_batch`; return the means as `fit` has them.

    A loss counts as often as the batch has faces, an accuracy as its faces weigh. The next batch is
    made in a thread. `on_batch` is called after each with its number of faces and the means so far.
    """
    sums, counts, means = Counter(), Counter(), {}
    with ThreadPoolExecutor(max_workers=1) as executor:
        coming = executor.submit(batches.__getitem__, 0)
        for index in range(len(batches)):
            batch = faces, _, weights = coming.result()
            if index + 1 < len(batches):
                coming = executor.submit(batches.__getitem__, index + 1)
            for key, value in step(*batch, return_dict=True).items():
                count = len(faces)
                if key.endswith("accuracy"):
                    two_heads = isinstance(weights, dict)
                    own = weights[key.removesuffix("_accuracy")] if two_heads else weights
                    count = float(own.sum())
                key = key.replace("emotion_accuracy", "accuracy")  # one name with one head or two
                sums[key] += float(value) * count
                counts[key] += count
                means[key] = sums[key] / max(counts[key], 1e-9)
            if on_batch:
                on_batch(len(faces), means)
    return means


def _build_trainer(network: keras.Model, any_side: bool) -> keras.Model:
    """Return a model of the same layers whose outputs have the names of the heads."""
    faces = keras.Input(network.input_shape[1:])
    heads = network(faces)
    if any_side:
        try:
            for side in (min(SIDES), None):  # of no certain side, no layer would complain
                faces = keras.Input((side, side, 1))
                clone = keras.models.clone_model(network, faces, clone_function=lambda layer: layer)
                heads = clone.output
        except (ValueError, TypeError) as error:
            raise TrainingError(
                f"expected a network that averages over the face for --smallest-side; received "
                f"{network.name}, which takes one side only: leave --smallest-side at {max(SIDES)}"
            ) from error
    if len(network.outputs) > 1:
        heads = dict(zip(HEADS, heads, strict=True))
    return keras.Model(faces, heads)


def _assign(variables: Sequence[keras.Variable], values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _values(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    return [np.array(variable.numpy()) for variable in variables]
