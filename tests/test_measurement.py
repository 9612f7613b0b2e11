from dataclasses import replace

import numpy as np
import pytest
from training_data import make_dataset

from emotion.training.measuring.evaluation import Evaluation
from emotion.training.measuring.measurement import (
    SAMPLE_COUNT,
    SplitResult,
    measure_split,
    right_samples,
    wrong_samples,
)

NAMES = ("a", "b", "c")


def make_result(votes=None, names=None) -> SplitResult:
    """Return six answers, of which the first, third and last are wrong."""
    answers = np.array([1, 0, 2, 1, 2, 0])
    confidence = np.array([0.6, 0.9, 0.8, 0.7, 0.5, 0.95])
    probabilities = np.repeat((1 - confidence)[:, None] / 2, 3, axis=1)
    probabilities[np.arange(6), answers] = confidence
    evaluation = Evaluation(NAMES, np.array([0, 0, 1, 1, 2, 2]), probabilities, votes)
    images = np.stack([np.full((48, 48), number, np.uint8) for number in range(6)])
    return SplitResult(evaluation, None, (), images, names)


def test_measures_everything_of_a_split(stand_in_model):
    split = make_dataset().split("test")
    split = replace(split, names=np.array([f"{number}.png" for number in range(len(split))]))
    model = replace(stand_in_model, card={"serving": {"mirrored": True, "temperature": 0.5}})
    result = measure_split(model, split)
    faces = split.images[..., None].astype(np.float32) / 255
    np.testing.assert_array_equal(result.evaluation.probabilities, model.answer(faces))
    np.testing.assert_array_equal(result.one_crop.probabilities, model.predict(faces))
    assert result.robustness[0].accuracy == result.evaluation.accuracy
    assert result.robustness[0].accuracy_one_crop == result.one_crop.accuracy
    assert result.summary()["one_crop"]["log_loss"] == result.one_crop.log_loss
    assert result.images is split.images
    assert result.names is split.names


def test_one_crop_stands_beside_it_only_where_it_is_another_answer(stand_in_model):
    result = measure_split(stand_in_model, make_dataset(0, 0, 7), robustness=False)
    assert (result.one_crop, result.summary()["one_crop"], result.robustness) == (None, None, ())


def test_mistakes_come_surest_first():
    samples = wrong_samples(make_result())
    assert [sample.position for sample in samples] == [5, 2, 0]
    assert [(sample.true_class, sample.answer) for sample in samples] == [
        ("c", "a"),
        ("b", "c"),
        ("a", "b"),
    ]
    assert samples[0].probability == pytest.approx(0.95)
    assert (samples[0].image == 5).all()


def test_classes_take_turns_among_right_answers():
    assert [sample.true_class for sample in right_samples(make_result())] == ["a", "b", "c"]


@pytest.mark.parametrize("samples_of", [right_samples, wrong_samples])
def test_never_more_samples_than_fit_on_a_sheet(samples_of, stand_in_model):
    result = measure_split(stand_in_model, make_dataset(400, 0, 0), robustness=False)
    assert len(samples_of(result)) == SAMPLE_COUNT


def test_row_of_a_sample_tells_name_and_votes():
    votes = np.array([[0, 0, 0]] * 5 + [[0.75, 0, 0.25]], np.float32)
    names = np.array([f"{number}.png" for number in range(6)])
    rows = [sample.row() for sample in wrong_samples(make_result(votes, names))]
    assert rows[0]["name"] == "5.png"
    assert rows[0]["votes"] == "a:0.75 c:0.25"
    assert rows[1]["votes"] == ""
    assert list(rows[0]) == ["row", "true_class", "answer", "probability", "name", "votes"]
