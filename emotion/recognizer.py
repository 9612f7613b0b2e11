"""The one pipeline: a photo -> detect -> crop -> classify -> faces."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from emotion.faces import CROP_SIDE_PX, Detection, FaceDetector, crop_face
from emotion.images import Photo
from emotion.machine import available_cpus
from emotion.model import EmotionModel, load_model
from emotion.quality import quality_notes
from emotion.results import Face, read_thresholds

DEFAULT_MODEL = Path(__file__).resolve().parent.parent / "models" / "detection_model"

LEAST_SIDE_PX = 2 * CROP_SIDE_PX
"""A face with fewer pixels in a photo of reduced scale is cropped from the full size: from so many
on, the two crops differ by about one grey level of 255."""


class Detector(Protocol):
    """Finds faces: `emotion.faces.FaceDetector`, or another such as `emotion.yunet`'s."""

    def detect(self, image: np.ndarray) -> tuple[Detection, ...]:
        """Return the faces of a photo, (H, W, 3) uint8 RGB, left to right."""


@dataclass(frozen=True)
class Sight:
    """A face and what the model saw of it, (48, 48, 1) float32 in [0, 1]."""

    face: Face
    crop: np.ndarray


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
    def load(cls, stem: Path = DEFAULT_MODEL, detector: Detector | None = None) -> "Recognizer":
        """Return a recognizer with the model at `stem` (see `load_model`).

        Args:
            stem: folder and name of the model's files without suffix.
            detector: what finds the faces; Haar cascades where none is given.
        """
        # OpenCV counts the processors of the machine, not those that its container may use.
        cv2.setNumThreads(min(cv2.getNumThreads(), available_cpus()))
        return cls(load_model(stem), detector)

    def recognize(self, image: np.ndarray | Photo) -> tuple[Face, ...]:
        """Return the faces of a photo, left to right, with boxes in pixels of its full size.

        Args:
            image: a photo, or (H, W, 3) uint8 RGB, upright.
        """
        return self.recognize_many([image])[0]

    def recognize_many(self, images: Sequence[np.ndarray | Photo]) -> tuple[tuple[Face, ...], ...]:
        """Return the faces of each photo; all faces of all photos are classified in one batch."""
        return tuple(tuple(sight.face for sight in seen) for seen in self.look_many(images))

    def look_many(self, images: Sequence[np.ndarray | Photo]) -> tuple[tuple[Sight, ...], ...]:
        """Return the faces of each photo as `recognize_many` does, each with what the model saw."""
        photos = [Photo.of(image) for image in images]
        found = [self._detect(photo) for photo in photos]
        crops = [
            crop_face(
                *photo.showing(detection.box_xywh, LEAST_SIDE_PX),
                roll_degrees=detection.roll_degrees,
            )
            for photo, detections in zip(photos, found, strict=True)
            for detection in detections
        ]
        rows = self.model.answer(np.stack(crops)) if crops else ()
        read = zip(crops, rows, strict=True)
        return tuple(
            tuple(self._sight(detection, *next(read), photo.size_wh) for detection in detections)
            for photo, detections in zip(photos, found, strict=True)
        )

    def _detect(self, photo: Photo) -> tuple[Detection, ...]:
        """Return the faces of a photo, in pixels of its full size."""
        return tuple(
            replace(detection, box_xywh=photo.at_full_size(detection.box_xywh))
            for detection in self.detector.detect(photo.pixels)
        )

    def _sight(
        self, detection: Detection, crop: np.ndarray, row: np.ndarray, photo_wh: tuple[int, int]
    ) -> Sight:
        """Return the face of a detection, of what the model saw of it and of what it answered."""
        values = row.astype(float) / row.astype(float).sum()
        face = Face(
            box_xywh=detection.box_xywh,
            score=detection.score,
            probabilities=dict(zip(self.model.class_names, values.tolist(), strict=True)),
            notes=quality_notes(crop, detection.box_xywh, photo_wh),
            sure=self.thresholds.met_by(values),
        )
        return Sight(face, crop)
