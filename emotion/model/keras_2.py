"""Architectures that Keras 2 (TensorFlow before 2.16) wrote, in the form that Keras 3 reads.

Keras 3 still writes much of the old form into a whole .h5.
"""

import inspect

MODELS = ("Sequential", "Functional", "Model")  # the last: a functional one before Keras 2.4
MODULES = ("layers", "initializers", "regularizers", "constraints")  # with all other classes

# settings that Keras 2 also wrote for layers that do not use them; Keras 3 then refuses them
IDLE = ("groups", "kernel_initializer", "kernel_regularizer", "kernel_constraint")


def in_keras_3_form(content: object) -> object:
    """Return an architecture that Keras 2 wrote, or a part of one, as Keras 3 would write it.

    Keras 3 reads the old form itself, but without its safe mode. Raises ValueError where it names a
    class that is not Keras' own, or one that brings code along.
    """
    if isinstance(content, list):
        return [in_keras_3_form(part) for part in content]
    if not isinstance(content, dict):
        return content
    content = {key: in_keras_3_form(part) for key, part in content.items()}
    if not {"class_name", "config"} <= set(content):
        return content
    name, config = content["class_name"], content["config"]
    if name == "__keras_tensor__":
        return content
    if name in ("Policy", "DTypePolicy"):  # a layer's precision, which Keras 3 takes by its name
        return config["name"]
    if name == "Sequential":
        found = {"module": "keras"}
        if isinstance(config, list):  # before Keras 2.2.3
            config = {"name": "sequential", "layers": config}
    elif name in MODELS:
        found = {"module": "keras.src.models.functional", "class_name": "Functional"}
        layers = config["layers"]
        inner = [layer for layer in layers if layer["class_name"] in MODELS]
        # Keras 3 writes calls as dicts
        models = {one["name"] for one in inner if isinstance(one["inbound_nodes"][0], list)}
        for layer in layers:
            layer["inbound_nodes"] = _without_own_call(layer["inbound_nodes"], models)
        config["output_layers"] = _without_own_call(config["output_layers"], models)
        for ends in ("input_layers", "output_layers"):
            if len(config[ends]) == 1:  # else Keras 3 takes and gives a list of one
                config[ends] = config[ends][0]
    else:
        module, kind = _find_class(content)
        known, found = inspect.signature(kind).parameters, {"module": f"keras.{module}"}
        config = {key: value for key, value in config.items() if key in known or key not in IDLE}
        shape, axis = config.pop("batch_input_shape", None), config.get("axis")
        if shape:
            config |= {"batch_shape": shape} if name == "InputLayer" else {"input_shape": shape[1:]}
        if isinstance(axis, list) and len(axis) == 1:
            config["axis"] = axis[0]
    return content | found | {"config": config, "registered_name": None}


def _without_own_call(nodes: object, models: set[str]) -> object:
    """Return references to calls, [name, number, ...]; those of inner models from 0 on, not 1."""
    if not isinstance(nodes, list):
        return nodes
    if len(nodes) > 2 and isinstance(nodes[0], str) and nodes[0] in models:
        return [nodes[0], nodes[1] - 1, *nodes[2:]]
    return [_without_own_call(part, models) for part in nodes]


def _find_class(content: dict) -> tuple[str, type]:
    import keras

    name = str(content["class_name"])
    is_own = str(content.get("module", "keras.")).startswith(("keras.", "tf_keras."))
    is_safe = is_own and not content.get("registered_name") and name != "Lambda"
    for module in MODULES if is_safe else ():
        found = getattr(getattr(keras, module), name, None)
        if isinstance(found, type):
            return module, found
    raise ValueError(f"expected layers of Keras' own, without code in the file; received {name}")
