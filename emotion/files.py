"""Files that appear whole or not at all, alone or together; their hashes; this process's share of
processors, memory and stdout.
"""

import contextlib
import csv
import ctypes
import hashlib
import json
import math
import os
import select
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def models_folder(package: Path = PACKAGE) -> Path:
    """Return where the models are: in an installed package, beside it in the project."""
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def user_path(text: str) -> Path:
    """Return the path of a text; ~ and ~name stand for home folders where there are such."""
    try:
        return Path(text).expanduser() if text.startswith("~") else Path(text)
    except RuntimeError:  # nobody is called so: a plain name
        return Path(text)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path of the same name beside `path` to write to; rename it there if all went well."""
    with tempfile.TemporaryDirectory(prefix=".part-", dir=path.parent) as folder:
        part = Path(folder) / path.name
        yield part
        part.replace(path)


def make_private(path: Path) -> None:
    """Take the rights of everybody else from a file or folder of ours; /tmp and such stay."""
    with contextlib.suppress(OSError):  # it is not there, or its file system knows no rights
        found = path.stat()
        is_ours = hasattr(os, "geteuid") and found.st_uid == os.geteuid()
        if is_ours and not found.st_mode & stat.S_ISVTX:
            path.chmod(stat.S_IMODE(found.st_mode) & 0o700)


def rename_all(renames: Sequence[tuple[Path, Path]]) -> None:
    """Rename each first path to its second, in turn; undo all of it where one fails."""
    begun = []
    try:
        for source, target in renames:
            begun.append((source, target))
            source.rename(target)
    except BaseException:  # Ctrl-C too
        for source, target in reversed(begun):
            with contextlib.suppress(OSError):  # the one that failed left nothing to undo
                target.rename(source)
        raise


def write_json(path: Path, content: object) -> None:
    """Write plain types as indented JSON, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def write_csv(path: Path, rows: Sequence[Mapping[str, object]], nothing: str = "row") -> None:
    """Write rows whole or not at all, under the first one's names, or those of `nothing`."""
    with whole_file(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else nothing.split())
        writer.writeheader()
        writer.writerows(rows)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def available_cpus(
    groups: Path = Path("/sys/fs/cgroup"), own_groups: Path = Path("/proc/self/cgroup")
) -> int:
    """Return how many processors this process may use, at least 1.

    That is what its affinity allows (`taskset`), and in a container no more than its share (`docker
    run --cpus`), rounded up: Linux says it in control groups (version 2).
    """
    cpus = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cpus
    shares: list[float] = [allowed]
    with contextlib.suppress(OSError):  # no Linux
        lines = own_groups.read_text(encoding="utf-8").splitlines()
        own = groups / next((line[4:] for line in lines if line.startswith("0::/")), "")
        # a group never has more than those that hold it
        for level in (own, *own.parents):
            with contextlib.suppress(OSError, ValueError, ZeroDivisionError):  # no limit
                quota, period = (level / "cpu.max").read_text(encoding="utf-8").split()
                shares.append(int(quota) / int(period))
    return max(1, math.ceil(min(shares)))


def return_memory_early() -> None:
    """Let buffers of pixels go back to the system when they are freed, where that can be asked for.

    By default each thread keeps a heap of its own, in which a photo of 12 megapixels leaves 60 MB
    behind: with 16 threads a gigabyte. Fixed thresholds and few heaps leave next to nothing.
    """
    # glibc's numbers for `mallopt` (malloc.h): trim threshold, mmap threshold, most arenas
    for option, value in ((-1, 1 << 20), (-3, 1 << 20), (-8, 2)):
        with contextlib.suppress(AttributeError, OSError, TypeError):
            ctypes.CDLL(None).mallopt(option, value)


def stdout_was_closed() -> bool:
    """Return whether the reader of stdout has gone; what it would still get goes nowhere."""
    with contextlib.suppress(OSError):  # a stdout that is no file has no reader either
        if hasattr(select, "poll"):  # Windows has none
            watch = select.poll()
            watch.register(sys.stdout.fileno(), 0)
            if not watch.poll(0):
                return False
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return True
    return False
