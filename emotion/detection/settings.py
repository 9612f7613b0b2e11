"""Every number of the search for faces, and the file of the other detector; no OpenCV here."""

from dataclasses import dataclass
from pathlib import Path

from emotion.errors import ModelError
from emotion.files import models_folder

NETWORK_FILE = "face_detection_yunet_2026may.onnx"
EXPECTED_NETWORK = f"{NETWORK_FILE} of OpenCV's model zoo (models/face_detection_yunet)"


@dataclass(frozen=True)
class DetectorSettings:
    """The defaults measured best (`benchmarks/face_detection.md`); at a logit of 0 all is open."""

    smallest_face_share: float = 0.04  # smallest face, as a share of the photo's short side
    smallest_face_px: int = 16  # and in pixels of the photo
    small_beside_px: int = 48  # smaller faces are not looked for beside one of more than twice this
    place_threshold: float = -1.0  # lowest logit of a place that is looked at
    refiner_threshold: float = -1.0  # lowest logit at a look at low resolution
    likely_from: float = 0.0  # the same beside a face that is sure at the first look
    first_threshold: float = -2.0  # lowest logit at the first look
    sure_from: float = 9.0  # logit of the first look from which an upright face needs no second
    doubt: tuple[float, float] = (-1.0, 4.0)  # logits of the second look that ask for a third
    cascade_step: float = 1.1  # factor from one size of faces that a cascade tries to the next
    face_threshold: float = 2.0  # lowest logit of a face, with what the cascades add


def yunet_file(named: Path | None = None) -> Path:
    """Return the network's file: the one named, else the newest in models/. Raises ModelError."""
    found = [named] if named else sorted(models_folder().glob("face_detection_yunet*.onnx"))
    if found:
        return found[-1]
    raise ModelError(
        f"expected {EXPECTED_NETWORK} in {models_folder()}; found none: put it there or name it"
    )
