"""Where the faces of a photo are, by Haar cascades, and the crop of each that the model sees.

A small network says where faces may be (`emotion.detection.places`). There one frontal pass
proposes boxes with few rejects and many mistakes; two other frontal cascades then look at each
proposal at one standard size, and what they say is the score. Only a photo without any face so far
pays for the fallback passes, which look everywhere; the last but one of them slides a template of
oriented gradients, fitted to FER2013, and looks for one face that fills the photo. The same
template tells how far a head is tilted. `benchmarks/face_detection.md` has the measurements behind
every default.
"""

import functools
import itertools
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from emotion.detection.boxes import Box, Detection, check_image, clip_boxes, merge_boxes, overlap_of
from emotion.detection.crop import square_crop
from emotion.detection.helper_thread import HelperThread
from emotion.detection.places import find_places, load_places
from emotion.detection.settings import DetectorSettings, OpinionLook
from emotion.detection.views import (
    View,
    back,
    close_up,
    forth,
    mirrored,
    octave_views,
    turned,
    view_of,
)
from emotion.errors import ModelError
from emotion.files import models_folder

TEMPLATE_SIDE_PX = 48
"""Side in pixels of the window of the face template."""


ROLL_TEMPERATURE = 0.5
"""Difference in the template's score that sets one tilt of a head clearly before another."""


CASCADE_FILES = {
    "default": "haarcascade_frontalface_default.xml",
    "alt": "haarcascade_frontalface_alt.xml",
    "alt2": "haarcascade_frontalface_alt2.xml",
    "profile": "haarcascade_profileface.xml",
    "eye": "haarcascade_eye.xml",
    "eye_glasses": "haarcascade_eye_tree_eyeglasses.xml",
}
"""The cascades in use and their files in OpenCV's wheel."""


FACE_TEMPLATE = models_folder() / "face_template.yml"
"""Histogram of oriented gradients and its linear classifier (Dalal and Triggs, 2005), as OpenCV
saves them; `benchmarks/face_template.py` fits it."""


CONFIRMERS = ("alt", "alt2")
"""The frontal cascades whose second opinion is the score of a box."""


WEIGHT_BAR = {"alt": 105.76, "alt2": 53.76, "profile": -1.27}
"""Last stage threshold (in the XML file) of the cascades that give opinions: no hit weighs less."""


SAME_FACE = 0.4
"""Intersection over union from which a proposal is a face that was found already."""


EYE_CASCADES = ("eye", "eye_glasses")
"""The cascades that look for the eyes of a face that the template found."""


EYES_SCALE_STEP = 1.05
"""Factor between the sizes of eyes that are looked for."""


EYES_FACE_PX = 144
"""Size in pixels to which such a face is scaled."""


EYE_PLACE = (0.3, 0.36)
"""Middle of an eye from the nearer side and from the top of the box, as shares of its side."""


EYE_PLACE_REACH = (0.15, 0.16)
"""How far from there an eye may lie, across and down."""


PART_OF_FACE = 0.8
"""Share of a small box inside a face that was found from which it is a part of that face."""


SAME_HIT = 0.5
"""Intersection over union from which hits of a cascade are one face: their mean is its box."""


class FaceDetector:
    """Finds the faces of a photo; safe to share between threads, and picklable."""

    def __init__(self, settings: DetectorSettings = DetectorSettings()):
        """Load the cascades once, so that a broken OpenCV is known before the first photo.

        Raises:
            ModelError: OpenCV has no cascades, or a file of theirs or the template is missing or
                damaged.
        """
        self.settings = settings
        self._local = threading.local()
        self._cascades()
        self._template()
        self._places = load_places() if settings.places else None
        self._helper = HelperThread(lambda: (self._cascades(), self._template()))

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
        check_image(image)
        if min(image.shape[:2]) < self.settings.smallest_photo_side_px:
            return ()
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        for search in self._searches(grey):
            found = merge_boxes(search(), self.settings)
            faces = self._fitting(grey, clip_boxes(found, grey.shape))
            if faces:
                return tuple(sorted(faces, key=lambda face: (face.box_xywh[:2], face.box_xywh)))
        return ()

    def _searches(self, grey: np.ndarray) -> Iterable[Callable[[], list[Detection]]]:
        """Yield the passes over a photo, in order; the next is only made when one found nothing."""
        yield lambda: self._upright(view_of(grey, self.settings, self.settings.working_pixels))
        if not self.settings.fallbacks:
            return
        view = view_of(grey, self.settings, self.settings.fallback_pixels)
        searches = {
            "alt2": lambda: self._frontal(view, "alt2", self.settings.fallback_threshold),
            "profile": lambda: self._profiles(view),
            "rotated": lambda: self._rotated(view),
            "portrait": lambda: self._portrait(grey),
        }
        yield from (searches[name] for name in self.settings.fallbacks)

    def _upright(self, view: View) -> list[Detection]:
        """Return the upright faces, in photo pixels, looking for large ones first.

        Each copy of the photo has half the side of the next and is searched for faces of one octave
        of sizes, which takes a fraction of the time of a search for all sizes in the largest one.
        """
        settings = self.settings
        found: list[Detection] = []
        for octave, parts in self._octave_parts(view, found):
            step, neighbors = settings.octave_step, settings.octave_neighbors
            hits = [
                (back(hit, octave.to_photo), weight)
                for hit, weight in self._hits(parts, "default", step, neighbors)
            ]
            for box, weight in hits:
                if _is_known(box, found):
                    continue
                threshold = settings.frontal_threshold
                score = self._score(view.grey, forth(box, view.to_photo), weight, threshold)
                if score >= threshold:
                    found.append(Detection(_mean_around(box, [one for one, _ in hits]), score))
        return found

    def _octave_parts(
        self, view: View, found: Sequence[Detection]
    ) -> Iterator[tuple[View, list[View]]]:
        """Yield each octave and the parts of it where faces may be, up to those that do not matter.

        While one is searched, the helper looks for the parts of the next.
        """
        settings = self.settings

        def look(octave: View) -> Callable[[], list[View]]:
            return functools.partial(self._parts, octave, settings.place_threshold)

        octaves = list(octave_views(view, settings))
        parts = look(octaves[0])
        for octave, following in itertools.zip_longest(octaves, octaves[1:]):
            # what is begun in vain keeps the helper from its share of the search
            is_last = following is None or _is_small_fry(following, found, settings)
            coming = None if is_last else self._helper.start(look(following))
            yield octave, parts()
            if coming is None or _is_small_fry(following, found, settings):
                return
            parts = coming

    def _frontal(self, view: View, cascade: str, threshold: float) -> list[Detection]:
        """Return the boxes of one frontal cascade that score high enough, in photo pixels."""
        settings = self.settings
        step, neighbors = settings.scale_step, settings.minimum_neighbors
        place_threshold = settings.fallback_place_threshold
        return [
            Detection(back(box, view.to_photo), score)
            for box, weight in self._proposals(view, cascade, step, neighbors, place_threshold)
            if (score := self._score(view.grey, box, weight, threshold)) >= threshold
        ]

    def _profiles(self, view: View) -> list[Detection]:
        """Return the boxes of faces that look to either side, in photo pixels."""
        found = []
        threshold = self.settings.profile_threshold
        confirmers = ("profile", *CONFIRMERS)
        for side in (view, mirrored(view)):
            step, neighbors = self.settings.scale_step, self.settings.minimum_neighbors
            for box, weight in self._proposals(side, "profile", step, neighbors):
                score = self._score(side.grey, box, weight, threshold, confirmers)
                if score >= threshold:
                    found.append(Detection(back(box, side.to_photo), score))
        return found

    def _rotated(self, view: View) -> list[Detection]:
        """Return the boxes of tilted heads, in photo pixels; all turns compete by score."""
        return [
            detection
            for degrees in self.settings.rotations_degrees
            for detection in self._frontal(
                turned(view, degrees), "alt2", self.settings.fallback_threshold
            )
        ]

    def _portrait(self, grey: np.ndarray) -> list[Detection]:
        """Return the one face that fills the photo, or none, in photo pixels."""
        border = self.settings.portrait_border_share
        settings = replace(self.settings, border_share=border)
        view = view_of(grey, settings, settings.fallback_pixels)
        short_px = min(view.grey.shape) / (1 + 2 * border)
        hits = [
            hit
            for share in settings.portrait_shares
            for hit in self._template_hits(view.grey, share * short_px)
        ]
        best = max(hits, key=lambda hit: hit[1], default=(None, -math.inf))
        if best[1] < settings.portrait_threshold:
            return []
        box = back(_mean_box(hits, best[0]), view.to_photo)
        if self._eyes_seen(grey, box) < settings.portrait_eyes:
            return []
        return [Detection(box, best[1])]

    def _eyes_seen(self, grey: np.ndarray, box_xywh: Box) -> int:
        """Return how often the eyes of a face are seen where eyes are: 0 to 4 times."""
        tried = self.settings.roll_degrees
        roll_degrees = self._roll(self._fits(grey, box_xywh)) if tried else 0.0
        # a little more than the face, because eye cascades look at the brows too
        margin = 0.1
        side = round(EYES_FACE_PX * (1 + 2 * margin))
        crop = square_crop(grey, box_xywh, margin, side, roll_degrees)
        return sum(
            len(_eye_sides(self._eye_boxes(name, crop), margin * EYES_FACE_PX))
            for name in EYE_CASCADES
        )

    def _eye_boxes(self, cascade: str, crop: np.ndarray) -> list[Box]:
        """Return all that one eye cascade takes for an eye."""
        hits = _run(
            self._cascades()[cascade],
            crop,
            step=EYES_SCALE_STEP,
            neighbors=0,
            smallest_px=20,
            largest_px=EYES_FACE_PX // 2,
        )
        return [box for box, _ in hits]

    def _template_hits(self, grey: np.ndarray, face_px: float) -> list[tuple[Box, float]]:
        """Return where the template fits a face of one size at all, in pixels of `grey`."""
        scale = TEMPLATE_SIDE_PX / face_px
        size_wh = [max(TEMPLATE_SIDE_PX, round(side * scale)) for side in grey.shape[::-1]]
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        copy = cv2.resize(grey, size_wh, interpolation=method)
        corners, scores = self._template().detect(copy, winStride=(4, 4))
        return [
            ((float(x / scale), float(y / scale), face_px, face_px), float(score))
            for (x, y), score in zip(corners, np.ravel(scores), strict=True)
        ]

    def _fitting(self, grey: np.ndarray, found: Iterable[Detection]) -> list[Detection]:
        """Return the faces that the template does not refuse, each with the tilt of its head."""
        tried = self.settings.roll_degrees
        if not tried:
            return list(found)
        fits = [(face, self._fits(grey, face.box_xywh)) for face in found]
        return [
            replace(face, roll_degrees=self._roll(heights))
            for face, heights in fits
            if max(heights.values()) >= self.settings.template_threshold
        ]

    def _fits(self, grey: np.ndarray, box_xywh: Box) -> dict[float, float]:
        """Return how well the template fits a box at the tilts that are tried.

        Where it fits an upright head better than one tilted a little, larger tilts are not tried.
        """
        # the template's 48 pixels need no more of a large face
        step = max(1, int(max(box_xywh[2:])) // (4 * TEMPLATE_SIDE_PX))
        thinned, box = grey[::step, ::step], [value / step for value in box_xywh]

        def fit(degrees: float) -> float:
            return self._fit(square_crop(thinned, box, 0.0, TEMPLATE_SIDE_PX, degrees))

        tilts = sorted(self.settings.roll_degrees, key=abs)
        near, far = tilts[:3], tilts[3:]
        heights = dict(zip(near, self._helper.each(fit, near), strict=True))
        if self._is_upright(heights):
            return heights
        return heights | dict(zip(far, self._helper.each(fit, far), strict=True))

    def _is_upright(self, heights: dict[float, float]) -> bool:
        """Tell whether the template fits a face, and best of all upright."""
        best = max(heights, key=heights.get)
        return best == 0 and heights[best] >= self.settings.template_threshold

    def _roll(self, heights: dict[float, float]) -> float:
        """Return the tilt that fits best, 0 where it is too small to matter."""
        roll_degrees = _peak(list(heights), list(heights.values()))
        return roll_degrees if abs(roll_degrees) >= self.settings.least_roll_degrees else 0.0

    def _fit(self, crop: np.ndarray) -> float:
        """Return how well the template fits a crop of its own size."""
        _, scores = self._template().detect(crop, hitThreshold=-1000.0)
        return float(np.ravel(scores)[0])

    def _proposals(
        self,
        view: View,
        cascade: str,
        step: float,
        neighbors: int,
        place_threshold: float = -math.inf,
    ) -> list[tuple[Box, float]]:
        """Return the boxes of one cascade in pixels of a view and their weights, heaviest first.

        Args:
            view: what is searched.
            cascade: one of `CASCADE_FILES`.
            step: factor from one box size to the next.
            neighbors: overlapping hits that a box needs.
            place_threshold: it looks only where the network sees so much of a face; by default
                everywhere.
        """
        return self._hits(self._parts(view, place_threshold), cascade, step, neighbors)

    def _hits(
        self, parts: Sequence[View], cascade: str, step: float, neighbors: int
    ) -> list[tuple[Box, float]]:
        """Return the boxes of one cascade in parts of a view, in pixels of that, heaviest first."""

        def search(part: View) -> list[tuple[Box, float]]:
            found = _run(
                self._cascades()[cascade],
                part.grey,
                step=step,
                neighbors=neighbors,
                smallest_px=part.smallest_face_px,
                largest_px=part.largest_face_px,
            )
            return [(back(box, part.to_photo), weight) for box, weight in found]

        hits = itertools.chain.from_iterable(self._helper.each(search, parts))
        return sorted(hits, key=lambda hit: (-hit[1], hit[0]))

    def _parts(self, view: View, place_threshold: float) -> list[View]:
        """Return close views of the places in a view where faces may be, or all of it as it is.

        Their `to_photo` leads to pixels of the view.
        """
        if not self._places or place_threshold == -math.inf:
            return [replace(view, to_photo=np.eye(2, 3))]
        smallest_px, largest_px = view.smallest_face_px, view.largest_face_px
        places = find_places(self._places, view.grey, smallest_px, largest_px, place_threshold)
        return [close_up(view.grey, place, self.settings) for place in places]

    def _score(
        self,
        grey: np.ndarray,
        box: Box,
        weight: float,
        threshold: float,
        confirmers: Sequence[str] = CONFIRMERS,
    ) -> float:
        """Return how sure the confirming cascades are of a box, or its own weight without them.

        A glance settles most boxes; the rest get a close look.
        """
        if not self.settings.second_opinion:
            return weight
        for look in self.settings.opinion_looks:
            crop = square_crop(grey, box, look.margin_share, look.crop_px)
            ask = functools.partial(self._opinion, crop=crop, look=look)
            score = sum(self._helper.each(ask, confirmers))
            if not threshold - self.settings.opinion_doubt < score < threshold:
                break
        return score

    def _opinion(self, cascade: str, crop: np.ndarray, look: OpinionLook) -> float:
        """Return 0 when a cascade sees no face amid a crop, else 1 + its weight above its bar."""
        side_px = look.face_px
        start = (crop.shape[0] - side_px) / 2
        hits = _run(
            self._cascades()[cascade],
            crop,
            step=look.scale_step,
            neighbors=0,
            smallest_px=round(side_px * 0.75),
            largest_px=round(side_px * 1.4),
        )
        middle = (start, start, side_px, side_px)
        overlap = self.settings.opinion_overlap
        agreeing = [weight for box, weight in hits if overlap_of(middle, box)[0] > overlap]
        return 1 + max(agreeing) - WEIGHT_BAR[cascade] if agreeing else 0.0

    def _cascades(self) -> dict[str, "cv2.CascadeClassifier"]:
        """Return this thread's own classifiers: shared ones give wrong answers."""
        if not hasattr(self._local, "cascades"):
            self._local.cascades = load_cascades()
        return self._local.cascades

    def _template(self) -> "cv2.HOGDescriptor":
        """Return this thread's own copy of the face template."""
        if not hasattr(self._local, "template"):
            self._local.template = load_template()
        return self._local.template


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


def load_template(path: Path = FACE_TEMPLATE) -> "cv2.HOGDescriptor":
    """Return the face template of a file.

    Raises:
        ModelError: the file is missing or damaged.
    """
    if not path.is_file():
        raise ModelError(f"expected the face template at {path}; found no file")
    template = cv2.HOGDescriptor()
    try:
        loaded = template.load(str(path))
    except (cv2.error, SystemError) as error:
        raise ModelError(f"expected a face template in {path}; it is damaged: {error}") from error
    side = (TEMPLATE_SIDE_PX, TEMPLATE_SIDE_PX)
    if not loaded or template.winSize != side or not template.checkDetectorSize():
        raise ModelError(
            f"expected a face template of {TEMPLATE_SIDE_PX} pixels in {path}; "
            "received a file that holds none"
        )
    return template


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


def _mean_around(box: Box, hits: Sequence[Box]) -> Box:
    """Return the mean of the hits that are much the same as one of them: steadier than each."""
    same = [hit for hit in hits if overlap_of(box, hit)[0] > SAME_HIT]
    return tuple(float(side) for side in np.mean(same, axis=0))


def _is_known(box: Box, found: Iterable[Detection]) -> bool:
    """Tell whether a box is about a face that was found already, or about a part of one."""
    overlaps = [overlap_of(box, face.box_xywh) for face in found]
    return any(union > SAME_FACE or inside > PART_OF_FACE for union, inside in overlaps)


def _is_small_fry(octave: View, found: Sequence[Detection], settings: DetectorSettings) -> bool:
    """Tell whether an octave has only faces too small to matter beside those that were found."""
    largest_px = octave.largest_face_px * octave.to_photo[0, 0]
    if not 0 < largest_px <= settings.small_fry_px:
        return False
    return any(face.box_xywh[2] > 2 * largest_px for face in found)


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


def _peak(places: Sequence[float], heights: Sequence[float]) -> float:
    """Return where noisy heights peak: the mean of the places, weighed by softmax."""
    weights = np.exp((np.asarray(heights) - max(heights)) / ROLL_TEMPERATURE)
    return float(np.average(places, weights=weights))


def _mean_box(hits: Iterable[tuple[Box, float]], best: Box) -> Box:
    """Return the mean of the boxes that lie about where the best one does."""
    near = [box for box, _ in hits if overlap_of(box, best)[0] > 0.6]
    return tuple(float(value) for value in np.mean(near, axis=0))


def _eye_sides(boxes: Iterable[Box], start_px: float) -> set[str]:
    """Return on which sides of a face that starts at a pixel boxes lie where an eye may be."""
    sides = set()
    for x, y, width, height in boxes:
        across = (x + width / 2 - start_px) / EYES_FACE_PX
        down = (y + height / 2 - start_px) / EYES_FACE_PX
        off = abs(min(across, 1 - across) - EYE_PLACE[0]), abs(down - EYE_PLACE[1])
        if off[0] < EYE_PLACE_REACH[0] and off[1] < EYE_PLACE_REACH[1]:
            sides.add("left" if across < 0.5 else "right")
    return sides
