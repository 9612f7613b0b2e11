"""The options of `emotion_detector.py`, which of them go together, and whether results can be
written: known before any work is done.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

from emotion.cli.output import is_stdout
from emotion.cli.sources import PhotoSource, PhotosSource, Source, VideoSource, find_source
from emotion.cli.tools import Tools
from emotion.detection.yunet import EXPECTED_NETWORK
from emotion.errors import EmotionError, SourceError
from emotion.files import user_path
from emotion.images.encoding import WRITTEN_SUFFIXES
from emotion.images.folders import PhotoFile
from emotion.recognizer import DEFAULT_MODEL
from emotion.tables import TABLE_SUFFIXES
from emotion.video.summary import SUMMARY_SUFFIXES
from emotion.video.timeline import TIMELINE_SUFFIXES
from emotion.video.writing import VIDEO_OUTPUT_SUFFIXES

PHOTO_SUFFIXES = WRITTEN_SUFFIXES
JSON_SUFFIXES = (".json", ".jsonl")

KINDS = MappingProxyType(
    {VideoSource: "a video or camera", PhotoSource: "a photo", PhotosSource: "many photos"}
)
"""Kind of source -> what it is called."""

ONLY_FOR = MappingProxyType(
    dict.fromkeys(("summary", "timeline", "detect_every", "no_bars"), VideoSource)
    | dict.fromkeys(("workers", "scheduler", "send_files", "again"), PhotosSource)
)
"""Option -> the one kind of source for which it means something."""

DESCRIPTION = """\
Find every face in a camera's picture, a video, a stream, a photo or a folder of photos and read its
emotion. Without options: camera 0 in a window, until q, Esc or the window's close button."""
EPILOG = """\
examples:
  python emotion_detector.py                                    camera 0 in a window
  python emotion_detector.py --source 1 --mirror                another camera, as in a mirror
  python emotion_detector.py --source rtsp://camera.local/live  a network camera
  python emotion_detector.py --source photo.jpg                 one line of text a face
  python emotion_detector.py --source photo.jpg --output boxes.png --json boxes.json
  python emotion_detector.py --source film.mp4                  the video in a window
  python emotion_detector.py --source film.mp4 --output out.mp4 --table faces.csv \\
      --summary summary.json --timeline timeline.png
  python emotion_detector.py --source photos/                   one line a photo
  python emotion_detector.py --source photos/ --table faces.parquet --output annotated/
  python emotion_detector.py --source 'photos/**/*.jpg' --table faces.csv --workers 8
  python emotion_detector.py --source list.txt --table faces.csv --scheduler tcp://host:8786
  python emotion_detector.py --headless --json | jq .faces      camera 0, one JSON line a frame

Keys in a window: q or Esc quits, space pauses, n is the next frame, s saves the picture, r records,
b shows or hides the bars, m mirrors, h shows help.
A camera or stream opens a window unless --headless is given; a video opens one where no file is
asked for; a photo only with --show. An existing file is replaced, but a table of photos is carried
on: what is in it and unchanged is not done again. Photos are searched deeper than videos.
Ctrl-C stops at any time and keeps what is finished.
Exit code: 0 done (also where a damaged video ended early, or some photos could not be read: a line
on stderr says so), 1 something went wrong, 2 wrong usage, 130 Ctrl-C."""


class UsageError(EmotionError):
    """The command line asks for something that cannot be."""


class _Parser(argparse.ArgumentParser):
    """Reports a wrong option like the other errors: one line."""

    def error(self, message: str):
        raise UsageError(message)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of a command line.

    Raises:
        UsageError: there is no such option or value, or options contradict one another.
    """
    parser = _Parser(
        prog="emotion_detector.py",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--source",
        nargs="+",
        default=["0"],
        metavar="SOURCE",
        help="camera number, video, stream URL, photo, or photos: a folder with those below it, a "
        "quoted pattern (** for any folders), a list (.txt), or several of these (default: 0)",
    )

    results = parser.add_argument_group("results")
    add = results.add_argument
    add(
        "--output",
        type=Path,
        metavar="FILE",
        help=f"write the annotated photo ({' '.join(PHOTO_SUFFIXES)}) or video "
        f"({' '.join(VIDEO_OUTPUT_SUFFIXES)}); of many photos, copies into this folder",
    )
    add(
        "--table",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help=f"write one row per face ({' '.join(TABLE_SUFFIXES)}); may be given several times",
    )
    add(
        "--json",
        type=Path,
        nargs="?",
        const=Path("-"),
        metavar="FILE",
        help="write the results as JSON to FILE (.json or .jsonl), or to stdout without FILE: one "
        "document for a photo, one line a frame of a video, one line for each of many photos",
    )
    add = results.add_mutually_exclusive_group().add_argument
    add("--show", action="store_true", help="always open a window")
    add("--headless", "--no-window", action="store_true", help="never open a window")

    add = parser.add_argument_group("videos and cameras").add_argument
    add(
        "--summary",
        type=Path,
        metavar="FILE",
        help=f"write how long each face showed each emotion ({' '.join(SUMMARY_SUFFIXES)})",
    )
    add(
        "--timeline",
        type=Path,
        metavar="FILE",
        help=f"draw the emotions of each face over time ({' '.join(TIMELINE_SUFFIXES)})",
    )
    add(
        "--detect-every",
        type=_count,
        metavar="N",
        help="look for faces in one frame of N and follow them between (default: ten times a "
        "second in files, as often as the machine allows in live pictures)",
    )
    add("--no-bars", action="store_true", help="draw no bars with the percentages of all emotions")
    add("--mirror", action="store_true", help="turn the camera's picture as in a mirror")

    add = parser.add_argument_group("many photos").add_argument
    add("--workers", type=_count, metavar="N", help="processes at once (default: one per core)")
    add("--scheduler", metavar="URL", help="work on a Dask cluster, such as tcp://host:8786")
    add(
        "--send-files",
        action="store_true",
        help="send the photos to the cluster, whose machines do not share this folder",
    )
    add("--again", action="store_true", help="do also what is in the table already and unchanged")

    add = parser.add_argument_group("model").add_argument
    add(
        "--model",
        type=_model_stem,
        default=DEFAULT_MODEL,
        metavar="STEM",
        help="model to use: folder and name without suffix (default: models/detection_model)",
    )
    add(
        "--detector",
        choices=("haar", "yunet"),
        default="haar",
        help="what finds the faces: OpenCV's Haar cascades, or YuNet, its face network "
        "(default: haar)",
    )
    add(
        "--detector-model",
        type=Path,
        metavar="FILE",
        help=f"the network's file, which --detector yunet needs: {EXPECTED_NETWORK}",
    )
    options = parser.parse_args(arguments)
    _check_together(options)
    return options


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1; received {text}")
    return int(text)


def _model_stem(text: str) -> Path:
    """Return the common name of a model's files, also where one of the files is given."""
    path = Path(text)
    return path.with_suffix("") if path.suffix in (".json", ".h5", ".onnx") else path


def _check_together(options: argparse.Namespace) -> None:
    """Raise where options contradict one another, whatever the source is."""
    if options.detector == "yunet" and options.detector_model is None:
        raise UsageError(
            f"expected --detector-model FILE with --detector yunet: {EXPECTED_NETWORK}"
        )
    if options.detector != "yunet" and options.detector_model is not None:
        raise UsageError(
            "expected --detector yunet with --detector-model; "
            f"received --detector {options.detector}, which needs no file"
        )
    if options.send_files and not options.scheduler:
        raise UsageError("expected --scheduler URL with --send-files; received none")
    if options.workers and options.scheduler:
        raise UsageError(
            "expected --workers or --scheduler; received both: a cluster has its own workers"
        )


def open_source(options: argparse.Namespace) -> Source:
    """Return the source; a photo of which a table is wanted counts as a list of one.

    Raises:
        SourceError: it cannot be read, or a result could not be written.
        UsageError: an option means nothing for this kind of source.
    """
    copies, gives_folder = [], options.output is not None and options.output.is_dir()
    if gives_folder:
        inside = os.path.realpath(options.output)
        # `Path.resolve` raises where a link leads to itself
        places = [Path(os.path.realpath(user_path(text))) for text in options.source]
        # a folder that holds a source is no place for results
        if not any(place.is_relative_to(inside) for place in places):
            copies = [options.output]
    source = find_source(options.source, leave_out=copies)
    if isinstance(source, PhotoSource) and (options.table or gives_folder):
        source = PhotosSource((PhotoFile(source.path, source.path.name),))
    _check_kind(options, source)
    _check_results(options, source)
    return source


def _check_kind(options: argparse.Namespace, source: Source) -> None:
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


def _check_results(options: argparse.Namespace, source: Source) -> None:
    """Raise where a result could not be written, before any work is done."""
    photo = options.output if isinstance(source, PhotoSource) else None
    video = options.output if isinstance(source, VideoSource) else None
    wanted = [
        *(("--table", path, "table", TABLE_SUFFIXES) for path in options.table),
        ("--json", None if is_stdout(options.json) else options.json, "JSON", JSON_SUFFIXES),
        ("--output", photo, "photo", PHOTO_SUFFIXES),
        ("--output", video, "video", VIDEO_OUTPUT_SUFFIXES),
        ("--summary", options.summary, "summary", SUMMARY_SUFFIXES),
        ("--timeline", options.timeline, "picture", TIMELINE_SUFFIXES),
    ]
    seen = set()
    for option, path, kind, suffixes in wanted:
        if path is None:
            continue
        if path.suffix.lower() not in suffixes:
            raise UsageError(
                f"expected a {kind} file ending in {', '.join(suffixes)} for {option}; received "
                f"{path}"
            )
        if path.is_dir():
            raise SourceError(f"expected a file for {option}; {path} is a folder")
        if not path.parent.is_dir():
            raise SourceError(f"expected a folder for {option} to be in; there is no {path.parent}")
        if not os.access(path.parent, os.W_OK):
            raise SourceError(f"expected a folder that can be written to; {path.parent} cannot")
        if path.exists() and any(
            place.exists() and path.samefile(place) for place in map(user_path, options.source)
        ):
            raise UsageError(f"expected {option} to differ from --source; both are {path}")
        if os.path.realpath(path) in seen:
            raise UsageError(f"expected a file of its own for each result; received {path} twice")
        seen.add(os.path.realpath(path))
    if options.output and isinstance(source, PhotosSource):
        folder = options.output
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
    """True if results are wanted beside what is shown."""
    wanted = (options.output, options.table, options.json, options.summary, options.timeline)
    return any(wanted)
