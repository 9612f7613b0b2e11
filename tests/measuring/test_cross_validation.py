import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from training_data import make_image

from emotion.errors import DatasetError, TrainingError
from emotion.labels import EMOTIONS
from emotion.training import cross_validation
from emotion.training.cross_validation import (
    cross_validate,
    cross_validation_lines,
    write_cross_validation,
)
from emotion.training.data.datasets import Dataset
from emotion.training.settings import TrainingSettings

FOLDS = 3


class Killed(BaseException):
    """Stands for `kill -9`: nothing may catch it."""


class StandIn:
    """Stands for `fit`: the network answers from the place of the bright square, mostly.

    Attributes:
        runs: (settings, dataset) of each call.
        die_in: the call, counted from 1, in which the process is killed.
    """

    def __init__(self):
        self.runs, self.die_in = [], None

    def __call__(self, dataset, settings, verbose="auto"):
        self.runs.append((settings, dataset))
        settings.run_folder().mkdir(parents=True)
        if self.die_in == len(self.runs):
            settings.run_folder().rmdir()
            raise Killed
        network = SimpleNamespace(predict_on_batch=answer)
        return SimpleNamespace(network=network, history=(), selected_epoch=settings.fold)


def answer(faces: np.ndarray) -> np.ndarray:
    """Return probabilities: wrong for faces whose first pixel is dark."""
    places = [(4 + 14 * (n // 3), 4 + 14 * (n % 3)) for n in range(7)]
    light = np.stack([faces[:, r : r + 10, c : c + 10, 0].mean((1, 2)) for r, c in places], axis=1)
    light[faces[:, 0, 0, 0] < 0.03] = light[faces[:, 0, 0, 0] < 0.03][:, ::-1]
    powers = np.exp(4 * light)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def fit(monkeypatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(cross_validation, "fit", stand_in)
    # there is nothing to clear, and it takes a third of a second
    monkeypatch.setattr(cross_validation.keras.utils, "clear_session", lambda: None)
    return stand_in


@pytest.fixture
def settings(tmp_path) -> TrainingSettings:
    runs = str(tmp_path / "runs")
    return TrainingSettings(folds=FOLDS, runs=runs, name="test", precision="float32")


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Return 30 people with every emotion each, in no split."""
    random = np.random.default_rng(5)
    labels = np.arange(210) % 7
    return Dataset(
        images=np.stack([make_image(label, random) for label in labels]),
        labels=labels,
        splits=np.array([""] * 210),
        class_names=EMOTIONS,
        names=np.array([f"{n}.png" for n in range(210)]),
        groups=np.array([f"S{n // 7:03d}" for n in range(210)]),
    )


def test_every_image_is_tested_once_and_nobody_stands_on_both_sides(fit, settings, data):
    result = cross_validate(data, settings)
    assert sorted(result.names) == sorted(data.names)
    rows = [int(name.removesuffix(".png")) for name in result.names]
    np.testing.assert_array_equal(result.images, data.images[rows])
    np.testing.assert_array_equal(result.pooled.labels, data.labels[rows])
    assert [fold.number for fold in result.folds] == [1, 2, 3]
    assert [fold.selected_epoch for fold in result.folds] == [1, 2, 3]
    tested = []
    for fold, (_, parts) in zip(result.folds, fit.runs, strict=True):
        people = {name: set(parts.split(name).groups) for name in parts.split_names()}
        assert set(people) == {"train", "validation", "test"}
        assert not people["test"] & (people["train"] | people["validation"])
        assert not people["train"] & people["validation"]
        tested += people["test"]
        # calibrated on validation
        plain = answer(parts.split("test").images[..., None] / np.float32(255))
        calibrated = fold.evaluation.probabilities
        np.testing.assert_array_equal(calibrated.argmax(axis=1), plain.argmax(axis=1))
        assert np.abs(calibrated - plain).max() > 0.01
        np.testing.assert_allclose(calibrated.sum(axis=1), 1)
    assert sorted(tested) == sorted(set(data.groups)), "each person in one fold"


def test_pictures_of_a_fold_are_not_learned_from(fit, settings, data):
    images = data.images.copy()
    images[100:107] = images[0:7]
    images[100:107, 0, 0] ^= 8  # stored otherwise
    cross_validate(replace(data, images=images, groups=None), settings)
    for _, parts in fit.runs:
        learned = set(parts.names[parts.splits != "test"])
        for name in parts.split("test").names:
            number = int(name.removesuffix(".png"))
            assert f"{number + 100}.png" not in learned or number >= 7


@pytest.mark.parametrize("killed_in", [1, 3])
def test_killed_run_goes_on(fit, settings, data, monkeypatch, killed_in):
    whole = cross_validate(data, replace(settings, runs=f"{settings.runs}_whole"))
    again = StandIn()
    again.die_in = killed_in
    monkeypatch.setattr(cross_validation, "fit", again)
    with pytest.raises(Killed):
        cross_validate(data, settings)
    result = cross_validate(data, settings)
    asked = [run.fold for run, _ in again.runs]
    assert asked == [*range(1, killed_in + 1), *range(killed_in, FOLDS + 1)]
    np.testing.assert_array_equal(result.pooled.probabilities, whole.pooled.probabilities)
    assert [replace(f, seconds=0, evaluation=None) for f in result.folds] == [
        replace(f, seconds=0, evaluation=None) for f in whole.folds
    ]


def test_folds_of_something_else_and_damaged_ones_are_refused(fit, settings, data):
    cross_validate(data, settings)
    for change, message in (
        ({"batch_size": 32}, "batch_size 128; received 32"),
        ({"mixup": 0.2}, "mixup 0.0; received"),
    ):
        with pytest.raises(TrainingError, match=rf"{message}.*delete .*test_fold1.json"):
            cross_validate(data, replace(settings, **change))
    with pytest.raises(TrainingError, match="other data"):
        cross_validate(replace(data, images=data.images ^ 1), settings)
    for content in ("", "{}", '{"identity": {}}', "[1]"):
        (settings.run_folder().parent / "test_fold2.json").write_text(content)
        with pytest.raises(TrainingError, match=r"test_fold2.json"):
            cross_validate(data, settings)


def test_too_few_people_are_a_sentence(fit, settings, data):
    few = data.where(np.arange(210) < 14)
    with pytest.raises(DatasetError, match="at least 3 people"):
        cross_validate(few, settings)


def test_lines_and_files_hold_every_figure(fit, settings, data, tmp_path):
    result = cross_validate(data, settings)
    accuracies = [fold.evaluation.accuracy for fold in result.folds]
    assert len(set(accuracies)) > 1
    assert result.mean("accuracy") == pytest.approx(np.mean(accuracies))
    assert result.deviation("accuracy") == pytest.approx(np.std(accuracies, ddof=1))
    right = sum(fold.evaluation.accuracy * len(fold.evaluation.labels) for fold in result.folds)
    assert 0.5 < result.pooled.accuracy < 1
    assert result.pooled.accuracy == pytest.approx(right / 210)
    lines = cross_validation_lines(result)
    assert max(map(len, lines)) <= 100
    assert len({len(line) for line in lines[: FOLDS + 1]}) == 1, "columns line up"
    assert f"± {result.deviation('macro_f1'):.3f}" in lines[FOLDS + 2]
    path = write_cross_validation(tmp_path / "new", result)
    content = json.loads(path.read_text())
    assert content["accuracy"] == {
        "mean": result.mean("accuracy"),
        "standard_deviation": result.deviation("accuracy"),
    }
    assert content["pooled"]["images"] == 210
    assert len(content["folds"]) == FOLDS
    with (path.parent / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    right = sum(row["true_class"] == row["answer"] for row in rows) / len(rows)
    assert right == pytest.approx(result.pooled.accuracy)
    assert rows[0]["name"] == result.names[0]
    for name in ("folds.csv", "confusion_matrix.png", "classification_report.csv"):
        assert (path.parent / name).stat().st_size > 50
