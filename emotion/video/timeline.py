"""A picture of a whole video: who was seen when, with which emotion, and how probable it was.

A few faces have a lane for each emotion, so that place, and not colour alone, says which one it is;
more faces have a ribbon each. The height of a colour is the probability; what is hatched is unsure.
"""

import functools
import io
import itertools
import warnings
from html import escape
from pathlib import Path

import numpy as np

from emotion.faces import CANDIDATE_SHARE
from emotion.files import whole_file
from emotion.labels import color_rgb
from emotion.text import clock, counted, length, printable, share
from emotion.video.summary import UNSURE, TrackSummary, VideoSummary

TIMELINE_SUFFIXES = (".png", ".svg")
MOST_LANES = 24  # three faces of eight emotions; more faces have a ribbon each

# in pixels of the .png
WIDTH, LEFT, RIGHT, TOP, BELOW = 1600, 150, 50, 104, 120
PLOT = WIDTH - LEFT - RIGHT
HEAD, PANEL_GAP = 40, 18  # above and below the lanes of a face
LARGEST_LANE, ALL_LANES, LANE_SHARE = 56, 800, 0.9  # a lane fills that share of its place
SMALLEST_RIBBON, LARGEST_RIBBON, ALL_RIBBONS, RIBBON_SHARE = 48, 110, 720, 0.78

DOTS_PER_INCH = 100
SMALL_PT, TEXT_PT, TITLE_PT = 10, 11, 17
LETTER = 0.62 * TEXT_PT / 72 * DOTS_PER_INCH  # mean width of a letter of DejaVu Sans in pixels
FONT = "DejaVu Sans"
MORE_FONTS = (  # for letters that the first one lacks, where they are installed
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),
    *("PingFang SC", "Hiragino Sans", "Arial Unicode MS", "Noto Sans Devanagari"),
)
HEADLINE = "Emotions over time"
LONGEST_TITLE, LONGEST_NAME = 90, 12  # in letters

INK, MUTED, GRID, FIELD, PAPER = "#1b1f24", "#5b636c", "#d5dade", "#f1f3f5", "#ffffff"
HATCH_INK, HATCH_PT = "#7d868f", 0.8
HATCH = {"edgecolor": HATCH_INK, "hatch": "/////", "linewidth": 0}  # unsure
PALE = 0.28  # opacity of what might be the answer but is not

MOST_TICKS = 11
TICK_STEPS_S = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400),
)


def write_timeline(path: Path, summary: VideoSummary, title: str) -> None:
    """Draw the faces of a video over time as .png or .svg; `title` is the name of the video."""
    with whole_file(path) as part:
        part.write_bytes(render(summary, title, path.suffix.lower().removeprefix(".")))


def render(summary: VideoSummary, title: str, form: str) -> bytes:
    """Return the picture as the bytes of a "png" or "svg" file."""
    title = _one_line(f"{HEADLINE}: {title}")
    content, about = io.BytesIO(), {"Title": title} | ({"Date": None} if form == "svg" else {})
    with warnings.catch_warnings(action="ignore"):  # of letters that no font has: they are boxes
        draw(summary, title).savefig(content, format=form, dpi=DOTS_PER_INCH, metadata=about)
    if form == "png":
        return content.getvalue()
    # what a screen reader says
    words = [_extent(summary)]
    for track in summary.timelines:
        shares = ", ".join(f"{name} {share(value)}" for name, value in track.largest_shares)
        words.append(f"Face {track.track}, seen for {length(track.seconds)}: {shares}")
    told = escape(_one_line(" ".join(f"{part}." for part in words)))
    svg = content.getvalue().decode()
    for before, after in (
        ("<svg ", '<svg role="img" aria-labelledby="timeline-title timeline-description" '),
        ("<title>", '<title id="timeline-title">'),
        ("</title>", f'</title>\n <desc id="timeline-description">{told}</desc>'),
    ):
        svg = svg.replace(before, after, 1)
    return svg.encode()


def draw(summary: VideoSummary, title: str = HEADLINE):
    """Return the matplotlib figure of a timeline; no setting of matplotlib is touched."""
    # unlike `pyplot` it needs no window
    from matplotlib.figure import Figure

    tracks, end_s = summary.timelines, summary.duration_s or 1
    lanes = sum(len(track.mean_probabilities) for track in tracks)
    has_lanes = 0 < lanes <= MOST_LANES
    if has_lanes:
        step = min(LARGEST_LANE, ALL_LANES / lanes)
        top = lanes * step + len(tracks) * (HEAD + PANEL_GAP) - PANEL_GAP
    else:
        step = min(LARGEST_RIBBON, max(SMALLEST_RIBBON, ALL_RIBBONS / max(1, len(tracks))))
        top = max(1, len(tracks)) * step
    height = TOP + top + BELOW
    figure = Figure((WIDTH / DOTS_PER_INCH, height / DOTS_PER_INCH), facecolor=PAPER)

    axes = figure.add_axes((LEFT / WIDTH, BELOW / height, PLOT / WIDTH, top / height))
    axes.set(facecolor=PAPER, xlim=(0, end_s), ylim=(0, top), yticks=[])
    axes.set_xticks(*time_ticks(summary.duration_s), family=FONT, size=TEXT_PT, color=INK)
    axes.tick_params(axis="x", length=5, color=MUTED)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set(visible=side == "bottom", color=MUTED)

    if len(title) > LONGEST_TITLE:
        title = f"{title[: LONGEST_TITLE // 2]}…{title[-LONGEST_TITLE // 2 :]}"
    look = {"x": 0.02, "va": "top", "parse_math": False, "family": _families()}
    figure.text(y=1 - 22 / height, s=title, size=TITLE_PT, weight="bold", color=INK, **look)
    figure.text(y=1 - 58 / height, s=_extent(summary), size=TEXT_PT, color=MUTED, **look)
    for track in tracks:
        face = f"Face {track.track}"
        if has_lanes:
            top -= HEAD
            _write(axes, None, top + 14, face, size=TEXT_PT + 2, weight="bold")
            shares = "  ".join(f"{name} {share(value)}" for name, value in track.largest_shares)
            text = f"seen for {length(track.seconds)}:  {shares}"
            _write(axes, 0, top + 14, text, size=TEXT_PT, color=MUTED, is_clear=True)
            for index, name in enumerate(track.mean_probabilities):
                bottom = top - LANE_SHARE * step
                _draw_lane(axes, track, index, bottom, top)
                _write(axes, None, (bottom + top) / 2, _short(name), size=TEXT_PT)
                top -= step
            top -= PANEL_GAP
        else:
            gap = step * (1 - RIBBON_SHARE) / 2
            _draw_ribbon(axes, track, top - step + gap, top - gap, end_s / PLOT)
            middle = top - step / 2
            _write(axes, None, middle + 8, face, size=TEXT_PT, weight="bold")
            name, value = (track.largest_shares or [(UNSURE, 1.0)])[0]
            text = f"{_short(name)} {share(value)}"
            _write(axes, None, middle - 10, text, size=SMALL_PT - 1, color=MUTED)
            top -= step
    if tracks:
        _draw_legend(figure, tracks[0], has_lanes, height)
    return figure


def _one_line(text: str) -> str:  # without what no file and no screen can hold
    return " ".join(printable(text, " ").split())


def _extent(summary: VideoSummary) -> str:
    shown, left_out = len(summary.timelines), len(summary.tracks) - len(summary.timelines)
    faces = counted(len(summary.tracks), "face") if summary.tracks else "no face was seen"
    if left_out:
        faces += f", the {shown} seen for longest are shown and {left_out:,} are left out"
    return f"{length(summary.duration_s)} of video · {faces}"


def time_ticks(end_s: float) -> tuple[list[float], list[str]]:
    """Return at most a dozen round times for the axis, in seconds, and how each is written."""
    step = next((step for step in TICK_STEPS_S if end_s / step <= MOST_TICKS), end_s / MOST_TICKS)
    ticks = [number * step for number in range(int(end_s / step + 1e-9) + 1)]
    if step < 1 and len(ticks) > 1:
        parts = [divmod(round(tick, 3), 60) for tick in ticks]
        return ticks, [f"{minutes:.0f}:{seconds:04.1f}" for minutes, seconds in parts]
    is_long = ticks[-1] >= 3600
    return ticks, [f"0:{clock(t):0>5}" if is_long and t < 3600 else clock(t) for t in ticks]


def _draw_lane(axes, track: TrackSummary, index: int, bottom: float, top: float) -> None:
    """Draw one emotion of a face: strong where it is the answer, pale where it might be."""
    color, heights = _colors(track)[index], track.chances[:, index]
    is_seen, is_answer = track.answers >= 0, track.answers == index
    is_other = is_seen & ~is_answer
    is_candidate = heights >= CANDIDATE_SHARE * track.chances.max(axis=1)
    is_unsure = (track.answers == track.chances.shape[1]) & is_candidate
    steps = functools.partial(_draw_steps, axes, track.edges_s, bottom, top)
    steps(is_seen, 1, color=FIELD)
    steps(is_other, heights, color=color, alpha=PALE)
    steps(is_unsure, heights, facecolor="none", **HATCH)
    steps(is_answer, heights, color=color)
    steps(is_other, heights, HATCH_INK)
    steps(is_answer, heights, INK)


def _draw_ribbon(axes, track: TrackSummary, bottom: float, top: float, pixel_s: float) -> None:
    """Draw a face as one band, coloured by its answer, whose name stands where there is room."""
    answers, colors, names = track.answers, _colors(track), (*track.mean_probabilities, UNSURE)
    by_answer = np.column_stack([track.chances, track.chances.max(axis=1)])
    heights = np.take_along_axis(by_answer, answers[:, None], axis=1)[:, 0]
    steps = functools.partial(_draw_steps, axes, track.edges_s, bottom, top)
    steps(answers >= 0, 1, color=FIELD)
    for index, color in enumerate(colors):
        steps(answers == index, 1, color=color, alpha=PALE)
        steps(answers == index, heights, color=color)
    steps(answers == len(colors), heights, facecolor="none", **HATCH)
    steps(answers >= 0, heights, INK)
    changes = np.flatnonzero(np.diff(answers)) + 1
    for first, last in itertools.pairwise([0, *changes.tolist(), len(answers)]):
        answer, first_s, last_s = answers[first], track.edges_s[first], track.edges_s[last]
        name = _short(names[answer])
        if answer < 0 or last_s - first_s < (len(name) + 1) * LETTER * pixel_s:
            continue
        look, height = {"va": "top"}, top - 4
        if answer < len(colors):
            is_dark = colors[answer] @ (0.299, 0.587, 0.114) < 0.45
            look, height = {"va": "bottom", "color": PAPER if is_dark else INK}, bottom + 3
        _write(axes, (first_s + last_s) / 2, height, name, size=SMALL_PT, ha="center", **look)


def _draw_steps(axes, edges_s, bottom, top, mask, heights, outline=None, **look) -> None:
    """Fill the bins of a mask up to a share of the way from `bottom` to `top`, or outline them."""
    if not mask.any():
        return
    # neighbours within a quarter of a pixel are one step, without which an SVG has megabytes
    tops = np.round(4 * (bottom + np.where(mask, heights, np.nan) * (top - bottom))) / 4
    starts = np.flatnonzero(np.diff(np.nan_to_num(tops, nan=-1), prepend=-2))
    edges_s = edges_s[np.append(starts, len(tops))]
    if outline:
        # so that pale colours show on paper too
        axes.stairs(tops[starts], edges_s, baseline=None, color=outline, linewidth=0.7)
    else:
        look = {"linewidth": 0} | look
        steps = axes.stairs(tops[starts], edges_s, baseline=bottom, fill=True, **look)
        steps.set_hatch_linewidth(HATCH_PT)


def _colors(track: TrackSummary) -> np.ndarray:
    names = tuple(track.mean_probabilities)
    return np.array([color_rgb(name, names) for name in names]) / 255


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def _write(axes, x: float | None, height: float, text: str, is_clear=False, **look) -> None:
    """Write text at a place of the plot, or left of it; if `is_clear`, over the grid's lines."""
    look = {"color": INK, "family": _families(), "va": "center", "parse_math": False} | look
    if x is None:
        x, look = -14 / PLOT, look | {"ha": "right", "transform": axes.get_yaxis_transform()}
    if is_clear:
        look["bbox"] = {"facecolor": PAPER, "edgecolor": "none", "pad": 1}
    axes.text(x, height, text, **look)


def _draw_legend(figure, track: TrackSummary, has_lanes: bool, height: float) -> None:
    from matplotlib.patches import Patch

    thin = {"linewidth": 0.6}
    if has_lanes:
        entries = {
            "the answer": {"facecolor": MUTED},
            "probability of the others": {"facecolor": MUTED, "alpha": PALE},
            "unsure between these": {"facecolor": FIELD, **HATCH},
        }
    else:
        colors = zip(map(_short, track.mean_probabilities), _colors(track), strict=True)
        entries = {name: {"facecolor": color, "edgecolor": INK, **thin} for name, color in colors}
        entries[UNSURE] = {"facecolor": FIELD, **HATCH}
    entries["not seen"] = {"facecolor": PAPER, "edgecolor": MUTED, **thin}
    entries["height: probability, a full strip is 100%"] = {"facecolor": "none", "linewidth": 0}
    patches = [Patch(**look) for look in entries.values()]
    for patch in patches:
        patch.set_hatch_linewidth(HATCH_PT)
    # an unescaped dollar would begin a formula
    labels = [words.replace("$", r"\$") for words in entries]
    look = {"prop": {"family": _families(), "size": TEXT_PT}, "labelcolor": INK, "frameon": False}
    look |= {"loc": "lower left", "bbox_to_anchor": (LEFT / WIDTH, 18 / height)}
    look |= {"borderpad": 0, "borderaxespad": 0, "handlelength": 1.4, "columnspacing": 1.4}
    figure.legend(patches, labels, ncols=min(len(patches), 11), **look)


@functools.cache
def _families() -> list[str]:
    """Return the fonts to write with: each letter in the first one that has it."""
    from matplotlib.font_manager import get_font_names

    return [FONT, *(family for family in MORE_FONTS if family in set(get_font_names()))]
