import contextlib
import errno
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from narrow_networks import build_small
from training_data import encode, files_of, make_dataset, put, write_folder

import emotion_model_training
from emotion.model.keras import ModelFiles, load_keras_model
from emotion.model.runtime import load_model
from emotion.training import commands, publishing
from emotion.training.measuring.report import write_report
from emotion.training.networks.architectures import ARCHITECTURES
from emotion.training.settings import read_settings

run = emotion_model_training.main
FACES = make_dataset().split("test").images[..., None].astype(np.float32) / 255


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Train a small network, and leave out the report, whose many pictures take longer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "cnn", build_small)
        patch.setattr(publishing, "write_report", Mock())
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train once through the command; return the folder of data, models and runs."""
    folder = tmp_path_factory.mktemp("training")
    write_folder(folder / "data", make_dataset(validation=0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publishing, "write_report", write_report)
        assert run(command(folder)) == 0
    return folder


@pytest.fixture(scope="module")
def members(trained, tiny_model) -> list[str]:
    return [f"{trained}/models/detection_model", str(tiny_model)]


@pytest.fixture(scope="module")
def averaged(trained, members) -> Path:
    """Average two models through the command; return the stem of the average."""
    where = ["--models", f"{trained}/models", "--runs", f"{trained}/runs", "--name", "average"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert run(["ensemble", *members, "--dataset", f"{trained}/data", *where]) == 0
    assert "Note: the members" in said.getvalue(), "they were not trained on one split"
    return trained / "models" / "average"


def command(folder: Path, *more: str) -> list[str]:
    where = f"--dataset={folder}/data --models={folder}/models --runs={folder}/runs --epochs=6"
    return [*where.split(), "--batch-size=20", "--learning-rate=0.1", "--augmentation=none", *more]


def full_disk(*arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.*")}


def test_writes_a_model_that_is_served_with_its_card_and_report(trained):
    stem = trained / "models" / "detection_model"
    model = load_model(stem)
    assert (model.runtime, model.notes) == ("ONNX Runtime", ())
    answers = load_keras_model(ModelFiles(stem)).predict_on_batch(FACES)
    np.testing.assert_allclose(model.predict(FACES), answers, atol=1e-5)
    left = [path.name for path in (trained / "runs").iterdir()]
    assert left == [".cache"], "a finished run leaves nothing behind but the decoded data"
    card = model.card
    assert card["class_names"] == list(make_dataset().class_names)
    assert card["dataset"]["images"] == {"train": 126, "validation": 14, "test": 35}
    assert (card["dataset"]["name"], card["settings"]["batch_size"]) == ("data", 20)
    assert (card["selection"]["epochs"], set(card["metrics"])) == (6, {"validation", "test"})
    assert card["calibration"]["temperature"] > 0
    report = stem.with_name("detection_model_report")
    assert "--batch-size=20" in read_settings(report / "settings.toml")
    for name in ("report.html", "curves.png", "test/evaluation.json", "test/samples_wrong.png"):
        assert (report / name).exists()
    assert len((report / "history.csv").read_text().splitlines()) == 7


def test_a_dry_run_says_what_it_would_take_and_writes_nothing(trained, tmp_path, capsys):
    where = ["--models", f"{tmp_path}/models", "--runs", f"{tmp_path}/runs", "--limit", "20"]
    assert run(command(trained, *where, "--dry-run", "--duplicates", "drop")) == 0
    shown = capsys.readouterr().out
    for word in ("175 images: at most 20", "parameters", "for 6 epochs", "MB so far", "kB in"):
        assert word in shown
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".cache"]
    assert not list((tmp_path / "models").iterdir())


def test_evaluate_repeats_the_figures_of_the_card(trained, tiny_model, capsys):
    stem = trained / "models" / "detection_model"
    metrics = json.loads(ModelFiles(stem).card.read_text())["metrics"]
    data = ["--dataset", f"{trained}/data"]
    for split in ("test", "validation"):
        assert run(["evaluate", str(stem), *data, "--json", "--split", split]) == 0
        summary = json.loads(capsys.readouterr().out)
        for name in ("accuracy", "one_crop"):
            assert summary[name] == metrics[split][name]
    for model, more, words in (
        (stem, ["--flip", "--runtime", "keras"], ("mirrored", "on Keras")),
        (stem, ["--split", "all"], ("175 images",)),
        (tiny_model, [], ("no card",)),
    ):
        assert run(["evaluate", str(model), *data, *more]) == 0
        shown = capsys.readouterr().out
        for word in ("mirrored", "on Keras", "175 images", "no card"):
            assert (word in shown) == (word in words)


def test_an_ensemble_is_an_ordinary_model(averaged, members, trained, tmp_path, capsys):
    average = load_model(averaged)
    assert (average.runtime, average.notes) == ("ONNX Runtime", ())
    assert [one["name"] for one in average.card["average_of"]] == ["detection_model", "tiny"]
    assert average.card["calibration"]["temperature"] > 0
    arguments = ["ensemble", *members, "--runs", f"{tmp_path}/runs"]
    assert run([*arguments, "--models", f"{trained}/models"]) == 1, "it never replaces a member"
    assert "--name" in capsys.readouterr().err
    arguments += ["--models", str(tmp_path), "--name", "mean"]
    assert run(arguments) == 0
    assert "Without --dataset" in capsys.readouterr().out
    before = (tmp_path / "mean.h5").read_bytes()
    assert run([*arguments, "--mirrored"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "mean.h5").read_bytes() == before
    assert run([*arguments, "--mirrored", "--overwrite"]) == 0
    assert (tmp_path / "mean.previous.h5").read_bytes() == before


def test_compare_and_inspect_write_pages(averaged, trained, capsys, tmp_path, monkeypatch):
    members = [f"{trained}/models/detection_model", str(averaged)]
    data = ["--dataset", f"{trained}/data", "--report", str(tmp_path)]
    assert run(["inspect", *data, "--runs", f"{tmp_path}/runs"]) == 0
    assert "175 images" in capsys.readouterr().out
    assert (tmp_path / "inspection.html").exists()
    assert run(["compare", *members, *data]) == 0
    shown = capsys.readouterr().out
    assert all(Path(member).name in shown for member in members)
    assert (tmp_path / "comparison.csv").exists()
    monkeypatch.setattr("emotion.training.measuring.comparison.write_comparison", full_disk)
    assert run(["compare", *members, *data]) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1].count("No space left") == 1


def test_distill_and_a_full_disk_that_loses_nothing(trained, averaged, capsys, monkeypatch):
    more = ["--name", "pupil", "--teachers", str(averaged), "--teacher-share", "1"]
    arguments, before = ["distill", *command(trained, *more)], contents(trained / "models")
    for module, name in ((publishing, "save_keras_model"), (shutil, "copyfile")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, full_disk)
            assert run(arguments) == 1
        *_, line = capsys.readouterr().err.strip().splitlines()
        assert "No space left" in line
        assert contents(trained / "models") == before
    assert run(arguments) == 0
    assert "Epoch" not in capsys.readouterr().out, "nothing is trained a second time"
    pupil = load_model(trained / "models" / "pupil")
    assert [teacher["name"] for teacher in pupil.card["learned_from"]] == ["average"]
    assert str(trained) not in str(pupil.card), "models and data are named without their folders"
    assert pupil.card["metrics"]["test"]["accuracy"] > 1 / 7


def test_cross_validate_and_tune(trained, capsys):
    arguments = command(trained, "--name", "fast", "--epochs", "1")
    assert run(["cross-validate", *arguments, "--folds", "2"]) == 0
    assert "Fold 2/2" in capsys.readouterr().out
    assert list((trained / "models" / "fast_cross_validation").iterdir())
    assert run(["tune", *arguments, "--trials", "1"]) == 0
    assert "run.py train" in capsys.readouterr().out
    assert (trained / "runs" / "fast_study" / "trials.csv").exists()


def test_a_worse_model_is_refused_and_published_where_that_is_wanted(trained, capsys, tmp_path):
    models = shutil.copytree(trained / "models", tmp_path / "models")
    before = (models / "detection_model.h5").read_bytes()
    where = ["--models", f"{models}", "--runs", f"{tmp_path}/runs", "--epochs", "1"]
    assert run(command(trained, *where)) == 1
    shown = capsys.readouterr()
    assert "detection_model.previous" in shown.out
    assert shown.err.count("%") == 2
    assert (models / "detection_model.h5").read_bytes() == before
    new = load_model(tmp_path / "runs" / "detection_model" / "finished" / "detection_model")
    assert run(command(trained, *where, "--name", "another")) == 0
    assert "Epoch" not in capsys.readouterr().out, "nothing is trained a second time"
    published = load_model(models / "another")
    np.testing.assert_allclose(published.predict(FACES), new.predict(FACES), atol=1e-6)
    assert published.card["name"] == "another"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".cache"]


def test_visitors_faces_are_learned_and_the_better_model_is_kept(trained, tmp_path, capsys):
    data, feedback = f"--dataset={trained}/data", tmp_path / "feedback"
    where = [f"--runs={tmp_path}/runs", "--augmentation=none", "--batch-size=20"]
    stem = tmp_path / "models" / "detection_model"
    assert run([data, *where, f"--models={stem.parent}", "--epochs=1", "--learning-rate=1e-6"]) == 0
    retrain = ["retrain", str(stem), data, f"--feedback={feedback}", *where]
    put(feedback, {".waiting/happy/not_approved.png": b"damaged, if it is read"})
    assert run(retrain) == 0
    assert "no faces" in capsys.readouterr().out
    faces = make_dataset(train=7, validation=0, test=0)
    put(feedback, {name.removeprefix("train/"): png for name, png in files_of(faces).items()})
    weak, better = ["--learning-rate=1e-9", "--epochs=1"], ["--epochs=6", "--learning-rate=0.02"]
    before = contents(stem.parent)
    for more, word in ((weak, "not better"), (weak, "nothing new")):
        assert run([*retrain, *more]) == 0
        assert word in capsys.readouterr().out
        assert contents(stem.parent) == before
    put(feedback, {"happy/one_more.png": encode(faces.images[3] // 2)})
    put(tmp_path / "runs/detection_model_retrained/detection_model", {"state.json": b"{}"})
    assert run([*retrain, *better]) == 0
    assert "Published" in capsys.readouterr().out
    assert (stem.parent / "detection_model.previous.h5").read_bytes() == before[f"{stem.name}.h5"]
    card = load_model(stem).card
    assert card["dataset"]["images"]["train"] > 126
    first = json.loads(before[f"{stem.name}.card.json"])
    assert card["started_from"]["weights_sha256"] == first["weights_sha256"]


def test_a_start_that_fails_reads_no_data_and_leaves_no_folder(trained, tmp_path, capsys):
    file = tmp_path / "run.toml"
    file.write_text("epochs = 3\nweights = 'absent/model'\n")
    where = ["--dataset", f"{trained}/data", f"--models={tmp_path}", f"--runs={tmp_path}/runs"]
    for more, word in (
        ([f"--settings={file}"], "absent"),
        (["--weights=a.h5", "--architecture=mobilenetv2"], "a.h5"),
        (["--weights=a.keras"], "convert"),
        (["--log-to=mlflow"], "pip install mlflow"),
    ):
        assert run([*where, *more]) == 1
        shown = capsys.readouterr()
        assert word in shown.err
        assert "Reading" not in shown.out
    assert run([*where, f"--weights={trained}/models/detection_model", "--architecture=vgg"]) == 1
    assert "architecture" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".cache"]


def test_full_disk_in_convert_keeps_the_old_fast_form(tiny_model, tmp_path, capsys, monkeypatch):
    folder = shutil.copytree(tiny_model.parent, tmp_path / "models")
    kept = contents(folder)
    monkeypatch.setattr("emotion.model.keras.write_json", full_disk)
    assert run(["convert", f"{folder}/tiny"]) == 1
    assert "No space left" in capsys.readouterr().err
    assert contents(folder) == kept


def test_wrong_input_is_one_line_and_exit_code_1(capsys, tmp_path):
    (tmp_path / "file").touch()
    for arguments, word in ((f"--models {tmp_path}/file", "written"), ("distill", "--teachers")):
        assert run(arguments.split()) == 1
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert word in line


def test_a_reader_that_has_seen_enough_gets_no_traceback(trained):
    script = [sys.executable, emotion_model_training.__file__]
    where = ["--dataset", f"{trained}/data", "--runs", f"{trained}/runs", "--report", ""]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*script, "inspect", *where], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_broken_pipe_elsewhere_and_an_interruption_are_told(monkeypatch, capsys, tmp_path):
    for error, code, word in (
        (BrokenPipeError(32, "Broken pipe"), 1, "pipe"),
        (KeyboardInterrupt(), 130, "same command"),
    ):
        monkeypatch.setattr(commands, "read_for_training", Mock(side_effect=error))
        assert run(["--models", str(tmp_path)]) == code
        assert word in capsys.readouterr().err


def test_kill_ends_in_one_line_and_its_own_exit_code():
    code = f"""if True:
        import runpy, time
        from emotion.training import commands
        commands.train = lambda options: (print("on", flush=True), time.sleep(60))
        runpy.run_path({emotion_model_training.__file__!r}, run_name="__main__")
    """
    root = Path(emotion_model_training.__file__).parent
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, **pipes) as process:
        assert process.stdout.readline() == "on\n"
        process.terminate()
        (line,) = process.stderr.read().strip().splitlines()
    assert ("same command" in line, process.returncode) == (True, 143)


def test_quick_measures_no_pictures_made_worse(trained, tmp_path, capsys):
    stem, table = trained / "models" / "detection_model", tmp_path / "test" / "robustness.csv"
    for more, has_them in (([], True), (["--quick"], False)):
        data = ["--dataset", f"{trained}/data", "--report", str(tmp_path), *more]
        assert run(["evaluate", str(stem), *data]) == 0
        assert ("made worse" in capsys.readouterr().err) == table.exists() == has_them
    assert (tmp_path / "predictions.csv").exists()
