"""Read fer2013.csv, the form in which FER2013 was published."""

import re
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np

from emotion.errors import DatasetError
from emotion.labels import EMOTIONS, FER2013_CODES
from emotion.training.data.dataset import IMAGE_SIDE, Dataset

CSV_SPLITS = {"Training": "train", "PublicTest": "test", "PrivateTest": "private_test"}
CSV_COLUMNS = ("emotion", "pixels", "Usage")
ROWS_AT_ONCE = 64


def read_csv(path: Path) -> Dataset:
    """Read fer2013.csv: a label, 2,304 grey values and a usage a row; bad rows are skipped.

    Raises:
        DatasetError: the header lacks a column, or no row can be used.
    """
    images, labels, splits, rows, unreadable = [], [], [], [], []
    with path.open("rb") as file:
        header = file.readline(10_000).decode("utf-8-sig", errors="replace").strip()
        names = [name.strip(' "') for name in header.split(",")]
        if any(name not in names for name in CSV_COLUMNS):
            raise DatasetError(
                f"expected the columns {', '.join(CSV_COLUMNS)} in {path}; "
                f"received {', '.join(names)[:200] if header else 'an empty first line'}"
            )
        columns = [names.index(name) for name in CSV_COLUMNS]

        def pick(line: bytes) -> tuple[bytes, ...]:
            fields = [field.strip(b' "\r\n') for field in line.split(b",")]
            return tuple(fields[column] if column < len(fields) else b"" for column in columns)

        numbered = enumerate((pick(line) for line in file if line.strip()), start=2)
        while chunk := list(islice(numbered, ROWS_AT_ONCE)):
            pixels, reasons = _parse_rows([fields for _, fields in chunk])
            for (number, (code, _, usage)), image, reason in zip(
                chunk, pixels, reasons, strict=True
            ):
                if reason:
                    unreadable.append(f"{path.name} row {number}: {reason}")
                    continue
                images.append(image)
                labels.append(EMOTIONS.index(FER2013_CODES[int(code)]))
                splits.append(CSV_SPLITS[usage.decode()])
                rows.append(number)
    if not images:
        reason = f"none can be used ({unreadable[0]})" if unreadable else "there is only a header"
        raise DatasetError(f"expected rows of pixels in {path}; {reason}")
    return Dataset(
        images=np.stack(images),
        labels=np.array(labels, dtype=np.int64),
        splits=np.array(splits, dtype="U16"),
        class_names=EMOTIONS,
        unreadable=tuple(unreadable),
        names=np.array([f"{path.name} row {number}" for number in rows]),
        sizes_wh=np.full((len(rows), 2), IMAGE_SIDE, dtype=np.int32),
    )


def _parse_rows(fields: list[tuple[bytes, ...]]) -> tuple[Iterable, list[str]]:
    """Return the image of each row, None where it has none, and what is wrong with it or ""."""
    reasons = [""] * len(fields)
    for index, (code, _, usage) in enumerate(fields):
        code, usage = code.decode(errors="replace"), usage.decode(errors="replace")
        if code not in map(str, range(len(FER2013_CODES))) or usage not in CSV_SPLITS:
            reasons[index] = (
                f"expected an emotion from 0 to 6 and a Usage among {', '.join(CSV_SPLITS)}; "
                f"received {code[:20]!r} and {usage[:20]!r}"
            )
    pixels = _parse_pixels([row[1] for row in fields]) if not any(reasons) else None
    if pixels is not None:
        return pixels, reasons
    images = []
    for index, (_, text, _) in enumerate(fields):
        one = None if reasons[index] else _parse_pixels([b" ".join(text.split())])
        images.append(None if one is None else one[0])
        if one is None and not reasons[index]:
            values = text.decode(errors="replace").split()
            bad = [v for v in values if not re.fullmatch("[0-9]{1,3}", v) or int(v) > 255]
            example = f", {bad[0][:20]!r} among them" if bad else ""
            reasons[index] = (
                f"expected {IMAGE_SIDE**2} pixels between 0 and 255; received {len(values)} "
                f"values{example}"
            )
    return images, reasons


def _parse_pixels(texts: list[bytes]) -> np.ndarray | None:
    """Return (rows, 48, 48) uint8 of texts with 2,304 numbers each, one space between them.

    The digits are added up for all rows at once, which is several times faster than to convert
    number by number. None where any text holds anything else.
    """
    count = IMAGE_SIDE**2
    characters = np.frombuffer(b" ".join(texts) + b" ", dtype=np.uint8)
    digits = characters - np.uint8(ord("0"))
    ends = np.flatnonzero(characters == ord(" "))
    row_ends = np.cumsum([len(text) + 1 for text in texts]) - 1
    if len(ends) != count * len(texts) or (ends[count - 1 :: count] != row_ends).any():
        return None
    lengths = np.diff(ends, prepend=-1) - 1
    if (
        lengths.min() < 1
        or lengths.max() > 3
        or np.count_nonzero(digits < 10) != digits.size - ends.size
    ):
        return None
    values = digits[ends - 1].astype(np.uint16)
    values += np.where(lengths > 1, digits[ends - 2], 0) * np.uint16(10)
    values += np.where(lengths > 2, digits[ends - 3], 0) * np.uint16(100)
    if values.max() > 255:
        return None
    return values.astype(np.uint8).reshape(len(texts), IMAGE_SIDE, IMAGE_SIDE)


def csv_row_index(names: np.ndarray) -> np.ndarray:
    """Return which row of pixels each image of a csv was, counted from 0, from `Dataset.names`."""
    return np.array([int(name.rpartition(" ")[2]) - 2 for name in names], dtype=np.int64)
