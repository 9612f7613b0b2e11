"""How long one photo takes from its bytes to the answer, stage by stage: ours, Keras, `fer`.

python benchmarks/serving.py --fer-python /path/to/python

Every way runs in a process of its own, loaded once, and the ways take turns, a photo each, so a
machine that slows down slows all of them. `fer` (PyPI) needs an environment of its own; without
--fer-python it is left out. Run it on an otherwise idle machine.
"""

import argparse
import contextlib
import inspect
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TextIO

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("decode", "detect", "classify", "rest")
OURS, OURS_FULL, OURS_KERAS = "ours", "ours, full-size decode", "ours, model.predict"
FER, FER_KERAS = "fer", "fer, Keras model"
MARK = "serving-benchmark "
"""How a worker's own lines begin: libraries print to stdout too."""


def main(arguments: list[str] | None = None) -> int:
    """Time every way on every photo and print the tables."""
    options = parse(arguments)
    if options.worker:
        return work(options.worker)
    with contextlib.ExitStack() as stack:
        photos = write_photos(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        workers = []
        for name in way_names(options):
            errors = stack.enter_context(tempfile.TemporaryFile("w+"))
            workers.append(Worker(name, options, errors, next(iter(photos.values()))))
            stack.callback(workers[-1].close)
        print_tables(workers, photos, take_turns(workers, photos, options.rounds), options.rounds)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fer-python", type=Path, help="the python of an environment with `fer`")
    parser.add_argument("--rounds", type=int, default=15, help="turns that count (%(default)s)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def way_names(options: argparse.Namespace) -> list[str]:
    """Return the ways to compare, ours first."""
    return [OURS, OURS_FULL, OURS_KERAS] + ([FER, FER_KERAS] if options.fer_python else [])


# photos


def write_photos(folder: Path) -> dict[str, Path]:
    """Write the photos, all made of packaged ones, as JPEG; return name -> file."""
    import skimage.data

    astronaut = skimage.data.astronaut()
    made = {"one face, 512x512": astronaut, "one face, 4000x3000": phone_photo()}
    made["twelve faces, 1920x1280"] = group_photo(astronaut)
    paths = {}
    for name, image in made.items():
        paths[name] = folder / f"{len(paths)}.jpg"
        _pillow(image).save(paths[name], quality=92)
    return paths


def phone_photo() -> np.ndarray:
    """Return a portrait of 12 megapixels with a sensor's noise, so that its file is as large."""
    canvas = _pillow(_china()).resize((4000, 3000))
    face = _pillow(_hopper())
    canvas.paste(face.resize((round(face.width * 1500 / face.height), 1500)), (1800, 1000))
    noise = np.random.default_rng(0).normal(0, 4, (3000, 4000, 1))
    return np.clip(np.asarray(canvas) + noise, 0, 255).astype(np.uint8)


def group_photo(portrait: np.ndarray) -> np.ndarray:
    """Return twelve people before a background, two portraits by turns."""
    canvas = _pillow(_china()).resize((1920, 1280))
    people = [
        _pillow(portrait).crop((120, 0, 332, 212)),
        _pillow(_hopper()).crop((100, 30, 420, 350)),
    ]
    for number in range(12):
        place = (40 + number % 6 * 310, 120 + number // 6 * 560)
        canvas.paste(people[number % 2].resize((280, 280)), place)
    return np.asarray(canvas)


def _pillow(image: np.ndarray):
    from PIL import Image

    return Image.fromarray(image)


def _china() -> np.ndarray:
    import sklearn.datasets

    return sklearn.datasets.load_sample_image("china.jpg")


def _hopper() -> np.ndarray:
    import matplotlib.cbook
    from PIL import Image

    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        return np.asarray(Image.open(file).convert("RGB"))


# the process of a way


class Stopwatch:
    """Adds up the time spent in each stage; what no stage claims is the rest."""

    def __init__(self):
        self.spent_s: dict[str, float] = {}

    def timed(self, stage: str, function: Callable) -> Callable:
        """Return a function that does the same and is timed."""

        def run(*arguments, **options):
            start_s = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                used_s = time.perf_counter() - start_s
                self.spent_s[stage] = self.spent_s.get(stage, 0.0) + used_s

        return run

    def measure(self, answer: Callable[[bytes], int], content: bytes) -> dict[str, float]:
        """Return milliseconds by stage, in all and of the processor, and how many faces."""
        self.spent_s.clear()
        cpu_s, start_s = time.process_time(), time.perf_counter()
        faces = answer(content)
        total_s = time.perf_counter() - start_s
        cpu_s = time.process_time() - cpu_s
        spent_s = dict.fromkeys(STAGES, 0.0) | self.spent_s
        spent_s["rest"] = total_s - sum(self.spent_s.values())
        spent_s |= {"total": total_s, "CPU": cpu_s}
        return {name: seconds * 1000 for name, seconds in spent_s.items()} | {"faces": faces}


def work(name: str) -> int:
    """Answer each path on stdin with a line of figures on stdout, until stdin ends."""
    watch = Stopwatch()
    answer = load_fer(name, watch) if name in (FER, FER_KERAS) else load_ours(name, watch)
    for line in sys.stdin:
        figures = watch.measure(answer, Path(line.strip()).read_bytes())
        sys.stdout.write(f"{MARK}{json.dumps(figures)}\n")
        sys.stdout.flush()
    return 0


def load_ours(name: str, watch: Stopwatch) -> Callable[[bytes], int]:
    """Return what the web app's API does with the bytes of a photo."""
    sys.path.insert(0, str(ROOT))
    from emotion.images.decoding import ENOUGH_PIXELS, decode_photo
    from emotion.images.guards import DEFAULT_LIMITS
    from emotion.recognizer import Recognizer
    from emotion.rows import results_to_dict

    recognizer = Recognizer.load()
    run = keras_predict() if name == OURS_KERAS else recognizer.model.run
    recognizer.model = replace(recognizer.model, run=watch.timed("classify", run))
    recognizer.detector.detect = watch.timed("detect", recognizer.detector.detect)
    decode = watch.timed("decode", decode_photo)
    enough_pixels = ENOUGH_PIXELS if name == OURS else None

    def answer(content: bytes) -> int:
        photo = decode(content, DEFAULT_LIMITS, enough_pixels)
        faces = recognizer.recognize(photo)
        model = recognizer.model
        json.dumps(results_to_dict(faces, photo.size_wh, model.name, model.sha256))
        return len(faces)

    return answer


def keras_predict() -> Callable[[np.ndarray], np.ndarray]:
    """Return our model as tutorials call it."""
    from emotion.model.keras import ModelFiles, load_keras_model
    from emotion.recognizer import DEFAULT_MODEL

    model = load_keras_model(ModelFiles(DEFAULT_MODEL))
    return lambda faces: model.predict(faces, verbose=0)


def load_fer(name: str, watch: Stopwatch) -> Callable[[bytes], int]:
    """Return what `fer` does with the bytes of a photo, by its README: Haar, not MTCNN."""
    import cv2
    from fer import fer

    has_choice = "use_tflite" in inspect.signature(fer.FER).parameters
    choice = {"use_tflite": name == FER} if has_choice else {}
    reader = fer.FER(mtcnn=False, **choice)
    reader.find_faces = watch.timed("detect", reader.find_faces)
    if hasattr(reader, "_classify_emotions"):
        reader._classify_emotions = watch.timed("classify", reader._classify_emotions)
    decode = watch.timed("decode", cv2.imdecode)

    def answer(content: bytes) -> int:
        image = decode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        found = reader.detect_emotions(image)
        json.dumps([face["emotions"] for face in found], default=float)
        return len(found)

    return answer


# turns and tables


class Worker:
    """A way and its process."""

    def __init__(self, name: str, options: argparse.Namespace, errors: TextIO, photo: Path):
        """Start the process and wait for its first answer.

        Args:
            name: which way.
            options: the command line.
            errors: an open file that takes what the process writes on stderr.
            photo: what the first answer is about.
        """
        self.name = name
        self._errors = errors
        python = options.fer_python if name in (FER, FER_KERAS) else sys.executable
        start_s = time.perf_counter()
        self._process = subprocess.Popen(
            [str(python), str(Path(__file__).resolve()), "--worker", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        self.measure(photo)
        self.first_answer_s = time.perf_counter() - start_s

    def measure(self, path: Path) -> dict[str, float]:
        """Return the figures of one photo."""
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


def take_turns(workers: list[Worker], photos: dict[str, Path], rounds: int):
    """Return (photo, way) -> the figures of each round but the first, which warms up."""
    measured = {(photo, worker.name): [] for photo in photos for worker in workers}
    for turn in range(rounds + 1):
        for photo, path in photos.items():
            for worker in workers:
                figures = worker.measure(path)
                if turn:
                    measured[photo, worker.name].append(figures)
        print(f"round {turn} of {rounds}", file=sys.stderr)
    return measured


def print_tables(workers: list[Worker], photos: dict[str, Path], measured, rounds: int) -> None:
    """Print a table a photo: medians, and the medians of the ratios round by round."""
    against = FER if any(worker.name == FER for worker in workers) else OURS_KERAS
    columns = ("way", "faces", *STAGES, "total", "lowest total", "CPU")
    columns += (f"times as fast as {against}", "by CPU time")
    for photo, path in photos.items():
        size = f"{path.stat().st_size / 1e6:.1f} MB"
        print(f"\n{photo}, JPEG of {size}, median milliseconds of {rounds} rounds:\n")
        print("| " + " | ".join(columns) + " |")
        print("| " + " | ".join(["---"] * len(columns)) + " |")
        for worker in workers:
            print(row(worker.name, measured[photo, worker.name], measured[photo, against]))
    print("\nFrom the start of the process to the first answer, once, in seconds:\n")
    for worker in workers:
        print(f"- {worker.name}: {worker.first_answer_s:.1f}")


def row(name: str, own: list[dict], other: list[dict]) -> str:
    """Return one row of a table."""
    middle = {key: median(figures[key] for figures in own) for key in own[0]}
    lowest = min(figures["total"] for figures in own)
    cells = [name, f"{middle['faces']:g}"]
    cells += [f"{middle[key]:.1f}" for key in (*STAGES, "total")]
    cells += [f"{lowest:.1f}", f"{middle['CPU']:.1f}"]
    for key in ("total", "CPU"):
        pairs = zip(own, other, strict=True)
        cells.append(f"{median(theirs[key] / ours[key] for ours, theirs in pairs):.1f}")
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
