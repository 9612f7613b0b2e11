"""The page of a report, from the same templates as the app's page about a model."""

import base64
import io
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from emotion.errors import ModelError
from emotion.faces import Thresholds, read_thresholds
from emotion.files import PACKAGE
from emotion.labels import EMOJI
from emotion.model.card import SPLITS, Card
from emotion.model.figures import Figures
from emotion.model.runtime import EmotionModel
from emotion.text import counted, decimal, share
from emotion.training.measuring.measurement import Sample, SplitResult, wrong_samples
from emotion.training.measuring.report_figures import DARK, curves, draw, figures_of

STYLE = PACKAGE.parent / "static" / "style.css"
SHOWN = ("classification_report", "risk_coverage", "robustness")
"""The figures on the page; what the others show stands there as tables."""


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
        history: a row an epoch; empty if the training is not known.
        selected_epoch: the epoch whose weights were kept.
        faces: show faces of the dataset.
    """
    environment = Environment(
        loader=FileSystemLoader(PACKAGE.parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    card = Card.of(model.card)
    thresholds: Thresholds | None
    try:
        thresholds = read_thresholds(model.card)
    except ModelError:
        thresholds = None
    order = {name: place for place, name in enumerate(SPLITS)}
    names = sorted(results, key=lambda name: (order.get(name, len(order)), name))
    splits = [_split(folder / name, name, results[name], faces) for name in names]
    for number, split in enumerate(splits):  # the verdict belongs to the model: it is told once
        split |= {
            "thresholds": None if number else thresholds,
            "verdict": None if number else card.verdict,
        }
    drawn = draw(curves, history, selected_epoch, palette=DARK) if history else None
    return environment.get_template("report.html").render(
        style=Markup(STYLE.read_text(encoding="utf-8")),
        model=model,
        card=card,
        today=datetime.now(UTC).date().isoformat(),
        origin=card.origin(),
        settings=card.settings(),
        splits=splits,
        curves=_picture(folder / "curves.png", drawn) if drawn else None,
        history=history,
        selected_epoch=selected_epoch,
        kept=next((row for row in history if row.get("epoch") == selected_epoch), None),
        heading="h3",
        emoji=EMOJI,
        share=share,
        decimal=decimal,
        counted=counted,
    )


def _split(folder: Path, name: str, result: SplitResult, faces: bool) -> dict:
    """Return what the page shows of one split."""
    mistakes = wrong_samples(result) if faces else []
    figures = figures_of(result)
    return {
        "prefix": f"{name}-",
        "title": f"{name.replace('_', ' ').capitalize()} images",
        "figures": Figures.of(name, result.report()),
        "pictures": {
            shown: _picture(folder / f"{shown}.png", draw(*figures[shown], palette=DARK))
            for shown in SHOWN
            if shown in figures
        },
        "mistakes": [(sample, _data_url(Image.fromarray(sample.image))) for sample in mistakes],
        "voted": sum(bool(sample.votes) for sample in mistakes),
        "voters_agree": sum(_voters_agree(sample) for sample in mistakes),
    }


def _voters_agree(sample: Sample) -> bool:
    """Return whether more people gave the model's answer than any other."""
    mine = sample.votes.get(sample.answer, 0)
    return mine > 0 and sum(part >= mine for part in sample.votes.values()) == 1


def _picture(light: Path, dark: Figure) -> dict:
    """Return a figure in both palettes as data URLs, with its size in pixels of the page."""
    width, height = (round(float(side) * 96) for side in dark.get_size_inches())
    with Image.open(light) as picture:
        urls = {"light": _data_url(picture), "dark": _data_url(dark)}
    return urls | {"width": width, "height": height}


def _data_url(picture: Figure | Image.Image) -> str:
    buffer = io.BytesIO()
    if isinstance(picture, Figure):
        picture.savefig(buffer, format="png")
    else:
        picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
