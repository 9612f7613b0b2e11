"""How the app is used over time, and when its model is due for retraining: a page and a text."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from flask import Blueprint, abort, render_template
from flask.typing import ResponseReturnValue

from emotion.web.database import Database
from emotion.web.services import current_services
from emotion.web.usage.figures import percentage, usage_facts

monitoring = Blueprint("monitoring", __name__)


@monitoring.get("/monitoring")
def page() -> ResponseReturnValue:
    """Show how the app is used."""
    services = current_services()
    if not services.settings.monitoring:
        abort(404)
    card = services.recognizer.model.card if services.recognizer else None
    facts = monitoring_facts(
        services.database, card, services.settings.feedback, services.storage.clock()
    )
    content = render_template("monitoring.html", facts=facts, percentage=percentage)
    return content, {"Cache-Control": "no-store"}


def monitoring_facts(
    database: Database,
    model_card: Mapping | None,
    feedback: Path | None = None,
    now_s: float | None = None,
) -> dict:
    """Return all figures as plain types for JSON.

    Args:
        database: that has the statistics.
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
    if facts["since"] is None:
        return [
            "No photo and no video has been read yet.",
            "",
            *_retraining_lines(facts["retraining"]),
        ]
    return [
        *_retraining_lines(facts["retraining"]),
        *_use_lines(facts),
        *_emotion_lines(facts),
        *_opinion_lines(facts["opinions"]),
        *_mix_lines(facts),
        *_time_lines("Month", [{"when": row["month"], **row} for row in facts["months"]]),
        *_time_lines(
            "Day", [{"when": row["day"], **row} for row in facts["days"] if row["photos"]]
        ),
    ]


def _retraining_lines(retraining: Mapping) -> list[str]:
    """Return whether retraining is due, and what each rule says."""
    marks = {True: "!", False: "+", None: "?"}
    return [
        retraining["words"],
        *(f"  {marks[check['due']]} {check['words']}" for check in retraining["checks"]),
    ]


def _use_lines(facts: Mapping) -> list[str]:
    """Return what was read in all and lately."""
    lines = [""]
    for words, use in (
        (f"Since {facts['since']}", facts["total"]),
        (f"Last {facts['recent_days']} days", facts["recent"]),
    ):
        lines.append(
            f"{words}: {use['photos']:,} photos ({use['without_face']:,} without a face), "
            f"{use['faces']:,} faces, {percentage(use['unsure_share'])} unsure, "
            f"mean confidence {percentage(use['mean_confidence'])}"
        )
    videos = facts["videos"]
    if videos["videos"]:
        lines.append(
            f"Videos: {videos['videos']:,} ({videos['without_face']:,} without a face), "
            f"{videos['faces']:,} faces followed, {videos['seconds'] / 60:,.1f} minutes"
        )
    return lines


def _emotion_lines(facts: Mapping) -> list[str]:
    """Return the mix of emotions beside what was to be expected."""
    if not facts["emotions"]:
        return []
    rows = [
        (
            row["emotion"],
            f"{row['faces']:,}",
            percentage(row["share"]),
            percentage(row["expected_share"]),
            percentage(row["label_share"]),
        )
        for row in facts["emotions"]
    ]
    head = (f"Last {facts['recent_days']} days", "faces", "share", "expected", "labels")
    return ["", *_table(head, rows)]


def _opinion_lines(opinions: Mapping) -> list[str]:
    """Return how often people disagreed, and about what."""
    if not opinions["said"]:
        return ["", "Nobody has said anything about an answer yet."]
    rows = [(row["given"], row["chosen"], f"{row['opinions']:,}") for row in opinions["pairs"]]
    first = (
        f"{opinions['disagreed']:,} of {opinions['said']:,} who said anything disagreed "
        f"({percentage(opinions['disagreed_share'])})"
    )
    return ["", first, *(_table(("Model", "person", "times"), rows) if rows else [])]


def _mix_lines(facts: Mapping) -> list[str]:
    """Return the share of each emotion month by month, the latest first."""
    names = list(facts["total"]["emotions"])
    rows = [
        (
            month["month"],
            *(percentage(month["emotions"].get(name, 0) / month["faces"]) for name in names),
        )
        for month in reversed(facts["months"])
        if month["faces"]
    ]
    return ["", *_table(("Month", *names), rows)] if rows else []


def _time_lines(title: str, uses: Sequence[Mapping]) -> list[str]:
    """Return a table of what was read over time, the latest first."""
    rows = [
        (
            use["when"],
            f"{use['photos']:,}",
            f"{use['faces']:,}",
            percentage(use["unsure_share"]),
            percentage(use["mean_confidence"]),
        )
        for use in reversed(uses)
    ]
    head = (title, "photos", "faces", "unsure", "confidence")
    return ["", *_table(head, rows)] if rows else []


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines: words to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if number == 0 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    ]
