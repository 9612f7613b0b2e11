"""The three small networks of the search: where faces may be, what is worth a look, what is a face.

They work in stages in the manner of Zhang et al. (2016), "Joint Face Detection and Alignment using
Multi-task Cascaded Convolutional Networks"; `benchmarks/face_networks.py` fits them.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from emotion.detection.boxes import Detection
from emotion.detection.views import View, upright_cut
from emotion.errors import ModelError
from emotion.files import models_folder

FACE_PLACES = models_folder() / "face_places.onnx"
FACE_REFINER = models_folder() / "face_refiner.onnx"
FACE_VERIFIER = models_folder() / "face_verifier.onnx"

PLACE_BORDER_PX = 24  # from the edge of a picture to the middle of the first window
PLACE_STRIDE_PX = 8  # from one window to the next
PLACE_FACES_PX = (16, 32)  # sides of the faces that the network of places knows
PLACE_REACH_PX = 16  # its unit of how far a face lies from the middle of its window
SAME_PLACE = 0.5  # intersection over union from which a likelier square stands for another
MOST_PLACES = 48  # in one view; the likeliest are kept
REFINER_PX = 32  # side of what the refiner sees: a face and a quarter of its side around it
VERIFIER_PX = 48  # and the verifier
LOOK_SPREAD = 1.5  # that side, in sides of the face
ROLL_UNIT_DEGREES = 45.0  # the unit of its answer about the tilt
FURTHEST_SIZE = 0.8  # octaves by which one look may change the size of a face

Network = Callable[[np.ndarray], np.ndarray]


def load_network(path: Path, shape: Sequence[object]) -> Network:
    """Return the network of a file; safe to call from many threads.

    Raises ModelError, also where the network takes another shape (a text stands for any size).
    """
    import onnxruntime  # other detectors do without it

    expected = f"expected a network of the face detector in {path}"
    if not path.is_file():
        raise ModelError(f"{expected}; found no file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # it is done before a second thread wakes
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (source,), (target,) = session.get_inputs(), session.get_outputs()
    except Exception as error:  # its errors share no base below Exception
        raise ModelError(f"{expected}; it is damaged: {error}") from error
    if [side if isinstance(side, int) else "any" for side in source.shape] != list(shape):
        raise ModelError(f"{expected}; received another")
    return lambda pictures: session.run([target.name], {source.name: pictures})[0]


def find_places(network: Network, view: View, threshold: float) -> list[Detection]:
    """Return squares of the photo that may hold faces of `PLACE_FACES_PX` of the view.

    The network takes (1, H, W, 1) float32 as `centred` gives it, and gives the logit of a face, how
    far right and down its middle is, and its size in octaves: (1, rows, columns, 4).
    """
    bordered = cv2.copyMakeBorder(view.grey, *[PLACE_BORDER_PX] * 4, cv2.BORDER_REPLICATE)
    answers = network(centred(bordered)[None, :, :, None])[0]
    logits = np.ascontiguousarray(answers[..., 0])
    peaks = (logits > threshold) & (logits == cv2.dilate(logits, None))
    rows, columns = np.nonzero(peaks)
    order = np.argsort(-logits[rows, columns], kind="stable")[:MOST_PLACES]
    rows, columns = rows[order], columns[order]
    _, right, down, octaves = answers[rows, columns].T.astype(float)
    x = (columns * PLACE_STRIDE_PX + 0.5 + PLACE_REACH_PX * right) * view.step
    y = (rows * PLACE_STRIDE_PX + 0.5 + PLACE_REACH_PX * down) * view.step
    side = math.sqrt(math.prod(PLACE_FACES_PX)) * 2 ** octaves.clip(-1.2, 1.2) * view.step
    boxes = np.stack([x - side / 2, y - side / 2, side, side], 1)
    return [Detection(tuple(box), 0.0) for box in boxes.tolist()]


def centred(grey: np.ndarray) -> np.ndarray:
    """Return uint8 pixels as the network of places takes them (a cast inside it is slower)."""
    return grey * np.float32(1 / 255) - np.float32(0.5)


def look_closely(
    network: Network,
    side_px: int,
    views: Sequence[View],
    faces: Sequence[Detection],
    threshold: float = -math.inf,
) -> list[Detection]:
    """Return the faces above a logit with better boxes, the tilt of the head, and logits as scores.

    The network takes (N, side, side, 1) float32 of mean 0 and spread 1, the faces turned upright by
    their tilt, and gives the logit of a face, how far right and down its middle is, in its sides,
    its size in octaves, and its tilt: (N, 5). The views are of one photo, the largest first.
    """
    if not faces:
        return []
    cuts = np.empty((len(faces), side_px, side_px), np.float32)
    for cut, face in zip(cuts, faces, strict=True):
        cut[:] = upright_cut(views, face.box_xywh, LOOK_SPREAD, face.roll_degrees, side_px)
    cuts -= cuts.mean((1, 2), keepdims=True)
    variances = np.einsum("nij,nij->n", cuts, cuts) / side_px**2
    cuts /= (np.sqrt(variances) + 8)[:, None, None]
    logits, right, down, octaves, rolls = network(cuts[..., None]).T.astype(float)
    x, y, side, _ = np.array([face.box_xywh for face in faces]).T
    tilts = np.array([face.roll_degrees for face in faces])
    cosine, sine = np.cos(np.radians(tilts)), np.sin(np.radians(tilts))
    new_side = side * 2 ** octaves.clip(-FURTHEST_SIZE, FURTHEST_SIZE)
    left = x + (right * cosine + down * sine) * side + (side - new_side) / 2
    top = y + (down * cosine - right * sine) * side + (side - new_side) / 2
    tilts += ROLL_UNIT_DEGREES * rolls
    seen = np.stack([left, top, new_side, new_side, logits, tilts], 1)[logits > threshold]
    return [Detection(tuple(box), logit, tilt) for *box, logit, tilt in seen.tolist()]


def unlike(faces: Sequence[Detection]) -> list[Detection]:
    """Return the likelier of any two squares that are nearly the same, the likeliest first."""
    boxes, odds = [face.box_xywh for face in faces], [math.exp(face.score) for face in faces]
    return [faces[n] for n in cv2.dnn.NMSBoxes(boxes, odds, 0, SAME_PLACE)]
