import os

import pytest

from emotion.images.folders import find_photos

PHOTOS = ["a.png", "b.JPG", "sub/c.jpeg", "sub/deep/d.heic"]
OTHERS = ["notes.txt", ".hidden.jpg", ".cache/e.jpg", "sub/film.mp4"]


@pytest.fixture
def folder(tmp_path):
    for name in PHOTOS + OTHERS:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "outside.jpg").write_bytes(b"x")
    return tmp_path / "photos"


def names(*arguments, **options):
    return [photo.name for photo in find_photos(*arguments, **options)]


def test_folder_is_searched_to_its_depth_in_a_fixed_order(folder, tmp_path):
    assert names(folder) == PHOTOS
    assert all(photo.path.is_file() and not photo.problem for photo in find_photos(folder))
    (tmp_path / "[2026]").symlink_to(folder)
    assert names(tmp_path / "[2026]") == PHOTOS
    for source in (folder, f"{folder}/**"):
        assert names(source, leave_out=[folder / "sub"]) == ["a.png", "b.JPG"]


def test_links_are_followed_once(folder, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "z.jpg").touch()
    links = {"sub/up": folder, "again": folder / "sub", "there": tmp_path / "elsewhere"}
    for name, target in links.items():
        (folder / name).symlink_to(target, target_is_directory=True)
    assert len(names(folder)) == 5
    assert "there/z.jpg" in names(folder)


def test_links_to_a_photo_are_that_photo(folder, tmp_path):
    (folder / "link.jpg").symlink_to("sub/c.jpeg")
    for name in ("y.jpg", "z.jpg"):
        (folder / name).symlink_to(tmp_path / "outside.jpg")
    (folder / "mine.txt").write_text("link.jpg\nsub/c.jpeg\n")
    assert names(folder) == [*PHOTOS, "y.jpg"]
    assert names(f"{folder}/*.jpg") == ["link.jpg", "y.jpg"]
    assert names(folder / "mine.txt") == ["sub/c.jpeg"]


def test_folder_without_permission_is_told(folder, monkeypatch):
    real = os.scandir

    def scandir(place):  # root, as in a container, may open every folder
        if str(place).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(place))
        return real(place)

    monkeypatch.setattr(os, "scandir", scandir)
    problem = find_photos(folder)[-1]
    assert problem.name == "sub/deep/"
    assert problem.problem.endswith("; Permission denied")


def test_list(folder, tmp_path):
    windows = "a.png\r\nsub/c.jpeg\r\n"
    unix = b"a.png\n# no photo\n\nsub/c.jpeg\nsub/../a.png\n", b"sub/c.jpeg\0a.png\0"
    for content in (*unix, windows.encode("utf-8-sig"), windows.encode("utf-16")):
        (folder / "mine.txt").write_bytes(content)
        assert names(folder / "mine.txt") == ["a.png", "sub/c.jpeg"]
    (tmp_path / "mine.lst").write_text(f"{folder}/a.png\nmissing.jpg\n/elsewhere/b.jpg\n")
    assert names(tmp_path / "mine.lst") == ["/elsewhere/b.jpg", "missing.jpg", "photos/a.png"]
