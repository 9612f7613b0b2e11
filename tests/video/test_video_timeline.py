"""The picture of a video over time, and the bins that it is drawn from."""

import io
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image
from tracked_faces import NAMES, frame, summary_of, tracked

from emotion.video import summary as summaries
from emotion.video.summary import MOST_BINS, MOST_KEPT, MOST_SHOWN, UNSURE, SummaryBuilder
from emotion.video.timeline import draw, render, write_timeline

SVG = "{http://www.w3.org/2000/svg}"


def film(count=50, tracks=(1,), names=NAMES):
    """Return the summary of faces that change their emotion every ten frames of 25 a second."""

    def faces(time_s):
        emotion = names[round(time_s * 25) // 10 % len(names)]
        return [tracked(track, emotion, names=names) for track in tracks]

    return summary_of([index / 25 for index in range(count)], faces)


def texts(summary) -> list[str]:
    """Return all that is written in a picture."""
    figure = draw(summary)
    (axes,) = figure.axes
    legend = [text for each in figure.legends for text in each.get_texts()]
    return [text.get_text() for text in (*axes.texts, *figure.texts, *legend)]


@pytest.mark.parametrize(("name", "tracks"), [("a.PNG", 0), ("b.svg", 1), ("c.png", 9)])
def test_a_picture_is_1600_pixels_wide_and_has_the_colours_of_the_answers(tmp_path, name, tracks):
    path = tmp_path / name
    write_timeline(path, film(20, range(tracks)), "film.mp4")
    if name.endswith("svg"):
        root = ElementTree.fromstring(path.read_bytes())
        sides = [float(root.get(side).removesuffix("pt")) / 0.72 for side in ("width", "height")]
    else:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            drawn = np.asarray(image.convert("RGB"))
        sides = drawn.shape[1::-1]
        for color in ((213, 94, 0), (240, 228, 66)) if tracks else ():
            assert (drawn == color).all(axis=2).sum() > 10_000
    assert round(sides[0]) == 1600
    assert 250 <= sides[1] <= 1300
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_screen_reader_is_told_what_an_svg_shows():
    svg = ElementTree.fromstring(render(film(), "<a> & b.mp4", "svg"))
    title, words = svg.find(f"{SVG}title"), svg.find(f"{SVG}desc")
    assert svg.get("role") == "img"
    assert svg.get("aria-labelledby").split() == [title.get("id"), words.get("id")]
    assert title.text.endswith(": <a> & b.mp4")
    for part in ("2.0 s", "1 face", "Face 1", "angry 40%", "happy 40%", "neutral 20%"):
        assert part in words.text


def test_few_faces_have_lanes_many_have_ribbons_with_names():
    assert "No face was seen" in texts(film(tracks=()))
    lanes = texts(film(tracks=(4, 9)))
    assert [lanes.count(name) for name in NAMES] == [2, 2, 2]
    assert {"Face 4", "Face 9"} <= set(lanes)
    ribbons = texts(film(tracks=range(1, 10)))
    assert [ribbons.count(name) for name in NAMES] == [9 * 2 + 1, 9 * 2 + 1, 9 + 1]
    assert {UNSURE, "not seen", "Face 9", "angry 40%"} <= set(ribbons)


def test_the_longest_faces_are_shown_and_the_others_counted():
    summary = summary_of(
        range(40), lambda time_s: [tracked(n) for n in range(1, 31) if time_s < 10 or n > 20]
    )
    shown = [track.track for track in summary.timelines]
    assert len(shown) == MOST_SHOWN
    assert shown == sorted(shown)
    assert set(range(21, 31)) <= set(shown)
    assert any("30 faces" in text and "10 are left out" in text for text in texts(summary))


def test_the_bins_hold_the_answers_over_time():
    faces = {
        0.0: [tracked(1, "angry", 0.9)],
        0.04: [tracked(1, "happy", 0.4, sure=False)],
        0.08: [],
        0.12: [tracked(1, "happy", 0.7)],
    }
    (track,) = summary_of(faces, faces.get).timelines
    assert track.edges_s == pytest.approx(np.arange(9) * 0.02)
    assert track.answers.tolist() == [0, 0, 3, 3, -1, -1, 1, 1]
    assert track.chances[[0, 2, 6]].max(axis=1) == pytest.approx([0.9, 0.4, 0.7])
    # a long pause fills all its bins
    (track,) = summary_of([0.0, 10.0], lambda time_s: [] if time_s else [tracked(1)]).timelines
    assert (track.answers == 1).all()
    assert track.edges_s[-1] == pytest.approx(10)


@pytest.mark.parametrize("start_s", [0.0, 3.7])
def test_widened_bins_hold_the_same_time(start_s, monkeypatch):
    times_s = start_s + np.cumsum(np.random.default_rng(1).uniform(0.005, 0.2, 400))
    tracks = []
    for bins in (4000, 16):
        monkeypatch.setattr(summaries, "MOST_BINS", bins)
        tracks += summary_of(times_s, lambda t: [tracked(1, NAMES[int(t / 5) % 3])]).timelines
    fine, coarse = tracks
    assert fine == coarse
    assert len(coarse.answers) <= 16 < len(fine.answers)
    assert coarse.edges_s[0] <= times_s[0] < coarse.edges_s[1]
    middles_s = (coarse.edges_s[1:] + coarse.edges_s[:-1]) / 2
    same = fine.answers[np.searchsorted(fine.edges_s, middles_s) - 1] == coarse.answers
    assert same.mean() > 0.7


def test_an_hour_takes_no_more_memory_than_a_minute():
    builder = SummaryBuilder()
    for index in range(3600):
        # one face all the time, another for a part of each five seconds
        short = [tracked(2 + index // 5)] if index % 5 < 2 else []
        builder.add(frame(index, index, tracked(1), *short))
    bins = [len(sums.bins) for sums in builder._tracks.values() if sums.bins]
    assert len(bins) <= 2 * MOST_KEPT + 1
    assert max(bins) <= MOST_BINS
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
