"""The page about a model: it says what card and report say, and nothing of its own."""

import json
import re
import shutil
from html import unescape

import numpy as np
import pytest
from model_folder import write_card, write_measured, write_pair
from web_support import make_app, make_app_without_model, photo_form

from emotion.labels import EMOTIONS
from emotion.model.card import Card
from emotion.model.figures import read_figures
from emotion.recognizer import Recognizer
from emotion.text import share
from emotion.web.settings import PROJECT_FOLDER

OTHER = "fer2013/detection_model"


def app_of(models, folder):
    stem = models / "detection_model"
    return make_app(folder, Recognizer.load(stem).model, MODEL=stem, PORT=0)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    write_measured(models / "detection_model", 0, answers="votes")
    write_measured(models / OTHER, 1)
    return models, app_of(models, tmp_path_factory.mktemp("web"))


@pytest.fixture
def own(tmp_path):
    write_measured(tmp_path / "models" / "detection_model", 0)
    return tmp_path / "models"


def page_of(app, path="/model"):
    reply = app.test_client().get(path)
    assert reply.status_code == 200, reply.text
    return re.sub(r"[ \n]+", " ", reply.text)


def words_of(page):
    return re.sub(r"[ \n]+", " ", unescape(re.sub(r"<[^>]+>", "", page)))


def tables_of(page):
    return dict(re.findall(r'<table[^>]* id="([^"]+)"(.*?)</table>', page, re.S))


def values_of(table):
    return list(map(float, re.findall(r'<data[^>]* value="([^"]+)"', table)))


def files_of(models, key="detection_model"):
    card = json.loads((models / f"{key}.card.json").read_text())
    report = models / f"{key}_report" / "test" / "evaluation.json"
    return card, json.loads(report.read_text())


def test_figures_and_tables_are_those_of_the_files(measured):
    models, app = measured
    card, report = files_of(models, OTHER)
    page, default = page_of(app, f"/model/{OTHER}"), page_of(app)
    words, tables, figures = words_of(page), tables_of(page), card["metrics"]["test"]
    assert f'id="accuracy"><data value="{figures["accuracy"]}">' in page
    low, high = figures["accuracy_interval_95"]
    leak_free, counts = figures["leak_free"], np.array(report["confusion_matrix"])
    shares = counts / counts.sum(axis=1, keepdims=True)
    mistakes = counts * (1 - np.eye(len(counts)))
    shown, given = np.unravel_index(mistakes.argmax(), mistakes.shape)
    for told in (
        f"between {share(low, 1)} and {share(high, 1)}",
        f"{figures['images']} test images",
        f"{share(figures['one_crop']['accuracy'], 1)} were right",
        f"{figures['images_also_in_training']} of the images",
        f"{leak_free['images']} images, {share(leak_free['accuracy'], 1)}",
        f"{EMOTIONS[shown]} taken for {EMOTIONS[given]}: {share(shares[shown, given])}",
        card["weights_sha256"],
        "2024/1689",
    ):
        assert told in words
    verdict = re.findall(r"\d[\d.]*%?", words.split("says “unsure”", 1)[1])[:7]
    assert verdict == ["51.0%", "12.0", "321", "83%", "93%", "43%", "87%"]
    for path, shown_page in (("/model", default), (f"/model/{OTHER}", page)):
        for forbidden in (str(models), str(PROJECT_FOLDER), " style=", "<style"):
            assert forbidden not in shown_page
        links = dict(re.findall(r'<a href="(/model[^"]*)"(| aria-current="page")>', shown_page))
        assert [address for address, current in links.items() if current] == [path]
    assert values_of(tables_of(default)["agreement-table"]) == [8.5, 30, 7.2, 12]
    assert "agreement-table" not in tables
    classes, bins = figures["per_class"], [row for row in report["reliability"] if row["images"]]
    expected = {
        "class-figures": [
            row[name] for row in classes for name in ("recall", "precision", "f1", "support")
        ],
        "confusion-matrix": np.stack([shares, counts], axis=-1).ravel(),
        "worsened": [row["accuracy"] for row in report["robustness"] if row["level"]],
        "reliability-table": [
            row[name] for row in bins for name in ("confidence", "accuracy", "images")
        ],
    }
    for name, values in expected.items():
        assert values_of(tables[name]) == pytest.approx(values)
    few = tables["class-figures"].count(">few<")
    assert few == sum(row["support"] < 100 for row in classes) > 0


def test_a_model_without_figures_says_so(tmp_path):
    files = write_pair(tmp_path / "models" / "detection_model")
    for number, card in enumerate((None, {"metrics": {"test": {"images": 3}}})):
        if card is not None:
            write_card(files, **card)
        page = page_of(app_of(tmp_path / "models", tmp_path / str(number)))
        assert "no figures" in words_of(page)
        assert "50.0%" in words_of(page)
        assert not tables_of(page)


def test_a_report_that_does_not_belong_is_not_shown_nor_one_of_a_replaced_model(own, tmp_path):
    path, app = own / "detection_model_report" / "test" / "evaluation.json", app_of(own, tmp_path)
    whole = path.read_text()
    for damage in (
        {"log_loss": 0.123},  # of another training
        {"confusion_matrix": [[1, 2], [3, 4]]},
        {"reliability": [{"lower": "0", "upper": "<script>"}]},
        None,
    ):
        path.write_text(json.dumps(json.loads(whole) | damage) if damage else "[" * 100_000)
        page = page_of(app)
        assert "no confusion matrix" in words_of(page)
        shown = {"class-figures", "side-by-side", "coverage", "agreement-table"}
        assert set(tables_of(page)) == shown
    path.write_text(whole)
    assert "confusion-matrix" in tables_of(page_of(app))
    before, _ = files_of(own)
    shutil.rmtree(own)
    write_measured(own / "detection_model", 2)
    page = page_of(app)
    assert before["weights_sha256"] in page
    assert f'<data value="{before["metrics"]["test"]["accuracy"]}">' in page
    assert "files were replaced" in words_of(page)
    assert "no confusion matrix" in words_of(page)


def test_words_of_a_card_are_no_markup_and_a_figure_that_is_missing_is_a_dash(own, tmp_path):
    path = own / "detection_model.card.json"
    card = json.loads(path.read_text())
    card |= {"answers": "labels", "created": "<i>"}
    card["dataset"] |= {"name": "<b>bold</b>.csv", "notes": ["</main>", f"{own}/secret/x.csv"]}
    card["metrics"]["test"]["per_class"][0] |= {"precision": None, "f1": None}
    path.write_text(json.dumps(card))
    shutil.rmtree(own / "detection_model_report")
    app = app_of(own, tmp_path)
    page = page_of(app)
    assert [word for word in ("<b>", "<i>", str(own)) if word in page] == []
    assert page.count("</main>") == 1
    assert "x.csv" in page
    assert tables_of(page)["class-figures"].count("<td>–</td>") == 2
    # there is nothing to choose where there is one model
    assert 'name="model"' not in app.test_client().get("/").text


def test_what_cannot_be_used_says_why_without_folders_and_harms_no_other(measured, tmp_path):
    models = tmp_path / "models"
    shutil.copytree(measured[0], models)
    path = models / f"{OTHER}.card.json"
    serving = {"serving": {"temperature": f"{models}/x.h5"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | serving))
    app = app_of(models, tmp_path)
    client = app.test_client()
    refused = client.post("/", data=photo_form() | {"model": OTHER})
    assert refused.status_code == 503
    assert f"the model {OTHER}" in refused.text
    assert str(tmp_path) not in refused.text
    assert client.post("/", data=photo_form()).status_code == 303
    reason = f"expected {tmp_path}/a/model.h5; it is missing"
    unloaded = make_app_without_model(tmp_path / "unloaded", reason)
    for one, path, why in (
        (app, f"/model/{OTHER}", "mirrored"),
        (unloaded, "/model", "Expected model.h5; it is missing."),
    ):
        page = page_of(one, path)
        assert "cannot be used" in words_of(page)
        assert why in words_of(page)
        assert str(tmp_path) not in page
    for key in ("nothing", "..%2fdetection_model", "detection_model.json", "%00"):
        reply = client.get(f"/model/{key}")
        assert reply.status_code == 404
        assert "nothing" not in reply.text


def test_card_and_report_of_each_shipped_model_belong_together():
    for key in ("detection_model", OTHER):
        card, _ = files_of(PROJECT_FOLDER / "models", key)
        figures = read_figures(PROJECT_FOLDER / "models" / key, Card(card))
        assert figures.bins
        assert figures.worsened
        assert [row[0].true_class for row in figures.matrix] == card["class_names"]


@pytest.mark.parametrize("key", ["detection_model", OTHER])
def test_a_model_has_one_title_and_one_key_everywhere(measured, key):
    client = measured[1].test_client()
    listed = client.get("/api/v1/models").json["models"]
    assert len({model["title"] for model in listed}) == len(listed)
    (names,) = ({n: model[n] for n in ("key", "title")} for model in listed if model["key"] == key)
    chosen = "" if key == "detection_model" else key
    photo = client.post("/api/v1/photos", data=photo_form() | {"model": chosen}).json
    assert photo["results"]["model"].items() >= names.items()
    assert client.get("/api/v1/mine").json["photos"][0]["model"] == names
    assert f"{names['title']} ({key})" in words_of(client.get(photo["links"]["page"]).text)
    form = client.get("/").text
    assert {"detection_model", OTHER} == set(re.findall(r'<option value="([^"]+)"', form))
    for page in ("/", "/mine", f"/model/{key}"):
        assert names["title"] in unescape(client.get(page).text)


def test_in_a_browser_axe_finds_nothing(measured, serve, open_context, axe):
    page = open_context()
    page.goto(f"{serve(measured[1])}/model/{OTHER}")
    page.click("#honest ~ details summary")
    assert page.locator("#reliability-table").is_visible()
    for width, scheme in ((1280, "light"), (360, "dark")):
        page.set_viewport_size({"width": width, "height": 844})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert axe(page) == ""
    assert not page.complaints
