"""The live camera: what a frame is answered with, and the page in a real browser.

The browser's camera is Chromium's fake one, fed with a film made of a photograph.
"""

import dataclasses
import re
import shutil
import threading
import time

import cv2
import numpy as np
import pytest
from skimage.data import astronaut
from web_support import StandInDetector, encoded, make_app, make_app_without_model, photo_form

from app import open_server
from emotion.faces import Face, short_verdict
from emotion.labels import EMOTIONS
from emotion.recognizer import Recognizer
from emotion.rows import results_to_dict
from emotion.text import percent
from emotion.web.photos.live import words_for_script

EYES_AND_MOUTH = ((0.40, 0.235), (0.485, 0.235), (0.44, 0.37))
"""Where they are in the film, as shares of its width and height."""

SHOULD_BE = {
    "NotAllowedError": "may not be used",
    "NotFoundError": "No camera was found",
    "NotReadableError": "in use by another program",
    "TypeError": "cannot be opened",
}


# --- one frame ---


@pytest.fixture
def app(tmp_path):
    return make_app(tmp_path, MAX_IN_HAND=1)


@pytest.fixture
def client(app):
    return app.test_client()


def post_frame(client, content=None, **options):
    options = {"content_type": "image/jpeg", **options}
    return client.post("/live/frame", data=encoded() if content is None else content, **options)


@pytest.mark.parametrize("as_form", [False, True])
def test_a_frame_is_answered_with_the_results_alone(app, client, as_form):
    reply = client.post("/live/frame", data=photo_form()) if as_form else post_frame(client)
    recognizer = app.extensions["emotion"].recognizer
    faces = recognizer.recognize(np.zeros((120, 160, 3), np.uint8))
    expected = results_to_dict(faces, (160, 120), "stand_in", recognizer.model.sha256)
    for face in expected["faces"]:
        face["notes"] = []
    received = reply.json
    for face in received["faces"]:
        face["notes"] = []
    assert (reply.status_code, received) == (200, expected)
    assert reply.headers["Cache-Control"] == "no-store"
    assert re.fullmatch(r"read;dur=\d+\.\d", reply.headers["Server-Timing"])


class Untouchable:
    """Stands where nothing may be read or written."""

    def __getattr__(self, name):
        raise AssertionError(f"{name} was asked for")


def test_a_frame_leaves_nothing_behind(app, client, tmp_path):
    services = app.extensions["emotion"]
    app.extensions["emotion"] = dataclasses.replace(services, database=Untouchable())
    assert post_frame(client).status_code == 200
    assert files_in(tmp_path / "uploads") == []


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


def test_a_full_house_is_said_at_once_and_passes(app, client):
    with app.extensions["emotion"].gate.place("somebody"):
        reply = post_frame(client)
        assert reply.status_code == 503
        assert int(reply.headers["Retry-After"]) >= 1
    assert post_frame(client).status_code == 200


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"no picture at all", 415),
        (encoded()[:200], 422),
        (encoded(width=2000, height=1200), 422),
        (b"\xff\xd8\xff" + bytes(2**21), 413),
    ],
    ids=["empty", "text", "half", "large", "heavy"],
)
def test_what_is_no_frame_is_refused(client, content, status):
    assert post_frame(client, content).status_code == status


def test_a_frame_needs_the_token_of_the_page(tmp_path):
    client = make_app(tmp_path, flask_config={"WTF_CSRF_ENABLED": True}).test_client()
    token = re.search(r'data-token="([^"]+)"', client.get("/live").text)[1]
    assert post_frame(client).status_code == 400
    assert post_frame(client, headers={"X-CSRFToken": token}).status_code == 200


def test_without_a_model_the_page_says_so(tmp_path):
    client = make_app_without_model(tmp_path).test_client()
    page = client.get("/live")
    assert (page.status_code, "Not ready" in page.text) == (503, True)
    assert "live.js" not in page.text
    assert post_frame(client).status_code == 503


# --- in a browser ---

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--use-fake-ui-for-media-stream --use-fake-device-for-media-stream"
).split()
PATIENCE_MS = 60_000


def write_film(path):
    """Write a film of the astronaut's upper half, 640x480, as Chromium reads it (YUV4MPEG2)."""
    picture = cv2.resize(astronaut()[:384], (640, 480), interpolation=cv2.INTER_AREA)
    frame = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420).tobytes()
    header = b"YUV4MPEG2 W640 H480 F15:1 Ip A1:1 C420\n"
    path.write_bytes(header + 2 * (b"FRAME\n" + frame))
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    film = write_film(tmp_path_factory.mktemp("film") / "astronaut.y4m")
    with sync_api.sync_playwright() as playwright:
        flags = [*FLAGS, f"--use-file-for-fake-video-capture={film}"]
        browser = playwright.chromium.launch(executable_path=BROWSER, args=flags)
        yield browser
        browser.close()


def serve(app):
    """Serve an app; return its address and the server to close."""
    server = open_server(app, app.extensions["emotion"].settings)
    threading.Thread(target=server.run, daemon=True).start()
    return f"http://127.0.0.1:{server.effective_port}", server


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("live")


@pytest.fixture(scope="module")
def shipped():
    return Recognizer.load()


@pytest.fixture(scope="module")
def address(folder, shipped):
    """Serve the shipped model, with tokens asked for; return the address."""
    tokens = {"WTF_CSRF_ENABLED": True}
    app = make_app(folder, shipped.model, shipped.detector, flask_config=tokens, PORT=0)
    address, server = serve(app)
    yield address
    server.close()


@pytest.fixture
def open_page(browser, address):
    """Give a function that opens the page as it is wished; complaints of the page are collected."""
    contexts = []

    def open_page(width=1280, script=None, at=address, height=844, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.complaints, page.posts = [], []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("request", lambda sent: page.posts.append(sent) if sent.method == "POST" else None)
        if script:
            page.add_init_script(script)
        page.goto(f"{at}/live")
        return page

    yield open_page
    for context in contexts:
        context.close()


def start(page):
    page.click("text=Start the camera")
    page.wait_for_selector(".face-label")
    return page


def box_in_stage(page):
    """Return left, top, right and bottom of the first box as shares of the stage."""
    return page.evaluate(
        """() => {
            const all = document.getElementById("stage").getBoundingClientRect();
            const box = document.querySelector(".face-box").getBoundingClientRect();
            return [(box.left - all.left) / all.width, (box.top - all.top) / all.height,
                    (box.right - all.left) / all.width, (box.bottom - all.top) / all.height];
        }"""
    )


def lies_over_the_face(box, is_mirrored):
    left, top, right, bottom = box
    parts = [(1 - x if is_mirrored else x, y) for x, y in EYES_AND_MOUTH]
    holds_them = all(left < x < right and top < y < bottom for x, y in parts)
    return holds_them and right - left < 0.3 and bottom - top < 0.4


@needs_browser
def test_the_face_before_the_camera_is_read(open_page, folder):
    page = start(open_page(390))
    assert lies_over_the_face(box_in_stage(page), is_mirrored=True)
    assert re.search(r"happy >?\d+ ?%", page.text_content(".face-label"))
    assert page.inner_text("#verdict-words").startswith("Happy ")
    assert page.locator("#bars tr").count() == 7
    assert page.inner_text("#bars tr.first th").endswith("happy")
    bar = page.locator("#bars tr.first .fill").bounding_box()
    track = page.locator("#bars tr.first .track").bounding_box()
    assert bar["width"] > track["width"] / 2
    some = re.compile(r"^(?!0\.0)\d+\.\d per second$")
    sync_api.expect(page.locator("#rate")).to_have_text(some, timeout=PATIENCE_MS)
    assert re.fullmatch(r"\d+ × \d+", page.inner_text("#frame"))
    assert page.text_content("#spoken") == "happy."
    assert files_in(folder / "uploads") == []
    assert not page.complaints


@needs_browser
def test_the_mirror_turns_picture_and_boxes_together(open_page):
    page = start(open_page())
    video = "getComputedStyle(document.getElementById('video')).transform"
    assert page.evaluate(video) == "matrix(-1, 0, 0, 1, 0, 0)"
    page.click("text=Mirror the picture")
    page.wait_for_selector(".face-label")
    assert page.evaluate(video) == "none"
    assert lies_over_the_face(box_in_stage(page), is_mirrored=False)
    # and it is remembered
    page.reload()
    assert not page.is_checked("#mirror")


@needs_browser
def test_stop_ends_the_requests_and_the_camera(open_page):
    page = start(open_page())
    page.evaluate("window.before = document.getElementById('video').srcObject.getTracks()[0]")
    page.click("text=Stop the camera")
    assert page.evaluate("window.before.readyState") == "ended"
    sent = len(page.posts)
    page.wait_for_timeout(1000)
    assert len(page.posts) == sent
    assert page.locator(".face-label").count() == 0
    assert page.inner_text("#verdict-words") == "No face yet"
    start(page)
    assert len(page.posts) > sent


HIDE = """(hidden) => {
    Object.defineProperty(document, "hidden", {get: () => hidden, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


@needs_browser
def test_a_page_that_is_not_in_front_pauses(open_page):
    page = start(open_page())
    page.evaluate(HIDE, True)
    assert page.inner_text("#state").startswith("Paused")
    sent = len(page.posts)
    page.wait_for_timeout(1000)
    assert len(page.posts) == sent
    page.evaluate(HIDE, False)
    page.wait_for_selector(".face-label")
    assert page.inner_text("#state") == "The camera is on."


@needs_browser
@pytest.mark.parametrize(
    ("status", "words"), [(429, "busy"), (500, "error (500)"), (None, "be reached")]
)
def test_trouble_is_said_and_passes(open_page, status, words):
    page = open_page()

    def refuse(route):
        if status is None:
            return route.abort()
        return route.fulfill(status=status, headers={"Retry-After": "1"}, body="no")

    page.route("**/live/frame", refuse)
    page.click("text=Start the camera")
    page.wait_for_selector(f".trouble:has-text('{words}')")
    assert page.inner_text("#verdict-words") == "No answer from the server"
    refused = len(page.posts)
    page.wait_for_timeout(500)
    assert len(page.posts) <= refused + 1, "a page that is told to wait must wait"
    page.unroute("**/live/frame")
    page.wait_for_selector(".face-label")
    assert page.locator(".trouble").count() == 0
    assert page.inner_text("#state") == "The camera is on."


@needs_browser
def test_a_server_that_says_nothing_is_not_taken_for_an_empty_room(open_page):
    page = start(open_page())
    page.route("**/live/frame", lambda route: None)
    page.wait_for_selector("#verdict-words:has-text('No answer')")
    assert page.locator(".face-label").count() == 0


def one_face(x, y, side, width=640, height=480):
    """Return what the server answers to a frame with one face."""
    box = {"x": x, "y": y, "width": side, "height": side}
    face = {"box": box, "notes": [], "probabilities": dict.fromkeys(EMOTIONS, 1 / 7)}
    return {"image": {"width": width, "height": height}, "faces": [face]}


@needs_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_bars_cover_no_face(open_page, width):
    page = open_page(width)
    page.route("**/live/frame", lambda route: route.fulfill(json=one_face(150, 100, 340)))
    start(page)
    page.wait_for_timeout(500)
    covered = """() => {
        const face = document.querySelector(".face-box").getBoundingClientRect();
        return [...document.querySelectorAll(".face-bars")].filter((bars) => {
            const {left, right, top, bottom} = bars.getBoundingClientRect();
            return left < face.right && right > face.left && top < face.bottom && bottom > face.top;
        }).length;
    }"""
    assert page.evaluate(covered) == 0


@needs_browser
def test_frames_that_are_sent_smaller_are_told_of(open_page):
    page = open_page()

    def answer_late(route):
        time.sleep(0.4)
        route.fulfill(json=one_face(100, 100, 100, width=480, height=360))

    page.route("**/live/frame", answer_late)
    start(page)
    page.wait_for_selector("#state:has-text('480 × 360')")


REFUSED = """navigator.mediaDevices.getUserMedia =
    () => Promise.reject(new DOMException('', 'NotAllowedError'))"""


@needs_browser
@pytest.mark.parametrize("size", [(1366, 768), (1280, 800), (1536, 730), (390, 844)], ids=str)
def test_start_errors_and_state_are_seen_without_scrolling(open_page, size):
    width, height = size
    for script, shown in ((REFUSED, "#live-problem"), (None, "#state.trouble")):
        page = open_page(width, script, height=height)
        page.route("**/live/frame", lambda route: route.abort())
        assert lies_within(page, "#switch", height)
        page.click("#switch")
        page.wait_for_selector(shown)
        assert lies_within(page, shown, height)
        assert lies_within(page, "#switch", height)


def lies_within(page, selector, height):
    """Tell whether a part lies in the frame of the camera and can be seen."""
    part, frame = (page.locator(one).bounding_box() for one in (selector, ".live-frame"))
    lowest = min(height, frame["y"] + frame["height"])
    return frame["y"] <= part["y"] and part["y"] + part["height"] <= lowest


@needs_browser
def test_a_token_that_is_not_known_any_more_is_renewed(open_page):
    page = start(open_page())
    page.context.clear_cookies()
    with page.expect_response(lambda reply: reply.status == 400):
        pass
    with page.expect_response(lambda reply: "/live/frame" in reply.url and reply.status == 200):
        pass
    assert page.is_hidden("#live-problem")


@needs_browser
@pytest.mark.parametrize("name", SHOULD_BE)
def test_a_camera_that_cannot_be_had_is_explained(open_page, name):
    page = open_page(
        script="navigator.mediaDevices.getUserMedia = () =>"
        f" Promise.reject(new DOMException('no', '{name}'))"
    )
    page.click("text=Start the camera")
    page.wait_for_selector("#live-problem")
    assert SHOULD_BE[name] in page.inner_text("#live-problem")
    assert page.locator("#live-problem a").get_attribute("href") == "/"
    assert page.is_visible("text=Start the camera")
    assert not page.posts


@needs_browser
def test_an_address_that_is_not_secure_is_explained(open_page):
    page = open_page(
        script="Object.defineProperty(navigator, 'mediaDevices', {value: undefined});"
        "Object.defineProperty(window, 'isSecureContext', {value: false})"
    )
    assert "https" in page.inner_text("#live-problem")
    assert page.is_hidden("text=Start the camera")
    assert not page.complaints


@needs_browser
def test_without_scripts_the_form_is_offered(open_page):
    page = open_page(java_script_enabled=False)
    assert "needs JavaScript" in page.inner_text("main")
    assert page.is_hidden("#live")
    page.click("noscript a")
    assert page.locator("input[type=file]").count() >= 1


LISTEN = """() => {
    const devices = navigator.mediaDevices, get = devices.getUserMedia;
    window.asked = [];
    devices.getUserMedia = (wish) => { window.asked.push(wish); return get.call(devices, wish); };
}"""


@needs_browser
def test_the_chosen_camera_is_remembered(open_page):
    page = start(open_page())
    chosen = page.input_value("#camera")
    page.select_option("#camera", chosen)
    page.reload()
    page.evaluate(LISTEN)
    start(page)
    assert page.evaluate("window.asked[0].video.deviceId.exact") == chosen


@needs_browser
def test_the_keyboard_does_everything(open_page):
    page = open_page()
    page.focus("#switch")
    page.keyboard.press("Enter")
    page.wait_for_selector(".face-label")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert not page.is_checked("#mirror")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "camera"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")
    assert page.inner_text("#switch") == "Start the camera"


@pytest.fixture(scope="module")
def crowded(tmp_path_factory):
    """Serve a stand-in that finds a sure and, smaller, an unsure face; return the address."""
    detector = StandInDetector(((20, 90, 80, 80), (200, 150, 60, 60)))
    folder = tmp_path_factory.mktemp("crowd")
    address, server = serve(make_app(folder, detector=detector, PORT=0))
    yield address
    server.close()


@needs_browser
def test_several_faces_are_labelled_in_the_words_of_the_results(open_page, crowded):
    page = start(open_page(at=crowded))
    labels = page.locator(".face-label").all_text_contents()
    assert [label.split(" ", 1)[1] for label in labels] == ["happy 90%", "unsure: angry or fear"]
    assert "unsure: angry or fear" in page.inner_text("#others")
    dashes = page.locator(".face-box").evaluate_all(
        "boxes => boxes.map(box => box.hasAttribute('stroke-dasharray'))"
    )
    assert dashes == [False, True], "an unsure answer shows it by more than its colour"
    assert not page.complaints


def sticks_out(page):
    """Return what is wider than the page, measured from outside its scripts."""
    width = page.viewport_size["width"]
    elements = page.query_selector_all("main *:not(.unseen *):not(svg *)")
    boxes = [(element, element.bounding_box()) for element in elements]
    return [
        element.evaluate("it => it.outerHTML.slice(0, 80)")
        for element, box in boxes
        if box and box["x"] + box["width"] > width + 0.5
    ]


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1600, "light")])
def test_nobody_is_kept_out(open_page, crowded, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page(width, at=crowded, color_scheme=scheme)
    assert axe.run(page).generate_snapshot() == ""
    start(page)
    assert sticks_out(page) == []
    assert axe.run(page).generate_snapshot() == ""


@needs_browser
def test_nobody_is_kept_out_of_what_is_explained(open_page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page(
        390, "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'x'))"
    )
    page.click("text=Start the camera")
    page.wait_for_selector("#live-problem")
    assert axe.run(page).generate_snapshot() == ""


# --- the parts of the script that reckon ---


@pytest.fixture(scope="module")
def reckon(browser, address):
    """Give a function that runs a function of JavaScript with what a script of ours exports."""
    page = browser.new_page()
    page.goto(f"{address}/live")

    def reckon(script, function, *arguments):
        run = f"async (all) => ({function})(await import('/static/{script}'), ...all)"
        return page.evaluate(run, arguments)

    yield reckon
    page.close()


@needs_browser
@pytest.mark.parametrize(
    "row",
    [
        (0.02, 0.01, 0.02, 0.9, 0.03, 0.01, 0.01),
        (0.41, 0.01, 0.38, 0.05, 0.05, 0.05, 0.05),
        (0.3, 0.0, 0.28, 0.05, 0.06, 0.05, 0.26),
        (0.25, 0.0, 0.25, 0.25, 0.0, 0.25, 0.0),
        (0.45, 0.1, 0.1, 0.1, 0.1, 0.1, 0.05),
        (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    ],
)
def test_the_script_puts_answers_as_the_program_does(reckon, shipped, row):
    probabilities = dict(zip(EMOTIONS, row, strict=True))
    face = Face((0, 0, 9, 9), 1.0, probabilities, sure=shipped.thresholds.met_by(row))
    function = """({read, percent}, probabilities, words) =>
        [read({probabilities}, words).words, percent(Math.max(...Object.values(probabilities)))]"""
    received = reckon("live_faces.js", function, probabilities, words_for_script(shipped))
    assert received == [short_verdict(face), percent(max(row))]


FOLLOW = """({Tracks}, answers, stepMs) => {
    const tracks = new Tracks();
    return answers.map((faces, index) => {
        const told = faces.map(([x, happy]) => ({
            box: {x, y: 10, width: 20, height: 20}, notes: [],
            probabilities: {happy, sad: 1 - happy},
        }));
        tracks.update({image: {width: 200, height: 100}, faces: told}, 1000 + index * stepMs);
        return tracks.list.map((track) => [track.box[0] * 200, track.probabilities.happy]);
    });
}"""


@needs_browser
def test_an_answer_that_flickers_is_averaged_and_the_box_keeps_up(reckon):
    answers = [[[10 + 2 * index, 0.9 if index % 3 else 0.2]] for index in range(30)]
    shown = reckon("live_faces.js", FOLLOW, answers, 100)
    happy = [faces[0][1] for faces in shown[10:]]
    assert max(happy) - min(happy) < 0.25
    assert np.mean(happy) == pytest.approx((0.9 + 0.9 + 0.2) / 3, abs=0.05)
    assert abs(shown[-1][0][0] - answers[-1][0][0]) < 2


@needs_browser
def test_faces_keep_their_own_answers(reckon):
    calm, glad = [10, 0.0], [100, 1.0]
    shown = reckon("live_faces.js", FOLLOW, [[calm, glad], [glad, calm], [calm], [calm], []], 100)
    assert shown[1] == [calm, glad]
    assert shown[2] == [calm, glad], "a face that is missed once stays"
    assert shown[3] == [calm]


PACE = """({Pace}, answers) => {
    const pace = new Pace();
    for (const [times, roundTripMs, serverMs] of answers)
        for (let time = 0; time < times; time += 1) pace.answered(roundTripMs, serverMs, time);
    return [pace.frame.side, pace.mostUnderway, pace.isReduced];
}"""


@needs_browser
@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([(4, 900, 800)], (640, 1, False)),
        ([(5, 900, 800), (5, 500, 400)], (320, 1, True)),
        ([(2, 4000, 3900)], (480, 1, True)),
        ([(40, 50, 40)], (960, 1, False)),
        ([(40, 50, 40), (5, 900, 800)], (640, 1, True)),
        # a long way makes all sizes slow: smaller ones would be a loss
        ([(60, 600, 30)], (640, 2, False)),
    ],
    ids=["at first", "slow", "very slow", "fast", "fast, then slow", "far"],
)
def test_the_size_of_frames_follows_the_server(reckon, answers, expected):
    assert reckon("live_pace.js", PACE, answers) == list(expected)


@needs_browser
def test_who_is_refused_comes_back_later_each_time_and_less_often(reckon):
    function = """({Pace}) => {
        const pace = new Pace();
        const waits = [1, 2, 3, 4].map(() => pace.refused(2));
        const slow = pace.intervalMs;
        for (let time = 0; time < 100; time += 1) pace.answered(50, 40, time);
        return [waits, slow, pace.intervalMs];
    }"""
    waits, slow_ms, fast_ms = reckon("live_pace.js", function)
    assert all(2000 * 2**times <= wait <= 2500 * 2**times for times, wait in enumerate(waits))
    assert slow_ms > 10 * fast_ms
