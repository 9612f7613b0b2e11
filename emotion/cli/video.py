"""A video, stream or camera: followed into a window, files and a summary."""

import argparse
import contextlib
import json
import sys

from emotion.cli.options import choose_window
from emotion.cli.sources import VideoSource
from emotion.cli.tools import STDOUT, TITLE, Tools, json_out, load, tell, write_lines
from emotion.progress import progress_bar
from emotion.rows import face_to_dict, results_to_dict
from emotion.video.outputs import VideoOutputs, analyse_video
from emotion.video.reading import Video, open_video
from emotion.video.summary import SummaryBuilder, summary_lines
from emotion.video.tracking import FrameFaces
from emotion.video.window import Viewer


def read_video(source: VideoSource, options: argparse.Namespace, tools: Tools) -> int:
    """Follow the faces of a video or camera into all that is wanted of it; return the exit code."""
    wants_window = choose_window(options, source, tools)
    recognizer = load(options, source, tools)
    files = options.output, tuple(options.table), options.summary, options.timeline
    outputs = VideoOutputs(*files, not options.no_bars)
    builder = SummaryBuilder()
    viewers = [builder.add]
    with contextlib.ExitStack() as stack:
        video = stack.enter_context(open_video(source.target, tools.open_capture))
        if video.is_live and not (wants_window or options.headless):
            tell("no window can be opened here; Ctrl-C stops")
        stack.callback(tell_summary, video, builder, options)
        if options.json:
            stream = stack.enter_context(json_out(options.json))

            def write_line(seen: FrameFaces) -> None:
                model, size_wh = recognizer.model, seen.image.shape[1::-1]
                content = {
                    "frame": seen.index,
                    "timestamp_s": round(seen.timestamp_s, 3),
                    **results_to_dict((), size_wh, model.name, model.sha256),
                    "faces": [{"track": one.track} | face_to_dict(one.face) for one in seen.faces],
                }
                stream.write(json.dumps(content) + "\n")
                stream.flush()

            viewers.append(write_line)
        if wants_window:
            window = stack.enter_context(tools.open_window(TITLE))
            viewer = Viewer(window, video, not options.no_bars)
            stack.callback(lambda: [tell(f"saved {path}") for path in viewer.saved])
            viewers.append(stack.enter_context(viewer).show)
        else:
            show = stack.enter_context(progress_bar("frames", video.info.frame_count, sys.stderr))
            viewers.append(lambda seen: show(seen.index + 1))
        every, is_mirrored = options.detect_every, options.mirror
        report = analyse_video(recognizer, video, outputs, every, viewers, is_mirrored)
    if report.sound_problem:
        tell(f"warning: {video.name}: {report.sound_problem}")
    return 0


def tell_summary(video: Video, builder: SummaryBuilder, options: argparse.Namespace) -> None:
    """Print what was seen in a video, and what is to be known about it."""
    if video.problem:
        tell(f"warning: {video.name}: {video.problem}")
    if video.dropped and options.has_files:
        tell(f"note: {video.name}: {video.dropped:,} frames were passed over to keep pace")
    summary = builder.result()
    if summary.frames and options.json != STDOUT:
        first, *rest = summary_lines(summary)
        write_lines([f"{video.name}: {first}", *rest])
