"""The report of a training run or of an evaluation: one page to read, and every figure and table.

The page, `report.html`, holds its pictures and needs nothing beside it. The same pictures lie
beside it as PNG, the tables as CSV, the numbers as JSON.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from emotion.files import whole_file, write_json
from emotion.model.runtime import EmotionModel
from emotion.training.measuring.evaluation import Evaluation
from emotion.training.measuring.measurement import SplitResult, right_samples, wrong_samples
from emotion.training.measuring.report_figures import curves, draw, figures_of, sample_sheet
from emotion.training.measuring.report_page import CONFIDENT_COVERAGE, render_page


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
        folder: made where it is missing.
        model: the model that was measured; what its card says is told where it has one.
        results: what was measured, by the name of the split.
        history: a row an epoch, as for `write_history`; empty where the training is not known.
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
        folder: made where it is missing.
        history: a row an epoch with epoch and, where known, loss, accuracy, val_loss and
            val_accuracy.
        selected_epoch: the epoch whose weights were kept, counted from 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_csv(folder / "history.csv", history)
    _write_figure(folder / "curves.png", draw(curves, history, selected_epoch))


def write_evaluation(folder: Path, evaluation: Evaluation, images: np.ndarray) -> None:
    """Write everything about one evaluation.

    `evaluation.json`; `confusion_matrix`, `classification_report`, `reliability` and
    `risk_coverage` as .csv and .png; `samples_right` and `samples_wrong` as .csv and .png, the
    surest answers of each kind first.

    Args:
        folder: made where it is missing.
        evaluation: the metrics.
        images: (N, 48, 48) uint8, the images in the order of the evaluation.
    """
    _write_split(folder, SplitResult(evaluation, None, (), images, None), faces=True)


def summary_lines(evaluation: Evaluation, one_crop: Evaluation | None = None) -> list[str]:
    """Return the figures as lines of text for a terminal, with those of one crop if there are."""
    low, high = evaluation.accuracy_interval
    width = max(len(name) for name in evaluation.class_names)
    lines = [
        f"accuracy {evaluation.accuracy:.2%} (95% interval {low:.2%} to {high:.2%}) "
        f"on {len(evaluation.labels):,} images",
        f"macro F1 {evaluation.macro_f1:.3f}   log loss {evaluation.log_loss:.3f}   "
        f"expected calibration error {evaluation.expected_calibration_error:.3f}",
        *_more_lines(evaluation),
        *([f"accuracy {one_crop.accuracy:.2%} with one crop"] if one_crop else []),
        "",
        f"{'':{width}}  precision  recall     F1  images",
    ]
    for row in evaluation.per_class():
        precision, recall, f1 = (_decimal(row[key]) for key in ("precision", "recall", "f1"))
        lines.append(
            f"{row['class']:{width}}  {precision:>9}  {recall:>6}  {f1:>5}  {row['support']:6,}"
        )
    return lines


def _more_lines(evaluation: Evaluation) -> list[str]:
    """Return the lines on the second choice, unsure answers, leaks and votes, where they apply."""
    confident = evaluation.coverage_row(CONFIDENT_COVERAGE)
    lines = [
        f"accuracy {confident['accuracy']:.2%} when the 20% least sure answers are left out "
        f"(those below {confident['threshold']:.0%})"
    ]
    if len(evaluation.class_names) > 2:
        lines.insert(0, f"label among the two best answers {evaluation.top_2_accuracy:.2%}")
    leak_free, agreement = evaluation.leak_free(), evaluation.vote_agreement()
    if leak_free and evaluation.twins.any():
        lines.append(
            f"accuracy {leak_free.accuracy:.2%} on the {len(leak_free.labels):,} images that do "
            "not also stand in the training data"
        )
    if agreement:
        lines.append(
            f"{agreement.mean_share:.2%} of the voters gave the model's answer "
            f"({agreement.label_mean_share:.2%} the dataset's label); "
            f"accuracy against their majority {_decimal(agreement.majority_accuracy, '.2%')}"
        )
    return lines


def _write_split(folder: Path, result: SplitResult, faces: bool) -> None:
    """Write the numbers, tables and figures of one split."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = result.summary() | {"robustness": [asdict(row) for row in result.robustness]}
    write_json(folder / "evaluation.json", numbers)
    for name, rows in _tables(result).items():
        _write_csv(folder / f"{name}.csv", rows)
    for name, (figure_of, arguments) in figures_of(result).items():
        _write_figure(folder / f"{name}.png", draw(figure_of, *arguments))
    for name, samples in (("right", right_samples(result)), ("wrong", wrong_samples(result))):
        _write_csv(folder / f"samples_{name}.csv", [sample.row() for sample in samples])
        if faces:
            figure = draw(sample_sheet, samples, f"Surest {name} answers")
            _write_figure(folder / f"samples_{name}.png", figure)


def _tables(result: SplitResult) -> dict[str, Sequence[dict]]:
    """Return the tables of a split by the name of their file."""
    evaluation = result.evaluation
    tables = {
        "confusion_matrix": _matrix_rows(evaluation, evaluation.confusion),
        "confusion_matrix_normalised": _matrix_rows(evaluation, evaluation.confusion_normalised),
        "classification_report": evaluation.per_class(),
        "reliability": evaluation.reliability(),
        "risk_coverage": _risk_coverage_rows(evaluation),
        "accuracy_by_coverage": evaluation.accuracy_by_coverage(),
        "robustness": [asdict(row) for row in result.robustness],
    }
    return {name: rows for name, rows in tables.items() if rows}


def _risk_coverage_rows(evaluation: Evaluation) -> list[dict]:
    """Return at most a hundred points of the risk-coverage curve."""
    coverage, risk = evaluation.risk_coverage()
    last = np.unique(np.ceil(np.arange(1, 101) / 100 * len(risk)).astype(int)) - 1
    return [{"coverage": float(coverage[i]), "risk": float(risk[i])} for i in last]


def _matrix_rows(evaluation: Evaluation, matrix: np.ndarray) -> list[dict]:
    """Return a confusion matrix as rows of a table."""
    return [
        {"true_class": name} | dict(zip(evaluation.class_names, row.tolist(), strict=True))
        for name, row in zip(evaluation.class_names, matrix, strict=True)
    ]


def _decimal(value: float | None, shape: str = ".3f") -> str:
    """Return a number as text, a dash where it is not defined."""
    return "–" if value is None else format(value, shape)


def _write_figure(path: Path, figure: Figure) -> None:
    with whole_file(path) as part:
        figure.savefig(part)


def _write_csv(path: Path, rows: Sequence[dict]) -> None:
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else ["row"])
        writer.writeheader()
        writer.writerows(rows)
