"""The script in processes of its own, as a user starts it: pipes, signals, stderr, start-up."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from shell_stand_ins import portrait, write_model
from video_files import write_pictures

import emotion_detector
from emotion.images.encoding import write_image
from emotion.video.reading import frames, open_video

ROOT = Path(emotion_detector.__file__).resolve().parent
HEAVY = "av pyarrow pandas matplotlib scipy dask distributed tqdm tensorflow keras".split()


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Return a folder with a model, a photo and a short video of one face."""
    folder = tmp_path_factory.mktemp("originals")
    write_model(folder / "model")
    write_image(folder / "photo.png", portrait())
    write_pictures(folder / "film.mp4", [portrait(8 * index) for index in range(5)])
    write_pictures(folder / "long.mp4", [portrait(index // 8) for index in range(200)])
    return folder


@pytest.fixture
def folder(tmp_path, originals):
    """Return a working folder with links to the model, the photo and the video."""
    for path in originals.iterdir():
        (tmp_path / path.name).symlink_to(path)
    return tmp_path


def read_video(path):
    with open_video(Path(path)) as video:
        return list(frames(video))


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def command(*options):
    return [sys.executable, ROOT / "emotion_detector.py", "--model", "model", *options]


def run_script(folder, *options, environment=None):
    """Run the script as a user does and return the finished process."""
    return subprocess.run(
        command(*options), cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def test_a_video_is_read_from_another_folder(folder):
    done = run_script(folder, "--source", "film.mp4", "--json", "--output", "out.webm")
    assert done.returncode == 0
    assert [line["faces"][0]["emotion"] for line in lines_of(done.stdout)] == ["happy"] * 5
    # nothing but the note: neither OpenCV nor FFmpeg speaks
    assert done.stderr.startswith("emotion_detector: note: model: no card")
    assert done.stderr.count("\n") == 1
    assert len(read_video(folder / "out.webm")) == 5


def test_the_reader_of_the_pipe_may_leave(folder):
    process = subprocess.Popen(
        command("--source", "film.mp4", "--json", "--output", "out.mp4"),
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
    assert len(read_video(folder / "out.mp4")) == 1


def test_closed_streams_are_streams_that_nobody_reads(folder):
    line = " ".join(map(str, command("--source", "photo.png", "--output", "out.png")))
    line = f"{line} <&- >&- 2>&-"
    done = subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert (folder / "out.png").exists()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_whole_files(folder, stop):
    options = "--output out.mp4 --table faces.csv"
    if stop == signal.SIGINT:
        options += " --table faces.parquet --summary summary.json --timeline timeline.png"
    # tests that run as a background job would hand on that they ignore Ctrl-C
    process = subprocess.Popen(
        command("--source", "long.mp4", *options.split()),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    table = folder / "faces.csv"
    while process.poll() is None and not (table.exists() and table.read_bytes().count(b"\n") > 5):
        time.sleep(0.01)
    process.send_signal(stop)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "interrupted" in err.splitlines()[-1]
    assert "Traceback" not in err
    counts = {
        len(read_video(folder / "out.mp4")),
        pd.read_csv(folder / "faces.csv")["frame"].nunique(),
    }
    if stop == signal.SIGINT:
        counts.add(pd.read_parquet(folder / "faces.parquet")["frame"].nunique())
        counts.add(json.loads((folder / "summary.json").read_text())["frames"])
        assert (folder / "timeline.png").stat().st_size > 1000
    # the signal may come between the writing of one file and the next
    assert max(counts) - min(counts) <= 1
    assert 5 <= max(counts) < 200
    assert out.startswith("long.mp4: ")
    assert not list(folder.glob(".part*"))


def test_a_folder_of_photos_becomes_a_table_and_copies(folder):
    (folder / "photos" / "deeper").mkdir(parents=True)
    write_image(folder / "photos" / "a.png", portrait())
    write_image(folder / "photos" / "deeper" / "b.jpg", portrait(20))
    write_image(folder / "photos" / "none.png", np.full((200, 200, 3), 128, np.uint8))
    (folder / "photos" / "bad.jpg").write_bytes(b"no photo")
    (folder / "photos" / "film.mp4").symlink_to(folder / "film.mp4")
    options = ["--source", "photos", "--workers", "1", "--table", "faces.csv", "--output", "copies"]
    done = run_script(folder, *options)
    assert done.returncode == 0
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert "1 video" in lines[0]
    assert any("bad.jpg:" in line for line in lines)
    for words in ("4 photos", "2 faces", "1 problem", "faces.csv", "copies"):
        assert words in lines[-1]
    table = pd.read_csv(folder / "faces.csv")
    assert list(table["photo"]) == ["a.png", "bad.jpg", "deeper/b.jpg", "none.png"]
    assert list(table["emotion"].dropna()) == ["happy", "happy"]
    for name in ("a.png", "deeper/b.jpg", "none.png"):
        assert (folder / "copies" / name).is_file()
    assert not (folder / "copies" / "bad.jpg").exists()
    again = run_script(folder, *options)
    assert again.returncode == 0
    assert "4 done before" in again.stderr.splitlines()[-1]


def test_what_this_machine_lacks_is_one_line(folder):
    (folder / "bad.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"no film" * 1000)
    for source in ("bad.mp4", "97", "rtsp://127.0.0.1:9/live"):
        done = run_script(folder, "--source", source, "--json", "--headless")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 2  # a note and the error: OpenCV and FFmpeg never speak
        assert done.stderr.splitlines()[1].startswith("emotion_detector: expected ")
    done = run_script(folder, environment={"PATH": "", "HOME": str(folder)})
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--headless" in done.stderr
    (folder / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open')")
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = run_script(folder, "--source", "photo.png", environment=environment)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "libGL.so.1" in done.stderr


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_photos_without_a_table_have_a_line_each(folder, options):
    (folder / "bad.jpg").write_bytes(b"no photo")
    before = {path.name for path in folder.iterdir()}
    done = run_script(folder, "--source", "photo.png", "bad.jpg", "--workers", "1", *options)
    assert done.returncode == 0
    if options:
        found = {line["photo"]: line for line in lines_of(done.stdout)}
        assert found["photo.png"]["faces"][0]["emotion"] == "happy"
        assert found["bad.jpg"]["problem"].startswith("expected")
    else:
        lines = sorted(done.stdout.splitlines())
        assert lines[0].startswith("bad.jpg: expected")
        assert lines[1] == "photo.png: 1 face: happy 80%"
        # where no photo at all can be read the exit code tells
        assert run_script(folder, "--source", "bad.jpg", "bad.jpg").returncode == 1
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.parametrize("options", [["--help"], ["--source", "photo.png"]])
def test_photos_and_help_start_without_what_only_others_need(folder, options):
    code = (
        "import sys, contextlib; sys.path.insert(0, sys.argv.pop(1)); import emotion_detector\n"
        "with contextlib.suppress(SystemExit):\n"
        "    emotion_detector.main(sys.argv[1:])\n"
        f"print(*set({HEAVY}) & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, ROOT, *options, "--model", "model"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0
    assert done.stdout.startswith(("usage:", "face 1: happy 80%"))
    assert done.stderr.splitlines()[-1] == ""
