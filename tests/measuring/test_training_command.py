import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from narrow_networks import build_small
from training_data import make_dataset, write_folder

import emotion_model_training
from emotion.model.keras import ModelFiles, load_keras_model
from emotion.model.runtime import load_model
from emotion.training import commands
from emotion.training.networks.architectures import ARCHITECTURES


@pytest.fixture
def small_network(monkeypatch):
    monkeypatch.setitem(ARCHITECTURES, "cnn", build_small)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train once through the command; return (folder, exit code)."""
    folder = tmp_path_factory.mktemp("training")
    write_folder(folder / "data", make_dataset(validation=0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "cnn", build_small)
        code = emotion_model_training.main(command(folder))
    return folder, code


def command(folder: Path, *more: str) -> list[str]:
    paths = (
        "--dataset",
        f"{folder}/data",
        "--models",
        f"{folder}/models",
        "--runs",
        f"{folder}/runs",
    )
    return [*paths, "--epochs", "6", "--batch-size", "20", "--augmentation", "none", *more]


def test_writes_a_model_that_is_served(trained):
    folder, code = trained
    assert code == 0
    model = load_model(folder / "models" / "detection_model")
    assert (model.runtime, model.notes) == ("ONNX Runtime", ())
    test = make_dataset().split("test")
    faces = test.images[..., None].astype(np.float32) / 255
    keras_model = load_keras_model(ModelFiles(folder / "models" / "detection_model"))
    np.testing.assert_allclose(model.predict(faces), keras_model.predict_on_batch(faces), atol=1e-5)
    left = [path.name for path in (folder / "runs").iterdir()]
    assert left == [".cache"], "a finished run leaves nothing behind but the decoded data"


def test_card_tells_where_the_model_comes_from(trained):
    folder, _ = trained
    card = json.loads((folder / "models" / "detection_model.card.json").read_text())
    assert card["class_names"] == list(make_dataset().class_names)
    assert card["dataset"]["images"] == {"train": 126, "validation": 14, "test": 35}
    assert card["selection"]["epochs"] == 6
    assert card["calibration"]["temperature"] > 0
    assert set(card["metrics"]) == {"validation", "test"}
    assert card["settings"]["batch_size"] == 20
    assert card["dataset"]["name"] == "data"


def test_report_is_complete(trained):
    report = trained[0] / "models" / "detection_model_report"
    names = {str(path.relative_to(report)) for path in report.rglob("*.*")}
    for stem in ("confusion_matrix", "classification_report", "samples_right", "samples_wrong"):
        assert {f"test/{stem}.png", f"test/{stem}.csv"} <= names
    assert {"curves.png", "history.csv", "test/evaluation.json"} <= names
    assert len((report / "history.csv").read_text().splitlines()) == 7


def test_evaluate_repeats_the_figures_of_the_card(trained, capsys):
    folder, _ = trained
    stem = folder / "models" / "detection_model"
    arguments = ["evaluate", str(stem), "--dataset", str(folder / "data"), "--json"]
    for split in ("test", "validation"):
        assert emotion_model_training.main([*arguments, "--split", split]) == 0
        summary = json.loads(capsys.readouterr().out)
        card = json.loads(stem.with_name("detection_model.card.json").read_text())
        assert summary["accuracy"] == card["metrics"][split]["accuracy"]
        assert summary["one_crop"] == card["metrics"][split]["one_crop"]


@pytest.mark.parametrize("more", [["--flip", "--runtime", "keras"], ["--split", "all"]])
def test_evaluate_in_other_ways(more, trained, capsys):
    folder, _ = trained
    stem = folder / "models" / "detection_model"
    arguments = ["evaluate", str(stem), "--dataset", str(folder / "data")]
    assert emotion_model_training.main([*arguments, *more]) == 0
    shown = capsys.readouterr().out
    assert "accuracy" in shown
    assert ("mirrored" in shown) == ("--flip" in more)
    assert ("on Keras" in shown) == ("keras" in more)
    assert ("on 175 images" in shown) == ("all" in more)


def test_evaluate_a_model_without_card(tiny_model, trained, capsys, tmp_path):
    folder, _ = trained
    arguments = ["evaluate", str(tiny_model), "--dataset", str(folder / "data")]
    assert emotion_model_training.main([*arguments, "--report", str(tmp_path / "report")]) == 0
    shown = capsys.readouterr()
    assert "no card" in shown.out
    assert str(tmp_path / "report" / "report.html") in shown.err
    assert "tiny" in (tmp_path / "report" / "report.html").read_text()


def test_inspect_writes_a_page(trained, capsys, tmp_path):
    folder, _ = trained
    report = str(tmp_path / "inspection")
    arguments = ["inspect", "--dataset", str(folder / "data"), "--runs", str(tmp_path / "runs")]
    assert emotion_model_training.main([*arguments, "--report", report]) == 0
    assert "175 images of 7 classes" in capsys.readouterr().out
    assert (tmp_path / "inspection" / "inspection.html").exists()


def test_ensemble_of_members_with_other_splits_says_so(trained, tiny_model, tmp_path, capsys):
    folder, _ = trained
    model = str(folder / "models" / "detection_model")
    where = ["--models", str(tmp_path), "--runs", f"{folder}/runs", "--name", "average"]
    for members, expected in (([model, str(tiny_model)], True), ([model, model], False)):
        arguments = ["ensemble", *members, "--dataset", f"{folder}/data", *where]
        assert emotion_model_training.main(arguments) == 0
        assert ("Note: the members" in capsys.readouterr().out) == expected


@pytest.fixture(scope="module")
def averaged(trained, tiny_model):
    """Average two models through the command; return the stem of the average."""
    folder, _ = trained
    members = [str(folder / "models" / "detection_model"), str(tiny_model)]
    where = ["--models", f"{folder}/models", "--runs", f"{folder}/runs", "--name", "average"]
    code = emotion_model_training.main(
        ["ensemble", *members, "--dataset", f"{folder}/data", *where]
    )
    assert code == 0
    return folder / "models" / "average"


def test_ensemble_is_an_ordinary_model(averaged, trained, tiny_model):
    faces = make_dataset().split("test").images[..., None].astype(np.float32) / 255
    members = [load_model(trained[0] / "models" / "detection_model"), load_model(tiny_model)]
    mean = np.mean([member.predict(faces) for member in members], axis=0)
    average = load_model(averaged)
    assert (average.runtime, average.notes) == ("ONNX Runtime", ())
    np.testing.assert_array_equal(average.predict(faces).argmax(axis=1), mean.argmax(axis=1))
    names = [member["name"] for member in average.card["average_of"]]
    assert names == ["detection_model", "tiny"]
    assert average.card["calibration"]["temperature"] > 0


def test_ensemble_without_data_is_the_mean_itself(trained, tiny_model, tmp_path, capsys):
    members = [str(trained[0] / "models" / "detection_model"), str(tiny_model)]
    where = ["--models", str(tmp_path / "models"), "--runs", str(tmp_path / "runs")]
    assert emotion_model_training.main(["ensemble", *members, *where, "--name", "mean"]) == 0
    assert "Without --dataset" in capsys.readouterr().out
    faces = make_dataset().split("test").images[..., None].astype(np.float32) / 255
    mean = np.mean([load_model(Path(member)).predict(faces) for member in members], axis=0)
    np.testing.assert_allclose(
        load_model(tmp_path / "models" / "mean").predict(faces), mean, atol=1e-4
    )


def test_ensemble_never_replaces_a_member(trained, tiny_model, capsys):
    folder, _ = trained
    members = [str(folder / "models" / "detection_model"), str(tiny_model)]
    assert emotion_model_training.main(["ensemble", *members, "--models", f"{folder}/models"]) == 1
    assert "--name" in capsys.readouterr().err


def test_compare_puts_models_side_by_side(averaged, trained, capsys, tmp_path):
    folder, _ = trained
    members = [str(folder / "models" / "detection_model"), str(averaged)]
    arguments = ["compare", *members, "--dataset", f"{folder}/data", "--report", str(tmp_path)]
    assert emotion_model_training.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "detection_model" in shown
    assert "average" in shown
    assert (tmp_path / "comparison.png").exists()


def test_distill_learns_from_other_models(trained, averaged, small_network):
    folder, _ = trained
    more = ["--name", "pupil", "--teachers", str(averaged), "--teacher-share", "1"]
    assert emotion_model_training.main(["distill", *command(folder, *more)]) == 0
    pupil = load_model(folder / "models" / "pupil")
    assert [teacher["name"] for teacher in pupil.card["learned_from"]] == ["average"]
    assert pupil.card["metrics"]["test"]["accuracy"] > 1 / 7


def test_distill_without_teachers(capsys):
    assert emotion_model_training.main(["distill", "--dataset", "x"]) == 1
    assert "--teachers" in capsys.readouterr().err


def test_cross_validate_and_tune(trained, small_network, capsys):
    folder, _ = trained
    short = ["--epochs", "1"]
    arguments = command(folder, "--name", "fast", *short)
    assert emotion_model_training.main(["cross-validate", *arguments, "--folds", "2"]) == 0
    assert "Fold 2/2" in capsys.readouterr().out
    assert list((folder / "models" / "fast_cross_validation").iterdir())
    assert emotion_model_training.main(["tune", *arguments, "--trials", "2"]) == 0
    assert "python3 run.py train" in capsys.readouterr().out
    assert (folder / "runs" / "fast_study" / "trials.csv").exists()


def test_a_worse_model_is_refused_and_published_where_that_is_wanted(
    trained, small_network, capsys, tmp_path
):
    models = shutil.copytree(trained[0] / "models", tmp_path / "models")
    before = (models / "detection_model.h5").read_bytes()

    def train(runs: str, *more: str) -> int:
        where = ["--models", f"{models}", "--runs", f"{tmp_path}/{runs}", "--epochs", "1"]
        return emotion_model_training.main(command(trained[0], *where, *more))

    assert train("runs") == 1
    shown = capsys.readouterr()
    assert "detection_model.previous" in shown.out
    assert shown.err.count("%") == 2
    assert (models / "detection_model.h5").read_bytes() == before
    new = load_model(tmp_path / "runs" / "detection_model" / "finished" / "detection_model")
    faces = make_dataset().images[..., None].astype(np.float32) / 255

    assert train("runs", "--name", "another") == 0
    assert "Epoch" not in capsys.readouterr().out, "nothing is trained a second time"
    published = load_model(models / "another")
    np.testing.assert_allclose(published.predict(faces), new.predict(faces), atol=1e-6)
    assert published.card["name"] == "another"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".cache"]


def test_an_average_without_data_replaces_nothing_unasked(trained, tiny_model, tmp_path, capsys):
    models = shutil.copytree(trained[0] / "models", tmp_path / "models")
    before = (models / "detection_model.h5").read_bytes()
    arguments = ["ensemble", str(tiny_model), "--mirrored", "--models", str(models)]
    arguments += ["--runs", f"{tmp_path}/runs"]
    assert emotion_model_training.main(arguments) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert (models / "detection_model.h5").read_bytes() == before
    assert emotion_model_training.main([*arguments, "--overwrite"]) == 0
    assert (models / "detection_model.previous.h5").read_bytes() == before


def test_a_full_disk_while_a_table_is_written_is_one_sentence(trained, capsys, monkeypatch):
    def full(folder, rows):
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    monkeypatch.setattr("emotion.training.measuring.comparison.write_comparison", full)
    model = str(trained[0] / "models" / "detection_model")
    arguments = ["compare", model, "--dataset", f"{trained[0]}/data", "--report", "comparison"]
    assert emotion_model_training.main(arguments) == 1
    assert len(capsys.readouterr().err.strip().splitlines()[-1].split("No space left")) == 2


def test_a_full_disk_while_converting_keeps_the_old_fast_form(trained, tmp_path, capsys):
    folder = shutil.copytree(trained[0] / "models", tmp_path / "models")
    kept = {path.name: path.read_bytes() for path in folder.glob("*.*")}

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("emotion.model.keras.write_json", full)
        assert emotion_model_training.main(["convert", f"{folder}/detection_model"]) == 1
    assert "No space left" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.glob("*.*")} == kept


def test_a_full_disk_loses_nothing(trained, small_network, capsys, monkeypatch):
    from emotion.training import publishing

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    folder, _ = trained
    before = {path.name for path in (folder / "models").iterdir()}
    for module, name in ((publishing, "save_keras_model"), (shutil, "copyfile")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, full)
            assert emotion_model_training.main(command(folder, "--name", "late")) == 1
        *_, line = capsys.readouterr().err.strip().splitlines()
        assert "No space left" in line
        assert len(line) < 400
        assert {path.name for path in (folder / "models").iterdir()} == before
    assert emotion_model_training.main(command(folder, "--name", "late")) == 0
    assert "Epoch" not in capsys.readouterr().out, "nothing is trained a second time"
    assert (folder / "models" / "late.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "absent"], "absent does not exist"),
        (["--epochs", "0"], "epochs at least 1"),
        (["--validation-share", "1"], "validation_share between 0 and 1"),
        (["--learning-rate", "-1"], "learning_rate 0 or more"),
        (["evaluate", "models/absent", "--dataset", "x"], "absent.json is missing"),
        (["convert", "models/absent"], "absent.json is missing"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_1(arguments, message, capsys, tmp_path):
    extra = [] if arguments[0] in ("evaluate", "convert") else ["--models", str(tmp_path)]
    assert emotion_model_training.main([*arguments, *extra]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]


@pytest.mark.parametrize(
    "arguments", [["--epochs", "many"], ["--architecture", "x"], ["fly"], ["evaluate"], ["--no"]]
)
def test_wrong_flags_are_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        emotion_model_training.main(arguments)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_models_folder_that_cannot_be_written_is_found_out_first(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert emotion_model_training.main(["--models", str(tmp_path / "file")]) == 1
    assert "can be written" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_gets_no_traceback(trained):
    script = [sys.executable, emotion_model_training.__file__]
    where = ["--dataset", f"{trained[0]}/data", "--runs", f"{trained[0]}/runs", "--report", ""]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*script, "inspect", *where], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_broken_pipe_that_is_not_stdout_is_told(monkeypatch, capsys, tmp_path):
    def break_pipe(settings):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(commands, "read_for_training", break_pipe)
    assert emotion_model_training.main(["--models", str(tmp_path)]) == 1
    assert "Broken pipe" in capsys.readouterr().err


def test_interruption_says_how_to_go_on(monkeypatch, capsys, tmp_path):
    def interrupt(settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "read_for_training", interrupt)
    assert emotion_model_training.main(["--models", str(tmp_path)]) == 130
    assert "same command" in capsys.readouterr().err
