"""Made films with known faces, and how well tracks fit them: what `video.py` measures with.

People are cut out of two packaged photographs (more are made by mirroring and other colours) and
move before a background; a frame knows whose face is where.
"""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

FPS = 30.0
SIZE_WH = (640, 480)
NOISE_LEVELS = 3.0
"""Standard deviation of the camera's noise, in grey levels."""

LEAST_IN_VIEW = 0.5
"""A face counts where at least this share of its box is neither covered nor out of the picture."""

MATCH_OVERLAP = 0.5
"""Intersection over union from which a box is on a face (CLEAR MOT)."""

Place = tuple[float, float, float]
"""Middle x, middle y and side of a face, in pixels."""


@dataclass(frozen=True)
class Person:
    """A cut-out, (H, W, 4) uint8, and where its face is in it."""

    picture: np.ndarray
    face_xywh: tuple[int, int, int, int]


@dataclass(frozen=True)
class Actor:
    """A person in a scene: name, looks, and where the face is at a time (None: not there)."""

    name: str
    person: Person
    place: Callable[[float], Place | None]


@dataclass(frozen=True)
class Scene:
    """A stretch of film: seconds, background, and its actors, the nearest last."""

    seconds: float
    background: np.ndarray
    actors: tuple[Actor, ...]
    pillar: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Film:
    """Scenes one after another, and when the detector is made blind."""

    name: str
    scenes: tuple[Scene, ...]
    blind: Callable[[float, str], bool] = lambda time_s, name: False
    miss_share: float = 0.0


@dataclass
class Truth:
    """The faces of a frame: name -> box (left, top, width, height)."""

    timestamp_s: float
    image: np.ndarray
    boxes: dict[str, tuple[float, float, float, float]] = field(default_factory=dict)


# people


def people() -> list[Person]:
    """Return five people: two portraits, and three made from them."""
    import matplotlib.cbook
    import skimage.data
    from PIL import Image

    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        hopper = np.asarray(Image.open(file).convert("RGB"))
    one, two = skimage.data.astronaut()[0:300, 90:360], hopper[0:480, 60:460]
    looks = (
        one,
        two,
        _recoloured(one[:, ::-1], chin=200, hue=100, gamma=1.35),
        _recoloured(two[:, ::-1], chin=360, hue=100, gamma=0.75),
        _recoloured(one, chin=200, hue=170, gamma=0.75),
    )
    return [_cut_out(picture) for picture in looks]


def _recoloured(picture: np.ndarray, chin: int, hue: int, gamma: float) -> np.ndarray:
    """Return another person: lighter or darker, and below the chin in clothes of other colours."""
    colors = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2HSV_FULL)
    colors[chin:, :, 0] = (colors[chin:, :, 0].astype(int) + hue) % 256
    return (255 * (cv2.cvtColor(colors, cv2.COLOR_HSV2RGB_FULL) / 255.0) ** gamma).astype(np.uint8)


def _cut_out(picture: np.ndarray) -> Person:
    """Return a person with soft edges, and the face that the detector for photos finds."""
    from emotion.faces import FaceDetector

    (face,) = FaceDetector().detect(np.ascontiguousarray(picture))
    x, y, width, height = face.box_xywh
    mask = np.zeros(picture.shape[:2], np.uint8)
    middle = (x + width // 2, y + height // 2)
    cv2.ellipse(mask, middle, (int(0.72 * width), int(0.9 * height)), 0, 0, 360, 255, cv2.FILLED)
    shoulders = (x - width // 2, y + int(1.15 * height), 2 * width, picture.shape[0])
    cv2.rectangle(mask, shoulders, 255, cv2.FILLED)
    mask = cv2.GaussianBlur(mask, (0, 0), width / 30)
    return Person(np.dstack([picture, mask]), face.box_xywh)


# films


def backgrounds(size_wh: tuple[int, int] = SIZE_WH) -> list[np.ndarray]:
    """Return two backgrounds without faces."""
    import skimage.data
    import sklearn.datasets

    pictures = sklearn.datasets.load_sample_image("china.jpg"), skimage.data.coffee()
    return [cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA) for picture in pictures]


def films() -> list[Film]:
    """Return the films in which tracks are tried."""
    first, second = backgrounds()
    everybody = one, two, three, four, _ = people()
    crossing = (
        Actor("a", one, walk((90, 200, 110), (550, 210, 110), 4)),
        Actor("b", two, walk((560, 230, 120), (80, 220, 120), 4)),
    )
    slow_crossing = (
        Actor("a", one, walk((200, 190, 100), (440, 190, 100), 6)),
        Actor("b", four, walk((430, 215, 120), (210, 215, 120), 6)),
    )
    crowd = tuple(
        Actor(name, person, sway((70 + 125 * place, 150 + 60 * (place % 2), 75), 25, 2 + place / 3))
        for place, (name, person) in enumerate(zip("abcde", everybody, strict=True))
    )
    pair = (
        Actor("a", one, sway((180, 200, 110), 30, 3.0)),
        Actor("b", two, sway((450, 220, 110), 30, 2.5)),
    )
    others = (
        Actor("c", three, sway((190, 205, 110), 30, 3.0)),
        Actor("d", four, sway((460, 210, 110), 30, 2.5)),
    )
    # who is back after a cut counts as somebody new
    pair_again = tuple(replace(actor, name=f"{actor.name}, after two cuts") for actor in pair)
    restless = (
        Actor("a", one, sway((220, 200, 100), 110, 1.6)),
        Actor("b", two, sway((420, 220, 130), 60, 1.1)),
    )
    passing = (Actor("a", one, walk((60, 200, 110), (580, 200, 110), 6)),)
    return [
        Film("five people", (Scene(5, first, crowd),), miss_share=0.1),
        Film("crossing", (Scene(4, first, crossing),), miss_share=0.1),
        Film("crossing slowly", (Scene(6, first, slow_crossing),), miss_share=0.1),
        Film("restless", (Scene(5, first, restless),), miss_share=0.1),
        Film("missed for 0.5 s and 1.5 s", (Scene(7, first, pair),), _blind_twice),
        Film("behind a pillar", (Scene(6, first, passing, (270, 0, 130, 480)),), miss_share=0.1),
        Film(
            "cuts",
            (Scene(2, first, pair), Scene(2, second, others), Scene(2, first, pair_again)),
            miss_share=0.1,
        ),
    ]


def walk(start: Place, end: Place, seconds: float) -> Callable[[float], Place]:
    """Return a way from one place to another."""

    def place(time_s: float) -> Place:
        share = min(1.0, time_s / seconds)
        step = 4 * math.sin(2 * math.pi * 1.8 * time_s)
        x, y, side = (a + share * (b - a) for a, b in zip(start, end, strict=True))
        return x, y + step, side

    return place


def sway(middle: Place, reach_px: float, period_s: float) -> Callable[[float], Place]:
    """Return a movement about a place, to the side and a little up, down, near and far."""

    def place(time_s: float) -> Place:
        turn = 2 * math.pi * time_s / period_s
        x, y, side = middle
        return (
            x + reach_px * math.sin(turn),
            y + reach_px / 3 * math.sin(1.7 * turn),
            side * (1 + 0.12 * math.sin(0.6 * turn)),
        )

    return place


def _blind_twice(time_s: float, name: str) -> bool:
    return name == "a" and (1.5 < time_s < 2.0 or 3.5 < time_s < 5.0)


def shoot(film: Film, fps: float = FPS, seed: int = 0) -> Iterator[Truth]:
    """Yield the frames of a film, with a camera's noise."""
    generator = np.random.default_rng(seed)
    number = 0
    for scene in film.scenes:
        for step in range(round(scene.seconds * fps)):
            truth = compose(scene, step / fps)
            noise = generator.normal(0, NOISE_LEVELS, truth.image.shape[:2])[..., None]
            image = np.clip(truth.image + noise, 0, 255).astype(np.uint8)
            yield Truth(number / fps, image, truth.boxes)
            number += 1


def compose(scene: Scene, time_s: float) -> Truth:
    """Return the picture of a scene at a time, without noise, and the faces that can be seen."""
    image = scene.background.copy()
    visible: dict[str, np.ndarray] = {}
    boxes = {}
    for actor in scene.actors:
        place = actor.place(time_s)
        if place is None:
            continue
        covered = _paste(image, actor.person, place)
        for name in visible:
            visible[name] &= ~covered
        boxes[actor.name] = _box(place)
        visible[actor.name] = np.ones(image.shape[:2], bool)
    if scene.pillar:
        x, y, width, height = scene.pillar
        image[y : y + height, x : x + width] = (120, 110, 100)
        for name in visible:
            visible[name][y : y + height, x : x + width] = False
    seen = {name: box for name, box in boxes.items() if _share(visible[name], box) >= LEAST_IN_VIEW}
    return Truth(time_s, image, seen)


def _paste(image: np.ndarray, person: Person, place: Place) -> np.ndarray:
    """Put a person into a picture; return which pixels are covered."""
    x, y, side = place
    face_x, face_y, width, height = person.face_xywh
    scale = side / width
    shift = (x - scale * (face_x + width / 2), y - scale * (face_y + height / 2))
    to_image = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    pasted = cv2.warpAffine(person.picture, to_image, image.shape[1::-1], flags=method)
    share = pasted[..., 3:].astype(np.float32) / 255
    image[:] = (image * (1 - share) + pasted[..., :3] * share).astype(np.uint8)
    return pasted[..., 3] > 127


def _box(place: Place) -> tuple[float, float, float, float]:
    x, y, side = place
    return x - side / 2, y - side / 2, side, side


def _share(visible: np.ndarray, box: Sequence[float]) -> float:
    """Return the share of a box that can be seen."""
    x, y, width, height = map(round, box)
    part = visible[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)]
    return float(part.sum()) / (width * height)


class PoorDetector:
    """A detector that misses faces: some by chance, some for a while."""

    def __init__(self, detector, film: Film, seed: int = 1):
        self._detector, self._film = detector, film
        self._generator = np.random.default_rng(seed)
        self.truth: Truth | None = None

    def detect(self, image: np.ndarray):
        """Return the faces of the present frame but those that are missed."""
        return tuple(face for face in self._detector.detect(image) if not self._is_missed(face))

    def _is_missed(self, face) -> bool:
        name = max(
            self.truth.boxes,
            key=lambda one: overlap(self.truth.boxes[one], face.box_xywh),
            default="",
        )
        by_chance = self._generator.random() < self._film.miss_share
        return by_chance or self._film.blind(self.truth.timestamp_s, name)


# measures


@dataclass
class Score:
    """Counts over frames: CLEAR MOT (Bernardin and Stiefelhagen 2008) and identities (Ristani et
    al. 2016, "Performance measures and a data set for multi-target, multi-camera tracking").
    """

    faces: int = 0
    boxes: int = 0
    missed: int = 0
    false: int = 0
    switches: int = 0
    overlaps: float = 0.0
    shared: dict[tuple[str, int], int] = field(default_factory=dict)
    _last: dict[str, int] = field(default_factory=dict)

    def add(self, truth: dict[str, Sequence[float]], found: dict[int, Sequence[float]]) -> None:
        """Take in a frame: name -> box of its faces, and track -> box of what was reported."""
        pairs = self._pairs(truth, found)
        self.faces += len(truth)
        self.boxes += len(found)
        self.missed += len(truth) - len(pairs)
        self.false += len(found) - len(pairs)
        self.switches += sum(self._last.get(name, track) != track for name, track in pairs)
        self.overlaps += sum(overlap(truth[name], found[track]) for name, track in pairs)
        self._last.update(pairs)
        for name, box in truth.items():
            for track, other in found.items():
                if overlap(box, other) >= MATCH_OVERLAP:
                    self.shared[name, track] = self.shared.get((name, track), 0) + 1

    def _pairs(self, truth, found) -> list[tuple[str, int]]:
        """Return which track is on which face: as in the frame before where that still holds."""
        kept = [
            (name, track)
            for name, track in self._last.items()
            if name in truth
            and track in found
            and overlap(truth[name], found[track]) >= MATCH_OVERLAP
        ]
        names = [name for name in truth if name not in dict(kept)]
        tracks = [track for track in found if track not in {track for _, track in kept}]
        gains = np.array([[overlap(truth[n], found[t]) for t in tracks] for n in names])
        gains = gains.reshape(len(names), len(tracks))
        gains[gains < MATCH_OVERLAP] = 0
        return kept + [(names[r], tracks[c]) for r, c in _best(gains)]

    @property
    def mota(self) -> float:
        """Multiple object tracking accuracy, at most 1."""
        return 1 - (self.missed + self.false + self.switches) / self.faces

    @property
    def idf1(self) -> float:
        """F1 of identities: each face is one track over the whole film, or it is wrong."""
        names = sorted({name for name, _ in self.shared})
        tracks = sorted({track for _, track in self.shared})
        gains = np.array([[self.shared.get((n, t), 0) for t in tracks] for n in names], float)
        gains = gains.reshape(len(names), len(tracks))
        right = sum(gains[r, c] for r, c in _best(gains))
        return 2 * right / (self.faces + self.boxes)

    @property
    def mean_overlap(self) -> float:
        """Mean intersection over union of the faces that were found."""
        return self.overlaps / max(1, self.faces - self.missed)


def _best(gains: np.ndarray) -> list[tuple[int, int]]:
    """Return the pairs (row, column) of most gain in all, without those that gain nothing."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-gains)
    return [(r, c) for r, c in zip(rows, columns, strict=True) if gains[r, c] > 0]


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the intersection of two boxes over their union."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)
