"""Fit the face template of the detector's portrait pass; run by hand.

Faces are FER2013's training tiles, the rest are windows of photos without faces (--faceless, a
folder of your own): first windows at random, then those that the template so far takes for faces.

    python benchmarks/face_template.py --fer2013 fer2013.csv --votes fer2013new.csv \
        --faceless photos --output models/face_template.yml
"""

import argparse
import csv
import itertools
import sys
from pathlib import Path

import cv2
import numpy as np
from sklearn.linear_model import LogisticRegression

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from emotion.detection.cascades import TEMPLATE_SIDE_PX as SIDE_PX

SHARES = (1.2, 1.0, 0.84, 0.7, 0.58, 0.48, 0.4)
"""Sides of the windows that are mined, as shares of the photo's short side."""

PHOTO_SHORT_SIDE_PX = 300
BORDER_SHARE = 0.2
ROUNDS = 5
WINDOWS_A_PHOTO = 25
MINED_HARDEST, MINED_OTHERS = 6, 10
LEAST_MINED_SCORE = -0.3
DISCS = 800
"""Discs and rings have the outline of a head; photos hold too few of them to learn from."""


def main(arguments: list[str] | None = None) -> int:
    """Fit the template and save it."""
    options = parse(arguments)
    chance = np.random.default_rng(options.seed)
    photos = read_photos(options.faceless)
    faces = [varied(tile, chance) for tile in read_faces(options)]
    windows = [window for photo in photos for window in random_windows(photo, chance)]
    windows += [disc(chance) for _ in range(DISCS)]
    template = fit(faces, windows)
    for number in range(ROUNDS):
        seen = photos if number == 0 else [random_cut(photo, chance) for photo in photos]
        mined = [window for photo in seen for window in mistakes(photo, template, chance)]
        windows += mined
        template = fit(faces, windows)
        print(f"round {number}: {len(mined)} mistakes, {len(windows)} windows", file=sys.stderr)
    template.save(str(options.output))
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fer2013", type=Path, required=True, help="fer2013.csv")
    parser.add_argument("--votes", type=Path, required=True, help="FER+'s fer2013new.csv")
    parser.add_argument("--faceless", type=Path, required=True, help="photos without any face")
    parser.add_argument("--faces", type=int, default=14000, help="tiles to use (%(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="the .yml to write")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def read_faces(options: argparse.Namespace) -> list[np.ndarray]:
    """Return training tiles of which no voter of FER+ said that they show no face."""
    with options.fer2013.open(newline="") as file, options.votes.open(newline="") as votes:
        rows = zip(csv.DictReader(file), csv.DictReader(votes), strict=False)
        texts = (
            row["pixels"]
            for row, vote in rows
            if row["Usage"] == "Training" and int(vote["NF"]) == 0 and vote["Image name"]
        )
        chosen = itertools.islice(texts, options.faces)
        return [np.array(text.split(), np.uint8).reshape(SIDE_PX, SIDE_PX) for text in chosen]


def read_photos(folder: Path) -> list[np.ndarray]:
    """Return the photos of a folder as small grey pictures, in the order of their names."""
    photos = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in sorted(folder.iterdir())]
    return [_small(photo) for photo in photos if photo is not None]


def _small(photo: np.ndarray) -> np.ndarray:
    scale = min(1.0, PHOTO_SHORT_SIDE_PX / min(photo.shape))
    return cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def varied(tile: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Return a tile framed, turned, mirrored and blurred a little, as detectors frame faces."""
    middle = ((SIDE_PX - 1) / 2, (SIDE_PX - 1) / 2)
    scale = np.exp(chance.uniform(-0.12, 0.12))
    turn = cv2.getRotationMatrix2D(middle, chance.uniform(-15, 15), scale)
    turn[:, 2] += chance.uniform(-0.06, 0.06, 2) * SIDE_PX
    if chance.random() < 0.5:
        tile = np.ascontiguousarray(tile[:, ::-1])
    if chance.random() < 0.3:
        tile = cv2.GaussianBlur(tile, (3, 3), chance.uniform(0.4, 1.0))
    return cv2.warpAffine(tile, turn, (SIDE_PX, SIDE_PX), borderMode=cv2.BORDER_REPLICATE)


def random_windows(photo: np.ndarray, chance: np.random.Generator) -> list[np.ndarray]:
    """Return windows of all sizes from anywhere in a photo."""
    shares = np.exp(chance.uniform(np.log(0.15), 0.0, WINDOWS_A_PHOTO))
    return [_window(_cut(photo, share, chance)) for share in shares]


def disc(chance: np.random.Generator) -> np.ndarray:
    """Return a window with a disc or ring, perhaps with spokes, on a plain ground."""
    side = 2 * SIDE_PX
    ground, ink = chance.integers(0, 256, 2)
    picture = np.full((side, side), ground, np.uint8)
    middle = tuple(int(value) for value in side / 2 + chance.uniform(-8, 8, 2))
    axes = tuple(int(value) for value in chance.uniform(0.3, 0.52, 2) * side)
    thickness = -1 if chance.random() < 0.6 else int(chance.integers(2, 16))
    cv2.ellipse(picture, middle, axes, 0, 0, 360, int(ink), thickness)
    if chance.random() < 0.4:
        for start in range(0, 360, int(chance.integers(20, 90))):
            shade = int(chance.integers(0, 256))
            cv2.ellipse(picture, middle, axes, 0, start, start + 20, shade, -1)
    noise = chance.normal(0, chance.uniform(0, 12), picture.shape)
    blurred = cv2.GaussianBlur(picture, (0, 0), chance.uniform(0.5, 4))
    return _window(np.clip(blurred + noise, 0, 255).astype(np.uint8))


def random_cut(photo: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Return a large square of a photo."""
    return _cut(photo, chance.uniform(0.35, 0.9), chance)


def _cut(photo: np.ndarray, share: float, chance: np.random.Generator) -> np.ndarray:
    side = max(16, int(min(photo.shape) * share))
    top, left = (chance.integers(0, max(1, length - side + 1)) for length in photo.shape)
    return np.ascontiguousarray(photo[top : top + side, left : left + side])


def _window(cut: np.ndarray) -> np.ndarray:
    method = cv2.INTER_AREA if min(cut.shape) > SIDE_PX else cv2.INTER_LINEAR
    return cv2.resize(cut, (SIDE_PX, SIDE_PX), interpolation=method)


def mistakes(photo: np.ndarray, template, chance: np.random.Generator) -> list[np.ndarray]:
    """Return windows that the template nearly takes for faces: the worst, and some others."""
    border = round(BORDER_SHARE * min(photo.shape))
    bordered = cv2.copyMakeBorder(photo, *[border] * 4, cv2.BORDER_REPLICATE)
    hits = []
    for share in SHARES:
        scale = SIDE_PX / (share * min(photo.shape))
        size_wh = [max(SIDE_PX, round(side * scale)) for side in bordered.shape[::-1]]
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        copy = cv2.resize(bordered, size_wh, interpolation=method)
        corners, scores = template.detect(copy, LEAST_MINED_SCORE, winStride=(4, 4))
        hits += [
            (float(score), copy[y : y + SIDE_PX, x : x + SIDE_PX].copy())
            for (x, y), score in zip(corners, np.ravel(scores), strict=True)
        ]
    hits.sort(key=lambda hit: -hit[0])
    others = chance.permutation(len(hits))[:MINED_OTHERS]
    chosen = sorted({*range(min(MINED_HARDEST, len(hits))), *others.tolist()})
    return [hits[index][1] for index in chosen]


def fit(faces: list[np.ndarray], windows: list[np.ndarray]):
    """Return the template: OpenCV's histogram of oriented gradients with a linear classifier."""
    template = cv2.HOGDescriptor((SIDE_PX, SIDE_PX), (16, 16), (8, 8), (8, 8), 9)
    features = np.stack([template.compute(picture).ravel() for picture in (*faces, *windows)])
    labels = np.repeat([1, 0], [len(faces), len(windows)])
    model = LogisticRegression(C=0.1, max_iter=80, tol=1e-3).fit(features, labels)
    weights = np.append(model.coef_[0], model.intercept_[0]).astype(np.float32)
    template.setSVMDetector(weights.reshape(-1, 1))
    return template


if __name__ == "__main__":
    sys.exit(main())
