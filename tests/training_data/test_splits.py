import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
from training_data import make_dataset

from emotion.errors import DatasetError
from emotion.training.data.splits import (
    Leaks,
    choose_fold,
    hash_images,
    hold_out_test,
    hold_out_validation,
    make_splits,
    remove_leaks,
    split_lines,
)
from emotion.training.settings import TrainingSettings


def as_jpeg(image: np.ndarray, quality: int = 75) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0)


def smooth_dataset(train: int = 42, validation: int = 0, test: int = 14):
    """Return pictures that survive JPEG, each unlike all others."""
    dataset = make_dataset(train, validation, test)
    coarse = np.random.default_rng(0).integers(0, 255, (len(dataset), 8, 8), dtype=np.uint8)
    images = [cv2.resize(one, (48, 48), interpolation=cv2.INTER_CUBIC) for one in coarse]
    return replace(dataset, images=np.stack(images))


def unsplit(images: int, **columns):
    return replace(make_dataset(images, 0, 0), splits=np.full(images, "", "U16"), **columns)


def people_dataset(people: int = 20):
    """Return seven images each of people who show every class, in no split."""
    return unsplit(7 * people, groups=np.repeat([f"S{person:03d}" for person in range(people)], 7))


def people_of(dataset) -> list[set]:
    return [set(dataset.split(name).groups) - {""} for name in dataset.split_names()]


def share_nothing(sets: list[set]) -> bool:
    return len(set.union(*sets)) == sum(len(one) for one in sets)


def sizes(dataset) -> list[int]:
    return [len(dataset.split(name)) for name in dataset.split_names()]


COPIES = {  # how a training image comes from a test image, and whether it is then identical
    "identical": (lambda image: image, 1),
    "bad jpeg": (lambda image: as_jpeg(image, 50), 0),
    "darker": (lambda image: (image * 0.8 + 10).astype(np.uint8), 0),
}


@pytest.mark.parametrize("case", COPIES, ids=str)
def test_copies_leave_training_and_never_the_test_split(case):
    copy, identical = COPIES[case]
    expected = Leaks(identical, similar=1 - identical)
    dataset = smooth_dataset()
    dataset.images[3] = copy(dataset.images[-1])
    clean, leaks = remove_leaks(dataset)
    assert (leaks, sizes(clean)) == (expected, [41, 14])
    assert np.flatnonzero(clean.twins).tolist() == [54]
    dataset.images[4] = as_jpeg(dataset.images[-2])
    kept, leaks = remove_leaks(dataset, keep=True)
    assert leaks == replace(expected, similar=expected.similar + 1, kept=True)
    assert (len(kept), np.flatnonzero(kept.twins).tolist()) == (56, [54, 55])
    dataset = smooth_dataset(35, 14, 7)
    dataset.images[3] = copy(dataset.images[40])
    clean, leaks = remove_leaks(dataset)
    assert (leaks, sizes(clean)) == (Leaks(0, 0, in_validation=1), [34, 14, 7])
    assert not clean.twins.any()


def test_different_images_stay_and_flat_ones_are_like_nothing_but_themselves():
    dataset = smooth_dataset()
    dataset.images[3] = dataset.images[-2] // 2 + dataset.images[2] // 2
    assert remove_leaks(dataset)[1] == Leaks(0, 0)
    dataset.images[0], dataset.images[1] = 0, 200
    dataset.images[-1] = 0
    clean, leaks = remove_leaks(dataset)
    assert (leaks, len(clean)) == (Leaks(identical=1, similar=0), 55)


def test_validation_is_stratified_and_shares_no_image():
    dataset = make_dataset(train=140, validation=0, test=7)
    dataset.images[7:70:7] = dataset.images[0]  # one image eleven times
    for seed in range(3):
        split = hold_out_validation(dataset, 0.2, seed)
        assert (hold_out_validation(dataset, 0.2, seed).splits == split.splits).all()
        assert len(set(split.splits[0:70:7])) == 1
        assert sum(sizes(split)[:2]) == 140
        assert (np.bincount(split.split("validation").labels, minlength=7) > 0).all()
    assert sizes(hold_out_validation(make_dataset(), 0.5, 1)) == [140, 35, 35], "it brings its own"


def test_validation_without_people_is_what_it_always_was():
    """The shipped model was selected on such a split: these images must never change."""
    split = hold_out_validation(make_dataset(train=140, validation=0, test=7), 0.05, 7)
    held_out = np.flatnonzero(split.splits == "validation").tolist()
    assert held_out == [11, 48, 87, 119, 128, 134, 138]


def test_people_are_held_out_whole():
    for seed, share in enumerate([0.05, 0.3, 0.5]):
        settings = TrainingSettings(test_share=share, seed=seed)
        dataset, leaks = make_splits(people_dataset(), settings)
        assert dataset.split_names() == ("train", "validation", "test")
        assert (leaks, len(dataset)) == (Leaks(0, 0), 140)
        assert share_nothing(people_of(dataset))
        counts = [str(len(one)) for one in people_of(dataset)]
        assert re.findall(r"\d+|nobody", split_lines(dataset)[1]) == [*counts, "nobody"]
        tested = round(20 * share)
        assert np.bincount(dataset.split("test").labels).tolist() == [tested] * 7
    torn = people_dataset()
    torn.splits[:10] = "test"
    torn.splits[10:] = "train"
    assert re.findall(r"\d+", split_lines(torn)[1]) == ["19", "2", "1"]
    assert len(split_lines(make_dataset())) == 1, "where nobody is known"


def test_people_who_share_a_picture_stay_together():
    dataset = people_dataset()
    for person in range(0, 18, 2):  # a chain: each picture joins two more people
        dataset.images[7 * person + 7] = dataset.images[7 * person]
        dataset.images[7 * person + 14] = dataset.images[7 * person + 1]
    chain = {f"S{person:03d}" for person in range(19)}
    unknown = people_dataset()
    unknown.groups[:70] = ""
    unknown.images[:7] = unknown.images[133:]  # a picture without a person, and the last person's
    for seed in range(3):
        training, testing = people_of(hold_out_test(dataset, 0.2, seed))
        assert chain <= training or chain <= testing
        splits = hold_out_test(unknown, 0.3, seed).splits
        assert len({*splits[:7], *splits[133:]}) == 1


@pytest.mark.parametrize("people", [True, False])
def test_folds_cover_everything_once_and_share_nothing(people):
    dataset, tested = people_dataset() if people else unsplit(140), []
    if not people:
        dataset.images[7:28:7] = dataset.images[0]  # one image four times
    for fold in range(1, 6):
        chosen = choose_fold(dataset, 5, fold, 3)
        assert set(np.bincount(chosen.split("test").labels, minlength=7)) <= {3, 4, 5, 6, 7}
        tested.append(set(np.flatnonzero(chosen.splits == "test")))
        assert share_nothing(people_of(chosen)) if people else len(set(chosen.splits[:28:7])) == 1
    assert share_nothing(tested)
    assert len(set.union(*tested)) == 140


def test_test_images_come_from_the_data_or_from_what_is_in_no_split_or_from_training():
    dataset = make_dataset()
    assert (hold_out_test(dataset, 0.2, 1).splits == dataset.splits).all()
    assert sizes(hold_out_test(make_dataset(140, 35, 0), 0.2, 1)) == [112, 35, 28]
    splits = np.array([""] * 35 + ["train"] * 35 + ["test"] * 70)
    divided = hold_out_test(replace(make_dataset(70, 0, 70), splits=splits), 0.2, 1).splits
    assert (divided[35:] == splits[35:]).all()
    assert (divided[:35] == "test").sum() == 7
    private = replace(make_dataset(105), splits=np.array(["train"] * 105 + ["private_test"] * 70))
    assert sizes(choose_fold(private, 5, 1, 3)) == [84, 21, 70], "the private test is left alone"


def test_the_pipeline_holds_out_before_it_removes_what_is_nearly_identical():
    dataset = smooth_dataset(140, 0, 14)
    for number in range(0, 140, 10):
        dataset.images[number] = as_jpeg(dataset.images[140 + number // 10])
    expected = hold_out_validation(dataset, 0.1, 2).split("validation")
    kept, leaks = make_splits(dataset, TrainingSettings(duplicates="keep-leaks"))
    assert (leaks, len(kept), kept.twins.sum()) == (Leaks(0, 14, kept=True), 154, 14)
    made, leaks = make_splits(dataset, TrainingSettings(validation_share=0.1, seed=2))
    copied = np.isin(hash_images(expected.images), hash_images(dataset.images[0:140:10]))
    assert 0 < copied.sum() < len(expected)
    assert leaks.similar == 14
    np.testing.assert_array_equal(made.split("validation").images, expected.images[~copied])


WITHOUT_HAPPY = make_dataset(140, 0, 35).where(np.arange(175) % 7 + 7 * (np.arange(175) > 139) != 3)
COPIED = smooth_dataset(70, 14, 0)
COPIED.images[3:70:14], COPIED.images[10:70:14] = COPIED.images[73], COPIED.images[80]  # of happy
TOO_LITTLE = {
    "class": (WITHOUT_HAPPY, {}, "none of happy .the data"),
    "class that is removed": (COPIED, {}, "none of happy .all .* removed"),
    "person": (people_dataset(1), {}, "two people"),
    "people": (people_dataset(3), {"fold": 1}, "5 people for 5 parts; received 3"),
    "classes": (unsplit(7), {"fold": 1}, "as many images as parts"),
    "one class": (make_dataset(1, 0, 7), {}, "two classes.* 1 images .* angry"),
    "validation": (make_dataset(7, 0, 7), {}, "10% out for validation"),
}


@pytest.mark.parametrize("case", TOO_LITTLE, ids=str)
def test_too_little_to_split(case):
    dataset, settings, message = TOO_LITTLE[case]
    with pytest.raises(DatasetError, match=f"^.*({message}).*$") as told:
        make_splits(dataset, TrainingSettings(**settings))
    assert "--seed" not in str(told.value)


def test_another_seed_is_advised_where_a_class_was_drawn_for_other_splits():
    dataset = people_dataset()
    alone = dataset.where((dataset.labels != 3) | (dataset.groups == "S003"))
    folds = range(1, 6)  # one of which tests on S003
    (fold,) = [n for n in folds if "S003" in choose_fold(alone, 5, n, 7).split("test").groups]
    with pytest.raises(DatasetError, match=r"happy .* --seed"):
        make_splits(alone, TrainingSettings(fold=fold))


def test_copies_within_training_are_counted():
    dataset = make_dataset(140, 0, 14)
    dataset.images[7:21:7] = dataset.images[0]
    dataset.images[1] = dataset.images[2]
    for duplicates, word in (("keep", "with --duplicates drop"), ("drop", "(each picture")):
        settings = TrainingSettings(duplicates=duplicates, seed=1)
        split, leaks = make_splits(dataset, settings)
        assert len(split) == 154
        assert leaks.copies.startswith("3 training images")
        assert "; 1 picture " in leaks.copies
        assert word in leaks.copies


def test_rare_classes_and_images_without_a_person_are_no_obstacle(monkeypatch):
    dataset = people_dataset()
    rare = (dataset.labels != 3) | np.isin(dataset.groups, ("S003", "S004", "S005"))
    split, _ = make_splits(dataset.where(rare), TrainingSettings(fold=1))
    assert (np.bincount(split.split("train").labels, minlength=7) > 0).all()
    dataset.groups[:3] = ""
    for settings in ({}, {"fold": 2}):
        split, _ = make_splits(dataset, TrainingSettings(**settings))
        assert share_nothing(people_of(split))
        assert len(split) == 140
    monkeypatch.setattr("emotion.training.data.splits.MOST_LIKE_PEOPLE", 50)
    dataset.groups[:70] = ""  # so many are divided by themselves
    divided = hold_out_test(dataset, 0.2, 1)
    assert (divided.splits[:70] == "test").sum() == 14
    assert len(set(divided.split("test").groups)) == 3
    assert share_nothing(people_of(divided))
