"""Pairs that Keras 2 (TensorFlow before 2.16) wrote: they answer as they did, and run no code."""

import codecs
import json
import marshal

import h5py
import numpy as np
import pytest

from emotion.errors import ModelError
from emotion.model.keras import (
    LARGEST_GAP,
    ModelFiles,
    import_keras,
    load_keras_model,
    save_keras_model,
    write_fast_form,
)
from emotion.model.runtime import load_model

SHAPE = [None, 48, 48, 1]
FACES = np.random.default_rng(0).random((3, 48, 48, 1), dtype=np.float32)


def part(class_name, form="2.11", module="layers", **config):
    """Return a layer or another part of an architecture as Keras 2.11 or 2.15 wrote it."""
    content = {"class_name": class_name, "config": config}
    if form == "2.15":
        content |= {"module": f"keras.{module}", "registered_name": None}
    return content


def layer(class_name, form="2.11", **config):
    """Return a layer with the settings that Keras 2 wrote for each of its kind, used or not."""
    if "Conv" in class_name:
        config |= {
            **{"data_format": "channels_last", "groups": 1, "dtype": "float32"},
            "kernel_initializer": part("GlorotUniform", form, "initializers", seed=None),
            "kernel_regularizer": part("L2", form, "regularizers", l2=0.001),
            "kernel_constraint": None,
        }
    if class_name == "BatchNormalization":
        config |= {"axis": [3], "dtype": part("Policy", form, "mixed_precision", name="float32")}
    if class_name == "InputLayer":
        config |= {"batch_input_shape": SHAPE, "dtype": "float32", "sparse": False}
    return part(class_name, form, **config)


LAYERS = (
    ("Conv2D", {"filters": 4, "kernel_size": [3, 3], "activation": "relu"}),
    ("BatchNormalization", {"momentum": 0.99, "epsilon": 0.01}),
    ("SeparableConv2D", {"filters": 5, "kernel_size": [3, 3], "activation": "relu"}),
    ("DepthwiseConv2D", {"kernel_size": [3, 3], "activation": "relu"}),
    ("MaxPooling2D", {"pool_size": [4, 4]}),
    ("Dropout", {"rate": 0.25, "noise_shape": None, "seed": None}),
    ("Flatten", {"data_format": "channels_last"}),
    ("Dense", {"units": 7, "activation": "softmax", "use_bias": True}),
)
INNER = {"filters": 1, "kernel_size": [3, 3], "padding": "same", "activation": "relu"}


def sequential_json(form):
    layers = [layer(name, form, **config) for name, config in (("InputLayer", {}), *LAYERS)]
    layers[1]["config"]["batch_input_shape"] = SHAPE
    return part("Sequential", name="sequential", layers=layers)


def sequential_network():
    keras = import_keras()
    layers = [getattr(keras.layers, name)(**config) for name, config in LAYERS]
    return keras.Sequential([keras.Input((48, 48, 1)), *layers])


def functional_json(form):
    """Return a model that uses another one twice: its calls count from 1 in Keras 2."""

    def called(content, name, *calls):
        content["config"]["name"] = name
        nodes = [[[source, number, 0, {}] for source, number in call] for call in calls]
        return content | {"name": name, "inbound_nodes": nodes}

    def model(name, target, *layers):
        ends = {"input_layers": [[layers[0]["name"], 0, 0]], "output_layers": [[*target, 0]]}
        return part("Functional", name=name, layers=list(layers), **ends)

    base = model(
        "base",
        ("add", 0),
        called(layer("InputLayer", form), "input_1"),
        called(layer("Conv2D", form, **INNER), "conv", [("input_1", 0)]),
        called(layer("Add", form), "add", [("input_1", 0), ("conv", 0)]),
    )
    return model(
        "model",
        ("dense", 0),
        called(layer("InputLayer", form), "input_2"),
        called(base, "base", [("input_2", 0)], [("base", 1)]),
        called(layer("Flatten", form), "flatten", [("base", 2)]),
        called(layer("Dense", form, units=7, activation="softmax"), "dense", [("flatten", 0)]),
    )


def functional_network():
    keras = import_keras()
    layers, faces, again = keras.layers, keras.Input((48, 48, 1)), keras.Input((48, 48, 1))
    conv = layers.Conv2D(**INNER, name="conv")
    base = keras.Model(faces, layers.Add(name="add")([faces, conv(faces)]), name="base")
    features = layers.Flatten()(base(base(again)))
    return keras.Model(again, layers.Dense(7, activation="softmax")(features))


def filled(network):
    """Give every weight a value of its own, moving averages included; return the answers, too."""
    random = np.random.default_rng(1)
    network.set_weights([random.uniform(0.01, 0.3, each.shape) for each in network.get_weights()])
    return network, network.predict_on_batch(FACES)


def write_json(files, content, version="2.11.0"):
    content = content | {"keras_version": version, "backend": "tensorflow"}
    files.architecture.write_text(json.dumps(content))


def write_weights(files, network, whole):
    with h5py.File(files.weights, "w") as file:
        group = file.create_group("model_weights") if whole else file
        group.attrs["layer_names"] = [each.name.encode() for each in network.layers]
        group.attrs["keras_version"] = b"2.11.0"
        for each in network.layers:
            saved = group.create_group(each.name)
            # of an inner model, trainable weights first
            weights = [*each.trainable_weights, *each.non_trainable_weights]
            names = [f"{each.name}/weight_{number}:0" for number in range(len(weights))]
            saved.attrs["weight_names"] = [name.encode() for name in names]
            for name, weight in zip(names, weights, strict=True):
                saved.create_dataset(name, data=np.asarray(weight))


def assert_answers(files, expected):
    answers = load_keras_model(files).predict_on_batch(FACES)
    assert np.shape(answers) == expected.shape, "no list of one answer"
    np.testing.assert_allclose(answers, expected, atol=1e-6)


@pytest.fixture
def files(tmp_path) -> ModelFiles:
    return ModelFiles(tmp_path / "old")


@pytest.mark.parametrize(("form", "whole"), [("2.11", False), ("2.15", True)])
@pytest.mark.parametrize(
    ("described", "build"),
    [(sequential_json, sequential_network), (functional_json, functional_network)],
)
def test_a_pair_of_keras_2_answers_as_it_did(files, described, build, form, whole):
    network, expected = filled(build())
    write_json(files, described(form), f"{form}.0")
    write_weights(files, network, whole)
    assert np.ptp(expected, axis=0).max() > 1e-4, "the faces must tell models apart"
    assert_answers(files, expected)


def test_other_forms_and_a_note_where_it_is_served(files):
    """Layers in a list and no input layer, as before Keras 2.2.3; text that was encoded twice."""
    content, (network, expected) = sequential_json("2.11"), filled(sequential_network())
    write_weights(files, network, whole=False)
    write_json(files, content | {"config": content["config"]["layers"][1:]}, "2.0.6")
    assert_answers(files, expected)
    write_json(files, content)
    write_fast_form(files)
    model = load_model(files.stem)
    assert model.runtime == "ONNX Runtime"
    assert any("2.11.0" in note for note in model.notes)
    np.testing.assert_allclose(model.predict(FACES), expected, atol=LARGEST_GAP)
    save_keras_model(network, files)
    files.architecture.write_text(json.dumps(files.architecture.read_text()))
    assert_answers(files, expected)


def hostile(path):
    """Return layers, by what is wrong with them, that make a file where their code is run."""
    source = f"lambda x: __import__('pathlib').Path({str(path)!r}).touch() or x"
    code = codecs.encode(marshal.dumps(eval(source).__code__), "base64").decode()
    function = {"class_name": "__lambda__", "config": {"code": code, "defaults": None}}
    function["config"] |= {"closure": None, "value": code}
    shell = {"module": "os", "class_name": "function", "config": "system"}
    return {
        "lambda": part("Lambda", function=[code, None, None], function_type="lambda"),
        "lambda of 2.15": part("Lambda", "2.15", function=function, function_type="lambda"),
        "lambda as activation": part("Activation", activation=function),
        "function": part("Activation", activation=shell | {"registered_name": "system"}),
        "module": shell | {"class_name": "system", "config": {"command": f"touch {path}"}},
        "foreign module": part("Dense", units=7) | {"module": "os"},
        "registered": part("Dense", units=7) | {"registered_name": "Custom>Dense"},
        "saved model": part("TFSMLayer", filepath=str(path.parent)),
        "torch": part("TorchModuleWrapper", module=code),
        "function of the module": part("deserialize", config=part("Dense", units=7)),
        "builtins": part("__builtins__", name="eval"),
        "unknown": part("TFOpLambda", function="math.multiply"),
    }


@pytest.mark.parametrize("version", ["2.11.0", "3.0.0", ""])
def test_code_is_refused_and_not_run(files, tmp_path, version):
    made = tmp_path / "made"
    save_keras_model(sequential_network(), files)
    for kind, alone in hostile(made).items():
        for each in (alone, part("TimeDistributed", layer=alone)):
            layers = [layer("InputLayer"), each]
            write_json(files, part("Sequential", name="sequential", layers=layers), version)
            with pytest.raises(ModelError, match=r"old\.json") as caught:
                load_keras_model(files)
            assert not made.exists(), kind
            if version.startswith("2."):
                assert "2.11.0" in str(caught.value), kind
                assert len(str(caught.value)) < 400, kind
