"""Photographs with a label each, through the path that serves them: found, right, by whom.

Where a photo has several faces, the largest is the one that the label is about, as in
`--crop-faces`. A photo labelled none (or no_face) has none, and every face in it is false.
"""

import csv
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from emotion.batch import BatchOutputs, BatchSettings, Workers, run_batch
from emotion.batch.outputs import opened_store
from emotion.errors import DatasetError
from emotion.files import write_json
from emotion.images.folders import PhotoFile, find_photos
from emotion.labels import common_name
from emotion.model.figures import wilson_interval
from emotion.model.runtime import EmotionModel
from emotion.rows import face_cells, face_columns
from emotion.tables import TableSink
from emotion.text import NOTHING, counted, share, table
from emotion.training.measuring.evaluation import Evaluation
from emotion.training.measuring.protocols import read_lists

NO_FACE = ("none", "no_face", "no_faces")
COLUMNS = ("file", "label")
MOST_VALUES = 10  # a column with more different values is no group unless it is asked for
SHARES = ("found", "right", "right_or_named", "false_neutral")


@dataclass(frozen=True)
class Photograph:
    """A photo with its label and, once it was read, its faces or why there are none."""

    photo: PhotoFile
    label: str | None  # a class of the model; None: there is no face
    groups: Mapping[str, str]  # column -> value
    faces: Sequence[Mapping] = ()  # as `face_to_dict` gives them
    problem: str | None = None

    @property
    def face(self) -> Mapping | None:
        """The largest face, None where none was found."""
        boxes = [(face["box"]["width"] * face["box"]["height"], face) for face in self.faces]
        return max(boxes, key=lambda row: row[0])[1] if boxes else None


def read_photographs(
    source: Path, groups: Sequence[str] | None, class_names: Sequence[str], known_only: bool = False
) -> tuple[list[Photograph], list[str]]:
    """Return the photos of `<class>/<file>` or of a csv with file and label, and notes.

    Paths in a csv start at its folder. Its other columns are groups: those named, else those with 2
    to `MOST_VALUES` values. Raises DatasetError, SourceError.
    """
    notes: list[str] = []
    if source.suffix.lower() == ".csv":
        photographs = _read_csv(source, groups, notes)
    else:
        files = find_photos(source)
        photographs = [Photograph(file, file.path.absolute().parent.name, {}) for file in files]
    labels: dict[str, str | None] = {common_name(name): name for name in class_names}
    labels |= {name: name for name in class_names} | dict.fromkeys(NO_FACE)
    names = [photograph.label.strip() for photograph in photographs]
    names = [
        next((form for form in (name, common_name(name).replace(" ", "_")) if form in labels), name)
        for name in names
    ]
    unknown = sorted({name or "no label" for name in names} - labels.keys())
    if unknown and not known_only:
        raise DatasetError(
            f"expected labels among {', '.join(class_names)} and none; received also "
            f"{', '.join(unknown[:10])}: --known-classes-only leaves those photos out"
        )
    if unknown:
        count = sum(name not in labels for name in names)
        notes.append(f"Left out {counted(count, 'photo')} labelled {', '.join(unknown[:10])}")
    pairs = zip(photographs, names, strict=True)
    return [replace(each, label=labels[name]) for each, name in pairs if name in labels], notes


def _read_csv(source: Path, groups: Sequence[str] | None, notes: list[str]) -> list[Photograph]:
    try:
        with source.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            reader = csv.DictReader(file, restval="")
            columns, rows = reader.fieldnames or (), list(reader)
    except (OSError, csv.Error) as error:
        raise DatasetError(f"expected a csv; {source} cannot be read: {error}") from error
    if missing := [name for name in (*COLUMNS, *(groups or ())) if name not in columns]:
        received = ", ".join(columns)[:200] or "an empty first line"
        expected = f"expected the columns {', '.join((*COLUMNS, *(groups or ())))} in {source}"
        raise DatasetError(f"{expected}, without {', '.join(missing)}; received {received}")
    if groups is None:
        values = {name: {row[name] for row in rows} for name in columns if name not in COLUMNS}
        groups = [name for name, found in values.items() if 2 <= len(found) <= MOST_VALUES]
    folder, photographs = source.absolute().parent, {}
    for row in rows:
        path = Path(os.path.normpath(folder / row["file"]))
        is_inside = path.is_relative_to(folder)
        file = PhotoFile(path, (path.relative_to(folder) if is_inside else path).as_posix())
        values = {name: row[name].strip() for name in groups}
        photographs.setdefault(path, Photograph(file, row["label"], values))
    if not rows:
        raise DatasetError(f"expected rows in {source}; there is only a header")
    if twice := len(rows) - len(photographs):
        notes.append(f"Left out {counted(twice, 'row')} about a file that came before")
    return list(photographs.values())


def recognize_photographs(
    photographs: Sequence[Photograph],
    faces_table: Path,
    settings: BatchSettings,
    workers: Workers,
    on_progress: Callable,
) -> tuple[list[Photograph], bool]:
    """Return the photos that were read, and whether Ctrl-C came before all were.

    They are in the table too; a run with the same table goes on. Errors as of `run_batch`.
    """
    outputs, is_interrupted = BatchOutputs((faces_table,)), False
    try:
        files = [photograph.photo for photograph in photographs]
        run_batch(files, outputs, settings, workers, on_progress)
    except KeyboardInterrupt:
        is_interrupted = True
    with opened_store(outputs.store) as store:
        root = Path(store.facts.get("root") or "")
        records = {root / name: store.find(name) for name in store.names()}
    read = []
    for photograph in photographs:
        folder = photograph.photo.root
        place = (folder.resolve() if folder else Path()) / photograph.photo.name
        if record := records.get(place):
            read.append(replace(photograph, faces=record.faces, problem=record.problem))
    return read, is_interrupted


def measure_photographs(
    photographs: Sequence[Photograph], model: EmotionModel, lists: Sequence[str] = ()
) -> tuple[dict, list[str]]:
    """Return the figures of photos that were read, as plain types, and notes on the lists.

    Groups are the columns of the csv, and the lists (`NAME=LIST.txt`) under "subset". Raises
    DatasetError where no photo could be read, TrainingError.
    """
    legible = [each for each in photographs if each.problem is None]
    if not legible:
        reason = photographs[0].problem if photographs else "none was read"
        raise DatasetError(f"expected photos that can be read; the first: {reason}")
    shown = [each for each in legible if each.label is not None]
    groups = {
        column: {
            value: [each for each in shown if each.groups[column] == value]
            for value in sorted({each.groups[column] for each in shown})
        }
        for column in photographs[0].groups
    }
    chosen, notes = read_lists(lists, [each.photo.name for each in shown])
    for name, mask in chosen.items():
        groups.setdefault("subset", {})[name] = [
            each for each, is_in in zip(shown, mask, strict=True) if is_in
        ]
    figures = {"model": {"name": model.name, "sha256": model.sha256}} | _figures(shown)
    figures["groups"] = {
        column: {value: _figures(those) for value, those in values.items()}
        for column, values in groups.items()
    }
    empty = [each for each in legible if each.label is None]
    figures["without_face"] = _share(bool(each.faces) for each in empty) | {
        "false_faces": sum(len(each.faces) for each in empty)
    }
    found = [each for each in shown if each.faces]
    if found:
        rows = [[each.face["probabilities"][name] for name in model.class_names] for each in found]
        labels = np.array([model.class_names.index(each.label) for each in found])
        figures["reading"] = Evaluation(model.class_names, labels, np.array(rows)).summary()
    figures["unreadable"] = {e.photo.name: e.problem for e in photographs if e.problem is not None}
    return figures, notes


def _figures(shown: Sequence[Photograph], by_class: bool = True) -> dict:
    """Return the shares of photos with a face, all and by class; "right" is of those found."""
    found = [each for each in shown if each.faces]
    figures = {
        "found": _share(bool(each.faces) for each in shown),
        "right": _share(each.face["emotion"] == each.label for each in found),
        "right_or_named": _share(each.label in each.face["candidates"] for each in found),
        "false_neutral": _share(
            common_name(each.face["emotion"]) == "neutral"
            for each in found
            if common_name(each.label) != "neutral"
        ),
    }
    if by_class:
        figures["by_class"] = {
            name: _figures([each for each in shown if each.label == name], by_class=False)
            for name in sorted({each.label for each in shown})
        }
        recalls = [one["right"]["share"] for one in figures["by_class"].values()]
        recalls = [recall for recall in recalls if recall is not None]
        figures["mean_recall"] = sum(recalls) / len(recalls) if recalls else None
    return figures


def _share(flags: Iterable[bool]) -> dict:
    flags = list(flags)
    share, interval = None, None
    if flags:
        share, interval = sum(flags) / len(flags), list(wilson_interval(sum(flags), len(flags)))
    return {"photos": len(flags), "share": share, "interval_95": interval}


def photograph_lines(figures: Mapping) -> list[str]:
    """Return the figures as lines of text for a terminal."""
    lines, empty = [], figures["without_face"]
    if empty["photos"]:
        lines.append(
            f"a false face in {_cell(empty)} of {counted(empty['photos'], 'photo')} without one"
        )
    if not figures["found"]["photos"]:
        return lines
    parts = [("all", figures), *figures["by_class"].items()]
    groups = {
        f"{column} {value}": part
        for column, values in figures["groups"].items()
        for value, part in values.items()
    }
    head = ("", "photos", *(name.replace("_", " ") for name in SHARES), "mean recall")
    rows = [
        (
            name,
            f"{part['found']['photos']:,}",
            *(_cell(part[key]) for key in SHARES),
            share(part["mean_recall"]) if "by_class" in part else "",
        )
        for name, part in (*parts, *groups.items())
    ]
    lines += ["", *table(head, rows)]
    if groups:
        names = list(figures["by_class"])
        recalls = [
            (group, *(_cell(part["by_class"].get(name, {}).get("right")) for name in names))
            for group, part in groups.items()
        ]
        lines += ["", *table(("right, by class", *names), recalls)]
    return [
        *lines,
        "",
        "In brackets: 95% intervals (Wilson 1927). found: of the photos with a face. right, of those "
        "found: the",
        "likeliest class of the largest face is the label. named: an unsure answer has the label "
        "among its",
        "classes. false neutral: of the other classes' faces, answered neutral.",
    ]


def _cell(part: Mapping | None) -> str:
    """Return a share in percent with its interval: "80% (71-87)"."""
    if not part or part["share"] is None:
        return NOTHING
    low, high = part["interval_95"]
    return f"{share(part['share'])} ({100 * low:.0f}-{100 * high:.0f})"


def write_photographs(
    folder: Path, photographs: Sequence[Photograph], figures: Mapping, model: EmotionModel
) -> None:
    """Write photographs.json, the figures, and photographs.csv, a row a photo. Raises TableError."""
    write_json(folder / "photographs.json", figures)
    groups = [f"group_{column}" for column in photographs[0].groups]
    columns = {"photo": str, "label": str, "faces": int, "right": bool, "named": bool}
    columns |= face_columns(model.class_names) | dict.fromkeys(groups, str) | {"problem": str}
    with TableSink(folder / "photographs.csv", columns) as sink:
        for each in photographs:
            row = {"photo": each.photo.name, "label": each.label or NO_FACE[0]}
            row |= dict(zip(groups, each.groups.values(), strict=True)) | {"problem": each.problem}
            if each.problem is None:
                row["faces"] = len(each.faces)
            if face := each.face:
                row |= face_cells(face) | {"right": face["emotion"] == each.label}
                row["named"] = each.label in face["candidates"]
            sink.write(row)
