"""Draw faces on a copy of a photo: numbered boxes with labels legible at any size, or blurred."""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from emotion.faces import Face, in_words
from emotion.labels import color_rgb, label
from emotion.text import percent

SMALLEST_TEXT_PX = 12  # smaller letters cannot be read
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
UNSURE_COLOR_RGB = WHITE  # no class's colour; the box of such an answer is dashed besides

# half width and height of the oval that is blurred, in sides of the box: it holds hair and chin
BLUR_HALF_AXES = (0.8, 1.0)

# cells across a box that is blurred, whatever its size; networks still recognise people in mosaics
# of finer cells (McPherson et al. 2016, "Defeating image obfuscation with deep learning")
BLUR_CELLS = 4
BLUR_CELL_PX = 8  # side of a cell while it is blurred

BARS_INK_RGB = (205, 205, 205)
BARS_TRACK_RGB = (75, 75, 75)
BARS_PLATE_GREY = 22
BARS_OPACITY = 0.85  # of the plate under the bars
BAR_LENGTHS = (5.0, 2.0)  # of a bar of 100% in text sizes: the first one that finds a free place

Rectangle = tuple[float, float, float, float]  # left, top, right, bottom in pixels
Size = tuple[int, int]  # width, height in pixels
Color = tuple[int, int, int]
Label = tuple[str, float, float, float, float, int]  # text, its plate's rectangle, letters' size


def annotate(
    image: np.ndarray,
    faces: Sequence[Face],
    numbers: Sequence[int] | None = None,
    bars: bool = False,
    sides: dict[int, int] | None = None,
) -> np.ndarray:
    """Return a copy of a photo, (H, W, 3) uint8 RGB, with every face boxed, numbered and labelled.

    A sure answer has the colour of its class; an unsure one is white and dashed and says so. Labels
    cover neither a face nor another label; in a crowd they are the numbers alone, by default from
    1. `bars` of all classes stand beside faces that leave room; in moving pictures `sides`, number
    -> side, keeps them where they were.
    """
    canvas = image.copy()
    size_wh = canvas.shape[1::-1]
    thickness = _thickness(size_wh)
    rim = max(1, thickness // 2)  # dark, so that a box shows on any background
    numbers = range(1, len(faces) + 1) if numbers is None else numbers
    boxes = _boxes(faces)
    for face, box in zip(faces, boxes, strict=True):
        outside = (box[0] - rim, box[1] - rim, box[2] + rim, box[3] + rim)
        _outline(canvas, outside, BLACK, thickness + 2 * rim)
        _outline(canvas, box, _color(face), thickness, dashed=not face.sure)
    labels = label_places(faces, size_wh, numbers)
    for index in _largest_first(faces):
        text, left, top, *_, size = labels[index]
        _paste(canvas, _label(text, size, _color(faces[index])), left, top)
    taken = [*(label[1:5] for label in labels), *boxes]
    sides = {} if sides is None else sides
    for index in _largest_first(faces) if bars else ():
        last_side = sides.get(numbers[index])
        if placed := _place_bars(faces[index], boxes[index], taken, size_wh, last_side):
            panel, place, sides[numbers[index]] = placed
            left, top = round(place[0]), round(place[1])
            part = canvas[top : top + panel.shape[0], left : left + panel.shape[1]]
            part[:] = cv2.addWeighted(part, 1 - BARS_OPACITY, panel, BARS_OPACITY, 0)
            taken.append(place)
    return canvas


def label_places(
    faces: Sequence[Face], size_wh: Size, numbers: Sequence[int] | None = None
) -> list[Label]:
    """Return the labels that `annotate` draws, one a face, without drawing them."""
    numbers = range(1, len(faces) + 1) if numbers is None else numbers
    boxes, labels = _boxes(faces), {}
    for index in _largest_first(faces):
        taken = [label[1:5] for label in labels.values()]
        obstacles = [*taken, *boxes[:index], *boxes[index + 1 :]]
        about = (numbers[index], faces[index], boxes[index], obstacles, size_wh)
        labels[index] = _place_label(*about)
    return [labels[index] for index in range(len(faces))]


def _boxes(faces: Sequence[Face]) -> list[Rectangle]:
    return [(x, y, x + wide - 1, y + high - 1) for x, y, wide, high in (f.box_xywh for f in faces)]


def _largest_first(faces: Sequence[Face]) -> list[int]:
    return sorted(range(len(faces)), key=lambda index: -faces[index].box_xywh[2])


def blur_faces(image: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """Return a copy of a photo, (H, W, 3) uint8 RGB, with every face made unrecognisable.

    A mosaic of a few cells keeps no detail that could be brought back; blurred, it looks kinder.
    """
    copy = image.copy()
    for face in faces:
        x, y, width, height = face.box_xywh
        middle, half = (x + width / 2, y + height / 2), (width, height) * np.array(BLUR_HALF_AXES)
        left, top = np.maximum(0, np.floor(middle - half)).astype(int)
        right, bottom = np.ceil(middle + half).astype(int)
        part = copy[top:bottom, left:right]
        down, across = np.ogrid[: part.shape[0], : part.shape[1]]
        from_middle_x = (across + left + 0.5 - middle[0]) / half[0]
        from_middle_y = (down + top + 0.5 - middle[1]) / half[1]
        inside = from_middle_x**2 + from_middle_y**2 <= 1
        part_wh = part.shape[1::-1]
        sides = zip(part_wh, (width, height), strict=True)
        counts = [max(1, round(BLUR_CELLS * whole / side)) for whole, side in sides]
        cells = cv2.resize(part, counts, interpolation=cv2.INTER_AREA)
        # blurred while it is small: a large face would take seconds
        small_wh = [BLUR_CELL_PX * count for count in counts]
        mosaic = cv2.resize(cells, small_wh, interpolation=cv2.INTER_NEAREST)
        soft = cv2.GaussianBlur(mosaic, (0, 0), BLUR_CELL_PX / 2, borderType=cv2.BORDER_REPLICATE)
        mosaic = cv2.resize(soft, part_wh, interpolation=cv2.INTER_LINEAR)
        np.copyto(part, mosaic, where=inside[..., None])
    return copy


def _thickness(size_wh: Size) -> int:
    return max(2, round(max(size_wh) / 300))


def _color(face: Face) -> Color:
    return color_rgb(face.emotion, tuple(face.probabilities)) if face.sure else UNSURE_COLOR_RGB


def _outline(canvas, box: Rectangle, color: Color, width: int, dashed: bool = False) -> None:
    """Draw the sides of a rectangle, towards its inside; a dash at each corner if dashed."""
    (left, top, right, bottom), inner = box, width - 1

    def strokes(start: float, end: float) -> Iterator[tuple[float, float]]:
        # two or more dashes, each about four times as long as thick, with gaps as long
        count = max(2, round((end - start) / (8 * width) + 0.5)) if dashed else 1
        step = (end - start) / (2 * count - 1)
        for number in range(count):
            yield start + 2 * number * step, start + (2 * number + 1) * step

    for start, end in strokes(left, right):
        _fill(canvas, (start, top, end, top + inner), color)
        _fill(canvas, (start, bottom - inner, end, bottom), color)
    for start, end in strokes(top, bottom):
        _fill(canvas, (left, start, left + inner, end), color)
        _fill(canvas, (right - inner, start, right, end), color)


def _fill(canvas: np.ndarray, box: Rectangle, color: Color) -> None:
    """Fill the part of a rectangle that is in the picture; all four sides belong to it."""
    left, top, right, bottom = (max(0, round(side)) for side in (*box[:2], box[2] + 1, box[3] + 1))
    canvas[top:bottom, left:right] = color


def _paste(canvas: np.ndarray, patch: np.ndarray, left: float, top: float) -> None:
    """Put a small picture on a large one; what would stand outside is cut off."""
    x, y = round(left), round(top)
    inside = patch[max(0, -y) :, max(0, -x) :]
    part = canvas[max(0, y) :, max(0, x) :][: inside.shape[0], : inside.shape[1]]
    part[:] = inside[: part.shape[0], : part.shape[1]]


def _best_place(corners, wh, photo_wh: Size, obstacles: Sequence[Rectangle], favourite=None):
    """Return (area covered, number, rectangle) of the corner where a thing covers least, or None.

    Of equals it is the favourite, else the first. Corners are (left, top, the directions in which
    the thing may be slid into the photo).
    """
    places = []
    for number, (x, y, slides) in enumerate(corners):
        left = min(max(0, x), max(0, photo_wh[0] - wh[0]))
        top = min(max(0, y), max(0, photo_wh[1] - wh[1]))
        if ("x" not in slides and abs(left - x) >= 1) or ("y" not in slides and abs(top - y) >= 1):
            continue
        right, bottom = left + wh[0] - 1, top + wh[1] - 1
        covered = math.inf
        if right < photo_wh[0] and bottom < photo_wh[1]:
            covered = sum(
                max(0, min(right, box[2]) - max(left, box[0]))
                * max(0, min(bottom, box[3]) - max(top, box[1]))
                for box in obstacles
            )
        places.append((covered, number, (left, top, right, bottom)))
        if not covered and favourite is None:
            break
    return min(places, key=lambda place: (place[0], place[1] != favourite), default=None)


@functools.lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _place_label(
    number: int, face: Face, box: Rectangle, obstacles: Sequence[Rectangle], size_wh: Size
) -> Label:
    """Return the longest label that has room, else the number alone."""
    texts = (
        f"{number} {in_words([*map(label, face.candidates)], face.sure)}",
        f"{number} {' or '.join(map(label, face.candidates[:2]))}?",
        f"{number} {label(face.emotion)}?",
        f"{number}?",
    )
    if face.sure:
        words = f"{number} {label(face.emotion)}"
        texts = (f"{words} {percent(face.confidence)}", words, f"{number}")
    by_photo, by_face = max(size_wh) / 36, face.box_xywh[2] / 7
    largest = round(max(SMALLEST_TEXT_PX, by_photo, min(by_face, 1.5 * by_photo)))
    sizes = tuple(dict.fromkeys((largest, max(SMALLEST_TEXT_PX, largest * 2 // 3))))
    rim, (left, top, right, bottom) = _thickness(size_wh), box
    options = []
    # on the face itself only if it is alone, or else if not even the number has room beside it
    for is_inside, text, size in itertools.product((not obstacles, True), texts, sizes):
        width, height = _label_size(text, size)
        # one pushed into the photo from above would cover the brow and eyes
        starts, heights = (left - rim, right + rim - width), (top - rim - height, bottom + rim)
        corners = [(x, y, "x") for y in heights for x in starts]
        beside = (right + rim, top), (left - rim - width, top)
        inside = ((left, bottom - height), (left, top)) if is_inside else ()
        corners += [(*at, "xy") for at in inside] + [(*at, "y") for at in beside]
        covered, _, place = _best_place(corners, (width + 1, height + 1), size_wh, obstacles)
        if not covered:
            return text, *place, size
        options.append((covered, text, size, place))
    _, text, size, place = min(options[-len(sizes) :], key=lambda option: option[0])
    return text, *place, size


@functools.lru_cache(maxsize=1024)
def _label_size(text: str, size: int) -> tuple[float, float]:
    font = _font(size)
    return font.getlength(text) + size * 0.6, sum(font.getmetrics()) * 1.15


@functools.lru_cache(maxsize=512)
def _label(text: str, size: int, color: Color) -> np.ndarray:
    """Return a plate with text in black or white, whichever contrasts more; not to be changed."""
    width, height = _label_size(text, size)
    plate = Image.new("RGB", (round(width) + 1, round(height) + 1), color)
    pen = ImageDraw.Draw(plate)
    corner = (plate.width - 1, plate.height - 1)
    pen.rectangle((0, 0, *corner), outline=BLACK, width=max(1, size // 14))
    parts = np.array(color) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    ink = BLACK if linear @ (0.2126, 0.7152, 0.0722) > 0.179 else WHITE  # luminance, WCAG 2
    pen.text((size * 0.3, height / 2), text, font=_font(size), fill=ink, anchor="lm")
    return np.asarray(plate)


def _place_bars(
    face: Face, box: Rectangle, obstacles: list[Rectangle], size_wh: Size, last_side: int | None
) -> tuple[np.ndarray, Rectangle, int] | None:
    """Return (panel, place, side) of the longest bars that find a free place, else None."""
    size, gap = max(SMALLEST_TEXT_PX, round(max(size_wh) / 85)), 2 * _thickness(size_wh)
    left, top, right, bottom = box
    for bar_length in BAR_LENGTHS:
        panel = _bars(face, size, round(size * bar_length))
        height, width = panel.shape[:2]
        # beside the face, below it, above it; slid along it, never over it
        beside, starts = (right + gap + 1, left - gap - width), (left, right - width + 1)
        corners = [(x, y, "y") for x in beside for y in (top, bottom - height + 1)]
        corners += [(x, y, "x") for y in (bottom + gap + 1, top - gap - height) for x in starts]
        found = _best_place(corners, (width, height), size_wh, obstacles, last_side)
        if found and not found[0]:
            return panel, found[2], found[1]
    return None


def _bars(face: Face, size: int, full: int) -> np.ndarray:
    """Return a row a class with its name, a bar of `full` pixels for 100%, and its percentage."""
    names, candidates = tuple(face.probabilities), face.candidates
    row, edge = round(size * 1.3), size // 3
    words = [_words(label(name), size, row, BARS_INK_RGB) for name in names]
    left = max(word.shape[1] for word in words) - 1 + size
    widest = _words("<99%", size, row, BARS_INK_RGB)
    width = left + full + 2 * (size // 2) + widest.shape[1]
    panel = np.full((row * len(names) + 2 * edge, width, 3), BARS_PLATE_GREY, np.uint8)
    for number, (name, probability) in enumerate(face.probabilities.items()):
        top, right = edge + number * row, left + round(full * probability)
        upper, lower = top + row // 5, top + row * 4 // 5 + 1
        _paste(panel, words[number], size // 2, top)
        panel[upper:lower, left : left + full + 1] = BARS_TRACK_RGB
        panel[upper:lower, left : right + 1] = WHITE  # an edge that shows the dark colours too
        panel[upper + 1 : lower - 1, left:right] = color_rgb(name, names)
        ink = WHITE if name in candidates else BARS_INK_RGB
        text = _words(percent(probability), size, row, ink)
        _paste(panel, text, width - size // 2 - text.shape[1], top)
    return panel


@functools.lru_cache(maxsize=512)
def _words(text: str, size: int, height: int, ink: Color) -> np.ndarray:
    """Return text on the colour of the bars' plate; not to be changed."""
    font = _font(size)
    picture = Image.new("RGB", (round(font.getlength(text)) + 1, height), (BARS_PLATE_GREY,) * 3)
    ImageDraw.Draw(picture).text((0, height / 2), text, font=font, fill=ink, anchor="lm")
    return np.asarray(picture)
