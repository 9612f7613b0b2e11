"""Everything that this browser has sent, as a page and as JSON."""

from flask import jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from emotion.web.api import NO_STORE, ROOT, api, moment, nothing
from emotion.web.database import Answers, PhotoRow
from emotion.web.photos.pages import PRIVATE, pages
from emotion.web.photos.sets import remove_rows
from emotion.web.services import current_services
from emotion.web.videos.queue import VideoRow
from emotion.web.visitors import visitor_key


def _own() -> tuple[tuple[PhotoRow, ...], tuple[VideoRow, ...]]:
    """Return the photos and the videos of this visitor that are still kept, newest first."""
    services, visitor = current_services(), visitor_key()
    now_s = services.storage.clock()
    photos = services.database.photos_of_visitor(visitor, now_s)
    return photos, services.videos.rows.of_visitor(visitor, now_s)


@pages.get("/mine")
def mine() -> ResponseReturnValue:
    """Show what this browser has sent and what is still kept of it."""
    photos, videos = _own()
    about = {"now_s": current_services().storage.clock(), "deleted": "deleted" in request.args}
    return render_template("mine.html", rows=photos, videos=videos, **about), PRIVATE


@api.get(f"{ROOT}/mine", endpoint="mine")
def mine_json() -> ResponseReturnValue:
    """See what this sender, known by a cookie, has sent and is still kept."""

    def facts_of(row: PhotoRow | VideoRow) -> dict:
        answers = Answers.from_text(row.emotions)
        return {
            "created": moment(row.created_s),
            "expires": moment(row.expires_s),
            "faces": row.faces,
            "emotions": [names[0] for names in answers.candidates],
            "verdicts": list(answers.verdicts),
            "model": dict(answers.model) or None,
            "problem": row.problem or None,
        }

    photos, videos = _own()
    content = {
        "photos": [
            {"id": row.id, "set": row.set_id, "position": row.position} | facts_of(row)
            for row in photos
        ],
        "videos": [{"id": row.id, "state": row.state} | facts_of(row) for row in videos],
    }
    return jsonify(content), NO_STORE


@pages.post("/mine/delete")
def delete_mine() -> ResponseReturnValue:
    photos, videos = _own()
    remove_rows(photos)
    for row in videos:
        current_services().videos.remove_known(row.id)
    return redirect(url_for("pages.mine", deleted=1), 303)


@api.delete(f"{ROOT}/mine", endpoint="delete_mine")
def delete_mine_json() -> ResponseReturnValue:
    """Delete everything that this sender, known by a cookie, has sent."""
    delete_mine()
    return nothing()
