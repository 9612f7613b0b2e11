import builtins
import io
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor

import matplotlib
import numpy as np
import pytest
from PIL import Image
from tracked_faces import NAMES, frame, tracked

from emotion.errors import TableError
from emotion.video import timeline_picture
from emotion.video.timeline import MOST_KEPT, MOST_SHOWN, Timeline, check_timeline_suffix
from emotion.video.timeline_picture import draw, headline, render, tick_label, time_ticks

SIDES = ("width", "height")
SVG = "{http://www.w3.org/2000/svg}"


def timeline_of(frames, title="film.mp4", **more) -> Timeline:
    timeline = Timeline(title, **more)
    for each in frames:
        timeline.add(each)
    return timeline


def film(count=50, fps=25, tracks=(1,), names=NAMES):
    """Yield frames in which the faces change their emotion every ten frames."""
    for index in range(count):
        emotion = names[index // 10 % len(names)]
        faces = [tracked(track, emotion, names=names) for track in tracks]
        yield frame(index, index / fps, *faces)


def texts(figure) -> list[str]:
    """Return all that is written in a figure."""
    (axes,) = figure.axes
    legend = [text for each in figure.legends for text in each.get_texts()]
    return [text.get_text() for text in (*axes.texts, *figure.texts, *legend)]


@pytest.mark.parametrize(
    ("suffix", "tracks"), [(".PNG", 0), (".svg", 1), (".png", 3), (".svg", 20)]
)
def test_a_picture_is_1600_pixels_wide_and_a_sane_height(tmp_path, suffix, tracks):
    path = tmp_path / f"a{suffix}"
    timeline_of(film(20, tracks=range(tracks))).write(path)
    if suffix == ".svg":
        root = ElementTree.fromstring(path.read_bytes())
        width, height = (float(root.get(side).removesuffix("pt")) / 0.72 for side in SIDES)
    else:
        with Image.open(path) as image:
            width, height = image.size
    assert round(width) == 1600
    assert 250 <= height <= 1300
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_svg_is_told_by_screen_readers():
    svg = ElementTree.fromstring(render(timeline_of(film(), "<a> & b.mp4").data(), "svg"))
    title, words = svg.find(f"{SVG}title"), svg.find(f"{SVG}desc")
    assert svg.get("role") == "img"
    assert svg.get("aria-labelledby").split() == [title.get("id"), words.get("id")]
    assert title.text == "Emotions over time: <a> & b.mp4"
    assert words.text == (
        "2.0 s of video · 1 face. Face 1, seen for 2.0 s: angry 40%, happy 40%, neutral 20%."
    )


def test_the_words_of_a_timeline_without_a_face():
    assert timeline_of(film(tracks=())).describe() == "2.0 s of video · no face was seen."
    assert "No face was seen" in texts(draw(timeline_of(film(tracks=())).data()))


def test_few_faces_have_a_lane_for_each_emotion():
    written = texts(draw(timeline_of(film(tracks=(4, 9))).data()))
    assert [written.count(name) for name in NAMES] == [2, 2, 2]
    assert {"Face 4", "Face 9"} <= set(written)


def test_many_faces_have_ribbons_with_the_names_on_them():
    written = texts(draw(timeline_of(film(tracks=range(1, 10))).data()))
    assert [written.count(name) for name in NAMES] == [9 * 2 + 1, 9 * 2 + 1, 9 + 1]
    assert {"unsure", "not seen", "Face 9", "angry 40%"} <= set(written)


def test_the_longest_faces_are_shown_and_the_others_counted():
    frames = [
        frame(i, i / 10, *(tracked(track) for track in range(1, 31) if i < 10 or track > 20))
        for i in range(40)
    ]
    timeline = timeline_of(frames)
    shown = [ribbon.track for ribbon in timeline.data().ribbons]
    assert len(shown) == MOST_SHOWN
    assert shown == sorted(shown)
    assert set(range(21, 31)) <= set(shown)
    assert "30 faces, the 20 seen for longest are shown and 10 are left out" in timeline.describe()


def test_the_bins_hold_the_answers_over_time():
    ribbon = timeline_of(
        [
            frame(0, 0.0, tracked(1, "angry", 0.9)),
            frame(1, 0.04, tracked(1, "happy", 0.4, sure=False)),
            frame(2, 0.08),
            frame(3, 0.12, tracked(1, "happy", 0.7)),
        ]
    ).data()
    (ribbon,) = ribbon.ribbons
    assert ribbon.edges_s == pytest.approx(np.arange(9) * 0.02)
    assert ribbon.answers.tolist() == [0, 0, 3, 3, -1, -1, 1, 1]
    assert ribbon.heights[[0, 2, 6]] == pytest.approx([0.9, 0.4, 0.7])
    assert ribbon.is_candidate(0)[2:4].all()  # 0.3 of an unsure answer with 0.4 first
    assert dict(ribbon.shares) == pytest.approx(dict.fromkeys(("angry", "happy", "unsure"), 1 / 3))


@pytest.mark.parametrize("start_s", [0.0, 0.013, 3.7])
def test_widened_bins_hold_the_same_time(start_s):
    times_s = start_s + np.cumsum(np.random.default_rng(1).uniform(0.005, 0.2, 400))
    frames = [frame(i, t, tracked(1, NAMES[i % 3], 0.5 + i / 1000)) for i, t in enumerate(times_s)]
    (fine,), (coarse,) = (timeline_of(frames, most_bins=bins).data().ribbons for bins in (4000, 16))
    assert len(coarse.answers) <= 16 < len(fine.answers)
    assert coarse.answer_seconds == pytest.approx(fine.answer_seconds, rel=1e-4)
    assert sum(fine.answer_seconds) == pytest.approx(fine.seconds, rel=1e-4)
    assert coarse.edges_s[0] <= times_s[0] < coarse.edges_s[1]


def test_a_long_pause_fills_all_its_bins():
    (ribbon,) = timeline_of([frame(0, 0.0, tracked(1)), frame(1, 10.0)]).data().ribbons
    assert (ribbon.answers == 1).all()
    assert ribbon.edges_s[-1] == pytest.approx(10)


def test_more_frames_may_follow_a_picture():
    timeline = Timeline("film.mp4")
    for each in film():
        timeline.add(each)
        timeline.data()
    (ribbon,), (expected,) = timeline.data().ribbons, timeline_of(film()).data().ribbons
    assert ribbon.answers.tolist() == expected.answers.tolist()
    assert ribbon.seconds == expected.seconds


def test_an_hour_takes_no_more_memory_than_a_minute():
    timeline = Timeline("film.mp4")
    for index in range(3600 * 5):
        # one face all the time, another for a tenth of each five seconds
        short = [tracked(2 + index // 25)] if index % 25 < 3 else []
        timeline.add(frame(index, index / 5, tracked(1), *short))
    assert timeline._tracks[1]._sums.shape[0] <= 2 * timeline._most_bins
    assert len(timeline._tracks) <= 2 * MOST_KEPT
    data = timeline.data()
    assert data.left_out == 1 + 3600 // 5 - MOST_SHOWN
    assert data.ribbons[0].seconds == pytest.approx(3600)
    assert max(len(ribbon.answers) for ribbon in data.ribbons) <= timeline._most_bins


TITLES = ("", "$x^$ a_b.mp4", "视频 😊.mp4", "two\nlines", "x" * 300, "nul \0", "lone \udcff")


@pytest.mark.parametrize("title", TITLES, ids=ascii)
def test_any_title_is_drawn_without_a_warning(title):
    data = timeline_of((), title).data()
    assert render(data, "png")
    ElementTree.fromstring(render(data, "svg"))


@pytest.mark.parametrize("count", [1, 9])
def test_any_class_names_are_drawn_without_a_warning(count):
    names = ("$happy$", "快乐", "a very long name of a class", "_x")
    data = timeline_of(film(tracks=range(count), names=names)).data()
    assert render(data, "png")
    assert "a very long…" in texts(draw(data))


@pytest.mark.parametrize("frames", [[], [frame(0, 0.0, tracked(1))]], ids=len)
def test_a_video_of_one_frame_and_of_none_is_a_picture(frames):
    assert render(timeline_of(frames).data(), "png")


def test_pictures_are_drawn_by_many_threads_and_no_setting_is_touched():
    data = timeline_of(film(names=NAMES[:2])).data()
    # as a plain dict: to look at the backend through matplotlib would choose one
    before = dict.copy(matplotlib.rcParams)
    expected = render(data, "png")
    with ThreadPoolExecutor(3) as pool:
        pictures = list(pool.map(lambda _: render(data, "png"), range(3)))
    assert all(picture == expected for picture in pictures)
    assert dict.copy(matplotlib.rcParams) == before


def test_the_picture_has_the_colours_of_the_answers():
    data = timeline_of(film(tracks=range(9))).data()
    with Image.open(io.BytesIO(render(data, "png"))) as image:
        pixels = np.asarray(image.convert("RGB"))
    for color in ((213, 94, 0), (240, 228, 66), (200, 200, 200)):
        assert (pixels == color).all(axis=2).sum() > 10_000


@pytest.mark.parametrize(
    ("end_s", "first", "last", "count"),
    [
        (0.5, "0:00.0", "0:00.5", 6),
        (5, "0:00.0", "0:05.0", 11),
        (10, "0:00", "0:10", 11),
        (65, "0:00", "1:00", 7),
        (599, "0:00", "9:00", 10),
        (3600, "0:00:00", "1:00:00", 7),
        (10 * 3600, "0:00:00", "10:00:00", 11),
        (0, "0:00", "0:00", 1),
    ],
)
def test_times_of_the_axis(end_s, first, last, count):
    ticks = time_ticks(end_s)
    labels = [tick_label(tick, ticks) for tick in ticks]
    assert (labels[0], labels[-1], len(labels)) == (first, last, count)
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("name", ["a.jpg", "a", "a.pdf"])
def test_another_suffix_is_a_sentence(tmp_path, name):
    for refused in (check_timeline_suffix, Timeline().write):
        with pytest.raises(TableError, match=r"expected a timeline ending in \.png or \.svg; rec"):
            refused(tmp_path / name)


def test_a_picture_that_cannot_be_written_is_a_sentence(tmp_path):
    with pytest.raises(TableError, match=r"expected to write the timeline .*a\.png; received: No"):
        Timeline().write(tmp_path / "no" / "a.png")


def test_without_matplotlib_there_is_a_sentence(tmp_path, monkeypatch):
    real = builtins.__import__

    def without_matplotlib(name, *arguments):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    timeline = timeline_of(film())
    with pytest.raises(TableError, match=r"the package matplotlib .* pip install matplotlib"):
        timeline.write(tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


def test_the_title_is_the_name_of_the_video():
    assert headline(timeline_of(film()).data()) == "Emotions over time: film.mp4"
    assert headline(Timeline().data()) == "Emotions over time"
    assert timeline_picture.WIDTH_PX == 1600
