"""The one pipeline: a photo -> detect -> crop -> classify -> faces."""

from collections.abc import Iterable, Sequence, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, overload

import cv2
import numpy as np
import numpy.typing as npt

from emotion.detection.boxes import Detection
from emotion.detection.crop import CROP_SIDE_PX, crop_face
from emotion.detection.haar import FaceDetector
from emotion.errors import ImageError
from emotion.explain import Explanation, explain
from emotion.faces import Face, read_thresholds
from emotion.files import available_cpus, models_folder
from emotion.images.decoding import Photo
from emotion.images.sources import PhotoLike, check_many, holds_many, lasting, name_of, open_photo
from emotion.model.keras import stem_of
from emotion.model.runtime import EmotionModel, load_model
from emotion.notebook import Origin, Recognition, Recognitions
from emotion.quality import quality_notes

DEFAULT_MODEL = models_folder() / "detection_model"

# A face with fewer pixels in a photo of reduced scale is cropped from the full size: from so many
# on, the two crops differ by about one grey level of 255.
LEAST_SIDE_PX = 2 * CROP_SIDE_PX

OnError: TypeAlias = Literal["raise", "keep"]


class Detector(Protocol):
    """Finds faces: `FaceDetector` of `emotion.detection.haar`, or another such as YuNet's."""

    def detect(self, image: npt.NDArray[np.uint8]) -> Sequence[Detection]:
        """Return the faces of a photo, (H, W, 3) uint8 RGB, left to right."""


# a face that is not read yet: where it is in the full size, what the model is to see, and notes
Found: TypeAlias = tuple[Detection, npt.NDArray[np.float32], tuple[str, ...]]


class Sight(NamedTuple):
    face: Face
    crop: npt.NDArray[np.float32]  # what the model saw of it, (48, 48, 1) in [0, 1]


class Recognizer:
    """Finds every face of a photo and reads its emotion; safe to share between threads."""

    def __init__(self, model: EmotionModel, detector: Detector | None = None):
        """Put a model and a detector, else Haar cascades, together; raises ModelError."""
        self.model = model
        self.detector = detector or FaceDetector()
        self.thresholds = read_thresholds(model.card)

    @classmethod
    def load(
        cls, model: str | Path = DEFAULT_MODEL, detector: Detector | None = None
    ) -> "Recognizer":
        """Return a recognizer with a model: its files' folder and name. Raises ModelError."""
        # OpenCV counts the processors of the machine, not those that its container may use.
        cv2.setNumThreads(min(cv2.getNumThreads(), available_cpus()))
        return cls(load_model(stem_of(model)), detector)

    # a path given as text can be iterated over too, but the first form that fits is taken
    @overload
    def recognize(  # type: ignore[overload-overlap]
        self, image: PhotoLike, *, errors: OnError = "raise"
    ) -> Recognition: ...

    @overload
    def recognize(
        self, image: Iterable[PhotoLike], *, errors: OnError = "raise"
    ) -> Recognitions: ...

    def recognize(
        self, image: PhotoLike | Iterable[PhotoLike], *, errors: OnError = "raise"
    ) -> Recognition | Recognitions:
        """Return the faces of a photo, left to right, with boxes in pixels of its full size.

        Args:
            image: a path, the bytes of an image file, an open binary file, an image of Pillow's,
                or an array, upright and in RGB order: (H, W, 3), (H, W, 4) or grey (H, W), uint8
                from 0 to 255 or float from 0 to 1. A list, tuple or iterator of these is read as
                by `recognize_many`.
            errors: "raise" an ImageError for a photo that cannot be read, or "keep" it as a result
                without faces whose `problem` says why.
        """
        if holds_many(image):
            return self.recognize_many(image, errors=errors)
        return self._recognize([("", image)], errors, keeps_photos=True)[0]

    def recognize_many(
        self, images: Iterable[PhotoLike], *, errors: OnError = "raise"
    ) -> Recognitions:
        """Return the faces of each photo, in their order; arguments and errors as of `recognize`.

        Photos of an iterator are let go one by one, so that there may be more than fit into memory;
        but for paths, their results cannot draw them any more.
        """
        check_many(images)
        named = ((f"images[{position}]", image) for position, image in enumerate(images))
        return self._recognize(named, errors, keeps_photos=isinstance(images, Sized))

    def explain(self, image: PhotoLike, face: int = 1, emotion: str | None = None) -> Explanation:
        """Return which parts of a face spoke for its emotion, checked by hiding them.

        Raises ImageError, and ModelError where the model does not know the emotion.

        Args:
            face: its number, from 1, as in pictures and tables.
            emotion: a class of the model; without it, the one that it answered.
        """
        sights = self.look(image)
        if not 1 <= face <= len(sights):
            found = f"a photo with {len(sights)}" if sights else "a photo without a face"
            raise ImageError(f"expected face {face} of a photo; received {found}")
        sight = sights[face - 1]
        return explain(self.model, sight.crop, emotion or sight.face.emotion)

    def detect(self, photo: Photo) -> list[Detection]:
        """Return the faces found in a photo, not read yet, left to right, in its full size."""
        found = self.detector.detect(photo.pixels)
        return [replace(each, box_xywh=photo.at_full_size(each.box_xywh)) for each in found]

    def look(
        self, image: PhotoLike, detections: Sequence[Detection] | None = None
    ) -> tuple[Sight, ...]:
        """Return the faces of a photo, each with what the model saw of it.

        Those of `recognize`, or those of `detections`, in pixels of the full size.
        """
        photo = open_photo(image)
        found = self._find(photo) if detections is None else self._crop(photo, detections)
        return self._classify([found])[0]

    def _recognize(
        self, named: Iterable[tuple[str, Any]], errors: OnError, keeps_photos: bool
    ) -> Recognitions:
        if errors not in ("raise", "keep"):
            raise ValueError(f'expected errors="raise" or errors="keep"; received {errors!r}')
        looked = [self._look(place, image, errors, keeps_photos) for place, image in named]
        read = self._classify([found for _, found in looked])
        return Recognitions(
            Recognition((sight.face for sight in sights), origin)
            for (origin, _), sights in zip(looked, read, strict=True)
        )

    def _look(
        self, place: str, image: Any, errors: OnError, keeps_photo: bool
    ) -> tuple[Origin, list[Found]]:
        """Return where the faces of a photo come from, and what was found; its pixels go."""
        model, name = self.model, name_of(image)
        origin = Origin(name or place or "photo", model.class_names, model.name, model.sha256)
        try:
            held = lasting(image)
            photo = open_photo(held)
            found = self._find(photo)
        except ImageError as error:
            if errors == "keep":
                return replace(origin, problem=str(error)), []
            if not place and (not name or name in str(error)):
                raise
            where = ", ".join(filter(None, (place, name)))
            raise type(error)(f"{where}: {error}") from error
        origin = replace(origin, size_wh=photo.size_wh, photo=held)
        return origin if keeps_photo else origin.travelling(), found

    def _find(self, photo: Photo) -> list[Found]:
        return self._crop(photo, self.detect(photo))

    def _crop(self, photo: Photo, detections: Sequence[Detection]) -> list[Found]:
        found = []
        for detection in detections:
            pixels, box_xywh = photo.showing(detection.box_xywh, LEAST_SIDE_PX)
            crop = crop_face(pixels, box_xywh, roll_degrees=detection.roll_degrees)
            notes = quality_notes(crop, detection.box_xywh, photo.size_wh)
            found.append((detection, crop, notes))
        return found

    def _classify(self, photos: Sequence[Sequence[Found]]) -> tuple[tuple[Sight, ...], ...]:
        """Return the faces of photos, all classified in one batch."""
        crops = [crop for found in photos for _, crop, _ in found]
        answers = iter(self.model.answer(np.stack(crops)) if crops else ())

        def sight(found: Found) -> Sight:
            detection, crop, notes = found
            values = next(answers).astype(float)
            values /= values.sum()
            chances = dict(zip(self.model.class_names, values.tolist(), strict=True))
            said = self.thresholds.met_by(values), self.thresholds.agreement(values)
            return Sight(Face(detection.box_xywh, detection.score, chances, notes, *said), crop)

        return tuple(tuple(map(sight, found)) for found in photos)
