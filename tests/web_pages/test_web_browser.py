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
    detector = StandInDetector(BOXES)
    settings = {"PORT": 0, "MONITORING": "on", "VIDEO_RATE_LIMIT": "1000 per minute"}
    app = make_app(tmp_path_factory.mktemp("web"), detector=detector, **settings)
    server = open_server(app, app.extensions["emotion"].settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    server.close()
    app.extensions["emotion"].videos.workers.stop()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(params=[(1280, True), (390, False)], ids=str)
def page(request, browser):
    """Give a wide page, or one as on a phone and without scripts; complaints are collected."""
    width, has_scripts = request.param
    context = browser.new_context(
        viewport={"width": width, "height": 844}, java_script_enabled=has_scripts
    )
    page = context.new_page()
    page.set_default_timeout(90_000)  # the machine may be busy
    page.complaints, page.has_scripts = [], has_scripts
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda message: page.complaints.append(message.text))
    yield page
    context.close()


def send(page, address, content):
    page.goto(address)
    page.set_input_files("#photo", {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": content})
    page.click("button.primary")


def fits(page):
    """Tell whether nothing sticks out at the side, measured from outside the page's scripts."""
    width = page.viewport_size["width"]
    # a timeline moves below a thumb in a frame of its own
    elements = page.query_selector_all("main *:not(.unseen *):not(.timeline *)")
    boxes = [element.bounding_box() for element in elements]
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


def test_a_bad_photo_gets_a_page_with_the_form(page, address):
    send(page, address, b"no photo at all")
    page.wait_for_selector("text=Not a photo we can read")
    assert page.locator("input[type=file]").count() == 1
    assert fits(page)


# Several photos


def drop(page, *photos):
    """Drop files on the page, as from a folder: (name, content) each."""
    encoded_photos = [[name, list(content)] for name, content in photos]
    page.evaluate(
        """photos => {
          const transfer = new DataTransfer();
          for (const [name, bytes] of photos)
            transfer.items.add(new File([new Uint8Array(bytes)], name, { type: "image/jpeg" }));
          document.body.dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true,
            cancelable: true }));
        }""",
        encoded_photos,
    )


@pytest.fixture
def scripted(browser):
    """Give a wide page with scripts."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(90_000)  # the machine may be busy
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    yield page
    context.close()


def test_dropped_photos_are_sent_one_by_one(scripted, address):
    page = scripted
    page.goto(address)
    drop(page, ("one.jpg", encoded(seed=1)), ("two.jpg", encoded(seed=2)))
    drop(page, ("three.jpg", encoded(seed=3)), ("one more.jpg", encoded(seed=4)))
    assert page.locator(".chosen li").count() == 4
    page.click("[aria-label='Remove two.jpg']")
    assert page.inner_text("button.primary") == "Find faces in 3 photos"
    page.click("button.primary")
    page.wait_for_url("**/sets/*")
    assert page.inner_text("h1") == "3 photos, 12 faces"
    assert page.locator(".gallery img").count() == 3
    assert fits(page)
    assert not page.errors


def test_one_bad_photo_keeps_its_reason_beside_it(scripted, address):
    page = scripted
    page.goto(address)
    drop(page, ("one.jpg", encoded(seed=1)), ("bad.jpg", b"no photo"), ("two.jpg", encoded(seed=2)))
    page.click("button.primary")
    page.wait_for_selector("text=See the other 2")
    assert "none of them" in page.inner_text(".chosen li.failed")
    assert page.locator(".chosen li", has_text="4 faces").count() == 2
    page.click("text=See the other 2")
    page.wait_for_url("**/sets/*")
    assert page.inner_text("h1") == "3 photos, 8 faces"
    assert page.locator(".tile:has(.unread) h3").inner_text() == "Photo 2"


def test_a_file_that_is_too_large_is_not_sent(scripted, address):
    page, sent = scripted, []
    page.goto(address)
    page.on("request", lambda one: sent.append(one) if one.url.endswith("/photos") else None)
    large = encoded() + bytes(20 * 2**20)
    for name, content in (("one", encoded(seed=1)), ("large", large), ("two", encoded(seed=2))):
        file = {"name": f"{name}.jpg", "mimeType": "image/jpeg", "buffer": content}
        page.set_input_files("#photo", file)
    assert page.inner_text("button.primary") == "Find faces in 2 photos"
    page.click("button.primary")
    page.wait_for_selector("text=See the other 2")
    assert len(sent) == 2
    assert "20 MB" in page.inner_text(".chosen li.failed")
    page.click("[aria-label='Remove large.jpg']")
    page.wait_for_url("**/sets/*")
    assert page.inner_text("h1") == "2 photos, 8 faces"


def test_the_busy_server_is_asked_again(scripted, address):
    page = scripted
    page.goto(address)
    refused = []

    def answer(route):
        if len(refused) < 2:
            refused.append(route.request.url)
            route.fulfill(status=503, headers={"Retry-After": "1"}, json={"detail": "Busy."})
        else:
            route.continue_()

    page.route("**/api/v1/photos", answer)
    drop(page, ("one.jpg", encoded(seed=1)), ("two.jpg", encoded(seed=2)))
    page.click("button.primary")
    page.wait_for_url("**/sets/*", timeout=60_000)
    assert page.inner_text("h1") == "2 photos, 8 faces"
    assert len(refused) == 2


@pytest.mark.parametrize("moment", ["on its way", "read"])
def test_a_photo_removed_while_photos_are_sent_is_kept_nowhere(scripted, address, moment):
    page, held = scripted, []
    page.goto(address)
    # the first one takes a while on its way
    contents = [encoded() + bytes(300_000), *(encoded(seed=seed) for seed in range(1, 4))]
    files = [
        {"name": f"{index}.jpg", "mimeType": "image/jpeg", "buffer": content}
        for index, content in enumerate(contents)
    ]
    page.set_input_files("#photo", files)
    if moment == "on its way":
        slow_network(page, 100_000)
        page.click("button.primary")
        page.wait_for_selector(".chosen progress[value]:not([value='0'])")
        with page.expect_event("requestfailed"):
            page.click("[aria-label='Remove 0.jpg']")
        slow_network(page, -1)
    else:
        page.route("**/api/v1/photos", lambda route: held.append(route))
        page.click("button.primary")
        while len(held) < 2:
            page.wait_for_timeout(20)
        if moment == "read":
            held.pop(0).continue_()
            page.wait_for_selector(".chosen li:has-text('4 faces')")
        page.click("[aria-label='Remove 0.jpg']")
        while page.url.strip("/") == address:
            while held:
                held.pop().continue_()
            page.wait_for_timeout(20)
    page.wait_for_url("**/sets/*")
    assert page.inner_text("h1") == "3 photos, 12 faces"
    assert page.locator(".tile h3").all_inner_texts() == ["Photo 1", "Photo 2", "Photo 3"]
    kept = page.request.get(f"{address}/api/v1/mine").json()["photos"]
    assert len({photo["position"] for photo in kept}) == len(kept) == 3
    assert not page.errors


def slow_network(page, upload_bytes_per_s):
    page.context.new_cdp_session(page).send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1,
         "uploadThroughput": upload_bytes_per_s},
    )  # fmt: skip


@pytest.mark.parametrize("path", ["/", "/live", "/mine"])
def test_what_is_hidden_is_not_shown(scripted, address, path):
    scripted.goto(address + path)
    shown = """() => [...document.querySelectorAll("body *")].filter((element) => {
      element.hidden = true;
      return element instanceof HTMLElement && getComputedStyle(element).display !== "none";
    }).length"""
    assert scripted.evaluate(shown) == 0


def test_face_feedback_and_my_results(page, address):
    send(page, address, encoded())
    page.wait_for_url("**/results/*")
    page.click("#face-2 >> text=Not right?")
    page.wait_for_url("**/faces/2#feedback")
    assert "Face 2 of 4" in page.inner_text("h1")
    page.check("input[value=sad]")
    page.click("text=Send")
    page.wait_for_selector("text=You said: sad")
    assert "not kept" in page.inner_text(".feedback .notice")
    assert fits(page)
    page.click("text=Take it back")
    page.wait_for_selector(".feedback .notice", state="detached")
    page.goto(f"{address}/mine")
    assert page.locator(".tile").count() == 1
    assert fits(page)
    page.click("text=Delete all")
    page.wait_for_selector("text=Nothing is kept")


def test_the_keyboard_alone_does_everything(scripted, address):
    page = scripted
    send(page, address, encoded())
    page.wait_for_url("**/results/*")
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => document.activeElement.textContent.trim().slice(0, 12)"))
    for words in ("To the conte", "Photos and v", "Download pho", "Delete now", "Face 1"):
        assert words in reached
    page.focus("text=Delete now")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=are deleted")


# Videos


@pytest.fixture(scope="module")
def face_film(tmp_path_factory):
    """Return a video of two seconds, with a face and with sound."""
    pytest.importorskip("av")
    video_files = pytest.importorskip("video_files")
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    pictures = video_files.moving_faces(20, (320, 240))
    return video_files.write_pictures(path, pictures, sound=video_files.clicks(2.0, [1.0]))


@pytest.fixture(scope="module")
def long_film(tmp_path_factory):
    """Return a video that takes a while."""
    pytest.importorskip("av")
    video_files = pytest.importorskip("video_files")
    pictures = video_files.moving_faces(60, (320, 240)) * 30
    return video_files.write_pictures(tmp_path_factory.mktemp("film") / "long.mp4", pictures)


def send_video(page, address, path):
    page.goto(address)
    page.set_input_files("#video", path)
    page.click("#video-form button.primary")
    page.wait_for_url("**/videos/*")


def play(page):
    """Play the video of a page, jump to 1.5 s; return its size, where it is, and what is wrong."""
    return page.evaluate(
        """async () => {
          const player = document.querySelector("video");
          const until = (what) => new Promise((resolve) => {
            player.addEventListener(what, resolve, { once: true });
          });
          player.muted = true;
          await player.play();
          await until("timeupdate");
          player.pause();
          player.currentTime = 1.5;
          await until("seeked");
          return [player.videoWidth, player.videoHeight, player.currentTime, player.error];
        }"""
    )


def test_a_video_is_watched_and_played(page, address, face_film):
    send_video(page, address, face_film)
    page.wait_for_selector("video.player", timeout=240_000)
    assert page.inner_text("h1") == "1 face in your video"
    assert page.locator(".track-times tbody tr").count() == 1
    assert page.locator(".timeline img").get_attribute("alt").startswith("Timeline of emotions:")
    assert fits(page)
    assert not page.complaints
    if page.has_scripts:
        assert play(page) == [320, 240, 1.5, None]
    page.goto(f"{address}/mine")
    page.click("text=Video 1: 1 face")
    page.wait_for_selector("video.player", timeout=240_000)
    page.click("text=Delete now")
    page.wait_for_selector("text=nothing of it is kept")


def test_progress_is_shown_and_work_is_cancelled(page, address, long_film):
    send_video(page, address, long_film)
    page.wait_for_selector("[data-show=share]:has-text('%')")
    assert page.inner_text("h1") == "Faces are being followed"
    assert 0 < float(page.locator("progress").get_attribute("value")) < 1
    assert page.inner_text("[data-show=position]").endswith("of 3:00")
    assert fits(page)
    work = page.url
    page.click("text=Cancel and delete")
    page.wait_for_selector("text=nothing of it is kept")
    assert page.goto(work).status == 404
    page.goto(f"{address}/mine")
    assert page.locator("text=is worked on").count() == 0


def test_a_dropped_video_goes_to_its_own_form(scripted, address, face_film):
    page = scripted
    page.goto(address)
    drop(page, ("one.jpg", encoded(seed=1)), ("film.mp4", face_film.read_bytes()))
    assert page.locator(".chosen li").count() == 1
    assert page.evaluate("() => document.querySelector('#video').files[0].name") == "film.mp4"
    page.keyboard.press("Enter")
    page.wait_for_url("**/videos/*")
    page.wait_for_selector("video.player", timeout=240_000)
    page.focus("video.player")
    page.keyboard.press("Space")
    page.wait_for_timeout(500)
    assert page.evaluate("() => document.querySelector('video').currentTime") > 0
    assert not page.errors


def test_what_is_no_video_is_told_beside_the_form(page, address):
    page.goto(address)
    photo = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": encoded()}
    page.set_input_files("#video", photo)
    page.click("#video-form button.primary")
    page.wait_for_selector("text=Expected a video as MP4")
    assert page.locator("#video-form").count() == 1
    assert fits(page)


def test_axe_finds_nothing_on_pages_of_videos(browser, address, face_film, long_film, tmp_path):
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(90_000)  # the machine may be busy
    send_video(page, address, face_film)
    page.wait_for_selector("video.player", timeout=240_000)
    found = {"done": complaints(page)}
    send_video(page, address, long_film)
    page.wait_for_selector("[data-show=share]:has-text('%')")
    found["work"] = complaints(page)
    page.click("text=Cancel and delete")
    page.wait_for_selector("text=nothing of it is kept")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(face_film.read_bytes()[:3000])
    send_video(page, address, broken)
    page.wait_for_selector("text=could not be used")
    found["failed"] = complaints(page)
    page.goto(f"{address}/mine")
    found["mine"] = complaints(page)
    context.close()
    assert found == dict.fromkeys(found, "")


def complaints(page) -> str:
    """Return what axe finds on a page, wide and narrow, light and dark; "" for nothing."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    reports = []
    for width, scheme in ((1280, "light"), (390, "dark")):
        page.set_viewport_size({"width": width, "height": 844})
        page.emulate_media(color_scheme=scheme)
        assert fits(page)
        result = axe.run(page)
        reports += [result.generate_report()] if result.violations_count else []
    return "\n".join(reports)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_nothing(browser, address, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(90_000)  # the machine may be busy
    files = [
        {"name": f"{seed}.jpg", "mimeType": "image/jpeg", "buffer": encoded(seed=seed)}
        for seed in range(2)
    ]
    page.goto(address)
    found = {"form": axe.run(page)}
    page.set_input_files("#photo", files)
    found["chosen"] = axe.run(page)
    page.click("button.primary")
    page.wait_for_url("**/sets/*")
    found["set"] = axe.run(page)
    assert fits(page)
    page.click(".tile a.cover")
    page.wait_for_url("**/results/*")
    found["result"] = axe.run(page)
    page.click("#face-1 >> text=Why?")
    page.wait_for_url("**/faces/1")
    found["face"] = axe.run(page)
    assert fits(page)
    for name in ("mine", "monitoring", "no-such-page"):
        page.goto(f"{address}/{name}")
        found[name] = axe.run(page)
    context.close()
    reports = {name: result.generate_report() for name, result in found.items()}
    assert {name: result.violations_count for name, result in found.items()} == dict.fromkeys(
        found, 0
    ), "\n".join(reports.values())
