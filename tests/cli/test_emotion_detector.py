"""The shell's front door: photos, videos and cameras in; text, JSON, files, windows, one line of
error out. `test_emotion_detector_script.py` starts it as a user does.
"""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from shell_stand_ins import (
    VIDEO_SIZE_WH,
    FakeCamera,
    FakeGui,
    interrupted_tools,
    portrait,
    stand_in_model,
    tools,
)
from video_files import write_pictures
from yunet_network import write_yunet_stand_in

from emotion.cli.tools import Tools
from emotion.detection.yunet import YunetSettings
from emotion.drawing import annotate
from emotion.images.decoding import read_image
from emotion.images.encoding import write_image
from emotion.recognizer import Recognizer
from emotion.video.reading import frames, open_video
from emotion_detector import main

SUMMARY = re.compile(r"film: .*\b5 frames.*\bhappy 100 ?%\n", re.DOTALL)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Return a folder with a photo and a short video of one face."""
    folder = tmp_path_factory.mktemp("originals")
    write_image(folder / "photo.png", portrait())
    write_pictures(folder / "film.mp4", [portrait(8 * index) for index in range(5)])
    return folder


@pytest.fixture
def folder(tmp_path, originals, monkeypatch):
    """Return a working folder with links to the photo and the video."""
    for path in originals.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read_video(path):
    with open_video(Path(path)) as video:
        return video.info, list(frames(video))


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_photo_is_lines_of_text_or_one_document(folder, capsys):
    assert main(["--source", "photo.png"], tools()) == 0
    out, err = capsys.readouterr()
    assert out.startswith("face 1: happy 80% (x ")
    assert (out.count("\n"), err) == (1, "")
    assert main(["--source", "photo.png", "--json"], tools(notes=("a note",))) == 0
    out, err = capsys.readouterr()
    content = json.loads(out)
    assert content["model"] == {"name": "stand-in", "sha256": "0" * 64}
    assert content["image"] == {"width": 320, "height": 240}
    assert [face["emotion"] for face in content["faces"]] == ["happy"]
    assert err == "emotion_detector: note: stand-in: a note\n"


def test_a_photo_is_written_annotated_and_shown_until_a_key(folder, capsys):
    gui = FakeGui(27, at=3)
    options = ["--source", "photo.png", "--output", "out.WEBP", "--json", "out.json"]
    assert main(options, tools(gui=gui)) == 0
    assert gui.shown == []
    faces = Recognizer(stand_in_model()).recognize(portrait())
    expected = annotate(portrait(), faces).astype(int)
    assert abs(read_image(folder / "out.WEBP") - expected).mean() < 6
    assert len(json.loads((folder / "out.json").read_text())["faces"]) == len(faces) == 1
    assert capsys.readouterr().out.startswith("face 1: happy")
    assert main(["--source", "photo.png", "--show"], tools(gui=gui)) == 0
    assert len(gui.shown) == 3


def test_a_video_is_written_with_its_results(folder, capsys):
    # a video is found by its content
    (folder / "film").symlink_to(folder / "film.mp4")
    options = ["--source", "film", "--output", "out.webm", "--json", "out.jsonl"]
    options += ["--table", "a.csv", "--table", "a.parquet", "--summary", "s.csv"]
    gui = FakeGui()
    assert main([*options, "--timeline", "t.svg"], tools(gui=gui)) == 0
    assert gui.shown == []
    out, err = capsys.readouterr()
    assert SUMMARY.fullmatch(out)
    assert err == ""
    info, found = read_video(folder / "out.webm")
    assert (info.size_wh, len(found)) == (VIDEO_SIZE_WH, 5)
    lines = lines_of((folder / "out.jsonl").read_text())
    assert [line["frame"] for line in lines] == [0, 1, 2, 3, 4]
    assert [line["timestamp_s"] for line in lines] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert {tuple(face["track"] for face in line["faces"]) for line in lines} == {(1,)}
    moved = [line["faces"][0]["box"]["x"] for line in lines]
    assert moved == sorted(moved)
    assert moved[-1] - moved[0] == pytest.approx(32, abs=10)
    # the boxes and labels are in the picture
    assert abs(found[0].image.astype(int) - portrait()).max() > 100
    for table in (pd.read_csv("a.csv"), pd.read_parquet("a.parquet")):
        assert list(table["frame"]) == [0, 1, 2, 3, 4]
        assert set(table["emotion"]) == {"happy"}
    assert list(pd.read_csv("s.csv")["emotion"]) == ["happy"]
    assert "<svg" in (folder / "t.svg").read_text()


def test_a_video_is_shown_with_progress_when_asked(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for key, options in ((-1, []), (-1, ["--json", "x.json", "--show"]), (ord("q"), [])):
        gui = FakeGui(key, at=2)
        assert main(["--source", "film.mp4", *options], tools(gui=gui)) == 0
        assert len(gui.shown) >= 5 if key == -1 else len(gui.shown) == 2
        assert gui.shown[0].shape == (480, 640, 3)
        out, err = capsys.readouterr()
        seen = int(re.search(r"(\d) frames?", out)[1])
        assert seen == 5 if key == -1 else seen <= 2
        assert err == ""
    assert len(lines_of((folder / "x.json").read_text())) == 5
    assert main(["--source", "film.mp4", "--json", "x.json"], tools()) == 0
    err = capsys.readouterr().err
    assert "5 [" in err
    assert err.split("\r")[-1].strip() == ""


def test_only_photos_pay_for_the_fallback_passes(folder):
    middle = (VIDEO_SIZE_WH[0] // 2, VIDEO_SIZE_WH[1] // 2)
    turn = cv2.getRotationMatrix2D(middle, 35, 1)
    tilted = cv2.warpAffine(portrait(40), turn, VIDEO_SIZE_WH, borderMode=cv2.BORDER_REPLICATE)
    assert [len(faces) for faces in faces_of(folder, tilted, tools())] == [1, 0]


def test_yunet_finds_the_faces_when_asked(folder):
    pytest.importorskip("onnx")
    network = write_yunet_stand_in(folder / "yunet.onnx")
    red = np.zeros((VIDEO_SIZE_WH[1], VIDEO_SIZE_WH[0], 3), np.uint8)
    red[96:128, 128:160] = 255, 0, 0
    used = []

    def load_recognizer(stem, detector):
        used.append(detector.settings.detail_pixels)
        return Recognizer(stand_in_model(), detector)

    options = ("--detector", "yunet", "--detector-model", str(network))
    for (face,) in faces_of(folder, red, Tools(load_recognizer=load_recognizer), *options):
        assert face["score"] > 0.7
    assert used == [YunetSettings().detail_pixels, 640 * 480]


def faces_of(folder, picture, used_tools, *options):
    """Return the faces in a photo, and in the first frame of a video, of the same picture."""
    write_image(folder / "a.png", picture)
    write_pictures(folder / "a.avi", [picture] * 3)
    found = []
    for name in ("a.png", "a.avi"):
        line = ["--source", name, "--json", "x.jsonl", "--headless", *options]
        assert main(line, used_tools) == 0
        content, _ = json.JSONDecoder().raw_decode((folder / "x.jsonl").read_text())
        found.append(content["faces"])
    return found


def test_camera_window_and_video_end_with_a_key(folder, capsys):
    gui, camera = FakeGui(ord("q"), at=3), FakeCamera(portrait())
    assert main(["--output", "out.mp4"], tools(camera, gui)) == 0
    assert len(gui.shown) == len(read_video(folder / "out.mp4")[1]) == 3
    assert camera.is_released
    assert capsys.readouterr().out.startswith("camera 0: ")


def test_mirror_turns_picture_and_boxes(folder, capsys):
    boxes = []
    for options in ([], ["--mirror"]):
        camera = FakeCamera(portrait())
        main(["--json", "--headless", *options], interrupted_tools(camera, after=2))
        boxes.append(lines_of(capsys.readouterr().out)[0]["faces"][0]["box"])
    middles = [box["x"] + box["width"] / 2 for box in boxes]
    assert middles[1] == pytest.approx(VIDEO_SIZE_WH[0] - middles[0], abs=8)


def test_ctrl_c_and_a_lost_camera_keep_what_is_finished(folder, capsys):
    camera = FakeCamera(portrait())
    options = ["--output", "out.avi", "--json", "out.jsonl", "--table", "out.csv"]
    assert main(options, interrupted_tools(camera)) == 130
    out, err = capsys.readouterr()
    assert out.startswith("camera 0: ")
    assert "interrupted" in err.splitlines()[-1]
    count = len(lines_of((folder / "out.jsonl").read_text()))
    assert count >= 4
    assert len(read_video(folder / "out.avi")[1]) == count
    assert pd.read_csv("out.csv")["frame"].nunique() == count
    assert not list(folder.glob(".part*"))
    assert main(["--json", "--headless"], tools(FakeCamera(portrait(), 4))) == 1
    out, err = capsys.readouterr()
    assert 1 <= len(lines_of(out)) <= 4
    assert re.search(r"camera 0; it stopped after \d", err.splitlines()[-1])


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("--source no.jpg", 1, "no file no.jpg"),
        ("--source ", 1, "empty text"),
        ("--source loop.jpg --output empty", 1, "no file loop.jpg"),
        ("--source 98 --json", 1, "camera with number"),
        ("--source bad.mp4 --json", 1, "bad.mp4 cannot be"),
        ("--source none.mp4 --json", 1, "none.mp4 is empty"),
        ("--source bad.jpg", 1, "bad.jpg is neither"),
        ("--source photo.png --output b.mp4", 2, ".webp for --output"),
        ("--source film.mp4 --output a.png", 2, ".webm"),
        ("--source film.mp4 --table a.xls", 2, ".parquet for --table"),
        ("--source film.mp4 --summary a.txt", 2, "for --summary"),
        ("--source film.mp4 --table a.csv --table ./a.csv", 2, "twice"),
        ("--source photo.png --summary a.csv", 2, "camera with --summary"),
        ("--source film.mp4 --detect-every 0", 2, "received 0"),
        ("--source film.mp4 --workers 2", 2, "photos with --workers"),
        ("--source . --send-files", 2, "URL with --send-files"),
        ("--source . --workers 2 --scheduler tcp://127.0.0.1:9", 2, "received both"),
        ("--source photo.png 0", 1, "received 0 among"),
        ("--source film.mp4 --output film.mp4", 2, "differ from --source"),
        ("--source photo.png --json photo.png", 2, ".jsonl for --json"),
        ("--source photo.png --json no/a.json", 1, "written to for --json"),
        ("--source film.mp4 --output a.mp4", 1, "written to for --output"),
        ("--source photo.png --show", 1, "leave --show"),
        ("--source film.mp4", 1, "use --headless"),
        ("", 1, "use --headless"),
        ("--show --no-window", 2, "received both"),
        ("--detector yunet", 2, "face_detection_yunet_2026may.onnx"),
        ("--detector-model a.onnx", 2, "yunet with --detector-model"),
        ("--source photo.png --detector yunet --detector-model no.onnx", 1, "as no.onnx"),
        ("--source photo.png --detector yunet --detector-model bad.onnx", 1, "run bad.onnx"),
    ],
)
def test_errors_are_one_line(folder, capsys, line, code, words):
    for name in ("bad.mp4", "bad.jpg", "bad.onnx"):
        (folder / name).write_bytes(b"no picture, no film" * 100)
    (folder / "none.mp4").touch()
    for name in ("empty", "a.mp4"):
        (folder / name).mkdir()
    (folder / "loop.jpg").symlink_to("loop.jpg")
    before = sorted(path.name for path in folder.iterdir())
    assert main(line.split(" ") if line else [], tools()) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("emotion_detector: ")
    assert err.count("\n") == 1
    assert words in err
    assert sorted(path.name for path in folder.iterdir()) == before


def test_nothing_is_opened_or_replaced_before_all_is_known(folder, capsys, monkeypatch):
    def open_capture(source):
        raise AssertionError("the camera was opened")

    assert main([], tools(open_capture)) == 1
    monkeypatch.setenv("HOME", str(folder))
    before = (folder / "photo.png").read_bytes()
    assert main(["--source", "~/photo.png", "--output", "photo.png"], tools()) == 2
    assert (folder / "photo.png").read_bytes() == before


def test_a_model_that_is_not_there_and_a_broken_pipe_are_told(folder, capfd):
    def load_recognizer(stem, detector):
        raise BrokenPipeError(32, "Broken pipe")

    assert main(["--source", "photo.png", "--model", "gone.h5"]) == 1
    assert "gone.json and gone.h5" in capfd.readouterr().err
    # another pipe than stdout
    broken = replace(tools(), load_recognizer=load_recognizer)
    assert main(["--source", "photo.png"], broken) == 1
    assert capfd.readouterr().err == "emotion_detector: Broken pipe\n"
