import csv
import shlex
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from training_data import make_dataset

import emotion_model_training
from emotion.errors import TrainingError
from emotion.training import tuning, tuning_report
from emotion.training.settings import TrainingSettings, settings_from
from emotion.training.tuning import tune
from emotion.training.tuning_report import tuning_lines, winner_command, write_tuning

SEARCHED = (
    "learning_rate optimizer weight_decay label_smoothing augmentation mixup batch_size schedule"
).split()


class Killed(BaseException):
    """Stands for `kill -9`: nothing may catch it."""


class StandIn:
    """Stands for `fit`: the accuracy follows from the settings; nothing is trained.

    It dies in `die_in`, a call counted from 1 and its epoch; a run diverges if `fail(settings)`.
    """

    def __init__(self, die_in: tuple[int, int] | None = None):
        self.runs, self.die_in, self.fail = [], die_in, lambda settings: False

    def __call__(self, dataset, settings, verbose, on_epoch):
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
        return SimpleNamespace(history=tuple(history), selected_epoch=settings.epochs)

    def settings(self) -> list[dict]:
        """Return what was searched in each run."""
        return [{name: getattr(settings, name) for name in SEARCHED} for settings, _ in self.runs]


def score(settings: TrainingSettings) -> float:
    """Return an accuracy whose best settings are known: adam at its rate, strong augmentation."""
    distance = abs(np.log10(settings.rate() / (1e-3 if settings.optimizer == "adam" else 0.1)))
    bonuses = {"none": 0, "light": 0.05, "standard": 0.1, "photo": 0.1, "strong": 0.15}
    bonus = bonuses[settings.augmentation]
    return 0.6 + bonus + 0.1 * (settings.optimizer == "adam") - 0.1 * distance


@pytest.fixture
def fit(monkeypatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(tuning, "fit", stand_in)
    # there is nothing to clear, and it takes a third of a second
    monkeypatch.setattr(tuning.keras.utils, "clear_session", lambda: None)
    return stand_in


@pytest.fixture
def settings(tmp_path) -> TrainingSettings:
    return TrainingSettings(
        epochs=4, runs=str(tmp_path / "a run"), name="test", precision="float32"
    )


@pytest.fixture(scope="module")
def data():
    return make_dataset(train=35, validation=14, test=14)


def test_starts_from_the_given_settings_finds_better_ones_and_stops_bad_trials(fit, settings, data):
    result = tune(data, settings, 24)
    given = {name: getattr(settings, name) for name in SEARCHED} | {"learning_rate": 0.1}
    assert fit.settings()[0] == given
    assert [trial.number for trial in result.trials] == list(range(1, 25))
    best = result.best
    assert best.accuracy == max(t.accuracy for t in result.trials if t.state == "complete")
    assert best.accuracy > score(settings) + 0.1
    assert best.settings["optimizer"] == "adam"
    assert sum(result.importances.values()) == pytest.approx(1)
    assert set(list(result.importances)[:2]) & {"optimizer", "augmentation"}
    assert set(result.importances) == set(SEARCHED)
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert pruned
    assert all(trial.number > 4 and trial.epochs < settings.epochs for trial in pruned)


@pytest.mark.parametrize("killed_in", [(1, 2), (9, 1)])
def test_killed_search_goes_on_as_if_it_had_not_been(fit, settings, data, monkeypatch, killed_in):
    whole = tune(data, replace(settings, runs=f"{settings.runs}_whole"), 10)
    asked = fit.settings()
    again, retried = StandIn(killed_in), killed_in[0]
    monkeypatch.setattr(tuning, "fit", again)
    with pytest.raises(Killed):
        tune(data, settings, 10)
    resumed = tune(data, settings, 10)
    assert again.runs[retried - 1][0] == again.runs[retried][0], "with its name, so its checkpoint"
    assert [row for n, row in enumerate(again.settings()) if n != retried] == asked
    assert [replace(trial, seconds=0) for trial in resumed.trials] == [
        replace(trial, seconds=0) for trial in whole.trials
    ]


def test_finished_search_trains_nothing_can_be_extended_and_is_no_other(fit, settings, data):
    first = tune(data, settings, 3)
    assert tune(data, settings, 3).trials == first.trials
    assert len(fit.runs) == 3
    assert tune(data, settings, 5).trials[:3] == first.trials
    assert len(fit.runs) == 5
    with pytest.raises(TrainingError, match="epochs 4; received 5"):
        tune(data, replace(settings, epochs=5), 5)
    with pytest.raises(TrainingError, match=r"other data.*--name"):
        tune(data.where(np.arange(len(data)) != 3), settings, 5)
    tuning.study_folder(settings).joinpath("trials.db").write_bytes(b"no database" * 1000)
    with pytest.raises(TrainingError, match=r"not a database.*delete"):
        tune(data, settings, 5)


def test_diverged_trial_does_not_end_the_search(fit, settings, data):
    fit.fail = lambda chosen: chosen.name.endswith("002")
    said = []
    result = tune(data, settings, 3, said.append)
    failed = result.trials[1]
    assert (failed.state, failed.accuracy, failed.epochs) == ("failed", None, 0)
    assert "finite loss" in said[1]
    assert tuning_lines(result)
    write_tuning(result)
    fit.fail = lambda chosen: True  # the first one ends it
    with pytest.raises(TrainingError, match="finite loss"):
        tune(data, replace(settings, name="another"), 3)


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0.9, "batch_size": 20, "mixup": 0.8, "label_smoothing": 0.5}
        | {"dataset": ("a b/fer2013.csv", "it's $HOME"), "votes": "new votes.csv"},
        {"learning_rate": 1e-5, "weight_decay": 0.2, "optimizer": "adam"}
        | {"contempt": True, "teachers": ("models/one", "models/two"), "teacher_share": 0.5},
        {"weight_decay": 1e-6, "schedule": "constant", "augmentation": "none"}
        | {"subject_pattern": r"-^(S\d+)_ *", "name": "über; rm -rf", "averaging": 0.999},
    ],
    ids=["first", "second", "third"],
)
def test_space_holds_the_given_settings_and_the_command_trains_with_equal_ones(
    fit, settings, data, change
):
    settings = replace(settings, **change)
    result = tune(data, settings, 2)
    first = replace(fit.runs[0][0], name=settings.name)
    assert first == replace(settings, learning_rate=settings.rate())
    words = shlex.split(winner_command(result))
    assert words[:3] == ["python3", "run.py", "train"]
    options = emotion_model_training.build_parser().parse_args(["train", *words[3:]])
    assert settings_from(options) == result.winning_settings
    assert result.winning_settings == replace(settings, **result.best.settings)


def test_table_and_picture_are_written(fit, settings, data, capfd, recwarn, monkeypatch):
    said = []
    result = tune(data, settings, 8, said.append)
    assert capfd.readouterr() == ("", ""), "nothing is said by Optuna"
    assert not recwarn.list
    monkeypatch.setattr(tuning_report, "SHOWN_TRIALS", 5)
    lines = tuning_lines(result)
    table = lines[: lines.index("and 3 more")]
    assert len(table) == 6
    assert f"{result.best.accuracy:.2%}" in table[1]
    assert lines[-1].strip() == winner_command(result)
    assert len(said) == 8
    assert max(map(len, (*said, *table))) <= 110
    assert f"{score(settings):.2%}" in said[0]
    assert not list(settings.run_folder().parent.glob("test_trial*")), "kept only while unfinished"
    assert all(seen.split_names() == ("train", "validation") for _, seen in fit.runs)
    picture = write_tuning(result)
    assert picture.read_bytes()[:4] == b"\x89PNG"
    with picture.with_name("trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    accuracies = [trial.accuracy for trial in result.trials]
    assert [float(row["validation_accuracy"]) for row in rows] == accuracies
    assert set(SEARCHED) < set(rows[0])
