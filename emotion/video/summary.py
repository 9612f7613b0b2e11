"""What a whole video shows: each face, its emotions, for how long and when.

A frame lasts until the next one, however far away that is; the last one lasts as long as the others
on average. Only sure answers count for an emotion. The rest is the entry "unsure", so that nobody
reports as an emotion what the model itself would not.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from emotion.faces import in_words, likely_classes
from emotion.files import write_csv, write_json
from emotion.rows import safe_cell
from emotion.text import clock, counted, length, share
from emotion.video.tracking import FrameFaces, TrackedFace

SCHEMA = 1  # of the JSON form; it grows when a field changes its meaning or goes away
LONE_FRAME_S = 1 / 30  # how long the only frame of a video counts
UNSURE = "unsure"
SUMMARY_SUFFIXES = (".json", ".csv")
MOST_LINES, MOST_ENTRIES, BAR_LETTERS = 12, 3, 10  # in a terminal: faces, emotions of each, its bar
MOST_BINS = 1400  # of the timeline, which is 1,600 pixels wide
FIRST_BIN_S = 0.02  # width of a bin; it doubles whenever the video outgrows its bins
MOST_SHOWN = 20  # faces on the timeline: those seen for longest
MOST_PARTS = 240  # of a face's time, each of one answer


@dataclass(frozen=True)
class TrackSummary:
    """One face over the video; those seen for longest also over bins of time, for the timeline."""

    track: int
    first_s: float
    last_s: float  # the end of its last frame
    frames: int
    seconds: float  # how long it was seen
    seconds_by_emotion: Mapping[str, float]  # how long each was the sure answer
    unsure_s: float
    mean_probabilities: Mapping[str, float]  # over the time seen, sure or not
    # over bins of time: (bins + 1,) where each begins and ends; (bins,) the class that was the sure
    # answer for longest, the number of classes where that is unsure, -1 where the face was not
    # seen; and (bins, classes) mean probabilities while it was seen
    edges_s: np.ndarray | None = field(default=None, repr=False, compare=False)
    answers: np.ndarray | None = field(default=None, repr=False, compare=False)
    chances: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def emotion(self) -> str | None:
        """The emotion that was seen for longest, None where no answer was ever sure."""
        name = max(self.seconds_by_emotion, key=self.seconds_by_emotion.get, default=None)
        return name if name and self.seconds_by_emotion[name] > 0 else None

    @property
    def verdict(self) -> str:
        """What was seen for longest: an emotion, or "unsure: neutral or sad"."""
        if self.emotion and self.seconds_by_emotion[self.emotion] >= self.unsure_s:
            return self.emotion
        return in_words(likely_classes(self.mean_probabilities), sure=False)

    @property
    def shares(self) -> dict[str, float]:
        """The share of the time seen of each emotion and of "unsure", 0 to 1."""
        entries = {**self.seconds_by_emotion, UNSURE: self.unsure_s}
        return {name: seconds / (self.seconds or 1) for name, seconds in entries.items()}

    @property
    def largest_shares(self) -> list[tuple[str, float]]:
        """(emotion or "unsure", share) of those that were seen, largest first."""
        seen = [entry for entry in self.shares.items() if entry[1]]
        return sorted(seen, key=lambda entry: -entry[1])

    def stretches(self) -> list[tuple[float, float, str, float]]:
        """Return the times of much the same answer, where the track has a timeline.

        Start and length in seconds, the emotion or "unsure", and the probability of that emotion or
        else of the likeliest one. There are at most `MOST_PARTS`.
        """
        names, count = (*self.mean_probabilities, UNSURE), len(self.answers)
        step, stretches, before = math.ceil(count / MOST_PARTS), [], None
        for first in range(0, count, step):
            end = min(first + step, count)
            answers, start_s, end_s = self.answers[first:end], *self.edges_s[[first, end]].tolist()
            answer = int(np.bincount(answers + 1).argmax()) - 1  # the most frequent
            means = self.chances[first:end][answers == answer].mean(axis=0)
            value = float(means.max() if answer == len(means) else means[answer])
            if answer >= 0:
                if before != (answer, round(20 * value)):
                    stretches.append((start_s, 0.0, names[answer], value))
                start_s, _, name, value_before = stretches[-1]
                stretches[-1] = (start_s, end_s - start_s, name, value_before)
            before = answer, round(20 * value)
        return [(round(a, 3), round(b, 3), name, round(p, 2)) for a, b, name, p in stretches]

    def to_dict(self) -> dict:
        """Return plain types for JSON, times to the millisecond."""
        means = self.mean_probabilities.items()
        return {
            "track": self.track,
            "first_s": round(self.first_s, 3),
            "last_s": round(self.last_s, 3),
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "emotion": self.emotion,
            "verdict": self.verdict,
            "seconds_by_emotion": {n: round(s, 3) for n, s in self.seconds_by_emotion.items()},
            "unsure_s": round(self.unsure_s, 3),
            "shares": {name: round(value, 4) for name, value in self.shares.items()},
            "mean_probabilities": {name: round(p, 6) for name, p in means},
        }


@dataclass(frozen=True)
class VideoSummary:
    """A whole video: its frames, how long how many faces were seen, and each face by its number."""

    frames: int
    duration_s: float  # from the first frame to the end of the last
    no_face_s: float
    one_face_s: float
    several_faces_s: float
    most_faces: int  # at once
    tracks: tuple[TrackSummary, ...]

    @property
    def timelines(self) -> list[TrackSummary]:
        """The faces that the timeline shows."""
        return [track for track in self.tracks if track.answers is not None]

    def to_dict(self) -> dict:
        """Return plain types for JSON."""
        numbers = {n: round(v, 3) for n, v in vars(self).items() if n != "tracks"}
        return {"schema": SCHEMA} | numbers | {"tracks": [track.to_dict() for track in self.tracks]}


class SummaryBuilder:
    """Adds frames up to a `VideoSummary`; an hour takes no more memory than a minute."""

    def __init__(self):
        self._tracks: dict[int, _TrackSums] = {}
        self._bin_s = FIRST_BIN_S
        self._seconds_by_count = [0.0, 0.0, 0.0]  # of frames with no face, one, several
        self._frames = self._most_faces = 0
        self._start_s = 0.0
        self._last: tuple[float, tuple[TrackedFace, ...]] | None = None

    def add(self, frame: FrameFaces) -> None:
        """Count a frame, which lasts until the next one is added."""
        if not self._frames:
            self._start_s = frame.timestamp_s
        self._end_last(frame.timestamp_s)
        self._last = frame.timestamp_s, frame.faces
        self._frames += 1

    def result(self) -> VideoSummary:
        """Return the summary of all frames; call it after the last one."""
        if self._last:
            elapsed_s = self._last[0] - self._start_s
            mean_s = elapsed_s / (self._frames - 1) if self._frames > 1 else LONE_FRAME_S
            self._end_last(self._last[0] + mean_s)
        tracks = sorted(self._tracks.items())
        shown = dict(sorted(tracks, key=lambda track: -track[1].seconds)[:MOST_SHOWN])
        told = tuple(s.summary(n, self._bin_s if n in shown else None) for n, s in tracks)
        seconds = sum(self._seconds_by_count), *self._seconds_by_count
        return VideoSummary(self._frames, *seconds, self._most_faces, told)

    def _end_last(self, until_s: float) -> None:
        if not self._last:
            return
        (start_s, faces), self._last = self._last, None
        until_s = max(start_s, until_s)
        self._seconds_by_count[min(2, len(faces))] += until_s - start_s
        self._most_faces = max(self._most_faces, len(faces))
        while until_s > MOST_BINS * self._bin_s:
            self._bin_s *= 2
            for sums in self._tracks.values():
                narrow, sums.bins = sums.bins, {}
                for number, part in narrow.items():
                    sums.bins[number // 2] = sums.bins.get(number // 2, 0.0) + part
        for tracked in faces:
            if tracked.track not in self._tracks:
                self._tracks[tracked.track] = _TrackSums(tracked, start_s)
            self._tracks[tracked.track].add(tracked, start_s, until_s, self._bin_s)


class _TrackSums:
    """The sums of one track: seconds of each sure emotion, unsure seconds, then for each class the
    seconds times its probability; in all, and for each bin of time that the face was seen in.
    """

    def __init__(self, tracked: TrackedFace, first_s: float):
        self.names = tuple(tracked.face.probabilities)
        self.first_s, self.last_s, self.frames = first_s, first_s, 0
        self.total = np.zeros(2 * len(self.names) + 1)
        self.bins: dict[int, np.ndarray] = {}

    @property
    def seconds(self) -> float:
        return float(self.total[: len(self.names) + 1].sum())

    def add(self, tracked: TrackedFace, start_s: float, until_s: float, bin_s: float) -> None:
        """Count a face that was seen for a time, which is spread over the bins it touches."""
        face, count = tracked.face, len(self.names)
        weights = np.zeros(2 * count + 1)
        weights[self.names.index(face.emotion) if face.sure else count] = 1
        weights[count + 1 :] = list(face.probabilities.values())
        self.frames, self.last_s = self.frames + 1, until_s
        self.total += (until_s - start_s) * weights
        first = math.floor(start_s / bin_s)
        for number in range(first, max(first + 1, math.ceil(until_s / bin_s))):
            seconds = min(until_s, (number + 1) * bin_s) - max(start_s, number * bin_s)
            self.bins[number] = self.bins.get(number, 0.0) + max(0.0, seconds) * weights

    def summary(self, number: int, bin_s: float | None) -> TrackSummary:
        """Return the track's summary, with its timeline where the width of the bins is given."""
        count, bins = len(self.names), {}
        if bin_s:
            numbers = np.arange(min(self.bins), max(self.bins) + 2)
            nothing = np.zeros_like(self.total)
            sums = np.stack([self.bins.get(number, nothing) for number in numbers[:-1].tolist()])
            seconds = sums[:, : count + 1].sum(axis=1)
            is_seen = seconds > 0
            bins = {
                "edges_s": numbers * bin_s,
                "answers": np.where(is_seen, sums[:, : count + 1].argmax(axis=1), -1),
                "chances": sums[:, count + 1 :] / np.where(is_seen, seconds, 1)[:, None],
            }
        when = number, self.first_s, self.last_s, self.frames, self.seconds
        sure_s, unsure_s = self.total[:count], float(self.total[count])
        means = self.total[count + 1 :] / (self.seconds or 1)
        sure_s, means = (dict(zip(self.names, v.tolist(), strict=True)) for v in (sure_s, means))
        return TrackSummary(*when, sure_s, unsure_s, means, **bins)


def write_summary(path: Path, summary: VideoSummary, about: Mapping) -> None:
    """Write a summary as .json, with `about` before it, or as .csv with one row a track."""
    if path.suffix.lower() == ".json":
        write_json(path, {**about, **summary.to_dict()})
        return
    rows = []
    for track in summary.tracks:
        row = track.to_dict()
        verdict, seconds = row.pop("verdict"), row.pop("seconds_by_emotion")
        row |= {f"seconds_{n}": s for n, s in (seconds | {UNSURE: row.pop("unsure_s")}).items()}
        row |= {f"share_{name}": part for name, part in row.pop("shares").items()}
        row |= {f"mean_probability_{name}": p for name, p in row.pop("mean_probabilities").items()}
        row["verdict"] = verdict
        rows.append({name: safe_cell(value) for name, value in row.items()})
    write_csv(path, rows, nothing="track")


def summary_lines(summary: VideoSummary) -> list[str]:
    """Return a summary as lines of text for a terminal: the faces seen for longest."""
    seconds = summary.no_face_s, summary.one_face_s, summary.several_faces_s
    parts = zip(("no face", "one face", "several faces"), seconds, strict=True)
    shares = ", ".join(f"{name} {share(s / summary.duration_s)}" for name, s in parts if s)
    head = f"{length(summary.duration_s)}, {counted(summary.frames, 'frame')}"
    lines = [f"{head}; of the time: {shares}" if shares else head]
    if summary.tracks:
        lines += ["", f"{'face':>6}{'from':>10}{'to':>10}{'seen':>10}   share of the time seen"]
    longest = sorted(summary.tracks, key=lambda track: (-track.seconds, track.track))
    when = clock if summary.duration_s >= 60 else length
    for track in sorted(longest[:MOST_LINES], key=lambda track: track.track):
        entries = track.largest_shares[:MOST_ENTRIES] or [(UNSURE, 0.0)]
        words = ", ".join(f"{name} {share(value)}" for name, value in entries if value >= 0.005)
        times = when(track.first_s), when(track.last_s), length(track.seconds)
        bar = "#" * round(BAR_LETTERS * entries[0][1])
        cells = "".join(f"{text:>10}" for text in times)
        lines.append(f"{track.track:>6}{cells}   {bar:<{BAR_LETTERS}} {words}".rstrip())
    if left_out := longest[MOST_LINES:]:
        seen = length(sum(track.seconds for track in left_out))
        lines.append(f"  and {counted(len(left_out), 'more face')}, seen for {seen} in all")
    return lines
