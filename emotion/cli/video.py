"""A video, stream or camera: followed into a window, files and a summary."""

import argparse
import contextlib
import functools
import json
import sys
from collections.abc import Callable, Iterator
from typing import TextIO

from emotion.cli.options import choose_window, has_output
from emotion.cli.output import is_stdout, json_stream, results_of, tell, write_lines
from emotion.cli.sources import VideoSource
from emotion.cli.tools import TITLE, Tools, load
from emotion.progress import ProgressBar
from emotion.recognizer import Recognizer
from emotion.rows import face_to_dict
from emotion.video.following import FollowSettings
from emotion.video.outputs import Progress, VideoOutputs, analyse_video
from emotion.video.reading import Video, open_video
from emotion.video.summary import SummaryBuilder, summary_lines
from emotion.video.tracking import FrameFaces
from emotion.video.window import Viewer


def read_video(source: VideoSource, options: argparse.Namespace, tools: Tools) -> int:
    """Follow the faces of a video or camera into everything that is wanted of it."""
    wants_window = choose_window(options, source, tools)
    recognizer = load(options, source, tools)
    outputs = VideoOutputs(
        options.output, tuple(options.table), options.summary, options.timeline, not options.no_bars
    )
    settings, builder = FollowSettings(options.detect_every), SummaryBuilder()
    with contextlib.ExitStack() as stack:
        video = stack.enter_context(open_video(source.target, tools.open_capture))
        if video.is_live and not (wants_window or options.headless):
            tell("no window can be opened here; Ctrl-C stops")
        stack.callback(tell_summary, video, builder, options)
        viewers = list(_viewers(stack, recognizer, video, options, wants_window, tools))
        report = analyse_video(
            recognizer,
            video,
            outputs,
            settings,
            viewers,
            _progress(stack, video, wants_window),
            options.mirror,
            builder,
        )
    if report.sound_problem:
        tell(f"warning: {video.name}: {report.sound_problem}")
    return 0


def tell_summary(video: Video, builder: SummaryBuilder, options: argparse.Namespace) -> None:
    """Print what was seen in a video, and what is to be known about it."""
    if video.problem:
        tell(f"warning: {video.name}: {video.problem}")
    if video.dropped and has_output(options):
        tell(f"note: {video.name}: {video.dropped:,} frames were passed over to keep pace")
    summary = builder.result()
    if summary.frames and not (options.json and is_stdout(options.json)):
        first, *rest = summary_lines(summary)
        write_lines([f"{video.name}: {first}", *rest])


def _viewers(
    stack: contextlib.ExitStack, recognizer, video: Video, options, wants_window: bool, tools: Tools
) -> Iterator[Callable]:
    """Yield a function for each thing that wants every frame; it returns False to quit."""
    if options.json:
        stream = stack.enter_context(json_stream(options.json))
        yield functools.partial(_write_line, stream, recognizer)
    if wants_window:
        window = stack.enter_context(tools.open_window(TITLE))
        viewer = Viewer(window, video, not options.no_bars)
        stack.callback(lambda: [tell(f"saved {path}") for path in viewer.saved])
        yield stack.enter_context(viewer).show


def _write_line(stream: TextIO, recognizer: Recognizer, seen: FrameFaces) -> bool:
    """Write the results of a frame as a line of JSON."""
    place = {"frame": seen.index, "timestamp_s": round(seen.timestamp_s, 3)}
    content = place | results_of(recognizer, seen.image.shape[1::-1], ())
    content["faces"] = [
        {"track": tracked.track} | face_to_dict(tracked.face) for tracked in seen.faces
    ]
    stream.write(json.dumps(content) + "\n")
    stream.flush()
    return True


def _progress(stack: contextlib.ExitStack, video: Video, wants_window: bool) -> Callable | None:
    """Return what tells how far the work is, where no window shows it."""
    if wants_window:
        return None
    bar = stack.enter_context(ProgressBar("frames", video.info.frame_count, sys.stderr))

    def show(progress: Progress) -> bool:
        bar.show(progress.frames_done, progress.rate)
        return True

    return show
