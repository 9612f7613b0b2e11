"""Ours, OpenCV's plain cascade and YuNet on the same photographs; run by hand.

Faces are put into packaged photos without any, so that where they are is known: by size, tilt,
cover and light. --faces names photographs with one face in the middle, such as Labeled Faces in the
Wild (a folder or zip); without it the two packaged portraits serve. --photos adds a folder of your
own, on which YuNet's sure boxes (--yunet) count as the faces: by turn of the head, and photos with
a face found. --faceless adds a folder of photos without faces. The tables are Markdown.

    python benchmarks/face_detection.py --faces lfw.zip --photos photos --faceless no_faces \
        --yunet face_detection_yunet_2026may.onnx
"""

import argparse
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import matplotlib.cbook
import numpy as np
import skimage.data
import sklearn.datasets

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from emotion.detection.haar import FaceDetector
from emotion.detection.yunet import YunetDetector
from emotion.images.decoding import read_image

Box = tuple[float, float, float, float]
Case = tuple[np.ndarray, list[Box]]  # a photo, (H, W, 3) uint8 RGB, and the faces in it

ASTRONAUT_BOX = (167, 55, 115, 115)
HOPPER_BOX = (160, 80, 195, 195)
MIDDLE_SHARE = 0.65  # side of the face in a photograph of --faces, as a share of the photograph's
GROUND_PX = 800  # long side of the photos into which faces are put
FACELESS = (
    *("brick", "cell", "chelsea", "coffee", "coins", "colorwheel", "grass", "gravel", "horse"),
    *("hubble_deep_field", "immunohistochemistry", "moon", "page", "retina", "rocket", "text"),
)
"""Of skimage; `camera` is left out: its far man in profile may count as a face or not."""


def main(arguments: list[str] | None = None) -> int:
    """Measure every detector and print the tables."""
    options = parse(arguments)
    chance = np.random.default_rng(options.seed)
    faces, grounds = packaged_faces(), packaged_faceless()
    if options.faces:
        faces = [
            (image, middle_box(image)) for image in drawn(options.faces, options.count, chance)
        ]
    detectors: dict[str, Callable] = {
        "ours": FaceDetector().detect,
        "plain cascade": plain_cascade(),
    }
    if options.yunet:
        detectors["YuNet"] = YunetDetector(options.yunet).detect
    make = partial(scenes, faces, grounds, options.count, chance)
    parts = {
        **{f"face of {side} px": make(side) for side in (20, 28, 40, 60, 100, 200, 400)},
        **{f"tilted by {tilt}°": make(90, tilt=tilt) for tilt in (0, 15, 30, 45)},
        **{f"{share:.0%} covered": make(90, cover=share) for share in (0.2, 0.35, 0.5)},
        **{f"light {light:.0%}": make(90, light=light) for light in (0.5, 0.2, 0.1)},
    }
    if options.photos and options.yunet:
        parts |= by_turn(options.photos, options.yunet)
    found = {
        name: [recall(detect, cases) for cases in parts.values()]
        for name, detect in detectors.items()
    }
    print_table(
        "faces found",
        parts,
        found,
        [sum(len(faces) for _, faces in cases) for cases in parts.values()],
    )
    whole = {"packaged, without a face": grounds}
    if options.faceless:
        whole[f"{options.faceless.name}, without a face"] = photos_of(options.faceless)
    if options.photos:
        whole[f"{options.photos.name}, with people"] = photos_of(options.photos)
    shares, times = {name: [] for name in detectors}, {name: [] for name in detectors}
    for images in whole.values():
        spent = {name: [] for name in detectors}
        hits = dict.fromkeys(detectors, 0)
        for image in images:
            for name, detect in detectors.items():  # in turns: a machine that slows down slows all
                start = time.perf_counter()
                hits[name] += len(detect(image)) > 0
                spent[name].append(1000 * (time.perf_counter() - start))
        for name, milliseconds in spent.items():
            shares[name].append(hits[name] / len(images))
            times[name].append(milliseconds)
    counts = [len(images) for images in whole.values()]
    print_table("photos in which a face is found", whole, shares, counts)
    print("\n| milliseconds, median, slowest 5%, their ratio | " + " | ".join(detectors) + " |")
    print("| --- |" + " --- |" * len(detectors))
    for number, title in enumerate(whole):
        cells = []
        for name in detectors:
            middle, slow = np.percentile(times[name][number], (50, 95))
            cells.append(f"{middle:.1f}, {slow:.1f}, {slow / middle:.1f}")
        print(f"| {title} | {' | '.join(cells)} |")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=Path, help="photographs with a face in the middle")
    parser.add_argument("--photos", type=Path, help="folder of photos with people; wants --yunet")
    parser.add_argument("--faceless", type=Path, help="folder of photos without faces")
    parser.add_argument("--yunet", type=Path, help="YuNet's .onnx file, to compare with")
    parser.add_argument("--count", type=int, default=200, help="faces a row (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of what is drawn (%(default)s)")
    return parser.parse_args(arguments)


def packaged_faces() -> list[tuple[np.ndarray, Box]]:
    """Return the packaged photos with a face, and its box."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        hopper = read_image(Path(file.name))
    return [(skimage.data.astronaut(), ASTRONAUT_BOX), (hopper, HOPPER_BOX)]


def packaged_faceless() -> list[np.ndarray]:
    """Return the packaged photos without a face, as RGB."""
    images = [getattr(skimage.data, name)() for name in FACELESS]
    images += [sklearn.datasets.load_sample_image(name) for name in ("china.jpg", "flower.jpg")]
    whole = [image.astype(np.uint8) * 255 if image.dtype == bool else image for image in images]
    return [image[..., :3] if image.ndim == 3 else np.dstack([image] * 3) for image in whole]


def drawn(source: Path, count: int, chance: np.random.Generator) -> list[np.ndarray]:
    """Return some photographs of a folder or zip as RGB."""
    if source.is_dir():
        paths = sorted(path for path in source.rglob("*.jpg"))
        return [read_image(paths[n]) for n in chance.permutation(len(paths))[:count]]
    with zipfile.ZipFile(source) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        content = [archive.read(names[n]) for n in chance.permutation(len(names))[:count]]
    bgr = [cv2.imdecode(np.frombuffer(each, np.uint8), cv2.IMREAD_COLOR) for each in content]
    return [cv2.cvtColor(image, cv2.COLOR_BGR2RGB) for image in bgr]


def middle_box(image: np.ndarray) -> Box:
    side = MIDDLE_SHARE * min(image.shape[:2])
    return (image.shape[1] - side) / 2, (image.shape[0] - side) / 2, side, side


def photos_of(folder: Path) -> list[np.ndarray]:
    """Return the photos of a folder, as large as ours searches them."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    return [resized(read_image(path), 1280) for path in paths]


def resized(image: np.ndarray, most_px: int) -> np.ndarray:
    scale = min(1.0, most_px / max(image.shape[:2]))
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def scenes(
    faces: Sequence[tuple[np.ndarray, Box]],
    grounds: Sequence[np.ndarray],
    count: int,
    chance: np.random.Generator,
    side_px: int,
    tilt: float = 0.0,
    cover: float = 0.0,
    light: float = 1.0,
) -> list[Case]:
    """Return photos with one face of a side somewhere, perhaps tilted, covered or dark."""
    cases = []
    for number in range(count):
        image, (x, y, side, _) = faces[number % len(faces)]
        ground = grounds[chance.integers(len(grounds))]
        ground = cv2.resize(ground, None, fx=(grow := GROUND_PX / max(ground.shape)), fy=grow)
        height, width = ground.shape[:2]
        zoom = side_px / side
        if zoom < 0.7:
            image = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
            x, y, side, zoom = x * zoom, y * zoom, side_px, 1.0
        turn = cv2.getRotationMatrix2D(
            (x + side / 2, y + side / 2), tilt * chance.choice((-1, 1)), zoom
        )
        place = [
            chance.uniform(min(side_px, end) / 2, end - min(side_px, end) / 2)
            for end in (width, height)
        ]
        turn[:, 2] += np.array(place) - (x + side / 2, y + side / 2)
        # a head and shoulders, not its photograph's background: soft at the edge of an ellipse
        mask = np.zeros(image.shape[:2], np.float32)
        middle = round(x + side / 2), round(y + side / 2)
        cv2.ellipse(
            mask, middle, (round(0.62 * side), round(0.78 * side)), 0, 0, 360, 1.0, cv2.FILLED
        )
        mask = cv2.GaussianBlur(mask, (0, 0), max(0.04 * side, 0.5))
        flags, size_wh = cv2.INTER_LINEAR if zoom < 1 else cv2.INTER_CUBIC, (width, height)
        put = cv2.warpAffine(image, turn, size_wh, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        mask = cv2.warpAffine(mask, turn, size_wh)[..., None]
        photo = put * mask + ground * (1 - mask)
        left, top = (value - side_px / 2 for value in place)
        if cover:  # from below or from one side, in one colour
            rows = slice(max(0, round(top + (1 - cover) * side_px)), round(top + 1.3 * side_px))
            columns = slice(max(0, round(left - 0.1 * side_px)), round(left + 1.1 * side_px))
            if chance.random() < 0.5:
                rows = slice(max(0, round(top - 0.1 * side_px)), round(top + 1.3 * side_px))
                columns = slice(max(0, round(left - 0.1 * side_px)), round(left + cover * side_px))
            photo[rows, columns] = chance.integers(0, 256, 3)
        noise = chance.normal(0, 2, photo.shape)
        photo = np.clip(photo * light + noise, 0, 255).astype(np.uint8)
        cases.append((photo, [(left, top, side_px, side_px)]))
    return cases


def by_turn(folder: Path, yunet: Path) -> dict[str, list[Case]]:
    """Return a folder's photos with YuNet's sure faces, by how far they are turned to a side."""
    parts = {"facing the camera": [], "turned": [], "in profile": []}
    network = cv2.FaceDetectorYN.create(str(yunet), "", (320, 320), 0.85)
    for image in photos_of(folder):
        network.setInputSize(image.shape[1::-1])
        _, faces = network.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        for face in faces if faces is not None else ():
            (right_eye, _), (left_eye, _), (nose, _) = face[4:10].reshape(3, 2)
            # how far the tip of the nose is from the middle of the eyes, in distances of the eyes
            turn = abs(nose - (right_eye + left_eye) / 2) / max(abs(left_eye - right_eye), 1)
            name = list(parts)[int(np.digitize(turn, (0.25, 0.6)))]
            if face[3] >= 0.05 * min(image.shape[:2]):
                parts[name].append((image, [tuple(face[:4].tolist())]))
    return parts


def plain_cascade() -> Callable:
    """Return what tutorials do: one pass of the default cascade."""
    folder = Path(cv2.data.haarcascades)
    cascade = cv2.CascadeClassifier(str(folder / "haarcascade_frontalface_default.xml"))

    def detect(image: np.ndarray) -> Sequence[Box]:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return cascade.detectMultiScale(grey, scaleFactor=1.1, minNeighbors=3)

    return detect


def recall(detect: Callable, cases: Sequence[Case]) -> float:
    """Return the share of the faces whose middle lies in a box of half to twice their side."""
    found = total = 0
    for image, faces in cases:
        boxes = [getattr(item, "box_xywh", item) for item in detect(image)]
        found += sum(any(fits(box, face) for box in boxes) for face in faces)
        total += len(faces)
    return found / max(total, 1)


def fits(box: Box, face: Box) -> bool:
    x, y = face[0] + face[2] / 2, face[1] + face[3] / 2
    inside = box[0] <= x <= box[0] + box[2] and box[1] <= y <= box[1] + box[3]
    return inside and 0.5 <= max(box[2:]) / max(face[2:]) <= 2.0


def print_table(title: str, rows: dict, shares: dict[str, list[float]], counts: list[int]) -> None:
    """Print the shares by row as Markdown, a column a detector."""
    print(f"\n| {title} | of | " + " | ".join(shares) + " |")
    print("| --- |" + " --- |" * (len(shares) + 1))
    for number, name in enumerate(rows):
        cells = [f"{column[number]:.1%}" for column in shares.values()]
        print(f"| {name} | {counts[number]} | {' | '.join(cells)} |")


if __name__ == "__main__":
    sys.exit(main())
