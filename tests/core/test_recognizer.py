"""The pipeline: what it takes, boxes of the full size, crops with enough detail, many photos."""

import io
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from web_support import TWO_BOXES, StandInDetector, looking_model, picture, stand_in_model

from emotion.errors import EmptyImageError, ImageError, ModelError
from emotion.images.decoding import decode_photo
from emotion.images.encoding import encode_jpeg
from emotion.images.sources import open_photo
from emotion.notebook import Recognitions
from emotion.recognizer import LEAST_SIDE_PX, Recognizer, stem_of

RECOGNIZER = Recognizer(stand_in_model(), StandInDetector())
BLIND = Recognizer(stand_in_model(), StandInDetector(()))
CONTENT = encode_jpeg(np.asarray(picture(640, 480)), quality=95)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_boxes_and_crops_are_of_the_full_size(scale):
    """A small face of a reduced photo is read from the full one, a large one almost as well."""

    def read(scale, *boxes):
        photo = decode_photo(CONTENT, enough_pixels=640 * 480 // scale**2)
        assert photo.pixels.shape == (480 // scale, 640 // scale, 3)
        faces = Recognizer(looking_model(), StandInDetector(boxes)).recognize(photo)
        return faces, "full" in vars(photo)  # whether it was ever decoded

    side = LEAST_SIDE_PX - (scale != 2)
    boxes = [(0, 10, side, side), (40, 0, side, side)]
    faces, is_full = read(scale, *boxes)
    expected, _ = read(1, *(tuple(scale * n for n in box) for box in boxes))
    assert is_full is (scale != 2)
    for face, other in zip(faces, expected, strict=True):
        assert face.box_xywh == other.box_xywh
        tolerance = 0.03 if scale == 2 else 0
        assert face.probabilities == pytest.approx(dict(other.probabilities), abs=tolerance)


def test_photos_of_an_iterator_are_let_go_one_by_one():
    alive = []

    def photos():
        shown = []
        for _ in range(6):
            photo = np.zeros((120, 160, 3), np.uint8)
            shown.append(weakref.ref(photo))
            alive.append(sum(each() is not None for each in shown))
            yield photo
            del photo

    found = RECOGNIZER.recognize(photos())
    assert isinstance(found, Recognitions)
    assert len(found) == 6
    assert max(alive) <= 2
    with pytest.raises(ImageError, match="iterators"):
        found[0].annotated()


def test_files_of_a_list_are_kept_as_their_bytes_not_as_pixels(monkeypatch):
    read = []

    def watched(image, *arguments):
        photo = open_photo(image, *arguments)
        assert all(before() is None for before in read)  # one photo's pixels at a time
        read.append(weakref.ref(photo))
        return photo

    monkeypatch.setattr("emotion.recognizer.open_photo", watched)
    found = RECOGNIZER.recognize([io.BytesIO(CONTENT) for _ in range(3)])
    assert [photo() for photo in read] == [None] * 3
    assert found[2].annotated().shape == (480, 640, 3)


def test_a_bad_photo_among_many():
    for bad, kind, message in (
        (b"", EmptyImageError, r"^images\[1\]: expected"),
        ("no/such.jpg", ImageError, r"^images\[1\], no/such.jpg: expected"),
        (None, ImageError, r"^images\[1\]: .*received NoneType$"),
        (np.zeros((20, 10)), ImageError, r"^images\[1\]: .*at least 16"),
    ):
        with pytest.raises(kind, match=message):
            RECOGNIZER.recognize([CONTENT, bad])
        found = RECOGNIZER.recognize([CONTENT, bad, CONTENT], errors="keep")
        assert [len(each) for each in found] == [2, 0, 2]
        assert [each.problem is None for each in found] == [True, False, True]
        assert [each.size_wh for each in found] == [(640, 480), None, (640, 480)]


class Varied:
    """Finds none, one or two faces, by the photo."""

    def detect(self, image):
        return StandInDetector(TWO_BOXES[: int(image[0, 0, 0]) % 3]).detect(image)


def test_answers_stay_with_their_photos_in_one_batch_and_in_many_threads():
    shared = Recognizer(looking_model(), Varied())
    photos = [encode_jpeg(np.asarray(picture(seed=seed))) for seed in range(8)]
    one_by_one = [shared.recognize(photo) for photo in photos]
    assert {len(faces) for faces in one_by_one} == {0, 1, 2}
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(shared.recognize, photos)) == one_by_one
    for alone, among in zip(one_by_one, shared.recognize(photos), strict=True):
        assert [face.box_xywh for face in alone] == [face.box_xywh for face in among]
        for one, other in zip(alone, among, strict=True):
            assert one.probabilities == pytest.approx(dict(other.probabilities), abs=1e-6)


def test_a_face_is_explained():
    recognizer = Recognizer(looking_model(), StandInDetector())
    second = recognizer.explain(CONTENT, face=2)
    sights = recognizer.look(decode_photo(CONTENT))
    assert second.class_name == sights[1].face.emotion
    np.testing.assert_array_equal(second.crop, sights[1].crop)
    assert recognizer.explain(CONTENT, emotion="sad").class_name == "sad"
    assert second.to_image(side=100).size == (100, 100)
    assert second._repr_html_().startswith(f'<div><img alt="{second.class_name} ')


def test_a_model_is_named_by_any_of_its_files():
    for end in ("", ".h5", ".json", ".card.json", ".onnx", ".onnx.json"):
        for path in (f"models/mine{end}", Path(f"models/mine{end}")):
            assert stem_of(path) == Path("models/mine")
    assert stem_of("models/mine.v2") == Path("models/mine.v2")


def test_what_cannot_be_explained_or_read_is_a_sentence():
    for kind, words, call in (
        (ImageError, "face 0 .* with 2$", lambda: RECOGNIZER.explain(CONTENT, face=0)),
        (ImageError, "face 3 .* with 2$", lambda: RECOGNIZER.explain(CONTENT, face=3)),
        (ImageError, "without a face", lambda: BLIND.explain(CONTENT)),
        (ModelError, "class of the model", lambda: RECOGNIZER.explain(CONTENT, emotion="bored")),
        (ValueError, "'ignore'", lambda: RECOGNIZER.recognize(CONTENT, errors="ignore")),
        (EmptyImageError, "^expected an image", lambda: RECOGNIZER.recognize(b"")),
        (ModelError, r"none\.json and none\.h5", lambda: Recognizer.load("/no/none.h5")),
    ):
        with pytest.raises(kind, match=words):
            call()
