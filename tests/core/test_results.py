import csv
import io
import json
import pickle
from dataclasses import replace

import pytest

from emotion import rows, text
from emotion.errors import ModelError
from emotion.faces import Face, Thresholds, people_say, read_thresholds, short_verdict, verdict
from emotion.labels import EMOTIONS
from emotion.rows import face_from_dict, face_to_dict, results_to_csv, results_to_dict


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
    face = make_face(sure, ("a note",), **chances)
    assert face.candidates == tuple(candidates.split())
    assert face.runner_up == (face.candidates[1] if len(face.candidates) > 1 else None)
    assert (face.emotion, face.confidence) == face.ranking[0]
    assert verdict(face) == words
    assert short_verdict(face) == "".join(c for c in words if not c.isdigit()).replace(" %", "")
    with pytest.raises(TypeError):
        face.probabilities["sad"] = 0.1
    assert pickle.loads(pickle.dumps(face)) == face
    content = json.loads(json.dumps(face_to_dict(face)))
    assert face_to_dict(face_from_dict(content)) == content


def test_what_people_would_say_is_said_where_the_card_knows_it():
    content = {"sure_from": 0.5, "clear_margin": 0.1, "agreement_temperature": 2}
    thresholds = read_thresholds({"verdict": content})
    for row, agreement in (((0.8, 0.2), 7), ((0.5, 0.5), 5), ((1.0, 0.0), 10), ((0.05, 0.95), 8)):
        assert thresholds.agreement(row) == agreement
        assert replace(thresholds, agreement_temperature=1).agreement(row) == round(10 * max(row))
        assert Thresholds().agreement(row) is None
    sure, unsure = (replace(make_face(sure, happy=0.6, sad=0.4), agreement=6) for sure in (1, 0))
    assert people_say(sure) == "6 of 10 people would say happy"
    assert verdict(unsure) == "people would be split: happy 60% or sad 40%"
    assert people_say(unsure) == people_say(make_face()) == ""
    for face in (sure, make_face()):
        assert pickle.loads(pickle.dumps(face)) == face
        content = face_to_dict(face)
        assert face_from_dict(content).agreement == content.pop("agreement") == face.agreement
        assert face_from_dict(content).agreement is None, "kept since before it was said"
        row, *_ = read_csv(("a.jpg", results_of(face)))
        assert row["agreement"] == ("" if face.agreement is None else "6")


def test_sure_is_probable_and_clear_by_the_thresholds_of_the_card():
    content = {"sure_from": 0.6, "clear_margin": 0.199, "accuracy_when_unsure": 0.49, "split": "x"}
    thresholds = read_thresholds({"verdict": content})
    assert thresholds == Thresholds(0.6, 0.199, 0.49)
    for probabilities in ((0.6, 0.4), (0.4, 0.6), (0.6, 0.35, 0.05), (1.0,)):
        assert thresholds.met_by(probabilities)
    assert not thresholds.met_by((0.59, 0.41))
    for card in (None, {}, {"verdict": None}):
        assert read_thresholds(card) == Thresholds(0.5, 0.1, None)


RIGHT = {"sure_from": 0.5, "clear_margin": 0.1}
DAMAGED = [{}, {"sure_from": 0.5}, [0.5, 0.1], "sure", RIGHT | {"clear_margin": -0.1}]
DAMAGED += [RIGHT | {"accuracy_when_unsure": 2}]
DAMAGED += [RIGHT | {"agreement_temperature": odd} for odd in (0, -1, "2")]
DAMAGED += [RIGHT | {"sure_from": odd} for odd in (1.5, "0.5", True, float("nan"))]


def test_damaged_verdict_on_a_card_is_refused():
    for content in DAMAGED:
        with pytest.raises(ModelError, match=r"expected a verdict .* received .*: train"):
            read_thresholds({"verdict": content})


def results_of(*faces) -> dict:
    return json.loads(json.dumps(results_to_dict(faces, (640, 480), "m", "ab")))


def read_csv(*photos) -> list[dict]:
    lines = results_to_csv(photos)
    return list(csv.DictReader(io.StringIO(lines, newline=""), strict=True))


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
    assert list(row) == list(rows.photo_columns(EMOTIONS))


def test_texts_of_other_models_are_no_formulas_and_have_their_columns():
    face = Face((0, 0, 9, 9), -1.5, {"=1": 0.9, "happy": 0.1}, ("-note",))
    row, other = read_csv(("a", results_of(face)), ("b", results_of(make_face())))
    assert (row["emotion"], row["candidates"], row["notes"]) == ("'=1", "'=1", "'-note")
    assert row["score"] == "-1.5"  # a number is no text
    assert (row["probability_happy"], row["probability_sad"]) == ("0.1", "")
    assert other["probability_sad"]


FORMULAS = "=1+1.jpg|+1|-2|@SUM(A1)|  =1|\t=1|\r\n=cmd' /C calc'!A0|＝1|\ufeff=1".split("|")
NAMES = {
    'a "b", c;d.jpg': 'a "b", c;d.jpg',
    "two\r\nlines": "two  lines",
    "nul\0": "nul ",
    "lone \ud800": "lone  ",
    "张三 😊.jpg": "张三 😊.jpg",
    "a=b-c.jpg": "a=b-c.jpg",
    "": "",
}


@pytest.mark.parametrize("name", [*FORMULAS, *NAMES], ids=ascii)
def test_csv_holds_any_name_and_no_formula_for_spreadsheets(name):
    lines = results_to_csv([(name, results_of(make_face())), (name, "=no photo")])
    assert lines.count("\r\n") == len(lines.encode().decode().splitlines()) == 3
    for row in csv.DictReader(io.StringIO(lines, newline=""), strict=True):
        assert row["photo"] == NAMES[name] if name in NAMES else row["photo"].startswith("'")
        assert row["problem"] in ("", "'=no photo")


def test_words():
    for words, expected in (
        *((text.percent(n), s) for n, s in ((0.934, "93%"), (0.009, "<1%"), (0.9901, ">99%"))),
        *((text.share(n), s) for n, s in ((None, "–"), (0.0, "0%"), (1.0, "100%"), (4e-4, "<1%"))),
        *((text.share(n, 1), s) for n, s in ((0.9996, ">99.9%"), (0.123, "12.3%"))),
        *((text.decimal(n), s) for n, s in ((None, "–"), (0.12345, "0.123"))),
        *((text.points(n), s) for n, s in ((0.0123, "+1.2"), (-0.0123, "−1.2"), (1e-4, "±0.0"))),
        (text.counted(1200, "face"), "1,200 faces"),
        (text.counted(2, "person", "people"), "2 people"),
        (text.listed(["angry", "fear", "sad"], "or"), "angry, fear or sad"),
        *((text.clock(n), s) for n, s in ((65.2, "1:05"), (3661, "1:01:01"))),
        *((text.length(n), s) for n, s in ((0.25, "0.25 s"), (12.54, "12.5 s"), (59.97, "1:00"))),
        *((text.size(n), s) for n, s in ((850, "850 bytes"), (12_400, "12 kB"), (4e6, "4.0 MB"))),
        *((text.sentence(s), t) for s, t in (("a photo", "A photo."), ("Eh?", "Eh?"), ("", ""))),
        (text.first_line("one\x1b[2J\ntwo"), "one?[2J"),
        (text.table(("day", "faces"), [("Monday", "1,200")]), ["day     faces", "Monday  1,200"]),
        (text.table(("a", "b"), [("Sunday", "1")]), ["a       b", "Sunday  1"]),
    ):
        assert words == expected
