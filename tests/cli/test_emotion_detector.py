"""The shell's front door: photos, videos, cameras in; text, JSON, files, windows, errors out."""

import json
import re
import sys
from dataclasses import replace

import pytest
from shell_stand_ins import VIDEO_SIZE_WH, fake_camera, fake_gui, pictures_of, portrait, tools
from web_support import HAPPY, stand_in_model
from yunet_network import write_yunet_stand_in

from emotion.cli.tools import Tools
from emotion.detection.settings import DetectorSettings
from emotion.detection.yunet import YunetSettings
from emotion.drawing import annotate
from emotion.images.decoding import read_image
from emotion.recognizer import Recognizer
from emotion.video.following import CAMERA_SEARCH, VIDEO_SEARCH, YUNET_VIDEO_SEARCH


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_photo_is_text_or_json_written_annotated_and_shown_until_a_key(said, folder):
    gui = fake_gui(27, at=3)
    code, out, err = said("--source photo.png --output out.WEBP --json out.json", tools(gui=gui))
    assert out.startswith("face 1: happy 90% (x ")
    assert (code, out.count("\n"), err, gui.shown) == (0, 1, "", [])
    faces = Recognizer(stand_in_model(HAPPY)).recognize(portrait())
    expected = annotate(portrait(), faces).astype(int)
    assert abs(read_image(folder / "out.WEBP") - expected).mean() < 6
    used = tools(gui=gui, notes=("a note",))
    code, out, err = said("--source photo.png --json --show", used)
    assert (code, err, len(gui.shown)) == (0, "emotion_detector: note: stand_in: a note\n", 3)
    assert out == (folder / "out.json").read_text()
    content = json.loads(out)
    assert content["model"] == {"name": "stand_in", "sha256": "ab" * 32}
    assert content["image"] == {"width": 320, "height": 240}
    assert [face["emotion"] for face in content["faces"]] == ["happy"]


def test_a_video_is_shown_with_progress_when_asked(said, folder, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for key, options in ((-1, ""), (-1, " --json x.json --show"), (ord("q"), "")):
        gui = fake_gui(key, at=2)
        code, out, err = said("--source film.mp4" + options, tools(gui=gui))
        assert re.fullmatch(r"(?s)film.mp4: .*\bhappy 100 ?%\n", out)
        seen = int(re.search(r"(\d) frames?", out)[1])
        assert (code, err, gui.shown[0].shape) == (0, "", (480, 640, 3))
        if key == -1:
            assert (seen, len(gui.shown) >= 5) == (5, True)
        else:
            assert (seen <= 2, len(gui.shown)) == (True, 2)
    assert len(lines_of((folder / "x.json").read_text())) == 5
    code, _, err = said("--source film.mp4 --json x.json")
    assert (code, "5 [" in err, err.split("\r")[-1].strip()) == (0, True, "")


def test_each_source_is_searched_as_suits_it(said, folder):
    used, searches = tools(fake_camera(portrait(), 4)), []
    network = write_yunet_stand_in(folder / "yunet.onnx")

    def load_recognizer(stem, detector):
        searches.append(detector.settings)
        return used.load_recognizer(stem, detector)

    for options in ("", f" --detector yunet --detector-model {network}"):
        for source in ("photo.png", "film.mp4", "0"):
            line = f"--source {source} --json --headless{options}"
            code, _, _ = said(line, replace(used, load_recognizer=load_recognizer))
            assert code == (source == "0")  # the camera is lost
    assert searches[:3] == [DetectorSettings(), VIDEO_SEARCH, CAMERA_SEARCH]
    assert searches[3:] == [YunetSettings(), YUNET_VIDEO_SEARCH, YUNET_VIDEO_SEARCH]


def test_a_camera_its_window_and_video_end_with_a_key_and_mirror_on_request(said):
    middles = []
    for options in ("", " --mirror"):
        gui, camera = fake_gui(ord("q"), at=3), fake_camera(portrait())
        code, out, _ = said("--output out.mp4 --json --show" + options, tools(camera, gui))
        assert (code, camera.release.called) == (0, True)
        lines = lines_of(out)
        assert len(gui.shown) == len(pictures_of("out.mp4")) == len(lines) == 3
        box = lines[0]["faces"][0]["box"]
        middles.append(box["x"] + box["width"] / 2)
    assert middles[1] == pytest.approx(VIDEO_SIZE_WH[0] - middles[0], abs=8)


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("--source loop.jpg --output empty", 1, "no file loop.jpg"),
        ("--source none.mp4 --json", 1, "it is empty"),
        ("--source photo.png --output b.mp4", 2, ".webp for --output"),
        ("--source film.mp4 --table a.csv --table ./a.csv", 2, "twice"),
        ("--source photo.png --summary a.csv", 2, "camera with --summary"),
        ("--source . --send-files", 2, "URL with --send-files"),
        ("--source . --workers 2 --scheduler tcp://127.0.0.1:9", 2, "received both"),
        ("--source film.mp4 --output film.mp4", 2, "differ from --source"),
        ("--source ~/photo.png --output photo.png", 2, "differ from --source"),
        ("--source photo.png --model gone.h5", 1, "gone.json and gone.h5"),
        ("--source film.mp4 --output a.mp4", 1, "written to for --output"),
        ("--source photo.png --show", 1, "leave --show"),
        ("", 1, "use --headless"),
        ("--source photo.png --detector yunet --detector-model no.onnx", 1, "as no.onnx"),
        ("--source photo.png --detector yunet --detector-model bad.onnx", 1, "run bad.onnx"),
    ],
)
def test_errors_are_one_line_before_anything_is_done(said, folder, monkeypatch, line, code, words):
    monkeypatch.setenv("HOME", str(folder))
    for name in ("bad.mp4", "bad.onnx"):
        (folder / name).write_bytes(b"no picture, no film" * 100)
    (folder / "none.mp4").touch()
    for name in ("empty", "a.mp4"):
        (folder / name).mkdir()
    (folder / "loop.jpg").symlink_to("loop.jpg")
    before = {path.name: path.lstat().st_mtime_ns for path in folder.iterdir()}
    camera = fake_camera(portrait())
    found_code, out, err = said(line, Tools() if "--model" in line else tools(camera))
    assert (found_code, out, camera.called) == (code, "", False)
    assert err.startswith("emotion_detector: ")
    assert (err.count("\n"), words in err) == (1, True)
    assert {path.name: path.lstat().st_mtime_ns for path in folder.iterdir()} == before
