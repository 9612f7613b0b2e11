"""What is known of the photos of a table: an SQLite file beside it.

Every photo is in the store before it is in a table, so a process that is killed loses the photos in
hand and no others. Tables are made from the store and can be made again.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from emotion.errors import TableError

SUFFIX = ".journal"

SCHEMA = """
PRAGMA locking_mode = EXCLUSIVE; -- one process needs no memory to share
PRAGMA journal_mode = WAL; -- each photo is one append to a log
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS photos (name BLOB PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT);
BEGIN IMMEDIATE;
"""


@dataclass(frozen=True)
class Record:
    """What is known of a photo."""

    name: str
    stamp: tuple[int, int] | None  # size and time of its file when it was read
    faces: tuple[Mapping, ...] = ()  # as `face_to_dict` gives them
    problem: str | None = None  # why there are none
    is_final: bool = True  # the unchanged file needs no second look
    has_copy: bool = False  # an annotated copy was made


class Store:
    """The records of one table's photos, and facts about all of them.

    What is forgotten or set counts together with the next photo that is added, or at `commit`: a
    run that cannot start changes nothing.
    """

    def __init__(self, database: sqlite3.Connection):
        self._database = database
        rows = database.execute("SELECT name, value FROM facts")
        self.facts = {name: json.loads(value) for name, value in rows}
        self.commit = database.commit

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

    def forget(self, names: Iterable[str]) -> None:
        """Count photos as not done."""
        rows = ((os.fsencode(name),) for name in names)
        self._database.executemany("DELETE FROM photos WHERE name = ?", rows)

    def add(self, record: Record) -> None:
        """Keep a photo, whatever happens to this process."""
        content = json.dumps(asdict(record), separators=(",", ":"))
        row = os.fsencode(record.name), content
        self._database.execute("INSERT OR REPLACE INTO photos VALUES (?, ?)", row)
        self.commit()

    def set(self, **facts: object) -> None:
        """Set facts, which are plain types."""
        self.facts |= facts
        rows = ((name, json.dumps(value)) for name, value in facts.items())
        self._database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)


@contextlib.contextmanager
def opened_store(path: Path) -> Iterator[Store]:
    """Give the store in a file, which is made if need be and removed where it holds no photo.

    Raises:
        TableError: it cannot be read or written, another run has it, or it is no store.
    """
    is_empty = False
    try:
        # every statement that writes begins a transaction which no other process can have
        database = sqlite3.connect(path, timeout=0, isolation_level="IMMEDIATE")
        with contextlib.closing(database):
            database.executescript(SCHEMA)
            store = Store(database)
            try:
                yield store
            finally:
                database.rollback()
                is_empty = not store.names()
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        words = f"expected to write {path}; received: {error}"
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            words = (
                f"expected a table that no other run is writing; another one has {path}: wait for "
                "it, or name another table"
            )
        if code == sqlite3.SQLITE_NOTADB:
            words = (
                f"expected what an earlier run knew in {path}; received another file, or that of "
                "an earlier version of this program: name another table, or remove this file"
            )
        raise TableError(words) from error
    finally:
        if is_empty:
            path.unlink(missing_ok=True)
