"""What all faces of a set of photos show together."""

from collections.abc import Sequence
from dataclasses import dataclass

from emotion.results import Face


@dataclass(frozen=True)
class EmotionShare:
    """One emotion over many faces.

    Attributes:
        emotion: its name.
        sure: faces whose answer it is.
        unsure: faces for which it is the most probable of several.
        share: sure and unsure together, of all faces, 0 to 1.
        mean_probability: over all faces, 0 to 1.
    """

    emotion: str
    sure: int
    unsure: int
    share: float
    mean_probability: float

    @property
    def faces(self) -> int:
        return self.sure + self.unsure


def summarize(faces: Sequence[Face]) -> tuple[EmotionShare, ...]:
    """Return the share of each emotion, in the order of the classes; () without a face.

    Args:
        faces: of one model or of several; a class that some lack counts 0 for those.
    """
    names = list(dict.fromkeys(name for face in faces for name in face.probabilities))
    return tuple(_share_of(name, faces) for name in names)


def _share_of(name: str, faces: Sequence[Face]) -> EmotionShare:
    """Return the share of one emotion."""
    sure = sum(face.sure and face.emotion == name for face in faces)
    unsure = sum(not face.sure and face.emotion == name for face in faces)
    mean = sum(face.probabilities.get(name, 0) for face in faces) / len(faces)
    return EmotionShare(name, sure, unsure, (sure + unsure) / len(faces), mean)
