"""What a whole video shows: how long each face, and in which emotion.

Time is counted as the video keeps it: a face is seen from its frame until the next frame, however
far away that is; the last frame lasts as long as the others on average. Only sure answers count
for an emotion; the rest of the time is unsure, an entry of its own, so that nobody reports as an
emotion what the model itself would not.
"""

import copy
import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emotion.errors import TableError
from emotion.faces import in_words, likely_classes
from emotion.files import whole_file, write_json
from emotion.rows import safe_cell
from emotion.video.tracking import FrameFaces, TrackedFace

SCHEMA = 1
"""Version of the JSON form; it grows when a field changes its meaning or goes away."""

LONE_FRAME_S = 1 / 30
"""How long the only frame of a video counts."""

UNSURE = "unsure"
SUMMARY_SUFFIXES = (".json", ".csv")
MOST_LINES = 12
"""More tracks than this are not told one by one on a terminal."""

MOST_ENTRIES = 3
BAR_LETTERS = 10


@dataclass(frozen=True)
class Span:
    """The faces of one frame and how long it is seen, in seconds of the video."""

    start_s: float
    until_s: float
    faces: tuple[TrackedFace, ...]

    @property
    def seconds(self) -> float:
        return max(0.0, self.until_s - self.start_s)


class SpanMaker:
    """Turns frames into spans: each lasts until the next, the last one as long as the mean."""

    def __init__(self):
        self._waiting: Span | None = None
        self._start_s, self._count = 0.0, 0

    def add(self, frame: FrameFaces, until_s: float | None = None) -> Iterator[Span]:
        """Yield the spans that are known with this frame; `until_s` where its end is known."""
        if not self._count:
            self._start_s = frame.timestamp_s
        self._count += 1
        yield from self._end_waiting(frame.timestamp_s)
        if until_s is None:
            self._waiting = Span(frame.timestamp_s, frame.timestamp_s, frame.faces)
        else:
            yield Span(frame.timestamp_s, until_s, frame.faces)

    def finish(self) -> Iterator[Span]:
        """Yield the span of the last frame."""
        if self._waiting:
            elapsed_s = self._waiting.start_s - self._start_s
            mean_s = elapsed_s / (self._count - 1) if self._count > 1 else LONE_FRAME_S
            yield from self._end_waiting(self._waiting.start_s + mean_s)

    def _end_waiting(self, until_s: float) -> Iterator[Span]:
        waiting, self._waiting = self._waiting, None
        if waiting:
            yield Span(waiting.start_s, until_s, waiting.faces)


@dataclass(frozen=True)
class TrackSummary:
    """One face over the video.

    Attributes:
        track: its number.
        first_s: when it was first seen, in seconds of the video.
        last_s: when it was last seen: the end of its last frame.
        frames: frames that it is in.
        seconds: how long it was seen.
        seconds_by_emotion: class -> how long that was the sure answer.
        unsure_s: how long there was no sure answer; with those above the whole of `seconds`.
        mean_probabilities: class -> mean over the time seen, 0 to 1, sure or not.
    """

    track: int
    first_s: float
    last_s: float
    frames: int
    seconds: float
    seconds_by_emotion: Mapping[str, float]
    unsure_s: float
    mean_probabilities: Mapping[str, float]

    @property
    def emotion(self) -> str | None:
        """Return the emotion that was seen for longest, None where no answer was ever sure."""
        name = max(self.seconds_by_emotion, key=self.seconds_by_emotion.get, default=None)
        return name if name and self.seconds_by_emotion[name] > 0 else None

    @property
    def verdict(self) -> str:
        """Return what was seen for longest: an emotion, or "unsure: neutral or sad"."""
        if self.emotion and self.seconds_by_emotion[self.emotion] >= self.unsure_s:
            return self.emotion
        return in_words(likely_classes(self.mean_probabilities), sure=False)

    @property
    def shares(self) -> dict[str, float]:
        """Return the share of the time seen of each emotion and of "unsure", 0 to 1."""
        entries = dict(self.seconds_by_emotion) | {UNSURE: self.unsure_s}
        return {name: s / self.seconds if self.seconds else 0.0 for name, s in entries.items()}

    def to_dict(self) -> dict:
        """Return plain types for JSON, times to the millisecond."""
        return {
            "track": self.track,
            "first_s": round(self.first_s, 3),
            "last_s": round(self.last_s, 3),
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "emotion": self.emotion,
            "verdict": self.verdict,
            "seconds_by_emotion": _rounded(self.seconds_by_emotion, 3),
            "unsure_s": round(self.unsure_s, 3),
            "shares": _rounded(self.shares, 4),
            "mean_probabilities": _rounded(self.mean_probabilities, 6),
        }


@dataclass(frozen=True)
class VideoSummary:
    """A whole video.

    Attributes:
        frames: how many were looked at.
        duration_s: from the first frame to the end of the last.
        no_face_s: how long no face was seen; `one_face_s` and `several_faces_s` likewise.
        most_faces: faces at once.
        tracks: the faces, by number.
    """

    frames: int
    duration_s: float
    no_face_s: float
    one_face_s: float
    several_faces_s: float
    most_faces: int
    tracks: tuple[TrackSummary, ...]

    def to_dict(self) -> dict:
        """Return plain types for JSON."""
        return {
            "schema": SCHEMA,
            "frames": self.frames,
            "duration_s": round(self.duration_s, 3),
            "no_face_s": round(self.no_face_s, 3),
            "one_face_s": round(self.one_face_s, 3),
            "several_faces_s": round(self.several_faces_s, 3),
            "most_faces": self.most_faces,
            "tracks": [track.to_dict() for track in self.tracks],
        }


class SummaryBuilder:
    """Adds frames up to a `VideoSummary`; its size grows with the number of tracks alone."""

    def __init__(self):
        self._spans = SpanMaker()
        self._tracks: dict[int, _TrackTimes] = {}
        self._seconds_by_count = np.zeros(3)
        self._frames = self._most_faces = 0

    def add(self, frame: FrameFaces, until_s: float | None = None) -> None:
        """Count a frame.

        Args:
            frame: the next one.
            until_s: when it ends; without it, when the next one comes.
        """
        self._frames += 1
        for span in self._spans.add(frame, until_s):
            self._count(span)

    def result(self) -> VideoSummary:
        """Return the summary of the frames so far; more may follow."""
        # the last frame is ended in a copy alone: where more follow, it lasts until the next
        whole = copy.deepcopy(self)
        for span in whole._spans.finish():
            whole._count(span)
        return whole._summary()

    def _summary(self) -> VideoSummary:
        none_s, one_s, several_s = self._seconds_by_count.tolist()
        tracks = tuple(self._tracks[number].summary(number) for number in sorted(self._tracks))
        total_s = none_s + one_s + several_s
        return VideoSummary(
            self._frames, total_s, none_s, one_s, several_s, self._most_faces, tracks
        )

    def _count(self, span: Span) -> None:
        self._seconds_by_count[min(2, len(span.faces))] += span.seconds
        self._most_faces = max(self._most_faces, len(span.faces))
        for tracked in span.faces:
            if tracked.track not in self._tracks:
                names = tuple(tracked.face.probabilities)
                self._tracks[tracked.track] = _TrackTimes(names, span.start_s)
            self._tracks[tracked.track].add(span, tracked)


class _TrackTimes:
    """The sums of one track."""

    __slots__ = ("_first_s", "_frames", "_last_s", "_names", "_sums")

    def __init__(self, names: tuple[str, ...], first_s: float):
        self._names, self._first_s, self._last_s, self._frames = names, first_s, first_s, 0
        # seconds of each sure emotion, unsure seconds, then seconds times each probability
        self._sums = np.zeros(2 * len(names) + 1)

    def add(self, span: Span, tracked: TrackedFace) -> None:
        self._frames += 1
        self._last_s = span.until_s
        face, count = tracked.face, len(self._names)
        self._sums[self._names.index(face.emotion) if face.sure else count] += span.seconds
        chances = np.fromiter(face.probabilities.values(), float, count)
        self._sums[count + 1 :] += span.seconds * chances

    def summary(self, number: int) -> TrackSummary:
        count = len(self._names)
        seconds = float(self._sums[: count + 1].sum())
        means = self._sums[count + 1 :] / (seconds or 1)
        return TrackSummary(
            track=number,
            first_s=self._first_s,
            last_s=self._last_s,
            frames=self._frames,
            seconds=seconds,
            seconds_by_emotion=dict(zip(self._names, self._sums[:count].tolist(), strict=True)),
            unsure_s=float(self._sums[count]),
            mean_probabilities=dict(zip(self._names, means.tolist(), strict=True)),
        )


def write_summary(path: Path, summary: VideoSummary, about: Mapping | None = None) -> None:
    """Write a summary as .json, or as .csv with one row a track.

    Args:
        path: an existing file is replaced.
        summary: what to write.
        about: what else to say in the JSON, such as the video's name and the model.

    Raises:
        TableError: another suffix, or the file cannot be written.
    """
    check_summary_suffix(path)
    try:
        if path.suffix.lower() == ".json":
            write_json(path, dict(about or {}) | summary.to_dict())
        else:
            _write_csv(path, summary_rows(summary))
    except OSError as error:
        raise TableError(
            f"expected to write the summary {path}; received: {error.strerror or error}"
        ) from error


def check_summary_suffix(path: Path) -> None:
    """Raise a `TableError` where no summary of this suffix is known."""
    if path.suffix.lower() not in SUMMARY_SUFFIXES:
        raise TableError(
            f"expected a summary ending in {' or '.join(SUMMARY_SUFFIXES)}; received {path.name}"
        )


def summary_rows(summary: VideoSummary) -> list[dict]:
    """Return one row a track, column -> value."""
    return [_row(track) for track in summary.tracks]


def _row(track: TrackSummary) -> dict:
    """Return the row of one track."""
    seconds = dict(track.seconds_by_emotion) | {UNSURE: track.unsure_s}
    return {
        "track": track.track,
        "first_s": round(track.first_s, 3),
        "last_s": round(track.last_s, 3),
        "frames": track.frames,
        "seconds": round(track.seconds, 3),
        "emotion": track.emotion,
        **{f"seconds_{name}": round(value, 3) for name, value in seconds.items()},
        **{f"share_{name}": round(value, 4) for name, value in track.shares.items()},
        **{f"mean_probability_{n}": round(p, 6) for n, p in track.mean_probabilities.items()},
        "verdict": track.verdict,
    }


def _write_csv(path: Path, rows: Sequence[dict]) -> None:
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0] if rows else ["track"])
        writer.writeheader()
        for row in rows:
            writer.writerow({k: safe_cell(v) if isinstance(v, str) else v for k, v in row.items()})


def summary_lines(summary: VideoSummary, most: int = MOST_LINES) -> list[str]:
    """Return a summary as lines of text for a terminal: the `most` faces seen for longest."""
    longest = sorted(summary.tracks, key=lambda track: (-track.seconds, track.track))
    lines = [_presence_line(summary)]
    if summary.tracks:
        lines += ["", f"{'face':>6}{'from':>10}{'to':>10}{'seen':>10}   share of the time seen"]
    when = clock_time if summary.duration_s >= 60 else seconds_text
    shown = sorted(longest[:most], key=lambda track: track.track)
    lines += [_track_line(track, when) for track in shown]
    if longest[most:]:
        total_s = sum(track.seconds for track in longest[most:])
        number = len(longest) - most
        faces = "1 more face" if number == 1 else f"{number:,} more faces"
        lines.append(f"  and {faces}, seen for {seconds_text(total_s)} in all")
    return lines


def _presence_line(summary: VideoSummary) -> str:
    """Return how long the video is, and how much of it shows how many faces."""
    parts = {
        "no face": summary.no_face_s,
        "one face": summary.one_face_s,
        "several faces": summary.several_faces_s,
    }
    total_s = summary.duration_s or 1
    shares = ", ".join(f"{name} {s / total_s * 100:.0f}%" for name, s in parts.items() if s)
    length = f"{seconds_text(summary.duration_s)}, {summary.frames:,} frames"
    return f"{length}; of the time: {shares}" if shares else length


def _track_line(track: TrackSummary, when: Callable[[float], str]) -> str:
    """Return one face as a line of the table: times, a bar, and up to three entries."""
    entries = sorted(track.shares.items(), key=lambda item: -item[1])[:MOST_ENTRIES]
    words = [f"{name} {share * 100:.0f}%" for name, share in entries if share >= 0.005]
    bar = "#" * round(BAR_LETTERS * entries[0][1])
    times = (when(track.first_s), when(track.last_s), seconds_text(track.seconds))
    cells = "".join(f"{text:>10}" for text in times)
    return f"{track.track:>6}{cells}   {bar:<{BAR_LETTERS}} {', '.join(words)}".rstrip()


def clock_time(seconds: float) -> str:
    """Return a time as m:ss, or h:mm:ss from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def seconds_text(seconds: float) -> str:
    """Return a length of time: seconds where it is under a minute, else as on a clock."""
    if round(seconds, 1) >= 60:
        return clock_time(seconds)
    return f"{seconds:.1f} s" if seconds >= 1 or not seconds else f"{seconds:.2f} s"


def _rounded(values: Mapping[str, float], digits: int) -> dict:
    return {name: round(value, digits) for name, value in values.items()}
