"""A photo in its viewer, many faces, sharing and deleting, as Chromium shows them."""

import pytest
from web_support import CLOSE, HAPPY, StandInDetector, encoded, make_app, stand_in_model

BOXES = tuple((10 + 38 * n, 10 + 40 * row, 20 + n, 20 + n) for row in range(2) for n in range(4))
SHIFT = """() => new Promise((resolve) => {
  let sum = 0;
  new PerformanceObserver((list) => { for (const { value } of list.getEntries()) sum += value; })
    .observe({ type: "layout-shift", buffered: true });
  setTimeout(() => resolve(sum), 200);
})"""


@pytest.fixture(scope="module")
def address(tmp_path_factory, serve):
    model = stand_in_model(HAPPY, HAPPY, CLOSE)
    return serve(make_app(tmp_path_factory.mktemp("web"), model, StandInDetector(BOXES), PORT=0))


@pytest.fixture
def send(open_context, address):
    """Give a function that sends photos and returns the page of the first."""

    def send(count=1, width=1366, **options):
        page = open_context(width, 768, **options)
        page.goto(address)
        names = [f"{seed}.jpg" for seed in range(count)]
        photos = [encoded(width=2000, height=1500, seed=seed, quality=30) for seed in range(count)]
        page.set_input_files("#photo", [
            {"name": name, "mimeType": "image/jpeg", "buffer": photo}
            for name, photo in zip(names, photos, strict=True)
        ])  # fmt: skip
        page.click("button.primary")
        page.wait_for_url("**/results/*" if count == 1 else "**/sets/*")
        return page

    return send


def seen_width(page):
    return float(page.get_attribute(".photo svg", "viewBox").split()[2])


def cards(page):
    return [
        card.get_attribute("id") for card in page.query_selector_all(".face") if card.is_visible()
    ]


def test_a_photo_is_zoomed_and_its_faces_chosen_by_keys_and_pointer(send, axe, fits):
    page = send()
    whole, box = seen_width(page), page.locator(".photo svg").bounding_box()
    assert cards(page) == ["face-1"]
    with page.expect_response("**/photo.jpg"):
        for key in "+-0":
            page.keyboard.press("+")
            before = seen_width(page)
            page.keyboard.press(key)
            assert (seen_width(page) < before) == (key == "+"), key
        for _ in range(4):
            page.click("[aria-label='Zoom in']")
    at = page.get_attribute(".photo svg", "viewBox")
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 150)
    page.mouse.up()
    assert page.get_attribute(".photo svg", "viewBox") != at
    page.keyboard.press("Escape")
    assert seen_width(page) == whole
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert (cards(page), page.url[-7:]) == (["face-3"], "#face-3")
    page.click(".photo a[data-face='5']")
    page.hover(".tiles li[data-face='7']")
    assert cards(page) == ["face-5"]
    assert page.locator(".photo a.marked").get_attribute("data-face") == "7"
    page.click("text=Labels")
    assert not page.locator(".label").first.is_visible()
    page.click("text=Full screen")
    assert page.locator(".photo").bounding_box()["height"] > 600
    assert axe(page) == ""
    page.keyboard.press("Escape")
    page.wait_for_selector(".result:not(.full)")
    page.click("text=Share")
    assert (page.input_value(".share input"), fits(page)) == (page.url.split("#")[0], True)
    assert axe(page) == ""
    assert not page.complaints


def test_tiles_are_sorted_and_filtered_and_one_stop_each(send):
    page = send()

    def shown():
        tiles = page.query_selector_all(".tiles li")
        return [int(tile.get_attribute("data-face")) for tile in tiles if tile.is_visible()]

    page.select_option("select[name=order]", "area")
    assert shown()[:2] == [4, 8]
    page.select_option("select[name=answer]", "unsure")
    assert sorted(shown()) == [3, 6]
    page.click(".tiles li[data-face='6'] a")
    assert cards(page) == ["face-6"]
    stops = (
        "document.querySelectorAll('[data-face] a:not([tabindex]), a[data-face][tabindex=\"0\"]')"
    )
    assert page.evaluate(f"[...{stops}].filter((one) => one.checkVisibility()).length") <= 8


@pytest.mark.parametrize("width", [1366, 390, 320])
def test_pages_do_not_shift_and_fit(send, fits, axe, width):
    page = send(2, width)
    for link in (None, ".tile a.cover", "text=Why?"):
        if link:
            page.click(link)
            page.wait_for_load_state()
        assert (page.evaluate(SHIFT), fits(page), axe(page)) == (0, True, "")


def test_photos_of_a_set_follow_each_other_and_a_single_one_has_no_set(send):
    page = send(2)
    page.click(".tile a.cover")
    page.wait_for_selector(".result.ready")
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    page.wait_for_selector("text=2 of 2")
    page.keyboard.press("p")
    page.wait_for_selector("text=1 of 2")
    assert send().locator(".crumbs").count() == 0


def test_deleting_can_be_undone_and_is_done_when_the_page_is_left(send, address):
    page = send()
    result = page.url
    page.clock.install()
    page.click("text=Delete now")
    page.click("text=Undo")
    page.clock.fast_forward(20_000)
    assert page.request.get(result).ok
    page.click("text=Delete now")
    page.clock.fast_forward(20_000)
    page.wait_for_selector("text=are deleted")
    assert page.request.get(result).status == 404
    page = send()
    result = page.url
    page.click("text=Delete now")
    page.goto(f"{address}/model")
    while page.request.get(result).ok:
        page.wait_for_timeout(50)
    plain = send(java_script_enabled=False)
    plain.click("text=Delete now")
    assert plain.request.get(plain.url).ok
    plain.click("text=Delete for good")
    plain.wait_for_selector("text=are deleted")
