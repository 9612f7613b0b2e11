import json
from dataclasses import replace
from pathlib import Path

import pytest
from training_data import make_dataset, read_csv

from emotion.errors import DatasetError, ModelError
from emotion.labels import EMOTIONS
from emotion.model.keras import ModelFiles
from emotion.model.runtime import load_model
from emotion.training.measuring import comparison
from emotion.training.measuring.evaluation import evaluate_model

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "detection_model"
COLUMNS = (
    "name runtime images accuracy macro_f1 log_loss expected_calibration_error accuracy_interval "
    "f1 size_bytes parameters multiply_adds milliseconds_alone milliseconds_in_batch machine"
)


def test_rows_tell_what_evaluation_tells(tiny_model):
    split, seen = make_dataset(train=7, validation=7, test=70).split("test"), []
    stems = [tiny_model, SHIPPED, tiny_model]
    rows = comparison.compare_models(stems, split, seen.append)
    assert seen == [row["name"] for row in rows] == list(map(str, stems)), "of one name, or not"
    for row, stem in zip(rows[:2], stems, strict=False):
        expected = evaluate_model(load_model(stem), split)
        figures = expected.figures()
        figures["accuracy_interval"] = figures["accuracy_interval_95"]
        figures["f1"] = {line["class"]: line["f1"] for line in expected.per_class()}
        assert row == row | {name: figures[name] for name in row if name in figures}
        assert (row["images"], list(row)) == (70, COLUMNS.split())
        assert row["size_bytes"] == ModelFiles(stem).weights.stat().st_size
        assert min(row["milliseconds_alone"], row["milliseconds_in_batch"]) > 0
        assert "CPUs" in row["machine"]
    assert rows[0]["parameters"] == 4 * 9 + 4 + 484 * 7 + 7
    assert rows[1]["multiply_adds"] == 153_899_328, "counted by hand"
    with pytest.raises(ModelError, match="received none"):
        comparison.compare_models([], split, print)
    with pytest.raises(DatasetError, match=r"tiny.*bored"):
        comparison.compare_models(
            [tiny_model], replace(split, class_names=("bored", *EMOTIONS[1:])), print
        )


def test_table_fits_a_terminal_and_files_have_every_number(tmp_path):
    row = dict.fromkeys(COLUMNS.split(), 0.5) | {"name": "cnn", "machine": "a machine"}
    row |= {"accuracy": 0.66, "accuracy_interval": (0.64, 0.68), "macro_f1": 0.64}
    row |= {"size_bytes": 6_200_000, "parameters": 1_507_751, "multiply_adds": 142_223_104}
    row |= {"f1": dict.fromkeys((*EMOTIONS, *"abcdef"), 0.5), "milliseconds_alone": 1.5}
    other = {"name": "ensemble_of_the_three_best_ones_of_all", "multiply_adds": None}
    rows = [row, row | other | {"f1": row["f1"] | {"sad": None}}]
    lines = comparison.comparison_lines(rows)
    text = "\n".join(lines)
    assert max(map(len, lines)) <= 100
    for shown in (
        *("66.00%", "64.00% to 68.00%", "0.640", "6.2 MB", "1.51 M", "142 M", "1.50", "–"),
        *("ensemble_of_th…t_ones_of_all", "a machine"),
    ):
        assert shown in text
    folder = tmp_path / "new" / "folder"
    comparison.write_comparison(folder, rows)
    content = json.loads((folder / "comparison.json").read_text())
    assert (content[0]["f1"], content[1]["multiply_adds"]) == (row["f1"], None)
    first, second = read_csv(folder / "comparison.csv")
    assert (float(first["accuracy_high"]), float(first["f1_angry"])) == (0.68, 0.5)
    assert (second["f1_sad"], second["multiply_adds"]) == ("", "")
