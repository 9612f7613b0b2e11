"""The report of a training run or of an evaluation: one page, and every figure and table beside it.

`report.html` comes from the same templates as the app's page about a model and holds its pictures.
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from emotion.errors import ModelError
from emotion.faces import read_thresholds
from emotion.files import PACKAGE, whole_file, write_csv, write_json
from emotion.labels import EMOJI
from emotion.model.card import SPLITS, Card
from emotion.model.figures import Figures
from emotion.model.runtime import EmotionModel
from emotion.text import NOTHING, counted, data_url, decimal, share, table
from emotion.training.measuring import report_figures
from emotion.training.measuring.evaluation import Evaluation
from emotion.training.measuring.measurement import SplitResult, surest_samples
from emotion.training.measuring.report_figures import DARK, draw

CONFIDENT_COVERAGE = 0.8
SHOWN = ("classification_report", "risk_coverage", "robustness")  # the others are tables there


def write_report(
    folder: Path,
    model: EmotionModel,
    results: Mapping[str, SplitResult],
    history: Sequence[dict] = (),  # a row an epoch
    selected_epoch: int | None = None,  # counted from 1
) -> Path:
    """Write the page and everything it shows, of results by split; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = None
    if history:
        write_csv(folder / "history.csv", history)
        rows = [[NOTHING if v is None else f"{v:.5g}" for v in row.values()] for row in history]
        lines = [*table(tuple(history[0]), rows), f"Selected epoch: {selected_epoch or NOTHING}\n"]
        with whole_file(folder / "epochs.txt") as part:
            part.write_text("\n".join(lines), encoding="utf-8")
        write_figure(folder / "curves.png", draw(report_figures.curves, history, selected_epoch))
        drawn = _picture(folder / "curves.png", report_figures.curves, history, selected_epoch)
    card, verdict = Card(model.card), {"thresholds": None, "verdict": None}
    names = [name for name in (*SPLITS, *sorted(results.keys() - {*SPLITS})) if name in results]
    splits = [write_split(folder / name, results[name]) | verdict for name in names]
    with contextlib.suppress(ModelError):  # it belongs to the model: it is told once
        splits[0] |= {"thresholds": read_thresholds(model.card)}
    splits[0] |= {"verdict": card.verdict}
    loader = FileSystemLoader(PACKAGE.parent / "templates")
    blocks = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    environment = Environment(loader=loader, undefined=StrictUndefined, **blocks)
    environment.globals.update(share=share, decimal=decimal, counted=counted, emoji=EMOJI)
    style = Markup((PACKAGE.parent / "static" / "style.css").read_text(encoding="utf-8"))
    about = {"model": model, "card": card, "origin": card.origin(), "settings": card.settings()}
    about |= {"history": history, "selected_epoch": selected_epoch, "curves": drawn}
    about["kept"] = next((row for row in history if row.get("epoch") == selected_epoch), None)
    about |= {"today": datetime.now(UTC).date().isoformat(), "splits": splits, "style": style}
    page = environment.get_template("report.html").render(**about, heading="h3")
    with whole_file(folder / "report.html") as part:
        part.write_text(page, encoding="utf-8")
    return folder / "report.html"


def write_figure(path: Path, figure: Figure) -> None:
    with whole_file(path) as part:
        figure.savefig(part)


def summary_lines(result: SplitResult) -> list[str]:
    """Return the figures as lines of text for a terminal."""
    evaluation, one_crop, said = result.evaluation, result.one_crop, result.agreement
    figures, confident = evaluation.figures(), evaluation.coverage_row(CONFIDENT_COVERAGE)
    low, high = figures["accuracy_interval_95"]
    leak_free, agreement = evaluation.leak_free(), evaluation.vote_agreement()
    lines = [
        f"accuracy {evaluation.accuracy:.2%} (95% interval {low:.2%} to {high:.2%}) "
        f"on {len(evaluation.labels):,} images",
        f"macro F1 {figures['macro_f1']:.3f}   log loss {figures['log_loss']:.3f}   "
        f"expected calibration error {figures['expected_calibration_error']:.3f}",
    ]
    if len(evaluation.class_names) > 2:
        lines.append(f"top-2 accuracy {figures['top_2_accuracy']:.2%}")
    sure = f"accuracy {confident['accuracy']:.2%} when the 20% least sure answers are left out"
    lines.append(f"{sure} (those below {confident['threshold']:.0%})")
    if leak_free and evaluation.twins.any():
        which = "that do not also stand in the training data"
        if result.copies_removed:
            which = "without a copy in the training data, where copies of the others were removed"
        images = f"the {len(leak_free.labels):,} images {which}"
        lines.append(f"accuracy {leak_free.accuracy:.2%} on {images}")
    if agreement:
        lines.append(
            f"{agreement['mean_share']:.2%} of the voters gave the model's answer "
            f"({agreement['label_mean_share']:.2%} the dataset's label); "
            f"accuracy against their majority {share(agreement['majority_accuracy'], 2)}"
        )
    if one_crop:
        lines.append(f"accuracy {one_crop.accuracy:.2%} with one crop")
    rows = [
        (name, *map(decimal, shares), f"{images:,}")
        for name, *shares, images in (row.values() for row in evaluation.per_class())
    ]
    lines += ["", *table(("", "precision", "recall", "F1", "images"), rows)]
    if said:
        off = f"{said['mean_absolute_error']:.2f} on average, {said['mean_error']:+.2f} overall"
        lines += ["", f"said of 10 people: off by {off}, on {counted(said['images'], 'face')}"]
        rows = [
            (str(k), decimal(named, 1), f"{n:,}") for k, named, n in map(dict.values, said["said"])
        ]
        lines += table(("said", "voted", "images"), rows)
    return lines


def write_split(folder: Path, result: SplitResult) -> dict:
    """Write the numbers, tables and figures of one split; return what the page shows of it."""
    folder.mkdir(parents=True, exist_ok=True)
    evaluation, names = result.evaluation, result.evaluation.class_names
    numbers = result.summary() | {"robustness": list(result.robustness)}
    write_json(folder / "evaluation.json", numbers)
    coverage, risk = evaluation.risk_coverage()
    hundred = np.unique(np.ceil(np.arange(1, 101) / 100 * len(risk)).astype(int)) - 1

    def by_class(matrix: np.ndarray) -> list[dict]:
        rows = zip(names, matrix.tolist(), strict=True)
        return [{"true_class": name} | dict(zip(names, row, strict=True)) for name, row in rows]

    tables = {
        "confusion_matrix": by_class(evaluation.confusion),
        "confusion_matrix_normalised": by_class(evaluation.confusion_normalised),
        "classification_report": evaluation.per_class(),
        "reliability": evaluation.reliability(),
        "risk_coverage": [{"coverage": coverage[i], "risk": risk[i]} for i in hundred],
        "accuracy_by_coverage": evaluation.accuracy_by_coverage(),
        "robustness": result.robustness,
        "agreement": (result.agreement or {}).get("said"),
    }
    for name, rows in tables.items():
        for old in (f"{name}.csv", f"{name}.png"):  # of an earlier report into this folder
            (folder / old).unlink(missing_ok=True)
        if rows:
            write_csv(folder / f"{name}.csv", rows)
    figures = {  # each a function, and its arguments but the palette
        "confusion_matrix": (report_figures.confusion_matrix, evaluation),
        "classification_report": (report_figures.classification_report, evaluation),
        "risk_coverage": (report_figures.risk_coverage, evaluation, result.one_crop),
    }
    if result.robustness:
        figures["robustness"] = (report_figures.robustness, result.robustness)
    for name, figure in figures.items():
        write_figure(folder / f"{name}.png", draw(*figure))
    samples = {name: surest_samples(result, name == "right") for name in ("wrong", "right")}
    for kind, shown in samples.items():
        rows = []
        for sample in shown:
            votes = " ".join(f"{voted}:{part:.2f}" for voted, part in sample["votes"].items())
            row = sample | {"probability": round(sample["probability"], 4), "votes": votes}
            rows.append({key: row[key] for key in row if key != "image"})
        write_csv(folder / f"samples_{kind}.csv", rows)
        sheet = draw(report_figures.sample_sheet, shown, f"Surest {kind} answers")
        write_figure(folder / f"samples_{kind}.png", sheet)
    mistakes, encode = samples["wrong"], partial(cv2.imencode, ".png")
    shown = [name for name in SHOWN if name in figures]
    return {
        "prefix": f"{folder.name}-",
        "title": f"{folder.name.replace('_', ' ').capitalize()} images",
        "figures": Figures.of(folder.name, numbers),
        "pictures": {name: _picture(folder / f"{name}.png", *figures[name]) for name in shown},
        "samples": {
            kind: [(one, data_url(encode(one["image"])[1].tobytes())) for one in chosen]
            for kind, chosen in samples.items()
        },
        "voted": sum(bool(sample["votes"]) for sample in mistakes),
        "voters_agree": sum(map(_voters_agree, mistakes)),
    }


def write_predictions(path: Path, evaluation: Evaluation, names, splits) -> None:
    """Write a row an image, from which the figures can be computed again; `names` may be None."""
    classes = np.array(evaluation.class_names)
    columns = {
        "file": range(len(splits)) if names is None else names,
        "split": splits,
        "label": classes[evaluation.labels],
        "answer": classes[evaluation.predictions],
    }
    for kind, values in (("probability", evaluation.probabilities), ("votes", evaluation.votes)):
        if values is not None:
            columns |= zip((f"{kind}_{name}" for name in classes), values.T.tolist(), strict=True)
    if evaluation.twins is not None:
        columns["also_in_training"] = evaluation.twins.astype(int)
    cells = zip(*columns.values(), strict=True)
    write_csv(path, [dict(zip(columns, row, strict=True)) for row in cells])


def _voters_agree(sample: dict) -> bool:
    """Return whether more people gave the model's answer than any other."""
    votes = sample["votes"]
    mine = votes.get(sample["answer"], 0)
    return mine > 0 and sum(part >= mine for part in votes.values()) == 1


def _picture(light: Path, *figure) -> dict:
    """Return a figure in light and dark as data URLs, with its size in pixels of the page."""
    dark, buffer = draw(*figure, palette=DARK), io.BytesIO()
    dark.savefig(buffer)
    width, height = (round(float(side) * 96) for side in dark.get_size_inches())
    urls = {"light": data_url(light.read_bytes()), "dark": data_url(buffer.getvalue())}
    return urls | {"width": width, "height": height}
