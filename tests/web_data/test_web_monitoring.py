"""Figures over time, drift, when retraining is due; and figures for Prometheus."""

import os
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from prometheus_client.parser import text_string_to_metric_families
from web_support import SHA256, make_app, photo_form, stand_in_model, text_of, upload

from emotion.web.database import Database, Opinion
from emotion.web.usage.figures import monitoring_facts
from emotion.web.usage.views import report_lines

NOW_S = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
DAY_S = 86400
CLASSES = ("angry", "happy", "sad")


def split_of(images, **shares):
    """Return what a card says of a split: class=(precision, recall, images)."""
    rows = [
        {"class": name, "precision": precision, "recall": recall, "f1": None, "support": support}
        for name, (precision, recall, support) in shares.items()
    ]
    return {"images": images, "accuracy": 0.8, "per_class": rows}


SHARES = "coverage accuracy_when_sure accuracy_when_unsure named_when_unsure".split()
CARD = {
    "name": "m",
    "created": "2026-11-01",
    "class_names": list(CLASSES),
    "weights_sha256": SHA256,
    "verdict": {"sure_from": 0.5, "clear_margin": 0.1, "images": 50} | dict.fromkeys(SHARES, 0.9),
    "dataset": {"images": {"train": 200, "validation": 50, "test": 100}},
    "metrics": {
        "validation": split_of(50, angry=(1, 1, 25), happy=(1, 1, 25)),
        # 20 of 25 angry right, of 40 answers; 45 of 50 happy, of 45; 15 of 25 sad, of 15
        "test": split_of(100, angry=(0.5, 0.8, 25), happy=(1, 0.9, 50), sad=(1, 0.6, 25)),
    },
}


@pytest.fixture
def database(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/a.sqlite")
    yield database
    database.close()


def read(database, mix, days_ago=0, unsure=0, sha256=SHA256):
    """Count a photo with as many faces of each emotion as `mix` says, `unsure` of them unsure."""
    names = [name for name, times in mix.items() for _ in range(times)]
    faces = [
        {"emotion": name, "confidence": 0.8, "sure": place >= unsure}
        for place, name in enumerate(names)
    ]
    database.count({"model": {"sha256": sha256}, "faces": faces}, NOW_S - days_ago * DAY_S)


def say(database, given, chosen, times=1, sha256=SHA256):
    photo_id = f"{given}{chosen}".ljust(22, "x")
    for number in range(1, times + 1):
        database.say(Opinion(photo_id, number, given, chosen, sha256, NOW_S))


def facts_of(database, card=CARD, feedback=None):
    return monitoring_facts(database, card, feedback, NOW_S)


def check_of(facts, title):
    return next(check for check in facts["retraining"]["checks"] if check["title"] == title)


def test_what_was_read_by_day_and_month(database):
    read(database, {"happy": 3, "sad": 1}, unsure=1)
    read(database, {})
    read(database, {"sad": 2}, days_ago=29)
    read(database, {"angry": 1}, days_ago=30)
    facts = facts_of(database)
    days = facts["days"]
    assert (facts["since"], len(days), days[0]["day"]) == ("2026-10-22", 30, "2026-10-23")
    today = {"photos": 2, "without_face": 1, "faces": 4, "unsure_share": 0.25}
    today |= {"mean_confidence": pytest.approx(0.8), "emotions": {"happy": 3, "sad": 1}}
    assert days[-1] == {"day": "2026-11-21", **today}
    assert days[1]["mean_confidence"] is None
    months = [(row["month"], row["photos"], row["faces"]) for row in facts["months"]]
    assert months == [("2026-10", 2, 3), ("2026-11", 2, 4)]
    assert (facts["recent"]["photos"], facts["recent"]["faces"]) == (3, 6)
    assert (facts["total"]["photos"], facts["total"]["faces"]) == (4, 7)
    assert [row["faces"] for row in facts["confidence"]] == [0] * 8 + [6, 0]


def test_what_a_card_lets_expect_and_a_card_without_figures(database):
    read(database, {"happy": 300})
    facts = facts_of(database)
    rows = {row.pop("emotion"): list(row.values()) for row in facts["emotions"]}
    assert rows == {
        "angry": [0, 0, 0.4, pytest.approx(1 / 3)],
        "happy": [300, 1, 0.45, 0.5],
        "sad": [0, 0, 0.15, pytest.approx(1 / 6)],
    }
    assert facts["drift"]["split"] == "test"
    assert facts["unsure_expected"] == pytest.approx(0.1)
    for card in (None, {"metrics": None, "verdict": None}, {"verdict": {"coverage": "most"}}):
        facts = facts_of(database, card)
        assert (facts["drift"]["level"], facts["drift"]["index"]) == ("unknown", None)
        assert facts["emotions"][0]["expected_share"] is None
        assert facts["recent"]["faces"] == facts["drift"]["faces"] == 300


MIXES = {
    "too few faces": ((79, 90, 30), None),
    "none": ((80, 90, 30), False),
    "some": ((50, 110, 40), False),
    "large": ((5, 175, 20), True),
}


@pytest.mark.parametrize("level", MIXES)
def test_drift_is_of_recent_faces_of_the_served_model_against_its_own_answers(database, level):
    faces, is_due = MIXES[level]
    mix = dict(zip(CLASSES, faces, strict=True))
    read(database, mix, days_ago=3, unsure=20)
    read(database, {"sad": 5000}, sha256="cd" * 32)
    read(database, {"sad": 5000}, days_ago=30)
    facts = facts_of(database)
    assert (facts["drift"]["level"], facts["drift"]["faces"]) == (level, sum(faces))
    assert check_of(facts, "Mix of emotions")["due"] is is_due
    assert facts["retraining"]["due"] is bool(is_due)
    if level == "none":
        assert check_of(facts, "Certainty")["due"] is False
        read(database, mix, unsure=120)
        assert check_of(facts_of(database), "Certainty")["due"] is True


def test_disagreement(database):
    say(database, "sad", "happy", 100, sha256="cd" * 32)
    for agreed, disagreed, is_due in ((0, 29, None), (20, 29, False), (20, 60, True)):
        say(database, "happy", "happy", agreed)
        say(database, "happy", "sad", disagreed)
        facts = facts_of(database)
        opinions = facts["opinions"]
        assert (opinions["said"], opinions["disagreed"]) == (agreed + disagreed, disagreed)
        assert check_of(facts, "Disagreement")["due"] is is_due
        assert ("people disagree" in facts["retraining"]["words"]) is bool(is_due)


def test_enough_new_faces(database, tmp_path):
    folder = tmp_path / "feedback"
    (folder / "happy" / ".part-x").mkdir(parents=True)
    (folder / "happy" / ".part-x" / "half.png").touch()
    for number in range(14):
        file = folder / "happy" / f"{number}.png"
        file.touch()
        os.utime(file, (NOW_S - (40 * DAY_S if number >= 9 else 0),) * 2)
    facts = facts_of(database, feedback=folder)
    assert facts["kept"] == {"all": 14, "new": 9, "waiting": 0}
    assert check_of(facts, "Faces to learn from")["due"] is False
    os.utime(file, (NOW_S, NOW_S))
    assert check_of(facts_of(database, feedback=folder), "Faces to learn from")["due"] is True


def test_report(database):
    assert report_lines(facts_of(database))[0].startswith("No photo")
    read(database, {"happy": 3, "sad": 1}, unsure=1)
    read(database, {"angry": 1}, days_ago=40)
    say(database, "happy", "sad", 2)
    say(database, "happy", "happy", 1)
    rows = {" ".join(line.split()) for line in report_lines(facts_of(database))}
    totals = {"Since 2026-10-12 2 0 5 20% 80%", "Last 30 days 1 0 4 25% 80%"}
    assert {"happy 3 75% 45% 50%", *totals} < rows


def test_page_before_and_after_photos_and_opinions_and_with_everything_due(tmp_path):
    model = replace(stand_in_model(), card=CARD)
    app = make_app(tmp_path, model, clock=lambda: NOW_S, MONITORING="on")
    client, database = app.test_client(), app.extensions["emotion"].database
    empty = client.get("/monitoring")
    assert "Nothing to show" in text_of(empty)
    assert 'href="/monitoring"' in empty.text
    assert "<table" not in empty.text
    photo_id = upload(client).rsplit("/", 1)[-1]
    client.post(f"/results/{photo_id}/faces/1/feedback", data={"emotion": "sad"})
    page = client.get("/monitoring")
    text = text_of(page)
    for words in ("since 2026-11-21", "Photos 1", "Faces 2", "1 of 1", "(100%)", "Too few faces"):
        assert words in text
    assert "happy 1 50% 45% 50%" in text
    assert photo_id not in page.text
    read(database, {"sad": 300}, unsure=200)
    read(database, {"happy": 3, "<b>x</b>": 1}, days_ago=70)
    say(database, "sad", "angry", 40)
    say(database, "<b>x</b>", "<i>y</i>", 2)
    for number, chosen in enumerate(CLASSES * 5):
        say(database, f"class {number}", chosen)
    page = client.get("/monitoring")
    due = ("⚠ Retraining is due", "⚠ Disagreement: due", "✓ Faces to learn from: not due")
    for words in (*due, "pairs of 18", "2026-09"):
        assert words in text_of(page)
    # and no markup of others
    assert not re.search(r'style="|<script(?![^>]*src=)|<style|<b>x|<i>y', page.text)
    assert "&lt;b&gt;x&lt;/b&gt;" in page.text


def samples(client):
    reply = client.get("/metrics")
    assert (reply.status_code, reply.mimetype) == (200, "text/plain")
    assert reply.headers["Cache-Control"] == "no-store"
    return {
        (sample.name, *map(str, sample.labels.values())): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def test_requests_are_counted_by_route_and_status_and_refusals_by_their_reason(tmp_path):
    limits = {"RATE_LIMIT": "2 per hour", "MAX_IN_HAND": 1}
    app = make_app(tmp_path, METRICS="on", **limits)
    client = app.test_client()
    path = upload(client)
    for other in (path, path, "/some/where"):
        client.get(other)
    client.open("/", method="BREW")
    with app.extensions["emotion"].gate.place("somebody"):
        assert client.post("/api/v1/recognize", data=photo_form()).status_code == 503
    assert client.post("/api/v1/recognize", data=photo_form()).status_code == 429
    values = samples(client)
    assert values["emotion_requests_total", "POST", "/", "303"] == 1
    assert values["emotion_requests_total", "GET", "/results/<analysis_id>", "200"] == 2
    assert values["emotion_requests_total", "GET", "none", "404"] == 1
    assert values["emotion_request_seconds_count", "/results/<analysis_id>"] == 2
    names = ("photos_in_hand", "videos_in_work", "videos_waiting", "photos_total", "faces_total")
    assert [values[f"emotion_{name}",] for name in names] == [0, 0, 0, 1, 2]
    assert values["emotion_videos_total", "done"] == 0
    assert [values["emotion_refused_total", reason] for reason in ("busy", "rate")] == [1, 1]
    for outside in (path.rpartition("/")[2], "BREW", "where"):
        assert outside not in str(values)
    # off by default, and apps do not count for each other
    off = make_app(tmp_path / "off").test_client()
    assert off.get("/metrics").status_code == 404
    assert 'href="/monitoring"' not in off.get("/").text
    other = samples(make_app(tmp_path / "other", METRICS="on").test_client())
    assert ("emotion_requests_total", "POST", "/", "303") not in other
