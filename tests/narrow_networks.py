"""The networks with few channels a layer: the same kinds of layers, quick to build and convert."""

import numpy as np

from emotion.keras_pair import import_keras


def build_narrow(build, *arguments):
    """Return `build(*arguments)` with a sixteenth of the channels in each convolution."""
    keras = import_keras()
    from keras.src import layers as layers_of_applications

    places = (keras.layers, layers_of_applications)
    mobilenet = keras.applications.MobileNetV2
    kinds = {"Conv2D": keras.layers.Conv2D, "SeparableConv2D": keras.layers.SeparableConv2D}

    def put_back():
        for place in places:
            for name, kind in kinds.items():
                setattr(place, name, kind)
        keras.applications.MobileNetV2 = mobilenet

    def narrow(kind):
        return lambda filters, *others, **options: kind(max(2, filters // 16), *others, **options)

    def narrow_mobilenet(**options):
        put_back()  # it computes its channels itself, from its alpha
        return mobilenet(alpha=0.1, **options)

    try:
        for place in places:
            for name, kind in kinds.items():
                setattr(place, name, narrow(kind))
        keras.applications.MobileNetV2 = narrow_mobilenet
        return build(*arguments)
    finally:
        put_back()


def make_faces(count: int = 3) -> np.ndarray:
    """Return (count, 48, 48, 1) float32 in [0, 1], each of another brightness and pattern."""
    random = np.random.default_rng(0)
    faces = random.random((count, 12, 12, 1), dtype=np.float32).repeat(4, axis=1).repeat(4, axis=2)
    return faces * np.linspace(0.3, 1, count, dtype=np.float32)[:, None, None, None]


def settle(network, faces: np.ndarray) -> None:
    """Give a new network averages and a last layer with which it tells faces apart."""
    keras = import_keras()
    flat = [*network.layers, *(inner for layer in network.layers for inner in parts(layer))]
    averaging = [layer for layer in flat if isinstance(layer, keras.layers.BatchNormalization)]
    kept = [layer.momentum for layer in averaging]
    for layer in averaging:
        layer.momentum = 0.0
    network(faces, training=True)
    for layer, momentum in zip(averaging, kept, strict=True):
        layer.momentum = momentum


def parts(layer) -> list:
    """Return the layers of a nested network, none of a plain layer."""
    return getattr(layer, "layers", [])
