"""Training again and again: on each fold of a dataset, and with other settings."""

import json
import shlex
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from training_data import Killed, make_dataset, read_csv

import emotion_model_training
from emotion.errors import TrainingError
from emotion.training import cross_validation, tuning
from emotion.training.cross_validation import cross_validate
from emotion.training.settings import TrainingSettings, settings_from
from emotion.training.tuning import tune

FOLDS = 3
BONUSES = {"none": 0, "light": 0.05, "standard": 0.1, "photo": 0.1, "strong": 0.15}
DATA = make_dataset(train=35, validation=14, test=14)
PEOPLE = replace(  # 30, with every emotion each, in no split
    make_dataset(train=210, validation=0, test=0),
    splits=np.array([""] * 210),
    names=np.array([f"{n}.png" for n in range(210)]),
    groups=np.array([f"S{n // 7:03d}" for n in range(210)]),
)


class StandIn:
    """Stands for `fit`; it dies in `die_in`, a call counted from 1 and its epoch, or fails."""

    def __init__(self):
        self.restart(None)
        self.fail = lambda settings: False

    def restart(self, die_in: tuple[int, int] | None) -> None:
        self.runs, self.die_in = [], die_in

    def __call__(self, dataset, settings, verbose=True, on_epoch=lambda row: None):
        self.runs.append((settings, dataset))
        if self.fail(settings):
            raise TrainingError("expected a finite loss in epoch 1; received nan")
        settings.run_folder().mkdir(parents=True, exist_ok=True)
        history = []
        for epoch in range(1, settings.epochs + 1):
            row = {"epoch": epoch, "val_accuracy": score(settings) * epoch / settings.epochs}
            history.append(row)
            on_epoch(row)
            if self.die_in == (len(self.runs), epoch):
                raise Killed
        network = SimpleNamespace(predict_on_batch=answer)
        return SimpleNamespace(network=network, history=tuple(history), selected_epoch=5)

    def searched(self) -> list[dict]:
        return [
            {name: getattr(settings, name) for name in tuning.SEARCHED} for settings, _ in self.runs
        ]


def score(settings: TrainingSettings) -> float:
    """Return an accuracy whose best settings are known: adam at its rate, strong augmentation."""
    distance = abs(np.log10(settings.rate() / (1e-3 if settings.optimizer == "adam" else 0.1)))
    bonus = BONUSES[settings.augmentation] + 0.1 * (settings.optimizer == "adam")
    return 0.6 + bonus - 0.1 * distance


def answer(faces: np.ndarray) -> np.ndarray:
    """Return probabilities: wrong for faces whose first pixel is dark."""
    places = [(4 + 14 * (n // 3), 4 + 14 * (n % 3)) for n in range(7)]
    light = np.stack([faces[:, r : r + 10, c : c + 10, 0].mean((1, 2)) for r, c in places], axis=1)
    light[faces[:, 0, 0, 0] < 0.03] = light[faces[:, 0, 0, 0] < 0.03][:, ::-1]
    powers = np.exp(4 * light)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def fit(monkeypatch) -> StandIn:
    # there is nothing to clear, and it takes a third of a second
    monkeypatch.setattr("keras.utils.clear_session", lambda: None)
    stand_in = StandIn()
    for module in (cross_validation, tuning):
        monkeypatch.setattr(module, "fit", stand_in)
    return stand_in


@pytest.fixture
def settings(tmp_path) -> TrainingSettings:
    where = {"runs": str(tmp_path / "a run"), "name": "v1.5"}
    return TrainingSettings(epochs=4, folds=FOLDS, precision="float32", **where)


def test_every_image_is_tested_once_and_nobody_stands_on_both_sides(fit, settings, tmp_path):
    rows, pooled = cross_validate(PEOPLE, settings)
    evaluation = pooled.evaluation
    assert sorted(pooled.names) == sorted(PEOPLE.names)
    places = [int(name.removesuffix(".png")) for name in pooled.names]
    np.testing.assert_array_equal(pooled.images, PEOPLE.images[places])
    np.testing.assert_array_equal(evaluation.labels, PEOPLE.labels[places])
    assert [(row["fold"], row["selected_epoch"]) for row in rows] == [(1, 5), (2, 5), (3, 5)]
    tested, ends = [], np.cumsum([row["test_images"] for row in rows])[:-1]
    folds = zip(np.split(evaluation.probabilities, ends), fit.runs, strict=True)
    for calibrated, (_, parts) in folds:
        people = {name: set(parts.split(name).groups) for name in parts.split_names()}
        assert set(people) == {"train", "validation", "test"}
        assert not people["test"] & (people["train"] | people["validation"])
        assert not people["train"] & people["validation"]
        tested += people["test"]
        plain = answer(parts.split("test").images[..., None] / np.float32(255))
        np.testing.assert_array_equal(calibrated.argmax(axis=1), plain.argmax(axis=1))
        assert np.abs(calibrated - plain).max() > 0.01, "calibrated on validation"
        np.testing.assert_allclose(calibrated.sum(axis=1), 1)
    assert sorted(tested) == sorted(set(PEOPLE.groups)), "each person in one fold"

    accuracies = [row["accuracy"] for row in rows]
    lines = cross_validation.cross_validation_lines(rows, pooled)
    assert f"± {np.std(accuracies, ddof=1):.2%}" in lines[FOLDS + 2]
    path = cross_validation.write_cross_validation(tmp_path / "new", rows, pooled)
    content = json.loads(path.read_text())
    spread = {"mean": np.mean(accuracies), "standard_deviation": np.std(accuracies, ddof=1)}
    assert content["accuracy"] == pytest.approx(spread)
    assert (content["pooled"]["images"], len(content["folds"])) == (210, FOLDS)
    predictions = read_csv(path.with_name("predictions.csv"))
    right = sum(row["label"] == row["answer"] for row in predictions) / len(predictions)
    assert right == pytest.approx(evaluation.accuracy)
    assert 0.5 < right < 1
    first, *_, last = predictions
    assert (first["file"], first["split"], last["split"]) == (pooled.names[0], "fold 1", "fold 3")
    for name in ("folds.csv", "confusion_matrix.png", "classification_report.csv"):
        assert path.with_name(name).stat().st_size > 50


def untimed(rows: list[dict]) -> list[dict]:
    return [row | {"seconds": 0} for row in rows]


@pytest.mark.parametrize("killed_in", [1, 3])
def test_killed_cross_validation_goes_on(fit, settings, killed_in):
    whole = cross_validate(PEOPLE, replace(settings, runs=f"{settings.runs}_whole"))
    fit.restart((killed_in, 2))
    with pytest.raises(Killed):
        cross_validate(PEOPLE, settings)
    resumed = cross_validate(PEOPLE, settings)
    asked = [run.fold for run, _ in fit.runs]
    assert asked == [*range(1, killed_in + 1), *range(killed_in, FOLDS + 1)]
    answers = (pooled.evaluation.probabilities for _, pooled in (resumed, whole))
    np.testing.assert_array_equal(*answers)
    assert untimed(resumed[0]) == untimed(whole[0])


def test_folds_of_something_else_and_damaged_ones_are_refused(fit, settings):
    cross_validate(PEOPLE, settings)
    with pytest.raises(TrainingError, match=r"mixup 0.0; received 0.2.*delete .*v1.5_fold1.json"):
        cross_validate(PEOPLE, replace(settings, mixup=0.2))
    with pytest.raises(TrainingError, match="other data"):
        cross_validate(replace(PEOPLE, images=PEOPLE.images ^ 1), settings)
    kept = settings.run_folder().parent / "v1.5_fold2.json"
    whole = json.loads(kept.read_text())
    parts = (json.dumps(whole | {name: None}) for name in ("fold", "probabilities"))
    for content in ("", "{}", '{"identity": {}}', "[1]", *parts):
        kept.write_text(content)
        with pytest.raises(TrainingError, match=r"v1.5_fold2.json"):
            cross_validate(PEOPLE, settings)


def test_finds_better_settings_and_stops_bad_trials(fit, settings, capfd, recwarn):
    said = []
    rows = tune(DATA, settings, 24, said.append)
    assert capfd.readouterr() == ("", ""), "nothing is said by Optuna"
    assert not recwarn.list
    given = {name: getattr(settings, name) for name in tuning.SEARCHED} | {"learning_rate": 0.1}
    assert fit.searched()[0] == given
    assert [row["trial"] for row in rows] == list(range(1, 25))
    best = max(row["validation_accuracy"] for row in rows if row["state"] == "complete")
    winner = tuning.winning_settings(settings, rows)
    assert score(winner) == best > score(settings) + 0.1
    assert winner.optimizer == "adam"
    pruned = [row for row in rows if row["state"] == "pruned"]
    assert pruned
    assert all(row["trial"] > 4 and row["epochs"] < settings.epochs for row in pruned)
    assert not list(settings.run_folder().parent.glob("v1.5_trial*")), "kept only while unfinished"
    assert all(seen.split_names() == ("train", "validation") for _, seen in fit.runs)

    lines = tuning.tuning_lines(settings, rows)
    assert len(said) == 24
    assert f"{best:.2%}" in lines[1]
    assert lines[-1].strip() == tuning.training_command(winner)
    assert f"{score(settings):.2%}" in said[0]
    written = read_csv(tuning.write_tuning(settings, rows))
    assert written == [{name: str(value) for name, value in row.items()} for row in rows]
    assert set(tuning.SEARCHED) < set(written[0])


@pytest.mark.parametrize("killed_in", [(1, 2), (9, 1)])
def test_killed_search_goes_on_as_if_it_had_not_been(fit, settings, killed_in):
    whole = tune(DATA, replace(settings, runs=f"{settings.runs}_whole"), 10)
    asked, retried = fit.searched(), killed_in[0]
    fit.restart(killed_in)
    with pytest.raises(Killed):
        tune(DATA, settings, 10)
    resumed = tune(DATA, settings, 10)
    assert fit.runs[retried - 1][0] == fit.runs[retried][0], "with its name, so its checkpoint"
    assert [row for n, row in enumerate(fit.searched()) if n != retried] == asked
    assert untimed(resumed) == untimed(whole)


def test_finished_search_trains_nothing_can_be_extended_and_is_no_other(fit, settings):
    first = tune(DATA, settings, 3)
    for trials in (3, 5):
        assert tune(DATA, settings, trials)[:3] == first
        assert len(fit.runs) == trials
    with pytest.raises(TrainingError, match="epochs 4; received 5"):
        tune(DATA, replace(settings, epochs=5), 5)
    with pytest.raises(TrainingError, match=r"other data.*--name"):
        tune(DATA.where(np.arange(len(DATA)) != 3), settings, 5)
    tuning.study_folder(settings).joinpath("trials.db").write_bytes(b"no database" * 1000)
    with pytest.raises(TrainingError, match=r"not a database.*delete"):
        tune(DATA, settings, 5)


def test_diverged_trial_does_not_end_the_search(fit, settings):
    fit.fail = lambda chosen: chosen.name.endswith("002")
    said = []
    rows = tune(DATA, settings, 3, said.append)
    failed = [rows[1][name] for name in ("state", "validation_accuracy", "epochs")]
    assert failed == ["failed", None, 0]
    assert "finite loss" in said[1]
    assert tuning.tuning_lines(settings, rows)
    tuning.write_tuning(settings, rows)
    fit.fail = lambda chosen: True  # the first one ends it
    with pytest.raises(TrainingError, match="finite loss"):
        tune(DATA, replace(settings, name="another"), 3)


def test_a_grid_tries_every_combination_once_and_goes_on(fit, settings):
    words = ["rate=0.1,0.01", "batch-size=64,20", "epochs=2,3"]
    grid = tuning.read_grid(words, settings)
    assert len(grid) == 8
    fit.restart((3, 1))
    fit.fail = lambda chosen: chosen.name.endswith("001")  # it need not be the last one
    with pytest.raises(Killed):
        tune(DATA, settings, 20, grid=grid)
    rows = tune(DATA, settings, 20, grid=grid)
    names = ("learning_rate", "batch_size", "epochs")
    assert [{name: row[name] for name in names} for row in rows] == grid
    assert {row["state"] for row in rows[1:]} == {"complete"}
    winner = tuning.winning_settings(settings, rows, grid)
    assert (winner.learning_rate, winner.epochs) == (0.1, 2), "no longer than the grid says"
    assert tuning.tuning_lines(settings, rows, grid)[0].split()[3:] == ["rate", "batch"]
    with pytest.raises(TrainingError, match="grid"):
        tune(DATA, settings, 20, grid=grid[1:])
    for word in ("rate", "rate=", "seed=1,2", "rats=1", "batch_size=0", "batch_size=a"):
        with pytest.raises(TrainingError, match=word.split("=")[0].replace("_", ".")):
            tuning.read_grid([word], settings)


def test_the_command_trains_with_the_settings_that_won(fit, settings):
    change = {"learning_rate": 1e-5, "batch_size": 20, "mixup": 0.8, "label_smoothing": 0.5}
    change |= {"dataset": ("a b/fer2013.csv", "it's $HOME"), "votes": "new votes.csv"}
    change |= {"weight_decay": 0.2, "optimizer": "adam", "contempt": True, "averaging": 0.999}
    change |= {"teachers": ("models/one", "models/two"), "schedule": "constant"}
    change |= {"subject_pattern": r"-^(S\d+)_ *", "name": "über; rm -rf", "limit": 9}
    settings = replace(settings, **change)
    winner = tuning.winning_settings(settings, tune(DATA, settings, 2))
    first = replace(fit.runs[0][0], name=settings.name)
    assert first == replace(settings, learning_rate=settings.rate())
    words = shlex.split(tuning.training_command(winner))
    assert words[:4] == ["python3", "run.py", "train", "distill"]
    assert (winner.epochs, winner.limit) == (40, 0), "the usual ones, not the search's few"
    options = emotion_model_training.build_parser().parse_args(words[3:])
    assert settings_from(options) == winner
