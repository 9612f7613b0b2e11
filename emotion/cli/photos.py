"""One photo, or many: lines of text, JSON, tables, annotated copies, a window."""

import argparse
import contextlib
import json
import logging
import sys
import tempfile
import warnings
from pathlib import Path

from emotion.cli.options import choose_window
from emotion.cli.sources import PhotoSource, PhotosSource
from emotion.cli.tools import STDOUT, TITLE, Tools, detector_for, json_out, load, tell, write_lines
from emotion.drawing import annotate
from emotion.images.encoding import write_image
from emotion.progress import progress_bar
from emotion.rows import results_to_dict
from emotion.text import counted
from emotion.video.window import QUIT, fitted

MOST_FACES_TOLD = 10  # in a line about a photo; a table has all of them


def read_photo(source: PhotoSource, options: argparse.Namespace, tools: Tools) -> int:
    """Recognize a photo and write, print and show what was found; return the exit code."""
    wants_window = choose_window(options, source, tools)
    recognizer = load(options, source, tools)
    faces, model = recognizer.recognize(source.photo), recognizer.model
    if options.output:
        write_image(options.output, annotate(source.photo.full, faces))
    if options.json:
        with json_out(options.json) as stream:
            content = results_to_dict(faces, source.photo.size_wh, model.name, model.sha256)
            stream.write(json.dumps(content, indent=2) + "\n")
    if options.json != STDOUT:
        write_lines(str(faces).splitlines()[1:])
    if wants_window:
        view = fitted(annotate(source.photo.full, faces))
        with tools.open_window(TITLE) as window:
            while window.show(view, wait_s=0.05) != QUIT:
                pass
    return 0


def read_photos(source: PhotosSource, options: argparse.Namespace) -> int:
    """Recognize many photos on all cores or a cluster; return the exit code."""
    # a single photo does not wait for this
    from emotion.batch import BatchOutputs, BatchSettings, ClusterWorkers, LocalWorkers, run_batch

    for note in source.notes:
        tell(f"note: {note}")
    settings = BatchSettings(options.model, detector_for(options, source), again=options.again)
    workers = LocalWorkers(options.workers)
    if options.scheduler:
        # what Dask has to say of a scheduler that goes away is told here in one sentence
        logging.disable()
        warnings.simplefilter("ignore")
        workers = ClusterWorkers(options.scheduler, options.send_files)
    outputs = BatchOutputs(tuple(options.table), options.output)
    prints_lines = not (options.table or options.output or options.json)
    with contextlib.ExitStack() as stack:
        if not (options.table or options.output):  # nothing is to stay
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="emotion-"))
            outputs = BatchOutputs((Path(folder) / "faces.jsonl",))
        stream = stack.enter_context(json_out(options.json)) if options.json else None
        show = None
        # no bar between lines on the same terminal
        has_lines = prints_lines or options.json == STDOUT
        if not (has_lines and sys.stdout.isatty() and sys.stderr.isatty()):
            show = stack.enter_context(progress_bar("photos", len(source.files), sys.stderr))

        def on_progress(progress) -> None:
            if show:
                problems = progress.problems
                show(progress.done, counted(problems, "problem") if problems else "")

        def on_photo(name: str, results: dict | str) -> None:
            if stream:
                content = {"problem": results} if isinstance(results, str) else results
                stream.write(json.dumps({"photo": name} | content) + "\n")
                stream.flush()
            elif prints_lines:
                write_lines([f"{name}: {describe(results)}"])

        report = run_batch(source.files, outputs, settings, workers, on_progress, on_photo)
    for note in report.notes:
        tell(f"note: {note}")
    for name, reason in () if prints_lines else report.first_problems:
        tell(f"{name}: {reason}")
    fresh, gone = report.done - report.skipped, report.gone
    words = [counted(report.faces, "face"), counted(report.problems, "problem")]
    words += [f"{report.skipped:,} done before and unchanged"] if report.skipped else []
    words += [f"{gone:,} no longer there and taken out"] if gone else []
    parts = [f"{counted(report.total, 'photo')}: {', '.join(words)}"]
    parts += [f"{fresh / report.seconds:.1f} photos a second"] if fresh else []
    parts += [f"table {path}" for path in options.table]
    parts += [f"copies in {options.output}"] if options.output else []
    tell("; ".join(parts))
    return 1 if report.problems and report.problems == fresh else 0


def describe(results: dict | str) -> str:
    """Return the faces of a photo, or why there are none, in a few words."""
    if isinstance(results, str):
        return results
    verdicts = [face["verdict"] for face in results["faces"]]
    more = len(verdicts) - MOST_FACES_TOLD
    words = verdicts[:MOST_FACES_TOLD] + ([f"and {more} more"] if more > 0 else [])
    return f"{counted(len(verdicts), 'face')}: {'; '.join(words)}" if words else "no face found"
