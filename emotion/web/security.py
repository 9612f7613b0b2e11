"""Headers of every reply, and the refusal of forms that another site sends in a visitor's name."""

from types import MappingProxyType
from urllib.parse import urlsplit

from flask import Flask, Request, Response, request
from werkzeug.exceptions import Forbidden

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        # blob: is the preview of a photo that has not left the visitor's machine yet
        "img-src 'self' blob:",
        "style-src 'self'",
        "script-src 'self'",
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
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
)


def protect(app: Flask) -> None:
    """Give every reply of an app its headers, and refuse posts from other sites."""
    app.before_request(refuse_other_sites)
    app.after_request(add_headers)


def add_headers(response: Response) -> Response:
    """Add the headers to a reply."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


def refuse_other_sites() -> None:
    """Raise `Forbidden` for a post that a browser sends from a page of another site."""
    if request.method == "POST" and not _is_own_site(request):
        raise Forbidden("expected a request from this site; received one from another")


def _is_own_site(request: Request) -> bool:
    """Tell whether a request comes from our own pages or from no page, such as from a program."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    # browsers leave it out on plain HTTP to another machine
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc == request.host
