"""Where the faces of a photo are, by Haar cascades, and the crop of each that the model sees.

A small network says where faces may be (`emotion.face_places`). There one frontal pass proposes
boxes with few rejects and many mistakes; two other frontal cascades then look at each proposal at
one standard size, and what they say is the score. Only a photo without any face so far pays for the
fallback passes, which look everywhere; the last but one of them slides a template of oriented
gradients, fitted to FER2013, and looks for one face that fills the photo. The same template tells
how far a head is tilted. `benchmarks/face_detection.md` has the measurements behind every default.
"""

import functools
import itertools
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from emotion.errors import ImageError, ModelError
from emotion.face_places import find_places, load_places
from emotion.files import models_folder
from emotion.helper_thread import HelperThread

CROP_MARGIN = 0.0
"""Share of the box's side that the model's crop adds on each side of the box."""

CROP_SIDE_PX = 48
"""Side of the model's crop in pixels."""

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

FALLBACKS = ("alt2", "rotated", "portrait", "profile")
"""The passes that may follow when nothing was found, in the order in which they are tried."""

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

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels."""


@dataclass(frozen=True)
class Detection:
    """One face that was found.

    Attributes:
        box_xywh: left, top, width and height in pixels of the photo, wholly inside it.
        score: how sure the cascades are, from their level weights: higher is surer. Frontal boxes,
            rotated ones too, are measured alike and compare with each other; a box of the profile
            pass also counts the profile cascade's own weight and compares with its like, and a
            box of the portrait pass has the template's score.
        roll_degrees: how far the head is tilted, counter-clockwise as seen; `crop_face` takes it.
    """

    box_xywh: tuple[int, int, int, int]
    score: float
    roll_degrees: float = 0.0


PART_OF_FACE = 0.8
"""Share of a small box inside a face that was found from which it is a part of that face."""

SAME_HIT = 0.5
"""Intersection over union from which hits of a cascade are one face: their mean is its box."""


@dataclass(frozen=True)
class OpinionLook:
    """How closely a second opinion looks at a box.

    Attributes:
        face_px: size to which the box is scaled.
        margin_share: what is looked at around it, as a share of its side.
        scale_step: factor between the sizes of faces that are tried; above 1.
    """

    face_px: int
    margin_share: float
    scale_step: float

    @property
    def crop_px(self) -> int:
        """Side of what is looked at."""
        return round(self.face_px * (1 + 2 * self.margin_share))


GLANCE = OpinionLook(face_px=32, margin_share=0.25, scale_step=1.1)
"""Settles nine boxes of ten, at a third of the time of a close look."""

CLOSE_LOOK = OpinionLook(face_px=64, margin_share=0.35, scale_step=1.1)


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
        octave_step: factor from one box size to the next in the first pass; above 1.
        octave_neighbors: overlapping hits that a proposal needs in the first pass.
        coarsest_side_px: short side of the smallest copy that the first pass searches, at most.
        octave_border_px: replicated border of the other copies, where faces are small.
        places: whether the first pass looks only where a small network says that faces may be.
        place_threshold: how much like a face a place must look to the network (a logit).
        fallback_place_threshold: the same, for the alt2 and rotated passes.
        place_face_px: size to which a place is scaled for the first cascade.
        place_margin_share: what is looked at around a place, as a share of its side.
        small_fry_px: where a photo has a face of more than twice this, faces with fewer pixels than
            this are not looked for.
        scale_step: factor from one box size to the next in the other passes; above 1.
        minimum_neighbors: overlapping hits that a proposal needs in the other passes.
        fallbacks: which of `FALLBACKS` to try when nothing was found.
        rotations_degrees: counter-clockwise turns of the photo that the rotated pass tries.
        second_opinion: whether other cascades judge each box; without it the score is the weight
            of the cascade that proposed the box and the three thresholds below apply to that.
        opinion_looks: how the second opinion looks at a box; the next only where the one before
            saw something, but too little.
        opinion_doubt: how far below its threshold a score may lie for a closer look.
        opinion_overlap: how much (intersection over union) an opinion must agree on the place.
        frontal_threshold: lowest score of a box of the first pass.
        fallback_threshold: lowest score of a box of the alt2 and rotated passes.
        profile_threshold: lowest score of a box of the profile pass.
        portrait_shares: sides of the face that the portrait pass looks for, as shares of the short
            side; false faces are smaller, so only large ones are believed.
        portrait_border_share: as `border_share`, for that pass.
        portrait_threshold: lowest score of the template in that pass.
        portrait_eyes: how often the eyes must be seen in that pass, of 4 times (each eye by each of
            `EYE_CASCADES`); round things fool the template, but have no eyes.
        roll_degrees: tilts of the head that are tried on each face; empty leaves all upright.
        least_roll_degrees: a head tilted less counts as upright.
        template_threshold: boxes that the template fits worse than this at every tilt are no
            faces.
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
    octave_step: float = 1.15
    octave_neighbors: int = 0
    coarsest_side_px: int = 160
    octave_border_px: int = 12
    places: bool = True
    place_threshold: float = 0.0
    fallback_place_threshold: float = -math.inf
    place_face_px: int = 28
    place_margin_share: float = 0.375
    small_fry_px: int = 48
    scale_step: float = 1.15
    minimum_neighbors: int = 2
    fallbacks: tuple[str, ...] = FALLBACKS
    rotations_degrees: tuple[float, ...] = (-30.0, 30.0)
    second_opinion: bool = True
    opinion_looks: tuple[OpinionLook, ...] = (GLANCE, CLOSE_LOOK)
    opinion_doubt: float = 3.0
    opinion_overlap: float = 0.45
    frontal_threshold: float = 5.2
    fallback_threshold: float = 5.5
    profile_threshold: float = 3.0
    portrait_shares: tuple[float, ...] = (1.2, 1.0, 0.84, 0.7, 0.58)
    portrait_border_share: float = 0.3
    portrait_threshold: float = 0.5
    portrait_eyes: int = 3
    roll_degrees: tuple[float, ...] = (-30.0, -20.0, -10.0, 0.0, 10.0, 20.0, 30.0)
    least_roll_degrees: float = 8.0
    template_threshold: float = -1.0
    merge_overlap: float = 0.3
    merge_containment: float = 0.6


@dataclass(frozen=True)
class _View:
    """A grey copy of the photo, bordered and perhaps turned, and the way back from it.

    Attributes:
        grey: (H, W) uint8, border included.
        to_photo: (2, 3) affine from pixels of `grey` to pixels of the photo.
        smallest_face_px: smallest box to look for, in pixels of `grey`.
        largest_face_px: largest box to look for, 0 for any.
    """

    grey: np.ndarray
    to_photo: np.ndarray
    smallest_face_px: int
    largest_face_px: int = 0


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
        yield lambda: self._upright(_view(grey, self.settings, self.settings.working_pixels))
        if not self.settings.fallbacks:
            return
        view = _view(grey, self.settings, self.settings.fallback_pixels)
        searches = {
            "alt2": lambda: self._frontal(view, "alt2", self.settings.fallback_threshold),
            "profile": lambda: self._profiles(view),
            "rotated": lambda: self._rotated(view),
            "portrait": lambda: self._portrait(grey),
        }
        yield from (searches[name] for name in self.settings.fallbacks)

    def _upright(self, view: _View) -> list[Detection]:
        """Return the upright faces, in photo pixels, looking for large ones first.

        Each copy of the photo has half the side of the next and is searched for faces of one octave
        of sizes, which takes a fraction of the time of a search for all sizes in the largest one.
        """
        settings = self.settings
        found: list[Detection] = []
        for octave, parts in self._octave_parts(view, found):
            step, neighbors = settings.octave_step, settings.octave_neighbors
            hits = [
                (_back(hit, octave.to_photo), weight)
                for hit, weight in self._hits(parts, "default", step, neighbors)
            ]
            for box, weight in hits:
                if _is_known(box, found):
                    continue
                threshold = settings.frontal_threshold
                score = self._score(view.grey, _forth(box, view.to_photo), weight, threshold)
                if score >= threshold:
                    found.append(Detection(_mean_around(box, [one for one, _ in hits]), score))
        return found

    def _octave_parts(
        self, view: _View, found: Sequence[Detection]
    ) -> Iterator[tuple[_View, list[_View]]]:
        """Yield each octave and the parts of it where faces may be, up to those that do not matter.

        While one is searched, the helper looks for the parts of the next.
        """
        settings = self.settings

        def look(octave: _View) -> Callable[[], list[_View]]:
            return functools.partial(self._parts, octave, settings.place_threshold)

        octaves = list(_octaves(view, settings))
        parts = look(octaves[0])
        for octave, following in itertools.zip_longest(octaves, octaves[1:]):
            # what is begun in vain keeps the helper from its share of the search
            is_last = following is None or _is_small_fry(following, found, settings)
            coming = None if is_last else self._helper.start(look(following))
            yield octave, parts()
            if coming is None or _is_small_fry(following, found, settings):
                return
            parts = coming

    def _frontal(self, view: _View, cascade: str, threshold: float) -> list[Detection]:
        """Return the boxes of one frontal cascade that score high enough, in photo pixels."""
        settings = self.settings
        step, neighbors = settings.scale_step, settings.minimum_neighbors
        place_threshold = settings.fallback_place_threshold
        return [
            Detection(_back(box, view.to_photo), score)
            for box, weight in self._proposals(view, cascade, step, neighbors, place_threshold)
            if (score := self._score(view.grey, box, weight, threshold)) >= threshold
        ]

    def _profiles(self, view: _View) -> list[Detection]:
        """Return the boxes of faces that look to either side, in photo pixels."""
        found = []
        threshold = self.settings.profile_threshold
        confirmers = ("profile", *CONFIRMERS)
        for side in (view, _mirrored(view)):
            step, neighbors = self.settings.scale_step, self.settings.minimum_neighbors
            for box, weight in self._proposals(side, "profile", step, neighbors):
                score = self._score(side.grey, box, weight, threshold, confirmers)
                if score >= threshold:
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

    def _portrait(self, grey: np.ndarray) -> list[Detection]:
        """Return the one face that fills the photo, or none, in photo pixels."""
        border = self.settings.portrait_border_share
        settings = replace(self.settings, border_share=border)
        view = _view(grey, settings, settings.fallback_pixels)
        short_px = min(view.grey.shape) / (1 + 2 * border)
        hits = [
            hit
            for share in settings.portrait_shares
            for hit in self._template_hits(view.grey, share * short_px)
        ]
        best = max(hits, key=lambda hit: hit[1], default=(None, -math.inf))
        if best[1] < settings.portrait_threshold:
            return []
        box = _back(_mean_box(hits, best[0]), view.to_photo)
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
        crop = _square_crop(grey, box_xywh, margin, side, roll_degrees)
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
            return self._fit(_square_crop(thinned, box, 0.0, TEMPLATE_SIDE_PX, degrees))

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
        view: _View,
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
        self, parts: Sequence[_View], cascade: str, step: float, neighbors: int
    ) -> list[tuple[Box, float]]:
        """Return the boxes of one cascade in parts of a view, in pixels of that, heaviest first."""

        def search(part: _View) -> list[tuple[Box, float]]:
            found = _run(
                self._cascades()[cascade],
                part.grey,
                step=step,
                neighbors=neighbors,
                smallest_px=part.smallest_face_px,
                largest_px=part.largest_face_px,
            )
            return [(_back(box, part.to_photo), weight) for box, weight in found]

        hits = itertools.chain.from_iterable(self._helper.each(search, parts))
        return sorted(hits, key=lambda hit: (-hit[1], hit[0]))

    def _parts(self, view: _View, place_threshold: float) -> list[_View]:
        """Return close views of the places in a view where faces may be, or all of it as it is.

        Their `to_photo` leads to pixels of the view.
        """
        if not self._places or place_threshold == -math.inf:
            return [replace(view, to_photo=np.eye(2, 3))]
        smallest_px, largest_px = view.smallest_face_px, view.largest_face_px
        places = find_places(self._places, view.grey, smallest_px, largest_px, place_threshold)
        return [_close_up(view.grey, place, self.settings) for place in places]

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
            crop = _square_crop(grey, box, look.margin_share, look.crop_px)
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
        agreeing = [weight for box, weight in hits if _overlap(middle, box)[0] > overlap]
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


def crop_face(
    image: np.ndarray,
    box_xywh: Sequence[float],
    margin: float = CROP_MARGIN,
    side: int = CROP_SIDE_PX,
    roll_degrees: float = 0.0,
) -> np.ndarray:
    """Return what the model sees of a face: a square around the middle of its box, in grey.

    Args:
        image: (H, W, 3) uint8 RGB, upright.
        box_xywh: left, top, width and height in pixels of `image`; its longer side counts.
        margin: share of the box's side added on each side; negative takes away; above -0.5.
        side: width and height of the result in pixels.
        roll_degrees: tilt of the head (`Detection.roll_degrees`), which the crop undoes.

    Returns:
        (side, side, 1) float32 in [0, 1]; beyond the photo's edge its last pixels repeat.

    Raises:
        ImageError: `image` is no such array, or nothing is left of the box.
    """
    check_image(image)
    if margin <= -0.5 or min(box_xywh[2:]) <= 0:
        raise ImageError(
            "expected a box with a width and height above 0 and a margin above -0.5; "
            f"received {tuple(box_xywh)} and {margin}"
        )
    grey = _square_crop(image, box_xywh, margin, side, roll_degrees)
    return grey.astype(np.float32)[:, :, np.newaxis] / np.float32(255)


def _square_crop(
    image: np.ndarray,
    box_xywh: Sequence[float],
    margin: float,
    side: int,
    roll_degrees: float = 0.0,
) -> np.ndarray:
    """Return a square around the middle of a box, turned upright, as (side, side) uint8 grey."""
    if roll_degrees:
        # the wider square still fills the corners after the turn
        wide_side = math.ceil(side * math.sqrt(2))
        wide_margin = (0.5 + margin) * wide_side / side - 0.5
        return _turned_middle(
            _square_crop(image, box_xywh, wide_margin, wide_side), side, roll_degrees
        )
    x, y, width, height = box_xywh
    cut = max(1, round(max(width, height) * (1 + 2 * margin)))
    left, top = round(x + width / 2 - cut / 2), round(y + height / 2 - cut / 2)
    piece = _replicated_cut(image, left, top, cut)
    return _resized(cv2.cvtColor(piece, cv2.COLOR_RGB2GRAY) if piece.ndim == 3 else piece, side)


def _resized(grey: np.ndarray, side: int) -> np.ndarray:
    """Return a square grey picture with another side."""
    method = cv2.INTER_AREA if side < grey.shape[0] else cv2.INTER_LINEAR
    return cv2.resize(grey, (side, side), interpolation=method)


def _turned_middle(grey: np.ndarray, side: int, roll_degrees: float) -> np.ndarray:
    """Return the (side, side) middle of a square picture turned clockwise."""
    middle = (grey.shape[0] - 1) / 2
    turn = cv2.getRotationMatrix2D((middle, middle), -roll_degrees, 1.0)
    turn[:, 2] += (side - 1) / 2 - middle
    return cv2.warpAffine(grey, turn, (side, side), borderMode=cv2.BORDER_REPLICATE)


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


def check_image(image: np.ndarray) -> None:
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


def _octaves(view: _View, settings: DetectorSettings) -> Iterable[_View]:
    """Yield copies of a view, each twice as large as the one before, for an octave of faces each.

    The first has a wide border, without which faces that fill the photo are missed.
    """
    across, down = view.to_photo[0, 0], view.to_photo[1, 1]
    left, top = round(-view.to_photo[0, 2] / across), round(-view.to_photo[1, 2] / down)
    inner = view.grey[top : view.grey.shape[0] - top, left : view.grey.shape[1] - left]
    copies = [_scaled(inner, settings.smallest_face_px / view.smallest_face_px)]
    while min(copies[-1].shape) > settings.coarsest_side_px:
        copies.append(_scaled(copies[-1], 0.5))
    for copy in reversed(copies):
        is_first = copy is copies[-1]
        wide = round(settings.border_share * min(copy.shape))
        border = wide if is_first else settings.octave_border_px
        grey = cv2.copyMakeBorder(copy, *[border] * 4, cv2.BORDER_REPLICATE)
        x, y = across * inner.shape[1] / copy.shape[1], down * inner.shape[0] / copy.shape[0]
        to_photo = np.array([[x, 0, -border * x], [0, y, -border * y]])
        smallest_px = settings.smallest_face_px
        yield _View(grey, to_photo, smallest_px, 0 if is_first else 2 * smallest_px)


def _scaled(grey: np.ndarray, scale: float) -> np.ndarray:
    """Return a grey photo made smaller, or as it is at a scale of 1."""
    size_wh = [max(1, round(side * scale)) for side in grey.shape[::-1]]
    return grey if scale == 1 else cv2.resize(grey, size_wh, interpolation=cv2.INTER_AREA)


def _close_up(grey: np.ndarray, place: Box, settings: DetectorSettings) -> _View:
    """Return a place and what is around it as a view, scaled so that faces have a standard size."""
    x, y, side, _ = place
    spread = 1 + 2 * settings.place_margin_share
    size_px, cut = round(settings.place_face_px * spread), max(1, round(side * spread))
    left, top = round(x + side / 2 - cut / 2), round(y + side / 2 - cut / 2)
    close = _resized(_replicated_cut(grey, left, top, cut), size_px)
    step = cut / size_px
    return _View(
        close, np.array([[step, 0, left], [0, step, top]]), settings.smallest_face_px, size_px
    )


def _mean_around(box: Box, hits: Sequence[Box]) -> Box:
    """Return the mean of the hits that are much the same as one of them: steadier than each."""
    same = [hit for hit in hits if _overlap(box, hit)[0] > SAME_HIT]
    return tuple(float(side) for side in np.mean(same, axis=0))


def _is_known(box: Box, found: Iterable[Detection]) -> bool:
    """Tell whether a box is about a face that was found already, or about a part of one."""
    overlaps = [_overlap(box, face.box_xywh) for face in found]
    return any(union > SAME_FACE or inside > PART_OF_FACE for union, inside in overlaps)


def _is_small_fry(octave: _View, found: Sequence[Detection], settings: DetectorSettings) -> bool:
    """Tell whether an octave has only faces too small to matter beside those that were found."""
    largest_px = octave.largest_face_px * octave.to_photo[0, 0]
    if not 0 < largest_px <= settings.small_fry_px:
        return False
    return any(face.box_xywh[2] > 2 * largest_px for face in found)


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


def _forth(box: Box, to_photo: np.ndarray) -> Box:
    """Return a box of the photo in pixels of an upright view."""
    x, y, width, height = box
    across, down = to_photo[0, 0], to_photo[1, 1]
    left, top = (x - to_photo[0, 2]) / across, (y - to_photo[1, 2]) / down
    return left, top, width / across, height / down


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
    near = [box for box, _ in hits if _overlap(box, best)[0] > 0.6]
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


def merge_boxes(found: Iterable[Detection], settings: DetectorSettings) -> list[Detection]:
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


def clip_boxes(found: Iterable[Detection], shape: tuple[int, int]) -> list[Detection]:
    """Return the boxes cut to whole pixels inside the photo; those centred outside are no faces."""
    height, width = shape
    inside = []
    for face in found:
        x, y, wide, high = face.box_xywh
        if 0 <= x + wide / 2 < width and 0 <= y + high / 2 < height:
            left, top = max(0, round(x)), max(0, round(y))
            right, bottom = min(width, round(x + wide)), min(height, round(y + high))
            box = (left, top, max(1, right - left), max(1, bottom - top))
            inside.append(replace(face, box_xywh=box))
    return inside
