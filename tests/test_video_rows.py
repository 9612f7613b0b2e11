from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tracked_faces import NAMES, frame, tracked

from emotion.faces import Face
from emotion.tables import TABLE_SUFFIXES, TableSink, pandas_types, read_rows
from emotion.video.rows import COLUMNS, frame_rows, video_columns


def test_columns_are_these_and_stay_in_this_order():
    assert list(video_columns(["a", "b"])) == [
        *("frame", "timestamp_s", "track", "x", "y", "width", "height", "score", "detected"),
        *("emotion", "confidence", "sure", "candidates"),
        *("probability_a", "probability_b", "raw_probability_a", "raw_probability_b"),
        *("notes", "verdict"),
    ]


def test_every_column_is_explained():
    assert all(meaning and name == name.lower() for name, _, meaning in COLUMNS)


@pytest.mark.parametrize("name", video_columns(["angry"]))
def test_every_column_is_in_the_documentation(name):
    page = (Path(__file__).resolve().parent.parent / "docs" / "video.md").read_text("utf-8")
    table = page.split("### The columns of the table")[1].split("```")[0]
    assert f"`{name}`" in table


def test_a_face_is_a_row_with_smoothed_and_raw_probabilities():
    face = Face((1, 2, 30, 40), 4.56789, {"a": 0.7, "b": 0.3}, ("small", "dark"))
    seen = replace(tracked(3), face=face, raw={"a": 0.1, "b": 0.9}, is_detected=False)
    assert frame_rows(frame(9, 0.1234567, seen)) == [
        {
            "frame": 9,
            "timestamp_s": 0.123457,
            "track": 3,
            "x": 1,
            "y": 2,
            "width": 30,
            "height": 40,
            "score": 4.5679,
            "detected": False,
            "emotion": "a",
            "confidence": 0.7,
            "sure": True,
            "candidates": "a",
            "probability_a": 0.7,
            "probability_b": 0.3,
            "raw_probability_a": 0.1,
            "raw_probability_b": 0.9,
            "notes": "small; dark",
            "verdict": "a 70%",
        }
    ]


def test_an_unsure_answer_names_its_candidates():
    face = Face((1, 2, 3, 4), 1.0, {"a": 0.45, "b": 0.45, "c": 0.1}, sure=False)
    (row,) = frame_rows(frame(0, 0, replace(tracked(1), face=face)))
    assert (row["sure"], row["emotion"], row["candidates"]) == (False, "a", "a, b")


def test_faces_of_a_frame_are_rows_in_order():
    rows = frame_rows(frame(0, 0.0, tracked(5), tracked(2)))
    assert [row["track"] for row in rows] == [5, 2]


def test_a_frame_without_a_face_is_a_row_of_frame_and_time():
    assert frame_rows(frame(4, 0.16)) == [{"frame": 4, "timestamp_s": 0.16}]


@pytest.mark.parametrize("suffix", TABLE_SUFFIXES)
def test_the_table_of_a_video_opens_in_pandas_with_the_right_types(tmp_path, suffix):
    path, columns = tmp_path / f"film{suffix}", video_columns(NAMES)
    box = tuple(np.int32((1, 2, 30, 40)))
    seen = replace(tracked(1), face=replace(tracked(1).face, box_xywh=box, score=np.float32(4)))
    frames = [frame(0, 0.0), frame(1, 0.04, seen), frame(2, 0.09, seen, tracked(2, sure=False))]
    rows = [row for each in frames for row in frame_rows(each)]
    with TableSink(path, columns) as sink:
        for row in rows:
            sink.write(row)
    types = pandas_types(columns)
    read = {
        ".csv": lambda: pd.read_csv(path, dtype=types),
        ".jsonl": lambda: pd.read_json(path, lines=True, dtype=types),
        ".parquet": lambda: pd.read_parquet(path),
    }
    table = read[suffix]()
    assert {name: str(kind) for name, kind in table.dtypes.items()} == types
    assert table["frame"].tolist() == [0, 1, 2, 2]
    assert table["timestamp_s"].tolist() == [0.0, 0.04, 0.09, 0.09]
    assert table["track"].isna().tolist() == [True, False, False, False]
    assert table.groupby("track")["confidence"].mean().tolist() == pytest.approx([0.8, 0.8])
    assert list(read_rows(path, columns)) == [dict.fromkeys(columns) | row for row in rows]
