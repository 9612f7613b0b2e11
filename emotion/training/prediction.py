"""What a model says of a person's own images, and what in a face speaks for it."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from emotion.batch.outputs import BatchOutputs, copy_path
from emotion.detection.boxes import Detection
from emotion.detection.crop import crop_face
from emotion.drawing import annotate
from emotion.errors import TrainingError
from emotion.faces import Face, short_verdict
from emotion.files import user_path
from emotion.images.decoding import Photo
from emotion.images.encoding import write_image
from emotion.images.folders import PhotoFile, find_photos, is_photo_list
from emotion.images.sources import open_photo
from emotion.labels import common_name
from emotion.progress import progress_bar
from emotion.recognizer import Recognizer
from emotion.text import percent, printable, table

TILE_PX = 112  # an image with no longer side is one face already, as in datasets
DRAWN_PX = 384  # such an image is enlarged to so many, so that words fit


class TileReader(Recognizer):
    """Reads photos as the app does, and images that are one face already as datasets do."""

    largest_px = TILE_PX

    def _find(self, photo: Photo):
        width, height = photo.size_wh
        if max(width, height) > self.largest_px:
            return super()._find(photo)
        side = min(width, height)
        box = (width - side) // 2, (height - side) // 2, side, side
        return [(Detection(box, 1.0), crop_face(photo.full, box, margin=0), ())]


def predict(options: argparse.Namespace) -> None:
    """Say what a model answers to photos: the faces in them, with a percentage for each class."""
    reader = _reader(options)

    def cells(path: Path, faces: Sequence[Face], write: Callable) -> list:
        if options.draw:
            write("", _drawn(open_photo(path).full, faces))
        return [(short_verdict(face), *map(percent, face.probabilities.values())) for face in faces]

    _print_faces(options, reader, ("answer", *reader.model.class_names), cells)


def explain(options: argparse.Namespace) -> None:
    """Show which parts of a face spoke for the answer: hidden, they lower its probability."""
    reader = _reader(options)

    def cells(path: Path, faces: Sequence[Face], write: Callable) -> list:
        rows = []
        for number in range(1, len(faces) + 1):
            told = reader.explain(path, number, options.emotion)
            write(f".{number}.png", np.asarray(told.to_image(side=DRAWN_PX)))
            shares = map(percent, (told.before, told.hidden, told.elsewhere))
            rows.append((told.class_name, *shares, "yes" if told.holds else "no"))
        return rows

    head = ("emotion", "whole face", "parts hidden", "as much elsewhere", "holds")
    _print_faces(options, reader, head, cells)


def _reader(options: argparse.Namespace) -> TileReader:
    reader = TileReader.load(user_path(options.model))
    reader.largest_px = sys.maxsize if options.whole else TILE_PX
    given, names = options.classes, reader.model.class_names
    if given and [*map(common_name, given.split(","))] != [*map(common_name, names)]:
        expected = f"expected a model of {given} as --classes"
        raise TrainingError(f"{expected}; {reader.model.name} answers {','.join(names)}")
    for note in reader.model.notes:
        print(f"Note: {note}", file=sys.stderr)
    return reader


def _print_faces(options: argparse.Namespace, reader: TileReader, head, cells_of) -> None:
    """Print a row a face, also at Ctrl-C: `cells_of` a photo's path, its faces, and a function
    that writes a picture beside which the suffix is put.
    """
    paths: dict[Path, None] = {}
    for path in map(user_path, options.photos):
        found = find_photos(path) if is_photo_list(str(path)) else [PhotoFile(path, path.name)]
        paths |= dict.fromkeys(file.path.resolve() for file in found)
    root = os.path.commonpath([path.parent for path in paths])  # in which the names begin
    names, folder = [path.relative_to(root).as_posix() for path in paths], Path(options.draw)
    if options.draw:  # which must not be where the photos are
        BatchOutputs(copies=folder).prepare(list(map(PhotoFile, paths, names)))
    rows, problems = [], []
    try:
        with progress_bar("photos", len(paths), sys.stderr) as show:
            for done, (path, name) in enumerate(zip(paths, names, strict=True)):
                show(done)

                def write(suffix: str, image: np.ndarray, name: str = name) -> None:
                    place = copy_path(folder, name + suffix, names)
                    place.parent.mkdir(parents=True, exist_ok=True)
                    write_image(place, image)

                faces, name = reader.recognize(path, errors="keep"), printable(name)
                if faces.problem:
                    problems.append(f"Skipped {name}: {faces.problem}")
                    continue
                cells = enumerate(cells_of(path, faces, write), 1)
                found = [(name, str(number), *row) for number, row in cells]
                rows += found or [(name, "", "no face found", *[""] * (len(head) - 1))]
    finally:
        if rows:
            print(*table(("photo", "face", *head), rows), sep="\n")
    if not rows:
        words = problems[0].removeprefix("Skipped ")
        raise TrainingError(f"expected photos that can be read; received none: {words}")
    print(*problems, sep="\n", end="\n" * bool(problems), file=sys.stderr)


def _drawn(image: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """Return a photo with its faces marked; a small one enlarged, with room for bars beside it."""
    if (scale := DRAWN_PX // max(image.shape)) > 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        image = cv2.copyMakeBorder(image, 0, 0, 0, image.shape[1] // 2, cv2.BORDER_CONSTANT)
        boxes = (tuple(scale * value for value in face.box_xywh) for face in faces)
        faces = [replace(face, box_xywh=box) for face, box in zip(faces, boxes, strict=True)]
    return annotate(image, faces, bars=True)
