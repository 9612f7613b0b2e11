"""What the shell says, and where JSON goes: stdout is for results, stderr for all else."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from emotion.text import printable
from emotion.video.writing import kept_file


def tell(sentence: str) -> None:
    """Write one line on stderr, where progress, warnings and errors go."""
    sys.stderr.write(f"emotion_detector: {printable(sentence)}\n")


def one_line(error: Exception) -> str:
    """Return an error as one line."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}" + (f": {error.filename}" if error.filename else "")
    return " ".join(str(error).split())


def write_lines(lines: Sequence[str]) -> None:
    """Write lines on stdout, at once."""
    sys.stdout.write("".join(f"{printable(line)}\n" for line in lines))
    sys.stdout.flush()


@contextlib.contextmanager
def json_stream(path: Path) -> Iterator[TextIO]:
    """Give stdout for "-", else a file that appears at the end and is kept when interrupted."""
    if is_stdout(path):
        yield sys.stdout
        sys.stdout.flush()
        return
    with kept_file(path) as part, part.open("w", encoding="utf-8") as stream:
        yield stream


def is_stdout(path: Path | None) -> bool:
    return path == Path("-")
