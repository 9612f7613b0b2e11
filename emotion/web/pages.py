"""HTML views: the form, the results and their pictures."""

from datetime import timedelta
from io import BytesIO

from flask import (
    Blueprint,
    Response,
    json,
    redirect,
    render_template,
    request,
    send_file,
    url_for,
)
from flask.typing import ResponseReturnValue

from emotion.images import readable_types
from emotion.labels import EMOJI, color_rgb
from emotion.results import percent, short_verdict, verdict
from emotion.web.analysis import PHOTO_FIELD, current_services, model_facts, pictures_of
from emotion.web.analysis import read_request as read_photo
from emotion.web.problems import NO_MODEL

pages = Blueprint("pages", __name__)

PRIVATE = {
    "Cache-Control": "private, no-store",
    "X-Robots-Tag": "noindex, nofollow",
}


@pages.app_context_processor
def words_for_templates() -> dict:
    """Return what every template may use."""
    return {
        "settings": current_services().settings,
        "photo_field": PHOTO_FIELD,
        "readable_types": readable_types(),
        "emoji": EMOJI,
        "color_rgb": color_rgb,
        "percent": percent,
        "short_verdict": short_verdict,
        "verdict": verdict,
        "duration": duration,
    }


@pages.get("/")
def form() -> ResponseReturnValue:
    """Show the form, or say that there is no model to read photos with."""
    if current_services().recognizer is None:
        return render_template("form.html", no_model=NO_MODEL), 503, {"Cache-Control": "no-store"}
    return render_template("form.html", deleted="deleted" in request.args)


@pages.post("/")
def upload() -> ResponseReturnValue:
    """Read a photo, keep what was found and go to its page."""
    services = current_services()
    reading = read_photo(services)
    facts = model_facts(services.recognizer.model, services.settings.model.parent)
    facts["accuracy_when_unsure"] = services.recognizer.thresholds.accuracy_when_unsure
    analysis_id = services.storage.save(reading.results, facts, pictures_of(reading))
    return redirect(url_for("pages.result", analysis_id=analysis_id), 303)


@pages.get("/results/<analysis_id>")
def result(analysis_id: str) -> ResponseReturnValue:
    """Show what was found in a photo."""
    analysis = current_services().storage.load(analysis_id)
    return render_template("result.html", analysis=analysis), PRIVATE


@pages.get("/results/<analysis_id>/<name>.jpg")
def picture(analysis_id: str, name: str) -> Response:
    """Send a picture of a result; with `?download=1` as a file to keep."""
    data = current_services().storage.read_picture(analysis_id, f"{name}.jpg")
    return _private_file(data, "image/jpeg", "emotions.jpg" if "download" in request.args else None)


@pages.get("/results/<analysis_id>/emotions.json")
def results_file(analysis_id: str) -> Response:
    """Send the results of a photo as a JSON file to keep."""
    analysis = current_services().storage.load(analysis_id)
    data = (json.dumps(analysis.results, indent=1) + "\n").encode()
    return _private_file(data, "application/json", "emotions.json")


@pages.post("/results/<analysis_id>/delete")
def delete(analysis_id: str) -> ResponseReturnValue:
    """Remove a result at once."""
    current_services().storage.delete(analysis_id)
    return redirect(url_for("pages.form", deleted=1), 303)


def _private_file(data: bytes, mimetype: str, download_name: str | None) -> Response:
    """Return a reply with a file that no cache keeps; a name makes it a download."""
    response = send_file(
        BytesIO(data),
        mimetype=mimetype,
        as_attachment=download_name is not None,
        download_name=download_name,
    )
    response.headers.update(PRIVATE)
    return response


def duration(hours: float) -> str:
    """Return a length of time in words: "2 days", "24 hours", "30 minutes", "4 seconds"."""
    length = timedelta(hours=hours)
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        count = length.total_seconds() / unit
        if count >= (2 if name == "day" else 1):
            amount = f"{count:.1f}".removesuffix(".0")
            return f"{amount} {name}" + ("" if amount == "1" else "s")
    return "a second"
