import argparse
import re
from dataclasses import replace

import keras
import numpy as np
import pytest

from emotion.errors import TrainingError
from emotion.training.fitting import fitting
from emotion.training.settings import (
    ALL,
    TrainingSettings,
    add_flags,
    flag_of,
    read_settings,
    settings_from,
    write_settings,
)

SETTINGS = TrainingSettings(epochs=10, warmup_epochs=2, learning_rate=0.1, precision="float32")
WHOLE = fitting.Stage(0, 10, 0.1)


def test_command_line_wins_over_the_card_and_the_card_over_the_table():
    parser = argparse.ArgumentParser()
    add_flags(parser, ALL)
    nothing = parser.parse_args([])
    assert vars(nothing) == {}
    assert settings_from(nothing) == TrainingSettings()
    card = {"seed": 3, "validation_share": 0.05}
    settings = settings_from(parser.parse_args(["--seed", "5"]), card)
    assert (settings.seed, settings.validation_share, settings.epochs) == (5, 0.05, 40)
    words = "--dataset a.csv b --contempt --batch-size 16 --mixup 0.2 --votes-as blend"
    expected = {"batch_size": 16, "mixup": 0.2, "votes_as": "blend", "contempt": True}
    settings = settings_from(parser.parse_args(words.split()))
    assert settings == TrainingSettings(("a.csv", "b"), **expected)


def test_a_file_of_settings_says_what_flags_do(tmp_path):
    path, parser = tmp_path / "run.toml", argparse.ArgumentParser()
    add_flags(parser, ALL)

    def read(*flags):
        return settings_from(parser.parse_args([*read_settings(path), *flags]))

    settings = TrainingSettings(("a", "über"), mixup=1e-05, contempt=True, subject_pattern="-\\d")
    write_settings(path, settings)
    assert read() == settings
    assert read("--mixup", "0", "--dataset", "b") == replace(settings, mixup=0.0, dataset=("b",))
    path.write_text("batch-size = 64\nmixup = 1\ndataset = 'x'\ncontempt = false")
    assert read() == TrainingSettings(("x",), batch_size=64, mixup=1.0)
    path.write_text("epochs: 1")
    for wrong in (path, tmp_path / "absent"):
        with pytest.raises(TrainingError, match=f"batch_size = 64.*{wrong.name}"):
            read_settings(wrong)


def test_values_out_of_range():
    wrong = {"epochs": 0, "fold": 6, "folds": 1, "blocks": 6, "smallest_side": 30, "dataset": ()}
    wrong |= {"averaging": 1.0, "fine_tuning_rate": 0.0, "mixup": -1.0}
    for name, value in (wrong | {"subject_pattern": "(", "architecture": "vgg19"}).items():
        pattern = rf"{flag_of(name)} .*received {re.escape(repr(value))}"
        with pytest.raises(TrainingError, match=pattern):
            TrainingSettings(**{name: value})


def test_what_follows_from_other_settings(monkeypatch, tmp_path):
    for change, rate, weights in (
        ({}, 0.1, "none"),
        ({"optimizer": "adam", "architecture": "vgg16"}, 0.001, "imagenet"),
        ({"learning_rate": 0.02, "architecture": "vgg16", "weights": "none"}, 0.02, "none"),
        ({"weights": "models/x"}, 0.1, "models/x"),
        ({"batch_size": 32}, 0.025, "none"),
        ({"batch_size": 256}, 0.1, "none"),
        ({"batch_size": 32, "optimizer": "adam"}, 0.0005, "none"),
    ):
        settings = TrainingSettings(**change)
        assert (round(settings.rate(), 9), settings.starting_weights()) == (rate, weights)
    described = tmp_path / "cpuinfo"
    monkeypatch.setattr("emotion.training.settings.CPU_DESCRIPTION", described)
    assert TrainingSettings().resolved_precision() == "float32", "not Linux"
    for text, auto in (("sse avx512_bf16", "mixed_bfloat16"), ("sse avx2", "float32")):
        described.write_text(f"flags: {text}")
        assert TrainingSettings().resolved_precision() == auto
        assert TrainingSettings(architecture="mini_xception").resolved_precision() == "float32"
        assert TrainingSettings(precision="float32").resolved_precision() == "float32"


@pytest.mark.parametrize(("schedule", "last"), [("cosine", 0.0), ("constant", 0.1)])
def test_rate_warms_up_and_ends(schedule, last):
    def rates(stage: fitting.Stage) -> list[float]:
        settings, found = replace(SETTINGS, schedule=schedule), []
        optimizer = fitting.build_optimizer(settings, stage, 4)
        for step in range((stage.end - stage.start) * 4 + 1):
            optimizer._iterations.assign(step)
            found.append(float(keras.ops.convert_to_numpy(optimizer.learning_rate)))
        return found

    found = rates(WHOLE)
    np.testing.assert_allclose(found[:9], np.linspace(0, 0.1, 9), atol=1e-6)
    middle = 0.05 if schedule == "cosine" else 0.1
    assert [found[24], found[40]] == pytest.approx([middle, last], abs=1e-6)
    second = rates(fitting.Stage(3, 10, 0.01))
    assert [second[8], second[28]] == pytest.approx([0.01, last / 10], abs=1e-6)


def test_rate_falls_where_validation_stands_still():
    settings = replace(SETTINGS, schedule="plateau", patience=6, warmup_epochs=0)
    for accuracies, factor in (
        ([0.3, 0.5, 0.4], 1),
        ([0.3, 0.5, 0.4, 0.5], 0.2),
        ([0.3, 0.5, 0.4, 0.5, 0.4, 0.6], 0.2),
        ([0.3, 0.5, 0.4, 0.5, 0.4, 0.5], 0.04),
    ):
        assert fitting.rate_on_plateau(settings, WHOLE, accuracies) == pytest.approx(0.1 * factor)
    settings = replace(SETTINGS, schedule="plateau", warmup_epochs=2)
    found = [fitting.rate_on_plateau(settings, WHOLE, np.arange(count) / 10) for count in range(4)]
    np.testing.assert_allclose(found, [0.1 / 3, 0.2 / 3, 0.1, 0.1])


def test_stages():
    whole = [fitting.Stage(0, 10, 0.1)]
    two = [fitting.Stage(0, 3, 0.1, True), fitting.Stage(3, 10, 0.01)]
    for change, has_backbone, expected in (
        ({"weights": "imagenet"}, False, whole),
        ({"weights": "none"}, True, whole),
        ({"frozen_epochs": 0, "weights": "imagenet"}, True, whole),
        ({"weights": "some/file.h5"}, True, two),
        ({"weights": "imagenet", "frozen_epochs": 10}, True, [fitting.Stage(0, 10, 0.1, True)]),
        ({"architecture": "vgg16"}, True, two),
    ):
        stages = fitting.plan_stages(replace(SETTINGS, **change), has_backbone)
        assert [replace(s, highest_rate=round(s.highest_rate, 9)) for s in stages] == expected


def test_optimizers():
    optimizer = fitting.build_optimizer(replace(SETTINGS, precision="mixed_float16"), WHOLE, 4)
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    for name in ("sgd", "adam"):
        settings = replace(SETTINGS, optimizer=name, weight_decay=0.5, warmup_epochs=0)
        parts = ("kernel", "bias", "gamma", "beta")
        variables = [keras.Variable(np.ones(3, np.float32), name=part) for part in parts]
        optimizer = fitting.build_optimizer(settings, WHOLE, 4)
        optimizer.apply_gradients([(keras.ops.zeros(3), variable) for variable in variables])
        values = [float(variable.numpy()[0]) for variable in variables]
        assert values == [pytest.approx(0.95), 1, 1, 1], "biases and normalisation are spared"
