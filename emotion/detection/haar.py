"""Where the faces of a photo are, by Haar cascades, and the crop of each that the model sees.

A small network says where faces may be (`emotion.detection.places`). There one frontal pass
proposes boxes with few rejects and many mistakes; two other frontal cascades then look at each
proposal at one standard size, and what they say is the score. Only a photo without any face so far
pays for the fallback passes, which look everywhere; one of them slides a template of oriented
gradients, fitted to FER2013, and looks for one face that fills the photo. The same template tells
how far a head is tilted. `benchmarks/face_detection.md` has the measurements behind every default.
"""

import functools
import itertools
import math
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np

from emotion.detection.boxes import Box, Detection, check_image, clip_boxes, merge_boxes, overlap_of
from emotion.detection.cascades import TEMPLATE_SIDE_PX, load_cascades, load_template
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

ROLL_TEMPERATURE = 0.5  # difference of template scores that sets one tilt clearly before another
CONFIRMERS = ("alt", "alt2")  # the frontal cascades whose second opinion is the score of a box
# last stage threshold (in the XML file) of the cascades that give opinions: no hit weighs less
WEIGHT_BAR = {"alt": 105.76, "alt2": 53.76, "profile": -1.27}

SAME_FACE = 0.4  # intersection over union from which a proposal is a face that was found already
PART_OF_FACE = 0.8  # share of a small box inside a found face from which it is a part of that face
SAME_HIT = 0.5  # intersection over union from which hits are one face: their mean is its box
SAME_PORTRAIT = 0.6  # the same for hits of the template

EYE_CASCADES = ("eye", "eye_glasses")  # they look for the eyes of a face that the template found
EYES_SCALE_STEP = 1.05  # factor between the sizes of eyes that are looked for
EYES_FACE_PX = 144  # size in pixels to which such a face is scaled
EYE_PLACE = (0.3, 0.36)  # middle of an eye from the nearer side and the top, as shares of the side
EYE_PLACE_REACH = (0.15, 0.16)  # how far from there an eye may lie, across and down


class _Tools(threading.local):
    """Each thread's own classifiers and face template: shared ones give wrong answers."""

    def __init__(self):
        self.cascades = load_cascades()
        self.template = load_template()


class FaceDetector:
    """Finds the faces of a photo; safe to share between threads, and picklable."""

    def __init__(self, settings: DetectorSettings = DetectorSettings()):
        """Load all files, so that a broken OpenCV is known before the first photo.

        Raises ModelError.
        """
        self.settings = settings
        self._tools = _Tools()
        self._places = load_places() if settings.places else None
        self._helper = HelperThread(lambda: self._tools.cascades)

    def __reduce__(self):
        # classifiers and threads cannot be pickled: the other side loads its own
        return type(self), (self.settings,)

    def detect(self, image: np.ndarray) -> tuple[Detection, ...]:
        """Return the faces of an upright (H, W, 3) uint8 RGB photo from left to right.

        Raises ImageError.
        """
        check_image(image)
        if min(image.shape[:2]) < self.settings.smallest_photo_side_px:
            return ()
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        for found in self._passes(grey):
            faces = self._fitting(grey, clip_boxes(merge_boxes(found, self.settings), grey.shape))
            if faces:
                return tuple(sorted(faces, key=lambda face: (face.box_xywh[:2], face.box_xywh)))
        return ()

    def _passes(self, grey: np.ndarray) -> Iterator[list[Detection]]:
        """Yield what each pass finds, in photo pixels; ask for the next only if that is nothing."""
        settings = self.settings
        yield self._upright(view_of(grey, settings, settings.working_pixels))
        view = view_of(grey, settings, settings.fallback_pixels) if settings.fallbacks else None
        for name in settings.fallbacks:
            if name == "portrait":
                yield self._portrait(grey)
            elif name == "profile":  # faces that look to either side
                sides, order = (view, mirrored(view)), ("profile", *CONFIRMERS)
                yield self._search(sides, "profile", settings.profile_threshold, order)
            else:  # heads that are upright, or tilted: all turns compete by score
                turns = settings.rotations_degrees
                views = [turned(view, turn) for turn in turns] if name == "rotated" else [view]
                yield self._search(views, "alt2", settings.fallback_threshold, CONFIRMERS)

    def _upright(self, view: View) -> list[Detection]:
        """Return the upright faces, in photo pixels, looking for large ones first.

        Each copy of the photo has half the side of the next and is searched for faces of one octave
        of sizes, which takes a fraction of the time of a search for all sizes in the largest one.
        """
        settings = self.settings
        found: list[Detection] = []
        for octave in octave_views(view, settings):
            # small faces beside large ones do not matter
            largest_px = octave.largest_face_px * octave.to_photo[0, 0]
            is_small = 0 < largest_px <= settings.small_fry_px
            if is_small and any(face.box_xywh[2] > 2 * largest_px for face in found):
                break
            parts = [replace(octave, to_photo=np.eye(2, 3))]
            if self._places:  # close views of the places where faces may be
                places = find_places(self._places, octave, settings.place_threshold)
                parts = [close_up(octave.grey, place, settings) for place in places]
            hits = self._hits(parts, "default", settings.octave_step, settings.octave_neighbors)
            boxes = [back(box, octave.to_photo) for box, _ in hits]
            for box, (_, weight) in zip(boxes, hits, strict=True):
                overlaps = [overlap_of(box, face.box_xywh) for face in found]
                if any(union > SAME_FACE or inside > PART_OF_FACE for union, inside in overlaps):
                    continue
                threshold, seen = settings.frontal_threshold, forth(box, view.to_photo)
                score = self._score(view.grey, seen, weight, threshold, CONFIRMERS)
                if score >= threshold:
                    found.append(Detection(_mean_around(box, boxes, SAME_HIT), score))
        return found

    def _search(
        self, views: Iterable[View], cascade: str, threshold: float, confirmers: Sequence[str]
    ) -> list[Detection]:
        """Return the boxes that the confirmers score high enough, in photo pixels."""
        step, neighbors = self.settings.scale_step, self.settings.minimum_neighbors
        return [
            Detection(back(box, view.to_photo), score)
            for view in views
            for box, weight in self._hits(
                [replace(view, to_photo=np.eye(2, 3))], cascade, step, neighbors
            )
            if (score := self._score(view.grey, box, weight, threshold, confirmers)) >= threshold
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
        boxes = [box for box, _ in hits]
        box = back(_mean_around(best[0], boxes, SAME_PORTRAIT), view.to_photo)
        if self._eyes_seen(grey, box) < settings.portrait_eyes:
            return []
        return [Detection(box, best[1])]

    def _eyes_seen(self, grey: np.ndarray, box_xywh: Box) -> int:
        """Return how often the eyes of a face are seen where eyes are: 0 to 4 times."""
        tilted = self.settings.roll_degrees
        roll_degrees = self._roll(self._fits(grey, box_xywh)) if tilted else 0.0
        margin = 0.1  # a little more than the face, because eye cascades look at the brows too
        side = round(EYES_FACE_PX * (1 + 2 * margin))
        crop = square_crop(grey, box_xywh, margin, side, roll_degrees)
        seen = set()
        for cascade in EYE_CASCADES:
            eyes = self._run(cascade, crop, EYES_SCALE_STEP, 0, 20, EYES_FACE_PX // 2)
            for (x, y, width, height), _ in eyes:
                across = (x + width / 2) / EYES_FACE_PX - margin
                down = (y + height / 2) / EYES_FACE_PX - margin
                off = abs(min(across, 1 - across) - EYE_PLACE[0]), abs(down - EYE_PLACE[1])
                if off[0] < EYE_PLACE_REACH[0] and off[1] < EYE_PLACE_REACH[1]:
                    seen.add((cascade, across < 0.5))
        return len(seen)

    def _template_hits(self, grey: np.ndarray, face_px: float) -> list[tuple[Box, float]]:
        """Return where the template fits a face of one size at all, in pixels of `grey`."""
        scale = TEMPLATE_SIDE_PX / face_px
        size_wh = [max(TEMPLATE_SIDE_PX, round(side * scale)) for side in grey.shape[::-1]]
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        copy = cv2.resize(grey, size_wh, interpolation=method)
        corners, scores = self._tools.template.detect(copy, winStride=(4, 4))
        return [
            ((float(x / scale), float(y / scale), face_px, face_px), float(score))
            for (x, y), score in zip(corners, np.ravel(scores), strict=True)
        ]

    def _fitting(self, grey: np.ndarray, found: Iterable[Detection]) -> list[Detection]:
        """Return the faces that the template does not refuse, each with the tilt of its head."""
        if not self.settings.roll_degrees:
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

        def fits(degrees: Sequence[float]) -> dict[float, float]:
            heights = {}
            for tilt in degrees:
                crop = square_crop(thinned, box, 0.0, TEMPLATE_SIDE_PX, tilt)
                _, scores = self._tools.template.detect(crop, hitThreshold=-1000.0)
                heights[tilt] = float(np.ravel(scores)[0])
            return heights

        tilts = sorted(self.settings.roll_degrees, key=abs)
        heights = fits(tilts[:3])
        best = max(heights, key=heights.get)
        if best == 0 and heights[best] >= self.settings.template_threshold:
            return heights
        return heights | fits(tilts[3:])

    def _roll(self, heights: dict[float, float]) -> float:
        """Return the tilt where noisy fits peak (a mean weighed by softmax), 0 if it is small."""
        values = np.array(list(heights.values()))
        weights = np.exp((values - values.max()) / ROLL_TEMPERATURE)
        roll_degrees = float(np.average(list(heights), weights=weights))
        return roll_degrees if abs(roll_degrees) >= self.settings.least_roll_degrees else 0.0

    def _hits(
        self, parts: Sequence[View], cascade: str, step: float, neighbors: int
    ) -> list[tuple[Box, float]]:
        """Return the boxes of one cascade in parts of a view, in pixels of that, heaviest first.

        The `to_photo` of a part leads to pixels of the view.
        """

        def search(part: View) -> list[tuple[Box, float]]:
            sizes_px = part.smallest_face_px, part.largest_face_px
            found = self._run(cascade, part.grey, step, neighbors, *sizes_px)
            return [(back(box, part.to_photo), weight) for box, weight in found]

        hits = itertools.chain.from_iterable(self._helper.each(search, parts))
        return sorted(hits, key=lambda hit: (-hit[1], hit[0]))

    def _score(
        self, grey: np.ndarray, box: Box, weight: float, threshold: float, confirmers: Sequence[str]
    ) -> float:
        """Return how sure the confirming cascades are of a box, or its own weight without them.

        A glance settles most boxes; the rest get a close look.
        """
        if not self.settings.second_opinion:
            return weight
        for look in self.settings.opinion_looks:
            crop_px = round(look.face_px * (1 + 2 * look.margin_share))
            crop = square_crop(grey, box, look.margin_share, crop_px)
            ask = functools.partial(self._opinion, crop=crop, look=look)
            score = sum(self._helper.each(ask, confirmers))
            if not threshold - self.settings.opinion_doubt < score < threshold:
                break
        return score

    def _opinion(self, cascade: str, crop: np.ndarray, look: OpinionLook) -> float:
        """Return 0 when a cascade sees no face amid a crop, else 1 + its weight above its bar."""
        side_px, start = look.face_px, (crop.shape[0] - look.face_px) / 2
        sizes_px = round(side_px * 0.75), round(side_px * 1.4)
        hits = self._run(cascade, crop, look.scale_step, 0, *sizes_px)
        middle = (start, start, side_px, side_px)
        overlap = self.settings.opinion_overlap
        agreeing = [weight for box, weight in hits if overlap_of(middle, box)[0] > overlap]
        return 1 + max(agreeing) - WEIGHT_BAR[cascade] if agreeing else 0.0

    def _run(
        self, cascade: str, grey: np.ndarray, step: float, neighbors: int, *sizes_px: int
    ) -> list[tuple[Box, float]]:
        """Return the boxes of one cascade in pixels of `grey`, and their level weights.

        The sizes are those of the smallest and the largest box, 0 for any.
        """
        boxes, _, weights = self._tools.cascades[cascade].detectMultiScale3(
            grey,
            scaleFactor=step,
            minNeighbors=neighbors,
            minSize=sizes_px[:1] * 2,
            maxSize=sizes_px[1:] * 2,
            outputRejectLevels=True,
        )
        # without boxes OpenCV returns empty tuples
        return [
            (tuple(map(float, box)), float(weight))
            for box, weight in zip(boxes, np.ravel(weights), strict=True)
        ]


def _mean_around(box: Box, hits: Sequence[Box], least_overlap: float) -> Box:
    """Return the mean of the hits that are much the same as one of them: steadier than each."""
    same = [hit for hit in hits if overlap_of(box, hit)[0] > least_overlap]
    return tuple(float(side) for side in np.mean(same, axis=0))
