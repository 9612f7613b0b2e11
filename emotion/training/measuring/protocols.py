"""The papers' numbers by the papers' rules, and accuracy on lists of images such as occluded ones."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from emotion.errors import TrainingError
from emotion.labels import CONTEMPT
from emotion.model.figures import wilson_interval
from emotion.model.runtime import EmotionModel
from emotion.text import share, table
from emotion.training.data.dataset import Dataset
from emotion.training.data.fer2013 import CSV_SPLITS
from emotion.training.measuring.evaluation import Evaluation, evaluate_model, mirrored
from emotion.training.measuring.measurement import SplitResult

PARTS = {split: part for part, split in CSV_SPLITS.items() if split != "train"}
PART_IMAGES = 3589  # of PublicTest, and of PrivateTest
FERPLUS_NAME = re.compile(r"fer\d{7}")  # an image of FER+, in whatever words a list puts it
BARSOUM = (
    "Barsoum et al. 2016 (arXiv:1608.01041), as their code does it (github.com/microsoft/FERPlus, "
    "src/ferplus.py, _process_data, majority)"
)
MAJORITY = (
    "FER+'s votes: single votes dropped; the label is what has more than half of the votes left; "
    "images without such a label, unknown and no face are left out"
)


@dataclass(frozen=True)
class Protocol:
    """How papers measure on FER2013's test parts."""

    labels: str  # of whom: as in `--labels`
    rule: str
    source: str
    published: tuple[tuple[str, float], ...]  # which network on which part, and its accuracy
    contempt: bool = False  # is an eighth class


PROTOCOLS = {
    "fer2013": Protocol(
        "dataset",
        "FER2013's own labels, seven classes, all images of the part",
        "Goodfellow et al. 2013 (arXiv:1307.0414)",
        (
            ("winner of the challenge, PrivateTest", 0.7116),
            ("VGGNet, Khaireddin and Chen 2021 (arXiv:2105.03588), PrivateTest", 0.7328),
        ),
    ),
    "ferplus": Protocol(
        "majority",
        f"{MAJORITY}, and contempt too: seven classes",
        BARSOUM,
        (("VGG13, Barsoum et al. 2016, PrivateTest, but of eight classes", 0.8499),),
    ),
    "ferplus8": Protocol(
        "majority",
        f"{MAJORITY}; contempt is the eighth class, which a model without it gets wrong",
        BARSOUM,
        (("VGG13, Barsoum et al. 2016, PrivateTest", 0.8499),),
        contempt=True,
    ),
}


def check_part(dataset: Dataset, split: str) -> Dataset:
    """Return the images of a split, with a note if they are not all of a test part of FER2013."""
    if split not in PARTS:
        expected = "expected --split test (PublicTest) or private_test with --protocol"
        raise TrainingError(f"{expected}; received {split}")
    if len(dataset) == PART_IMAGES:
        return dataset
    return dataset.noting(
        f"{len(dataset):,} images, where {PARTS[split]} of FER2013 has {PART_IMAGES:,}: not what "
        "the papers measured on"
    )


def with_contempt(model: EmotionModel) -> EmotionModel:
    """Return a model that has contempt among its classes, if only to never answer it."""
    if CONTEMPT in model.class_names:
        return model
    names = (*model.class_names, CONTEMPT)
    return replace(
        model, class_names=names, run=lambda faces: np.pad(model.run(faces), ((0, 0), (0, 1)))
    )


def measure_protocol(
    name: str, model: EmotionModel, split: Dataset, part: str, result: SplitResult
) -> dict:
    """Return source, rule and rows of a protocol as plain types; `result` is as the model serves.

    A row is the model with one crop and with the mirror image on a part, or a published number.
    """
    protocol = PROTOCOLS[name]
    one_crop, with_mirror = result.one_crop, result.evaluation
    if not model.serving.mirrored:
        one_crop, with_mirror = with_mirror, evaluate_model(mirrored(model), split)
    served = "with the mirror image" if model.serving.mirrored else "one crop"
    rows = [
        row_of(f"{how}{', as served' * (how == served)}, {PARTS[part]}", evaluation)
        for how, evaluation in (("one crop", one_crop), ("with the mirror image", with_mirror))
    ]
    known = {"images": None, "accuracy_interval_95": None}
    rows += [{"what": what, "accuracy": value} | known for what, value in protocol.published]
    return {"name": name, "source": protocol.source, "rule": protocol.rule, "rows": rows}


def measure_lists(
    lists: Sequence[str], names: Sequence[str], evaluation: Evaluation
) -> tuple[list[dict], list[str]]:
    """Return a row a list of images (`NAME=LIST.txt`), and notes; raises TrainingError."""
    chosen, notes = read_lists(lists, names)
    return [row_of(name, evaluation.where(mask)) for name, mask in chosen.items()], notes


def read_lists(
    lists: Sequence[str], names: Sequence[str]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return name -> which of the images are on the list, (N,) bool, and notes on the others.

    A list is `NAME=LIST.txt` with a file name a line, or the end of its path. A line that has a
    FER+ name in it (`3/fer0032259.jpg`, as in Pose-FERPlus of Wang et al. 2020) means that image.
    Raises TrainingError.
    """
    chosen, notes = {}, []
    ends = [{name.split("/", cut)[-1] for cut in range(name.count("/") + 1)} for name in names]
    for text in lists:
        name, _, path = text.partition("=")
        try:
            lines = Path(path or text).read_text(encoding="utf-8-sig", errors="replace").split("\n")
        except OSError as error:
            expected = "expected NAME=LIST.txt, a file with an image a line"
            raise TrainingError(f"{expected}; received {text}: {error.strerror}") from error
        found = [FERPLUS_NAME.search(line) for line in lines]
        wanted = {
            f"{match[0]}.png" if match else line.strip()
            for match, line in zip(found, lines, strict=True)
        } - {""}
        mask = np.array([not wanted.isdisjoint(parts) for parts in ends], bool)
        if not mask.any():
            example = f", such as {min(wanted)}" if wanted else ""
            raise TrainingError(
                f"expected names of the {len(names):,} images here in {path or text}; received "
                f"{len(wanted):,} others{example}: FER+ names need --votes, and the same part"
            )
        if missing := len(wanted - set().union(*ends)):
            notes.append(f"{name}: {missing:,} of the {len(wanted):,} images listed are not here")
        chosen[name] = mask
    return chosen, notes


def row_of(what: str, evaluation: Evaluation) -> dict:
    right, images = int(evaluation.right.sum()), len(evaluation.labels)
    interval = list(wilson_interval(right, images))
    return {"what": what, "accuracy": right / images, "images": images} | {
        "accuracy_interval_95": interval
    }


def row_lines(rows: Sequence[dict]) -> list[str]:
    """Return rows of `row_of` as lines of text for a terminal."""
    cells = []
    for row in rows:
        interval, images = row["accuracy_interval_95"], row["images"]
        within = " to ".join(share(end, 2) for end in interval) if interval else ""
        cells.append((row["what"], share(row["accuracy"], 2), within, f"{images:,}" * bool(images)))
    return table(("", "accuracy", "95% interval", "images"), cells)
