"""Who a browser is: a random id in its signed session cookie, known to the database by a digest."""

import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flask import Flask, Response, abort, request, session
from flask.sessions import SecureCookieSessionInterface, SessionMixin

from emotion.errors import DatabaseError, GoneError, NotSenderError
from emotion.files import make_private
from emotion.web.database import PhotoRow
from emotion.web.services import current_services
from emotion.web.settings import SettingsError
from emotion.web.storage import gone

FIELD, GIVER = "visitor", "giver"
YEAR = timedelta(days=366)  # how long who gave a face can take it back; KEEP_HOURS is no longer
COOKIE = "emotion_session"  # a name of our own: browsers share cookies between all ports of a host


def visitor_key() -> str:
    """Return the key of this browser in the database; "" if it has no id yet."""
    visitor = session.get(FIELD)
    return hashlib.sha256(visitor.encode()).hexdigest()[:32] if isinstance(visitor, str) else ""


def giver_key() -> str:
    """Return the browser's key, and remember it long enough to take back what it gives."""
    session[GIVER] = True
    return visitor_key()


def new_visitor() -> str:
    """Return the browser's key; one that has no id yet gets one with the reply."""
    if not visitor_key():
        session[FIELD] = secrets.token_hex(32)
        session.permanent = True
    return visitor_key()


def is_sender(visitor: str) -> bool:
    return bool(visitor) and visitor == visitor_key()


def require_sender(visitor: str) -> None:
    """Raise NotSenderError unless the request comes from the visitor of this key."""
    if not is_sender(visitor):
        words = "expected the cookie that came with the upload, as only the sender may do this; "
        raise NotSenderError(f"{words}received another or none")


def require_operator() -> None:
    """Answer 401 unless the request brings the operator's token, 404 if there is none."""
    if not (token := current_services().settings.operator_token):
        abort(404)
    given = (request.authorization and request.authorization.password) or ""
    if not hmac.compare_digest(given.encode(), token.encode()):
        abort(401)


def own_photo(photo_id: str) -> PhotoRow:
    """Return a photo that is kept and that this visitor sent; raises GoneError, NotSenderError."""
    services = current_services()
    if not (row := services.database.photo(photo_id, services.storage.clock())):
        raise gone()
    require_sender(row.visitor)
    return row


def is_own_photo(photo_id: str) -> bool:
    """True if this visitor sent a photo; False if the database cannot tell."""
    try:
        return bool(own_photo(photo_id))
    except (GoneError, NotSenderError, DatabaseError):
        return False


class OwnSessions(SecureCookieSessionInterface):
    """Sessions whose cookie is Secure, and cannot be planted, whenever the request came by TLS."""

    def get_cookie_name(self, app: Flask) -> str:
        # with this prefix, browsers take no cookie from plain HTTP or from a neighbouring name: one
        # that was planted would show a visitor's results to whoever planted it
        return f"__Host-{COOKIE}" if request.is_secure else COOKIE

    def get_expiration_time(self, app: Flask, session: SessionMixin) -> datetime | None:
        # a browser that forgets who it is loses its list of results
        hours = max(24, current_services().settings.keep_hours)
        lasts = YEAR if session.get(GIVER) else timedelta(hours=hours)
        return datetime.now(UTC) + lasts if session.permanent else None

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        # who sees a form gets an id with it: photos that a page sends side by side are of one
        if app.config["WTF_CSRF_FIELD_NAME"] in session:
            new_visitor()
        super().save_session(app, session, response)

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure

    def should_set_cookie(self, app: Flask, session: SessionMixin) -> bool:
        # a stylesheet that sets a cookie can be kept by no cache
        return request.endpoint != "static" and super().should_set_cookie(app, session)


def secret_key_in(folder: Path) -> str:
    """Return the key in a folder, or raise SettingsError; the first process to ask makes it."""
    path = folder / "secret_key"
    try:
        if not path.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # unlike a rename, a link never replaces the key that another worker has made by now
            with (
                tempfile.NamedTemporaryFile("w", prefix=".secret_key-", dir=folder) as part,
                contextlib.suppress(FileExistsError),
            ):
                part.write(secrets.token_hex(32) + "\n")
                part.flush()
                os.link(part.name, path)
        make_private(path)
        key = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "other bytes than letters"
        raise SettingsError(f"expected a secret key in {path}; received: {reason}") from error
    if len(key) >= 32:
        return key
    expected = f"expected a secret key of at least 32 characters in {path}"
    raise SettingsError(f"{expected}; received {len(key)}: remove the file and a new one is made")
