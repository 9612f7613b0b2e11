"""The same on a real Dask cluster: a scheduler and two workers, each a process of its own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from batch_support import (
    KILLS,
    SLOW,
    SignDetector,
    photos_of,
    read_table,
    wait_for,
    write_photo,
    write_photos,
)

from emotion.batch import BatchOutputs, BatchSettings, ClusterWorkers, run_batch
from emotion.errors import SourceError
from emotion.images.folders import PhotoFile, find_photos

distributed = pytest.importorskip("distributed")

ROOT = Path(__file__).resolve().parents[2]


class Cluster:
    """A scheduler on loopback without this program, and workers that have it."""

    def __init__(self, folder, **variables):
        self.folder, self.processes = folder, []
        file = folder / "scheduler.json"
        options = ("--host", "127.0.0.1", "--port", "0", "--scheduler-file", file)
        self._start("scheduler", *options, **variables)
        self.workers = []
        self.address = None
        wait_for(file.exists)
        wait_for(lambda: self._read(file))

    def _read(self, file):
        try:
            self.address = json.loads(file.read_text())["address"]
        except ValueError:
            return False
        return True

    def _start(self, kind, *arguments, **variables):
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard"]
        environment = {
            name: value for name, value in os.environ.items() if name != "PYTHONPATH"
        } | variables
        process = subprocess.Popen(
            [*command, *map(str, arguments)],
            env=environment,
            cwd=self.folder,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def add_worker(self, *arguments, path=f"{ROOT}{os.pathsep}{ROOT / 'tests' / 'batch'}"):
        """Start a worker of one thread."""
        options = ("--nworkers", "1", "--nthreads", "1", "--local-directory", self.folder)
        self.workers.append(
            self._start("worker", self.address, *options, *arguments, PYTHONPATH=path)
        )

    def wait_for_workers(self, count):
        with distributed.Client(self.address) as client:
            client.wait_for_workers(count, timeout=30)

    def close(self):
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=20)


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path)
    yield made
    made.close()


def run(cluster, model, photos, table, copies=None, **options):
    calls = {"on_photo": options.pop("on_photo")} if "on_photo" in options else {}
    settings = BatchSettings(model=model, make_detector=SignDetector)
    outputs = BatchOutputs((table,), copies)
    # a worker that was just started may take its time on a busy machine
    workers = ClusterWorkers(cluster.address, **{"timeout_s": 30} | options)
    return run_batch(photos, outputs, settings, workers, **calls)


def test_worker_killed_in_mid_run_loses_and_doubles_nothing(cluster, model, tmp_path):
    # without a nanny nobody starts it again
    cluster.add_worker("--no-nanny")
    cluster.add_worker("--no-nanny")
    cluster.wait_for_workers(2)
    write_photos(tmp_path / "photos", 40, SLOW)
    heard = []

    def on_photo(name, results):
        heard.append(name)
        if len(heard) == 8:
            cluster.workers[0].send_signal(signal.SIGKILL)

    report = run(
        cluster, model, find_photos(tmp_path / "photos"), tmp_path / "t.csv", on_photo=on_photo
    )
    assert cluster.workers[0].poll() == -signal.SIGKILL
    expected = [f"{number:03}.png" for number in range(40)]
    assert photos_of(tmp_path / "t.csv") == expected
    assert sorted(heard) == expected
    assert (report.done, report.faces, report.problems) == (40, 40, 0)


def test_photo_that_kills_workers_is_a_row(model, tmp_path):
    write_photos(tmp_path / "photos", 3)
    write_photo(tmp_path / "photos" / "001a.png", KILLS)
    # the first death counts, which also gives up photos that only waited for the same worker
    made = Cluster(tmp_path, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
    with contextlib.closing(made) as cluster:
        cluster.add_worker()
        report = run(cluster, model, find_photos(tmp_path / "photos"), tmp_path / "t.csv")
    rows = read_table(tmp_path / "t.csv")
    assert [bool(row["problem"]) for row in rows] == [False, False, True, False]
    assert (report.faces, report.problems) == (3, 1)


def test_files_travel_and_copies_come_back(cluster, model, tmp_path):
    cluster.add_worker("--no-nanny")
    folder = write_photos(tmp_path / "photos", 2)
    (folder / "text.jpg").write_text("hello")
    photos = find_photos(folder)
    copies = tmp_path / "copies"
    run(cluster, model, photos, tmp_path / "t.csv", copies, send_files=True)
    assert photos_of(tmp_path / "t.csv") == ["000.png", "001.png", "text.jpg"]
    assert sorted(path.name for path in copies.iterdir()) == ["000.png", "001.png"]
    # a folder that the workers do not share: the bytes alone count
    elsewhere = [PhotoFile(tmp_path / "elsewhere" / "a.png", "a.png")]
    run(cluster, model, elsewhere, tmp_path / "u.csv")
    assert "--send-files" in read_table(tmp_path / "u.csv")[0]["problem"]


def test_scheduler_that_goes_away_is_one_line(cluster, model, tmp_path):
    cluster.add_worker("--no-nanny")
    cluster.wait_for_workers(1)
    write_photos(tmp_path / "photos", 400)
    table = tmp_path / "t.csv"
    options = ["--source", tmp_path / "photos", "--table", table, "--model", model]
    process = subprocess.Popen(
        [sys.executable, ROOT / "emotion_detector.py", *options, "--scheduler", cluster.address],
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: table.exists() and table.read_bytes().count(b"\n") > 5)
    cluster.processes[0].kill()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert [line.split(" ")[0] for line in err.splitlines()] == ["emotion_detector:"]
    assert 5 <= len(photos_of(table)) < 400


def test_what_is_no_cluster_of_this_program_is_told(cluster, model, tmp_path, monkeypatch):
    photos = find_photos(write_photos(tmp_path / "photos", 1))
    with pytest.raises(SourceError, match="expected a worker"):
        run(cluster, model, photos, tmp_path / "t.csv", timeout_s=0.5)
    cluster.add_worker("--no-nanny", path=str(ROOT / "tests" / "batch"))
    with pytest.raises(SourceError, match="this program"):
        run(cluster, model, photos, tmp_path / "t.csv")
    assert not (tmp_path / "t.csv").exists()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for address, words in {
            "nonsense": "another kind",
            "http://127.0.0.1:8787": "another kind",
            "tcp://127.0.0.1:port": "such as tcp://host",
            "tls://127.0.0.1:1": "Connection refused",
            "tcp://nowhere.invalid:8786": "tcp://nowhere.invalid:8786: ",
            f"tcp://127.0.0.1:{silent.getsockname()[1]}": "timed out",
        }.items():
            workers = ClusterWorkers(address, timeout_s=0.2)
            with pytest.raises(SourceError, match=words), workers.opened():
                pass
    monkeypatch.setitem(sys.modules, "distributed", None)
    workers = ClusterWorkers("tcp://127.0.0.1:8786")
    with pytest.raises(SourceError, match="pip install"), workers.opened():
        pass
