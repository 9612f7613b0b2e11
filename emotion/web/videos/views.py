"""Videos as pages and as JSON: sent, watched while they are analysed, shown, and deleted."""

from collections import Counter
from collections.abc import Mapping
from functools import partial

from flask import Blueprint, Response, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from emotion.labels import with_labels
from emotion.text import clock
from emotion.web.api import NO_STORE, ROOT, api, moment
from emotion.web.photos.pages import PRIVATE, after_deletion, private_file
from emotion.web.photos.uploads import MODEL_FIELD, uploaded_files
from emotion.web.services import current_services
from emotion.web.videos.files import FILE_TYPES, LINKS
from emotion.web.videos.queue import DONE, FAILED, VideoRow
from emotion.web.visitors import is_sender, new_visitor, require_sender, visitor_key

UNSURE = "unsure"
FACTS = ("width", "height", "fps", "frames", "duration_s", "has_sound")  # what the API says of it

videos = Blueprint("videos", __name__)


@videos.get("/videos")
def form() -> ResponseReturnValue:
    """Lead to the form: a form that failed was sent to this address."""
    return redirect(url_for("pages.form", _anchor="upload"))


@videos.post("/videos")
@videos.post("/samples/<sample>.mp4")
def upload(sample: str = "") -> ResponseReturnValue:
    return redirect(url_for("videos.page", video_id=_received_video().id), 303)


@api.post(f"{ROOT}/videos")
def add_video() -> ResponseReturnValue:
    """Put a video into the queue; it is analysed outside of the request."""
    row = _received_video()
    headers = NO_STORE | {"Location": url_for("api.video", video_id=row.id)}
    return jsonify(video_document(row)), 202, headers


@api.get(f"{ROOT}/videos/queue")
def queue() -> ResponseReturnValue:
    """Answer how many videos wait, or why none would be taken now: to ask before one is sent."""
    services = current_services()
    services.videos.require_room(visitor_key())
    services.require_model()
    return jsonify({"waiting": services.database.videos_waiting()}), NO_STORE


def _received_video() -> VideoRow:
    services = current_services()
    services.videos.require_room(visitor_key())
    services.require_model()
    model = services.models.find(request.form.get(MODEL_FIELD, ""))
    (file,) = uploaded_files(most=1, field="video")
    return services.videos.take(file.stream, new_visitor(), model.key)


@videos.get("/videos/<video_id>")
def page(video_id: str) -> ResponseReturnValue:
    row = current_services().videos.find(video_id)
    about = {"row": row, "is_own": is_sender(row.visitor), "clock": clock}
    about |= current_services().videos.about(row)
    if row.state == FAILED:
        return render_template("video_failed.html", **about), PRIVATE
    if row.state != DONE:
        return render_template("video_work.html", **about), PRIVATE
    tracks = sorted(about["summary"]["tracks"], key=lambda track: -track["seconds"])
    # the tables have all of them
    about |= {"tracks": tracks[:100], "faces": len(tracks), "times_of": times_of}
    # videos kept since before there were lanes have none
    about |= {"lanes": about["facts"].get("lanes", ()), "track_words": track_words}
    return render_template("video.html", **about, timeline=timeline_words(tracks)), PRIVATE


def times_of(track: Mapping) -> list[tuple[str, float]]:
    """Return (emotion, seconds) of a face, longest first, without emotions of no time."""
    times = {**track["seconds_by_emotion"], UNSURE: track["unsure_s"]}
    return [(name, seconds) for name, seconds in Counter(times).most_common() if seconds > 0]


def track_words(track: Mapping) -> str:
    # summaries kept since before there were verdicts have none
    answer = with_labels(track.get("verdict") or track["emotion"] or UNSURE)
    when = f"from {clock(track['first_s'])} to {clock(track['last_s'])}"
    return f"face {track['track']} {when}, most of the time {answer}"


def timeline_words(tracks: list[Mapping], most: int = 5) -> str:
    """Return what the timeline shows, for those who cannot see it; tracks are longest first."""
    if not tracks:
        return "Timeline: no face was found at any time."
    words = "; ".join(map(track_words, tracks[:most]))
    more = f"; and {len(tracks) - most} more" if len(tracks) > most else ""
    return f"Timeline of emotions: {words}{more}. The table has the times."


@api.get(f"{ROOT}/videos/<video_id>")
def video(video_id: str) -> ResponseReturnValue:
    """Answer how far the work on a video is, or what came of it."""
    return jsonify(video_document(current_services().videos.find(video_id))), NO_STORE


def video_document(row: VideoRow) -> dict:
    about, link = current_services().videos.about(row), partial(url_for, video_id=row.id)
    facts = about.get("facts")
    files = {name: link("api.video_file", name=file) for name, file in LINKS.items()}
    links = {"self": link("api.video"), "page": link("videos.page")}
    times = {"created": moment(row.created_s), "expires": moment(row.expires_s)}
    document = {"id": row.id, "state": row.state} | times | {"before": about.get("before", 0)}
    document |= {"progress": about.get("progress") or None, "problem": row.problem or None}
    document["links"] = links | {"files": files if row.state == DONE else None}
    document["video"] = {name: facts[name] for name in FACTS} if facts else None
    return document | {"model": facts and facts["model"], "summary": about.get("summary")}


@videos.get("/videos/<video_id>/<name>")
@api.get(f"{ROOT}/videos/<video_id>/files/<name>", endpoint="video_file")
def file(video_id: str, name: str) -> Response:
    """Send a file of a video that is done, or a part of it."""
    path, kind = current_services().videos.file(video_id, name), FILE_TYPES.get(name, "image/jpeg")
    response = private_file(path, kind, name if "download" in request.args else None)
    # a player that jumps asks for parts, and gets no more than these
    response.headers.setdefault("Accept-Ranges", "bytes")
    return response


@videos.post("/videos/<video_id>/delete", endpoint="delete")
@api.delete(f"{ROOT}/videos/<video_id>")
def delete_video(video_id: str) -> ResponseReturnValue:
    """Remove a video at once; work on it stops."""
    service = current_services().videos
    require_sender(service.find(video_id).visitor)
    service.remove_known(video_id)
    return after_deletion("pages.form", deleted="video")
