"""Files that appear whole or not at all, alone or together, and their hashes."""

import contextlib
import hashlib
import json
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


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path of the same name beside `path` to write to; rename it there if all went well."""
    with tempfile.TemporaryDirectory(prefix=".part-", dir=path.parent) as folder:
        part = Path(folder) / path.name
        yield part
        part.replace(path)


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
