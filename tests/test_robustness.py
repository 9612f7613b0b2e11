from dataclasses import replace

import numpy as np
import pytest
from training_data import make_dataset

from emotion.training.measuring.robustness import (
    CORRUPTIONS,
    LEVELS,
    SAMPLE_IMAGES,
    UNCHANGED,
    measure_robustness,
    sample_of,
)

CASES = [(name, level) for name in CORRUPTIONS for level in LEVELS]


@pytest.fixture(scope="module")
def faces(astronaut) -> np.ndarray:
    """Return a real face and two flat images, (3, 48, 48) uint8."""
    import cv2

    grey = cv2.cvtColor(astronaut[40:200, 150:310], cv2.COLOR_RGB2GRAY)
    face = cv2.resize(grey, (48, 48), interpolation=cv2.INTER_AREA)
    return np.stack([face, np.zeros_like(face), np.full_like(face, 255)])


@pytest.mark.parametrize(("name", "level"), CASES)
def test_corruptions_keep_shape_and_type_and_repeat(name, level, faces):
    before = faces.copy()
    changed = CORRUPTIONS[name](faces, level)
    assert (changed.shape, changed.dtype) == (faces.shape, np.uint8)
    assert (changed[0] != faces[0]).any()
    np.testing.assert_array_equal(faces, before)
    np.testing.assert_array_equal(changed, CORRUPTIONS[name](faces, level))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_level_is_further_from_the_image_than_the_one_before(name, faces):
    face = faces[:1].astype(float)
    gaps = [np.abs(CORRUPTIONS[name](faces[:1], level) - face).mean() for level in LEVELS]
    assert 0 < gaps[0] < gaps[1] < gaps[2]


def test_rotation_goes_to_either_side(faces):
    left, right = CORRUPTIONS["rotation"](np.stack([faces[0], faces[0, :, ::-1]]), "medium")
    mirrored = right[:, ::-1]
    assert np.abs(left.astype(int) - mirrored).mean() < 1, "but for rounding"
    assert np.abs(left.astype(int) - faces[0]).mean() > 10


@pytest.mark.parametrize("name", ["blur", "low resolution", "rotation"])
def test_flat_images_stay_flat(name, faces):
    np.testing.assert_array_equal(CORRUPTIONS[name](faces[1:], "strong"), faces[1:])


@pytest.mark.parametrize("mirrored", [False, True])
def test_measures_every_condition_once(mirrored, stand_in_model):
    dataset = make_dataset().split("test")
    card = {"serving": {"mirrored": mirrored, "temperature": 1}}
    rows = measure_robustness(replace(stand_in_model, card=card), dataset)
    names = [(row.corruption, row.level) for row in rows]
    assert names == [(UNCHANGED, ""), *CASES]
    assert {row.images for row in rows} == {len(dataset)}
    assert all((row.accuracy_one_crop is not None) == mirrored for row in rows)
    assert rows[1].description == "Gaussian blur, sigma 0.7 px"
    assert len({row.description for row in rows}) == len(rows)


def test_accuracy_falls_where_the_change_destroys_what_the_model_looks_at(stand_in_model):
    def run(faces):
        bright = (faces.mean(axis=(1, 2, 3)) > 0.3).astype(np.float32)
        return np.stack([1 - bright, bright], axis=1)

    model = replace(stand_in_model, class_names=("dim", "bright"), run=run)
    dataset = make_dataset(0, 0, 20)
    images = np.full((20, 48, 48), 200, np.uint8)
    dataset = replace(
        dataset, images=images, labels=np.ones(20, np.int64), class_names=("dim", "bright")
    )
    rows = {(row.corruption, row.level): row for row in measure_robustness(model, dataset)}
    assert rows[UNCHANGED, ""].accuracy == 1
    assert rows["blur", "strong"].accuracy == 1
    assert rows["darkness", "strong"].accuracy == 0


def test_sample_is_small_and_always_the_same():
    dataset = make_dataset(0, 0, SAMPLE_IMAGES + 100)
    first, second = sample_of(dataset), sample_of(dataset)
    assert len(first) == SAMPLE_IMAGES
    np.testing.assert_array_equal(first.images, second.images)
    assert len(np.unique(first.labels)) == 7
    small = make_dataset(0, 0, 20)
    assert sample_of(small) is small
