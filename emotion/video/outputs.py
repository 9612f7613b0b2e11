"""A whole video into its files: the annotated video, tables, a summary and a timeline."""

import contextlib
import importlib.util
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emotion.drawing import annotate
from emotion.errors import TableError
from emotion.recognizer import Recognizer
from emotion.rows import face_cells, face_columns, face_to_dict
from emotion.tables import TableSink
from emotion.video.following import follow
from emotion.video.reading import Video, frames
from emotion.video.summary import SummaryBuilder, VideoSummary, write_summary
from emotion.video.timeline import write_timeline
from emotion.video.tracking import FrameFaces
from emotion.video.writing import VideoSink

RATE_FRAMES = 30  # over which their rate is counted


@dataclass(frozen=True)
class VideoOutputs:  # the files that a video becomes; each is left out where it is not given
    video: Path | None = None  # annotated, with the sound of the original
    tables: tuple[Path, ...] = ()  # one row a face a frame (.csv, .jsonl, .parquet)
    summary: Path | None = None  # how long each track showed each emotion (.json, .csv)
    timeline: Path | None = None  # a picture of the tracks over time (.png, .svg)
    bars: bool = True  # the annotated video shows the probabilities of all classes


@dataclass(frozen=True)
class VideoReport:  # what came of a video
    summary: VideoSummary
    is_complete: bool  # all of the video was done: neither stopped nor ended early
    sound_problem: str | None  # why the annotated video lacks some of the sound


def analyse_video(
    recognizer: Recognizer,
    video: Video,
    outputs: VideoOutputs = VideoOutputs(),
    detect_every: int | None = None,
    viewers: Sequence[Callable[[FrameFaces], bool | None]] = (),
    is_mirrored: bool = False,
) -> VideoReport:
    """Follow the faces of a video to its end and write what is wanted.

    `viewers` are called with every frame; one that returns False stops the work. After an error or
    Ctrl-C every file holds what was done until then. Raises SourceError or TableError where a live
    source stops or a file cannot be written.
    """
    builder, model, is_complete = SummaryBuilder(), recognizer.model, False

    def finish(path: Path) -> None:
        try:
            if path == outputs.timeline:
                write_timeline(path, builder.result(), video.name)
            else:
                about = {"video": video.name, "model": {"name": model.name, "sha256": model.sha256}}
                about |= {"is_complete": is_complete, "problem": video.problem}
                write_summary(path, builder.result(), about)
        except OSError as error:
            reason = error.strerror or error
            raise TableError(f"expected to write {path}; received: {reason}") from error

    # what cannot be written is known now, not after an hour of work
    if outputs.timeline and importlib.util.find_spec("matplotlib") is None:
        expected = "expected the package matplotlib to draw a timeline"
        raise TableError(f"{expected}; it is not installed: pip install matplotlib")
    with contextlib.ExitStack() as stack:
        for path in filter(None, (outputs.summary, outputs.timeline)):
            stack.callback(finish, path)
        about = {"video": video.name, "model": model.name, "model_sha256": model.sha256}
        columns = video_columns(model.class_names)
        tables = [stack.enter_context(TableSink(path, columns, about)) for path in outputs.tables]
        sink, sides = None, {}
        if outputs.video:
            sink = VideoSink(outputs.video, video.info, video.path, video.is_live)
            stack.enter_context(sink)
        # the frames are closed before the files are
        read = stack.enter_context(contextlib.closing(frames(video, is_mirrored)))
        followed = follow(recognizer, read, detect_every, video.is_live)
        stack.enter_context(contextlib.closing(followed))
        for frame in followed:
            builder.add(frame)
            for table in tables:
                for row in frame_rows(frame):
                    table.write(row)
            if sink:
                sink.write(annotated(frame, outputs.bars, sides), frame.timestamp_s)
            # all are called before any answer counts: each gets the frame on which one quits
            if False in [view(frame) for view in viewers]:
                break
        else:
            is_complete = video.problem is None
    return VideoReport(builder.result(), is_complete, sink and sink.sound_problem)


def video_columns(class_names: Iterable[str]) -> dict[str, type]:
    return {"frame": int, "timestamp_s": float, "track": int, **face_columns(class_names, raw=True)}


def frame_rows(frame: FrameFaces) -> list[dict]:
    """Return the rows of a frame; without a face, one of frame and time."""
    start = {"frame": frame.index, "timestamp_s": round(frame.timestamp_s, 6)}
    rows = [
        start
        | {"track": tracked.track, "detected": tracked.is_detected}
        | face_cells(face_to_dict(tracked.face))
        | {f"raw_probability_{name}": round(p, 6) for name, p in tracked.raw.items()}
        for tracked in frame.faces
    ]
    return rows or [start]


def annotated(frame: FrameFaces, bars: bool = True, sides: dict | None = None) -> np.ndarray:
    """Return a copy of a frame with its faces drawn; `sides` remembers where the bars stood."""
    faces = [tracked.face for tracked in frame.faces]
    return annotate(frame.image, faces, [tracked.track for tracked in frame.faces], bars, sides)


class FrameRate:
    """Counts frames per second, over so many that the number can be read."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock, self._times_s = clock, deque(maxlen=RATE_FRAMES)

    def tick(self) -> float:
        """Count a frame and return the rate; 0 until there are two."""
        self._times_s.append(self._clock())
        lasted_s = self._times_s[-1] - self._times_s[0]
        return (len(self._times_s) - 1) / max(lasted_s, 1e-6)

    def restart(self) -> None:
        """Leave out the time since the last frame, as after a pause."""
        self._times_s.clear()
