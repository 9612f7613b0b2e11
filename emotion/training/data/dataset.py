"""Labelled faces, as every layout on a disk becomes them."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from emotion.detection.crop import CROP_SIDE_PX

IMAGE_SIDE = CROP_SIDE_PX
TEST_SPLITS = ("test", "private_test")


@dataclass(frozen=True)
class Dataset:
    """Labelled faces, each in one split; every array has a row an image."""

    images: np.ndarray  # (N, 48, 48) uint8, grey
    labels: np.ndarray  # (N,) int64, an index into `class_names`
    splits: np.ndarray  # (N,) str: "train", "validation", "test", "private_test"; "" before a split
    class_names: tuple[str, ...]  # in output order
    votes: np.ndarray | None = None  # (N, classes) float32, shares as in `votes`; zeros: no votes
    unreadable: tuple[str, ...] = ()  # files or rows that were skipped, each with its reason
    names: np.ndarray | None = None  # (N,) str: "train/happy/1.jpg" or "fer2013.csv row 17"
    groups: np.ndarray | None = None  # (N,) str, the person on the image; "" where not known
    sizes_wh: np.ndarray | None = None  # (N, 2) int32, in pixels before the image was made 48x48
    twins: np.ndarray | None = None  # (N,) bool, test images that also stand in the training data
    notes: tuple[str, ...] = ()  # what was left out on purpose, and why

    def __len__(self) -> int:
        return len(self.labels)

    def columns(self) -> dict[str, np.ndarray]:
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    def where(self, mask: np.ndarray) -> "Dataset":
        """Return the images for which `mask` (bool, (N,)) holds."""
        return replace(self, **{name: column[mask] for name, column in self.columns().items()})

    def split(self, name: str) -> "Dataset":
        return self.where(self.splits == name)

    def split_names(self) -> tuple[str, ...]:
        """Return the names of the splits that have images, training first."""
        order = ("train", "validation", *TEST_SPLITS)
        return tuple(name for name in order if (self.splits == name).any())

    def noting(self, *lines: str) -> "Dataset":
        return replace(self, notes=(*self.notes, *lines))

    def fingerprint(self) -> str:
        """Return a SHA-256 over images, labels, splits, votes and class names, in hexadecimal."""
        digest = hashlib.sha256("\n".join(self.class_names).encode())
        for column in (self.images, self.labels, self.splits.astype("S16"), self.votes):
            if column is not None:
                digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()
