"""The papers' numbers by the papers' rules, and accuracy on lists of images (occluded, turned)."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from emotion.errors import TrainingError
from emotion.labels import CONTEMPT
from emotion.model.runtime import EmotionModel
from emotion.text import share, table
from emotion.training.data.dataset import Dataset
from emotion.training.measuring.evaluation import Evaluation, evaluate_model, mirrored
from emotion.training.measuring.measurement import SplitResult

PARTS = {"test": "PublicTest", "private_test": "PrivateTest"}
PART_IMAGES = 3589  # of each
ROW = ("images", "accuracy", "accuracy_interval_95")  # of the figures
FERPLUS_NAME = re.compile(r"fer\d{7}")  # an image of FER+, in whatever words a list puts it

MAJORITY = (
    "Barsoum et al. 2016 (arXiv:1608.01041) and their code (microsoft/FERPlus, _process_data): "
    "single votes dropped, then the class with more than half; no image without one, unknown, no "
    "face"
)
VGG13 = {"VGG13, Barsoum et al. 2016, PrivateTest, eight classes": 0.8499}
# name -> whose labels (as in --labels), source and rule, published accuracies
PROTOCOLS: dict[str, tuple[str, str, dict[str, float]]] = {
    "fer2013": (
        "dataset",
        "Goodfellow et al. 2013 (arXiv:1307.0414): FER2013's own labels, every image of the part",
        {
            "winner of the challenge, PrivateTest": 0.7116,
            "VGGNet, Khaireddin and Chen 2021 (arXiv:2105.03588), PrivateTest": 0.7328,
        },
    ),
    "ferplus": ("majority", f"{MAJORITY}, contempt", VGG13),
    "ferplus8": ("majority", f"{MAJORITY}; models without the class contempt miss it", VGG13),
}


def with_contempt(model: EmotionModel) -> EmotionModel:
    """Return a model that has contempt among its classes, if only to never answer it."""
    if CONTEMPT in model.class_names:
        return model
    changes = {"run": lambda faces: np.pad(model.run(faces), ((0, 0), (0, 1)))}
    return replace(model, class_names=(*model.class_names, CONTEMPT), **changes)


def protocol_rows(
    name: str, model: EmotionModel, split: Dataset, split_name: str, result: SplitResult
) -> list[dict]:
    """Return a model's row with one crop, that with the mirror image, and the published ones."""
    one_crop, both, part = result.one_crop, result.evaluation, PARTS[split_name]
    served = "with the mirror image" if one_crop else "one crop"
    if not one_crop:
        one_crop, both = both, evaluate_model(mirrored(model), split)
    rows = []
    for how, measured in (("one crop", one_crop), ("with the mirror image", both)):
        rows.append(row_of(f"{how}{', as served' * (how == served)}, {part}", measured))
    published = PROTOCOLS[name][2].items()
    return rows + [{"what": it} | dict.fromkeys(ROW) | {"accuracy": one} for it, one in published]


def row_of(what: str, evaluation: Evaluation) -> dict:
    figures = evaluation.figures()
    return {"what": what} | {name: figures[name] for name in ROW}


def row_lines(rows: Sequence[dict]) -> list[str]:
    """Return rows as lines of text for a terminal."""
    cells = []
    for what, images, accuracy, interval in (row.values() for row in rows):
        within = " to ".join(share(end, 2) for end in interval or ())
        cells.append((what, share(accuracy, 2), within, f"{images:,}" if images else ""))
    return table(("", "accuracy", "95% interval", "images"), cells)


def read_lists(lists: Sequence[str], names: Sequence[str]) -> tuple[dict, list[str]]:
    """Return name -> which of N images are on the list, (N,) bool, and notes on those that miss.

    A list is `NAME=LIST.txt`: a line is a file's name or the end of its path, or has FER+'s name in
    it, such as `3/fer0032259.jpg` (Wang et al. 2019, arXiv:1905.04075). Raises TrainingError.
    """
    chosen, notes = {}, []
    ends = [{name.split("/", cut)[-1] for cut in range(name.count("/") + 1)} for name in names]
    for text in lists:
        name, _, path = text.partition("=")
        try:
            lines = Path(path or text).read_text(encoding="utf-8-sig", errors="replace").split("\n")
        except OSError as error:
            expected = "expected NAME=LIST.txt with an image a line"
            raise TrainingError(f"{expected}; received {text}: {error.strerror}") from error
        found = [(FERPLUS_NAME.search(line), line.strip()) for line in lines if line.strip()]
        wanted = {f"{match[0]}.png" if match else line for match, line in found}
        chosen[name] = np.array([not wanted.isdisjoint(parts) for parts in ends], bool)
        missing = sorted(wanted.difference(*ends))
        if not chosen[name].any():
            raise TrainingError(
                f"expected some of the {len(names):,} images here in {path or text}; received "
                f"{', '.join(missing[:3]) or 'none'}: FER+'s names need --votes, and the same part"
            )
        if missing:
            notes.append(f"{name}: {len(missing):,} of {len(wanted):,} images are not among these")
    return chosen, notes
