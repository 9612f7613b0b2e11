"""Examples for the networks of the face detector: faces and pictures without one, each another way.

`face_networks.py` fits the networks to them.
"""

import argparse
import math
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from emotion.detection import networks
from emotion.detection.boxes import overlap_of
from emotion.detection.views import scaled
from emotion.detection.yunet import upright_square

PLACES_PX = 112  # side of the pictures that the network of places learns from: 8 x 8 windows
VERIFIER_FACE_PX = networks.VERIFIER_PX / networks.LOOK_SPREAD
MIDDLE_FACE_PX = math.sqrt(math.prod(networks.PLACE_FACES_PX))
SURE = 0.7  # YuNet's score from which a face counts; what lies below is left open
TURNED = 0.35  # of the head, from which a face counts as turned: they are rare and often missed
SHARES = {"turned": 0.28, "photos": 0.34, "faces": 0.14, "tiles": 0.24}  # of what is shown
MOST_TILES = 14000


@dataclass
class Picture:
    """A grey picture at full, half... size; its faces: (x, y, side, tilt, YuNet's score, turn)."""

    grey: np.ndarray
    faces: list[tuple[float, ...]]
    kind: str
    halves: list[np.ndarray] = field(default_factory=list)

    def __post_init__(self):
        self.halves = [self.grey]
        while min(self.halves[-1].shape) >= 48:
            self.halves.append(scaled(self.halves[-1], 0.5))

    def drawn(self, matrix: np.ndarray, side: int, ground: np.ndarray | None = None) -> np.ndarray:
        """Return the picture moved by a (2, 3) matrix, on a ground or with its edge repeated."""
        shrink = 1 / math.sqrt(abs(np.linalg.det(matrix[:, :2])))
        level = int(np.clip(math.floor(math.log2(shrink) + 0.2), 0, len(self.halves) - 1))
        half, moved = self.halves[level], matrix.copy()
        moved[:, 0] *= self.grey.shape[1] / half.shape[1]
        moved[:, 1] *= self.grey.shape[0] / half.shape[0]
        if ground is None:
            return cv2.warpAffine(half, moved, (side, side), borderMode=cv2.BORDER_REPLICATE)
        border = cv2.BORDER_TRANSPARENT
        return cv2.warpAffine(half, moved, (side, side), ground.copy(), borderMode=border)


class Studio:
    """Makes examples of the pictures, each another one."""

    def __init__(self, pictures: list[Picture], seed: int):
        self.chance = np.random.default_rng(seed)
        self.empty = [picture for picture in pictures if picture.kind == "faceless"]
        self.kinds = {
            kind: [
                (picture, face)
                for picture in pictures
                if picture.kind == (kind if kind != "turned" else "photos")
                for face in picture.faces
                if face[4] > SURE and (kind != "turned" or face[5] > TURNED)
            ]
            for kind in SHARES
        }

    def scene(self, side: int, face_px: float, reach: float) -> tuple[np.ndarray, list[tuple]]:
        """Return a picture with a face of a side, at most `reach` off its middle, and its faces."""
        chance = self.chance
        kind = chance.choice(list(SHARES), p=list(SHARES.values()))
        picture, face = self._one(kind)
        if face_px > 1.5 * face[2] and kind != "tiles":  # too coarse
            kind = "tiles"
            picture, face = self._one(kind)
        tilt = chance.normal(0, 10) if chance.random() < 0.7 else chance.uniform(-50, 50)
        is_mirrored = chance.random() < 0.5
        offset = chance.uniform(-reach, reach, 2)
        matrix = placing(face[:2], face_px / face[2], tilt, is_mirrored, side, offset)
        image = picture.drawn(matrix, side)
        if kind == "tiles" and chance.random() < 0.75:
            image = self._pasted(image, face, matrix)
        elif kind == "faces" and chance.random() < 0.6:
            image = picture.drawn(matrix, side, self.nothing(side))
        faces = []
        for x, y, size, roll, score, _ in picture.faces:
            middle = matrix[:, :2] @ (x - 0.5, y - 0.5) + matrix[:, 2] + 0.5
            new_roll = (roll + tilt) * (-1 if is_mirrored else 1)
            new_roll = (new_roll + 180) % 360 - 180
            faces.append((*middle, size * face_px / face[2], new_roll, score))
        if chance.random() < 0.35:
            middle = matrix[:, :2] @ np.subtract(face[:2], 0.5) + matrix[:, 2] + 0.5
            self._cover(image, middle, face_px)
        return image, faces

    def _one(self, kind: str) -> tuple[Picture, tuple]:
        return self.kinds[kind][self.chance.integers(len(self.kinds[kind]))]

    def _pasted(self, image: np.ndarray, face: tuple, matrix: np.ndarray) -> np.ndarray:
        """Return a drawn tile on a photograph without faces: the whole of it, or an ellipse."""
        mask, chance = np.zeros((48, 48), np.float32), self.chance
        if chance.random() < 0.5:
            mask[2:46, 2:46] = 1
        else:
            x, y, side = (int(value) for value in face[:3])
            axes = int(0.46 * side), int(0.56 * side)
            cv2.ellipse(mask, (x, y), axes, 0, 0, 360, 1.0, cv2.FILLED)
        mask = cv2.warpAffine(cv2.GaussianBlur(mask, (0, 0), 1.2), matrix, image.shape)
        ground = self.nothing(image.shape[0]).astype(np.float32)
        ground = (ground - ground.mean()) * chance.uniform(0.4, 1)
        ground += image.mean() + chance.normal(0, 40)
        return np.clip(image * mask + ground * (1 - mask), 0, 255).astype(np.uint8)

    def _cover(self, image: np.ndarray, middle: np.ndarray, face_px: float) -> None:
        """Hide a part of a face behind a piece of another picture or of one colour."""
        chance = self.chance
        wide_high = np.array([chance.uniform(0.2, 0.5), chance.uniform(0.3, 1.1)]) * face_px
        if chance.random() < 0.6:
            wide_high = wide_high[::-1]
        away = chance.choice([-1, 1], 2) * chance.uniform(0.2, 0.6, 2) * face_px
        corners = np.stack([middle + away - wide_high / 2, middle + away + wide_high / 2])
        (left, top), (right, bottom) = corners.clip(0, image.shape[0]).astype(int)
        if right > left and bottom > top:
            piece = self.nothing(max(8, int(face_px)))
            color = int(chance.integers(256))
            is_piece = chance.random() < 0.6
            size_wh = right - left, bottom - top
            image[top:bottom, left:right] = cv2.resize(piece, size_wh) if is_piece else color

    def nothing(self, side: int) -> np.ndarray:
        """Return a piece of a photograph without faces."""
        chance = self.chance
        picture = self.empty[chance.integers(len(self.empty))]
        height, width = picture.grey.shape
        cut = math.exp(chance.uniform(math.log(24), math.log(1.3 * min(height, width))))
        middle = chance.uniform(0, width), chance.uniform(0, height)
        tilt = chance.choice([0, 0, 0, 90, 180, 270]) + chance.normal(0, 8)
        matrix = placing(middle, side / cut, tilt, chance.random() < 0.5, side, (0, 0))
        return picture.drawn(matrix, side)

    def lit(self, image: np.ndarray) -> np.ndarray:
        """Return a picture in other light, perhaps blurred, noisy or compressed."""
        chance, side = self.chance, image.shape[0]
        light = image.astype(np.float32) / 255
        if chance.random() < 0.25:
            light = cv2.GaussianBlur(light, (0, 0), chance.uniform(0.3, 1.3))
        if chance.random() < 0.5:
            light = light ** math.exp(chance.normal(0, 0.45))
        if chance.random() < 0.3:  # from one side
            down, across = np.mgrid[0:side, 0:side] / side - 0.5
            turn = chance.uniform(0, 2 * math.pi)
            slope = across * math.cos(turn) + down * math.sin(turn)
            light = light * (1 + chance.uniform(0.3, 1.6) * slope)
        mean = light.mean()
        light = (light - mean) * math.exp(chance.normal(-0.15, 0.4)) + mean
        if chance.random() < 0.5:
            light = light * math.exp(chance.normal(-0.2, 0.4))
        light = light + chance.normal(0, 0.07)
        if chance.random() < 0.5:
            light = light + chance.normal(0, chance.uniform(0, 0.04), light.shape)
        image = (light.clip(0, 1) * 255).astype(np.uint8)
        if chance.random() < 0.2:
            quality = [cv2.IMWRITE_JPEG_QUALITY, int(chance.integers(12, 70))]
            image = cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_GRAYSCALE)
        return image

    def places_example(self, mistakes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return a picture, and for each window: does it count, is it a face, where, how large."""
        chance = self.chance
        if chance.random() < 0.62:
            octaves = (
                chance.uniform(-1.2, 1.2) if chance.random() < 0.25 else chance.uniform(-0.7, 0.7)
            )
            image, faces = self.scene(PLACES_PX, MIDDLE_FACE_PX * 2**octaves, 30)
            return image, place_targets(faces)
        if mistakes and chance.random() < 0.53:
            return self._mistake(mistakes, PLACES_PX), place_targets([])
        return self.nothing(PLACES_PX), place_targets([])

    def verifier_example(self, mistakes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return a cut, and: does it count, is it a face, does its box count; the box."""
        chance, side, face_px = self.chance, networks.VERIFIER_PX, VERIFIER_FACE_PX
        draw = chance.random()
        if draw >= 0.58:
            cut = self._mistake(mistakes, side) if mistakes and draw < 0.93 else self.nothing(side)
            return cut, np.array([1, 0, 0, 0, 0, 0, 0], np.float32)
        if draw < 0.48:  # a face, found roughly
            octaves, shift = chance.normal(0, 0.28), chance.normal(0, 0.13, 2) * face_px
        elif chance.random() < 0.5:  # much too large or small
            octaves = chance.choice([-1, 1]) * chance.uniform(1.1, 2.2)
            shift = chance.normal(0, 0.2, 2) * face_px * 2 ** min(octaves, 0)
        else:  # beside it
            octaves, turn = chance.normal(0, 0.3), chance.uniform(0, 2 * math.pi)
            shift = np.array([math.cos(turn), math.sin(turn)]) * chance.uniform(0.7, 1.3) * face_px
        room = int(abs(shift).max()) + 2
        image, faces = self.scene(side + 2 * room, face_px * 2**octaves, 0)
        left, top = (int(np.clip(room + round(value), 0, 2 * room)) for value in shift)
        cut, middle = image[top : top + side, left : left + side], side / 2
        window = (middle - face_px / 2, middle - face_px / 2, face_px, face_px)
        overlaps = []
        for x, y, size, roll, score in faces:
            box = (x - left - size / 2, y - top - size / 2, size, size)
            place = (x - left - middle) / face_px, (y - top - middle) / face_px
            target = (*place, math.log2(size / face_px), roll / networks.ROLL_UNIT_DEGREES)
            overlaps.append((overlap_of(window, box)[0], score > SURE and abs(roll) < 70, target))
        overlap, is_sure, target = max(overlaps)
        if not is_sure and overlap > 0.15:
            return cut, np.zeros(7, np.float32)
        if overlap > 0.45:
            return cut, np.array([1, 1, 1, *target], np.float32)
        box_counts = overlap > 0.3 and is_sure
        return cut, np.array([overlap < 0.25, 0, box_counts, *target], np.float32)

    def _mistake(self, mistakes: list[np.ndarray], side: int) -> np.ndarray:
        cut = mistakes[self.chance.integers(len(mistakes))]
        left, top = self.chance.integers(0, cut.shape[0] - side + 1, 2)
        return cut[top : top + side, left : left + side][:, :: self.chance.choice([-1, 1])]


def placing(
    middle_xy: tuple, zoom: float, tilt: float, is_mirrored: bool, side: int, offset: tuple
) -> np.ndarray:
    """Return the (2, 3) matrix that brings a point to the middle of a square, or off it."""
    turn = math.radians(tilt)
    cosine, sine = zoom * math.cos(turn), zoom * math.sin(turn)
    matrix = np.array([[cosine, sine], [-sine, cosine]])
    if is_mirrored:
        matrix[0] *= -1
    place = np.array([side / 2 - 0.5, side / 2 - 0.5]) + offset
    return np.hstack([matrix, (place - matrix @ np.subtract(middle_xy, 0.5))[:, None]])


def place_targets(faces: list[tuple]) -> np.ndarray:
    """Return what the network of places should say of each window, (8, 8, 5)."""
    targets = np.zeros((8, 8, 5), np.float32)
    targets[..., 0] = 1
    middles = networks.PLACE_BORDER_PX + networks.PLACE_STRIDE_PX * np.arange(8) + 0.5
    across, down = np.meshgrid(middles, middles)
    for x, y, side, roll, score in faces:
        off, octaves = np.maximum(abs(across - x), abs(down - y)), math.log2(side / MIDDLE_FACE_PX)
        near, around = off < max(0.28 * side, 4.01), off < max(0.5 * side, 6)
        if score < SURE or abs(roll) > 65:
            targets[around, 0] = 0
        elif abs(octaves) <= 0.72:
            targets[around & ~near & (targets[..., 1] == 0), 0] = 0
            targets[near, :2] = 1
            targets[near, 2] = ((x - across) / networks.PLACE_REACH_PX)[near]
            targets[near, 3] = ((y - down) / networks.PLACE_REACH_PX)[near]
            targets[near, 4] = octaves
        elif abs(octaves) < 1.6:  # a face of another octave is no mistake
            targets[near & (targets[..., 1] == 0), 0] = 0
    return targets


def read_pictures(options: argparse.Namespace) -> Iterator[Picture]:
    """Yield all pictures with YuNet's faces."""
    network = cv2.FaceDetectorYN.create(str(options.yunet), "", (320, 320), 0.35)
    for kind, source in (
        *(("faceless", folder) for folder in options.faceless),
        ("photos", options.photos),
        ("faces", options.faces),
        ("tiles", options.fer2013),
    ):
        for image in read_images(source, MOST_TILES if kind == "tiles" else None):
            image = scaled(image, min(1.0, math.sqrt(800 * 600 / image[..., 0].size)))
            grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
            faces = [] if kind == "faceless" else labelled(network, image)
            if kind == "faceless" or faces:
                yield Picture(grey, faces, kind)


def read_images(source: Path, most: int | None) -> Iterator[np.ndarray]:
    """Yield the images of a folder or zip, (H, W, 3) uint8 BGR; of many, some at random."""
    chance = np.random.default_rng(0)
    if source.is_dir():
        contents = {path: path.read_bytes for path in sorted(source.rglob("*")) if path.is_file()}
    else:
        archive = zipfile.ZipFile(source)
        names = [name for name in sorted(archive.namelist()) if "test/" not in name]
        contents = {name: lambda name=name: archive.read(name) for name in names}
    keys = list(contents)
    for number in chance.permutation(len(keys))[:most]:
        image = cv2.imdecode(np.frombuffer(contents[keys[number]](), np.uint8), cv2.IMREAD_COLOR)
        if image is not None and min(image.shape[:2]) >= 48:
            yield image


def labelled(network: cv2.FaceDetectorYN, image: np.ndarray) -> list[tuple[float, ...]]:
    """Return YuNet's faces on three copies of an image: (x, y, side, tilt, score, turn)."""
    faces, kept = [], []
    sizes = (320 * 240, 640 * 480, 1280 * 960)
    for pixels in sizes if min(image.shape[:2]) >= 100 else sizes[:1]:
        scale = math.sqrt(pixels / image[..., 0].size)
        copy = scaled(image, scale)
        border = round(0.3 * min(copy.shape[:2]))
        copy = cv2.copyMakeBorder(copy, *[border] * 4, cv2.BORDER_REPLICATE)
        network.setInputSize(copy.shape[1::-1])
        _, seen = network.detect(copy)
        for face in seen if seen is not None else ():
            face[:14] = (face[:14] - [border, border, 0, 0, *[border] * 10]) / scale
            eyes = face[4:8].reshape(2, 2)
            (wide, high), (right, down) = eyes[1] - eyes[0], face[8:10] - eyes.mean(0)
            # how far the tip of the nose is from the middle of the eyes, in distances of the eyes
            turn = abs(right * wide + down * high) / max(wide**2 + high**2, 1e-6)
            faces.append((*upright_square(face), float(face[14]), float(turn)))
    for face in sorted(faces, key=lambda face: -face[4]):
        boxes = [(x - side / 2, y - side / 2, side, side) for x, y, side, *_ in [*kept, face]]
        if all(max(overlap_of(boxes[-1], box)) <= 0.5 for box in boxes[:-1]):
            kept.append(face)
    return kept
