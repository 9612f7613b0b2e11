"""What is told about a video, in plain types and in words."""

from collections.abc import Mapping
from pathlib import Path

from flask import Blueprint, Response, redirect, render_template, request, send_file, url_for
from flask.typing import ResponseReturnValue

from emotion.web.photos.uploads import MODEL_FIELD, uploaded_files
from emotion.web.services import current_services
from emotion.web.sets import remove_own_video
from emotion.web.videos.files import FILE_TYPES, LINKS
from emotion.web.videos.queue import DONE, FAILED, VideoRow
from emotion.web.videos.service import VIDEO_FIELD, VideoView
from emotion.web.visitors import is_sender, new_visitor

UNSURE = "unsure"


PRIVATE = {
    "Cache-Control": "private, no-store",
    "X-Robots-Tag": "noindex, nofollow",
}


def video_document(view: VideoView, moment) -> dict:
    """Return what is told about a video as plain types for JSON.

    Args:
        view: the video.
        moment: turns seconds since 1970 into text.
    """
    row, facts = view.row, dict(view.facts or {})
    return {
        "id": row.id,
        "state": row.state,
        "created": moment(row.created_s),
        "expires": moment(row.expires_s),
        "before": view.before,
        "progress": dict(view.progress) if view.progress else None,
        "problem": row.problem or None,
        "links": _links(row.id, row.state == DONE),
        "video": {name: facts[name] for name in FACTS} if facts else None,
        "model": facts.get("model"),
        "summary": view.summary,
    }


FACTS = ("width", "height", "fps", "frames", "duration_s", "has_sound")


def _links(video_id: str, is_done: bool) -> dict:
    """Return the addresses of a video, of its page and, once it is done, of its files."""
    files = {
        name: url_for("api.video_file", video_id=video_id, name=file)
        for name, file in LINKS.items()
    }
    return {
        "self": url_for("api.video", video_id=video_id),
        "page": url_for("videos.page", video_id=video_id),
        "files": files if is_done else None,
    }


def sent_file(path: Path, as_download: bool = False) -> Response:
    """Return a file of a video, or the part of it that is asked for, which no cache keeps."""
    response = send_file(
        path,
        mimetype=FILE_TYPES[path.name],
        as_attachment=as_download,
        download_name=path.name,
        conditional=True,
        etag=False,
    )
    response.headers.update(PRIVATE)
    # parts are asked for by a player that jumps; what was not asked for is not sent
    response.headers.setdefault("Accept-Ranges", "bytes")
    return response


def is_download() -> bool:
    """Tell whether the current request asks for a file to keep."""
    return "download" in request.args


def clock(seconds: float | None) -> str:
    """Return a time in a video as m:ss, or as h:mm:ss from an hour on; "" for none."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def times_of(track: Mapping) -> list[tuple[str, float]]:
    """Return (emotion, seconds) of a face, longest first, those without any time left out."""
    times = {**track["seconds_by_emotion"], UNSURE: track["unsure_s"]}
    found = [(name, seconds) for name, seconds in times.items() if seconds > 0]
    return sorted(found, key=lambda pair: -pair[1])


def timeline_words(tracks: list[Mapping], most: int = 5) -> str:
    """Return what the timeline shows, for those who do not see it."""
    if not tracks:
        return "Timeline: no face was found at any time."
    longest = sorted(tracks, key=lambda track: -track["seconds"])[:most]
    words = [
        f"face {track['track']} from {clock(track['first_s'])} to {clock(track['last_s'])}, "
        # summaries kept since before there were verdicts have none
        f"most of the time {track.get('verdict') or track['emotion'] or UNSURE}"
        for track in longest
    ]
    more = f"; and {len(tracks) - most} more" if len(tracks) > most else ""
    return f"Timeline of emotions: {'; '.join(words)}{more}. The table has the times."


videos = Blueprint("videos", __name__)


MOST_TRACKS = 100
"""The page shows so many faces, those seen for longest; the tables have all."""


REFRESH_S = 3
"""How often the page asks again where no script does it."""


@videos.app_context_processor
def words_for_templates() -> dict:
    """Return what every template may use."""
    return {"video_field": VIDEO_FIELD, "videos_refusal": current_services().videos.refusal}


@videos.get("/videos")
def form() -> ResponseReturnValue:
    """Lead to the form: this is the address that a form which failed was sent to."""
    return redirect(url_for("pages.form", _anchor="video-form"))


@videos.post("/videos")
def upload() -> ResponseReturnValue:
    """Put a video into the queue and go to its page."""
    return redirect(url_for("videos.page", video_id=received_video().id), 303)


def received_video() -> VideoRow:
    """Put the video that the current request brings into the queue.

    Raises:
        EmotionError: videos are not taken, there is none, or too many wait.
    """
    services = current_services()
    services.videos.require()
    services.require_recognizer()
    model = services.models.find(request.form.get(MODEL_FIELD, ""))
    (file,) = uploaded_files(most=1, field=VIDEO_FIELD)
    return services.videos.take(file.stream, new_visitor(), model.key)


@videos.get("/videos/<video_id>")
def page(video_id: str) -> ResponseReturnValue:
    """Show how far the work on a video is, what came of it, or why nothing did."""
    view = current_services().videos.view(video_id)
    is_own = is_sender(view.row.visitor)
    if view.row.state == FAILED:
        return render_template("video_failed.html", row=view.row, is_own=is_own), PRIVATE
    if view.row.state != DONE:
        return render_template(
            "video_work.html", view=view, is_own=is_own, clock=clock, refresh_s=REFRESH_S
        ), PRIVATE
    tracks = sorted(view.summary["tracks"], key=lambda track: -track["seconds"])
    return render_template(
        "video.html",
        view=view,
        is_own=is_own,
        tracks=tracks[:MOST_TRACKS],
        faces=len(tracks),
        timeline=timeline_words(tracks),
        clock=clock,
        times_of=times_of,
    ), PRIVATE


@videos.get("/videos/<video_id>/<name>")
def file(video_id: str, name: str) -> Response:
    """Send a file of a video that is done; with `?download=1` as a file to keep."""
    return sent_file(current_services().videos.file(video_id, name), is_download())


@videos.post("/videos/<video_id>/delete")
def delete(video_id: str) -> ResponseReturnValue:
    """Remove a video at once; work on it stops."""
    remove_own_video(video_id)
    if request.args.get("back") == "mine":
        return redirect(url_for("pages.mine", deleted=1), 303)
    return redirect(url_for("pages.form", deleted="video"), 303)
