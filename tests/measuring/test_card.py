import json

import pytest
from model_folder import evaluation, report_content

from emotion.errors import ModelError
from emotion.labels import EMOTIONS
from emotion.model.card import Card, load_card, read_card
from emotion.model.figures import UNUSABLE, Figures, card_figures

SHA = "ab" * 32
GOOD = {"class_names": list(EMOTIONS), "input_shape": [48, 48, 1], "weights_sha256": SHA}


@pytest.mark.parametrize("content", ["", "[1]", "[" * 100_000, "\udcff"], ids=range(4))
def test_what_is_no_card_is_none_to_show_and_an_error_to_serve(tmp_path, content):
    path = tmp_path / "m.card.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert read_card(path) is None
    with pytest.raises(ModelError, match=r"m\.card\.json"):
        load_card(path, SHA, (48, 48, 1))


ODD_SERVING = [[], {"mirrored": True}]
ODD_SERVING += [{"mirrored": True, "temperature": odd} for odd in (0, "warm", float("nan"))]


def test_a_card_that_does_not_fit_is_an_error_with_both_values(tmp_path):
    path = tmp_path / "m.card.json"
    for change, said in (
        *(({"class_names": odd}, str(odd)) for odd in (["sad", "sad"], ["sad"], [1, 2], None)),
        ({"input_shape": [64, 64, 1]}, "[48, 48, 1] [64, 64, 1]"),
        ({"weights_sha256": "beef"}, f"{SHA} beef"),
        *(({"serving": odd}, "temperature") for odd in ODD_SERVING),
    ):
        path.write_text(json.dumps(GOOD | change))
        with pytest.raises(ModelError) as caught:
            load_card(path, SHA, (48, 48, 1))
        assert all(word in str(caught.value) for word in said.split()), change
    path.write_text(json.dumps(GOOD))
    assert load_card(path, SHA, (48, 48, 1)) == GOOD
    assert load_card(tmp_path / "none", SHA, (48, 48, 1)) is None


ODD = (None, 7, "text", [], [[]], {}, {"name": 3}, float("nan"), True)


@pytest.mark.parametrize("odd", ODD, ids=str)
def test_no_part_of_a_card_is_trusted(odd):
    keys = (
        "class_names weights_sha256 answers dataset metrics serving verdict selection settings "
        "versions calibration started_from learned_from average_of created"
    ).split()
    for content in [dict.fromkeys(keys, odd), *({key: odd} for key in keys)]:
        card = Card(content)
        assert (card.verdict, card.mirrored, card_figures(card)) == (None, False, None)
        texts = [card.title, *(text for row in (*card.origin(), *card.settings()) for text in row)]
        assert all(isinstance(text, str) for text in texts)
    calibrated = Card({"calibration": {"split": "{0}{", "temperature": 1.5}})
    assert "on {0}{ images with temperature 1.50" in dict(calibrated.origin())["Calibrated"]


@pytest.mark.parametrize("odd", [-0.1, 1.1, float("nan"), float("inf"), "0.5", True, []], ids=str)
def test_a_figure_that_is_no_share_makes_all_unusable(odd):
    content = report_content(evaluation())
    assert Figures.of("test", content).worsened
    for change in (
        {"accuracy": odd},
        {"accuracy_interval_95": [0.1, odd]},
        {"per_class": [content["per_class"][0] | {"recall": odd}]},
        {"reliability": [content["reliability"][9] | {"accuracy": odd}]},
        {"robustness": [content["robustness"][0] | {"accuracy": odd}]},
        {"confusion_matrix": [[1] * len(EMOTIONS)] * len(EMOTIONS)},
        {"per_class": [], "confusion_matrix": []},
    ):
        with pytest.raises(UNUSABLE):
            Figures.of("test", content | change)
