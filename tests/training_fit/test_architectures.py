import json
from pathlib import Path

import keras
import numpy as np
import pytest
from narrow_networks import build_narrow, make_faces, require_equal, save, settle

from emotion.model.keras import LARGEST_GAP, load_keras_model
from emotion.model.runtime import load_model
from emotion.training.fitting.batches import DEPTHWISE_NETWORKS
from emotion.training.networks import architectures
from emotion.training.networks.architectures import ARCHITECTURES, backbone_of, build_network
from emotion.training.networks.normalisation import FastBatchNormalization, use_fast_normalisation
from emotion.training.settings import NATIVE_NETWORKS, TRANSFER_NETWORKS

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "detection_model"
FACES = make_faces()
DEPTHWISE = (keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)


def answers_of(network) -> np.ndarray:
    """Return the answers of a network without compiling it, which takes longer than they do."""
    return np.asarray(keras.tree.flatten(network(FACES))[0])


def test_the_networks_that_there_are():
    assert set(ARCHITECTURES) == set(NATIVE_NETWORKS + TRANSFER_NETWORKS)
    for architecture in ARCHITECTURES:
        network = build_network(architecture, 7)
        assert (backbone_of(network) is not None) == (architecture in TRANSFER_NETWORKS)
        depthwise = any(isinstance(layer, DEPTHWISE) for layer in network._flatten_layers())
        assert depthwise == (architecture in DEPTHWISE_NETWORKS)
    network = build_network("sequential", 7, blocks=2, filters=4)
    kernels = [layer.filters for layer in network.layers if hasattr(layer, "filters")]
    assert kernels == [4, 4, 8, 8]
    network = build_network("se_cnn", 7)  # the shipped model is such a network
    shipped = json.loads(SHIPPED.with_suffix(".json").read_text())["config"]["layers"]
    ours = [type(layer).__name__ for layer in network.layers]
    assert [layer["class_name"] for layer in shipped] == ours
    network.load_weights(SHIPPED.with_suffix(".h5"))


# the others have no kind of layer that these have not
@pytest.mark.parametrize(
    "architecture", ["se_cnn", "sequential", "mini_xception", "vgg16", "mobilenetv2"]
)
def test_obeys_the_contract(architecture, tmp_path):
    network = build_narrow(build_network, architecture, 3, True)
    settle(network, FACES)
    single = keras.Model(network.input, network.get_layer("emotion").output)
    answers = answers_of(single)
    files = save(single, tmp_path / architecture, ["a", "b", "c"])
    np.testing.assert_array_equal(answers_of(load_keras_model(files)), answers)
    model = load_model(files.stem)
    assert (model.runtime, model.notes) == ("ONNX Runtime", ())
    # averages of three faces alone make a network touchy: rounded weights tell more than in use
    np.testing.assert_allclose(model.predict(FACES), answers, atol=10 * LARGEST_GAP)
    assert np.ptp(answers, axis=0).max() > 1e-2, "a network that ignores the face tests nothing"
    if architecture in ("se_cnn", "mobilenetv2"):
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            mixed = build_narrow(build_network, architecture, 3, True)
        finally:
            keras.config.set_dtype_policy("float32")
        mixed.set_weights(network.get_weights())
        np.testing.assert_allclose(answers_of(mixed), answers, atol=0.05)


MODULES = {"vgg16": "vgg16", "resnet50": "resnet", "mobilenetv2": "mobilenet_v2"}


@pytest.mark.parametrize("architecture", MODULES)
def test_backbone_sees_what_its_weights_were_made_for(architecture):
    network = build_narrow(build_network, architecture, 7)
    place = network.layers.index(backbone_of(network))
    seen = keras.Model(network.input, network.layers[place - 1].output)
    levels = np.array([0, 51, 128, 255], np.float32)
    faces = np.tile(levels[:, None, None, None] / 255, (1, 48, 48, 1))
    module = getattr(keras.applications, MODULES[architecture])
    assert architectures.APPLICATIONS[architecture] in dir(module)
    expected = module.preprocess_input(np.tile(levels[:, None, None, None], (1, 96, 96, 3)))
    np.testing.assert_allclose(seen.predict_on_batch(faces), expected, atol=1e-3)


MOVED = {  # arrays of a backbone that a step changes: from scratch, frozen and fine-tuned
    None: {"kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance"},
    False: set(),
    True: {"kernel", "bias"},
}


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("trainable", MOVED, ids=str)
def test_which_averages_of_the_backbone_move(trainable, fast):
    layers, faces = keras.layers, keras.Input((48, 48, 1))
    inner = [keras.Input((48, 48, 1)), layers.Conv2D(4, 5, strides=4)]
    nested = keras.Sequential([*inner, layers.BatchNormalization(momentum=0.5)], name="backbone")
    features = layers.BatchNormalization()(layers.GlobalAveragePooling2D()(nested(faces)))
    network = keras.Model(faces, layers.Dense(3, activation="softmax")(features))
    if trainable is not None:
        settle(network, FACES)
    plain, network = network, use_fast_normalisation(network) if fast else network
    np.testing.assert_allclose(answers_of(network), answers_of(plain), atol=1e-6)
    backbone = backbone_of(network)
    for layer in (network.layers[-2], backbone.layers[-1]):
        assert isinstance(layer, FastBatchNormalization) == fast
    if trainable is not None:
        architectures.train_backbone(network, trainable)
    network.compile(optimizer=keras.optimizers.SGD(0.1), loss="sparse_categorical_crossentropy")
    before = backbone.get_weights()
    network.train_on_batch(FACES, np.array([0, 1, 2]))
    pairs = zip(backbone.weights, before, backbone.get_weights(), strict=True)
    moved = {variable.name for variable, old, new in pairs if not np.array_equal(old, new)}
    assert moved == MOVED[trainable]


@pytest.mark.parametrize("eager", [False, True])
def test_trains_as_the_layer_of_keras(eager):
    """On one value a channel, on pictures, and so does the layer before."""
    random = np.random.default_rng(1)
    losses, weights = [], []
    features = random.normal(2, 3, (16, 8, 8, 2)).astype(np.float32)
    targets = random.normal(0, 1, (16, 4)).astype(np.float32)
    for kind in (keras.layers.BatchNormalization, FastBatchNormalization):
        keras.utils.set_random_seed(3)
        faces = keras.Input((8, 8, 2))
        learned = kind(momentum=0.9)(keras.layers.Conv2D(4, 3)(faces))
        learned = kind()(keras.layers.Dense(4)(keras.layers.Flatten()(learned)))
        model = keras.Model(faces, learned)
        model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=eager)
        losses.append([model.train_on_batch(features, targets) for _ in range(3)])
        weights.append([*model.get_weights(), model.predict_on_batch(features)])
    np.testing.assert_allclose(*losses, rtol=2e-4)
    require_equal(*weights, atol=1e-3)
