"""From a photo, or the bytes of one, to the 48x48 grey face that is learned from."""

from io import BytesIO

import cv2
import numpy as np
from PIL import JpegImagePlugin, PngImagePlugin

from emotion.detection.crop import CROP_MARGIN, square_crop
from emotion.detection.haar import FaceDetector
from emotion.errors import ImageError
from emotion.training.data.dataset import IMAGE_SIDE


def plain_grey(content: bytes) -> np.ndarray | None:
    """Return an eight-bit grey JPEG or PNG as (H, W) uint8; None for all else and what is damaged.

    FER2013 and CK+ consist of such images, and `decode_image`, which also settles colour profiles,
    transparency and orientation, takes several times as long and comes to the same pixels.
    """
    if content.startswith(b"\xff\xd8\xff"):
        plugin = JpegImagePlugin.JpegImageFile
    elif content.startswith(b"\x89PNG\r\n\x1a\n") and b"IEND" in content[-12:]:
        plugin = PngImagePlugin.PngImageFile
    else:
        return None
    if b"Exif" in content or b"eXIf" in content:
        return None
    try:
        with plugin(BytesIO(content)) as image:
            special = {"icc_profile", "transparency"}.intersection(image.info)
            is_plain = image.mode == "L" and not special and min(image.size) >= IMAGE_SIDE
            return np.asarray(image) if is_plain and max(image.size) <= 1024 else None
    except Exception:
        return None  # broken bytes raise almost any kind; `decode_image` tells what is wrong


def centre_square(photo: np.ndarray) -> np.ndarray:
    """Return the square in the middle of a photo, RGB or grey, as the app resizes it, (48, 48)."""
    if photo.shape == (IMAGE_SIDE, IMAGE_SIDE):
        return photo
    height, width = photo.shape[:2]
    side = min(height, width)
    box = ((width - side) / 2, (height - side) / 2, side, side)
    return square_crop(photo, box, CROP_MARGIN, IMAGE_SIDE)


def largest_face(photo: np.ndarray, detector: FaceDetector) -> np.ndarray:
    """Return the app's crop of the largest face of a photo, (48, 48); ImageError without one."""
    rgb = photo if photo.ndim == 3 else cv2.cvtColor(photo, cv2.COLOR_GRAY2RGB)
    boxes = [detection.box_xywh for detection in detector.detect(rgb)]
    if not boxes:
        raise ImageError("expected a face; none was found")
    largest = max(boxes, key=lambda box: box[2] * box[3])
    return square_crop(photo, largest, CROP_MARGIN, IMAGE_SIDE)
