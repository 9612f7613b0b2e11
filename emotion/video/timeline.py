"""A picture of a whole video: who was seen when, with which emotion, and how probable it was.

Time is divided into bins whose width doubles whenever the video outgrows them, so that an hour
takes no more memory than a minute.
"""

import copy
import math
from pathlib import Path

import numpy as np

from emotion.errors import TableError
from emotion.files import whole_file
from emotion.video.summary import Span, SpanMaker
from emotion.video.timeline_picture import Ribbon, TimelineData, description, render
from emotion.video.tracking import FrameFaces, TrackedFace

TIMELINE_SUFFIXES = (".png", ".svg")

MOST_BINS = 1400
"""A picture of 1,600 pixels shows no more."""

FIRST_BIN_S = 0.02

MOST_SHOWN = 20
"""Faces that have a place in the picture: those seen for longest."""

MOST_KEPT = 300
"""Tracks that are remembered, out of which the longest are chosen at the end."""

FORGET_AFTER_S = 60
"""A track unseen for so long is over and may be forgotten."""


class Timeline:
    """Adds frames up to a picture; its size stays the same however long the video is."""

    def __init__(self, title: str = "", most_bins: int = MOST_BINS):
        """Take the name of the video for the title, and into how many bins time is divided."""
        self._title, self._most_bins = title, most_bins
        self._spans = SpanMaker()
        self._bin_s, self._end_s = FIRST_BIN_S, 0.0
        self._tracks: dict[int, _TrackBins] = {}
        self._forgotten = 0

    def add(self, frame: FrameFaces, until_s: float | None = None) -> None:
        """Add a frame; `until_s` is when it ends, without it when the next one comes."""
        for span in self._spans.add(frame, until_s):
            self._add(span)

    def write(self, path: Path) -> None:
        """Write the picture of the frames so far as .png or .svg.

        Raises:
            TableError: another suffix, matplotlib is missing, or the file cannot be written.
        """
        check_timeline_suffix(path)
        content = render(self.data(), path.suffix.lower().removeprefix("."))
        try:
            with whole_file(path) as part:
                part.write_bytes(content)
        except OSError as error:
            raise TableError(
                f"expected to write the timeline {path}; received: {error.strerror or error}"
            ) from error

    def describe(self) -> str:
        """Return in words what the picture shows, for those who cannot see it."""
        return description(self.data())

    def data(self) -> TimelineData:
        """Return what the picture shows: the faces seen for longest, by number."""
        # the last frame is ended in a copy alone: where more follow, it lasts until the next
        whole = copy.deepcopy(self)
        for span in whole._spans.finish():
            whole._add(span)
        return whole._data()

    def _data(self) -> TimelineData:
        longest = sorted(self._tracks.items(), key=lambda item: -item[1].seconds)[:MOST_SHOWN]
        return TimelineData(
            title=self._title,
            end_s=self._end_s,
            ribbons=tuple(track.ribbon(number, self._bin_s) for number, track in sorted(longest)),
            left_out=self._forgotten + len(self._tracks) - len(longest),
        )

    def _add(self, span: Span) -> None:
        self._end_s = max(self._end_s, span.until_s)
        while self._end_s > self._most_bins * self._bin_s:
            self._widen()
        for tracked in span.faces:
            if tracked.track not in self._tracks:
                names = tuple(tracked.face.probabilities)
                self._tracks[tracked.track] = _TrackBins(names, int(span.start_s / self._bin_s))
            self._tracks[tracked.track].add(span, tracked, self._bin_s)
        if len(self._tracks) > 2 * MOST_KEPT:
            self._forget()

    def _widen(self) -> None:
        """Make every bin twice as wide."""
        self._bin_s *= 2
        for track in self._tracks.values():
            track.widen()

    def _forget(self) -> None:
        """Forget tracks that are over, those seen for the shortest time first."""
        over = [n for n, t in self._tracks.items() if t.last_s < self._end_s - FORGET_AFTER_S]
        over.sort(key=lambda number: self._tracks[number].seconds)
        for number in over[: len(self._tracks) - MOST_KEPT]:
            del self._tracks[number]
            self._forgotten += 1


class _TrackBins:
    """What one track shows in each bin of time, from the first one it was seen in.

    A row a bin: the seconds of each sure answer, the unsure seconds, and for each class the seconds
    times its probability.
    """

    def __init__(self, names: tuple[str, ...], first_bin: int):
        self._names, self._first = names, first_bin
        self._sums = np.zeros((0, 2 * len(names) + 1), np.float32)
        self._used = 0
        self.seconds = self.last_s = 0.0

    def add(self, span: Span, tracked: TrackedFace, bin_s: float) -> None:
        """Spread a span over the bins it touches."""
        first = math.floor(span.start_s / bin_s)
        last = max(first, math.ceil(span.until_s / bin_s) - 1)
        edges_s = np.arange(first, last + 2) * bin_s
        seconds = np.diff(edges_s.clip(span.start_s, span.until_s))
        self._reach(last - self._first + 1)
        rows = slice(first - self._first, last - self._first + 1)
        self._sums[rows] += seconds[:, None] * self._weights(tracked)
        self.seconds += span.seconds
        self.last_s = span.until_s

    def _weights(self, tracked: TrackedFace) -> np.ndarray:
        """Return what each second of a face adds to a row."""
        face, count = tracked.face, len(self._names)
        weights = np.zeros(2 * count + 1)
        weights[self._names.index(face.emotion) if face.sure else count] = 1
        weights[count + 1 :] = list(face.probabilities.values())
        return weights

    def _reach(self, rows: int) -> None:
        """Make room for so many bins, with some to spare."""
        self._used = max(self._used, rows)
        if rows > len(self._sums):
            room = np.zeros((max(rows, 2 * len(self._sums)), self._sums.shape[1]), np.float32)
            room[: len(self._sums)] = self._sums
            self._sums = room

    def widen(self) -> None:
        """Put the bins together in pairs, as all tracks do: an even one and the next."""
        start = self._first % 2
        stop = (start + self._used + 1) // 2 * 2
        padded = np.zeros((stop, self._sums.shape[1]), np.float32)
        padded[start : start + self._used] = self._sums[: self._used]
        self._sums = padded[0::2] + padded[1::2]
        self._first, self._used = self._first // 2, len(self._sums)

    def ribbon(self, number: int, bin_s: float) -> Ribbon:
        """Return what the picture shows of this track."""
        count, sums = len(self._names), self._sums[: self._used].astype(float)
        seconds = sums[:, : count + 1].sum(axis=1)
        shown = seconds > 0
        chances = sums[:, count + 1 :] / np.where(shown, seconds, 1)[:, None]
        answers = np.where(shown, sums[:, : count + 1].argmax(axis=1), -1)
        return Ribbon(
            track=number,
            names=self._names,
            seconds=self.seconds,
            answer_seconds=tuple(sums[:, : count + 1].sum(axis=0).tolist()),
            edges_s=(self._first + np.arange(self._used + 1)) * bin_s,
            answers=answers,
            chances=chances,
        )


def check_timeline_suffix(path: Path) -> None:
    """Raise a `TableError` where no timeline of this suffix can be written."""
    if path.suffix.lower() not in TIMELINE_SUFFIXES:
        raise TableError(
            f"expected a timeline ending in {' or '.join(TIMELINE_SUFFIXES)}; received {path.name}"
        )
