"""Faces given for training wait where it reads nothing, until an operator approves or refuses them.

Each has a row, by which its giver can take it back at any time, also when its photo is long gone.
"""

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import sqlalchemy as sql
from PIL import Image
from sqlalchemy.orm import Mapped, mapped_column

from emotion import errors
from emotion.files import whole_file
from emotion.web.connections import Row
from emotion.web.database import Database, Opinion, VisitorKey

WAITING = ".waiting"  # in FEEDBACK; the readers of datasets pass over hidden folders
MOST_OF_VISITOR, MOST = 50, 10_000  # faces that may wait


class GivenFace(Row):
    """A face that was given for training and neither withdrawn nor refused."""

    __tablename__ = "given_faces"
    id: Mapped[str] = mapped_column(sql.String(32), primary_key=True)
    visitor: Mapped[VisitorKey]
    emotion: Mapped[str]  # what the visitor sees
    given_s: Mapped[float]
    approved_s: Mapped[float] = mapped_column(index=True, default=0.0)  # 0 while it waits

    @property
    def file(self) -> str:
        """Its name in FEEDBACK or, while it waits, in the hidden folder there."""
        return f"{self.emotion}/{self.id}.png"


class GivenFaces:
    """The files in one folder and their rows; safe to share between threads and processes."""

    def __init__(self, folder: Path, database: Database, clock: Callable[[], float] = time.time):
        self.folder, self.database, self.clock = folder, database, clock

    def keep(self, emotion: str, visitor: str, crop: bytes) -> str:
        """Let a face wait as a grey PNG with nothing but the pixels of `crop`; return its `file`.

        Raises WaitingFacesError if too many wait, ModelError, StorageError or DatabaseError; then
        nothing is left of it.
        """
        # a model's card comes from outside
        if emotion.startswith(".") or Path(emotion).name != emotion or "\\" in emotion:
            raise errors.ModelError(f"expected a name fit for folders; received {emotion!r}")
        face = GivenFace(secrets.token_hex(16), visitor, emotion, self.clock())
        count, is_own = sql.func.count(), GivenFace.visitor == visitor
        waiting = sql.select(count.filter(is_own), count).where(GivenFace.approved_s == 0)
        # the row first: no file is ever without one
        with self.database.transaction(writes=True, alone=True) as connection:
            own, every = connection.execute(waiting).one()
            if own >= MOST_OF_VISITOR or every >= MOST:
                most = f"{MOST_OF_VISITOR} faces of one visitor, and {MOST:,} in all"
                words = f"expected at most {most}, to wait for approval; received another"
                raise errors.WaitingFacesError(words)
            connection.execute(sql.insert(GivenFace), asdict(face))
        path = self.folder / WAITING / face.file
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (path.parent.parent, path.parent):
                folder.mkdir(mode=0o700, exist_ok=True)
            grey = Image.open(BytesIO(crop), formats=["PNG"]).convert("L")
            with whole_file(path) as part:
                part.touch(mode=0o600)
                Image.frombytes("L", grey.size, grey.tobytes()).save(part, optimize=True)
        except OSError as error:
            self._forget([face.file])
            raise errors.StorageError(error) from error
        return face.file

    def remove(self, *files: str) -> None:
        """Remove faces and their rows, waiting or approved; what is gone already is passed over."""
        files = tuple(filter(None, files))
        try:
            for file in files:
                # in this order: who approves it at this moment moves it from the first to the other
                for place in (self.folder / WAITING, self.folder):
                    (place / file).unlink(missing_ok=True)
        except OSError as error:
            raise errors.StorageError(error) from error
        if files:
            self._forget(files)

    def _forget(self, files: Sequence[str]) -> None:
        is_one = GivenFace.id.in_([Path(file).stem for file in files])
        with self.database.transaction(writes=True, alone=True) as connection:
            connection.execute(sql.delete(GivenFace).where(is_one))
            is_given = Opinion.kept.in_(files)
            connection.execute(sql.update(Opinion).where(is_given).values(kept=""))

    def decide(self, faces: Sequence[GivenFace], is_approved: bool) -> None:
        """Move faces to where training reads them, or remove them."""
        if not is_approved:
            self.remove(*(face.file for face in faces))
            return
        moved = []
        try:
            for face in faces:
                target = self.folder / face.file
                target.parent.mkdir(mode=0o700, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):  # withdrawn, or moved before a crash
                    (self.folder / WAITING / face.file).rename(target)
                    os.utime(target)  # from now on it counts as new
                moved += [face.id] * target.exists()
        except OSError as error:
            raise errors.StorageError(error) from error
        approval = sql.update(GivenFace).where(GivenFace.id.in_(moved))
        with self.database.transaction(writes=True) as connection:
            connection.execute(approval.values(approved_s=self.clock()))

    def waiting(self) -> tuple[GivenFace, ...]:
        """Return the faces that wait, newest first."""
        return self._find(GivenFace.approved_s == 0)

    def of_visitor(self, visitor: str) -> tuple[GivenFace, ...]:
        """Return the faces that a visitor gave, newest first; "" gave none."""
        return self._find(GivenFace.visitor == visitor) if visitor else ()

    def _find(self, condition: sql.ColumnElement) -> tuple[GivenFace, ...]:
        query = sql.select(GivenFace).where(condition)
        query = query.order_by(GivenFace.given_s.desc(), GivenFace.id)
        with self.database.transaction() as connection:
            return tuple(GivenFace(**row) for row in connection.execute(query).mappings())

    def picture(self, face: GivenFace) -> bytes:
        """Return the PNG of a face; nothing if it cannot be read."""
        for place in (self.folder / WAITING, self.folder):
            with contextlib.suppress(OSError):
                return (place / face.file).read_bytes()
        return b""
