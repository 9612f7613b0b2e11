"""Several models side by side on the same images: how good, how honest, how large, how fast."""

import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from emotion.errors import ModelError
from emotion.files import write_csv, write_json
from emotion.model.keras import ModelFiles, load_keras_model
from emotion.model.runtime import INPUT_SHAPE, EmotionModel, load_model
from emotion.text import decimal, table
from emotion.training.data.datasets import Dataset
from emotion.training.measuring.comparison_figure import LONGEST_NAME, draw_comparison, short
from emotion.training.measuring.evaluation import evaluate_model
from emotion.training.measuring.report import write_figure
from emotion.training.measuring.report_figures import cut, draw

ROUNDS = 20
BATCH_SIZE = 32
TABLE_WIDTH = 100
CONVOLUTIONS, PRODUCTS = ("Conv", "ConvTranspose"), ("Gemm", "MatMul")  # ONNX's names


@dataclass(frozen=True)
class ComparisonRow:
    """Everything about one model that is put beside the others."""

    name: str  # of the model's files, with its folder if two have the same
    runtime: str  # "ONNX Runtime" or "Keras"
    images: int
    accuracy: float
    accuracy_interval: tuple[float, float]  # 95%
    macro_f1: float
    f1: dict[str, float | None]  # of each class of the dataset; None where it is not defined
    log_loss: float
    expected_calibration_error: float
    size_bytes: int  # of the .h5
    parameters: int  # moving averages included
    multiply_adds: int | None  # of one face; None if the model has no fast form
    milliseconds_alone: float  # median time of a face that comes alone
    milliseconds_in_batch: float  # median time of a face among 32
    machine: str  # what the times were taken on


def compare_models(
    stems: Sequence[Path], dataset: Dataset, progress: Callable[[str], None] | None = None
) -> tuple[ComparisonRow, ...]:
    """Measure models, each a folder and name, on all images of a dataset, as they are served.

    `progress` is called with the name of each model before it is measured.
    Raises DatasetError, ModelError.
    """
    if not stems:
        raise ModelError("expected one model or more to compare; received none")
    models = [load_model(stem) for stem in stems]
    names = [stem.name for stem in stems]
    if len(set(names)) < len(names):
        names = [stem.as_posix() for stem in stems]
    names = [
        name if names.count(name) == 1 else f"{name} ({names[: number + 1].count(name)})"
        for number, name in enumerate(names)
    ]
    evaluations = []
    for name, model in zip(names, models, strict=True):
        if progress:
            progress(name)
        evaluations.append(evaluate_model(model, dataset))
    rows, times = [], time_models(models, dataset.images)
    measured = zip(names, stems, models, evaluations, times, strict=True)
    for name, stem, model, evaluation, (alone, in_batch) in measured:
        files = ModelFiles(stem)
        f1 = {row["class"]: row["f1"] for row in evaluation.per_class()}
        is_fast = model.runtime == "ONNX Runtime"
        rows.append(
            ComparisonRow(
                name=name,
                runtime=model.runtime,
                images=len(dataset),
                accuracy=evaluation.accuracy,
                accuracy_interval=evaluation.accuracy_interval,
                macro_f1=evaluation.macro_f1,
                f1={class_name: f1[class_name] for class_name in dataset.class_names},
                log_loss=evaluation.log_loss,
                expected_calibration_error=evaluation.expected_calibration_error,
                size_bytes=files.weights.stat().st_size,
                parameters=load_keras_model(files).count_params(),
                multiply_adds=count_multiply_adds(files.fast_form) if is_fast else None,
                milliseconds_alone=alone,
                milliseconds_in_batch=in_batch,
                machine=_machine(),
            )
        )
    return tuple(rows)


def time_models(models: Sequence[EmotionModel], images: np.ndarray) -> list[list[float]]:
    """Return the median milliseconds a face of each model: alone, and among 32.

    The models take turns, so that whatever else the machine does hits all alike. The first round
    does not count. Images are (N, 48, 48) uint8, at least one.
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
    """Return the multiply-adds of one face in an ONNX file.

    Counts convolutions and matrix products, which are all but a few per cent of the work.
    """
    import onnx
    import onnxruntime

    model = onnx.load(fast_form)
    graph, face = model.graph, {model.graph.input[0].name: np.zeros((1, *INPUT_SHAPE), np.float32)}
    steps = [node for node in graph.node if node.op_type in CONVOLUTIONS + PRODUCTS]
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    shapes |= {name: value.shape for name, value in face.items()}
    # the network is run for the other shapes: ONNX's own inference of shapes does not see through
    # a flattening of batches of any size
    wanted = {name for node in steps for name in (*node.input[:2], node.output[0])}
    for name in sorted(wanted - shapes.keys() - {value.name for value in graph.output}):
        graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    results = zip(graph.output, session.run(None, face), strict=True)
    shapes |= {value.name: result.shape for value, result in results}
    total = 0
    for node in steps:
        source, weights, result = (shapes[name] for name in (*node.input[:2], node.output[0]))
        if node.op_type in PRODUCTS:
            total += math.prod(result) * source[-1]
        else:  # weights are (channels out, channels in a group, height, width), or in and out
            places = result if node.op_type == "Conv" else source
            total += math.prod(places) * math.prod(weights[1:])
    return total


def comparison_lines(rows: Sequence[ComparisonRow]) -> list[str]:
    """Return the rows as a table for a terminal of 100 columns, in blocks under each other."""
    quality = {
        "accuracy": [f"{row.accuracy:.2%}" for row in rows],
        "95% interval": ["{:.2%} to {:.2%}".format(*row.accuracy_interval) for row in rows],
        "macro F1": [f"{row.macro_f1:.3f}" for row in rows],
        "log loss": [f"{row.log_loss:.3f}" for row in rows],
        "calibration error": [f"{row.expected_calibration_error:.3f}" for row in rows],
    }
    cost = {
        "size": [f"{row.size_bytes / 1e6:,.1f} MB" for row in rows],
        "parameters": [short(row.parameters) for row in rows],
        "multiply-adds": [short(row.multiply_adds) for row in rows],
        "ms alone": [f"{row.milliseconds_alone:.2f}" for row in rows],
        f"ms of {BATCH_SIZE}": [f"{row.milliseconds_in_batch:.2f}" for row in rows],
        "runtime": [row.runtime for row in rows],
    }
    by_class = {name: [decimal(row.f1[name]) for row in rows] for name in rows[0].f1}
    names = [cut(row.name, LONGEST_NAME) for row in rows]
    return [
        *_blocks("model", names, quality),
        *_blocks("model", names, cost),
        *_blocks("F1 a class", names, by_class),
        f"Milliseconds of a face that comes alone and of one among {BATCH_SIZE}: medians, taken in "
        "turns,",
        f"on {rows[0].machine}.",
    ]


def write_comparison(folder: Path, rows: Sequence[ComparisonRow]) -> None:
    """Write `comparison.csv`, `comparison.json` and `comparison.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "comparison.json", [asdict(row) for row in rows])
    flat = []
    for row in rows:  # one value a column
        values = asdict(row)
        low, high = values.pop("accuracy_interval")
        by_class = {f"f1_{name}": value for name, value in values.pop("f1").items()}
        flat.append(values | {"accuracy_low": low, "accuracy_high": high} | by_class)
    write_csv(folder / "comparison.csv", flat)
    write_figure(folder / "comparison.png", draw(draw_comparison, rows))


def _machine() -> str:
    """Return the processor and how many of it there are, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    processor = named[0] if named else platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} CPUs, {platform.system()}"


def _blocks(corner: str, names: Sequence[str], columns: dict[str, list[str]]) -> list[str]:
    """Return a table as lines, an empty one last, in several blocks if it is too wide for one."""
    heads, lines = list(columns), []
    while heads:
        tables = []
        for count in range(1, len(heads) + 1):
            cells = zip(names, *(columns[head] for head in heads[:count]), strict=True)
            tables.append(table((corner, *heads[:count]), list(cells)))
        fitting = sum(max(map(len, lines)) <= TABLE_WIDTH for lines in tables) or 1
        lines += [*tables[fitting - 1], ""]
        heads = heads[fitting:]
    return lines
