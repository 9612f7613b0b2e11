import json
import pickle

import pytest

from emotion.errors import ModelError
from emotion.labels import EMOTIONS
from emotion.results import (
    Face,
    Thresholds,
    face_from_dict,
    face_to_dict,
    percent,
    read_thresholds,
    results_to_dict,
    short_verdict,
    verdict,
)


def make_face(sure=True, notes=(), **chances) -> Face:
    rest = (1 - sum(chances.values())) / (len(EMOTIONS) - len(chances))
    probabilities = {name: chances.get(name, rest) for name in EMOTIONS}
    return Face((1, 2, 30, 40), 5.5, probabilities, notes, sure)


def test_face_knows_its_emotion():
    face = make_face(happy=0.93)
    assert (face.emotion, face.confidence, face.runner_up) == ("happy", 0.93, None)
    assert tuple(face.probabilities) == EMOTIONS


@pytest.mark.parametrize(
    ("sure", "chances", "long", "short"),
    [
        (True, {"happy": 0.93}, "happy 93 %", "happy"),
        (True, {"sad": 0.5, "fear": 0.4}, "sad 50 %", "sad"),
        (
            False,
            {"angry": 0.41, "fear": 0.38},
            "unsure: angry 41 % or fear 38 %",
            "unsure: angry or fear",
        ),
        (False, {"sad": 0.5, "fear": 0.2}, "unsure: perhaps sad 50 %", "unsure: perhaps sad"),
        (
            False,
            {"sad": 0.3, "fear": 0.2, "angry": 0.28},
            "unsure: sad 30 %, angry 28 % or fear 20 %",
            "unsure: sad, angry or fear",
        ),
    ],
)
def test_verdict(sure, chances, long, short):
    face = make_face(sure, **chances)
    assert (verdict(face), short_verdict(face)) == (long, short)


def test_candidates_have_half_the_probability_of_the_first_and_are_three_at_most():
    assert make_face(False, sad=0.5, fear=0.25).candidates == ("sad", "fear")
    assert make_face(False, sad=0.5, fear=0.249).candidates == ("sad",)
    assert make_face(False).candidates == EMOTIONS[:3]
    assert make_face(True, sad=0.5, fear=0.45).candidates == ("sad",)


def test_runner_up_is_the_second_candidate():
    assert make_face(False, angry=0.41, fear=0.38).runner_up == "fear"
    assert make_face(False, sad=0.5).runner_up is None
    assert make_face(True, angry=0.45, fear=0.38).runner_up is None


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


def test_close_answers_are_unsure_however_probable():
    assert not Thresholds(sure_from=0.2, clear_margin=0.1).met_by((0.5, 0.45, 0.05))


@pytest.mark.parametrize("card", [None, {}, {"verdict": None}])
def test_without_a_verdict_on_the_card_the_defaults_hold(card):
    assert read_thresholds(card) == Thresholds(0.5, 0.1, None)


def test_thresholds_from_the_card():
    content = {"sure_from": 0.605, "clear_margin": 0, "accuracy_when_unsure": 0.49, "split": "x"}
    assert read_thresholds({"verdict": content}) == Thresholds(0.605, 0, 0.49)
    assert read_thresholds({"verdict": {"sure_from": 1, "clear_margin": 0.2}}) == Thresholds(1, 0.2)


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


def test_ties_go_to_the_first_class():
    face = Face((0, 0, 1, 1), 0.0, {"a": 0.5, "b": 0.5}, sure=False)
    assert (face.emotion, face.runner_up) == ("a", "b")


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


@pytest.mark.parametrize("runner_up", [None, "fear"])
def test_results_of_earlier_versions_can_be_read(runner_up):
    content = face_to_dict(make_face(angry=0.41, fear=0.38))
    for later in ("sure", "verdict", "candidates"):
        del content[later]
    face = face_from_dict(content | {"runner_up": runner_up})
    assert (face.sure, face.runner_up) == (runner_up is None, runner_up)


def test_json_schema():
    content = json.loads(
        json.dumps(results_to_dict([make_face(False, fear=0.5, sad=0.3)], (640, 480), "m", "ab"))
    )
    assert content["schema"] == 1
    assert content["model"] == {"name": "m", "sha256": "ab"}
    assert content["image"] == {"width": 640, "height": 480}
    (face,) = content["faces"]
    assert face["box"] == {"x": 1, "y": 2, "width": 30, "height": 40}
    assert (face["emotion"], face["confidence"], face["score"]) == ("fear", 0.5, 5.5)
    assert (face["sure"], face["verdict"]) == (False, "unsure: fear 50 % or sad 30 %")
    assert (face["candidates"], face["runner_up"]) == (["fear", "sad"], "sad")
    assert face["notes"] == []
    assert list(face["probabilities"]) == list(EMOTIONS)
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0.0, "<1 %"), (0.009, "<1 %"), (0.01, "1 %"), (0.5, "50 %"), (0.99, "99 %"), (1.0, ">99 %")],
)
def test_percent_never_claims_certainty(probability, text):
    assert percent(probability) == text
