"""The networks, in a plain dict: name -> function from faces to features.

Every one maps (N, 48, 48, 1) float32 in [0, 1] to a feature vector; `build_network` puts the
softmax on it. Whatever else a network needs is layers inside it.
"""

import socket
import warnings
from functools import partial
from pathlib import Path

import keras
from keras import layers

from emotion.errors import TrainingError
from emotion.model.keras import ModelFiles, load_keras_model
from emotion.model.runtime import INPUT_SHAPE
from emotion.text import first_line
from emotion.training.settings import TrainingSettings

HEADS = ("emotion", "votes")
MOMENTUM = 0.9
BACKBONE = "backbone"
ENLARGEMENT = 2
SQUEEZE = 8
IMAGENET_OFFSET = [-103.939, -116.779, -123.68]  # minus the means of blue, green, red, 0 to 255


def build_network(
    architecture: str, class_count: int, second_head: bool = False, **size: int
) -> keras.Model:
    """Build a network: (N, 48, 48, 1) in [0, 1] -> (N, classes), twice with a `second_head`."""
    faces = keras.Input(INPUT_SHAPE, name="faces")
    features = ARCHITECTURES[architecture](faces, **size)
    head = partial(layers.Dense, class_count, activation="softmax", dtype="float32")
    outputs = [head(name=name)(features) for name in (HEADS if second_head else HEADS[:1])]
    return keras.Model(faces, outputs if second_head else outputs[0], name=architecture)


def backbone_of(network: keras.Model) -> keras.Model | None:
    """Return the part of a network that takes weights from ImageNet, None where it has none."""
    return next((layer for layer in network.layers if layer.name == BACKBONE), None)


def train_backbone(network: keras.Model, trainable: bool) -> None:
    """Let the weights from ImageNet learn, or keep them as they are; compile anew after it.

    Batch normalisation keeps ImageNet's averages in both cases. Keras' guide to transfer learning
    calls the backbone with `training=False` to that end, which Keras 3 overrules while a network
    around it trains (keras-team/keras issue 20285); a frozen layer it leaves alone.
    """
    backbone = backbone_of(network)
    backbone.trainable = trainable
    for layer in backbone.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False


def _residual(faces, stem: int, blocks: list[tuple[int, int]], weigh_channels: bool = False):
    """A residual network (He et al. 2016): blocks of (filters, stride) after a 3x3 stem.

    A block is two 3x3 convolutions beside a shortcut, which is 1x1 where the shape changes.
    `weigh_channels` scales each channel by what all show on average (Hu et al. 2018).
    """
    features = layers.MaxPooling2D()(_convolution(faces, stem))
    for filters, stride in blocks:
        shortcut = features
        if stride != 1 or features.shape[-1] != filters:
            shortcut = _convolution(features, filters, kernel=1, stride=stride, activate=False)
        features = _convolution(features, filters, stride=stride)
        features = _convolution(features, filters, activate=False)
        if weigh_channels:
            weights = layers.GlobalAveragePooling2D(keepdims=True)(features)
            channels = features.shape[-1]
            weights = layers.Dense(max(1, channels // SQUEEZE), activation="relu")(weights)
            weights = layers.Dense(channels, activation="sigmoid")(weights)
            features = layers.Multiply()([features, weights])
        features = layers.Activation("relu")(layers.Add()([features, shortcut]))
    return layers.Dropout(0.4)(layers.GlobalAveragePooling2D()(features))


def _sequential(faces, blocks: int = 3, filters: int = 32):
    """Convolutions, pooling, dropout, a dense layer, one after the other: as in most tutorials."""
    features = faces
    for block in range(blocks):
        for _ in range(2):
            features = _convolution(features, filters * 2**block)
        features = layers.Dropout(0.25)(layers.MaxPooling2D()(features))
    dense = layers.Dense(512, use_bias=False, kernel_initializer="he_normal")
    return layers.Dropout(0.5)(_normalised(dense(layers.Flatten()(features))))


def _mini_xception(faces):
    """mini_Xception (Arriaga, Valdenegro-Toro, Plöger 2017): separable residual blocks."""
    start = dict.fromkeys(("depthwise_initializer", "pointwise_initializer"), "he_normal")
    options = {"padding": "same", "use_bias": False} | start
    features = faces
    for _ in range(2):
        features = _convolution(features, 8, padding="valid")
    for filters in (16, 32, 64, 128):
        shortcut = _convolution(features, filters, kernel=1, stride=2, activate=False)
        for activate in (True, False):
            features = layers.SeparableConv2D(filters, 3, **options)(features)
            features = _normalised(features, activate)
        features = layers.MaxPooling2D(3, strides=2, padding="same")(features)
        features = layers.Add()([features, shortcut])
    return layers.GlobalAveragePooling2D()(features)


def _vgg(faces):
    """VGG for 48x48 (Khaireddin and Chen 2021), with two dense layers of 512 units, not 4,096."""
    features = faces
    for filters in (64, 128, 256, 512):
        for _ in range(2):
            features = _convolution(features, filters)
        features = layers.MaxPooling2D()(features)
    features = layers.Flatten()(features)
    for _ in range(2):
        dense = layers.Dense(512, use_bias=False, kernel_initializer="he_normal")
        features = _normalised(dense(layers.Dropout(0.4)(features)))
    return layers.Dropout(0.4)(features)


def _pretrained(faces, application: str, scale: float, offset: float | list[float]):
    """One of Keras' applications, with random weights: it sees the grey faces as three channels of
    twice the size, scaled for ImageNet in float32, as bfloat16 has no room for 0 to 255.
    """
    large = layers.UpSampling2D(ENLARGEMENT, interpolation="bilinear", dtype="float32")(faces)
    colors = layers.Concatenate(dtype="float32")([large, large, large])
    colors = layers.Rescaling(scale, offset, dtype="float32")(colors)
    backbone = getattr(keras.applications, application)(
        include_top=False, weights=None, input_shape=colors.shape[1:], name=BACKBONE
    )
    for layer in backbone.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = MOMENTUM  # theirs, up to 0.999, lags for epochs where it starts anew
    return layers.Dropout(0.4)(layers.GlobalAveragePooling2D()(backbone(colors)))


def _convolution(features, filters: int, kernel=3, stride=1, activate=True, padding="same"):
    options = {"strides": stride, "padding": padding, "use_bias": False}
    convolution = layers.Conv2D(filters, kernel, kernel_initializer="he_normal", **options)
    return _normalised(convolution(features), activate)


def _normalised(features, activate: bool = True):
    features = layers.BatchNormalization(momentum=MOMENTUM)(features)
    return layers.Activation("relu")(features) if activate else features


CNN_BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2)]
SE_CNN_BLOCKS = [(64, 1), (128, 2), (128, 1), (192, 2), (192, 1)]
RESNET_BLOCKS = [(64, 1)] * 2 + [(128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]
APPLICATIONS = {"vgg16": "VGG16", "resnet50": "ResNet50", "mobilenetv2": "MobileNetV2"}
ARCHITECTURES = {
    "cnn": partial(_residual, stem=32, blocks=CNN_BLOCKS),  # 1.5 million parameters
    "se_cnn": partial(_residual, stem=32, blocks=SE_CNN_BLOCKS, weigh_channels=True),  # 1.9 million
    "sequential": _sequential,
    "mini_xception": _mini_xception,
    "vgg": _vgg,
    "resnet": partial(_residual, stem=64, blocks=RESNET_BLOCKS),  # ResNet-18
    # Simonyan and Zisserman 2015, He et al. 2016, Sandler et al. 2018
    "vgg16": partial(_pretrained, application="VGG16", scale=255.0, offset=IMAGENET_OFFSET),
    "resnet50": partial(_pretrained, application="ResNet50", scale=255.0, offset=IMAGENET_OFFSET),
    "mobilenetv2": partial(_pretrained, application="MobileNetV2", scale=2.0, offset=-1.0),
}
CONNECT_TIMEOUT_S = 10
IMAGENET_FILES = {  # that Keras fetches, and by whose names they are known elsewhere
    "vgg16": "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "resnet50": "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "mobilenetv2": "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_96_no_top.h5",
}


def start_from(network: keras.Model, settings: TrainingSettings) -> None:
    """Give a network the weights to start from; a second head starts as the first."""
    weights, architecture = settings.starting_weights(), settings.architecture
    if weights == "none":
        return
    if weights != "imagenet" and Path(weights).suffix != ".h5":
        values = load_keras_model(ModelFiles(Path(weights))).get_weights()
        values += values[-2:] if len(network.outputs) > 1 else []
        try:
            network.set_weights(values)
        except ValueError as error:
            raise TrainingError(
                "expected --weights of the same architecture and number of classes; "
                f"those of {weights} do not fit ({first_line(error)[:250]})"
            ) from error
        return
    backbone = backbone_of(network)
    if backbone is None:
        raise TrainingError(
            f"expected one of {', '.join(APPLICATIONS)} for weights from ImageNet; received "
            f"{architecture}: give --weights none, or a saved model (folder and name, no suffix)"
        )
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECT_TIMEOUT_S)  # Keras itself would wait for minutes
    try:
        if weights != "imagenet" and not Path(weights).is_file():
            raise OSError("there is no such file")
        # by way of Keras' own layers, as whose kinds a .weights.h5 names them
        application = getattr(keras.applications, APPLICATIONS[architecture])
        with warnings.catch_warnings(action="ignore"):  # one a layer, before the error
            shape = backbone.input_shape[1:]
            theirs = application(include_top=False, weights=weights, input_shape=shape)
        backbone.set_weights(theirs.get_weights())
    except Exception as error:  # Keras raises a bare Exception where it cannot fetch
        raise TrainingError(
            f"expected the ImageNet weights of {architecture} without its last layer; {weights} "
            f"cannot be used ({first_line(error)[:250]}): give --weights none, or "
            f"--weights PATH/{IMAGENET_FILES[architecture]} of a file from elsewhere, or "
            "a whole model by its name without .h5"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
