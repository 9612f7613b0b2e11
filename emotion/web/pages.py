"""HTML views: the form, photos and sets of them, faces, their pictures, and "my results"."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import BinaryIO

from flask import (
    Blueprint,
    Response,
    redirect,
    render_template,
    request,
    send_file,
    url_for,
)
from flask.typing import ResponseReturnValue

from emotion.errors import ImageError
from emotion.explain import Explanation, draw_heat
from emotion.faces import short_verdict, verdict
from emotion.images.encoding import encode_png
from emotion.images.guards import readable_types
from emotion.labels import EMOJI, color_rgb
from emotion.recognizer import Recognizer
from emotion.text import percent
from emotion.web import exports
from emotion.web.analysis import (
    PHOTO_FIELD,
    Services,
    chosen_recognizer,
    count,
    current_services,
    drop,
    keep,
    note,
    pictures_of,
    read_photo,
    unread_row,
    uploaded_files,
)
from emotion.web.database import Answers, PhotoRow
from emotion.web.errors import NO_MODEL, problem_of
from emotion.web.feedback import feedback_context, find_face
from emotion.web.limits import client_key
from emotion.web.logs import log_cause
from emotion.web.sets import (
    Shown,
    chosen_emotion,
    named_analyses,
    reasons_of,
    remove_all_of_visitor,
    remove_rows,
    rows_of,
    rows_of_visitor,
    shown_of,
    summarize,
    videos_of_visitor,
)
from emotion.web.settings import Settings
from emotion.web.storage import Analysis, new_id
from emotion.web.visitors import is_own_photo, new_visitor, own_photo

pages = Blueprint("pages", __name__)

PRIVATE = {
    "Cache-Control": "private, no-store",
    "X-Robots-Tag": "noindex, nofollow",
}


@pages.app_context_processor
def words_for_templates() -> dict:
    """Return what every template may use."""
    services = current_services()
    return {
        "settings": services.settings,
        "navigation": _navigation(services.settings),
        "photo_field": PHOTO_FIELD,
        "readable_types": readable_types(),
        "offered_models": services.models.offered(),
        "emoji": EMOJI,
        "color_rgb": color_rgb,
        "percent": percent,
        "short_verdict": short_verdict,
        "verdict": verdict,
        "answers_from": Answers.from_text,
        "duration": duration,
    }


def _navigation(settings: Settings) -> list[tuple[str, str]]:
    """Return the pages that every page leads to: endpoint and words."""
    shown = {
        "pages.form": "Photos and videos",
        "live.page": "Live camera",
        "pages.mine": "My results",
        "model_page.page": "The model",
        "monitoring.page": "Use",
    }
    if settings.keeps_nothing:
        del shown["pages.mine"]
    if not settings.monitoring:
        del shown["monitoring.page"]
    return list(shown.items())


@pages.get("/")
def form() -> ResponseReturnValue:
    """Show the form, or say that there is no model to read photos with."""
    if current_services().recognizer is None:
        log_cause(503, current_services().model_problem)
        return render_template("form.html", no_model=NO_MODEL), 503, {"Cache-Control": "no-store"}
    return render_template("form.html", deleted=request.args.get("deleted", "")), PRIVATE


# From photos to pages


@pages.post("/")
def upload() -> ResponseReturnValue:
    """Read one photo or several, keep what was found, and go to its page."""
    services = current_services()
    recognizer = chosen_recognizer(services)
    files = uploaded_files(services.settings.max_photos)
    set_id, visitor = new_id(), new_visitor()
    answers, rows, problems = [], [], []
    try:
        with services.gate.place(client_key()):
            for position, file in enumerate(files, start=1):
                try:
                    answer, row = _read_one(
                        services, recognizer, file.read(), visitor, set_id, position
                    )
                except ImageError as error:
                    if len(files) == 1:
                        raise
                    problem = problem_of(error)
                    problems.append(problem)
                    answer = Shown(position, problem=problem.detail)
                    row = unread_row(services, problem.detail, visitor, set_id, position)
                answers.append(answer)
                rows.append(row)
    except Exception:
        drop(services, [row for row in rows if row])
        raise
    if len(problems) == len(files):
        return _set_page(answers, None), problems[0].status, {"Cache-Control": "no-store"}
    results = [answer.analysis.results for answer in answers if answer.analysis]
    if not services.settings.keeps_nothing:
        note(services, rows, results)
        if len(files) == 1:
            return redirect(url_for("pages.result", analysis_id=rows[0].id), 303)
        return redirect(url_for("pages.photo_set", set_id=set_id), 303)
    count(services, results)
    if len(files) == 1:
        page = render_template("result.html", analysis=answers[0].analysis, shown=answers[0])
        return page, PRIVATE
    return _set_page(answers, None), PRIVATE


def _read_one(
    services: Services,
    recognizer: Recognizer,
    content: bytes,
    visitor: str,
    set_id: str,
    position: int,
) -> tuple[Shown, PhotoRow | None]:
    """Return a photo with its pictures, or with the row of what was kept.

    Its pixels, up to 150 MB, go at the end of this call: of a form one photo is in memory.
    """
    reading = read_photo(services, recognizer, content)
    now_s = services.storage.clock()
    analysis = Analysis("", now_s, now_s, reading.results, reading.model, "")
    if not services.settings.keeps_nothing:
        row = keep(services, reading, visitor, set_id, position)
        return Shown(position, analysis), row
    pictures = {name: _data_uri(name, data) for name, data in pictures_of(reading).items()}
    return Shown(position, analysis, pictures=pictures), None


def _data_uri(name: str, data: bytes) -> str:
    """Return a picture as an address that holds it."""
    kind = "png" if name.endswith(".png") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


# A photo


@pages.get("/results/<analysis_id>")
def result(analysis_id: str) -> ResponseReturnValue:
    """Show what was found in a photo."""
    analysis = current_services().storage.load(analysis_id)
    is_own = is_own_photo(analysis_id)
    return render_template("result.html", analysis=analysis, shown=None, is_own=is_own), PRIVATE


@pages.get("/results/<analysis_id>/<name>.jpg")
def picture(analysis_id: str, name: str) -> Response:
    """Send a picture of a result; with `?download=1` as a file to keep."""
    data = current_services().storage.read_picture(analysis_id, f"{name}.jpg")
    return _private_file(data, "image/jpeg", "emotions.jpg" if "download" in request.args else None)


@pages.get("/results/<analysis_id>/blurred.jpg")
def blurred(analysis_id: str) -> Response:
    """Send the photo with its faces hidden, to share what was found without showing who."""
    services = current_services()
    analysis = services.storage.load(analysis_id)
    with services.gate.place(client_key()):
        data = exports.blurred_picture(services.storage, analysis)
    return _private_file(data, "image/jpeg", "emotions-blurred.jpg")


@pages.get("/results/<analysis_id>/emotions.json")
def results_file(analysis_id: str) -> Response:
    """Send the results of a photo as a JSON file to keep."""
    analysis = current_services().storage.load(analysis_id)
    return _private_file(exports.one_as_json(analysis), "application/json", "emotions.json")


@pages.get("/results/<analysis_id>/emotions.csv")
def results_table(analysis_id: str) -> Response:
    """Send the results of a photo as a table to keep."""
    analysis = current_services().storage.load(analysis_id)
    return _private_file(exports.as_csv([("photo-1", analysis)]), "text/csv", "emotions.csv")


@pages.post("/results/<analysis_id>/delete")
def delete(analysis_id: str) -> ResponseReturnValue:
    """Remove a photo and its results at once."""
    remove_rows([own_photo(analysis_id)])
    if request.args.get("back") == "mine":
        return redirect(url_for("pages.mine", deleted=1), 303)
    return redirect(url_for("pages.form", deleted=1), 303)


# A face


@pages.get("/results/<analysis_id>/faces/<int:number>")
def face(analysis_id: str, number: int) -> ResponseReturnValue:
    """Show one face: what it is taken for, and which parts of it spoke for the answer."""
    services = current_services()
    analysis = services.storage.load(analysis_id)
    seen = find_face(analysis, number)
    chosen = chosen_emotion(seen) or seen.emotion
    return render_template(
        "face.html",
        analysis=analysis,
        face=seen,
        number=number,
        chosen=chosen,
        explained=_explained(services, analysis, number, chosen),
        **feedback_context(analysis_id, number),
    ), PRIVATE


@dataclass(frozen=True)
class Explained:
    """Which parts of a face spoke for an answer: a picture of them, and the check that they did."""

    picture: str
    reasons: Explanation


def _explained(
    services: Services, analysis: Analysis, number: int, emotion: str
) -> Explained | None:
    """Return the reasons; None where the model that gave the answer is not served any more."""
    reasons = reasons_of(services, analysis, number, emotion)
    if reasons is None:
        return None
    crop, explanation = reasons
    drawn = encode_png(draw_heat(crop, explanation.heat))
    return Explained(_data_uri("heat.png", drawn), explanation)


# A set of photos


@pages.get("/sets/<set_id>")
def photo_set(set_id: str) -> ResponseReturnValue:
    """Show the photos of a set and what all their faces show together."""
    shown = shown_of(set_id)
    return _set_page(shown, set_id), PRIVATE


@pages.get("/sets/<set_id>/<any(annotated, blurred):kind>.zip")
def set_zip(set_id: str, kind: str) -> Response:
    """Send the photos of a set as one file, with boxes, or with boxes and faces hidden."""
    services = current_services()
    pictures = {"annotated": exports.annotated_picture, "blurred": exports.blurred_picture}
    analyses = named_analyses(set_id)
    with services.gate.place(client_key()):
        archive = exports.as_zip(services.storage, analyses, pictures[kind])
    return _private_file(archive, "application/zip", f"emotions-{kind}.zip")


@pages.get("/sets/<set_id>/emotions.json")
def set_json(set_id: str) -> Response:
    """Send the results of a set as JSON."""
    data = exports.as_json(named_analyses(set_id))
    return _private_file(data, "application/json", "emotions.json")


@pages.get("/sets/<set_id>/emotions.csv")
def set_csv(set_id: str) -> Response:
    """Send the results of a set as a table with a row a face."""
    photos = [(f"photo-{one.position}", one.analysis or one.problem) for one in shown_of(set_id)]
    return _private_file(exports.as_csv(photos), "text/csv", "emotions.csv")


@pages.post("/sets/<set_id>/delete")
def delete_set(set_id: str) -> ResponseReturnValue:
    """Remove all photos of a set."""
    remove_rows(rows_of(set_id))
    return redirect(url_for("pages.form", deleted=1), 303)


def _set_page(shown: Sequence[Shown], set_id: str | None) -> str:
    """Return the page of several photos; without an id, of such as are not kept."""
    faces = [face for one in shown if one.analysis for face in one.analysis.faces]
    return render_template(
        "set.html", shown=shown, set_id=set_id, faces=faces, summary=summarize(faces)
    )


# This browser's own


@pages.get("/mine")
def mine() -> ResponseReturnValue:
    """Show what this browser has sent and what is still kept of it."""
    now_s = current_services().storage.clock()
    return render_template(
        "mine.html",
        rows=rows_of_visitor(),
        videos=videos_of_visitor(),
        now_s=now_s,
        deleted="deleted" in request.args,
    ), PRIVATE


@pages.post("/mine/delete")
def delete_mine() -> ResponseReturnValue:
    """Remove everything that this browser has sent."""
    remove_all_of_visitor()
    return redirect(url_for("pages.mine", deleted=1), 303)


def _private_file(data: bytes | BinaryIO, mimetype: str, download_name: str | None) -> Response:
    """Return a reply with a file that no cache keeps; a name makes it a download."""
    response = send_file(
        BytesIO(data) if isinstance(data, bytes) else data,
        mimetype=mimetype,
        as_attachment=download_name is not None,
        download_name=download_name,
    )
    response.headers.update(PRIVATE)
    return response


@pages.app_template_filter("moment")
def moment(seconds: float) -> datetime:
    """Return seconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


@pages.app_template_filter("time_left")
def time_left(seconds: float) -> str:
    """Return a length of time in words, without much precision."""
    return duration(max(1, round(seconds / 60)) / 60 if seconds >= 60 else max(1, seconds) / 3600)


def duration(hours: float) -> str:
    """Return a length of time in words: "2 days", "24 hours", "30 minutes", "4 seconds"."""
    length = timedelta(hours=hours)
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        count = length.total_seconds() / unit
        if count >= (2 if name == "day" else 1):
            amount = f"{count:.1f}".removesuffix(".0")
            return f"{amount} {name}" + ("" if amount == "1" else "s")
    return "a second"
