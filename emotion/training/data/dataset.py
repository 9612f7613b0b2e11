"""Labelled faces, as every layout on a disk becomes them."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from emotion.detection.crop import CROP_SIDE_PX

IMAGE_SIDE = CROP_SIDE_PX
COLUMNS = ("images", "labels", "splits", "votes", "names", "groups", "sizes_wh", "twins")
"""The attributes of a `Dataset` that have a row an image."""

Progress = Callable[[int, int], None]
"""Called with how many images are done, and of how many."""


@dataclass(frozen=True)
class Dataset:
    """Labelled faces, each in one split.

    Attributes:
        images: (N, 48, 48) uint8, grey.
        labels: (N,) int64, an index into `class_names`.
        splits: (N,) str: "train", "validation", "test" or "private_test"; "" where the data brings
            no splits and none were made yet.
        class_names: the classes in output order.
        votes: (N, classes) float32, shares of what people voted for each image, or None. What they
            are depends on `votes_as`, see `emotion.training.data.votes`; else zeros.
        unreadable: the files or rows that were skipped, each with its reason.
        notes: lines for a person: what was left out on purpose, and why.
        names: (N,) str, where each image comes from: "train/happy/1.jpg" or "fer2013.csv row 17".
        groups: (N,) str, the person on the image; "" where that is not known.
        sizes_wh: (N, 2) int32, width and height in pixels before the image was made 48x48.
        twins: (N,) bool, set by `remove_leaks`: test images that also stand in the training data.
    """

    images: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    class_names: tuple[str, ...]
    votes: np.ndarray | None = None
    unreadable: tuple[str, ...] = ()
    names: np.ndarray | None = None
    groups: np.ndarray | None = None
    sizes_wh: np.ndarray | None = None
    twins: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, mask: np.ndarray) -> "Dataset":
        """Return the images for which `mask` (bool, (N,)) holds."""
        columns = {name: getattr(self, name) for name in COLUMNS}
        kept = {name: column[mask] for name, column in columns.items() if column is not None}
        return replace(self, **kept)

    def split(self, name: str) -> "Dataset":
        """Return the images of one split."""
        return self.where(self.splits == name)

    def split_names(self) -> tuple[str, ...]:
        """Return the names of the splits that have images, training first."""
        order = ("train", "validation", "test", "private_test")
        return tuple(name for name in order if (self.splits == name).any())

    def noting(self, *lines: str) -> "Dataset":
        """Return the dataset with more notes."""
        return replace(self, notes=(*self.notes, *lines))

    def fingerprint(self) -> str:
        """Return a SHA-256 over images, labels, splits, votes and class names, in hexadecimal."""
        digest = hashlib.sha256("\n".join(self.class_names).encode())
        columns = (self.images, self.labels, self.splits.astype("S16"), self.votes)
        for column in columns:
            if column is not None:
                digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()
