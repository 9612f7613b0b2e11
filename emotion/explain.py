"""Which parts of a face spoke for an answer: hide them one by one and ask the model again.

`benchmarks/explanations.md` has the measurements behind every number here.
"""

import base64
from dataclasses import dataclass, field
from html import escape

import cv2
import numpy as np
from PIL import Image

from emotion.errors import ModelError
from emotion.images.encoding import encode_png
from emotion.model.runtime import INPUT_SHAPE, EmotionModel
from emotion.text import percent

SIDE_PX = INPUT_SHAPE[0]

PATCH_PX = 8
"""Side of the part that is hidden at a time: about as large as an eye."""

STRIDE_PX = 6
"""From one such part to the next; 64 of them cover a face."""

BLUR_PX = 8.0
"""Deviation of the blur that hides: no expression is left, and no edge is drawn that a flat patch
would have."""

CHECKED_SHARE = 0.2
"""Share of the face that the check hides."""

ELSEWHERE_COUNT = 6
"""How many other places the check hides for comparison."""

ELSEWHERE_GRAIN_PX = 4.0
"""How large the pieces of those places are; the strongest parts are about as large."""

ELSEWHERE_SEED = 7
"""The same face gets the same check each time."""

LEAST_HEAT = 0.5
"""Log-odds that have the full colour where nothing speaks more: no colour for next to nothing."""

SMOOTHING_PX = 1.0
"""Deviation of the blur over the heat, so that it shows no grid."""

MOST_OPAQUE = 0.6
"""How much of the face the strongest colour covers."""

PALEST_GREY = 0.8
"""White of the face under the colours, so that bright colours stand out on bright skin."""


@dataclass(frozen=True)
class Explanation:
    """What spoke for a class, and whether that stands up to a check.

    Attributes:
        class_name: the class that is explained.
        heat: (48, 48), by how much its log-odds fall where a part is hidden.
        before: its probability with the whole face in view.
        hidden: its probability with the parts that spoke for it hidden, a fifth of the face.
        elsewhere: its mean probability with as much hidden elsewhere.
        crop: (48, 48, 1) float32 in [0, 1], the face as the model saw it.
    """

    class_name: str
    heat: np.ndarray = field(repr=False)
    before: float
    hidden: float
    elsewhere: float
    crop: np.ndarray = field(repr=False)

    @property
    def holds(self) -> bool:
        """Return whether hiding those parts lowers the probability, and more than elsewhere."""
        return self.hidden < min(self.before, self.elsewhere)

    def to_image(self, *, side: int = 320) -> Image.Image:
        """Return the face with its parts in warm colours as an image of Pillow's; see `draw_heat`.

        Args:
            side: width and height in pixels.
        """
        return Image.fromarray(draw_heat(self.crop, self.heat, side))

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the picture above what the check found."""
        data = base64.b64encode(encode_png(np.asarray(self.to_image()))).decode("ascii")
        words = escape(
            f"{self.class_name} {percent(self.before)}; {percent(self.hidden)} with the outlined "
            f"parts hidden, {percent(self.elsewhere)} with as much hidden elsewhere"
        )
        return f'<div><img alt="{words}" src="data:image/png;base64,{data}"><p>{words}</p></div>'


def explain(model: EmotionModel, crop: np.ndarray, class_name: str) -> Explanation:
    """Return which parts of a face spoke for a class, checked by hiding them together.

    Args:
        model: what read the face.
        crop: (48, 48, 1) float32, the face as the model saw it.
        class_name: one of the model's classes, such as the one it answered.

    Raises:
        ModelError: the model does not know the class.
    """
    heat = occlusion_map(model, crop, class_name)
    parts = strongest_parts(heat)
    masks = np.stack([np.zeros_like(parts), parts, *parts_elsewhere(parts)])
    answers = model.answer(cover(crop, masks))[:, _position(model, class_name)]
    before, hidden, elsewhere = answers[0], answers[1], answers[2:].mean()
    return Explanation(class_name, heat, float(before), float(hidden), float(elsewhere), crop)


def occlusion_map(model: EmotionModel, crop: np.ndarray, class_name: str) -> np.ndarray:
    """Return by how much a class's log-odds fall when the part around each pixel is hidden.

    Zeiler and Fergus 2014, "Visualizing and understanding convolutional networks". Where parts
    overlap, a pixel has their mean.

    Args:
        model: what read the face.
        crop: (48, 48, 1) float32, the face as the model saw it.
        class_name: one of the model's classes.

    Returns:
        (48, 48) float32; below zero where a part spoke against the class.

    Raises:
        ModelError: the model does not know the class.
    """
    position, masks = _position(model, class_name), patch_masks()
    everything = cover(crop, np.concatenate([np.zeros_like(masks[:1]), masks]))
    odds = log_odds(model.predict(everything), position)
    return spread(odds[0] - odds[1:], masks)


def patch_masks(patch_px: int = PATCH_PX, stride_px: int = STRIDE_PX) -> np.ndarray:
    """Return the parts that are hidden in turn, (N, 48, 48) bool: squares on an even grid.

    The outermost ones reach over the edge, where needed, so that every pixel is in some part.
    """
    steps = -(-(SIDE_PX - patch_px) // stride_px)
    first = (SIDE_PX - patch_px - steps * stride_px) // 2
    starts = first + stride_px * np.arange(steps + 1)
    pixels = np.arange(SIDE_PX)
    within = (pixels >= starts[:, None]) & (pixels < starts[:, None] + patch_px)
    return (within[:, None, :, None] & within[None, :, None, :]).reshape(-1, SIDE_PX, SIDE_PX)


def cover(crop: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return copies of a face, each with the parts of one mask blurred away.

    Args:
        crop: (48, 48, 1) float32.
        masks: (N, 48, 48) bool, true where to hide.

    Returns:
        (N, 48, 48, 1) float32.
    """
    if crop.shape != INPUT_SHAPE:
        raise ValueError(f"expected a crop of shape {INPUT_SHAPE}; received {crop.shape}")
    blurred = cv2.GaussianBlur(crop, (0, 0), BLUR_PX, borderType=cv2.BORDER_REPLICATE)
    return np.where(masks[..., None], blurred[..., None], crop).astype(np.float32)


def log_odds(probabilities: np.ndarray, position: int) -> np.ndarray:
    """Return log(p / (1 - p)) of one class, (N,), from (N, classes).

    What is left of 1 is summed from the other classes: in float32, 1 - p is soon 0.
    """
    this = probabilities[:, position]
    others = np.delete(probabilities, position, axis=1).sum(axis=1)
    least = np.finfo(np.float32).eps
    return np.log(np.maximum(this, least)) - np.log(np.maximum(others, least))


def spread(falls: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the mean of what hiding cost over the parts around each pixel, without their grid.

    Args:
        falls: (N,), by how much the log-odds fell for each part.
        masks: (N, 48, 48) bool, the parts; every pixel is in one or more.

    Returns:
        (48, 48) float32.
    """
    heat = (np.tensordot(falls, masks, 1) / masks.sum(axis=0)).astype(np.float32)
    return cv2.GaussianBlur(heat, (0, 0), SMOOTHING_PX, borderType=cv2.BORDER_REPLICATE)


def strongest_parts(heat: np.ndarray) -> np.ndarray:
    """Return the fifth of a face with the most heat, (48, 48) bool; less where less spoke for it.

    Args:
        heat: (48, 48), from `occlusion_map`.
    """
    return _highest(heat, round(CHECKED_SHARE * heat.size)) & (heat > 0)


def parts_elsewhere(parts: np.ndarray) -> np.ndarray:
    """Return masks that hide as much as `parts` but nothing of it, (N, 48, 48) bool.

    They are the peaks of smooth noise, so that they come in pieces of about the same size.
    """
    random = np.random.default_rng(ELSEWHERE_SEED)
    noise = random.standard_normal((ELSEWHERE_COUNT, *parts.shape))
    hills = [cv2.GaussianBlur(layer, (0, 0), ELSEWHERE_GRAIN_PX) for layer in noise]
    count = min(parts.sum(), (~parts).sum())
    return np.stack([_highest(np.where(parts, -np.inf, layer), count) for layer in hills])


def draw_heat(crop: np.ndarray, heat: np.ndarray, side: int = 320) -> np.ndarray:
    """Return a face, enlarged, with warm colours where it spoke for the class.

    The brighter and the more yellow, the more; a line surrounds the parts that the check hides, so
    that colour is not the only cue. What spoke for nothing, or against, stays grey.

    Args:
        crop: (48, 48, 1) float32, the face as the model saw it.
        heat: (48, 48), from `occlusion_map`.
        side: width and height of the picture in pixels.

    Returns:
        (side, side, 3) uint8 RGB.
    """
    strength = np.clip(_enlarged(heat, side) / max(LEAST_HEAT, float(heat.max())), 0, 1)
    grey = np.clip(_enlarged(crop[..., 0], side), 0, 1)[..., None] * PALEST_GREY
    opacity = MOST_OPAQUE * strength[..., None]
    picture = (1 - opacity) * grey + opacity * _warm_colors(strength)
    return _outlined(np.rint(picture * 255).astype(np.uint8), strongest_parts(heat))


def _position(model: EmotionModel, class_name: str) -> int:
    """Return the place of a class among a model's outputs."""
    if class_name not in model.class_names:
        known = ", ".join(model.class_names)
        raise ModelError(f"expected a class of the model ({known}); received {class_name!r}")
    return model.class_names.index(class_name)


def _highest(values: np.ndarray, count: int) -> np.ndarray:
    """Return where an array has its `count` highest values, as bool; ties in reading order."""
    mask = np.zeros(values.size, bool)
    mask[np.argsort(-values, axis=None, kind="stable")[:count]] = True
    return mask.reshape(values.shape)


def _enlarged(values: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(values, (side, side), interpolation=cv2.INTER_CUBIC)


def _warm_colors(strength: np.ndarray) -> np.ndarray:
    """Return (..., 3) RGB from 0 to 1: the warm part of a map whose lightness rises evenly.

    `inferno` (Smith and van der Walt 2015) is even in lightness for colour-blind eyes too; its
    dark end is left out, as it would look like shadow.
    """
    levels = np.rint(110 + 130 * strength).astype(np.uint8)
    return cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[..., ::-1] / 255


def _outlined(picture: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Return a picture with a white line on a dark one around some parts of the face."""
    side = len(picture)
    rounded = cv2.GaussianBlur(_enlarged(parts.astype(np.float32), side), (0, 0), side / SIDE_PX)
    inside = (rounded > 0.5).astype(np.uint8)
    outlines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    thin = max(1, side // 160)
    for color, width in (((0, 0, 0), 2 * thin + 1), ((255, 255, 255), thin)):
        cv2.drawContours(picture, outlines, -1, color, width, cv2.LINE_AA)
    return picture
