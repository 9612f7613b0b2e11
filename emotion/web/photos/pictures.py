"""The pictures that are kept of a photo: with boxes, smaller copies, and one of each face."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from emotion.drawing import annotate
from emotion.faces import Face
from emotion.images.decoding import decode_photo
from emotion.images.encoding import encode_jpeg, encode_png
from emotion.recognizer import Sight

# longer sides in pixels; the download has the photo's full size
VIEW_SIDE, THUMB_SIDE, CROP_SIDE = 1600, 480, 320
CROP_MARGIN = 0.25  # what a face's picture shows around its box on each side, in box widths


def pictures_of(image: np.ndarray, sights: Sequence[Sight]) -> dict[str, bytes]:
    """Return file name -> the annotated photo, smaller copies, each face, what the model saw."""
    annotated = annotate(image, [sight.face for sight in sights])
    view = reduced(annotated, VIEW_SIDE)
    pictures = {
        "annotated.jpg": encode_jpeg(annotated),
        "view.jpg": encode_jpeg(view),
        "thumb.jpg": encode_jpeg(reduced(view, THUMB_SIDE)),
    }
    for number, sight in enumerate(sights, start=1):
        pictures[f"face-{number}.jpg"] = encode_jpeg(face_picture(image, sight.face))
        grey = np.round(sight.crop * 255).astype(np.uint8)
        pictures[f"input-{number}.png"] = encode_png(np.repeat(grey, 3, axis=2))
    return pictures


def crop_from_picture(content: bytes) -> np.ndarray:
    """Return what the model saw of a face, (48, 48, 1) float32 in [0, 1], from its `input` file."""
    return decode_photo(content).full[..., :1].astype(np.float32) / 255


def face_picture(image: np.ndarray, face: Face) -> np.ndarray:
    """Return a face with some of its surroundings: square if the photo is large enough."""
    height, width = image.shape[:2]
    x, y, face_width, face_height = face.box_xywh
    side = round(max(face_width, face_height) * (1 + 2 * CROP_MARGIN))
    # moved so that as much as possible lies inside the photo
    left = max(0, min(x + face_width // 2 - side // 2, width - side))
    top = max(0, min(y + face_height // 2 - side // 2, height - side))
    return reduced(image[top : top + side, left : left + side], CROP_SIDE)


def reduced(image: np.ndarray, side: int) -> np.ndarray:
    """Return a copy whose longer side has at most `side` pixels; (H, W, 3) uint8 RGB."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS, reducing_gap=2)
    return np.asarray(picture)
