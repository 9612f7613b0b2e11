"""A folder with a model, a photo and videos, and command lines of the shell run in it."""

import pytest
from shell_stand_ins import portrait, tools, write_model
from video_files import write_pictures

import emotion_detector
from emotion.images.encoding import write_image


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """Return a folder with a model, a photo, and a short and a long video of one face."""
    folder = tmp_path_factory.mktemp("originals")
    write_model(folder / "model")
    write_image(folder / "photo.png", portrait())
    write_pictures(folder / "film.mp4", [portrait(8 * index) for index in range(5)])
    write_pictures(folder / "long.mp4", [portrait(index // 8) for index in range(200)])
    return folder


@pytest.fixture
def folder(tmp_path, originals, monkeypatch):
    for path in originals.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def said(folder, capfd):
    """Return a function that runs a command line here; it gives the exit code, stdout, stderr."""

    def run(line, used=None):
        code = emotion_detector.main(line.split(" ") if line else [], used or tools())
        return code, *capfd.readouterr()

    return run
