"""The database: which photos are whose until their time is up, and figures without any photo.

SQLite serves one machine, PostgreSQL several. What a visitor can be known by (photos and opinions
on their faces) goes when the photo goes; of an opinion a number in the statistics stays.
"""

import json
import os
import re
import sqlite3
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import ModuleType

import sqlalchemy as sql
from sqlalchemy import Column, ColumnElement, Connection, Engine, Insert, Table, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DisconnectionError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from emotion.errors import DatabaseError
from emotion.files import make_private
from emotion.web.settings import SettingsError

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 3
"""How long SQLite waits for another writer; each writes for a few milliseconds."""

SQLITE_POOL = {"pool_size": 5, "max_overflow": -1}
"""How many idle connections stay open; a thread that reads never waits for one that writes."""

POSTGRESQL_DRIVER = "postgresql+psycopg"
POSTGRESQL = {
    "pool_size": 5,
    "max_overflow": 15,
    "pool_timeout": 10,
    # a connection that a restarted server closed is replaced before it is used
    "pool_pre_ping": True,
    "pool_recycle": 1800,
    # a machine that vanished without a word is noticed after seconds, not hours
    "connect_args": {
        "connect_timeout": 5,
        "tcp_user_timeout": 10_000,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    },
}
"""How connections to PostgreSQL are made and kept."""

ADVISORY_LOCK = 4_207_849_484_853_202_611
"""PostgreSQL's lock of this app, any number that no other program takes: for work done alone."""

ID_PATTERN = re.compile(r"[A-Za-z0-9_-]{22}")
MOST_FACES = 2**31 - 1
BUCKETS = 10
"""Parts into which confidence from 0 to 1 is divided."""

LONGEST_KEPT_S = 8784 * 3600
"""What KEEP_HOURS may be at most: an opinion on a photo of no known end goes after that time."""

TABLES = sql.MetaData()

SCHEMA = Table(
    "emotion_schema",
    TABLES,
    Column("id", sql.Integer, primary_key=True, autoincrement=False),
    Column("version", sql.Integer, nullable=False),
)
PHOTOS = Table(
    "photos",
    TABLES,
    Column("id", sql.String(22), primary_key=True),
    Column("set_id", sql.String(22), nullable=False, index=True),
    Column("position", sql.Integer, nullable=False),
    Column("visitor", sql.String(64), nullable=False, index=True),
    Column("created_s", sql.Double, nullable=False),
    Column("expires_s", sql.Double, nullable=False, index=True),
    Column("faces", sql.Integer, nullable=False),
    Column("emotions", sql.Text, nullable=False),
    Column("problem", sql.Text, nullable=False),
)
OPINIONS = Table(
    "opinions",
    TABLES,
    Column("photo_id", sql.String(22), primary_key=True),
    Column("number", sql.Integer, primary_key=True, autoincrement=False),
    Column("given", sql.Text, nullable=False),
    Column("chosen", sql.Text, nullable=False),
    Column("model_sha256", sql.String(64), nullable=False),
    Column("said_s", sql.Double, nullable=False),
    Column("kept", sql.Text, nullable=False),
    Column("day", sql.String(10), nullable=False),
)
PHOTO_COUNTS = Table(
    "photo_counts",
    TABLES,
    Column("day", sql.String(10), primary_key=True),
    Column("model_sha256", sql.String(64), primary_key=True),
    Column("photos", sql.BigInteger, nullable=False),
    Column("without_face", sql.BigInteger, nullable=False),
)
FACE_COUNTS = Table(
    "face_counts",
    TABLES,
    Column("day", sql.String(10), primary_key=True),
    Column("model_sha256", sql.String(64), primary_key=True),
    Column("emotion", sql.Text, primary_key=True),
    Column("sure", sql.Boolean, primary_key=True),
    Column("bucket", sql.SmallInteger, primary_key=True, autoincrement=False),
    Column("faces", sql.BigInteger, nullable=False),
    Column("confidence_sum", sql.Double, nullable=False),
)
OPINION_COUNTS = Table(
    "opinion_counts",
    TABLES,
    Column("day", sql.String(10), primary_key=True),
    Column("model_sha256", sql.String(64), primary_key=True),
    Column("given", sql.Text, primary_key=True),
    Column("chosen", sql.Text, primary_key=True),
    Column("opinions", sql.BigInteger, nullable=False),
)

VIDEO_COUNTS = Table(
    "video_counts",
    TABLES,
    Column("day", sql.String(10), primary_key=True),
    Column("model_sha256", sql.String(64), primary_key=True),
    Column("videos", sql.BigInteger, nullable=False),
    Column("without_face", sql.BigInteger, nullable=False),
    Column("faces", sql.BigInteger, nullable=False),
    Column("seconds", sql.Double, nullable=False),
)


@dataclass(frozen=True)
class PhotoRow:
    """A photo of a visitor, while it is kept.

    Attributes:
        id: its key; where it could not be read, an id with nothing stored behind it.
        set_id: key of the photos that were sent together.
        position: its place among these, from 1.
        visitor: digest of the id in the browser's cookie, "" where it has none.
        created_s: when it came, in seconds since 1970.
        expires_s: when it is removed, in seconds since 1970.
        faces: how many were found.
        emotions: the answer for each face, as the text of `Answers`.
        problem: why the photo could not be read, "" where it could.
    """

    id: str
    set_id: str
    position: int
    visitor: str
    created_s: float
    expires_s: float
    faces: int
    emotions: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Answers:
    """What the list of a visitor's results tells of a photo or a video: the answers for its faces.

    Attributes:
        candidates: the emotions that each answer names, the first one first.
        verdicts: each answer in a few words.
        model: key and title of the model; empty where that is not known.
    """

    candidates: tuple[Sequence[str], ...]
    verdicts: tuple[str, ...]
    model: Mapping[str, str]

    def to_text(self) -> str:
        """Return the text that the column `emotions` holds."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> "Answers":
        """Return what `to_text` wrote, or else a list of emotions as they were written before."""
        if text.startswith("{"):
            content = json.loads(text)
            candidates = tuple(map(tuple, content["candidates"]))
            return cls(candidates, tuple(content["verdicts"]), content["model"])
        names = tuple(name for name in text.split(",") if name)
        return cls(tuple((name,) for name in names), names, {})


@dataclass(frozen=True)
class Opinion:
    """What a visitor says an expression really is.

    Attributes:
        photo_id: key of the photo.
        number: of the face in it, from 1.
        given: the model's emotion.
        chosen: the visitor's.
        model_sha256: SHA-256 of the model's weights file.
        said_s: when, in seconds since 1970.
        kept: name of the face's file in the folder of feedback, "" where it is not kept.
    """

    photo_id: str
    number: int
    given: str
    chosen: str
    model_sha256: str
    said_s: float
    kept: str = ""


@dataclass(frozen=True)
class PhotoCount:
    """Photos that one model read on one day, and those of them in which no face was found."""

    day: str
    model_sha256: str
    photos: int
    without_face: int


@dataclass(frozen=True)
class FaceCount:
    """Faces of one day that got much the same answer of one model; `bucket` is in tenths."""

    day: str
    model_sha256: str
    emotion: str
    sure: bool
    bucket: int
    faces: int
    confidence_sum: float


@dataclass(frozen=True)
class OpinionCount:
    """How often on one day one emotion of a model was said to be another, or the same."""

    day: str
    model_sha256: str
    given: str
    chosen: str
    opinions: int


@dataclass(frozen=True)
class VideoCount:
    """Videos that one model read on one day; `faces` are people followed, not frames of them."""

    day: str
    model_sha256: str
    videos: int
    without_face: int
    faces: int
    seconds: float


@dataclass(frozen=True)
class Counts:
    """All statistics, oldest day first."""

    photos: tuple[PhotoCount, ...]
    faces: tuple[FaceCount, ...]
    opinions: tuple[OpinionCount, ...]
    videos: tuple[VideoCount, ...] = ()


def day_of(time_s: float) -> str:
    """Return the day of a time in seconds since 1970, in UTC: "2026-11-21"."""
    return datetime.fromtimestamp(time_s, UTC).date().isoformat()


class Database:
    """One database; safe to share between threads, processes and machines."""

    def __init__(self, url: str):
        """Name the database at an address of SQLAlchemy's kind; nothing is opened yet.

        Raises:
            SettingsError: it is no address of an SQLite file or of PostgreSQL.
        """
        address = _address_of(url)
        is_file = address.drivername != POSTGRESQL_DRIVER
        self._dialect: ModuleType = sqlite if is_file else postgresql
        self._identity = partial(_identity_of, Path(address.database)) if is_file else _same
        self._engine = _make_engine(address, self._identity)
        self._ready_for: object = None
        weakref.finalize(self, self._engine.dispose)

    def remember(self, *rows: PhotoRow) -> None:
        """Note photos, all or none; one of the same id is replaced."""
        statement = self._upsert(PHOTOS, lambda old, new: new)
        with self.transaction(writes=True) as connection:
            connection.execute(statement, [asdict(row) for row in rows])

    def photo(self, photo_id: str, now_s: float) -> PhotoRow | None:
        """Return a photo that is still kept."""
        if not ID_PATTERN.fullmatch(photo_id):
            return None
        found = self._photos(PHOTOS.c.id == photo_id, now_s, ())
        return found[0] if found else None

    def photos_of_set(self, set_id: str, now_s: float) -> tuple[PhotoRow, ...]:
        """Return the photos that were sent together and are still kept, in their order."""
        if not ID_PATTERN.fullmatch(set_id):
            return ()
        return self._photos(PHOTOS.c.set_id == set_id, now_s, (PHOTOS.c.position, PHOTOS.c.id))

    def photos_of_visitor(self, visitor: str, now_s: float) -> tuple[PhotoRow, ...]:
        """Return the photos of a browser that are still kept, newest first; "" has none."""
        if not visitor or "\0" in visitor:
            return ()
        order = (PHOTOS.c.created_s.desc(), PHOTOS.c.position.desc(), PHOTOS.c.id)
        return self._photos(PHOTOS.c.visitor == visitor, now_s, order)

    def forget(self, photo_id: str) -> None:
        """Remove what is known of a photo; opinions on its faces become numbers alone."""
        if not ID_PATTERN.fullmatch(photo_id):
            return
        with self.transaction(writes=True, alone=True) as connection:
            self._make_anonymous(connection, OPINIONS.c.photo_id == photo_id)
            connection.execute(PHOTOS.delete().where(PHOTOS.c.id == photo_id))

    def forget_expired(self, now_s: float) -> int:
        """Forget every photo whose time is up; return how many."""
        expired = PHOTOS.c.expires_s <= now_s
        ids = sql.select(PHOTOS.c.id)
        with self.transaction(writes=True, alone=True) as connection:
            is_due = OPINIONS.c.photo_id.in_(ids.where(expired))
            is_lost = OPINIONS.c.photo_id.not_in(ids) & (
                OPINIONS.c.said_s <= now_s - LONGEST_KEPT_S
            )
            self._make_anonymous(connection, is_due | is_lost)
            return connection.execute(PHOTOS.delete().where(expired)).rowcount

    def count(self, results: Mapping, now_s: float) -> None:
        """Add one photo to the statistics of the day, without anything it could be known by.

        Args:
            results: what `results_to_dict` gave.
            now_s: when the photo was read, in seconds since 1970.
        """
        key = {"day": day_of(now_s), "model_sha256": results["model"]["sha256"]}
        faces = results["faces"]
        photo = {**key, "photos": 1, "without_face": int(not faces)}
        with self.transaction(writes=True) as connection:
            self.add_numbers(connection, PHOTO_COUNTS, [photo])
            self.add_numbers(connection, FACE_COUNTS, [key | row for row in _face_rows(faces)])

    def count_video(self, video: VideoCount) -> None:
        """Add a video to the statistics of its day."""
        with self.transaction(writes=True) as connection:
            self.add_numbers(connection, VIDEO_COUNTS, [asdict(video)])

    def say(self, opinion: Opinion) -> Opinion | None:
        """Note what a visitor says about a face; return what it replaces."""
        with self.transaction(writes=True, alone=True) as connection:
            replaced = self._take(connection, opinion.photo_id, opinion.number)
            row = asdict(opinion) | {"day": day_of(opinion.said_s)}
            connection.execute(OPINIONS.insert(), row)
            return replaced

    def opinion_on(self, photo_id: str, number: int) -> Opinion | None:
        """Return what was said about a face."""
        if not _is_face(photo_id, number):
            return None
        query = sql.select(*_opinion_columns()).where(*_names_face(photo_id, number))
        with self.transaction() as connection:
            row = connection.execute(query).mappings().first()
        return Opinion(**row) if row else None

    def kept_faces(self, photo_id: str) -> tuple[str, ...]:
        """Return the names of the files of a photo's faces that are kept for training."""
        query = sql.select(OPINIONS.c.kept).where(
            OPINIONS.c.photo_id == photo_id, OPINIONS.c.kept != ""
        )
        with self.transaction() as connection:
            return tuple(connection.execute(query).scalars())

    def withdraw(self, photo_id: str, number: int) -> Opinion | None:
        """Remove what was said about a face, from the statistics too; return what it was."""
        if not _is_face(photo_id, number):
            return None
        with self.transaction(writes=True, alone=True) as connection:
            return self._take(connection, photo_id, number)

    def counts(self) -> Counts:
        """Return the statistics, with the opinions on photos that are still kept."""
        live = sql.select(
            *(OPINIONS.c[name] for name in ("day", "model_sha256", "given", "chosen")),
            sql.func.count().label("opinions"),
        ).group_by(OPINIONS.c.day, OPINIONS.c.model_sha256, OPINIONS.c.given, OPINIONS.c.chosen)
        with self.transaction() as connection:
            photos, faces, past, videos = (
                connection.execute(sql.select(table)).mappings().all()
                for table in (PHOTO_COUNTS, FACE_COUNTS, OPINION_COUNTS, VIDEO_COUNTS)
            )
            opinions = _summed([*past, *connection.execute(live).mappings()])
        return Counts(
            tuple(sorted((PhotoCount(**row) for row in photos), key=_by_day)),
            tuple(sorted((FaceCount(**row) for row in faces), key=_by_day)),
            tuple(sorted(opinions, key=_by_day)),
            tuple(sorted((VideoCount(**row) for row in videos), key=_by_day)),
        )

    def close(self) -> None:
        """Close the connections that wait for work; the next call opens new ones."""
        self._engine.dispose()

    def _photos(self, condition, now_s: float, order: Iterable) -> tuple[PhotoRow, ...]:
        """Return the photos that meet a condition and whose time is not up."""
        query = sql.select(PHOTOS).where(condition, PHOTOS.c.expires_s > now_s).order_by(*order)
        with self.transaction() as connection:
            return tuple(PhotoRow(**row) for row in connection.execute(query).mappings())

    def _take(self, connection: Connection, photo_id: str, number: int) -> Opinion | None:
        """Remove an opinion and return it."""
        statement = OPINIONS.delete().where(*_names_face(photo_id, number))
        row = connection.execute(statement.returning(*_opinion_columns())).mappings().first()
        return Opinion(**row) if row else None

    def _make_anonymous(self, connection: Connection, condition) -> None:
        """Turn opinions into numbers of the statistics."""
        names = [column.name for column in OPINION_COUNTS.primary_key]
        statement = OPINIONS.delete().where(condition)
        taken = connection.execute(statement.returning(*(OPINIONS.c[name] for name in names)))
        times = Counter(tuple(row) for row in taken)
        rows = [dict(zip(names, key, strict=True)) | {"opinions": n} for key, n in times.items()]
        self.add_numbers(connection, OPINION_COUNTS, rows)

    def add_numbers(self, connection: Connection, table: Table, rows: list[dict]) -> None:
        """Add numbers to those of the same key; in one order, so that no writers wait in a ring."""
        keys = [column.name for column in table.primary_key]
        ordered = sorted(rows, key=lambda row: [row[name] for name in keys])
        if ordered:
            connection.execute(self._upsert(table, lambda old, new: old + new), ordered)

    def _upsert(self, table: Table, merged: Callable[[Column, Column], ColumnElement]) -> Insert:
        """Return a statement that writes rows, or merges them into those of the same key."""
        statement = self._dialect.insert(table)
        others = [column for column in table.columns if not column.primary_key]
        new = {column.name: merged(column, statement.excluded[column.name]) for column in others}
        return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=new)

    @contextmanager
    def transaction(self, writes: bool = False, alone: bool = False) -> Iterator[Connection]:
        """Give a connection whose work is done as a whole or not at all.

        Args:
            writes: whether something is written.
            alone: whether no other such work may go on meanwhile, in any process.

        Raises:
            DatabaseError: the database cannot be reached or written.
        """
        try:
            self._make_ready()
            with self._begin(writes, alone) as connection:
                yield connection
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            # it may come back empty
            self._ready_for = None
            # of several lines, the further ones hold a statement's values
            cause = str(getattr(error, "orig", None) or error).partition("\n")[0]
            raise DatabaseError(
                "expected an answer of the database; it cannot be reached or written at the moment "
                f"({cause})"
            ) from error

    @contextmanager
    def _begin(self, writes: bool, alone: bool) -> Iterator[Connection]:
        """Begin a transaction; of SQLite's, at most one writes."""
        engine = self._engine.execution_options(writes=writes)
        with engine.begin() as connection:
            if alone and self._dialect is postgresql:
                connection.execute(sql.select(sql.func.pg_advisory_xact_lock(ADVISORY_LOCK)))
            yield connection

    def _make_ready(self) -> None:
        """Make the tables if there are none; several threads and processes may do so at once."""
        if self._ready_for == self._identity():
            return
        if not self._is_prepared():
            if self._dialect is sqlite:
                _switch_to_write_ahead_log(self._engine)
            with self._begin(writes=True, alone=True) as connection:
                TABLES.create_all(connection)
                _check_version(connection)
        self._ready_for = self._identity()

    def _is_prepared(self) -> bool:
        """True if nothing is left to prepare; only reads, so it does not wait for a writer."""
        with self._begin(writes=False, alone=False) as connection:
            if (
                self._dialect is sqlite
                and connection.exec_driver_sql("PRAGMA journal_mode").scalar() != "wal"
            ):
                return False
            has_table = sql.inspect(connection).has_table
            return all(map(has_table, TABLES.tables)) and _version(connection) == SCHEMA_VERSION


def _address_of(url: str) -> URL:
    """Return an address of SQLAlchemy's kind, with the driver that is used here."""
    expected = "expected DATABASE_URL as sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME; "
    try:
        address = make_url(url)
    except (ArgumentError, ValueError) as error:
        raise SettingsError(f"{expected}received one that cannot be read") from error
    if address.drivername in ("postgres", "postgresql", POSTGRESQL_DRIVER):
        return address.set(drivername=POSTGRESQL_DRIVER)
    if address.drivername in ("sqlite", "sqlite+pysqlite") and _is_file(address):
        return address
    raise SettingsError(f"{expected}received one of another kind")


def _is_file(address: URL) -> bool:
    """Tell whether an SQLite database is a file, not memory, which no other process sees."""
    return bool(address.database) and not address.database.startswith((":", "file:"))


def _make_engine(address: URL, identity: Callable[[], object]) -> Engine:
    """Return SQLAlchemy's engine of an address."""
    if address.drivername == POSTGRESQL_DRIVER:
        engine = sql.create_engine(address, **POSTGRESQL)
    else:
        engine = sql.create_engine(address, connect_args={"timeout": BUSY_TIMEOUT_S}, **SQLITE_POOL)
        file = Path(address.database)
        event.listen(engine, "do_connect", lambda *_: _make_private_file(file))
        event.listen(engine, "connect", _leave_transactions_to_us)
        event.listen(engine, "begin", _begin_sqlite)
    _discard_when_changed(engine, identity)
    return engine


def _same() -> str:
    """Return what PostgreSQL's database is known by: it does not change under a connection."""
    return "postgresql"


def _discard_when_changed(engine: Engine, identity: Callable[[], object]) -> None:
    """Let no connection be used any more once it leads elsewhere, or in a process that forked."""

    def note(_: object, record: ConnectionPoolEntry) -> None:
        record.info.update(process=os.getpid(), identity=identity())

    def compare(_: object, record: ConnectionPoolEntry, proxy: PoolProxiedConnection) -> None:
        if record.info["process"] != os.getpid():
            # it is still the other process's, so it is dropped, not closed
            record.dbapi_connection = proxy.dbapi_connection = None
            raise DisconnectionError("expected a connection of this process; received another's")
        if record.info["identity"] != identity():
            raise DisconnectionError("expected the database that was opened; received another one")

    event.listen(engine, "connect", note)
    event.listen(engine, "checkout", compare)


def _identity_of(file: Path) -> tuple:
    """Return what tells a file from one that was put in its place, or from none."""
    try:
        found = file.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino


def _make_private_file(file: Path) -> None:
    """Let only its owner read a file and its logs; make it, and its folder, if there is none."""
    if not file.exists():
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600, exist_ok=True)
    for suffix in ("", "-wal", "-shm"):
        make_private(file.with_name(file.name + suffix))


def _leave_transactions_to_us(connection: sqlite3.Connection, _: object) -> None:
    """Keep Python's sqlite3 from beginning transactions of its own, which read before they lock."""
    connection.isolation_level = None
    # with the write-ahead log a crash of the machine may lose the last writes, never the file
    connection.execute("PRAGMA synchronous = NORMAL")


def _begin_sqlite(connection: Connection) -> None:
    """Begin a transaction; one that will write waits for its turn now, not half-way."""
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _switch_to_write_ahead_log(engine: Engine) -> None:
    """Let readers read while one writes; SQLite refuses to wait for this, so we try again."""
    give_up_s = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection = engine.raw_connection()
            try:
                connection.driver_connection.execute("PRAGMA journal_mode = WAL")
                return
            finally:
                connection.close()
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not is_busy or time.monotonic() > give_up_s:
                raise
            time.sleep(0.02)


def _check_version(connection: Connection) -> None:
    """Note the version of the tables, or raise a `DatabaseError` if they are of another one."""
    found = _version(connection)
    if found is None:
        connection.execute(SCHEMA.insert(), {"id": 1, "version": SCHEMA_VERSION})
    elif found != SCHEMA_VERSION:
        raise DatabaseError(
            f"expected a database of version {SCHEMA_VERSION}; received version {found}: "
            "run the program that made it, or name another database"
        )


def _version(connection: Connection) -> int | None:
    return connection.execute(sql.select(SCHEMA.c.version).where(SCHEMA.c.id == 1)).scalar()


def _opinion_columns() -> tuple[Column, ...]:
    """Return the columns that make an `Opinion`."""
    return tuple(column for column in OPINIONS.columns if column.name != "day")


def _names_face(photo_id: str, number: int) -> tuple:
    """Return the conditions that choose the opinion on a face."""
    return OPINIONS.c.photo_id == photo_id, OPINIONS.c.number == number


def _is_face(photo_id: str, number: int) -> bool:
    """Tell whether these can name a face; nothing else reaches the database."""
    return bool(ID_PATTERN.fullmatch(photo_id)) and 1 <= number <= MOST_FACES


def _face_rows(faces: Iterable[Mapping]) -> list[dict]:
    """Return the faces of a photo as numbers, those with much the same answer together."""
    rows: dict[tuple, dict] = {}
    for face in faces:
        bucket = min(int(face["confidence"] * BUCKETS), BUCKETS - 1)
        key = {"emotion": face["emotion"], "sure": bool(face["sure"]), "bucket": bucket}
        row = rows.setdefault(tuple(key.values()), key | {"faces": 0, "confidence_sum": 0.0})
        row["faces"] += 1
        row["confidence_sum"] += float(face["confidence"])
    return list(rows.values())


def _summed(rows: Iterable[Mapping]) -> list[OpinionCount]:
    """Return opinions with those of the same day, model and emotions put together."""
    sums: Counter = Counter()
    for row in rows:
        sums[row["day"], row["model_sha256"], row["given"], row["chosen"]] += row["opinions"]
    return [OpinionCount(*key, opinions) for key, opinions in sums.items()]


def _by_day(row: PhotoCount | FaceCount | OpinionCount | VideoCount) -> str:
    return row.day
