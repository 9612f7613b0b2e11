"""The one pipeline: a photo -> detect -> crop -> classify -> faces."""

from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, overload

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
from emotion.model.runtime import EmotionModel, load_model
from emotion.notebook import Origin, Recognition, Recognitions
from emotion.quality import quality_notes

DEFAULT_MODEL = models_folder() / "detection_model"

LEAST_SIDE_PX = 2 * CROP_SIDE_PX
"""A face with fewer pixels in a photo of reduced scale is cropped from the full size: from so many
on, the two crops differ by about one grey level of 255."""


MODEL_SUFFIXES = (".card.json", ".onnx.json", ".json", ".h5", ".onnx")
"""The ends of a model's files, any of which may be given for all of them."""

ONE_PHOTO = "photo"
"""What a single photo without a name is called."""

OnError: TypeAlias = Literal["raise", "keep"]
"""What becomes of a photo that cannot be read: an error, or a result that says why."""


class Detector(Protocol):
    """Finds faces: `FaceDetector` of `emotion.detection.haar`, or another such as YuNet's."""

    def detect(self, image: npt.NDArray[np.uint8]) -> Sequence[Detection]:
        """Return the faces of a photo, (H, W, 3) uint8 RGB, left to right."""


@dataclass(frozen=True)
class Sight:
    """A face and what the model saw of it, (48, 48, 1) float32 in [0, 1]."""

    face: Face
    crop: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Found:
    """The faces that were found in a photo, before they are read; its pixels are let go.

    Attributes:
        size_wh: width and height in pixels of the upright photo.
        detections: the faces, in pixels of its full size.
        crops: what the model is to see of each, (48, 48, 1) float32 in [0, 1].
    """

    size_wh: tuple[int, int]
    detections: tuple[Detection, ...] = ()
    crops: tuple[npt.NDArray[np.float32], ...] = ()


class Recognizer:
    """Finds every face of a photo and reads its emotion; safe to share between threads."""

    def __init__(self, model: EmotionModel, detector: Detector | None = None):
        """Put a model and a detector together; Haar cascades where no detector is given.

        Raises:
            ModelError: the model's card says in no usable way when an answer is sure.
        """
        self.model = model
        self.detector = detector or FaceDetector()
        self.thresholds = read_thresholds(model.card)

    @classmethod
    def load(
        cls, model: str | Path = DEFAULT_MODEL, detector: Detector | None = None
    ) -> "Recognizer":
        """Return a recognizer with a model from its files (see `load_model`).

        Args:
            model: folder and name of the model's files; a suffix such as .h5 may stand behind it.
            detector: what finds the faces; Haar cascades where none is given.

        Raises:
            ModelError: a file is missing or damaged, or the files disagree.
        """
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
            errors: "raise" an error for a photo that cannot be read, or "keep" it as a result
                without faces whose `problem` says why.

        Raises:
            ImageError: a photo cannot be read.
        """
        if holds_many(image):
            return self.recognize_many(image, errors=errors)
        return self._recognize([(ONE_PHOTO, image)], errors, keeps_photos=True)[0]

    def recognize_many(
        self, images: Iterable[PhotoLike], *, errors: OnError = "raise"
    ) -> Recognitions:
        """Return the faces of each photo, in their order.

        Photos are read one after another, and all their faces are classified in one batch. Those of
        an iterator are let go at once, so that there may be more than fit into memory; but for
        paths, their results cannot draw them any more.

        Args:
            images: photos, each as for `recognize`.
            errors: as for `recognize`; what is raised names the photo's position, `images[3]`.

        Raises:
            ImageError: a photo cannot be read, or there is one photo in place of many.
        """
        check_many(images)
        named = ((f"images[{position}]", image) for position, image in enumerate(images))
        return self._recognize(named, errors, keeps_photos=isinstance(images, Sized))

    def explain(self, image: PhotoLike, face: int = 1, emotion: str | None = None) -> Explanation:
        """Return which parts of a face spoke for its emotion, checked by hiding them.

        Args:
            image: a photo, as for `recognize`.
            face: number of the face, from 1, as in pictures and tables.
            emotion: a class of the model; without it, the one that it answered.

        Raises:
            ImageError: the photo cannot be read, or has no such face.
            ModelError: the model does not know the class.
        """
        (sights,) = self.look_many([image])
        if not 1 <= face <= len(sights):
            found = f"a photo with {len(sights)}" if sights else "a photo without a face"
            raise ImageError(f"expected face {face} of a photo; received {found}")
        sight = sights[face - 1]
        return explain(self.model, sight.crop, emotion or sight.face.emotion)

    def look_many(self, images: Iterable[PhotoLike]) -> tuple[tuple[Sight, ...], ...]:
        """Return the faces of each photo as `recognize_many` does, each with what the model saw."""
        return self._read([self._find(open_photo(image)) for image in images])

    def read_faces(self, image: PhotoLike, detections: Sequence[Detection]) -> tuple[Face, ...]:
        """Return the faces that were found in a photo before, all classified in one batch.

        Args:
            image: a photo, as for `recognize`.
            detections: the faces, in pixels of its full size.
        """
        (sights,) = self._read([self._find(open_photo(image), detections)])
        return tuple(sight.face for sight in sights)

    def _recognize(
        self, named: Iterable[tuple[str, Any]], errors: OnError, keeps_photos: bool
    ) -> Recognitions:
        """Return the faces of photos, each with what it is called where it has no name."""
        if errors not in ("raise", "keep"):
            raise ValueError(f'expected errors="raise" or errors="keep"; received {errors!r}')
        opened = [self._open(place, image, errors, keeps_photos) for place, image in named]
        seen = self._read([found for _, found in opened])
        return Recognitions(
            Recognition((sight.face for sight in sights), origin)
            for (origin, _), sights in zip(opened, seen, strict=True)
        )

    def _open(
        self, place: str, image: Any, errors: OnError, keeps_photo: bool
    ) -> tuple[Origin, Found]:
        """Return where the faces of a photo come from, and what was found; its pixels go."""
        model, name = self.model, name_of(image)
        origin = Origin(name or place, model.class_names, model.name, model.sha256)
        try:
            held = lasting(image)
            photo = open_photo(held)
            found = self._find(photo)
        except ImageError as error:
            if errors == "raise":
                raise _at_place(error, place, name) from error
            return replace(origin, problem=str(error)), Found((0, 0))
        origin = replace(origin, size_wh=photo.size_wh, photo=held)
        return origin if keeps_photo else origin.travelling(), found

    def _find(self, photo: Photo, detections: Sequence[Detection] | None = None) -> Found:
        """Return the faces of a photo and their crops; those given, or else those detected."""
        if detections is None:
            detections = tuple(
                replace(detection, box_xywh=photo.at_full_size(detection.box_xywh))
                for detection in self.detector.detect(photo.pixels)
            )
        crops = tuple(
            crop_face(
                *photo.showing(detection.box_xywh, LEAST_SIDE_PX),
                roll_degrees=detection.roll_degrees,
            )
            for detection in detections
        )
        return Found(photo.size_wh, tuple(detections), crops)

    def _read(self, photos: Sequence[Found]) -> tuple[tuple[Sight, ...], ...]:
        """Return the faces of photos, all classified in one batch."""
        crops = [crop for found in photos for crop in found.crops]
        answers = iter(self.model.answer(np.stack(crops)) if crops else ())
        return tuple(
            tuple(
                self._sight(detection, crop, next(answers), found.size_wh)
                for detection, crop in zip(found.detections, found.crops, strict=True)
            )
            for found in photos
        )

    def _sight(
        self, detection: Detection, crop: np.ndarray, answer: np.ndarray, photo_wh: tuple[int, int]
    ) -> Sight:
        """Return a face, and what the model saw of it."""
        values = answer.astype(float) / answer.astype(float).sum()
        face = Face(
            box_xywh=detection.box_xywh,
            score=detection.score,
            probabilities=dict(zip(self.model.class_names, values.tolist(), strict=True)),
            notes=quality_notes(crop, detection.box_xywh, photo_wh),
            sure=self.thresholds.met_by(values),
        )
        return Sight(face, crop)


def stem_of(model: str | Path) -> Path:
    """Return folder and name of a model's files from these or from the path of any of them."""
    path = Path(model)
    ends = [suffix for suffix in MODEL_SUFFIXES if path.name.endswith(suffix)]
    return path.with_name(path.name.removesuffix(ends[0])) if ends else path


def _at_place(error: ImageError, place: str, name: str | None) -> ImageError:
    """Return an error that also says which photo it is about: its place among many, its name."""
    is_one = place == ONE_PHOTO
    if is_one and (name is None or name in str(error)):
        return error
    where = [part for part in (None if is_one else place, name) if part is not None]
    return type(error)(f"{', '.join(where)}: {error}")
