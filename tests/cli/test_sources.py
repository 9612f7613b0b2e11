"""What a text names: cameras, streams, videos, photos, folders, patterns, lists, or several."""

from pathlib import Path

import numpy as np
import pytest
from video_files import moving_faces, write_pictures

from emotion.cli.sources import PhotoSource, PhotosSource, VideoSource, find_source
from emotion.errors import SourceError
from emotion.images.encoding import write_image

PHOTOS = ("one.png", "album/two.png", "album/2026/three.jpg", "~one.png", "~no-one/a.png")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a working folder, also the home, with photos, videos, lists and other files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in PHOTOS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / name, np.full((40, 50, 3), 128, np.uint8))
    (tmp_path / "videos").mkdir()
    for name, text in {
        "album/film.mp4": "not looked into",
        "album/notes.md": "no photo",
        "list.txt": "one.png\nalbum/two.png\n",
        "~list.txt": "one.png\n",
        "far.txt": "/elsewhere/far.jpg\n",
        "bad.jpg": "no photo",
        "empty.png": "",
        "videos/a.mp4": "",
        "videos/b.MOV": "",
    }.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "link.png").symlink_to("one.png")
    return tmp_path


def test_cameras_and_streams_are_live():
    for text in ("0", "12", "rtsp://camera.local/live", "HTTP://host/a.m3u8?x=1", "udp://@239.0:1"):
        source, is_camera = find_source([text]), text.isdigit()
        assert source == VideoSource(int(text) if is_camera else text)
        assert (source.is_camera, source.is_live) == (is_camera, True)


def test_one_file_is_a_photo_or_a_video_whatever_its_name(folder):
    for text in ("~/one.png", "~one.png", "./~one.png", "~no-one/a.png"):
        source = find_source([text])
        assert isinstance(source, PhotoSource)
        assert source.photo.size_wh == (50, 40)
    write_pictures(folder / "real.mp4", moving_faces(3))
    for name in ("film", "film.bin", "album/film.mp4"):
        if not (folder / name).exists():
            (folder / name).symlink_to("real.mp4")
        source = find_source([name])
        assert (source.target, source.is_live) == (Path(name), False)


@pytest.mark.parametrize(
    ("texts", "expected", "videos"),
    [
        ("~/album/", "2026/three.jpg two.png", 1),
        ("~/album/*.png", "two.png", 0),
        ("album/*.*", "notes.md two.png", 1),
        ("**/t*.jpg", "album/2026/three.jpg", 0),
        ("list.txt", "album/two.png one.png", 0),
        ("@~list.txt", "one.png", 0),
        ("one.png album album/film.mp4", "one.png album/2026/three.jpg album/two.png", 2),
        ("~one.png album/two.png", "~one.png album/two.png", 0),
        ("one.png far.txt", "{0}/one.png /elsewhere/far.jpg", 0),
        ("one.png link.png bad.jpg", "one.png bad.jpg", 0),
    ],
)
def test_photos_of_folders_patterns_lists_and_several(folder, texts, expected, videos):
    source = find_source(texts.split())
    assert isinstance(source, PhotosSource)
    assert [file.name for file in source.files] == expected.format(folder).split()
    assert ["1 video in" in note for note in source.notes] == [True] * videos


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ("", "no file"),
        ("100", "./100"),
        ("ftp://host/film.mp4", "received ftp://"),
        ("@no.txt", "received no.txt"),
        ("album/*.gif", "received none"),
        ("album/*.mp4", "1 video in album"),
        ("album/notes.md", "notes.md is neither"),
        ("empty.png", "empty.png: expected"),
        ("one.png 0", "received 0 among"),
        ("one.png no.jpg", "no file no.jpg"),
        ("album/film.mp4 album/film.mp4", "several videos"),
    ],
)
def test_what_names_nothing_is_one_sentence(folder, texts, words):
    with pytest.raises(SourceError) as error:
        find_source(texts.split(" "))
    assert words in str(error.value)
    assert "\n" not in str(error.value)
