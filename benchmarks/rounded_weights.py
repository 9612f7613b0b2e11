"""Round a model's kernels to 8 bits, so that its files take a third of the room; run by hand.

For the models of the repository, whose clone must stay small. The pair and the fast form stay what
they were to every program: a kernel holds whole 128ths, and the batch normalisation after it takes
the scale of each channel (as in Jacob et al. 2018, "Quantization and Training of Neural Networks
for Efficient Integer-Arithmetic-Only Inference", for the weights alone). Computing stays in
floats. The answers move a little, so measure anew afterwards:

    python benchmarks/rounded_weights.py models/detection_model
    python3 run.py train renew models/detection_model --dataset ... --votes ...
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from emotion.errors import EmotionError
from emotion.files import sha256_of, write_json
from emotion.model.card import read_card
from emotion.model.keras import ModelFiles, load_keras_model, save_keras_model, write_fast_form

LARGEST = 127  # of a rounded weight
UNIT = 1 / 128


def round_kernels(model) -> None:
    """Round the kernels of convolutions that a batch normalisation follows, in place."""
    for layer in model.layers:
        after = [node.operation for node in layer._outbound_nodes]
        kinds = [type(one).__name__ for one in (layer, *after)]
        if kinds != ["Conv2D", "BatchNormalization"] or layer.use_bias:
            continue
        (kernel,), (scale, shift, mean, variance) = layer.get_weights(), after[0].get_weights()
        steps = np.maximum(np.abs(kernel).max((0, 1, 2)), 1e-12) / LARGEST  # one a channel
        layer.set_weights([np.round(kernel / steps) * UNIT])
        factor, epsilon = steps / UNIT, after[0].epsilon
        # the statistics stay true, so that a training can go on from here
        variance = np.maximum((variance + epsilon) / factor**2 - epsilon, 0)
        after[0].set_weights([scale, shift, mean / factor, variance])


def round_fast_form(path: Path) -> None:
    """Store the kernels of an ONNX file as whole numbers and steps, multiplied when it loads."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    content = onnx.load(path)
    graph = content.graph
    for weights in list(graph.initializer):
        kernel = numpy_helper.to_array(weights)
        if kernel.ndim != 4:
            continue
        steps = np.abs(kernel).max((1, 2, 3), keepdims=True) / LARGEST
        rounded = np.round(kernel / steps)
        if np.abs(rounded * steps - kernel).max() > 1e-6 * np.abs(kernel).max():
            continue  # not rounded in the pair
        name = weights.name
        graph.initializer.remove(weights)
        arrays = {f"{name}_whole": rounded.astype(np.int8), f"{name}_steps": steps}
        graph.initializer.extend(numpy_helper.from_array(one, key) for key, one in arrays.items())
        cast = helper.make_node("Cast", [f"{name}_whole"], [f"{name}_float"], to=TensorProto.FLOAT)
        times = helper.make_node("Mul", [f"{name}_float", f"{name}_steps"], [name])
        graph.node.insert(0, times)
        graph.node.insert(0, cast)
    onnx.save(content, path)


def main(arguments: list[str]) -> int:
    """Round one model's weights, in its files."""
    if len(arguments) != 1:
        print("usage: python benchmarks/rounded_weights.py models/NAME", file=sys.stderr)
        return 2
    files = ModelFiles(Path(arguments[0]))
    try:
        model = load_keras_model(files)
        round_kernels(model)
        save_keras_model(model, files)
        write_fast_form(files)
    except EmotionError as error:
        print(error, file=sys.stderr)
        return 1
    round_fast_form(files.fast_form)
    write_json(files.fast_form_seal, {"sha256": sha256_of(files.fast_form)} | files.hashes())
    card = read_card(files.card)
    if card is not None:
        write_json(files.card, card | files.hashes())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
