"""What is said of a face, and its rows for spreadsheets."""

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
    ("sure", "chances", "candidates", "words"),
    [
        (True, {"happy": 0.93}, "happy", "happy 93%"),
        (True, {"sad": 0.5, "fear": 0.45}, "sad", "sad 50%"),
        (False, {"angry": 0.41, "fear": 0.38}, "angry fear", "unsure: angry 41% or fear 38%"),
        (False, {"sad": 0.5, "fear": 0.25}, "sad fear", "unsure: sad 50% or fear 25%"),
        (False, {"sad": 0.5, "fear": 0.249}, "sad", "unsure: perhaps sad 50%"),
        (False, {}, "angry disgust fear", "unsure: angry 14%, disgust 14% or fear 14%"),
    ],
)
def test_an_unsure_answer_names_up_to_three_classes(sure, chances, candidates, words):
    face = make_face(sure, **chances)
    assert face.candidates == tuple(candidates.split())
    assert face.runner_up == (face.candidates[1] if len(face.candidates) > 1 else None)
    assert (face.emotion, face.confidence) == face.ranking[0]
    assert verdict(face) == words
    assert short_verdict(face) == "".join(c for c in words if not c.isdigit()).replace(" %", "")


@pytest.mark.parametrize(
    ("probabilities", "is_sure"),
    [
        ((0.6, 0.4), True),
        ((0.4, 0.6), True),
        ((0.59, 0.41), False),
        ((0.6, 0.35, 0.05), True),
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


DAMAGED = [{}, {"sure_from": 0.5}, [0.5, 0.1], "sure"]
DAMAGED += [{"sure_from": 0.5, "clear_margin": 0.1, "accuracy_when_unsure": 2}]
DAMAGED += [{"sure_from": odd, "clear_margin": 0.1} for odd in (1.5, "0.5", True, float("nan"))]
DAMAGED += [{"sure_from": 0.5, "clear_margin": -0.1}]


@pytest.mark.parametrize("content", DAMAGED, ids=str)
def test_damaged_verdict_on_a_card_is_refused(content):
    with pytest.raises(ModelError, match=r"expected a verdict .* received .*: train"):
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


def read_csv(*photos) -> list[dict]:
    text = results_to_csv(photos)
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_csv_has_one_row_a_face_and_one_for_a_photo_without():
    sure = make_face(happy=0.93)
    unsure = make_face(False, ("Dark face", "Small"), sad=0.5, fear=0.4)
    photos = (("a.jpg", results_of(sure, unsure)), ("b", results_of()), ("c", "expected a photo"))
    first, row, empty, bad = read_csv(*photos)
    assert [each["photo"] + each["face"] for each in (first, row)] == ["a.jpg1", "a.jpg2"]
    assert {name for name, value in empty.items() if value} == {"photo"}
    filled = {name: value for name, value in bad.items() if value}
    assert filled == {"photo": "c", "problem": "expected a photo"}
    numbers = [float(row[name]) for name in "x y width height score confidence".split()]
    assert numbers == [1, 2, 30, 40, 5.5, 0.5]
    words = [row[name] for name in "emotion sure candidates notes problem verdict".split()]
    assert words == ["sad", "False", "sad, fear", "Dark face; Small", "", verdict(unsure)]
    chances = [float(row[f"probability_{name}"]) for name in EMOTIONS]
    assert chances == pytest.approx(list(unsure.probabilities.values()), abs=1e-6)
    assert list(row) == list(photo_columns(EMOTIONS))


def test_texts_of_other_models_are_no_formulas_and_have_their_columns():
    face = Face((0, 0, 9, 9), -1.5, {"=1": 0.9, "happy": 0.1}, ("-note",))
    row, other = read_csv(("a", results_of(face)), ("b", results_of(make_face())))
    assert (row["emotion"], row["candidates"], row["notes"]) == ("'=1", "'=1", "'-note")
    assert row["score"] == "-1.5"  # a number is no text
    assert (row["probability_happy"], row["probability_sad"]) == ("0.1", "")
    assert other["probability_sad"]


FORMULAS = "=1+1.jpg|+1|-2|@SUM(A1)|  =1|\t=1|\r\n=cmd' /C calc'!A0|＝1|\ufeff=1".split("|")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        *((name, None) for name in FORMULAS),
        ('a "b", c;d.jpg', 'a "b", c;d.jpg'),
        ("two\r\nlines", "two  lines"),
        ("nul\0", "nul "),
        ("lone \ud800", "lone  "),
        ("张三 😊.jpg", "张三 😊.jpg"),
        ("a=b-c.jpg", "a=b-c.jpg"),
        ("", ""),
    ],
    ids=ascii,
)
def test_csv_holds_any_name_and_no_formula_for_spreadsheets(name, shown):
    text = results_to_csv([(name, results_of(make_face())), (name, "=no photo")])
    assert text.count("\r\n") == len(text.encode().decode().splitlines()) == 3
    for row in csv.DictReader(io.StringIO(text, newline=""), strict=True):
        assert row["photo"].startswith("'") if shown is None else row["photo"] == shown
        assert row["problem"] in ("", "'=no photo")
