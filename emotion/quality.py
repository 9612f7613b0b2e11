"""What may make an answer unreliable, as sentences that tell the person what to do.

Each note is earned: on faces that get it the shipped model is right clearly less often than on
others. `benchmarks/quality_notes.md` has the measurements behind every limit.
"""

from collections.abc import Sequence

import cv2
import numpy as np

SMALL_PX = 32  # a face with fewer pixels a side has lost what tells expressions apart
BLURRED_FROM = 0.54  # blur, 0 to 1
DARK_BELOW = 50 / 255  # mean brightness; below, a camera's noise outweighs the face
WHITE = 250 / 255
BURNT_FROM = 0.4  # share of white pixels
FLAT_BELOW = 40 / 255  # difference of the brightest and darkest twentieth
ASYMMETRIC_BELOW = -0.05  # likeness to the mirror image, -1 to 1
CUT_BELOW = 0.8  # ratio of the sides of a box at the photo's edge
MIRROR_SHIFTS = range(-4, 5)  # by how many pixels a face may lie beside the middle of its crop


def quality_notes(
    crop: np.ndarray, box_xywh: Sequence[int], photo_wh: tuple[int, int]
) -> tuple[str, ...]:
    """Return the notes on a crop, (48, 48, 1) float32 in [0, 1]; box and photo in full pixels."""
    grey, notes = crop[..., 0], []
    x, y, width, height = box_xywh
    shorter, longer = sorted((width, height))
    if shorter < SMALL_PX:  # and so always blurred, too
        notes.append(f"Small face ({shorter} px): use a larger photo or move closer")
    elif blur(grey) >= BLURRED_FROM:
        notes.append("Blurred face: hold still and let the camera focus on the face")
    low, high = np.percentile(grey, (5, 95))
    if grey.mean() < DARK_BELOW:
        notes.append("Dark face: bring light onto it from the front")
    elif (grey >= WHITE).mean() >= BURNT_FROM:
        notes.append("Overexposed face: use softer light or a shorter exposure")
    elif high - low < FLAT_BELOW:
        notes.append("Pale face, almost no contrast: clean the lens and avoid light from behind")
    is_at_edge = min(x, y) <= 0 or x + width >= photo_wh[0] or y + height >= photo_wh[1]
    if is_at_edge and shorter < CUT_BELOW * longer:
        notes.append("Face partly outside the photo: take one with the whole face in it")
    elif mirror_likeness(grey) < ASYMMETRIC_BELOW:
        notes.append(
            "Turned, tilted or partly hidden face: look straight at the camera, head upright and "
            "nothing before the face"
        )
    return tuple(notes)


def blur(grey: np.ndarray) -> float:
    """Return how blurred a crop is, 0 (sharp) to 1: how little more blur changes it.

    The worse of both directions counts, which also finds motion (Crete et al. 2007, "The blur
    effect: perception and estimation with a new no-reference perceptual blur metric").
    """
    kept = []
    for rows in (grey, grey.T):
        differences = np.abs(np.diff(rows, axis=1))
        blurred = np.abs(np.diff(cv2.blur(rows, (9, 1)), axis=1))
        total = float(differences.sum())
        lost = float(np.maximum(differences - blurred, 0).sum())
        kept.append(1 - lost / total if total else 0.0)
    return max(kept)


def mirror_likeness(grey: np.ndarray) -> float:
    """Return how well a crop correlates with its mirror image, -1 to 1; high for a frontal face."""
    # without the light that falls from one side
    features = cv2.GaussianBlur(grey, (0, 0), 1.5) - cv2.GaussianBlur(grey, (0, 0), 8)
    features = features[4:-4]  # hair and collar say little
    width, likenesses = features.shape[1], []
    for shift in MIRROR_SHIFTS:
        one = features[:, max(0, shift) : width + min(0, shift)]
        other = one[:, ::-1]
        one, other = one - one.mean(), other - other.mean()
        energy = float((one * one).sum())
        likenesses.append(float((one * other).sum()) / energy if energy > 1e-6 else 1.0)
    return max(likenesses)
