"""A stand-in for YuNet's file: a network of the same form that takes red patches for faces."""

import math
from pathlib import Path

import numpy as np

STRIDES = (8, 16, 32)
BOX_WH = (64, 80)  # of every box that it gives, in pixels
EYES_UP_PX = 0.3 * STRIDES[-1]  # above the middle of the box
REDNESS = (35, 50)  # how far red stands above green, on the mean of a cell, for a score of 0 and 1


def write_yunet_stand_in(path: Path, without: str = "") -> Path:
    """Write a network like YuNet, without one output, to which red cells of 32 pixels are faces."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, outputs = [], [], []
    for stride in STRIDES:
        is_coarsest = stride == STRIDES[-1]
        zero, one = -REDNESS[0], REDNESS[1] - REDNESS[0]
        # what a head says of every cell: in cells from its corner, sizes as logarithms
        heads = {
            "cls": [zero / one if is_coarsest else 0],
            "obj": [1 if is_coarsest else 0],
            "bbox": [0.5, 0.5, *(math.log(side / stride) for side in BOX_WH)],
            "kps": [0.2, 0.2, 0.8, 0.2, 0.5, 0.5, 0.3, 0.8, 0.7, 0.8],
        }
        for part, bias in heads.items():
            name = f"{part}_{stride}"
            if name == without:
                continue
            # (1, 3, H, W) in blue, green, red -> (1, cells, channels)
            kernel = np.zeros((len(bias), 3, stride, stride), np.float32)
            if part == "cls" and is_coarsest:
                kernel[0, 1:] = np.array([[[-1]], [[1]]]) / (stride * stride * one)
            shape = np.array([1, -1, len(bias)], np.int64)
            arrays = {"kernel": kernel, "bias": np.float32(bias), "shape": shape}
            weights += [numpy_helper.from_array(arrays[key], f"{name}_{key}") for key in arrays]
            inputs, sides = ["input", f"{name}_kernel", f"{name}_bias"], [stride] * 2
            nodes += [
                helper.make_node(
                    "Conv", inputs, [f"{name}_map"], kernel_shape=sides, strides=sides
                ),
                helper.make_node("Transpose", [f"{name}_map"], [f"{name}_last"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{name}_last", f"{name}_shape"], [name]),
            ]
            shape = [1, "anchors", len(bias)]
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "height", "width"])
    graph = helper.make_graph(nodes, "stand_in", [image], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    onnx.save(model, path)
    return path
