"""How many phone photos of a folder are answered a second: processes here, a Dask cluster, `fer`.

python benchmarks/folder.py --fer-python /path/to/python

All ways read the same files, in turns. `fer` (PyPI) needs an environment of its own; without
--fer-python it is left out. Run it on an otherwise idle machine.
"""

import argparse
import contextlib
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image
from serving import _china, _hopper, _pillow

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SIZE_WH = (4000, 3000)
START_TIMEOUT_S = 60


@dataclass(frozen=True)
class Turn:
    """One way's turn: the photos it read while it was timed, their faces, and the seconds.

    Attributes:
        photos: how many were timed.
        faces: found in those.
        seconds: from the first of them to the last.
        all_s: of the whole command, with the start of its workers.
    """

    photos: int
    faces: int
    seconds: float
    all_s: float

    @property
    def rate(self) -> float:
        return self.photos / self.seconds


def main() -> None:
    """Make the photos, let the ways take turns, print the table."""
    options = parse()
    if options.fer_worker:
        work_as_fer(options.fer_worker)
        return
    with tempfile.TemporaryDirectory(prefix="folder-benchmark-") as made:
        folder = Path(made)
        people = write_photos(folder / "photos", options)
        paths = sorted((folder / "photos").iterdir())
        ways = all_ways(folder, paths, options)
        turns: dict[str, list[Turn]] = {name: [] for name in ways}
        for turn in range(options.rounds):
            for name, run in ways.items():
                turns[name].append(run())
                print(f"round {turn + 1}: {name}: {turns[name][-1]}", file=sys.stderr)
        print_table(turns, paths, people / len(paths))


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--photos", type=int, default=60, help="how many photos (%(default)s)")
    add("--megapixels", type=float, default=12, help="of each photo (%(default)s)")
    add("--fer-photos", type=int, default=10, help="how many of them fer reads (%(default)s)")
    add("--rounds", type=int, default=2, help="turns of each way (%(default)s)")
    add("--workers", type=int, nargs="+", default=[1, 2], help="how many workers (%(default)s)")
    add("--fer-python", type=Path, help="the python of an environment with `fer`")
    add("--no-dask", action="store_true", help="leave the cluster out")
    add("--fer-worker", nargs="+", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def all_ways(folder: Path, paths: list[Path], options) -> dict[str, Callable[[], Turn]]:
    """Return the ways by name, ours first."""
    ways: dict[str, Callable[[], Turn]] = {}
    for count in options.workers:
        ways[f"ours, {count} {plural('worker', count)}"] = lambda count=count: run_local(
            folder, count
        )
    if not options.no_dask:
        for count in options.workers:
            ways[f"ours, Dask, {count} {plural('worker', count)}"] = lambda count=count: run_dask(
                folder, count
            )
    if options.fer_python:
        chosen = paths[: options.fer_photos]
        for count in options.workers:
            ways[f"`fer`, {count} {plural('process', count)}"] = lambda count=count: run_fer(
                chosen, count, options.fer_python
            )
    return ways


def plural(word: str, count: int) -> str:
    return word if count == 1 else f"{word}{'es' if word.endswith('s') else 's'}"


# photos


def write_photos(folder: Path, options) -> int:
    """Write photos as phones make them; return how many people are on them."""
    folder.mkdir()
    paths = [folder / f"IMG_{number:04}.jpg" for number in range(options.photos)]
    scale = (options.megapixels * 1e6 / (SIZE_WH[0] * SIZE_WH[1])) ** 0.5
    with ProcessPoolExecutor() as pool:
        return sum(pool.map(write_photo, paths, range(options.photos), [scale] * options.photos))


def write_photo(path: Path, number: int, scale: float) -> int:
    """Write a photo of one to three people, near or far, none in each tenth; return how many."""
    import skimage.data

    random = np.random.default_rng(number)
    canvas = _pillow(_china()).resize([round(side * scale) for side in SIZE_WH])
    people = [_pillow(skimage.data.astronaut()).crop((120, 0, 332, 212)), _pillow(_hopper())]
    count = 0 if number % 10 == 9 else random.integers(1, 4)
    width = canvas.width // max(1, count)
    for place in range(count):
        person = people[random.integers(2)]
        height = round(canvas.height * random.uniform(0.15, 0.6))
        size_wh = (min(width, round(person.width * height / person.height)), height)
        left = place * width + random.integers(0, max(1, width - size_wh[0]))
        canvas.paste(person.resize(size_wh), (left, random.integers(0, canvas.height - height)))
    noise = random.normal(0, 4, (canvas.height, canvas.width, 1))
    noisy = np.clip(np.asarray(canvas) + noise, 0, 255).astype(np.uint8)
    _pillow(noisy).save(path, quality=92)
    return int(count)


# ours


def run_local(folder: Path, count: int) -> Turn:
    """Return a turn of our processes."""
    from emotion.batch import LocalWorkers

    return run_ours(folder, LocalWorkers(count), count)


def run_ours(folder: Path, workers, count: int) -> Turn:
    """Return a turn of ours, timed from the answer by which every worker has its model."""
    from emotion.batch import BatchOutputs, BatchSettings, run_batch
    from emotion.images.folders import find_photos

    answers: list[tuple[float, int]] = []

    def on_photo(_, results) -> None:
        answers.append((time.perf_counter(), len(results["faces"])))

    start_s = time.perf_counter()
    outputs, settings = BatchOutputs((folder / "table.csv",)), BatchSettings(again=True)
    run_batch(find_photos(folder / "photos"), outputs, settings, workers, on_photo=on_photo)
    all_s = time.perf_counter() - start_s
    timed = answers[2 * count :]
    seconds = timed[-1][0] - answers[2 * count - 1][0]
    return Turn(len(timed), sum(faces for _, faces in timed), seconds, all_s)


def run_dask(folder: Path, count: int) -> Turn:
    """Return a turn of a cluster on this machine: a scheduler, and workers of one thread each."""
    from emotion.batch import ClusterWorkers

    with tempfile.TemporaryDirectory() as made, contextlib.ExitStack() as stack:
        file = Path(made) / "scheduler.json"
        options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        stack.enter_context(dask("scheduler", *options, "--scheduler-file", str(file)))
        address = read_address(file)
        one = ("--nworkers", "1", "--nthreads", "1", "--no-dashboard", "--local-directory", made)
        for _ in range(count):
            stack.enter_context(dask("worker", address, *one))
        wait_for_workers(address, count)
        return run_ours(folder, ClusterWorkers(address), count)


@contextlib.contextmanager
def dask(kind: str, *arguments: str) -> Iterator[None]:
    """Run a process of the cluster, which is ended with all that it started."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.dask_{kind}", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def read_address(file: Path) -> str:
    """Return the address of a scheduler, when it is up."""
    until_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until_s:
        with contextlib.suppress(OSError, ValueError):
            return json.loads(file.read_text())["address"]
        time.sleep(0.05)
    raise SystemExit("the scheduler does not start")


def wait_for_workers(address: str, count: int) -> None:
    """Wait until a cluster has all its workers."""
    from distributed import Client

    with Client(address) as client:
        client.wait_for_workers(count, START_TIMEOUT_S)


# fer


def run_fer(paths: list[Path], count: int, python: Path) -> Turn:
    """Return a turn of `fer`: photos dealt to processes that all have their model."""
    start_s = time.perf_counter()
    processes = [
        subprocess.Popen(
            [python, Path(__file__).resolve(), "--fer-worker", *paths[part::count]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for part in range(count)
    ]
    for process in processes:
        answer_of(process, "ready")
    go_s = time.perf_counter()
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    faces = sum(int(answer_of(process, "faces")) for process in processes)
    end_s = time.perf_counter()
    for process in processes:
        process.communicate()
    return Turn(len(paths), faces, end_s - go_s, end_s - start_s)


def answer_of(process: subprocess.Popen, word: str) -> str:
    """Return what stands behind a word that a process says; libraries print to stdout too."""
    for line in process.stdout:
        if line.startswith(f"{word} "):
            return line.split()[1]
    raise SystemExit("fer ended early: try its python by hand")


def work_as_fer(paths: list[Path]) -> None:
    """Read one photo to warm up, wait for a line, and read all, as the package's README says."""
    import cv2
    from fer import fer

    reader = fer.FER(mtcnn=False)
    reader.detect_emotions(cv2.imread(str(paths[0])))
    print("ready now", flush=True)
    sys.stdin.readline()
    faces = sum(len(reader.detect_emotions(cv2.imread(str(path)))) for path in paths)
    print("faces", faces, flush=True)


# table


def print_table(turns: dict[str, list[Turn]], paths: list[Path], people: float) -> None:
    """Print medians over the rounds."""
    size = sum(path.stat().st_size for path in paths) / len(paths) / 1e6
    with Image.open(paths[0]) as photo:
        pixels = "{}x{}".format(*photo.size)
    print(
        f"{len(paths)} photos of {pixels} pixels, {size:.1f} MB and {people:.1f} people each; "
        f"{os.cpu_count()} processors, Python {platform.python_version()}; medians of "
        f"{len(next(iter(turns.values())))} rounds:\n"
    )
    rates = {name: median(turn.rate for turn in taken) for name, taken in turns.items()}
    fer = next((name for name in turns if name.startswith("`fer`")), None)
    columns = ["way", "photos timed", "faces a photo", "seconds with the start"]
    columns += ["photos a second", "against its 1 worker"]
    columns += [f"times as fast as {fer}"] if fer else []
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for name, taken in turns.items():
        alone = next(other for other in turns if other.split(",")[:-1] == name.split(",")[:-1])
        cells = [name, str(taken[0].photos)]
        cells.append(f"{median(turn.faces / turn.photos for turn in taken):.1f}")
        cells.append(f"{median(turn.all_s for turn in taken):.1f}")
        cells += [f"{rates[name]:.2f}", f"{rates[name] / rates[alone]:.2f}"]
        cells += [f"{rates[name] / rates[fer]:.1f}"] if fer else []
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
