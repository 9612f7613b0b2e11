"""Where the faces of a photo are: three small networks look, and Haar cascades settle doubts.

The first network says where faces may be, at one scale an octave, the largest first. The second
drops most of these places and straightens and centres the others, at a thirteenth of the cost of
the third. That one looks again until it is sure, each time at what its last look straightened and
centred, at most three times. Where it then doubts, OpenCV's Haar cascades look, and each that sees
a face counts. `benchmarks/face_detection.md` has the measurements behind every default.
"""

import contextlib
import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from emotion.detection.boxes import (
    SMALLEST_PHOTO_SIDE_PX,
    Detection,
    check_image,
    clip_boxes,
    merge_boxes,
    overlap_of,
)
from emotion.detection.networks import (
    FACE_PLACES,
    FACE_REFINER,
    FACE_VERIFIER,
    PLACE_FACES_PX,
    REFINER_PX,
    VERIFIER_PX,
    find_places,
    load_network,
    look_closely,
    unlike,
)
from emotion.detection.settings import DetectorSettings
from emotion.detection.views import View, halved_views, upright_cut
from emotion.errors import ModelError

# files of OpenCV's wheel, whether they see the mirror image, and what a hit adds to the logit:
# about what logistic regressions on the doubtful faces of photographs say
CASCADES = (
    ("haarcascade_frontalface_alt.xml", False, 1.6),
    ("haarcascade_frontalface_alt2.xml", False, 1.2),
    ("haarcascade_profileface.xml", False, 1.1),
    ("haarcascade_profileface.xml", True, 1.1),
)
CASCADE_FACE_PX = 32  # size to which a face is scaled for the cascades
CASCADE_SPREAD = 1.5  # side of what they see, in sides of the face
CASCADE_OVERLAP = 0.45  # how much (intersection over union) a hit must agree with the face

LEAST_ROLL_DEGREES = 10.0  # a head tilted less counts as upright
MOST_ROLL_DEGREES = 50.0  # the networks learned no heads that are tilted more


class _Cascades(threading.local):
    """Each thread's own classifiers: shared ones give wrong answers."""

    def __init__(self):
        self.all = load_cascades()


class FaceDetector:
    """Finds the faces of a photo; safe to share between threads, and picklable."""

    def __init__(self, settings: DetectorSettings = DetectorSettings()):
        """Load all files, so that a broken OpenCV is known before the first photo.

        Raises ModelError.
        """
        self.settings = settings
        self._cascades = _Cascades()
        self._places = load_network(FACE_PLACES, ("any", "any", "any", 1))
        refiner = load_network(FACE_REFINER, ("any", REFINER_PX, REFINER_PX, 1))
        verifier = load_network(FACE_VERIFIER, ("any", VERIFIER_PX, VERIFIER_PX, 1))
        self._refine = partial(look_closely, refiner, REFINER_PX)
        self._verify = partial(look_closely, verifier, VERIFIER_PX)

    def __reduce__(self):
        # classifiers and networks cannot be pickled: the other side loads its own
        return type(self), (self.settings,)

    def detect(self, image: np.ndarray) -> tuple[Detection, ...]:
        """Return the faces of an upright (H, W, 3) uint8 RGB photo from left to right.

        Raises ImageError.
        """
        check_image(image)
        settings, short_px = self.settings, min(image.shape[:2])
        if short_px < SMALLEST_PHOTO_SIDE_PX:
            return ()
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        cv2.normalize(grey, grey, 0, 255, cv2.NORM_MINMAX)  # for photos that are dark all over
        smallest_px = max(settings.smallest_face_px, settings.smallest_face_share * short_px)
        # down to the view that is filled by a face of the largest size
        views = halved_views(grey, PLACE_FACES_PX[0] / smallest_px, PLACE_FACES_PX[1])
        closer = [View(grey, 1.0), *views] if views[0].step > 1 else views
        small_step = settings.small_beside_px / PLACE_FACES_PX[1]
        small = [view for view in views if view.step <= small_step]
        found = self._seen(views[len(small) :], closer, [])
        for view in reversed(small):
            if any(face.box_xywh[2] > 2 * PLACE_FACES_PX[1] * view.step for face in found):
                break
            found += self._seen([view], closer, found)
        easy = [
            face
            for face in found
            if face.score > settings.sure_from and abs(face.roll_degrees) < LEAST_ROLL_DEGREES
        ]
        hard = [face for face in found if face not in easy]
        again = self._verify(closer, hard, settings.doubt[0])
        sure = merge_boxes(easy + again, settle=lambda face: self._settled(face, closer))
        faces = clip_boxes(sure, grey.shape)
        faces.sort(key=lambda face: (face.box_xywh[:2], face.box_xywh))
        return tuple(
            replace(
                face,
                score=1 / (1 + math.exp(-face.score)),
                roll_degrees=face.roll_degrees * (abs(face.roll_degrees) >= LEAST_ROLL_DEGREES),
            )
            for face in faces
        )

    def _seen(
        self, views: Sequence[View], closer: Sequence[View], found: list[Detection]
    ) -> list[Detection]:
        """Return what may be faces of the views, after a first look; less beside a sure face."""
        settings = self.settings
        places: list[Detection] = []
        for view in views:
            places += find_places(self._places, view, settings.place_threshold)
        maybe = unlike(self._refine(closer, places, settings.refiner_threshold))
        likely = [face for face in maybe if face.score > settings.likely_from]
        seen = self._verify(closer, likely, settings.first_threshold)
        if any(face.score > settings.sure_from for face in found + seen):
            return seen
        return seen + self._verify(closer, maybe[len(likely) :], settings.first_threshold)

    def _settled(self, face: Detection, views: Sequence[View]) -> Detection | None:
        """Return a face after a third look and, while they decide, the cascades; None for none."""
        score, enough = face.score, self.settings.face_threshold
        lowest, highest = self.settings.doubt
        if abs(face.roll_degrees) >= MOST_ROLL_DEGREES:
            return None
        if score < highest:
            score = (score + self._verify(views, [face])[0].score) / 2
        if score > enough:
            return replace(face, score=score)
        size_px = round(CASCADE_FACE_PX * CASCADE_SPREAD)
        cut = upright_cut(views, face.box_xywh, CASCADE_SPREAD, face.roll_degrees, size_px)
        start, side = (size_px - CASCADE_FACE_PX) / 2, CASCADE_FACE_PX
        middle = (start, start, side, side)
        open_weight = sum(weight for _, _, weight in self._cascades.all)
        for cascade, is_mirrored, weight in self._cascades.all:
            if not max(lowest, enough - open_weight) < score <= enough:
                break
            open_weight -= weight
            boxes = cascade.detectMultiScale(
                cv2.flip(cut, 1) if is_mirrored else cut,
                scaleFactor=self.settings.cascade_step,
                minNeighbors=0,
                minSize=(round(0.72 * side),) * 2,
                maxSize=(round(1.4 * side),) * 2,
            )
            if any(overlap_of(middle, box)[0] > CASCADE_OVERLAP for box in boxes):
                score += weight
        return replace(face, score=score) if score > enough else None


def load_cascades() -> list[tuple["cv2.CascadeClassifier", bool, float]]:
    """Return `CASCADES` with a fresh classifier in place of each file. Raises ModelError."""
    if not hasattr(cv2, "CascadeClassifier") or not hasattr(cv2, "data"):
        raise ModelError(
            "expected OpenCV 4, whose wheel brings Haar cascades; "
            f"received OpenCV {cv2.__version__} without them"
        )
    cascades = {}
    for file, _, _ in CASCADES:
        path = Path(cv2.data.haarcascades) / file
        with contextlib.suppress(cv2.error, SystemError):  # damaged
            cascades[file] = cascades.get(file) or cv2.CascadeClassifier(str(path))
        if file not in cascades or cascades[file].empty():
            raise ModelError(
                f"expected a Haar cascade of OpenCV's wheel at {path}; found no good one"
            )
    return [(cascades[file], is_mirrored, weight) for file, is_mirrored, weight in CASCADES]
