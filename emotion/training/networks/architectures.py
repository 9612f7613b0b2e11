"""The networks, in a plain dict: name -> function from faces to features.

Every one maps (N, 48, 48, 1) float32 in [0, 1] to a feature vector; `build_network` puts the
softmax on it. Repeated blocks are loops. What a network from Keras' applications needs (three
channels, a larger picture, the scaling of its ImageNet weights) is layers inside it.
"""

from collections.abc import Callable

import keras
from keras import layers

INPUT_SHAPE = (48, 48, 1)
HEADS = ("emotion", "votes")
MOMENTUM = 0.9
BACKBONE = "backbone"
ENLARGEMENT = 2
SQUEEZE = 8
IMAGENET_BLUE_GREEN_RED = (103.939, 116.779, 123.68)
"""Mean of ImageNet's channels, 0 to 255, in the order in which VGG16 and ResNet50 take them."""


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


def single_head(network: keras.Model, head: str = "emotion") -> keras.Model:
    """Return the same network with one of its `HEADS` alone, sharing its weights."""
    return keras.Model(network.input, network.get_layer(head).output, name=network.name)


def backbone_of(network: keras.Model) -> keras.Model | None:
    """Return the part of a network that takes weights from ImageNet, None where it has none.

    `train_backbone` freezes and unfreezes it.
    """
    return next((layer for layer in network.layers if layer.name == BACKBONE), None)


def train_backbone(network: keras.Model, trainable: bool) -> None:
    """Let the weights from ImageNet learn, or keep them as they are; compile anew after it.

    Not for a network that starts from random weights: its averages still have to be learned.

    Batch normalisation keeps ImageNet's averages in both cases. Keras' guide to transfer learning
    calls the backbone with `training=False` to that end, which Keras 3 overrules while a network
    around it trains (keras-team/keras issue 20285); a frozen layer it leaves alone.
    """
    backbone = backbone_of(network)
    backbone.trainable = trainable
    for layer in _batch_normalisations(backbone):
        layer.trainable = False


def _residual_cnn(faces):
    """A small residual network (He et al. 2016): 1.5 million parameters."""
    features = _convolution(faces, 32)
    features = layers.MaxPooling2D()(features)
    for filters, stride in ((64, 1), (128, 2), (128, 1), (256, 2)):
        features = _residual_block(features, filters, stride)
    features = layers.GlobalAveragePooling2D()(features)
    return layers.Dropout(0.4)(features)


def _squeeze_excitation_cnn(faces):
    """A residual network that weighs its channels (Hu et al. 2018): 1.9 million parameters."""
    features = _convolution(faces, 32)
    features = layers.MaxPooling2D()(features)
    for filters, stride in ((64, 1), (128, 2), (128, 1), (192, 2), (192, 1)):
        features = _residual_block(features, filters, stride, weigh_channels=True)
    features = layers.GlobalAveragePooling2D()(features)
    return layers.Dropout(0.4)(features)


def _mini_xception(faces):
    """mini_Xception (Arriaga, Valdenegro-Toro, Plöger 2017): depthwise separable residual blocks.

    Averages the features before the last layer, which is 3x3 over the classes there and dense here.
    """
    features = faces
    for _ in range(2):
        features = _convolution(features, 8, padding="valid")
    for filters in (16, 32, 64, 128):
        shortcut = _convolution(features, filters, kernel=1, stride=2, activate=False)
        features = _separable_convolution(features, filters)
        features = _separable_convolution(features, filters, activate=False)
        features = layers.MaxPooling2D(3, strides=2, padding="same")(features)
        features = layers.Add()([features, shortcut])
    return layers.GlobalAveragePooling2D()(features)


def _vgg(faces):
    """VGG for 48x48 (Khaireddin and Chen 2021): four pairs of 3x3 convolutions.

    Its two dense layers have 512 units each in place of 4,096: 7 million parameters, not 40.
    """
    features = faces
    for filters in (64, 128, 256, 512):
        for _ in range(2):
            features = _convolution(features, filters)
        features = layers.MaxPooling2D()(features)
    features = layers.Flatten()(features)
    for _ in range(2):
        features = _dense(layers.Dropout(0.4)(features), 512)
    return layers.Dropout(0.4)(features)


def _resnet(faces):
    """ResNet-18 (He et al. 2016) with a 3x3 stem, as pictures of 48x48 need."""
    features = _convolution(faces, 64)
    features = layers.MaxPooling2D()(features)
    for filters, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        features = _residual_block(features, filters, stride)
        features = _residual_block(features, filters, 1)
    features = layers.GlobalAveragePooling2D()(features)
    return layers.Dropout(0.4)(features)


def _vgg16(faces):
    """VGG16 (Simonyan and Zisserman 2015), made for ImageNet."""
    colors = _imagenet_colors(faces, 255.0, [-mean for mean in IMAGENET_BLUE_GREEN_RED])
    return _backbone_features(keras.applications.VGG16, colors)


def _resnet50(faces):
    """ResNet50 (He et al. 2016), made for ImageNet."""
    colors = _imagenet_colors(faces, 255.0, [-mean for mean in IMAGENET_BLUE_GREEN_RED])
    return _backbone_features(keras.applications.ResNet50, colors)


def _mobilenetv2(faces):
    """MobileNetV2 (Sandler et al. 2018), made for ImageNet."""
    return _backbone_features(keras.applications.MobileNetV2, _imagenet_colors(faces, 2.0, -1.0))


def _imagenet_colors(faces, scale: float, offset: float | list[float]):
    """Return grey faces in [0, 1] as three channels of twice the size, scaled for ImageNet.

    In float32 under any policy: bfloat16 has no room for the grey levels of 0 to 255.
    """
    large = layers.UpSampling2D(ENLARGEMENT, interpolation="bilinear", dtype="float32")(faces)
    colors = layers.Concatenate(dtype="float32")([large, large, large])
    return layers.Rescaling(scale, offset, dtype="float32")(colors)


def _backbone_features(application: Callable, colors):
    """Return the averaged features of one of Keras' applications, with random weights."""
    backbone = application(
        include_top=False, weights=None, input_shape=colors.shape[1:], name=BACKBONE
    )
    for layer in _batch_normalisations(backbone):
        layer.momentum = MOMENTUM  # theirs, up to 0.999, lags for epochs where it starts anew
    features = layers.GlobalAveragePooling2D()(backbone(colors))
    return layers.Dropout(0.4)(features)


def _batch_normalisations(network: keras.Model) -> list[layers.BatchNormalization]:
    """Return the layers of a network that keep running averages."""
    return [layer for layer in network.layers if isinstance(layer, layers.BatchNormalization)]


def _residual_block(features, filters: int, stride: int, weigh_channels: bool = False):
    """Two 3x3 convolutions beside a shortcut, which is 1x1 where the shape changes."""
    shortcut = features
    if stride != 1 or features.shape[-1] != filters:
        shortcut = _convolution(features, filters, kernel=1, stride=stride, activate=False)
    features = _convolution(features, filters, stride=stride)
    features = _convolution(features, filters, activate=False)
    if weigh_channels:
        features = _squeeze_and_excite(features)
    return layers.Activation("relu")(layers.Add()([features, shortcut]))


def _squeeze_and_excite(features):
    """Scale each channel by what all channels show on average (Hu et al. 2018)."""
    filters = features.shape[-1]
    weights = layers.GlobalAveragePooling2D(keepdims=True)(features)
    weights = layers.Dense(max(1, filters // SQUEEZE), activation="relu")(weights)
    weights = layers.Dense(filters, activation="sigmoid")(weights)
    return layers.Multiply()([features, weights])


def _convolution(
    features,
    filters: int,
    kernel: int = 3,
    stride: int = 1,
    activate: bool = True,
    padding: str = "same",
):
    """Convolution, batch normalisation and, if asked for, a rectifier."""
    features = layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
    )(features)
    return _normalised(features, activate)


def _separable_convolution(features, filters: int, activate: bool = True):
    """3x3 convolution of each channel, 1x1 across them, then as `_convolution`."""
    features = layers.SeparableConv2D(
        filters,
        3,
        padding="same",
        use_bias=False,
        depthwise_initializer="he_normal",
        pointwise_initializer="he_normal",
    )(features)
    return _normalised(features, activate)


def _dense(features, units: int):
    """Fully connected layer, batch normalisation and rectifier."""
    features = layers.Dense(units, use_bias=False, kernel_initializer="he_normal")(features)
    return _normalised(features)


def _normalised(features, activate: bool = True):
    """Batch normalisation and, if asked for, a rectifier."""
    features = layers.BatchNormalization(momentum=MOMENTUM)(features)
    return layers.Activation("relu")(features) if activate else features


ARCHITECTURES = {
    "cnn": _residual_cnn,
    "se_cnn": _squeeze_excitation_cnn,
    "mini_xception": _mini_xception,
    "vgg": _vgg,
    "resnet": _resnet,
    "vgg16": _vgg16,
    "resnet50": _resnet50,
    "mobilenetv2": _mobilenetv2,
}
