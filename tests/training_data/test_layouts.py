import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from training_data import encode, make_dataset, write_classes, write_csv, write_zip

from emotion.detection.crop import crop_face
from emotion.detection.haar import FaceDetector
from emotion.errors import DatasetError
from emotion.images.encoding import encode_png
from emotion.training.data.fer2013 import csv_row_index
from emotion.training.data.layouts import names_below, read_layout, resolve_dataset

GREY = encode(np.full((48, 48), 100, np.uint8))
SMALL = make_dataset(train=42, validation=0, test=14)


def put(root: Path, files: dict[str, bytes]) -> Path:
    """Write files by their names below a folder."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.mark.parametrize("prefix", ["", "some/where/"])
def test_class_folders_without_splits(tmp_path, prefix):
    root = write_classes(tmp_path / prefix, classes=("happy", "Anger", "contempt"))
    shown = []
    loaded = read_layout(tmp_path, progress=lambda done, count: shown.append((done, count)))
    assert shown == [(16, 48), (32, 48), (48, 48)]
    assert loaded.class_names == ("anger", "contempt", "happy")
    assert set(loaded.splits) == {""}
    assert np.bincount(loaded.labels).tolist() == [16, 16, 16]
    assert loaded.names[0] == f"{prefix}Anger/S000_001_00000000.png"
    assert loaded.notes == loaded.unreadable == ()
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for file in sorted(root.rglob("*.png")):
            archive.write(file, f"CK+48\\{file.parent.name}\\{file.name}")
    packed = read_layout(tmp_path / "faces.zip")
    np.testing.assert_array_equal(packed.images, loaded.images)
    assert packed.class_names == loaded.class_names
    assert packed.groups.tolist() == loaded.groups.tolist()
    loaded = read_layout(put(tmp_path, {f"{prefix}preview.png": GREY}))
    assert len(loaded) == 48
    assert f"such as {prefix}preview.png" in loaded.notes[0]


def test_names_of_splits_and_images_beside_them(tmp_path):
    names = ("Training", "val", "PublicTest", "PrivateTest", "TEST")
    put(tmp_path, {f"{name}/Happy/1.png": GREY for name in names})
    loaded = read_layout(tmp_path)
    found = {name.split("/")[0]: str(loaded.splits[row]) for row, name in enumerate(loaded.names)}
    expected = ("train", "validation", "test", "private_test", "test")
    assert found == dict(zip(names, expected, strict=True))
    assert loaded.class_names == ("happy",)
    outside = ("happy/a.png", "sad/b.png", "stray.png", "val/stray.png")
    loaded = read_layout(put(tmp_path, dict.fromkeys(outside, GREY)))
    assert len(loaded) == 5
    assert "4 images" in loaded.notes[0]
    assert "<split>/<class>/<image>" in loaded.notes[0]


def test_people_come_from_file_names(tmp_path):
    root = write_classes(tmp_path / "ck")
    people = {f"S{person:03d}" for person in range(8)}
    for pattern, expected in (
        ("", people),
        (r"^S00(\d)", set("01234567")),
        ("S00[1]", {"S001", ""}),
        ("person-(.)", people),
    ):
        assert set(read_layout(root, subject_pattern=pattern).groups) == expected
    assert set(read_layout(write_csv(tmp_path / "fer2013.csv", SMALL)).groups) == {""}


def test_images_are_resized_as_the_app_does_and_not_stretched(tmp_path, astronaut):
    photo = np.zeros((96, 200), np.uint8)
    photo[:, 52:148] = np.arange(96)[:, None] * 2
    photos = {"a/high.png": encode(photo.T), "a/wide.png": encode(photo)}
    photos |= {"b/large.png": encode_png(astronaut), "b/small.png": encode_png(astronaut[:20, :20])}
    loaded = read_layout(put(tmp_path, photos))
    assert loaded.sizes_wh.tolist() == [[96, 200], [200, 96], [512, 512], [20, 20]]
    expected = np.repeat(np.arange(48)[:, None] * 4 + 1, 48, 1)
    assert np.abs(loaded.images[0].T.astype(int) - expected).max() <= 1
    assert np.abs(loaded.images[1].astype(int) - expected).max() <= 1
    for image, photo in zip(loaded.images[2:], (astronaut, astronaut[:20, :20]), strict=True):
        served = crop_face(photo, (0, 0, *photo.shape[:2]))
        np.testing.assert_array_equal(image, np.rint(served[..., 0] * 255))


def with_pillow(image: np.ndarray, mode: str = "L", kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def test_every_kind_of_image(tmp_path):
    ramp = np.repeat(np.arange(48, dtype=np.uint8)[:, None] * 5, 48, 1)
    exif, both = Image.Exif(), np.stack([ramp, np.where(ramp > 200, 0, 255)], axis=2)
    exif[0x0112] = 3
    kinds = {  # its bytes, the pixels expected and how far off they may be
        "grey": (with_pillow(ramp), ramp, 0),
        "16 bit": (with_pillow(ramp.astype(np.uint16) * 257, "I;16"), ramp, 0),
        "cmyk": (with_pillow(ramp, "CMYK", "TIFF"), ramp, 1),
        "jpeg": (with_pillow(ramp, "L", "JPEG", quality=95), ramp, 4),
        "exif": (with_pillow(ramp[::-1, ::-1].copy(), exif=exif), ramp, 0),
        "alpha": (with_pillow(both.astype(np.uint8), "LA"), np.where(ramp > 200, 255, ramp), 0),
    }
    loaded = read_layout(put(tmp_path, {f"a/{name}.png": kinds[name][0] for name in kinds}))
    assert loaded.names.tolist() == [f"a/{name}.png" for name in sorted(kinds)]
    for name, image in zip(sorted(kinds), loaded.images, strict=True):
        _, expected, tolerance = kinds[name]
        assert np.abs(image.astype(int) - expected).max() <= tolerance, name


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
    hidden = (
        "__MACOSX/happy/._1.png",
        ".thumbnails/happy/1.png",
        "happy/._1.png",
        "happy/Thumbs.db",
    )
    root = put(tmp_path / "data", dict.fromkeys(hidden, GREY))
    (root / "anger").symlink_to(tmp_path / "elsewhere" / "anger")
    (root / "happy" / "more").symlink_to(tmp_path / "elsewhere" / "happy")
    loops = {"one/link": "two", "two/link": "one", "one/up": ".", "one/root": "/"}
    for link, target in loops.items():
        (root / link).parent.mkdir(exist_ok=True)
        (root / link).symlink_to(root / target, target_is_directory=True)
    names, skipped = names_below(root)
    assert len([name for name in names if name.endswith(".png")]) == 32
    assert skipped == []
    assert (len(read_layout(root)), read_layout(root).unreadable) == (16, ())


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
    assert len(loaded) == 55
    reasons = "\n".join(loaded.unreadable)
    for words, count in (("climbs out", 4), ("damaged", 1), ("become 5,24", 1), ("20 MB", 1)):
        assert reasons.count(words) == count
    assert len(loaded.unreadable) == 7
    assert [file.name for file in tmp_path.rglob("*")] == ["archive.zip"]
    content = bytearray(write_zip(path, make_dataset(1, 0, 0)).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(signature) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="password"):
        read_layout(path)


def test_bad_rows_of_a_csv_are_listed_by_number(tmp_path):
    path = write_csv(tmp_path / "fer2013.csv", SMALL)
    lines = path.read_text().splitlines()
    pixels = lines[1].split(",")[1]
    bad = {
        4: (f"0,{pixels} 1,Training", "2305 values"),
        6: (f"0,{pixels[:-3]} 256,Training", "'256'"),
        7: (f"0,{pixels[:-3]} -1,Training", "'-1'"),
        8: (f"9,{pixels},Training", "'9'"),
        10: (f"0,{pixels.replace(' ', ' x', 1)},Training", "'x"),
        12: (f"0,{pixels},Testing", "'Testing'"),
        14: ("0", "''"),
        16: (f"0,{pixels.partition(' ')[2]},Training", "2303 values"),
    }
    for number, (line, _) in bad.items():
        lines[number - 1] = line
    lines.insert(20, "")
    path.write_text("\r\n".join(lines))
    loaded = read_layout(path)
    for line, (number, (_, words)) in zip(loaded.unreadable, bad.items(), strict=True):
        assert f"row {number}: " in line
        assert words in line
    assert csv_row_index(loaded.names)[:6].tolist() == [0, 1, 3, 7, 9, 11]
    expected = np.delete(SMALL.images, [row - 2 for row in bad], axis=0)
    np.testing.assert_array_equal(loaded.images, expected)


def test_another_order_of_columns_a_mark_and_uneven_spaces_are_read(tmp_path):
    path = write_csv(tmp_path / "fer2013.csv", SMALL)
    rows = [line.split(",") for line in path.read_text().splitlines()]
    rows[2][1] = f'" {rows[2][1].replace(" ", "  ", 7)} "'
    text = "\n".join(f"{usage}, {label}, {pixels}" for label, pixels, usage in rows)
    path.write_text("\ufeff" + text, encoding="utf-8")
    np.testing.assert_array_equal(read_layout(path).images, SMALL.images)


def test_the_one_dataset_in_a_folder(tmp_path):
    path = write_csv(tmp_path / "fer2013.csv", SMALL)
    put(tmp_path, {"fer2013new.csv": b"Usage,Image name,neutral\n", "README.md": b"x"})
    (tmp_path / ".git").mkdir()
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
