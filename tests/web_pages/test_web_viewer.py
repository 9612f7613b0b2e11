"""A photo in its viewer, many faces, sharing and deleting, as Chromium shows them."""

import pytest
from web_support import CLOSE, HAPPY, StandInDetector, encoded, make_app, stand_in_model

BOXES = tuple((10 + 38 * n, 10 + 40 * row, 20 + n, 20 + n) for row in range(2) for n in range(4))


@pytest.fixture
def send(open_context, serve, tmp_path):
    """Give a function that sends photos and returns the page that answers."""
    model = stand_in_model(HAPPY, HAPPY, CLOSE)
    address = serve(make_app(tmp_path, model, StandInDetector(BOXES), PORT=0))

    def send(count=1, **options):
        page = open_context(1366, 768, **options)
        page.goto(address)
        photos = [encoded(width=2000, height=1500, seed=seed, quality=30) for seed in range(count)]
        about = {"name": "a.jpg", "mimeType": "image/jpeg"}
        page.set_input_files("#photo", [about | {"buffer": photo} for photo in photos])
        if not options.get("java_script_enabled", True):
            page.click("button.primary")
        page.wait_for_url("**/results/*" if count == 1 else "**/sets/*")
        return page

    return send


def part_seen(page):
    return list(map(float, page.get_attribute(".photo svg", "viewBox").split()))


def seen(page, what):
    shown = [element for element in page.query_selector_all(what) if element.is_visible()]
    return [int(element.get_attribute("data-face")) for element in shown]


def test_a_photo_is_zoomed_and_its_faces_chosen_by_keys_and_pointer(send, axe, fits):
    page = send()
    whole, box = part_seen(page), page.locator(".photo svg").bounding_box()
    with page.expect_response("**/photo.jpg"):
        for key in "+-0":
            page.keyboard.press("+")
            before = part_seen(page)
            page.keyboard.press(key)
            assert (part_seen(page)[2] < before[2]) == (key == "+"), key
        for _ in range(4):
            page.click("[aria-label='Zoom in']")
    at = part_seen(page)
    page.mouse.move(box["x"] + 300, box["y"] + 200)
    page.mouse.down()
    page.mouse.move(box["x"] + 200, box["y"] + 150)
    page.mouse.up()
    assert part_seen(page)[0] > at[0]
    page.keyboard.press("Escape")
    assert (part_seen(page), seen(page, ".face")) == (whole, [1])
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert (seen(page, ".face"), page.url[-7:]) == ([3], "#face-3")
    page.click(".photo a[data-face='5']")
    page.hover(".tiles li[data-face='7']")
    assert (seen(page, ".face"), seen(page, ".photo .marked")) == ([5], [7])
    page.click("text=Labels")
    assert not page.locator(".label").first.is_visible()
    page.click("text=Full screen")
    assert page.locator(".photo").bounding_box()["height"] > 600
    found = axe(page)
    page.keyboard.press("Escape")
    page.wait_for_selector(".result:not(.full)")
    page.click("text=Share")
    assert page.input_value(".share input") == page.url.partition("#")[0]
    assert (found, axe(page), fits(page), page.complaints) == ("", "", True, [])


def test_tiles_are_sorted_and_filtered_and_one_stop_each(send):
    page = send()
    page.select_option("select[name=order]", "area")
    assert seen(page, ".tiles li")[:2] == [4, 8]
    page.select_option("select[name=answer]", "unsure")
    assert seen(page, ".tiles li") == [3, 6]
    page.click(".tiles li[data-face='6'] a")
    assert seen(page, ".face") == [6]
    page.select_option("select[name=answer]", "")
    stops = page.locator("[data-face] a:visible:not([tabindex='-1'])").count()
    assert stops <= 8 + len(["of the photo", "Why?", "Not right?"])


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


def test_deleting_can_be_undone_and_is_done_when_the_page_is_left(send):
    page, left, plain = send(), send(), send(java_script_enabled=False)
    page.clock.install()
    for answer, status in (("text=Undo", 200), ("text=are deleted", 404)):
        result = page.url
        page.click("text=Delete now")
        if status == 200:
            page.click(answer)
        page.clock.fast_forward(20_000)
        page.wait_for_selector(answer, state="detached" if status == 200 else "attached")
        assert page.request.get(result).status == status
    result = left.url
    left.click("text=Delete now")
    left.goto("about:blank")
    while left.request.get(result).ok:
        left.wait_for_timeout(50)
    plain.click("text=Delete now")
    assert plain.request.get(plain.url).ok
    plain.click("text=Delete for good")
    plain.wait_for_selector("text=are deleted")
