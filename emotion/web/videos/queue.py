"""The videos in the database: a queue that any number of processes share, and whose they are.

A video waits, is worked on by one process that says so again and again, and ends as done or failed.
A process that falls silent loses the video to the next one that asks.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

import sqlalchemy as sql
from sqlalchemy import Column, ColumnElement, Table, Update

from emotion.web.database import TABLES, Database
from emotion.web.errors import QueueFullError
from emotion.web.storage import is_id

WAITING, RUNNING, DONE, FAILED = STATES = ("waiting", "running", "done", "failed")
SILENT_S = 30.0
"""A process that has said nothing about its video for so long is taken for dead."""

VIDEOS = Table(
    "videos",
    TABLES,
    Column("id", sql.String(22), primary_key=True),
    Column("visitor", sql.String(64), nullable=False, index=True),
    Column("state", sql.String(8), nullable=False, index=True),
    Column("created_s", sql.Double, nullable=False),
    Column("expires_s", sql.Double, nullable=False, index=True),
    Column("model_key", sql.Text, nullable=False),
    Column("attempt", sql.String(22), nullable=False),
    Column("attempts", sql.Integer, nullable=False),
    Column("beat_s", sql.Double, nullable=False),
    Column("progress", sql.Text, nullable=False),
    Column("problem", sql.Text, nullable=False),
    Column("faces", sql.Integer, nullable=False),
    Column("emotions", sql.Text, nullable=False),
)


@dataclass(frozen=True)
class VideoRow:
    """A video of a visitor, while it is kept.

    Attributes:
        id: its key.
        visitor: digest of the id in the browser's cookie, "" where it has none.
        state: one of `STATES`.
        created_s: when it came, in seconds since 1970.
        expires_s: when it is removed, in seconds since 1970.
        model_key: the model that was asked for, "" for the default.
        attempt: key of the work that goes on or has ended, "" before the first.
        attempts: how often work on it began.
        beat_s: when the work last said that it goes on, in seconds since 1970.
        progress: how far the work is, as JSON; "" before it tells.
        problem: why it failed, or what part of the video could not be read; else "".
        faces: how many people were followed in it.
        emotions: what each face showed for longest, the first few, as the text of `Answers`.
    """

    id: str
    visitor: str
    created_s: float
    expires_s: float
    state: str = WAITING
    model_key: str = ""
    attempt: str = ""
    attempts: int = 0
    beat_s: float = 0.0
    progress: str = ""
    problem: str = ""
    faces: int = 0
    emotions: str = ""

    @property
    def is_finished(self) -> bool:
        return self.state in (DONE, FAILED)


class VideoRows:
    """The videos of one database; safe to share between threads, processes and machines."""

    def __init__(self, database: Database):
        """Use a database; nothing is opened yet."""
        self._database = database

    def add(self, row: VideoRow, most_waiting: int) -> None:
        """Put a video at the end of the queue.

        Raises:
            QueueFullError: so many wait already.
        """
        with self._database.transaction(writes=True, alone=True) as connection:
            waiting = connection.execute(_count(VIDEOS.c.state == WAITING)).scalar_one()
            if waiting >= most_waiting:
                raise QueueFullError(
                    f"expected fewer than {most_waiting} videos that wait; {waiting} do"
                )
            connection.execute(VIDEOS.insert(), asdict(row))

    def find(self, video_id: str, now_s: float) -> VideoRow | None:
        """Return a video whose time is not up, None where there is none."""
        found = self._select(VIDEOS.c.id == video_id, now_s) if is_id(video_id) else ()
        return found[0] if found else None

    def of_visitor(self, visitor: str, now_s: float) -> tuple[VideoRow, ...]:
        """Return the videos of a browser that are still kept, newest first; "" has none."""
        if not visitor or "\0" in visitor:
            return ()
        return tuple(reversed(self._select(VIDEOS.c.visitor == visitor, now_s)))

    def before(self, row: VideoRow) -> int:
        """Return how many videos wait that came before this one."""
        earlier = (VIDEOS.c.created_s < row.created_s) | (
            (VIDEOS.c.created_s == row.created_s) & (VIDEOS.c.id < row.id)
        )
        with self._database.transaction() as connection:
            return connection.execute(_count(VIDEOS.c.state == WAITING, earlier)).scalar_one()

    def count(self, state: str) -> int:
        """Return how many videos are in a state."""
        with self._database.transaction() as connection:
            return connection.execute(_count(VIDEOS.c.state == state)).scalar_one()

    def claim(self, attempt: str, now_s: float) -> VideoRow | None:
        """Take the first video that waits, or whose process fell silent; None where none does.

        Args:
            attempt: a new key by which this work is known.
            now_s: the time, in seconds since 1970.
        """
        is_silent = (VIDEOS.c.beat_s < now_s - SILENT_S) | (VIDEOS.c.beat_s > now_s + SILENT_S)
        is_free = (VIDEOS.c.state == WAITING) | ((VIDEOS.c.state == RUNNING) & is_silent)
        first = (
            sql.select(VIDEOS.c.id)
            .where(is_free, VIDEOS.c.expires_s > now_s)
            .order_by(VIDEOS.c.created_s, VIDEOS.c.id)
            .limit(1)
        )
        taken = VIDEOS.update().where(VIDEOS.c.id == first.scalar_subquery())
        taken = taken.values(
            state=RUNNING,
            attempt=attempt,
            attempts=VIDEOS.c.attempts + 1,
            beat_s=now_s,
            progress="",
        )
        with self._database.transaction(writes=True, alone=True) as connection:
            found = connection.execute(taken.returning(*VIDEOS.columns)).mappings().first()
        return VideoRow(**found) if found else None

    def beat(self, row: VideoRow, now_s: float, progress: str) -> bool:
        """Say that the work goes on; False where the video is gone or somebody else's by now."""
        return self._change(_own(row).values(beat_s=now_s, progress=progress))

    def hand_back(self, row: VideoRow) -> bool:
        """Let a video wait again as if nobody had begun with it."""
        values = {"state": WAITING, "attempts": VIDEOS.c.attempts - 1, "progress": ""}
        return self._change(_own(row).values(**values))

    def finish(self, row: VideoRow) -> bool:
        """Note how the work ended: state, problem, faces, emotions, expiry; False as for `beat`."""
        names = ("state", "problem", "faces", "emotions", "expires_s")
        values = {name: getattr(row, name) for name in names}
        return self._change(_own(row).values(**values, progress=""))

    def remove(self, video_id: str) -> bool:
        """Remove what is known of a video; tell whether anything was."""
        if not is_id(video_id):
            return False
        return self._change(VIDEOS.delete().where(VIDEOS.c.id == video_id))

    def expired(self, now_s: float) -> tuple[str, ...]:
        """Return the ids of the videos whose time is up."""
        query = sql.select(VIDEOS.c.id).where(VIDEOS.c.expires_s <= now_s)
        with self._database.transaction() as connection:
            return tuple(connection.execute(query).scalars())

    def known(self, ids: Iterable[str]) -> set[str]:
        """Return those of some ids that there are."""
        query = sql.select(VIDEOS.c.id).where(VIDEOS.c.id.in_(list(ids)))
        with self._database.transaction() as connection:
            return set(connection.execute(query).scalars())

    def _select(self, condition: ColumnElement, now_s: float) -> tuple[VideoRow, ...]:
        """Return the videos that meet a condition and whose time is not up, oldest first."""
        query = sql.select(VIDEOS).where(condition, VIDEOS.c.expires_s > now_s)
        query = query.order_by(VIDEOS.c.created_s, VIDEOS.c.id)
        with self._database.transaction() as connection:
            return tuple(VideoRow(**row) for row in connection.execute(query).mappings())

    def _change(self, statement) -> bool:
        """Write, and tell whether there was something to write to."""
        with self._database.transaction(writes=True) as connection:
            return connection.execute(statement).rowcount > 0


def failed(row: VideoRow, problem: str, expires_s: float) -> VideoRow:
    """Return a video whose work failed."""
    return replace(row, state=FAILED, problem=problem, expires_s=expires_s)


def _count(*conditions: ColumnElement) -> sql.Select:
    return sql.select(sql.func.count()).select_from(VIDEOS).where(*conditions)


def _own(row: VideoRow) -> Update:
    """Return a change of a video on which this attempt, and no later one, works."""
    is_own = (VIDEOS.c.id == row.id, VIDEOS.c.attempt == row.attempt, VIDEOS.c.state == RUNNING)
    return VIDEOS.update().where(*is_own)
