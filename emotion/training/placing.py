"""Put finished models into the places of the present ones: all of them, or none."""

import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from emotion.files import rename_all
from emotion.model.keras import ModelFiles


def move_into_place(models: Sequence[tuple[ModelFiles, ModelFiles]]) -> None:
    """Put each finished model (first) into the place of another (second).

    1. Copy the finished files into a hidden folder beside each target, and the present ones, which
       become NAME.previous. A full disk shows here, where nothing has changed yet.
    2. For NAME.previous: rename what it has away, the weights first, and the copies into their
       places, the weights last.
    3. The same for NAME.

    Where a step fails, the renames are undone in reverse. Where the process is killed between two
    of them, one of the two has no weights, so `load_model` refuses it: a loadable pair always has
    its own card. A target without weights is not worth keeping as NAME.previous.

    Raises OSError: the disk is full or cannot be written to; everything is as it was.
    """
    renames = []
    with contextlib.ExitStack() as hidden_folders:
        for finished, target in models:
            target.stem.parent.mkdir(parents=True, exist_ok=True)
            hidden = tempfile.TemporaryDirectory(prefix=".part-", dir=target.stem.parent)
            folder = Path(hidden_folders.enter_context(hidden))
            if target.weights.exists():
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
    pairs = [
        (one.weights, one.architecture, one.card, one.fast_form, one.fast_form_seal, report_of(one))
        for one in (files, others)
    ]
    return [(path, place) for path, place in zip(*pairs, strict=True) if path.exists()]


def report_of(files: ModelFiles) -> Path:
    return files.stem.with_name(f"{files.name}_report")
