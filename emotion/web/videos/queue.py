"""The queue of videos: who waits, whose turn is next, and which process works on what.

A video waits, is analysed by one process that keeps reporting, and ends as done or failed. A
process that stops reporting loses its video to the next one that asks. Senders take turns.
"""

from dataclasses import asdict

import sqlalchemy as sql
from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from emotion.errors import OwnVideosWaitError, QueueFullError
from emotion.text import counted
from emotion.web.connections import Connections, Expiry, Id, Row, VisitorKey, rows_of

WAITING, RUNNING, DONE, FAILED = STATES = ("waiting", "running", "done", "failed")
SILENT_S = 30.0  # a process that has not reported for this long is taken for dead


class VideoRow(Row):
    """A video of a visitor, while it is kept."""

    __tablename__ = "videos"
    id: Mapped[Id] = mapped_column(primary_key=True)
    visitor: Mapped[VisitorKey]
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


class KeptRow(Row):
    """Where a photo or a video came from and what it takes; it goes with the row of that."""

    __tablename__ = "kept"
    id: Mapped[Id] = mapped_column(primary_key=True)
    client: Mapped[VisitorKey]  # no address, but a digest of it that only this server can make
    bytes: Mapped[int] = mapped_column(sql.BigInteger, default=0)


QUEUE = sql.select(func.count()).select_from(VideoRow).where(VideoRow.state == WAITING)
IS_KEPT = KeptRow.id == VideoRow.id


class VideoQueue(Connections):
    """The part of a database that knows the videos."""

    def add_video(self, row: VideoRow, client: str, most_waiting, most_each, check=None) -> None:
        """Put a video at the end of the queue; raises QueueFullError, and what `check` raises."""
        with self.transaction(writes=True, alone=True) as connection:
            _require_room(connection, row.visitor, client, most_waiting, most_each)
            connection.execute(sql.insert(VideoRow), asdict(row))
            connection.execute(sql.insert(KeptRow), asdict(KeptRow(row.id, client)))
            if check:
                check(connection)

    def require_room(self, *sender_and_limits) -> None:
        """Raise a `QueueFullError` if `add_video` would; a visitor, a client and both limits."""
        with self.transaction() as connection:
            _require_room(connection, *sender_and_limits)

    def videos_waiting(self) -> int:
        with self.transaction() as connection:
            return connection.scalar(QUEUE)

    def videos_before(self, row: VideoRow, now_s: float) -> int:
        """Return how many videos have their turn before one that waits, as things are now."""
        with self.transaction() as connection:
            ids = connection.scalars(_turns(now_s)).all()
        return ids.index(row.id) if row.id in ids else 0

    def claim(self, attempt: str, now_s: float) -> VideoRow | None:
        """Take the video whose turn is next under a new attempt's key."""
        first = _turns(now_s).limit(1).scalar_subquery()
        changes = {"state": RUNNING, "attempt": attempt, "attempts": VideoRow.attempts + 1}
        taken = sql.update(VideoRow).where(VideoRow.id == first)
        taken = taken.values(**changes, beat_s=now_s, progress="").returning(VideoRow)
        with self.transaction(writes=True, alone=True) as connection:
            return next(iter(rows_of(connection, VideoRow, taken)), None)

    def finish(self, row: VideoRow) -> bool:
        """Note how the work ended, with an empty progress; False as for `change`."""
        names = ("state", "problem", "faces", "emotions", "expires_s")
        return self.change(row, **{name: getattr(row, name) for name in names}, progress="")

    def change(self, row: VideoRow, **values) -> bool:
        """Change a video in work; False if it is gone or a later attempt has it."""
        is_own = (VideoRow.id == row.id, VideoRow.attempt == row.attempt, VideoRow.state == RUNNING)
        with self.transaction(writes=True) as connection:
            changed = connection.execute(sql.update(VideoRow).where(*is_own).values(**values))
            return changed.rowcount > 0

    def forget_video(self, video_id: str) -> None:
        with self.transaction(writes=True) as connection:
            for kind in (VideoRow, KeptRow):
                connection.execute(sql.delete(kind).where(kind.id == video_id))

    def known_videos(self) -> dict[str, float]:
        """Return the id of each video -> when it expires."""
        with self.transaction() as connection:
            return dict(connection.execute(sql.select(VideoRow.id, VideoRow.expires_s)).all())


def _require_room(connection, visitor: str, client: str, most_waiting: int, most_each: int) -> None:
    is_own = (KeptRow.client == client) | ((VideoRow.visitor == visitor) & (visitor != ""))
    if connection.scalar(QUEUE.outerjoin(KeptRow, IS_KEPT).where(is_own)) >= most_each:
        expected = f"expected at most {counted(most_each, 'video')} of one sender to wait"
        raise OwnVideosWaitError(f"{expected}; received one more")
    if (waiting := connection.scalar(QUEUE)) >= most_waiting:
        raise QueueFullError(f"expected fewer than {most_waiting} to wait; {waiting} do")


def _turns(now_s: float) -> sql.Select:
    """Select the ids of the videos that wait or whose process is dead, in the order of their turns.

    A sender's first video comes before another's second, where those in work count. Of equals, the
    one comes first whose sender has waited for longest, since it came or the last turn ended.
    """
    is_silent = ~VideoRow.beat_s.between(now_s - SILENT_S, now_s + SILENT_S)
    is_running = (VideoRow.state == RUNNING) & ~is_silent
    is_free = (VideoRow.state == WAITING) | ((VideoRow.state == RUNNING) & is_silent)
    is_free &= VideoRow.expires_s > now_s
    sender = func.coalesce(KeptRow.client, VideoRow.visitor)  # older ones have no client
    running, free = (func.sum(sql.case((which, 1), else_=0)) for which in (is_running, is_free))
    first_come = (VideoRow.created_s, VideoRow.id)
    number = free.over(partition_by=sender, order_by=first_come)  # which of its sender's
    place = number + running.over(partition_by=sender)
    turn_s = func.max(VideoRow.beat_s).over(partition_by=sender)
    since_s = sql.case((turn_s > VideoRow.created_s, turn_s), else_=VideoRow.created_s)
    named = {"is_free": is_free, "place": place, "number": number, "since_s": since_s}
    columns = [*first_come, *(column.label(name) for name, column in named.items())]
    every = sql.select(*columns).outerjoin(KeptRow, IS_KEPT).subquery().c
    order = (every.place, every.number, every.since_s, every.created_s, every.id)
    return sql.select(every.id).where(every.is_free).order_by(*order)
