"""What a text names: cameras, streams, videos, photos, folders, patterns, lists, or several."""

import numpy as np
import pytest
from video_files import moving_faces, write_pictures

from emotion.cli.sources import PhotoSource, PhotosSource, VideoSource, find_source
from emotion.errors import SourceError
from emotion.images.encoding import write_image

GREY = np.full((40, 50, 3), 128, np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a working folder with photos at two depths, a video, a list and other files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "album" / "2026").mkdir(parents=True)
    for name in ("one.png", "album/two.png", "album/2026/three.jpg"):
        write_image(tmp_path / name, GREY)
    (tmp_path / "album" / "film.mp4").write_bytes(b"not looked into")
    (tmp_path / "album" / "notes.md").write_text("no photo")
    (tmp_path / "list.txt").write_text("one.png\nalbum/two.png\n")
    return tmp_path


def names(source):
    assert isinstance(source, PhotosSource)
    return [file.name for file in source.files]


@pytest.mark.parametrize(
    ("text", "target", "is_camera"),
    [
        ("0", 0, True),
        ("12", 12, True),
        ("rtsp://camera.local/live", "rtsp://camera.local/live", False),
        ("HTTP://host:8080/a.m3u8?x=1", "HTTP://host:8080/a.m3u8?x=1", False),
        ("udp://@239.0.0.1:1234", "udp://@239.0.0.1:1234", False),
    ],
)
def test_cameras_and_streams_are_live(text, target, is_camera):
    source = find_source([text])
    assert source == VideoSource(target)
    assert (source.is_camera, source.is_live) == (is_camera, True)


@pytest.mark.parametrize("name", ["film", "film.bin"])
def test_a_video_of_another_name_is_told_by_its_content(folder, name):
    write_pictures(folder / "real.mp4", moving_faces(3)).rename(folder / name)
    assert find_source([name]).target.name == name


@pytest.mark.parametrize(
    ("text", "expected", "videos"),
    [
        ("album", ["2026/three.jpg", "two.png"], 1),
        ("album/", ["2026/three.jpg", "two.png"], 1),
        ("album/*", ["two.png"], 0),
        ("album/*.*", ["notes.md", "two.png"], 1),
        ("**/*.jpg", ["album/2026/three.jpg"], 0),
        ("list.txt", ["album/two.png", "one.png"], 0),
        ("@list.txt", ["album/two.png", "one.png"], 0),
    ],
)
def test_photos_of_folders_patterns_and_lists(folder, text, expected, videos):
    source = find_source([text])
    assert names(source) == expected
    assert len(source.notes) == videos
    if videos:
        assert "1 video in album" in source.notes[0]


def test_a_tilde_is_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert names(find_source(["~/album/*.png"])) == ["two.png"]
    assert names(find_source(["~/album"])) == ["2026/three.jpg", "two.png"]
    assert isinstance(find_source(["~/one.png"]), PhotoSource)


@pytest.mark.parametrize("text", ["~one.png", "./~one.png", "~nobody-of-this-name/one.png"])
def test_a_tilde_that_is_no_home_folder_is_part_of_a_name(folder, text):
    (folder / text).parent.mkdir(exist_ok=True)
    write_image(folder / text, GREY)
    assert isinstance(find_source([text]), PhotoSource)
    assert names(find_source([text, "album/two.png"]))[0].endswith("one.png")
    (folder / "~list.txt").write_text("one.png\n")
    assert names(find_source(["@~list.txt"])) == ["one.png"]


def test_several_sources_are_one_list_with_names_below_what_they_share(folder):
    source = find_source(["one.png", "album", "album/two.png", "list.txt", "album/film.mp4"])
    assert sorted(names(source)) == ["album/2026/three.jpg", "album/two.png", "one.png"]
    assert all(file.path.is_file() for file in source.files)
    assert len(source.notes) == 2


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([""], "empty text"),
        (["100"], "write ./100"),
        (["no.jpg"], "no file no.jpg"),
        (["-1"], "no file -1"),
        (["ftp://host/film.mp4"], "received ftp://"),
        (["@no.txt"], "no file no.txt"),
        (["@one.png"], "one.png is none"),
        (["album/*.gif"], "received none"),
        (["album/*.mp4"], "received 1 video"),
        (["videos"], "received 2 videos"),
        (["album/notes.md"], "notes.md is neither"),
        (["empty.png"], "empty.png: expected"),
        (["one.png", "0"], "received 0 among"),
        (["one.png", "rtsp://host/x"], "rtsp://host/x among"),
        (["one.png", "no.jpg"], "no file no.jpg"),
        (["album/film.mp4", "album/film.mp4"], "several videos"),
    ],
)
def test_what_names_nothing_is_one_sentence(folder, texts, words):
    (folder / "empty.png").touch()
    (folder / "videos").mkdir()
    for name in ("a.mp4", "b.MOV"):
        (folder / "videos" / name).touch()
    with pytest.raises(SourceError) as error:
        find_source(texts)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_lists_are_of_each_photo_once_without_what_is_left_out(folder):
    assert names(find_source(["album"], [folder / "album" / "2026"])) == ["two.png"]
    (folder / "far.txt").write_text("/elsewhere/far.jpg\n")
    assert names(find_source(["one.png", "far.txt"])) == [f"{folder}/one.png", "/elsewhere/far.jpg"]
    (folder / "link.png").symlink_to("one.png")
    (folder / "bad.jpg").write_bytes(b"no photo")
    assert names(find_source(["one.png", "link.png", "bad.jpg"])) == ["one.png", "bad.jpg"]


def test_one_photo_is_read_and_one_video_is_not(folder):
    source = find_source(["one.png"])
    assert isinstance(source, PhotoSource)
    assert source.photo.size_wh == (50, 40)
    source = find_source(["album/film.mp4"])
    assert (source.target.name, source.is_live) == ("film.mp4", False)
