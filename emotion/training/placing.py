"""Whether finished models may take the places of the present ones, and how: all, or none."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from emotion.errors import ModelError, TrainingError
from emotion.files import rename_all
from emotion.model.keras import ModelFiles
from emotion.model.runtime import load_model
from emotion.training.data.dataset import Dataset
from emotion.training.measuring.evaluation import evaluate_model
from emotion.training.measuring.measurement import SplitResult
from emotion.training.settings import TrainingSettings


@dataclass(frozen=True)
class Published:  # a finished model
    stem: Path  # of its files
    results: dict[str, SplitResult]  # of each split but training
    answers: str = "labels"  # or "votes", if it answers as most voters of FER+ do


@contextlib.contextmanager
def staged(settings: TrainingSettings) -> Iterator[Path]:
    """Give an empty folder in that of the run; it goes afterwards, unless its model was refused."""
    folder, is_refused = settings.run_folder() / "finished", False
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        raise TrainingError(
            f"expected to write the model to {settings.models} by way of {settings.run_folder()}; "
            f"{error.strerror or error}; nothing was replaced and the training is kept: make room "
            "and run the same command again"
        ) from error
    except TrainingError:
        is_refused = True
        raise
    finally:
        if not is_refused:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                folder.parent.rmdir()


def publish_finished(
    finished: Sequence[Published], folder: Path, settings: TrainingSettings
) -> tuple[Published, ...]:
    """Move finished models to their places in `models/`; raise TrainingError if one is worse."""
    models = Path(settings.models)
    pairs = [(model, ModelFiles(models / model.stem.relative_to(folder))) for model in finished]
    if not settings.overwrite:
        reasons = "; ".join(filter(None, (_why_not_replace(*pair) for pair in pairs)))
        if reasons:
            raise TrainingError(
                f"expected a model at least as good as the present one; {reasons}. Nothing was "
                f"replaced; the new model is in {folder}: to publish it, run the same command "
                "again with --overwrite, or with another --name"
            )
    move_into_place([(ModelFiles(model.stem), target) for model, target in pairs])
    return tuple(replace(model, stem=target.stem) for model, target in pairs)


def _why_not_replace(finished: Published, present: ModelFiles) -> str:  # "" if it may
    if not present.weights.exists():
        return ""
    not_comparable = f"{present.stem} cannot be compared with it"
    if "validation" not in finished.results:
        return f"{not_comparable} without --dataset"
    result = finished.results["validation"]
    new = result.evaluation
    try:
        model = load_model(present.stem)
    except ModelError as error:
        return f"{not_comparable} ({error})"
    classes = [", ".join(sorted(one.class_names)) for one in (model, new)]
    answers = [(model.card or {}).get("answers", "labels"), finished.answers]
    for what, (its, other) in (("classes", classes), ("answers", answers)):
        if its != other:
            return f"{not_comparable}: its {what} are {its}, those of the new one {other}"
    splits = np.full(len(new.labels), "validation")
    validation = Dataset(result.images, new.labels, splits, new.class_names)
    accuracy = evaluate_model(model, validation).accuracy
    told = f"{present.stem} is right on {accuracy:.2%} of this run's validation images, the new one"
    return "" if new.accuracy >= accuracy else f"{told} on {new.accuracy:.2%}"


def move_into_place(models: Sequence[tuple[ModelFiles, ModelFiles]]) -> None:
    """Put each finished model (first) into the place of another (second).

    1. Copy the finished files into a hidden folder beside each target, and the present ones, which
       become NAME.previous. A full disk shows here, where nothing has changed yet.
    2. For NAME.previous, then for NAME: rename what it has away, the weights first, and the copies
       into their places, the weights last.

    Where a step fails, all is undone, and the OSError raised. Where the process is killed, one of
    the two has no weights, so `load_model` refuses it: a loadable pair always has its own card.
    """
    renames = []
    with contextlib.ExitStack() as hidden_folders:
        for finished, target in models:
            target.stem.parent.mkdir(parents=True, exist_ok=True)
            hidden = tempfile.TemporaryDirectory(prefix=".part-", dir=target.stem.parent)
            folder = Path(hidden_folders.enter_context(hidden))
            if target.weights.exists():  # else it is not worth keeping
                renames += _replacement(target, target.previous, folder / "previous")
            renames += _replacement(finished, target, folder / "finished")
        rename_all(renames)


def _replacement(source: ModelFiles, target: ModelFiles, folder: Path) -> list[tuple[Path, Path]]:
    """Copy a model into a new folder; return the renames that then put it into a place."""
    copies, away = ModelFiles(folder / source.name), ModelFiles(folder / "away" / target.name)
    away.stem.parent.mkdir(parents=True)
    for path, copy in _renames(source, copies):
        for part in (path, *path.rglob("*")):
            if part.is_dir():
                (copy / part.relative_to(path)).mkdir()
            else:
                shutil.copyfile(part, copy / part.relative_to(path))
    return _renames(target, away) + _renames(copies, target)[::-1]


def _renames(files: ModelFiles, others: ModelFiles) -> list[tuple[Path, Path]]:
    """Return (from, to) of each file that a model has, the weights first."""
    kinds = ("weights", "architecture", "card", "fast_form", "fast_form_seal")
    pairs = [(getattr(files, kind), getattr(others, kind)) for kind in kinds]
    return [pair for pair in (*pairs, (report_of(files), report_of(others))) if pair[0].exists()]


def report_of(files: ModelFiles) -> Path:
    return files.stem.with_name(f"{files.name}_report")
