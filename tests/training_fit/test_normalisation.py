import numpy as np
import pytest

from emotion.model.keras import import_keras

keras = import_keras()

from emotion.training.networks.architectures import ARCHITECTURES, build_network  # noqa: E402
from emotion.training.networks.normalisation import FastBatchNormalization, use_fast_normalisation  # noqa: E402

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="it is for TensorFlow alone"
)


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
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-4)


def test_network_with_a_nested_part_takes_and_gives_the_same_weights(monkeypatch):
    def build(faces):
        inner = [keras.Input((48, 48, 1)), keras.layers.BatchNormalization()]
        features = keras.Sequential(inner, name="backbone")(faces)
        return keras.layers.BatchNormalization()(keras.layers.Flatten()(features))

    monkeypatch.setitem(ARCHITECTURES, "cnn", build)
    network = build_network("cnn", 3, second_head=True)
    faster = use_fast_normalisation(network)
    kinds = {type(layer) for layer in (*faster.layers, *faster.get_layer("backbone").layers)}
    assert FastBatchNormalization in kinds
    assert keras.layers.BatchNormalization not in kinds
    faces = np.random.default_rng(0).random((2, 48, 48, 1), dtype=np.float32)
    pairs = zip(faster.predict_on_batch(faces), network.predict_on_batch(faces), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, atol=1e-6)
    layer = faster.get_layer("backbone").layers[-1]
    layer.trainable = False
    before = layer.get_weights()
    layer(faces + 5, training=True)
    for one, other in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other, err_msg="frozen, it keeps its averages")
