"""How much is kept of one client: so many bytes, counted where they are noted."""

import hashlib
import hmac
from collections.abc import Callable, Mapping

import sqlalchemy as sql
from flask import current_app
from sqlalchemy import Connection
from sqlalchemy.orm import Mapped, mapped_column

from emotion.errors import QuotaError
from emotion.web.connections import Connections, Row
from emotion.web.database import Count, Id, PhotoRow, VideoRow
from emotion.web.limits import client_key


class KeptRow(Row):
    """The files of a photo or a video, which counts for as long as its own row is there."""

    __tablename__ = "kept"
    id: Mapped[Id] = mapped_column(primary_key=True)
    client: Mapped[str] = mapped_column(sql.String(64), index=True)  # no address: a keyed digest
    bytes: Mapped[Count]


def quota(sizes: Mapping[str, int], visitor: str, now_s: float) -> Callable[[Connection], None]:
    """Return what notes the bytes of new photos or a video of the current request, by their ids.

    It is called in the transaction that notes them, so that several requests at a time pass no
    bound that one would not; it raises QuotaError.
    """
    most_mb = current_app.extensions["emotion"].settings.max_kept_mb
    key = current_app.secret_key.encode()
    client = hmac.new(key, client_key().encode(), hashlib.sha256).hexdigest()[:32]

    def note(connection: Connection) -> None:
        for whose, is_own in (
            ("address", lambda _: KeptRow.client == client),
            ("browser", lambda kind: kind.visitor == visitor),
        ):
            kept = sum(sizes.values())
            for kind in (PhotoRow, VideoRow):
                query = sql.select(sql.func.sum(KeptRow.bytes)).join(kind, kind.id == KeptRow.id)
                query = query.where(is_own(kind), kind.expires_s > now_s)
                kept += connection.scalar(query) or 0
            if kept > most_mb * 2**20:
                words = f"expected at most {most_mb:g} MB kept of one {whose}, photos and videos"
                raise QuotaError(f"{words} together; with this there would be more")
        for new, size in sizes.items():
            connection.execute(sql.insert(KeptRow), {"id": new, "client": client, "bytes": size})

    return note


def weigh(database: Connections, video_id: str, size: int) -> None:
    """Note what a video takes now."""
    change = sql.update(KeptRow).where(KeptRow.id == video_id).values(bytes=size)
    with database.transaction(writes=True) as connection:
        connection.execute(change)


def forget_gone(database: Connections) -> None:
    """Forget the bytes of photos and videos that are not there any more."""
    ids = [KeptRow.id.not_in(sql.select(kind.id)) for kind in (PhotoRow, VideoRow)]
    with database.transaction(writes=True) as connection:
        connection.execute(sql.delete(KeptRow).where(*ids))
