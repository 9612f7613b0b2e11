"""Draw faces on a copy of a photo: numbered boxes with labels legible at any size, or blurred.

For videos, only the pixels that change are touched, and words are drawn once and kept.
"""

import functools
from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from emotion.faces import Face, short_verdict
from emotion.labels import color_rgb
from emotion.text import percent

SMALLEST_TEXT_PX = 12
"""Letters smaller than this cannot be read."""

UNSURE_COLOR_RGB = (255, 255, 255)
"""Box and label of an answer that is not sure: no class's colour; its box is dashed besides."""

BLUR_HALF_AXES = (0.8, 1.0)
"""Half width and half height of the oval that is blurred, in sides of the box: it holds the whole
box with its corners, the hairline, the ears and the chin."""

BLUR_CELLS = 4
"""Cells across a box that is blurred, whatever its size. Networks still recognise people in mosaics
of finer cells (McPherson et al. 2016, "Defeating image obfuscation with deep learning")."""

BLUR_CELL_PX = 8
"""Side of a cell while it is blurred."""

BLACK, WHITE = (0, 0, 0), (255, 255, 255)

BARS_INK_RGB = (205, 205, 205)
BARS_TRACK_RGB = (75, 75, 75)
BARS_PLATE_RGB = (22, 22, 22)
BARS_OPACITY = 0.85
"""How much of the plate under the bars hides the picture, 0 to 1."""

BAR_LENGTHS = (5.0, 2.0)
"""How long a bar of 100% is, in text sizes: the first length that finds a free place."""

Rectangle = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

Color = tuple[int, int, int]


def annotate(
    image: np.ndarray,
    faces: Sequence[Face],
    numbers: Sequence[int] | None = None,
    bars: bool = False,
    sides: dict[int, int] | None = None,
) -> np.ndarray:
    """Return a copy of a photo with every face boxed, numbered and labelled.

    A sure answer has the colour of its class; an unsure one is white and dashed and says so.
    Labels stand where they cover neither a face nor another label; where a crowd leaves no room
    for words, a label is the number alone, which the list of results explains.

    Args:
        image: (H, W, 3) uint8 RGB; left as it is.
        faces: the faces.
        numbers: the number of each face, such as that of its track; from 1 where not given.
        bars: whether to draw the probabilities of all classes beside each face that leaves room.
        sides: of moving pictures: remembers on which side of each number the bars stood, so that
            they stay there while there is room.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    canvas = image.copy()
    size_wh = canvas.shape[1::-1]
    thickness = _thickness(size_wh)
    boxes = [_rectangle(face.box_xywh) for face in faces]
    names = list(range(1, len(faces) + 1)) if numbers is None else numbers
    for face, box in zip(faces, boxes, strict=True):
        _draw_box(canvas, box, face, thickness)
    taken: list[Rectangle] = []
    for index in _largest_first(faces):
        obstacles = [*taken, *(box for other, box in enumerate(boxes) if other != index)]
        face = faces[index]
        text, size, place = _place_label(names[index], face, boxes[index], obstacles, size_wh)
        _paste(canvas, _plate(text, size, _color(face)), place[0], place[1])
        taken.append(place)
    if not bars:
        return canvas
    sides = {} if sides is None else sides
    obstacles = [*boxes, *taken]
    for index in _largest_first(faces):
        last_side = sides.get(names[index])
        placed = _place_bars(faces[index], boxes[index], obstacles, size_wh, last_side)
        if placed:
            panel, place, sides[names[index]] = placed
            left, top = round(place[0]), round(place[1])
            part = canvas[top : top + panel.shape[0], left : left + panel.shape[1]]
            part[:] = cv2.addWeighted(part, 1 - BARS_OPACITY, panel, BARS_OPACITY, 0)
            obstacles.append(place)
    return canvas


def blur_faces(image: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """Return a copy of a photo with every face made unrecognisable; the rest stays as it is.

    Each face becomes a mosaic of a few cells, which keeps no detail that could be brought back,
    and the mosaic is blurred, which is kinder to the eye.

    Args:
        image: (H, W, 3) uint8 RGB; left as it is.
        faces: the faces.
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
        mosaic = _mosaic(part, (width / BLUR_CELLS, height / BLUR_CELLS))
        np.copyto(part, mosaic, where=inside[..., None])
    return copy


def _mosaic(part: np.ndarray, cell_wh: tuple[float, float]) -> np.ndarray:
    """Return a part of a photo as cells of one colour each, blurred by half a cell."""
    size_wh = part.shape[1::-1]
    counts = [max(1, round(side / cell)) for side, cell in zip(size_wh, cell_wh, strict=True)]
    cells = cv2.resize(part, counts, interpolation=cv2.INTER_AREA)
    # blurred while it is small: a large face would take seconds
    small_wh = [BLUR_CELL_PX * count for count in counts]
    mosaic = cv2.resize(cells, small_wh, interpolation=cv2.INTER_NEAREST)
    soft = cv2.GaussianBlur(mosaic, (0, 0), BLUR_CELL_PX / 2, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(soft, size_wh, interpolation=cv2.INTER_LINEAR)


def _thickness(size_wh: tuple[int, int]) -> int:
    """Return the width of a line in pixels: 2 on small photos, about 1/300 of the side on large."""
    return max(2, round(max(size_wh) / 300))


def _text_size(size_wh: tuple[int, int], face_width: float) -> int:
    by_photo = max(size_wh) / 36
    by_face = face_width / 7
    return round(max(SMALLEST_TEXT_PX, by_photo, min(by_face, 1.5 * by_photo)))


def _largest_first(faces: Sequence[Face]) -> list[int]:
    return sorted(range(len(faces)), key=lambda index: -faces[index].box_xywh[2])


def _rectangle(box_xywh: tuple[int, int, int, int]) -> Rectangle:
    x, y, width, height = box_xywh
    return (x, y, x + width - 1, y + height - 1)


def _color(face: Face) -> Color:
    return color_rgb(face.emotion, tuple(face.probabilities)) if face.sure else UNSURE_COLOR_RGB


def _draw_box(canvas: np.ndarray, box: Rectangle, face: Face, thickness: int) -> None:
    """Draw a coloured box with a dark rim, so that it shows on any background."""
    rim = max(1, thickness // 2)
    left, top, right, bottom = box
    _outline(canvas, (left - rim, top - rim, right + rim, bottom + rim), BLACK, thickness + 2 * rim)
    if face.sure:
        _outline(canvas, box, _color(face), thickness)
        return
    for dash in _dashes(box, thickness):
        _fill(canvas, dash, _color(face))


def _outline(canvas: np.ndarray, box: Rectangle, color_rgb: Color, width: int) -> None:
    """Draw the four sides of a rectangle, as thick as asked for towards its inside."""
    left, top, right, bottom = box
    inner = width - 1
    for side in ((left, top, right, top + inner), (left, bottom - inner, right, bottom)):
        _fill(canvas, side, color_rgb)
    for side in ((left, top, left + inner, bottom), (right - inner, top, right, bottom)):
        _fill(canvas, side, color_rgb)


def _fill(canvas: np.ndarray, box: Rectangle, color_rgb: Color) -> None:
    """Fill the part of a rectangle that is in the picture; all four sides belong to it."""
    left, top, right, bottom = (max(0, round(side)) for side in (*box[:2], box[2] + 1, box[3] + 1))
    canvas[top:bottom, left:right] = color_rgb


def _paste(canvas: np.ndarray, patch: np.ndarray, left: float, top: float) -> None:
    """Put a small picture on a large one; what would stand outside is cut off."""
    x, y = round(left), round(top)
    inside = patch[max(0, -y) :, max(0, -x) :]
    part = canvas[max(0, y) :, max(0, x) :][: inside.shape[0], : inside.shape[1]]
    part[:] = inside[: part.shape[0], : part.shape[1]]


def _dashes(box: Rectangle, thickness: int) -> Iterator[Rectangle]:
    """Yield the dashes of a box: all sides begin and end with one, so its corners are whole."""
    left, top, right, bottom = box
    inner = thickness - 1

    def strokes(start: float, end: float) -> Iterator[tuple[float, float]]:
        # two or more, each about four times as long as thick, with gaps as long
        count = max(2, round((end - start) / (8 * thickness) + 0.5))
        step = (end - start) / (2 * count - 1)
        for number in range(count):
            yield start + 2 * number * step, start + (2 * number + 1) * step

    for start, end in strokes(left, right):
        yield (start, top, end, top + inner)
        yield (start, bottom - inner, end, bottom)
    for start, end in strokes(top, bottom):
        yield (left, start, left + inner, end)
        yield (right - inner, start, right, end)


def _place_label(number: int, face: Face, box: Rectangle, obstacles, size_wh: tuple[int, int]):
    """Return (text, text size, rectangle) of the longest label that finds a free place.

    Where none does, the number alone goes where it covers least.
    """
    largest = _text_size(size_wh, face.box_xywh[2])
    options = []
    for text in _texts(number, face):
        for size in dict.fromkeys((largest, max(SMALLEST_TEXT_PX, largest * 2 // 3))):
            places = list(_places(box, _label_size(text, size), size_wh, _thickness(size_wh)))
            place = min(places, key=lambda place: _covered(place, obstacles))
            covered = _covered(place, obstacles)
            if covered == 0 and place[2] < size_wh[0] and place[3] < size_wh[1]:
                return text, size, place
            options.append((covered, text, size, place))
    return min(options[-2:], key=lambda option: option[0])[1:]


def _texts(number: int, face: Face) -> tuple[str, ...]:
    """Return what a label may say, the longest first; the last is all that a crowd has room for."""
    if face.sure:
        words = f"{number} {face.emotion}"
        return f"{words} {percent(face.confidence)}", words, f"{number}"
    return (
        f"{number} {short_verdict(face)}",
        f"{number} {' or '.join(face.candidates[:2])}?",
        f"{number} {face.emotion}?",
        f"{number}?",
    )


@functools.lru_cache(maxsize=32)
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


@functools.lru_cache(maxsize=1024)
def _label_size(text: str, size: int) -> tuple[float, float]:
    """Return the width and height of a label in pixels, with its padding."""
    font = _font(size)
    ascent, descent = font.getmetrics()
    return font.getlength(text) + size * 0.6, (ascent + descent) * 1.15


def _places(box: Rectangle, label_wh, size_wh, thickness: int) -> Iterable[Rectangle]:
    """Yield where a label may stand, best first: above, below, inside its own box, beside it."""
    left, top, right, bottom = box
    width, height = label_wh
    rim = thickness
    corners = (
        (left - rim, top - rim - height),
        (right + rim - width, top - rim - height),
        (left - rim, bottom + rim),
        (right + rim - width, bottom + rim),
        (left, bottom - height),
        (left, top),
        (right + rim, top),
        (left - rim - width, top),
    )
    for number, (x, y) in enumerate(corners):
        x_inside = min(max(0, x), max(0, size_wh[0] - 1 - width))
        y_inside = min(max(0, y), max(0, size_wh[1] - 1 - height))
        # a label pushed into the photo from above would cover the brow and eyes: use a later place
        if number >= 4 or abs(y - y_inside) < 1:
            yield (x_inside, y_inside, x_inside + width, y_inside + height)


def _covered(place: Rectangle, obstacles: Iterable[Rectangle]) -> float:
    """Return the area in square pixels of a place that obstacles cover."""
    return sum(
        max(0, min(place[2], right) - max(place[0], left))
        * max(0, min(place[3], bottom) - max(place[1], top))
        for left, top, right, bottom in obstacles
    )


@functools.lru_cache(maxsize=512)
def _plate(text: str, size: int, color: Color) -> np.ndarray:
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


def _place_bars(face: Face, box: Rectangle, obstacles, size_wh, last_side: int | None):
    """Return (panel, place, side) of the longest bars that find a free place, else None."""
    size, names = max(SMALLEST_TEXT_PX, round(max(size_wh) / 85)), tuple(face.probabilities)
    for bar_length in BAR_LENGTHS:
        panel_wh = _bars_template(names, size, bar_length).shape[1::-1]
        places = _bars_places(box, panel_wh, size_wh, 2 * _thickness(size_wh))
        for side in sorted(places, key=lambda side: (side != last_side, side)):
            if _covered(places[side], obstacles) == 0:
                return _bars(face, size, bar_length), places[side], side
    return None


def _bars_places(box: Rectangle, panel_wh, size_wh, gap: int) -> dict[int, Rectangle]:
    """Return where bars may stand, best side first: beside the face, below it, above it."""
    left, top, right, bottom = box
    width, height = panel_wh
    beside = (right + gap + 1, left - gap - width)
    corners = [
        *((x, y) for x in beside for y in (top, bottom - height + 1)),
        *((x, bottom + gap + 1) for x in (left, right - width + 1)),
        *((x, top - gap - height) for x in (left, right - width + 1)),
    ]
    places = {}
    for side, (x, y) in enumerate(corners):
        # slid along the side at which they stand, never over the face
        x_inside, y_inside = min(max(0, x), size_wh[0] - width), min(max(0, y), size_wh[1] - height)
        is_free = x_inside == x if x in beside else y_inside == y
        if is_free and x_inside >= 0 and y_inside >= 0:
            places[side] = (x_inside, y_inside, x_inside + width - 1, y_inside + height - 1)
    return places


def _bars(face: Face, size: int, bar_length: float) -> np.ndarray:
    """Return the bars of a face: a row a class with name, bar and percentage."""
    names, candidates = tuple(face.probabilities), face.candidates
    panel = _bars_template(names, size, bar_length).copy()
    row, bar_left, full = _bars_measures(names, size, bar_length)
    for number, (name, probability) in enumerate(face.probabilities.items()):
        top = size // 3 + number * row
        bar = (bar_left, top + row // 5, bar_left + round(full * probability), top + row * 4 // 5)
        _fill(panel, bar, WHITE)  # an edge that shows the dark colours too
        _fill(panel, (bar[0], bar[1] + 1, bar[2] - 1, bar[3] - 1), color_rgb(name, names))
        ink = WHITE if name in candidates else BARS_INK_RGB
        text = _words(percent(probability), size, row, ink)
        _paste(panel, text, panel.shape[1] - size // 2 - text.shape[1], top)
    return panel


@functools.lru_cache(maxsize=32)
def _bars_template(names: tuple[str, ...], size: int, bar_length: float) -> np.ndarray:
    """Return the bars before there is anything in them; not to be changed."""
    row, bar_left, full = _bars_measures(names, size, bar_length)
    width = bar_left + full + 1 + size // 2 + round(_font(size).getlength("<99%")) + size // 2
    panel = np.full((row * len(names) + 2 * (size // 3), width, 3), BARS_PLATE_RGB, np.uint8)
    for number, name in enumerate(names):
        top = size // 3 + number * row
        _paste(panel, _words(name, size, row, BARS_INK_RGB), size // 2, top)
        track = (bar_left, top + row // 5, bar_left + full, top + row * 4 // 5)
        _fill(panel, track, BARS_TRACK_RGB)
    return panel


@functools.lru_cache(maxsize=32)
def _bars_measures(names: tuple[str, ...], size: int, bar_length: float) -> tuple[int, int, int]:
    """Return in pixels: the height of a row, where bars begin, and the length of one of 100%."""
    longest = max(map(_font(size).getlength, names))
    return round(size * 1.3), round(longest) + size, round(size * bar_length)


@functools.lru_cache(maxsize=512)
def _words(text: str, size: int, height: int, ink: Color) -> np.ndarray:
    """Return text on the colour of the bars' plate; not to be changed."""
    font = _font(size)
    picture = Image.new("RGB", (round(font.getlength(text)) + 1, height), BARS_PLATE_RGB)
    ImageDraw.Draw(picture).text((0, height / 2), text, font=font, fill=ink, anchor="lm")
    return np.asarray(picture)
