"""Photographs with a label each, from file to answer: found, right, by class and by group.

Of several faces the largest is the one with the label, as in `--crop-faces`. A photo labelled none
(or no_face) has no face, and those found in it are false.
"""

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from emotion.batch import BatchOutputs, BatchSettings, LocalWorkers, run_batch
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
MOST_VALUES = 10  # a column with more different values is no group unless it is asked for
SHARES = ("found", "right", "right_or_named", "false_neutral")
LEGEND = (
    "(95% intervals.) Right: the likeliest class of the largest face, of faces found; named: by an "
    "unsure\nanswer; false neutral: of faces with another label."
)


@dataclass(frozen=True)
class Photograph:  # a photo with its label and, once it was read, its faces or why there are none
    photo: PhotoFile
    label: str | None  # a class of the model; None: there is no face
    groups: tuple[tuple[str, str], ...] = ()  # column of the csv and value; "subset" and list
    faces: Sequence[Mapping] = ()  # as `face_to_dict` gives them, the largest first
    problem: str | None = None


def read_photographs(
    source: Path, class_names: Sequence[str], groups: Sequence[str] | None = None, lists=()
) -> tuple[list[Photograph], list[str]]:
    """Return the photos of `<class>/<file>` or of a csv with file and label, and notes.

    Paths in a csv start at its folder. Its other columns are groups: those named, else those with 2
    to `MOST_VALUES` values; so are lists, `NAME=LIST.txt`. Raises EmotionError.
    """
    if not source.exists():
        expected = "expected --photos as a folder of <class>/<photo>, or a .csv of file and label"
        raise DatasetError(f"{expected}; {source} does not exist")
    if source.suffix.lower() == ".csv":
        photographs = _read_csv(source, groups)
    else:
        files = find_photos(source)
        photographs = [Photograph(file, file.path.absolute().parent.name) for file in files]
    labels: dict[str, str | None] = {common_name(name): name for name in class_names}
    labels |= {name: name for name in class_names} | dict.fromkeys(NO_FACE)
    known, unknown = [], []
    for each in photographs:
        name = each.label if each.label in labels else common_name(each.label).replace(" ", "_")
        if name in labels:
            known.append(replace(each, label=labels[name]))
        else:
            unknown.append(each.label or "nothing")
    words = ", ".join(sorted(set(unknown))[:10])
    if not known:
        expected = f"expected labels among {', '.join(class_names)} and none in {source}"
        raise DatasetError(f"{expected}; received {words or 'no photo'}")
    chosen, notes = read_lists(lists, [each.photo.name for each in known])
    for name, mask in chosen.items():
        for place in np.flatnonzero(mask):
            known[place] = replace(known[place], groups=(*known[place].groups, ("subset", name)))
    left_out = [f"left out {counted(len(unknown), 'photo')}, labelled {words}"]
    return known, notes + left_out * bool(unknown)


def _read_csv(source: Path, groups: Sequence[str] | None) -> list[Photograph]:
    try:
        with source.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            reader = csv.DictReader(file, restval="")
            columns, rows = reader.fieldnames or (), list(reader)
    except (OSError, csv.Error) as error:
        raise DatasetError(f"expected a csv; {source} cannot be read: {error}") from error
    wanted = ["file", "label", *(groups or ())]
    if not set(wanted).issubset(columns):
        received = ", ".join(columns)[:200] or "an empty first line"
        raise DatasetError(f"expected columns {', '.join(wanted)} in {source}; received {received}")
    if groups is None:
        values = {name: {row[name] for row in rows} - {""} for name in columns}
        groups = [name for name in columns if 2 <= len(values[name]) <= MOST_VALUES]
    folder, photographs = source.absolute().parent, {}
    for row in rows:
        path = Path(os.path.normpath(folder / row["file"]))
        is_inside = path.is_relative_to(folder)
        file = PhotoFile(path, (path.relative_to(folder) if is_inside else path).as_posix())
        pairs = tuple((name, row[name]) for name in groups if row[name] and name not in wanted[:2])
        photographs[path] = Photograph(file, row["label"].strip(), pairs)
    return list(photographs.values())


def recognize_photographs(
    photographs: Sequence[Photograph], faces_table: Path, settings: BatchSettings, on_progress
) -> tuple[list[Photograph], bool]:
    """Return the photos that were read, and whether Ctrl-C came before the end; see `run_batch`."""
    outputs, is_interrupted = BatchOutputs((faces_table,)), False
    try:
        files = [each.photo for each in photographs]
        run_batch(files, outputs, settings, LocalWorkers(), on_progress)
    except KeyboardInterrupt:
        is_interrupted = True
    with opened_store(outputs.store) as store:
        root = Path(store.facts.get("root") or "")
        records = {root / name: store.find(name) for name in store.names()}
    read = []
    for each in photographs:
        folder = each.photo.root
        if record := records.get((folder.resolve() if folder else Path()) / each.photo.name):
            faces = sorted(record.faces, key=lambda f: -f["box"]["width"] * f["box"]["height"])
            read.append(replace(each, faces=faces, problem=record.problem))
    if is_interrupted and not read:
        raise KeyboardInterrupt
    return read, is_interrupted


def measure_photographs(photographs: Sequence[Photograph], model: EmotionModel) -> dict:
    """Return the figures of photos that were read; DatasetError where none could be."""
    legible = [each for each in photographs if each.problem is None]
    if not legible:
        problem = photographs[0].problem if photographs else "none was read"
        raise DatasetError(f"expected photos that can be read; the first one: {problem}")
    shown = [each for each in legible if each.label is not None]
    found = [each for each in shown if each.faces]
    false = [each.faces for each in legible if each.label is None]
    figures = {"model": {"name": model.name, "sha256": model.sha256}} | _figures(shown)
    figures["groups"] = []
    for column, value in sorted({pair for each in shown for pair in each.groups}):
        part = _figures([each for each in shown if (column, value) in each.groups])
        figures["groups"].append({"column": column, "value": value} | part)
    figures["without_face"] = _share(map(bool, false)) | {"false_faces": sum(map(len, false))}
    figures["unreadable"] = {e.photo.name: e.problem for e in photographs if e.problem is not None}
    if found:
        rows = [[e.faces[0]["probabilities"][name] for name in model.class_names] for e in found]
        labels = np.array([model.class_names.index(each.label) for each in found])
        figures["reading"] = Evaluation(model.class_names, labels, np.array(rows)).summary()
    return figures


def _figures(shown: Sequence[Photograph], by_class: bool = True) -> dict:
    """Return the shares of photos with a face and, by class, of those of each class."""
    found = [(each.label, each.faces[0]) for each in shown if each.faces]
    figures = {
        "found": _share(bool(each.faces) for each in shown),
        "right": _share(face["emotion"] == label for label, face in found),
        "right_or_named": _share(label in face["candidates"] for label, face in found),
        "false_neutral": _share(
            common_name(face["emotion"]) == "neutral"
            for label, face in found
            if common_name(label) != "neutral"
        ),
    }
    if by_class:
        names = sorted({each.label for each in shown})
        parts = {name: [each for each in shown if each.label == name] for name in names}
        parts = {name: _figures(part, by_class=False) for name, part in parts.items()}
        recalls = [part["right"]["share"] for part in parts.values() if part["right"]["photos"]]
        mean = sum(recalls) / len(recalls) if recalls else None
        figures |= {"mean_recall": mean, "by_class": parts}
    return figures


def _share(flags: Iterable[bool]) -> dict:
    flags = list(flags)
    interval = list(wilson_interval(sum(flags), len(flags))) if flags else None
    value = sum(flags) / len(flags) if flags else None
    return {"photos": len(flags), "share": value, "interval_95": interval}


def photograph_lines(figures: Mapping) -> list[str]:
    """Return the figures as lines of text for a terminal."""
    empty, lines = figures["without_face"], []
    if empty["photos"]:
        words = f"{empty['false_faces']:,} false faces, in {_cell(empty)} of"
        lines = [f"{words} the {empty['photos']:,} photos without one"]

    def rows(name: str, part: Mapping) -> Iterator[tuple[str, ...]]:
        cells = [_cell(part[key]) for key in SHARES]
        yield name, f"{part['found']['photos']:,}", *cells, share(part.get("mean_recall"))
        for class_name, of_class in part.get("by_class", {}).items():
            yield from rows(f"  {class_name}", of_class)

    cells = list(rows("all", figures))
    for part in figures["groups"]:
        cells += rows(f"{part['column']}: {part['value']}", part)
    if not figures["by_class"]:
        return lines
    head = ("", "photos", *(name.replace("_", " ") for name in SHARES), "mean recall")
    return [*lines, "", *table(head, cells), "", LEGEND]


def _cell(part: Mapping) -> str:
    """Return a share in percent with its interval: "80% (71-87)"."""
    if not part["photos"]:
        return NOTHING
    low, high = part["interval_95"]
    return f"{share(part['share'])} ({100 * low:.0f}-{100 * high:.0f})"


def write_photographs(
    folder: Path, photographs: Sequence[Photograph], figures: Mapping, model: EmotionModel
) -> None:
    """Write photographs.json, the figures, and photographs.csv, a row a photo."""
    write_json(folder / "photographs.json", figures)
    groups = sorted({column for each in photographs for column, _ in each.groups})
    columns = {"photo": str, "label": str, "faces": int, "right": bool, "named": bool}
    columns |= face_columns(model.class_names) | {f"group_{name}": str for name in groups}
    with TableSink(folder / "photographs.csv", columns | {"problem": str}) as sink:
        for each in photographs:
            row = {"photo": each.photo.name, "label": each.label or NO_FACE[0]}
            row |= {f"group_{column}": value for column, value in each.groups}
            row |= {"problem": each.problem}
            row["faces"] = len(each.faces) if each.problem is None else None
            for face in each.faces[:1]:
                row |= face_cells(face) | {"right": face["emotion"] == each.label}
                row["named"] = each.label in face["candidates"]
            sink.write(row)
