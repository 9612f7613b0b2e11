"""How a timeline looks: lanes for few faces, ribbons for many; no state, no files.

A few faces have a lane for each emotion, so that place, and not colour alone, says which one
it is. More faces have a ribbon each, with the names written on it where there is room. The height
of a colour is the probability; what is hatched is unsure; where nothing is drawn, the face was not
seen.
"""

import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType

import numpy as np

from emotion.errors import TableError
from emotion.faces import CANDIDATE_SHARE
from emotion.labels import color_rgb
from emotion.video.summary import UNSURE, clock_time, seconds_text

MOST_LANES = 24
"""Three faces of eight emotions; more faces have a ribbon each."""

WIDTH_PX, LEFT_PX, RIGHT_PX = 1600, 150, 50
PLOT_PX = WIDTH_PX - LEFT_PX - RIGHT_PX
TOP_PX, AXIS_PX, LEGEND_PX = 104, 60, 60
HEAD_PX, PANEL_GAP_PX = 40, 18
LARGEST_LANE_PX, ALL_LANES_PX = 56, 800
SMALLEST_RIBBON_PX, LARGEST_RIBBON_PX, ALL_RIBBONS_PX = 48, 110, 720
RIBBON_SHARE = 0.78
"""Share of a ribbon's place that it fills."""

DOTS_PER_INCH = 100
SMALL_PT, TEXT_PT, TITLE_PT = 10, 11, 17
LETTER_PX = 0.62 * TEXT_PT / 72 * DOTS_PER_INCH
"""Mean width of a letter of DejaVu Sans."""

FONT = "DejaVu Sans"
MORE_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),
    *("PingFang SC", "Hiragino Sans", "Arial Unicode MS", "Noto Sans Devanagari"),
)
"""Fonts for letters that the first one has not, where they are installed."""

LONGEST_TITLE, LONGEST_NAME = 90, 12

INK, MUTED, GRID, FIELD, PAPER = "#1b1f24", "#5b636c", "#d5dade", "#f1f3f5", "#ffffff"
HATCH, HATCH_INK, HATCH_PT = "/////", "#7d868f", 0.8
CLEAR = MappingProxyType({"facecolor": PAPER, "edgecolor": "none", "pad": 1})
"""The ground of words that the lines of the grid would cross."""

PALE = 0.28
"""Opacity of what might be the answer but is not."""

MOST_TICKS = 11
TICK_STEPS_S = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400),
)


@dataclass(frozen=True)
class Ribbon:
    """What the picture shows of one face.

    Attributes:
        track: its number.
        names: the classes.
        seconds: how long it was seen.
        answer_seconds: seconds of each sure answer, then the unsure ones.
        edges_s: (bins + 1,) where each bin begins and ends.
        answers: (bins,) position of the class that was the sure answer for longest, the number of
            classes where that is unsure, -1 where the face was not seen.
        chances: (bins, classes) mean probabilities while it was seen.
    """

    track: int
    names: tuple[str, ...]
    seconds: float
    answer_seconds: tuple[float, ...]
    edges_s: np.ndarray
    answers: np.ndarray
    chances: np.ndarray

    @property
    def is_unsure(self) -> np.ndarray:
        """(bins,) whether there was mostly no sure answer."""
        return self.answers == len(self.names)

    @property
    def heights(self) -> np.ndarray:
        """(bins,) mean probability of the answer, or of the most probable class where unsure."""
        by_answer = np.column_stack([self.chances, self.chances.max(axis=1)])
        return np.take_along_axis(by_answer, self.answers[:, None], axis=1)[:, 0]

    def is_candidate(self, class_index: int) -> np.ndarray:
        """(bins,) whether an unsure answer would name this class."""
        chances = self.chances[:, class_index]
        return chances >= CANDIDATE_SHARE * self.chances.max(axis=1)

    @property
    def shares(self) -> list[tuple[str, float]]:
        """Return (emotion or "unsure", share of the time seen), largest first."""
        total = sum(self.answer_seconds) or 1
        entries = zip((*self.names, UNSURE), self.answer_seconds, strict=True)
        shares = [(name, seconds / total) for name, seconds in entries if seconds]
        return sorted(shares, key=lambda entry: -entry[1])


@dataclass(frozen=True)
class TimelineData:
    """All that the picture shows; `left_out` counts the faces that it does not."""

    title: str
    end_s: float
    ribbons: tuple[Ribbon, ...]
    left_out: int


@dataclass(frozen=True)
class Strip:
    """One ribbon or lane, from `bottom` to `top` in pixels of the plot; a lane has a class."""

    ribbon: Ribbon
    bottom: float
    top: float
    class_index: int | None = None


def render(data: TimelineData, form: str) -> bytes:
    """Return the picture as the bytes of a "png" or "svg" file.

    Raises:
        TableError: matplotlib is not installed.
    """
    content = io.BytesIO()
    figure = draw(data)
    if form == "png":
        figure.savefig(content, format="png", dpi=DOTS_PER_INCH, metadata={"Title": headline(data)})
        return content.getvalue()
    figure.savefig(content, format="svg", metadata={"Title": headline(data), "Date": None})
    return _accessible(content.getvalue().decode(), data).encode()


def draw(data: TimelineData):
    """Return the matplotlib figure of a timeline; no setting of matplotlib is touched.

    Raises:
        TableError: matplotlib is not installed.
    """
    has_lanes = 0 < sum(len(ribbon.names) for ribbon in data.ribbons) <= MOST_LANES
    strips, plot_px = (_lanes if has_lanes else _ribbons)(data.ribbons)
    height_px = TOP_PX + plot_px + AXIS_PX + LEGEND_PX
    figure = _figure(height_px)
    axes = _axes(figure, data, plot_px, height_px)
    _write_head(figure, data, height_px)
    if not strips:
        look = {"size": TITLE_PT, "color": MUTED, "ha": "center", "va": "center", "bbox": CLEAR}
        _write(axes, (data.end_s or 1) / 2, plot_px / 2, "No face was seen", **look)
        return figure
    for strip in strips:
        _draw_strip(axes, strip, (data.end_s or 1) / PLOT_PX)
    _draw_legend(figure, data, has_lanes, height_px)
    return figure


def headline(data: TimelineData) -> str:
    """Return the title of the picture."""
    return _visible(f"Emotions over time: {data.title}" if data.title else "Emotions over time")


def description(data: TimelineData) -> str:
    """Return in words what the picture shows, for those who cannot see it."""
    return _visible(" ".join([f"{_extent(data)}.", *map(_face_words, data.ribbons)]))


def _visible(text: str) -> str:
    """Return a text on one line, without what no file and no screen can hold."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _face_words(ribbon: Ribbon) -> str:
    """Return one face as a sentence."""
    shares = ", ".join(f"{name} {_percent(share)}" for name, share in ribbon.shares)
    return f"Face {ribbon.track}, seen for {seconds_text(ribbon.seconds)}: {shares}."


def _extent(data: TimelineData) -> str:
    """Return how long the video is and how many faces are shown of how many."""
    shown, all_faces = len(data.ribbons), len(data.ribbons) + data.left_out
    faces = f"{all_faces:,} face{'s' * (all_faces != 1)}" if all_faces else "no face was seen"
    if data.left_out:
        faces += f", the {shown} seen for longest are shown and {data.left_out:,} are left out"
    return f"{seconds_text(data.end_s)} of video · {faces}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}%"


def _figure(height_px: float):
    """Return an empty figure of matplotlib's, which needs no window and no `pyplot`."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise TableError(
            "expected the package matplotlib for a timeline; it is not installed: "
            "pip install matplotlib"
        ) from error
    size = (WIDTH_PX / DOTS_PER_INCH, height_px / DOTS_PER_INCH)
    return Figure(figsize=size, facecolor=PAPER)


def _lanes(ribbons: Sequence[Ribbon]) -> tuple[list[Strip], float]:
    """Return a strip for each emotion of each face, from the top, and the height of all."""
    lanes = sum(len(ribbon.names) for ribbon in ribbons)
    lane_px = min(LARGEST_LANE_PX, ALL_LANES_PX / lanes)
    total = lanes * lane_px + len(ribbons) * (HEAD_PX + PANEL_GAP_PX) - PANEL_GAP_PX
    strips, top = [], total
    for ribbon in ribbons:
        top -= HEAD_PX
        for index in range(len(ribbon.names)):
            strips.append(Strip(ribbon, top - 0.9 * lane_px, top, index))
            top -= lane_px
        top -= PANEL_GAP_PX
    return strips, total


def _ribbons(ribbons: Sequence[Ribbon]) -> tuple[list[Strip], float]:
    """Return a strip for each face, from the top, and the height of all."""
    count = max(1, len(ribbons))
    step = min(LARGEST_RIBBON_PX, max(SMALLEST_RIBBON_PX, ALL_RIBBONS_PX / count))
    gap = step * (1 - RIBBON_SHARE) / 2
    tops = [(count - number) * step - gap for number in range(len(ribbons))]
    strips = [
        Strip(ribbon, top - RIBBON_SHARE * step, top)
        for ribbon, top in zip(ribbons, tops, strict=True)
    ]
    return strips, count * step


def _axes(figure, data: TimelineData, plot_px: float, height_px: float):
    """Return axes in seconds and pixels, with the times below."""
    below_px = AXIS_PX + LEGEND_PX
    place = (LEFT_PX / WIDTH_PX, below_px / height_px, PLOT_PX / WIDTH_PX)
    axes = figure.add_axes((*place, plot_px / height_px))
    axes.set_facecolor(PAPER)
    axes.set(xlim=(0, data.end_s or 1), ylim=(0, plot_px), yticks=[])
    ticks = time_ticks(data.end_s)
    axes.set_xticks(ticks, [tick_label(tick, ticks) for tick in ticks])
    axes.tick_params(axis="x", colors=MUTED, labelcolor=INK, labelsize=TEXT_PT, length=5)
    axes.tick_params(axis="x", labelfontfamily=FONT)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(MUTED)
    return axes


def time_ticks(end_s: float) -> list[float]:
    """Return the times that stand on the axis, in seconds: at most a dozen round ones."""
    step = next((step for step in TICK_STEPS_S if end_s / step <= MOST_TICKS), end_s / MOST_TICKS)
    return [number * step for number in range(int(end_s / step + 1e-9) + 1)]


def tick_label(seconds: float, ticks: Sequence[float]) -> str:
    """Return a time of the axis: h:mm:ss, m:ss or, where they stand closer, m:ss.s."""
    if len(ticks) > 1 and ticks[1] < 1:
        minutes, rest = divmod(round(seconds, 3), 60)
        return f"{minutes:.0f}:{rest:04.1f}"
    text = clock_time(seconds)
    return text if ticks[-1] < 3600 or seconds >= 3600 else f"0:{text:0>5}"


def _draw_strip(axes, strip: Strip, seconds_a_pixel: float) -> None:
    """Draw a lane or a ribbon with what stands left of it."""
    middle = (strip.bottom + strip.top) / 2
    if strip.class_index is None:
        _draw_ribbon(axes, strip, seconds_a_pixel)
        _beside(axes, middle + 8, f"Face {strip.ribbon.track}", size=TEXT_PT, weight="bold")
        _beside(axes, middle - 10, _most(strip.ribbon), size=SMALL_PT - 1, color=MUTED)
        return
    _draw_lane(axes, strip)
    _beside(axes, middle, _short_name(strip.ribbon.names[strip.class_index]), size=TEXT_PT)
    if strip.class_index == 0:
        _write_panel_head(axes, strip)


def _draw_ribbon(axes, strip: Strip, seconds_a_pixel: float) -> None:
    """Draw a face as one band, coloured by its answer."""
    ribbon = strip.ribbon
    _fill(axes, strip, ribbon.answers >= 0, 1, color=FIELD, linewidth=0)
    for index, color in enumerate(_colors(ribbon)):
        is_answer = ribbon.answers == index
        _fill(axes, strip, is_answer, 1, color=color, alpha=PALE, linewidth=0)
        _fill(axes, strip, is_answer, ribbon.heights, color=color, linewidth=0)
    _hatch(axes, strip, ribbon.is_unsure, ribbon.heights)
    _outline(axes, strip, ribbon.answers >= 0, ribbon.heights)
    for answer, middle_s in _labels(ribbon, seconds_a_pixel):
        _write_answer(axes, strip, answer, middle_s)


def _write_answer(axes, strip: Strip, answer: int, middle_s: float) -> None:
    """Write an answer into its stretch: below on its colour, or above the hatching."""
    look = {"size": SMALL_PT, "ha": "center"}
    if answer == len(strip.ribbon.names):
        _write(axes, middle_s, strip.top - 4, UNSURE, va="top", **look)
        return
    red, green, blue = _colors(strip.ribbon)[answer]
    is_dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.45
    look["color"] = PAPER if is_dark else INK
    name = _short_name(strip.ribbon.names[answer])
    _write(axes, middle_s, strip.bottom + 3, name, va="bottom", **look)


def _draw_lane(axes, strip: Strip) -> None:
    """Draw one emotion of a face: strong where it is the answer, pale where it might be."""
    ribbon, index = strip.ribbon, strip.class_index
    color, heights = _colors(ribbon)[index], ribbon.chances[:, index]
    is_seen, is_answer = ribbon.answers >= 0, ribbon.answers == index
    _fill(axes, strip, is_seen, 1, color=FIELD, linewidth=0)
    _fill(axes, strip, is_seen & ~is_answer, heights, color=color, alpha=PALE, linewidth=0)
    _hatch(axes, strip, ribbon.is_unsure & ribbon.is_candidate(index), heights)
    _fill(axes, strip, is_answer, heights, color=color, linewidth=0)
    _outline(axes, strip, is_seen & ~is_answer, heights, HATCH_INK)
    _outline(axes, strip, is_answer, heights)


def _colors(ribbon: Ribbon) -> list[tuple[float, ...]]:
    """Return the colours of the classes as matplotlib wants them."""
    names = ribbon.names
    return [tuple(part / 255 for part in color_rgb(name, names)) for name in names]


def _fill(axes, strip: Strip, mask: np.ndarray, heights, **look):
    """Fill the bins of a mask up to a share of the strip's height."""
    times_s, tops = _stairs(strip, mask, heights)
    return axes.fill_between(times_s, strip.bottom, tops, where=~np.isnan(tops), **look)


def _hatch(axes, strip: Strip, mask: np.ndarray, heights) -> None:
    """Hatch the bins of a mask: what is unsure."""
    look = {"facecolor": "none", "edgecolor": HATCH_INK, "hatch": HATCH, "linewidth": 0}
    _fill(axes, strip, mask, heights, **look).set_hatch_linewidth(HATCH_PT)


def _outline(axes, strip: Strip, mask: np.ndarray, heights, color: str = INK) -> None:
    """Draw the probability as a line, so that pale colours show on paper too."""
    axes.plot(*_stairs(strip, mask, heights), color=color, linewidth=0.7)


def _stairs(strip: Strip, mask: np.ndarray, heights) -> tuple[np.ndarray, np.ndarray]:
    """Return a stair over the bins of a mask: times in seconds, heights in pixels.

    Neighbours within a pixel's quarter are one step, without which an SVG has megabytes.
    """
    tops = strip.bottom + np.where(mask, heights, np.nan) * (strip.top - strip.bottom)
    tops = np.round(4 * tops) / 4
    is_same = (tops[1:] == tops[:-1]) | (np.isnan(tops[1:]) & np.isnan(tops[:-1]))
    starts = np.flatnonzero(np.append(True, ~is_same))
    edges_s = strip.ribbon.edges_s[np.append(starts, len(tops))]
    return np.repeat(edges_s, 2)[1:-1], np.repeat(tops[starts], 2)


def _labels(ribbon: Ribbon, seconds_a_pixel: float) -> Iterator[tuple[int, float]]:
    """Yield (answer, middle in seconds) of the stretches that are long enough for its name."""
    names = (*ribbon.names, UNSURE)
    for answer, first_s, last_s in _stretches(ribbon):
        if answer >= 0:
            needed_px = (len(_short_name(names[answer])) + 1) * LETTER_PX
            if last_s - first_s >= needed_px * seconds_a_pixel:
                yield answer, (first_s + last_s) / 2


def _stretches(ribbon: Ribbon) -> Iterator[tuple[int, float, float]]:
    """Yield (answer, from, to in seconds) of neighbouring bins with one answer."""
    changes = np.flatnonzero(np.diff(ribbon.answers)) + 1
    bounds = [0, *changes.tolist(), len(ribbon.answers)]
    for first, last in itertools.pairwise(bounds):
        yield int(ribbon.answers[first]), ribbon.edges_s[first], ribbon.edges_s[last]


def _write_panel_head(axes, strip: Strip) -> None:
    """Write a face's number and what it mostly shows above its lanes."""
    ribbon = strip.ribbon
    _beside(axes, strip.top + 14, f"Face {ribbon.track}", size=TEXT_PT + 2, weight="bold")
    words = "  ".join(f"{name} {_percent(share)}" for name, share in ribbon.shares)
    text = f"seen for {seconds_text(ribbon.seconds)}:  {words}"
    _write(axes, 0, strip.top + 14, text, size=TEXT_PT, color=MUTED, va="center", bbox=CLEAR)


def _most(ribbon: Ribbon) -> str:
    """Return what a face shows for longest."""
    name, share = ribbon.shares[0] if ribbon.shares else (UNSURE, 1.0)
    return f"{_short_name(name)} {_percent(share)}"


def _short_name(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _beside(axes, height: float, text: str, **look) -> None:
    """Write left of the plot at a height in its pixels."""
    look = {"ha": "right", "va": "center", "transform": axes.get_yaxis_transform()} | look
    _write(axes, -14 / PLOT_PX, height, text, **look)


def _write(axes, x: float, height: float, text: str, **look) -> None:
    """Write text at a place of the plot."""
    drawable, families = _drawable(text)
    look = {"color": INK, "family": families} | look
    axes.text(x, height, drawable, parse_math=False, **look)


def _write_head(figure, data: TimelineData, height_px: float) -> None:
    """Write the title and what the video is."""
    title, families = _drawable(_shortened(headline(data)))
    look = {"x": 0.02, "ha": "left", "va": "top", "family": families, "parse_math": False}
    figure.text(y=1 - 22 / height_px, s=title, size=TITLE_PT, weight="bold", color=INK, **look)
    figure.text(y=1 - 58 / height_px, s=_extent(data), size=TEXT_PT, color=MUTED, **look)


def _draw_legend(figure, data: TimelineData, has_lanes: bool, height_px: float) -> None:
    """Say what the colours, the hatching and the heights mean, under the plot."""
    from matplotlib.patches import Patch

    entries = _legend_entries(data, has_lanes)
    # an unescaped dollar would begin a formula
    patches = [
        Patch(label=_drawable(label)[0].replace("$", r"\$"), **look) for label, look in entries
    ]
    for patch in patches:
        patch.set_hatch_linewidth(HATCH_PT)
    figure.legend(
        handles=patches,
        loc="lower left",
        bbox_to_anchor=(LEFT_PX / WIDTH_PX, 18 / height_px),
        borderpad=0,
        borderaxespad=0,
        ncols=min(len(patches), 11),
        frameon=False,
        prop={"family": _drawable("…")[1], "size": TEXT_PT},
        labelcolor=INK,
        handlelength=1.4,
        columnspacing=1.4,
    )


def _legend_entries(data: TimelineData, has_lanes: bool) -> Iterator[tuple[str, dict]]:
    """Yield the words of the legend and how their patches look."""
    unsure = {"facecolor": FIELD, "edgecolor": HATCH_INK, "hatch": HATCH, "linewidth": 0}
    if has_lanes:
        yield "the answer", {"facecolor": MUTED}
        yield "probability of the others", {"facecolor": MUTED, "alpha": PALE}
        yield "unsure between these", unsure
    else:
        names = tuple(dict.fromkeys(name for ribbon in data.ribbons for name in ribbon.names))
        for name in names:
            color = np.array(color_rgb(name, names)) / 255
            yield _short_name(name), {"facecolor": color, "edgecolor": INK, "linewidth": 0.6}
        yield UNSURE, unsure
    yield "not seen", {"facecolor": PAPER, "edgecolor": MUTED, "linewidth": 0.6}
    yield "height: probability, a full strip is 100%", {"facecolor": "none", "linewidth": 0}


def _shortened(text: str) -> str:
    """Return a text without its middle where it is too long for a line."""
    half = LONGEST_TITLE // 2
    return text if len(text) <= LONGEST_TITLE else f"{text[:half]}…{text[-half:]}"


def _drawable(text: str) -> tuple[str, list[str]]:
    """Return a text with a box for each letter that no font here has, and the fonts to draw it.

    Without, it would be a box all the same, with a warning for each letter.
    """
    from matplotlib.font_manager import findfont, get_font, get_font_names

    families = [FONT]
    if not text.isascii():
        installed = set(get_font_names())
        families += [family for family in MORE_FONTS if family in installed]
    fonts = [get_font(findfont(family)) for family in families]
    known = {letter for letter in text if any(font.get_char_index(ord(letter)) for font in fonts)}
    drawable = (letter if letter in known else "□" for letter in text)
    return "".join(drawable), families


def _accessible(svg: str, data: TimelineData) -> str:
    """Return an SVG whose title and description a screen reader tells."""
    head = '<svg role="img" aria-labelledby="timeline-title timeline-description" '
    words = f'<desc id="timeline-description">{escape(description(data))}</desc>'
    svg = svg.replace("<svg ", head, 1).replace("<title>", '<title id="timeline-title">', 1)
    return svg.replace("</title>", f"</title>\n {words}", 1)
