"""Optimizers, learning rates and stages: what a step does to the weights, and when."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras

from emotion.training.settings import SIDES, TrainingSettings

PLATEAU_FACTOR = 0.2
PATIENCE_SHARE = 3  # the rate falls once validation stood still for the patience divided by this


@dataclass(frozen=True)
class Stage:
    """Epochs that share one optimizer."""

    start: int  # the first epoch, counted from 0
    end: int  # the epoch after the last
    highest_rate: float  # after the warm-up
    is_frozen: bool = False  # weights from ImageNet stay as they are


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
