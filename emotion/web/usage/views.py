"""How the app is used over time, and whether to train again: as a page, JSON and text."""

from collections.abc import Mapping, Sequence

from flask import Blueprint, abort, jsonify, render_template
from flask.typing import ResponseReturnValue

from emotion.text import share, table
from emotion.web.api import NO_STORE, ROOT, api
from emotion.web.errors import ApiError
from emotion.web.services import current_services

monitoring = Blueprint("monitoring", __name__)


@monitoring.get("/monitoring")
def page() -> ResponseReturnValue:
    if not current_services().settings.monitoring:
        abort(404)
    return render_template("monitoring.html", facts=_facts(), percentage=share), NO_STORE


@api.get(f"{ROOT}/monitoring")
def use() -> ResponseReturnValue:
    """Answer how the app is used over time."""
    if not current_services().settings.monitoring:
        raise ApiError(404, "This server does not tell how it is used.")
    return jsonify(_facts()), NO_STORE


def _facts() -> dict:
    # pydantic, which reads a model's figures, is loaded when they are asked for
    from emotion.web.usage.figures import monitoring_facts

    services = current_services()
    card = services.recognizer.model.card if services.recognizer else None
    now_s = services.storage.clock()
    return monitoring_facts(services.database, card, services.settings.feedback, now_s)


def report_lines(facts: Mapping) -> list[str]:
    """Return what `monitoring_facts` gave as lines of text."""
    marks = {True: "!", False: "+", None: "?"}
    lines = [facts["retraining"]["words"]]
    lines += [f"  {marks[one['due']]} {one['words']}" for one in facts["retraining"]["checks"]]
    if facts["since"] is None:
        return ["No photo and no video has been read yet.", "", *lines]
    lines.append("")
    recently, total = f"Last {facts['recent_days']} days", facts["total"]
    for words, use in ((f"Since {facts['since']}", total), (recently, facts["recent"])):
        lines.append(
            f"{words}: {use['photos']:,} photos ({use['without_face']:,} without a face), "
            f"{use['faces']:,} faces, {share(use['unsure_share'])} unsure, "
            f"mean confidence {share(use['mean_confidence'])}"
        )
    videos, opinions = facts["videos"], facts["opinions"]
    if videos["videos"]:
        lines.append(
            f"Videos: {videos['videos']:,} ({videos['without_face']:,} without a face), "
            f"{videos['faces']:,} faces followed, {videos['seconds'] / 60:,.1f} minutes"
        )
    shares = ("share", "expected_share", "label_share")
    emotions = [
        (row["emotion"], f"{row['faces']:,}", *(share(row[name]) for name in shares))
        for row in facts["emotions"]
    ]
    lines += _table((recently, "faces", "share", "expected", "labels"), emotions)
    said = "Nobody has said anything about an answer yet."
    if opinions["said"]:
        disagreed = f"{opinions['disagreed']:,} of {opinions['said']:,} who said anything disagreed"
        said = f"{disagreed} ({share(opinions['disagreed_share'])})"
    pairs = [(row["given"], row["chosen"], f"{row['opinions']:,}") for row in opinions["pairs"]]
    lines += ["", said, *_table(("Model", "person", "times"), pairs)[1:]]
    months, names = facts["months"][::-1], list(total["emotions"])
    by_month = [
        (row["month"], *(share(row["emotions"].get(name, 0) / row["faces"]) for name in names))
        for row in months
        if row["faces"]
    ]
    lines += _table(("Month", *names), by_month)
    days = [row for row in facts["days"][::-1] if row["photos"]]
    for title, uses in (("Month", months), ("Day", days)):
        counts = ([use[title.lower()], f"{use['photos']:,}", f"{use['faces']:,}"] for use in uses)
        shares = ([share(use["unsure_share"]), share(use["mean_confidence"])] for use in uses)
        rows = [count + part for count, part in zip(counts, shares, strict=True)]
        lines += _table((title, "photos", "faces", "unsure", "confidence"), rows)
    return lines


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["", *table(head, rows)] if rows else []
