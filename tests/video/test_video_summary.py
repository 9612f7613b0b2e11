"""What a table and a summary of a video hold."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tracked_faces import frame, summary_of, tracked

from emotion.faces import Face
from emotion.video.outputs import frame_rows, video_columns
from emotion.video.summary import MOST_LINES, TrackSummary, summary_lines, write_summary


def test_frames_at_uneven_times_count_by_their_time():
    times_s = np.cumsum([0, *np.random.default_rng(0).uniform(0.01, 0.3, 200)]).tolist()
    emotions = {time_s: ("angry", "happy")[index % 2] for index, time_s in enumerate(times_s)}
    (track,) = summary_of(times_s, lambda time_s: [tracked(1, emotions[time_s])]).tracks
    gaps = np.diff([*times_s, times_s[-1] + times_s[-1] / 200])
    assert track.seconds_by_emotion["happy"] == pytest.approx(gaps[1::2].sum())
    assert track.seconds == pytest.approx(gaps.sum())


def test_unsure_time_is_no_emotions_time():
    faces = {0.0: [tracked(1, "happy")], 1.0: [tracked(1, "angry", 0.4, sure=False)]}
    (track,) = summary_of(faces, faces.get).tracks
    assert track.seconds_by_emotion == {"angry": 0, "happy": 1, "neutral": 0}
    assert track.shares == {"angry": 0, "happy": 0.5, "neutral": 0, "unsure": 0.5}
    assert track.mean_probabilities == pytest.approx({"angry": 0.25, "happy": 0.55, "neutral": 0.2})


@pytest.mark.parametrize(
    ("seconds", "unsure_s", "emotion", "verdict"),
    [
        ({"happy": 3.0, "sad": 1.0}, 2.0, "happy", "happy"),
        ({"happy": 1.0, "sad": 0.9}, 2.0, "happy", "unsure: happy or sad"),
        ({"happy": 0.0, "sad": 0.0}, 2.0, None, "unsure: happy or sad"),
    ],
)
def test_the_verdict_is_what_was_seen_for_longest(seconds, unsure_s, emotion, verdict):
    means = {"happy": 0.6, "sad": 0.4}
    content = TrackSummary(1, 0.0, 9.0, 9, 9.0, seconds, unsure_s, means).to_dict()
    assert (content["emotion"], content["verdict"]) == (emotion, verdict)


def test_the_whole_video_is_told_by_the_number_of_faces():
    numbers = [(), (2,), (1, 2, 3), (1,), (2,)]
    summary = summary_of(range(5), lambda time_s: [tracked(n) for n in numbers[time_s]])
    presence = summary.no_face_s, summary.one_face_s, summary.several_faces_s
    assert presence == (1, 3, 1)
    assert (summary.duration_s, summary.frames, summary.most_faces) == (5, 5, 3)
    assert [track.track for track in summary.tracks] == [1, 2, 3]
    gap = summary.tracks[1]  # away at 3 s
    assert (gap.first_s, gap.last_s, gap.seconds, gap.frames) == (1, 5, 3, 3)


def test_a_video_of_one_frame_and_of_none():
    assert summary_of([]).to_dict()["tracks"] == []
    summary = summary_of([0.0], lambda _: [tracked(1)])
    assert 0 < summary.tracks[0].seconds == summary.duration_s < 0.1


def two_tracks():
    return summary_of([0.0, 1.0], lambda t: [tracked(1), tracked(7, "angry", sure=t > 0)])


def test_files_hold_the_summary(tmp_path):
    path = tmp_path / "a.json"
    write_summary(path, two_tracks(), {"video": "film.mp4"})
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content == {"video": "film.mp4"} | two_tracks().to_dict()
    assert content["tracks"][1]["shares"] == {"angry": 0.5, "happy": 0, "neutral": 0, "unsure": 0.5}
    path = tmp_path / "a.csv"
    write_summary(path, two_tracks(), {})
    table = pd.read_csv(path)
    assert table["track"].tolist() == [1, 7]
    assert table["seconds_unsure"].tolist() == [0, 1]
    assert table.loc[1, "share_angry"] == 0.5
    assert table["verdict"].tolist() == ["happy", "angry"]
    numbers = table.drop(columns=["emotion", "verdict"])
    assert all(pd.api.types.is_numeric_dtype(numbers[name]) for name in numbers)
    write_summary(path, summary_of([0.0, 1.0]), {})
    assert pd.read_csv(path).empty


def test_lines_for_a_terminal():
    head, _, _, *rows = summary_lines(two_tracks())
    assert head.startswith("2.0 s, 2 frames")
    assert head.endswith("several faces 100%")
    assert rows == [
        "     1     0.0 s     2.0 s     2.0 s   ########## happy 100%",
        "     7     0.0 s     2.0 s     2.0 s   #####      angry 50%, unsure 50%",
    ]
    (line,) = summary_lines(summary_of([0.0, 1.0]))
    assert line.endswith("no face 100%")
    assert len(summary_lines(summary_of([]))) == 1


def test_hundreds_of_short_tracks_are_few_lines():
    lines = summary_lines(summary_of(range(600), lambda t: [tracked(1), tracked(t + 2)]))
    assert len(lines) == MOST_LINES + 4
    assert lines[3].split()[:1] == ["1"]
    assert "589" in lines[-1]
    assert "9:49" in lines[-1]
    assert max(map(len, lines)) <= 80


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
