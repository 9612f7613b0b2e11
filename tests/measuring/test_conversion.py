"""Models of other forms become served ones that answer as before; and a model's way out."""

import json
import shutil

import cv2
import numpy as np
import pytest
from model_folder import write_card, write_pair
from narrow_networks import build_tiny_network, make_faces

import emotion_model_training
from emotion.errors import ModelError
from emotion.labels import EMOTIONS, FER2013_CODES
from emotion.model.keras import LARGEST_GAP, ModelFiles, import_keras, write_fast_form
from emotion.model.runtime import load_model
from emotion.training.conversion import convert_model

FACES = make_faces()


def colored(side: int) -> np.ndarray:
    """Return the faces as RGB of another size."""
    return np.stack([cv2.resize(face, (side, side)) for face in FACES])[..., None].repeat(3, axis=3)


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def with_layer(name: str, **options):
    keras = import_keras()
    layer = getattr(keras.layers, name)(**options)
    return keras.Sequential([keras.Input((48, 48, 1)), layer, *build_tiny_network().layers])


def nested():
    """Return a network whose only answer is that of one inside."""
    keras = import_keras()
    faces = keras.Input((48, 48, 1))
    return keras.Model(faces, build_tiny_network()(keras.layers.Rescaling(0.5)(faces)))


NETWORKS = {  # --pixels, how it is built, what it is shown, what becomes of its answers
    "plain": ("auto", build_tiny_network, FACES, None),
    "nested": ("auto", nested, FACES, None),
    "rgb": ("auto", lambda: build_tiny_network(shape=(48, 48, 3)), colored(48), None),
    "large": ("centred", lambda: build_tiny_network(shape=(62, 62, 3)), 2 * colored(62) - 1, None),
    "bytes": ("0-255", build_tiny_network, 255 * FACES, None),
    "own scale": ("auto", lambda: with_layer("Rescaling", scale=1 / 255), 255 * FACES, None),
    "logits": ("auto", lambda: build_tiny_network(activation="linear"), FACES, softmax),
    "sigmoid": (
        *("auto", lambda: build_tiny_network(activation="sigmoid"), FACES),
        lambda shares: shares / shares.sum(axis=1, keepdims=True),
    ),
    "eight": ("auto", lambda: build_tiny_network(8), FACES, None),
}


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("case", NETWORKS)
def test_networks_answer_as_before(tmp_path, case, suffix):
    pixels, build, shown, finish = NETWORKS[case]
    network = build()
    expected = network.predict_on_batch(shown)
    network.save(tmp_path / f"theirs{suffix}")
    names = [*EMOTIONS, "contempt"][: expected.shape[1]]
    files = ModelFiles(tmp_path / "made")
    convert_model([tmp_path / f"theirs{suffix}"], files, ",".join(names), pixels)
    if case == "large":
        write_fast_form(files)  # where Keras' own layer that scales is wrong
    model = load_model(files.stem, keras_alone=True)
    assert (model.class_names, model.notes) == (tuple(names), ())
    expected = finish(expected) if finish else expected
    np.testing.assert_allclose(model.predict(FACES), expected, atol=1e-5)


def write_forms(folder) -> np.ndarray:
    """Write one network in each form that is more than one file; return its answers."""
    network = build_tiny_network()
    (folder / "structure.json").write_text(network.to_json())
    (folder / "theirs.json").write_text(network.to_json())
    network.save(folder / "theirs.h5")
    network.save_weights(folder / "apart.weights.h5")
    network.export(folder / "exported", format="tf_saved_model", verbose=False)
    shutil.copytree(folder / "exported", folder / "saved")
    described = {"name": "x", "class_name": "Sequential", "config": network.get_config()}
    shape = {"class_name": "__tuple__", "items": [None, 48, 48, 1]}  # as Keras 2 writes it there
    for layer in described["config"]["layers"]:
        for key in ("module", "registered_name", "build_config"):
            layer.pop(key, None)
    described["config"]["layers"][0]["config"]["batch_shape"] = shape
    text = json.dumps(described).encode()
    (folder / "saved" / "keras_metadata.pb").write_bytes(b"\x0a\xff{\x12" + text + b"\x00}")
    return network.predict_on_batch(FACES)


def test_forms_of_several_files(tmp_path):
    expected = write_forms(tmp_path)
    pairs = "structure.json apart.weights.h5|theirs.h5 structure.json|theirs|theirs.json"
    for names in f"{pairs}|structure.json exported|saved".split("|"):
        files = ModelFiles(tmp_path / f"made from {names}")
        convert_model([tmp_path / name for name in names.split()], files, "fer2013", "auto")
        model = load_model(files.stem, keras_alone=True)
        assert model.class_names == FER2013_CODES, names
        np.testing.assert_allclose(model.predict(FACES), expected, atol=1e-6, err_msg=names)


def test_what_cannot_be_converted_leaves_no_files(tmp_path):
    keras, made = import_keras(), tmp_path / "made"
    build_tiny_network().save(tmp_path / "seven.keras")
    with_layer("Lambda", function=lambda faces: faces).save(tmp_path / "code.keras")
    build_tiny_network(shape=(48, 48, 2)).save(tmp_path / "odd.keras")
    keras.Sequential([keras.Input((9,)), keras.layers.Dense(7)]).save(tmp_path / "flat.keras")
    build_tiny_network().export(tmp_path / "saved", format="tf_saved_model", verbose=False)
    (tmp_path / "text.h5").write_text("no model")
    for name, classes, word in (
        ("seven.keras", "", "--classes fer2013"),
        ("seven.keras", "a,b,c", "a, b, c"),
        ("seven.keras", "anger,angry,a,b,c,d,e", "different"),
        ("code.keras", "fer2013", "Lambda"),
        ("odd.keras", "fer2013", r"48, 48, 2"),
        ("flat.keras", "fer2013", "picture"),
        ("saved", "fer2013", "to_json"),
        ("text.h5", "fer2013", "OSError"),
        ("absent", "fer2013", r"absent\.json"),
        ("absent.h5", "fer2013", r"absent\.h5; there"),
    ):
        with pytest.raises(ModelError, match=word):
            convert_model([tmp_path / name], ModelFiles(made / "m"), classes, "auto")
        assert not made.exists()


def test_a_refused_model_leaves_no_fast_form_and_is_told_how_to_convert(tmp_path, monkeypatch):
    monkeypatch.setattr("emotion.model.runtime._convert", write_fast_form)
    build_tiny_network(shape=(48, 48, 3)).save(tmp_path / "rgb.h5")
    (tmp_path / "rgb.json").write_text(build_tiny_network(shape=(48, 48, 3)).to_json())
    for name in ("rgb", "rgb.h5", "absent"):
        with pytest.raises(ModelError, match="convert FILE"):
            load_model(tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"rgb.h5", "rgb.json"}


def test_commands_convert_export_and_restore(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run, stem = emotion_model_training.main, tmp_path / "models" / "theirs"
    (tmp_path / "models").mkdir()
    network = build_tiny_network(activation="linear")
    network.save("theirs.keras")
    command = ["convert", "theirs.keras", "--classes", "fer2013"]
    assert run(command) == 0
    model = load_model(stem)
    assert (model.runtime, model.class_names, model.notes) == ("ONNX Runtime", FER2013_CODES, ())
    assert model.card["converted_from"] == {"name": "theirs.keras"}
    assert run(command) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert run([*command[:-1], "alphabetical", "--overwrite"]) == 0
    assert load_model(stem).class_names == EMOTIONS
    assert run(["restore", str(stem)]) == 0
    assert load_model(stem).class_names == FER2013_CODES
    assert load_model(f"{stem}.previous").class_names == EMOTIONS
    assert run(["restore", "models/none"]) == 1
    for target in ("out.keras", "out.tflite", "out"):
        assert run(["export", str(stem), "--to", target]) == 0
        assert (tmp_path / target).exists()
        assert run(["export", str(stem), "--to", target]) == 1
    assert run(["export", str(stem), "--to", "out.onnx"]) == 1
    network.save_weights("w.weights.h5")
    average = ["ensemble", "theirs.keras", "out.keras", "models/theirs", "--name=three"]
    assert run([*average, "--classes=fer2013"]) == 0
    np.testing.assert_allclose(
        load_model("models/three").predict(FACES), model.predict(FACES), atol=LARGEST_GAP
    )
    assert run([*average, "--classes=alphabetical,x"]) == 1
    write_card(write_pair(tmp_path / "six"), class_names=EMOTIONS[:2])
    assert run(["ensemble", "theirs.keras", "six", "--classes=fer2013"]) == 1
