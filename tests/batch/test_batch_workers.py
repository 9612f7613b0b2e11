"""A batch in processes and on a cluster: workers that die, photos that hang, killed runs."""

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import batch_support
import pandas as pd
import pytest
from batch_support import SignDetector, photos_of, read_table, write_photo, write_photos

from emotion.batch import ClusterWorkers, LocalWorkers, executors
from emotion.errors import SourceError

ROOT = Path(__file__).resolve().parents[2]
PATHS = f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'batch'}"


def wait_for(condition):
    until_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.05)


def lost_in(table):
    """Return the photos that twice ended a worker."""
    return [row["photo"] for row in read_table(table) if "twice" in row["problem"]]


def test_workers_that_die_and_photos_that_hang(batch, folder, table, tmp_path):
    write_photo(folder / "001a.png", "kills")
    write_photo(folder / "002a.png", "hangs")
    heard = []

    def on_photo(name, results):
        heard.append(name)
        if len(heard) == 1:
            # the photo that kills may have ended the workers already
            for worker in multiprocessing.active_children()[:1]:
                worker.kill()

    report = batch(LocalWorkers(2), tmp_path / "copies", photo_timeout_s=2.0, on_photo=on_photo)
    assert photos_of(table) == sorted(heard) == sorted(path.name for path in folder.iterdir())
    assert lost_in(table) == ["001a.png", "002a.png"]
    assert (report.problems, report.faces) == (2, 3)


def _detector_for(process):
    """Return a detector in one process; end any other."""
    if os.getpid() != process:
        os._exit(3)
    return SignDetector()


def test_workers_that_cannot_start_are_told(batch, folder, monkeypatch):
    def fail(*arguments, **options):
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(SourceError, match="workers that start"):
        batch(LocalWorkers(1), make_detector=partial(_detector_for, os.getpid()))
    monkeypatch.setattr(ProcessPoolExecutor, "submit", fail)
    with pytest.raises(SourceError, match="Broken pipe"):
        batch(LocalWorkers(1))


RUN = """
import signal
import sys
# tests that a shell began in the background would hand on that it is ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from batch_support import SignDetector
from emotion.batch import *
from emotion.images.folders import find_photos
settings = BatchSettings(Path(sys.argv[1]), SignDetector)
outputs = BatchOutputs((Path("t.csv"), Path("t.parquet")))
run_batch(find_photos("photos"), outputs, settings, LocalWorkers(2))
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_killed_run_loses_the_photos_in_hand_alone(batch, model, table, tmp_path, name):
    names = write_photos(tmp_path / "photos", 24, "slow")
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, model],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": PATHS},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: table.exists() and len(photos_of(table)) >= 5)
    if name == "SIGINT":
        # as a terminal sends it: to the workers too, which must say nothing
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.kill()
    _, said = process.communicate()
    done = photos_of(table)
    assert 5 <= len(set(done)) == len(done) < 24
    assert said.count("Traceback") == (name == "SIGINT")
    if name == "SIGINT":
        assert list(pd.read_parquet(tmp_path / "t.parquet")["photo"]) == done
    with contextlib.suppress(ProcessLookupError):  # until none of its processes is alive
        wait_for(lambda: os.killpg(process.pid, 0))
    assert batch(batch_support.ThreadWorkers(4)).skipped >= len(done)
    assert photos_of(table) == names


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Start a scheduler on loopback without this program; give what starts workers that have it."""
    from distributed import Client

    monkeypatch.setattr(executors, "CONNECT_TIMEOUT_S", 60)  # a busy machine takes its time
    processes, file = [], tmp_path / "scheduler.json"
    # the first death counts, which also gives up photos that only waited for the same worker
    variables = os.environ | {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}

    def start(kind, *arguments, path=""):
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard"]
        process = subprocess.Popen(
            [*command, *map(str, arguments)],
            env=variables | {"PYTHONPATH": path},
            cwd=tmp_path,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        processes.append(process)

    def add_workers(count=1, path=PATHS):
        options = ("--nworkers", "1", "--nthreads", "1", "--local-directory", tmp_path)
        for _ in range(count):
            start("worker", address, *options, path=path)
        with Client(address) as client:
            client.wait_for_workers(count, timeout=90)

    try:
        start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", file)
        wait_for(lambda: file.exists() and file.read_text().endswith("}"))
        address = json.loads(file.read_text())["address"]
        yield SimpleNamespace(address=address, processes=processes, add_workers=add_workers)
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=20)


def test_workers_killed_in_mid_run_lose_and_double_nothing(cluster, batch, table, tmp_path):
    cluster.add_workers(2)
    names = write_photos(tmp_path / "photos", 40, "slow")
    write_photo(tmp_path / "photos" / "030a.png", "kills")
    heard, copies = [], tmp_path / "copies"

    def on_photo(name, results):
        heard.append(name)
        if len(heard) == 8:
            os.killpg(cluster.processes[1].pid, signal.SIGKILL)

    # files travel there, and copies back
    report = batch(ClusterWorkers(cluster.address, send_files=True), copies, on_photo=on_photo)
    assert photos_of(table) == sorted(heard) == sorted([*names, "030a.png"])
    assert lost_in(table) == ["030a.png"]
    assert (report.done, report.faces, report.problems) == (41, 40, 1)
    assert sorted(path.name for path in copies.iterdir()) == names


def test_scheduler_that_goes_away_is_one_line(cluster, model, table, tmp_path):
    cluster.add_workers()
    write_photos(tmp_path / "photos", 400)
    options = ["--source", "photos", "--table", table, "--model", model]
    process = subprocess.Popen(
        [sys.executable, ROOT / "emotion_detector.py", *options, "--scheduler", cluster.address],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: process.poll() or (table.exists() and table.read_bytes().count(b"\n") > 5))
    cluster.processes[0].kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    # a machine that takes half a minute also gets lines of progress
    lines = [line for line in err.splitlines() if " photos" not in line]
    assert [line.split(" ")[0] for line in lines] == ["emotion_detector:"], err
    assert 5 <= len(photos_of(table)) < 400


def test_what_is_no_cluster_of_ours_is_told(cluster, batch, folder, table, monkeypatch):
    monkeypatch.setattr(executors, "CONNECT_TIMEOUT_S", 4)
    with pytest.raises(SourceError, match="expected a worker"):
        batch(ClusterWorkers(cluster.address))
    cluster.add_workers(path=str(ROOT / "tests" / "batch"))
    monkeypatch.setattr(executors, "CONNECT_TIMEOUT_S", 30)
    with pytest.raises(SourceError, match="this program"):
        batch(ClusterWorkers(cluster.address))
    assert not table.exists()

    def expect(words, address="tcp://127.0.0.1:8786"):
        with pytest.raises(SourceError, match=words), ClusterWorkers(address).opened():
            pass

    monkeypatch.setattr(executors, "CONNECT_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        expect("timed out", f"tcp://127.0.0.1:{silent.getsockname()[1]}")
    expect("another kind", "http://127.0.0.1:8787")
    expect("Connection refused", "tls://127.0.0.1:1")
    expect("tcp://nowhere.invalid:8786: ", "tcp://nowhere.invalid:8786")
    monkeypatch.setitem(sys.modules, "distributed", None)
    expect("pip install")
