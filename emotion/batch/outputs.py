"""What a batch knows and writes: a store of photos, tables made from it, annotated copies."""

import contextlib
import itertools
import json
import os
import re
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from emotion.errors import SourceError, TableError
from emotion.images.encoding import WRITTEN_SUFFIXES
from emotion.images.folders import PhotoFile
from emotion.rows import photo_rows
from emotion.tables import TableSink

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
class Record:  # what is known of a photo
    name: str
    stamp: list[int] | None  # size and time of its file when it was read
    faces: Sequence[Mapping] = ()  # as `face_to_dict` gives them
    problem: str | None = None  # why there are none
    is_final: bool = True  # the unchanged file needs no second look
    has_copy: bool = False  # an annotated copy was made


class Store:
    """The records of a table's photos, and facts about all of them: an SQLite file beside it.

    Every photo is here before it is in a table, so a killed process loses the photos in hand alone.
    What is forgotten or set counts with the next photo: a run that cannot start changes nothing.
    """

    def __init__(self, database: sqlite3.Connection):
        self._database = database
        rows = database.execute("SELECT name, value FROM facts")
        self.facts = {name: json.loads(value) for name, value in rows}
        self.commit = database.commit

    def find(self, name: str) -> Record | None:
        query = "SELECT record FROM photos WHERE name = ?"
        found = self._database.execute(query, (os.fsencode(name),)).fetchone()
        return found and Record(**json.loads(found[0]))

    def names(self) -> set[str]:
        return {os.fsdecode(name) for (name,) in self._database.execute("SELECT name FROM photos")}

    def forget(self, names: Iterable[str]) -> None:
        rows = ((os.fsencode(name),) for name in names)
        self._database.executemany("DELETE FROM photos WHERE name = ?", rows)

    def add(self, record: Record) -> None:
        row = os.fsencode(record.name), json.dumps(asdict(record), separators=(",", ":"))
        self._database.execute("INSERT OR REPLACE INTO photos VALUES (?, ?)", row)
        self.commit()

    def set(self, **facts: object) -> None:
        self.facts |= facts
        rows = ((name, json.dumps(value)) for name, value in facts.items())
        self._database.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", rows)


@contextlib.contextmanager
def opened_store(path: Path) -> Iterator[Store]:
    """Give the store in a file, removed where it holds no photo; raises TableError."""
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
        words = {
            sqlite3.SQLITE_BUSY: "another run has it: wait for it, or name another table",
            sqlite3.SQLITE_NOTADB: "another file, or an earlier version's: name another table",
        }.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, error)
        raise TableError(f"expected to write {path}; received: {words}") from error
    finally:
        if is_empty:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class BatchOutputs:  # what is to be written
    tables: tuple[Path, ...] = ()  # ending in .csv, .jsonl or .parquet; all hold the same rows
    copies: Path | None = None  # the folder for annotated copies

    @property
    def store(self) -> Path:
        """The store of the first table that has one, else of the first table or the copies."""
        places = [table.with_name(table.name + SUFFIX) for table in self.tables]
        if self.copies is not None:
            places.append(self.copies / f"photos{SUFFIX}")
        return next((place for place in places if place.exists()), places[0])

    def prepare(self, photos: Sequence[PhotoFile]) -> None:
        """Make the folder for copies, or raise SourceError where one could replace a photo."""
        if self.copies is None:
            if not self.tables:
                raise SourceError("expected a table or a folder for copies; received neither")
            return
        expected = "expected a folder for annotated copies that holds no photos"
        try:
            self.copies.mkdir(parents=True, exist_ok=True)
            inside = self.copies.resolve()
        except OSError as error:
            raise SourceError(f"{expected}; {self.copies}: {error.strerror}") from error
        for folder in {photo.path.parent for photo in photos}:
            if folder.resolve().is_relative_to(inside):
                raise SourceError(f"{expected}; {self.copies} holds those of {folder}")


def copy_path(copies: Path, name: str, names: Collection[str]) -> Path:
    """Return where the annotated copy of a photo goes; a type that is not written gets a .jpg."""
    while not name.lower().endswith(WRITTEN_SUFFIXES):
        name += ".jpg"
        while name in names:
            name += ".jpg"
    # a list may name photos anywhere: /photos/a.jpg, C:/photos/a.jpg
    parts = [re.sub(r"[:\\]", "_", part) for part in PurePosixPath(name).parts if part[0] != "/"]
    return copies.joinpath(*parts)


class Tables:
    """The tables of one run; each is always whole under its own name.

    Rows are appended as photos are done; Parquet is written when a run ends. A run that would first
    take rows out fills `NAME.part.csv`, which takes the table's place when it holds no fewer.
    """

    def __init__(self, outputs: BatchOutputs, columns: Mapping, metadata: Mapping, store: Store):
        self._columns, self._metadata, self._store = columns, metadata, store
        # as seen from the store, so that both may move
        folder, held = outputs.store.parent, store.facts.get("tables", {})
        self._names = {table: os.path.relpath(table, folder) for table in outputs.tables}
        # how many photos each held when it was written from here
        self._held = {name: held[name] for name in self._names.values() if name in held}

    def are_current(self, photos: int) -> bool:
        """True if they were written after the last photo and hold so many."""
        return self._store.facts.get("tables_are_current", False) and all(
            table.exists() and self._held.get(name) == photos for table, name in self._names.items()
        )

    @contextlib.contextmanager
    def growing(self, names: Sequence[str], most: int) -> Iterator[Callable[[Record], None]]:
        """Give a function that adds photos to the tables of text, after these, up to `most`."""
        in_place = [table for table in self._names if self._may_hold(table, len(names), most)]
        texts = [table for table in self._names if table.suffix.lower() != ".parquet"]
        places = [table if table in in_place else _part_of(table) for table in texts]
        with contextlib.ExitStack() as stack:
            sinks = [stack.enter_context(self._sink(place, names)) for place in places]
            self._keep(in_place, len(names), are_current=False)

            def write(record: Record) -> None:
                for sink, row in itertools.product(sinks, _rows(record)):
                    sink.write(row)

            yield write

    def finish(self, names: Sequence[str], done: int) -> tuple[Path, ...]:
        """Write each table in the order of all names; return those that keep what they held."""
        ready = [table for table in self._names if self._may_hold(table, done, len(names))]
        for table in ready:
            with self._sink(table, names):
                pass
            _part_of(table).unlink(missing_ok=True)
        self._keep(ready, done, are_current=True)
        return tuple(table for table in self._names if table not in ready)

    def _may_hold(self, table: Path, photos: int, most: int) -> bool:
        """True if a table would lose no photos; a file that is not ours gives way to all only."""
        held = self._held.get(self._names[table], most if table.exists() else 0)
        return photos >= min(held, most)

    def _keep(self, tables: Sequence[Path], photos: int, are_current: bool) -> None:
        # tables that are not of this run are from now on as if another program had written them
        self._held |= {self._names[table]: photos for table in tables}
        self._store.set(tables=self._held, tables_are_current=are_current)
        self._store.commit()

    def _sink(self, place: Path, names: Sequence[str]) -> TableSink:
        records = filter(None, map(self._store.find, names))
        rows = (row for record in records for row in _rows(record))
        return TableSink(place, self._columns, self._metadata, first_rows=rows)


def _part_of(table: Path) -> Path:
    return table.with_name(f"{table.stem}.part{table.suffix}")


def _rows(record: Record) -> list[dict]:
    """Return the rows of a photo; bytes of its name that are no UTF-8 are written as \\xff."""
    name = record.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return photo_rows(name, record.problem or {"faces": record.faces})
