"""Read fer2013.csv, the form in which FER2013 was published (Goodfellow et al. 2013)."""

from pathlib import Path

import numpy as np

from emotion.errors import DatasetError
from emotion.labels import EMOTIONS, FER2013_CODES
from emotion.training.data.dataset import IMAGE_SIDE, Dataset

CSV_SPLITS = {"Training": "train", "PublicTest": "test", "PrivateTest": "private_test"}
CSV_COLUMNS = ("emotion", "pixels", "Usage")
LABELS = {str(code): EMOTIONS.index(name) for code, name in enumerate(FER2013_CODES)}
GREY_VALUES = {str(value) for value in range(256)}


def read_csv(path: Path) -> Dataset:
    """Read fer2013.csv; bad rows are skipped. Raises DatasetError where no row can be used."""
    found, unreadable = [], []
    with path.open("rb") as file:
        header = file.readline(10_000).decode("utf-8-sig", errors="replace").strip()
        head = [name.strip(' "') for name in header.split(",")]
        if not set(CSV_COLUMNS).issubset(head):
            raise DatasetError(
                f"expected the columns {', '.join(CSV_COLUMNS)} in {path}; "
                f"received {', '.join(head)[:200] or 'an empty first line'}"
            )
        columns = [head.index(name) for name in CSV_COLUMNS]
        for number, line in enumerate(filter(bytes.strip, file), start=2):
            fields = [field.strip(b' "\r\n') for field in line.split(b",")]
            code, pixels, usage = (fields[c] if c < len(fields) else b"" for c in columns)
            code, usage = code.decode(errors="replace"), usage.decode(errors="replace")
            name = f"{path.name} row {number}"
            try:
                image = np.fromstring(pixels, np.int64, sep=" ")
            except ValueError:
                image = np.empty(0)
            is_image = image.size == IMAGE_SIDE**2 and image.min() >= 0 and image.max() <= 255
            if is_image and code in LABELS and usage in CSV_SPLITS:
                image = image.astype(np.uint8).reshape(IMAGE_SIDE, IMAGE_SIDE)
                found.append((image, LABELS[code], CSV_SPLITS[usage], name))
                continue
            values = pixels.decode(errors="replace").split()
            bad = [value for value in values if value not in GREY_VALUES]
            example = f", {bad[0][:20]!r} among them," if bad else ""
            unreadable.append(
                f"{name}: expected an emotion from 0 to 6, {IMAGE_SIDE**2} pixels from 0 to 255, "
                f"and a Usage among {', '.join(CSV_SPLITS)}; received {code[:20]!r}, "
                f"{len(values)} values{example} and {usage[:20]!r}"
            )
    if not found:
        reason = f"none can be used ({unreadable[0]})" if unreadable else "there is only a header"
        raise DatasetError(f"expected rows of pixels in {path}; {reason}")
    images, labels, splits, names = zip(*found, strict=True)
    return Dataset(
        images=np.stack(images),
        labels=np.array(labels, dtype=np.int64),
        splits=np.array(splits, dtype="U16"),
        class_names=EMOTIONS,
        unreadable=tuple(unreadable),
        names=np.array(names),
        sizes_wh=np.full((len(names), 2), IMAGE_SIDE, dtype=np.int32),
    )


def csv_row_index(names: np.ndarray) -> np.ndarray:
    """Return which row of pixels each image of a csv was, counted from 0, from `Dataset.names`."""
    return np.array([int(name.rpartition(" ")[2]) - 2 for name in names], dtype=np.int64)
