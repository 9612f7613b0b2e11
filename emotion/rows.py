"""A face as JSON and as the columns of a table: spelled once for API, files and notebooks."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from emotion.faces import Face, verdict
from emotion.text import printable

SCHEMA = 1  # of the JSON form; it grows when a field changes its meaning or goes away
BOX = ("x", "y", "width", "height")

# a spreadsheet may run a cell of text that begins so as a formula, in Asia the wide forms too
FORMULA_STARTS = tuple("=+-@＝＋－＠")


def face_to_dict(face: Face) -> dict[str, Any]:
    """Return a face as plain types for JSON."""
    return {
        "box": dict(zip(BOX, map(int, face.box_xywh), strict=True)),
        "score": round(float(face.score), 4),
        "emotion": face.emotion,
        "confidence": round(face.confidence, 6),
        "probabilities": {name: round(value, 6) for name, value in face.probabilities.items()},
        "sure": face.sure,
        "agreement": face.agreement,
        "verdict": verdict(face),
        "candidates": list(face.candidates),
        "runner_up": face.runner_up,
        "notes": list(face.notes),
    }


def face_from_dict(content: Mapping[str, Any]) -> Face:
    """Return the face that `face_to_dict` made `content` from, up to rounding."""
    return Face(
        box_xywh=tuple(content["box"][name] for name in BOX),
        score=content["score"],
        probabilities=content["probabilities"],
        notes=tuple(content["notes"]),
        # results kept since before there was `sure` were unsure if they had a `runner_up`
        sure=content.get("sure", content["runner_up"] is None),
        agreement=content.get("agreement"),  # kept since before there was one: None
    )


def results_to_dict(
    faces: Sequence[Face], size_wh: tuple[int, int], model_name: str, model_sha256: str
) -> dict[str, Any]:
    """Return the results of one upright photo as plain types: the JSON of API, files and shell."""
    return {
        "schema": SCHEMA,
        "model": {"name": model_name, "sha256": model_sha256},
        "image": {"width": int(size_wh[0]), "height": int(size_wh[1])},
        "faces": [face_to_dict(face) for face in faces],
    }


def face_columns(class_names: Iterable[str], raw: bool = False) -> dict[str, type]:
    """Return the columns of a face, name -> type; with `raw`, also those of a frame alone."""
    names = tuple(class_names)
    return {
        **dict.fromkeys(BOX, int),
        "score": float,
        **({"detected": bool} if raw else {}),
        "emotion": str,
        "confidence": float,
        "sure": bool,
        "agreement": int,
        "candidates": str,
        **{f"probability_{name}": float for name in names},
        **({f"raw_probability_{name}": float for name in names} if raw else {}),
        "notes": str,
        "verdict": str,
    }


def face_cells(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cells of a face, column -> value, from what `face_to_dict` gave."""
    return {
        **content["box"],
        **{name: content[name] for name in ("score", "emotion", "confidence", "sure", "verdict")},
        "agreement": content.get("agreement"),
        "candidates": ", ".join(content["candidates"]),
        **{f"probability_{name}": value for name, value in content["probabilities"].items()},
        "notes": "; ".join(content["notes"]) or None,
    }


def photo_columns(class_names: Iterable[str]) -> dict[str, type]:
    """Return the columns of a table of photos, name -> type."""
    columns = {"photo": str, "face": int, **face_columns(class_names), "problem": str}
    return columns | {"verdict": columns.pop("verdict")}


def photo_rows(name: str, results: Mapping[str, Any] | str) -> list[dict[str, Any]]:
    """Return a row a face, or one without; results of `results_to_dict`, or why there are none."""
    if isinstance(results, str):
        return [{"photo": name, "problem": results}]
    faces = enumerate(results["faces"], 1)
    rows = [{"photo": name, "face": number} | face_cells(face) for number, face in faces]
    return rows or [{"photo": name}]


def results_to_csv(photos: Iterable[tuple[str, Mapping[str, Any] | str]]) -> str:
    """Return the results of photos, each as for `photo_rows`, as CSV (RFC 4180), one row a face."""
    rows = [row for name, results in photos for row in photo_rows(name, results)]
    chances = [column for row in rows for column in row if column.startswith("probability_")]
    names = [column.removeprefix("probability_") for column in dict.fromkeys(chances)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, photo_columns(names), quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    for row in rows:
        writer.writerow({name: safe_cell(value) for name, value in row.items()})
    return text.getvalue()


def safe_cell(value: Any) -> Any:
    """Return text that a spreadsheet never runs as a formula (OWASP, "CSV Injection")."""
    if not isinstance(value, str):
        return value
    visible = printable(value, " ")
    return f"'{visible}" if visible.lstrip().startswith(FORMULA_STARTS) else visible
