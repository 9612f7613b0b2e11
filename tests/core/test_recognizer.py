"""The pipeline on photos of a reduced scale: boxes of the full size, crops with enough detail."""

import io
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from web_support import StandInDetector, looking_model, picture, stand_in_model

from emotion.errors import EmptyImageError, ImageError, ModelError
from emotion.images.decoding import decode_photo
from emotion.images.encoding import encode_jpeg
from emotion.images.sources import open_photo
from emotion.notebook import Recognitions
from emotion.recognizer import LEAST_SIDE_PX, Recognizer, stem_of


@pytest.fixture(scope="module")
def content() -> bytes:
    """Return a JPEG of 640x480."""
    return encode_jpeg(np.asarray(picture(640, 480)), quality=95)


def recognize(content, boxes, enough_pixels, model=None):
    photo = decode_photo(content, enough_pixels=enough_pixels)
    recognizer = Recognizer(model or stand_in_model(), StandInDetector(boxes))
    return photo, recognizer.recognize(photo)


@pytest.mark.parametrize(("enough_pixels", "scale"), [(None, 1), (320 * 240, 2), (160 * 120, 4)])
def test_boxes_are_in_pixels_of_the_full_size(content, enough_pixels, scale):
    photo, (face, other) = recognize(content, ((10, 10, 60, 60), (90, 20, 30, 30)), enough_pixels)
    assert photo.pixels.shape == (480 // scale, 640 // scale, 3)
    assert face.box_xywh == (10 * scale, 10 * scale, 60 * scale, 60 * scale)
    assert other.box_xywh == (90 * scale, 20 * scale, 30 * scale, 30 * scale)


def test_a_large_face_reads_as_from_the_full_size(content):
    side = LEAST_SIDE_PX
    photo, (face,) = recognize(content, ((50, 40, side, side),), 320 * 240, looking_model())
    _, (full,) = recognize(content, ((100, 80, 2 * side, 2 * side),), None, looking_model())
    assert "full" not in vars(photo)  # it was never decoded
    assert face.box_xywh == full.box_xywh
    for name, probability in full.probabilities.items():
        assert face.probabilities[name] == pytest.approx(probability, abs=0.02)


def test_a_small_face_is_read_from_the_full_size(content):
    side = LEAST_SIDE_PX - 1
    _, (face,) = recognize(content, ((50, 40, side, side),), 320 * 240, looking_model())
    _, (full,) = recognize(content, ((100, 80, 2 * side, 2 * side),), None, looking_model())
    assert dict(face.probabilities) == dict(full.probabilities)


def recognizer_of():
    return Recognizer(stand_in_model(), StandInDetector())


@pytest.mark.parametrize("pack", [tuple, lambda photos: [*photos]])
def test_lists_tuples_and_iterators_are_read_as_many(content, pack):
    photos = [content, np.zeros((120, 160, 3), np.uint8)]
    found = recognizer_of().recognize(pack(photos))
    assert isinstance(found, Recognitions)
    assert [each.size_wh for each in found] == [(640, 480), (160, 120)]
    assert found == recognizer_of().recognize_many(photos)
    assert found[0].annotated().shape == (480, 640, 3)


def photos_one_by_one(count, alive):
    """Yield photos; after each, note how many are alive."""
    shown = []
    for _ in range(count):
        photo = np.zeros((120, 160, 3), np.uint8)
        shown.append(weakref.ref(photo))
        alive.append(sum(each() is not None for each in shown))
        yield photo
        del photo


def test_photos_of_an_iterator_are_let_go_one_by_one():
    alive = []
    found = recognizer_of().recognize(photos_one_by_one(6, alive))
    assert len(found) == 6
    assert max(alive) <= 2
    with pytest.raises(ImageError, match="iterators and without_photo leave it out"):
        found[0].annotated()


def test_files_of_a_list_are_kept_as_their_bytes_not_as_pixels(content, monkeypatch):
    read = []

    def watched(image, *arguments):
        photo = open_photo(image, *arguments)
        read.append(weakref.ref(photo))
        return photo

    monkeypatch.setattr("emotion.recognizer.open_photo", watched)
    found = recognizer_of().recognize([io.BytesIO(content) for _ in range(3)])
    assert [photo() for photo in read] == [None] * 3
    assert found[2].annotated().shape == (480, 640, 3)


@pytest.mark.parametrize(
    ("bad", "kind", "message"),
    [
        (b"", EmptyImageError, r"^images\[1\]: expected an image; received an empty file$"),
        ("no/such.jpg", ImageError, r"^images\[1\], no/such.jpg: expected a readable image"),
        (None, ImageError, r"^images\[1\]: expected a path.*received NoneType$"),
        (np.zeros((20, 10)), ImageError, r"^images\[1\]: expected an array of at least 16"),
    ],
)
def test_a_bad_photo_among_many(content, bad, kind, message):
    with pytest.raises(kind, match=message):
        recognizer_of().recognize([content, bad])
    found = recognizer_of().recognize([content, bad, content], errors="keep")
    assert [len(each) for each in found] == [2, 0, 2]
    assert [each.problem is None for each in found] == [True, False, True]
    assert found[1].size_wh is None
    assert found[0] == found[2]


def test_answers_stay_with_their_photos(content):
    detectors = iter([(), ((10, 10, 60, 60),), (), ((10, 10, 60, 60), (90, 20, 30, 30))])

    class Varied:
        def detect(self, image):
            return StandInDetector(next(detectors)).detect(image)

    rows = np.eye(7)[[3, 0, 6]] * 0.93 + 0.01
    found = Recognizer(stand_in_model(*rows), Varied()).recognize([content] * 4)
    assert [[face.emotion for face in each] for each in found] == [
        [],
        ["happy"],
        [],
        ["angry", "surprise"],
    ]


@pytest.mark.parametrize(
    ("given", "stem"),
    [
        ("models/mine", "models/mine"),
        ("models/mine.h5", "models/mine"),
        ("models/mine.json", "models/mine"),
        ("models/mine.card.json", "models/mine"),
        ("models/mine.onnx.json", "models/mine"),
        ("models/mine.v2", "models/mine.v2"),
    ],
)
def test_a_model_is_named_by_any_of_its_files(given, stem):
    assert stem_of(given) == stem_of(Path(given)) == Path(stem)


def test_threads_may_share_a_recognizer(content):
    shared = Recognizer(looking_model(), StandInDetector())
    photos = [encode_jpeg(np.asarray(picture(seed=seed))) for seed in range(6)]
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(shared.recognize, photos))
    assert at_once == list(shared.recognize(photos))


def test_a_face_is_explained(content):
    recognizer = Recognizer(looking_model(), StandInDetector())
    second = recognizer.explain(content, face=2)
    (sights,) = recognizer.look_many([decode_photo(content)])
    assert second.class_name == sights[1].face.emotion
    np.testing.assert_array_equal(second.crop, sights[1].crop)
    assert recognizer.explain(content, emotion="sad").class_name == "sad"
    assert second.to_image(side=100).size == (100, 100)
    assert second._repr_html_().startswith(f'<div><img alt="{second.class_name} ')


def test_what_cannot_be_explained_or_read_is_a_sentence(content, tmp_path):
    blind = Recognizer(stand_in_model(), StandInDetector(()))
    for face in (0, 3, -1):
        with pytest.raises(ImageError, match=f"face {face} .* with 2$"):
            recognizer_of().explain(content, face=face)
    with pytest.raises(ImageError, match="without a face"):
        blind.explain(content)
    with pytest.raises(ModelError, match="class of the model"):
        recognizer_of().explain(content, emotion="bored")
    with pytest.raises(ValueError, match="received 'ignore'"):
        recognizer_of().recognize(content, errors="ignore")
    with pytest.raises(ImageError, match=r"give list\(array\)"):
        recognizer_of().recognize(np.zeros((3, 120, 160, 3), np.uint8))
    with pytest.raises(EmptyImageError, match=r"^expected an image"):
        recognizer_of().recognize(b"")
    with pytest.raises(ModelError, match=r"none\.json and none\.h5"):
        Recognizer.load(str(tmp_path / "none.h5"))
