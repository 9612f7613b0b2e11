import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from training_data import make_dataset, read_csv

from emotion.labels import EMOTIONS
from emotion.training.data import inspection
from emotion.training.data.inspection import findings, inspect_dataset, write_inspection


@pytest.fixture
def data():
    """Return 70 training and 35 test images, all different, each with a name."""
    dataset = make_dataset(train=70, validation=0, test=35)
    return replace(dataset, names=np.array([f"{n}.png" for n in range(105)]))


@pytest.fixture
def planted(data):
    """Return the data with copies, conflicts, blank images and an unreadable file."""
    images, labels = data.images, data.labels
    images[7] = images[0]  # the same class twice in training
    images[75] = images[14] = images[3]  # training twice and test; rows 3, 14 and 75 differ
    images[101] = images[80]  # test alone, two classes
    labels[101] = (labels[80] + 1) % 7
    images[20], images[21] = 0, 77
    images[76] = images[5]  # nearly the same in training and test
    images[76, 0, 0] ^= 8
    odd = ("<script>alert(1)</script>/1.png: OSError: cut",)
    return replace(data, unreadable=odd, class_names=("<b>", *EMOTIONS[1:]))


def texts(seen, level=None) -> str:
    return "\n".join(f.text for f in findings(seen) if level in (None, f.level))


def test_planted_faults_are_counted(planted):
    seen = inspect_dataset(planted)
    assert seen["duplicates"] == [[0, 7], [3, 14, 75], [80, 101]]
    assert seen["spanning"] == [[3, 14, 75]]
    assert seen["conflicting"] == [[3, 14, 75], [80, 101]]
    assert (seen["leaked_images"], seen["similar_images"]) == (2, 1)
    assert seen["odd_images"] == {"all black": ["20.png"], "all of one grey value": ["21.png"]}
    text = texts(seen, "warning")
    for found in ("1 group of", "2 groups of", "(5 images)", "1 training image", "1 file"):
        assert found in text


def test_good_data_has_no_warnings_but_few_images(data):
    seen = inspect_dataset(data)
    splits = {"train": dict.fromkeys(EMOTIONS, 10), "test": dict.fromkeys(EMOTIONS, 5)}
    assert (seen["counts"], seen["images"], seen["imbalance"]) == (splits, 105, 1.0)
    (warning,) = [f.text for f in findings(seen) if f.level in ("warning", "stop")]
    assert "Fewer than 50" in warning
    assert len(texts(seen, "fine").splitlines()) == 2


def test_sizes_people_and_votes(data):
    sizes = np.full((105, 2), 48, np.int32)
    sizes[:3] = (640, 480), (20, 30), (640, 480)
    groups = np.array(["a"] * 60 + [""] * 20 + ["a"] * 5 + ["b"] * 20)
    votes = np.eye(7, dtype=np.float32)[data.labels]
    votes[:5] = 0
    votes[10:35] = np.eye(7, dtype=np.float32)[(data.labels[10:35] + 1) % 7]
    seen = inspect_dataset(replace(data, sizes_wh=sizes, groups=groups, votes=votes))
    ends = {"smallest_wh": (20, 30), "largest_wh": (640, 480), "most_common_wh": (48, 48)}
    assert seen["sizes"] == ends | {"most_common_images": 102, "kinds": 3, "not_square": 3}
    assert seen["people"] == {"count": 2, "images_unknown": 20, "in_several_splits": 1}
    assert "1 person" in texts(seen, "warning")
    assert seen["votes"] == {"images": 100, "without": 5, "agreement": 0.75}


def test_half_broken_data_are_inspected(data, tmp_path):
    for classes, word in (((1,), "disgust"), ((), "no class")):
        broken = data.where(np.isin(data.labels, classes))
        seen = inspect_dataset(broken)
        assert word in texts(seen, "stop")
        assert inspection.inspection_lines(seen)
    assert write_inspection(tmp_path, broken, seen).exists()
    plain = replace(data, splits=np.array([""] * 105))
    seen = inspect_dataset(plain)
    assert (list(seen["counts"]), seen["imbalance"]) == (["no split yet"], 1.0)
    assert "no test split" in texts(seen)
    write_inspection(tmp_path, plain, seen)
    rare = (data.labels != 2) & ((data.labels != 3) | (np.arange(105) % 70 < 7))
    seen = inspect_dataset(data.where(rare))
    assert seen["imbalance"] is None
    for words in ("images of fear.", "angry has 10.0 times"):
        assert words in texts(seen, "warning")


def test_files_hold_what_was_found(planted, tmp_path):
    path = write_inspection(tmp_path / "new", planted, inspect_dataset(planted))
    names = ("duplicates", "conflicts", "unreadable")
    tables = {name: read_csv(path.with_name(f"{name}.csv")) for name in names}
    second = [row["name"] for row in tables["duplicates"] if row["group"] == "2"]
    assert second == ["3.png", "14.png", "75.png"]
    classes = "happy <b> sad happy neutral".split()
    assert [row["class"] for row in tables["conflicts"]] == classes
    name, _, reason = planted.unreadable[0].partition(": ")
    assert tables["unreadable"] == [{"name": name, "reason": reason}]
    facts = json.loads((path.parent / "inspection.json").read_text())
    assert facts["counts"]["train"]["<b>"] == 10
    assert facts["conflicting"] == {"groups": 2, "images": 5}
    with Image.open(path.parent / "contact_sheet.png") as picture:
        assert min(picture.size) > 100
    page = path.read_text()
    assert "&lt;b&gt;" in page
    assert not re.search("<script|<b>", page)
    sources = re.findall(r'(?:src|href)="(.{0,22})', page)
    assert sources == ["data:image/png;base64,"], "the page loads nothing"
    many = tuple(f"{n}.png: OSError: truncated" for n in range(30))
    lines = inspection.inspection_lines(inspect_dataset(replace(planted, unreadable=many)))
    assert (lines[0], lines[-1]) == ("105 images of 7 classes", "  and 20 more")
