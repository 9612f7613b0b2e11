"""The pages of videos: sending one, how far the work is, what came of it."""

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from emotion.web.analysis import MODEL_FIELD, current_services, uploaded_files
from emotion.web.sets import remove_own_video
from emotion.web.video_documents import (
    PRIVATE,
    clock,
    is_download,
    sent_file,
    timeline_words,
    times_of,
)
from emotion.web.video_rows import DONE, FAILED, VideoRow
from emotion.web.videos import VIDEO_FIELD
from emotion.web.visitors import is_sender, new_visitor

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
