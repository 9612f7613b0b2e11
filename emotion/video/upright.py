"""A decoded frame as upright RGB: its turning, the shape of its pixels, its colours."""

from fractions import Fraction

import cv2
import numpy as np

FLATTEST, TALLEST = Fraction(1, 4), Fraction(4)
"""Pixels of any other shape are a mistake of the file; true ones are between 1:2 and 2:1."""

KNOWN_COLOURS = (0, 1, 4, 5, 6, 7, 9)
"""FFmpeg's numbers of the colour matrices that it converts: RGB, BT.709, FCC, BT.601 twice,
SMPTE 240M, BT.2020. Others are unspecified, rare or nonsense."""
BT601, BT709, BT2020 = "ITU601", "ITU709", "BT2020"
CONSTANT_LUMINANCE = 10
HIGHEST_RANGE = 2
LARGEST_SD_WH = (1024, 576)
"""Frames that do not say have the colours of BT.601 up to this size, above it those of BT.709."""


def display_matrix(frame) -> tuple[int, int, int, int]:
    """Return how a decoded frame is to be turned: a, b, c, d of x' = ax + cy and y' = bx + dy."""
    try:
        numbers = np.frombuffer(bytes(frame.side_data["DISPLAYMATRIX"]), np.int32)
    except (KeyError, ValueError):
        # PyAV refuses to list side data of which one is unknown to it, but tells the angle
        return _quarter_turns(round(frame.rotation / 90))
    a, b, _, c, d = (int(number) for number in numbers[:5])
    return a, b, c, d


def upright_size_wh(frame, aspect: Fraction | None) -> tuple[int, int]:
    """Return the size of a decoded frame when its pixels are square and it is turned upright."""
    width, height = _square_size_wh(frame, aspect)
    return (height, width) if _is_on_its_side(display_matrix(frame)) else (width, height)


def upright_rgb(
    frame, aspect: Fraction | None, size_wh: tuple[int, int], reformatter
) -> np.ndarray:
    """Return a decoded frame as (H, W, 3) uint8 RGB, upright, its pixels square.

    Args:
        frame: what PyAV decoded.
        aspect: width of a pixel by its height; None where the file does not say.
        size_wh: of the result; a frame of another size, as where it changes in mid-stream, is
            fitted into it with black bars.
        reformatter: PyAV's, one for all frames: each keeps tables and threads of its own.
    """
    width, height = _square_size_wh(frame, aspect)
    if frame.color_range > HIGHEST_RANGE:
        frame.color_range = 0
    flat = reformatter.reformat(
        frame, width, height, "rgb24", src_colorspace=_colours(frame), threads=1
    ).to_ndarray()
    image = _turned(flat, display_matrix(frame))
    return image if image.shape[1::-1] == size_wh else letterboxed(image, size_wh)


def letterboxed(image: np.ndarray, size_wh: tuple[int, int]) -> np.ndarray:
    """Return a picture scaled to fit into a size, with black bars where its shape differs."""
    scale = min(size_wh[0] / image.shape[1], size_wh[1] / image.shape[0])
    inner_wh = [max(1, round(side * scale)) for side in image.shape[1::-1]]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    right, bottom = size_wh[0] - inner_wh[0], size_wh[1] - inner_wh[1]
    left, top = right // 2, bottom // 2
    inner = cv2.resize(image, inner_wh, interpolation=method)
    return cv2.copyMakeBorder(inner, top, bottom - top, left, right - left, cv2.BORDER_CONSTANT)


def _square_size_wh(frame, aspect: Fraction | None) -> tuple[int, int]:
    """Return the size with square pixels: one side grows, none shrinks."""
    if not aspect or aspect == 1 or not FLATTEST <= aspect <= TALLEST:
        return frame.width, frame.height
    if aspect > 1:
        return round(frame.width * aspect), frame.height
    return frame.width, round(frame.height / aspect)


def _colours(frame) -> str | None:
    """Return the colour matrix to assume, or None where the frame says its own."""
    if frame.colorspace in KNOWN_COLOURS:
        return None
    if frame.colorspace == CONSTANT_LUMINANCE:
        return BT2020
    is_sd = frame.width <= LARGEST_SD_WH[0] and frame.height <= LARGEST_SD_WH[1]
    return BT601 if is_sd else BT709


def _turned(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Return a picture turned and mirrored as the nearest of the eight ways says."""
    a, b, c, d = matrix
    if _is_on_its_side(matrix):
        image, is_mirrored, is_upside_down = cv2.transpose(image), c < 0, b < 0
    else:
        is_mirrored, is_upside_down = a < 0, d < 0
    if is_mirrored and is_upside_down:
        return cv2.flip(image, -1)
    if is_mirrored or is_upside_down:
        return cv2.flip(image, 1 if is_mirrored else 0)
    return image


def _is_on_its_side(matrix: tuple[int, int, int, int]) -> bool:
    a, b, c, d = matrix
    return abs(b) + abs(c) > abs(a) + abs(d)


def _quarter_turns(count: int) -> tuple[int, int, int, int]:
    """Return the matrix of so many quarter turns against the clock."""
    return ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))[count % 4]
