"""Several models side by side on the same images: how good, how honest, how large, how fast."""

import contextlib
import math
import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from emotion.errors import ModelError
from emotion.files import write_csv, write_json
from emotion.model.keras import ModelFiles, load_keras_model
from emotion.model.runtime import INPUT_SHAPE, EmotionModel, load_model
from emotion.text import NOTHING, decimal, table
from emotion.training.data.datasets import Dataset
from emotion.training.measuring.evaluation import evaluate_model
from emotion.training.measuring.report_figures import cut

ROUNDS = 20
BATCH_SIZE = 32
CLASSES_ABREAST = 8
LONGEST_NAME = 28
CONVOLUTIONS, PRODUCTS = ("Conv", "ConvTranspose"), ("Gemm", "MatMul")  # ONNX's names


def compare_models(
    stems: Sequence[Path], dataset: Dataset, progress: Callable[[str], None]
) -> list[dict]:
    """Measure models, each a folder and name, as they are served; DatasetError, ModelError.

    Parameters include moving averages, multiply_adds are of one face, milliseconds medians a face.
    """
    if not stems:
        raise ModelError("expected one model or more to compare; received none")
    models, names = [load_model(stem) for stem in stems], [stem.name for stem in stems]
    if len(set(names)) < len(names):
        names = [stem.as_posix() for stem in stems]
    rows, times = [], time_models(models, dataset.images)
    for name, stem, model, (alone, in_batch) in zip(names, stems, models, times, strict=True):
        progress(name)
        evaluation = evaluate_model(model, dataset)
        files, figures = ModelFiles(stem), evaluation.figures()
        f1 = {row["class"]: row["f1"] for row in evaluation.per_class()}
        is_fast = model.runtime == "ONNX Runtime"
        row = {"name": name, "runtime": model.runtime, "images": len(dataset)}
        kept = ("accuracy", "macro_f1", "log_loss", "expected_calibration_error")
        row |= {key: figures[key] for key in kept}
        row["accuracy_interval"] = figures["accuracy_interval_95"]
        row["f1"] = {class_name: f1[class_name] for class_name in dataset.class_names}
        row["size_bytes"] = files.weights.stat().st_size
        row["parameters"] = load_keras_model(files).count_params()
        row["multiply_adds"] = count_multiply_adds(files.fast_form) if is_fast else None
        row |= {"milliseconds_alone": alone, "milliseconds_in_batch": in_batch}
        rows.append(row | {"machine": _machine()})
    return rows


def time_models(models: Sequence[EmotionModel], images: np.ndarray) -> list[list[float]]:
    """Return the median milliseconds a face of each model, alone and among 32; they take turns, so
    that whatever else the machine does hits all alike, and the first round does not count.
    """
    batch = np.resize(images, (BATCH_SIZE, *INPUT_SHAPE)).astype(np.float32) / 255
    samples = np.zeros((ROUNDS + 1, len(models), 2))
    for number, face in enumerate(np.resize(batch, (ROUNDS + 1, *INPUT_SHAPE))):
        for row, model in enumerate(models):
            for column, faces in enumerate((face[np.newaxis], batch)):
                started = time.perf_counter()
                model.answer(faces)
                samples[number, row, column] = (time.perf_counter() - started) / len(faces)
    return np.median(1000 * samples[1:], axis=0).tolist()


def count_multiply_adds(fast_form: Path) -> int:
    """Return the multiply-adds of one face in an ONNX file, of convolutions and products."""
    import onnx

    model = onnx.load(fast_form)
    for value in (*model.graph.input, *model.graph.output):  # for one face all shapes are known
        value.type.tensor_type.shape.dim[0].dim_value = 1
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
    total = 0
    for node in graph.node:
        if node.op_type not in CONVOLUTIONS + PRODUCTS:
            continue
        source, weights, result = (shapes[name] for name in (*node.input[:2], node.output[0]))
        if node.op_type in PRODUCTS:
            total += math.prod(result) * source[-1]
        else:  # weights are (channels out, channels in a group, height, width), or in and out
            places = result if node.op_type == "Conv" else source
            total += math.prod(places) * math.prod(weights[1:])
    return total


def comparison_lines(rows: Sequence[dict]) -> list[str]:
    """Return the rows as tables for a terminal of 100 columns, under each other."""

    def column(key: str, form: str) -> list[str]:
        return [form.format(row[key]) for row in rows]

    quality = {
        "accuracy": column("accuracy", "{:.2%}"),
        "95% interval": column("accuracy_interval", "{0[0]:.2%} to {0[1]:.2%}"),
        "macro F1": column("macro_f1", "{:.3f}"),
        "log loss": column("log_loss", "{:.3f}"),
        "calibration error": column("expected_calibration_error", "{:.3f}"),
    }
    cost = {
        "size": [f"{row['size_bytes'] / 1e6:,.1f} MB" for row in rows],
        "parameters": [_short(row["parameters"]) for row in rows],
        "multiply-adds": [_short(row["multiply_adds"]) for row in rows],
        "ms alone": column("milliseconds_alone", "{:.2f}"),
        f"ms of {BATCH_SIZE}": column("milliseconds_in_batch", "{:.2f}"),
        "runtime": column("runtime", "{}"),
    }
    blocks, classes = [("model", quality), ("model", cost)], list(rows[0]["f1"])
    for start in range(0, len(classes), CLASSES_ABREAST):
        abreast = classes[start : start + CLASSES_ABREAST]
        f1 = {name: [decimal(row["f1"][name]) for row in rows] for name in abreast}
        blocks.append(("F1 a class", f1))
    names, lines = [cut(row["name"], LONGEST_NAME) for row in rows], []
    for corner, columns in blocks:
        cells = list(zip(names, *columns.values(), strict=True))
        lines += [*table((corner, *columns), cells), ""]
    what = f"Milliseconds of a face that comes alone and of one among {BATCH_SIZE}"
    return [*lines, f"{what}: medians, taken in turns,", f"on {rows[0]['machine']}."]


def write_comparison(folder: Path, rows: Sequence[dict]) -> None:
    """Write `comparison.csv` and `comparison.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "comparison.json", rows)
    flat = []
    for row in rows:  # one value a column
        low, high = row["accuracy_interval"]
        values = {key: row[key] for key in row if key not in ("accuracy_interval", "f1")}
        by_class = {f"f1_{name}": value for name, value in row["f1"].items()}
        flat.append(values | {"accuracy_low": low, "accuracy_high": high} | by_class)
    write_csv(folder / "comparison.csv", flat)


def _machine() -> str:
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        if named := re.search(r"^model name\s*: (.+)$", text, re.M):
            processor = named[1].strip()
    return f"{processor}, {os.cpu_count()} CPUs, {platform.system()}"


def _short(count: int | None) -> str:
    if count is None:
        return NOTHING
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.3g}"
