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
from shell_stand_ins import pictures_of, portrait

import emotion_detector
from emotion.images.encoding import write_image

SCRIPT = Path(emotion_detector.__file__)
HEAVY = "av pyarrow pandas matplotlib scipy dask distributed tqdm tensorflow keras".split()


def started(folder, *options, **more):
    return subprocess.Popen(
        [sys.executable, SCRIPT, "--model", "model", *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # tests that run as a background job would hand on that they ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **more,
    )


def finished(folder, *options, **more):
    """Run the script; return its exit code, stdout, and the lines of stderr."""
    process = started(folder, *options, **more)
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    return process.returncode, out, err.splitlines()


def test_streams_may_be_closed_and_their_readers_leave(folder):
    process = started(folder, "--source", "film.mp4", "--json", "--output", "out.webm")
    process.stdout.close()
    _, err = process.communicate(timeout=120)
    # nothing but a note: neither OpenCV nor FFmpeg speaks
    (line,) = err.splitlines()
    assert (process.returncode, "note: model: no card" in line) == (1, True)
    assert len(pictures_of("out.webm")) == 1
    line = f"{sys.executable} {SCRIPT} --model model --source photo.png --output out.png"
    line += " <&- >&- 2>&-"
    assert subprocess.run(line, shell=True, cwd=folder, timeout=120).returncode == 0
    assert (folder / "out.png").exists()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_whole_files(folder, stop):
    options = "--output out.mp4 --json faces.jsonl --table faces.csv --table faces.parquet"
    options += " --summary summary.json --timeline timeline.png"
    process = started(folder, "--source", "long.mp4", *options.split())
    table = folder / "faces.csv"
    while process.poll() is None and not (table.exists() and table.read_bytes().count(b"\n") > 5):
        time.sleep(0.01)
    process.send_signal(stop)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert (err.count("\n"), "interrupted" in err.splitlines()[-1]) == (2, True)
    counts = [
        len(pictures_of("out.mp4")),
        len((folder / "faces.jsonl").read_text().splitlines()),
        pd.read_csv(table)["frame"].nunique(),
        pd.read_parquet(folder / "faces.parquet")["frame"].nunique(),
        json.loads((folder / "summary.json").read_text())["frames"],
    ]
    # the signal may come between the writing of one file and the next
    assert max(counts) - min(counts) <= 1
    assert 5 <= max(counts) < 200
    assert (folder / "timeline.png").stat().st_size > 1000
    assert out.startswith("long.mp4: ")
    assert not list(folder.glob(".part*"))


def test_photos_become_a_table_and_copies_or_lines(folder):
    for name, picture in (
        ("a.png", portrait()),
        ("deeper/b.jpg", portrait(20)),
        ("none.png", np.full((200, 200, 3), 128, np.uint8)),
    ):
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / "photos" / name, picture)
    (folder / "photos" / "bad.jpg").write_bytes(b"no photo")
    (folder / "photos" / "film.mp4").symlink_to(folder / "film.mp4")
    options = ["--source", "photos", "--workers", "1"]
    outputs = ["--table", "faces.csv", "--output", "copies"]
    code, out, err = finished(folder, *options, *outputs)
    assert (code, out, "1 video" in err[0]) == (0, "", True)
    assert any("bad.jpg:" in line for line in err)
    for words in ("4 photos", "2 faces", "1 problem", "faces.csv", "copies"):
        assert words in err[-1]
    table = pd.read_csv(folder / "faces.csv")
    assert list(table["photo"]) == ["a.png", "bad.jpg", "deeper/b.jpg", "none.png"]
    assert list(table["emotion"].dropna()) == ["happy", "happy"]
    copies = {str(path.relative_to(folder)) for path in folder.rglob("copies/**/*.*")}
    assert copies == {"copies/a.png", "copies/deeper/b.jpg", "copies/none.png"}
    code, _, err = finished(folder, *options, *outputs)
    assert (code, "4 done before" in err[-1]) == (0, True)
    # without a table each has a line, and nothing stays
    before = {path.name for path in folder.iterdir()}
    code, out, _ = finished(folder, *options)
    a, bad, b, none = sorted(out.splitlines())
    assert (code, a, b) == (0, "a.png: 1 face: happy >99%", "deeper/b.jpg: 1 face: happy >99%")
    assert (none, bad.startswith("bad.jpg: expected")) == ("none.png: no face found", True)
    # where no photo at all can be read the exit code tells
    code, out, _ = finished(folder, "--source", "photos/bad.jpg", "photos/bad.jpg", "--json")
    assert code == 1
    assert json.loads(out)["problem"].startswith("expected")
    assert {path.name for path in folder.iterdir()} == before


def test_what_this_machine_lacks_is_one_line(folder):
    (folder / "bad.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"no film" * 1000)
    for source in ("bad.mp4", "97", "rtsp://127.0.0.1:9/live"):
        code, out, err = finished(folder, "--source", source, "--json", "--headless")
        assert (code, out) == (1, "")
        assert len(err) == 2  # a note and the error: OpenCV and FFmpeg never speak
        assert err[1].startswith("emotion_detector: expected ")
    (folder / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open')")
    for variables, words in (
        ({"PATH": "", "HOME": str(folder)}, "--headless"),
        (os.environ | {"PYTHONPATH": str(folder)}, "libGL.so.1"),
    ):
        code, _, (line,) = finished(folder, env=variables)
        assert (code, words in line) == (1, True)


@pytest.mark.parametrize("options", [["--help"], ["--source", "photo.png"]], ids=["help", "photo"])
def test_photos_and_help_start_without_what_only_others_need(folder, options):
    code = (
        "import sys, contextlib; sys.path.insert(0, sys.argv.pop(1)); import emotion_detector\n"
        "with contextlib.suppress(SystemExit):\n"
        "    emotion_detector.main(sys.argv[1:])\n"
        f"print(*set({HEAVY}) & set(sys.modules), file=sys.stderr)"
    )
    line = [sys.executable, "-c", code, SCRIPT.parent, *options, "--model", "model"]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert done.stdout.startswith(("usage:", "face 1: happy >99%"))
    assert done.stderr.splitlines()[-1] == ""
