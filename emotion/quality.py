"""What may make an answer unreliable, as sentences that tell the person what to do.

Each note is earned: on faces that get it the shipped model is right clearly less often than on
others. `benchmarks/quality_notes.md` has the measurements behind every limit.
"""

from collections.abc import Sequence

import cv2
import numpy as np

SMALL_PX = 32
"""A face with fewer pixels a side has lost what tells expressions apart."""

BLURRED_FROM = 0.54
"""Blur, 0 to 1 (see `blur`), from which a face is called blurred."""

DARK_BELOW = 50 / 255
"""Mean brightness, 0 to 1, below which a camera's noise outweighs the face."""

BURNT_FROM = 0.4
"""Share of white pixels from which a face is overexposed."""

FLAT_BELOW = 40 / 255
"""Difference of the brightest and darkest twentieth, 0 to 1, below which contrast is too low."""

ASYMMETRIC_BELOW = -0.05
"""Likeness of a face to its mirror image (see `mirror_likeness`) below which it is turned."""

CUT_BELOW = 0.8
"""Ratio of the sides of a box at the photo's edge below which too much of the face is missing."""

WHITE = 250 / 255
MIRROR_SHIFTS = range(-4, 5)
"""By how many pixels a face may lie beside the middle of its crop."""


def quality_notes(
    crop: np.ndarray, box_xywh: Sequence[int], photo_wh: tuple[int, int]
) -> tuple[str, ...]:
    """Return what may make the answer unreliable and what to do about it, in words.

    Args:
        crop: what the model sees of the face, (48, 48, 1) float32 in [0, 1].
        box_xywh: left, top, width and height of the face in pixels of the full photo.
        photo_wh: width and height of the full photo in pixels.
    """
    grey = crop[..., 0]
    notes = (
        _size_note(grey, box_xywh),
        _light_note(grey),
        _place_note(grey, box_xywh, photo_wh),
    )
    return tuple(note for note in notes if note)


def blur(grey: np.ndarray) -> float:
    """Return how blurred a crop is, 0 (sharp) to 1, whatever its contrast.

    Blurring takes away much of the differences between neighbours in a sharp picture and little in
    a blurred one; the worse of both directions counts, which also finds motion (Crete et al. 2007,
    "The blur effect: perception and estimation with a new no-reference perceptual blur metric").

    Args:
        grey: (H, W) float32 in [0, 1].
    """
    return max(_blur_along(grey), _blur_along(grey.T))


def mirror_likeness(grey: np.ndarray) -> float:
    """Return how well a crop correlates with its mirror image, -1 to 1; a frontal face does well.

    Light that falls from one side is taken out first, and the face may lie a little off the middle.

    Args:
        grey: (48, 48) float32 in [0, 1].
    """
    features = cv2.GaussianBlur(grey, (0, 0), 1.5) - cv2.GaussianBlur(grey, (0, 0), 8)
    features = features[4:-4]  # hair and collar say little
    return max(_correlation(features, shift) for shift in MIRROR_SHIFTS)


def _size_note(grey: np.ndarray, box_xywh: Sequence[int]) -> str | None:
    """Return a note on too few pixels or too little sharpness; a small face is always blurred."""
    side = min(box_xywh[2:])
    if side < SMALL_PX:
        return f"Small face ({side} px): use a larger photo or move closer"
    if blur(grey) >= BLURRED_FROM:
        return "Blurred face: hold still and let the camera focus on the face"
    return None


def _light_note(grey: np.ndarray) -> str | None:
    """Return a note on light or contrast."""
    low, high = np.percentile(grey, (5, 95))
    if grey.mean() < DARK_BELOW:
        return "Dark face: bring light onto it from the front"
    if (grey >= WHITE).mean() >= BURNT_FROM:
        return "Overexposed face: use softer light or a shorter exposure"
    if high - low < FLAT_BELOW:
        return "Pale face, almost without contrast: clean the lens and avoid light from behind"
    return None


def _place_note(grey: np.ndarray, box_xywh: Sequence[int], photo_wh: tuple[int, int]) -> str | None:
    """Return a note on what of the face is in view."""
    x, y, width, height = box_xywh
    is_at_edge = min(x, y) <= 0 or x + width >= photo_wh[0] or y + height >= photo_wh[1]
    if is_at_edge and min(width, height) < CUT_BELOW * max(width, height):
        return "Face partly outside the photo: take one with the whole face in it"
    if mirror_likeness(grey) < ASYMMETRIC_BELOW:
        return (
            "Turned, tilted or partly hidden face: look straight at the camera, head upright and "
            "nothing before the face"
        )
    return None


def _blur_along(grey: np.ndarray) -> float:
    """Return how blurred a crop is along its rows."""
    differences = np.abs(np.diff(grey, axis=1))
    blurred = np.abs(np.diff(cv2.blur(grey, (9, 1)), axis=1))
    total = float(differences.sum())
    lost = float(np.maximum(differences - blurred, 0).sum())
    return 1 - lost / total if total else 0.0


def _correlation(features: np.ndarray, shift: int) -> float:
    """Return the correlation of features with their mirror image, moved by some columns."""
    width = features.shape[1]
    one = features[:, max(0, shift) : width + min(0, shift)]
    other = one[:, ::-1]
    one, other = one - one.mean(), other - other.mean()
    energy = float((one * one).sum())
    return float((one * other).sum()) / energy if energy > 1e-6 else 1.0
