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


def cross_entropy(expected: np.ndarray, truth: np.ndarray) -> float:
    return float(-np.log(expected[np.arange(len(truth)), truth]).mean())


def noisy_views(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return true classes, and two independent noisy views of them as logarithms, (N, classes)."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, CLASSES, count)
    one_hot = np.eye(CLASSES)[truth]
    views = [one_hot * 2 + random.normal(size=one_hot.shape) for _ in range(2)]
    logs = [view - np.log(np.exp(view).sum(axis=1, keepdims=True)) for view in views]
    return truth, *logs


def test_two_views_tell_more_than_one():
    truth, seen, told = noisy_views(4000, seed=1)
    train, check = slice(0, 2000), slice(2000, 4000)
    labels = np.eye(CLASSES)[truth]
    views = ((seen[check], seen[train]), (told[check], told[train]), (labels[check], labels[train]))
    expected = expected_annotation(*views)
    assert expected.shape == (2000, CLASSES)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-5)
    alone = min(cross_entropy(np.exp(view[check]), truth[check]) for view in (seen, told))
    assert cross_entropy(expected, truth[check]) < 0.8 * alone


def test_a_model_that_learned_its_faces_by_heart_is_not_believed():
    truth, seen, told = noisy_views(3000, seed=2)
    train, check = slice(0, 2000), slice(2000, 3000)
    labels = np.eye(CLASSES)[truth]
    by_heart = np.where(labels, 0.0, -9.0)  # it gives the very label back, on training faces alone
    noise = np.random.default_rng(3).permutation(2000)
    for learned in (by_heart[train], by_heart[train][noise]):
        expected = expected_annotation(
            (learned, np.zeros_like(seen[check])),
            (told[train], told[check]),
            (labels[train], labels[check]),
        )
        assert np.isfinite(expected).all()
        # the other annotation still counts (1 of 7 by chance)
        assert (expected.argmax(axis=1) == truth[train]).mean() > 0.4


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


def settings_in(folder, **more) -> TrainingSettings:
    return TrainingSettings(runs=str(folder), teachers=("one", "two"), **more)


def test_softened_answers_are_kept_with_the_run(tmp_path, answering):
    data = make_dataset(train=14)
    parts = data.split("train"), data.split("validation")
    (taught,) = what_teachers_say(*parts, settings_in(tmp_path, teacher_temperature=2.0))
    row = np.full((1, CLASSES), 0.5 / 6)
    row[0, 0] = 0.5
    np.testing.assert_allclose(taught[0], apply_temperature(row, 2.0)[0], rtol=1e-5)
    assert taught.dtype == np.float32
    (again,) = what_teachers_say(*parts, settings_in(tmp_path, teacher_temperature=2.0))
    np.testing.assert_array_equal(taught, again)
    assert answering == [(("one", "two"), 14, 1.0)]
    for kept in tmp_path.rglob("*.npz"):
        kept.write_bytes(b"damaged")
    what_teachers_say(*parts, settings_in(tmp_path))
    assert len(answering) == 2
    with pytest.raises(TrainingError, match="--votes-teachers"):
        what_teachers_say(*parts, settings_in(tmp_path, votes_teachers=("three",)))


def test_both_heads_are_taught(tmp_path, answering):
    data = make_dataset(train=70)
    shares = np.full((len(data), CLASSES), 0.05, np.float32)
    shares[np.arange(len(data)), data.labels] = 0.7
    data = replace(data, votes=shares)
    settings = settings_in(tmp_path, votes_teachers=("three",))
    taught = what_teachers_say(data.split("train"), data.split("validation"), settings)
    assert [one.shape for one in taught] == [(70, CLASSES)] * 2
    assert (taught[0].argmax(axis=1) == data.split("train").labels).all()
    assert sorted(answering) == sorted(
        (stems, count, 1.0) for stems in (("one", "two"), ("three",)) for count in (70, 35)
    )
