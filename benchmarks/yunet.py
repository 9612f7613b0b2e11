"""How YuNet's boxes become squares: accuracy on FER2013 tiles, and agreement with Haar's boxes.

Each 48x48 tile of a split is enlarged to a photo, YuNet finds the face in it, and each way to lay a
square around the face is cropped and classified. Run by hand:

    python benchmarks/yunet.py --dataset fer2013.csv --yunet face_detection_yunet_2026may.onnx
"""

import statistics
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crop_margin import accuracy, enlarge, largest_box, options_parser, read_tiles
from face_detection import scenes

from emotion.detection.crop import crop_face
from emotion.detection.haar import FaceDetector
from emotion.detection.yunet import YunetDetector, YunetSettings
from emotion.model.runtime import load_model

SQUARES = ((0.9, 0.03), (0.95, 0.03), (1.0, 0.0), (1.0, 0.03), (1.0, 0.06), (1.05, 0.03))
"""Side of the square and its lift, both in heights of YuNet's box."""


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument("--yunet", type=Path, required=True, help="YuNet .onnx file")
    options = parser.parse_args()
    print_agreement(YunetDetector(options.yunet))
    tiles, labels = read_tiles(options)
    photos = [enlarge(tile) for tile in tiles]
    model = load_model(options.model)
    print("\n| side | lift | faces found | accuracy where found |\n| --- | --- | --- | --- |")
    for share, lift in SQUARES:
        settings = replace(YunetSettings(), square_share=share, square_lift=lift)
        detector = YunetDetector(options.yunet, settings)
        print(f"| {share:.2f} | {lift:.2f} | {measured(detector, photos, labels, model)} |")
    print(f"| Haar cascades | | {measured(FaceDetector(), photos, labels, model)} |")


def measured(detector, photos: list, labels: np.ndarray, model) -> str:
    """Return the share of photos in which a detector finds a face, and the accuracy on those."""
    boxes = [largest_box(detector.detect(photo)) for photo in photos]
    found = np.array([box is not None for box in boxes])
    pairs = zip(photos, boxes, strict=True)
    crops = np.stack([crop_face(photo, box) for photo, box in pairs if box is not None])
    return f"{found.mean():.1%} | {accuracy(model, crops, labels[found]):.1%}"


def print_agreement(detector) -> None:
    """Print how YuNet's squares lie against Haar's boxes on the packaged photos."""
    haar, sides, rights, downs = FaceDetector(), [], [], []
    for case in scenes():
        if len(case.faces) != 1 or max(case.image.shape) > 1000:
            continue
        one, other = largest_box(detector.detect(case.image)), largest_box(haar.detect(case.image))
        if one and other:
            sides.append(other[2] / one[2])
            rights.append((other[0] + other[2] / 2 - one[0] - one[2] / 2) / one[2])
            downs.append((other[1] + other[3] / 2 - one[1] - one[3] / 2) / one[2])
    medians = [statistics.median(values) for values in (sides, rights, downs)]
    print(
        f"{len(sides)} packaged faces: median Haar box {medians[0]:.2f} of the side of YuNet's "
        f"square, {medians[1]:+.3f} to the right and {medians[2]:+.3f} below its middle"
    )


if __name__ == "__main__":
    main()
