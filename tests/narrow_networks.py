"""The networks with few channels and blocks: the same kinds of layers, quick to convert."""

from contextlib import ExitStack
from unittest.mock import patch

import numpy as np

from emotion.files import write_json
from emotion.model.keras import ModelFiles, import_keras, save_keras_model, write_fast_form

MOBILENET_BLOCKS = 4


def build_small(faces):
    """Return the features of a network that trains in a moment."""
    keras = import_keras()
    features = keras.layers.Conv2D(8, 5, strides=4, activation="relu")(faces)
    return keras.layers.Dropout(0.1)(keras.layers.Flatten()(features))


def build_tiny_network(class_count: int = 7, activation: str = "softmax", shape=(48, 48, 1)):
    """Return a small Keras network of the kind tutorials make, with random weights."""
    keras = import_keras()
    keras.utils.set_random_seed(1)
    layers = keras.layers
    first = [layers.Conv2D(4, 3, activation="relu"), layers.MaxPooling2D(4), layers.Dropout(0.25)]
    last = [layers.Flatten(), layers.Dense(class_count, activation=activation)]
    return keras.Sequential([keras.Input(shape), *first, *last])


def build_narrow(build, *arguments, **options):
    """Return what `build` makes, with a sixteenth of the channels, and few repeated blocks."""
    keras = import_keras()
    keras.utils.set_random_seed(0)
    from keras.src import layers as layers_of_applications
    from keras.src.applications import mobilenet_v2, resnet

    stack, block = resnet.stack_residual_blocks_v1, mobilenet_v2._inverted_res_block
    mobilenet = keras.applications.MobileNetV2
    widths = ExitStack()

    def narrow(kind):
        return lambda filters, *others, **options: kind(max(2, filters // 16), *others, **options)

    def short_stack(inputs, filters, _, **options):
        return stack(inputs, filters, 1, **options)

    def few_blocks(inputs, **options):
        return block(inputs, **options) if options["block_id"] < MOBILENET_BLOCKS else inputs

    def narrow_mobilenet(**options):
        widths.close()  # it computes its channels itself, from its alpha
        return mobilenet(alpha=0.1, **options)

    with ExitStack() as patches, widths:
        patches.enter_context(patch.object(resnet, "stack_residual_blocks_v1", short_stack))
        patches.enter_context(patch.object(mobilenet_v2, "_inverted_res_block", few_blocks))
        patches.enter_context(patch.object(keras.applications, "MobileNetV2", narrow_mobilenet))
        for name in ("Conv2D", "SeparableConv2D"):
            for place in (keras.layers, layers_of_applications):
                widths.enter_context(patch.object(place, name, narrow(getattr(place, name))))
        return build(*arguments, **options)


def make_faces(count: int = 3) -> np.ndarray:
    """Return (count, 48, 48, 1) float32 in [0, 1], each of another brightness and pattern."""
    random = np.random.default_rng(0)
    faces = random.random((count, 12, 12, 1), dtype=np.float32).repeat(4, axis=1).repeat(4, axis=2)
    return faces * np.linspace(0.3, 1, count, dtype=np.float32)[:, None, None, None]


def settle(network, faces: np.ndarray) -> None:
    """Give a new network averages and a last layer with which it tells faces apart."""
    averaging = [layer for layer in network._flatten_layers() if hasattr(layer, "moving_mean")]
    with ExitStack() as patches:
        for layer in averaging:
            patches.enter_context(patch.object(layer, "momentum", 0.0))
        network(faces, training=True)


def save(network, stem, class_names=None) -> ModelFiles:
    """Write a pair with its fast form and, where there are class names, a card."""
    files = ModelFiles(stem)
    save_keras_model(network, files)
    write_fast_form(files)
    if class_names is not None:
        card = {"class_names": class_names, "input_shape": [48, 48, 1], **files.hashes()}
        write_json(files.card, card)
    return files


def require_equal(ours, theirs, atol: float = 0) -> None:
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)
