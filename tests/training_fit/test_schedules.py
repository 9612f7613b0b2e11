from dataclasses import replace

import keras
import numpy as np
import pytest

from emotion.training.fitting.schedules import (
    Stage,
    build_optimizer,
    plan_stages,
    rate_on_plateau,
    side_of,
)
from emotion.training.settings import TrainingSettings

SETTINGS = TrainingSettings(epochs=10, warmup_epochs=2, learning_rate=0.1, precision="float32")
WHOLE = Stage(0, 10, 0.1)


@pytest.mark.parametrize(("schedule", "last"), [("cosine", 0.0), ("constant", 0.1)])
def test_rate_warms_up_and_ends(schedule, last):
    def rates(stage: Stage) -> list[float]:
        optimizer, found = build_optimizer(replace(SETTINGS, schedule=schedule), stage, 4), []
        for step in range((stage.end - stage.start) * 4 + 1):
            optimizer._iterations.assign(step)
            found.append(float(keras.ops.convert_to_numpy(optimizer.learning_rate)))
        return found

    found = rates(WHOLE)
    np.testing.assert_allclose(found[:9], np.linspace(0, 0.1, 9), atol=1e-6)
    middle = 0.05 if schedule == "cosine" else 0.1
    assert [found[24], found[40]] == pytest.approx([middle, last], abs=1e-6)
    second = rates(Stage(3, 10, 0.01))
    assert [second[8], second[28]] == pytest.approx([0.01, last / 10], abs=1e-6)


def test_rate_falls_where_validation_stands_still():
    settings = replace(SETTINGS, schedule="plateau", patience=6, warmup_epochs=0)
    for accuracies, factor in (
        ([0.3, 0.4, 0.5], 1),
        ([0.3, 0.5, 0.4], 1),
        ([0.3, 0.5, 0.4, 0.5], 0.2),
        ([0.3, 0.5, 0.4, 0.5, 0.4, 0.6], 0.2),
        ([0.3, 0.5, 0.4, 0.5, 0.4, 0.5], 0.04),
    ):
        assert rate_on_plateau(settings, WHOLE, accuracies) == pytest.approx(0.1 * factor)
    settings = replace(SETTINGS, schedule="plateau", warmup_epochs=2)
    found = [rate_on_plateau(settings, WHOLE, np.arange(count) / 10) for count in range(4)]
    np.testing.assert_allclose(found, [0.1 / 3, 0.2 / 3, 0.1, 0.1])


def test_stages():
    whole, two = [Stage(0, 10, 0.1)], [Stage(0, 3, 0.1, True), Stage(3, 10, 0.01)]
    for change, has_backbone, expected in (
        ({}, False, whole),
        ({"weights": "none"}, True, whole),
        ({"weights": "models/saved"}, True, whole),
        ({"frozen_epochs": 0, "weights": "imagenet"}, True, whole),
        ({"weights": "imagenet"}, True, two),
        ({"weights": "some/file.h5"}, True, two),
        ({"weights": "imagenet", "frozen_epochs": 10}, True, [Stage(0, 10, 0.1, True)]),
        ({"architecture": "vgg16"}, True, two),
    ):
        stages = plan_stages(replace(SETTINGS, **change), has_backbone)
        assert [replace(s, highest_rate=round(s.highest_rate, 9)) for s in stages] == expected


def test_optimizers():
    for change, expected in (
        ({}, {"nesterov": True, "momentum": 0.9, "use_ema": False}),
        ({"optimizer": "adam"}, {"beta_1": 0.9}),
        ({"averaging": 0.99}, {"use_ema": True, "ema_momentum": 0.99}),
        ({"weight_decay": 0.01}, {"weight_decay": 0.01}),
    ):
        config = build_optimizer(replace(SETTINGS, **change), WHOLE, 4).get_config()
        assert {key: config[key] for key in expected} == expected
    optimizer = build_optimizer(replace(SETTINGS, precision="mixed_float16"), WHOLE, 4)
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    for name in ("sgd", "adam"):
        settings = replace(SETTINGS, optimizer=name, weight_decay=0.5, warmup_epochs=0)
        variables = [
            keras.Variable(np.ones(3, np.float32), name=part)
            for part in ("kernel", "bias", "gamma", "beta")
        ]
        optimizer = build_optimizer(settings, WHOLE, 4)
        optimizer.apply_gradients([(keras.ops.zeros(3), variable) for variable in variables])
        values = [float(variable.numpy()[0]) for variable in variables]
        assert values == [pytest.approx(0.95), 1, 1, 1], "biases and normalisation are spared"


def test_faces_grow_to_the_side_that_is_served():
    for smallest, expected in ((48, [48, 48]), (32, [32, 32, 40, 48]), (24, [24])):
        settings = TrainingSettings(smallest_side=smallest, epochs=len(expected))
        assert [side_of(settings, epoch) for epoch in range(len(expected))] == expected
