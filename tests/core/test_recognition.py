"""What the public API returns: a tuple of faces that draws, tabulates and shows itself."""

import base64
import copy
import io
import json
import pickle
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas
import pytest
from PIL import Image
from web_support import CLOSE, HAPPY, SHA256, StandInDetector, encoded, picture, stand_in_model

from emotion.drawing import annotate
from emotion.errors import ImageError
from emotion.images.decoding import read_image
from emotion.labels import EMOTIONS
from emotion.notebook import (
    MOST_THUMBNAILS,
    THUMBNAIL_PX,
    Recognition,
    Recognitions,
)
from emotion.recognizer import Recognizer
from emotion.rows import results_to_dict

ARRAY = np.asarray(picture())
PROBABILITIES = [f"probability_{name}" for name in EMOTIONS]
COLUMNS = [
    *"face x y width height score emotion confidence sure candidates".split(),
    *PROBABILITIES,
    "notes",
    "verdict",
]


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer(stand_in_model(), StandInDetector())


@pytest.fixture(scope="module")
def blind():
    """Return a recognizer that finds no face."""
    return Recognizer(stand_in_model(), StandInDetector(()))


@pytest.fixture
def path(tmp_path):
    place = tmp_path / "photo.jpg"
    place.write_bytes(encoded("JPEG"))
    return place


class Page(HTMLParser):
    """What is in a piece of HTML: names of tags, attributes of pictures and text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.pictures, self.texts = [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            self.pictures.append(dict(attrs))

    def handle_data(self, data):
        self.texts.append(data)

    def sizes(self):
        contents = [base64.b64decode(each["src"].split(",", 1)[1]) for each in self.pictures]
        return [Image.open(io.BytesIO(content)).size for content in contents]


def test_it_is_a_tuple_of_faces_that_says_where_it_comes_from(recognizer, blind, path):
    recognition = recognizer.recognize(path)
    first, second = recognition
    assert isinstance(recognition, tuple)
    assert (first.emotion, second.emotion) == ("happy", "angry")
    assert recognition == (first, second)
    assert recognition[:1] == (first,)
    assert (recognition.name, recognition.size_wh) == (str(path), (160, 120))
    assert recognizer.recognize(ARRAY).name == "photo"
    for name in ("name", "size_wh", "problem"):
        with pytest.raises(AttributeError):
            setattr(recognition, name, "another")
    nothing = blind.recognize(ARRAY)
    assert not nothing
    assert (nothing, nothing.problem) == ((), None)


def test_the_dict_is_that_of_api_and_shell(recognizer):
    recognition = recognizer.recognize(ARRAY)
    content = recognition.to_dict()
    assert content == results_to_dict(recognition, (160, 120), "stand_in", SHA256)
    assert json.loads(json.dumps(content)) == content
    problem = recognizer.recognize(b"nothing", errors="keep").to_dict()
    assert (problem["image"], problem["faces"]) == (None, [])
    assert problem["problem"].startswith("expected one of JPEG")


def test_the_frame_has_a_row_a_face(recognizer):
    frame = recognizer.recognize(ARRAY).to_dataframe()
    assert list(frame) == COLUMNS
    assert frame["face"].tolist() == [1, 2]
    assert frame[["x", "y", "width", "height"]].values.tolist() == [
        [10, 10, 60, 60],
        [90, 20, 30, 30],
    ]
    assert frame["emotion"].tolist() == ["happy", "angry"]
    assert frame["candidates"].tolist() == ["happy", "angry, fear"]
    assert frame["sure"].tolist() == [True, False]
    assert frame["verdict"].tolist() == ["happy 90%", "unsure: angry 41% or fear 38%"]
    np.testing.assert_allclose(frame[PROBABILITIES], [HAPPY, CLOSE], atol=1e-6)


def kinds_of(frame):
    return {name: str(kind) for name, kind in frame.dtypes.items()}


def test_the_frame_of_many_has_their_names_and_loses_no_photo(recognizer, path):
    wide = encoded("PNG", 15, 40)  # too small: the one that cannot be read
    frame = recognizer.recognize([path, ARRAY, wide], errors="keep").to_dataframe()
    assert list(frame) == ["photo", *COLUMNS[:-1], "problem", "verdict"]
    assert frame["photo"].tolist() == [str(path)] * 2 + ["images[1]"] * 2 + ["images[2]"]
    assert frame["problem"].notna().tolist() == [False] * 4 + [True]
    assert frame["emotion"].isna().tolist() == [False] * 4 + [True]
    assert len(frame.dropna(subset="face")) == 4
    assert frame[frame["sure"]]["emotion"].tolist() == ["happy", "happy"]
    back = pandas.read_parquet(io.BytesIO(frame.to_parquet()))
    assert kinds_of(back) == kinds_of(frame)


def test_types_of_the_frame_also_without_a_row(recognizer, blind):
    for source in (ARRAY, [ARRAY]):
        kinds = kinds_of(recognizer.recognize(source).to_dataframe())
        assert kinds == kinds_of(blind.recognize(source).to_dataframe())
        assert kinds["face"] == kinds["x"] == kinds["height"] == "Int64"
        assert kinds["score"] == kinds["confidence"] == kinds["probability_sad"] == "float64"
        assert kinds["emotion"] == kinds["candidates"] == kinds["notes"] == "str"
        assert kinds["sure"] == "boolean"
    assert kinds["photo"] == kinds["problem"] == "str"
    frame = blind.recognize([ARRAY]).to_dataframe()
    assert frame["photo"].tolist() == ["images[0]"]
    assert frame[["face", "problem"]].isna().all(axis=None)


WAYS = {
    "path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "array": read_image,
    "file": lambda path: io.BytesIO(path.read_bytes()),
    "Pillow": lambda path: Image.open(io.BytesIO(path.read_bytes())),
}


@pytest.mark.parametrize("way", WAYS)
def test_annotated_is_the_photo_with_its_faces(recognizer, way, path):
    recognition = recognizer.recognize(WAYS[way](path))
    expected = annotate(read_image(path), recognition)
    np.testing.assert_array_equal(recognition.annotated(), expected)
    np.testing.assert_array_equal(np.asarray(recognition.to_image()), expected)


def test_blurred_faces(recognizer):
    recognition = recognizer.recognize(ARRAY)
    plain, blurred = recognition.annotated(), recognition.annotated(blur=True)
    x, y, width, height = recognition[0].box_xywh
    inside = np.s_[y + 10 : y + height - 10, x + 10 : x + width - 10]
    assert (plain[inside] != blurred[inside]).mean() > 0.5
    np.testing.assert_array_equal(plain[-5:, -5:], blurred[-5:, -5:])


def test_saved_whole_and_never_over_the_photo_itself(recognizer, path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.chdir(path.parent)
    recognition = recognizer.recognize(encoded("JPEG", 3000, 2000))
    for suffix in (".jpg", ".png", ".webp"):
        recognition.save(f"boxes{suffix}")
        assert read_image(Path(f"boxes{suffix}")).shape == (2000, 3000, 3)
    with pytest.raises(ImageError, match="another file"):
        recognizer.recognize(path).save(path.name)
    with pytest.raises(ImageError, match=r"\.jpg.* received \.bmp"):
        recognition.save("a.bmp")
    assert path.read_bytes() == before


def test_a_photo_that_is_gone_or_another_one_is_told(recognizer, path):
    recognition = recognizer.recognize(path)
    path.write_bytes(encoded("JPEG", 200, 100))
    with pytest.raises(ImageError, match="160x120 pixels that was recognized; received 200x100"):
        recognition.annotated()
    path.unlink()
    with pytest.raises(ImageError, match="No such file"):
        recognition.annotated()
    assert "No such file" in recognition._repr_html_()  # shown, never raised
    assert "happy" in recognition._repr_html_()


# pickles and copies


@pytest.mark.parametrize("way", WAYS)
def test_pickles_carry_no_photo(recognizer, way, path):
    path.write_bytes(encoded("JPEG", 1600, 1200))
    recognition = recognizer.recognize(WAYS[way](path))
    content = pickle.dumps(recognition)
    assert len(content) < 2000
    back = pickle.loads(content)
    assert isinstance(back, Recognition)
    assert back == recognition
    assert (back.name, back.size_wh, back.problem) == (recognition.name, (1600, 1200), None)
    assert back.to_dict() == recognition.to_dict()
    if way == "path":  # the file is found again
        assert back.annotated().shape == (1200, 1600, 3)
        return
    for without in (back, recognition.without_photo()):
        with pytest.raises(ImageError, match="without it"):
            without.annotated()
        assert "without it" in without._repr_html_()


def test_many_are_a_tuple_whose_slices_and_pickles_are_many(recognizer, path):
    many = recognizer.recognize([path, ARRAY, ARRAY])
    assert isinstance(many[-1], Recognition)
    assert isinstance(many[1:3], Recognitions)
    assert [each.name for each in many[1:3]] == ["images[1]", "images[2]"]
    back = pickle.loads(pickle.dumps(many))
    assert isinstance(back, Recognitions)
    assert back == many
    assert back.to_dataframe().equals(many.to_dataframe())
    with Image.open(path) as image:
        recognition = recognizer.recognize(image)
    for copied in (copy.copy(recognition), copy.deepcopy(recognition)):
        assert copied.annotated().shape == ARRAY.shape


def test_words_of_one(recognizer, path, blind):
    recognition = recognizer.recognize(path)
    assert repr(recognition) == (
        f"<Recognition of {path} (160x120): 1: happy 90%, 2: unsure: angry 41% or fear 38%>"
    )
    lines = str(recognition).splitlines()
    assert lines[0] == f"{path} (160x120)"
    assert lines[1].startswith("face 1: happy 90% (x 10, y 10, 60x60)")
    assert "Small face" in lines[2]
    assert str(blind.recognize(ARRAY)) == "photo (160x120)\nno face found"
    page = Page(blind.recognize(ARRAY)._repr_html_())
    assert "no face found" in page.texts
    assert "table" not in page.tags
    odd = recognizer.recognize("a\033[2J\n.jpg", errors="keep")
    assert repr(odd).startswith("<Recognition of a?[2J?.jpg: ")
    boxes = tuple((10 * n, 10, 9, 9) for n in range(12))
    crowd = Recognizer(stand_in_model(HAPPY), StandInDetector(boxes)).recognize(ARRAY)
    assert repr(crowd).endswith("3: happy 90% and 9 more>")
    assert len(str(crowd).splitlines()) == 13


# in notebooks


def test_a_notebook_shows_photo_and_percentages(recognizer):
    page = Page(recognizer.recognize(ARRAY)._repr_html_())
    assert page.sizes() == [(160, 120)]
    assert page.pictures[0]["alt"].startswith("photo: 1: happy 90%")
    assert page.tags.count("tr") == 3
    assert [text for text in page.texts if text == "disgust"]
    assert "90%" in page.texts
    assert any("Small face" in text for text in page.texts)


EVIL = '<img src=x onerror="alert(1)">&quot;'


def test_html_is_safe(recognizer):
    model = stand_in_model((0.6, 0.4), names=(EVIL, "other"))
    for_names = Recognizer(model, StandInDetector())
    file = io.BytesIO(encoded("PNG"))
    file.name = f"{EVIL}.png"
    broken = io.BytesIO(b"<script>alert(1)</script>")
    broken.name = f"{EVIL}.png"
    one = for_names.recognize(file)
    file.seek(0)
    many = for_names.recognize([file, broken, f"{EVIL}.jpg"], errors="keep")
    for html in (one._repr_html_(), many._repr_html_()):
        page = Page(html)
        assert not {"script"} & set(page.tags)
        assert all(set(each) == {"alt", "src", "style"} for each in page.pictures)
        assert all(each["src"].startswith("data:image/jpeg;base64,") for each in page.pictures)
        assert any(EVIL in text for text in page.texts) or EVIL in page.pictures[0]["alt"]


def test_a_contact_sheet_of_many(recognizer, path):
    many = recognizer.recognize([path, ARRAY, b"no"], errors="keep")
    page = Page(many._repr_html_())
    assert page.tags.count("figure") == 3
    assert page.sizes() == [(160, 120), (160, 120)]
    assert "photo.jpg" in page.texts
    assert any("expected one of JPEG" in text for text in page.texts)
    assert many.to_dataframe()["photo"][0] == str(path)


def test_a_contact_sheet_has_an_end(recognizer):
    count = MOST_THUMBNAILS + 3
    large = np.zeros((600, 800, 3), np.uint8)
    page = Page(recognizer.recognize([large] * count)._repr_html_())
    assert page.sizes() == [(THUMBNAIL_PX, THUMBNAIL_PX * 3 // 4)] * MOST_THUMBNAILS
    assert any("and 3 more" in text for text in page.texts)
