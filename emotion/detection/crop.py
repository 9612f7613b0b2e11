"""The crop of a face that the model sees: 48x48, grey, upright."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from emotion.detection.boxes import check_image
from emotion.errors import ImageError

CROP_MARGIN = (
    -0.05
)  # share of the side of the box that the crop adds on each side; below 0, leaves out
CROP_SIDE_PX = 48  # side of the model's crop in pixels


def crop_face(
    image: np.ndarray,
    box_xywh: Sequence[float],
    margin: float = CROP_MARGIN,
    side: int = CROP_SIDE_PX,
    roll_degrees: float = 0.0,
) -> np.ndarray:
    """Return what the model sees of a face: the square around its box, upright, grey.

    Takes (H, W, 3) uint8 RGB and a margin above -0.5, a share of the box's longer side; returns
    (side, side, 1) float32 in [0, 1]. Beyond the edge the last pixels repeat. Raises ImageError.
    """
    check_image(image)
    if margin <= -0.5 or min(box_xywh[2:]) <= 0:
        raise ImageError(
            "expected a box with a width and height above 0 and a margin above -0.5; "
            f"received {tuple(box_xywh)} and {margin}"
        )
    if not roll_degrees:
        grey = square_crop(image, box_xywh, margin, side)
    else:
        # the wider square still fills the corners after the turn
        wide_side = math.ceil(side * math.sqrt(2))
        wide_margin = (0.5 + margin) * wide_side / side - 0.5
        wide = square_crop(image, box_xywh, wide_margin, wide_side)
        middle = (wide_side - 1) / 2
        turn = cv2.getRotationMatrix2D((middle, middle), -roll_degrees, 1.0)
        turn[:, 2] += (side - 1) / 2 - middle
        grey = cv2.warpAffine(wide, turn, (side, side), borderMode=cv2.BORDER_REPLICATE)
    return grey.astype(np.float32)[:, :, np.newaxis] / np.float32(255)


def square_crop(
    image: np.ndarray, box_xywh: Sequence[float], margin: float, side: int
) -> np.ndarray:
    """Return a square around the middle of a box, (side, side) uint8 grey."""
    x, y, width, height = box_xywh
    cut = max(1, round(max(width, height) * (1 + 2 * margin)))
    left, top = round(x + width / 2 - cut / 2), round(y + height / 2 - cut / 2)
    rows, columns = image.shape[:2]
    # a square wholly outside still needs one row or column to repeat
    x0, y0 = min(max(0, left), columns - 1), min(max(0, top), rows - 1)
    x1, y1 = max(x0 + 1, min(left + cut, columns)), max(y0 + 1, min(top + cut, rows))
    before = max(0, min(-top, cut - (y1 - y0))), max(0, min(-left, cut - (x1 - x0)))
    after = cut - (y1 - y0) - before[0], cut - (x1 - x0) - before[1]
    edges = before[0], after[0], before[1], after[1]
    piece = cv2.copyMakeBorder(image[y0:y1, x0:x1], *edges, cv2.BORDER_REPLICATE)
    method = cv2.INTER_AREA if side < cut else cv2.INTER_LINEAR
    grey = cv2.cvtColor(piece, cv2.COLOR_RGB2GRAY) if piece.ndim == 3 else piece
    return cv2.resize(grey, (side, side), interpolation=method)
