import io
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from web_support import make_app, photo_form, upload

from emotion.files import make_private
from emotion.web import visitors
from emotion.web.settings import PROJECT_FOLDER, SettingsError
from emotion.web.storage import new_id
from emotion.web.visitors import COOKIE, secret_key_in

# the report is a file that needs nothing beside it
TEMPLATES = [
    path for path in (PROJECT_FOLDER / "templates").glob("*.html") if path.name != "report.html"
]


@pytest.fixture
def client(tmp_path):
    return make_app(tmp_path).test_client()


STRICT = [f"{name} 'none'" for name in ("default-src", "frame-ancestors", "base-uri")]
STRICT += ["form-action 'self'", "connect-src 'self'"]


def test_headers(client):
    static = [client.application.static_url_path + name for name in ("/style.css", "/favicon.svg")]
    asked = [("GET", path) for path in ("/", "/nothing", "/results/x", "/healthz", *static)]
    for method, path in (*asked, ("POST", "/"), ("PUT", "/"), ("POST", "/api/v1/recognize")):
        with client.open(path, method=method) as reply:
            headers = reply.headers
        policy = headers["Content-Security-Policy"]
        assert all(rule in policy for rule in STRICT)
        assert not re.search("unsafe|http", policy)
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
        assert "camera=()" in headers["Permissions-Policy"]
        assert "Strict-Transport-Security" not in headers
    assert "camera=(self)" in client.get("/live").headers["Permissions-Policy"]
    headers = client.get("/", base_url="https://localhost").headers
    assert headers["Strict-Transport-Security"] == "max-age=31536000"


def test_pages_have_nothing_inline_nothing_from_elsewhere_and_a_token_in_each_form():
    for template in TEMPLATES:
        text = template.read_text(encoding="utf-8")
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", text), template
        assert not re.search(r'<script(?!( type="module")? src=)', text), template
        assert not re.search(r"""(src|href|action)=["'](https?:)?//""", text), template
        # of a constant with places, `format` escapes what it puts there
        assert "|safe" not in text.replace("</data>'|safe|format(", ""), template
        for form in re.findall(r"<form.*?</form>", text, re.DOTALL):
            token = 'name="csrf_token" value="{{ csrf_token() }}"'
            assert 'method="post"' not in form or token in form, template
    for path in (PROJECT_FOLDER / "static").glob("*.*"):
        text = path.read_text(encoding="utf-8")
        # the name of a format, and words in a message
        for known in ("http://www.w3.org/2000/svg", "http://localhost"):
            text = text.replace(known, "")
        assert not re.search("://|@import", text), path.name


SITE, ORIGIN = "Sec-Fetch-Site", "Origin"
OTHERS = (
    *({SITE: "cross-site"}, {SITE: "same-site"}, {ORIGIN: "null"}),
    *({ORIGIN: "https://elsewhere.example"}, {ORIGIN: "http://localhost:8000"}),
)
OURS = (
    *({}, {SITE: "none"}, {ORIGIN: "http://localhost"}, {ORIGIN: "https://localhost"}),
    {SITE: "same-origin", ORIGIN: "http://localhost"},
)


def test_posts_from_other_sites_are_refused(client):
    path = upload(client)
    for headers in OTHERS:
        for door in ("/", f"{path}/delete", "/api/v1/recognize"):
            reply = client.post(door, data=photo_form(), headers=headers)
            assert reply.status_code == 403, door
        assert client.delete("/", headers=headers).status_code == 403
        assert client.get(path, headers=headers).status_code == 200
    for headers in OURS:
        assert client.post("/", data=photo_form(), headers=headers).status_code == 303


def test_a_form_needs_the_token_of_its_visitor_and_by_tls_our_page(tmp_path):
    """Our Referrer-Policy lets browsers say by TLS which page sent a form."""

    def visitor(base):
        client = make_app(tmp_path, flask_config={"WTF_CSRF_ENABLED": True}).test_client()
        page = client.get("/", base_url=base).text
        return client, re.search(r'name="csrf_token" value="([^"]+)"', page)[1]

    plain, tls = "http://localhost", "https://localhost"
    (client, token), (worker, _), (safe, safe_token) = map(visitor, (plain, plain, tls))

    def status(sender, base, token, **headers):
        data = photo_form() | {"csrf_token": token}
        return sender.post("/", data=data, base_url=base, headers=headers).status_code

    assert status(client, plain, "") == status(worker, plain, token) == 400
    form = b"--x\r\nContent-Disposition: form-data\r\n\r\n\r\n--x--\r\n"  # a field without a name
    for door in ("/", "/videos", "/mine/delete"):
        sent = client.post(door, data=form, content_type="multipart/form-data; boundary=x")
        assert sent.status_code == 400, door
    # another worker on the same folder knows the visitor
    worker.set_cookie(COOKIE, client.get_cookie(COOKIE).value)
    assert status(worker, plain, token) == 303
    assert status(safe, tls, safe_token, Referer="https://localhost/x") == 303
    assert status(safe, tls, safe_token, Referer="https://elsewhere.example/") == 400


def test_the_cookie_is_for_this_site_and_no_script(client):
    for scheme in ("http", "https"):
        cookie = client.get("/", base_url=f"{scheme}://localhost").headers["Set-Cookie"]
        assert cookie.startswith(f"{COOKIE}=" if scheme == "http" else f"__Host-{COOKIE}=")
        for part in ("HttpOnly", "SameSite=Lax", "Path=/"):
            assert part in cookie
        assert ("Secure" in cookie) == (scheme == "https")
    upload(client)
    with client.get(f"{client.application.static_url_path}/style.css") as reply:
        assert "Set-Cookie" not in reply.headers
        assert "max-age=31536000" in reply.headers["Cache-Control"]
    fresh = client.application.test_client()
    assert "Set-Cookie" not in fresh.post("/api/v1/recognize", data=photo_form()).headers
    # one that was planted counts for nothing over TLS
    tls = {"base_url": "https://localhost"}
    fresh.set_cookie(COOKIE, client.get_cookie(COOKIE).value)
    fresh.post("/", data=photo_form(), **tls)
    assert len(fresh.get("/api/v1/mine", **tls).json["photos"]) == 1
    assert len(client.get("/api/v1/mine").json["photos"]) == 1


def test_photos_sent_side_by_side_are_of_one_visitor(client):
    """Each brings the cookie of the page; the replies to others are still on their way."""
    one, other = (client.application.test_client() for _ in range(2))
    for visitor in (one, other):
        with visitor.session_transaction() as session:
            session["csrf_token"] = "the same"
        visitor.get("/")
    for door in ("/", "/api/v1/photos"):
        client.set_cookie(COOKIE, one.get_cookie(COOKIE).value)
        assert client.post(door, data=photo_form()).status_code in (201, 303)
    assert [len(each.get("/api/v1/mine").json["photos"]) for each in (one, other)] == [2, 0]


def test_only_names_of_this_site_are_answered_to(tmp_path):
    client = make_app(tmp_path, TRUSTED_HOSTS="faces.example,.photos.example").test_client()
    trusted = "faces.example FACES.example:8443 a.photos.example localhost:5000 127.0.0.1".split()
    for host in (*trusted, "elsewhere.example", "faces.example.elsewhere.example", "a b"):
        for path in ("/", "/healthz"):
            with client.get(path, headers={"Host": host}) as reply:
                assert reply.status_code == (200 if host in trusted else 400), (host, path)
    for path in ("//elsewhere.example/..", "/videos//x", "/mine//"):
        reply = client.get(path, headers={"Host": "faces.example"})
        assert (reply.status_code, reply.location) == (404, None)
    for wrong in ("['faces.example']", "https://faces.example", "a,,b"):
        with pytest.raises(SettingsError, match="TRUSTED_HOSTS"):
            make_app(tmp_path, TRUSTED_HOSTS=wrong)


@pytest.mark.parametrize("was_open", [False, True])
def test_what_is_kept_is_for_its_owner_alone(tmp_path, was_open):
    kept = [tmp_path / name for name in ("uploads", "instance", "feedback")]
    if was_open:
        secret_key_in(kept[1])
        (kept[1] / "emotion.sqlite").touch()
        for folder in kept:
            folder.mkdir(exist_ok=True)
            for path in (folder, *folder.iterdir()):
                path.chmod(0o777 if path == folder else 0o666)
    before = os.umask(0)
    try:
        app = make_app(tmp_path)
        client, videos = app.test_client(), app.extensions["emotion"].videos
        # videos first: their folder is inside that of the photos
        videos.files.create(id_of_video := new_id(), {"your video": io.BytesIO(b"video")})
        videos.files.make_room(id_of_video, new_id())
        said = {"emotion": "sad", "keep": "yes"}
        assert client.post(f"{upload(client)}/faces/1/feedback", data=said).status_code == 303
    finally:
        os.umask(before)
    found = [path for folder in kept for path in (folder, *folder.rglob("*"))]
    names = {path.name for path in found}
    assert {"your video", "result.json", "emotion.sqlite-wal", "secret_key"} <= names
    assert list(kept[2].rglob("*.png"))
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_only_what_is_ours_alone_is_made_private(tmp_path, monkeypatch):
    make_private(tmp_path / "nothing")
    ours, anothers = tmp_path.stat().st_uid, tmp_path.stat().st_uid + 1
    modes = ((0o755, 0o700), (0o644, 0o600), (0o500, 0o500), (0o1777, 0o1777))
    for user, before, after in (*((ours, *mode) for mode in modes), (anothers, 0o755, 0o755)):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        tmp_path.chmod(before)
        make_private(tmp_path)
        assert stat.S_IMODE(tmp_path.stat().st_mode) == after


def test_workers_that_start_at_once_agree_on_a_key(tmp_path, monkeypatch):
    # so that none of them sees the key of another before it makes its own
    monkeypatch.setattr(visitors.Path, "exists", lambda path: False)
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(secret_key_in, [tmp_path] * 40))
    assert len(keys) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]


def test_a_key_that_is_none_or_cannot_be_read_or_made(tmp_path):
    for content, words in ((b"", "0"), (b"short\n", "5"), (b"\xff" * 40, "bytes")):
        (tmp_path / "secret_key").write_bytes(content)
        with pytest.raises(SettingsError, match=words):
            secret_key_in(tmp_path)
    with pytest.raises(SettingsError, match="secret key"):
        secret_key_in(tmp_path / "secret_key")
    (tmp_path / "secret_key").unlink()
    (tmp_path / "secret_key").mkdir()
    with pytest.raises(SettingsError, match="directory"):
        secret_key_in(tmp_path)
