import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training_data import make_dataset

from emotion.labels import EMOTIONS
from emotion.training.data.inspection import (
    findings,
    inspect_dataset,
    inspection_lines,
)
from emotion.training.data.inspection_page import write_inspection


@pytest.fixture
def data():
    """Return 70 training and 35 test images, all different, each with a name."""
    dataset = make_dataset(train=70, validation=0, test=35)
    return replace(dataset, names=np.array([f"{n}.png" for n in range(len(dataset))]))


def planted(data):
    """Return the data with faults: copies, conflicts, blank images, unreadable files."""
    images, labels = data.images.copy(), data.labels.copy()
    images[7] = images[0]  # the same class twice in training
    images[75] = images[14] = images[3]  # training twice and test; rows 3, 14 and 75 differ
    images[101] = images[80]  # test alone, two classes
    labels[101] = (labels[80] + 1) % 7
    images[20], images[21] = 0, 77
    images[76] = images[5]  # nearly the same in training and test
    images[76, 0, 0] ^= 8
    return replace(data, images=images, labels=labels, unreadable=("x/1.png: OSError: cut",))


def texts(inspection, level=None) -> str:
    return "\n".join(f.text for f in findings(inspection) if level in (None, f.level))


def test_planted_faults_are_counted(data):
    inspection = inspect_dataset(planted(data))
    assert inspection.duplicates == ((0, 7), (3, 14, 75), (80, 101))
    assert inspection.spanning == ((3, 14, 75),)
    assert inspection.conflicting == ((3, 14, 75), (80, 101))
    assert (inspection.leaked_images, inspection.similar_images) == (2, 1)
    assert inspection.odd_images == {
        "all black": ("20.png",),
        "all of one grey value": ("21.png",),
    }
    text = texts(inspection, "warning")
    for found in ("1 group of", "2 groups of", "(5 images)", "1 training image", "1 file"):
        assert found in text


def test_good_data_has_no_warnings_but_few_images(data):
    inspection = inspect_dataset(data)
    assert inspection.counts == {
        "train": dict.fromkeys(EMOTIONS, 10),
        "test": dict.fromkeys(EMOTIONS, 5),
    }
    assert (inspection.images, inspection.imbalance) == (105, 1.0)
    (warning,) = [f.text for f in findings(inspection) if f.level in ("warning", "stop")]
    assert "Fewer than 50" in warning
    assert len(texts(inspection, "fine").splitlines()) == 2


def test_sizes_people_and_votes(data):
    sizes = np.full((105, 2), 48, np.int32)
    sizes[:3] = (640, 480), (20, 30), (640, 480)
    groups = np.array(["a"] * 60 + [""] * 20 + ["a"] * 5 + ["b"] * 20)
    votes = np.eye(7, dtype=np.float32)[data.labels]
    votes[:5] = 0
    votes[10:35] = np.eye(7, dtype=np.float32)[(data.labels[10:35] + 1) % 7]
    seen = inspect_dataset(replace(data, sizes_wh=sizes, groups=groups, votes=votes))
    assert (seen.sizes["smallest_wh"], seen.sizes["largest_wh"]) == ((20, 30), (640, 480))
    assert (seen.sizes["most_common_wh"], seen.sizes["most_common_images"]) == ((48, 48), 102)
    assert (seen.sizes["kinds"], seen.sizes["not_square"]) == (3, 3)
    people = seen.people
    assert (people["count"], people["images_unknown"], people["in_several_splits"]) == (2, 20, 1)
    assert "1 person" in texts(seen, "warning")
    assert (seen.votes["images"], seen.votes["without"], seen.votes["agreement"]) == (100, 5, 0.75)


def test_imbalance_and_missing_classes_are_told(data):
    unequal = data.where((data.labels != 2) & ((data.labels != 3) | (np.arange(105) % 70 < 7)))
    inspection = inspect_dataset(unequal)
    text = texts(inspection, "warning")
    assert inspection.imbalance is None
    assert "images of fear." in text
    assert "angry has 10.0 times" in text


def test_half_broken_data_are_inspected(data, tmp_path):
    for classes, word in (((1,), "disgust"), ((), "no class")):
        broken = data.where(np.isin(data.labels, classes))
        inspection = inspect_dataset(broken)
        assert word in texts(inspection, "stop")
        assert inspection_lines(inspection)
    assert write_inspection(tmp_path, broken, inspection).exists()
    plain = replace(data, splits=np.array([""] * 105), names=None)
    inspection = inspect_dataset(plain)
    assert list(inspection.counts) == ["no split yet"]
    assert inspection.imbalance == 1.0
    assert "no test split" in texts(inspection)
    write_inspection(tmp_path, plain, inspection)


def test_lines_fit_a_terminal(data):
    many = tuple(f"{'folder/' * 30}{n}.png: OSError: truncated" for n in range(30))
    lines = inspection_lines(inspect_dataset(replace(planted(data), unreadable=many)))
    assert lines[0] == "105 images of 7 classes"
    assert max(map(len, lines)) <= 100
    assert lines[-1] == "  and 20 more"
    assert lines[-2].endswith("9.png: OSError: truncated")
    assert re.search(r"^angry +10 +5 +15 +14.3%$", "\n".join(lines), re.M)


def read_csv(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_files_hold_what_was_found(data, tmp_path):
    odd = ("<script>alert(1)</script>/1.png: OSError: cut",)
    data = replace(planted(data), unreadable=odd, class_names=("<b>", *data.class_names[1:]))
    path = write_inspection(tmp_path / "new", data, inspect_dataset(data))
    folder = path.parent
    rows = read_csv(folder / "duplicates.csv")
    assert [row["name"] for row in rows if row["group"] == "2"] == ["3.png", "14.png", "75.png"]
    rows = read_csv(folder / "conflicts.csv")
    assert [row["class"] for row in rows] == ["happy", "<b>", "sad", "happy", "neutral"]
    name, _, reason = odd[0].partition(": ")
    assert read_csv(folder / "unreadable.csv") == [{"name": name, "reason": reason}]
    facts = json.loads((folder / "inspection.json").read_text())
    assert facts["counts"]["train"]["<b>"] == 10
    assert facts["conflicting"] == {"groups": 2, "images": 5}
    for name in ("contact_sheet", "class_counts", "conflicts"):
        with Image.open(folder / f"{name}.png") as picture:
            assert min(picture.size) > 100
    page = path.read_text()
    assert "<script" not in page
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    sources = re.findall(r'(?:src|href)="(.{0,30})', page)
    assert len(sources) == 3, "the page loads nothing"
    assert all(source.startswith("data:image/png;base64,") for source in sources)
