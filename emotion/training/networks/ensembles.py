"""Several models as one: their average as a network, or as answers to learn from."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

from emotion.errors import ModelError
from emotion.labels import common_name
from emotion.model.keras import ModelFiles, load_keras_model
from emotion.model.runtime import INPUT_SHAPE, EmotionModel, load_model
from emotion.training.measuring.evaluation import predict_images

SMALLEST_PROBABILITY = 1e-7


def average_models(stems: Sequence[Path], mirrored: bool = False) -> tuple[keras.Model, tuple]:
    """Return one network that answers with the mean of what saved models answer, and its classes.

    It ends in a dense softmax over the logarithm of that mean, which changes nothing by itself and
    lets a temperature be folded in. With `mirrored`, each model also sees each face's mirror image.
    """
    if len(stems) < 2 and not (stems and mirrored):
        raise ModelError(f"expected two models or more, or --mirrored; received {len(stems)}")
    models = [load_model(Path(stem), keras_alone=True) for stem in stems]
    class_names = models[0].class_names
    orders = [_order(model, class_names, models[0].name) for model in models]
    faces = keras.Input(INPUT_SHAPE, name="faces")
    views = (faces, ops.flip(faces, axis=2)) if mirrored else (faces,)
    answers, plain = [], {"dtype": "float32", "use_bias": False, "trainable": False}
    for number, (stem, order) in enumerate(zip(stems, orders, strict=True), start=1):
        member = load_keras_model(ModelFiles(Path(stem)))
        member.name = f"member_{number}"
        for place, variable in enumerate(member.weights):
            # members of an average inside this one have the same names, which HDF5 refuses
            variable._path = f"{place}/{variable.path}"
        of_member = [member(view) for view in views]
        if order != sorted(order):
            # picking columns is no layer that a plain Keras installation loads; a dense one is
            reorder = layers.Dense(len(order), name=f"order_{number}", **plain)
            reorder.build((None, len(order)))
            reorder.set_weights([np.eye(len(order), dtype=np.float32)[:, order]])
            of_member = [reorder(answer) for answer in of_member]
        answers += of_member
    mean = layers.Average(name="mean", dtype="float32")(answers)
    options = {"activation": "softmax", "kernel_initializer": "identity", "dtype": "float32"}
    last = layers.Dense(len(class_names), name="emotion", **options)
    emotion = last(ops.log(ops.maximum(mean, SMALLEST_PROBABILITY)))
    return keras.Model(faces, emotion, name="ensemble"), class_names


def teacher_answers(stems: Sequence[Path], images: np.ndarray, class_names) -> np.ndarray:
    """Return the mean answer of models to faces and their mirror images, (N, classes) float32."""
    models = [load_model(Path(stem)) for stem in stems]
    orders = [_order(model, class_names, "the dataset") for model in models]
    answers = [
        predict_images(model.predict, view)[:, order]
        for model, order in zip(models, orders, strict=True)
        for view in (images, images[:, :, ::-1])
    ]
    return np.mean(answers, axis=0)


def _order(model: EmotionModel, class_names: Sequence[str], whose: str) -> list[int]:
    """Return where each class stands in a model's answer; anger is angry."""
    own, wanted = (list(map(common_name, names)) for names in (model.class_names, class_names))
    if set(own) != set(wanted):
        raise ModelError(
            f"expected the same classes; {model.name} has {', '.join(model.class_names)}, "
            f"{whose} has {', '.join(class_names)}"
        )
    return [own.index(name) for name in wanted]
