import numpy as np
import pytest

from emotion.model.keras import import_keras

keras = import_keras()

from emotion.training.networks.architectures import ARCHITECTURES, build_network  # noqa: E402
from emotion.training.networks.normalisation import FastBatchNormalization, use_fast_normalisation  # noqa: E402

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="it is for TensorFlow alone"
)


def make_pair(shape: tuple[int, ...], eager: bool):
    """Return Keras' layer and ours, each in a compiled model, with the same weights."""
    random = np.random.default_rng(0)
    pair = []
    for kind in (keras.layers.BatchNormalization, FastBatchNormalization):
        model = keras.Sequential([keras.Input(shape), kind(momentum=0.9)])
        model.compile(keras.optimizers.SGD(0.5), "mse", run_eagerly=eager)
        pair.append(model)
    values = [random.normal(1, 0.2, weights.shape) for weights in pair[0].get_weights()]
    for model in pair:
        model.set_weights([np.abs(value) for value in values])
    return pair


@pytest.mark.parametrize(
    ("shape", "eager"), [((6, 5, 3), False), ((4,), False), ((6, 5, 3), True)], ids=str
)
def test_trains_as_the_layer_of_keras(shape, eager):
    random = np.random.default_rng(1)
    features = random.normal(2, 3, (16, *shape)).astype(np.float32)
    targets = random.normal(0, 1, (16, *shape)).astype(np.float32)
    ours, theirs = [], []
    for found, model in zip((theirs, ours), make_pair(shape, eager), strict=True):
        found += [model.train_on_batch(features, targets) for _ in range(3)]
        found += [*model.get_weights(), model.predict_on_batch(features)]
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)


def test_gradient_of_the_features():
    """The layer before learns the same through either of them."""
    random = np.random.default_rng(2)
    features = random.normal(0, 1, (12, 8, 8, 2)).astype(np.float32)
    targets = random.normal(0, 1, (12, 6, 6, 4)).astype(np.float32)
    kernels = []
    for kind in (keras.layers.BatchNormalization, FastBatchNormalization):
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((8, 8, 2)), keras.layers.Conv2D(4, 3), kind()])
        model.compile(keras.optimizers.SGD(0.5), "mse")
        for _ in range(3):
            model.train_on_batch(features, targets)
        kernels.append(model.get_weights()[0])
    np.testing.assert_allclose(kernels[0], kernels[1], rtol=2e-3, atol=2e-4)


def test_network_takes_and_gives_the_same_weights():
    network = build_network("mini_xception", 7, second_head=True)
    faster = use_fast_normalisation(network)
    kinds = {type(layer) for layer in faster.layers}
    assert FastBatchNormalization in kinds
    assert keras.layers.BatchNormalization not in kinds
    faces = np.random.default_rng(0).random((2, 48, 48, 1), dtype=np.float32)
    pairs = zip(faster.predict_on_batch(faces), network.predict_on_batch(faces), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_nested_part_is_replaced_too(monkeypatch):
    def build(faces):
        inner = keras.Sequential(
            [keras.Input((48, 48, 1)), keras.layers.BatchNormalization()], name="backbone"
        )
        return keras.layers.Flatten()(inner(faces))

    monkeypatch.setitem(ARCHITECTURES, "cnn", build)
    faster = use_fast_normalisation(build_network("cnn", 3))
    (inner,) = faster.get_layer("backbone").layers
    assert isinstance(inner, FastBatchNormalization)


def test_frozen_it_keeps_its_averages():
    layer = FastBatchNormalization()
    layer.build((None, 3))
    layer.trainable = False
    before = layer.get_weights()
    layer(np.random.default_rng(0).normal(5, 1, (8, 3)).astype(np.float32), training=True)
    for one, other in zip(layer.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
