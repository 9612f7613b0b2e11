import numpy as np
import pytest

from emotion.model.keras import import_keras

keras = import_keras()

from emotion.training.networks.architectures import ARCHITECTURES, build_network  # noqa: E402
from emotion.training.networks.normalisation import FastBatchNormalization, use_fast_normalisation  # noqa: E402

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="it is for TensorFlow alone"
)
KINDS = (keras.layers.BatchNormalization, FastBatchNormalization)


def trained(model, *data) -> list:
    """Return the losses of three steps, the weights and answers after them."""
    losses = [model.train_on_batch(*data) for _ in range(3)]
    return [*losses, *model.get_weights(), model.predict_on_batch(data[0])]


@pytest.mark.parametrize(
    ("shape", "eager"), [((6, 5, 3), False), ((4,), False), ((6, 5, 3), True)], ids=str
)
def test_trains_as_the_layer_of_keras(shape, eager):
    random = np.random.default_rng(1)
    data = [random.normal(mean, 3, (16, *shape)).astype(np.float32) for mean in (2, 0)]
    values = [np.abs(random.normal(1, 0.2, shape[-1])) for _ in range(4)]
    found = []
    for kind in KINDS:
        model = keras.Sequential([keras.Input(shape), kind(momentum=0.9)])
        model.compile(keras.optimizers.SGD(0.5), "mse", run_eagerly=eager)
        model.set_weights(values)
        found.append(trained(model, *data))
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)


def test_gradient_of_the_features():
    """The layer before learns the same through either of them."""
    random = np.random.default_rng(2)
    features = random.normal(0, 1, (12, 8, 8, 2)).astype(np.float32)
    targets = random.normal(0, 1, (12, 6, 6, 4)).astype(np.float32)
    kernels = []
    for kind in KINDS:
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((8, 8, 2)), keras.layers.Conv2D(4, 3), kind()])
        model.compile(keras.optimizers.SGD(0.5), "mse")
        kernels.append(trained(model, features, targets)[3])
    np.testing.assert_allclose(*kernels, rtol=2e-3, atol=2e-4)


def test_network_with_a_nested_part_takes_and_gives_the_same_weights(monkeypatch):
    def build(faces):
        inner = keras.Sequential(
            [keras.Input((48, 48, 1)), keras.layers.BatchNormalization()], name="backbone"
        )
        return keras.layers.BatchNormalization()(keras.layers.Flatten()(inner(faces)))

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


def test_frozen_it_keeps_its_averages():
    layer = FastBatchNormalization()
    layer.build((None, 3))
    layer.trainable = False
    before = layer.get_weights()
    layer(np.random.default_rng(0).normal(5, 1, (8, 3)).astype(np.float32), training=True)
    for one, other in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
