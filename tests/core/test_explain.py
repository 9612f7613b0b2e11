from dataclasses import replace

import cv2
import matplotlib.cbook
import numpy as np
import pytest
from scipy.special import logit

from emotion.detection.crop import crop_face
from emotion.errors import ModelError
from emotion.explain import (
    CHECKED_SHARE,
    ELSEWHERE_COUNT,
    _warm_colors,
    cover,
    draw_heat,
    explain,
    occlusion_map,
    parts_elsewhere,
    patch_masks,
    strongest_parts,
)
from emotion.recognizer import Recognizer

FIFTH = round(CHECKED_SHARE * 48 * 48)


def grain(seed: int = 0) -> np.ndarray:
    """Return a crop in which blurring changes every part, (48, 48, 1) float32."""
    return np.random.default_rng(seed).random((48, 48, 1), dtype=np.float32)


def looking_at(model, crop, row: int, column: int, gain: float = 40.0):
    """Return a model that says "happy" for as long as 9x9 pixels around a place are as in `crop`.

    The one around the mirrored place speaks against it.
    """
    there = (slice(row - 4, row + 5), slice(column - 4, column + 5))
    against = (there[0], slice(43 - column, 52 - column))

    def run(faces: np.ndarray) -> np.ndarray:
        lost = [np.abs(faces[:, *part] - crop[part]).mean((1, 2, 3)) for part in (there, against)]
        logits = np.zeros((len(faces), len(model.class_names)), np.float32)
        logits[:, model.class_names.index("happy")] = 2 - gain * (lost[0] - lost[1])
        powers = np.exp(logits)
        return powers / powers.sum(axis=1, keepdims=True)

    return replace(model, run=run)


@pytest.mark.parametrize("place", [(10, 12), (24, 34), (40, 8), (6, 42)])
def test_heat_peaks_where_the_class_depends_on_the_face(stand_in_model, place):
    crop = grain()
    heat = occlusion_map(looking_at(stand_in_model, crop, *place), crop, "happy")
    assert (heat.shape, heat.dtype) == ((48, 48), np.float32)
    peak = np.unravel_index(heat.argmax(), heat.shape)
    assert np.abs(np.subtract(peak, place)).max() <= 5  # a stride and what is left of one
    against = np.unravel_index(heat.argmin(), heat.shape)
    assert np.abs(np.subtract(against, (place[0], 47 - place[1]))).max() <= 5
    assert heat[against] < 0 < heat[peak]


def test_heat_is_in_log_odds_even_where_the_probability_is_one(stand_in_model):
    crop = grain()
    model = looking_at(stand_in_model, crop, 24, 10, gain=4)
    small = occlusion_map(model, crop, "happy")

    def certain(faces):
        odds = model.run(faces).astype(np.float64)
        odds[:, model.class_names.index("happy")] *= np.exp(14)
        return (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)

    assert certain(crop[None]).max() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(
        occlusion_map(replace(model, run=certain), crop, "happy"), small, atol=2e-2
    )
    assert small.max() > 0.3


def test_the_other_classes_have_the_opposite_heat(stand_in_model):
    crop = grain()
    model = looking_at(stand_in_model, crop, 24, 10)
    happy, sad = (occlusion_map(model, crop, name) for name in ("happy", "sad"))
    assert np.corrcoef(happy.ravel(), sad.ravel())[0, 1] < -0.8


def test_explanation_is_checked_by_hiding(stand_in_model):
    crop = grain()
    model = looking_at(stand_in_model, crop, 16, 12)
    found = explain(model, crop, "happy")
    assert found.before == pytest.approx(float(model.answer(crop[None])[0, 3]))
    assert found.hidden < 0.5 * found.before
    assert found.elsewhere > found.hidden
    assert found.holds
    assert found.class_name == "happy"
    np.testing.assert_array_equal(found.heat, occlusion_map(model, crop, "happy"))


def test_the_numbers_are_those_of_the_answer_that_is_served(stand_in_model):
    crop = grain()
    card = {"serving": {"mirrored": True, "temperature": 0.5}}
    model = replace(looking_at(stand_in_model, crop, 16, 12), card=card)
    assert explain(model, crop, "happy").before == pytest.approx(
        float(model.answer(crop[None])[0, 3])
    )


def test_where_no_part_speaks_for_a_class_nothing_is_hidden(stand_in_model):
    def run(faces: np.ndarray) -> np.ndarray:
        return np.full((len(faces), 7), 1 / 7, np.float32)

    found = explain(replace(stand_in_model, run=run), grain(), "sad")
    assert not found.heat.any()
    assert found.before == found.hidden == found.elsewhere
    assert not found.holds
    assert_grey(draw_heat(grain(), found.heat))


@pytest.mark.parametrize(
    "crop", [np.zeros((48, 48, 1), np.float32), np.ones((48, 48, 1), np.float32)]
)
def test_a_crop_without_a_face_is_explained_all_the_same(stand_in_model, crop):
    found = explain(stand_in_model, crop, "happy")
    assert np.isfinite(found.heat).all()
    assert np.isfinite([found.before, found.hidden, found.elsewhere]).all()


def test_the_same_face_gets_the_same_explanation(stand_in_model):
    crop = grain()
    model = looking_at(stand_in_model, crop, 16, 12)
    one, other = explain(model, crop, "happy"), explain(model, crop, "happy")
    assert (one.hidden, one.elsewhere) == (other.hidden, other.elsewhere)


def test_the_crop_stays_as_it_is(stand_in_model):
    crop = grain()
    before = crop.copy()
    draw_heat(crop, explain(stand_in_model, crop, "happy").heat)
    np.testing.assert_array_equal(crop, before)


def test_unknown_classes_are_refused(stand_in_model):
    with pytest.raises(ModelError, match=r"expected a class .*angry.*; received 'contempt'"):
        explain(stand_in_model, grain(), "contempt")


def test_crops_of_another_shape_are_refused(stand_in_model):
    with pytest.raises(ValueError, match=r"expected a crop .*\(48, 48\)"):
        explain(stand_in_model, grain()[..., 0], "happy")


@pytest.mark.parametrize(("patch_px", "stride_px"), [(8, 6), (12, 4), (16, 8), (5, 5), (48, 1)])
def test_patches_cover_every_pixel_and_are_even(patch_px, stride_px):
    masks = patch_masks(patch_px, stride_px)
    assert masks.any(axis=0).all()
    assert masks.any(axis=(1, 2)).all()
    assert masks.sum(axis=(1, 2)).max() <= patch_px**2
    assert np.abs(masks.sum(axis=0) - masks.sum(axis=0)[::-1, ::-1]).mean() < 0.5


def test_covering_hides_what_is_masked_and_nothing_else():
    crop, mask = grain(), np.zeros((1, 48, 48), bool)
    mask[0, 10:20, 30:40] = True
    (covered,) = cover(crop, mask)
    np.testing.assert_array_equal(covered[~mask[0]], crop[~mask[0]])
    assert covered[mask[0]].std() < 0.1 * crop[mask[0]].std()


def test_as_much_is_hidden_elsewhere_and_nothing_of_the_parts():
    parts = strongest_parts(np.random.default_rng(1).random((48, 48)))
    others = parts_elsewhere(parts)
    assert parts.sum() == FIFTH
    assert len(others) == ELSEWHERE_COUNT
    assert {mask.sum() for mask in others} == {FIFTH}
    assert not (others & parts).any()
    assert len({mask.tobytes() for mask in others}) == ELSEWHERE_COUNT


def test_parts_that_spoke_against_are_never_among_the_strongest():
    heat = np.full((48, 48), -1.0)
    heat[:3] = 1
    np.testing.assert_array_equal(strongest_parts(heat), heat > 0)


def assert_grey(picture: np.ndarray) -> None:
    assert (picture == picture[..., :1]).all()


@pytest.mark.parametrize("side", [96, 320, 500])
def test_heat_is_warm_where_it_is_high_and_nowhere_else(side):
    heat = np.full((48, 48), -0.2, np.float32)
    heat[8:16, 8:16] = 1.5
    picture = draw_heat(np.full((48, 48, 1), 0.5, np.float32), heat, side)
    assert (picture.shape, picture.dtype) == ((side, side, 3), np.uint8)
    red, green, blue = picture[side // 4, side // 4].astype(int)
    assert red > green > blue + 40
    assert_grey(picture[side // 2 :])
    white, black = (picture > 200).all(axis=2), (picture < 40).all(axis=2)
    assert white.any()  # the line around the strongest parts
    assert black.any()


def test_next_to_nothing_gets_next_to_no_color():
    heat = np.zeros((48, 48), np.float32)
    heat[8:16, 8:16] = 0.01
    red, _, blue = draw_heat(np.full((48, 48, 1), 0.5, np.float32), heat)[80, 80].astype(int)
    assert abs(red - blue) < 10


def test_colors_rise_in_lightness_and_are_no_greys_for_the_color_blind():
    maps = (  # protanopia and deuteranopia, Machado et al. 2009
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
    )
    colors = _warm_colors(np.linspace(0, 1, 9, dtype=np.float32)[None])[0] ** 2.2
    for matrix in maps:
        seen = np.clip(colors @ np.transpose(matrix), 0, 1)
        assert (np.diff(np.cbrt(seen @ (0.2126, 0.7152, 0.0722))) > 0.02).all()
        strong = seen[4:] ** (1 / 2.2)
        assert (np.ptp(strong, axis=1) > 0.25).all()


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer.load()


def grace_hopper() -> np.ndarray:
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        content = np.frombuffer(file.read(), np.uint8)
    return cv2.cvtColor(cv2.imdecode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


@pytest.mark.parametrize("name", ["astronaut", "grace hopper"])
def test_hiding_what_spoke_for_an_answer_lowers_it_on_real_photographs(recognizer, astronaut, name):
    image = astronaut if name == "astronaut" else grace_hopper()
    (detection,) = recognizer.detector.detect(image)
    (face,) = recognizer.recognize(image)
    crop = crop_face(image, detection.box_xywh, roll_degrees=detection.roll_degrees)
    found = explain(recognizer.model, crop, face.emotion)
    assert found.before == pytest.approx(face.confidence, abs=1e-4)
    # by its log-odds, for a laugh is recognized by less than a mouth
    before, hidden, elsewhere = map(logit, (found.before, found.hidden, found.elsewhere))
    assert hidden < before - 1
    assert hidden < elsewhere - 1
    assert found.holds


def test_the_smile_of_the_astronaut_is_in_her_mouth(recognizer, astronaut):
    (detection,) = recognizer.detector.detect(astronaut)
    crop = crop_face(astronaut, detection.box_xywh, roll_degrees=detection.roll_degrees)
    heat = occlusion_map(recognizer.model, crop, "happy")
    mouth, brow = heat[34:42, 8:38], heat[8:16, 8:38]
    assert mouth.mean() > 4 * max(brow.mean(), 0.01)
