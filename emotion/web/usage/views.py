"""How the app is used over time, and whether to train again: as a page, JSON and text."""

from collections.abc import Mapping

from flask import Blueprint, jsonify, render_template, request
from flask.typing import ResponseReturnValue

from emotion.text import share, table
from emotion.web.api import NO_STORE, ROOT, api
from emotion.web.services import current_services
from emotion.web.visitors import require_operator

monitoring = Blueprint("monitoring", __name__)


@monitoring.get("/monitoring", endpoint="page")
@api.get(f"{ROOT}/monitoring")
def use() -> ResponseReturnValue:
    """Answer how the app is used over time."""
    # pydantic, which reads a model's figures, is loaded when they are asked for
    from emotion.web.usage.figures import monitoring_facts

    services = current_services()
    if not services.settings.monitoring:
        require_operator()
    card = services.model.card if services.model else None
    now_s, feedback = services.storage.clock(), services.settings.feedback
    facts = monitoring_facts(services.database, card, feedback, now_s)
    if request.blueprint == "api":
        return jsonify(facts), NO_STORE
    return render_template("monitoring.html", facts=facts, percentage=share), NO_STORE


def report_lines(facts: Mapping) -> list[str]:
    """Return the main figures of `monitoring_facts` as lines of text; JSON and page have all."""
    marks = {True: "!", False: "+", None: "?"}
    lines = [facts["retraining"]["words"]]
    lines += [f"  {marks[one['due']]} {one['words']}" for one in facts["retraining"]["checks"]]
    if facts["since"] is None:
        return ["No photo and no video has been read yet.", "", *lines]
    recently = f"Last {facts['recent_days']} days"
    head = ("", "photos", "without a face", "faces", "unsure", "confidence")
    uses = {f"Since {facts['since']}": facts["total"], recently: facts["recent"]}
    rows = [
        [words, *(f"{use[name]:,}" for name in ("photos", "without_face", "faces"))]
        + [share(use[name]) for name in ("unsure_share", "mean_confidence")]
        for words, use in uses.items()
    ]
    videos, shares = facts["videos"], ("share", "expected_share", "label_share")
    emotions = [
        (row["emotion"], f"{row['faces']:,}", *(share(row[name]) for name in shares))
        for row in facts["emotions"]
    ]
    lines += ["", *table(head, rows)]
    if videos["videos"]:
        lines.append(f"Videos: {videos['videos']:,}, with {videos['faces']:,} faces followed")
    return [*lines, "", *table((recently, "faces", "share", "expected", "labels"), emotions)]
