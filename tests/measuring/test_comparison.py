import csv
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from narrow_networks import build_tiny_network
from PIL import Image
from training_data import make_dataset

from emotion.errors import DatasetError, ModelError
from emotion.files import write_json
from emotion.labels import EMOTIONS
from emotion.model.keras import ModelFiles, save_keras_model, write_fast_form
from emotion.model.runtime import load_model
from emotion.training.measuring import comparison
from emotion.training.measuring.comparison import (
    compare_models,
    comparison_lines,
    count_multiply_adds,
    draw_comparison,
    time_models,
    write_comparison,
)
from emotion.training.measuring.evaluation import evaluate_model
from emotion.training.measuring.report_figures import draw
from emotion.training.networks.ensembles import average_models

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "detection_model"
TINY_MULTIPLY_ADDS = 46 * 46 * 4 * 9 + 11 * 11 * 4 * 7
ROW = {
    "name": "cnn",
    "runtime": "ONNX Runtime",
    "images": 3589,
    "accuracy": 0.66,
    "accuracy_interval": (0.64, 0.68),
    "macro_f1": 0.64,
    "f1": {name: 0.5 + number / 20 for number, name in enumerate(EMOTIONS)},
    "log_loss": 0.95,
    "expected_calibration_error": 0.02,
    "size_bytes": 6_200_000,
    "parameters": 1_507_751,
    "multiply_adds": 142_223_104,
    "milliseconds_alone": 1.5,
    "milliseconds_in_batch": 1.2,
    "machine": "a machine",
}


@pytest.fixture(scope="module")
def reversed_model(tmp_path_factory) -> Path:
    """Return a model with the name of `tiny_model`, its classes in reverse, its weights others."""
    files = ModelFiles(tmp_path_factory.mktemp("reversed") / "tiny")
    network = build_tiny_network()
    network.set_weights([weights * 1.5 for weights in network.get_weights()])
    save_keras_model(network, files)
    write_fast_form(files)
    card = {"class_names": EMOTIONS[::-1], "input_shape": [48, 48, 1], **files.hashes()}
    write_json(files.card, card)
    return files.stem


def test_rows_tell_what_evaluation_tells(tiny_model, reversed_model):
    split, seen = make_dataset(train=7, validation=7, test=70).split("test"), []
    stems = [tiny_model, reversed_model, tiny_model]
    rows = compare_models(stems, split, seen.append)
    assert seen == [row["name"] for row in rows]
    assert seen == [f"{tiny_model} (1)", str(reversed_model), f"{tiny_model} (2)"]
    for row, stem in zip(rows[:2], stems, strict=False):
        expected = evaluate_model(load_model(stem), split)
        by_class = {line["class"]: line["f1"] for line in expected.per_class()}
        names = "accuracy accuracy_interval macro_f1 log_loss expected_calibration_error"
        assert {name: row[name] for name in [*ROW][2:-3]} == {
            **{name: getattr(expected, name) for name in names.split()},
            "f1": {name: by_class[name] for name in EMOTIONS},
            "images": 70,
            "size_bytes": stem.with_name("tiny.h5").stat().st_size,
            "parameters": 4 * 9 + 4 + 484 * 7 + 7,
            "multiply_adds": TINY_MULTIPLY_ADDS,
        }
        assert list(row) == list(ROW)
        assert min(row["milliseconds_alone"], row["milliseconds_in_batch"]) > 0
        assert "CPUs" in row["machine"]
    assert rows[0]["f1"] != rows[1]["f1"]
    with pytest.raises(ModelError, match="received none"):
        compare_models([], split)
    with pytest.raises(DatasetError, match=r"tiny.*bored"):
        compare_models([tiny_model], replace(split, class_names=("bored", *EMOTIONS[1:])))


def test_multiply_adds_of_the_shipped_network_by_hand():
    # each block at its size: 3x3 and 3x3 convolutions, and 1x1 where the shape changes
    stem = 48 * 48 * 9 * 32
    blocks = (
        24 * 24 * (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64)
        + 12 * 12 * (9 * 64 * 128 + 9 * 128 * 128 + 64 * 128)
        + 12 * 12 * (9 * 128 * 128 + 9 * 128 * 128)
        + 6 * 6 * (9 * 128 * 192 + 9 * 192 * 192 + 128 * 192)
        + 6 * 6 * (9 * 192 * 192 + 9 * 192 * 192)
    )
    weighing = sum(2 * filters * (filters // 8) for filters in (64, 128, 128, 192, 192))
    counted = count_multiply_adds(ModelFiles(SHIPPED).fast_form)
    assert counted == stem + blocks + weighing + 192 * 7


def test_multiply_adds_of_nested_networks(tiny_model, reversed_model, tmp_path):
    network, _ = average_models([tiny_model, reversed_model])
    files = ModelFiles(tmp_path / "both")
    save_keras_model(network, files)
    write_fast_form(files)
    # members of other weights: equal ones are computed once
    order_and_last_layer = 2 * 7 * 7
    assert count_multiply_adds(files.fast_form) == 2 * TINY_MULTIPLY_ADDS + order_and_last_layer


def test_models_take_turns_and_the_first_round_does_not_count(stand_in_model, monkeypatch):
    calls, clock = [], [0.0]

    def spy(name, milliseconds):
        def run(faces):
            slower = (9000, 1, 5, 2)[len(calls) // 4]
            clock[0] += milliseconds[len(faces)] * slower * len(faces) / 1000
            calls.append((name, len(faces)))
            return stand_in_model.run(faces)

        return replace(stand_in_model, run=run)

    monkeypatch.setattr(comparison.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(comparison, "ROUNDS", 3)
    models = [spy("first", {1: 1, 32: 2}), spy("second", {1: 3, 32: 4})]
    times = time_models(models, np.zeros((5, 48, 48), np.uint8))
    assert calls == [("first", 1), ("first", 32), ("second", 1), ("second", 32)] * 4
    np.testing.assert_allclose(times, [(2, 4), (6, 8)])


def test_table_fits_a_terminal():
    rows = [ROW, ROW | {"name": "ensemble_of_the_three_best_ones_of_all", "multiply_adds": None}]
    lines = comparison_lines(rows)
    assert max(map(len, lines)) <= 100
    text = "\n".join(lines)
    for shown in ("66.00%", "64.00% to 68.00%", "0.640", "6.2 MB", "1.51 M", "142 M", "1.50"):
        assert shown in text
    assert "ensemble_of_th…t_ones_of_all" in text
    assert "–" in text
    assert "a machine" in lines[-1]
    names = [f"a_class_named_{number}" for number in range(20)]
    lines = comparison_lines([ROW | {"f1": dict.fromkeys(names)}])
    assert max(map(len, lines)) <= 100, "many classes go on below"
    assert " ".join(lines).split().count("a_class_named_19") == 1


def test_files(tmp_path):
    rows = [ROW, ROW | {"f1": ROW["f1"] | {"sad": None}, "multiply_adds": None}]
    folder = tmp_path / "new" / "folder"
    write_comparison(folder, rows)
    names = {f"comparison.{kind}" for kind in ("csv", "json", "png")}
    assert {path.name for path in folder.iterdir()} == names
    content = json.loads((folder / "comparison.json").read_text())
    assert content[0]["f1"] == ROW["f1"]
    assert content[1]["multiply_adds"] is None
    with (folder / "comparison.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert float(first["accuracy_high"]) == 0.68
    assert float(first["f1_angry"]) == 0.5
    assert (second["f1_sad"], second["multiply_adds"]) == ("", "")
    with Image.open(folder / "comparison.png") as picture:
        assert min(picture.size) > 800


def test_labels_of_the_plot_do_not_overlap():
    rows = [ROW | {"name": f"model_{n}", "accuracy": 0.66 + n / 1e4} for n in range(16)]
    figure = draw(draw_comparison, rows)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # the extent of the words alone: an annotation's own reaches along its line
    boxes = [Text.get_window_extent(text, canvas.get_renderer()) for text in figure.axes[0].texts]
    assert len(boxes) == 16
    heights = sorted((box.y0, box.y1) for box in boxes)
    assert all(below[1] <= above[0] for below, above in pairwise(heights))
    assert all(figure.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))
