"""A stand-in for YuNet's file: a network of the same form that takes red patches for faces."""

import math
from pathlib import Path

import numpy as np

STRIDES = (8, 16, 32)
PARTS = {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}
BOX_WH = (64, 80)
"""Width and height in pixels of every box that it gives."""

REDNESS = (35, 50)
"""How much red stands above green, on the mean of a cell, for a score of 0 and of 1."""


def write_yunet_stand_in(path: Path, without: str = "") -> Path:
    """Write a network with YuNet's outputs; each red cell of 32 pixels is the middle of a face.

    Args:
        path: the file to write.
        without: an output to leave out, as another network would.
    """
    import onnx
    from onnx import TensorProto, helper

    nodes, weights, outputs = [], [], []
    for stride in STRIDES:
        for part, channels in PARTS.items():
            name = f"{part}_{stride}"
            if name != without:
                nodes += _head(name, weights, _kernel(part, stride), _bias(part, stride))
                shape = [1, "anchors", channels]
                outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "height", "width"])
    graph = helper.make_graph(nodes, "stand_in", [image], outputs, weights)
    opset = helper.make_opsetid("", 11)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=6), path)
    return path


def _head(name: str, weights: list, kernel: np.ndarray, bias: np.ndarray) -> list:
    """Return the nodes of one output and add their weights: (1, 3, H, W) -> (1, cells, C)."""
    from onnx import helper, numpy_helper

    shape = np.array([1, -1, len(bias)], np.int64)
    for suffix, array in (("kernel", kernel), ("bias", bias), ("shape", shape)):
        weights.append(numpy_helper.from_array(array, f"{name}_{suffix}"))
    side = kernel.shape[2]
    inputs = ["input", f"{name}_kernel", f"{name}_bias"]
    return [
        helper.make_node(
            "Conv", inputs, [f"{name}_map"], kernel_shape=[side] * 2, strides=[side] * 2
        ),
        helper.make_node("Transpose", [f"{name}_map"], [f"{name}_last"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", [f"{name}_last", f"{name}_shape"], [name]),
    ]


def _kernel(part: str, stride: int) -> np.ndarray:
    """Return weights that measure redness in blue, green, red cells, or nothing."""
    kernel = np.zeros((PARTS[part], 3, stride, stride), np.float32)
    if part == "cls" and stride == STRIDES[-1]:
        unit = stride * stride * (REDNESS[1] - REDNESS[0])
        kernel[0, 1], kernel[0, 2] = -1 / unit, 1 / unit
    return kernel


def _bias(part: str, stride: int) -> np.ndarray:
    """Return what a head says of every cell: in cells from its corner, sizes as logarithms."""
    if part == "bbox":
        width, height = BOX_WH
        return np.float32([0.5, 0.5, math.log(width / stride), math.log(height / stride)])
    if part == "kps":
        return np.float32([0.2, 0.2, 0.8, 0.2, 0.5, 0.5, 0.3, 0.8, 0.7, 0.8])
    if stride != STRIDES[-1]:
        return np.zeros(1, np.float32)
    return np.float32([1 if part == "obj" else -REDNESS[0] / (REDNESS[1] - REDNESS[0])])
