"""Several models side by side on the same images: how good, how honest, how large, how fast."""

import csv
import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, PercentFormatter

from emotion.errors import ModelError
from emotion.files import whole_file, write_json
from emotion.model.keras import ModelFiles, load_keras_model
from emotion.model.runtime import INPUT_SHAPE, EmotionModel, load_model
from emotion.training.data.datasets import Dataset
from emotion.training.measuring.evaluation import Evaluation, evaluate_model
from emotion.training.measuring.report_figures import Palette, draw

ROUNDS = 20
BATCH_SIZE = 32
TABLE_WIDTH = 100
LONGEST_NAME = 28
MULTIPLYING_STEPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
LABEL_INCHES = 0.21
"""Height that the label of one model takes beside the plot."""


@dataclass(frozen=True)
class ComparisonRow:
    """Everything about one model that is put beside the others.

    Attributes:
        name: name of the model's files, with its folder where two have the same.
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
            products; None where the model has no fast form to count them in.
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
    return tuple(
        _row(name, ModelFiles(Path(stem)), model, dataset, evaluation, milliseconds)
        for name, stem, model, evaluation, milliseconds in zip(
            names, stems, models, evaluations, times, strict=True
        )
    )


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
        "parameters": [_short(row.parameters) for row in rows],
        "multiply-adds": [_short(row.multiply_adds) for row in rows],
        "ms alone": [f"{row.milliseconds_alone:.2f}" for row in rows],
        f"ms of {BATCH_SIZE}": [f"{row.milliseconds_in_batch:.2f}" for row in rows],
        "runtime": [row.runtime for row in rows],
    }
    by_class = {name: [_decimal(row.f1[name]) for row in rows] for name in rows[0].f1}
    names = [_cut(row.name) for row in rows]
    return [
        *_table("model", names, quality),
        "",
        *_table("model", names, cost),
        "",
        *_table("F1 a class", names, by_class),
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
    with whole_file(folder / "comparison.csv") as part:
        _write_csv(part, [_flat(row) for row in rows])
    with whole_file(folder / "comparison.png") as part:
        draw(_figure, rows).savefig(part)


def _row(
    name: str,
    files: ModelFiles,
    model: EmotionModel,
    dataset: Dataset,
    evaluation: Evaluation,
    milliseconds: tuple[float, float],
) -> ComparisonRow:
    """Return one row from what was measured and from the files."""
    f1 = {row["class"]: row["f1"] for row in evaluation.per_class()}
    is_fast = model.runtime == "ONNX Runtime"
    return ComparisonRow(
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
        milliseconds_alone=milliseconds[0],
        milliseconds_in_batch=milliseconds[1],
        machine=_machine(),
    )


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


def _short(count: int | None) -> str:
    """Return a count in thousands, millions or billions."""
    if count is None:
        return "–"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def _decimal(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _cut(name: str) -> str:
    """Return a name short enough for a table, its middle left out."""
    half = LONGEST_NAME // 2
    return name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[1 - half :]}"


def _table(corner: str, names: Sequence[str], columns: dict[str, list[str]]) -> list[str]:
    """Return aligned lines, in several blocks where the columns do not fit beside each other."""
    first_width = max(len(text) for text in (corner, *names))
    blocks, room = [[]], TABLE_WIDTH - first_width
    for header, cells in columns.items():
        width = 2 + max(len(text) for text in (header, *cells))
        if blocks[-1] and width > room:
            blocks.append([])
            room = TABLE_WIDTH - first_width
        blocks[-1].append((width, (header, *cells)))
        room -= width
    lines = []
    for block in blocks:
        lines += [""] if lines else []
        for line, head in enumerate((corner, *names)):
            cells = (f"{texts[line]:>{width}}" for width, texts in block)
            lines.append(f"{head:{first_width}}" + "".join(cells))
    return lines


def _flat(row: ComparisonRow) -> dict:
    """Return a row with one value a column."""
    values = asdict(row)
    low, high = values.pop("accuracy_interval")
    by_class = values.pop("f1")
    values |= {"accuracy_low": low, "accuracy_high": high}
    return values | {f"f1_{name}": value for name, value in by_class.items()}


def _write_csv(path: Path, rows: Sequence[dict]) -> None:
    """Write rows under the names of the first one's values."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _figure(rows: Sequence[ComparisonRow], palette: Palette) -> Figure:
    """Draw accuracy over time, and F1 by class, a colour a model in both."""
    upper_inches = max(3.8, 0.8 + LABEL_INCHES * len(rows))
    figure = Figure(figsize=(8, upper_inches + 3.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, height_ratios=(upper_inches, 3.1))
    colors = [matplotlib.color_sequences["tab10"][number % 10] for number in range(len(rows))]
    _draw_trade(upper, rows, colors)
    _label_dots(upper, rows, colors, LABEL_INCHES / (upper_inches - 0.7), palette)
    _draw_classes(lower, rows, colors)
    handles = lower.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower left", ncols=4, handlelength=1.2)
    return figure


def _draw_trade(axes, rows: Sequence[ComparisonRow], colors) -> None:
    """Draw accuracy with its interval over milliseconds; the dot's area is the parameters."""
    largest = max(row.parameters for row in rows)
    for row, color in zip(rows, colors, strict=True):
        low, high = row.accuracy_interval
        place = (row.milliseconds_alone, row.accuracy)
        axes.vlines(place[0], low, high, color=color, linewidth=1.5)
        axes.scatter(*place, s=25 + 350 * row.parameters / largest, color=color, alpha=0.8)
    times = [row.milliseconds_alone for row in rows]
    axes.set(xscale="log", xlim=(min(times) / 1.8, max(times) * 1.8))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(LogLocator(subs=()))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.margins(y=0.1)
    axes.set_title(f"Accuracy and 95% interval on {rows[0].images:,} images")
    axes.set_xlabel("milliseconds a face, one at a time (area and label: parameters)")


def _label_dots(axes, rows: Sequence[ComparisonRow], colors, gap: float, palette: Palette) -> None:
    """Write the names beside the plot, apart from each other, each with a line to its dot."""
    bottom, top = axes.get_ylim()
    heights = _spread([(row.accuracy - bottom) / (top - bottom) for row in rows], gap)
    for row, color, height in zip(rows, colors, heights, strict=True):
        axes.annotate(
            f"{_cut(row.name)}, {_short(row.parameters)}",
            (row.milliseconds_alone, row.accuracy),
            xytext=(1.03, height),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            color=palette.ink,
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "linewidth": 0.8,
                "alpha": 0.7,
                "relpos": (0, 0.5),
            },
        )


def _spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Return places near those wanted, in the same order and at least a gap apart."""
    order = np.argsort(wanted, kind="stable")
    steps = np.arange(len(wanted)) * gap
    # without the steps the places must only not fall: push up, push down, meet in the middle
    level = np.asarray(wanted)[order] - steps
    upward = np.maximum.accumulate(level)
    downward = np.minimum.accumulate(level[::-1])[::-1]
    places = np.empty(len(wanted))
    places[order] = (upward + downward) / 2 + steps
    return places.tolist()


def _draw_classes(axes, rows: Sequence[ComparisonRow], colors) -> None:
    """Draw F1 by class, a bar a model."""
    class_names = list(rows[0].f1)
    width = 0.8 / len(rows)
    for number, (row, color) in enumerate(zip(rows, colors, strict=True)):
        places = np.arange(len(class_names)) - 0.4 + (number + 0.5) * width
        heights = [row.f1[name] or 0 for name in class_names]
        hatch = "//" if number >= 10 else ""
        axes.bar(places, heights, 0.9 * width, color=color, hatch=hatch, label=_cut(row.name))
    is_crowded = sum(map(len, class_names)) + 2 * len(class_names) > 90
    axes.set_xticks(range(len(class_names)), class_names, rotation=90 if is_crowded else 0)
    axes.grid(visible=False, axis="x")
    axes.set(ylim=(0, 1))
    axes.set_title("F1 by class")
