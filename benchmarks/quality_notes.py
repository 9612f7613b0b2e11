"""Whether the quality notes are earned: how often the served model is right with and without them.

FER2013 tiles are made worse step by step; each step's accuracy and share of tiles with a note shows
where a limit of `emotion/quality.py` belongs. Run by hand:

    python benchmarks/quality_notes.py --dataset fer2013.csv --split validation
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crop_margin import options_parser, read_tiles

from emotion.detection.crop import crop_face
from emotion.images.decoding import read_image
from emotion.model.runtime import load_model
from emotion.quality import quality_notes
from emotion.recognizer import Recognizer

SIDE_PX = 48
SENSOR_NOISE = 3.0
"""Deviation of the noise of a camera in bad light, of 255 greys."""

JPEG_QUALITY = 90


def main() -> None:
    options = parse()
    tiles, labels = read_tiles(options)
    recognizer = Recognizer(load_model(options.model))
    print(f"{len(tiles)} tiles of the split {options.split}\n")
    print("| change | accuracy | tiles with a note | most frequent note |")
    print("| --- | --- | --- | --- |")
    seen = [measure(recognizer, labels, *step) for step in steps(tiles)]
    print("\n| note | tiles as they are | right | changed tiles | right |")
    print("| --- | --- | --- | --- | --- |")
    changed = [pair for _, pairs in seen[1:] for pair in pairs]
    for name in ("none", *sorted({name for name, _ in changed} - {"none"})):
        print(f"| {name} | {figures(name, seen[0][1])} | {figures(name, changed)} |")
    for photo in options.photos:
        notes = [face.notes for face in recognizer.recognize(read_image(photo))]
        print(f"\n{photo.name}: {len(notes)} faces; notes: {notes}")


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = options_parser(__doc__)
    parser.add_argument("--photos", type=Path, nargs="*", default=[], help="photos to look at too")
    return parser.parse_args()


def steps(tiles: np.ndarray) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yield the name of a change and the photos it makes of the tiles, from none to strong."""
    yield "none", list(tiles)
    for side in (40, 36, 32, 28, 24, 20):
        yield f"{side} px a side, JPEG", [shrunk(tile, side) for tile in tiles]
    for sigma in (0.7, 1.0, 1.25, 1.5, 2.0):
        yield f"blur, sigma {sigma} px", [cv2.GaussianBlur(tile, (0, 0), sigma) for tile in tiles]
    for length in (3, 5, 7, 9):
        yield f"moved by {length} px", [cv2.blur(tile, (length, 1)) for tile in tiles]
    for share in (0.6, 0.45, 0.35, 0.25):
        yield f"{share:.0%} of the light, noise", [dark(tile, share) for tile in tiles]
    for gain in (1.3, 1.6, 2.0):
        yield f"overexposed {gain} times", [cv2.convertScaleAbs(t, alpha=gain) for t in tiles]
    for share in (0.35, 0.25, 0.15):
        yield f"{share:.0%} of the contrast", [pale(tile, share) for tile in tiles]
    for degrees in (15, 25, 35):
        yield f"rolled {degrees} degrees", [rolled(tile, degrees) for tile in tiles]
    for missing in (8, 12, 16):
        yield f"{missing / SIDE_PX:.0%} outside at the side", [t[:, missing:] for t in tiles]
        yield f"{missing / SIDE_PX:.0%} outside at the top", [t[missing:] for t in tiles]


def shrunk(tile: np.ndarray, side: int) -> np.ndarray:
    """Return a tile with so many pixels a side, as they come out of a JPEG file."""
    small = cv2.resize(tile, (side, side), interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".jpg", small, (cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY))
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)


def dark(tile: np.ndarray, share: float) -> np.ndarray:
    """Return a tile with less light, and the noise of a camera."""
    noise = np.random.default_rng(int(tile.sum())).normal(0, SENSOR_NOISE, tile.shape)
    return (tile * share + noise).round().clip(0, 255).astype(np.uint8)


def pale(tile: np.ndarray, share: float) -> np.ndarray:
    """Return a tile with less contrast around middle grey."""
    return ((tile - 128.0) * share + 128).round().astype(np.uint8)


def rolled(tile: np.ndarray, degrees: float) -> np.ndarray:
    """Return a tile turned about its middle."""
    turn = cv2.getRotationMatrix2D((23.5, 23.5), degrees, 1)
    return cv2.warpAffine(tile, turn, (SIDE_PX, SIDE_PX), borderMode=cv2.BORDER_REPLICATE)


def measure(
    recognizer: Recognizer, labels: np.ndarray, name: str, photos: list[np.ndarray]
) -> tuple[float, list[tuple[str, bool]]]:
    """Print the row of a change; return its accuracy and (note, right) of each tile."""
    boxes = [(0, 0, photo.shape[1], photo.shape[0]) for photo in photos]
    crops = np.stack(
        [
            crop_face(cv2.cvtColor(photo, cv2.COLOR_GRAY2RGB), box)
            for photo, box in zip(photos, boxes, strict=True)
        ]
    )
    right = recognizer.model.predict(crops).argmax(axis=1) == labels
    notes = [
        first_words(quality_notes(crop, box, box[2:]))
        for crop, box in zip(crops, boxes, strict=True)
    ]
    noted = [note for note in notes if note != "none"]
    most = max(noted, key=noted.count, default="")
    print(f"| {name} | {right.mean():.1%} | {len(noted) / len(notes):.1%} | {most} |", flush=True)
    return float(right.mean()), list(zip(notes, right.tolist(), strict=True))


def first_words(notes: tuple[str, ...]) -> str:
    """Return what the first note of a face is about."""
    return notes[0].split(":")[0].split(" (")[0] if notes else "none"


def figures(name: str, pairs: list[tuple[str, bool]]) -> str:
    """Return how many tiles have a note and how many of them are right, as two cells."""
    right = [is_right for note, is_right in pairs if note == name]
    return f"{len(right)} | {np.mean(right):.1%}" if right else "0 | "


if __name__ == "__main__":
    main()
