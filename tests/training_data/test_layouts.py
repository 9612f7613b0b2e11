import io
import os
import zipfile

import numpy as np
import pytest
from PIL import Image
from training_data import encode, make_dataset, write_classes, write_csv, write_folder, write_zip

from emotion.detection.crop import crop_face
from emotion.detection.haar import FaceDetector
from emotion.errors import DatasetError
from emotion.images.encoding import encode_png
from emotion.training.data.fer2013 import csv_row_index
from emotion.training.data.layouts import names_below, read_layout, resolve_dataset


def small():
    return make_dataset(train=42, validation=0, test=14)


def grey(value: int = 100, shape=(48, 48)) -> np.ndarray:
    return np.full(shape, value, np.uint8)


@pytest.mark.parametrize("prefix", ["", "some/where/"])
def test_class_folders_without_splits(tmp_path, prefix):
    write_classes(tmp_path / prefix, classes=("happy", "Anger", "contempt"))
    shown = []
    loaded = read_layout(tmp_path, progress=lambda done, count: shown.append((done, count)))
    assert shown == [(16, 48), (32, 48), (48, 48)]
    assert loaded.class_names == ("anger", "contempt", "happy")
    assert set(loaded.splits) == {""}
    assert np.bincount(loaded.labels).tolist() == [16, 16, 16]
    assert loaded.names[0] == f"{prefix}Anger/S000_001_00000000.png"
    assert loaded.notes == loaded.unreadable == ()
    root = tmp_path / prefix
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for file in sorted(root.rglob("*.png")):
            archive.write(file, f"CK+48\\{file.parent.name}\\{file.name}")
    packed = read_layout(tmp_path / "faces.zip")
    np.testing.assert_array_equal(packed.images, loaded.images)
    assert packed.class_names == loaded.class_names
    assert packed.groups.tolist() == loaded.groups.tolist()
    (root / "preview.png").write_bytes(encode(grey()))
    loaded = read_layout(tmp_path)
    assert len(loaded) == 48
    assert f"such as {prefix}preview.png" in loaded.notes[0]


def test_names_of_splits(tmp_path):
    names = ("Training", "val", "PublicTest", "PrivateTest", "TEST")
    for name in names:
        path = tmp_path / name / "Happy" / "1.png"
        path.parent.mkdir(parents=True)
        path.write_bytes(encode(grey()))
    loaded = read_layout(tmp_path)
    found = dict(zip([name.split("/")[0] for name in loaded.names], loaded.splits, strict=True))
    expected = ("train", "validation", "test", "private_test", "test")
    assert found == dict(zip(names, expected, strict=True))
    assert loaded.class_names == ("happy",)


def test_images_beside_the_splits_are_left_out_with_a_note(tmp_path):
    write_folder(tmp_path, small())
    for name in ("happy/a.png", "sad/b.png", "stray.png", "train/stray.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encode(grey()))
    loaded = read_layout(tmp_path)
    assert len(loaded) == 56
    (note,) = loaded.notes
    assert "4 images" in note
    assert "<split>/<class>/<image>" in note


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
    table = write_csv(tmp_path / "fer2013.csv", small())
    assert set(read_layout(table).groups) == {""}


def test_oblong_images_lose_their_ends_and_are_not_stretched(tmp_path):
    photo = np.zeros((96, 200), np.uint8)
    photo[:, 52:148] = np.arange(96)[:, None] * 2
    for side, name in (("anger", "wide"), ("happy", "high")):
        (tmp_path / side).mkdir()
        turned = photo if name == "wide" else photo.T
        (tmp_path / side / f"{name}.png").write_bytes(encode(turned))
    loaded = read_layout(tmp_path)
    expected = np.repeat(np.arange(48)[:, None] * 4 + 1, 48, 1)
    assert loaded.sizes_wh.tolist() == [[200, 96], [96, 200]]
    assert np.abs(loaded.images[0].astype(int) - expected).max() <= 1
    assert np.abs(loaded.images[1].T.astype(int) - expected).max() <= 1


def test_images_are_resized_as_the_app_does(tmp_path, astronaut):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "photo.png").write_bytes(encode_png(astronaut))
    (tmp_path / "a" / "small.png").write_bytes(encode_png(astronaut[:20, :20]))
    loaded = read_layout(tmp_path)
    for image, photo in zip(loaded.images, (astronaut, astronaut[:20, :20]), strict=True):
        served = crop_face(photo, (0, 0, *photo.shape[:2]))
        np.testing.assert_array_equal(image, np.rint(served[..., 0] * 255))


def with_pillow(image: np.ndarray, mode: str = "L", kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def test_every_kind_of_image(tmp_path):
    ramp = np.repeat(np.arange(48, dtype=np.uint8)[:, None] * 5, 48, 1)
    upside_down, transparent, exif = ramp[::-1, ::-1].copy(), io.BytesIO(), Image.Exif()
    exif[0x0112] = 3
    alpha = Image.fromarray(ramp).convert("LA")
    alpha.putalpha(Image.fromarray(np.where(ramp > 200, 0, 255).astype(np.uint8)))
    alpha.save(transparent, "PNG")
    kinds = {
        "grey": (with_pillow(ramp), ramp, 0),
        "rgb": (with_pillow(ramp, "RGB"), ramp, 0),
        "palette": (with_pillow(ramp, "P"), ramp, 0),
        "16 bit": (with_pillow(ramp.astype(np.uint16) * 257, "I;16"), ramp, 0),
        "cmyk": (with_pillow(ramp, "CMYK", "TIFF"), ramp, 1),
        "jpeg": (with_pillow(ramp, "L", "JPEG", quality=95), ramp, 4),
        "exif": (with_pillow(upside_down, exif=exif), ramp, 0),
        "alpha": (transparent.getvalue(), np.where(ramp > 200, 255, ramp), 0),
    }
    (tmp_path / "happy").mkdir()
    for name, (content, _, _) in kinds.items():
        (tmp_path / "happy" / f"{name}.png").write_bytes(content)
    loaded = read_layout(tmp_path)
    assert len(loaded) == len(kinds)
    for name, image in zip(loaded.names, loaded.images, strict=True):
        _, expected, tolerance = kinds[name.removeprefix("happy/").removesuffix(".png")]
        assert np.abs(image.astype(int) - expected).max() <= tolerance, name


def test_faces_are_cropped_as_in_the_app(tmp_path, astronaut):
    for name, content in (("face", encode_png(astronaut)), ("none", encode(grey()))):
        (tmp_path / "happy").mkdir(exist_ok=True)
        (tmp_path / "happy" / f"{name}.png").write_bytes(content)
    loaded = read_layout(tmp_path, crop_faces=True)
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
    root = tmp_path / "data"
    root.mkdir()
    for name in ("anger", "happy"):
        (root / name).symlink_to(tmp_path / "elsewhere" / name)
    for name in ("__MACOSX/happy/._1.png", ".thumbnails/happy/1.png", "happy/._1.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encode(grey()))
    (root / "happy" / "Thumbs.db").write_bytes(b"x")
    for one, other in (("one", "two"), ("two", "one")):
        (root / one).mkdir(exist_ok=True)
        (root / other).mkdir(exist_ok=True)
        (root / one / "link").symlink_to(root / other, target_is_directory=True)
    (root / "one" / "up").symlink_to(root, target_is_directory=True)
    (root / "one" / "root").symlink_to("/", target_is_directory=True)
    loaded = read_layout(root)
    assert len(loaded) == 32
    assert loaded.unreadable == loaded.notes == ()
    assert len([name for name in names_below(root)[0] if name.endswith(".png")]) == 32


def test_what_is_no_readable_image_is_listed(tmp_path):
    write_classes(tmp_path)
    (tmp_path / "happy" / "broken.png").write_bytes(b"not an image")
    (tmp_path / "happy" / "cut.png").write_bytes(encode(grey())[:-20])
    (tmp_path / "happy" / "empty.jpg").write_bytes(b"")
    (tmp_path / "happy" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "happy" / "pipe.png")
    with (tmp_path / "happy" / "huge.png").open("wb") as file:
        file.truncate(30 * 2**20)
    loaded = read_layout(tmp_path)
    assert len(loaded) == 32
    reasons = dict(line.split(": ", 1) for line in loaded.unreadable)
    assert {name.removeprefix("happy/") for name in reasons} == {
        *("broken.png", "cut.png", "empty.jpg", "gone.png", "pipe.png", "huge.png")
    }
    assert "received 30.0 MB" in reasons["happy/huge.png"]
    assert "not a file" in reasons["happy/pipe.png"]
    for good in tmp_path.rglob("S0*.png"):
        good.unlink()
    with pytest.raises(DatasetError, match=r"none .*pipe\.png"):
        read_layout(tmp_path)


def test_bad_entries_of_a_zip_are_listed_and_nothing_is_written(tmp_path):
    """Names that climb out, two bombs and a damaged image."""
    path = write_zip(tmp_path / "archive.zip", small())
    content = bytearray(path.read_bytes())
    content[300] ^= 255
    path.write_bytes(content)
    climbing = ("../../train/happy/1.png", "/train/happy/2.png", "train/../../happy/3.png")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        for name in (*climbing, "C:\\train\\happy\\4.png"):
            archive.writestr(name, encode(grey()))
        archive.writestr("train/happy/bomb.png", encode(grey()) + bytes(5 * 2**20))
        archive.writestr("train/happy/large.png", bytes(21 * 2**20))
    loaded = read_layout(path)
    assert len(loaded) == 55
    reasons = "\n".join(loaded.unreadable)
    for words, count in (("climbs out", 4), ("damaged", 1), ("become 5,24", 1), ("20 MB", 1)):
        assert reasons.count(words) == count
    assert len(loaded.unreadable) == 7
    assert [file.name for file in tmp_path.rglob("*")] == ["archive.zip"]


def test_an_encrypted_zip_is_an_error(tmp_path):
    path = write_zip(tmp_path / "archive.zip", make_dataset(7, 0, 0))
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(signature)
        while start >= 0:
            content[start + offset] |= 1
            start = content.find(signature, start + 1)
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="without a password"):
        read_layout(path)


def test_bad_rows_of_a_csv_are_listed_by_number(tmp_path):
    path = write_csv(tmp_path / "fer2013.csv", small())
    lines = path.read_text().splitlines()
    pixels = lines[1].split(",")[1]
    bad = {
        4: (f"0,{pixels} 1,Training", "2305 values"),
        6: (f"0,{pixels[:-3]} 256,Training", "'256'"),
        8: (f"9,{pixels},Training", "'9'"),
        10: (f"0,{pixels.replace(' ', ' x', 1)},Training", "'x"),
        12: (f"0,{pixels},Testing", "'Testing'"),
        14: ("0", "''"),
        # too short before too long: together as many values as two good rows
        16: (f"0,{pixels.partition(' ')[2]},Training", "2303 values"),
        17: (f"0,{pixels} 1,Training", "2305 values"),
    }
    for number, (line, _) in bad.items():
        lines[number - 1] = line
    lines.insert(20, "")
    path.write_text("\r\n".join(lines))
    loaded = read_layout(path)
    assert len(loaded.unreadable) == len(bad)
    for line, (number, (_, words)) in zip(loaded.unreadable, bad.items(), strict=True):
        assert f"row {number}: " in line
        assert words in line
    assert csv_row_index(loaded.names)[:6].tolist() == [0, 1, 3, 5, 7, 9]
    expected = np.delete(small().images, [row - 2 for row in bad], axis=0)
    np.testing.assert_array_equal(loaded.images, expected)


def test_another_order_of_columns_a_mark_and_uneven_spaces_are_read(tmp_path):
    dataset = small()
    path = write_csv(tmp_path / "fer2013.csv", dataset)
    rows = [line.split(",") for line in path.read_text().splitlines()]
    rows[2][1] = f'" {rows[2][1].replace(" ", "  ", 7)} "'
    text = "\n".join(f"{usage}, {label}, {pixels}" for label, pixels, usage in rows)
    path.write_text("\ufeff" + text, encoding="utf-8")
    np.testing.assert_array_equal(read_layout(path).images, dataset.images)


def test_the_one_dataset_in_a_folder(tmp_path):
    path = write_csv(tmp_path / "fer2013.csv", small())
    (tmp_path / "fer2013new.csv").write_text("Usage,Image name,neutral\n")
    (tmp_path / ".git").mkdir()
    (tmp_path / "README.md").write_text("x")
    assert resolve_dataset(tmp_path) == path
    write_zip(tmp_path / "archive.zip", small())
    with pytest.raises(DatasetError, match=r"archive\.zip, fer2013\.csv"):
        resolve_dataset(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(tmp_path):
    (write_classes(tmp_path) / "happy").chmod(0)
    try:
        assert "Permission denied" in read_layout(tmp_path).unreadable[0]
    finally:
        (tmp_path / "happy").chmod(0o700)
