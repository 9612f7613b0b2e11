"""Draw faces on a copy of a photo: numbered boxes with labels legible at any size, or blurred."""

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from emotion.labels import color_rgb
from emotion.results import Face, percent, short_verdict

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

Rectangle = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


def annotate(image: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """Return a copy of a photo with every face boxed, numbered from 1 and labelled.

    A sure answer has the colour of its class; an unsure one is white and dashed and says so.
    Labels stand where they cover neither a face nor another label; where a crowd leaves no room
    for words, a label is the number alone, which the list of results explains.

    Args:
        image: (H, W, 3) uint8 RGB; left as it is.
        faces: the faces, in the order of their numbers.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    thickness = _thickness(canvas.size)
    boxes = [_rectangle(face.box_xywh) for face in faces]
    for face, box in zip(faces, boxes, strict=True):
        _draw_box(pen, box, face, thickness)
    taken: list[Rectangle] = []
    for index in _largest_first(faces):
        label = _place_label(index, faces[index], boxes, taken, canvas.size, thickness)
        _draw_label(pen, *label, faces[index])
        taken.append(label[2])
    return np.asarray(canvas).copy()


def blur_faces(image: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """Return a copy of a photo with every face made unrecognisable; the rest stays as it is.

    Each face becomes a mosaic of a few cells, which keeps no detail that could be brought back,
    and the mosaic is blurred, which is kinder to the eye.

    Args:
        image: (H, W, 3) uint8 RGB; left as it is.
        faces: the faces.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    copy = image.copy()
    for face in faces:
        _blur_oval(copy, face.box_xywh)
    return copy


def _blur_oval(image: np.ndarray, box_xywh: tuple[int, int, int, int]) -> None:
    """Blur the oval around a box, in place."""
    x, y, width, height = box_xywh
    middle, half = (x + width / 2, y + height / 2), (width, height) * np.array(BLUR_HALF_AXES)
    left, top = np.maximum(0, np.floor(middle - half)).astype(int)
    right, bottom = np.ceil(middle + half).astype(int)
    part = image[top:bottom, left:right]
    down, across = np.ogrid[: part.shape[0], : part.shape[1]]
    from_middle = (
        (across + left + 0.5 - middle[0]) / half[0],
        (down + top + 0.5 - middle[1]) / half[1],
    )
    inside = from_middle[0] ** 2 + from_middle[1] ** 2 <= 1
    mosaic = _mosaic(part, (width / BLUR_CELLS, height / BLUR_CELLS))
    np.copyto(part, mosaic, where=inside[..., None])


def _mosaic(part: np.ndarray, cell_wh: tuple[float, float]) -> np.ndarray:
    """Return a part of a photo as cells of one colour each, blurred by half a cell."""
    size_wh = part.shape[1::-1]
    counts = [max(1, round(side / cell)) for side, cell in zip(size_wh, cell_wh, strict=True)]
    cells = cv2.resize(part, counts, interpolation=cv2.INTER_AREA)
    # blurred while it is small: on a face of thousands of pixels that would take seconds
    small_wh = [BLUR_CELL_PX * count for count in counts]
    mosaic = cv2.resize(cells, small_wh, interpolation=cv2.INTER_NEAREST)
    soft = cv2.GaussianBlur(mosaic, (0, 0), BLUR_CELL_PX / 2, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(soft, size_wh, interpolation=cv2.INTER_LINEAR)


def _thickness(size_wh: tuple[int, int]) -> int:
    """Return the width of a line in pixels: 2 on small photos, about 1/300 of the side on large."""
    return max(2, round(max(size_wh) / 300))


def _text_size(size_wh: tuple[int, int], face_width: float) -> int:
    """Return the height of letters in pixels, from the photo's size and a little the face's."""
    by_photo = max(size_wh) / 36
    by_face = face_width / 7
    return round(max(SMALLEST_TEXT_PX, by_photo, min(by_face, 1.5 * by_photo)))


def _largest_first(faces: Sequence[Face]) -> list[int]:
    """Return the positions of the faces, the largest first: they get the best places."""
    return sorted(range(len(faces)), key=lambda index: -faces[index].box_xywh[2])


def _rectangle(box_xywh: tuple[int, int, int, int]) -> Rectangle:
    x, y, width, height = box_xywh
    return (x, y, x + width - 1, y + height - 1)


def _color(face: Face) -> tuple[int, int, int]:
    """Return the colour of a face's box and label."""
    return color_rgb(face.emotion, tuple(face.probabilities)) if face.sure else UNSURE_COLOR_RGB


def _draw_box(pen: ImageDraw.ImageDraw, box: Rectangle, face: Face, thickness: int) -> None:
    """Draw a coloured box with a dark rim, so that it shows on any background."""
    rim = max(1, thickness // 2)
    left, top, right, bottom = box
    outer = (left - rim, top - rim, right + rim, bottom + rim)
    pen.rectangle(outer, outline=(0, 0, 0), width=thickness + 2 * rim)
    if face.sure:
        pen.rectangle(box, outline=_color(face), width=thickness)
        return
    for dash in _dashes(box, thickness):
        pen.rectangle(dash, fill=_color(face))


def _dashes(box: Rectangle, thickness: int) -> Iterator[Rectangle]:
    """Yield the dashes of a box: all sides begin and end with one, so its corners are whole."""
    left, top, right, bottom = box
    inner = thickness - 1
    for start, end in _strokes(left, right, 4 * thickness):
        yield (start, top, end, top + inner)
        yield (start, bottom - inner, end, bottom)
    for start, end in _strokes(top, bottom, 4 * thickness):
        yield (left, start, left + inner, end)
        yield (right - inner, start, right, end)


def _strokes(start: float, end: float, length: float) -> Iterator[tuple[float, float]]:
    """Yield where dashes of about a length begin and end, two or more, with gaps as long."""
    count = max(2, round((end - start) / length / 2 + 0.5))
    step = (end - start) / (2 * count - 1)
    for number in range(count):
        yield start + 2 * number * step, start + (2 * number + 1) * step


def _place_label(index, face: Face, boxes, taken, size_wh, thickness):
    """Return (text, font, rectangle) of the longest label that finds a free place.

    Where none does, the number alone goes where it covers least.
    """
    texts = _texts(index + 1, face)
    largest = _text_size(size_wh, face.box_xywh[2])
    obstacles = [*taken, *(box for other, box in enumerate(boxes) if other != index)]
    options = []
    for text in texts:
        for size in dict.fromkeys((largest, max(SMALLEST_TEXT_PX, largest * 2 // 3))):
            font = ImageFont.load_default(size)
            places = list(_places(boxes[index], _label_size(text, font), size_wh, thickness))
            covered, place = min(
                ((_covered(place, obstacles), place) for place in places), key=lambda o: o[0]
            )
            if covered == 0 and place[2] < size_wh[0] and place[3] < size_wh[1]:
                return text, font, place
            options.append((covered, text, font, place))
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


def _label_size(text: str, font) -> tuple[float, float]:
    """Return the width and height of a label in pixels, with its padding."""
    ascent, descent = font.getmetrics()
    return font.getlength(text) + font.size * 0.6, (ascent + descent) * 1.15


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


def _draw_label(pen: ImageDraw.ImageDraw, text: str, font, place: Rectangle, face: Face) -> None:
    """Draw text on a plate of the face's colour, in black or white, whichever contrasts more."""
    color = _color(face)
    pen.rectangle(place, fill=color, outline=(0, 0, 0), width=max(1, font.size // 14))
    middle = (place[1] + place[3]) / 2
    pen.text((place[0] + font.size * 0.3, middle), text, font=font, fill=_ink(color), anchor="lm")


def _ink(color: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return black or white, whichever has more contrast on a colour (WCAG 2 luminance)."""
    linear = [
        part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4
        for part in color
    ]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.179 else (255, 255, 255)
