"""Weights to start from: ImageNet's for a backbone, or those of a model saved earlier."""

import socket
from pathlib import Path

import keras

from emotion.errors import TrainingError
from emotion.model.keras import ModelFiles, load_keras_model
from emotion.text import first_line
from emotion.training.networks.architectures import APPLICATIONS, backbone_of
from emotion.training.settings import TrainingSettings

CONNECT_TIMEOUT_S = 10
FILES = {  # that Keras fetches, and by whose names they are known elsewhere
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
        if weights == "imagenet":
            application = getattr(keras.applications, APPLICATIONS[architecture])
            shape = backbone.input_shape[1:]
            fetched = application(include_top=False, weights="imagenet", input_shape=shape)
            backbone.set_weights(fetched.get_weights())
        elif Path(weights).is_file():
            backbone.load_weights(weights)
        else:
            raise OSError("there is no such file")
    except Exception as error:  # Keras raises a bare Exception where it cannot fetch
        raise TrainingError(
            f"expected the ImageNet weights of {architecture} without its last layer; {weights} "
            f"cannot be used ({first_line(error)[:250]}): give --weights none, or "
            f"--weights PATH/{FILES[architecture]} of a file from elsewhere, or "
            "a whole model by its name without .h5"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
