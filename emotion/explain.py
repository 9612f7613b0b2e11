"""Which parts of a face spoke for an answer: hide them one by one and ask the model again.

`benchmarks/explanations.md` has the measurements behind every number here.
"""

from dataclasses import dataclass, field
from html import escape

import cv2
import numpy as np
from PIL import Image

from emotion.errors import ModelError
from emotion.images.encoding import encode_png
from emotion.model.runtime import INPUT_SHAPE, EmotionModel
from emotion.text import data_url, percent

SIDE_PX = INPUT_SHAPE[0]
PATCH_PX = 8  # side of the part that is hidden at a time: about as large as an eye
EPSILON = np.finfo(np.float32).eps
STRIDE_PX = 6  # from one such part to the next; 64 of them cover a face
BLUR_PX = 8.0  # the blur that hides: it leaves no expression and, unlike a grey patch, no edge
SMOOTHING_PX = 1.0  # blur over the heat, so that it shows no grid

CHECKED_SHARE = 0.2  # of the face, hidden by the check
ELSEWHERE_COUNT = 6  # other places that the check hides for comparison
ELSEWHERE_GRAIN_PX = 4.0  # makes pieces about as large as the strongest parts
ELSEWHERE_SEED = 7  # the same face gets the same check each time

LEAST_HEAT = 0.5  # log-odds with the full colour if none are higher: no colour for next to nothing
MOST_OPAQUE = 0.6  # how much of the face the strongest colour covers
PALEST_GREY = 0.8  # of the face, so that bright colours stand out on bright skin


@dataclass(frozen=True)
class Explanation:
    """What spoke for a class, and whether that stands up to a check."""

    class_name: str
    heat: np.ndarray = field(repr=False)  # (48, 48), by how much log-odds fall if a part is hidden
    before: float  # probability with the whole face in view
    hidden: float  # with the parts that spoke for the class hidden, a fifth of the face
    elsewhere: float  # mean with as much hidden elsewhere
    crop: np.ndarray = field(repr=False)  # (48, 48, 1) float32 in [0, 1], as the model saw it

    @property
    def holds(self) -> bool:
        """Return whether hiding those parts lowers the probability, and more than elsewhere."""
        return self.hidden < min(self.before, self.elsewhere)

    def to_image(self, *, side: int = 320) -> Image.Image:
        """Return the face, `side` pixels wide, under its heat as an image of Pillow's."""
        return Image.fromarray(draw_heat(self.crop, self.heat, side))

    def _repr_html_(self) -> str:
        address = data_url(encode_png(draw_heat(self.crop, self.heat)))
        words = escape(
            f"{self.class_name} {percent(self.before)}; {percent(self.hidden)} with the outlined "
            f"parts hidden, {percent(self.elsewhere)} with as much hidden elsewhere"
        )
        return f'<div><img alt="{words}" src="{address}"><p>{words}</p></div>'


def explain(model: EmotionModel, crop: np.ndarray, class_name: str) -> Explanation:
    """Return which parts of a face, (48, 48, 1) float32, spoke for one of the model's classes.

    The heat of a part is by how much the log-odds of the class fall when it is hidden (Zeiler and
    Fergus 2014, "Visualizing and understanding convolutional networks"); the check hides all that
    spoke for it together. Raises ModelError.
    """
    if class_name not in model.class_names:
        known = ", ".join(model.class_names)
        raise ModelError(f"expected a class of the model ({known}); received {class_name!r}")
    position, masks = model.class_names.index(class_name), patch_masks()
    everything = cover(crop, np.concatenate([np.zeros_like(masks[:1]), masks]))
    answers = model.predict(everything)
    others = np.delete(answers, position, axis=1).sum(axis=1)  # in float32, 1 - p is soon 0
    odds = np.log(np.maximum(answers[:, position], EPSILON) / np.maximum(others, EPSILON))
    heat = spread(odds[0] - odds[1:], masks)
    parts = strongest_parts(heat)
    masks = np.stack([np.zeros_like(parts), parts, *parts_elsewhere(parts)])
    answers = model.answer(cover(crop, masks))[:, position]
    before, hidden, elsewhere = map(float, (answers[0], answers[1], answers[2:].mean()))
    return Explanation(class_name, heat, before, hidden, elsewhere, crop)


def patch_masks() -> np.ndarray:
    """Return the parts that are hidden in turn, (N, 48, 48) bool: squares that cover the face."""
    steps = -(-(SIDE_PX - PATCH_PX) // STRIDE_PX)
    first = (SIDE_PX - PATCH_PX - steps * STRIDE_PX) // 2
    starts = first + STRIDE_PX * np.arange(steps + 1)
    pixels = np.arange(SIDE_PX)
    within = (pixels >= starts[:, None]) & (pixels < starts[:, None] + PATCH_PX)
    return (within[:, None, :, None] & within[None, :, None, :]).reshape(-1, SIDE_PX, SIDE_PX)


def cover(crop: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return a copy of a face for each mask, (N, 48, 48) bool, blurred away where it is true."""
    if crop.shape != INPUT_SHAPE:
        raise ValueError(f"expected a crop of shape {INPUT_SHAPE}; received {crop.shape}")
    blurred = cv2.GaussianBlur(crop, (0, 0), BLUR_PX, borderType=cv2.BORDER_REPLICATE)
    return np.where(masks[..., None], blurred[..., None], crop).astype(np.float32)


def spread(falls: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the heat, (48, 48): the mean fall of the log-odds, (N,), over the parts of a pixel."""
    heat = (np.tensordot(falls, masks, 1) / masks.sum(axis=0)).astype(np.float32)
    return cv2.GaussianBlur(heat, (0, 0), SMOOTHING_PX, borderType=cv2.BORDER_REPLICATE)


def strongest_parts(heat: np.ndarray) -> np.ndarray:
    """Return the fifth of a face with the most heat, (48, 48) bool; less where less is above 0."""
    return _highest(heat, round(CHECKED_SHARE * heat.size)) & (heat > 0)


def parts_elsewhere(parts: np.ndarray) -> np.ndarray:
    """Return masks that hide as much elsewhere, (N, 48, 48) bool: the peaks of smooth noise."""
    random = np.random.default_rng(ELSEWHERE_SEED)
    noise = random.standard_normal((ELSEWHERE_COUNT, *parts.shape))
    hills = [cv2.GaussianBlur(layer, (0, 0), ELSEWHERE_GRAIN_PX) for layer in noise]
    count = min(parts.sum(), (~parts).sum())
    return np.stack([_highest(np.where(parts, -np.inf, layer), count) for layer in hills])


def _highest(values: np.ndarray, count: int) -> np.ndarray:
    """Return where an array has its `count` highest values, as bool; ties in reading order."""
    mask = np.zeros(values.size, bool)
    mask[np.argsort(-values, axis=None, kind="stable")[:count]] = True
    return mask.reshape(values.shape)


def draw_heat(crop: np.ndarray, heat: np.ndarray, side: int = 320) -> np.ndarray:
    """Return a face, enlarged, with warm colours where it spoke for the class.

    A line surrounds the parts that the check hides, so that colour is not the only cue. Crop and
    heat are those of an `Explanation`; the picture is (side, side, 3) uint8 RGB.
    """
    strongest = strongest_parts(heat).astype(np.float32)
    grey, strength, parts = (
        cv2.resize(values, (side, side), interpolation=cv2.INTER_CUBIC)
        for values in (crop[..., 0], heat, strongest)
    )
    grey = np.clip(grey, 0, 1)[..., None] * PALEST_GREY
    strength = np.clip(strength / max(LEAST_HEAT, float(heat.max())), 0, 1)
    # the lightness of `inferno` (Smith and van der Walt 2015) rises evenly for colour-blind eyes,
    # too; its dark end is left out, as it would look like shadow
    levels = np.rint(110 + 130 * strength).astype(np.uint8)
    colors = cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1] / 255
    opacity = MOST_OPAQUE * strength[..., None]
    picture = np.rint(((1 - opacity) * grey + opacity * colors) * 255).astype(np.uint8)
    # a white line on a dark one
    inside = (cv2.GaussianBlur(parts, (0, 0), side / SIDE_PX) > 0.5).astype(np.uint8)
    outlines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thin = max(1, side // 160)
    for color, width in (((0, 0, 0), 2 * thin + 1), ((255, 255, 255), thin)):
        cv2.drawContours(picture, outlines, -1, color, width, cv2.LINE_AA)
    return picture
