"""Read the emotions of faces from a camera, a video or a photo; see `--help`."""

import argparse
import contextlib
import functools
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

try:
    import cv2

    from emotion.drawing import annotate
    from emotion.errors import EmotionError, ImageError, ImageTypeError, SourceError
    from emotion.faces import DetectorSettings, FaceDetector
    from emotion.images import ENOUGH_PIXELS, Photo, read_photo, write_image
    from emotion.recognizer import DEFAULT_MODEL, Detector, Recognizer
    from emotion.results import Face, results_to_dict, verdict
    from emotion.video import (
        CODECS,
        VIDEO_SUFFIXES,
        Frame,
        FrameRate,
        Video,
        VideoSink,
        Window,
        early_end,
        frames,
        kept_file,
        open_video,
        silence_opencv,
        window_problem,
    )
    from emotion.yunet import EXPECTED_NETWORK, YunetDetector, YunetSettings
except ImportError as problem:
    sys.exit(
        f"emotion_detector: a library cannot be loaded ({problem}): pip install -r "
        "requirements.txt; where libGL is missing, install the system's libgl1 and libglib2.0-0"
    )

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
JSON_SUFFIXES = (".json", ".jsonl")
DETECTORS = ("haar", "yunet")
HIGHEST_CAMERA = 99
"""OpenCV reads larger numbers as the code of a driver."""

VIDEO_SEARCH = DetectorSettings(working_pixels=640 * 480, fallbacks=())
CAMERA_SEARCH = DetectorSettings(working_pixels=400 * 300, smallest_face_share=0.1, fallbacks=())
YUNET_VIDEO_SEARCH = YunetSettings(detail_pixels=640 * 480)
"""Moving pictures are searched in less depth than photos: a face missed in one frame comes again in
the next, and fallback passes would make every frame without a face the slowest of all."""

TITLE = "Emotions - q or Esc quits"
DESCRIPTION = """\
Find every face in a camera's picture, a video or a photo and read its emotion.
Without options: camera 0 in a window, until q, Esc or the window's close button."""
EPILOG = """\
examples:
  python emotion_detector.py                                    camera 0 in a window
  python emotion_detector.py --source 1 --mirror                another camera, as in a mirror
  python emotion_detector.py --source photo.jpg                 one line of text a face
  python emotion_detector.py --source photo.jpg --show          the photo in a window, any size
  python emotion_detector.py --source photo.jpg --output boxes.png
  python emotion_detector.py --source photo.jpg --json          one JSON document on stdout
  python emotion_detector.py --source film.mp4                  the video in a window
  python emotion_detector.py --source film.mp4 --output out.mp4 --json out.jsonl
  python emotion_detector.py --no-window --json | jq .faces     camera 0, one JSON line a frame

A camera opens a window unless --no-window is given; a video opens one where neither --output nor
--json is given; a photo only with --show. Where there is no display, --output and --json work
without a window. An existing --output or --json file is replaced. To keep pace, the cascades search
videos and cameras only for upright faces turned to the camera, and a camera's picture only for
those at least a tenth of its height; photos are searched deeper. Ctrl-C stops at any time and keeps
what is finished. Exit code: 0 done, 1 something went wrong, 2 wrong usage, 130 Ctrl-C."""


class UsageError(EmotionError):
    """The command line asks for something that cannot be."""


@dataclass(frozen=True)
class Tools:
    """What the script uses of the machine; a test puts others in their place."""

    load_recognizer: Callable[[Path, Detector], Recognizer] = Recognizer.load
    open_capture: Callable = cv2.VideoCapture
    open_window: Callable[[str], Window] = Window
    window_problem: Callable[[], str | None] = window_problem


@dataclass(frozen=True)
class Look:
    """One frame, what was found in it and how fast it goes; the annotated picture is drawn once."""

    frame: Frame
    faces: tuple[Face, ...]
    rate: float

    @functools.cached_property
    def picture(self):
        return annotate(self.frame.image, self.faces)


MACHINE = Tools()


def main(arguments: Sequence[str] | None = None, tools: Tools = MACHINE) -> int:
    """Run the command line and return the exit code; every error is one line on stderr."""
    silence_opencv()
    try:
        run(parse(arguments), tools)
    except UsageError as error:
        tell(f"{error} (see --help)")
        return 2
    except KeyboardInterrupt:
        tell("interrupted; what was finished is kept")
        return 130
    except BrokenPipeError:
        _forget_stdout()
        return 1
    except (EmotionError, OSError, cv2.error) as error:
        tell(_sentence(error))
        return 1
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of a command line."""
    parser = _Parser(
        prog="emotion_detector.py",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--source", default="0", help="camera number, video file or photo (default: 0)")
    add(
        "--output",
        type=Path,
        metavar="FILE",
        help=f"write the annotated photo ({' '.join(PHOTO_SUFFIXES)}) or video "
        f"({' '.join(CODECS)}, without sound)",
    )
    add(
        "--json",
        type=Path,
        nargs="?",
        const=Path("-"),
        metavar="FILE",
        help="write the results as JSON to FILE (.json or .jsonl), or to stdout without FILE: one "
        "document for a photo, one line a frame for a video or camera",
    )
    window = parser.add_mutually_exclusive_group()
    window.add_argument("--show", action="store_true", help="open a window in any case")
    window.add_argument(
        "--no-window", "--headless", action="store_true", help="open no window in any case"
    )
    add("--mirror", action="store_true", help="turn the camera's picture as in a mirror")
    add(
        "--model",
        type=_model_stem,
        default=DEFAULT_MODEL,
        metavar="STEM",
        help="model to use: folder and name without suffix (default: models/detection_model)",
    )
    add(
        "--detector",
        choices=DETECTORS,
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
    return parser.parse_args(arguments)


def _model_stem(text: str) -> Path:
    """Return the common name of a model's files, also where one of the files is given."""
    path = Path(text)
    return path.with_suffix("") if path.suffix in (".json", ".h5", ".onnx") else path


def run(options: argparse.Namespace, tools: Tools) -> None:
    """Do what the options ask: check them, load the model, read the source, write the results."""
    check_detector(options)
    source = find_source(options.source)
    check_outputs(options, source)
    wants_window = choose_window(options, source, tools)
    recognizer = tools.load_recognizer(options.model, open_detector(options, source))
    for note in recognizer.model.notes:
        tell(f"note: {recognizer.model.name}: {note}")
    if isinstance(source, int | Path):
        follow(recognizer, source, options, wants_window, tools)
    else:
        report(recognizer, source, options, wants_window, tools)


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


def open_detector(options: argparse.Namespace, source) -> Detector:
    """Return what finds the faces, with a search that suits the source."""
    is_camera, is_photo = isinstance(source, int), not isinstance(source, int | Path)
    if options.detector == "yunet":
        search = YunetSettings() if is_photo else YUNET_VIDEO_SEARCH
        return YunetDetector(options.detector_model, search)
    if is_photo:
        return FaceDetector()
    return FaceDetector(CAMERA_SEARCH if is_camera else VIDEO_SEARCH)


def find_source(text: str):
    """Return a camera's number, a video's path, or a `Photo`."""
    if text.isascii() and text.isdigit():
        if int(text) > HIGHEST_CAMERA:
            raise UsageError(f"expected a camera number up to {HIGHEST_CAMERA}; received {text}")
        return int(text)
    path = Path(text)
    if not path.is_file():
        found = f"{text} is a folder" if path.is_dir() else f"there is no file {text}"
        raise SourceError(f"expected a camera number, a photo or a video file; {found}")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return path
    try:
        return read_photo(path, enough_pixels=ENOUGH_PIXELS)
    except ImageTypeError as error:
        if _is_video(path):
            return path
        raise SourceError(f"expected a photo or a video; {path} is neither: {error}") from error
    except ImageError as error:
        raise SourceError(f"{path}: {error}") from error


def _is_video(path: Path) -> bool:
    """Return whether a file of unknown suffix is a video; OpenCV takes a picture for one of one
    frame.
    """
    try:
        with open_video(path) as video:
            return len(list(itertools.islice(frames(video), 2))) == 2
    except SourceError:
        return False


def check_outputs(options: argparse.Namespace, source) -> None:
    """Raise where a result could not be written, before any work is done."""
    is_photo = not isinstance(source, int | Path)
    if options.mirror and not isinstance(source, int):
        raise UsageError(f"expected a camera with --mirror; received --source {options.source}")
    if options.output:
        kind, suffixes = ("photo", PHOTO_SUFFIXES) if is_photo else ("video", tuple(CODECS))
        _check_file("--output", options.output, kind, suffixes, options.source)
    if options.json and not _is_stdout(options.json):
        _check_file("--json", options.json, "JSON", JSON_SUFFIXES, options.source)


def _check_file(
    option: str, path: Path, kind: str, suffixes: tuple[str, ...], source_text: str
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
    if path.exists() and Path(source_text).exists() and path.samefile(source_text):
        raise UsageError(f"expected {option} to differ from --source; both are {path}")


def choose_window(options: argparse.Namespace, source, tools: Tools) -> bool:
    """Return whether to open a window.

    Raises:
        SourceError: one is needed and cannot be opened.
        UsageError: there would be nothing to see, anywhere.
    """
    has_output = bool(options.output or options.json)
    is_photo, is_camera = not isinstance(source, int | Path), isinstance(source, int)
    by_default = not options.no_window and not is_photo and (is_camera or not has_output)
    if not (options.show or by_default):
        if not is_photo and not has_output:
            raise UsageError("expected --output or --json, because --no-window shows nothing")
        return False
    problem = tools.window_problem()
    if problem and (options.show or not has_output):
        way_out = "leave --show out" if is_photo or has_output else "use --output or --json instead"
        raise SourceError(f"expected to open a window; {problem}: {way_out}")
    return not problem


def report(recognizer: Recognizer, photo: Photo, options, wants_window: bool, tools: Tools) -> None:
    """Recognize a photo and write, print and show what was found."""
    faces = recognizer.recognize(photo)
    if options.output:
        write_image(options.output, annotate(photo.full, faces))
    if options.json:
        _write_document(options.json, _results(recognizer, photo.size_wh, faces))
    if not options.json or not _is_stdout(options.json):
        sys.stdout.write("".join(f"{line}\n" for line in describe(faces)))
    if wants_window:
        _hold(annotate(photo.full, faces), tools)


def describe(faces: Sequence[Face]) -> list[str]:
    """Return one line a face: its number, emotion, box and notes."""
    lines = []
    for number, face in enumerate(faces, 1):
        x, y, width, height = face.box_xywh
        notes = "".join(f"; {note}" for note in face.notes)
        lines.append(f"face {number}: {verdict(face)} (x {x}, y {y}, {width}x{height}){notes}")
    return lines or ["no face found"]


def follow(recognizer: Recognizer, source, options, wants_window: bool, tools: Tools) -> None:
    """Recognize a video or camera frame by frame, and hand each to everything that wants it."""
    with contextlib.ExitStack() as stack:
        video = stack.enter_context(open_video(source, tools.open_capture))
        if video.is_camera and not (wants_window or options.no_window):
            tell("no window can be opened here; Ctrl-C stops")
        viewers = list(_viewers(stack, recognizer, video, options, wants_window, tools))
        rate = FrameRate()
        for frame in frames(video, is_mirrored=options.mirror):
            look = Look(frame, recognizer.recognize(frame.image), rate.tick())
            # all are asked before any answer counts: each gets the frame on which one quits
            answers = [view(look) for view in viewers]
            if not all(answers):
                return
    warning = early_end(video.info, frame)
    if warning:
        tell(f"warning: {video.name}: {warning}")


def _viewers(
    stack: contextlib.ExitStack, recognizer, video: Video, options, wants_window: bool, tools: Tools
) -> Iterator[Callable[[Look], bool]]:
    """Yield a function for each thing that wants every frame; it returns False to quit."""
    if options.output:
        sink = stack.enter_context(VideoSink(options.output, video.info))
        yield functools.partial(_write_frame, sink, video)
    if options.json:
        stream = stack.enter_context(_json_stream(options.json))
        yield functools.partial(_write_line, stream, recognizer)
    if wants_window:
        window = stack.enter_context(tools.open_window(TITLE))
        yield functools.partial(_show, window, video, time.monotonic())
    elif sys.stderr.isatty():
        stack.callback(sys.stderr.write, "\n")
        yield functools.partial(_progress, video)


def _write_frame(sink: VideoSink, video: Video, look: Look) -> bool:
    """Add a frame to the video file."""
    sink.write(look.picture, None if video.info.is_steady else look.frame.timestamp_s)
    return True


def _write_line(stream, recognizer: Recognizer, look: Look) -> bool:
    """Write the results of a frame as a line of JSON."""
    place = {"frame": look.frame.index, "timestamp_s": round(look.frame.timestamp_s, 3)}
    results = _results(recognizer, look.frame.image.shape[1::-1], look.faces)
    stream.write(json.dumps(place | results) + "\n")
    stream.flush()
    return True


def _show(window: Window, video: Video, start_s: float, look: Look) -> bool:
    """Show a frame, a file's not before its time; return False when the user quits."""
    early_s = 0.0
    if not video.is_camera:
        early_s = look.frame.timestamp_s - (time.monotonic() - start_s)
    caption = f"{look.rate:.1f} frames per second"
    return window.show(look.picture, caption, wait_s=max(0.0, early_s))


def _progress(video: Video, look: Look) -> bool:
    """Rewrite the line that says how far the work is."""
    done, total = look.frame.index + 1, video.info.frame_count
    text = f"frame {done}" + (f" of {total}" if total else "") + f", {look.rate:.1f} a second"
    if total and look.rate:
        left_s = round(max(0, total - done) / look.rate)
        text += f", {left_s // 60}:{left_s % 60:02d} left"
    sys.stderr.write(f"\r{text}\033[K")
    sys.stderr.flush()
    return True


def _results(recognizer: Recognizer, size_wh: tuple[int, int], faces: Sequence[Face]) -> dict:
    """Return the results of one image in the form shared with the web API."""
    model = recognizer.model
    return results_to_dict(faces, size_wh, model.name, model.sha256)


def _write_document(path: Path, content: dict) -> None:
    """Write one JSON document."""
    with _json_stream(path) as stream:
        stream.write(json.dumps(content, indent=2) + "\n")


@contextlib.contextmanager
def _json_stream(path: Path):
    """Give stdout for "-", else a file that appears at the end and is kept when interrupted."""
    if _is_stdout(path):
        yield sys.stdout
        sys.stdout.flush()
        return
    with kept_file(path) as part, part.open("w", encoding="utf-8") as stream:
        yield stream


def _is_stdout(path: Path) -> bool:
    return path == Path("-")


def _hold(picture, tools: Tools) -> None:
    """Show a photo until the user quits."""
    with tools.open_window(TITLE) as window:
        while window.show(picture, wait_s=0.05):
            pass


def tell(sentence: str) -> None:
    """Write one line on stderr, where progress, warnings and errors go."""
    sys.stderr.write(f"emotion_detector: {sentence}\n")


def _sentence(error: Exception) -> str:
    """Return an error as one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}" + (f": {error.filename}" if error.filename else "")
    return " ".join(str(error).split())


def _forget_stdout() -> None:
    """Send what is still to be flushed nowhere: the reader of the pipe, such as head, has gone."""
    with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


class _Parser(argparse.ArgumentParser):
    """Reports a wrong option as the other errors are: one line."""

    def error(self, message: str):
        raise UsageError(message)


if __name__ == "__main__":
    # `kill`, `timeout` and a container's stop keep what is finished, as Ctrl-C does
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
