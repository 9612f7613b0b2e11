"""What a batch knows of earlier runs: an append-only file of JSON lines beside the table.

Every photo is one line, on its way to the disk before anything else hears of it, so that a process
that is killed loses no photo but those in hand. Tables are made from the journal and can be made
again. A photo's name is its path below the folder of the first photos, or else its whole path, so
that photos of several folders are told apart. Lines are of three kinds:

    {"settings": {...}, "root": folder}    what follows was made with this model and search
    {"photo": name, "stamp": ..., ...}     a photo; a later line of the same name replaces it
    {"tables": {"faces.csv": 120}}         from here on these tables hold so many photos
"""

import contextlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from emotion.errors import TableError
from emotion.files import whole_file

SUFFIX = ".journal"
BEGINNING = b'{"settings"'


class Stamp(NamedTuple):
    """What tells a photo from a changed one of the same name."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> "Stamp | None":
        """Return the stamp of a file, None where it cannot be seen."""
        try:
            status = path.stat()
        except (OSError, ValueError):
            return None
        return cls(status.st_size, status.st_mtime_ns)


class Entry(NamedTuple):
    """What is kept in memory of a photo; the rest is read from its line when it is needed."""

    offset: int
    stamp: Stamp | None
    faces: int
    is_problem: bool
    is_final: bool
    has_copy: bool


@dataclass(frozen=True)
class Record:
    """A photo as its line says.

    Attributes:
        name: of the photo.
        stamp: of its file when it was read.
        faces: as `face_to_dict` gives them.
        problem: why there are none.
        is_final: whether the unchanged file needs no second look.
        has_copy: whether an annotated copy was made.
    """

    name: str
    stamp: Stamp | None
    faces: tuple[Mapping, ...] = ()
    problem: str | None = None
    is_final: bool = True
    has_copy: bool = False

    def line(self) -> bytes:
        """Return the record as a line of JSON; bytes of a name that are no text survive."""
        content = {
            "photo": self.name,
            "stamp": self.stamp,
            "final": self.is_final,
            "copy": self.has_copy,
            "problem": self.problem,
            "faces": self.faces,
        }
        return _line(content)

    @classmethod
    def read(cls, content: Mapping) -> "Record":
        """Return the record that a line holds."""
        stamp = content["stamp"]
        return cls(
            name=content["photo"],
            stamp=stamp and Stamp(*stamp),
            faces=tuple(content["faces"]),
            problem=content["problem"],
            is_final=content["final"],
            has_copy=content["copy"],
        )

    def entry(self, offset: int) -> Entry:
        """Return what is kept of it in memory."""
        has_problem = self.problem is not None
        return Entry(offset, self.stamp, len(self.faces), has_problem, self.is_final, self.has_copy)


class Journal:
    """The journal of one table; one process may write it at a time.

    Attributes:
        root: the folder in which names begin; None: all names are whole paths.
        is_settled: nothing was written down since the tables were.
    """

    def __init__(self, path: Path, settings: Mapping, root: Path | None = None):
        """Take the file and what the photos of this run are made with.

        Args:
            path: the file; made when it is opened.
            settings: plain types; photos made with others do not count.
            root: where names begin, unless the file knows that already.
        """
        self.is_settled, self.root = False, root
        self._held: dict[str, int] = {}
        self._path, self._settings = path, dict(settings)
        self._entries: dict[str, Entry] = {}

    def __enter__(self) -> "Journal":
        """Read the file and open it for more.

        Raises:
            TableError: it cannot be read or written, or another run has it.
        """
        try:
            self._file = self._path.open("a+b")
        except OSError as error:
            raise TableError(
                f"expected to write the journal {self._path}; received: {error.strerror}"
            ) from error
        with contextlib.ExitStack() as stack:
            stack.callback(self._file.close)
            _lock(self._file, self._path)
            settings = self._load()
            # written with the first photo: a run that cannot start forgets nothing
            self._begins_anew = settings != self._settings
            stack.pop_all()
        return self

    def __exit__(self, *exception) -> None:
        self._file.close()
        if not self._end:
            self._path.unlink(missing_ok=True)

    def _load(self) -> Mapping | None:
        """Read all lines, cut off a torn last one; return the last settings.

        Raises:
            TableError: the file is no journal, or one of an earlier version.
        """
        settings, end, torn = None, 0, 0
        self._file.seek(0)
        for line in self._file:
            content = _content(line)
            if not end and content is None and not line.startswith(BEGINNING):
                raise TableError(
                    f"expected a journal of photos as {self._path}; received another file: name "
                    "another table, or remove this one"
                )
            settings = self._take(content or {}, end, settings)
            end += len(line)
            torn = 0 if line.endswith(b"\n") else len(line)
        self._file.truncate(end - torn)
        self._end = end - torn
        return settings

    def _take(self, content: Mapping, offset: int, settings: Mapping | None) -> Mapping | None:
        """Take in what a line says; return the settings that hold from there on."""
        if "settings" in content:
            if "root" not in content:
                raise TableError(
                    f"expected a journal that says which folder its photos are in; {self._path} is "
                    "of an earlier version: name another table, or remove this file to read all "
                    "photos again"
                )
            self._entries.clear()
            self.is_settled = False
            self.root = content["root"] and Path(content["root"])
            return content["settings"]
        if "tables" in content:
            self._held, self.is_settled = content["tables"], True
        elif "photo" in content:
            self.is_settled = False
            record = Record.read(content)
            self._entries[record.name] = record.entry(offset)
        return settings

    def find(self, name: str) -> Entry | None:
        """Return what is known of a photo, made with these settings."""
        return self._entries.get(name)

    def names(self) -> set[str]:
        """Return the names of all photos that are known."""
        return set(self._entries)

    def start(self, names: Collection[str], again: bool) -> list[str]:
        """Return the names of photos that are done, but for these; photos made otherwise are not.

        Args:
            names: the photos of this run, and those that are gone.
            again: none of them counts as done.

        Raises:
            TableError: others were made with other settings, which one table cannot hold.
        """
        others = [name for name in self._entries if name not in names]
        if others and self._begins_anew:
            raise TableError(
                f"expected the model, detector and limits of {self._path}, which holds "
                f"{len(others):,} photos of other sources; received others: name another table, or "
                "give all sources in one command"
            )
        if again or self._begins_anew:
            self.forget(names)
        return others

    def forget(self, names: Iterable[str]) -> None:
        """Count photos as not done, whose rows are of another time; their lines stay for now."""
        for name in names:
            self._entries.pop(name, None)

    def add(self, record: Record) -> None:
        """Write down a photo."""
        self.is_settled = False
        offset = self._append(record.line())
        self._entries[record.name] = record.entry(offset)

    def tables_hold(self, photos: int, tables: Iterable[Path]) -> None:
        """Write down that these tables now hold so many photos; others hold what they held."""
        self._held |= {self._name_of(table): photos for table in tables}
        self._append(_line({"tables": self._held}))
        self.is_settled = True

    def held_by(self, table: Path) -> int | None:
        """Return how many photos a table held when written; None: it is not of this journal."""
        return self._held.get(self._name_of(table))

    def _name_of(self, table: Path) -> str:
        """Return what a table is called here: as seen from the journal, so that both may move."""
        return os.path.relpath(table, self._path.parent)

    def records(self, names: Iterable[str]) -> Iterator[Record]:
        """Yield the records of photos, in the order of the names; others are passed over."""
        return (Record.read(json.loads(line)) for line in self._lines(names))

    def _lines(self, names: Iterable[str]) -> Iterator[bytes]:
        """Yield the lines of photos, in the order of the names."""
        with self._path.open("rb") as file:
            for name in names:
                entry = self._entries.get(name)
                if entry is not None:
                    file.seek(entry.offset)
                    yield file.readline()

    def compact(self, names: Iterable[str], tables: Iterable[Path]) -> None:
        """Leave out what counts no more, and close the file.

        Args:
            names: the photos that stay; of each the last line.
            tables: those that hold them; others are as if another program had written them.
        """
        held = {self._name_of(table): self.held_by(table) for table in tables}
        with whole_file(self._path) as part, part.open("wb") as file:
            file.write(self._head())
            file.writelines(self._lines(names))
            file.write(_line({"tables": held}))
            self._file.close()  # Windows replaces no file that is open

    def _head(self) -> bytes:
        return _line({"settings": self._settings, "root": self.root and str(self.root)})

    def _append(self, line: bytes) -> int:
        """Write a line; return where it begins."""
        if self._begins_anew:
            self._begins_anew = False
            self._append(self._head())
        offset = self._end
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise TableError(
                f"expected to write the journal {self._path}; received: {error.strerror}"
            ) from error
        self._end += len(line)
        return offset


def _line(content: Mapping) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode() + b"\n"


def _content(line: bytes) -> Mapping | None:
    """Return what a line holds, None where it is torn or another text."""
    try:
        content = json.loads(line)
        if "photo" in content:
            Record.read(content).entry(0)
        if "tables" in content:
            dict(content["tables"])
    except (ValueError, KeyError, TypeError):
        return None
    return content if line.endswith(b"\n") and isinstance(content, dict) else None


def _lock(file, path: Path) -> None:
    """Keep other runs from a journal as long as its file is open.

    Raises:
        TableError: another run has it.
    """
    try:
        import fcntl
    except ImportError:
        return  # Windows
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise TableError(
            f"expected a table that no other run is writing; another one has {path}: wait for it, "
            "or name another table"
        ) from error
    except OSError:
        return  # a file system without locks
