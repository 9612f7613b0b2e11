"""A whole video to everything that may be wanted of it: an annotated video, tables, a summary."""

import contextlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from emotion.errors import TableError
from emotion.recognizer import Recognizer
from emotion.tables import TableSink
from emotion.video.following import FollowSettings, follow
from emotion.video.overlays import annotated
from emotion.video.rate import FrameRate
from emotion.video.reading import Video, frames
from emotion.video.rows import frame_rows, video_columns
from emotion.video.summary import SummaryBuilder, VideoSummary, check_summary_suffix, write_summary
from emotion.video.timeline import Timeline, check_timeline_suffix
from emotion.video.tracking import FrameFaces
from emotion.video.writing import VideoSink

DEFAULT_SETTINGS = FollowSettings()

Taker = Callable[[FrameFaces], None]
FrameViewer = Callable[[FrameFaces], bool]


@dataclass(frozen=True)
class VideoOutputs:
    """The files that a video becomes; each is left out where it is not given.

    Attributes:
        video: the annotated video, with the sound of the original.
        tables: one row a face a frame (.csv, .jsonl, .parquet).
        summary: how long each track showed each emotion (.json or .csv).
        timeline: a plot of the tracks over time (.png or .svg).
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
        rate: frames per second of late; 0 until that can be told.
    """

    frames_done: int
    frame_count: int | None
    position_s: float
    duration_s: float | None
    rate: float

    @property
    def share(self) -> float | None:
        """Return how much is done, 0 to 1, None where the end is not known."""
        if self.frame_count:
            return min(1.0, self.frames_done / self.frame_count)
        return min(1.0, self.position_s / self.duration_s) if self.duration_s else None


@dataclass(frozen=True)
class VideoReport:
    """What came of a video.

    Attributes:
        summary: the tracks and their emotions.
        problem: where and why a file ended early, one sentence; None where it did not.
        is_complete: whether all of the video was done: neither stopped nor ended early.
        sound_problem: why the annotated video has not all of the sound; None where it has.
    """

    summary: VideoSummary
    problem: str | None
    is_complete: bool
    sound_problem: str | None = None


def analyse_video(
    recognizer: Recognizer,
    video: Video,
    outputs: VideoOutputs = VideoOutputs(),
    settings: FollowSettings = DEFAULT_SETTINGS,
    viewers: Sequence[FrameViewer] = (),
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
        viewers: get every frame; one that returns False stops the work after that frame.
        on_progress: is told after every frame; returns False to stop.
        is_mirrored: swap left and right first.
        builder: sums the frames up; for a caller who wants the summary of an interrupted video too.

    Raises:
        SourceError: a live source stopped, or a file cannot be written.
    """
    builder, course = builder or SummaryBuilder(), _Course(video)
    with contextlib.ExitStack() as stack:
        takers = list(_takers(stack, recognizer, video, outputs, builder, course))
        for seen in _followed(stack, recognizer, video, settings, is_mirrored):
            for take in takers:
                take(seen)
            # all are asked before any answer counts: each gets the frame on which one quits
            answers = [view(seen) for view in viewers]
            progress = course.after(seen)
            if on_progress:
                answers.append(on_progress(progress))
            if not all(answers):
                break
        else:
            course.is_complete = video.problem is None
    return VideoReport(builder.result(), video.problem, course.is_complete, course.sound_problem)


def _followed(
    stack: contextlib.ExitStack, recognizer, video: Video, settings, is_mirrored: bool
) -> Iterable[FrameFaces]:
    """Return the frames with their faces; they are closed before the files are."""
    read = stack.enter_context(contextlib.closing(frames(video, is_mirrored)))
    seen = follow(recognizer, read, settings, video.is_live)
    return stack.enter_context(contextlib.closing(seen))


def _takers(
    stack: contextlib.ExitStack,
    recognizer: Recognizer,
    video: Video,
    outputs: VideoOutputs,
    builder: SummaryBuilder,
    course: "_Course",
) -> Iterator[Taker]:
    """Yield a function for each thing that is made of the frames; `stack` finishes them."""
    yield builder.add
    if outputs.summary:
        check_summary_suffix(outputs.summary)
        stack.callback(_write_summary, outputs.summary, recognizer, video, builder, course)
    if outputs.timeline:
        yield _timeline(stack, outputs.timeline, video.name)
    for path in outputs.tables:
        yield _table(stack, path, recognizer, video.name)
    if outputs.video:
        sound = video.path if video.info.has_sound else None
        sink = VideoSink(outputs.video, video.info, sound, video.is_live)
        # what became of the sound is known when the file is closed
        stack.callback(lambda: course.heard(sink.sound_problem))
        stack.enter_context(sink)
        sides: dict[int, int] = {}
        yield lambda seen: sink.write(annotated(seen, outputs.bars, sides), seen.timestamp_s)


def _write_summary(path: Path, recognizer, video: Video, builder, course: "_Course") -> None:
    """Write the summary of the frames so far, with what it is a summary of."""
    model = recognizer.model
    about = {
        "video": video.name,
        "model": {"name": model.name, "sha256": model.sha256},
        "is_complete": course.is_complete,
        "problem": video.problem,
    }
    write_summary(path, builder.result(), about)


def _timeline(stack: contextlib.ExitStack, path: Path, title: str) -> Taker:
    check_timeline_suffix(path)
    # known now, not after an hour of work
    if importlib.util.find_spec("matplotlib") is None:
        raise TableError(
            f"expected the package matplotlib to draw {path.name}; it is not installed: pip "
            "install matplotlib"
        )
    timeline = Timeline(title)
    stack.callback(timeline.write, path)
    return timeline.add


def _table(stack: contextlib.ExitStack, path: Path, recognizer: Recognizer, name: str) -> Taker:
    model = recognizer.model
    about = {"video": name, "model": model.name, "model_sha256": model.sha256}
    sink = stack.enter_context(TableSink(path, video_columns(model.class_names), about))

    def write_rows(seen: FrameFaces) -> None:
        for row in frame_rows(seen):
            sink.write(row)

    return write_rows


class _Course:
    """How far the work is: frames and their rate against what a video promises."""

    def __init__(self, video: Video):
        self.is_complete = False
        self.sound_problem: str | None = None
        self._info, self._rate, self._done = video.info, FrameRate(smoothing_s=5.0), 0

    def heard(self, problem: str | None) -> None:
        """Take in what became of the sound."""
        self.sound_problem = problem

    def after(self, seen: FrameFaces) -> Progress:
        """Return how far the work is after a frame."""
        self._done += 1
        count, duration_s = self._info.frame_count, self._info.duration_s
        return Progress(self._done, count, seen.timestamp_s, duration_s, self._rate.tick())
