"""What these tests share: Chromium whose camera plays a film, and a server."""

import shutil
from contextlib import ExitStack

import cv2
import pytest
from skimage.data import astronaut
from web_support import make_app, served

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--use-fake-ui-for-media-stream --use-fake-device-for-media-stream"
).split()
LIMIT_MS = 90_000  # the machine may be busy


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("Chromium is not installed")
    # the astronaut's upper half as Chromium reads a film (YUV4MPEG2)
    picture = cv2.resize(astronaut()[:384], (640, 480), interpolation=cv2.INTER_AREA)
    frame = b"FRAME\n" + cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420).tobytes()
    film = tmp_path_factory.mktemp("film") / "astronaut.y4m"
    film.write_bytes(b"YUV4MPEG2 W640 H480 F15:1 Ip A1:1 C420\n" + 2 * frame)
    with sync_api.sync_playwright() as playwright:
        flags = [*FLAGS, f"--use-file-for-fake-video-capture={film}"]
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def open_context(browser):
    """Give a function that opens an empty page; what goes wrong in it is collected."""
    contexts = []

    def open_context(width=1280, height=844, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(LIMIT_MS)
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda message: page.complaints.append(message.text))
        return page

    yield open_context
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def serve():
    with ExitStack() as servers:
        yield lambda app: f"http://127.0.0.1:{servers.enter_context(served(app))}"


@pytest.fixture(scope="session")
def axe():
    """Give a function that returns what axe finds on a page; "" for nothing."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    return lambda page: axe.run(page).generate_snapshot()


@pytest.fixture(scope="session")
def fits():
    """Give a function that tells whether nothing of a page sticks out at its side."""

    def fits(page):
        # measured from outside its scripts; a timeline moves below a thumb in a frame of its own
        width = page.viewport_size["width"]
        elements = page.query_selector_all("main *:not(.unseen *):not(.timeline *):not(svg *)")
        boxes = [element.bounding_box() for element in elements]
        return all(box["x"] + box["width"] <= width + 0.5 for box in boxes if box)

    return fits


@pytest.fixture
def client(tmp_path):
    return make_app(tmp_path).test_client()
