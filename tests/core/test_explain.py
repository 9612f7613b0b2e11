from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logit

from emotion.errors import ModelError
from emotion.explain import draw_heat, explain
from emotion.recognizer import Recognizer


def grain() -> np.ndarray:
    """Return a crop in which blurring changes every part, (48, 48, 1) float32."""
    return np.random.default_rng(0).random((48, 48, 1), dtype=np.float32)


def looking_at(model, crop, row: int, column: int):
    """Return a model that says "happy" while 9x9 pixels are as in `crop`, the mirrored ones not."""
    there = (slice(row - 4, row + 5), slice(column - 4, column + 5))
    against = (there[0], slice(43 - column, 52 - column))

    def run(faces: np.ndarray) -> np.ndarray:
        lost = [np.abs(faces[:, *part] - crop[part]).mean((1, 2, 3)) for part in (there, against)]
        logits = np.zeros((len(faces), len(model.class_names)), np.float32)
        logits[:, model.class_names.index("happy")] = 2 - 40 * (lost[0] - lost[1])
        powers = np.exp(logits)
        return powers / powers.sum(axis=1, keepdims=True)

    return replace(model, run=run)


@pytest.mark.parametrize("place", [(10, 12), (24, 34)])
def test_heat_peaks_where_the_class_depends_on_the_face_and_is_checked(stand_in_model, place):
    crop = grain()
    model = looking_at(stand_in_model, crop, *place)
    found = explain(model, crop, "happy")
    heat = found.heat
    assert (heat.shape, heat.dtype, found.class_name) == ((48, 48), np.float32, "happy")
    peak = np.unravel_index(heat.argmax(), heat.shape)
    assert np.abs(np.subtract(peak, place)).max() <= 5  # a stride and what is left of one
    against = np.unravel_index(heat.argmin(), heat.shape)
    assert np.abs(np.subtract(against, (place[0], 47 - place[1]))).max() <= 5
    assert heat[against] < 0 < heat[peak]
    assert found.hidden < 0.5 * found.before
    assert found.holds
    served = replace(model, card={"serving": {"mirrored": True, "temperature": 0.5}})
    for each in (model, served):
        assert explain(each, crop, "happy").before == float(each.answer(crop[None])[0, 3])
    np.testing.assert_array_equal(crop, grain())


def test_what_shows_no_face_is_explained_all_the_same(stand_in_model):
    def run(faces: np.ndarray) -> np.ndarray:
        return np.full((len(faces), 7), 1 / 7, np.float32)

    found = explain(replace(stand_in_model, run=run), grain(), "sad")
    assert not found.heat.any()
    assert found.before == found.hidden == found.elsewhere
    assert not found.holds
    drawn = draw_heat(grain(), found.heat)
    assert (drawn == drawn[..., :1]).all(), "it is grey"
    for value in (0, 1):
        found = explain(stand_in_model, np.full((48, 48, 1), value, np.float32), "happy")
        assert np.isfinite(found.heat).all()
        assert np.isfinite([found.before, found.hidden, found.elsewhere]).all()
    with pytest.raises(ModelError, match=r"angry.*; received 'contempt'"):
        explain(stand_in_model, found.crop, "contempt")
    with pytest.raises(ValueError, match=r"\(48, 48\)"):
        explain(stand_in_model, found.crop[..., 0], "happy")


@pytest.mark.parametrize("name", ["astronaut", "hopper"])
def test_hiding_what_spoke_for_an_answer_lowers_it_on_real_photographs(request, name):
    recognizer, image = Recognizer.load(), request.getfixturevalue(name)
    (face,) = recognizer.recognize(image)
    found = recognizer.explain(image)
    assert (found.class_name, found.before) == (face.emotion, pytest.approx(face.confidence))
    # by its log-odds, for a laugh is recognized by less than a mouth
    before, hidden, elsewhere = map(logit, (found.before, found.hidden, found.elsewhere))
    assert hidden < min(before, elsewhere) - 0.5
    assert found.holds
    if name == "astronaut":  # her smile is in her mouth, not in her brow
        assert found.heat[34:42, 8:38].mean() > 4 * max(found.heat[8:16, 8:38].mean(), 0.01)
