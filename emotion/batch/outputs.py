"""What a batch writes: tables, which grow as photos are done, and annotated copies.

A table under its own name is always whole. While a run adds photos to it, rows are appended as they
are made; a run that would first take rows out (photos changed, another model) fills `NAME.part.csv`
beside it, and puts that in its place when it holds no fewer photos. Parquet has its index at its
end, so it is written when a run ends, from the store.
"""

import contextlib
import functools
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from emotion.batch.store import SUFFIX, Record, Store
from emotion.errors import SourceError
from emotion.images.encoding import WRITTEN_SUFFIXES
from emotion.images.folders import PhotoFile
from emotion.rows import photo_rows
from emotion.tables import TableSink, check_suffix


@dataclass(frozen=True)
class BatchOutputs:
    """What is to be written.

    Attributes:
        tables: files ending in .csv, .jsonl or .parquet; all hold the same rows.
        copies: the folder for annotated copies, None for none.
    """

    tables: tuple[Path, ...] = ()
    copies: Path | None = None

    @property
    def store(self) -> Path:
        """The store: of the first table that has one, else of the first table or the copies."""
        places = [table.with_name(table.name + SUFFIX) for table in self.tables]
        if self.copies is not None:
            places.append(self.copies / f"photos{SUFFIX}")
        return next((place for place in places if place.exists()), places[0])

    def prepare(self, photos: Sequence[PhotoFile]) -> None:
        """Make the folder for copies.

        Raises:
            SourceError: there is nothing to write, no place for it, or a copy could replace a
                photo.
            TableError: a table of such a name is not known.
        """
        if not self.tables and self.copies is None:
            raise SourceError("expected a table or a folder for annotated copies; received neither")
        for table in self.tables:
            check_suffix(table)
            if table.is_dir():
                raise SourceError(f"expected a file for the table; {table} is a folder")
            if not table.parent.is_dir():
                raise SourceError(
                    f"expected a folder for the table to be in; there is no {table.parent}"
                )
        if self.copies is None:
            return
        try:
            self.copies.mkdir(parents=True, exist_ok=True)
            inside = self.copies.resolve()
        except OSError as error:
            raise SourceError(
                f"expected a folder for annotated copies; received {self.copies}: {error.strerror}"
            ) from error
        resolved = functools.lru_cache(maxsize=1024)(Path.resolve)
        for photo in photos:
            if resolved(photo.path.parent).is_relative_to(inside):
                raise SourceError(
                    f"expected a folder for annotated copies that holds no photos; {photo.path} is "
                    f"in {self.copies}: name another folder"
                )


def copy_path(copies: Path, name: str, names: Collection[str]) -> Path:
    """Return where the annotated copy of a photo goes: the same path below `copies`.

    A photo of a type that is not written gets .jpg behind its name.

    Args:
        copies: the folder.
        name: of the photo.
        names: of all photos, for a photo that needs another suffix must not take another's place.
    """
    while not name.lower().endswith(WRITTEN_SUFFIXES):
        name += ".jpg"
        while name in names:
            name += ".jpg"
    # a list may name photos anywhere: /photos/a.jpg, C:/photos/a.jpg
    parts = [re.sub(r"[:\\]", "_", part) for part in PurePosixPath(name).parts if part[0] != "/"]
    return copies.joinpath(*parts)


def table_rows(record: Record) -> list[dict]:
    """Return the rows of a photo; bytes of its name that are no UTF-8 are written as \\xff."""
    name = record.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return photo_rows(name, record.problem or {"faces": record.faces})


class Tables:
    """The tables of one run, and whether each may grow in its own place."""

    def __init__(
        self,
        tables: Sequence[Path],
        columns: Mapping[str, type],
        store: Store,
        metadata: Mapping[str, str],
    ):
        self._tables, self._columns = tables, columns
        self._store, self._metadata = store, metadata
        self._sinks: list[TableSink] = []

    @contextlib.contextmanager
    def growing(self, names: Sequence[str], most: int) -> Iterator["Tables"]:
        """Let tables of text grow from the rows of photos that are done.

        Args:
            names: the photos that are done.
            most: how many there will be.
        """
        in_place = [table for table in self._tables if self._may_hold(table, len(names), most)]
        with contextlib.ExitStack() as stack:
            for table in self._tables:
                if table.suffix.lower() != ".parquet":
                    place = table if table in in_place else _part_of(table)
                    self._sinks.append(stack.enter_context(self._sink(place, names)))
            self._store.tables_hold(len(names), in_place)
            yield self
        self._sinks.clear()

    def _may_hold(self, table: Path, photos: int, most: int) -> bool:
        """True if a table would lose no photos; a file that is not ours gives way to all only."""
        held = self._store.held_by(table)
        if held is None:
            held = most if table.exists() else 0
        return photos >= held

    def write(self, record: Record) -> None:
        """Add the rows of a photo to the tables that grow."""
        for sink in self._sinks:
            for row in table_rows(record):
                sink.write(row)

    def finish(self, names: Sequence[str], done: int) -> tuple[Path, ...]:
        """Write each table in the order of the names; return those that keep what they held.

        Args:
            names: all photos; those that are not done have no rows.
            done: how many are done.
        """
        most = len(names)
        ready = [
            table for table in self._tables if done == most or self._may_hold(table, done, most)
        ]
        for table in ready:
            with self._sink(table, names):
                pass
            _part_of(table).unlink(missing_ok=True)
        self._store.tables_hold(done, ready, alone=done == most)
        return tuple(table for table in self._tables if table not in ready)

    def _sink(self, place: Path, names: Sequence[str]) -> TableSink:
        rows = (row for record in self._store.records(names) for row in table_rows(record))
        return TableSink(place, self._columns, self._metadata, first_rows=rows)


def _part_of(table: Path) -> Path:
    return table.with_name(f"{table.stem}.part{table.suffix}")
