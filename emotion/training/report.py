"""Figures and tables of a training run or of an evaluation, each as PNG and as JSON or CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from emotion.files import whole_file, write_json
from emotion.training.evaluation import Evaluation

SAMPLE_COUNT = 24
SAMPLE_COLUMNS = 8


def write_history(folder: Path, history: Sequence[dict], selected_epoch: int) -> None:
    """Write the curves of loss and accuracy: `curves.png`, `history.csv`.

    Args:
        folder: made where it is missing.
        history: a row an epoch with epoch, loss, accuracy, val_loss and val_accuracy.
        selected_epoch: the epoch whose weights were kept, counted from 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_csv(folder / "history.csv", history)
    _write_figure(folder / "curves.png", _curves(history, selected_epoch))


def write_evaluation(folder: Path, evaluation: Evaluation, images: np.ndarray) -> None:
    """Write everything about one evaluation.

    `evaluation.json`; `confusion_matrix` and `classification_report` as .csv and .png;
    `samples_right` and `samples_wrong` as .csv and .png, the surest answers of each kind first.

    Args:
        folder: made where it is missing.
        evaluation: the metrics.
        images: (N, 48, 48) uint8, the images in the order of the evaluation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "evaluation.json", evaluation.summary())
    _write_csv(folder / "confusion_matrix.csv", _confusion_rows(evaluation))
    _write_csv(folder / "classification_report.csv", evaluation.per_class())
    _write_figure(folder / "confusion_matrix.png", _confusion_figure(evaluation))
    _write_figure(folder / "classification_report.png", _per_class_figure(evaluation))
    right = evaluation.labels == evaluation.predictions
    for name, mask in (("samples_right", right), ("samples_wrong", ~right)):
        rows = _surest(evaluation, mask)
        _write_csv(folder / f"{name}.csv", [_sample_row(evaluation, row) for row in rows])
        _write_figure(folder / f"{name}.png", _samples_figure(evaluation, images, rows, name))


def summary_lines(evaluation: Evaluation) -> list[str]:
    """Return the figures as lines of text for a terminal."""
    low, high = evaluation.accuracy_interval
    width = max(len(name) for name in evaluation.class_names)
    lines = [
        f"accuracy {evaluation.accuracy:.2%} (95 % interval {low:.2%} to {high:.2%}) "
        f"on {len(evaluation.labels):,} images",
        f"macro F1 {evaluation.macro_f1:.3f}   log loss {evaluation.log_loss:.3f}   "
        f"expected calibration error {evaluation.expected_calibration_error:.3f}",
        "",
        f"{'':{width}}  precision  recall     F1  images",
    ]
    for row in evaluation.per_class():
        lines.append(
            f"{row['class']:{width}}  {row['precision']:9.3f}  {row['recall']:6.3f}  "
            f"{row['f1']:5.3f}  {row['support']:6,}"
        )
    return lines


def _curves(history: Sequence[dict], selected_epoch: int) -> Figure:
    """Draw loss and accuracy over the epochs, training and validation."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axes, (key, title) in zip(
        figure.subplots(1, 2), (("loss", "Loss"), ("accuracy", "Accuracy")), strict=True
    ):
        for prefix, label, style in (("", "training", "--"), ("val_", "validation", "-")):
            axes.plot(epochs, [row[prefix + key] for row in history], style, label=label)
        axes.axvline(selected_epoch, color="grey", linewidth=1, label="selected epoch")
        axes.set(title=title, xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    return figure


def _confusion_figure(evaluation: Evaluation) -> Figure:
    """Draw the confusion matrix: colour and percentage by row, count beneath."""
    counts = evaluation.confusion
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = evaluation.class_names
    side = 1.6 + 0.8 * len(names)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, ax=axes, label="share of the true class", shrink=0.8)
    for (row, column), share in np.ndenumerate(shares):
        axes.text(
            column,
            row,
            f"{share:.0%}\n{counts[row, column]}",
            ha="center",
            va="center",
            color="white" if share > 0.5 else "black",
            fontsize=9,
        )
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="answer", ylabel="true class")
    axes.set_title(f"Confusion matrix, accuracy {evaluation.accuracy:.1%}")
    return figure


def _per_class_figure(evaluation: Evaluation) -> Figure:
    """Draw precision, recall and F1 of each class side by side."""
    rows = evaluation.per_class()
    figure = Figure(figsize=(2 + 1.2 * len(rows), 4), layout="constrained")
    axes = figure.subplots()
    for offset, (key, hatch) in enumerate((("precision", "//"), ("recall", ""), ("f1", ".."))):
        places = np.arange(len(rows)) + (offset - 1) * 0.27
        bars = axes.bar(places, [row[key] for row in rows], 0.25, label=key, hatch=hatch, alpha=0.8)
        axes.bar_label(bars, fmt="%.2f", fontsize=7)
    axes.set_xticks(range(len(rows)), [f"{row['class']}\n{row['support']} images" for row in rows])
    axes.set(ylim=(0, 1.1), title=f"Classification report, macro F1 {evaluation.macro_f1:.2f}")
    axes.legend(ncols=3, loc="upper right")
    return figure


def _surest(evaluation: Evaluation, mask: np.ndarray) -> np.ndarray:
    """Return the positions of the surest answers where `mask` holds, classes taking turns."""
    confidence = evaluation.probabilities.max(axis=1)
    queues = [
        sorted(np.flatnonzero(mask & (evaluation.labels == label)), key=lambda i: -confidence[i])
        for label in range(len(evaluation.class_names))
    ]
    turns = [
        row for turn in range(SAMPLE_COUNT) for queue in queues for row in queue[turn : turn + 1]
    ]
    return np.array(turns[:SAMPLE_COUNT], dtype=int)


def _sample_row(evaluation: Evaluation, row: int) -> dict:
    """Return one sample as a row of a table."""
    label, answer = evaluation.labels[row], evaluation.predictions[row]
    return {
        "row": int(row),
        "true_class": evaluation.class_names[label],
        "answer": evaluation.class_names[answer],
        "probability": round(float(evaluation.probabilities[row, answer]), 4),
    }


def _samples_figure(evaluation: Evaluation, images, rows: np.ndarray, name: str) -> Figure:
    """Draw samples as a grid, each with its true class and its answer."""
    lines = max(1, -(-len(rows) // SAMPLE_COLUMNS))
    figure = Figure(figsize=(1.6 * SAMPLE_COLUMNS, 2.1 * lines + 0.5), layout="constrained")
    figure.suptitle(name.replace("_", " ").capitalize() if len(rows) else f"No {name}")
    for position, axes in enumerate(figure.subplots(lines, SAMPLE_COLUMNS, squeeze=False).flat):
        axes.axis("off")
        if position >= len(rows):
            continue
        sample = _sample_row(evaluation, rows[position])
        axes.imshow(images[rows[position]], cmap="gray", vmin=0, vmax=255)
        axes.set_title(
            f"{sample['true_class']}\n→ {sample['answer']} {sample['probability']:.0%}", fontsize=9
        )
    return figure


def _confusion_rows(evaluation: Evaluation) -> list[dict]:
    """Return the confusion matrix as rows of a table."""
    return [
        {"true_class": name} | dict(zip(evaluation.class_names, map(int, counts), strict=True))
        for name, counts in zip(evaluation.class_names, evaluation.confusion, strict=True)
    ]


def _write_figure(path: Path, figure: Figure) -> None:
    with whole_file(path) as part:
        figure.savefig(part, dpi=110)


def _write_csv(path: Path, rows: Sequence[dict]) -> None:
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["row"])
        writer.writeheader()
        writer.writerows(rows)
