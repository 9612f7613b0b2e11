"""How wide to crop around a box: accuracy on FER2013 tiles that went through the detector.

Each 48x48 tile of a split is enlarged to a photo, the face in it is found as in any photo, cropped
with each margin and classified. The rightmost column holds the same figure for the tiles as they
are. Run by hand:

    python benchmarks/crop_margin.py --dataset fer2013.csv --split validation
"""

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from emotion.detection.crop import crop_face
from emotion.detection.haar import FaceDetector
from emotion.model.runtime import load_model
from emotion.training.data.datasets import read_datasets
from emotion.training.data.splits import make_splits
from emotion.training.settings import TrainingSettings

MARGINS = (-0.1, -0.05, 0.0, 0.05, 0.1, 0.15, 0.2)
PHOTO_SIDE_PX = 240


def main() -> None:
    options = options_parser(__doc__).parse_args()
    tiles, labels = read_tiles(options)
    model = load_model(options.model)
    detector = FaceDetector()
    photos = [enlarge(tile) for tile in tiles]
    boxes = [largest_box(detector.detect(photo)) for photo in photos]
    found = np.array([box is not None for box in boxes])
    print(f"{len(tiles)} tiles of the split {options.split}; a face found in {found.mean():.1%}")
    print_framing([box for box in boxes if box is not None])
    print("\n| margin | accuracy where a face was found |\n| --- | --- |")
    for margin in MARGINS:
        crops = [
            crop_face(photo, box, margin)
            for photo, box in zip(photos, boxes, strict=True)
            if box is not None
        ]
        print(f"| {margin:+.0%} | {accuracy(model, np.stack(crops), labels[found]):.1%} |")
    whole = tiles[found][..., None].astype(np.float32) / 255
    print(f"| the tile itself | {accuracy(model, whole, labels[found]):.1%} |")


def options_parser(about: str) -> argparse.ArgumentParser:
    """Return a parser of the options that say which tiles and which model."""
    defaults = TrainingSettings()
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--dataset", type=Path, required=True, help="as for training")
    parser.add_argument("--split", default="validation", help="validation or test")
    parser.add_argument("--model", type=Path, default=Path("models/detection_model"))
    parser.add_argument("--count", type=int, default=1000, help="tiles to use, chosen at random")
    parser.add_argument("--validation-share", type=float, default=defaults.validation_share)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    return parser


def read_tiles(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, 48, 48) uint8 tiles and their labels, (N,)."""
    settings = TrainingSettings(
        dataset=(str(options.dataset),),
        validation_share=options.validation_share,
        seed=options.seed,
    )
    dataset, _ = make_splits(read_datasets(settings), settings)
    split = dataset.split(options.split)
    chosen = np.random.default_rng(options.seed).permutation(len(split))[: options.count]
    return split.images[chosen], split.labels[chosen]


def enlarge(tile: np.ndarray) -> np.ndarray:
    """Return a tile as a photo, (240, 240, 3) uint8 RGB."""
    side = (PHOTO_SIDE_PX, PHOTO_SIDE_PX)
    return cv2.cvtColor(cv2.resize(tile, side, interpolation=cv2.INTER_CUBIC), cv2.COLOR_GRAY2RGB)


def largest_box(detections) -> tuple[int, int, int, int] | None:
    """Return the box of the largest face, None where none was found."""
    boxes = [detection.box_xywh for detection in detections]
    return max(boxes, key=lambda box: box[2], default=None)


def print_framing(boxes: list) -> None:
    """Print how a box lies in its tile: FER2013's own framing, measured in boxes."""
    places = np.array(boxes, dtype=float) / PHOTO_SIDE_PX
    sides = np.median(places[:, 2:].mean(axis=1))
    middles = np.median(places[:, :2] + places[:, 2:] / 2, axis=0)
    print(
        f"median box: {sides:.2f} of the tile's side, centred at "
        f"({middles[0]:.2f}, {middles[1]:.2f}) of it"
    )


def accuracy(model, faces: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of faces whose most probable class is their label."""
    return float((model.predict(faces).argmax(axis=1) == labels).mean())


if __name__ == "__main__":
    main()
