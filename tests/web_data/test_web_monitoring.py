"""Monitoring: figures over time, drift, and when retraining is due, as page, text and JSON."""

import html
import json
import math
import os
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from web_support import SHA256, make_app, stand_in_model, upload

from emotion.model.figures import wilson_interval
from emotion.web.database import Database, Opinion
from emotion.web.settings import PROJECT_FOLDER
from emotion.web.usage.figures import read_expected, stability_index
from emotion.web.usage.views import monitoring_facts, report_lines

NOW_S = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
DAY_S = 86400
CLASSES = ("angry", "happy", "sad")


def figures(name, precision, recall, support):
    measured = {"precision": precision, "recall": recall, "f1": None}
    return {"class": name, **measured, "support": support}


def split_of(images, *rows):
    return {"images": images, "accuracy": 0.8, "per_class": list(rows)}


CARD = {
    "name": "m",
    "created": "2026-11-01",
    "class_names": list(CLASSES),
    "weights_sha256": SHA256,
    "verdict": {
        "sure_from": 0.5,
        "clear_margin": 0.1,
        "coverage": 0.9,
        "accuracy_when_sure": 0.9,
        "accuracy_when_unsure": 0.5,
        "named_when_unsure": 0.9,
        "images": 50,
    },
    "dataset": {"images": {"train": 200, "validation": 50, "test": 100}},
    "metrics": {
        "validation": split_of(50, figures("angry", 1, 1, 25), figures("happy", 1, 1, 25)),
        # 20 of 25 angry right, of 40 answers; 45 of 50 happy, of 45; 15 of 25 sad, of 15
        "test": split_of(
            100,
            figures("angry", 0.5, 0.8, 25),
            figures("happy", 1.0, 0.9, 50),
            figures("sad", 1.0, 0.6, 25),
        ),
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


def say(database, given, chosen, times=1, sha256=SHA256, start=0):
    for number in range(start + 1, start + times + 1):
        database.say(
            Opinion(f"{given}{chosen}".ljust(22, "x"), number, given, chosen, sha256, NOW_S)
        )


def facts_of(database, card=CARD, feedback=None):
    return monitoring_facts(database, card, feedback, NOW_S)


def check_of(facts, title):
    return next(check for check in facts["retraining"]["checks"] if check["title"] == title)


def text_of(page):
    """Return the words of a page as a person reads them."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.text.split("<main")[1])).split())


# Figures


def test_what_was_read_by_day_and_month(database):
    read(database, {"happy": 3, "sad": 1}, unsure=1)
    read(database, {})
    read(database, {"sad": 2}, days_ago=29)
    read(database, {"angry": 1}, days_ago=30)
    facts = facts_of(database)
    assert facts["since"] == "2026-10-22"
    assert [row["day"] for row in facts["days"]][:: len(facts["days"]) - 1] == [
        "2026-10-23",
        "2026-11-21",
    ]
    assert len(facts["days"]) == 30
    assert facts["days"][-1] == {
        "day": "2026-11-21",
        "photos": 2,
        "without_face": 1,
        "faces": 4,
        "unsure_share": 0.25,
        "mean_confidence": pytest.approx(0.8),
        "emotions": {"happy": 3, "sad": 1},
    }
    assert facts["days"][1]["mean_confidence"] is None
    assert [(row["month"], row["photos"], row["faces"]) for row in facts["months"]] == [
        ("2026-10", 2, 3),
        ("2026-11", 2, 4),
    ]
    assert (facts["recent"]["photos"], facts["recent"]["faces"]) == (3, 6)
    assert (facts["total"]["photos"], facts["total"]["faces"]) == (4, 7)
    assert sum(row["faces"] for row in facts["confidence"]) == 6
    assert facts["confidence"][8]["faces"] == 6


def test_expected_mix_of_a_card():
    expected = read_expected(CARD)
    assert expected.answers == pytest.approx({"angry": 40, "happy": 45, "sad": 15})
    assert expected.labels == {"angry": 50, "happy": 75, "sad": 25}
    assert expected.split == "test"
    assert expected.unsure_share == pytest.approx(0.1)
    # classes that were never answered rightly share what is left
    rows = [figures("angry", 0.5, 1, 20), figures("happy", 0, 0, 30), figures("sad", 0, 0, 10)]
    expected = read_expected({"metrics": {"validation": split_of(60, *rows)}})
    assert expected.answers == pytest.approx({"angry": 40, "happy": 10, "sad": 10})
    assert expected.split == "validation"
    file = PROJECT_FOLDER / "models" / "detection_model.card.json"
    shipped = json.loads(file.read_text(encoding="utf-8"))
    expected = read_expected(shipped)
    images = shipped["metrics"][expected.split]["images"]
    assert expected.answers.keys() == set(shipped["class_names"])
    assert sum(expected.answers.values()) == pytest.approx(images, rel=1e-6)


NO_FIGURES = (
    None,
    {},
    {"metrics": {}},
    {"metrics": None, "verdict": None, "dataset": None},
    {"metrics": "good"},
    {"metrics": {"test": {"per_class": [{"class": "happy"}]}}},
    {"verdict": {"coverage": "most"}},
)


def test_a_model_without_figures_is_compared_with_nothing(database):
    read(database, {"happy": 300})
    for card in NO_FIGURES:
        facts = facts_of(database, card)
        assert facts["drift"]["level"] == "unknown"
        assert facts["drift"]["index"] is None
        assert facts["emotions"][0]["expected_share"] is None
        assert facts["recent"]["faces"] == facts["drift"]["faces"] == 300


# Drift


def test_stability_index():
    halves, fifths = {"a": 5000, "b": 5000}, {"a": 2000, "b": 8000}
    expected = 0.3 * math.log(2.5) + 0.3 * math.log(1.6)
    assert stability_index(fifths, halves) == pytest.approx(expected, abs=1e-3)
    assert stability_index(halves, fifths) == pytest.approx(expected, abs=1e-3)
    assert stability_index({"a": 50, "b": 50}, halves) == pytest.approx(0, abs=1e-3)
    # a class without faces is finite
    assert 0.25 < stability_index({"a": 300}, {"a": 100, "b": 0, "c": 100}) < 20


@pytest.mark.parametrize(
    ("mix", "level", "is_due"),
    [
        ({"angry": 79, "happy": 90, "sad": 30}, "too few faces", None),
        ({"angry": 80, "happy": 90, "sad": 30}, "none", False),
        ({"angry": 50, "happy": 110, "sad": 40}, "some", False),
        ({"angry": 5, "happy": 175, "sad": 20}, "large", True),
    ],
)
def test_drift_is_of_recent_faces_of_the_served_model_against_its_own_answers(
    database, mix, level, is_due
):
    read(database, mix, days_ago=3, unsure=20)
    read(database, {"sad": 5000}, sha256="cd" * 32)
    read(database, {"sad": 5000}, days_ago=30)
    facts = facts_of(database)
    assert facts["drift"]["level"] == level
    assert facts["drift"]["faces"] == sum(mix.values())
    assert check_of(facts, "Mix of emotions")["due"] is is_due
    assert facts["retraining"]["due"] is bool(is_due)
    if level == "none":
        assert check_of(facts, "Certainty")["due"] is False
        read(database, mix, unsure=120)
        assert check_of(facts_of(database), "Certainty")["due"] is True


# When to train again


@pytest.mark.parametrize(
    ("agreed", "disagreed", "is_due"),
    [(0, 29, None), (10, 20, False), (5, 25, True), (60, 0, False)],
)
def test_disagreement(database, agreed, disagreed, is_due):
    say(database, "happy", "happy", agreed)
    say(database, "happy", "sad", disagreed)
    say(database, "sad", "happy", 100, sha256="cd" * 32)
    facts = facts_of(database)
    said = agreed + disagreed
    assert (facts["opinions"]["said"], facts["opinions"]["disagreed"]) == (said, disagreed)
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
    assert facts["kept"] == {"all": 14, "new": 9}
    assert check_of(facts, "Faces to learn from")["due"] is False
    os.utime(file, (NOW_S, NOW_S))
    assert check_of(facts_of(database, feedback=folder), "Faces to learn from")["due"] is True


def test_wilson_interval():
    for right, low, high in ((0, 0, 0.2775), (5, 0.2366, 0.7634), (10, 0.7225, 1)):
        assert wilson_interval(right, 10) == pytest.approx((low, high), abs=1e-4)


# Text


def test_report(database):
    empty = report_lines(database, CARD, now_s=NOW_S)
    assert empty[0].startswith("No photo")
    read(database, {"happy": 3, "sad": 1}, unsure=1)
    read(database, {"angry": 1}, days_ago=40)
    say(database, "happy", "sad", 2)
    say(database, "happy", "happy", 1)
    lines = report_lines(database, CARD, now_s=NOW_S)
    text = "\n".join(lines)
    for words in ("2026-10-12: 2 photos", "5 faces, 20%", "4 faces, 25%", "(67%)"):
        assert words in text
    for row in (
        ["happy", "3", "75%", "45%", "50%"],
        ["happy", "sad", "2"],
        ["2026-11", "0%", "75%", "25%"],
        ["2026-10", "1", "1", "0%", "80%"],
        ["2026-11-21", "1", "4", "25%", "80%"],
    ):
        assert any(re.split(r"  +", line.strip()) == row for line in lines), row


# Page


@pytest.fixture
def app(tmp_path):
    model = replace(stand_in_model(), card=CARD)
    return make_app(tmp_path, model, clock=lambda: NOW_S, MONITORING="on")


def test_page_before_and_after_photos_and_opinions(app):
    client = app.test_client()
    empty = client.get("/monitoring")
    assert "Nothing to show" in text_of(empty)
    assert "<table" not in empty.text
    photo_id = upload(client).rsplit("/", 1)[-1]
    client.post(f"/results/{photo_id}/faces/1/feedback", data={"emotion": "sad"})
    page = client.get("/monitoring")
    text = text_of(page)
    for words in ("since 2026-11-21", "Photos 1", "Faces 2", "1 of 1", "(100%)", "Too few faces"):
        assert words in text
    assert re.search(r"happy 1 50% 45% 50%", text)
    assert photo_id not in page.text


def test_page_with_everything_due_and_no_markup_of_others(app):
    database = app.extensions["emotion"].database
    read(database, {"sad": 300}, unsure=200)
    read(database, {"happy": 3, "<b>x</b>": 1}, days_ago=70)
    say(database, "sad", "angry", 40)
    say(database, "<b>x</b>", "<i>y</i>", 2)
    for number, chosen in enumerate(CLASSES * 5):
        say(database, f"class {number}", chosen)
    page = app.test_client().get("/monitoring")
    text = text_of(page)
    assert "⚠ Retraining is due" in text
    assert "⚠ Disagreement: due" in text
    assert "✓ Faces to learn from: not due" in text
    assert "pairs of 17" in text
    assert "2026-09" in text
    assert not re.search(r'style="|<script(?![^>]*src=)|<style|<b>x|<i>y', page.text)
    assert "&lt;b&gt;x&lt;/b&gt;" in page.text
    facts = app.test_client().get("/api/v1/monitoring").json
    assert facts["opinions"]["pairs"][0] == {"given": "sad", "chosen": "angry", "opinions": 40}


@pytest.mark.parametrize(("chosen", "status"), [({}, 404), ({"MONITORING": "on"}, 200)])
def test_the_figures_are_for_everybody_only_where_that_is_set(tmp_path, chosen, status):
    client = make_app(tmp_path, **chosen).test_client()
    for path in ("/monitoring", "/api/v1/monitoring"):
        assert client.get(path).status_code == status
    assert ('href="/monitoring"' in client.get("/").text) == bool(chosen)


def test_page_while_the_database_is_away(app, tmp_path):
    (tmp_path / "instance").mkdir(exist_ok=True)
    for file in (tmp_path / "instance").glob("emotion.sqlite*"):
        file.unlink()
    (tmp_path / "instance" / "emotion.sqlite").mkdir()
    page = app.test_client().get("/monitoring")
    assert page.status_code == 503
    assert str(tmp_path) not in page.text
