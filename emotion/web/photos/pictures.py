"""The pictures of a photo: what is kept, unmarked, and what is drawn when somebody asks for it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from emotion.drawing import annotate, blur_faces, label_places
from emotion.faces import Face
from emotion.images.decoding import decode_photo
from emotion.images.encoding import encode_jpeg, encode_png
from emotion.images.guards import ImageLimits
from emotion.recognizer import Sight

# longer sides in pixels: of what is downloaded or looked at closely, of pages, of lists, of faces
PHOTO_SIDE, VIEW_SIDE, THUMB_SIDE, CROP_SIDE = 4096, 1600, 256, 320
MOST_PHOTO_BYTES = 8 * 2**20
THUMB_QUALITY, CROP_QUALITY = 50, 80  # of JPEG: a page shows dozens of them
CROP_MARGIN = 0.25  # what a face's picture shows around its box on each side, in box widths


def pictures_of(image: np.ndarray, sights: Sequence[Sight]) -> dict[str, bytes]:
    """Return file name -> the photo in three sizes, each face, what the model saw of each."""
    photo = reduced(image, PHOTO_SIDE)
    while len(content := encode_jpeg(photo)) > MOST_PHOTO_BYTES:
        photo = reduced(photo, max(photo.shape) // 2)
    view = reduced(photo, VIEW_SIDE)
    thumb = encode_jpeg(reduced(view, THUMB_SIDE), THUMB_QUALITY)
    pictures = {"photo.jpg": content, "view.jpg": encode_jpeg(view), "thumb.jpg": thumb}
    for number, sight in enumerate(sights, start=1):
        crop = face_picture(image, sight.face)
        pictures[f"face-{number}.jpg"] = encode_jpeg(crop, CROP_QUALITY)
        grey = np.round(sight.crop * 255).astype(np.uint8)
        pictures[f"input-{number}.png"] = encode_png(np.repeat(grey, 3, axis=2))
    return pictures


def labels_of(faces: Sequence[Face], size_wh: tuple[int, int]) -> dict:
    """Return what a page writes beside the faces of a photo, as plain types for JSON.

    `places` are `Label`s, one a face, in a picture of the photo of `width` and `height` pixels:
    of a longer side of `VIEW_SIDE`, also where the photo is smaller, so that they can be read.
    """
    width, height = (max(1, round(side * VIEW_SIDE / max(size_wh))) for side in size_wh)
    places = label_places(_scaled(faces, size_wh, (width, height)), (width, height))
    rounded = [[text, *(round(number, 1) for number in numbers)] for text, *numbers in places]
    return {"width": width, "height": height, "places": rounded}


def drawn_picture(
    photo_jpg: bytes, faces: Sequence[Face], size_wh: tuple[int, int], kind: str
) -> bytes:
    """Return a kept photo as JPEG with boxes and labels, or of kind "blurred" with faces hidden.

    The boxes of the faces are in pixels of a photo of `size_wh`, from which the kept one was made.
    """
    # our own file, whose pixels were counted when it came
    photo = decode_photo(photo_jpg, ImageLimits(max_bytes=2**31, max_pixels=2**31)).full
    faces = _scaled(faces, size_wh, photo.shape[1::-1])
    return encode_jpeg(blur_faces(photo, faces) if kind == "blurred" else annotate(photo, faces))


def _scaled(faces: Sequence[Face], from_wh: tuple[int, int], to_wh: tuple[int, int]) -> list[Face]:
    scale = (*np.divide(to_wh, from_wh),) * 2
    boxes = [np.rint(np.multiply(face.box_xywh, scale)).astype(int).tolist() for face in faces]
    boxes = [(x, y, max(1, width), max(1, height)) for x, y, width, height in boxes]
    return [replace(face, box_xywh=box) for face, box in zip(faces, boxes, strict=True)]


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
