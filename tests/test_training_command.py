import json
from pathlib import Path

import numpy as np
import pytest
from training_data import make_dataset, write_folder

import emotion_model_training
from emotion.keras_pair import ModelFiles, load_keras_model
from emotion.model import load_model
from emotion.training.architectures import ARCHITECTURES


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Train once through the command; return (folder, exit code)."""
    import keras

    def build(faces):
        features = keras.layers.Conv2D(8, 5, strides=4, activation="relu")(faces)
        return keras.layers.Dropout(0.1)(keras.layers.Flatten()(features))

    folder = tmp_path_factory.mktemp("training")
    write_folder(folder / "data", make_dataset(validation=0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ARCHITECTURES, "cnn", build)
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
    assert not list((folder / "runs").iterdir()), "a finished run leaves nothing behind"


def test_card_tells_where_the_model_comes_from(trained):
    folder, _ = trained
    card = json.loads((folder / "models" / "detection_model.card.json").read_text())
    assert card["class_names"] == list(make_dataset().class_names)
    assert card["dataset"]["images"] == {"train": 126, "validation": 14, "test": 35}
    assert card["selection"]["epochs"] == 6
    assert card["calibration"]["temperature"] > 0
    assert set(card["metrics"]) == {"validation", "test"}
    assert card["settings"]["batch_size"] == 20


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


def test_calibration_lowers_the_log_loss_of_validation(trained):
    folder, _ = trained
    card = json.loads((folder / "models" / "detection_model.card.json").read_text())
    metrics = card["metrics"]["validation"]
    assert metrics["expected_calibration_error"] < 0.5
    assert metrics["log_loss"] < np.log(7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "absent"], "absent does not exist"),
        (["--epochs", "0"], "epochs at least 1"),
        (["--validation-share", "1"], "validation_share between 0 and 1"),
        (["--learning-rate", "-1"], "learning_rate above 0"),
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


def test_interruption_says_how_to_go_on(monkeypatch, capsys, tmp_path):
    def interrupt(settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(emotion_model_training, "read_for_training", interrupt)
    assert emotion_model_training.main(["--models", str(tmp_path)]) == 130
    assert "same command" in capsys.readouterr().err
