"""Fit a network to a dataset: targets, network, epochs, selection; each epoch is kept."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import keras
import numpy as np

from emotion.errors import TrainingError
from emotion.text import counted
from emotion.training.data.dataset import Dataset
from emotion.training.fitting import targets
from emotion.training.fitting.batches import SMILE_CLASSES, FaceBatches, batch_multiple
from emotion.training.fitting.checkpoints import Checkpoint, best_epoch
from emotion.training.fitting.progress import epoch_bar, epoch_line, event_writer
from emotion.training.networks import architectures
from emotion.training.networks.architectures import HEADS, build_network, start_from
from emotion.training.networks.normalisation import use_fast_normalisation
from emotion.training.settings import SIDES, TrainingSettings

EVALUATION_BATCH_SIZE = 512
PLATEAU_FACTOR = 0.2
PATIENCE_SHARE = 3  # the rate falls once validation stood still for the patience divided by this


@dataclass(frozen=True)
class Stage:  # epochs that share one optimizer
    start: int  # the first epoch, counted from 0
    end: int  # the epoch after the last
    highest_rate: float  # after the warm-up
    is_frozen: bool = False  # weights from ImageNet stay as they are


@dataclass(frozen=True)
class FitResult:  # a fitted network at its selected epoch, and how it came to be
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
    checkpoint.read(may_extend=True)
    run = Run(dataset, settings)
    if not checkpoint.history:
        start_from(run.network, settings)
    elif verbose:
        done = f"{len(checkpoint.history)} of {counted(settings.epochs, 'epoch')} done"
        print(f"Going on with the run in {checkpoint.folder}: {done}", flush=True)
    write_events = event_writer(settings, checkpoint.history)
    checkpoint.open()  # after what may fail, which would leave an empty folder
    for stage in run.stages:
        run.enter(stage)
        if stage.start < len(checkpoint.history) <= stage.end:
            checkpoint.load("state", run.variables())
        while len(checkpoint.history) < stage.end and not checkpoint.finished():
            epoch = len(checkpoint.history)
            started_s, title = time.monotonic(), f"Epoch {epoch + 1}/{settings.epochs}"
            accuracies = [row["val_accuracy"] for row in checkpoint.history[stage.start :]]
            with epoch_bar(title, len(run.training), verbose) as show:
                figures = run.train_epoch(epoch, accuracies, show)
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
            if verbose:
                seconds = time.monotonic() - started_s
                print(epoch_line(checkpoint.history, settings.epochs, seconds), flush=True)
            write_events(row)
            if on_epoch:
                on_epoch(row)
    checkpoint.load("selected", run.network.weights)
    # The same network in float32, and with Keras' own layers
    plain = run.build_network()
    plain.set_weights(run.network.get_weights())
    outputs = [plain.get_layer(name).output for name in HEADS[: 1 + run.second_head]]
    heads = [keras.Model(plain.input, output, name=plain.name) for output in outputs]
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
        if settings.smiles and (lacking := {*SMILE_CLASSES} - {*dataset.class_names}):
            lacks = f"the dataset is without {', '.join(sorted(lacking))}"
            raise TrainingError(f"expected {', '.join(SMILE_CLASSES)} for --smiles; {lacks}")
        if settings.duplicates == "drop":
            self.training, self.targets = targets.merge_copies(self.training, self.targets)
        if settings.class_weights == "balanced":
            self.targets = targets.balance_classes(self.targets, self.training.labels)
        self.second_head = targets.has_votes_head(dataset, settings)
        shape = {"class_count": len(dataset.class_names), "second_head": self.second_head}
        self.build_network = partial(build_network, **shape, **settings.network())
        keras.config.set_dtype_policy(settings.resolved_precision())
        try:
            self.network = use_fast_normalisation(self.build_network())
        finally:
            keras.config.set_dtype_policy("float32")
        starts_trained = settings.starting_weights() != "none"
        self.has_backbone = architectures.backbone_of(self.network) is not None and starts_trained
        self.stages = plan_stages(settings, self.has_backbone)

    def enter(self, stage: Stage) -> None:  # with an optimizer of its own
        self.stage = stage
        if self.has_backbone:
            architectures.train_backbone(self.network, not stage.is_frozen)
        self.trainer = _build_trainer(self.network, self.settings.smallest_side != max(SIDES))
        loss, metrics, counts = "categorical_crossentropy", ["accuracy"], None
        if self.second_head:
            loss, metrics = (dict.fromkeys(HEADS, value) for value in (loss, metrics))
            counts = dict(zip(HEADS, (self.settings.labels_weight, 1.0), strict=True))
        optimizer = build_optimizer(self.settings, stage, len(self.batches(stage.start)))
        optimizer.build(self.trainer.trainable_variables)
        goals = {"loss": loss, "loss_weights": counts, "weighted_metrics": metrics}
        self.trainer.compile(optimizer=optimizer, **goals)

    def variables(self) -> list[keras.Variable]:  # all there is to keep
        return [*self.trainer.variables, *self.trainer.optimizer.variables]

    def train_epoch(
        self, epoch: int, accuracies: Sequence[float], on_batch: Callable | None = None
    ) -> dict[str, float]:
        """Show every image once; `accuracies` are those on validation in this stage so far."""
        if self.settings.schedule == "plateau":
            rate = rate_on_plateau(self.settings, self.stage, accuracies)
            self.trainer.optimizer.learning_rate = rate
        return run_epoch(self.trainer.train_on_batch, self.batches(epoch), on_batch)

    def batches(self, epoch: int) -> FaceBatches:
        settings, multiple = self.settings, batch_multiple(self.settings.architecture)
        size = max(settings.batch_size // multiple, 1) * multiple
        side, images = side_of(settings, epoch), self.training.images
        changes = settings.augmentation, settings.mixup, multiple, side, settings.smiles
        changes = *changes, self.training.class_names
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


def plan_stages(settings: TrainingSettings, has_backbone: bool) -> tuple[Stage, ...]:
    """Return the stages of a run: one, or two where it starts from weights of ImageNet."""
    rate, weights = settings.rate(), settings.starting_weights()
    frozen = min(settings.frozen_epochs, settings.epochs)
    from_imagenet = has_backbone and (weights == "imagenet" or weights.endswith(".h5"))
    if not (from_imagenet and frozen):
        return (Stage(0, settings.epochs, rate),)
    tuned = Stage(frozen, settings.epochs, rate * settings.fine_tuning_rate)
    return (Stage(0, frozen, rate, is_frozen=True), tuned)[: 1 + (frozen < settings.epochs)]


def side_of(settings: TrainingSettings, epoch: int) -> int:
    """Return the side in pixels of the faces in an epoch from 0: progressive resizing."""
    sides = SIDES[SIDES.index(settings.smallest_side) :]
    return sides[min(epoch * len(sides) // settings.epochs, len(sides) - 1)]


def build_optimizer(
    settings: TrainingSettings, stage: Stage, steps: int
) -> keras.optimizers.Optimizer:
    """Return the optimizer of a stage with so many steps an epoch.

    The weight decay is decoupled (Loshchilov and Hutter 2019) and spares biases and normalisation;
    the cosine is theirs too (2017), the average of the weights Polyak and Juditsky's (1992).
    """
    if settings.schedule == "plateau":
        rate = rate_on_plateau(settings, stage, ())  # a number, which each epoch sets anew
    else:
        warmup_steps = round(_warmup_epochs(settings, stage) * steps)
        rate = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup_steps else stage.highest_rate,
            decay_steps=max(1, (stage.end - stage.start) * steps - warmup_steps),
            alpha=1.0 if settings.schedule == "constant" else 0.0,  # a cosine that stays at its top
            warmup_target=stage.highest_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
    options = {"weight_decay": settings.weight_decay, "use_ema": settings.averaging > 0}
    options["ema_momentum"] = settings.averaging
    if settings.optimizer == "adam":
        optimizer = keras.optimizers.AdamW(rate, **options)
    else:
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, **options)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    if settings.resolved_precision() == "mixed_float16":
        return keras.optimizers.LossScaleOptimizer(optimizer)
    return optimizer


def rate_on_plateau(settings: TrainingSettings, stage: Stage, accuracies: Sequence[float]) -> float:
    """Return the learning rate of the epoch that follows on a stage's validation accuracies."""
    warmth = min(1.0, (len(accuracies) + 1) / (_warmup_epochs(settings, stage) + 1))
    wait = max(1, settings.patience // PATIENCE_SHARE)
    factor, best, still = 1.0, float("-inf"), 0
    for accuracy in accuracies:
        still = 0 if accuracy > best else still + 1
        best = max(best, accuracy)
        if still == wait:
            factor, still = factor * PLATEAU_FACTOR, 0
    return stage.highest_rate * warmth * factor


def _warmup_epochs(settings: TrainingSettings, stage: Stage) -> float:
    """Return for how many epochs the rate rises: half of the stage at most."""
    return min(settings.warmup_epochs, (stage.end - stage.start) / 2)


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
