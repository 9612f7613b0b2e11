from base64 import b64encode

import pytest
from web_support import StandInDetector, encoded, make_app

from emotion.labels import LABELS

BOXES = tuple((x, 10 + x // 8, 30, 30) for x in range(0, 125, 40))

TOKEN = "the operator's token"


@pytest.fixture(scope="module")
def address(tmp_path_factory, serve):
    settings = {"PORT": 0, "MONITORING": "on", "MAX_UPLOAD_MB": 1, "OPERATOR_TOKEN": TOKEN}
    settings["VIDEO_RATE_LIMIT"] = "1000 per minute"
    return serve(make_app(tmp_path_factory.mktemp("web"), None, StandInDetector(BOXES), **settings))


@pytest.fixture(params=[(1280, True), (390, False)], ids=str)
def page(request, open_context):
    width, has_scripts = request.param
    page = open_context(width, java_script_enabled=has_scripts)
    page.has_scripts = has_scripts
    return page


@pytest.fixture
def scripted(open_context, address):
    page = open_context()
    page.goto(address)
    return page


def files_of(**contents):
    return [
        {"name": f"{name}.jpg", "mimeType": "image/jpeg", "buffer": content}
        for name, content in contents.items()
    ]


def send(page, address):
    page.goto(address)
    page.set_input_files("#photo", files_of(a=encoded()))
    if not getattr(page, "has_scripts", True):
        page.click("button.primary")
    page.wait_for_url("**/results/*")


def test_upload_results_feedback_and_my_results(page, address, fits):
    send(page, address)
    assert page.inner_text("h1") == "4 faces found"
    assert page.locator("article.face tbody tr").count() == 4 * 7
    assert "Unsure: Angry or Afraid" in " ".join(page.inner_text("#face-2").split())
    crop, bar, track = (
        page.locator(f"#face-1 {part}").bounding_box()["width"]
        for part in (".crop", "tr.first .fill", "tr.first .track")
    )
    assert (crop >= 160, bar / track) == (True, pytest.approx(0.9, abs=0.02))
    assert fits(page)
    page.click(".photo a[data-face='2']")
    page.click("#face-2 >> text=Not right?")
    page.wait_for_url("**/faces/2#feedback")
    page.check("input[value=sad]")
    page.click("text=Send")
    page.wait_for_selector("text=You said: sad")
    while page.locator("text=You said: sad").bounding_box()["y"] > 844:
        page.wait_for_timeout(50)  # it scrolls there
    assert fits(page)
    page.click("text=Take it back")
    page.wait_for_selector(".feedback .notice", state="detached")
    page.goto(f"{address}/mine")
    assert page.locator("[name=chosen]").count() == 1
    assert fits(page)
    page.clock.install()
    page.click("text=Delete all")
    if not page.has_scripts:
        page.click("text=Delete for good >> visible=true")
    page.clock.fast_forward(10_000)
    page.wait_for_selector("text=Nothing is kept")
    assert not page.complaints


# Several photos


def drop(page, event="drop", **contents):
    page.evaluate(
        """([event, files]) => {
          const transfer = new DataTransfer();
          for (const [name, content] of files) {
            const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt());
            transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
          }
          const [dataTransfer, clipboardData] = [transfer, transfer];
          const about = { dataTransfer, clipboardData, bubbles: true, cancelable: true };
          const kind = event === "drop" ? DragEvent : ClipboardEvent;
          document.body.dispatchEvent(new kind(event, about));
        }""",
        [
            event,
            [(name.replace("_", "."), b64encode(each).decode()) for name, each in contents.items()],
        ],
    )


def test_photos_are_sent_one_by_one_and_bad_ones_keep_their_reasons(scripted, fits):
    page, sent, held = scripted, [], []

    def answer(route):
        sent.append(route)
        if len(sent) <= 2:
            held.append(route)
        else:
            route.continue_()

    page.route("**/api/v1/photos", answer)
    drop(page, one_jpg=encoded(seed=1), two_jpg=encoded(seed=2))
    drop(page, three_jpg=encoded(seed=3), bad_jpg=b"no photo")
    page.set_input_files("#photo", files_of(large=encoded() + bytes(2**20)))
    assert page.locator(".chosen li").count() == 5
    while len(held) < 2:
        page.wait_for_timeout(20)
    page.click("[aria-label='Remove two.jpg']")
    for route in held:
        route.fulfill(status=503, headers={"Retry-After": "1"}, json={"detail": "Busy."})
    page.wait_for_selector("text=See the other 2")
    assert len(sent) == 2 + 3, "what is too large is not sent"
    bad, large = page.locator(".chosen li.failed").all_inner_texts()
    assert ("none of them" in bad, "1 MB" in large) == (True, True)
    assert page.locator(".chosen li", has_text="4 faces").count() == 2
    page.click("[aria-label='Remove large.jpg']")
    page.click("text=See the other 2")
    page.wait_for_url("**/sets/*")
    assert page.inner_text("h1") == "3 photos, 8 faces"
    assert "bad.jpg" in page.locator(".tile:has(.unread)").inner_text()
    assert page.locator(".gallery img").count() == 2
    assert fits(page)


@pytest.mark.parametrize("moment", ["on its way", "read"])
def test_a_photo_removed_while_photos_are_sent_is_kept_nowhere(scripted, address, moment):
    page, held = scripted, []
    contents = {f"other {seed}": encoded(seed=seed) for seed in range(1, 4)}
    # the first one takes a while on its way
    chosen = files_of(first=encoded() + bytes(300_000), **contents)
    if moment == "on its way":
        slow_network(page, 100_000)
        page.set_input_files("#photo", chosen)
        page.wait_for_selector(".chosen progress[value]:not([value='0'])")
        with page.expect_event("requestfailed"):
            page.click("[aria-label='Remove first.jpg']")
        slow_network(page, -1)
    else:
        page.route("**/api/v1/photos", lambda route: held.append(route))
        page.set_input_files("#photo", chosen)
        while len(held) < 2:
            page.wait_for_timeout(20)
        held.pop(0).continue_()
        page.wait_for_selector(".chosen li:has-text('4 faces')")
        page.click("[aria-label='Remove first.jpg']")
        while page.url.strip("/") == address:
            while held:
                held.pop().continue_()
            page.wait_for_timeout(20)
    page.wait_for_url("**/sets/*")
    assert page.inner_text("h1") == "3 photos, 12 faces"
    assert page.locator(".tile h3").all_inner_texts() == [f"{name}.jpg" for name in contents]
    kept = page.request.get(f"{address}/api/v1/mine").json()["photos"]
    assert len({photo["position"] for photo in kept}) == len(kept) == 3


def slow_network(page, upload_bytes_per_s):
    conditions = {"offline": False, "latency": 0, "downloadThroughput": -1}
    page.context.new_cdp_session(page).send(
        "Network.emulateNetworkConditions", conditions | {"uploadThroughput": upload_bytes_per_s}
    )


SHOWN = """() => [...document.querySelectorAll("body *")].filter((element) => {
  element.hidden = true;
  return element instanceof HTMLElement && getComputedStyle(element).display !== "none";
}).length"""


def test_the_keyboard_alone_does_everything_and_what_is_hidden_is_not_shown(scripted, address):
    page, reached = scripted, set()
    send(page, address)
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => document.activeElement.textContent.trim().slice(0, 12)"))
    expected = {"To the conte", "Download pho", "Delete now", "Face 1"}
    assert expected <= {words.partition("\n")[0] for words in reached}
    page.clock.install()
    page.focus("text=Delete now")
    page.keyboard.press("Enter")
    page.clock.fast_forward(10_000)
    page.wait_for_selector("text=are deleted")
    for path in ("/", "/live", "/mine"):
        page.goto(address + path)
        assert page.evaluate(SHOWN) == 0, path


# Videos


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Return a video of two seconds with a face and with sound, and one that takes a while."""
    pytest.importorskip("av")
    from video_files import clicks, moving_faces, write_pictures

    folder, size = tmp_path_factory.mktemp("film"), (320, 240)
    short, long = folder / "film.mp4", folder / "long.mp4"
    write_pictures(short, moving_faces(20, size), sound=clicks(2.0, [1.0]))
    write_pictures(long, moving_faces(60, size) * 15)
    return short, long


PLAY = """async () => {
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


def test_a_dropped_video_is_watched_and_played(scripted, address, films, axe, fits):
    page = scripted
    page.goto(f"{address}/model")
    drop(page, film_mp4=films[0].read_bytes())
    page.wait_for_url("**/videos/*")
    page.wait_for_selector("video.player", timeout=240_000)
    assert page.inner_text("h1") == "1 face in your video"
    assert page.locator(".track-times tbody tr").count() == 1
    assert page.evaluate(PLAY) == [320, 240, 1.5, None]
    timeline, player = page.locator(".lanes"), page.locator("video.player")
    lane = timeline.locator(".lane svg").bounding_box()
    page.mouse.click(lane["x"] + lane["width"] / 2, lane["y"] + lane["height"] / 2)
    seconds = [player.evaluate("player => player.currentTime")]
    timeline.focus()
    for key in ("ArrowLeft", "ArrowRight", "Home", "End"):
        page.keyboard.press(key)
        seconds.append(player.evaluate("player => player.currentTime"))
    assert seconds == pytest.approx([1, 0, 1, 0, 2], abs=0.1)
    page.keyboard.press("Home")
    page.wait_for_function("document.querySelector('.lanes').ariaValueText.includes('Face 1 ')")
    assert timeline.get_attribute("aria-valuenow") == "0.0"
    assert page.inner_text(".lane .now").split()[0] in (*LABELS.values(), "unsure:", "not")
    for width, scheme in ((1280, "light"), (390, "dark")):
        page.set_viewport_size({"width": width, "height": 844})
        page.emulate_media(color_scheme=scheme)
        assert (fits(page), axe(page)) == (True, "")
    page.goto(f"{address}/mine")
    assert axe(page) == ""
    page.click(".library >> text=Video")
    page.wait_for_selector("video.player")
    page.click("text=Delete now")
    page.wait_for_selector("text=nothing of it is kept")
    assert not page.complaints


def test_progress_is_shown_and_work_is_cancelled(page, address, films, axe, fits, tmp_path):
    def send_video(path):
        page.goto(address)
        page.set_input_files("#photo" if page.has_scripts else "#video", path)
        if not page.has_scripts:
            page.click("#video-form button.primary")
        page.wait_for_url("**/videos/*")

    send_video(films[1])
    page.wait_for_selector("[data-show=share]:has-text('%')")
    assert 0 < float(page.locator("progress").get_attribute("value")) < 1
    assert page.inner_text("[data-show=position]").endswith("of 1:30")
    assert fits(page)
    work, found = page.url, [axe(page)] if page.has_scripts else []
    page.click("text=Cancel and delete")
    page.wait_for_selector("text=nothing of it is kept")
    assert page.goto(work).status == 404
    if page.has_scripts:
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(films[0].read_bytes()[:3000])
        send_video(broken)
        page.wait_for_selector("text=could not be used")
        assert [*found, axe(page)] == ["", ""]


SHIFT = """() => new Promise((resolve) => {
  let sum = 0;
  new PerformanceObserver((list) => { for (const { value } of list.getEntries()) sum += value; })
    .observe({ type: "layout-shift", buffered: true });
  setTimeout(() => resolve(sum), 200);
})"""


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (320, "dark")])
def test_axe_finds_nothing_and_pages_fit_and_stay(open_context, address, axe, fits, width, scheme):
    sign_in = {"username": "any", "password": TOKEN}
    page = open_context(width, color_scheme=scheme, http_credentials=sign_in)
    page.goto(address)
    found = {"form": axe(page)}
    page.route("**/api/v1/photos", lambda route: None)
    page.set_input_files("#photo", files_of(a=encoded(seed=1), b=encoded(seed=2)))
    found["chosen"] = axe(page)
    page.unroute("**/api/v1/photos")  # those go on
    for place, link in (("sets/*", ".tile a.cover"), ("results/*", "#face-1 >> text=Why?")):
        page.wait_for_url(f"**/{place}")
        assert (page.evaluate(SHIFT), fits(page)) == (0, True), place
        found[place] = axe(page)
        page.click(link)
    page.wait_for_url("**/faces/1")
    found["face"] = axe(page)
    assert fits(page)
    page.check("input[value=sad]")
    page.check("input[name=keep]")
    page.click("text=Send")
    page.wait_for_selector("text=You said: sad")
    for name in ("mine", "monitoring", "operator/feedback", "no-such-page"):
        page.goto(f"{address}/{name}")
        found[name] = axe(page)
        assert name == "monitoring" or fits(page)  # its tables can be moved
    assert found == dict.fromkeys(found, "")
