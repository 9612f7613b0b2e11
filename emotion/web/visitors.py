"""Who a browser is: a random id in its signed session cookie, known to the database by a digest."""

import hashlib
import secrets

from flask import current_app, session

from emotion.web.analysis import current_services
from emotion.web.database import DatabaseError, PhotoRow
from emotion.web.problems import NotSenderError
from emotion.web.storage import GoneError

FIELD = "visitor"
ID_BYTES = 32
DIGEST_CHARACTERS = 32


def visitor_key() -> str:
    """Return by what the database knows this browser; "" where it has no id yet."""
    visitor = session.get(FIELD)
    return _digest(visitor) if isinstance(visitor, str) else ""


def new_visitor() -> str:
    """Return the browser's key; one that has no id yet gets one with the reply.

    A page sends several photos side by side, and each reply brings a cookie. So that all of them
    say the same, the id comes from what the page's own cookie holds: the secret of its forms.
    """
    if not visitor_key():
        secret = session.get(current_app.config["WTF_CSRF_FIELD_NAME"])
        session[FIELD] = _digest(f"visitor {secret}") if secret else secrets.token_hex(ID_BYTES)
        session.permanent = True
    return visitor_key()


def is_sender(visitor: str) -> bool:
    """Tell whether the current request comes from the visitor of this key."""
    return bool(visitor) and visitor == visitor_key()


def require_sender(visitor: str) -> None:
    """Raise a `NotSenderError` unless the current request comes from the visitor of this key."""
    if not is_sender(visitor):
        raise NotSenderError(
            "expected the cookie that came with the upload, because only the sender may do this; "
            "received another or none"
        )


def own_photo(photo_id: str) -> PhotoRow:
    """Return a photo that this visitor sent and that is still kept.

    Raises:
        GoneError: there is no such photo.
        NotSenderError: somebody else sent it.
    """
    services = current_services()
    row = services.database.photo(photo_id, services.storage.clock())
    if row is None:
        raise GoneError("expected a photo that is still kept; this one is gone or never was")
    require_sender(row.visitor)
    return row


def is_own_photo(photo_id: str) -> bool:
    """Tell whether this visitor sent a photo; False where the database cannot tell."""
    try:
        own_photo(photo_id)
    except (GoneError, NotSenderError, DatabaseError):
        return False
    return True


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]
