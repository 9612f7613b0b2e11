"""Where the faces of a photo are, by YuNet, OpenCV's small face network; the user gives its file.

Its interface is that of `emotion.detection.haar.FaceDetector`. The network (Wu, Peng
and Yu 2023, "YuNet: A Tiny Millisecond-level Face Detector") knows faces of about 10 to 300 pixels,
so a photo is searched on two copies: one for small faces, one for those that fill the photo. Its
boxes are tall and tight; the model learned on the wider squares of Haar cascades, so each box
becomes such a square. `benchmarks/yunet.md` has the measurements behind the defaults.
"""

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from emotion.detection.boxes import Box, Detection, check_image, clip_boxes, merge_boxes
from emotion.errors import ModelError

NETWORK_FILE = "face_detection_yunet_2026may.onnx"
# which file a user needs, for messages
EXPECTED_NETWORK = f"{NETWORK_FILE} of OpenCV's model zoo (models/face_detection_yunet)"
# the oldest that runs this network; 4.7 loads the file and fails at the first photo
OLDEST_OPENCV = "4.8"
# how the small file begins that Git LFS leaves until it has fetched the real one
LFS_POINTER = b"version https://git-lfs"
BOX_OVERLAP = 0.3  # boxes of one copy that overlap more (intersection over union) are one face


@dataclass(frozen=True)
class YunetSettings:
    """Every number of the search; the defaults measured best."""

    # largest area in square pixels of the copy searched for small faces
    detail_pixels: int = 1280 * 960
    # largest area of the copy searched for faces that fill the photo
    overview_pixels: int = 320 * 240
    # photos with a shorter short side than this are enlarged to it
    working_short_side_px: int = 240
    smallest_photo_side_px: int = 20  # a photo with a shorter side holds no face worth reading
    score_threshold: float = 0.7  # lowest score of a face, 0 to 1
    # side of the square around a face, as a share of the height of YuNet's box
    square_share: float = 1.0
    # how far the square's middle lies above the box's, as a share of that height
    square_lift: float = 0.03
    merge_overlap: float = 0.3  # boxes that overlap more (intersection over union) are one face
    # boxes of which this share lies inside a stronger one are dropped
    merge_containment: float = 0.6


class YunetDetector:
    """Finds the faces of a photo; safe to share between threads, and picklable."""

    def __init__(self, path: str | Path, settings: YunetSettings = YunetSettings()):
        """Load the network and try it on a drawn face, so that a bad file is noticed at once.

        Args:
            path: the network's ONNX file.
            settings: how to search.

        Raises:
            ModelError: the file is missing, damaged or another network, or OpenCV is too old.
        """
        self.settings = settings
        self._content = _read_network(Path(path))
        self._local = threading.local()
        self._try(Path(path))

    def __getstate__(self) -> dict:
        # the bytes travel, so that the other side needs no file; it builds its own networks
        return {"settings": self.settings, "_content": self._content}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, _local=threading.local())

    def detect(self, image: np.ndarray) -> tuple[Detection, ...]:
        """Return the faces of a photo, left to right, then top to bottom.

        Args:
            image: (H, W, 3) uint8 RGB, upright.

        Raises:
            ImageError: `image` is no such array.
        """
        check_image(image)
        if min(image.shape[:2]) < self.settings.smallest_photo_side_px:
            return ()
        found = [
            self._face(row) for copy in self._copies(image) for row in self._rows(copy, image.shape)
        ]
        inside = clip_boxes(merge_boxes(found, self.settings), image.shape[:2])
        return tuple(sorted(inside, key=lambda face: (face.box_xywh[:2], face.box_xywh)))

    def _copies(self, image: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the copies that are searched: the detailed one, and the overview if it differs."""
        settings = self.settings
        height, width = image.shape[:2]
        enlarge = max(1.0, settings.working_short_side_px / min(height, width))
        detail = _scaled(image, min(enlarge, _fitting(image, settings.detail_pixels)))
        yield detail
        scale = _fitting(detail, settings.overview_pixels)
        if scale < 0.75:
            yield _scaled(detail, scale)

    def _rows(self, copy: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Return what the network finds on a copy, (N, 15), in pixels of the photo.

        A row is a box (x, y, width, height), five landmarks (x, y), the eyes first, and a score.
        """
        network = self._network()
        network.setInputSize((copy.shape[1], copy.shape[0]))
        _, rows = network.detect(cv2.cvtColor(copy, cv2.COLOR_RGB2BGR))
        if rows is None:
            return np.zeros((0, 15))
        across, down = shape[1] / copy.shape[1], shape[0] / copy.shape[0]
        return rows * np.array([across, down] * 7 + [1.0])

    def _face(self, row: np.ndarray) -> Detection:
        """Return a row of the network as a square of the kind that Haar cascades give."""
        x, y, width, height = map(float, row[:4])
        side = self.settings.square_share * height
        middle_y = y + height / 2 - self.settings.square_lift * height
        box: Box = (x + width / 2 - side / 2, middle_y - side / 2, side, side)
        return Detection(box, float(row[14]))

    def _network(self) -> "cv2.FaceDetectorYN":
        """Return this thread's own network: OpenCV's cannot be shared."""
        if not hasattr(self._local, "network"):
            self._local.network = cv2.FaceDetectorYN.create(
                "onnx", self._content, b"", (320, 320), self.settings.score_threshold, BOX_OVERLAP
            )
        return self._local.network

    def _try(self, path: Path) -> None:
        """Raise a ModelError unless the network finds a drawn face."""
        try:
            found = self.detect(drawn_face())
        except (cv2.error, SystemError) as error:
            # without the places in OpenCV's source
            reason = " ".join(str(getattr(error, "err", error)).split())
            raise ModelError(
                f"expected {EXPECTED_NETWORK}, which OpenCV {OLDEST_OPENCV} or newer runs; OpenCV "
                f"{cv2.__version__} cannot run {path}: {reason}"
            ) from error
        if len(found) != 1:
            raise ModelError(
                f"expected {EXPECTED_NETWORK}; {path} is damaged or another network: it finds "
                f"{len(found)} faces in a drawing of one"
            )


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


def _read_network(path: Path) -> bytes:
    """Return the bytes of a network's file."""
    expected = f"expected {EXPECTED_NETWORK} as {path}"
    if not path.is_file():
        found = "that is a folder" if path.is_dir() else "there is no such file"
        raise ModelError(f"{expected}; {found}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{expected}; it cannot be read ({error.strerror})") from error
    if not content:
        raise ModelError(f"{expected}; it is empty")
    if content.startswith(LFS_POINTER):
        raise ModelError(
            f"{expected}; received the pointer of Git LFS that stands for it: fetch the file "
            "itself with `git lfs pull`"
        )
    return content


def _fitting(image: np.ndarray, pixels: int) -> float:
    """Return the factor that gives an image an area of `pixels`."""
    return math.sqrt(pixels / (image.shape[0] * image.shape[1]))


def _scaled(image: np.ndarray, scale: float) -> np.ndarray:
    """Return a copy of other size, each side at least a pixel."""
    size_wh = tuple(max(1, round(side * scale)) for side in image.shape[1::-1])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, size_wh, interpolation=method)
