"""Weights to start from: ImageNet's for a backbone, or those of a model saved earlier."""

import os
import socket
from pathlib import Path

import keras

from emotion.errors import TrainingError
from emotion.model.keras import LOAD_ERRORS, ModelFiles, load_keras_model
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
    """Give a new network the weights that the settings ask for; a second head starts as the first.

    Raises:
        ModelError: the saved model cannot be loaded.
        TrainingError: the weights cannot be had, or belong to another network.
    """
    weights, architecture = settings.starting_weights(), settings.architecture
    if weights == "none":
        return
    if weights != "imagenet" and Path(weights).suffix != ".h5":
        files = ModelFiles(Path(weights))
        values = load_keras_model(files).get_weights()
        values += values[-2:] if len(network.outputs) > 1 else []
        expected = [array.shape for array in network.get_weights()]
        received = [array.shape for array in values]
        if expected != received:
            raise TrainingError(
                f"expected --weights of the same architecture and number of classes: "
                f"{len(expected)} arrays ending in {expected[-1:]}; {files.name} has "
                f"{len(received)} ending in {received[-1:]}"
            )
        network.set_weights(values)
        return
    backbone = backbone_of(network)
    if backbone is None:
        raise TrainingError(
            f"expected one of {', '.join(APPLICATIONS)} for weights from ImageNet; received "
            f"{architecture}: give --weights none, or a saved model (folder and name, no suffix)"
        )
    if weights == "imagenet":
        backbone.set_weights(_fetched_weights(architecture, backbone.input_shape[1:]))
        return
    try:
        if not Path(weights).is_file():
            raise OSError("there is no such file")
        backbone.load_weights(weights)
    except LOAD_ERRORS as error:
        raise TrainingError(
            f"expected the ImageNet weights of {architecture} without its last layer, such as "
            f"{FILES[architecture]}; {weights} cannot be used ({first_line(error)[:250]}); a whole "
            "model is given by its name without .h5"
        ) from error


def _fetched_weights(architecture: str, input_shape: tuple[int, int, int]) -> list:
    """Return the arrays of a backbone that Keras fetches, or finds where it keeps them."""
    application = getattr(keras.applications, APPLICATIONS[architecture])
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECT_TIMEOUT_S)  # Keras itself would wait for minutes
    try:
        backbone = application(include_top=False, weights="imagenet", input_shape=input_shape)
        return backbone.get_weights()
    except Exception as error:  # Keras raises a bare Exception where it cannot fetch
        name, kept_in = FILES[architecture], f"{os.environ.get('KERAS_HOME', '~/.keras')}/models"
        raise TrainingError(
            f"expected to fetch the ImageNet weights of {architecture}; that failed "
            f"({first_line(error)[:250]}): give --weights none, or get the file {name} from "
            f"elsewhere and give --weights PATH/{name} or put it into {kept_in}"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)
