import json
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from unittest import mock

import pytest
from model_folder import write_card, write_pair
from web_support import InProcess, StandInDetector, stand_in_model

from emotion.errors import ChoiceError, ModelError
from emotion.files import sha256_of
from emotion.model.card import Card
from emotion.model.keras import ModelFiles
from emotion.web.models import offered as models_module
from emotion.web.models.offered import LOOK_EVERY_S, Models, read_served

OTHER = "fer2013/detection_model"


@pytest.fixture
def folder(tmp_path):
    write_pair(tmp_path / "detection_model")
    write_pair(tmp_path / OTHER, seed=1)
    return tmp_path


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now_s=100.0)
    monkeypatch.setattr(models_module, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    return clock


@pytest.fixture
def models(folder):
    return Models(stand_in_model(), folder / "detection_model", InProcess(StandInDetector()).load)


@pytest.fixture
def load():
    with mock.patch.object(models_module, "read_served", wraps=read_served) as load:
        yield load


def keys(models):
    return [model.key for model in models.offered()]


def test_the_default_comes_first_then_the_others_by_name_as_they_appear(folder, clock, models):
    assert keys(models) == ["detection_model", OTHER]
    write_pair(folder / "another")
    write_pair(folder / "a" / "model")
    clock.now_s += LOOK_EVERY_S / 2
    assert "another" not in keys(models)
    clock.now_s += LOOK_EVERY_S
    assert keys(models) == ["detection_model", "a/model", "another", OTHER]
    assert [model.is_default for model in models.offered()] == [True, False, False, False]
    assert models.get("another").name == "another"
    assert keys(Models(models.default, folder / "gone" / "mine", print)) == ["mine"]


def test_what_is_not_offered(folder, models):
    names = ("deep/er/model", ".hidden/model", "sub/.hidden", "new\nline", "dot/\x1b[31m")
    for stem in (*names, "detection_model.previous", f"{OTHER}.previous"):
        write_pair(folder / stem)
    write_pair(folder / "half").architecture.unlink()
    write_pair(folder / "other half").weights.unlink()
    without = Models(None, folder / "detection_model", print)
    assert keys(models) == keys(without) == ["detection_model", OTHER]
    for key in ("", OTHER):
        with pytest.raises(ModelError):
            without.get(key)


FER = {"name": "fer2013.csv"}
TITLES = (
    ("votes", FER, "everyday photos"),
    ("votes", FER | {"votes": "fer2013new.csv"}, "everyday photos (FER+)"),
    ("labels", {"name": "/srv/private/mine.zip"}, "mine's labels"),
    ("labels", {"name": "fer2013.csv + CK+48.zip"}, "the labels of FER2013 and CK+48"),
    ("labels", {"name": 17}, ""),
    (["votes"], "text", ""),
)


def test_titles_come_from_the_cards_and_differ(folder, models):
    for answers, dataset, title in TITLES:
        assert Card({"answers": answers, "dataset": dataset}).title == title
    for key in (OTHER, "second"):
        write_card(write_pair(folder / key), answers="labels", dataset=FER)
    titles = [f"FER2013's labels: {key}" for key in (OTHER, "second")]
    assert [model.title for model in models.offered()] == ["detection_model", *titles]


def test_another_model_is_loaded_once(models, folder, load):
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(models.get, [OTHER] * 6))
    assert len(set(map(id, found))) == 1
    load.assert_called_once_with(folder / OTHER)
    assert found[0].sha256 == sha256_of(folder / f"{OTHER}.h5")


def test_a_key_is_one_that_is_offered(models, load):
    for key in (
        *("nothing", "../detection_model", "fer2013/../detection_model", "./detection_model"),
        *("fer2013", "detection_model.json", "DETECTION_MODEL", "/etc/passwd", "\0", "<b>x</b>"),
        "fer2013//detection_model",
    ):
        with pytest.raises(ChoiceError, match=f"detection_model or {OTHER}") as caught:
            models.get(key)
        assert len(key) < 3 or f"received {key}" not in str(caught.value)
    for key in ("", "detection_model"):
        assert models.get(key) is models.default
    assert not load.called


def test_a_damaged_model_is_listed_harms_no_other_and_can_be_repaired(folder, models, load):
    files = ModelFiles(folder / OTHER)

    def break_fast_form():  # its seal still fits
        files.fast_form.write_bytes(b"no model")
        seal = json.loads(files.fast_form_seal.read_text())
        files.fast_form_seal.write_text(json.dumps(seal | {"sha256": sha256_of(files.fast_form)}))

    for damage in (
        break_fast_form,
        lambda: write_card(write_pair(files.stem, seed=5), weights_sha256="00" * 32),
        lambda: files.card.write_text("{"),
    ):
        load.reset_mock()
        damage()
        assert keys(models) == ["detection_model", OTHER]
        for _ in range(3):
            with pytest.raises(ModelError, match="detection_model") as caught:
                models.get(OTHER)
        assert load.call_count == 1, "files that failed are not tried again"
        assert models.problem(models.find(OTHER)) == str(caught.value)
        assert models.get() is models.default
    write_card(files)
    assert models.get(OTHER).name == "detection_model"


def test_a_model_replaced_while_serving_goes_on_as_it_was_loaded(folder, clock, models):
    card = write_card(ModelFiles(folder / OTHER), answers="votes")
    served = models.get(OTHER)
    files = write_pair(folder / OTHER, seed=2)
    write_card(files, answers="labels", dataset=FER)
    clock.now_s += 2 * LOOK_EVERY_S
    model = models.find(OTHER)
    assert models.get(OTHER) is served
    assert models.sha256(model) == card["weights_sha256"]
    assert models.sha256_of_files(model) == sha256_of(files.weights) != served.sha256
    assert (model.card["answers"], model.title) == ("votes", "everyday photos")
    files.weights.unlink()
    clock.now_s += 2 * LOOK_EVERY_S
    assert models.get(OTHER) is served
    assert models.sha256(models.find(OTHER)) == served.sha256
    assert models.sha256_of_files(models.find(OTHER)) is None


def test_a_model_replaced_while_it_is_loaded_is_not_served(folder, models, load):
    def replace(*_):
        write_pair(folder / OTHER, seed=3)
        return mock.DEFAULT

    load.side_effect = replace
    with pytest.raises(ModelError, match="replaced"):
        models.get(OTHER)
    load.side_effect = None
    assert models.get(OTHER).sha256 == sha256_of(folder / f"{OTHER}.h5")


def test_who_waits_too_long_for_a_model_is_told(models, monkeypatch):
    started, finish = threading.Event(), threading.Event()

    def slow(stem):
        started.set()
        finish.wait(30)
        return models.default

    monkeypatch.setattr(models_module, "read_served", slow)
    monkeypatch.setattr(models_module, "LOADING_WAIT_S", 0.01)
    thread = threading.Thread(target=models.get, args=(OTHER,))
    thread.start()
    assert started.wait(30)
    with pytest.raises(ModelError, match="being loaded"):
        models.get(OTHER)
    assert models.get() is models.default
    finish.set()
    thread.join()
    assert models.get(OTHER) is models.default
