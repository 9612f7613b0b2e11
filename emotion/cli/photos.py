"""Many photos: tables, annotated copies, JSON, or a line of text for each."""

import argparse
import contextlib
import functools
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from emotion.batch import (
    BatchOutputs,
    BatchProgress,
    BatchReport,
    BatchSettings,
    ClusterWorkers,
    LocalWorkers,
    run_batch,
)
from emotion.cli.output import is_stdout, json_stream, tell, write_lines
from emotion.cli.sources import PhotosSource
from emotion.cli.tools import detector_for
from emotion.progress import ProgressBar

MOST_FACES_TOLD = 10
"""A line about a photo names so many faces; a table has all of them."""


def read_photos(source: PhotosSource, options: argparse.Namespace) -> int:
    """Recognize many photos on all cores or a cluster, and tell what came of them."""
    for note in source.notes:
        tell(f"note: {note}")
    settings = BatchSettings(options.model, detector_for(options, source), options.again)
    with contextlib.ExitStack() as stack:
        outputs, on_photo = _outputs(stack, options), _teller(stack, options)
        bar = stack.enter_context(ProgressBar("photos", len(source.files), sys.stderr))
        on_progress = functools.partial(_show, bar) if _has_room(options) else None
        report = run_batch(
            source.files, outputs, settings, _workers(options), on_progress, on_photo
        )
    tell_report(report, options, len(source.files))
    return 1 if report.problems and report.problems == report.done - report.skipped else 0


def _outputs(stack: contextlib.ExitStack, options: argparse.Namespace) -> BatchOutputs:
    """Return what is written; where nothing is to stay, it is in a folder that goes away."""
    if options.table or options.output:
        return BatchOutputs(tuple(options.table), options.output)
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="emotion-"))
    return BatchOutputs((Path(folder) / "faces.jsonl",))


def _workers(options: argparse.Namespace) -> LocalWorkers | ClusterWorkers:
    """Return where the work is done."""
    if options.scheduler:
        return ClusterWorkers(options.scheduler, send_files=options.send_files)
    return LocalWorkers(options.workers)


def _prints_lines(options: argparse.Namespace) -> bool:
    """Return whether each photo has a line on stdout: nothing else was asked for."""
    return not (options.table or options.output or options.json)


def _has_room(options: argparse.Namespace) -> bool:
    """Return whether progress can be shown: not between lines on the same terminal."""
    has_lines = _prints_lines(options) or is_stdout(options.json)
    return not (has_lines and sys.stdout.isatty() and sys.stderr.isatty())


def _teller(stack: contextlib.ExitStack, options: argparse.Namespace) -> Callable | None:
    """Return what is told each photo as it is done, with its results or why there are none."""
    if options.json:
        return functools.partial(_write_json, stack.enter_context(json_stream(options.json)))
    return _write_line if _prints_lines(options) else None


def _write_json(stream, name: str, results: dict | str) -> None:
    """Write a photo's results as a line of JSON."""
    content = {"problem": results} if isinstance(results, str) else results
    stream.write(json.dumps({"photo": name} | content) + "\n")
    stream.flush()


def _write_line(name: str, results: dict | str) -> None:
    """Write a photo's faces as a line of text."""
    write_lines([f"{name}: {describe(results)}"])


def describe(results: dict | str) -> str:
    """Return the faces of a photo, or why there are none, in a few words."""
    if isinstance(results, str):
        return results
    verdicts = [face["verdict"] for face in results["faces"]]
    if not verdicts:
        return "no face found"
    more = len(verdicts) - MOST_FACES_TOLD
    words = verdicts[:MOST_FACES_TOLD] + ([f"and {more} more"] if more > 0 else [])
    return f"{counted(len(verdicts), 'face')}: {'; '.join(words)}"


def _show(bar: ProgressBar, progress: BatchProgress) -> bool:
    """Show how far the work is."""
    extra = counted(progress.problems, "problem") if progress.problems else ""
    bar.show(progress.done, progress.rate, progress.left_s, extra)
    return True


def tell_report(report: BatchReport, options: argparse.Namespace, count: int) -> None:
    """Tell the first problems, and in one last line what was done and where it is."""
    for note in report.notes:
        tell(f"note: {note}")
    if not _prints_lines(options):
        for name, reason in report.first_problems:
            tell(f"{name}: {reason}")
    words = [counted(report.faces, "face"), counted(report.problems, "problem")]
    if report.skipped:
        words.append(f"{report.skipped:,} done before and unchanged")
    if report.gone:
        words.append(f"{report.gone:,} no longer there and taken out")
    fresh = report.done - report.skipped
    rate = f"; {fresh / report.seconds:.1f} photos a second" if fresh and report.seconds else ""
    places = _places(options.table, options.output)
    tell(f"{counted(count, 'photo')}: {', '.join(words)}{rate}{places}")


def _places(tables: list[Path], copies: Path | None) -> str:
    """Return where the results are, as the end of a sentence."""
    places = [f"table {path}" for path in tables] + ([f"copies in {copies}"] if copies else [])
    return "".join(f"; {place}" for place in places)


def counted(count: int, noun: str) -> str:
    """Return a number of things in words: 1 face, 1,204 faces."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
