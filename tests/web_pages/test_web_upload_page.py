"""The form for photos and videos: names, samples, and what its scripts add."""

import csv
import io

import pytest
from test_web_browser import drop, files_of
from web_support import StandInDetector, encoded, make_app, text_of


def test_names_of_files_are_kept_where_the_sender_wants_it_and_told_to_nobody_else(client):
    names = ["fake/=1+1 <b>.jpg", "twice.jpg", "folder/twice.jpg", "no photo.jpg"]
    contents = [*(encoded(seed=seed) for seed in range(3)), b"no photo"]
    for tick, first in (("on", "'=1+1 <b>.jpg"), ("", "photo-1")):
        files = [(io.BytesIO(content), name) for content, name in zip(contents, names, strict=True)]
        path = client.post("/", data={"photo": files, "keep_names": tick}).headers["Location"]
        table = client.get(f"{path}/emotions.csv").data.decode("utf-8-sig").splitlines()
        photos = {row["photo"] for row in csv.DictReader(table)}
        assert photos == {first, "photo-2", "photo-3", "photo-4"}
        page = client.get(path).text
        assert [name in page for name in ("&lt;b&gt;.jpg", "no photo.jpg:")] == [bool(tick)] * 2
        one = client.get(f"/api/v1{path}").json["photos"][0]["photo"]
        assert one["name"] == ("=1+1 <b>.jpg" if tick else "")
        stranger, page = client.application.test_client(), one["links"]["page"]
        links = (one["links"]["self"], page, f"{page}/emotions.csv", f"{page}/emotions.json")
        assert [("1+1" in client.get(link).text) for link in links[:3]] == [bool(tick)] * 3
        assert not any("1+1" in stranger.get(link).text for link in links)


@pytest.mark.parametrize(("keep_hours", "video"), [(24, 303), (0, 409)])
def test_samples_are_read_as_if_they_were_sent(tmp_path, keep_hours, video):
    client = make_app(tmp_path, KEEP_HOURS=keep_hours, RATE_LIMIT="5 per day").test_client()
    for name in ("astronaut", "officer", "group", "blurred", "cat"):
        reply = client.post(f"/samples/{name}.jpg", follow_redirects=True)
        assert "2 faces found" in text_of(reply), name
    for path, status in (("cat.jpg", 429), ("../app.jpg", 404), ("pan.mp4", video)):
        assert client.post(f"/samples/{path}").status_code == status


@pytest.fixture(scope="module")
def address(tmp_path_factory, serve):
    settings = {"PORT": 0, "MAX_UPLOAD_MB": 1}
    return serve(
        make_app(
            tmp_path_factory.mktemp("web"), None, StandInDetector(((10, 10, 60, 60),)), **settings
        )
    )


def test_one_photo_is_cancelled_stopped_and_sent_again(open_context, address, axe, fits):
    page = open_context(320)
    page.goto(address)
    page.route("**/api/v1/photos", lambda route: None)
    page.set_input_files("#photo", files_of(a=encoded()))
    page.wait_for_selector("progress >> visible=true")
    page.click("[aria-label='Remove a.jpg']")
    assert page.locator(".chosen li").count() == 0
    page.set_input_files("#photo", files_of(b=encoded(), c=encoded(seed=1), d=encoded(seed=2)))
    page.click("text=Stop all")
    page.wait_for_selector("text=Try all again")
    assert page.locator(".chosen .failed").count() == 3
    assert (fits(page), axe(page)) == (True, "")
    page.unroute("**/api/v1/photos")
    page.click("text=Try all again")
    page.wait_for_url("**/sets/*")
    assert page.inner_text("h1") == "3 photos, 3 faces"


def test_files_are_taken_on_every_page_and_settings_stay(open_context, address, axe):
    page = open_context(390)
    page.goto(address)
    links = page.locator("nav[aria-label=Pages] a").all()
    assert len({link.bounding_box()["y"] for link in links}) == 1
    page.uncheck("[name=keep_names]")
    page.goto(f"{address}/mine")
    drop(page, "paste", p_jpg=encoded())
    page.wait_for_url("**/results/*")
    assert "p.jpg" not in page.inner_text("main")
    drop(page, large_jpg=encoded() + bytes(2**20))
    page.wait_for_selector("dialog .failed >> text=1 MB")
    assert not page.is_checked("[name=keep_names]")
    assert axe(page) == ""
    drop(page, two_jpg=encoded(seed=2))
    page.click("text=See the other one")
    page.wait_for_url("**/results/*")
    page.goto(address)
    page.click("button:has-text('Astronaut')")
    page.wait_for_url("**/results/*")
    assert not page.complaints
