"""Read the emotions of faces from cameras, videos, photos and whole folders; see `--help`.

This file has the options and the exit codes. What is done with them is in `emotion/shell/`: which
of them go together (`checks.py`), and what becomes of each kind of source (`photo.py`, `video.py`,
`photos.py`).
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    # while the libraries load there is nothing to finish: Ctrl-C ends the process without a word
    signal.signal(signal.SIGINT, signal.SIG_DFL)

try:
    import cv2

    from emotion.cli.options import (
        PHOTO_SUFFIXES,
        UsageError,
        check_options,
        check_source,
        open_source,
    )
    from emotion.cli.output import one_line, tell
    from emotion.cli.sources import PhotoSource, VideoSource
    from emotion.cli.tools import Tools
    from emotion.detection.yunet import EXPECTED_NETWORK
    from emotion.errors import EmotionError
    from emotion.files import stdout_was_closed
    from emotion.recognizer import DEFAULT_MODEL
    from emotion.tables import TABLE_SUFFIXES
    from emotion.video.reading import silence_opencv
    from emotion.video.summary import SUMMARY_SUFFIXES
    from emotion.video.timeline import TIMELINE_SUFFIXES
    from emotion.video.writing import VIDEO_OUTPUT_SUFFIXES
except ImportError as problem:
    sys.exit(
        f"emotion_detector: a library cannot be loaded ({problem}): pip install -r "
        "requirements.txt; where libGL is missing, install the system's libgl1 and libglib2.0-0"
    )

DETECTORS = ("haar", "yunet")

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


MACHINE = Tools()


def main(arguments: Sequence[str] | None = None, tools: Tools = MACHINE) -> int:
    """Run the command line and return the exit code; every error is one line on stderr."""
    silence_opencv()
    try:
        return run(parse(arguments), tools)
    except UsageError as error:
        tell(f"{error} (see --help)")
        return 2
    except KeyboardInterrupt:
        tell("interrupted; what was finished is kept")
        return 130
    except (EmotionError, OSError, cv2.error) as error:
        if not (isinstance(error, BrokenPipeError) and stdout_was_closed()):
            tell(one_line(error))
        return 1


def run(options: argparse.Namespace, tools: Tools) -> int:
    """Do what the options ask for and return the exit code."""
    check_options(options)
    source = open_source(options)
    check_source(options, source)
    # each is imported when it is needed, so that a photo and --help start at once
    if isinstance(source, VideoSource):
        from emotion.cli.video import read_video

        return read_video(source, options, tools)
    if isinstance(source, PhotoSource):
        from emotion.cli.photo import read_photo

        return read_photo(source, options, tools)
    from emotion.cli.photos import read_photos

    return read_photos(source, options)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of a command line."""
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
    _add_outputs(parser.add_argument_group("results"))
    _add_video(parser.add_argument_group("videos and cameras"))
    _add_photos(parser.add_argument_group("many photos"))
    _add_model(parser.add_argument_group("model"))
    return parser.parse_args(arguments)


def _add_outputs(group) -> None:
    """Add the options that say where results go."""
    group.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help=f"write the annotated photo ({' '.join(PHOTO_SUFFIXES)}) or video "
        f"({' '.join(VIDEO_OUTPUT_SUFFIXES)}); of many photos, copies into this folder",
    )
    group.add_argument(
        "--table",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help=f"write a row a face ({' '.join(TABLE_SUFFIXES)}); may be given several times",
    )
    group.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=Path("-"),
        metavar="FILE",
        help="write the results as JSON to FILE (.json or .jsonl), or to stdout without FILE: one "
        "document for a photo, one line a frame of a video, one line for each of many photos",
    )
    window = group.add_mutually_exclusive_group()
    window.add_argument("--show", action="store_true", help="open a window in any case")
    window.add_argument(
        "--headless", "--no-window", action="store_true", help="open no window in any case"
    )


def _add_video(group) -> None:
    """Add the options for moving pictures."""
    group.add_argument(
        "--summary",
        type=Path,
        metavar="FILE",
        help=f"write how long each face showed each emotion ({' '.join(SUMMARY_SUFFIXES)})",
    )
    group.add_argument(
        "--timeline",
        type=Path,
        metavar="FILE",
        help=f"draw the emotions of each face over time ({' '.join(TIMELINE_SUFFIXES)})",
    )
    group.add_argument(
        "--detect-every",
        type=_count,
        metavar="N",
        help="look for faces in one frame of N and follow them between (default: ten times a "
        "second in files, as often as the machine allows in live pictures)",
    )
    group.add_argument(
        "--no-bars", action="store_true", help="draw no bars with the percentages of all emotions"
    )
    group.add_argument(
        "--mirror", action="store_true", help="turn the camera's picture as in a mirror"
    )


def _add_photos(group) -> None:
    """Add the options for folders, patterns and lists."""
    group.add_argument(
        "--workers",
        type=_count,
        metavar="N",
        help="processes that work at once (default: one a core)",
    )
    group.add_argument(
        "--scheduler", metavar="URL", help="work on a Dask cluster, such as tcp://host:8786"
    )
    group.add_argument(
        "--send-files",
        action="store_true",
        help="send the photos to the cluster, whose machines do not share this folder",
    )
    group.add_argument(
        "--again", action="store_true", help="do also what is in the table already and unchanged"
    )


def _add_model(group) -> None:
    """Add the options for what finds and reads faces."""
    group.add_argument(
        "--model",
        type=_model_stem,
        default=DEFAULT_MODEL,
        metavar="STEM",
        help="model to use: folder and name without suffix (default: models/detection_model)",
    )
    group.add_argument(
        "--detector",
        choices=DETECTORS,
        default="haar",
        help="what finds the faces: OpenCV's Haar cascades, or YuNet, its face network "
        "(default: haar)",
    )
    group.add_argument(
        "--detector-model",
        type=Path,
        metavar="FILE",
        help=f"the network's file, which --detector yunet needs: {EXPECTED_NETWORK}",
    )


def _count(text: str) -> int:
    """Return a whole number from 1."""
    if not (text.isascii() and text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1; received {text}")
    return int(text)


def _model_stem(text: str) -> Path:
    """Return the common name of a model's files, also where one of the files is given."""
    path = Path(text)
    return path.with_suffix("") if path.suffix in (".json", ".h5", ".onnx") else path


class _Parser(argparse.ArgumentParser):
    """Reports a wrong option as the other errors are: one line."""

    def error(self, message: str):
        raise UsageError(message)


class _Interruption:
    """Turns the first Ctrl-C or `kill` into a KeyboardInterrupt, which finishes all files.

    Finishing takes a moment. Whoever is impatient then does not lose the files by a second Ctrl-C;
    a third one gives them up.
    """

    def __init__(self):
        self._count = 0

    def __call__(self, *signal_and_frame) -> None:
        self._count += 1
        if self._count == 1:
            raise KeyboardInterrupt
        if self._count == 2:
            tell("finishing the files; once more gives them up")
            return
        os._exit(130)


def _open_closed_streams() -> None:
    """Give a closed stdout or stderr (`>&-`) a place; the next file would get its number."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # it stays open as long as the process
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115


if __name__ == "__main__":
    _open_closed_streams()
    # `kill`, `timeout` and a container's stop keep what is finished, as Ctrl-C does
    interruption = _Interruption()
    for number in (signal.SIGINT, signal.SIGTERM):
        # a shell lets its background jobs ignore Ctrl-C
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interruption)
    sys.exit(main())
