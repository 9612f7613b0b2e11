import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image
from training_data import encode, make_dataset, put, write_classes, write_csv, write_zip

from emotion.detection.crop import crop_face
from emotion.detection.haar import FaceDetector
from emotion.errors import DatasetError
from emotion.images.decoding import decode_image
from emotion.images.encoding import encode_png
from emotion.training.data.layouts import names_below, read_layout, resolve_dataset
from emotion.training.data.votes import csv_rows
from emotion_model_training import main

GREY = encode(np.full((48, 48), 100, np.uint8))
SMALL = make_dataset(train=42, validation=0, test=14)


def test_class_folders_without_splits(tmp_path):
    root = write_classes(tmp_path / "some/where", classes=("happy", "Anger", "contempt"))
    loaded = read_layout(tmp_path)
    assert loaded.class_names == ("anger", "contempt", "happy")
    assert set(loaded.splits) == {""}
    assert np.bincount(loaded.labels).tolist() == [16, 16, 16]
    assert loaded.names[0] == "some/where/Anger/S000_001_00000000.png"
    assert loaded.notes == loaded.unreadable == ()
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for file in sorted(root.rglob("*.png")):
            archive.write(file, f"CK+48\\{file.parent.name}\\{file.name}")
    packed = read_layout(tmp_path / "faces.zip")
    np.testing.assert_array_equal(packed.images, loaded.images)
    assert packed.groups.tolist() == loaded.groups.tolist()
    loaded = read_layout(put(root, {"preview.png": GREY}).parent)
    assert len(loaded) == 48
    assert "such as where/preview.png" in loaded.notes[0]


def test_names_of_splits_and_images_beside_them(tmp_path):
    names = ("Training", "val", "PublicTest", "PrivateTest", "TEST")
    outside = ("happy/a.png", "sad/b.png", "stray.png", "val/stray.png")
    put(tmp_path, dict.fromkeys((*(f"{name}/Happy/1.png" for name in names), *outside), GREY))
    loaded = read_layout(tmp_path)
    found = {name.split("/")[0]: str(loaded.splits[row]) for row, name in enumerate(loaded.names)}
    expected = ("train", "validation", "test", "private_test", "test")
    assert found == dict(zip(names, expected, strict=True))
    assert (len(loaded), loaded.class_names) == (5, ("happy",))
    assert "4 images" in loaded.notes[0]


@pytest.mark.parametrize(
    ("folders", "classes", "word"),
    [
        ("0 1 2 3 4 5 6", "angry disgust fear happy sad surprise neutral", "FER2013"),
        ("1 2 3 4 5 6 7", "surprise fear disgust happy sad angry neutral", "RAF-DB"),
        ("0 1 7", "0 1 7", "numbers"),
        ("Happiness happy sadness", "happy happy sadness", "happiness, happy"),
    ],
)
def test_numbered_folders_and_folders_that_mean_the_same(tmp_path, folders, classes, word):
    put(tmp_path, {f"train/{folder}/1.png": GREY for folder in folders.split()})
    loaded = read_layout(tmp_path)
    assert [loaded.class_names[label] for label in loaded.labels] == classes.split()
    assert word in loaded.notes[0]


def test_a_csv_in_a_zip_and_one_without_usage(tmp_path):
    table = write_csv(tmp_path / "fer2013.csv", SMALL)
    plain = tmp_path / "train.csv"
    lines = table.read_text().splitlines()
    plain.write_text("\n".join(line[: line.rindex(",")] for line in lines))
    loaded = read_layout(plain)
    assert (set(loaded.splits), len(loaded), loaded.unreadable) == ({""}, 56, ())
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/fer2013.csv", table.read_bytes())
        archive.writestr("test.csv", "pixels\n1 2")
        archive.write(plain, "train.csv")
    np.testing.assert_array_equal(read_layout(path).images, SMALL.images)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.write(table, "data/fer2013.csv")
    loaded = read_layout(path)
    assert (loaded.splits.tolist(), loaded.names[0]) == (SMALL.splits.tolist(), "fer2013.csv row 2")
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x03\x04") + 5000] ^= 255
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="damaged"):
        read_layout(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a.csv", "b.csv"):
            archive.write(table, name)
    with pytest.raises(DatasetError, match=r"a\.csv, b\.csv"):
        read_layout(path)


def test_people_come_from_file_names(tmp_path):
    root = write_classes(tmp_path / "ck")
    people = {f"S{person:03d}" for person in range(8)}
    patterns = {"": people, "none-(.)": people}
    patterns |= {r"^S00(\d)": set("01234567"), "S00[1]": {"S001", ""}}
    for pattern, expected in patterns.items():
        assert set(read_layout(root, subject_pattern=pattern).groups) == expected


def test_images_are_read_as_in_the_app_and_not_stretched(tmp_path, astronaut):
    wide = np.zeros((96, 200), np.uint8)
    wide[:, 52:148] = np.arange(96)[:, None] * 2
    turned, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(SMALL.images[0]).save(turned, "PNG", exif=exif)
    kinds = {
        "high": encode(wide.T),
        "large": encode_png(astronaut),
        "small": encode_png(astronaut[:20, :20]),
        "turned": turned.getvalue(),
        "wide": encode(wide),
    }
    loaded = read_layout(put(tmp_path, {f"a/{name}.png": kinds[name] for name in kinds}))
    assert loaded.names.tolist() == [f"a/{name}.png" for name in kinds]
    sizes = [[96, 200], [512, 512], [20, 20], [48, 48], [200, 96]]
    assert loaded.sizes_wh.tolist() == sizes
    expected = np.repeat(np.arange(48)[:, None] * 4 + 1, 48, 1)
    for image in (loaded.images[0].T, loaded.images[4]):
        assert np.abs(image.astype(int) - expected).max() <= 1
    for name, image in zip(kinds, loaded.images, strict=True):
        photo = decode_image(kinds[name])
        height, width = photo.shape[:2]
        side = min(height, width)
        served = crop_face(photo, ((width - side) // 2, (height - side) // 2, side, side), margin=0)
        np.testing.assert_allclose(image, np.rint(served[..., 0] * 255), atol=1, err_msg=name)
    np.testing.assert_array_equal(loaded.images[3], SMALL.images[0][::-1, ::-1])


def test_faces_are_cropped_as_in_the_app(tmp_path, astronaut):
    photos = {"happy/face.png": encode_png(astronaut), "happy/none.png": GREY}
    loaded = read_layout(put(tmp_path, photos), crop_faces=True)
    (face,) = FaceDetector().detect(astronaut)
    served = crop_face(astronaut, face.box_xywh)
    np.testing.assert_array_equal(loaded.images[0], np.rint(served[..., 0] * 255))
    assert loaded.unreadable == ("happy/none.png: expected a face; none was found",)
    assert loaded.sizes_wh.tolist() == [[512, 512]]
    dataset = make_dataset(7, 0, 0)
    dataset.images[:] = 100
    dataset.images[5] = np.rint(crop_face(astronaut, face.box_xywh, 0.4)[..., 0] * 255)
    loaded = read_layout(write_csv(tmp_path / "fer2013.csv", dataset), crop_faces=True)
    assert loaded.names.tolist() == ["fer2013.csv row 7"]
    assert not (loaded.images[0] == dataset.images[5]).all()
    assert len(loaded.unreadable) == 6


def test_links_are_followed_and_hidden_files_and_loops_do_no_harm(tmp_path):
    write_classes(tmp_path / "elsewhere")
    hidden = "__MACOSX/happy/._1.png .thumbnails/happy/1.png happy/._1.png happy/Thumbs.db"
    root = put(tmp_path / "data", dict.fromkeys(hidden.split(), GREY))
    (root / "anger").symlink_to(tmp_path / "elsewhere" / "anger")
    (root / "happy" / "more").symlink_to(tmp_path / "elsewhere" / "happy")
    put(root, {"one/a.txt": b"", "two/a.txt": b""})
    links = {"one/link": "two", "two/link": "one", "one/up": ".", "one/root": "/"}
    for link, target in links.items():
        (root / link).symlink_to(root / target)
    names, skipped = names_below(root)
    assert len([name for name in names if name.endswith(".png")]) == 32
    assert skipped == []
    loaded = read_layout(root)
    assert (len(loaded), loaded.unreadable) == (16, ())


def test_what_is_no_readable_image_is_listed(tmp_path):
    write_classes(tmp_path)
    bad = {"broken.png": b"not an image", "cut.png": GREY[:-20], "empty.jpg": b"", "huge.png": b""}
    put(tmp_path / "happy", bad)
    os.truncate(tmp_path / "happy" / "huge.png", 30 * 2**20)
    (tmp_path / "happy" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "happy" / "pipe.png")
    loaded = read_layout(tmp_path)
    assert len(loaded) == 32
    reasons = dict(line.removeprefix("happy/").split(": ", 1) for line in loaded.unreadable)
    assert set(reasons) == {*bad, "gone.png", "pipe.png"}
    assert "received 30.0 MB" in reasons["huge.png"]
    assert "not a file" in reasons["pipe.png"]
    for good in tmp_path.rglob("S0*.png"):
        good.unlink()
    with pytest.raises(DatasetError, match=r"none .*pipe\.png"):
        read_layout(tmp_path)


def test_bad_entries_of_a_zip_are_listed_and_nothing_is_written(tmp_path):
    """Names that climb out, two bombs and a damaged image."""
    path = write_zip(tmp_path / "archive.zip", SMALL)
    content = bytearray(path.read_bytes())
    content[300] ^= 255
    path.write_bytes(content)
    climbing = ("../../train/happy/1.png", "/train/happy/2.png", "train/../../happy/3.png")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name in (*climbing, "C:\\train\\happy\\4.png"):
            archive.writestr(name, GREY)
        archive.writestr("train/happy/bomb.png", GREY + bytes(5 * 2**20))
        archive.writestr("train/happy/large.png", bytes(21 * 2**20))
    loaded = read_layout(path)
    assert (len(loaded), len(loaded.unreadable)) == (55, 7)
    reasons = "\n".join(loaded.unreadable)
    for words, count in (("climbs out", 4), ("damaged", 1), ("become 5,24", 1), ("20 MB", 1)):
        assert reasons.count(words) == count
    assert [file.name for file in tmp_path.rglob("*")] == ["archive.zip"]
    content = bytearray(write_zip(path, make_dataset(1, 0, 0)).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(signature) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="password"):
        read_layout(path)


def test_bad_rows_of_a_csv_are_listed_by_number(tmp_path):
    """In another order of columns, with a byte order mark, quotes and uneven spaces."""
    path = write_csv(tmp_path / "fer2013.csv", SMALL)
    rows = [line.split(",") for line in path.read_text().splitlines()]
    pixels = rows[1][1]
    rows[2][1] = f'" {rows[2][1].replace(" ", "  ", 7)} "'
    bad = {
        4: ("0", f"{pixels} 1", "Training", "2305 values"),
        6: ("0", f"{pixels[:-3]} 256", "Training", "'256'"),
        7: ("0", f"{pixels[:-3]} -1", "Training", "'-1'"),
        8: ("9", pixels, "Training", "'9'"),
        10: ("0", pixels.replace(" ", " x", 1), "Training", "'x"),
        12: ("0", pixels, "Testing", "'Testing'"),
        14: ("", "", "Training", "''"),
    }
    for number, row in bad.items():
        rows[number - 1] = row[:3]
    lines = [f"{usage}, {label}, {pixels}".rstrip(", ") for label, pixels, usage in rows]
    lines.insert(20, "")
    path.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    loaded = read_layout(path)
    for line, (number, (*_, words)) in zip(loaded.unreadable, bad.items(), strict=True):
        assert f"row {number}: " in line
        assert words in line
    assert csv_rows(loaded.names)[:6].tolist() == [0, 1, 3, 7, 9, 11]

    expected = np.delete(SMALL.images, [row - 2 for row in bad], axis=0)
    np.testing.assert_array_equal(loaded.images, expected)


def test_what_would_steer_a_terminal_and_an_endless_row(tmp_path, capsys):
    path = tmp_path / "fer2013.csv"
    path.write_text("emotion,\x1b[2Jpixels\n0,1\n")
    assert main(["inspect", "--dataset", str(path)]) == 1
    assert "\x1b" not in capsys.readouterr().err
    path.write_text("emotion,pixels\n0," + "1 " * 2**20)
    with pytest.raises(DatasetError, match="row 2"):
        read_layout(path)
    put(tmp_path / "a", {"sa\x1bd/1.png": GREY, "stray\x1b.png": GREY})
    loaded = read_layout(tmp_path / "a")
    assert not any("\x1b" in text for text in (*loaded.class_names, *loaded.notes))


def test_the_one_dataset_in_a_folder(tmp_path):
    path = write_csv(tmp_path / "fer2013.csv", SMALL)
    put(tmp_path, {"fer2013new.csv": b"Usage,Image name,neutral\n", ".git/README.md": b"x"})
    assert resolve_dataset(tmp_path) == path
    write_zip(tmp_path / "archive.zip", SMALL)
    with pytest.raises(DatasetError, match=r"archive\.zip, fer2013\.csv"):
        resolve_dataset(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path):
    (write_classes(tmp_path) / "happy").chmod(0)
    try:
        assert "Permission denied" in read_layout(tmp_path).unreadable[0]
    finally:
        (tmp_path / "happy").chmod(0o700)
