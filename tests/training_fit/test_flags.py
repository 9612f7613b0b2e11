import argparse

import pytest

from emotion.errors import TrainingError
from emotion.training.settings import ALL, TrainingSettings, add_flags, settings_from


def test_command_line_wins_over_the_card_and_the_card_over_the_table():
    parser = argparse.ArgumentParser()
    add_flags(parser, ALL)
    nothing = parser.parse_args([])
    assert vars(nothing) == {}
    assert settings_from(nothing) == TrainingSettings()
    card = {"seed": 3, "validation_share": 0.05}
    settings = settings_from(parser.parse_args(["--seed", "5"]), card)
    assert (settings.seed, settings.validation_share, settings.epochs) == (5, 0.05, 40)
    for arguments, name, value in (
        (["--dataset", "a.csv", "b"], "dataset", ("a.csv", "b")),
        (["--contempt"], "contempt", True),
        (["--batch-size", "16"], "batch_size", 16),
        (["--mixup", "0.2"], "mixup", 0.2),
        (["--votes-as", "blend"], "votes_as", "blend"),
        (["--subject-pattern", r"p\d+"], "subject_pattern", r"p\d+"),
    ):
        assert getattr(settings_from(parser.parse_args(arguments)), name) == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs at least 1"),
        ({"fold": 6}, r"folds \(5\)"),
        ({"folds": 1}, "folds at least 2"),
        ({"subject_pattern": "("}, "regular expression"),
        ({"dataset": ()}, "at least one"),
        ({"blend": 1.5}, "blend from 0"),
        ({"averaging": 1.0}, "below 1"),
        ({"teacher_temperature": 0.0}, "above 0"),
        ({"architecture": "vgg19"}, "one of"),
        ({"smallest_side": 30}, "24"),
        ({"mixup": -1.0}, "received -1.0"),
    ],
)
def test_values_out_of_range(change, message):
    with pytest.raises(TrainingError, match=message):
        TrainingSettings(**change)


def test_what_follows_from_other_settings(monkeypatch, tmp_path):
    for change, rate, weights in (
        ({}, 0.1, "none"),
        ({"optimizer": "adam", "architecture": "vgg16"}, 0.001, "imagenet"),
        ({"learning_rate": 0.02, "architecture": "vgg16", "weights": "none"}, 0.02, "none"),
        ({"weights": "models/x"}, 0.1, "models/x"),
    ):
        settings = TrainingSettings(**change)
        assert (settings.rate(), settings.starting_weights()) == (rate, weights)
    described = tmp_path / "cpuinfo"
    monkeypatch.setattr("emotion.training.settings.CPU_DESCRIPTION", described)
    assert TrainingSettings().resolved_precision() == "float32", "not Linux"
    for text, auto in (
        ("flags: sse avx512_bf16", "mixed_bfloat16"),
        ("flags: sse avx2", "float32"),
    ):
        described.write_text(text)
        assert TrainingSettings().resolved_precision() == auto
        assert TrainingSettings(precision="float32").resolved_precision() == "float32"


def test_a_resumed_run_may_differ_in_places_but_not_in_what_shapes_it():
    settings = TrainingSettings()
    moved = TrainingSettings(
        models="m", overwrite=True, runs="r", tensorboard="t", patience=3, dataset=("d",)
    )
    assert settings.shaping() == moved.shaping() != TrainingSettings(mixup=0.2).shaping()
    plateaus = [TrainingSettings(schedule="plateau", patience=count) for count in (3, 4)]
    assert plateaus[0].shaping() != plateaus[1].shaping()
