"""Sets of photos, as pages and as JSON: see, download and delete them."""

from collections.abc import Sequence
from dataclasses import asdict

from flask import Response, jsonify, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from emotion.web.api import NO_STORE, ROOT, api, nothing
from emotion.web.limits import client_key
from emotion.web.photos import exports
from emotion.web.photos.kept import (
    Shown,
    named_analyses,
    photo_document,
    remove_rows,
    rows_of,
    shown_of,
    summarize,
)
from emotion.web.photos.pages import PRIVATE, pages, private_file
from emotion.web.services import current_services


@pages.get("/sets/<set_id>")
def photo_set(set_id: str) -> ResponseReturnValue:
    """Show the photos of a set and what all their faces show together."""
    shown = shown_of(set_id)
    return set_page(shown, set_id), PRIVATE


def set_page(shown: Sequence[Shown], set_id: str | None) -> str:
    """Return the page of several photos; without an id, of photos that are not kept."""
    faces = [face for one in shown if one.analysis for face in one.analysis.faces]
    return render_template(
        "set.html", shown=shown, set_id=set_id, faces=faces, summary=summarize(faces)
    )


@api.get(f"{ROOT}/sets/<set_id>", endpoint="photo_set")
def photo_set_json(set_id: str) -> ResponseReturnValue:
    """See the photos of a set and what all their faces show together."""
    shown = shown_of(set_id)
    faces = [face for one in shown if one.analysis for face in one.analysis.faces]
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
        "summary": [asdict(share) for share in summarize(faces)],
    }
    return jsonify(content), NO_STORE


@pages.get("/sets/<set_id>/<any(annotated, blurred):kind>.zip")
def set_zip(set_id: str, kind: str) -> Response:
    """Send the photos of a set as one file, with boxes, or with boxes and faces hidden."""
    services = current_services()
    analyses = named_analyses(set_id)
    with services.gate.place(client_key()):
        archive = exports.as_zip(services.storage, analyses, exports.PICTURES[kind])
    return private_file(archive, "application/zip", f"emotions-{kind}.zip")


@pages.get("/sets/<set_id>/emotions.json")
def set_json(set_id: str) -> Response:
    """Send the results of a set as JSON."""
    data = exports.as_json(named_analyses(set_id))
    return private_file(data, "application/json", "emotions.json")


@pages.get("/sets/<set_id>/emotions.csv")
def set_csv(set_id: str) -> Response:
    """Send the results of a set as a table with one row per face."""
    photos = [(f"photo-{one.position}", one.analysis or one.problem) for one in shown_of(set_id)]
    return private_file(exports.as_csv(photos), "text/csv", "emotions.csv")


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
