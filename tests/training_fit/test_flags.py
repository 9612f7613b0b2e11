import argparse
from dataclasses import fields

import pytest

from emotion.errors import TrainingError
from emotion.training.settings import (
    ALL,
    TrainingSettings,
    add_flags,
    settings_from,
    shown,
)


def parse(*arguments: str, names=ALL) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_flags(parser, names)
    return parser.parse_args(arguments)


def test_without_flags_the_table_decides():
    assert vars(parse()) == {}
    assert settings_from(parse()) == TrainingSettings()


def test_each_kind_of_flag():
    for arguments, name, value in (
        (["--dataset", "a.csv", "b"], "dataset", ("a.csv", "b")),
        (["--contempt"], "contempt", True),
        (["--batch-size", "16"], "batch_size", 16),
        (["--mixup", "0.2"], "mixup", 0.2),
        (["--votes-as", "blend"], "votes_as", "blend"),
        (["--subject-pattern", r"p\d+"], "subject_pattern", r"p\d+"),
    ):
        assert getattr(settings_from(parse(*arguments)), name) == value


def test_command_line_wins_over_the_card_and_the_card_over_the_table():
    card = {"seed": 3, "validation_share": 0.05}
    settings = settings_from(parse("--seed", "5"), card)
    assert (settings.seed, settings.validation_share) == (5, 0.05)
    assert settings.epochs == TrainingSettings().epochs


def test_wrong_usage(capsys):
    for arguments in (["--epochs", "x"], ["--votes-as", "x"], ["--dataset"]):
        with pytest.raises(SystemExit):
            parse(*arguments)
        assert arguments[0] in capsys.readouterr().err


def test_help_tells_meaning_and_default(monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    parser = argparse.ArgumentParser()
    add_flags(parser, ALL)
    text = parser.format_help()
    for setting in fields(TrainingSettings):
        assert f"{setting.metadata['help']} (default: {shown(setting.default)})" in text


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
        ({"mixup": -1.0}, "received -1.0"),
    ],
)
def test_values_out_of_range(change, message):
    with pytest.raises(TrainingError, match=message):
        TrainingSettings(**change)


def test_what_follows_from_other_settings():
    for change, rate in (
        ({}, 0.1),
        ({"optimizer": "adam"}, 0.001),
        ({"learning_rate": 0.02}, 0.02),
    ):
        assert TrainingSettings(**change).rate() == rate
    for change, weights in (
        ({}, "none"),
        ({"architecture": "vgg16"}, "imagenet"),
        ({"architecture": "vgg16", "weights": "none"}, "none"),
        ({"weights": "models/x"}, "models/x"),
    ):
        assert TrainingSettings(**change).starting_weights() == weights


@pytest.mark.parametrize(
    ("flags", "precision"),
    [("flags: sse avx512_bf16", "mixed_bfloat16"), ("flags: sse avx2", "float32")],
)
def test_precision_of_the_processor(flags, precision, monkeypatch, tmp_path):
    described = tmp_path / "cpuinfo"
    described.write_text(flags)
    monkeypatch.setattr("emotion.training.settings.CPU_DESCRIPTION", described)
    assert TrainingSettings().resolved_precision() == precision
    described.unlink()
    assert TrainingSettings().resolved_precision() == "float32"
    assert TrainingSettings(precision="float32").resolved_precision() == "float32"


def test_a_resumed_run_may_differ_in_places_but_not_in_what_shapes_it():
    settings = TrainingSettings()
    moved = TrainingSettings(
        models="m", overwrite=True, runs="r", tensorboard="t", patience=3, dataset=("d",)
    )
    assert settings.shaping() == moved.shaping()
    assert settings.shaping() != TrainingSettings(mixup=0.2).shaping()
    plateaus = [TrainingSettings(schedule="plateau", patience=count) for count in (3, 4)]
    assert plateaus[0].shaping() != plateaus[1].shaping()
