"""Sets of photos, as pages and as JSON: see, download and delete them."""

import contextlib
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flask import Response, json, jsonify, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from emotion.errors import GoneError
from emotion.faces import Face
from emotion.web.api import NO_STORE, ROOT, api, nothing
from emotion.web.database import PhotoRow
from emotion.web.limits import client_key
from emotion.web.photos.kept import full_picture, photo_document, remove_rows, table_of
from emotion.web.photos.pages import PRIVATE, pages, private_file
from emotion.web.services import current_services
from emotion.web.storage import Analysis
from emotion.web.visitors import require_sender

IN_MEMORY_BYTES = 16 * 2**20  # a larger zip is written to the disk while it is made


@dataclass(frozen=True)
class Shown:
    """One photo of a set, as its page shows it."""

    position: int  # in the set, from 1
    analysis: Analysis | None = None  # None if it could not be read
    problem: str = ""  # why it could not be read
    pictures: Mapping[str, str] | None = None  # name -> data URI, where nothing is kept

    @property
    def name(self) -> str:
        return f"photo-{self.position}"


def rows_of(set_id: str) -> tuple[PhotoRow, ...]:
    """Return the photos of a set of this visitor, by position."""
    services = current_services()
    rows = services.database.photos_of_set(set_id, services.storage.clock())
    if not rows:
        raise GoneError("expected photos that are still kept; these are gone or never were")
    for row in rows:
        require_sender(row.visitor)
    return rows


def shown_of(set_id: str) -> list[Shown]:
    """Return the photos of a set of this visitor as its page shows them.

    They are numbered without gaps, even if one was removed or two were sent with the same number.
    """
    shown = []
    for position, row in enumerate(rows_of(set_id), start=1):
        if row.problem:
            shown.append(Shown(position, problem=row.problem))
            continue
        # one that was deleted in this moment is left out
        with contextlib.suppress(GoneError):
            shown.append(Shown(position, current_services().storage.load(row.id)))
    return shown


def read_of(set_id: str) -> list[tuple[str, Analysis]]:
    """Return name and analysis of the photos of a set that could be read."""
    return [(one.name, one.analysis) for one in shown_of(set_id) if one.analysis]


def faces_of(shown: Sequence[Shown]) -> list[Face]:
    return [face for one in shown if one.analysis for face in one.analysis.faces]


def summarize(faces: Sequence[Face]) -> list[dict]:
    """Return how many faces show each emotion, of one model's classes or of several models'."""
    summary = []
    for name in dict.fromkeys(name for face in faces for name in face.probabilities):
        sure = [face.sure for face in faces if face.emotion == name]
        chances = [face.probabilities.get(name, 0) for face in faces]
        summary.append(
            {
                "emotion": name,
                "sure": sure.count(True),
                "unsure": sure.count(False),
                "share": len(sure) / len(faces),
                "mean_probability": sum(chances) / len(faces),
            }
        )
    return summary


@pages.get("/sets/<set_id>")
def photo_set(set_id: str) -> ResponseReturnValue:
    """Show the photos of a set and what all their faces show together."""
    return set_page(shown_of(set_id), set_id), PRIVATE


def set_page(shown: Sequence[Shown], set_id: str | None) -> str:
    """Return the page of several photos; without an id, of photos that are not kept."""
    faces = faces_of(shown)
    about = {"faces": faces, "summary": summarize(faces)}
    return render_template("set.html", shown=shown, set_id=set_id, **about)


@api.get(f"{ROOT}/sets/<set_id>", endpoint="photo_set")
def photo_set_json(set_id: str) -> ResponseReturnValue:
    """See the photos of a set and what all their faces show together."""
    shown = shown_of(set_id)
    faces = faces_of(shown)
    content = {
        "id": set_id,
        "links": {
            "self": url_for("api.photo_set", set_id=set_id),
            "page": url_for("pages.photo_set", set_id=set_id),
            "csv": url_for("pages.set_csv", set_id=set_id),
            "annotated": url_for("pages.set_zip", set_id=set_id, kind="annotated"),
            "blurred": url_for("pages.set_zip", set_id=set_id, kind="blurred"),
        },
        "photos": [
            {
                "position": one.position,
                "problem": one.problem or None,
                "photo": photo_document(one.analysis, True) if one.analysis else None,
            }
            for one in shown
        ],
        "faces": len(faces),
        "summary": summarize(faces),
    }
    return jsonify(content), NO_STORE


@pages.get("/sets/<set_id>/<any(annotated, blurred):kind>.zip")
def set_zip(set_id: str, kind: str) -> Response:
    """Send the photos of a set as one file, with boxes, or with boxes and faces hidden."""
    photos = read_of(set_id)
    with contextlib.ExitStack() as on_error:
        file = on_error.enter_context(tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES))
        with current_services().gate.place(client_key()), zipfile.ZipFile(file, "w") as archive:
            for name, analysis in photos:
                archive.writestr(f"{name}.jpg", full_picture(analysis, kind))
            archive.writestr("emotions.csv", table_of(photos))
        file.seek(0)
        on_error.pop_all()  # from here on the reply closes it
    return private_file(file, "application/zip", f"emotions-{kind}.zip")


@pages.get("/sets/<set_id>/emotions.json")
def set_json(set_id: str) -> Response:
    """Send the results of a set as JSON."""
    photos = [{"photo": name, **analysis.results} for name, analysis in read_of(set_id)]
    content = json.dumps({"photos": photos}, indent=1) + "\n"
    return private_file(content.encode(), "application/json", "emotions.json")


@pages.get("/sets/<set_id>/emotions.csv")
def set_csv(set_id: str) -> Response:
    """Send the results of a set as a table with one row per face."""
    photos = [(one.name, one.analysis or one.problem) for one in shown_of(set_id)]
    return private_file(table_of(photos), "text/csv", "emotions.csv")


@pages.post("/sets/<set_id>/delete")
def delete_set(set_id: str) -> ResponseReturnValue:
    """Remove all photos of a set."""
    remove_rows(rows_of(set_id))
    return redirect(url_for("pages.form", deleted=1), 303)


@api.delete(f"{ROOT}/sets/<set_id>", endpoint="delete_set")
def delete_set_json(set_id: str) -> ResponseReturnValue:
    """Delete all photos of a set."""
    remove_rows(rows_of(set_id))
    return nothing()
