"""The queue of videos in the database, shared by any number of processes.

A video waits, is analysed by one process that keeps reporting, and ends as done or failed. A
process that stops reporting loses its video to the next one that asks.
"""

from dataclasses import asdict
from typing import Any

import sqlalchemy as sql
from sqlalchemy.orm import Mapped, mapped_column

from emotion.errors import QueueFullError
from emotion.web.database import Database, Expiry, Id, Row, VisitorKey
from emotion.web.storage import is_id

WAITING, RUNNING, DONE, FAILED = STATES = ("waiting", "running", "done", "failed")
SILENT_S = 30.0  # a process that has not reported for this long is taken for dead


class VideoRow(Row):
    """A video of a visitor, while it is kept."""

    __tablename__ = "videos"
    id: Mapped[Id] = mapped_column(primary_key=True)
    visitor: Mapped[VisitorKey]  # digest of the id in the browser's cookie, "" without one
    created_s: Mapped[float]
    expires_s: Mapped[Expiry]
    state: Mapped[str] = mapped_column(sql.String(8), index=True, default=WAITING)
    model_key: Mapped[str] = mapped_column(default="")  # "" is the default model
    attempt: Mapped[Id] = mapped_column(default="")  # key of the last attempt
    attempts: Mapped[int] = mapped_column(default=0)
    beat_s: Mapped[float] = mapped_column(default=0.0)  # when the attempt last reported
    progress: Mapped[str] = mapped_column(default="")  # JSON
    problem: Mapped[str] = mapped_column(default="")  # why it failed, or which part was unreadable
    faces: Mapped[int] = mapped_column(default=0)  # people, not frames of them
    emotions: Mapped[str] = mapped_column(default="")  # of the first people, as `Answers`


class VideoRows:
    """The videos of one database; safe to share between threads, processes and machines."""

    def __init__(self, database: Database):
        self._database = database

    def add(self, row: VideoRow, most_waiting: int) -> None:
        """Put a video at the end of the queue, or raise a `QueueFullError`."""
        with self._database.transaction(writes=True, alone=True) as connection:
            waiting = connection.execute(_count(VideoRow.state == WAITING)).scalar_one()
            if waiting >= most_waiting:
                raise QueueFullError(f"expected fewer than {most_waiting} to wait; {waiting} do")
            connection.execute(sql.insert(VideoRow), asdict(row))

    def find(self, video_id: str, now_s: float) -> VideoRow | None:
        """Return a video that is still kept."""
        return next(iter(self._database.kept(VideoRow.id, video_id, now_s)), None)

    def of_visitor(self, visitor: str, now_s: float) -> tuple[VideoRow, ...]:
        """Return the videos of a browser that are still kept, newest first; "" has none."""
        order = (VideoRow.created_s.desc(), VideoRow.id.desc())
        return self._database.kept(VideoRow.visitor, visitor, now_s, *order)

    def before(self, row: VideoRow) -> int:
        """Return how many waiting videos came before this one."""
        earlier = sql.tuple_(VideoRow.created_s, VideoRow.id) < (row.created_s, row.id)
        return self._scalars(_count(VideoRow.state == WAITING, earlier)).pop()

    def count(self, state: str) -> int:
        return self._scalars(_count(VideoRow.state == state)).pop()

    def claim(self, attempt: str, now_s: float) -> VideoRow | None:
        """Take the first video that waits, or whose process is dead, under a new attempt's key."""
        is_silent = ~VideoRow.beat_s.between(now_s - SILENT_S, now_s + SILENT_S)
        is_free = (VideoRow.state == WAITING) | ((VideoRow.state == RUNNING) & is_silent)
        first = (
            sql.select(VideoRow.id)
            .where(is_free, VideoRow.expires_s > now_s)
            .order_by(VideoRow.created_s, VideoRow.id)
            .limit(1)
            .scalar_subquery()
        )
        changes = {"state": RUNNING, "attempt": attempt, "attempts": VideoRow.attempts + 1}
        taken = sql.update(VideoRow).where(VideoRow.id == first)
        taken = taken.values(**changes, beat_s=now_s, progress="").returning(VideoRow)
        with self._database.transaction(writes=True, alone=True) as connection:
            found = connection.execute(taken).mappings().first()
        return VideoRow(**found) if found else None

    def beat(self, row: VideoRow, now_s: float, progress: str) -> bool:
        """Report that the work goes on; False if the video is gone or another process has it."""
        return self._change_own(row, beat_s=now_s, progress=progress)

    def hand_back(self, row: VideoRow) -> bool:
        """Let a video wait again as if nobody had begun with it; False as for `beat`."""
        return self._change_own(row, state=WAITING, attempts=VideoRow.attempts - 1, progress="")

    def finish(self, row: VideoRow) -> bool:
        """Note how the work ended, with an empty progress; False as for `beat`."""
        names = ("state", "problem", "faces", "emotions", "expires_s")
        return self._change_own(row, **{name: getattr(row, name) for name in names}, progress="")

    def remove(self, video_id: str) -> bool:
        """Remove what is known of a video; False if nothing was."""
        return is_id(video_id) and self._change(sql.delete(VideoRow).where(VideoRow.id == video_id))

    def expired(self, now_s: float) -> list[str]:
        return self._scalars(sql.select(VideoRow.id).where(VideoRow.expires_s <= now_s))

    def known(self) -> set[str]:
        return set(self._scalars(sql.select(VideoRow.id)))

    def _scalars(self, query: sql.Select) -> list[Any]:
        with self._database.transaction() as connection:
            return list(connection.execute(query).scalars())

    def _change_own(self, row: VideoRow, **values: Any) -> bool:
        """Change a video that this attempt, and no later one, works on."""
        is_own = (VideoRow.id == row.id, VideoRow.attempt == row.attempt, VideoRow.state == RUNNING)
        return self._change(sql.update(VideoRow).where(*is_own).values(**values))

    def _change(self, statement: sql.Executable) -> bool:
        with self._database.transaction(writes=True) as connection:
            return connection.execute(statement).rowcount > 0


def _count(*conditions) -> sql.Select:
    return sql.select(sql.func.count()).select_from(VideoRow).where(*conditions)
