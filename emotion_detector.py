"""Read the emotions of faces from cameras, videos, photos and whole folders; see `--help`.

This file has the exit codes and what Ctrl-C does; all else is in `emotion/cli/`.
"""

import functools
import itertools
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
    # while the libraries load there is nothing to finish: Ctrl-C ends the process without a word
    signal.signal(signal.SIGINT, signal.SIG_DFL)

try:
    import cv2

    from emotion.cli.options import UsageError, open_source, parse
    from emotion.cli.sources import PhotoSource, VideoSource
    from emotion.cli.tools import Tools, tell
    from emotion.errors import EmotionError
    from emotion.files import stdout_was_closed
    from emotion.video.reading import silence_opencv
except ImportError as problem:
    sys.exit(
        f"emotion_detector: a library cannot be loaded ({problem}): pip install -r "
        "requirements.txt; where libGL is missing, install the system's libgl1 and libglib2.0-0"
    )


def main(arguments: Sequence[str] | None = None, tools: Tools | None = None) -> int:
    """Run the command line and return the exit code; every error is one line on stderr."""
    tools = tools or Tools()
    silence_opencv()
    try:
        options = parse(arguments)
        source = open_source(options)
        # each is imported when it is needed, so that a photo and --help start at once
        if isinstance(source, VideoSource):
            from emotion.cli.video import read_video

            return read_video(source, options, tools)
        from emotion.cli.photos import read_photo, read_photos

        if isinstance(source, PhotoSource):
            return read_photo(source, options, tools)
        return read_photos(source, options)
    except UsageError as error:
        tell(f"{error} (see --help)")
        return 2
    except KeyboardInterrupt:
        tell("interrupted; what was finished is kept")
        return 130
    except (EmotionError, OSError, cv2.error) as error:
        if not (isinstance(error, BrokenPipeError) and stdout_was_closed()):
            words = str(error)
            if isinstance(error, OSError) and error.strerror:
                words = ": ".join(map(str, filter(None, (error.strerror, error.filename))))
            tell(" ".join(words.split()))
        return 1


def interrupt(count: Iterator[int], *signal_and_frame) -> None:
    """Finish all files at the first Ctrl-C or `kill`; give them up at the third, not the second."""
    match next(count):
        case 1:
            raise KeyboardInterrupt
        case 2:
            tell("finishing the files; once more gives them up")
        case _:
            os._exit(130)


if __name__ == "__main__":
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # closed (`>&-`): the next file would get its number
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    interruption = functools.partial(interrupt, itertools.count(1))
    # `kill`, `timeout` and a container's stop keep what is finished, as Ctrl-C does
    for number in (signal.SIGINT, signal.SIGTERM):
        # a shell lets its background jobs ignore Ctrl-C
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interruption)
    sys.exit(main())
