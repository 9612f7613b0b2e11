import base64
import copy
import io
import json
import pickle
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from web_support import CLOSE, HAPPY, SHA256, StandInDetector, encoded, picture, stand_in_model

from emotion.drawing import annotate
from emotion.errors import ImageError, TableError
from emotion.images.decoding import read_image
from emotion.labels import EMOTIONS
from emotion.notebook import MOST_THUMBNAILS, THUMBNAIL_PX, Recognition, Recognitions
from emotion.recognizer import Recognizer
from emotion.rows import results_to_dict

ARRAY = np.asarray(picture())
RECOGNIZER = Recognizer(stand_in_model(), StandInDetector())
BLIND = Recognizer(stand_in_model(), StandInDetector(()))
PROBABILITIES = [f"probability_{name}" for name in EMOTIONS]
COLUMNS = [
    *"face x y width height score emotion confidence sure agreement candidates".split(),
    *PROBABILITIES,
    *"notes verdict".split(),
]


@pytest.fixture
def path(tmp_path):
    place = tmp_path / "photo.jpg"
    place.write_bytes(encoded("JPEG"))
    return place


class Page(HTMLParser):
    """What a notebook shows of a result: tags, pictures and their sizes, text."""

    def __init__(self, result):
        super().__init__()
        self.tags, self.pictures, self.sizes, self.text = [], [], [], ""
        self.feed(result._repr_html_())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            self.pictures.append(dict(attrs))
            content = base64.b64decode(dict(attrs)["src"].split(",", 1)[1])
            self.sizes.append(Image.open(io.BytesIO(content)).size)

    def handle_data(self, data):
        self.text += f"{data}\n"


def test_it_is_a_tuple_of_faces_that_says_where_it_comes_from(path):
    recognition = RECOGNIZER.recognize(path)
    first, second = recognition
    assert (first.emotion, second.emotion) == ("happy", "angry")
    assert recognition == (first, second)
    assert recognition[:1] == (first,)
    assert (recognition.name, recognition.size_wh) == (str(path), (160, 120))
    with pytest.raises(AttributeError):
        recognition.name = "another"
    content = recognition.to_dict()
    assert content == results_to_dict(recognition, (160, 120), "stand_in", SHA256)
    assert json.loads(json.dumps(content)) == content
    nothing, problem = BLIND.recognize(ARRAY), RECOGNIZER.recognize(b"nothing", errors="keep")
    assert (nothing, nothing.name, nothing.problem) == ((), "photo", None)
    said = problem.to_dict()
    assert (said["image"], said["faces"], said["problem"]) == (None, [], problem.problem)
    with pytest.raises(ImageError):
        problem.annotated()
    many = RECOGNIZER.recognize([path, ARRAY, ARRAY])
    assert isinstance(many[-1], Recognition)
    assert [each.name for each in many[1:3]] == ["images[1]", "images[2]"]
    back = pickle.loads(pickle.dumps(many))
    assert isinstance(back[1:], Recognitions)
    assert back == many
    assert back.to_dataframe().equals(many.to_dataframe())


def kinds_of(frame):
    return {name: str(kind) for name, kind in frame.dtypes.items()}


def test_a_frame_has_a_row_a_face_and_loses_no_photo(path, monkeypatch):
    one, none = (each.recognize(ARRAY).to_dataframe() for each in (RECOGNIZER, BLIND))
    assert list(one) == list(none) == COLUMNS
    assert one["face"].tolist() == [1, 2]
    assert one["verdict"].tolist() == ["happy 90%", "unsure: angry 41% or fear 38%"]
    np.testing.assert_allclose(one[PROBABILITIES], [HAPPY, CLOSE], atol=1e-6)
    wide = encoded("PNG", 15, 40)  # too small: the one that cannot be read
    many = RECOGNIZER.recognize([path, ARRAY, wide], errors="keep").to_dataframe()
    assert list(many) == ["photo", *COLUMNS[:-1], "problem", "verdict"]
    assert many["photo"].tolist() == [str(path)] * 2 + ["images[1]"] * 2 + ["images[2]"]
    assert many["problem"].notna().tolist() == [False] * 4 + [True]
    assert many["emotion"].isna().tolist() == [False] * 4 + [True]
    assert many[many["sure"]]["emotion"].tolist() == ["happy", "happy"]
    empty = BLIND.recognize([ARRAY]).to_dataframe()
    assert empty["photo"].tolist() == ["images[0]"]
    assert empty[["face", "problem"]].isna().all(axis=None)
    assert kinds_of(many) == kinds_of(empty)
    assert kinds_of(none).items() < kinds_of(many).items()
    kinds = [kinds_of(one)[name] for name in "face height score emotion notes sure".split()]
    assert kinds == "Int64 Int64 float64 str str boolean".split()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(TableError, match=r"pip install pandas$"):
        BLIND.recognize(ARRAY).to_dataframe()


WAYS = {
    "path": lambda path: path,
    "bytes": Path.read_bytes,
    "array": read_image,
    "file": lambda path: io.BytesIO(path.read_bytes()),
    "Pillow": lambda path: Image.open(io.BytesIO(path.read_bytes())),
}


@pytest.mark.parametrize("way", WAYS)
def test_annotated_is_the_photo_with_its_faces_and_pickles_carry_no_photo(way, path):
    path.write_bytes(encoded("JPEG", 800, 600))
    recognition = RECOGNIZER.recognize(WAYS[way](path))
    expected = annotate(read_image(path), recognition)
    for copied in (recognition, copy.copy(recognition), copy.deepcopy(recognition)):
        np.testing.assert_array_equal(copied.annotated(), expected)
        np.testing.assert_array_equal(np.asarray(copied.to_image()), expected)
    content = pickle.dumps(recognition)
    assert len(content) < 2000
    back = pickle.loads(content)
    assert isinstance(back, Recognition)
    assert (back, back.to_dict()) == (recognition, recognition.to_dict())
    assert (back.name, back.size_wh, back.problem) == (recognition.name, (800, 600), None)
    if way == "path":  # the file is found again
        assert back.annotated().shape == (600, 800, 3)
        return
    for without in (back, recognition.without_photo()):
        with pytest.raises(ImageError, match="without it"):
            without.annotated()
        assert "without it" in without._repr_html_()


def test_saved_whole_and_never_over_the_photo_itself(path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.chdir(path.parent)
    # the first is searched at half its size
    for suffix, width, height in ((".jpg", 3000, 2000), (".png", 160, 120), (".webp", 160, 120)):
        recognition = RECOGNIZER.recognize(encoded("JPEG", width, height))
        recognition.save(f"boxes{suffix}")
        assert read_image(Path(f"boxes{suffix}")).shape == (height, width, 3)
    plain, blurred = recognition.annotated(), recognition.annotated(blur=True)
    assert (plain[20:60, 20:60] != blurred[20:60, 20:60]).mean() > 0.5
    np.testing.assert_array_equal(plain[-5:, -5:], blurred[-5:, -5:])
    recognition = RECOGNIZER.recognize(path)
    for name, words in ((path.name, "another file"), ("a.bmp", r"\.jpg.* received \.bmp")):
        with pytest.raises(ImageError, match=words):
            recognition.save(name)
    assert path.read_bytes() == before
    path.write_bytes(encoded("JPEG", 200, 100))
    with pytest.raises(ImageError, match=r"160x120.* received 200x100"):
        recognition.annotated()
    path.unlink()
    with pytest.raises(ImageError, match="No such file"):
        recognition.annotated()
    shown = recognition._repr_html_()  # shown, never raised
    assert "No such file" in shown
    assert "happy" in shown


def test_words_of_one(path):
    recognition = RECOGNIZER.recognize(path)
    title, first, second = str(recognition).splitlines()
    assert title == f"{path} (160x120)"
    assert first.startswith("face 1: happy 90% (x 10, y 10, 60x60)")
    assert "Small face" in second
    words = "1: happy 90%, 2: unsure: angry 41% or fear 38%"
    assert repr(recognition) == f"<Recognition of {title}: {words}>"
    assert str(BLIND.recognize(ARRAY)) == "photo (160x120)\nno face found"
    odd = RECOGNIZER.recognize("a\033[2J\n.jpg", errors="keep")
    assert repr(odd).startswith("<Recognition of a?[2J?.jpg: ")
    boxes = tuple((10 * n, 10, 9, 9) for n in range(12))
    crowd = Recognizer(stand_in_model(HAPPY), StandInDetector(boxes)).recognize(ARRAY)
    assert repr(crowd).endswith("3: happy 90% and 9 more>")
    assert len(str(crowd).splitlines()) == 13


def test_a_notebook_shows_one_with_its_percentages_and_of_many_a_first_part(path):
    page = Page(RECOGNIZER.recognize(ARRAY))
    assert page.sizes == [(160, 120)]
    assert page.pictures[0]["alt"].startswith("photo: 1: happy 90%")
    assert page.tags.count("tr") == 3
    assert {"disgust", "90%"} <= set(page.text.splitlines())
    assert "Small face" in page.text
    page = Page(BLIND.recognize(ARRAY))
    assert ("no face found" in page.text, "table" in page.tags) == (True, False)
    page = Page(RECOGNIZER.recognize([path, ARRAY, b"no"], errors="keep"))
    assert page.tags.count("figure") == 3
    assert page.sizes == [(160, 120), (160, 120)]
    assert "photo.jpg" in page.text.splitlines()
    assert "JPEG" in page.text
    large = [np.zeros((600, 800, 3), np.uint8)] * (MOST_THUMBNAILS + 3)
    page = Page(RECOGNIZER.recognize(large))
    assert page.sizes == [(THUMBNAIL_PX, THUMBNAIL_PX * 3 // 4)] * MOST_THUMBNAILS
    assert "and 3 more" in page.text


EVIL = '<img src=x onerror="alert(1)">&quot;'


def test_html_is_safe():
    named = Recognizer(stand_in_model((0.6, 0.4), names=(EVIL, "other")), StandInDetector())
    file, broken = io.BytesIO(encoded("PNG")), io.BytesIO(b"<script>alert(1)</script>")
    file.name = broken.name = f"{EVIL}.png"
    one = named.recognize(file)
    file.seek(0)
    for shown in (one, named.recognize([file, broken, f"{EVIL}.jpg"], errors="keep")):
        page = Page(shown)
        assert "script" not in page.tags
        assert all(set(each) == {"alt", "src", "style"} for each in page.pictures)
        assert all(each["src"].startswith("data:image/jpeg;base64,") for each in page.pictures)
        assert EVIL in page.text
