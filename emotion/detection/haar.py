"""Where the faces of a photo are: two small networks look, and Haar cascades settle doubts.

The first network says where faces may be, at one scale an octave, the largest first. The second
looks at each of these places twice: as it was proposed, and then straightened and centred, which
also gives the box and the tilt of the head. Where it is not sure, OpenCV's Haar cascades look at
the straightened face, and each that sees one counts. `benchmarks/face_detection.md` has the
measurements behind every default.
"""

import math
import threading
from collections.abc import Sequence
from dataclasses import replace
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
    FACE_VERIFIER,
    PLACE_FACES_PX,
    VERIFIER_PX,
    find_places,
    load_network,
    look_closely,
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
        self._verifier = load_network(FACE_VERIFIER, ("any", VERIFIER_PX, VERIFIER_PX, 1))

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
        views = halved_views(grey, PLACE_FACES_PX[0] / smallest_px, PLACE_FACES_PX[1] - 6)
        closer = [View(grey, 1.0), *views] if views[0].step > 1 else views
        found: list[Detection] = []
        for view in reversed(views):
            largest_px = PLACE_FACES_PX[1] * view.step
            is_small = largest_px <= settings.small_beside_px
            if is_small and any(face.box_xywh[2] > 2 * largest_px for face in found):
                break
            places = find_places(self._places, view, settings.place_threshold)
            seen = look_closely(self._verifier, closer, [Detection(box, 0.0) for box in places])
            found += [face for face in seen if face.score > settings.first_threshold]
        again = look_closely(self._verifier, closer, merge_boxes(found))
        settled = [self._settled(face, closer) for face in again]
        sure = [
            face
            for face in settled
            if face.score > settings.face_threshold and abs(face.roll_degrees) < MOST_ROLL_DEGREES
        ]
        faces = clip_boxes(merge_boxes(sure), grey.shape)
        faces.sort(key=lambda face: (face.box_xywh[:2], face.box_xywh))
        return tuple(
            replace(
                face,
                score=1 / (1 + math.exp(-face.score)),
                roll_degrees=face.roll_degrees * (abs(face.roll_degrees) >= LEAST_ROLL_DEGREES),
            )
            for face in faces
        )

    def _settled(self, face: Detection, views: Sequence[View]) -> Detection:
        """Return a face with what the cascades add to its logit, if that leaves a doubt."""
        lowest, highest = self.settings.doubt
        if not lowest < face.score < highest:
            return face
        size_px = round(CASCADE_FACE_PX * CASCADE_SPREAD)
        cut = upright_cut(views, face.box_xywh, CASCADE_SPREAD, face.roll_degrees, size_px)
        start, side = (size_px - CASCADE_FACE_PX) / 2, CASCADE_FACE_PX
        score = face.score
        for cascade, is_mirrored, weight in self._cascades.all:
            boxes = cascade.detectMultiScale(
                cv2.flip(cut, 1) if is_mirrored else cut,
                scaleFactor=self.settings.cascade_step,
                minNeighbors=0,
                minSize=(round(0.72 * side),) * 2,
                maxSize=(round(1.4 * side),) * 2,
            )
            middle = (start, start, side, side)
            if any(overlap_of(middle, box)[0] > CASCADE_OVERLAP for box in boxes):
                score += weight
        return replace(face, score=score)


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
        try:
            cascades[file] = cascades.get(file) or cv2.CascadeClassifier(str(path))
        except (cv2.error, SystemError) as error:
            message = f"expected a Haar cascade in {path}; it is damaged: {error}"
            raise ModelError(message) from error
        if cascades[file].empty():
            raise ModelError(f"expected a Haar cascade of OpenCV's wheel at {path}; found none")
    return [(cascades[file], is_mirrored, weight) for file, is_mirrored, weight in CASCADES]
