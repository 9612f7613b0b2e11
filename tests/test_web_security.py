"""Security: the headers of every reply, pages without anything inline, and posts from elsewhere."""

import re

import pytest
from web_support import make_app, photo_form, upload

from emotion.web.settings import PROJECT_FOLDER

TEMPLATES = sorted((PROJECT_FOLDER / "templates").glob("*.html"))


@pytest.fixture
def client(tmp_path):
    return make_app(tmp_path).test_client()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("POST", "/"),
        ("GET", "/nothing"),
        ("GET", "/results/x"),
        ("PUT", "/"),
        ("GET", "/healthz"),
        ("POST", "/api/v1/recognize"),
        ("GET", "/static/style.css"),
        ("GET", "/static/app.js"),
        ("GET", "/static/favicon.svg"),
    ],
)
def test_headers(client, method, path):
    with client.open(path, method=method) as reply:
        headers = reply.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    assert "form-action 'self'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "camera=()" in headers["Permissions-Policy"]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_templates_have_nothing_inline_and_nothing_from_elsewhere(template):
    text = template.read_text(encoding="utf-8")
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", text)
    assert not re.search(r"<script(?! src=)", text)
    assert not re.search(r"""(src|href|action)=["'](https?:)?//""", text)
    assert "|safe" not in text


def test_static_files_ask_nobody_else():
    for path in (PROJECT_FOLDER / "static").iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, path.name
        assert "@import" not in text, path.name


ELSEWHERE = (
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Origin": "https://elsewhere.example"},
    {"Origin": "http://localhost:8000"},
    {"Origin": "null"},
)
HERE = (
    {},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://localhost"},
    {"Origin": "https://localhost"},
)


@pytest.mark.parametrize("headers", ELSEWHERE)
def test_posts_from_other_sites_are_refused(client, headers):
    path = upload(client)
    reply = client.post("/", data=photo_form(), headers=headers)
    assert reply.status_code == 403
    assert "received one from another" in reply.text
    assert client.post(f"{path}/delete", headers=headers).status_code == 403
    problem = client.post("/api/v1/recognize", data=photo_form(), headers=headers)
    assert problem.json["status"] == 403
    assert client.get(path, headers=headers).status_code == 200


@pytest.mark.parametrize("headers", HERE)
def test_posts_from_here_and_from_programs_are_taken(client, headers):
    assert client.post("/", data=photo_form(), headers=headers).status_code == 303
