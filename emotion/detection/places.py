"""Where in a photo faces may be, by a network so small that it can look everywhere.

It is a fully convolutional one in the manner of the first stage of Zhang et al. (2016), "Joint Face
Detection and Alignment using Multi-task Cascaded Convolutional Networks";
`benchmarks/face_places.py` fits it. The cascades of `emotion.detection.haar` look at its places.
"""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from emotion.detection.boxes import Box
from emotion.detection.views import View
from emotion.errors import ModelError
from emotion.files import models_folder

FACE_PLACES = models_folder() / "face_places.onnx"  # the network's weights
PLACE_WINDOW_PX = 21  # side of the window that the network sees: a face, chin to hairline
PLACE_STRIDE_PX = 4  # distance of one window to the next
PLACE_FACE_PX = 17.5  # side of the box that a cascade draws around the face in such a window
PLACE_STEP = 2**0.5  # factor between the sizes of faces that are looked for
SAME_PLACE = 0.5  # share of a face's side within which a weaker place of its size is the same one

# what takes a grey copy, (H, W) float32, and returns how much each window looks like a face
Network = Callable[[np.ndarray], np.ndarray]


def load_places(path: Path = FACE_PLACES) -> Network:
    """Return the network of a file; safe to call from many threads. Raises ModelError."""
    import onnxruntime  # other detectors do without it

    if not path.is_file():
        raise ModelError(f"expected the network of face places at {path}; found no file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # it is done before a second thread wakes
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (source,), (target,) = session.get_inputs(), session.get_outputs()
    except Exception as error:  # its errors share no base below Exception
        message = f"expected the network of face places in {path}; it is damaged: {error}"
        raise ModelError(message) from error
    if len(source.shape) != 4 or len(target.shape) != 4:
        raise ModelError(f"expected the network of face places in {path}; received another")
    return lambda copy: session.run([target.name], {source.name: copy[None, None]})[0][0, 0]


def find_places(network: Network, view: View, threshold: float) -> list[Box]:
    """Return where faces of a view's sizes may be in its pixels, the likeliest first.

    The threshold says how much a window must look like a face (a logit).
    """
    grey, corner = view.grey, (PLACE_WINDOW_PX - PLACE_FACE_PX) / 2
    found: list[tuple[float, Box]] = []
    face_px = view.smallest_face_px * PLACE_STEP**0.5
    largest_px = view.largest_face_px or max(grey.shape)
    while (
        face_px <= largest_px
        and (scale := PLACE_FACE_PX / face_px) * min(grey.shape) >= PLACE_WINDOW_PX
    ):
        size_wh = [round(side * scale) for side in grey.shape[::-1]]
        copy = cv2.resize(grey, size_wh, interpolation=cv2.INTER_AREA)
        heights = network(even_contrast(copy))
        peaks = (heights > threshold) & (heights == cv2.dilate(heights, np.ones((3, 3), np.uint8)))
        side = PLACE_FACE_PX / scale
        for row, column in zip(*np.nonzero(peaks), strict=True):
            x = (column * PLACE_STRIDE_PX + corner) / scale
            y = (row * PLACE_STRIDE_PX + corner) / scale
            found.append((float(heights[row, column]), (float(x), float(y), side, side)))
        face_px *= PLACE_STEP
    kept: list[Box] = []
    for _, box in sorted(found, key=lambda one: (-one[0], one[1])):
        if not any(_is_same(box, other) for other in kept):
            kept.append(box)
    return kept


def even_contrast(grey: np.ndarray) -> np.ndarray:
    """Return (H, W) uint8 grey as float32 around 0, of much the same contrast everywhere."""
    size_wh = (PLACE_WINDOW_PX, PLACE_WINDOW_PX)
    light = grey.astype(np.float32)
    mean = cv2.blur(light, size_wh)
    spread = cv2.sqrt(cv2.max(cv2.sqrBoxFilter(light, cv2.CV_32F, size_wh) - mean * mean, 0))
    return (light - mean) / (spread + np.float32(4))


def _is_same(one: Box, other: Box) -> bool:
    """True if two boxes of about one size lie close enough to be one place."""
    near_px = SAME_PLACE * min(one[2], other[2])
    offs = ((one[i] + one[2] / 2) - (other[i] + other[2] / 2) for i in (0, 1))
    is_like = max(one[2], other[2]) < 1.2 * min(one[2], other[2])
    return is_like and all(abs(off) < near_px for off in offs)
