"""What a model says of a person's own images, and what in a face speaks for it."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from emotion.batch.outputs import BatchOutputs, copy_path
from emotion.detection.boxes import Detection
from emotion.detection.crop import crop_face
from emotion.drawing import annotate
from emotion.errors import ImageError, TrainingError
from emotion.explain import explain as explain_face
from emotion.faces import short_verdict
from emotion.files import user_path, write_csv
from emotion.images.decoding import Photo
from emotion.images.encoding import write_image
from emotion.images.folders import PhotoFile, find_photos, is_photo_list
from emotion.images.sources import open_photo
from emotion.progress import progress_bar
from emotion.recognizer import Recognizer, Sight, stem_of
from emotion.text import counted, percent, printable, table

FACE_IMAGE_PX = 112  # datasets of faces that are cropped already have no longer side than that
DRAWN_PX = 384  # such an image is enlarged to so many, so that words fit


class ImageReader(Recognizer):
    """Reads photos as the app does, and images that are one face already, as in datasets."""

    all_whole = False  # whether every image is one face

    def is_face(self, photo: Photo) -> bool:
        return self.all_whole or max(photo.size_wh) <= FACE_IMAGE_PX

    def _find(self, photo: Photo):
        if not self.is_face(photo):
            return super()._find(photo)
        width, height = photo.size_wh
        side = min(width, height)
        box = (width - side) // 2, (height - side) // 2, side, side
        return [(Detection(box, 1.0), crop_face(photo.full, box, margin=0), ())]


def predict(options: argparse.Namespace) -> None:
    """Say what a model answers to photos: the faces in them, with a percentage for each class."""
    reader, files = _open(options)
    rows, head = [], ("photo", "face", "answer", *reader.model.class_names)
    try:
        for file, photo, sights in _look(reader, files):
            name, faces = printable(file.name), [sight.face for sight in sights]
            for number, face in enumerate(faces, 1):
                shares = map(percent, face.probabilities.values())
                rows.append((name, str(number), short_verdict(face), *shares))
            if not faces:
                rows.append((name, "", "no face found", *[""] * (len(head) - 3)))
            if options.draw:
                _write(Path(options.draw), file.name, files, _drawn(reader, photo, faces))
    finally:  # at Ctrl-C too
        if rows:
            print(*table(head, rows), sep="\n")


def explain(options: argparse.Namespace) -> None:
    """Show which parts of a face spoke for the answer: hidden, they lower its probability."""
    reader, files = _open(options)
    rows, lines, folder = [], [], Path(options.draw)
    try:
        for file, _, sights in _look(reader, files):
            for number, sight in enumerate(sights, 1):
                emotion = options.emotion or sight.face.emotion
                told = explain_face(reader.model, sight.crop, emotion)
                _write(
                    folder,
                    f"{file.name}.{number}.png",
                    files,
                    np.asarray(told.to_image(side=DRAWN_PX)),
                )
                row = {"photo": file.name, "face": number, "emotion": emotion}
                shown = {"whole": told.before, "parts_hidden": told.hidden}
                shown |= {"hidden_elsewhere": told.elsewhere}
                rows.append(row | shown | {"holds": int(told.holds)})
                cells = (printable(file.name), str(number), emotion, *map(percent, shown.values()))
                lines.append((*cells, "yes" if told.holds else "no"))
            if not sights:
                lines.append((printable(file.name), "", "no face found", "", "", "", ""))
    finally:
        if lines:
            head = ("photo", "face", "emotion", "whole face", "parts hidden", "as much elsewhere")
            print(*table((*head, "holds"), lines), sep="\n")
        if rows:
            write_csv(folder / "explanations.csv", rows)
            held = f"on {sum(row['holds'] for row in rows):,} of {counted(len(rows), 'face')}"
            print(f"The outlined parts lower the probability more than others {held}")
            print(f"Wrote {folder}: a picture a face, and explanations.csv")


def _open(options: argparse.Namespace) -> tuple[ImageReader, list[PhotoFile]]:
    """Return what reads images, with a model of the classes that are asked for, and the images."""
    paths: dict[Path, None] = {}
    for path in map(user_path, options.photos):
        found = find_photos(path) if is_photo_list(str(path)) else [PhotoFile(path, path.name)]
        paths |= dict.fromkeys(file.path.resolve() for file in found)
    root = os.path.commonpath([path.parent for path in paths])  # in which the names begin
    files = [PhotoFile(path, path.relative_to(root).as_posix()) for path in paths]
    if options.draw:  # which must not be where the images are
        BatchOutputs(copies=Path(options.draw)).prepare(files)
    reader = ImageReader.load(stem_of(user_path(options.model)))
    reader.all_whole, model = options.whole, reader.model
    expected, received = options.classes.replace(" ", ""), ",".join(model.class_names)
    if expected and expected != received:
        raise TrainingError(f"expected a model of {expected}; {model.name} answers {received}")
    for note in model.notes:
        print(f"Note: {note}", file=sys.stderr)
    return reader, files


def _look(
    reader: ImageReader, files: Sequence[PhotoFile]
) -> Iterator[tuple[PhotoFile, Photo, Sequence[Sight]]]:
    """Yield each image with its faces; tell those that cannot be read; raise if none can."""
    problems = []
    with progress_bar("photos", len(files), sys.stderr) as show:
        for number, file in enumerate(files, 1):
            try:
                photo = open_photo(file.path)
                (sights,) = reader.look_many([photo])
            except ImageError as error:
                problems.append(f"{printable(file.name)}: {error}")
            else:
                yield file, photo, sights
            show(number)
    if len(problems) == len(files):
        raise TrainingError(f"expected photos that can be read; received {problems[0]}")
    for problem in problems:
        print(f"Skipped {problem}", file=sys.stderr)


def _drawn(reader: ImageReader, photo: Photo, faces: Sequence) -> np.ndarray:
    """Return a photo with its faces marked; one that is a face alone large, beside its bars."""
    if not reader.is_face(photo):
        return annotate(photo.full, faces, bars=True)
    scale = max(1.0, DRAWN_PX / max(photo.size_wh))
    image = cv2.resize(photo.full, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    image = cv2.copyMakeBorder(image, 0, 0, 0, image.shape[1] // 2, cv2.BORDER_CONSTANT)
    boxes = [tuple(round(scale * value) for value in face.box_xywh) for face in faces]
    pairs = zip(faces, boxes, strict=True)
    return annotate(image, [replace(face, box_xywh=box) for face, box in pairs], bars=True)


def _write(folder: Path, name: str, files: Sequence[PhotoFile], image: np.ndarray) -> None:
    path = copy_path(folder, name, [file.name for file in files])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_image(path, image)
