"""What is told about a video, in plain types and in words."""

from collections.abc import Mapping
from pathlib import Path

from flask import Response, request, send_file, url_for

from emotion.web.video_files import FILE_TYPES, LINKS
from emotion.web.video_rows import DONE
from emotion.web.videos import VideoView

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
