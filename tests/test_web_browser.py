"""The pages in a real browser: upload by hand, results to be seen, no sideways scrolling."""

import shutil
import threading

import pytest
from web_support import StandInDetector, encoded, make_app

from app import open_server

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
BOXES = tuple((x, 10 + x // 8, 30, 30) for x in range(0, 125, 40))


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Serve an app with a stand-in model that finds four faces; return its address."""
    app = make_app(tmp_path_factory.mktemp("web"), detector=StandInDetector(BOXES), PORT=0)
    server = open_server(app, app.extensions["emotion"].settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    server.close()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=[(1280, True), (390, True), (390, False)], ids=str)
def page(request, browser):
    """Give a page, wide or as on a phone, with and without scripts; complaints are collected."""
    width, has_scripts = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 844}, java_script_enabled=has_scripts
    )
    page = context.new_page()
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda message: page.complaints.append(message.text))
    yield page
    context.close()


def send(page, address, content):
    page.goto(address)
    page.set_input_files("#photo", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": content})
    page.click("text=Find faces")


def fits(page):
    """Tell whether nothing sticks out at the side, measured from outside the page's scripts."""
    width = page.viewport_size["width"]
    boxes = [element.bounding_box() for element in page.query_selector_all("main *:not(.unseen *)")]
    return all(box["x"] + box["width"] <= width + 0.5 for box in boxes if box)


def test_upload_and_results(page, address):
    send(page, address, encoded())
    page.wait_for_url("**/results/*")
    assert page.inner_text("h1") == "4 faces found"
    assert page.locator("article.face").count() == 4
    assert page.locator("article.face").nth(1).locator("tbody tr").count() == 7
    assert "Unsure: angry or fear" in " ".join(page.inner_text("#face-2").split())
    crop = page.locator("#face-1 .crop").bounding_box()
    assert crop["width"] >= 160
    bar = page.locator("#face-1 tr.first .fill").bounding_box()
    track = page.locator("#face-1 tr.first .track").bounding_box()
    assert bar["width"] / track["width"] == pytest.approx(0.9, abs=0.02)
    assert fits(page)
    assert not page.complaints


def test_a_face_in_the_photo_leads_to_its_card(page, address):
    send(page, address, encoded())
    page.wait_for_url("**/results/*")
    page.click("a[href='#face-3']")
    assert page.url.endswith("#face-3")
    page.wait_for_selector("#face-3:target")


def test_a_bad_photo_gets_a_page_with_the_form(page, address):
    send(page, address, b"no photo at all")
    page.wait_for_selector("text=Not a photo we can read")
    assert page.locator("input[type=file]").count() == 1
    assert fits(page)


def test_delete_now(page, address):
    send(page, address, encoded())
    page.wait_for_url("**/results/*")
    path = page.url
    page.click("text=Delete now")
    page.wait_for_selector("text=are deleted")
    assert fits(page)
    assert page.goto(path).status == 404
