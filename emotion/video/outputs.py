"""A whole video into its files: the annotated video, tables, a summary and a timeline."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emotion.drawing import annotate
from emotion.recognizer import Recognizer
from emotion.tables import TableSink
from emotion.video.following import FollowSettings, follow
from emotion.video.reading import Video, frames
from emotion.video.rows import frame_rows, video_columns
from emotion.video.summary import (
    SUMMARY_SUFFIXES,
    SummaryBuilder,
    VideoSummary,
    check_suffix,
    write_summary,
)
from emotion.video.timeline import check_timeline, write_timeline
from emotion.video.tracking import FrameFaces
from emotion.video.writing import VideoSink

DEFAULT_SETTINGS = FollowSettings()


@dataclass(frozen=True)
class VideoOutputs:
    """The files that a video becomes; each is left out where it is not given.

    Attributes:
        video: the annotated video, with the sound of the original.
        tables: one row a face a frame (.csv, .jsonl, .parquet).
        summary: how long each track showed each emotion (.json or .csv).
        timeline: a picture of the tracks over time (.png or .svg).
        bars: whether the annotated video shows the probabilities of all classes.
    """

    video: Path | None = None
    tables: tuple[Path, ...] = ()
    summary: Path | None = None
    timeline: Path | None = None
    bars: bool = True


@dataclass(frozen=True)
class Progress:
    """How far the work is.

    Attributes:
        frames_done: frames that are finished.
        frame_count: frames that there will be, None where the source does not say.
        position_s: time of the last finished frame in the video.
        duration_s: how long the video is, None where the source does not say.
        rate: recent frames per second; 0 for the first frame.
    """

    frames_done: int
    frame_count: int | None
    position_s: float
    duration_s: float | None
    rate: float

    @property
    def share(self) -> float | None:
        """How much is done, 0 to 1, None where the end is not known."""
        if self.frame_count:
            return min(1.0, self.frames_done / self.frame_count)
        return min(1.0, self.position_s / self.duration_s) if self.duration_s else None


@dataclass
class VideoReport:
    """What came of a video; filled while the work goes on.

    Attributes:
        summary: the tracks and their emotions.
        problem: where and why a file ended early, one sentence; None where it did not.
        is_complete: whether all of the video was done: neither stopped nor ended early.
        sound_problem: why the annotated video lacks some of the sound; None where it has all.
    """

    summary: VideoSummary | None = None
    problem: str | None = None
    is_complete: bool = False
    sound_problem: str | None = None


def analyse_video(
    recognizer: Recognizer,
    video: Video,
    outputs: VideoOutputs = VideoOutputs(),
    settings: FollowSettings = DEFAULT_SETTINGS,
    viewers: Sequence[Callable[[FrameFaces], bool]] = (),
    on_progress: Callable[[Progress], bool] | None = None,
    is_mirrored: bool = False,
    builder: SummaryBuilder | None = None,
) -> VideoReport:
    """Follow the faces of a video to its end and write what is wanted.

    Interrupted in any way, by an error or by Ctrl-C, every file holds what was done until then.

    Args:
        recognizer: finds and reads the faces.
        video: what `open_video` gave; it is used up.
        outputs: the files to write.
        settings: how faces are followed.
        viewers: called with every frame; one that returns False stops the work after that frame.
        on_progress: called after every frame; returns False to stop.
        is_mirrored: swap left and right first.
        builder: sums the frames up; for a caller who wants the summary of an interrupted video too.

    Raises:
        SourceError: a live source stopped, or a file cannot be written.
    """
    builder, report = builder or SummaryBuilder(), VideoReport()
    info, rate = video.info, FrameRate(smoothing_s=5.0)
    with contextlib.ExitStack() as stack:
        consumers = list(_consumers(stack, recognizer, video, outputs, builder, report))
        # the frames are closed before the files are
        read = stack.enter_context(contextlib.closing(frames(video, is_mirrored)))
        followed = follow(recognizer, read, settings, video.is_live)
        stack.enter_context(contextlib.closing(followed))
        for done, frame in enumerate(followed, start=1):
            for consume in consumers:
                consume(frame)
            # all are called before any answer counts: each gets the frame on which one quits
            answers = [view(frame) for view in viewers]
            if on_progress:
                progress = Progress(
                    done, info.frame_count, frame.timestamp_s, info.duration_s, rate.tick()
                )
                answers.append(on_progress(progress))
            if not all(answers):
                break
        else:
            report.is_complete = video.problem is None
    report.summary, report.problem = builder.result(), video.problem
    return report


def _consumers(
    stack: contextlib.ExitStack,
    recognizer: Recognizer,
    video: Video,
    outputs: VideoOutputs,
    builder: SummaryBuilder,
    report: VideoReport,
) -> Iterator[Callable[[FrameFaces], object]]:
    """Yield a function for each thing that is made of the frames; `stack` finishes the files."""
    model = recognizer.model
    yield builder.add
    if outputs.summary:
        check_suffix(outputs.summary, "summary", SUMMARY_SUFFIXES)

        def finish_summary() -> None:
            about = {
                "video": video.name,
                "model": {"name": model.name, "sha256": model.sha256},
                "is_complete": report.is_complete,
                "problem": video.problem,
            }
            write_summary(outputs.summary, builder.result(), about)

        stack.callback(finish_summary)
    if outputs.timeline:
        # known now, not after an hour of work
        check_timeline(outputs.timeline)
        stack.callback(lambda: write_timeline(outputs.timeline, builder.result(), video.name))
    about = {"video": video.name, "model": model.name, "model_sha256": model.sha256}
    for path in outputs.tables:
        table = stack.enter_context(TableSink(path, video_columns(model.class_names), about))
        yield lambda frame, table=table: [table.write(row) for row in frame_rows(frame)]
    if outputs.video:
        sound = video.path if video.info.has_sound else None
        sink = VideoSink(outputs.video, video.info, sound, video.is_live)
        # what became of the sound is known when the file is closed
        stack.callback(lambda: setattr(report, "sound_problem", sink.sound_problem))
        stack.enter_context(sink)
        sides: dict[int, int] = {}
        yield lambda frame: sink.write(annotated(frame, outputs.bars, sides), frame.timestamp_s)


def annotated(
    frame: FrameFaces, bars: bool = True, sides: dict[int, int] | None = None
) -> np.ndarray:
    """Return a copy of a frame with its faces boxed and labelled by the numbers of their tracks.

    `sides` remembers where the bars of each track stood, so that they stay there.
    """
    faces = [tracked.face for tracked in frame.faces]
    return annotate(frame.image, faces, [tracked.track for tracked in frame.faces], bars, sides)


class FrameRate:
    """Counts frames per second, smoothed so that the number can be read."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, smoothing_s: float = 1.0):
        self._clock, self._smoothing_s = clock, smoothing_s
        self._last_s, self._interval_s = None, None

    def tick(self) -> float:
        """Count a frame and return the rate; 0 until there are two."""
        now_s = self._clock()
        if self._last_s is not None:
            elapsed_s = max(now_s - self._last_s, 1e-6)
            weight = 1 - math.exp(-elapsed_s / self._smoothing_s)
            before_s = elapsed_s if self._interval_s is None else self._interval_s
            self._interval_s = before_s + weight * (elapsed_s - before_s)
        self._last_s = now_s
        return 0.0 if self._interval_s is None else 1 / self._interval_s

    def restart(self) -> None:
        """Leave out the time since the last frame, as after a pause."""
        self._last_s = None
