import json

import numpy as np
import pandas as pd
import pytest
from tracked_faces import frame, frames_at, tracked

from emotion.errors import TableError
from emotion.video.summary import (
    MOST_LINES,
    SummaryBuilder,
    TrackSummary,
    summary_lines,
    write_summary,
)


def summary_of(frames):
    builder = SummaryBuilder()
    for each in frames:
        builder.add(each)
    return builder.result()


def test_a_frame_lasts_until_the_next_and_the_last_as_long_as_the_mean():
    faces = {0.0: [tracked(1)], 1.0: [tracked(1, "angry")], 5.0: [tracked(1, "neutral")]}
    (track,) = summary_of(frames_at([0.0, 1.0, 5.0], faces)).tracks
    assert track.seconds_by_emotion == pytest.approx({"happy": 1, "angry": 4, "neutral": 2.5})
    assert (track.first_s, track.last_s, track.seconds) == pytest.approx((0, 7.5, 7.5))
    assert track.emotion == "angry"


def test_frames_at_uneven_times_count_by_their_time():
    times_s = np.cumsum([0, *np.random.default_rng(0).uniform(0.01, 0.3, 200)]).tolist()
    frames = [frame(i, t, tracked(1, "happy" if i % 2 else "angry")) for i, t in enumerate(times_s)]
    (track,) = summary_of(frames).tracks
    gaps = np.diff([*times_s, times_s[-1] + times_s[-1] / 200])
    assert track.seconds_by_emotion["happy"] == pytest.approx(gaps[1::2].sum())
    assert track.seconds == pytest.approx(gaps.sum())


def test_unsure_time_is_no_emotions_time():
    faces = {0.0: [tracked(1, "happy")], 1.0: [tracked(1, "angry", 0.4, sure=False)]}
    (track,) = summary_of(frames_at([0.0, 1.0], faces)).tracks
    assert track.unsure_s == 1
    assert track.seconds_by_emotion == {"angry": 0, "happy": 1, "neutral": 0}
    assert track.shares == {"angry": 0, "happy": 0.5, "neutral": 0, "unsure": 0.5}
    assert track.mean_probabilities == pytest.approx({"angry": 0.25, "happy": 0.55, "neutral": 0.2})


def test_a_track_that_is_never_sure_has_no_emotion():
    (track,) = summary_of([frame(0, 0.0, tracked(1, sure=False))]).tracks
    assert track.emotion is None
    assert track.shares["unsure"] == 1


@pytest.mark.parametrize(
    ("seconds", "unsure_s", "verdict"),
    [
        ({"happy": 3.0, "sad": 1.0}, 2.0, "happy"),
        ({"happy": 1.0, "sad": 0.0}, 1.0, "happy"),
        ({"happy": 1.0, "sad": 0.9}, 2.0, "unsure: happy or sad"),
        ({"happy": 0.0, "sad": 0.0}, 2.0, "unsure: happy or sad"),
    ],
)
def test_the_verdict_is_what_was_seen_for_longest(seconds, unsure_s, verdict):
    means = {"happy": 0.6, "sad": 0.4}
    track = TrackSummary(1, 0.0, 9.0, 9, 9.0, seconds, unsure_s, means)
    assert track.verdict == track.to_dict()["verdict"] == verdict


def test_a_gap_is_not_time_seen():
    faces = {0.0: [tracked(1)], 3.0: [tracked(1)]}
    (track,) = summary_of(frames_at([0.0, 1.0, 2.0, 3.0], faces)).tracks
    assert (track.first_s, track.last_s, track.seconds, track.frames) == (0, 4, 2, 2)


def test_the_whole_video_is_told_by_the_number_of_faces():
    faces = {1.0: [tracked(2)], 2.0: [tracked(1), tracked(2), tracked(3)], 3.0: [tracked(1)]}
    summary = summary_of(frames_at([0.0, 1.0, 2.0, 3.0], faces))
    presence = summary.no_face_s, summary.one_face_s, summary.several_faces_s
    assert presence == (1, 2, 1)
    assert (summary.duration_s, summary.frames, summary.most_faces) == (4, 4, 3)
    assert [track.track for track in summary.tracks] == [1, 2, 3]


def test_a_video_of_one_frame_and_of_none():
    assert summary_of([]).to_dict()["tracks"] == []
    summary = summary_of([frame(0, 0.0, tracked(1))])
    assert 0 < summary.tracks[0].seconds == summary.duration_s < 0.1


def two_tracks():
    faces = {t: [tracked(1), tracked(7, "angry", sure=t > 0)] for t in (0.0, 1.0)}
    return summary_of(frames_at([0.0, 1.0], faces))


def test_json_has_the_summary_and_what_it_is_of(tmp_path):
    path = tmp_path / "a.json"
    write_summary(path, two_tracks(), {"video": "film.mp4"})
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content == {"video": "film.mp4"} | two_tracks().to_dict()
    assert content["tracks"][1]["shares"] == {"angry": 0.5, "happy": 0, "neutral": 0, "unsure": 0.5}


def test_csv_opens_in_pandas_with_a_row_a_track(tmp_path):
    path, empty = tmp_path / "a.csv", tmp_path / "empty.csv"
    write_summary(path, two_tracks())
    table = pd.read_csv(path)
    write_summary(empty, summary_of(frames_at([0.0, 1.0])))
    assert pd.read_csv(empty).empty
    assert table["track"].tolist() == [1, 7]
    assert table["seconds_unsure"].tolist() == [0, 1]
    assert table.loc[1, "share_angry"] == 0.5
    assert table.columns.tolist() == list(two_tracks().tracks[0].row())
    assert table["verdict"].tolist() == ["happy", "angry"]
    numbers = table.drop(columns=["emotion", "verdict"])
    assert all(pd.api.types.is_numeric_dtype(numbers[name]) for name in numbers)


@pytest.mark.parametrize("name", ["a.txt", "a", "a.parquet"])
def test_another_suffix_is_a_sentence(tmp_path, name):
    with pytest.raises(TableError, match=r"\.json or \.csv"):
        write_summary(tmp_path / name, two_tracks())


@pytest.mark.parametrize("name", ["a.json", "a.csv"])
def test_a_summary_that_cannot_be_written_is_a_sentence(tmp_path, name):
    with pytest.raises(TableError, match=name):
        write_summary(tmp_path / "no" / name, two_tracks())


def test_lines_for_a_terminal():
    head, _, columns, *rows = summary_lines(two_tracks())
    assert head.startswith("2.0 s, 2 frames")
    assert head.endswith("several faces 100%")
    assert columns.split()[:4] == ["face", "from", "to", "seen"]
    assert rows == [
        "     1     0.0 s     2.0 s     2.0 s   ########## happy 100%",
        "     7     0.0 s     2.0 s     2.0 s   #####      angry 50%, unsure 50%",
    ]
    (line,) = summary_lines(summary_of(frames_at([0.0, 1.0])))
    assert line.endswith("no face 100%")
    assert len(summary_lines(summary_of([]))) == 1


def test_thousands_of_short_tracks_are_few_lines_and_little_memory():
    builder = SummaryBuilder()
    for index in range(3000):
        builder.add(frame(index, index / 10, tracked(1), tracked(index + 2)))
    lines = summary_lines(builder.result())
    assert len(lines) == MOST_LINES + 4
    assert lines[3].split()[:1] == ["1"]
    assert "2,989" in lines[-1]
    assert "4:59" in lines[-1]
    assert max(map(len, lines)) <= 80
