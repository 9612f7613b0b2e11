"""The one pipeline: a photo -> detect -> crop -> classify -> faces."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emotion.faces import Detection, FaceDetector, crop_face
from emotion.model import EmotionModel, load_model
from emotion.results import Face

DEFAULT_MODEL = Path(__file__).resolve().parent.parent / "models" / "detection_model"
SMALL_FACE_SIDE = 48


class Recognizer:
    """Finds every face of a photo and reads its emotion; safe to share between threads."""

    def __init__(self, model: EmotionModel, detector: FaceDetector | None = None):
        self.model = model
        self.detector = detector or FaceDetector()

    @classmethod
    def load(cls, stem: Path = DEFAULT_MODEL) -> "Recognizer":
        """Return a recognizer with the model at `stem` (see `load_model`)."""
        return cls(load_model(stem))

    def recognize(self, image: np.ndarray) -> tuple[Face, ...]:
        """Return the faces of a photo, left to right.

        Args:
            image: (H, W, 3) uint8 RGB, upright.
        """
        return self.recognize_many([image])[0]

    def recognize_many(self, images: Sequence[np.ndarray]) -> tuple[tuple[Face, ...], ...]:
        """Return the faces of each photo; all faces of all photos are classified in one batch."""
        found = [self.detector.detect(image) for image in images]
        crops = [
            crop_face(image, detection.box_xywh)
            for image, detections in zip(images, found, strict=True)
            for detection in detections
        ]
        rows = iter(self.model.predict(np.stack(crops)) if crops else ())
        return tuple(
            tuple(self._face(detection, next(rows)) for detection in detections)
            for detections in found
        )

    def _face(self, detection: Detection, row: np.ndarray) -> Face:
        """Return the face of a detection and its row of probabilities."""
        values = row.astype(float) / row.astype(float).sum()
        return Face(
            box_xywh=detection.box_xywh,
            score=detection.score,
            probabilities=dict(zip(self.model.class_names, values.tolist(), strict=True)),
            notes=quality_notes(detection.box_xywh),
        )


def quality_notes(box_xywh: tuple[int, int, int, int]) -> tuple[str, ...]:
    """Return what may make the answer unreliable, in words for the person."""
    side = min(box_xywh[2:])
    if side < SMALL_FACE_SIDE:
        return (f"small: {side} pixels wide; a face of {SMALL_FACE_SIDE} or more reads better",)
    return ()
