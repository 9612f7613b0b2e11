"""How steady labels are on faces that sway, for ways to smooth readings: part of `video.py`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

READINGS_A_SECOND = 10
SECONDS, CHANGE_S, SETTLED_S = 6.0, 3.0, 1.0
SEQUENCES = 80


@dataclass(frozen=True)
class Way:
    """A way to smooth readings: half-life, slack, and whether logarithms are averaged."""

    name: str
    half_life_s: float
    slack: float = 0.0
    by_logarithms: bool = False


WAYS = (
    Way("as read", 1e-9),
    Way("mean, 0.35 s", 0.35),
    Way("mean of logarithms, 0.35 s", 0.35, by_logarithms=True),
    Way("mean, 0.5 s", 0.5),
    Way("mean of logarithms, 0.5 s", 0.5, by_logarithms=True),
    Way("mean, 1 s", 1.0),
    Way("mean, 0.35 s, slack 0.02", 0.35, 0.02),
    Way("mean, 0.35 s, slack 0.05 (the default)", 0.35, 0.05),
    Way("mean, 0.35 s, slack 0.1", 0.35, 0.1),
    Way("mean, 0.2 s, slack 0.05", 0.2, 0.05),
)


def print_flicker(path: Path) -> None:
    """Print how often labels change on faces that do not, and how late on faces that do."""
    from emotion.recognizer import Recognizer

    recognizer = Recognizer.load()
    readings = read_sequences(recognizer, path)
    print(
        f"\nLabels of {len(readings)} pairs of faces (FER2013's PublicTest) that sway, at "
        f"{READINGS_A_SECOND} readings a second; after {CHANGE_S:g} s the other face comes:\n"
    )
    print("| way | changes of label a minute | of label or sureness | delay, s | right label |")
    print("| --- | --- | --- | --- | --- |")
    for way in WAYS:
        smooth = smoothed_by_logarithms if way.by_logarithms else smoothed
        answers = np.array([list(smooth(way, rows)) for rows in readings])
        cells = flicker_figures(readings, answers, recognizer.thresholds)
        print("| " + " | ".join([way.name, *cells]) + " |")


def read_sequences(recognizer, path: Path) -> np.ndarray:
    """Return what is read on pairs of faces, (pairs, readings, classes)."""
    import pandas as pd

    table = pd.read_csv(path)
    rows = table[table["Usage"] == "PublicTest"].sample(2 * SEQUENCES, random_state=0)
    tiles = [np.array(text.split(), np.uint8).reshape(48, 48) for text in rows["pixels"]]
    generator = np.random.default_rng(0)
    films = [film_of(pair, generator) for pair in zip(tiles[::2], tiles[1::2], strict=True)]
    crops = np.concatenate(films).astype(np.float32)[..., np.newaxis] / 255
    answers = recognizer.model.answer(crops).astype(float)
    return answers.reshape(SEQUENCES, -1, answers.shape[1])


def film_of(pair: Sequence[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """Return crops of a swaying face, (N, 48, 48): its head moves slowly, the box trembles."""
    count = round(SECONDS * READINGS_A_SECOND)
    slow, quick = wander(generator, count, 0.5), wander(generator, count, 0.03)
    shifts = 1.0 * slow[:2] + 0.75 * quick[:2]
    scales = np.exp(0.03 * slow[2] + 0.03 * quick[2])
    turns_degrees, lights = 4 * slow[3], 1 + 0.08 * slow[4] + 0.05 * quick[4]
    crops = []
    for step in range(count):
        tile = pair[int(step >= CHANGE_S * READINGS_A_SECOND)]
        move = cv2.getRotationMatrix2D((23.5, 23.5), turns_degrees[step], scales[step])
        move[:, 2] += shifts[:, step]
        crop = cv2.warpAffine(tile, move, (48, 48), borderMode=cv2.BORDER_REPLICATE)
        crops.append(crop * lights[step] + generator.normal(0, 4, crop.shape))
    return np.clip(crops, 0, 255).astype(np.uint8)


def wander(generator: np.random.Generator, count: int, memory_s: float) -> np.ndarray:
    """Return five courses about 0 of standard deviation 1 that forget within a time."""
    kept = np.exp(-1 / (READINGS_A_SECOND * memory_s))
    steps = generator.normal(size=(5, count))
    course = steps.copy()
    for number in range(1, count):
        course[:, number] = kept * course[:, number - 1] + np.sqrt(1 - kept**2) * steps[:, number]
    return course


def smoothed(way: Way, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the answer after each reading of a sequence."""
    from emotion.faces import Face
    from emotion.video.following import Answer

    answer = Answer(way.half_life_s, way.slack)
    for number, values in enumerate(rows):
        names = map(str, range(len(values)))
        face = Face((0, 0, 1, 1), 1.0, dict(zip(names, values / values.sum(), strict=True)))
        answer.add(face, number / READINGS_A_SECOND)
        yield np.array(list(answer.probabilities.values()))


def smoothed_by_logarithms(way: Way, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the same where the logarithms of probabilities are averaged."""
    share = 0.5 ** (1 / READINGS_A_SECOND / way.half_life_s)
    total, weight = 0.0, 0.0
    for values in rows:
        total = share * total + np.log(np.maximum(values, 1e-6))
        weight = share * weight + 1
        powers = np.exp(total / weight)
        yield powers / powers.sum()


def flicker_figures(readings: np.ndarray, answers: np.ndarray, thresholds) -> list[str]:
    """Return changes a minute of label and of verdict, delay, and share of right labels.

    The right label of a half is that of the mean of all its readings.
    """
    change, wait = (round(time_s * READINGS_A_SECOND) for time_s in (CHANGE_S, SETTLED_S))
    halves = readings[:, wait:change].mean(axis=1), readings[:, change:].mean(axis=1)
    right = [half.argmax(axis=1) for half in halves]
    labels = answers.argmax(axis=2)
    sure = np.array([[thresholds.met_by(row) for row in rows] for rows in answers])
    settled = slice(wait, change), slice(change + 2 * wait, None)
    minutes = sum(labels[:, part].shape[1] - 1 for part in settled) * len(labels)
    minutes /= READINGS_A_SECOND * 60
    moves = np.diff(labels, axis=1) != 0
    either = moves | (np.diff(sure.astype(int), axis=1) != 0)
    counts = [
        sum(int(changed[:, part.start : (part.stop or 10**6) - 1].sum()) for part in settled)
        for changed in (moves, either)
    ]
    late = [
        np.argmax(np.append(row[change:] == label, True)) / READINGS_A_SECOND
        for row, label, first in zip(labels, right[1], right[0], strict=True)
        if label != first
    ]
    fits = np.mean(
        [(labels[:, p] == r[:, None]).mean() for p, r in zip(settled, right, strict=True)]
    )
    return [*(f"{count / minutes:.1f}" for count in counts), f"{np.mean(late):.2f}", f"{fits:.1%}"]
