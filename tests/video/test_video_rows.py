from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tracked_faces import NAMES, frame, tracked

from emotion.faces import Face
from emotion.tables import TABLE_SUFFIXES, TableSink
from emotion.video.rows import frame_rows, video_columns


def test_every_column_is_in_the_documentation():
    page = (Path(__file__).resolve().parents[2] / "docs" / "video.md").read_text("utf-8")
    table = page.split("### The columns of the table")[1].split("```")[0]
    assert all(f"`{name}`" in table for name in video_columns(["angry"]))


def test_a_face_is_a_row_with_smoothed_and_raw_probabilities():
    face = Face((1, 2, 30, 40), 4.56789, {"a": 0.45, "b": 0.45, "c": 0.1}, ("small", "dark"), False)
    raw = {"a": 0.1, "b": 0.9, "c": 0.0}
    seen = replace(tracked(3), face=face, raw=raw, is_detected=False)
    first, second = frame_rows(frame(9, 0.1234567, seen, tracked(2)))
    expected = {
        **{"frame": 9, "timestamp_s": 0.123457, "track": 3},
        **{"x": 1, "y": 2, "width": 30, "height": 40, "score": 4.5679, "detected": False},
        **{"emotion": "a", "confidence": 0.45, "sure": False, "candidates": "a, b"},
        **{"probability_a": 0.45, "probability_b": 0.45, "probability_c": 0.1},
        **{"raw_probability_a": 0.1, "raw_probability_b": 0.9, "raw_probability_c": 0.0},
        "notes": "small; dark",
        "verdict": "unsure: a 45% or b 45%",
    }
    assert first == expected
    assert list(video_columns("abc")) == list(expected)
    assert second["track"] == 2
    assert frame_rows(frame(4, 0.16)) == [{"frame": 4, "timestamp_s": 0.16}]


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
def test_the_table_of_a_video_opens_in_pandas(tmp_path, suffix):
    path, columns = tmp_path / f"film{suffix}", video_columns(NAMES)
    box = tuple(np.int32((1, 2, 30, 40)))
    seen = replace(tracked(1), face=replace(tracked(1).face, box_xywh=box, score=np.float32(4)))
    frames = [frame(0, 0.0), frame(1, 0.04, seen), frame(2, 0.09, seen, tracked(2, sure=False))]
    with TableSink(path, columns) as sink:
        for row in (row for each in frames for row in frame_rows(each)):
            sink.write(row)
    nullable = {"dtype_backend": "numpy_nullable"}
    read = {
        ".csv": lambda: pd.read_csv(path, **nullable),
        ".jsonl": lambda: pd.read_json(path, lines=True, **nullable),
        ".parquet": lambda: pd.read_parquet(path),
    }
    table = read[suffix]()
    assert list(table) == list(columns)
    kinds = {int: pd.api.types.is_integer_dtype, bool: pd.api.types.is_bool_dtype}
    assert all(kinds[kind](table[name]) for name, kind in columns.items() if kind in kinds)
    assert table["frame"].tolist() == [0, 1, 2, 2]
    assert table["timestamp_s"].tolist() == [0.0, 0.04, 0.09, 0.09]
    assert table["track"].isna().tolist() == [True, False, False, False]
    assert table.groupby("track")["confidence"].mean().tolist() == pytest.approx([0.8, 0.8])
