"""Where the faces of a photo are, by Haar cascades, and the crop of each that the model sees.

One frontal pass proposes boxes with few rejects and many mistakes; two other frontal cascades then
look at each proposal at one standard size, and what they say is the score. Only a photo without
any face so far pays for the fallback passes. `benchmarks/face_detection.md` has the measurements
behind every default.
"""

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from emotion.errors import ImageError, ModelError

CROP_MARGIN = 0.0
"""Share of the box's side that the model's crop adds on each side of the box."""

CROP_SIDE_PX = 48
"""Side of the model's crop in pixels."""

CASCADE_FILES = {
    "default": "haarcascade_frontalface_default.xml",
    "alt": "haarcascade_frontalface_alt.xml",
    "alt2": "haarcascade_frontalface_alt2.xml",
    "profile": "haarcascade_profileface.xml",
}
"""The cascades in use and their files in OpenCV's wheel."""

FALLBACKS = ("alt2", "rotated", "profile")
"""The passes that may follow when nothing was found, in the order in which they are tried."""

CONFIRMERS = ("alt", "alt2")
"""The frontal cascades whose second opinion is the score of a box."""

WEIGHT_BAR = {"alt": 105.76, "alt2": 53.76, "profile": -1.27}
"""Last stage threshold (in the XML file) of the cascades that give opinions: no hit weighs less."""

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels."""


@dataclass(frozen=True)
class Detection:
    """One face that was found.

    Attributes:
        box_xywh: left, top, width and height in pixels of the photo, wholly inside it.
        score: how sure the cascades are, from their level weights: higher is surer. Frontal boxes,
            rotated ones too, are measured alike and compare with each other; a box of the profile
            pass also counts the profile cascade's own weight and compares with its like.
    """

    box_xywh: tuple[int, int, int, int]
    score: float


@dataclass(frozen=True)
class DetectorSettings:
    """Every number of the search; the defaults measured best.

    Attributes:
        working_pixels: largest area in square pixels of the copy that is searched.
        working_short_side_px: photos with a shorter short side than this are enlarged to it.
        fallback_pixels: largest area in square pixels of the copy that fallback passes search.
        smallest_photo_side_px: a photo with a shorter side holds no face worth reading.
        border_share: replicated border on each side, as a share of the copy's short side.
        smallest_face_share: smallest box, as a share of the photo's short side.
        smallest_face_px: smallest box in pixels of the copy; the cascades know nothing smaller.
        scale_step: factor from one box size to the next; above 1.
        minimum_neighbors: overlapping hits that a proposal needs.
        fallbacks: which of `FALLBACKS` to try when nothing was found.
        rotations_degrees: counter-clockwise turns of the photo that the rotated pass tries.
        second_opinion: whether other cascades judge each box; without it the score is the weight
            of the cascade that proposed the box and the three thresholds below apply to that.
        opinion_face_px: size to which a proposal is scaled for the second opinion.
        opinion_margin_share: what is looked at around a proposal, as a share of its side.
        opinion_scale_step: factor between box sizes in the second opinion; above 1.
        opinion_overlap: how much (intersection over union) an opinion must agree on the place.
        frontal_threshold: lowest score of a box of the first pass.
        fallback_threshold: lowest score of a box of the alt2 and rotated passes.
        profile_threshold: lowest score of a box of the profile pass.
        merge_overlap: boxes that overlap more (intersection over union) are one face.
        merge_containment: boxes of which this share lies inside a stronger one are dropped.
    """

    working_pixels: int = 1280 * 960
    working_short_side_px: int = 240
    fallback_pixels: int = 480 * 360
    smallest_photo_side_px: int = 20
    border_share: float = 0.2
    smallest_face_share: float = 0.04
    smallest_face_px: int = 24
    scale_step: float = 1.15
    minimum_neighbors: int = 2
    fallbacks: tuple[str, ...] = FALLBACKS
    rotations_degrees: tuple[float, ...] = (-30.0, 30.0)
    second_opinion: bool = True
    opinion_face_px: int = 64
    opinion_margin_share: float = 0.35
    opinion_scale_step: float = 1.05
    opinion_overlap: float = 0.45
    frontal_threshold: float = 4.7
    fallback_threshold: float = 5.5
    profile_threshold: float = 3.0
    merge_overlap: float = 0.3
    merge_containment: float = 0.6


@dataclass(frozen=True)
class _View:
    """A grey copy of the photo, bordered and perhaps turned, and the way back from it.

    Attributes:
        grey: (H, W) uint8, border included.
        to_photo: (2, 3) affine from pixels of `grey` to pixels of the photo.
        smallest_face_px: smallest box to look for, in pixels of `grey`.
    """

    grey: np.ndarray
    to_photo: np.ndarray
    smallest_face_px: int


class FaceDetector:
    """Finds the faces of a photo; safe to share between threads, and picklable."""

    def __init__(self, settings: DetectorSettings = DetectorSettings()):
        """Load the cascades once, so that a broken OpenCV is known before the first photo.

        Raises:
            ModelError: OpenCV has no cascades, or a file of theirs is missing or damaged.
        """
        self.settings = settings
        self._local = threading.local()
        self._cascades()

    def __reduce__(self):
        # neither classifiers nor thread-local storage can be pickled: the other side loads its own
        return type(self), (self.settings,)

    def detect(self, image: np.ndarray) -> tuple[Detection, ...]:
        """Return the faces of a photo, left to right, then top to bottom.

        Args:
            image: (H, W, 3) uint8 RGB, upright.

        Raises:
            ImageError: `image` is no such array.
        """
        _check_image(image)
        if min(image.shape[:2]) < self.settings.smallest_photo_side_px:
            return ()
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        for search in self._searches(grey):
            found = _merge(search(), self.settings)
            inside = _clip(found, grey.shape)
            if inside:
                return tuple(sorted(inside, key=lambda face: (face.box_xywh[:2], face.box_xywh)))
        return ()

    def _searches(self, grey: np.ndarray) -> Iterable[Callable[[], list[Detection]]]:
        """Yield the passes over a photo, in order; the next is only made when one found nothing."""
        yield lambda: self._frontal(
            _view(grey, self.settings, self.settings.working_pixels),
            "default",
            self.settings.frontal_threshold,
        )
        if not self.settings.fallbacks:
            return
        view = _view(grey, self.settings, self.settings.fallback_pixels)
        searches = {
            "alt2": lambda: self._frontal(view, "alt2", self.settings.fallback_threshold),
            "profile": lambda: self._profiles(view),
            "rotated": lambda: self._rotated(view),
        }
        yield from (searches[name] for name in self.settings.fallbacks)

    def _frontal(self, view: _View, cascade: str, threshold: float) -> list[Detection]:
        """Return the boxes of one frontal cascade that score high enough, in photo pixels."""
        return [
            Detection(_back(box, view.to_photo), score)
            for box, weight in self._proposals(view, cascade)
            if (score := self._score(view.grey, box, weight)) >= threshold
        ]

    def _profiles(self, view: _View) -> list[Detection]:
        """Return the boxes of faces that look to either side, in photo pixels."""
        found = []
        for side in (view, _mirrored(view)):
            for box, weight in self._proposals(side, "profile"):
                score = self._score(side.grey, box, weight, ("profile", *CONFIRMERS))
                if score >= self.settings.profile_threshold:
                    found.append(Detection(_back(box, side.to_photo), score))
        return found

    def _rotated(self, view: _View) -> list[Detection]:
        """Return the boxes of tilted heads, in photo pixels; all turns compete by score."""
        return [
            detection
            for degrees in self.settings.rotations_degrees
            for detection in self._frontal(
                _turned(view, degrees), "alt2", self.settings.fallback_threshold
            )
        ]

    def _proposals(self, view: _View, cascade: str) -> list[tuple[Box, float]]:
        """Return the boxes of one cascade on a view and their level weights."""
        return _run(
            self._cascades()[cascade],
            view.grey,
            step=self.settings.scale_step,
            neighbors=self.settings.minimum_neighbors,
            smallest_px=view.smallest_face_px,
        )

    def _score(
        self,
        grey: np.ndarray,
        box: Box,
        weight: float,
        confirmers: Sequence[str] = CONFIRMERS,
    ) -> float:
        """Return how sure the confirming cascades are of a box, or its own weight without them."""
        if not self.settings.second_opinion:
            return weight
        side_px = self.settings.opinion_face_px
        margin = self.settings.opinion_margin_share
        crop = _square_crop(grey, box, margin, round(side_px * (1 + 2 * margin)))
        return sum(self._opinion(name, crop) for name in confirmers)

    def _opinion(self, cascade: str, crop: np.ndarray) -> float:
        """Return 0 when a cascade sees no face amid a crop, else 1 + its weight above its bar."""
        settings = self.settings
        side_px = settings.opinion_face_px
        start = (crop.shape[0] - side_px) / 2
        hits = _run(
            self._cascades()[cascade],
            crop,
            step=settings.opinion_scale_step,
            neighbors=0,
            smallest_px=round(side_px * 0.65),
            largest_px=round(side_px * 1.4),
        )
        middle = (start, start, side_px, side_px)
        agreeing = [w for box, w in hits if _overlap(middle, box)[0] > settings.opinion_overlap]
        return 1 + max(agreeing) - WEIGHT_BAR[cascade] if agreeing else 0.0

    def _cascades(self) -> dict[str, "cv2.CascadeClassifier"]:
        """Return this thread's own classifiers: shared ones give wrong answers."""
        if not hasattr(self._local, "cascades"):
            self._local.cascades = load_cascades()
        return self._local.cascades


def load_cascades() -> dict[str, "cv2.CascadeClassifier"]:
    """Return a fresh classifier for each of `CASCADE_FILES`.

    Raises:
        ModelError: OpenCV has no cascades, or a file of theirs is missing or damaged.
    """
    if not hasattr(cv2, "CascadeClassifier") or not hasattr(cv2, "data"):
        raise ModelError(
            "expected OpenCV 4, whose wheel brings Haar cascades; "
            f"received OpenCV {cv2.__version__} without them"
        )
    folder = Path(cv2.data.haarcascades)
    return {name: _load_cascade(folder / file) for name, file in CASCADE_FILES.items()}


def _load_cascade(path: Path) -> "cv2.CascadeClassifier":
    """Return the classifier of one file."""
    if not path.is_file():
        raise ModelError(f"expected a Haar cascade of OpenCV's wheel at {path}; found no file")
    try:
        cascade = cv2.CascadeClassifier(str(path))
    except (cv2.error, SystemError) as error:
        raise ModelError(f"expected a Haar cascade in {path}; it is damaged: {error}") from error
    if cascade.empty():
        raise ModelError(f"expected a Haar cascade in {path}; received a file that holds none")
    return cascade


def crop_face(
    image: np.ndarray,
    box_xywh: Sequence[float],
    margin: float = CROP_MARGIN,
    side: int = CROP_SIDE_PX,
) -> np.ndarray:
    """Return what the model sees of a face: a square around the middle of its box, in grey.

    Args:
        image: (H, W, 3) uint8 RGB, upright.
        box_xywh: left, top, width and height in pixels of `image`; its longer side counts.
        margin: share of the box's side added on each side; negative takes away; above -0.5.
        side: width and height of the result in pixels.

    Returns:
        (side, side, 1) float32 in [0, 1]; beyond the photo's edge its last pixels repeat.

    Raises:
        ImageError: `image` is no such array, or nothing is left of the box.
    """
    _check_image(image)
    if margin <= -0.5 or min(box_xywh[2:]) <= 0:
        raise ImageError(
            "expected a box with a width and height above 0 and a margin above -0.5; "
            f"received {tuple(box_xywh)} and {margin}"
        )
    grey = _square_crop(image, box_xywh, margin, side)
    return grey.astype(np.float32)[:, :, np.newaxis] / np.float32(255)


def _square_crop(image: np.ndarray, box_xywh: Sequence[float], margin: float, side: int):
    """Return a square around the middle of a box as (side, side) uint8 grey."""
    x, y, width, height = box_xywh
    cut = max(1, round(max(width, height) * (1 + 2 * margin)))
    left, top = round(x + width / 2 - cut / 2), round(y + height / 2 - cut / 2)
    piece = _replicated_cut(image, left, top, cut)
    grey = cv2.cvtColor(piece, cv2.COLOR_RGB2GRAY) if piece.ndim == 3 else piece
    shrinking = side < cut
    method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    return cv2.resize(grey, (side, side), interpolation=method)


def _replicated_cut(image: np.ndarray, left: int, top: int, cut: int) -> np.ndarray:
    """Return the square of `cut` pixels at (left, top); outside, the nearest edge repeats."""
    height, width = image.shape[:2]
    x0, x1 = (min(max(x, 0), width) for x in (left, left + cut))
    y0, y1 = (min(max(y, 0), height) for y in (top, top + cut))
    # a square wholly outside still needs one row or column to repeat
    x0, y0 = min(x0, width - 1), min(y0, height - 1)
    x1, y1 = max(x1, x0 + 1), max(y1, y0 + 1)
    inside = image[y0:y1, x0:x1]
    before = max(0, min(-top, cut - (y1 - y0))), max(0, min(-left, cut - (x1 - x0)))
    after = cut - (y1 - y0) - before[0], cut - (x1 - x0) - before[1]
    return cv2.copyMakeBorder(
        inside, before[0], after[0], before[1], after[1], cv2.BORDER_REPLICATE
    )


def _check_image(image: np.ndarray) -> None:
    """Raise an ImageError unless `image` is a photo as `emotion.images` hands it out."""
    if not isinstance(image, np.ndarray):
        raise ImageError(f"expected an image as a numpy array; received {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ImageError(
            "expected an image of shape (height, width, 3) and type uint8; "
            f"received {image.shape} and {image.dtype}"
        )


def _view(grey: np.ndarray, settings: DetectorSettings, pixels: int) -> _View:
    """Return the copy of a photo that is searched: neither too large nor too small, bordered."""
    height, width = grey.shape
    short = min(height, width)
    enlarge = max(1.0, settings.working_short_side_px / short)
    scale = min(enlarge, math.sqrt(pixels / (height * width)))
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    copy = cv2.resize(grey, size_wh, interpolation=method)
    border = round(settings.border_share * min(size_wh))
    bordered = cv2.copyMakeBorder(copy, *[border] * 4, cv2.BORDER_REPLICATE)
    across, down = width / size_wh[0], height / size_wh[1]
    to_photo = np.array([[across, 0, -border * across], [0, down, -border * down]])
    smallest = max(settings.smallest_face_px, round(settings.smallest_face_share * short * scale))
    return _View(bordered, to_photo, smallest)


def _mirrored(view: _View) -> _View:
    """Return a view with left and right exchanged."""
    flip = np.array([[-1.0, 0, view.grey.shape[1]], [0, 1, 0]])
    return _View(cv2.flip(view.grey, 1), _chain(view.to_photo, flip), view.smallest_face_px)


def _turned(view: _View, degrees: float) -> _View:
    """Return a view turned counter-clockwise, on a canvas that holds all of it."""
    height, width = view.grey.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    cosine, sine = abs(turn[0, 0]), abs(turn[0, 1])
    canvas_wh = round(width * cosine + height * sine), round(height * cosine + width * sine)
    turn[:, 2] += (canvas_wh[0] - width) / 2, (canvas_wh[1] - height) / 2
    grey = cv2.warpAffine(view.grey, turn, canvas_wh, borderMode=cv2.BORDER_REPLICATE)
    back = cv2.invertAffineTransform(turn)
    return _View(grey, _chain(view.to_photo, back), view.smallest_face_px)


def _chain(second: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the (2, 3) affine that does `first`, then `second`."""
    return second @ np.vstack([first, [0, 0, 1]])


def _back(box: Box, to_photo: np.ndarray) -> Box:
    """Return the upright box in the photo with the middle and the size of a box in a view."""
    x, y, width, height = box
    middle_x, middle_y = to_photo @ (x + width / 2, y + height / 2, 1)
    scale = math.sqrt(abs(np.linalg.det(to_photo[:, :2])))
    wide, high = width * scale, height * scale
    return float(middle_x - wide / 2), float(middle_y - high / 2), wide, high


def _run(cascade, grey, step, neighbors, smallest_px, largest_px=0) -> list[tuple[Box, float]]:
    """Return the boxes of one cascade in pixels of `grey`, and their level weights."""
    boxes, _, weights = cascade.detectMultiScale3(
        grey,
        scaleFactor=step,
        minNeighbors=neighbors,
        minSize=(smallest_px, smallest_px),
        maxSize=(largest_px, largest_px),
        outputRejectLevels=True,
    )
    # without boxes OpenCV returns empty tuples
    return [
        (tuple(map(float, box)), float(weight))
        for box, weight in zip(boxes, np.ravel(weights), strict=True)
    ]


def _merge(found: Iterable[Detection], settings: DetectorSettings) -> list[Detection]:
    """Return one box a face: of boxes that overlap or hold each other, the strongest."""
    kept: list[Detection] = []
    for face in sorted(found, key=lambda face: (-face.score, face.box_xywh)):
        overlaps = [_overlap(face.box_xywh, other.box_xywh) for other in kept]
        if all(
            union <= settings.merge_overlap and inside <= settings.merge_containment
            for union, inside in overlaps
        ):
            kept.append(face)
    return kept


def _overlap(one: Box, other: Box) -> tuple[float, float]:
    """Return the intersection of two boxes over their union, and over the smaller of them."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = one[2] * one[3], other[2] * other[3]
    return shared / (sum(areas) - shared), shared / min(areas)


def _clip(found: Iterable[Detection], shape: tuple[int, int]) -> list[Detection]:
    """Return the boxes cut to whole pixels inside the photo; those centred outside are no faces."""
    height, width = shape
    inside = []
    for face in found:
        x, y, wide, high = face.box_xywh
        if 0 <= x + wide / 2 < width and 0 <= y + high / 2 < height:
            left, top = max(0, round(x)), max(0, round(y))
            right, bottom = min(width, round(x + wide)), min(height, round(y + high))
            box = (left, top, max(1, right - left), max(1, bottom - top))
            inside.append(Detection(box, face.score))
    return inside
