"""Everything that this browser has sent, as a page and as JSON."""

from flask import jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from emotion.web.api import NO_STORE, ROOT, api, moment, nothing
from emotion.web.database import Answers, PhotoRow
from emotion.web.photos.kept import remove_rows
from emotion.web.photos.pages import PRIVATE, pages
from emotion.web.services import current_services
from emotion.web.videos.queue import VideoRow
from emotion.web.visitors import visitor_key


def own_photos() -> tuple[PhotoRow, ...]:
    """Return the photos of this visitor that are still kept, newest first; () without a cookie."""
    services, visitor = current_services(), visitor_key()
    if not visitor:
        return ()
    return services.database.photos_of_visitor(visitor, services.storage.clock())


def own_videos() -> tuple[VideoRow, ...]:
    """Return the videos of this visitor that are still kept, newest first."""
    videos = current_services().videos
    return videos.rows.of_visitor(visitor_key(), videos.clock())


def remove_all() -> None:
    """Remove everything that this visitor has sent; work on videos stops."""
    remove_rows(own_photos())
    for row in own_videos():
        current_services().videos.remove_known(row.id)


@pages.get("/mine")
def mine() -> ResponseReturnValue:
    """Show what this browser has sent and what is still kept of it."""
    return render_template(
        "mine.html",
        rows=own_photos(),
        videos=own_videos(),
        now_s=current_services().storage.clock(),
        deleted="deleted" in request.args,
    ), PRIVATE


@api.get(f"{ROOT}/mine", endpoint="mine")
def mine_json() -> ResponseReturnValue:
    """See what this sender, known by a cookie, has sent and is still kept."""
    photos = [
        {"id": row.id, "set": row.set_id, "position": row.position} | _facts_of(row)
        for row in own_photos()
    ]
    videos = [{"id": row.id, "state": row.state} | _facts_of(row) for row in own_videos()]
    return jsonify({"photos": photos, "videos": videos}), NO_STORE


def _facts_of(row: PhotoRow | VideoRow) -> dict:
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


@pages.post("/mine/delete")
def delete_mine() -> ResponseReturnValue:
    """Remove everything that this browser has sent."""
    remove_all()
    return redirect(url_for("pages.mine", deleted=1), 303)


@api.delete(f"{ROOT}/mine", endpoint="delete_mine")
def delete_mine_json() -> ResponseReturnValue:
    """Delete everything that this sender, known by a cookie, has sent."""
    remove_all()
    return nothing()
