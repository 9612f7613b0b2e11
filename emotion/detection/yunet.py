"""Where the faces of a photo are, by YuNet, OpenCV's small face network; the user gives its file.

Its interface is that of `emotion.detection.haar.FaceDetector`. The network (Wu, Peng
and Yu 2023, "YuNet: A Tiny Millisecond-level Face Detector") knows faces of about 10 to 300 pixels,
so a photo is searched on two copies: one for small faces, one for those that fill the photo. Its
boxes are tall and tight; the model learned on wider squares, so each box becomes such a square.
"""

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from emotion.detection.boxes import (
    MERGE_OVERLAP,
    SMALLEST_PHOTO_SIDE_PX,
    Detection,
    check_image,
    clip_boxes,
    merge_boxes,
)
from emotion.detection.settings import EXPECTED_NETWORK
from emotion.detection.views import fitting, scaled
from emotion.errors import ModelError

# how the small file begins that Git LFS leaves until it has fetched the real one
LFS_POINTER = b"version https://git-lfs"
WORKING_SHORT_SIDE_PX = 240  # a photo with a shorter short side is enlarged to it
SQUARE_SIDE = 1.15  # of a face's square, in sides of a square as large as its box
EYES_LIFT = 0.1  # from the middle of the square up to the eyes, in sides


@dataclass(frozen=True)
class YunetSettings:
    """The numbers of the search; the defaults measured best."""

    detail_pixels: int = 1280 * 960  # largest area of the copy searched for small faces
    overview_pixels: int = 320 * 240  # the same, for faces that fill the photo
    score_threshold: float = 0.7  # lowest score of a face, 0 to 1


class YunetDetector:
    """Finds the faces of a photo; safe to share between threads, and picklable."""

    def __init__(self, path: str | Path, settings: YunetSettings = YunetSettings()):
        """Load the network's ONNX file and try it on a drawn face. Raises ModelError."""
        expected = f"expected {EXPECTED_NETWORK} as {path}"
        try:
            self._content = Path(path).read_bytes()
        except OSError as error:
            raise ModelError(f"{expected}; {error.strerror}") from error
        if not self._content:
            raise ModelError(f"{expected}; it is empty")
        if self._content.startswith(LFS_POINTER):
            raise ModelError(f"{expected}; received its pointer of Git LFS: run `git lfs pull`")
        self.settings, self._local = settings, threading.local()
        try:
            found = self.detect(drawn_face())
        except (cv2.error, SystemError) as error:
            # without the places in OpenCV's source
            reason = " ".join(str(getattr(error, "err", error)).split())
            raise ModelError(
                f"expected {EXPECTED_NETWORK}; OpenCV {cv2.__version__} cannot run {path}: {reason}"
            ) from error
        if len(found) != 1:
            raise ModelError(
                f"expected {EXPECTED_NETWORK}; {path} is damaged or another network: it finds "
                f"{len(found)} faces in a drawing of one"
            )

    def __getstate__(self) -> dict:
        # the bytes travel, so that the other side needs no file; it builds its own networks
        return {"settings": self.settings, "_content": self._content}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _local=threading.local())

    def detect(self, image: np.ndarray) -> tuple[Detection, ...]:
        """Return the faces of an upright (H, W, 3) uint8 RGB photo from left to right.

        Raises ImageError.
        """
        check_image(image)
        settings = self.settings
        shape = image.shape[:2]
        if min(shape) < SMALLEST_PHOTO_SIDE_PX:
            return ()
        enlarge = max(1.0, WORKING_SHORT_SIDE_PX / min(shape))
        detail = scaled(image, min(enlarge, fitting(image, settings.detail_pixels)))
        scale = fitting(detail, settings.overview_pixels)
        copies = [detail, scaled(detail, scale)] if scale < 0.75 else [detail]
        found = [face for copy in copies for face in self._faces(copy, shape)]
        inside = clip_boxes(merge_boxes(found), shape)
        return tuple(sorted(inside, key=lambda face: (face.box_xywh[:2], face.box_xywh)))

    def _faces(self, copy: np.ndarray, shape: tuple[int, int]) -> Iterator[Detection]:
        """Yield what the network finds on a copy, as squares in pixels of the photo."""
        if not hasattr(self._local, "network"):  # OpenCV's cannot be shared between threads
            self._local.network = cv2.FaceDetectorYN.create(
                "onnx", self._content, b"", (320, 320), self.settings.score_threshold, MERGE_OVERLAP
            )
        network, (rows, columns) = self._local.network, copy.shape[:2]
        network.setInputSize((columns, rows))
        # a face is a box (x, y, width, height), five landmarks (x, y), the eyes first, and a score
        _, faces = network.detect(cv2.cvtColor(copy, cv2.COLOR_RGB2BGR))
        across, down = shape[1] / columns, shape[0] / rows
        for face in faces if faces is not None else ():
            x, y, side, tilt = upright_square(face * np.array([across, down] * 7 + [1.0]))
            yield Detection((x - side / 2, y - side / 2, side, side), float(face[14]), tilt)


def upright_square(face: np.ndarray) -> tuple[float, float, float, float]:
    """Return the middle, side and tilt in degrees of the square around a face of YuNet.

    Its height hangs on the eyes: the box alone grows down with an open mouth, so that surprise
    would look smaller and higher than other faces.
    """
    (x, y, width, height), eyes, mouth = face[:4], face[4:8].reshape(2, 2), face[10:14]
    middle, (wide, high) = eyes.mean(0), eyes[1] - eyes[0]
    right, down = mouth.reshape(2, 2).mean(0) - middle
    # the line of the eyes, and from them to the mouth, by length: one shrinks in profile
    across, along = math.hypot(wide, high), math.hypot(right, down)
    tilt = math.degrees(math.atan2(-high, wide))
    off = (math.degrees(math.atan2(right, down)) - tilt + 180) % 360 - 180
    tilt += off * along / max(across + along, 1e-6) if abs(off) < 60 else off
    side = SQUARE_SIDE * math.sqrt(width * height)
    to_chin = np.array([math.sin(math.radians(tilt)), math.cos(math.radians(tilt))])
    centre = np.array([x + width / 2, y + height / 2])
    x, y = centre + (EYES_LIFT * side - (centre - middle) @ to_chin) * to_chin
    return float(x), float(y), side, tilt


def drawn_face() -> np.ndarray:
    """Return a simple drawing of one face, (160, 160, 3) uint8 RGB."""
    image = np.full((160, 160, 3), 90, np.uint8)
    cv2.ellipse(image, (80, 80), (42, 56), 0, 0, 360, (205, 170, 150), cv2.FILLED)
    cv2.ellipse(image, (80, 42), (44, 28), 0, 180, 360, (50, 35, 30), cv2.FILLED)
    for eye_x, brow_x in ((62, 53), (98, 107)):
        cv2.ellipse(image, (eye_x, 70), (8, 4), 0, 0, 360, (245, 245, 245), cv2.FILLED)
        cv2.circle(image, (eye_x, 70), 4, (30, 20, 20), cv2.FILLED)
        cv2.line(image, (brow_x, 60), (eye_x, 58), (60, 40, 30), 3)
    cv2.ellipse(image, (80, 94), (8, 3), 0, 0, 180, (150, 110, 95), 2)
    cv2.ellipse(image, (80, 110), (15, 5), 0, 0, 360, (150, 60, 60), cv2.FILLED)
    return cv2.GaussianBlur(image, (0, 0), 3)
