"""The options of `emotion_detector.py`: which go together, and whether results can be written."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from emotion.cli.sources import PhotoSource, PhotosSource, Source, VideoSource, find_source
from emotion.cli.tools import STDOUT, Tools
from emotion.detection.settings import NETWORK_FILE
from emotion.errors import EmotionError, SourceError
from emotion.files import user_path
from emotion.images.encoding import WRITTEN_SUFFIXES as PHOTO_SUFFIXES
from emotion.images.folders import PhotoFile
from emotion.model.keras import stem_of
from emotion.recognizer import DEFAULT_MODEL
from emotion.tables import TABLE_SUFFIXES
from emotion.video.summary import SUMMARY_SUFFIXES
from emotion.video.timeline import TIMELINE_SUFFIXES
from emotion.video.writing import VIDEO_OUTPUT_SUFFIXES

DESCRIPTION = """\
Find every face in a camera's picture, a video, a stream, a photo or a folder of photos and read its
emotion. Without options: camera 0 in a window, until q, Esc or the window's close button."""
EPILOG = """\
examples:
  python emotion_detector.py --source 1 --mirror                another camera, as in a mirror
  python emotion_detector.py --source rtsp://camera.local/live  a network camera
  python emotion_detector.py --source photo.jpg --output boxes.png --json boxes.json
  python emotion_detector.py --source film.mp4 --output out.mp4 --table faces.csv \\
      --summary summary.json --timeline timeline.png
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
    def error(self, message: str):
        raise UsageError(message)  # one line, as all errors


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1; received {text}")
    return int(text)


FILE, COUNT = {"type": Path, "metavar": "FILE"}, {"type": _count, "metavar": "N"}
SOURCES = {"nargs": "+", "default": ["0"], "metavar": "SOURCE"}
TABLES = FILE | {"action": "append", "default": []}
JSON = FILE | {"nargs": "?", "const": STDOUT}
STEM = {"type": stem_of, "default": DEFAULT_MODEL, "metavar": "STEM"}
DETECTOR = {"choices": ("haar", "yunet"), "default": "haar"}
SWITCH = {"action": "store_true"}

# the title of a group, or: the names of an option, how it is read, what it does
OPTIONS = (
    (
        *("--source", SOURCES),
        "camera number (default: 0), video, stream URL, or one or several photos, folders, "
        "'patterns' (** means any folders below) and list.txt",
    ),
    "results",
    (
        *("--output", FILE),
        f"write the annotated photo ({' '.join(PHOTO_SUFFIXES)}) or video "
        f"({' '.join(VIDEO_OUTPUT_SUFFIXES)}); of many photos, copies into this folder",
    ),
    ("--table", TABLES, f"a row per face ({' '.join(TABLE_SUFFIXES)}); may be given several times"),
    (
        *("--json", JSON),
        "JSON to FILE, or to stdout: a document for a photo (.json), else one line each (.jsonl)",
    ),
    ("--show", SWITCH, "always open a window"),
    ("--headless", "--no-window", SWITCH, "never open a window"),
    "videos and cameras",
    ("--summary", FILE, f"how long each face showed each emotion ({' '.join(SUMMARY_SUFFIXES)})"),
    ("--timeline", FILE, f"the emotions of each face over time ({' '.join(TIMELINE_SUFFIXES)})"),
    (
        *("--detect-every", COUNT),
        "look for faces in one frame of N and follow them between (default: ten times a second in "
        "files, as often as the machine allows in live pictures)",
    ),
    ("--no-bars", SWITCH, "draw no bars with the percentages of all emotions"),
    ("--mirror", SWITCH, "turn the camera's picture as in a mirror"),
    "many photos",
    ("--workers", COUNT, "processes at once (default: one per core)"),
    ("--scheduler", {"metavar": "URL"}, "work on a Dask cluster, such as tcp://host:8786"),
    ("--send-files", SWITCH, "send the photos to the cluster, which does not share this folder"),
    ("--again", SWITCH, "do also what is in the table already and unchanged"),
    "model",
    ("--model", STEM, "folder and name without suffix (default: models/detection_model)"),
    ("--detector", DETECTOR, "what finds faces: networks and Haar cascades (default), or YuNet"),
    ("--detector-model", FILE, f"its file (default: {NETWORK_FILE} in models/)"),
)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of a command line. Raises UsageError."""
    about = {"prog": "emotion_detector.py", "description": DESCRIPTION, "epilog": EPILOG}
    parser = _Parser(**about, formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser
    for row in OPTIONS:
        if isinstance(row, str):
            group = parser.add_argument_group(row)
        else:
            *names, how, text = row
            group.add_argument(*names, help=text, **how)
    options = parser.parse_args(arguments)
    if options.detector_model and options.detector != "yunet":
        raise UsageError("expected --detector yunet with --detector-model; received haar")
    if options.send_files and not options.scheduler:
        raise UsageError("expected --scheduler URL with --send-files; received none")
    for one, other in (("workers", "scheduler"), ("show", "headless")):
        if getattr(options, one) and getattr(options, other):
            raise UsageError(f"expected --{one} or --{other}; received both")
    files = options.output, options.table, options.json, options.summary, options.timeline
    options.has_files = any(files)
    return options


def open_source(options: argparse.Namespace) -> Source:
    """Return the source; a photo of which a table is wanted counts as a list of one."""
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
    is_video, is_many = isinstance(source, VideoSource), isinstance(source, PhotosSource)
    for names, expected, fits in (
        ("summary timeline detect_every no_bars", "a video or camera", is_video),
        ("workers scheduler send_files again", "many photos", is_many),
        ("mirror", "a camera", is_video and source.is_camera),
        ("show", "a photo, a video or a camera", not is_many),
    ):
        for name in names.split():
            if getattr(options, name) and not fits:
                raise UsageError(
                    f"expected {expected} with --{name.replace('_', '-')}; received --source "
                    f"{' '.join(options.source)}"
                )
    wanted = [
        *(("table", path, TABLE_SUFFIXES) for path in options.table),
        ("json", None if options.json == STDOUT else options.json, (".json", ".jsonl")),
        ("summary", options.summary, SUMMARY_SUFFIXES),
        ("timeline", options.timeline, TIMELINE_SUFFIXES),
    ]
    output = options.output
    if not is_many:
        wanted.append(("output", output, VIDEO_OUTPUT_SUFFIXES if is_video else PHOTO_SUFFIXES))
    elif output and (output.is_file() or output.suffix.lower() in PHOTO_SUFFIXES):
        raise UsageError(f"expected a folder for --output of many photos; received {output}")
    _check_results([row for row in wanted if row[1]], options.source)
    return source


def _check_results(wanted: Sequence[tuple], texts: Sequence[str]) -> None:
    """Raise where a result could not be written: option, path, and the suffixes it may have."""
    sources = [place for place in map(user_path, texts) if place.exists()]
    seen = set()
    for option, path, suffixes in wanted:
        if path.suffix.lower() not in suffixes:
            raise UsageError(f"expected {', '.join(suffixes)} for --{option}; received {path}")
        if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            words = f"expected a file in a folder that can be written to for --{option}"
            raise SourceError(f"{words}; received {path}")
        if path.exists() and any(map(path.samefile, sources)):
            raise UsageError(f"expected --{option} to differ from --source; both are {path}")
        if os.path.realpath(path) in seen:
            raise UsageError(f"expected a file of its own for each result; received {path} twice")
        seen.add(os.path.realpath(path))


def choose_window(options: argparse.Namespace, source: Source, tools: Tools) -> bool:
    """Return whether to open a window; raises SourceError or UsageError."""
    has_files, is_photo = options.has_files, isinstance(source, PhotoSource)
    is_live = not is_photo and source.is_live
    if is_live and options.headless and not has_files:
        raise UsageError("expected --output, --table, --json or the like with --headless")
    if not options.show and (options.headless or is_photo or (has_files and not is_live)):
        return False
    problem = tools.window_problem()
    if problem and (options.show or not has_files):
        way_out = "leave --show out" if is_photo or has_files else "use --headless with --json"
        raise SourceError(f"expected to open a window; {problem}: {way_out}")
    return not problem
