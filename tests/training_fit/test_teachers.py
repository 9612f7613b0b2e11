"""What is learned from saved models, with and without the other annotation of a face."""

from dataclasses import replace

import numpy as np
import pytest
from training_data import make_dataset

from emotion.errors import TrainingError
from emotion.model.runtime import apply_temperature
from emotion.training.fitting import teachers
from emotion.training.fitting.teachers import expected_annotation, what_teachers_say
from emotion.training.settings import TrainingSettings

CLASSES = 7
DATA = make_dataset(train=70)
TRAIN, CHECK = slice(0, 2000), slice(2000, 4000)


@pytest.fixture(scope="module")
def views() -> tuple[np.ndarray, ...]:
    """Return true classes, and two independent noisy views of them as logarithms, (N, classes)."""
    random = np.random.default_rng(1)
    truth = random.integers(0, CLASSES, 4000)
    noisy = [np.eye(CLASSES)[truth] * 2 + random.normal(size=(4000, CLASSES)) for _ in range(2)]
    return truth, *(view - np.log(np.exp(view).sum(axis=1, keepdims=True)) for view in noisy)


def test_two_views_tell_more_than_one(views):
    truth, seen, told = views
    labels = np.eye(CLASSES)[truth]
    expected = expected_annotation(*((view[CHECK], view[TRAIN]) for view in (seen, told, labels)))
    assert expected.shape == (2000, CLASSES)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-5)
    entropies = [
        -np.log(answers[np.arange(2000), truth[CHECK]]).mean()
        for answers in (expected, np.exp(seen[CHECK]), np.exp(told[CHECK]))
    ]
    assert entropies[0] < 0.8 * min(entropies[1:])


def test_a_model_that_learned_its_faces_by_heart_is_not_believed(views):
    truth, seen, told = views
    labels = np.eye(CLASSES)[truth]
    by_heart = np.where(labels[TRAIN], 0.0, -9.0)  # the very label, on training faces alone
    for learned in (by_heart, np.random.default_rng(3).permutation(by_heart)):
        expected = expected_annotation(
            (learned, np.zeros_like(seen[CHECK])),
            (told[TRAIN], told[CHECK]),
            (labels[TRAIN], labels[CHECK]),
        )
        assert np.isfinite(expected).all()
        # the other annotation still counts (1 of 7 by chance)
        assert (expected.argmax(axis=1) == truth[TRAIN]).mean() > 0.4


@pytest.fixture
def answering(monkeypatch):
    """Let every teacher answer the label's class at 0.5; return the list of calls."""
    calls = []

    def teacher_answers(stems, images, class_names, temperature):
        calls.append((tuple(map(str, stems)), len(images), temperature))
        labels = np.arange(len(images)) % len(class_names)
        answers = np.full((len(images), len(class_names)), 0.5 / 6, np.float32)
        answers[np.arange(len(images)), labels] = 0.5
        return answers

    monkeypatch.setattr(teachers, "teacher_answers", teacher_answers)
    return calls


def test_softened_answers_are_kept_with_the_run(tmp_path, answering):
    parts = DATA.split("train"), DATA.split("validation")
    settings = TrainingSettings(runs=str(tmp_path), teachers=("one", "two"))
    (taught,), (again,) = (what_teachers_say(*parts, settings) for _ in range(2))
    row = np.array([[0.5] + [0.5 / 6] * 6])
    np.testing.assert_allclose(taught[0], apply_temperature(row, 2.0)[0], rtol=1e-5)
    assert taught.dtype == np.float32
    np.testing.assert_array_equal(taught, again)
    assert answering == [(("one", "two"), 70, 1.0)]
    for kept in tmp_path.rglob("*.npz"):
        kept.write_bytes(b"damaged")
    what_teachers_say(*parts, settings)
    assert len(answering) == 2
    with pytest.raises(TrainingError, match="--votes-teachers"):
        what_teachers_say(*parts, replace(settings, votes_teachers=("three",)))


def test_both_heads_are_taught(tmp_path, answering):
    shares = np.full((len(DATA), CLASSES), 0.05, np.float32)
    shares[np.arange(len(DATA)), DATA.labels] = 0.7
    data = replace(DATA, votes=shares)
    settings = TrainingSettings(
        runs=str(tmp_path), teachers=("one", "two"), votes_teachers=("three",)
    )
    taught = what_teachers_say(data.split("train"), data.split("validation"), settings)
    assert [one.shape for one in taught] == [(70, CLASSES)] * 2
    assert (taught[0].argmax(axis=1) == data.split("train").labels).all()
    assert sorted(answering) == sorted(
        (stems, count, 1.0) for stems in (("one", "two"), ("three",)) for count in (70, 35)
    )
