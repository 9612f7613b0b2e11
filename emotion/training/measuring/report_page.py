"""The page of a report: what the numbers are, and in plain words what they mean."""

import base64
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from emotion.labels import color_rgb
from emotion.model.runtime import EmotionModel
from emotion.training.measuring.evaluation import Evaluation, wilson_interval
from emotion.training.measuring.measurement import Sample, SplitResult, wrong_samples
from emotion.training.measuring.report_figures import DARK, curves, draw, figures_of
from emotion.training.measuring.robustness import LEVELS, UNCHANGED, RobustnessRow, describe_levels

TEMPLATE = "report.html"
CONFIDENT_COVERAGE = 0.8
FREQUENT_MISTAKES = 3
FEW_IMAGES = 100
"""A class with fewer images than this is named as one whose figures are unsure."""

SPLIT_ORDER = ("test", "private_test", "validation", "train")
SPLIT_NAMES = {
    "test": "test images",
    "private_test": "private test images",
    "validation": "validation images",
    "train": "training images",
}
SPLIT_WARNINGS = {
    "validation": "Validation images are those that choices are made on, such as which epoch to "
    "keep; their figures flatter a model a little.",
    "train": "The model learned from these images: their figures tell what it remembers, not what "
    "it can do.",
}


def render_page(
    folder: Path,
    model: EmotionModel,
    results: Mapping[str, SplitResult],
    history: Sequence[dict],
    selected_epoch: int | None,
    faces: bool,
) -> str:
    """Return the page as HTML that needs nothing beside it.

    Args:
        folder: where the figures lie already, in light colours.
        model: the model that was measured.
        results: what was measured, by the name of the split.
        history: a row an epoch; empty where the training is not known.
        selected_epoch: the epoch whose weights were kept.
        faces: show faces of the dataset.
    """
    card = model.card or {}
    ordered = sorted(results, key=_place_of_split)
    return (
        _environment()
        .get_template(TEMPLATE)
        .render(
            model=model,
            today=datetime.now(UTC).date().isoformat(),
            facts=_card_facts(card),
            settings=_part(card, "settings"),
            splits=[_split(folder / name, name, results[name], faces) for name in ordered],
            curves=_curves(folder, history, selected_epoch) if history else None,
            history=history,
            selected_epoch=selected_epoch,
            kept=next((row for row in history if row.get("epoch") == selected_epoch), None),
            levels=LEVELS,
        )
    )


def _split(folder: Path, name: str, result: SplitResult, faces: bool) -> dict:
    """Return what the page tells about one split."""
    evaluation = result.evaluation
    mistakes = wrong_samples(result) if faces else []
    return {
        "id": name,
        "name": SPLIT_NAMES.get(name, f"images of the split {name}"),
        "warning": SPLIT_WARNINGS.get(name),
        "evaluation": evaluation,
        "one_crop": result.one_crop,
        "leak_free": evaluation.leak_free(),
        "twins": 0 if evaluation.twins is None else int(evaluation.twins.sum()),
        "agreement": evaluation.vote_agreement(),
        "confident": evaluation.coverage_row(CONFIDENT_COVERAGE),
        "most_frequent_share": float(np.bincount(evaluation.labels).max() / len(evaluation.labels)),
        "excess_confidence": float(evaluation.confidence.mean()) - evaluation.accuracy,
        "classes": _class_rows(evaluation),
        "frequent_mistakes": _frequent_mistakes(evaluation),
        "columns": ("as served", *(name for name, _ in _variants(result))),
        "figures": _figure_rows(evaluation, *(variant for _, variant in _variants(result))),
        "confidence_in_words": _confidence_in_words(evaluation),
        "robustness": result.robustness,
        **_robustness(result.robustness),
        "pictures": _pictures(folder, result),
        "mistakes": [_mistake(sample) for sample in mistakes],
        "voters_side_with_model": sum(_sides_with_model(sample) for sample in mistakes),
        "mistakes_with_votes": sum(bool(sample.votes) for sample in mistakes),
    }


def _class_rows(evaluation: Evaluation) -> list[dict]:
    """Return the rows of the table of classes, each with its colour and the interval of recall."""
    counts = evaluation.confusion.diagonal()
    return [
        row
        | {
            "color": color_rgb(row["class"], evaluation.class_names),
            "recall_interval": wilson_interval(int(right), row["support"])
            if row["support"]
            else None,
            "few": 0 < row["support"] < FEW_IMAGES,
        }
        for row, right in zip(evaluation.per_class(), counts, strict=True)
    ]


def _frequent_mistakes(evaluation: Evaluation) -> list[dict]:
    """Return the confusions that happen most often: true class, answer, images and share."""
    counts = evaluation.confusion * (1 - np.eye(len(evaluation.class_names), dtype=int))
    ranked = np.argsort(-counts, axis=None, kind="stable")[:FREQUENT_MISTAKES]
    cells = [divmod(int(place), len(evaluation.class_names)) for place in ranked]
    return [
        {
            "true_class": evaluation.class_names[row],
            "answer": evaluation.class_names[column],
            "images": int(counts[row, column]),
            "share": float(evaluation.confusion_normalised[row, column]),
        }
        for row, column in cells
        if counts[row, column]
    ]


def _variants(result: SplitResult) -> list[tuple[str, Evaluation]]:
    """Return (heading, evaluation) of what stands beside the figures of all images as served."""
    evaluation = result.evaluation
    has_leaks = evaluation.twins is not None and evaluation.twins.any()
    variants = [
        ("without leaks", evaluation.leak_free() if has_leaks else None),
        ("one crop", result.one_crop),
    ]
    return [(name, variant) for name, variant in variants if variant is not None]


def _figure_rows(*variants: Evaluation) -> list[tuple[str, list[str]]]:
    """Return the rows of the table of figures, a column an evaluation."""
    writers = {
        "images": lambda e: _count(len(e.labels)),
        "accuracy ↑": lambda e: _percent(e.accuracy),
        "its 95% interval": lambda e: "–".join(
            _percent(end) for end in e.accuracy_interval
        ).replace("\u00a0%–", "–"),
        "macro F1 ↑": lambda e: _decimal(e.macro_f1),
        "top-2 accuracy ↑": lambda e: _percent(e.top_2_accuracy),
        "log loss ↓": lambda e: _decimal(e.log_loss),
        "expected calibration error ↓": lambda e: _decimal(e.expected_calibration_error),
        "AURC ↓": lambda e: _decimal(e.area_under_risk_coverage),
    }
    return [(name, [write(variant) for variant in variants]) for name, write in writers.items()]


def _confidence_in_words(evaluation: Evaluation) -> str:
    """Return what the largest and the least honest bin of the reliability table say."""
    rows = [row for row in evaluation.reliability() if row["images"]]
    largest = max(rows, key=lambda row: row["images"])
    worst = max(rows, key=lambda row: abs(row["confidence"] - row["accuracy"]) * row["images"])
    texts = [
        f"{_percent(row['confidence'], 0)} sure, it is right on {_percent(row['accuracy'], 0)} of "
        f"{_images(row['images'])}"
        for row in (largest, worst)
    ]
    if largest is worst:
        return f"When it is about {texts[0]}."
    return (
        f"When it is about {texts[0]}; when it is about {texts[1]}, which is its least "
        "honest range."
    )


def _robustness(rows: Sequence[RobustnessRow]) -> dict:
    """Return what the page tells about worsened pictures, nothing where it was not measured."""
    changed = [row for row in rows if row.corruption != UNCHANGED]
    strongest = sorted(
        (row for row in changed if row.level == LEVELS[-1]), key=lambda row: row.accuracy
    )
    if not strongest:
        return {}
    groups = [
        {
            "name": corruption,
            "description": describe_levels(corruption),
            "rows": [row for row in changed if row.corruption == corruption],
        }
        for corruption in dict.fromkeys(row.corruption for row in changed)
    ]
    return {"corruptions": groups, "hardest": strongest[0], "easiest": strongest[-1]}


def _mistake(sample: Sample) -> dict:
    """Return what the contact sheet shows of one mistake."""
    return {"sample": sample, "picture": _data_url(_png_of(sample.image))}


def _sides_with_model(sample: Sample) -> bool:
    """Tell whether more people gave the model's answer than any other."""
    shares = sample.votes.values()
    mine = sample.votes.get(sample.answer, 0)
    return mine > 0 and sum(share >= mine for share in shares) == 1


def _pictures(folder: Path, result: SplitResult) -> dict[str, dict]:
    """Return name -> picture of each figure of a split."""
    return {
        name: _picture(folder / f"{name}.png", draw(figure_of, *arguments, palette=DARK))
        for name, (figure_of, arguments) in figures_of(result).items()
    }


def _curves(folder: Path, history: Sequence[dict], selected_epoch: int | None) -> dict:
    """Return the picture of the training."""
    return _picture(folder / "curves.png", draw(curves, history, selected_epoch, palette=DARK))


def _picture(light: Path, dark) -> dict:
    """Return a figure in both palettes as data URLs, with its size on the page.

    Args:
        light: the file of the figure in light colours.
        dark: the figure in dark colours.
    """
    buffer = io.BytesIO()
    dark.savefig(buffer, format="png")
    width, height = (round(float(side) * 96) for side in dark.get_size_inches())
    urls = {"light": _data_url(light.read_bytes()), "dark": _data_url(buffer.getvalue())}
    return urls | {"width": width, "height": height}


def _png_of(image: np.ndarray) -> bytes:
    """Return an image as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _data_url(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _card_facts(card: dict) -> list[tuple[str, str]]:
    """Return (term, text) of what a card tells; a card may have come from elsewhere."""
    dataset, selection = _part(card, "dataset"), _part(card, "selection")
    calibration = _part(card, "calibration")
    images = _part(dataset, "images")
    facts = [
        ("made", card.get("created")),
        ("dataset", dataset.get("name")),
        ("votes", dataset.get("votes")),
        ("images", ", ".join(f"{count:,} {_words(name)}" for name, count in images.items())),
        ("removed before training", _removed(dataset.get("removed_because_also_in_test"))),
        ("skipped as unreadable", dataset.get("unreadable") or None),
        ("remarks on the data", "; ".join(map(str, dataset.get("notes") or ()))),
        ("started from", _model_names([_part(card, "started_from")])),
        ("learned from the answers of", _model_names(card.get("learned_from"))),
        ("average of", _model_names(card.get("average_of"))),
        ("selected", _selected(selection)),
        ("calibrated", _calibrated(calibration)),
        ("made with", ", ".join(f"{k} {v}" for k, v in _part(card, "versions").items())),
        ("fingerprint of the data", str(dataset.get("fingerprint") or "")[:16]),
    ]
    return [(term, str(text)) for term, text in facts if text]


def _part(content: dict, key: str) -> dict:
    """Return a part of a card, empty where it is missing or of another kind."""
    part = content.get(key)
    return part if isinstance(part, dict) else {}


def _removed(count: int | None) -> str:
    return "" if count is None else f"{count:,} images that also stand in a test split"


def _model_names(models: Sequence[dict] | None) -> str:
    """Return the names of models with the start of their hashes."""
    texts = [
        f"{model.get('name', '')} ({model['weights_sha256'][:12]})"
        if model.get("weights_sha256")
        else str(model.get("name", ""))
        for model in models or ()
        if isinstance(model, dict)
    ]
    return ", ".join(texts)


def _selected(selection: dict) -> str:
    """Return how the epoch was selected."""
    if not selection:
        return ""
    return "epoch {} of {} by {}".format(
        *(selection.get(key, "?") for key in ("epoch", "epochs", "by"))
    )


def _calibrated(calibration: dict) -> str:
    """Return how the probabilities were made honest."""
    temperature = calibration.get("temperature")
    if not isinstance(temperature, int | float):
        return ""
    split = _words(calibration.get("split", "unknown"))
    return f"on {split} images with temperature {temperature:.2f} (Guo et al. 2017)"


def _words(name: str) -> str:
    return str(name).replace("_", " ")


def _place_of_split(name: str) -> tuple[int, str]:
    """Return the place of a split on the page: those that tell most come first."""
    place = SPLIT_ORDER.index(name) if name in SPLIT_ORDER else len(SPLIT_ORDER)
    return place, name


def _environment() -> Environment:
    """Return the templates with the filters that write numbers."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).resolve().parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": _percent,
        "points": _points,
        "decimal": _decimal,
        "count": _count,
        "images": _images,
        "words": _words,
    }
    return environment


def _percent(share: float | None, digits: int = 1) -> str:
    """Return a share as a percentage, a dash where it is not defined."""
    return "–" if share is None else f"{100 * share:.{digits}f}%"


def _points(difference: float) -> str:
    """Return a difference of two shares in percentage points, with its sign."""
    rounded = round(100 * difference, 1)
    return "±0.0" if rounded == 0 else f"{rounded:+.1f}".replace("-", "−")


def _decimal(value: float | None, digits: int = 3) -> str:
    """Return a number with so many decimals, a dash where it is not defined."""
    return "–" if value is None else f"{value:.{digits}f}"


def _count(number: int) -> str:
    return f"{number:,}"


def _images(number: int) -> str:
    return "1 image" if number == 1 else f"{number:,} images"
