"""Frames a second of video stage by stage, against `fer`; identities; flicker of labels: video.md.

python benchmarks/video.py --fer-python /path/to/python --fer2013 /path/to/fer2013.csv

Every way runs in a process of its own, loaded once, and the ways take turns, a video each, so a
machine that slows down slows all of them. `fer` (PyPI) needs an environment of its own; without
--fer-python it is left out, and without --fer2013 so is the table of flicker. Run it on an
otherwise idle machine; it takes less than 6 minutes on two cores.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TextIO

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from video_scenes import (
    FPS,
    Actor,
    Film,
    PoorDetector,
    Scene,
    Score,
    Truth,
    films,
    overlap,
    shoot,
    sway,
)

SIZES_WH = ((640, 480), (1280, 720))
STAGES = ("read", "detect", "track", "classify", "draw", "write")
FILE, LIVE, FER = "ours, file", "ours, live", "fer"
MARK = "video-benchmark "  # how a worker's own lines begin: libraries print to stdout too


def main(arguments: list[str] | None = None) -> int:
    """Print all tables."""
    options = parse(arguments)
    if options.worker:
        return work(options.worker)
    if "speed" in options.only:
        print_speed(options)
    if "identity" in options.only:
        print_identity()
    if "flicker" in options.only and options.fer2013:
        from video_flicker import print_flicker

        print_flicker(options.fer2013)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fer-python", type=Path, help="the python of an environment with `fer`")
    parser.add_argument("--fer2013", type=Path, help="fer2013.csv, for faces that change")
    parser.add_argument("--rounds", type=int, default=3, help="turns that count (%(default)s)")
    parser.add_argument("--frames", type=int, default=60, help="frames a video (%(default)s)")
    parts = ("speed", "identity", "flicker")
    parser.add_argument("--only", nargs="+", default=parts, choices=parts, help="which tables")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


# speed


def print_speed(options: argparse.Namespace) -> None:
    """Print a table a video: milliseconds a frame by stage."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        videos = dict(write_videos(folder, options.frames))
        workers = []
        for name in (FILE, LIVE, *([FER] if options.fer_python else [])):
            errors = stack.enter_context(tempfile.TemporaryFile("w+"))
            workers.append(Worker(name, options, errors))
            stack.callback(workers[-1].close)
        measured = take_turns(workers, videos, options.rounds)
    for video in videos:
        print_video(video, workers, measured, options)


def write_videos(folder: Path, frames: int) -> Iterator[tuple[str, Path]]:
    """Yield name and file of each video, all in H.264 as phones and browsers make them."""
    from emotion.video.reading import VideoInfo
    from emotion.video.writing import VideoSink

    for size_wh in SIZES_WH:
        for count in (1, 5):
            name = f"{size_wh[0]}x{size_wh[1]}, {count} face" + "s" * (count > 1)
            path = folder / f"{size_wh[1]}p{count}.mp4"
            with VideoSink(path, VideoInfo(FPS, size_wh)) as sink:
                for truth in shoot(moving_faces(size_wh, count, frames / FPS)):
                    sink.write(truth.image, truth.timestamp_s)
            yield name, path


def moving_faces(size_wh: tuple[int, int], count: int, seconds: float) -> Film:
    """Return a film of one face of a third of the height, or of smaller ones side by side."""
    from video_scenes import backgrounds, people

    width, height = size_wh
    side = height / 3.2 if count == 1 else height / 6.4
    actors = [
        Actor(
            str(place),
            person,
            sway((width * (place + 0.5) / count, height * 0.42, side), side / 3, 2 + place / 3),
        )
        for place, person in enumerate(people()[:count])
    ]
    return Film("speed", (Scene(seconds, backgrounds(size_wh)[0], tuple(actors)),))


class Stopwatch:
    """Adds up the time spent in each stage."""

    def __init__(self):
        self.spent_s: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    def timed(self, stage: str, function: Callable) -> Callable:
        """Return a function that does the same and is timed."""

        def run(*arguments, **options):
            self.calls[stage] = self.calls.get(stage, 0) + 1
            start_s = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                used_s = time.perf_counter() - start_s
                self.spent_s[stage] = self.spent_s.get(stage, 0.0) + used_s

        return run

    def each(self, stage: str, items: Iterable) -> Iterator:
        """Yield what an iterator yields; its own time is timed."""
        take = self.timed(stage, iter(items).__next__)
        while True:
            try:
                yield take()
            except StopIteration:
                return

    def measure(self, answer: Callable[[Path], list[int]], path: Path) -> dict[str, float]:
        """Return milliseconds a frame by stage and of the processor, and faces a frame."""
        self.spent_s.clear()
        self.calls.clear()
        cpu_s, start_s = time.process_time(), time.perf_counter()
        counts = answer(path)
        total_s = time.perf_counter() - start_s
        spent_s = dict.fromkeys(STAGES, 0.0) | self.spent_s
        spent_s |= {"total": total_s, "CPU": time.process_time() - cpu_s}
        shares = {name: 1000 * seconds / len(counts) for name, seconds in spent_s.items()}
        looks = len(counts) / self.calls["detect"]
        return shares | {"faces": sum(counts) / len(counts), "look every": looks}


def work(name: str) -> int:
    """Answer each path on stdin with a line of figures on stdout, until stdin ends."""
    watch = Stopwatch()
    answer = load_fer(watch) if name == FER else load_ours(watch, is_live=name == LIVE)
    for line in sys.stdin:
        figures = watch.measure(answer, Path(line.strip()))
        sys.stdout.write(f"{MARK}{json.dumps(figures)}\n")
        sys.stdout.flush()
    return 0


def load_ours(watch: Stopwatch, is_live: bool) -> Callable[[Path], list[int]]:
    """Return what the script does: a file to an annotated file, or a live picture to a window.

    For a live picture the frames come from the file as fast as they are asked for.
    """
    from emotion.detection.haar import FaceDetector
    from emotion.drawing import annotate
    from emotion.recognizer import Recognizer
    from emotion.video.following import CAMERA_SEARCH, VIDEO_SEARCH, follow
    from emotion.video.reading import frames, open_video
    from emotion.video.writing import VideoSink

    recognizer = Recognizer.load(detector=FaceDetector(CAMERA_SEARCH if is_live else VIDEO_SEARCH))
    recognizer.detector.detect = watch.timed("detect", recognizer.detector.detect)
    recognizer.look = watch.timed("classify", recognizer.look)
    draw = watch.timed("draw", annotate)

    def answer(path: Path) -> list[int]:
        counts = []
        with contextlib.ExitStack() as stack:
            video = stack.enter_context(open_video(path))
            write = None
            if not is_live:
                sink = stack.enter_context(VideoSink(path.with_suffix(".out.mp4"), video.info))
                write = watch.timed("write", sink.write)
            read = watch.each("read", frames(video))
            for seen in watch.each("follow", follow(recognizer, read, is_live=is_live)):
                faces = [tracked.face for tracked in seen.faces]
                picture = draw(seen.image, faces, [tracked.track for tracked in seen.faces])
                if write:
                    write(picture, seen.timestamp_s)
                counts.append(len(faces))
        # what following took beyond what it called
        called_s = sum(watch.spent_s.get(stage, 0.0) for stage in ("read", "detect", "classify"))
        watch.spent_s["track"] = watch.spent_s.pop("follow") - called_s
        return counts

    return answer


def load_fer(watch: Stopwatch) -> Callable[[Path], list[int]]:
    """Return what `fer` does with the frames of a video, as its `Video.analyze` does: with Haar."""
    from fer import fer
    from fer.utils import draw_annotations

    reader = fer.FER(mtcnn=False)
    reader.find_faces = watch.timed("detect", reader.find_faces)
    answer_frame = watch.timed("answer", reader.detect_emotions)
    draw = watch.timed("draw", draw_annotations)

    def answer(path: Path) -> list[int]:
        counts = []
        capture = cv2.VideoCapture(str(path))
        size_wh = [int(capture.get(side)) for side in (3, 4)]
        codec = cv2.VideoWriter_fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(path.with_suffix(".fer.mp4")), codec, FPS, size_wh)
        read, write = watch.timed("read", capture.read), watch.timed("write", writer.write)
        while (grabbed := read())[0]:
            faces = answer_frame(grabbed[1])
            write(draw(grabbed[1], faces))
            counts.append(len(faces))
        capture.release()
        writer.release()
        watch.spent_s["classify"] = watch.spent_s.pop("answer") - watch.spent_s["detect"]
        return counts

    return answer


class Worker:
    """A way and its process."""

    def __init__(self, name: str, options: argparse.Namespace, errors: TextIO):
        """Start the process of a way; what it writes on stderr goes to an open file."""
        self.name, self._errors = name, errors
        python = options.fer_python if name == FER else sys.executable
        self._process = subprocess.Popen(
            [str(python), str(Path(__file__).resolve()), "--worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )

    def measure(self, path: Path) -> dict[str, float]:
        """Return the figures of one video."""
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        self._errors.seek(0)
        raise SystemExit(f"{self.name} ended early:\n{self._errors.read()[-2000:]}")

    def close(self) -> None:
        """End the process."""
        self._process.stdin.close()
        self._process.wait()


def take_turns(workers: list[Worker], videos: dict[str, Path], rounds: int):
    """Return (video, way) -> the figures of each round; each way warms up on the first video."""
    measured = {(video, worker.name): [] for video in videos for worker in workers}
    for worker in workers:
        worker.measure(next(iter(videos.values())))
    for turn in range(rounds):
        for video, path in videos.items():
            for worker in workers:
                measured[video, worker.name].append(worker.measure(path))
        print(f"round {turn + 1} of {rounds}", file=sys.stderr)
    return measured


def print_video(video: str, workers: list[Worker], measured, options: argparse.Namespace) -> None:
    """Print the table of one video: medians, and the medians of the ratios round by round."""
    columns = ("way", "faces", "look every", *STAGES, "total", "CPU", "frames a second")
    columns += ("times as fast as fer", "by CPU time") if options.fer_python else ()
    print(f"\n{video}, {options.frames} frames, median milliseconds of {options.rounds} rounds:\n")
    print("| " + " | ".join(columns) + " |")
    print("| " + " | ".join(["---"] * len(columns)) + " |")
    for worker in workers:
        theirs = measured[video, FER] if options.fer_python else None
        print(row(worker.name, measured[video, worker.name], theirs))


def row(name: str, own: list[dict], theirs: list[dict] | None) -> str:
    """Return one row of a table; a live picture is not written, so it is compared without that."""
    middle = {key: median(figures[key] for figures in own) for key in own[0]}
    cells = [name, f"{middle['faces']:.1f}", f"{middle['look every']:.1f}"]
    cells += [f"{middle[key]:.1f}" for key in (*STAGES, "total", "CPU")]
    cells.append(f"{1000 / middle['total']:.0f}")
    for key in ("total", "CPU") if theirs else ():
        ratios = [
            (other[key] - (other["write"] if name == LIVE else 0)) / mine[key]
            for mine, other in zip(own, theirs, strict=True)
        ]
        cells.append(f"{median(ratios):.1f}")
    return "| " + " | ".join(cells) + " |"


# identity


def print_identity() -> None:
    """Print how well tracks fit the faces of made films, for several ways to follow."""
    ways = {
        "boxes joined by overlap, every frame": 0,
        "every frame": 1,
        "a file's tenth of a second": None,
        "every 10th frame": 10,
    }
    made = films()
    print("\nTracks, 640x480, 30 frames a second, one detection of ten missed:\n")
    print("| film | way | MOTA | IDF1 | changes of number | missed | false | mean overlap |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for film in made:
        shots = list(shoot(film))
        for name, detect_every in ways.items():
            score = measure_film(film, shots, detect_every)
            cells = [film.name, name, f"{score.mota:.3f}", f"{score.idf1:.3f}", score.switches]
            cells += [f"{score.missed} of {score.faces}", score.false, f"{score.mean_overlap:.2f}"]
            print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def measure_film(film: Film, shots: Sequence[Truth], detect_every: int | None) -> Score:
    """Return how well tracks fit the faces of a film; 0: boxes joined by overlap."""
    from emotion.detection.haar import FaceDetector
    from emotion.recognizer import Recognizer
    from emotion.video.following import VIDEO_SEARCH, follow
    from emotion.video.reading import Frame

    detector = PoorDetector(FaceDetector(VIDEO_SEARCH), film)
    recognizer = Recognizer.load(detector=detector)
    classes = len(recognizer.model.class_names)
    # what the faces show does not matter here
    level = lambda faces: np.full((len(faces), classes), 1 / classes, np.float32)  # noqa: E731
    recognizer.model = replace(recognizer.model, run=level)

    def frames() -> Iterator[Frame]:
        for index, truth in enumerate(shots):
            detector.truth = truth
            yield Frame(index, truth.timestamp_s, truth.image)

    score = Score()
    if detect_every == 0:
        found = joined_by_overlap(detector, frames())
    else:
        found = (
            {tracked.track: tracked.face.box_xywh for tracked in seen.faces}
            for seen in follow(recognizer, frames(), detect_every)
        )
    for truth, boxes in zip(shots, found, strict=True):
        score.add(truth.boxes, boxes)
    return score


def joined_by_overlap(detector, frames: Iterable) -> Iterator[dict[int, Sequence[float]]]:
    """Yield track -> box of the simplest tracker: a box goes on where it overlaps most."""
    last: dict[int, Sequence[float]] = {}
    count = 0
    for frame in frames:
        now: dict[int, Sequence[float]] = {}
        for face in detector.detect(frame.image):
            free = [track for track in last if track not in now]
            best = max(free, key=lambda one: overlap(last[one], face.box_xywh), default=None)
            if best is None or overlap(last[best], face.box_xywh) < 0.3:
                count += 1
                best = count
            now[best] = face.box_xywh
        last = now
        yield now


if __name__ == "__main__":
    sys.exit(main())
