"""Transactions on SQLite or PostgreSQL, which make the tables where there are none."""

import errno
import os
import sqlite3
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, ClassVar

import sqlalchemy as sql
from sqlalchemy import Connection, Dialect, Engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

from emotion.errors import DatabaseError
from emotion.files import make_private
from emotion.web.settings import SettingsError

SCHEMA_VERSION = 1
BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
FULL = (("sqlite_errorcode", sqlite3.SQLITE_FULL), ("sqlstate", "53100"), ("errno", errno.ENOSPC))
BUSY_TIMEOUT_S = 3  # how long SQLite waits for another writer; each writes for a few milliseconds
POSTGRESQL_DRIVER = "postgresql+psycopg"
POSTGRESQL = {
    "max_overflow": 15,
    "pool_timeout": 10,
    "pool_pre_ping": True,  # a connection that a restarted server closed is replaced before use
    # a server that vanished is noticed after seconds, not hours
    "connect_args": {"connect_timeout": 5, "tcp_user_timeout": 10_000}
    | {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3},
}
Id = Annotated[str, mapped_column(sql.String(22))]
VisitorKey = Annotated[str, mapped_column(sql.String(64), index=True)]
Expiry = Annotated[float, mapped_column(index=True)]
ADVISORY_LOCK = 4_207_849_484_853_202_611  # any number that no other program uses


class Row(MappedAsDataclass, DeclarativeBase, unsafe_hash=True):
    """A row of a table: each field is an attribute and a column. Times are seconds since 1970."""

    type_annotation_map: ClassVar = {str: sql.Text, float: sql.Double}


class Schema(Row):
    __tablename__ = "emotion_schema"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int]


def rows_of(connection: Connection, kind: type[Row], query: sql.Executable) -> tuple:
    return tuple(kind(**row) for row in connection.execute(query).mappings())


VERSION = sql.select(Schema.version).where(Schema.id == 1)


class Connections:
    """The way to one database; safe to share between threads, processes and machines."""

    def __init__(self, url: str):
        """Name an SQLite file or a PostgreSQL database; raises SettingsError, opens nothing yet."""
        try:
            address = make_url(url)
        except (ArgumentError, ValueError):
            address = URL.create("none")
        # other processes cannot see a database in memory
        is_file = address.database and not address.database.startswith((":", "file:"))
        if address.drivername in ("postgres", "postgresql", POSTGRESQL_DRIVER):
            self._file, self.dialect = None, postgresql
            address = address.set(drivername=POSTGRESQL_DRIVER)
            self._engine = sql.create_engine(address, **POSTGRESQL)
        elif address.drivername in ("sqlite", "sqlite+pysqlite") and is_file:
            self._file, self.dialect = Path(address.database), sqlite
            self._engine = _sqlite_engine(address, self._file)
        else:
            raise SettingsError(
                "expected DATABASE_URL as sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME; "
                "received another address"  # which may hold a password
            )
        self._is_ready, self._process = False, os.getpid()
        weakref.finalize(self, self._engine.dispose)

    @contextmanager
    def transaction(self, writes: bool = False, alone: bool = False) -> Iterator[Connection]:
        """Give a connection whose work is done as a whole or not at all, `alone` of its kind in all
        processes; raises DatabaseError.
        """
        try:
            self._make_ready()
            with self._begin(writes, alone) as connection:
                yield connection
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            self._is_ready = False  # it may come back empty
            found = getattr(error, "orig", None) or error
            # the lines after the first hold a statement's values
            cause = str(found).partition("\n")[0]
            words = "expected an answer of the database; it cannot be reached or written now"
            is_full = any(getattr(found, name, None) == code for name, code in FULL)
            raise DatabaseError(f"{words} ({cause})", is_full) from error

    @contextmanager
    def _begin(self, writes: bool, alone: bool = False) -> Iterator[Connection]:
        with self._engine.begin() as connection:
            if self._file:
                # a transaction that will write waits for its turn now, not half-way
                connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
            elif alone:
                connection.execute(sql.select(sql.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
            yield connection

    def _make_ready(self) -> None:
        """Make the tables if there are none; several threads and processes may do so at once."""
        if self._process != os.getpid():
            # connections of a process that forked are its own, and stay open
            self._engine.dispose(close=False)
            self._process, self._is_ready = os.getpid(), False
        if self._is_ready:
            return
        # where nothing is left to make we only read, and wait for no writer
        with self._begin(writes=False) as connection:
            has_all = all(map(sql.inspect(connection).has_table, Row.metadata.tables))
            version = connection.scalar(VERSION) if has_all else None
        if version != SCHEMA_VERSION:
            with self._begin(writes=True, alone=True) as connection:
                Row.metadata.create_all(connection)
                version = connection.scalar(VERSION)
                if version is None:
                    connection.execute(sql.insert(Schema), {"id": 1, "version": SCHEMA_VERSION})
                elif version != SCHEMA_VERSION:
                    words = f"expected a database of version {SCHEMA_VERSION}; received {version}"
                    advice = "run the program that made it, or name another database"
                    raise DatabaseError(f"{words}: {advice}")
        self._is_ready = True

    def close(self) -> None:
        """Close the idle connections; the next call opens new ones."""
        self._engine.dispose()


def _sqlite_engine(address: URL, file: Path) -> Engine:
    engine = sql.create_engine(
        address,
        # Python's sqlite3 would begin transactions of its own, which read before they lock
        connect_args={"timeout": BUSY_TIMEOUT_S, "isolation_level": None},
        max_overflow=-1,  # who reads never waits for a connection that writes
    )

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Dialect, _, arguments: list, options: dict) -> sqlite3.Connection:
        if not file.exists():
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file.touch(mode=0o600, exist_ok=True)
        for suffix in ("", "-wal", "-shm"):
            make_private(file.with_name(file.name + suffix))
        connection = dialect.connect(*arguments, **options)
        # with the write-ahead log, readers read while one writes, and a crash of the machine may
        # lose the last writes, never the file; SQLite refuses to wait for it, so we try again
        connection.execute("PRAGMA synchronous = NORMAL")
        give_up_s = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return connection
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in BUSY or time.monotonic() > give_up_s:
                    raise
            time.sleep(0.02)

    return engine
