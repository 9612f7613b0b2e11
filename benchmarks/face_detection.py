"""Compare settings of the face detector on photos with and without faces; run by hand.

Packaged photos and harder ones made from them always count; --fer2013 adds tiles that are all face
and --photos adds your own. The table goes to standard output as Markdown.
"""

import argparse
import csv
import io
import random
import statistics
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import matplotlib.cbook
import numpy as np
import skimage.data
import sklearn.datasets

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from emotion.detection.cascades import load_cascades
from emotion.detection.haar import FaceDetector
from emotion.detection.settings import CLOSE_LOOK, DetectorSettings

ANYTHING = float("-inf")
ASTRONAUT_BOX = (172, 66, 105, 105)
HOPPER_BOX = (164, 84, 190, 190)
FACELESS_SKIMAGE = (
    *("brick", "cell", "chelsea", "coffee", "coins", "colorwheel", "grass", "gravel", "horse"),
    *("hubble_deep_field", "immunohistochemistry", "moon", "page", "retina", "rocket", "text"),
)
"""`camera` is left out: its far man in profile may count as a face or not."""


@dataclass(frozen=True)
class Case:
    """One photo and what is in it.

    Attributes:
        group: the column it counts in: "scene", "tile", "photo" or "faceless".
        image: (H, W, 3) uint8 RGB.
        faces: true boxes (x, y, width, height), or just their number where nobody drew boxes.
    """

    group: str
    image: np.ndarray
    faces: tuple[tuple[float, float, float, float], ...] | int = ()


@dataclass(frozen=True)
class Row:
    """What one variant did, by group; and the CPU seconds of each photo."""

    found: dict[str, int]
    total: dict[str, int]
    wrong: dict[str, int]
    photos: dict[str, int]
    photos_with_wrong: dict[str, int]
    seconds: list[float]


def variants() -> dict[str, DetectorSettings]:
    """Return the settings to compare: what is chosen, and that with one thing changed."""
    chosen = DetectorSettings()
    first = replace(chosen, fallbacks=())
    sideways = (*chosen.rotations_degrees, 90.0, 180.0, 270.0)
    return {
        "first pass alone": first,
        "first pass alone, without second opinion": replace(
            first, second_opinion=False, frontal_threshold=ANYTHING
        ),
        "first pass alone, without border": replace(first, border_share=0.0),
        "+ alt2": replace(chosen, fallbacks=("alt2",)),
        "+ rotated": replace(chosen, fallbacks=("alt2", "rotated")),
        "+ portrait": replace(chosen, fallbacks=("alt2", "rotated", "portrait")),
        "+ profile (chosen)": chosen,
        "chosen, without the template": replace(
            chosen, fallbacks=("alt2", "rotated", "profile"), roll_degrees=()
        ),
        "chosen, octave step 1.1": replace(chosen, octave_step=1.1),
        "chosen, looking everywhere": replace(chosen, places=False),
        "chosen, a close look at every box": replace(chosen, opinion_looks=(CLOSE_LOOK,)),
        "chosen, thresholds 1 lower": _thresholds(chosen, -1),
        "chosen, 960x720 copy": replace(chosen, working_pixels=960 * 720),
        "chosen, turned 90, 180, 270 too": replace(chosen, rotations_degrees=sideways),
    }


def _thresholds(settings: DetectorSettings, change: float) -> DetectorSettings:
    """Return settings with every threshold moved."""
    return replace(
        settings,
        frontal_threshold=settings.frontal_threshold + change,
        fallback_threshold=settings.fallback_threshold + change,
        profile_threshold=settings.profile_threshold + change,
        portrait_threshold=settings.portrait_threshold + change,
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure every variant and print the table."""
    options = parse(arguments)
    cases = gather(options)
    detectors = {"plain cascade": plain_cascade()}
    detectors |= {name: FaceDetector(settings).detect for name, settings in variants().items()}
    if options.yunet:
        detectors["YuNet (network, for comparison)"] = yunet(options.yunet)
    rows = {}
    for name, detect in detectors.items():
        print(f"{name} ...", file=sys.stderr)
        rows[name] = measure(detect, cases)
    print(table(rows))
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fer2013", type=Path, help="FER2013: folder, .zip or .csv of tiles")
    parser.add_argument(
        "--tiles", type=int, default=500, help="FER2013 tiles to draw (%(default)s)"
    )
    parser.add_argument(
        "--photos", type=Path, help="folder of photos with a faces.csv of file,face_count"
    )
    parser.add_argument("--yunet", type=Path, help="YuNet .onnx file, as a row for comparison")
    parser.add_argument("--cuts", type=int, default=100, help="faceless cuts (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of what is drawn (%(default)s)")
    return parser.parse_args(arguments)


def gather(options: argparse.Namespace) -> list[Case]:
    """Return all cases that the options ask for."""
    chance = random.Random(options.seed)
    faceless = packaged_faceless()
    cases = [*scenes(), *(Case("faceless", image) for image in faceless)]
    cases += [Case("faceless", cut) for cut in cuts(faceless, options.cuts, chance)]
    if options.fer2013:
        cases += tiles(options.fer2013, options.tiles, chance)
    if options.photos:
        cases += own_photos(options.photos)
    return cases


def packaged_faces() -> list[tuple[np.ndarray, tuple[int, int, int, int]]]:
    """Return the packaged photos with a face, and its box."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        content = np.frombuffer(file.read(), np.uint8)
    hopper = cv2.cvtColor(cv2.imdecode(content, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return [(skimage.data.astronaut(), ASTRONAUT_BOX), (hopper, HOPPER_BOX)]


def packaged_faceless() -> list[np.ndarray]:
    """Return the packaged photos without a face, as RGB."""
    images = [getattr(skimage.data, name)() for name in FACELESS_SKIMAGE]
    images += [sklearn.datasets.load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    return [_rgb(image) for image in images]


def _rgb(image: np.ndarray) -> np.ndarray:
    """Return an image of any packaged kind as (H, W, 3) uint8."""
    if image.dtype == bool:
        image = image.astype(np.uint8) * 255
    if image.ndim == 2:
        image = np.repeat(image[:, :, np.newaxis], 3, axis=2)
    return np.ascontiguousarray(image[:, :, :3])


def scenes() -> list[Case]:
    """Return harder photos made of the packaged faces: sizes, turns, edges, light, crowds."""
    made = []
    for image, box in packaged_faces():
        made.append((image, box))
        made += [_scaled(image, box, long_side) for long_side in (64, 128, 320, 1000, 2500, 4000)]
        made += [_turned(image, box, degrees) for degrees in (-30, -20, -10, -5, 5, 10, 20, 30)]
        made += [_framed(image, box, spare) for spare in (0.0, 0.1, 0.2, 0.4)]
        made += [_at_edge(image, box, *side) for side in ((0, 1), (1, 0), (0, 0), (1, 1))]
        made.append((image[:, ::-1].copy(), (image.shape[1] - box[0] - box[2], *box[1:])))
        made += [(_darker(image, share), box) for share in (0.5, 0.25)]
        made += [(_jpeg(image, quality), box) for quality in (50, 15)]
    cases = [Case("scene", image, (box,)) for image, box in made]
    return cases + [_crowd(size, seed) for seed, size in enumerate((80, 120, 200, 300))]


def _scaled(image, box, long_side):
    scale = long_side / max(image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(image, None, fx=scale, fy=scale, interpolation=method)
    return resized, tuple(scale * value for value in box)


def _turned(image, box, degrees):
    middle = box[0] + box[2] / 2, box[1] + box[3] / 2
    turn = cv2.getRotationMatrix2D(middle, degrees, 1.0)
    size_wh = image.shape[1], image.shape[0]
    return cv2.warpAffine(image, turn, size_wh, borderMode=cv2.BORDER_REPLICATE), box


def _framed(image, box, spare):
    x, y, width, height = box
    left, top = max(0, round(x - spare * width)), max(0, round(y - spare * height))
    right, bottom = round(x + width * (1 + spare)), round(y + height * (1 + spare))
    return image[top:bottom, left:right].copy(), (x - left, y - top, width, height)


def _at_edge(image, box, from_left, from_top):
    x, y, width, height = box
    left, top = (x if from_left else 0), (y if from_top else 0)
    right = image.shape[1] if from_left else x + width
    bottom = image.shape[0] if from_top else y + height
    return image[top:bottom, left:right].copy(), (x - left, y - top, width, height)


def _darker(image, share):
    return (image * share).astype(np.uint8)


def _jpeg(image, quality):
    _, content = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(content, cv2.IMREAD_COLOR)[:, :, ::-1].copy()


def _crowd(size, seed):
    """Return both faces, mirrored and not, pasted eight times on a busy photo."""
    chance = random.Random(seed)
    ground = sklearn.datasets.load_sample_image("china.jpg")
    canvas = cv2.resize(ground, (1600, 1066), interpolation=cv2.INTER_CUBIC)
    boxes = []
    for place in range(8):
        image, box = packaged_faces()[place % 2]
        piece, inner = _framed(image, box, 0.4)
        scale = size / piece.shape[0]
        piece = cv2.resize(piece, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        x = (place % 4) * 400 + chance.randrange(400 - piece.shape[1])
        y = (place // 4) * 530 + chance.randrange(530 - piece.shape[0])
        canvas[y : y + piece.shape[0], x : x + piece.shape[1]] = piece
        wide, high = (scale * value for value in inner[2:])
        boxes.append((x + scale * inner[0], y + scale * inner[1], wide, high))
    return Case("scene", canvas, tuple(boxes))


def cuts(images: list[np.ndarray], count: int, chance: random.Random) -> list[np.ndarray]:
    """Return squares cut from photos without faces, scaled to all kinds of size."""
    made = []
    for number in range(count):
        image = images[number % len(images)]
        height, width = image.shape[:2]
        side = round(min(height, width) * chance.uniform(0.3, 0.8))
        left, top = chance.randrange(width - side + 1), chance.randrange(height - side + 1)
        size = round(chance.uniform(150, 700))
        cut = image[top : top + side, left : left + side]
        made.append(cv2.resize(cut, (size, size), interpolation=cv2.INTER_LINEAR))
    return made


def tiles(source: Path, count: int, chance: random.Random) -> list[Case]:
    """Return FER2013 test tiles enlarged to 200-480 px: faces that fill the photo."""
    chosen = _tile_readers(source)
    chance.shuffle(chosen)
    cases = []
    for read in chosen[:count]:
        side = chance.randrange(200, 481)
        tile = cv2.resize(read(), (side, side), interpolation=cv2.INTER_CUBIC)
        box = (0.1 * side, 0.1 * side, 0.8 * side, 0.8 * side)
        cases.append(Case("tile", _rgb(tile), (box,)))
    return cases


def _tile_readers(source: Path) -> list[Callable[[], np.ndarray]]:
    """Return a function a tile of the public test part, in a stable order."""
    if source.is_dir():
        return [
            lambda path=path: cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            for path in sorted(source.glob("test/*/*"))
        ]
    if source.suffix == ".zip":
        archive = zipfile.ZipFile(source)
        names = sorted(n for n in archive.namelist() if "test/" in n and n.endswith(".jpg"))
        return [lambda name=name: _decode(archive.read(name)) for name in names]
    with source.open(newline="") as file:
        rows = [row["pixels"] for row in csv.DictReader(file) if row["Usage"] == "PublicTest"]
    return [lambda text=text: np.array(text.split(), np.uint8).reshape(48, 48) for text in rows]


def _decode(content: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)


def own_photos(folder: Path) -> list[Case]:
    """Return the photos of a folder; without a face they count as faceless."""
    text = (folder / "faces.csv").read_text(encoding="utf-8")
    cases = []
    for row in csv.DictReader(io.StringIO(text)):
        image = cv2.imread(str(folder / row["file"]), cv2.IMREAD_COLOR)
        if image is None:
            raise SystemExit(f"expected a photo at {folder / row['file']}; it cannot be read")
        count = int(row["face_count"])
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        cases.append(Case("photo", rgb, count) if count else Case("faceless", rgb))
    return cases


def plain_cascade() -> Callable:
    """Return what tutorials do: one pass of the default cascade, on at most 1280x960 pixels."""
    cascade = load_cascades()["default"]

    def detect(image: np.ndarray) -> list[tuple[float, ...]]:
        scale = min(1.0, (1280 * 960 / (image.shape[0] * image.shape[1])) ** 0.5)
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        copy = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        boxes = cascade.detectMultiScale(copy, scaleFactor=1.1, minNeighbors=3)
        return [tuple(value / scale for value in box) for box in boxes]

    return detect


def yunet(path: Path) -> Callable:
    """Return a function with the boxes that YuNet finds, as a mark to beat."""
    network = cv2.FaceDetectorYN.create(str(path), "", (320, 320), 0.7)

    def detect(image: np.ndarray) -> list[tuple[float, ...]]:
        scale = min(1.0, 1280 / max(image.shape[:2]))
        copy = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        network.setInputSize((copy.shape[1], copy.shape[0]))
        _, faces = network.detect(copy[:, :, ::-1].copy())
        return [] if faces is None else [tuple(face[:4] / scale) for face in faces]

    return detect


def measure(detect: Callable, cases: list[Case]) -> Row:
    """Return how one detector did on all cases."""
    row = Row({}, {}, {}, {}, {}, [])
    for case in cases:
        # CPU time, because what else runs on the machine changes the clock's
        start = time.process_time()
        answer = detect(case.image)
        row.seconds.append(time.process_time() - start)
        boxes = [getattr(item, "box_xywh", item) for item in answer]
        found, total = judge(boxes, case.faces)
        wrong = len(boxes) - found
        for counter, value in (
            (row.found, found),
            (row.total, total),
            (row.wrong, wrong),
            (row.photos, 1),
            (row.photos_with_wrong, int(wrong > 0)),
        ):
            counter[case.group] = counter.get(case.group, 0) + value
    return row


def judge(boxes: list, faces) -> tuple[int, int]:
    """Return how many true faces were found, and how many there are.

    A face is found when a box of half to twice its side holds its middle. Where only the number
    of faces is known, that many boxes count as right.
    """
    if isinstance(faces, int):
        return min(len(boxes), faces), faces
    return sum(any(_fits(box, face) for box in boxes) for face in faces), len(faces)


def _fits(box, face) -> bool:
    x, y = face[0] + face[2] / 2, face[1] + face[3] / 2
    inside = box[0] <= x <= box[0] + box[2] and box[1] <= y <= box[1] + box[3]
    return inside and 0.5 <= max(box[2:]) / max(face[2:]) <= 2.0


def table(rows: dict[str, Row]) -> str:
    """Return the rows as a Markdown table."""
    groups = list(next(iter(rows.values())).total)
    faced = [group for group in groups if group != "faceless"]
    first = next(iter(rows.values())).seconds
    heads = ["settings", *(f"{g}: faces found (wrong boxes)" for g in faced)]
    heads += ["faceless: photos with a false face (boxes)", "CPU time, median ratio to plain"]
    lines = [heads, ["---"] * len(heads)]
    for name, row in rows.items():
        cells = [
            f"{row.found[g]} of {row.total[g]}, {row.found[g] / row.total[g]:.0%} ({row.wrong[g]})"
            for g in faced
        ]
        photos, with_wrong = row.photos["faceless"], row.photos_with_wrong["faceless"]
        cells.append(
            f"{with_wrong} of {photos}, {with_wrong / photos:.0%} ({row.wrong['faceless']})"
        )
        ratio = statistics.median(s / f for s, f in zip(row.seconds, first, strict=True))
        lines.append([name, *cells, f"{ratio:.1f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
