"""What is known of the photos of a table: an SQLite file beside it.

Every photo is in the store before it is in a table, so a process that is killed loses the photos in
hand and no others. Tables are made from the store and can be made again. A photo's name is its path
below the folder of the first source, or else its whole path, so that equal names in several folders
are told apart.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from emotion.errors import TableError

SUFFIX = ".journal"

BEGIN = "BEGIN IMMEDIATE"

SCHEMA = """
CREATE TABLE IF NOT EXISTS photos (name BLOB PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT);
"""


def stamp_of(path: Path) -> tuple[int, int] | None:
    """Return size and time of change of a file, in ns; None where it cannot be seen."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True)
class Record:
    """What is known of a photo.

    Attributes:
        name: of the photo.
        stamp: of its file when it was read.
        faces: as `face_to_dict` gives them.
        problem: why there are none.
        is_final: the unchanged file needs no second look.
        has_copy: an annotated copy was made.
    """

    name: str
    stamp: tuple[int, int] | None
    faces: tuple[Mapping, ...] = ()
    problem: str | None = None
    is_final: bool = True
    has_copy: bool = False


class Store:
    """The records of one table's photos; one process may open it at a time.

    What a run takes out counts only together with the first photo that it adds: a run that cannot
    start forgets nothing.

    Attributes:
        root: the folder in which names begin; None: all names are whole paths.
        tables_are_current: the tables were written after the last photo.
    """

    def __init__(self, path: Path, settings: Mapping, root: Path | None = None):
        """Take the file and what the photos of this run are made with.

        Args:
            path: the file; made when it is opened.
            settings: plain types; photos made with others do not count.
            root: where names begin, unless the file knows that already.
        """
        self.root, self._path, self._settings = root, path, dict(settings)

    def __enter__(self) -> "Store":
        """Open the file.

        Raises:
            TableError: it cannot be read or written, another run has it, or it is no store.
        """
        with self._problem(), contextlib.ExitStack() as stack:
            is_old = False
            with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
                is_old = file.read(1) == b"{"
            if is_old:
                raise TableError(
                    f"expected what an earlier run knew in {self._path}; it is of an earlier "
                    "version of this program: name another table, or remove this file to read all "
                    "photos again"
                )
            self._database = sqlite3.connect(self._path, timeout=0, isolation_level=None)
            stack.callback(self._database.close)
            # each photo is one append to a log, and one process needs no memory to share
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(SCHEMA)
            self._database.execute(BEGIN)
            rows = self._database.execute("SELECT name, value FROM facts")
            facts = {name: json.loads(value) for name, value in rows}
            stack.pop_all()
        if "root" in facts:
            self.root = facts["root"] and Path(facts["root"])
        self.tables_are_current, self._held = (
            facts.get("tables_are_current", False),
            facts.get("tables", {}),
        )
        self._is_otherwise = facts.get("settings") != self._settings
        return self

    def __exit__(self, kind, error, traceback) -> None:
        with self._problem(), contextlib.closing(self._database):
            if isinstance(error, sqlite3.Error):
                raise error
            self._database.rollback()
            is_empty = not self.names()
        if is_empty:
            self._path.unlink(missing_ok=True)

    def find(self, name: str) -> Record | None:
        """Return what is known of a photo."""
        query = "SELECT record FROM photos WHERE name = ?"
        found = self._database.execute(query, (os.fsencode(name),)).fetchone()
        if found is None:
            return None
        content = json.loads(found[0])
        stamp = content["stamp"] and tuple(content["stamp"])
        return Record(**content | {"stamp": stamp, "faces": tuple(content["faces"])})

    def names(self) -> set[str]:
        """Return the names of all photos that are known."""
        return {os.fsdecode(name) for (name,) in self._database.execute("SELECT name FROM photos")}

    def records(self, names: Iterable[str]) -> Iterator[Record]:
        """Yield the records of photos in the order of the names; others are passed over."""
        return filter(None, map(self.find, names))

    def start(self, names: Collection[str], gone: Collection[str], again: bool) -> list[str]:
        """Return the names of photos of other sources, which stay as they are.

        Args:
            names: the photos of this run; those made with other settings are forgotten.
            gone: photos that are not there any more; they are forgotten.
            again: all photos of this run are forgotten.

        Raises:
            TableError: others were made with other settings, which one table cannot hold.
        """
        others = [name for name in self.names() if name not in names and name not in gone]
        if others and self._is_otherwise:
            raise TableError(
                f"expected the model, detector and limits of {self._path}, which holds "
                f"{len(others):,} photos of other sources; received others: name another table, or "
                "give all sources in one command"
            )
        self.forget(names if again or self._is_otherwise else gone)
        if self._is_otherwise:
            self._set("settings", self._settings)
            self._set("root", self.root and str(self.root))
            self.tables_are_current = False
            self._set("tables_are_current", False)
        return others

    def forget(self, names: Iterable[str]) -> None:
        """Count photos as not done."""
        self._database.executemany(
            "DELETE FROM photos WHERE name = ?", ((os.fsencode(name),) for name in names)
        )

    def add(self, record: Record) -> None:
        """Keep a photo, whatever happens to this process."""
        content = json.dumps(asdict(record), separators=(",", ":"))
        self._database.execute(
            "INSERT OR REPLACE INTO photos VALUES (?, ?)", (os.fsencode(record.name), content)
        )
        if self.tables_are_current:
            self.tables_are_current = False
            self._set("tables_are_current", False)
        self._commit()

    def held_by(self, table: Path) -> int | None:
        """Return how many photos a table held when written; None: it is not made from here."""
        return self._held.get(self._name_of(table))

    def tables_hold(self, photos: int, tables: Iterable[Path], alone: bool = False) -> None:
        """Keep that these tables now hold so many photos.

        Args:
            photos: how many.
            tables: the tables.
            alone: other tables are from now on as if another program had written them.
        """
        before = {} if alone else self._held
        self._held = before | {self._name_of(table): photos for table in tables}
        self.tables_are_current = True
        self._set("tables", self._held)
        self._set("tables_are_current", True)
        self._commit()

    def _name_of(self, table: Path) -> str:
        # as seen from the store, so that both may move
        return os.path.relpath(table, self._path.parent)

    def _set(self, name: str, value: object) -> None:
        self._database.execute(
            "INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value))
        )

    def _commit(self) -> None:
        self._database.commit()
        self._database.execute(BEGIN)

    @contextlib.contextmanager
    def _problem(self) -> Iterator[None]:
        """Turn what SQLite or the system says into a sentence."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                words = (
                    f"expected a table that no other run is writing; another one has {self._path}: "
                    "wait for it, or name another table"
                )
            elif code == sqlite3.SQLITE_NOTADB:
                words = (
                    f"expected what an earlier run knew in {self._path}; received another file: "
                    "name another table, or remove this one"
                )
            else:
                reason = getattr(error, "strerror", None) or error
                words = f"expected to write {self._path}; received: {reason}"
            raise TableError(words) from error
