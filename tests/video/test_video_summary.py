"""What a table, a summary and a timeline of a video hold, on faces that were never filmed."""

import io
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from emotion.faces import Face
from emotion.video import summary as summaries
from emotion.video.outputs import frame_rows, video_columns
from emotion.video.summary import SummaryBuilder, TrackSummary, summary_lines, write_summary
from emotion.video.timeline import draw, render, write_timeline
from emotion.video.tracking import FrameFaces, TrackedFace

IMAGE = np.zeros((2, 2, 3), np.uint8)
NAMES = ("angry", "happy", "neutral")


def tracked(track, emotion="happy", probability=0.8, sure=True, names=NAMES) -> TrackedFace:
    """Return a face whose answer is `emotion`; the other classes share what is left."""
    rest = (1 - probability) / (len(names) - 1)
    chances = {name: probability if name == emotion else rest for name in names}
    return TrackedFace(track, Face((1, 2, 30, 40), 4.5, chances, sure=sure), {}, True)


def summary_of(times_s, faces=lambda time_s: ()):
    """Return the summary of a frame for each time; `faces` gives the faces of a time."""
    builder = SummaryBuilder()
    for index, time_s in enumerate(times_s):
        builder.add(FrameFaces(index, time_s, IMAGE, faces(time_s)))
    return builder.result()


def test_frames_at_uneven_times_count_by_their_time():
    times_s = np.cumsum([0, *np.random.default_rng(0).uniform(0.01, 0.3, 200)]).tolist()
    emotions = {time_s: ("angry", "happy")[index % 2] for index, time_s in enumerate(times_s)}
    (track,) = summary_of(times_s, lambda time_s: [tracked(1, emotions[time_s])]).tracks
    gaps = np.diff([*times_s, times_s[-1] + times_s[-1] / 200])
    assert track.seconds_by_emotion["happy"] == pytest.approx(gaps[1::2].sum())
    assert track.seconds == pytest.approx(gaps.sum())


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


def test_stretches_hold_one_answer_each():
    said = {0.0: ("happy", 0.9), 1.0: ("happy", 0.6), 2.0: None, 3.0: ("happy", 0.6)}
    said |= {4.0: ("angry", 0.4), 4.5: ("neutral", 0.8)}
    faces = {t: [tracked(1, *one, sure=one[1] > 0.5)] if one else [] for t, one in said.items()}
    summary = summary_of(faces, faces.get)
    (track,) = summary.tracks
    expected = [(0, 1, "happy", 0.9), (1, 1, "happy", 0.6), (3, 1, "happy", 0.6)]
    expected += [(4, 0.5, "unsure", 0.4), (4.5, 0.9, "neutral", 0.8)]
    for found, (start_s, length_s, *answer) in zip(track.stretches(), expected, strict=True):
        assert found[:2] == pytest.approx((start_s, length_s), abs=0.05)
        assert list(found[2:]) == answer
    changing = summary_of(range(3000), lambda n: [tracked(1, NAMES[n % 3])]).tracks[0]
    assert len(changing.stretches()) <= summaries.MOST_PARTS


def test_the_whole_video_is_told_by_the_number_of_faces():
    numbers = [(), (2,), (1, 2, 3), (1,), (2,)]
    summary = summary_of(range(5), lambda time_s: [tracked(n) for n in numbers[time_s]])
    presence = summary.no_face_s, summary.one_face_s, summary.several_faces_s
    assert presence == (1, 3, 1)
    assert (summary.duration_s, summary.frames, summary.most_faces) == (5, 5, 3)
    assert [track.track for track in summary.tracks] == [1, 2, 3]
    gap = summary.tracks[1]  # away at 3 s
    assert (gap.first_s, gap.last_s, gap.seconds, gap.frames) == (1, 5, 3, 3)
    assert summary_of([]).to_dict()["tracks"] == []
    alone = summary_of([0.0], lambda _: [tracked(1)])
    assert 0 < alone.tracks[0].seconds == alone.duration_s < 0.1


def two_tracks():
    return summary_of([0.0, 1.0], lambda t: [tracked(1), tracked(7, "angry", sure=t > 0)])


def test_files_hold_the_summary(tmp_path):
    path = tmp_path / "a.json"
    write_summary(path, two_tracks(), {"video": "film.mp4"})
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content == {"video": "film.mp4"} | two_tracks().to_dict()
    track = content["tracks"][1]
    assert track["shares"] == {"angry": 0.5, "happy": 0, "neutral": 0, "unsure": 0.5}
    assert track["seconds_by_emotion"] == {"angry": 1, "happy": 0, "neutral": 0}
    assert track["mean_probabilities"] == pytest.approx(
        {"angry": 0.8, "happy": 0.1, "neutral": 0.1}
    )
    path = tmp_path / "a.csv"
    write_summary(path, two_tracks(), {})
    table = pd.read_csv(path)
    assert table["track"].tolist() == [1, 7]
    assert table["seconds_unsure"].tolist() == [0, 1]
    assert table.loc[1, "share_angry"] == 0.5
    assert table["verdict"].tolist() == ["happy", "angry"]
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
    assert len(summary_lines(summary_of([]))) == 1
    # hundreds of short tracks are few lines
    lines = summary_lines(summary_of(range(600), lambda t: [tracked(1), tracked(t + 2)]))
    assert len(lines) == summaries.MOST_LINES + 4
    assert "589" in lines[-1]


def test_a_face_is_a_row_with_smoothed_and_raw_probabilities():
    face = Face((1, 2, 30, 40), 4.56789, {"a": 0.45, "b": 0.45, "c": 0.1}, ("small", "dark"), False)
    raw = {"a": 0.1, "b": 0.9, "c": 0.0}
    seen = TrackedFace(3, face, raw, is_detected=False)
    frame = FrameFaces(9, 0.1234567, IMAGE, (seen, tracked(2)))
    first, second = frame_rows(frame)
    expected = {
        **{"frame": 9, "timestamp_s": 0.123457, "track": 3},
        **{"x": 1, "y": 2, "width": 30, "height": 40, "score": 4.5679, "detected": False},
        **{"emotion": "a", "confidence": 0.45, "sure": False},
        **{"agreement": None, "candidates": "a, b"},
        **{"probability_a": 0.45, "probability_b": 0.45, "probability_c": 0.1},
        **{"raw_probability_a": 0.1, "raw_probability_b": 0.9, "raw_probability_c": 0.0},
        "notes": "small; dark",
        "verdict": "unsure: a 45% or b 45%",
    }
    assert first == expected
    assert list(video_columns("abc")) == list(expected)
    assert second["track"] == 2
    assert frame_rows(replace(frame, faces=())) == [{"frame": 9, "timestamp_s": 0.123457}]
    page = (Path(__file__).resolve().parents[2] / "docs" / "video.md").read_text("utf-8")
    table = page.split("### The columns of the table")[1].split("```")[0]
    assert all(f"`{name}`" in table for name in video_columns(["angry"]))


SVG = "{http://www.w3.org/2000/svg}"


def film(count=50, tracks=(1,), names=NAMES):
    """Return the summary of faces that change their emotion every ten frames of 25 a second."""

    def faces(time_s):
        emotion = names[round(time_s * 25) // 10 % len(names)]
        return [tracked(track, emotion, names=names) for track in tracks]

    return summary_of([index / 25 for index in range(count)], faces)


def texts(summary) -> list[str]:
    figure = draw(summary)
    (axes,) = figure.axes
    legend = [text for each in figure.legends for text in each.get_texts()]
    return [text.get_text() for text in (*axes.texts, *figure.texts, *legend)]


@pytest.mark.parametrize(("name", "tracks"), [("a.PNG", 0), ("c.png", 9)])
def test_a_picture_is_1600_pixels_wide_and_has_the_colours_of_the_answers(tmp_path, name, tracks):
    write_timeline(tmp_path / name, film(20, range(tracks)), "film.mp4")
    with Image.open(io.BytesIO((tmp_path / name).read_bytes())) as image:
        drawn = np.asarray(image.convert("RGB"))
    assert drawn.shape[1] == 1600
    assert 250 <= drawn.shape[0] <= 1300
    for color in ((213, 94, 0), (240, 228, 66)) if tracks else ():
        assert (drawn == color).all(axis=2).sum() > 10_000
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_screen_reader_is_told_what_an_svg_shows():
    svg = ElementTree.fromstring(render(film(), "<a> & b.mp4", "svg"))
    title, words = svg.find(f"{SVG}title"), svg.find(f"{SVG}desc")
    assert svg.get("role") == "img"
    assert round(float(svg.get("width").removesuffix("pt")) / 0.72) == 1600
    assert svg.get("aria-labelledby").split() == [title.get("id"), words.get("id")]
    assert title.text.endswith(": <a> & b.mp4")
    for part in ("2.0 s", "1 face", "Face 1", "angry 40%", "happy 40%", "neutral 20%"):
        assert part in words.text


def test_the_longest_faces_are_shown_and_the_others_counted():
    numbers = range(1, 31)
    summary = summary_of(range(40), lambda t: [tracked(n) for n in numbers if t < 10 or n > 20])
    shown = [track.track for track in summary.timelines]
    assert len(shown) == summaries.MOST_SHOWN
    assert shown == sorted(shown)
    assert set(range(21, 31)) <= set(shown)
    assert any("30 faces" in text and "10 are left out" in text for text in texts(summary))


def test_the_bins_hold_the_answers_over_time():
    faces = {0.0: [tracked(1, "angry", 0.9)], 0.04: [tracked(1, "happy", 0.4, sure=False)]}
    faces |= {0.08: [], 0.12: [tracked(1, "happy", 0.7)]}
    (track,) = summary_of(faces, faces.get).timelines
    assert track.edges_s == pytest.approx(np.arange(9) * 0.02)
    assert track.answers.tolist() == [0, 0, 3, 3, -1, -1, 1, 1]
    assert track.chances[[0, 2, 6]].max(axis=1) == pytest.approx([0.9, 0.4, 0.7])
    # a long pause fills all its bins
    (track,) = summary_of([0.0, 10.0], lambda time_s: [] if time_s else [tracked(1)]).timelines
    assert (track.answers == 1).all()
    assert track.edges_s[-1] == pytest.approx(10)


def test_an_hour_takes_no_more_memory_than_a_minute():
    builder = SummaryBuilder()
    for index in range(3600):
        # one face all the time, another for a part of each five seconds
        short = [tracked(2 + index // 5)] if index % 5 < 2 else []
        builder.add(FrameFaces(index, index, IMAGE, (tracked(1), *short)))
    bins = [len(sums.bins) for sums in builder._tracks.values()]
    assert sum(bins) <= 2 * summaries.MOST_BINS + len(bins)
    summary = builder.result()
    assert len(summary.tracks) == 1 + 3600 // 5
    assert summary.timelines[0].seconds == pytest.approx(3600)


TITLES = ("", "$x^$ a_b.mp4", "视频 😊.mp4", "two\nlines", "x" * 300, "nul \0", "lone \udcff")


def test_any_title_and_class_names_are_drawn_without_a_warning():
    for title in TITLES:
        ElementTree.fromstring(render(film(0), title, "svg"))
    for count in (1, 7):
        summary = film(tracks=range(count), names=("$happy$", "快乐", "a very long name", "_x"))
        assert render(summary, TITLES[-1], "png")
        assert "a very long…" in texts(summary)
