"""Headers of every reply, and the refusal of forms that another site sends in a visitor's name."""

from types import MappingProxyType
from urllib.parse import urlsplit

from flask import Blueprint, Flask, Response, request
from flask_wtf.csrf import CSRFProtect
from werkzeug.exceptions import Forbidden

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        # blob: is the preview of a photo that has not left the visitor's machine yet, data: a
        # picture in a page that is not kept
        "img-src 'self' blob: data:",
        "media-src 'self'",
        "style-src 'self'",
        "script-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

HEADERS = MappingProxyType(
    {
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        # a result's address is its key, so it is told to no other site
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
)

ONLY_TLS = "max-age=31536000"
"""A year; names below this one are not ours to decide about."""

SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE")


def protect(app: Flask, without_forms: Blueprint) -> None:
    """Give every reply of an app its headers, and refuse what other sites send.

    Args:
        app: the app; its sessions are set up.
        without_forms: what programs use, which keep no cookie and see no form. Pages of other
            sites are kept out of it by `refuse_other_sites` alone.
    """
    app.before_request(refuse_other_sites)
    app.after_request(add_headers)
    # a form is good for as long as its session is: people leave pages open for hours
    app.config.setdefault("WTF_CSRF_TIME_LIMIT", None)
    CSRFProtect(app).exempt(without_forms)


def add_headers(response: Response) -> Response:
    """Add the headers to a reply."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    camera = "self" if request.blueprint == "live" else ""
    policy = f"camera=({camera}), geolocation=(), microphone=()"
    response.headers.setdefault("Permissions-Policy", policy)
    if request.is_secure:
        response.headers.setdefault("Strict-Transport-Security", ONLY_TLS)
    return response


def refuse_other_sites() -> None:
    """Raise `Forbidden` if a browser sends, from a page of another site, what changes things."""
    if request.method in SAFE_METHODS:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:
        is_ours = site in ("same-origin", "none")
    else:
        # browsers leave it out on plain HTTP to another machine; programs send neither
        is_ours = origin is None or urlsplit(origin).netloc == request.host
    if not is_ours:
        raise Forbidden("expected a request from this site; received one from another")
