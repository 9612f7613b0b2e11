"""Files that appear whole or not at all, alone or together, and their hashes."""

import contextlib
import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
"""The folder of this package."""


def models_folder(package: Path = PACKAGE) -> Path:
    """Return where the models are: in the package where pip has put it, beside it in the project.

    Args:
        package: the folder of the package.
    """
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def user_path(text: str) -> Path:
    """Return the path of a text that begins with ~ or ~name where those are home folders; any other
    name that begins with ~ is as plain as the rest.
    """
    try:
        return Path(text).expanduser() if text.startswith("~") else Path(text)
    except RuntimeError:
        return Path(text)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path of the same name beside `path` to write to; rename it there if all went well."""
    with tempfile.TemporaryDirectory(prefix=".part-", dir=path.parent) as folder:
        part = Path(folder) / path.name
        yield part
        part.replace(path)


def make_private(path: Path) -> None:
    """Take the rights of everybody else from a file or folder that is there and ours.

    What somebody else owns stays as it is, and so does a folder that all may use, like /tmp.
    """
    # it is not there, or its file system knows no rights
    with contextlib.suppress(OSError):
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


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
