"""The live camera: what a frame is answered with, and the page in a real browser.

The browser's camera is Chromium's fake one, fed with a film made of a photograph.
"""

import re

import numpy as np
import pytest
from web_support import StandInDetector, encoded, make_app, make_app_without_model, photo_form

from emotion.labels import EMOTIONS
from emotion.recognizer import Recognizer
from emotion.rows import results_to_dict

EYES_AND_MOUTH = ((0.40, 0.235), (0.485, 0.235), (0.44, 0.37))
"""Where they are in the film, as shares of its width and height."""

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


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


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


class Untouchable:
    """Stands where nothing may be read or written."""

    def __getattr__(self, name):
        raise AssertionError(f"{name} was asked for")


def test_a_frame_leaves_nothing_behind_and_is_refused_when_the_server_is_full(
    app, client, tmp_path
):
    services = app.extensions["emotion"]
    services.database = Untouchable()
    with services.gate.place("somebody"):
        reply = post_frame(client)
        assert reply.status_code == 503
        assert int(reply.headers["Retry-After"]) >= 1
    assert post_frame(client).status_code == 200
    assert files_in(tmp_path / "uploads") == []


# --- in a browser ---


@pytest.fixture(scope="module")
def shipped():
    return Recognizer.load()


@pytest.fixture(scope="module")
def address(tmp_path_factory, shipped, serve):
    """Serve the shipped model, with tokens asked for; return the address."""
    tokens = {"WTF_CSRF_ENABLED": True}
    folder = tmp_path_factory.mktemp("live")
    yield serve(make_app(folder, shipped.model, shipped.detector, flask_config=tokens, PORT=0))
    assert files_in(folder / "uploads") == []


@pytest.fixture(scope="module")
def crowded(tmp_path_factory, serve):
    """Serve a stand-in that finds a sure and, smaller, an unsure face; return the address."""
    detector = StandInDetector(((20, 90, 80, 80), (200, 150, 60, 60)))
    return serve(make_app(tmp_path_factory.mktemp("crowd"), detector=detector, PORT=0))


@pytest.fixture
def open_page(open_context, address):
    """Give a function that opens the page as it is wished and notes what it posts."""

    def open_page(width=1280, script=None, at=address, **options):
        page = open_context(width, **options)
        page.posts = []
        page.on("request", lambda sent: page.posts.append(sent) if sent.method == "POST" else None)
        if script:
            page.add_init_script(script)
        page.goto(f"{at}/live")
        return page

    return open_page


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


def test_the_face_before_the_camera_is_read(open_page):
    page = start(open_page(390))
    assert lies_over_the_face(box_in_stage(page), is_mirrored=True)
    assert re.search(r"happy >?\d+ ?%", page.text_content(".face-label"))
    assert page.inner_text("#verdict-words").startswith("Happy ")
    assert page.locator("#bars tr").count() == 7
    assert page.inner_text("#bars tr.first th").endswith("happy")
    bar = page.locator("#bars tr.first .fill").bounding_box()
    track = page.locator("#bars tr.first .track").bounding_box()
    assert bar["width"] > track["width"] / 2
    page.wait_for_function("/^[1-9]|^0\\.[1-9]/.test(document.getElementById('rate').textContent)")
    assert re.fullmatch(r"\d+ × \d+", page.inner_text("#frame"))
    assert page.text_content("#spoken") == "happy."
    assert not page.complaints


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


HIDE = """(hidden) => {
    Object.defineProperty(document, "hidden", {get: () => hidden, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def test_no_frame_is_sent_while_the_page_is_hidden_or_the_camera_is_off(open_page):
    page = start(open_page())
    page.evaluate(HIDE, True)
    assert page.inner_text("#state").startswith("Paused")
    sent = len(page.posts)
    page.wait_for_timeout(500)
    assert len(page.posts) == sent
    page.evaluate(HIDE, False)
    page.wait_for_selector(".face-label")
    page.evaluate("window.before = document.getElementById('video').srcObject.getTracks()[0]")
    page.click("text=Stop the camera")
    assert page.evaluate("window.before.readyState") == "ended"
    sent = len(page.posts)
    page.wait_for_timeout(500)
    assert len(page.posts) == sent
    assert page.locator(".face-label").count() == 0
    assert page.inner_text("#verdict-words") == "No face yet"
    start(page)
    assert len(page.posts) > sent


@pytest.mark.parametrize(("status", "words"), [(429, "busy"), (None, "be reached")])
def test_trouble_is_shown_and_passes(open_page, status, words):
    page = open_page()

    def refuse(route):
        if status is None:
            return route.abort()
        return route.fulfill(status=status, headers={"Retry-After": "1"}, body="no")

    page.route("**/live/frame", refuse)
    page.click("text=Start the camera")
    page.wait_for_selector(f".trouble:has-text('{words}')")
    assert page.inner_text("#verdict-words").startswith("No answer")
    refused = len(page.posts)
    page.wait_for_timeout(500)
    assert len(page.posts) <= refused + 1, "a page that is told to wait must wait"
    page.unroute("**/live/frame")
    page.wait_for_selector(".face-label")
    assert page.locator(".trouble").count() == 0
    assert page.inner_text("#state") == "The camera is on."


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


def test_bars_cover_no_face(open_page):
    page = open_page(390)
    page.route("**/live/frame", lambda route: route.fulfill(json=one_face(150, 100, 340)))
    start(page)
    page.wait_for_timeout(300)
    covered = """() => {
        const face = document.querySelector(".face-box").getBoundingClientRect();
        return [...document.querySelectorAll(".face-bars")].filter((bars) => {
            const {left, right, top, bottom} = bars.getBoundingClientRect();
            return left < face.right && right > face.left && top < face.bottom && bottom > face.top;
        }).length;
    }"""
    assert page.evaluate(covered) == 0


REFUSE = """name => navigator.mediaDevices.getUserMedia =
    () => Promise.reject(new DOMException('no', name))"""
REFUSALS = {
    "NotFoundError": "No camera was found",
    "NotReadableError": "in use by another program",
    "TypeError": "cannot be opened",
    "NotAllowedError": "may not be used",
}


@pytest.mark.parametrize(("width", "height"), [(1366, 768), (390, 844)])
def test_start_errors_and_state_are_seen_without_scrolling(open_page, axe, width, height):
    page = open_page(width, height=height)
    page.route("**/live/frame", lambda route: route.abort())
    assert lies_within(page, "#switch", height)
    page.click("#switch")
    page.wait_for_selector("#state.trouble")
    assert lies_within(page, "#state.trouble", height)
    assert lies_within(page, "#switch", height)
    page.click("#switch")
    sent = len(page.posts)
    for name, words in REFUSALS.items():
        page.evaluate(REFUSE, name)
        page.click("text=Start the camera")
        page.wait_for_selector(f"#live-problem:has-text('{words}')")
    assert lies_within(page, "#live-problem", height)
    assert lies_within(page, "#switch", height)
    assert page.locator("#live-problem a").get_attribute("href") == "/"
    assert len(page.posts) == sent
    assert axe(page) == ""


def lies_within(page, selector, height):
    """True if a part lies in the frame of the camera and can be seen."""
    part, frame = (page.locator(one).bounding_box() for one in (selector, ".live-frame"))
    lowest = min(height, frame["y"] + frame["height"])
    return frame["y"] <= part["y"] and part["y"] + part["height"] <= lowest


def test_a_token_that_is_not_known_any_more_is_renewed(open_page):
    page = start(open_page())
    page.context.clear_cookies()
    with page.expect_response(lambda reply: reply.status == 400):
        pass
    with page.expect_response(lambda reply: "/live/frame" in reply.url and reply.status == 200):
        pass
    assert page.is_hidden("#live-problem")


def test_an_address_that_is_not_secure_is_explained(open_page):
    page = open_page(
        script="Object.defineProperty(navigator, 'mediaDevices', {value: undefined});"
        "Object.defineProperty(window, 'isSecureContext', {value: false})"
    )
    assert "https" in page.inner_text("#live-problem")
    assert page.is_hidden("text=Start the camera")
    assert not page.complaints


def test_without_scripts_the_form_is_offered(open_page):
    page = open_page(java_script_enabled=False)
    assert "needs JavaScript" in page.inner_text("main")
    assert page.is_hidden("#live")
    page.click("noscript a")
    assert page.locator("input[type=file]").count() >= 1


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


def test_several_faces_are_labelled_and_nobody_is_kept_out(open_page, crowded, axe):
    page = open_page(360, at=crowded, color_scheme="dark")
    assert axe(page) == ""
    start(page)
    labels = page.locator(".face-label").all_text_contents()
    assert [label.split(" ", 1)[1] for label in labels] == ["happy 90%", "unsure: angry or fear"]
    assert "unsure: angry or fear" in page.inner_text("#others")
    dashes = page.locator(".face-box").evaluate_all(
        "boxes => boxes.map(box => box.hasAttribute('stroke-dasharray'))"
    )
    assert dashes == [False, True], "an unsure answer shows it by more than its colour"
    assert not page.complaints
    for width, scheme in ((360, "dark"), (1600, "light")):
        page.set_viewport_size({"width": width, "height": 844})
        page.emulate_media(color_scheme=scheme)
        assert sticks_out(page) == []
        assert axe(page) == ""
