import json
import pickle

import pytest

from emotion.labels import EMOTIONS
from emotion.results import (
    Face,
    face_from_dict,
    face_to_dict,
    percent,
    results_to_dict,
    verdict,
)


def make_face(**chances) -> Face:
    rest = (1 - sum(chances.values())) / (len(EMOTIONS) - len(chances))
    return Face((1, 2, 30, 40), 5.5, {name: chances.get(name, rest) for name in EMOTIONS})


def test_face_knows_its_emotion():
    face = make_face(happy=0.93)
    assert (face.emotion, face.confidence, face.runner_up) == ("happy", 0.93, None)
    assert tuple(face.probabilities) == EMOTIONS


def test_close_call_names_the_runner_up():
    face = make_face(angry=0.41, fear=0.38)
    assert face.runner_up == "fear"
    assert verdict(face) == "angry 41 % or fear 38 %"
    assert verdict(make_face(happy=0.93)) == "happy 93 %"


def test_ties_go_to_the_first_class():
    face = Face((0, 0, 1, 1), 0.0, {"a": 0.5, "b": 0.5})
    assert (face.emotion, face.runner_up) == ("a", "b")


@pytest.mark.parametrize(
    ("box", "probabilities"),
    [((0, 0, 0, 5), {"a": 1.0}), ((0, 0, 5), {"a": 1.0}), ((0, 0, 5, 5), {"a": 0.7, "b": 0.2})],
)
def test_impossible_faces_are_refused(box, probabilities):
    with pytest.raises(ValueError, match="expected"):
        Face(box, 1.0, probabilities)


def test_face_cannot_be_changed_and_travels():
    face = make_face(sad=0.6)
    with pytest.raises(TypeError):
        face.probabilities["sad"] = 0.1
    assert pickle.loads(pickle.dumps(face)) == face
    content = json.loads(json.dumps(face_to_dict(face)))
    assert face_to_dict(face_from_dict(content)) == content


def test_json_schema():
    content = json.loads(json.dumps(results_to_dict([make_face(fear=0.5)], (640, 480), "m", "ab")))
    assert content["schema"] == 1
    assert content["model"] == {"name": "m", "sha256": "ab"}
    assert content["image"] == {"width": 640, "height": 480}
    (face,) = content["faces"]
    assert face["box"] == {"x": 1, "y": 2, "width": 30, "height": 40}
    assert (face["emotion"], face["confidence"], face["score"]) == ("fear", 0.5, 5.5)
    assert list(face["probabilities"]) == list(EMOTIONS)
    assert sum(face["probabilities"].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0.0, "<1 %"), (0.009, "<1 %"), (0.01, "1 %"), (0.5, "50 %"), (0.99, "99 %"), (1.0, ">99 %")],
)
def test_percent_never_claims_certainty(probability, text):
    assert percent(probability) == text
