import base64
import html
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from training_data import make_dataset, read_csv

from emotion.labels import EMOTIONS
from emotion.model.runtime import EmotionModel
from emotion.text import share
from emotion.training.measuring import measurement
from emotion.training.measuring.evaluation import Evaluation
from emotion.training.measuring.report import summary_lines, write_predictions, write_report

HISTORY = [
    {"epoch": epoch, "loss": 2 - epoch / 10, "accuracy": epoch / 20, "val_loss": 2.1 - epoch / 10}
    for epoch in (1, 2, 3)
]
CARD = {
    "class_names": list(EMOTIONS),
    "dataset": {
        "name": "faces & more.csv",
        "images": {"train": 126, "private_test": 35},
        "removed_because_also_in_test": 11,
        "notes": ["two classes were put together"],
    },
    "started_from": {"name": "older_model", "weights_sha256": "f" * 64},
    "selection": {"by": "validation accuracy", "epoch": 2, "epochs": 3},
    "calibration": {"method": "temperature", "split": "validation", "temperature": 0.87},
    "serving": {"mirrored": True, "temperature": 0.9},
    "settings": {"batch_size": 128},
}
LONG_NAMES = (
    "surprised_and_fearful_expression",
    *("angry", "contempt", "Verärgerung über Verspätung", "happy", "<b>bold</b>", "x", "sad"),
)


class Page:
    def __init__(self, path) -> None:
        self.html = path.read_text(encoding="utf-8")
        self.links = re.findall(r' (?:src|srcset|href)="([^"]*)"', self.html)
        self.ids = set(re.findall(r' id="([^"]*)"', self.html))
        words = re.sub(r"<[^>]+>", " ", self.html.split("<body>")[1])
        self.text = " ".join(html.unescape(words).split())


def answer(faces: np.ndarray) -> np.ndarray:
    """Return probabilities of seven classes from the brightness of seven parts of each face."""
    parts = np.array_split(faces.reshape(len(faces), -1), 7, axis=1)
    powers = np.exp(9 * np.stack([part.mean(axis=1) for part in parts], axis=1))
    return powers / powers.sum(axis=1, keepdims=True)


MODEL = EmotionModel("stand_in", "0" * 64, EMOTIONS, "NumPy", CARD, (), answer)


@pytest.fixture(scope="module")
def split():
    votes = np.random.default_rng(2).dirichlet(np.ones(7), 70).astype(np.float32)
    names = np.array([f"test/{number}.png" for number in range(70)])
    return replace(make_dataset(0, 0, 70), votes=votes, names=names, twins=np.arange(70) < 10)


@pytest.fixture(scope="module")
def full_report(tmp_path_factory, split):
    """Write a report with everything there is; return (folder, page, result of the test split)."""
    results = {
        "validation": measurement.measure_split(MODEL, make_dataset(0, 0, 14), robustness=False),
        "test": measurement.measure_split(MODEL, split),
    }
    path = write_report(tmp_path_factory.mktemp("report"), MODEL, results, HISTORY, 2)
    return path.parent, Page(path), results["test"]


def test_page_needs_nothing_beside_it_and_tells_the_figures_and_the_card(full_report):
    _, page, result = full_report
    assert not re.search(r"<script|<link|<iframe|url\(|@import|<img(?![^>]* alt=)", page.html)
    pictures = [link for link in page.links if link.startswith("data:image/png;base64,")]
    assert {link.removeprefix("#") for link in {*page.links} - {*pictures}} <= page.ids
    assert len(pictures) >= 2 * (3 + 2 + 1)
    for link in pictures:
        Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2]))).verify()
    evaluation, agreement = result.evaluation, result.evaluation.vote_agreement()
    for text in (  # what else the model's page in the app shows alike
        *(share(evaluation.accuracy, 1), share(evaluation.coverage_row(0.8)["accuracy"], 1)),
        *(share(agreement["mean_share"], 1), share(agreement["best_mean_share"], 1)),
        *("Gaussian blur", "0.7 / 1.2 / 2.0", "stand_in", "NumPy", "000000000000"),
        *("faces & more.csv", "126", "11 images", "two classes were put together"),
        *("older_model (ffffffffffff)", "epoch 2 of 3", "0.87", "batch size 128"),
    ):
        assert text in page.text
    # those that tell most come first
    titles = re.findall(r'<h2 id="([^"]*)"', page.html)
    assert titles == ["test-split", "validation-split", "making"]


def test_every_number_is_of_answers_as_photos_get_them_and_lies_beside_the_page(full_report, split):
    folder, _, result = full_report
    faces = split.images[..., None].astype(np.float32) / 255
    np.testing.assert_array_equal(result.evaluation.probabilities, MODEL.answer(faces))
    np.testing.assert_array_equal(result.one_crop.probabilities, MODEL.predict(faces))
    unchanged = [result.robustness[0][name] for name in ("accuracy", "accuracy_one_crop")]
    assert unchanged == [result.evaluation.accuracy, result.one_crop.accuracy]
    numbers = json.loads((folder / "test" / "evaluation.json").read_text(encoding="utf-8"))
    parts = (numbers, numbers["leak_free"], numbers["vote_agreement"], numbers["one_crop"])
    assert [part["images"] for part in parts] == [70, 60, 70, 70]
    assert len(numbers["robustness"]) == 19
    figures = "confusion_matrix classification_report risk_coverage robustness"
    for stem in (*figures.split(), "samples_wrong", "samples_right"):
        Image.open(folder / "test" / f"{stem}.png").verify()
        assert read_csv(folder / "test" / f"{stem}.csv")
    Image.open(folder / "curves.png").verify()
    assert len(read_csv(folder / "test" / "robustness.csv")) == 19
    assert len(read_csv(folder / "history.csv")) == 3
    head, *lines, kept = (folder / "epochs.txt").read_text().splitlines()
    assert [line.split()[0] for line in (head, *lines)] == ["epoch", "1", "2", "3"]
    assert kept.endswith("2")
    wrong = read_csv(folder / "test" / "samples_wrong.csv")
    assert list(wrong[0]) == ["row", "true_class", "answer", "probability", "name", "votes"]
    assert all(row["true_class"] != row["answer"] for row in wrong)
    right = read_csv(folder / "test" / "samples_right.csv")
    assert all(row["true_class"] == row["answer"] for row in right)
    assert wrong[0]["name"].startswith("test/")
    assert re.fullmatch(r"[a-z]+:0\.\d\d( [a-z]+:0\.\d\d){6}", wrong[0]["votes"])
    assert not (folder / "validation" / "robustness.csv").exists()
    assert not list(folder.rglob(".part-*"))


def test_foreign_model_without_history(tmp_path, stand_in_model):
    model = replace(stand_in_model, card={"dataset": "by hand"}, notes=("no card",))
    result = measurement.measure_split(model, make_dataset(0, 0, 14), robustness=False)
    # one crop stands beside it only where it is another answer
    assert (result.one_crop, result.summary()["one_crop"], result.robustness) == (None, None, ())
    page = Page(write_report(tmp_path, model, {"test": result}))
    assert {"test-confusion-matrix", "test-wrong-samples"} <= page.ids
    assert not {"training", "test-worsened", "test-votes-table"} & page.ids
    assert not list(tmp_path.rglob("curves.png"))


@pytest.mark.parametrize(("names", "images"), [(LONG_NAMES, 60), (("yes", "no"), 1)])
def test_any_classes_and_any_number_of_images(names, images, tmp_path):
    random = np.random.default_rng(0)
    labels = random.integers(0, len(names), images)
    probabilities = random.dirichlet(np.ones(len(names)), images)
    if images == 1:
        probabilities = np.eye(len(names))[labels]  # without a mistake
    faces = random.integers(0, 256, (images, 48, 48), dtype=np.uint8)
    evaluation = Evaluation(names, labels, probabilities)
    result = measurement.SplitResult(evaluation, None, (), faces, None)
    page = Page(write_report(tmp_path, replace(MODEL, class_names=names), {"mine": result}))
    assert all(name in page.text for name in names)
    assert "<b>bold" not in page.html
    assert ("second guess" in page.text) == (len(names) > 2)
    assert ("mine-wrong-samples" in page.ids) == (images > 1)


def test_lines_for_the_terminal_tell_what_is_known(full_report):
    _, _, result = full_report
    evaluation = result.evaluation
    full = "\n".join(summary_lines(result))
    plain = replace(evaluation, votes=None, twins=None)
    bare = "\n".join(summary_lines(replace(result, evaluation=plain, one_crop=None)))
    for text in ("top-2", f"{evaluation.accuracy:.2%}", "20%"):
        assert (text in full, text in bare) == (True, True)
    for text in ("voters", "60 images", "one crop"):
        assert (text in full, text in bare) == (True, False)
    unknown = "\n".join(summary_lines(replace(result, copies_removed=False)))
    assert ("also stand" in full, "also stand" in unknown) == (False, True)
    two = Evaluation(("a", "b"), np.array([0, 0]), np.array([[0.9, 0.1]] * 2))
    lines = summary_lines(replace(result, evaluation=two))
    assert not any("top-2" in line for line in lines)
    assert lines[-1].split() == ["b", "–", "–", "–", "0"]


def test_samples_of_mistakes_the_surest_first(stand_in_model):
    answers = np.array([1, 0, 2, 1, 2, 0])  # the first, third and last are wrong
    confidence = np.array([0.6, 0.9, 0.8, 0.7, 0.5, 0.95])
    probabilities = np.repeat((1 - confidence)[:, None] / 2, 3, axis=1)
    probabilities[np.arange(6), answers] = confidence
    votes = np.array([[0, 0, 0]] * 5 + [[0.75, 0, 0.25]], np.float32)
    evaluation = Evaluation(("a", "b", "c"), np.array([0, 0, 1, 1, 2, 2]), probabilities, votes)
    images = np.stack([np.full((48, 48), number, np.uint8) for number in range(6)])
    names = np.array([f"{number}.png" for number in range(6)])
    result = measurement.SplitResult(evaluation, None, (), images, names)
    wrong = measurement.surest_samples(result, right=False)
    places = [(one["row"], one["true_class"] + one["answer"]) for one in wrong]
    assert places == [(5, "ca"), (2, "bc"), (0, "ab")]
    assert (wrong[0]["name"], wrong[0]["votes"]) == ("5.png", {"a": 0.75, "c": 0.25})
    assert wrong[1]["votes"] == {}
    told = []
    data = make_dataset(400, 0, 0)
    many = measurement.measure_split(stand_in_model, data, False, None, told.append)
    assert [line.split()[0] for line in told] == ["400"], "a line for each measurement"
    assert len(measurement.surest_samples(many, right=False)) == measurement.SAMPLE_COUNT
    # of the right ones each class has its turn
    answers = np.array([0, 0, 0, 1, 1, 2])
    probabilities = np.eye(3)[answers] * np.array([0.9, 0.8, 0.7, 0.6, 0.65, 0.5])[:, None]
    right = replace(result, evaluation=Evaluation(("a", "b", "c"), answers, probabilities))
    places = [one["row"] for one in measurement.surest_samples(right, right=True)]
    assert places == [0, 4, 5, 1, 3, 2]


def test_every_figure_can_be_computed_again_from_predictions_csv(tmp_path, split):
    evaluation = measurement.measure_split(MODEL, split, robustness=False).evaluation
    write_predictions(tmp_path / "p.csv", evaluation, split.names, split.splits)
    rows = read_csv(tmp_path / "p.csv")
    assert [rows[0][name] for name in ("file", "split")] == ["test/0.png", "test"]
    labels, answers = (
        np.array([EMOTIONS.index(row[k]) for row in rows]) for k in ("label", "answer")
    )
    np.testing.assert_array_equal(answers, evaluation.predictions)
    probabilities, votes = (
        np.array([[float(row[f"{kind}_{name}"]) for name in EMOTIONS] for row in rows])
        for kind in ("probability", "votes")
    )
    twins = np.array([row["also_in_training"] == "1" for row in rows])
    again = Evaluation(EMOTIONS, labels, probabilities, votes, twins)
    assert again.summary() == evaluation.summary()
