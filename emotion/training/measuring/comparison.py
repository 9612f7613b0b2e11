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
MULTIPLYING_STEPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class ComparisonRow:
    """Everything about one model that is put beside the others.

    Attributes:
        name: name of the model's files, with its folder if two have the same.
        runtime: what computed: "ONNX Runtime" or "Keras".
        images: how many images it was measured on.
        accuracy: share of right answers.
        accuracy_interval: the 95% interval of the accuracy.
        macro_f1: mean F1 of the classes that have images.
        f1: F1 of each class of the dataset; None where it is not defined.
        log_loss: mean negative logarithm of the probability of the true class.
        expected_calibration_error: how far confidence and accuracy lie apart, 0 to 1.
        size_bytes: of the weights on disk, the .h5.
        parameters: numbers in the network, moving averages included.
        multiply_adds: multiplications with an addition for one face, in convolutions and matrix
            products; None if the model has no fast form.
        milliseconds_alone: median time of a face that comes alone.
        milliseconds_in_batch: median time of a face among 32.
        machine: what the times were taken on.
    """

    name: str
    runtime: str
    images: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    macro_f1: float
    f1: dict[str, float | None]
    log_loss: float
    expected_calibration_error: float
    size_bytes: int
    parameters: int
    multiply_adds: int | None
    milliseconds_alone: float
    milliseconds_in_batch: float
    machine: str


def compare_models(
    stems: Sequence[Path], dataset: Dataset, progress: Callable[[str], None] | None = None
) -> tuple[ComparisonRow, ...]:
    """Measure models on all images of a dataset, each as it is served.

    Args:
        stems: one model or more, each a folder and name without suffix.
        dataset: the images, usually one split.
        progress: called with the name of each model before it is measured.

    Returns:
        A row a model, in the order given.

    Raises:
        DatasetError: the dataset has no images, or a class that a model does not know.
        ModelError: there is no model, or one cannot be loaded.
    """
    if not stems:
        raise ModelError("expected one model or more to compare; received none")
    models = [load_model(Path(stem)) for stem in stems]
    names = _names(stems)
    evaluations = []
    for name, model in zip(names, models, strict=True):
        if progress:
            progress(name)
        evaluations.append(evaluate_model(model, dataset))
    times = time_models(models, dataset.images)
    rows = []
    for position, (model, evaluation) in enumerate(zip(models, evaluations, strict=True)):
        files = ModelFiles(Path(stems[position]))
        f1 = {row["class"]: row["f1"] for row in evaluation.per_class()}
        is_fast = model.runtime == "ONNX Runtime"
        rows.append(
            ComparisonRow(
                name=names[position],
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
                milliseconds_alone=times[position][0],
                milliseconds_in_batch=times[position][1],
                machine=_machine(),
            )
        )
    return tuple(rows)


def time_models(
    models: Sequence[EmotionModel], images: np.ndarray, rounds: int = ROUNDS
) -> list[tuple[float, float]]:
    """Return the median milliseconds a face of each model: alone, and among 32.

    The models take turns, so that whatever else the machine does hits all alike.

    Args:
        models: as they are served.
        images: (N, 48, 48) uint8, at least one.
        rounds: how many times each model is timed, after a first time that does not count.
    """
    batch = np.resize(images, (BATCH_SIZE, *INPUT_SHAPE)).astype(np.float32) / 255
    samples = np.array(
        [
            [
                [_milliseconds(model, faces) for faces in (face[np.newaxis], batch)]
                for model in models
            ]
            for face in np.resize(batch, (rounds + 1, *INPUT_SHAPE))
        ]
    )
    return [tuple(map(float, medians)) for medians in np.median(samples[1:], axis=0)]


def count_multiply_adds(fast_form: Path) -> int:
    """Return the multiply-adds of one face in an ONNX file.

    Counts convolutions and matrix products, which are all but a few per cent of the work.
    """
    import onnx

    model = onnx.load(fast_form)
    steps = [node for node in model.graph.node if node.op_type in MULTIPLYING_STEPS]
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    shapes |= _shapes_of_one_face(
        model, {name for node in steps for name in (*node.input, *node.output)}
    )
    return sum(_multiply_adds_of(node, shapes) for node in steps)


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
        "",
        *_blocks("model", names, cost),
        "",
        *_blocks("F1 a class", names, by_class),
        "",
        f"Milliseconds of a face that comes alone and of one among {BATCH_SIZE}: medians, taken in "
        "turns,",
        f"on {rows[0].machine}.",
    ]


def write_comparison(folder: Path, rows: Sequence[ComparisonRow]) -> None:
    """Write `comparison.csv`, `comparison.json` and `comparison.png`.

    Args:
        folder: made where it is missing.
        rows: what `compare_models` returned.
    """
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


def _names(stems: Sequence[Path]) -> list[str]:
    """Return a name for each model that no other has."""
    names = [Path(stem).name for stem in stems]
    if len(set(names)) < len(names):
        names = [Path(stem).as_posix() for stem in stems]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: number + 1].count(name)})"
        for number, name in enumerate(names)
    ]


def _milliseconds(model: EmotionModel, faces: np.ndarray) -> float:
    """Return how long a model takes for a face of a batch."""
    started = time.perf_counter()
    model.answer(faces)
    return (time.perf_counter() - started) * 1000 / len(faces)


def _shapes_of_one_face(model, names: set[str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of values inside an ONNX model when it is given one face.

    It is run for that: ONNX's own inference of shapes does not see through a flattening of
    batches of any size.
    """
    import onnx
    import onnxruntime

    known = {value.name for value in (*model.graph.initializer, *model.graph.output)}
    for name in sorted(names - known - {"", *(value.name for value in model.graph.input)}):
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    face = {model.graph.input[0].name: np.zeros((1, *INPUT_SHAPE), np.float32)}
    answers = session.run(None, face)
    return {
        value.name: answer.shape
        for value, answer in zip(
            (*model.graph.input, *model.graph.output), (*face.values(), *answers), strict=True
        )
    }


def _multiply_adds_of(node, shapes: dict[str, tuple[int, ...]]) -> int:
    """Return the multiply-adds of one convolution or matrix product of an ONNX graph."""
    source, weights, result = (shapes[name] for name in (*node.input[:2], node.output[0]))
    if node.op_type == "Conv":
        # weights are (channels out, channels in a group, height, width)
        return math.prod(result) * math.prod(weights[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(source) * math.prod(weights[1:])
    is_turned = any(part.name == "transA" and part.i for part in node.attribute)
    return math.prod(result) * source[-2 if is_turned else -1]


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
    """Return a table as lines, in several blocks if the columns do not fit beside each other."""
    blocks: list[dict[str, list[str]]] = [{}]
    for header, cells in columns.items():
        wider = blocks[-1] | {header: cells}
        if blocks[-1] and max(map(len, _table(corner, names, wider))) > TABLE_WIDTH:
            blocks.append({header: cells})
        else:
            blocks[-1] = wider
    return [line for block in blocks for line in ("", *_table(corner, names, block))][1:]


def _table(corner: str, names: Sequence[str], columns: dict[str, list[str]]) -> list[str]:
    return table((corner, *columns), list(zip(names, *columns.values(), strict=True)))
