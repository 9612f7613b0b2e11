"""How the app is used over time, and whether to train again: as a page, JSON and text."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from flask import Blueprint, abort, jsonify, render_template
from flask.typing import ResponseReturnValue

from emotion.text import share, table
from emotion.web.api import NO_STORE, ROOT, api
from emotion.web.database import Database
from emotion.web.errors import ApiError
from emotion.web.services import current_services
from emotion.web.usage.figures import usage_facts

monitoring = Blueprint("monitoring", __name__)


@monitoring.get("/monitoring")
def page() -> ResponseReturnValue:
    """Show how the app is used."""
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
    services = current_services()
    card = services.recognizer.model.card if services.recognizer else None
    now_s = services.storage.clock()
    return monitoring_facts(services.database, card, services.settings.feedback, now_s)


def monitoring_facts(
    database: Database,
    model_card: Mapping | None,
    feedback: Path | None = None,
    now_s: float | None = None,
) -> dict:
    """Return all figures as plain types for JSON.

    Args:
        database: the statistics.
        model_card: card of the model that is served.
        feedback: folder of the faces that visitors gave; None leaves them out.
        now_s: seconds since 1970; None is now.

    Raises:
        DatabaseError: the database cannot be reached.
    """
    now_s = time.time() if now_s is None else now_s
    return usage_facts(database.counts(), model_card, feedback, now_s)


def report_lines(
    database: Database,
    model_card: Mapping | None,
    feedback: Path | None = None,
    now_s: float | None = None,
) -> list[str]:
    """Return the figures as lines of text; the arguments are those of `monitoring_facts`.

    Raises:
        DatabaseError: the database cannot be reached.
    """
    facts = monitoring_facts(database, model_card, feedback, now_s)
    marks = {True: "!", False: "+", None: "?"}
    retraining = facts["retraining"]
    checks = [f"  {marks[check['due']]} {check['words']}" for check in retraining["checks"]]
    lines = [retraining["words"], *checks]
    if facts["since"] is None:
        return ["No photo and no video has been read yet.", "", *lines]
    recently, names = f"Last {facts['recent_days']} days", list(facts["total"]["emotions"])
    months = facts["months"][::-1]
    return [
        *lines,
        "",
        _use_line(f"Since {facts['since']}", facts["total"]),
        _use_line(recently, facts["recent"]),
        *_video_lines(facts["videos"]),
        *_table_lines(
            (recently, "faces", "share", "expected", "labels"),
            [
                (
                    row["emotion"],
                    f"{row['faces']:,}",
                    *(share(row[name]) for name in ("share", "expected_share", "label_share")),
                )
                for row in facts["emotions"]
            ],
        ),
        *_opinion_lines(facts["opinions"]),
        *_table_lines(
            ("Month", *names),
            [
                (
                    row["month"],
                    *(share(row["emotions"].get(name, 0) / row["faces"]) for name in names),
                )
                for row in months
                if row["faces"]
            ],
        ),
        *_time_lines("Month", "month", months),
        *_time_lines("Day", "day", [row for row in facts["days"][::-1] if row["photos"]]),
    ]


def _use_line(words: str, use: Mapping) -> str:
    return (
        f"{words}: {use['photos']:,} photos ({use['without_face']:,} without a face), "
        f"{use['faces']:,} faces, {share(use['unsure_share'])} unsure, "
        f"mean confidence {share(use['mean_confidence'])}"
    )


def _video_lines(videos: Mapping) -> list[str]:
    if not videos["videos"]:
        return []
    return [
        f"Videos: {videos['videos']:,} ({videos['without_face']:,} without a face), "
        f"{videos['faces']:,} faces followed, {videos['seconds'] / 60:,.1f} minutes"
    ]


def _opinion_lines(opinions: Mapping) -> list[str]:
    if not opinions["said"]:
        return ["", "Nobody has said anything about an answer yet."]
    rows = [(row["given"], row["chosen"], f"{row['opinions']:,}") for row in opinions["pairs"]]
    said = (
        f"{opinions['disagreed']:,} of {opinions['said']:,} who said anything disagreed "
        f"({share(opinions['disagreed_share'])})"
    )
    return ["", said, *_table_lines(("Model", "person", "times"), rows)[1:]]


def _time_lines(title: str, key: str, uses: Sequence[Mapping]) -> list[str]:
    rows = [
        (
            use[key],
            f"{use['photos']:,}",
            f"{use['faces']:,}",
            share(use["unsure_share"]),
            share(use["mean_confidence"]),
        )
        for use in uses
    ]
    return _table_lines((title, "photos", "faces", "unsure", "confidence"), rows)


def _table_lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["", *table(head, rows)] if rows else []
