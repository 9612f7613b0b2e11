import csv
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from training_data import make_image

from emotion.errors import TrainingError
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
    """Stands for `fit`; `runs` has (settings, dataset) of each call, in number `die_in` it dies."""

    def __init__(self, die_in: int = 0):
        self.runs, self.die_in = [], die_in

    def __call__(self, dataset, settings):
        self.runs.append((settings, dataset))
        if self.die_in == len(self.runs):
            raise Killed
        settings.run_folder().mkdir(parents=True)
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
    return TrainingSettings(folds=FOLDS, runs=runs, name="v1.5", precision="float32")


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
    assert [(row["fold"], row["selected_epoch"]) for row in result.rows] == [(1, 1), (2, 2), (3, 3)]
    tested = []
    for evaluation, (_, parts) in zip(result.evaluations, fit.runs, strict=True):
        people = {name: set(parts.split(name).groups) for name in parts.split_names()}
        assert set(people) == {"train", "validation", "test"}
        assert not people["test"] & (people["train"] | people["validation"])
        assert not people["train"] & people["validation"]
        tested += people["test"]
        # calibrated on validation
        plain = answer(parts.split("test").images[..., None] / np.float32(255))
        calibrated = evaluation.probabilities
        np.testing.assert_array_equal(calibrated.argmax(axis=1), plain.argmax(axis=1))
        assert np.abs(calibrated - plain).max() > 0.01
        np.testing.assert_allclose(calibrated.sum(axis=1), 1)
    assert sorted(tested) == sorted(set(data.groups)), "each person in one fold"


@pytest.mark.parametrize("killed_in", [1, 3])
def test_killed_run_goes_on(fit, settings, data, monkeypatch, killed_in):
    whole = cross_validate(data, replace(settings, runs=f"{settings.runs}_whole"))
    again = StandIn(killed_in)
    monkeypatch.setattr(cross_validation, "fit", again)
    with pytest.raises(Killed):
        cross_validate(data, settings)
    result = cross_validate(data, settings)
    asked = [run.fold for run, _ in again.runs]
    assert asked == [*range(1, killed_in + 1), *range(killed_in, FOLDS + 1)]
    np.testing.assert_array_equal(result.pooled.probabilities, whole.pooled.probabilities)
    ours, theirs = ([row | {"seconds": 0} for row in one.rows] for one in (result, whole))
    assert ours == theirs


def test_folds_of_something_else_and_damaged_ones_are_refused(fit, settings, data):
    cross_validate(data, settings)
    with pytest.raises(TrainingError, match=r"mixup 0.0; received 0.2.*delete .*v1.5_fold1.json"):
        cross_validate(data, replace(settings, mixup=0.2))
    with pytest.raises(TrainingError, match="other data"):
        cross_validate(replace(data, images=data.images ^ 1), settings)
    kept = settings.run_folder().parent / "v1.5_fold2.json"
    whole = json.loads(kept.read_text())
    parts = (json.dumps(whole | {name: None}) for name in ("fold", "probabilities"))
    for content in ("", "{}", '{"identity": {}}', "[1]", *parts):
        kept.write_text(content)
        with pytest.raises(TrainingError, match=r"v1.5_fold2.json"):
            cross_validate(data, settings)


def test_lines_and_files_hold_every_figure(fit, settings, data, tmp_path):
    result = cross_validate(data, settings)
    accuracies = [evaluation.accuracy for evaluation in result.evaluations]
    assert len(set(accuracies)) > 1
    assert 0.5 < result.pooled.accuracy < 1
    lines = cross_validation_lines(result)
    assert max(map(len, lines)) <= 100
    assert len({len(line) for line in lines[: FOLDS + 1]}) == 1, "columns line up"
    assert f"± {np.std(accuracies, ddof=1):.2%}" in lines[FOLDS + 2]
    path = write_cross_validation(tmp_path / "new", result)
    content = json.loads(path.read_text())
    spread = {"mean": np.mean(accuracies), "standard_deviation": np.std(accuracies, ddof=1)}
    assert content["accuracy"] == pytest.approx(spread)
    assert content["pooled"]["images"] == 210
    assert len(content["folds"]) == FOLDS
    with (path.parent / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    right = sum(row["true_class"] == row["answer"] for row in rows) / len(rows)
    assert right == pytest.approx(result.pooled.accuracy)
    assert (rows[0]["name"], rows[0]["fold"], rows[-1]["fold"]) == (result.names[0], "1", "3")
    for name in ("folds.csv", "confusion_matrix.png", "classification_report.csv"):
        assert (path.parent / name).stat().st_size > 50
