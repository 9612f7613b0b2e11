"""The live camera, in a real browser whose camera is a film made of a photograph."""

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from web_support import CLOSE, HAPPY, StandInDetector, make_app, wait_until

from emotion.faces import Face, short_verdict
from emotion.labels import EMOTIONS, color_rgb, with_labels
from emotion.recognizer import Recognizer
from emotion.text import percent
from emotion.web.photos.live import words_for_script

EYES_AND_MOUTH = ((0.40, 0.235), (0.485, 0.235), (0.44, 0.37))  # in the film, as shares of it


@pytest.fixture(scope="module")
def address(tmp_path_factory, serve):
    """Serve the shipped model, with tokens asked for; return the address."""
    shipped = Recognizer.load()
    tokens, folder = {"WTF_CSRF_ENABLED": True}, tmp_path_factory.mktemp("live")
    yield serve(make_app(folder, shipped.model, shipped.detector, flask_config=tokens, PORT=0))
    assert not any((folder / "uploads").glob("*"))


@pytest.fixture
def open_page(open_context, address):
    def open_page(width=1280, script="", at=address, **options):
        page = open_context(width, **options)
        page.posts = []
        page.on("request", lambda sent: page.posts.append(sent) if sent.method == "POST" else None)
        page.add_init_script(script)
        page.goto(f"{at}/live")
        return page

    return open_page


def start(page):
    page.click("text=Start the camera")
    page.wait_for_selector(".face-label")
    return page


# measured in one step: the boxes are drawn anew all the time
OVER = """() => {
    const all = document.getElementById("stage").getBoundingClientRect();
    const box = document.querySelector(".face-box").getBoundingClientRect();
    return [(box.left - all.left) / all.width, (box.top - all.top) / all.height,
            (box.right - all.left) / all.width, (box.bottom - all.top) / all.height];
}"""


def lies_over_the_face(page, is_mirrored):
    """True if the first box holds eyes and mouth and not much more."""
    left, top, right, bottom = page.evaluate(OVER)
    parts = [(1 - x if is_mirrored else x, y) for x, y in EYES_AND_MOUTH]
    holds_them = all(left < x < right and top < y < bottom for x, y in parts)
    return holds_them and right - left < 0.3 and bottom - top < 0.4


def test_the_face_is_read_and_the_keyboard_turns_the_mirror_and_stops(open_page):
    page = open_page(390)
    page.focus("#switch")
    page.keyboard.press("Enter")
    page.wait_for_selector(".face-label")
    assert lies_over_the_face(page, is_mirrored=True)
    assert re.search(r"Happy >?\d+ ?%", page.text_content(".face-label"))
    assert page.inner_text(".verdict-words").startswith("Happy ")
    assert page.locator(".bars tr").count() == 7
    page.wait_for_selector(r"#rate >> text=/^[1-9]|^0\.[1-9]/")
    assert re.fullmatch(r"\d+ × \d+", page.inner_text("#frame"))
    assert page.text_content("#spoken") == "Happy."
    assert page.is_hidden("#flip"), "there is one camera"
    video = "getComputedStyle(document.getElementById('video')).transform"
    assert page.evaluate(video) == "matrix(-1, 0, 0, 1, 0, 0)"
    page.focus("#mirror")
    page.keyboard.press("Space")
    assert page.evaluate(video) == "none"
    page.focus("#stop")
    page.keyboard.press("Space")
    assert page.inner_text(":focus") == "Start the camera"
    assert not page.complaints
    page.reload()
    assert not page.is_checked("#mirror"), "the mirror is remembered"


HIDE = """(hidden) => {
    Object.defineProperty(document, "hidden", {get: () => hidden, configurable: true});
    document.dispatchEvent(new Event("visibilitychange"));
}"""


def sends_nothing(page):
    sent = len(page.posts)
    page.wait_for_timeout(500)
    return len(page.posts) == sent


def test_no_frame_is_sent_while_the_page_is_hidden_or_the_camera_is_off(open_page):
    page = start(open_page())
    page.evaluate(HIDE, True)
    assert page.inner_text("#state").startswith("Paused")
    assert sends_nothing(page)
    page.evaluate(HIDE, False)
    page.wait_for_selector(".face-label")
    page.evaluate("window.before = document.getElementById('video').srcObject.getTracks()[0]")
    page.click("text=Stop")
    assert page.evaluate("window.before.readyState") == "ended"
    assert sends_nothing(page)
    assert page.locator(".face-label").count() == 0
    assert page.inner_text("#nobody") == "No face yet"
    start(page)


TWO_CAMERAS = """
const {getUserMedia} = MediaDevices.prototype;
window.asked = [];
MediaDevices.prototype.getUserMedia = function ({video}) {
    window.asked.push(video.deviceId?.exact ?? video.facingMode);
    return getUserMedia.call(this, {video: true});
};
MediaDevices.prototype.enumerateDevices = async () =>
    ["one", "other"].map((deviceId) => ({kind: "videoinput", deviceId}));"""


def test_keys_freeze_save_mirror_and_fill_the_screen_and_cameras_flip(open_page):
    page = open_page(script=TWO_CAMERAS)
    page.keyboard.press("Space")
    page.wait_for_selector(".face-label")
    page.keyboard.press("Space")
    assert page.inner_text("#switch") == "Go on"
    wait_until(lambda: sends_nothing(page))  # the frozen picture itself is read
    assert lies_over_the_face(page, is_mirrored=True)
    with page.expect_download() as saved:
        page.keyboard.press("s")
    with Image.open(saved.value.path()) as picture:
        assert (picture.format, picture.size) == ("JPEG", (640, 480))
        # the box is drawn in it: happy is yellow
        colors = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    assert (abs(colors - color_rgb("happy", EMOTIONS)).max(axis=1) < 12).sum() > 200
    page.keyboard.press("f")
    page.wait_for_function("document.fullscreenElement")
    page.keyboard.press("f")
    page.keyboard.press("m")
    assert lies_over_the_face(page, is_mirrored=False)
    page.uncheck("#keys")
    page.keyboard.press("m")
    assert not page.is_checked("#mirror")
    page.click("text=Go on")
    assert not sends_nothing(page)
    page.click("text=Flip camera")
    page.wait_for_selector(".face-label")
    assert page.evaluate("window.asked") == ["user", "one"]
    assert not page.complaints


@pytest.mark.parametrize(("status", "words"), [(429, "address"), (503, "busy"), (None, "reached")])
def test_trouble_is_shown_and_passes(open_page, status, words):
    page, retry = open_page(), {"Retry-After": "1"}

    def refuse(route):
        return route.fulfill(status=status, headers=retry, body="no") if status else route.abort()

    page.route("**/live/frame", refuse)
    page.click("text=Start the camera")
    page.wait_for_selector(f".trouble:has-text('{words}')")
    assert page.inner_text("#nobody").startswith("No answer")
    assert re.search(r"\d+ s", page.inner_text("#retry"))
    refused = len(page.posts)
    page.wait_for_timeout(500)
    assert len(page.posts) <= refused + 1, "a page that is told to wait must wait"
    page.unroute("**/live/frame")
    page.wait_for_selector(".face-label")
    assert page.locator(".trouble").count() == 0
    if status:
        return
    # a server that says nothing is not taken for an empty room
    page.route("**/live/frame", lambda route: None)
    page.wait_for_selector("#nobody:has-text('No answer')")
    assert page.locator(".face-label").count() == 0


REFUSE = """name => navigator.mediaDevices.getUserMedia =
    () => Promise.reject(new DOMException('no', name))"""
REFUSALS = {
    "NotFoundError": "No camera",
    "NotReadableError": "in use",
    "TypeError": "cannot be opened",
    "NotAllowedError": "may not be used",
}


@pytest.mark.parametrize(("width", "height"), [(1366, 730), (390, 844)])
def test_start_errors_and_state_are_seen_without_scrolling(open_page, axe, width, height):
    page = open_page(width, height=height)

    def is_seen(selector):
        part, frame = (page.locator(one).bounding_box() for one in (selector, ".live-frame"))
        lowest = min(height, frame["y"] + frame["height"])
        return frame["y"] <= part["y"] and part["y"] + part["height"] <= lowest

    page.route("**/live/frame", lambda route: route.abort())
    assert is_seen("#switch")
    page.click("#switch")
    page.wait_for_selector("#state.trouble")
    assert [is_seen(one) for one in ("#state.trouble", "#retry", "#stop")] == [True] * 3
    page.click("#stop")
    for name, words in REFUSALS.items():
        page.evaluate(REFUSE, name)
        page.click("text=Start the camera")
        page.wait_for_selector(f"#live-problem:has-text('{words}')")
    assert [is_seen(one) for one in ("#live-problem", "#switch")] == [True, True]
    assert page.locator("#live-problem a").get_attribute("href") == "/"
    assert axe(page) == ""


def test_a_token_that_is_not_known_any_more_is_renewed(open_page, address):
    page = start(open_page())
    assert page.request.post(f"{address}/live/frame", data=b"").status == 400, "without a token"
    statuses = []
    page.on("response", lambda reply: statuses.append(reply.status))
    # again and again, as the reply to a frame on its way may bring the cookie back
    wait_until(lambda: page.context.clear_cookies() or 400 in statuses)
    with page.expect_response(lambda reply: "/live/frame" in reply.url and reply.status == 200):
        pass
    assert page.is_hidden("#live-problem")


WITHOUT_CAMERA = """Object.defineProperty(navigator, 'mediaDevices', {value: undefined});
    Object.defineProperty(window, 'isSecureContext', {value: false})"""


def test_where_there_can_be_no_camera_the_page_says_why(open_page):
    page = open_page(script=WITHOUT_CAMERA)
    assert "https" in page.inner_text("#live-problem")
    assert page.is_hidden("text=Start the camera")
    assert not page.complaints
    page = open_page(java_script_enabled=False)
    assert "needs JavaScript" in page.inner_text("main")
    assert page.is_hidden("#live")


def test_several_faces_are_labelled(open_page, axe, fits, serve, tmp_path_factory):
    # a sure face and, smaller, an unsure one
    detector = StandInDetector(((20, 90, 80, 80), (200, 150, 60, 60)))
    crowded = serve(make_app(tmp_path_factory.mktemp("crowd"), detector=detector, PORT=0))
    page = open_page(360, at=crowded, color_scheme="dark")
    assert axe(page) == ""
    start(page)
    labels = page.locator(".face-label").all_text_contents()
    said = ["Happy 90%", "unsure: Angry or Afraid"]
    # the mirror has the sure one, which is left in the picture, at the right
    assert [label.split(" ", 2)[::2] for label in labels] == [["2", said[0]], ["1", said[1]]]
    shown = page.locator(".person .verdict-words").all_inner_texts()
    assert [words.replace("Unsure", "unsure") for words in shown] == said[::-1]
    assert page.locator(".person").last.locator(".share").nth(3).inner_text() == "90%"
    # an unsure answer shows it by more than its colour
    has_dashes = "boxes => boxes.map(box => box.hasAttribute('stroke-dasharray'))"
    assert page.locator(".face-box").evaluate_all(has_dashes) == [False, True]
    assert not page.complaints
    for width, scheme in ((360, "dark"), (1600, "light")):
        page.set_viewport_size({"width": width, "height": 844})
        page.emulate_media(color_scheme=scheme)
        assert fits(page)
        assert axe(page) == ""


@pytest.fixture(scope="module")
def reckon(browser, address):
    """Give a function that runs a function of JavaScript with what a script of ours exports."""
    page = browser.new_page()
    page.goto(f"{address}/live")
    static = page.locator("link[rel=icon]").get_attribute("href").rpartition("/")[0]

    def reckon(script, function, *arguments):
        run = f"async (all) => ({function})(await import('{static}/{script}'), ...all)"
        return page.evaluate(run, arguments)

    yield reckon
    page.close()


ROWS = (
    *(HAPPY, CLOSE),
    (0.3, 0.0, 0.28, 0.05, 0.06, 0.05, 0.26),
    (0.25, 0.0, 0.25, 0.25, 0.0, 0.25, 0.0),
    (0.45, 0.1, 0.1, 0.1, 0.1, 0.1, 0.05),
    (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
)
READ = """({read, percent}, probabilities, all) => {
    const {words, agreement} = read({probabilities}, all);
    return [words, percent(Math.max(...Object.values(probabilities))), agreement];
}"""


def test_the_script_words_answers_as_the_program_does(reckon):
    shipped = Recognizer.load()
    words = words_for_script(shipped.model)
    thresholds = replace(shipped.thresholds, agreement_temperature=2.1)
    words |= {"agreementTemperature": 2.1}
    for row in ROWS:
        probabilities = dict(zip(EMOTIONS, row, strict=True))
        face = Face((0, 0, 9, 9), 1.0, probabilities, sure=thresholds.met_by(row))
        received = reckon("live_faces.js", READ, probabilities, words)
        assert received == [
            with_labels(short_verdict(face)),
            percent(max(row)),
            thresholds.agreement(row),
        ]


FOLLOW = """({Tracks}, answers) => {
    const tracks = new Tracks();
    return answers.map((faces, index) => {
        const told = faces.map(([x, happy]) => ({
            box: {x, y: 10, width: 20, height: 20}, notes: [],
            probabilities: {happy, sad: 1 - happy},
        }));
        tracks.update({image: {width: 200, height: 100}, faces: told}, 1000 + index * 100);
        return tracks.list.map((track) => [track.box[0] * 200, track.probabilities.happy]);
    });
}"""


def test_an_answer_that_flickers_is_averaged_and_faces_keep_their_own(reckon):
    answers = [[[10 + 2 * index, 0.9 if index % 3 else 0.2]] for index in range(30)]
    shown = reckon("live_faces.js", FOLLOW, answers)
    happy = [faces[0][1] for faces in shown[10:]]
    assert np.ptp(happy) < 0.25
    assert np.mean(happy) == pytest.approx((0.9 + 0.9 + 0.2) / 3, abs=0.05)
    assert abs(shown[-1][0][0] - answers[-1][0][0]) < 2, "the box keeps up"
    calm, glad = [10, 0.0], [100, 1.0]
    shown = reckon("live_faces.js", FOLLOW, [[calm, glad], [glad, calm], [calm], [calm], []])
    # a face that is missed once stays
    assert shown[1:4] == [[calm, glad], [calm, glad], [calm]]


REST = """async ({RestingFace}, phases) => {
    const {Tracks, mostRisen} = await import(
        document.querySelector("link[rel=icon]").href.replace("favicon.svg", "live_faces.js"));
    const [tracks, resting, image] = [new Tracks(), new RestingFace(), {width: 200, height: 100}];
    let now = 0;
    return phases.map(([seconds, sets, ...seen]) => {
        if (sets) resting.begin(tracks, now);
        const faces = seen.map(([x, happy]) => ({
            box: {x, y: 30, width: 40, height: 40}, notes: [],
            probabilities: {happy, angry: 0.6 - 0.6 * happy, neutral: 0.4 - 0.4 * happy},
        }));
        for (const until = now + 1000 * seconds; now < until; resting.take(tracks)) {
            tracks.update({image, faces}, now += 250);
        }
        return [sets && resting.finish(tracks), ...tracks.list.map(({probabilities, rest}) =>
            rest && (mostRisen(probabilities, rest)?.points ?? 0))];
    });
}"""


def test_a_resting_face_goes_with_its_person(reckon):
    calm, glad, other = [80, 0], [90, 0.32], [10, 1]
    phases = (
        ((5, True), [False]),  # nobody is there
        ((1, False, calm, other), [False, None, None]),
        ((5, True, calm, other), [True, None, 0]),
        ((5, False, [84, 0.05], other), [False, None, 0]),
        ((5, False, glad, other), [False, None, 32]),
        ((8, False, other), [False, None]),
        ((5.5, False, other, glad), [False, None, 32]),  # back in time
        ((12, False, other), [False, None]),
        ((6, False, other, glad), [False, None, None]),
    )
    received = reckon("live_rest.js", REST, [phase for phase, _ in phases])
    assert received == [expected for _, expected in phases]


PACE = """({Pace}, smallest, fullMs) => {
    const pace = new Pace();
    for (let now = 0, count = 0; count < 60; count += 1) {
        const tookMs = fullMs * (pace.frame.side / 960) ** 2;
        pace.answered(tookMs, 20, smallest, now += tookMs);
    }
    return [pace.frame.side, pace.isReduced];
}"""


def test_pictures_shrink_no_further_than_small_faces_allow(reckon):
    slow, very_slow, fast = 600, 2000, 100
    assert reckon("live_pace.js", PACE, 0.06, slow) == [960, False]  # 58 of 960 pixels
    assert reckon("live_pace.js", PACE, 0.06, very_slow) == [640, True]
    assert reckon("live_pace.js", PACE, 0.3, very_slow) == [320, True]
    assert reckon("live_pace.js", PACE, 0.04, fast) == [1280, False]
