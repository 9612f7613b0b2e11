"""A pair of files, its card and its fast form: what is served, and what is refused."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from model_folder import write_card
from narrow_networks import build_tiny_network

from emotion.errors import ModelError
from emotion.labels import EMOTIONS
from emotion.model.card import Serving
from emotion.model.keras import (
    LARGEST_GAP,
    ModelFiles,
    import_keras,
    load_keras_model,
    main,
    save_keras_model,
)
from emotion.model.runtime import apply_temperature, load_model

ROOT = Path(__file__).resolve().parents[2]
FACES = np.random.default_rng(0).random((300, 48, 48, 1), dtype=np.float32)


@pytest.fixture
def files(tiny_model, tmp_path) -> ModelFiles:
    """Return a copy of the tiny model that a test may change."""
    for path in tiny_model.parent.iterdir():
        shutil.copy(path, tmp_path / path.name)
    return ModelFiles(tmp_path / tiny_model.name)


@pytest.fixture
def no_conversion(monkeypatch):
    """Make the conversion fail at once, as it does without TensorFlow."""
    monkeypatch.setattr("emotion.model.runtime._convert", lambda files: "no TensorFlow")


def assert_keras_answers(model, network):
    assert model.runtime == "Keras"
    expected = network.predict_on_batch(FACES[:3])
    np.testing.assert_allclose(model.predict(FACES[:3]), expected, atol=1e-6)


def test_fast_form_answers_as_keras_also_in_many_threads(files):
    model, network = load_model(files.stem), load_keras_model(files)
    assert (model.runtime, model.name, model.class_names) == ("ONNX Runtime", "tiny", EMOTIONS)
    assert "no card" in model.notes[0]
    for count in (1, 3, 300):
        expected = network.predict_on_batch(FACES[:count])
        np.testing.assert_allclose(model.predict(FACES[:count]), expected, atol=LARGEST_GAP)
    assert model.predict(FACES[:0]).shape == (0, 7)
    for shape in ((48, 48, 1), (1, 64, 64, 1), (1, 48, 48, 3)):
        with pytest.raises(ValueError, match="48, 48, 1"):
            model.predict(np.zeros(shape, np.float32))
    singles = [FACES[place : place + 1] for place in range(20)]
    with ThreadPoolExecutor(8) as executor:
        together = list(executor.map(model.predict, singles))
    np.testing.assert_array_equal([model.predict(single) for single in singles], together)


def test_card_names_the_classes_and_how_photos_are_answered(files):
    def with_card(**changes):
        write_card(files, **changes)
        return load_model(files.stem)

    names = [f"class {number}" for number in range(7)]
    model = with_card(class_names=names)
    assert model.class_names == tuple(names) == tuple(model.card["class_names"])
    assert model.notes == ()
    assert model.serving == Serving() == with_card(serving=None).serving
    np.testing.assert_array_equal(model.answer(FACES), model.predict(FACES))
    with pytest.raises(ModelError, match=r"2 outputs.*\(7,\)"):
        with_card(class_names=["a", "b"])
    model = with_card(serving={"mirrored": True, "temperature": 0.5})
    shown, turned = FACES[:3], FACES[:3, :, ::-1]
    mean = (model.predict(shown) + model.predict(turned)) / 2
    answers = model.answer(shown)
    np.testing.assert_allclose(answers, mean**2 / (mean**2).sum(axis=1, keepdims=True), rtol=1e-4)
    np.testing.assert_allclose(model.answer(turned), answers, rtol=1e-4)
    assert model.answer(shown[:0]).shape == (0, 7)
    for temperature, softer in ((1, [0.8, 0.2]), (0.5, [16 / 17, 1 / 17]), (2, [2 / 3, 1 / 3])):
        np.testing.assert_allclose(apply_temperature(np.array([[0.8, 0.2]]), temperature), [softer])


def test_changed_weights_are_not_served_from_the_old_fast_form(files):
    network = load_keras_model(files)
    network.set_weights([weights + 0.1 for weights in network.get_weights()])
    save_keras_model(network, files)
    code = (
        "import sys; from emotion.model.runtime import load_model;"
        f"model = load_model({str(files.stem)!r});"
        "print(model.runtime, 'tensorflow' in sys.modules, *model.notes)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("ONNX Runtime False "), "converted by a process of its own"
    assert "stale" in done.stdout
    assert "made anew" in done.stdout
    model = load_model(files.stem)
    assert (model.runtime, "stale" in str(model.notes)) == ("ONNX Runtime", False)
    expected = network.predict_on_batch(FACES[:3])
    np.testing.assert_allclose(model.predict(FACES[:3]), expected, atol=LARGEST_GAP)


SPOILT = {
    "no form": (lambda files: files.fast_form.unlink(), "no fast form"),
    "no seal": (lambda files: files.fast_form_seal.unlink(), "no fast form"),
    "empty seal": (lambda files: files.fast_form_seal.write_text("{}"), "cannot be read"),
    "zeroes": (lambda files: files.fast_form.write_bytes(bytes(1000)), "damaged"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_fast_form_that_cannot_be_trusted_falls_back_to_keras(files, no_conversion, name):
    spoil, reason = SPOILT[name]
    spoil(files)
    model = load_model(files.stem)
    assert any(reason in note and "no TensorFlow" in note for note in model.notes)
    assert_keras_answers(model, load_keras_model(files))


def test_missing_or_damaged_files(files, no_conversion):
    weights = files.weights.read_bytes()
    architectures = ("", "{}", "null", '"text"', '{"class_name": "Lambda"}', "\x00", "[" * 9999)
    for path, contents in (
        (files.weights, (weights[:0], weights[:5000])),
        (files.architecture, [content.encode() for content in architectures]),
    ):
        whole = path.read_bytes()
        path.unlink()
        for content in (None, *contents):
            if content is not None:
                path.write_bytes(content)
            with pytest.raises(ModelError, match=path.name):
                load_model(files.stem)
        path.write_bytes(whole)


def test_networks_that_break_the_contract(no_conversion, tmp_path):
    files = ModelFiles(tmp_path / "other")
    for network, message in (
        ({"class_count": 5}, "7 outputs"),
        ({"activation": "linear"}, "sum to 1"),
        ({"shape": (64, 64, 1)}, "48, 48, 1"),
        ({"shape": (48, 48, 3)}, "48, 48, 1"),
    ):
        save_keras_model(build_tiny_network(**network), files)
        with pytest.raises(ModelError, match=message):
            load_model(files.stem)


def test_layers_that_do_not_convert_are_run_by_keras(no_conversion, tmp_path, capsys):
    keras = import_keras()
    flip = keras.layers.RandomFlip("horizontal")
    network = keras.Sequential([keras.Input((48, 48, 1)), flip, *build_tiny_network().layers])
    files = ModelFiles(tmp_path / "augmenting")
    save_keras_model(network, files)
    for arguments, code, words in (
        ([str(files.stem)], 1, "convertible to ONNX"),
        (["missing"], 1, "missing"),
        ([], 2, "usage"),
    ):
        assert main(arguments) == code
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert words in line
    assert not files.fast_form.exists()
    assert_keras_answers(load_model(files.stem), network)


def test_weights_saved_the_new_way_and_renamed(files):
    network = load_keras_model(files)
    network.save_weights(files.stem.with_suffix(".weights.h5"))
    files.stem.with_suffix(".weights.h5").rename(files.weights)
    answers = load_keras_model(files).predict_on_batch(FACES[:2])
    np.testing.assert_array_equal(answers, network.predict_on_batch(FACES[:2]))


def test_an_answer_beyond_doubt_needs_no_mirror_image(stand_in_model):
    """Three faces: beyond doubt; in doubt; in doubt, and the mirror image shows another."""
    shown = []

    def run(faces):
        shown.append(len(faces))
        kinds = faces[:, 0, 0, 0].astype(int) + 10 * faces[:, 0, -1, 0].astype(int)
        firsts = {1: 0.96, 2: 0.9, 3: 0.6, 10: 0.1, 20: 0.7, 30: 0.2}
        return np.array([[firsts[kind], 1 - firsts[kind]] for kind in kinds], np.float32)

    serving = {"serving": {"mirrored": True, "temperature": 1.0}}
    faces = np.zeros((3, 48, 48, 1), np.float32)
    faces[:, 0, 0, 0] = 1, 2, 3
    answers = replace(stand_in_model, card=serving, run=run).answer(faces)
    np.testing.assert_allclose(answers[:, 0], [0.96, 0.8, 0.4], atol=1e-6)
    assert shown == [3, 2]


def test_the_shipped_model_answers_as_in_keras(astronaut):
    grey = cv2.cvtColor(astronaut, cv2.COLOR_RGB2GRAY)
    corners = [(top, left) for top in (40, 60, 80) for left in (140, 160, 180)]
    crops = [grey[top : top + n, left : left + n] for top, left in corners for n in (120, 150, 180)]
    real = [cv2.resize(crop, (48, 48), interpolation=cv2.INTER_AREA) for crop in crops]
    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 48), dtype=np.uint8)
    images = np.stack([*real, *((image * 0.4).astype(np.uint8) for image in real), *noise])
    faces = images[..., np.newaxis].astype(np.float32) / 255
    stem = ROOT / "models" / "detection_model"
    served, pair = load_model(stem), load_model(stem, keras_alone=True)
    assert (served.runtime, served.notes, pair.runtime) == ("ONNX Runtime", (), "Keras")
    assert served.card["weights_sha256"] == served.sha256
    assert served.class_names == EMOTIONS
    fast, keras = served.answer(faces), pair.answer(faces)
    np.testing.assert_allclose(fast, keras, atol=1e-3)
    assert np.ptp(fast, axis=0).max() > 0.2, "the sample must tell models apart"
    np.testing.assert_array_equal(fast.argmax(axis=1), keras.argmax(axis=1))
