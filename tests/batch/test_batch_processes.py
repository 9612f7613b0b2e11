"""A batch in processes: workers that die, photos that hang, runs that are killed."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from batch_support import (
    HANGS,
    KILLS,
    SLOW,
    SignDetector,
    ThreadWorkers,
    photos_of,
    read_table,
    wait_for,
    write_photo,
    write_photos,
)

from emotion.batch import LocalWorkers
from emotion.errors import SourceError

ROOT = Path(__file__).resolve().parents[2]


def test_workers_that_die_and_photos_that_hang(batch, tmp_path):
    folder = tmp_path / "photos"
    write_photos(folder, 6)
    write_photo(folder / "001a.png", KILLS)
    write_photo(folder / "003a.png", HANGS)
    heard = []

    def on_photo(name, results):
        heard.append(name)
        if len(heard) == 1:
            # the photo that kills may have ended the workers already
            for worker in multiprocessing.active_children()[:1]:
                worker.kill()

    report = batch(
        LocalWorkers(2), photo_timeout_s=1.0, copies=tmp_path / "copies", on_photo=on_photo
    )
    rows = read_table(tmp_path / "t.csv")
    assert [row["photo"] for row in rows] == sorted(path.name for path in folder.iterdir())
    ended = [row["photo"] for row in rows if "twice" in row["problem"]]
    assert ended == ["001a.png", "003a.png"]
    assert sorted(heard) == [row["photo"] for row in rows]
    assert (report.problems, report.faces) == (2, 6)


def test_workers_that_cannot_start_are_told(batch, folder, monkeypatch):
    def fail(*arguments, **options):
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(SourceError, match="workers that start"):
        batch(LocalWorkers(1), make_detector=partial(_detector_for, os.getpid()))
    for name in ("submit", "__init__"):
        monkeypatch.setattr(ProcessPoolExecutor, name, fail)
        with pytest.raises(SourceError, match="Broken pipe"):
            batch(LocalWorkers(1))
    with pytest.raises(SourceError, match="1 worker"):
        LocalWorkers(0)


def _detector_for(process):
    """Return a detector in one process; end any other."""
    if os.getpid() != process:
        os._exit(3)
    return SignDetector()


RUN = """
import signal
import sys
# tests that a shell began in the background would hand on that it is ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
sys.path[:0] = {paths!r}
from batch_support import SignDetector
from emotion.batch import *
from emotion.images.folders import find_photos
if __name__ == "__main__":
    folder = Path({folder!r})
    settings = BatchSettings(Path({model!r}), SignDetector)
    outputs = BatchOutputs((folder / "t.csv",))
    run_batch(find_photos(folder / "photos"), outputs, settings, LocalWorkers(2))
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_killed_run_loses_the_photos_in_hand_alone(batch, model, tmp_path, name):
    write_photos(tmp_path / "photos", 24, SLOW)
    paths = [str(ROOT), str(ROOT / "tests" / "batch")]
    script = tmp_path / "run.py"
    script.write_text(RUN.format(paths=paths, folder=str(tmp_path), model=str(model)))
    process = subprocess.Popen(
        [sys.executable, script], start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    table = tmp_path / "t.csv"
    wait_for(lambda: table.exists() and len(photos_of(table)) >= 5)
    if name == "SIGINT":
        # as a terminal sends it: to the workers too, which must say nothing
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGKILL)
    _, said = process.communicate()
    assert said.count("Traceback") == (name == "SIGINT")
    done = photos_of(tmp_path / "t.csv")
    assert 5 <= len(done) < 24
    assert len(set(done)) == len(done)
    with contextlib.suppress(ProcessLookupError):  # until none of its processes is alive
        wait_for(lambda: os.killpg(process.pid, 0))
    report = batch(ThreadWorkers(4))
    assert report.skipped >= len(done)
    assert photos_of(tmp_path / "t.csv") == [f"{number:03}.png" for number in range(24)]
