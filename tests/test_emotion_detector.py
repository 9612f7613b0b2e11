"""The shell's front door: photos, videos and cameras in; text, JSON, files, windows, one line of
error out.
"""

# ruff: noqa: N802 - the stand-ins answer to OpenCV's names

import functools
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data
from yunet_network import write_yunet_stand_in

import emotion_detector
from emotion.drawing import annotate
from emotion.images import read_image, write_image
from emotion.labels import EMOTIONS
from emotion.model import EmotionModel
from emotion.recognizer import Recognizer
from emotion.results import Face
from emotion.video import VideoInfo, VideoSink, Window, frames, open_video
from emotion.yunet import YunetSettings
from emotion_detector import Tools, describe, main

ROOT = Path(emotion_detector.__file__).resolve().parent
WEIGHTS = (0.02, 0.02, 0.02, 0.8, 0.06, 0.04, 0.04)
VIDEO_SIZE_WH = (320, 240)


class FakeCamera:
    """Stands in for cv2.VideoCapture on a camera: gives a few frames, then nothing or an error."""

    def __init__(self, image, count, then=None):
        self.image, self.count, self.then = image, count, then

    def __call__(self, source):
        return self

    def isOpened(self):
        return True

    def read(self):
        self.count -= 1
        if self.count < 0 and self.then:
            raise self.then
        return (False, None) if self.count < 0 else (True, self.image[:, :, ::-1])

    def get(self, key):
        return 10.0 if key == cv2.CAP_PROP_FPS else 0.0

    def set(self, key, value):
        return True

    def release(self):
        pass


class FakeGui:
    """Stands in for OpenCV's windows: keeps what is shown, and presses a key at some picture."""

    def __init__(self, key=-1, at=1):
        self.key, self.at, self.shown = key, at, []

    def imshow(self, title, image):
        self.shown.append(image)

    def waitKey(self, delay_ms):
        return self.key if len(self.shown) >= self.at else -1

    def getWindowProperty(self, title, key):
        return 1.0

    def namedWindow(self, title, flags):
        pass

    def resizeWindow(self, title, width, height):
        pass

    def destroyWindow(self, title):
        pass


def stand_in_model(notes=()):
    """Return a model that answers every face with the same probabilities."""
    return EmotionModel(
        name="stand-in",
        sha256="0" * 64,
        class_names=EMOTIONS,
        runtime="numpy",
        card=None,
        notes=notes,
        run=lambda faces: np.tile(np.float32(WEIGHTS), (len(faces), 1)),
    )


def tools(capture=None, gui=None, problem="nothing can be shown", notes=()):
    """Return tools with the stand-in model; with a `gui`, windows open."""
    return Tools(
        load_recognizer=lambda stem, detector: Recognizer(stand_in_model(notes), detector),
        open_capture=capture or cv2.VideoCapture,
        open_window=functools.partial(Window, gui=gui),
        window_problem=lambda: None if gui else problem,
    )


def portrait(left=0):
    """Return (240, 320, 3) RGB: the astronaut's face, moved to the right by `left` pixels."""
    image = np.full((VIDEO_SIZE_WH[1], VIDEO_SIZE_WH[0], 3), 90, np.uint8)
    face = data.astronaut()[0:240, 100:340]
    image[:, left : left + 240] = face
    return image


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Return a folder with a photo and a short video of one face."""
    folder = tmp_path_factory.mktemp("originals")
    write_image(folder / "photo.png", portrait())
    with VideoSink(folder / "film.mp4", VideoInfo(10.0, VIDEO_SIZE_WH, None, True)) as sink:
        for index in range(5):
            sink.write(portrait(8 * index))
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


def test_photo_prints_a_line_a_face(folder, capsys):
    assert main(["--source", "photo.png"], tools()) == 0
    out, err = capsys.readouterr()
    assert out.startswith("face 1: happy 80 % (x ")
    assert out.count("\n") == 1
    assert err == ""


def test_photo_without_a_face_says_so(folder, capsys):
    write_image(folder / "grey.png", np.full((200, 200, 3), 128, np.uint8))
    assert main(["--source", "grey.png"], tools()) == 0
    assert capsys.readouterr().out == "no face found\n"


def test_lines_tell_number_box_and_notes():
    sure = Face((1, 2, 30, 40), 5.0, {"happy": 0.9, "sad": 0.1}, ("small", "dark"))
    unsure = Face((5, 6, 70, 80), 5.0, {"happy": 0.52, "sad": 0.48}, sure=False)
    assert describe([sure, unsure]) == [
        "face 1: happy 90 % (x 1, y 2, 30x40); small; dark",
        "face 2: unsure: happy 52 % or sad 48 % (x 5, y 6, 70x80)",
    ]


def test_photo_as_json_is_one_document_on_stdout(folder, capsys):
    assert main(["--source", "photo.png", "--json"], tools(notes=("a note",))) == 0
    out, err = capsys.readouterr()
    content = json.loads(out)
    assert set(content) == {"schema", "model", "image", "faces"}
    assert content["model"] == {"name": "stand-in", "sha256": "0" * 64}
    assert content["image"] == {"width": 320, "height": 240}
    assert content["faces"][0]["emotion"] == "happy"
    assert err == "emotion_detector: note: stand-in: a note\n"


@pytest.mark.parametrize("name", ["out.jpg", "out.png", "out.WEBP"])
def test_photo_is_written_annotated(folder, capsys, name):
    options = ["--source", "photo.png", "--output", name, "--json", "out.json"]
    assert main(options, tools()) == 0
    faces = Recognizer(stand_in_model()).recognize(portrait())
    expected = annotate(portrait(), faces).astype(int)
    assert abs(read_image(folder / name) - expected).mean() < 6
    assert len(json.loads((folder / "out.json").read_text())["faces"]) == len(faces) == 1
    assert capsys.readouterr().out.startswith("face 1: happy")


@pytest.mark.parametrize("key", [ord("q"), 27])
def test_photo_is_shown_until_a_key(folder, key):
    gui = FakeGui(key, at=3)
    assert main(["--source", "photo.png", "--show"], tools(gui=gui)) == 0
    assert len(gui.shown) == 3
    assert main(["--source", "photo.png"], tools(gui=gui)) == 0
    assert len(gui.shown) == 3


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".webm"])
def test_video_is_written_with_its_results(folder, capsys, suffix):
    options = ["--source", "film.mp4", "--output", f"out{suffix}", "--json", "out.jsonl"]
    assert main(options, tools()) == 0
    assert capsys.readouterr() == ("", "")
    info, found = read_video(folder / f"out{suffix}")
    assert (info.fps, info.size_wh, len(found)) == (10.0, VIDEO_SIZE_WH, 5)
    lines = lines_of((folder / "out.jsonl").read_text())
    assert [line["frame"] for line in lines] == [0, 1, 2, 3, 4]
    assert [line["timestamp_s"] for line in lines] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert all(line["schema"] == 1 and len(line["faces"]) == 1 for line in lines)
    moved = [line["faces"][0]["box"]["x"] for line in lines]
    assert moved == sorted(moved)
    assert moved[-1] - moved[0] == pytest.approx(32, abs=10)
    # the boxes and labels are in the picture
    assert abs(found[0].image.astype(int) - portrait()).max() > 100


def test_video_of_any_name_is_found_by_its_content(folder, capsys):
    (folder / "film").symlink_to(folder / "film.mp4")
    assert main(["--source", "film", "--json"], tools()) == 0
    assert len(lines_of(capsys.readouterr().out)) == 5


@pytest.mark.parametrize(("key", "shown"), [(-1, 5), (ord("q"), 2), (27, 2)])
def test_video_opens_a_window(folder, capsys, key, shown):
    gui = FakeGui(key, at=2)
    assert main(["--source", "film.mp4"], tools(gui=gui)) == 0
    assert len(gui.shown) == shown
    assert gui.shown[0].shape == (480, 640, 3)
    assert capsys.readouterr() == ("", "")


def test_window_shows_the_rate(folder, monkeypatch):
    captions = []
    show = Window.show

    def listen(window, image, caption="", wait_s=0.0):
        captions.append(caption)
        return show(window, image, caption, wait_s)

    monkeypatch.setattr(Window, "show", listen)
    main([], tools(FakeCamera(portrait(), 3), FakeGui()))
    assert captions[0] == "0.0 frames per second"
    assert all(float(caption.split()[0]) > 0 for caption in captions[1:])


@pytest.mark.parametrize(
    "options", [["--json", "x.jsonl"], ["--output", "x.mp4"], ["--no-window", "--json"]]
)
def test_video_with_results_opens_no_window(folder, options):
    gui = FakeGui()
    assert main(["--source", "film.mp4", *options], tools(gui=gui)) == 0
    assert gui.shown == []


def test_video_with_results_is_shown_when_asked(folder):
    gui = FakeGui()
    assert main(["--source", "film.mp4", "--json", "x.json", "--show"], tools(gui=gui)) == 0
    assert len(gui.shown) == len(lines_of((folder / "x.json").read_text())) == 5


@pytest.mark.parametrize(
    ("options", "count"),
    [(["--source", "tilted.png"], 1), (["--source", "tilted.avi"], 0), ([], 0)],
)
def test_only_photos_pay_for_the_fallback_passes(folder, options, count):
    middle = (VIDEO_SIZE_WH[0] // 2, VIDEO_SIZE_WH[1] // 2)
    turn = cv2.getRotationMatrix2D(middle, 35, 1)
    tilted = cv2.warpAffine(portrait(40), turn, VIDEO_SIZE_WH, borderMode=cv2.BORDER_REPLICATE)
    write_image(folder / "tilted.png", tilted)
    with VideoSink(folder / "tilted.avi", VideoInfo(10.0, VIDEO_SIZE_WH, None, True)) as sink:
        sink.write(tilted)
    camera = None if options else FakeCamera(tilted, 1, KeyboardInterrupt)
    main([*options, "--json", "x.json", "--no-window"], tools(camera))
    found = json.loads((folder / "x.json").read_text())["faces"]
    assert len(found) == count


@pytest.mark.parametrize(
    ("source", "pixels"), [("red.png", YunetSettings().detail_pixels), ("red.avi", 640 * 480)]
)
def test_yunet_finds_the_faces_when_asked(folder, source, pixels):
    pytest.importorskip("onnx")
    network = write_yunet_stand_in(folder / "yunet.onnx")
    red = np.zeros((VIDEO_SIZE_WH[1], VIDEO_SIZE_WH[0], 3), np.uint8)
    red[96:128, 128:160] = 255, 0, 0
    write_image(folder / "red.png", red)
    with VideoSink(folder / "red.avi", VideoInfo(10.0, VIDEO_SIZE_WH, None, True)) as sink:
        sink.write(red)
    used = []

    def load_recognizer(stem, detector):
        used.append(detector.settings.detail_pixels)
        return Recognizer(stand_in_model(), detector)

    options = ["--detector", "yunet", "--detector-model", str(network), "--json", "x.json"]
    assert main(["--source", source, *options], Tools(load_recognizer=load_recognizer)) == 0
    (face,) = json.loads((folder / "x.json").read_text())["faces"]
    assert face["score"] > 0.7
    assert used == [pixels]


@pytest.mark.parametrize("key", [ord("q"), 27])
def test_camera_window_and_video_end_with_a_key(folder, capsys, key):
    gui = FakeGui(key, at=3)
    camera = FakeCamera(portrait(), 100)
    assert main(["--output", "out.mp4"], tools(camera, gui)) == 0
    assert len(gui.shown) == 3
    assert camera.count == 97
    assert len(read_video(folder / "out.mp4")[1]) >= 1
    assert capsys.readouterr() == ("", "")


def test_mirror_turns_picture_and_boxes(folder, capsys):
    boxes = []
    for options in ([], ["--mirror"]):
        camera = FakeCamera(portrait(), 1, KeyboardInterrupt)
        main(["--json", "--no-window", *options], tools(camera))
        boxes.append(json.loads(capsys.readouterr().out)["faces"][0]["box"])
    middles = [box["x"] + box["width"] / 2 for box in boxes]
    assert middles[1] == pytest.approx(VIDEO_SIZE_WH[0] - middles[0], abs=8)


def test_ctrl_c_keeps_what_is_finished(folder, capsys):
    camera = FakeCamera(portrait(), 4, KeyboardInterrupt)
    assert main(["--output", "out.avi", "--json", "out.jsonl"], tools(camera)) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "emotion_detector: no window can be opened here; Ctrl-C stops",
        "emotion_detector: interrupted; what was finished is kept",
    ]
    assert len(lines_of((folder / "out.jsonl").read_text())) == 4
    assert read_video(folder / "out.avi")[0].size_wh == VIDEO_SIZE_WH
    assert not list(folder.glob(".part*"))


def test_lost_camera_is_an_error_and_keeps_what_is_finished(folder, capsys):
    assert main(["--json", "--no-window"], tools(FakeCamera(portrait(), 2))) == 1
    out, err = capsys.readouterr()
    assert len(lines_of(out)) == 2
    assert "camera 0; it stopped after 2" in err
    assert err.count("\n") == 1


def test_progress_is_shown_on_a_terminal_only(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main(["--source", "film.mp4", "--json", "x.jsonl"], tools()) == 0
    parts = capsys.readouterr().err.split("\r")
    assert parts[1].startswith("frame 1 of 5, ")
    assert parts[-1].startswith("frame 5 of 5, ")
    assert parts[-1].endswith("0:00 left\033[K\n")


def junk(name, content=b"no picture, no film" * 100):
    return lambda folder: (folder / name).write_bytes(content)


def cut(name):
    return lambda folder: (folder / name).write_bytes(
        (folder / "photo.png").read_bytes()[: 20 * 1024]
    )


def folder_named_a(folder):
    (folder / "a.png").mkdir()


def nothing(folder):
    pass


@pytest.mark.parametrize(
    ("prepare", "options", "code", "message"),
    [
        (nothing, ["--source", "no.jpg"], 1, "there is no file no.jpg"),
        (nothing, ["--source", "."], 1, ". is a folder"),
        (nothing, ["--source", ""], 1, "is a folder"),
        (nothing, ["--source", "-1"], 1, "there is no file -1"),
        (nothing, ["--source", "100"], 2, "camera number up to 99"),
        (nothing, ["--source", "98", "--json"], 1, "camera with number 98"),
        (junk("bad.mp4"), ["--source", "bad.mp4", "--json"], 1, "bad.mp4 cannot be decoded"),
        (junk("bad.mp4", b""), ["--source", "bad.mp4", "--json"], 1, "bad.mp4 is empty"),
        (junk("bad.jpg"), ["--source", "bad.jpg"], 1, "bad.jpg is neither"),
        (junk("bad.jpg", b""), ["--source", "bad.jpg"], 1, "bad.jpg: expected an image"),
        (cut("cut.png"), ["--source", "cut.png"], 1, "cut.png: expected a whole PNG"),
        (nothing, ["--source", "photo.png", "--output", "a.mp4"], 2, ".webp for --output"),
        (nothing, ["--source", "film.mp4", "--output", "a.png"], 2, ".webm for --output"),
        (nothing, ["--source", "film.mp4", "--output", "a.mov"], 2, "received a.mov"),
        (nothing, ["--source", "film.mp4", "--output", "film.mp4"], 2, "differ from --source"),
        (nothing, ["--source", "photo.png", "--output", "./photo.png"], 2, "differ from"),
        (nothing, ["--source", "photo.png", "--json", "photo.png"], 2, ".jsonl for --json"),
        (nothing, ["--source", "photo.png", "--output", "no/a.png"], 1, "there is no no"),
        (nothing, ["--source", "photo.png", "--json", "no/a.json"], 1, "there is no no"),
        (folder_named_a, ["--source", "photo.png", "--output", "a.png"], 1, "a.png is a folder"),
        (nothing, ["--source", "photo.png", "--show"], 1, "nothing can be shown: leave --show"),
        (nothing, ["--source", "film.mp4"], 1, "use --output or --json"),
        (nothing, ["--source", "film.mp4", "--json", "--show"], 1, "leave --show out"),
        (nothing, [], 1, "nothing can be shown: use --output or --json"),
        (nothing, ["--no-window"], 2, "expected --output or --json"),
        (nothing, ["--show", "--no-window"], 2, "not allowed with"),
        (nothing, ["--source", "film.mp4", "--mirror", "--json"], 2, "a camera with --mirror"),
        (nothing, ["--detector", "dlib"], 2, "invalid choice: 'dlib'"),
        (nothing, ["--detector", "yunet"], 2, "yunet: face_detection_yunet_2026may.onnx of OpenCV"),
        (nothing, ["--detector-model", "a.onnx"], 2, "expected --detector yunet with --detector-m"),
        (
            nothing,
            ["--source", "photo.png", "--detector", "yunet", "--detector-model", "no.onnx"],
            1,
            "as no.onnx; there is no such file",
        ),
        (
            junk("bad.onnx"),
            ["--source", "photo.png", "--detector", "yunet", "--detector-model", "bad.onnx"],
            1,
            "cannot run bad.onnx",
        ),
        (nothing, ["--speed", "3"], 2, "unrecognized arguments: --speed 3"),
    ],
)
def test_errors_are_one_line(folder, capsys, prepare, options, code, message):
    prepare(folder)
    before = sorted(path.name for path in folder.iterdir())
    assert main(options, tools()) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("emotion_detector: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(path.name for path in folder.iterdir()) == before


def test_display_is_looked_for_before_the_camera(folder):
    def open_capture(source):
        raise AssertionError("the camera was opened")

    assert main([], tools(open_capture)) == 1


@pytest.mark.parametrize("stem", ["gone", "gone.json", "gone.h5"])
def test_missing_model_is_one_line(folder, capsys, stem):
    assert main(["--source", "photo.png", "--model", stem]) == 1
    err = capsys.readouterr().err
    assert err.startswith("emotion_detector: expected a model as gone.json and gone.h5 in ")
    assert err.count("\n") == 1


def test_help_explains_itself(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    out = capsys.readouterr().out
    assert stop.value.code == 0
    assert "examples:" in out
    assert "--source film.mp4 --output out.mp4" in out


# --- in a process of its own, with a model on disk -------------------------------------------


def write_model(stem):
    """Write a model whose fast form answers every face with the same probabilities."""
    onnx = pytest.importorskip("onnx")
    make = onnx.helper
    total = make.make_node("ReduceSum", ["faces", "axes"], ["total"], keepdims=0)
    column = make.make_node("Unsqueeze", ["total", "last"], ["column"])
    answer = make.make_node("Mul", ["column", "nothing"], ["none"])
    add = make.make_node("Add", ["none", "weights"], ["probabilities"])
    numbers = {
        "axes": np.array([1, 2, 3]),
        "last": np.array([1]),
        "nothing": np.zeros((1, 7), np.float32),
        "weights": np.float32([WEIGHTS]),
    }
    graph = make.make_graph(
        [total, column, answer, add],
        "stand-in",
        [make.make_tensor_value_info("faces", onnx.TensorProto.FLOAT, ["n", 48, 48, 1])],
        [make.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["n", 7])],
        [onnx.numpy_helper.from_array(value, name) for name, value in numbers.items()],
    )
    opset = [make.make_opsetid("", 17)]
    content = make.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    parts = {".json": b"{}", ".h5": b"weights", ".onnx": content}
    for suffix, part in parts.items():
        stem.with_name(stem.name + suffix).write_bytes(part)
    hashes = {suffix: hashlib.sha256(part).hexdigest() for suffix, part in parts.items()}
    seal = {
        "sha256": hashes[".onnx"],
        "architecture_sha256": hashes[".json"],
        "weights_sha256": hashes[".h5"],
    }
    stem.with_name(stem.name + ".onnx.json").write_text(json.dumps(seal))


def run_script(folder, *options, environment=None):
    """Run the script as a user does and return the finished process."""
    return subprocess.run(
        [sys.executable, ROOT / "emotion_detector.py", *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_script_reads_a_video_from_another_folder(folder):
    write_model(folder / "model")
    done = run_script(
        folder, "--source", "film.mp4", "--model", "model", "--json", "--output", "out.webm"
    )
    assert done.returncode == 0
    assert [line["faces"][0]["emotion"] for line in lines_of(done.stdout)] == ["happy"] * 5
    # nothing but the note: neither OpenCV nor FFmpeg speaks
    assert done.stderr.startswith("emotion_detector: note: model: no card")
    assert done.stderr.count("\n") == 1
    assert len(read_video(folder / "out.webm")[1]) == 5


def test_script_keeps_the_frames_before_damage(folder):
    write_model(folder / "model")
    with VideoSink(folder / "cut.avi", VideoInfo(10.0, VIDEO_SIZE_WH, None, True)) as sink:
        for index in range(40):
            sink.write(portrait(index))
    content = (folder / "cut.avi").read_bytes()
    (folder / "cut.avi").write_bytes(content[: len(content) // 4])
    options = ("--source", "cut.avi", "--model", "model", "--json", "--output", "out.avi")
    done = run_script(folder, *options)
    count = len(lines_of(done.stdout))
    assert done.returncode == 0
    assert 5 <= count <= 15
    assert len(read_video(folder / "out.avi")[1]) == count
    warning = done.stderr.splitlines()[1:]
    assert len(warning) == 1
    assert f"only up to frame {count} (" in warning[0]


def test_script_never_speaks_for_opencv(folder):
    (folder / "bad.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"no film" * 1000)
    for options in (["--source", "bad.mp4", "--json"], ["--source", "97", "--json"]):
        write_model(folder / "model")
        done = run_script(folder, *options, "--model", "model", "--no-window")
        assert done.returncode == 1
        assert done.stdout == ""
        *notes, line = done.stderr.splitlines()
        assert len(notes) == 1
        assert line.startswith("emotion_detector: expected a ")


def test_script_without_a_display_is_one_line(folder):
    done = run_script(folder, environment={"PATH": "", "HOME": str(folder)})
    assert done.returncode == 1
    assert done.stderr.startswith("emotion_detector: expected to open a window; ")
    assert done.stderr.count("\n") == 1


def test_reader_of_the_pipe_may_leave(folder):
    write_model(folder / "model")
    options = ("--source", "film.mp4", "--model", "model", "--json", "--output", "out.mp4")
    process = subprocess.Popen(
        [sys.executable, ROOT / "emotion_detector.py", *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()
    with process.stderr as stream:
        err = stream.read()
    assert process.wait(120) == 1
    assert "Traceback" not in err
    assert "BrokenPipe" not in err
    assert len(err.splitlines()) == 1
    assert len(read_video(folder / "out.mp4")[1]) == 1


def test_script_loads_no_tensorflow(folder):
    write_model(folder / "model")
    code = (
        "import sys, emotion_detector; "
        "code = emotion_detector.main(sys.argv[1:]); "
        "sys.exit(code or 'tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--source", folder / "photo.png", "--model", folder / "model"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0
    assert done.stdout.startswith("face 1: happy 80 %")


@pytest.mark.parametrize("reason", ["libGL.so.1: cannot open shared object file", "No module"])
def test_library_that_cannot_be_loaded_is_one_line(folder, reason):
    (folder / "cv2.py").write_text(f"raise ImportError({reason!r})")
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = run_script(folder, "--source", "photo.png", environment=environment)
    assert done.returncode == 1
    assert done.stderr.startswith(f"emotion_detector: a library cannot be loaded ({reason}")
    assert done.stderr.count("\n") == 1
