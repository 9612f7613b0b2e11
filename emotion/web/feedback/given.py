"""Faces given for training wait where it reads nothing, until an operator approves or refuses them.

By its row the giver can take each back at any time, also when its photo is long gone.
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
from emotion.web.connections import Row, rows_of
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

    # its file, as an opinion names it: in FEEDBACK or, while it waits, in a folder there
    kept = property(lambda self: f"{self.emotion}/{self.id}.png")


class GivenFaces:
    """The files in one folder and their rows; safe to share between threads and processes."""

    def __init__(self, folder: Path, database: Database, clock: Callable[[], float] = time.time):
        self.folder, self.database, self.clock = folder, database, clock
        self.waiting = folder / WAITING

    def keep(self, emotion: str, visitor: str, crop: bytes) -> str:
        """Let a face wait as a grey PNG; return its `kept`. Raises WaitingFacesError."""
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
                expected = f"expected at most {MOST_OF_VISITOR} faces of one visitor to wait"
                raise errors.WaitingFacesError(f"{expected}, and {MOST:,} in all; received another")
            connection.execute(sql.insert(GivenFace), asdict(face))
        path = self.waiting / face.kept
        try:
            for folder in (self.folder, self.waiting, path.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            grey = Image.open(BytesIO(crop), formats=["PNG"]).convert("L")
            with whole_file(path) as part:
                part.touch(mode=0o600)  # with nothing but the pixels
                Image.frombytes("L", grey.size, grey.tobytes()).save(part, optimize=True)
        except OSError as error:
            self.remove([face])
            raise errors.StorageError(error) from error
        return face.kept

    def remove(self, given: Sequence[GivenFace | Opinion | None]) -> None:
        """Remove faces, or those of opinions, waiting or approved; some may be gone."""
        if not (files := [one.kept for one in given if one and one.kept]):
            return
        # in this order: who approves one at this moment moves it from the first to the other
        for file in [folder / name for name in files for folder in (self.waiting, self.folder)]:
            try:
                file.unlink()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise errors.StorageError(error) from error
        is_one = GivenFace.id.in_([Path(file).stem for file in files])
        with self.database.transaction(writes=True, alone=True) as connection:
            connection.execute(sql.delete(GivenFace).where(is_one))
            connection.execute(sql.update(Opinion).where(Opinion.kept.in_(files)).values(kept=""))

    def approve(self, faces: Sequence[GivenFace]) -> None:
        """Move faces to where training reads them; one that was withdrawn is passed over."""
        for face in faces:
            target = self.folder / face.kept
            try:
                target.parent.mkdir(mode=0o700, exist_ok=True)
                with contextlib.suppress(FileNotFoundError):  # perhaps moved before a crash
                    (self.waiting / face.kept).rename(target)
                    os.utime(target)  # from now on it counts as new
            except OSError as error:
                raise errors.StorageError(error) from error
        is_there = [face.id for face in faces if (self.folder / face.kept).exists()]
        approval = sql.update(GivenFace).where(GivenFace.id.in_(is_there))
        with self.database.transaction(writes=True) as connection:
            connection.execute(approval.values(approved_s=self.clock()))

    def find(self, visitor: str | None = None) -> tuple[GivenFace, ...]:
        """Return the faces that a visitor gave or, of everybody, those that wait; newest first."""
        is_one = GivenFace.approved_s == 0 if visitor is None else GivenFace.visitor == visitor
        query = sql.select(GivenFace).where(is_one).order_by(GivenFace.given_s.desc())
        with self.database.transaction() as connection:
            return rows_of(connection, GivenFace, query)

    def picture(self, face: GivenFace) -> bytes:
        """Return the PNG of a face; nothing if it cannot be read."""
        with contextlib.suppress(OSError):
            return ((self.folder if face.approved_s else self.waiting) / face.kept).read_bytes()
        return b""
