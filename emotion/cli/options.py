"""Which options go together, and whether results can be written: known before any work is done."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

from emotion.cli.output import is_stdout
from emotion.cli.sources import (
    PhotoSource,
    PhotosSource,
    Source,
    VideoSource,
    as_photos,
    find_source,
)
from emotion.cli.tools import Tools
from emotion.detection.yunet import EXPECTED_NETWORK
from emotion.errors import EmotionError, SourceError
from emotion.files import user_path
from emotion.images.encoding import WRITTEN_SUFFIXES
from emotion.tables import TABLE_SUFFIXES
from emotion.video.summary import SUMMARY_SUFFIXES
from emotion.video.timeline import TIMELINE_SUFFIXES
from emotion.video.writing import VIDEO_OUTPUT_SUFFIXES

PHOTO_SUFFIXES = WRITTEN_SUFFIXES
JSON_SUFFIXES = (".json", ".jsonl")

KINDS = MappingProxyType(
    {VideoSource: "a video or camera", PhotoSource: "a photo", PhotosSource: "many photos"}
)
"""Kind of source -> how it is called."""

ONLY_FOR = MappingProxyType(
    {
        "summary": VideoSource,
        "timeline": VideoSource,
        "detect_every": VideoSource,
        "no_bars": VideoSource,
        "workers": PhotosSource,
        "scheduler": PhotosSource,
        "send_files": PhotosSource,
        "again": PhotosSource,
    }
)
"""Option -> the one kind of source for which it means something."""


class UsageError(EmotionError):
    """The command line asks for something that cannot be."""


def check_options(options: argparse.Namespace) -> None:
    """Raise where options contradict one another, whatever the source is."""
    check_detector(options)
    check_workers(options)


def check_source(options: argparse.Namespace, source: Source) -> None:
    """Raise where an option means nothing for a source, or a result could not be written."""
    check_kind(options, source)
    check_outputs(options, source)


def check_detector(options: argparse.Namespace) -> None:
    """Raise unless a network's file is given where one is needed, and only there."""
    if options.detector == "yunet" and options.detector_model is None:
        raise UsageError(
            f"expected --detector-model FILE with --detector yunet: {EXPECTED_NETWORK}"
        )
    if options.detector != "yunet" and options.detector_model is not None:
        raise UsageError(
            "expected --detector yunet with --detector-model; "
            f"received --detector {options.detector}, which needs no file"
        )


def check_workers(options: argparse.Namespace) -> None:
    """Raise where it is not clear which machines are to work."""
    if options.send_files and not options.scheduler:
        raise UsageError("expected --scheduler URL with --send-files; received none")
    if options.workers and options.scheduler:
        raise UsageError(
            "expected --workers or --scheduler; received both: a cluster has its own workers"
        )


def open_source(options: argparse.Namespace) -> Source:
    """Return the source; a photo of which a table is wanted counts as a list of one."""
    has_folder = options.output is not None and options.output.is_dir()
    copies = [options.output] if has_folder and not _is_in(options.output, options.source) else []
    source = find_source(options.source, leave_out=copies)
    is_list = isinstance(source, PhotoSource) and (options.table or has_folder)
    return as_photos(source) if is_list else source


def _is_in(folder: Path, sources: Sequence[str]) -> bool:
    """Return whether a source is in a folder, which is then no place for results."""
    inside = os.path.realpath(folder)
    # `Path.resolve` raises where a link leads to itself
    return any(Path(os.path.realpath(user_path(text))).is_relative_to(inside) for text in sources)


def check_kind(options: argparse.Namespace, source: Source) -> None:
    """Raise where an option means nothing for this kind of source."""
    received = "received --source " + " ".join(options.source)
    for name, kind in ONLY_FOR.items():
        if getattr(options, name) and not isinstance(source, kind):
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"expected {KINDS[kind]} with {flag}; {received}")
    if options.mirror and not (isinstance(source, VideoSource) and source.is_camera):
        raise UsageError(f"expected a camera with --mirror; {received}")
    if options.show and isinstance(source, PhotosSource):
        raise UsageError(f"expected a photo, a video or a camera with --show; {received}")


def check_outputs(options: argparse.Namespace, source: Source) -> None:
    """Raise where a result could not be written, before any work is done."""
    wanted = [("--table", path, "table", TABLE_SUFFIXES) for path in options.table]
    if options.json and not is_stdout(options.json):
        wanted.append(("--json", options.json, "JSON", JSON_SUFFIXES))
    if options.output and isinstance(source, PhotoSource):
        wanted.append(("--output", options.output, "photo", PHOTO_SUFFIXES))
    if options.output and isinstance(source, VideoSource):
        wanted.append(("--output", options.output, "video", VIDEO_OUTPUT_SUFFIXES))
    if options.summary:
        wanted.append(("--summary", options.summary, "summary", SUMMARY_SUFFIXES))
    if options.timeline:
        wanted.append(("--timeline", options.timeline, "picture", TIMELINE_SUFFIXES))
    for option, path, kind, suffixes in wanted:
        _check_file(option, path, kind, suffixes, options.source)
    _check_each_once([path for _, path, _, _ in wanted])
    if options.output and isinstance(source, PhotosSource):
        _check_folder(options.output)


def _check_file(
    option: str, path: Path, kind: str, suffixes: tuple[str, ...], sources: Sequence[str]
) -> None:
    """Raise unless a file can be written: its name, its folder, and that it is not the source."""
    if path.suffix.lower() not in suffixes:
        raise UsageError(
            f"expected a {kind} file ending in {', '.join(suffixes)} for {option}; received {path}"
        )
    if path.is_dir():
        raise SourceError(f"expected a file for {option}; {path} is a folder")
    if not path.parent.is_dir():
        raise SourceError(f"expected a folder for {option} to be in; there is no {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise SourceError(f"expected a folder that can be written to; {path.parent} cannot")
    if path.exists() and any(
        place.exists() and path.samefile(place) for place in map(user_path, sources)
    ):
        raise UsageError(f"expected {option} to differ from --source; both are {path}")


def _check_each_once(paths: Sequence[Path]) -> None:
    """Raise where two results would be the same file."""
    places = [os.path.realpath(path) for path in paths]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise UsageError(f"expected a file of its own for each result; received {place} twice")


def _check_folder(folder: Path) -> None:
    """Raise unless annotated copies of many photos can be put into a folder."""
    if folder.is_file() or folder.suffix.lower() in PHOTO_SUFFIXES:
        raise UsageError(
            f"expected a folder for --output, for copies of many photos; received {folder}"
        )


def choose_window(options: argparse.Namespace, source: Source, tools: Tools) -> bool:
    """Return whether to open a window.

    Raises:
        SourceError: one is needed and cannot be opened.
        UsageError: there would be nothing to see, anywhere.
    """
    has_files = has_output(options)
    is_photo = isinstance(source, PhotoSource)
    is_live = isinstance(source, VideoSource) and source.is_live
    by_default = not options.headless and not is_photo and (is_live or not has_files)
    if not (options.show or by_default):
        if is_live and not has_files:
            raise UsageError(
                "expected --output, --table, --json, --summary or --timeline with --headless, "
                "which shows nothing"
            )
        return False
    problem = tools.window_problem()
    if problem and (options.show or not has_files):
        way_out = "use --headless, --output, --table or --json instead"
        if is_photo or has_files:
            way_out = "leave --show out"
        raise SourceError(f"expected to open a window; {problem}: {way_out}")
    return not problem


def has_output(options: argparse.Namespace) -> bool:
    """Return whether results are wanted beside what is shown."""
    wanted = (options.output, options.table, options.json, options.summary, options.timeline)
    return any(wanted)
