import csv
import io
import json
import pickle

import pytest

from emotion.errors import ModelError
from emotion.faces import Face, Thresholds, read_thresholds, short_verdict, verdict
from emotion.labels import EMOTIONS
from emotion.rows import (
    face_from_dict,
    face_to_dict,
    photo_columns,
    results_to_csv,
    results_to_dict,
)


def make_face(sure=True, notes=(), **chances) -> Face:
    rest = (1 - sum(chances.values())) / (len(EMOTIONS) - len(chances))
    probabilities = {name: chances.get(name, rest) for name in EMOTIONS}
    return Face((1, 2, 30, 40), 5.5, probabilities, notes, sure)


@pytest.mark.parametrize(
    ("sure", "chances", "long", "short"),
    [
        (True, {"happy": 0.93}, "happy 93%", "happy"),
        (True, {"sad": 0.5, "fear": 0.4}, "sad 50%", "sad"),
        (
            False,
            {"angry": 0.41, "fear": 0.38},
            "unsure: angry 41% or fear 38%",
            "unsure: angry or fear",
        ),
        (False, {"sad": 0.5, "fear": 0.2}, "unsure: perhaps sad 50%", "unsure: perhaps sad"),
        (
            False,
            {"sad": 0.3, "fear": 0.2, "angry": 0.28},
            "unsure: sad 30%, angry 28% or fear 20%",
            "unsure: sad, angry or fear",
        ),
    ],
)
def test_verdict(sure, chances, long, short):
    face = make_face(sure, **chances)
    assert (verdict(face), short_verdict(face)) == (long, short)


def test_candidates_have_half_the_probability_of_the_first_and_are_three_at_most():
    assert tuple(make_face().probabilities) == EMOTIONS
    face = make_face(False, sad=0.5, fear=0.25)
    assert (face.candidates, face.runner_up) == (("sad", "fear"), "fear")
    ties = Face((0, 0, 1, 1), 0.0, {"a": 0.5, "b": 0.5}, sure=False)
    assert (ties.emotion, ties.runner_up) == ("a", "b")
    assert make_face(False, sad=0.5, fear=0.249).candidates == ("sad",)
    assert make_face(False).candidates == EMOTIONS[:3]
    sure = make_face(True, sad=0.5, fear=0.45)
    assert (sure.candidates, sure.confidence, sure.runner_up) == (("sad",), 0.5, None)


@pytest.mark.parametrize(
    ("probabilities", "is_sure"),
    [
        ((0.6, 0.4), True),
        ((0.4, 0.6), True),
        ((0.59, 0.41), False),
        ((0.6, 0.35, 0.05), True),
        ((0.62, 0.38), True),
        ((1.0,), True),
    ],
)
def test_sure_is_probable_and_clear(probabilities, is_sure):
    assert Thresholds(sure_from=0.6, clear_margin=0.199).met_by(probabilities) is is_sure


def test_thresholds_from_the_card():
    for card in (None, {}, {"verdict": None}):
        assert read_thresholds(card) == Thresholds(0.5, 0.1, None)
    content = {"sure_from": 0.605, "clear_margin": 0, "accuracy_when_unsure": 0.49, "split": "x"}
    assert read_thresholds({"verdict": content}) == Thresholds(0.605, 0, 0.49)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"sure_from": 0.5},
        {"sure_from": 1.5, "clear_margin": 0.1},
        {"sure_from": 0.5, "clear_margin": -0.1},
        {"sure_from": "0.5", "clear_margin": 0.1},
        {"sure_from": True, "clear_margin": 0.1},
        {"sure_from": float("nan"), "clear_margin": 0.1},
        {"sure_from": 0.5, "clear_margin": 0.1, "accuracy_when_unsure": 2},
        [0.5, 0.1],
        "sure",
    ],
)
def test_damaged_verdict_on_a_card_is_refused(content):
    with pytest.raises(ModelError, match=r"expected a verdict .* received .*: train the model"):
        read_thresholds({"verdict": content})


@pytest.mark.parametrize(
    ("box", "probabilities"),
    [((0, 0, 0, 5), {"a": 1.0}), ((0, 0, 5), {"a": 1.0}), ((0, 0, 5, 5), {"a": 0.7, "b": 0.2})],
)
def test_impossible_faces_are_refused(box, probabilities):
    with pytest.raises(ValueError, match="expected"):
        Face(box, 1.0, probabilities)


@pytest.mark.parametrize("sure", [True, False])
def test_face_cannot_be_changed_and_travels(sure):
    face = make_face(sure, ("a note",), sad=0.6)
    with pytest.raises(TypeError):
        face.probabilities["sad"] = 0.1
    assert pickle.loads(pickle.dumps(face)) == face
    content = json.loads(json.dumps(face_to_dict(face)))
    assert face_to_dict(face_from_dict(content)) == content


def results_of(*faces) -> dict:
    return json.loads(json.dumps(results_to_dict(faces, (640, 480), "m", "ab")))


def read_csv(text: str) -> list[dict]:
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_csv_has_one_row_a_face():
    sure, unsure = (
        make_face(happy=0.93),
        make_face(False, ("Dark face", "Small"), sad=0.5, fear=0.4),
    )
    rows = read_csv(results_to_csv([("a.jpg", results_of(sure, unsure)), ("b", results_of(sure))]))
    assert [(row["photo"], row["face"]) for row in rows] == [
        ("a.jpg", "1"),
        ("a.jpg", "2"),
        ("b", "1"),
    ]
    row = rows[1]
    assert [int(row[name]) for name in ("x", "y", "width", "height")] == [1, 2, 30, 40]
    assert (float(row["score"]), row["emotion"], float(row["confidence"])) == (5.5, "sad", 0.5)
    assert [row["sure"] for row in rows] == ["True", "False", "True"]
    assert row["candidates"] == "sad, fear"
    assert (row["notes"], row["problem"]) == ("Dark face; Small", "")
    assert row["verdict"] == verdict(unsure)
    chances = [float(row[f"probability_{name}"]) for name in EMOTIONS]
    assert chances == pytest.approx(list(unsure.probabilities.values()), abs=1e-6)
    assert list(row) == list(photo_columns(EMOTIONS))


def test_csv_has_a_row_for_photos_without_a_face_or_with_a_problem():
    photos = [
        ("empty.jpg", results_of()),
        ("bad.txt", "expected a photo"),
        ("a", results_of(make_face())),
    ]
    empty, bad, good = read_csv(results_to_csv(photos))
    assert {name for name, value in empty.items() if value} == {"photo"}
    assert {name for name, value in bad.items() if value} == {"photo", "problem"}
    assert bad["problem"] == "expected a photo"
    assert good["face"] == "1"


@pytest.mark.parametrize(
    "name",
    [
        "=1+1.jpg",
        "+1",
        "-2",
        "@SUM(A1)",
        "  =1",
        "\t=1",
        "\r\n=cmd|' /C calc'!A0",
        "＝1",
        "\ufeff=1",
    ],
)
def test_names_are_no_formulas_for_spreadsheets(name):
    rows = read_csv(results_to_csv([(name, "=no photo"), (name, results_of(make_face()))]))
    assert all(row["photo"].startswith("'") for row in rows)
    assert rows[0]["problem"] == "'=no photo"


def test_texts_of_other_models_are_no_formulas_and_have_their_columns():
    face = Face((0, 0, 9, 9), -1.5, {"=1": 0.9, "happy": 0.1}, ("-note",))
    row, other = read_csv(results_to_csv([("a", results_of(face)), ("b", results_of(make_face()))]))
    assert (row["emotion"], row["candidates"], row["notes"]) == ("'=1", "'=1", "'-note")
    assert row["score"] == "-1.5"  # a number is no text
    assert (row["probability_happy"], row["probability_sad"]) == ("0.1", "")
    assert other["probability_sad"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ('a "b", c;d.jpg', 'a "b", c;d.jpg'),
        ("two\r\nlines", "two  lines"),
        ("nul\0", "nul "),
        ("lone \ud800", "lone  "),
        ("张三 😊.jpg", "张三 😊.jpg"),
        ("a=b-c.jpg", "a=b-c.jpg"),
        ("", ""),
    ],
)
def test_csv_holds_any_name(name, shown):
    text = results_to_csv([(name, results_of(make_face()))])
    assert text.count("\r\n") == len(text.splitlines()) == 2
    (row,) = read_csv(text.encode().decode())
    assert row["photo"] == shown
