"""The report of a training run or of an evaluation: one page to read, and every figure and table.

The page, `report.html`, holds its pictures and needs nothing beside it. The pictures lie beside it
as PNG, the tables as CSV, the numbers as JSON.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from emotion.files import whole_file, write_csv, write_json
from emotion.model.runtime import EmotionModel
from emotion.text import decimal, share, table
from emotion.training.measuring.evaluation import Evaluation
from emotion.training.measuring.measurement import SplitResult, right_samples, wrong_samples
from emotion.training.measuring.report_figures import curves, draw, figures_of, sample_sheet
from emotion.training.measuring.report_page import render_page

CONFIDENT_COVERAGE = 0.8


def write_report(
    folder: Path,
    model: EmotionModel,
    results: Mapping[str, SplitResult],
    history: Sequence[dict] = (),
    selected_epoch: int | None = None,
    faces: bool = True,
) -> Path:
    """Write the page and everything it shows; return the path of the page.

    Args:
        folder: made if it is missing.
        model: the model that was measured.
        results: what was measured, by the name of the split.
        history: a row an epoch, as for `write_history`; empty if the training is not known.
        selected_epoch: the epoch whose weights were kept, counted from 1.
        faces: show faces of the dataset; without them the report can be given to anyone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if history:
        write_history(folder, history, selected_epoch)
    for name, result in results.items():
        _write_split(folder / name, result, faces)
    page = render_page(folder, model, results, history, selected_epoch, faces)
    path = folder / "report.html"
    with whole_file(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


def write_history(folder: Path, history: Sequence[dict], selected_epoch: int | None) -> None:
    """Write the curves of loss and accuracy: `curves.png`, `history.csv`.

    Args:
        folder: made if it is missing.
        history: a row an epoch with epoch and, if known, loss, accuracy, val_loss, val_accuracy.
        selected_epoch: the epoch whose weights were kept, counted from 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / "history.csv", history)
    write_figure(folder / "curves.png", draw(curves, history, selected_epoch))


def write_evaluation(folder: Path, evaluation: Evaluation, images: np.ndarray) -> None:
    """Write everything about one evaluation.

    `evaluation.json`; `confusion_matrix`, `classification_report`, `reliability` and
    `risk_coverage` as .csv and .png; `samples_right` and `samples_wrong` as .csv and .png, the
    surest answers of each kind first.

    Args:
        folder: made if it is missing.
        evaluation: the metrics.
        images: (N, 48, 48) uint8, the images in the order of the evaluation.
    """
    _write_split(folder, SplitResult(evaluation, None, (), images, None), faces=True)


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure, whole or not at all."""
    with whole_file(path) as part:
        figure.savefig(part)


def summary_lines(evaluation: Evaluation, one_crop: Evaluation | None = None) -> list[str]:
    """Return the figures as lines of text for a terminal, with those of one crop if there are."""
    low, high = evaluation.accuracy_interval
    confident = evaluation.coverage_row(CONFIDENT_COVERAGE)
    leak_free, agreement = evaluation.leak_free(), evaluation.vote_agreement()
    lines = [
        f"accuracy {evaluation.accuracy:.2%} (95% interval {low:.2%} to {high:.2%}) "
        f"on {len(evaluation.labels):,} images",
        f"macro F1 {evaluation.macro_f1:.3f}   log loss {evaluation.log_loss:.3f}   "
        f"expected calibration error {evaluation.expected_calibration_error:.3f}",
    ]
    if len(evaluation.class_names) > 2:
        lines.append(f"label among the two best answers {evaluation.top_2_accuracy:.2%}")
    lines.append(
        f"accuracy {confident['accuracy']:.2%} when the 20% least sure answers are left out "
        f"(those below {confident['threshold']:.0%})"
    )
    if leak_free and evaluation.twins.any():
        lines.append(
            f"accuracy {leak_free.accuracy:.2%} on the {len(leak_free.labels):,} images that do "
            "not also stand in the training data"
        )
    if agreement:
        lines.append(
            f"{agreement.mean_share:.2%} of the voters gave the model's answer "
            f"({agreement.label_mean_share:.2%} the dataset's label); "
            f"accuracy against their majority {share(agreement.majority_accuracy, 2)}"
        )
    if one_crop:
        lines.append(f"accuracy {one_crop.accuracy:.2%} with one crop")
    rows = [
        (
            row["class"],
            *map(decimal, (row["precision"], row["recall"], row["f1"])),
            f"{row['support']:,}",
        )
        for row in evaluation.per_class()
    ]
    return [*lines, "", *table(("", "precision", "recall", "F1", "images"), rows)]


def _write_split(folder: Path, result: SplitResult, faces: bool) -> None:
    """Write the numbers, tables and figures of one split."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "evaluation.json", result.report())
    evaluation, names = result.evaluation, result.evaluation.class_names
    coverage, risk = evaluation.risk_coverage()
    hundred = np.unique(np.ceil(np.arange(1, 101) / 100 * len(risk)).astype(int)) - 1
    samples = {"right": right_samples(result), "wrong": wrong_samples(result)}
    matrices = {
        name: [
            {"true_class": true_class} | dict(zip(names, row, strict=True))
            for true_class, row in zip(names, matrix.tolist(), strict=True)
        ]
        for name, matrix in (
            ("confusion_matrix", evaluation.confusion),
            ("confusion_matrix_normalised", evaluation.confusion_normalised),
        )
    }
    curve = [{"coverage": float(coverage[i]), "risk": float(risk[i])} for i in hundred]
    tables = matrices | {
        "classification_report": evaluation.per_class(),
        "reliability": evaluation.reliability(),
        "risk_coverage": curve,
        "accuracy_by_coverage": evaluation.accuracy_by_coverage(),
        "robustness": [asdict(row) for row in result.robustness],
    }
    for name, rows in tables.items():
        if rows:
            write_csv(folder / f"{name}.csv", rows)
    for name, figure in figures_of(result).items():
        write_figure(folder / f"{name}.png", draw(*figure))
    for name, shown in samples.items():
        write_csv(folder / f"samples_{name}.csv", [sample.row() for sample in shown])
        if faces:
            figure = draw(sample_sheet, shown, f"Surest {name} answers")
            write_figure(folder / f"samples_{name}.png", figure)
