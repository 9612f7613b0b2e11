"""The networks, in a plain dict: name -> function from (input, classes) to features.

Every one maps (N, 48, 48, 1) float32 in [0, 1] to a feature vector; `build_network` puts the
softmax on it. Repeated blocks are loops.
"""

import keras
from keras import layers

INPUT_SHAPE = (48, 48, 1)
HEADS = ("emotion", "votes")


def build_network(architecture: str, class_count: int, second_head: bool = False) -> keras.Model:
    """Build a network: (N, 48, 48, 1) in [0, 1] -> (N, classes) probabilities.

    Args:
        architecture: a key of `ARCHITECTURES`.
        class_count: how many classes.
        second_head: also return a second softmax named "votes", for training on two label sets.
    """
    faces = keras.Input(INPUT_SHAPE, name="faces")
    features = ARCHITECTURES[architecture](faces)
    names = HEADS if second_head else HEADS[:1]
    outputs = [
        layers.Dense(class_count, activation="softmax", dtype="float32", name=name)(features)
        for name in names
    ]
    return keras.Model(faces, outputs if second_head else outputs[0], name=architecture)


def single_head(network: keras.Model) -> keras.Model:
    """Return the same network with the emotion output alone, sharing its weights."""
    emotion = network.get_layer("emotion").output
    return keras.Model(network.input, emotion, name=network.name)


def _residual_cnn(faces):
    """A small residual network (He et al. 2016): 1.5 million parameters."""
    features = _convolution(faces, 32)
    features = layers.MaxPooling2D()(features)
    for filters, stride in ((64, 1), (128, 2), (128, 1), (256, 2)):
        features = _residual_block(features, filters, stride)
    features = layers.GlobalAveragePooling2D()(features)
    return layers.Dropout(0.4)(features)


def _residual_block(features, filters: int, stride: int):
    """Two 3x3 convolutions beside a shortcut, which is 1x1 where the shape changes."""
    shortcut = features
    if stride != 1 or features.shape[-1] != filters:
        shortcut = _convolution(features, filters, kernel=1, stride=stride, activate=False)
    features = _convolution(features, filters, stride=stride)
    features = _convolution(features, filters, activate=False)
    return layers.Activation("relu")(layers.Add()([features, shortcut]))


def _convolution(features, filters: int, kernel: int = 3, stride: int = 1, activate: bool = True):
    """Convolution, batch normalisation and, if asked for, a rectifier."""
    features = layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
    )(features)
    features = layers.BatchNormalization(momentum=0.9)(features)
    return layers.Activation("relu")(features) if activate else features


ARCHITECTURES = {"cnn": _residual_cnn}
