"""Whether heat maps are earned: how far answers fall when what spoke for them is hidden.

For each FER2013 tile and each way to make the map, the fifth of the face with the most heat is
hidden together, and for comparison as much elsewhere at random, the fifth with the least heat, and
the fifth that has the most heat on another face. Run by hand:

    python benchmarks/explanations.py --dataset fer2013.csv --split test --count 200
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from crop_margin import options_parser, read_tiles

from emotion.explain import (
    PATCH_PX,
    STRIDE_PX,
    cover,
    explain,
    log_odds,
    parts_elsewhere,
    patch_masks,
    spread,
    strongest_parts,
)
from emotion.model.runtime import EmotionModel, load_model

INPAINT_RADIUS_PX = 3


@dataclass(frozen=True)
class Way:
    """One way to make the map."""

    filling: str
    patch_px: int
    stride_px: int


WAYS = (
    Way("blur", PATCH_PX, STRIDE_PX),
    Way("mean", PATCH_PX, STRIDE_PX),
    Way("inpainted", PATCH_PX, STRIDE_PX),
    Way("blur", 12, 6),
    Way("blur", 12, 4),
    Way("blur", 16, 8),
)


def main() -> None:
    parser = options_parser(__doc__)
    parser.add_argument(
        "--compared", type=int, default=40, help="tiles to compare ways on; 0: none"
    )
    options = parser.parse_args()
    tiles, _ = read_tiles(options)
    model = load_model(options.model)
    crops = tiles[..., None].astype(np.float32) / 255
    print(f"{len(crops)} tiles of the split {options.split}")
    print_explanations(model, crops)
    if options.compared > 0:
        print_ways(model, crops[: options.compared])


def print_ways(model: EmotionModel, crops: np.ndarray) -> None:
    """Print a table of the ways, each checked by hiding with a blur and with a flat grey."""
    pairs = list(zip(crops, model.predict(crops).argmax(axis=1), strict=True))
    print(
        "\n| filling | patch, stride | passes | strongest hidden | elsewhere | weakest | "
        "another face's | lower than elsewhere | with flat grey: strongest | elsewhere |\n"
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )
    for way in WAYS:
        masks = patch_masks(way.patch_px, way.stride_px)
        hide = FILLINGS[way.filling]
        heats = [heat_map(model, crop, top, masks, hide) for crop, top in pairs]
        blurred, greyed = (
            np.array(list(scores(model, pairs, heats, FILLINGS[name]))) for name in ("blur", "mean")
        )
        cells = [f"{value:.3f}" for value in blurred.mean(axis=0)]
        cells += [f"{(blurred[:, 0] < blurred[:, 1]).mean():.1%}"]
        cells += [f"{value:.3f}" for value in greyed.mean(axis=0)[:2]]
        size = f"{way.patch_px}, {way.stride_px} px"
        print(f"| {way.filling} | {size} | {len(masks)} | {' | '.join(cells)} |", flush=True)


def print_explanations(model: EmotionModel, crops: np.ndarray) -> None:
    """Print what `explain` says over all faces, as the web app calls it, and its time."""
    names = [model.class_names[place] for place in model.answer(crops).argmax(axis=1)]
    start_s = time.process_time()
    said = [explain(model, crop, name) for crop, name in zip(crops, names, strict=True)]
    took_s = (time.process_time() - start_s) / len(crops)
    numbers = np.array([(one.before, one.hidden, one.elsewhere) for one in said])
    print("\n| class | faces | before | hidden | elsewhere | check holds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in ("all", *model.class_names):
        chosen = np.array([name in ("all", one.class_name) for one in said])
        if not chosen.any():
            continue
        means = " | ".join(f"{value:.3f}" for value in numbers[chosen].mean(axis=0))
        holds = np.mean([one.holds for one in np.array(said, object)[chosen]])
        print(f"| {name} | {chosen.sum()} | {means} | {holds:.1%} |")
    print(f"\n{took_s:.2f} s of processor time a face", flush=True)


def heat_map(model, crop, top: int, masks: np.ndarray, hide: Callable) -> np.ndarray:
    """Return the heat of one face for its first class."""
    odds = log_odds(model.predict(np.concatenate([crop[None], hide(crop, masks)])), top)
    return spread(odds[0] - odds[1:], masks)


def scores(model, pairs, heats, hide: Callable) -> Iterator[tuple[float, ...]]:
    """Yield each face's score with its strongest, other, weakest and another's parts hidden."""
    for number, (crop, top) in enumerate(pairs):
        parts, another = strongest_parts(heats[number]), strongest_parts(heats[number - 1])
        weakest = strongest_parts(heats[number].max() - heats[number] + 1)
        masks = np.stack([parts, weakest, another, *parts_elsewhere(parts)])
        row = model.predict(hide(crop, masks))[:, top]
        yield row[0], row[3:].mean(), row[1], row[2]


def flat(crop: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return copies with the mean grey of the face in place of the parts."""
    return np.where(masks[..., None], crop.mean(), crop).astype(np.float32)


def inpainted(crop: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return copies with what surrounds the parts drawn into them (Telea 2004)."""
    tile = np.rint(crop[..., 0] * 255).astype(np.uint8)
    copies = [
        cv2.inpaint(tile, mask.astype(np.uint8), INPAINT_RADIUS_PX, cv2.INPAINT_TELEA)
        for mask in masks
    ]
    return np.stack(copies).astype(np.float32)[..., None] / 255


FILLINGS = {"blur": cover, "mean": flat, "inpainted": inpainted}


if __name__ == "__main__":
    main()
