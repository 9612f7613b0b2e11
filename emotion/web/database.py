"""The database: whose photos and videos are whose until they expire, and nameless statistics."""

import json
import re
from collections import Counter, namedtuple
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from operator import itemgetter
from typing import Annotated

import sqlalchemy as sql
from sqlalchemy import Connection
from sqlalchemy.orm import Mapped, mapped_column

from emotion.errors import UploadError
from emotion.web.connections import Expiry, Id, Row, VisitorKey, rows_of
from emotion.web.videos.queue import KeptRow, VideoQueue, VideoRow

BUCKETS = 10  # parts into which confidence from 0 to 1 is divided
# the most that KEEP_HOURS may be: an opinion without its photo goes after that time
LONGEST_KEPT_S = 8784 * 3600

TextKey = Annotated[str, mapped_column(primary_key=True)]
Count = Annotated[int, mapped_column(sql.BigInteger)]


class PhotoRow(Row):
    """A photo of a visitor, while it is kept."""

    __tablename__ = "photos"
    id: Mapped[Id] = mapped_column(primary_key=True)
    set_id: Mapped[Id] = mapped_column(index=True)
    position: Mapped[int]  # in its set, from 1
    visitor: Mapped[VisitorKey]  # digest of the id in the browser's cookie, "" without one
    created_s: Mapped[float]
    expires_s: Mapped[Expiry]
    faces: Mapped[int]
    emotions: Mapped[str] = mapped_column(default="")  # what each face was called, as `Answers`
    problem: Mapped[str] = mapped_column(default="")  # why it could not be read


@dataclass(frozen=True)
class Answers:
    """What a visitor's list of results tells of a photo or a video: the answers for its faces."""

    candidates: tuple[Sequence[str], ...]  # the emotions that each answer names, best first
    verdicts: tuple[str, ...]  # each answer in a few words
    model: Mapping[str, str]  # key and title; empty where that is not known

    @property
    def tally(self) -> Counter[str]:
        """Return how many faces got each answer; all that are unsure count together."""
        said = zip((names[0] for names in self.candidates), self.verdicts, strict=True)
        return Counter(name if words.startswith(name) else "unsure" for name, words in said)

    def to_text(self) -> str:
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


class Opinion(Row):
    """What a visitor says an expression really is."""

    __tablename__ = "opinions"
    photo_id: Mapped[Id] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)  # face, from 1
    given: Mapped[str]  # the model's emotion
    chosen: Mapped[str]  # the visitor's
    model_sha256: Mapped[str] = mapped_column(sql.String(64))
    said_s: Mapped[float]
    kept: Mapped[str] = mapped_column(default="")  # the face's file, if it is kept for training
    day: Mapped[str] = mapped_column(sql.String(10), default="", repr=False)

    def __post_init__(self):
        self.day = day_of(self.said_s)


class DayRow(Row):
    """What one model did on one day."""

    __abstract__ = True
    # before the columns of the tables
    day: Mapped[str] = mapped_column(sql.String(10), primary_key=True, sort_order=-1)
    model_sha256: Mapped[str] = mapped_column(sql.String(64), primary_key=True, sort_order=-1)


class PhotoCount(DayRow):
    """Photos, and those of them without a face."""

    __tablename__ = "photo_counts"
    photos: Mapped[Count]
    without_face: Mapped[Count]


class FaceCount(DayRow):
    """Faces that got much the same answer."""

    __tablename__ = "face_counts"
    emotion: Mapped[TextKey]
    sure: Mapped[bool] = mapped_column(primary_key=True)
    bucket: Mapped[int] = mapped_column(sql.SmallInteger, primary_key=True, autoincrement=False)
    faces: Mapped[Count]
    confidence_sum: Mapped[float]


class OpinionCount(DayRow):
    """How often people saw an emotion as another, or as the same."""

    __tablename__ = "opinion_counts"
    given: Mapped[TextKey]
    chosen: Mapped[TextKey]
    opinions: Mapped[Count]


class VideoCount(DayRow):
    """Videos; `faces` are people, not frames of them."""

    __tablename__ = "video_counts"
    videos: Mapped[Count]
    without_face: Mapped[Count]
    faces: Mapped[Count]
    seconds: Mapped[float]


Counts = namedtuple("Counts", "photos faces opinions videos")  # rows, oldest day first
OPINION_KEY = (Opinion.day, Opinion.model_sha256, Opinion.given, Opinion.chosen)


def day_of(time_s: float) -> str:
    """Return the day of a time in seconds since 1970, in UTC: "2026-11-21"."""
    return datetime.fromtimestamp(time_s, UTC).date().isoformat()


class Database(VideoQueue):
    """One database; safe to share between threads, processes and machines."""

    def remember(self, *rows: PhotoRow, check=None, most: int = 0) -> None:
        """Note photos of a set, all or none; one of the same id is replaced.

        Raises UploadError if it has more than `most` or several senders, and what `check` raises.
        """
        with self.transaction(writes=True, alone=True) as connection:
            self._upsert(connection, rows, adds=False)
            if check:
                check(connection)
            is_of_set = PhotoRow.set_id == rows[0].set_id, PhotoRow.expires_s > rows[0].created_s
            numbers = sql.func.count(), sql.func.count(PhotoRow.visitor.distinct())
            photos, visitors = connection.execute(sql.select(*numbers).where(*is_of_set)).one()
            if most and (photos > most or visitors > 1):
                expected = f"expected up to {most} photos in a set, all of one sender"
                raise UploadError(f"{expected}; this one is full or of another")

    def photo(self, photo_id: str, now_s: float) -> PhotoRow | None:
        return next(iter(self.kept(PhotoRow.id, photo_id, now_s)), None)

    def photos_of_set(self, set_id: str, now_s: float) -> tuple[PhotoRow, ...]:
        """Return the photos of a set that are still kept, by position."""
        return self.kept(PhotoRow.set_id, set_id, now_s, PhotoRow.position, PhotoRow.id)

    def photos_of_visitor(self, visitor: str, now_s: float) -> tuple[PhotoRow, ...]:
        """Return the photos of a browser that are still kept, newest first; "" has none."""
        order = (PhotoRow.created_s.desc(), PhotoRow.position.desc(), PhotoRow.id)
        return self.kept(PhotoRow.visitor, visitor, now_s, *order)

    def kept(self, column, key: str, now_s: float, *order) -> tuple:
        """Return the rows with a key in a column that have not expired."""
        if not re.fullmatch("[A-Za-z0-9_-]+", key):  # no id and no visitor
            return ()
        query = sql.select(column.class_).where(column == key, column.class_.expires_s > now_s)
        with self.transaction() as connection:
            return rows_of(connection, column.class_, query.order_by(*order))

    def forget(self, photo_id: str) -> None:
        """Remove what is known of a photo; opinions on its faces become mere numbers."""
        self._forget(PhotoRow.id == photo_id, Opinion.photo_id == photo_id, KeptRow.id == photo_id)

    def forget_expired(self, now_s: float) -> int:
        """Forget every photo that has expired; return how many."""
        expired, ids = PhotoRow.expires_s <= now_s, sql.select(PhotoRow.id)
        is_lost = Opinion.photo_id.not_in(ids) & (Opinion.said_s <= now_s - LONGEST_KEPT_S)
        is_gone = KeptRow.id.not_in(ids) & KeptRow.id.not_in(sql.select(VideoRow.id))
        return self._forget(expired, Opinion.photo_id.in_(ids.where(expired)) | is_lost, is_gone)

    def _forget(self, photos, opinions, kept) -> int:
        taken = sql.delete(Opinion).where(opinions).returning(*OPINION_KEY)
        with self.transaction(writes=True, alone=True) as connection:
            self._upsert(connection, [OpinionCount(*row, 1) for row in connection.execute(taken)])
            forgotten = connection.execute(sql.delete(PhotoRow).where(photos)).rowcount
            connection.execute(sql.delete(KeptRow).where(kept))
            return forgotten

    def count(self, results: Mapping, now_s: float) -> None:
        """Add the results of one photo, as `results_to_dict` gave them, to those of its day."""
        key = (day_of(now_s), results["model"]["sha256"])
        faces = [
            FaceCount(*key, face["emotion"], face["sure"], bucket, 1, face["confidence"])
            for face in results["faces"]
            for bucket in [min(int(face["confidence"] * BUCKETS), BUCKETS - 1)]
        ]
        with self.transaction(writes=True) as connection:
            self._upsert(connection, [PhotoCount(*key, 1, int(not faces))])
            self._upsert(connection, faces)

    def count_video(self, row: VideoRow, size: int, sha256: str, seconds: float, now_s) -> None:
        """Note the bytes of a video that is done, and add it to the statistics of its day."""
        video = VideoCount(day_of(now_s), sha256, 1, int(not row.faces), row.faces, seconds)
        with self.transaction(writes=True) as connection:
            connection.execute(sql.update(KeptRow).filter_by(id=row.id).values(bytes=size))
            self._upsert(connection, [video])

    def say(self, opinion: Opinion) -> Opinion | None:
        """Note what a visitor says about a face; return the opinion that it replaces."""
        with self.transaction(writes=True, alone=True) as connection:
            replaced = _take(connection, opinion.photo_id, opinion.number)
            connection.execute(sql.insert(Opinion), asdict(opinion))
            return replaced

    def opinion_on(self, photo_id: str, number: int) -> Opinion | None:
        return next((one for one in self.opinions_on(photo_id) if one.number == number), None)

    def opinions_on(self, photo_id: str) -> tuple[Opinion, ...]:
        with self.transaction() as connection:
            return rows_of(connection, Opinion, sql.select(Opinion).filter_by(photo_id=photo_id))

    def withdraw(self, photo_id: str, number: int) -> Opinion | None:
        """Remove what was said about a face, from the statistics too; return what it was."""
        with self.transaction(writes=True, alone=True) as connection:
            return _take(connection, photo_id, number)

    def counts(self) -> Counts:
        """Return the statistics, with the opinions on photos that are still kept."""
        opinions: Counter[tuple] = Counter()
        with self.transaction() as connection:
            photos, faces, videos = (
                rows_of(connection, kind, sql.select(kind).order_by(kind.day))
                for kind in (PhotoCount, FaceCount, VideoCount)
            )
            said = sql.select(*OPINION_KEY, sql.func.count()).group_by(*OPINION_KEY)
            past = sql.select(*OpinionCount.__table__.columns)
            for *key, times in connection.execute(said.union_all(past)):
                opinions[tuple(key)] += times
        by_day = tuple(OpinionCount(*key, times) for key, times in sorted(opinions.items()))
        return Counts(photos, faces, by_day, videos)

    def video(self, video_id: str, now_s: float) -> VideoRow | None:
        return next(iter(self.kept(VideoRow.id, video_id, now_s)), None)

    def videos_of_visitor(self, visitor: str, now_s: float) -> tuple[VideoRow, ...]:
        """Return the videos of a browser that are still kept, newest first; "" has none."""
        order = (VideoRow.created_s.desc(), VideoRow.id.desc())
        return self.kept(VideoRow.visitor, visitor, now_s, *order)

    def _upsert(self, connection: Connection, rows: Sequence[Row], adds: bool = True) -> None:
        """Write rows of one kind; of one whose key exists, add the numbers, or else replace it."""
        if not rows:
            return
        table = rows[0].__table__
        keys = table.primary_key.columns.keys()
        statement = self.dialect.insert(table)
        changes = {
            name: column + statement.excluded[name] if adds else statement.excluded[name]
            for name, column in table.columns.items()
            if name not in keys
        }
        statement = statement.on_conflict_do_update(index_elements=keys, set_=changes)
        # sorted, so that two writers never wait for each other
        connection.execute(statement, sorted(map(asdict, rows), key=itemgetter(*keys)))


def _take(connection: Connection, photo_id: str, number: int) -> Opinion | None:
    taken = sql.delete(Opinion).filter_by(photo_id=photo_id, number=number).returning(Opinion)
    return next(iter(rows_of(connection, Opinion, taken)), None)
