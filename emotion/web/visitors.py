"""Who a browser is: a random id in its signed session cookie, known to the database by a digest."""

import hashlib
import secrets

from flask import current_app, session

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


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]
